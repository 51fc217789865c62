// What both views share: the data, the theme, search, keyboard, zoom and export. Text enters the page by textContent alone.
"use strict";

const root = document.documentElement;
const complain = (text) => { root.dataset.errors = (root.dataset.errors ? root.dataset.errors + "; " : "") + text; };
addEventListener("error", (event) => complain(event.message));
document.addEventListener("securitypolicyviolation", (event) => complain("policy: " + event.violatedDirective));

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const classes = data.classes.map(([name, label, prefix, local, definition, ties], index) =>
  ({ index, name, label, iri: data.prefixes[prefix] + local, definition, ties }));
const rules = data.rules.map(([id, text, kind, weight, status, source, place, of], index) =>
  ({ index, id, text, kind, weight, status, source, place, classes: of }));
const edges = data.edges.map(([source, target, kind, label = "", weight = null]) =>
  ({ source, target, kind: data.edgeKinds[kind], label, weight }));
const rulesOf = classes.map(() => []);
for (const rule of rules) for (const index of rule.classes) rulesOf[index].push(rule);

const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
const shortened = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);
const strength = (weight) => (weight === null ? 1 : 0.25 + 0.75 * weight);
const weightText = (weight) => (weight === null ? "hard" : String(Number(weight.toPrecision(3))));
const FONT = '13px system-ui, "Helvetica Neue", Arial, "Liberation Sans", sans-serif';
const ruler = document.createElement("canvas").getContext("2d");
const textWidth = (text) => { ruler.font = FONT; return ruler.measureText(text).width; };

// An HTML element with attributes (a function is a listener) and children, of which strings become text.
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== false) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
const button = (text, title, action, more = {}) => el("button", { type: "button", title, click: action, ...more }, text);
const tell = (text) => { byId("note").textContent = text; };

const cy = cytoscape({
  container: byId("graph"), elements: [], minZoom: 0.05, maxZoom: 4, boxSelectionEnabled: false, autounselectify: true,
  wheelSensitivity: 0.4,
});

function baseStyle() {
  return [
    { selector: "node", style: {
      shape: "round-rectangle", label: "data(label)", width: "data(width)", height: 28, "font-size": 13,
      "font-family": 'system-ui, "Helvetica Neue", Arial, "Liberation Sans", sans-serif', color: colour("ink"),
      "text-valign": "center", "background-color": colour("node"), "border-width": 1, "border-color": colour("node-line") } },
    { selector: "node.tied", style: { "background-color": colour("tied"), "border-color": colour("tied-line") } },
    { selector: "edge", style: {
      width: 1.2, "line-color": colour("edge"), "target-arrow-color": colour("edge"), "curve-style": "bezier",
      label: "data(label)", "font-size": 11, color: colour("soft"), "text-background-color": colour("paper"),
      "text-background-opacity": 0.9, "text-background-padding": 2 } },
    { selector: "node.picked", style: { "background-color": colour("picked"), "border-color": colour("axiom"), "border-width": 2.5 } },
  ];
}

// The view fills these in: what to draw, what a click does, what the search looks through.
const view = { style: () => [], pick: () => {}, toggle: () => {}, clear: () => {}, items: () => [], legend: [] };

function restyle() { cy.style([...baseStyle(), ...view.style()]); }

function publish() {
  root.dataset.nodes = cy.nodes(":visible").length;
  root.dataset.edges = cy.edges(":visible").length;
}

// Shows the picture whole; where that would make text too small to read, its upper left part.
let fitted = null;
function fit() {
  const box = cy.elements(":visible").boundingBox(), least = 0.55;
  if (!(box.w > 0)) return;
  cy.fit(cy.elements(":visible"), 26);
  if (cy.zoom() > 1.15) { cy.zoom(1.15); cy.center(cy.elements(":visible")); }
  if (cy.zoom() < least) { cy.zoom(least); cy.pan({ x: 28 - least * box.x1, y: 34 - least * box.y1 }); }
  fitted = JSON.stringify([cy.zoom(), cy.pan()]);
}

// A window that changes its size keeps the picture whole, unless the reader has moved it.
function follow() {
  const frame = byId("graph"), size = () => `${frame.clientWidth} ${frame.clientHeight}`;
  let seen = size();
  new ResizeObserver(() => {
    if (size() === seen) return; // an observer also reports once when it begins
    seen = size();
    const untouched = fitted === JSON.stringify([cy.zoom(), cy.pan()]);
    cy.resize();
    if (untouched) fit();
  }).observe(frame);
}

// A force layout takes nodes for points: boxes that overlap are pushed apart, the shorter way.
function separate(gap) {
  const boxes = cy.nodes().map((node) => ({ node, ...node.position(), w: node.width() + gap, h: node.height() + gap }));
  for (let round = 0, moved = true; moved && round < 60; round++) {
    moved = false;
    boxes.forEach((a, i) => boxes.slice(0, i).forEach((b) => {
      const x = (a.w + b.w) / 2 - Math.abs(a.x - b.x), y = (a.h + b.h) / 2 - Math.abs(a.y - b.y);
      if (x <= 0.01 || y <= 0.01) return;
      const axis = x < y ? "x" : "y", push = (Math.min(x, y) / 2) * (a[axis] < b[axis] ? -1 : 1);
      a[axis] += push;
      b[axis] -= push;
      moved = true;
    }));
  }
  boxes.forEach(({ node, x, y }) => node.position({ x, y }));
}

function bringIntoView(node) {
  const at = node.renderedPosition();
  if (at.x < 60 || at.y < 40 || at.x > cy.width() - 60 || at.y > cy.height() - 60) cy.center(node);
}

function save(name, blob) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
const fileName = (ending) => (document.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "graph") + ending;

function svgText() {
  const box = cy.elements(":visible").boundingBox();
  const escaped = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c])
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd");
  const parts = [`<svg xmlns="http://www.w3.org/2000/svg" viewBox="${box.x1 - 20} ${box.y1 - 20} ${box.w + 40} ${box.h + 40}">`,
    `<title>${escaped(document.title)}</title>`,
    `<rect x="${box.x1 - 20}" y="${box.y1 - 20}" width="100%" height="100%" fill="${colour("paper")}"/>`];
  for (const edge of cy.edges(":visible").toArray()) {
    const from = edge.sourceEndpoint(), to = edge.targetEndpoint();
    const bends = edge.segmentPoints() || [], curve = (edge.controlPoints() || [])[0];
    const d = curve ? `M${from.x} ${from.y} Q${curve.x} ${curve.y} ${to.x} ${to.y}`
      : `M${from.x} ${from.y} ${[...bends, to].map((p) => `L${p.x} ${p.y}`).join(" ")}`;
    const dashes = edge.style("line-style") === "dashed" ? ' stroke-dasharray="5 4"' : "";
    parts.push(`<path d="${d}" fill="none" stroke="${edge.style("line-color")}" opacity="${edge.style("opacity")}" ` +
      `stroke-width="${edge.numericStyle("width")}"${dashes}/>`);
    const middle = edge.midpoint();
    if (edge.data("label")) parts.push(`<text x="${middle.x}" y="${middle.y}" font-family="sans-serif" font-size="10" ` +
      `text-anchor="middle" fill="${colour("soft")}">${escaped(edge.data("label"))}</text>`);
  }
  for (const node of cy.nodes(":visible").toArray()) {
    const { x, y } = node.position(), w = node.width(), h = node.height();
    parts.push(`<rect x="${x - w / 2}" y="${y - h / 2}" width="${w}" height="${h}" rx="5" fill="${node.style("background-color")}" ` +
      `fill-opacity="${node.style("background-opacity")}" stroke="${node.style("border-color")}"/>`);
    if (node.data("label")) parts.push(`<text x="${x}" y="${y + 4.5}" font-family="sans-serif" font-size="13" ` +
      `text-anchor="middle" fill="${colour("ink")}">${escaped(node.data("label"))}</text>`);
  }
  return parts.join("\n") + "\n</svg>\n";
}

function addTools(...first) {
  byId("tools").append(...first,
    button("Fit", "Show the whole picture (0)", fit),
    button("PNG", "Save the picture as PNG", () =>
      save(fileName(".png"), cy.png({ output: "blob", full: true, scale: 2, bg: colour("paper"), maxWidth: 12000, maxHeight: 12000 }))),
    button("SVG", "Save the picture as SVG", () => save(fileName(".svg"), new Blob([svgText()], { type: "image/svg+xml" }))));
}

// A combobox as in the ARIA Authoring Practices: the input keeps the focus, arrows walk through the matches.
function addSearch() {
  const input = byId("query"), list = byId("matches");
  let found = [], at = -1;
  const close = () => { list.hidden = true; at = -1; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
  const choose = (item) => { close(); input.value = ""; view.pick(item, true); byId("graph").focus({ preventScroll: true }); };
  const mark = (index) => {
    at = index;
    [...list.children].forEach((li, i) => li.setAttribute("aria-selected", String(i === at)));
    if (at >= 0) input.setAttribute("aria-activedescendant", "match" + at);
  };
  const search = () => {
    const words = input.value.trim().toLowerCase();
    const rank = (text) => (text === words ? 0 : text.startsWith(words) ? 1 : text.includes(words) ? 2 : 3);
    found = !words ? [] : view.items().map((item) => [Math.min(rank(item.title.toLowerCase()), rank(item.name.toLowerCase())), item])
      .filter(([place]) => place < 3).sort(([a, x], [b, y]) => a - b || x.title.length - y.title.length || (x.name < y.name ? -1 : 1))
      .slice(0, 12).map(([, item]) => item);
    list.replaceChildren(...found.map((item, i) => el("li", { role: "option", id: "match" + i, "aria-selected": "false",
      mousedown: (event) => { event.preventDefault(); choose(item); } }, item.title, el("small", {}, item.hint))));
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", String(found.length > 0));
    mark(found.length ? 0 : -1);
    if (words && !found.length) tell("nothing is called “" + words + "”");
  };
  input.addEventListener("input", search);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && found.length) mark((at + 1) % found.length);
    else if (event.key === "ArrowUp" && found.length) mark((at + found.length - 1) % found.length);
    else if (event.key === "Enter" && found[at]) choose(found[at]);
    else if (event.key === "Escape") { input.value = ""; close(); } else return;
    event.preventDefault();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) { event.preventDefault(); input.focus(); }
  });
}

// The visible node that lies nearest in a direction from the picked one (from the first, if none is).
function nearest(dx, dy) {
  const here = cy.nodes(".picked:visible")[0];
  if (!here) return cy.nodes(":visible")[0];
  const from = here.position();
  let best = null, least = Infinity;
  for (const node of cy.nodes(":visible").toArray()) {
    const x = node.position("x") - from.x, y = node.position("y") - from.y;
    const along = x * dx + y * dy, aside = Math.abs(x * dy) + Math.abs(y * dx);
    if (node !== here && along > 1 && along + 3 * aside < least) { least = along + 3 * aside; best = node; }
  }
  return best;
}

function addKeys() {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  byId("graph").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const middle = { x: cy.width() / 2, y: cy.height() / 2 };
    if (arrows[event.key]) {
      const node = nearest(...arrows[event.key]);
      if (node) view.pick(node.data("item"), false);
    } else if (event.key === "Enter" || event.key === " ") view.toggle();
    else if (event.key === "+" || event.key === "=") cy.zoom({ level: cy.zoom() * 1.25, renderedPosition: middle });
    else if (event.key === "-") cy.zoom({ level: cy.zoom() / 1.25, renderedPosition: middle });
    else if (event.key === "0") fit();
    else if (event.key === "Escape") view.clear(); else return;
    event.preventDefault();
  });
}

// A legend entry: [what it looks like, colour, words]; a stroke or a filled square.
function addLegend() {
  const svg = "http://www.w3.org/2000/svg";
  byId("legend").replaceChildren(...view.legend.map(([look, name, words]) => {
    const picture = document.createElementNS(svg, "svg");
    const shape = document.createElementNS(svg, look === "box" ? "rect" : "path");
    const set = (node, values) => Object.entries(values).forEach(([key, value]) => node.setAttribute(key, value));
    set(picture, { width: 22, height: 12, "aria-hidden": "true" });
    if (look === "box") set(shape, { x: 4, y: 1, width: 14, height: 10, rx: 2, fill: colour(name), stroke: colour(name + "-line") || colour(name) });
    else set(shape, { d: "M0 6H22", stroke: colour(name), "stroke-width": 1.6, "stroke-dasharray": look === "dashed" ? "4 3" : "none" });
    picture.append(shape);
    return el("span", {}, picture, words);
  }));
}

// The last line of each view: everything is in place, so the picture can be drawn.
function start(draw, ...tools) {
  addTools(...tools);
  addSearch();
  addKeys();
  addLegend();
  restyle();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { restyle(); addLegend(); });
  cy.on("tap", "node", (event) => view.pick(event.target.data("item"), false));
  cy.on("tap", (event) => { if (event.target === cy) view.clear(); });
  draw();
  fit();
  follow();
  const named = decodeURIComponent(location.hash.slice(1));
  const item = view.items().find(({ name }) => name === named);
  if (item) view.pick(item, true);
  publish();
  root.dataset.ready = "true";
}
