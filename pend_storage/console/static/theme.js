// A chosen theme.
try {
  document.documentElement.dataset.theme = localStorage.getItem("pend-theme") || "";
} catch {}
