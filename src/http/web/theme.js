// Runs before the first paint, so that a page that was switched to dark does not flash.
try {
  const theme = localStorage.getItem('llama-theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch { /* storage is switched off: the system's choice holds */ }
