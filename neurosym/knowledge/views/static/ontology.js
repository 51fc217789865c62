// The ontology: its hierarchy as a tree of which subtrees open and close, with disjointness and existential axioms over it.
"use strict";

const MOST_CHILDREN = 200, MOST_AT_FIRST = 48, MOST_DRAWN = 800;
const parents = classes.map(() => []), children = classes.map(() => []), level = classes.map(() => -1), above = classes.map(() => -1);
const linked = classes.map(() => []);
for (const edge of edges) {
  if (edge.kind !== "subclass") { linked[edge.source].push(edge); linked[edge.target].push(edge); continue; }
  parents[edge.source].push(edge.target);
  children[edge.target].push(edge.source);
}
// Breadth first, so that each class hangs under one superclass also where superclasses are several or form a cycle.
const roots = [], inTree = classes.map(() => []);
for (const first of [...classes.keys()].filter((i) => !parents[i].length).concat([...classes.keys()])) {
  if (level[first] >= 0) continue;
  level[first] = 0;
  roots.push(first);
  for (let queue = [first], at = 0; at < queue.length; at++) {
    for (const child of children[queue[at]]) {
      if (level[child] >= 0) continue;
      level[child] = level[queue[at]] + 1;
      above[child] = queue[at];
      inTree[queue[at]].push(child);
      queue.push(child);
    }
  }
}

const state = { open: new Set(), pinned: new Set(), picked: -1, layout: "right", disjoint: edges.filter((e) => e.kind === "disjoint").length <= 25 };

function visible() {
  const shown = [];
  const add = (list) => list.forEach((i, rank) => { if (rank < MOST_CHILDREN || state.pinned.has(i)) shown.push(i); });
  add(roots);
  for (let at = 0; at < shown.length; at++) if (state.open.has(shown[at])) add(inTree[shown[at]]);
  return shown;
}

// Opens level by level, the whole of one or nothing of it, as long as the picture stays readable; at least the roots.
function openTop(most) {
  state.open.clear();
  for (let shown = visible(); ;) {
    const more = shown.filter((i) => !state.open.has(i) && inTree[i].length);
    const wanted = new Set(more);
    const count = shown.length + more.reduce((sum, i) => sum + Math.min(inTree[i].length, MOST_CHILDREN), 0);
    if (!wanted.size || (count > most && (state.open.size || count > 4 * most))) return;
    wanted.forEach((i) => state.open.add(i));
    shown = visible();
  }
}

const name = (i) => classes[i].label || classes[i].name;
function title(i) {
  const closed = inTree[i].length && !state.open.has(i);
  return shortened(name(i), 36) + (closed ? `  +${inTree[i].length}` : "");
}

// The classes of one tree with their places, from (0, 0): each subtree gets a band of its own across the direction of growth.
function treePlaces(tree, width, kids, down) {
  const across = (i) => (down ? width.get(i) + 18 : 34), band = new Map(), start = new Map(), sizes = [], starts = [];
  for (const i of tree) sizes[level[i]] = Math.max(sizes[level[i]] || 0, down ? 28 : width.get(i));
  const deep = sizes.reduce((at, size, depth) => { starts[depth] = at; return at + size + 58; }, 0);
  const sum = (list) => list.reduce((total, i) => total + band.get(i), 0);
  for (const i of [...tree].reverse()) band.set(i, Math.max(across(i), sum(kids(i))));
  start.set(tree[0], 0);
  const places = tree.map((i) => {
    let at = start.get(i) + (band.get(i) - sum(kids(i))) / 2;
    for (const child of kids(i)) { start.set(child, at); at += band.get(child); }
    return [i, starts[level[i]] + (down ? 14 : width.get(i) / 2), start.get(i) + band.get(i) / 2];
  });
  return { places, deep, wide: band.get(tree[0]) };
}

// The trees of all roots, packed into columns (rows, where trees grow down) about as wide as a screen; `down` swaps the axes.
function treePositions(shown, width, down) {
  const set = new Set(shown), kids = (i) => (state.open.has(i) ? inTree[i].filter((c) => set.has(c)) : []);
  const trees = shown.filter((i) => above[i] < 0).map((first) => {
    const tree = [first];
    for (let at = 0; at < tree.length; at++) tree.push(...kids(tree[at]));
    return treePlaces(tree, width, kids, down);
  });
  const area = trees.reduce((total, t) => total + t.deep * t.wide, 0), aspect = cy.width() / Math.max(cy.height(), 1) || 1.4;
  const most = Math.max(...trees.map((t) => t.wide), Math.sqrt(down ? area * aspect : area / aspect));
  const found = new Map();
  let column = 0, deepest = 0, next = 0;
  for (const { places, deep, wide } of trees) {
    if (next > 0 && next + wide > most + 1) { column += deepest; deepest = next = 0; }
    for (const [i, along, across] of places) {
      const x = column + along, y = next + across;
      found.set(i, down ? { x: y, y: x } : { x, y });
    }
    next += wide;
    deepest = Math.max(deepest, deep);
  }
  return found;
}

function draw() {
  const shown = visible(), set = new Set(shown);
  const width = new Map(shown.map((i) => [i, Math.ceil(textWidth(title(i))) + 20]));
  const place = treePositions(shown, width, state.layout === "down");
  const drawn = edges.filter((e) => set.has(e.source) && set.has(e.target) &&
    (e.kind !== "disjoint" || state.disjoint || e.source === state.picked || e.target === state.picked));
  cy.batch(() => {
    cy.elements().remove();
    cy.add(shown.map((i) => ({ group: "nodes", position: place.get(i), data: { id: "c" + i, item: { index: i }, label: title(i), width: width.get(i) },
      classes: (classes[i].ties.length ? "tied " : "") + (i === state.picked ? "picked" : "") })));
    cy.add(drawn.map((e, n) => ({ group: "edges", classes: e.kind + " " + state.layout + (e.kind === "subclass" && above[e.source] !== e.target ? " further" : ""),
      data: { id: "e" + n, source: "c" + e.source, target: "c" + e.target, width: 1 + 2 * (e.weight ?? 1),
        label: e.kind === "axiom" ? e.label + (e.weight === null ? "" : " " + weightText(e.weight)) : "" } })));
  });
  if (state.layout === "force") force();
  publish();
  tell(`${shown.length} of ${classes.length} classes shown`);
}

function force() {
  cy.layout({ name: "cose", animate: false, randomize: false, fit: false, nodeDimensionsIncludeLabels: true, idealEdgeLength: () => 70,
    nodeRepulsion: () => 90000, nodeOverlap: 30, gravity: 0.6, numIter: 800, edgeElasticity: (e) => (e.hasClass("subclass") ? 60 : 400) }).run();
  separate(8);
}

view.style = () => [
  { selector: "edge.subclass", style: { "target-arrow-shape": "triangle", "target-arrow-fill": "hollow", "arrow-scale": 0.9 } },
  { selector: "edge.subclass.right, edge.subclass.down", style: { "curve-style": "taxi", "taxi-turn": 24, "taxi-turn-min-distance": 2 } },
  { selector: "edge.subclass.right", style: { "taxi-direction": "leftward", "taxi-turn": "-24px" } },
  { selector: "edge.subclass.down", style: { "taxi-direction": "upward", "taxi-turn": "-30px" } },
  { selector: "edge.further", style: { "curve-style": "bezier", "line-style": "dotted" } },
  { selector: "edge.disjoint", style: { "line-style": "dashed", "line-color": colour("disjoint"), opacity: 0.75 } },
  { selector: "edge.axiom", style: { "line-color": colour("axiom"), "target-arrow-color": colour("axiom"), "target-arrow-shape": "triangle",
    width: "data(width)", "z-index": 5 } },
  { selector: "edge.disjoint.right, edge.axiom.right", style: { "curve-style": "unbundled-bezier", "source-endpoint": "50% 0",
    "target-endpoint": "50% 0", "control-point-weights": 0.5, "control-point-distances": (e) => {
      const a = e.source().position(), b = e.target().position();
      return (b.y > a.y ? -1 : 1) * Math.min(110, 24 + Math.abs(b.y - a.y) / 5);
    } } },
];

function redrawAround(index, change) {
  const before = cy.getElementById("c" + index).renderedPosition();
  change();
  draw();
  const after = cy.getElementById("c" + index).renderedPosition();
  if (before && after) cy.panBy({ x: before.x - after.x, y: before.y - after.y });
}

function toggle(index) {
  if (index < 0 || !inTree[index].length) return;
  const open = state.open.has(index);
  if (!open && visible().length + inTree[index].length > MOST_DRAWN) { tell(`more than ${MOST_DRAWN} classes: collapse some first`); return; }
  redrawAround(index, () => (open ? state.open.delete(index) : state.open.add(index)));
  show(index);
}

// Opens what lies above a class, so that it can be seen.
function reveal(index) {
  state.pinned.add(index);
  for (let i = above[index]; i >= 0; i = above[i]) { state.open.add(i); state.pinned.add(i); }
}

function pick(index, travel) {
  const shown = cy.getElementById("c" + index).length > 0;
  state.picked = index;
  if (!shown) reveal(index);
  if (shown) redrawAround(index, () => {}); else draw();
  const node = cy.getElementById("c" + index);
  if (travel && !shown) { cy.zoom(Math.max(cy.zoom(), 0.8)); cy.center(node); } else bringIntoView(node);
  show(index);
  tell(name(index));
  root.dataset.picked = classes[index].name;
}

const link = (i, note = "") => el("li", {}, button(name(i), classes[i].name, () => pick(i, true), { class: "link" }), el("span", { class: "soft" }, note));
function section(words, items) {
  if (!items.length) return [];
  const rest = items.length > 60 ? [el("li", { class: "soft" }, `… and ${items.length - 60} more`)] : [];
  return [el("h3", {}, words), el("ul", { class: "links" }, ...items.slice(0, 60), ...rest)];
}

function show(index) {
  if (index < 0) { overview(); return; }
  const c = classes[index], others = (kind, from) => linked[index].filter((e) => e.kind === kind && (from === undefined || (e.source === index) === from));
  const other = (e) => (e.source === index ? e.target : e.source);
  const axiom = (e, i) => link(i, " " + (e.weight === null ? "" : weightText(e.weight)));
  const parts = [el("h2", {}, name(index)), el("p", { class: "mono soft" }, c.name), el("p", {}, c.definition || "No definition.")];
  if (c.iri) parts.push(el("p", { class: "mono soft" }, c.iri));
  if (c.ties.length) parts.push(el("h3", {}, "Tied to data"), ...c.ties.map((tie) => el("span", { class: "badge" }, tie)));
  if (inTree[index].length) parts.push(el("p", {}, button(state.open.has(index) ? "Collapse" : `Expand ${inTree[index].length}`, "Enter", () => toggle(index))));
  parts.push(...section("Superclasses", parents[index].map((i) => link(i))), ...section("Subclasses", children[index].map((i) => link(i))),
    ...section("Disjoint with", others("disjoint").map((e) => link(other(e)))),
    ...section("Has some", others("axiom", true).map((e) => { const li = axiom(e, e.target); li.prepend(e.label + " "); return li; })),
    ...section("Filler of", others("axiom", false).map((e) => { const li = axiom(e, e.source); li.append(` ${e.label} it`); return li; })),
    ...section("Rules that mention it", rulesOf[index].map((r) => el("li", { class: "mono", title: [r.id, r.place, r.source].join(" · ") }, r.text))));
  byId("panel").replaceChildren(...parts);
}

function overview() {
  const relation = ([id, label, facts]) => el("li", {}, label + " ", el("span", { class: "soft" }, [id === label ? "" : id, facts].filter(Boolean).join(" · ")));
  byId("panel").replaceChildren(el("h2", {}, "The ontology"),
    el("p", { class: "soft" }, `${classes.length} classes, ${data.relations.length} relations. Choose a class to read about it; Enter or a double click opens what is below it.`),
    ...section("Top classes", roots.slice(0, 61).map((i) => link(i))), ...section("Relations", data.relations.map(relation)));
}

const items = classes.map((c) => ({ index: c.index, title: c.label || c.name, name: c.name, hint: c.label === c.name ? "" : c.name }));
view.items = () => items;
view.pick = (item, travel) => pick(item.index, travel);
view.toggle = () => toggle(state.picked);
view.clear = () => { state.picked = -1; delete root.dataset.picked; draw(); overview(); };
view.legend = [["line", "edge", "subclass of"], ["dashed", "disjoint", "disjoint"], ["line", "axiom", "existential axiom; the thicker, the surer"],
  ["box", "tied", "tied to a data set"]];
cy.on("dbltap", "node", (event) => toggle(event.target.data("item").index));

const layouts = el("select", { "aria-label": "Layout", change: () => { state.layout = layouts.value; draw(); fit(); } },
  ...[["right", "Tree →"], ["down", "Tree ↓"], ["force", "Force"]].map(([value, words]) => el("option", { value }, words)));
const pairs = el("input", { type: "checkbox", change: () => { state.disjoint = pairs.checked; draw(); } });
pairs.checked = state.disjoint;
const openings = (words, about, most) => button(words, about, () => { openTop(most); draw(); fit(); });

openTop(MOST_AT_FIRST);
overview();
start(draw, layouts, el("label", {}, pairs, " disjoint"), openings("Expand", `Open level by level, up to ${MOST_DRAWN} classes`, MOST_DRAWN),
  openings("Collapse", "Show the top levels", MOST_AT_FIRST));
