// Runs before the first picture, so that a chosen theme does not flash.
try {
  document.documentElement.dataset.theme = localStorage.getItem("pend-theme") || "";
} catch {
  // Storage is off: the theme of the system holds.
}
