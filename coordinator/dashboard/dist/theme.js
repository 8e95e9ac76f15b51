// Sets the theme before the first paint, so that a dark page never flashes white. A file of its own: no inline script.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("strata.theme");
  } catch {
    // Storage may be forbidden: the system's choice holds.
  }
  const dark = chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
