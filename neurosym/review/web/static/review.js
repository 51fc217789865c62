// Keyboard, the objects that an atom speaks of, the theme, and the picture of the ontology. Everything else is links and forms.
(() => {
  "use strict";
  const by = (id) => document.getElementById(id);
  const press = (id) => { const it = by(id); if (it) it.click(); return Boolean(it); };
  const send = (id) => {
    const form = by(id);
    if (form) form.requestSubmit(form.querySelector("button"));
    return Boolean(form);
  };

  // --- the objects of an atom ---------------------------------------------------------------------------------------
  // Of the induced rule or of an edited wording: only that whose films are shown.
  const isShown = (atom) => {
    const film = document.querySelector("#film .film-head");
    return film !== null && film.dataset.rule === atom.closest(".atoms").dataset.rule;
  };
  const variablesOf = (atom) => atom.dataset.variables.split(" ").filter(Boolean);
  function light(variables) {
    for (const object of document.querySelectorAll("#film .object")) {
      const own = object.dataset.variable;
      object.classList.toggle("lit", variables !== null && variables.includes(own));
      object.classList.toggle("dim", variables !== null && !variables.includes(own));
    }
  }
  const atomOf = (event) => (event.target instanceof Element ? event.target.closest(".atom") : null);
  function follow(event) {
    const atom = atomOf(event);
    if (atom && isShown(atom)) light(variablesOf(atom));
  }
  function leave(event) {
    if (!atomOf(event)) return;
    const focused = document.activeElement && document.activeElement.closest(".atom");
    light(focused && isShown(focused) && event.type === "mouseout" ? variablesOf(focused) : null);
  }
  document.addEventListener("mouseover", follow);
  document.addEventListener("focusin", follow);
  document.addEventListener("mouseout", leave);
  document.addEventListener("focusout", leave);
  document.addEventListener("mouseover", (event) => {
    const object = event.target instanceof Element ? event.target.closest("#film .object.bound") : null;
    for (const atom of document.querySelectorAll(".atom")) {
      const spoken = object !== null && isShown(atom) && variablesOf(atom).includes(object.dataset.variable);
      atom.classList.toggle("lit", spoken);
    }
  });

  // --- the film -----------------------------------------------------------------------------------------------------
  function toggle(id, name) {
    const on = document.body.classList.toggle(name);
    paintToggles();
    return on;
  }
  function paintToggles() {
    const plain = document.body.classList.contains("plain");
    const large = document.body.classList.contains("large");
    if (by("objects")) by("objects").setAttribute("aria-pressed", String(!plain));
    if (by("zoom")) by("zoom").setAttribute("aria-pressed", String(large));
  }
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) return;
    if (event.target.closest("#objects")) toggle("objects", "plain");
    if (event.target.closest("#zoom")) toggle("zoom", "large");
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("htmx:afterSwap", paintToggles);
  let focusedThumb = null;
  document.addEventListener("htmx:beforeRequest", (event) => {
    const from = event.target instanceof Element ? event.target : null;
    focusedThumb = from && from.closest("#film") ? (from.id || from.querySelector("img")?.alt || null) : null;
  });
  document.addEventListener("htmx:afterSettle", () => {
    if (focusedThumb === null) return;
    const again = by(focusedThumb) || document.querySelector('#film .thumb[aria-current="true"]');
    if (again) again.focus({ preventScroll: true });
    const current = document.querySelector('#film .thumb[aria-current="true"]');
    if (current) current.scrollIntoView({ block: "nearest", inline: "nearest" });
    focusedThumb = null;
  });

  // --- the list -----------------------------------------------------------------------------------------------------
  function step(by_) {
    const rows = [...document.querySelectorAll("a.row")];
    if (!rows.length) return false;
    const here = rows.indexOf(document.activeElement);
    const next = here < 0 ? (by_ > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, here + by_));
    rows[next].focus();
    rows[next].scrollIntoView({ block: "nearest" });
    return true;
  }

  // --- the keyboard -------------------------------------------------------------------------------------------------
  const actions = {
    j: () => press("after") || step(1),
    k: () => press("before") || step(-1),
    a: () => send("accept"),
    l: () => send("later"),
    r: () => { const it = by("reason"); if (it) it.focus(); return Boolean(it); },
    u: () => send("undo-last") || send("undo"),
    e: () => { const it = by("edit"); if (it) { it.open = true; by("wording-text").focus(); } return Boolean(it); },
    n: () => press("film-after"),
    p: () => press("film-before"),
    c: () => press("next-case"),
    o: () => press("objects"),
    z: () => press("zoom"),
    "/": () => { const it = by("q"); if (it) { it.focus(); it.select(); return true; }
      const list = by("to-list"); if (list) { sessionStorage.setItem("filter", "1"); list.click(); } return Boolean(list); },
    "?": () => { by("help").showModal(); return true; },
  };
  const keysOn = () => localStorage.getItem("keys") !== "off";
  document.addEventListener("keydown", (event) => {
    const field = event.target instanceof Element && event.target.closest("input, textarea, select");
    if (event.key === "Escape" && field) { field.blur(); return; }
    if (event.key === "Escape" && document.body.classList.contains("large")) { toggle("zoom", "large"); return; }
    if (event.key === "Enter" && event.ctrlKey && event.target === by("wording-text")) {
      event.preventDefault();
      send("accept-wording");
      return;
    }
    if (field || event.ctrlKey || event.metaKey || event.altKey || event.repeat && !"jk".includes(event.key)) return;
    if (document.querySelector("dialog[open]") || !keysOn()) return;
    const action = actions[event.key];
    if (action && action()) event.preventDefault();
  });

  // A form that is sent twice in a hurry is sent once; the server would count it once anyway.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented || form.hasAttribute("hx-post")) return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
  });

  // --- once the page is there ---------------------------------------------------------------------------------------
  function theme() {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    document.cookie = `neurosym_theme=${root.dataset.theme}; path=/; max-age=31536000; SameSite=Strict`;
    graph();
  }
  function graph() {
    const place = by("graph");
    if (!place || typeof cytoscape === "undefined") return;
    const ink = getComputedStyle(document.documentElement);
    const colour = (name) => ink.getPropertyValue(name).trim();
    const elements = JSON.parse(by("graph-data").textContent);
    if (place.cy) place.cy.destroy();
    const edge = (shade) => ({ "line-color": shade, "target-arrow-color": shade, "color": shade });
    place.cy = cytoscape({
      container: place, elements, layout: { name: "preset", fit: true, padding: 14 },
      userZoomingEnabled: false, userPanningEnabled: false, boxSelectionEnabled: false, autoungrabify: true,
      style: [
        { selector: "node", style: { "label": "data(label)", "shape": "round-rectangle", "width": 124, "height": 30, "font-size": 13,
          "text-valign": "center", "text-halign": "center", "text-wrap": "ellipsis", "text-max-width": 118,
          "background-color": colour("--card"), "border-width": 1, "border-color": colour("--line-strong"), "color": colour("--ink") } },
        { selector: "node.named", style: { "border-width": 2.5, "border-color": colour("--accent"), "font-weight": "bold" } },
        { selector: "node.open", style: { "border-style": "dashed" } },
        { selector: "edge", style: { "curve-style": "bezier", "target-arrow-shape": "triangle", "width": 1.5, "label": "data(label)",
          "font-size": 12, "text-background-color": colour("--bg"), "text-background-opacity": 1, "text-background-padding": 2 } },
        { selector: "edge.above", style: edge(colour("--line-strong")) },
        { selector: "edge.body", style: { ...edge(colour("--soft")), "line-style": "dashed", "curve-style": "unbundled-bezier", "control-point-distances": 36, "control-point-weights": 0.5 } },
        { selector: "edge.head", style: { ...edge(colour("--accent")), "width": 2.5, "curve-style": "unbundled-bezier", "control-point-distances": -36, "control-point-weights": 0.5 } },
      ],
    });
    place.cy.fit(undefined, 14);
    if (place.cy.zoom() > 1) { place.cy.zoom(1); place.cy.center(); }
  }
  document.addEventListener("DOMContentLoaded", () => {
    by("theme").addEventListener("click", theme);
    by("help-open").addEventListener("click", () => by("help").showModal());
    const box = by("keys-on");
    box.checked = keysOn();
    box.addEventListener("change", () => localStorage.setItem("keys", box.checked ? "on" : "off"));
    const place = by("place");
    if (place) {
      // The picture is drawn once nothing more urgent is to be done.
      const drawing = document.createElement("script");
      drawing.src = by("graph").dataset.script;
      drawing.addEventListener("load", graph);
      requestIdleCallback(() => document.head.append(drawing), { timeout: 1500 });
      place.addEventListener("toggle", () => { if (place.open) graph(); });
    }
    if (by("q") && sessionStorage.getItem("filter")) { sessionStorage.removeItem("filter"); by("q").focus(); by("q").select(); }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", graph);
  });
})();
