// Before the first picture: a chosen theme.
try {
  document.documentElement.dataset.theme = localStorage.getItem("pend-theme") || "";
} catch {}
