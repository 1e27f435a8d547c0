// Before the first paint, so that a dark page never begins white.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("madang.scheme");
  } catch {}
  const isDark = chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.setAttribute("data-mantine-color-scheme", isDark ? "dark" : "light");
})();
