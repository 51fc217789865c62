// Before anything is painted: the theme that this browser was told, else that of the system.
(() => {
  const told = localStorage.getItem("theme");
  if (told === "dark" || told === "light") document.documentElement.dataset.theme = told;
})();
