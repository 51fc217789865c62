// The constraint graph: classes as boxes, rules as small factors between them, and the list of the rules beside it.
"use strict";

const MOST_RULES = 200, MOST_LISTED = 300;
const state = { kinds: new Set(Object.keys(data.kinds)), status: "", least: 0, cls: -1, rule: -1 };
const edgesOf = rules.map(() => []);
for (const edge of edges) edgesOf[edge.source].push(edge);
const unused = (r) => r.status === "candidate" || r.status === "rejected";
const name = (i) => classes[i].label || classes[i].name;

const matching = () => rules.filter((r) => state.kinds.has(r.kind) && (!state.status || (r.status || "none") === state.status) &&
  (r.weight ?? Infinity) >= state.least);

// Rules drawn at most; those of the picked class come first, so that a big graph can be walked through.
function chosen() {
  const found = matching();
  if (found.length <= MOST_RULES) return found;
  const first = (r) => (r.index === state.rule ? 0 : r.classes.includes(state.cls) ? 1 : 2);
  return [...found].sort((a, b) => first(a) - first(b) || a.index - b.index).slice(0, MOST_RULES);
}

const places = new Map();
function draw() {
  const drawn = chosen(), used = new Set(drawn.flatMap((r) => r.classes));
  if (rules.length <= MOST_RULES) for (const r of rules) r.classes.forEach((i) => used.add(i));
  const width = (i) => Math.ceil(textWidth(shortened(name(i), 30))) + 20;
  const fresh = [];
  const position = (id, n, count, radius) => {
    if (!places.has(id)) { fresh.push(id); places.set(id, { x: radius * 1.5 * Math.cos((2 * Math.PI * n) / count), y: radius * Math.sin((2 * Math.PI * n) / count) }); }
    return { ...places.get(id) };
  };
  const order = [...used].sort((a, b) => rulesOf[b].length - rulesOf[a].length || a - b);
  const nodes = order.map((i, n) => ({ group: "nodes", position: position("c" + i, n, order.length, 260), classes: "class" + (classes[i].ties.length ? " tied" : ""),
    data: { id: "c" + i, item: { cls: i }, label: shortened(name(i), 30), width: width(i) } }));
  const factors = drawn.map((r, n) => {
    const near = r.classes.map((i) => places.get("c" + i)), mean = (axis) => near.reduce((sum, p) => sum + p[axis], 0) / near.length;
    if (near.length && !places.has("r" + r.index)) {
      fresh.push("r" + r.index);
      places.set("r" + r.index, { x: mean("x") + 24 * Math.cos(2.4 * n), y: mean("y") + 24 * Math.sin(2.4 * n) });
    }
    return { group: "nodes", position: position("r" + r.index, n, drawn.length, 420), classes: "rule" + (r.weight === null ? " hard" : "") + (unused(r) ? " unused" : ""),
      data: { id: "r" + r.index, item: { rule: r.index }, label: "", colour: r.kind, strength: strength(r.weight), width: 15 } };
  });
  const links = drawn.flatMap((r) => edgesOf[r.index].map((e) => ({ group: "edges", classes: (e.label ? "to" : "from") + " " + e.kind,
    data: { id: `e${e.source}-${e.target}`, source: "r" + e.source, target: "c" + e.target, label: e.label, colour: r.kind, strength: strength(e.weight) } })));
  cy.batch(() => { cy.elements().remove(); cy.add([...nodes, ...factors, ...links]); });
  if (fresh.length) arrange();
  mark();
  publish();
  tell(count());
}

function count() {
  const drawn = cy.nodes(".rule").length;
  return drawn < rules.length ? `${drawn} of ${rules.length} rules shown` : `${rules.length} rules, ${classes.length} classes`;
}

function arrange() {
  cy.layout({ name: "cose", animate: false, randomize: false, fit: false, nodeDimensionsIncludeLabels: true, numIter: 1500, gravity: 1.2,
    idealEdgeLength: () => 46, edgeElasticity: () => 60, nodeOverlap: 20, initialTemp: 300, coolingFactor: 0.99,
    nodeRepulsion: (node) => (node.hasClass("class") ? 420000 : 60000) }).run();
  // The layout knows no screen: laid on its longer side and squeezed, the picture fills one.
  const box = cy.nodes().boundingBox(), tall = box.h > box.w;
  const squeeze = Math.max(0.75, Math.min(1, (tall ? box.h : box.w) / (tall ? box.w : box.h) / 1.4));
  cy.nodes().positions((node) => {
    const { x, y } = node.position();
    return tall ? { x: y, y: x * squeeze } : { x, y: y * squeeze };
  });
  separate(10);
  cy.nodes().forEach((node) => { places.set(node.id(), { ...node.position() }); });
}

view.style = () => [
  { selector: "node.rule", style: { shape: "rectangle", width: 15, height: 15, "background-color": (n) => colour(n.data("colour")),
    "background-opacity": "data(strength)", "border-color": (n) => colour(n.data("colour")), "border-width": 1 } },
  { selector: "node.rule.hard", style: { "border-color": colour("ink"), "border-width": 2 } },
  { selector: "node.rule.unused", style: { "background-opacity": 0, "border-style": "dashed", "border-width": 2 } },
  { selector: "edge", style: { "line-color": (e) => colour(e.data("colour")), "target-arrow-color": (e) => colour(e.data("colour")),
    "source-arrow-color": (e) => colour(e.data("colour")), "text-rotation": "autorotate", opacity: "data(strength)", "arrow-scale": 0.7, "curve-style": "straight", width: 1.3 } },
  { selector: "edge.to", style: { "target-arrow-shape": "triangle" } },
  { selector: "edge.from", style: { "source-arrow-shape": "triangle" } },
  { selector: "edge.negated", style: { "line-style": "dashed" } },
  { selector: ".dim", style: { opacity: 0.12 } },
  { selector: "node.rule.picked", style: { width: 21, height: 21, "background-color": (n) => colour(n.data("colour")), "border-width": 3, "border-color": colour("ink") } },
];

// Dims what has nothing to do with the picked class or rule.
function mark() {
  cy.elements().removeClass("dim picked");
  const node = cy.getElementById(state.rule >= 0 ? "r" + state.rule : "c" + state.cls);
  if (!node.length) return;
  const near = state.rule >= 0 ? node.closedNeighborhood() : node.closedNeighborhood().closedNeighborhood();
  cy.elements().not(near).addClass("dim");
  node.addClass("picked");
}

function pick(item) {
  state.rule = item.rule ?? -1;
  state.cls = item.cls ?? -1;
  const id = state.rule >= 0 ? "r" + state.rule : "c" + state.cls;
  if (!cy.getElementById(id).length) draw();
  mark();
  list();
  const node = cy.getElementById(id);
  if (node.length) bringIntoView(node);
  else tell("hidden by the filter");
  const row = byId("panel").querySelector(".picked, .marked");
  if (row) row.scrollIntoView({ block: "nearest" });
  if (node.length) tell(state.rule >= 0 ? rules[state.rule].id : `${name(state.cls)}: ${rulesOf[state.cls].length} rules`);
  root.dataset.picked = state.rule >= 0 ? rules[state.rule].id : classes[state.cls].name;
}

function more(r) {
  const facts = [["source", r.source], ["status", r.status], ["place", r.place]].filter(([, text]) => text);
  return el("div", { class: "more" }, el("p", { class: "mono" }, r.text), ...facts.map(([words, text]) => el("p", { class: "soft" }, `${words}: ${text}`)),
    el("p", {}, "about ", ...r.classes.flatMap((i) => [button(name(i), "", () => pick({ cls: i }), { class: "link" }), " "])));
}

function row(r) {
  const open = r.index === state.rule;
  const head = button("", r.place, () => (open ? view.clear() : pick({ rule: r.index })), { "aria-expanded": String(open) });
  head.append(el("span", { class: "weight" }, weightText(r.weight)), el("span", { class: "dot " + r.kind }), shortened(r.id, 90));
  return el("li", { class: open ? "picked" : r.classes.includes(state.cls) ? "marked" : "" }, head, ...(open ? [more(r)] : []));
}

const chips = el("div", { class: "chips", role: "group", "aria-label": "Kinds" });
const listed = el("ul", { class: "rules", "aria-label": "Rules" });
const about = el("div", { "aria-live": "polite" });

function list() {
  const found = matching(), first = (r) => (r.index === state.rule || r.classes.includes(state.cls) ? 0 : 1);
  const rows = (state.cls >= 0 ? [...found].sort((a, b) => first(a) - first(b) || a.index - b.index) : found).slice(0, MOST_LISTED);
  if (state.rule >= 0 && !rows.includes(rules[state.rule])) rows.unshift(rules[state.rule]);
  listed.replaceChildren(...rows.map(row), ...(found.length > MOST_LISTED ? [el("li", { class: "soft" }, `… and ${found.length - MOST_LISTED} more: filter or search`)] : []));
  const c = classes[state.cls];
  about.replaceChildren(...(c ? [el("h2", {}, name(state.cls)), el("p", { class: "mono soft" }, c.iri || c.name), el("p", {}, c.definition),
    ...c.ties.map((tie) => el("span", { class: "badge" }, tie))] : []));
}

function refilter() { draw(); list(); }

function filters() {
  const present = Object.keys(data.kinds).filter((kind) => rules.some((r) => r.kind === kind));
  chips.replaceChildren(...present.map((kind) => {
    const chip = button("", "Show or hide these rules", () => {
      if (!state.kinds.delete(kind)) state.kinds.add(kind);
      chip.setAttribute("aria-pressed", String(state.kinds.has(kind)));
      refilter();
    }, { "aria-pressed": "true" });
    chip.append(el("span", { class: "dot " + kind }), `${data.kinds[kind]} ${rules.filter((r) => r.kind === kind).length}`);
    return chip;
  }));
  const select = (words, choices, action) => el("label", {}, words + " ", el("select", { change: (event) => { action(event.target.value); refilter(); } },
    ...choices.map(([value, text]) => el("option", { value }, text))));
  const statuses = [...new Set(rules.map((r) => r.status || "none"))].sort().map((s) => [s, s]);
  return el("div", { class: "filters", role: "group", "aria-label": "Filter" }, chips,
    select("weight", [[0, "any"], [0.9, "≥ 0.9"], [0.99, "≥ 0.99"], [2, "hard only"]], (value) => { state.least = Number(value); }),
    select("status", [["", "any"], ...statuses], (value) => { state.status = value; }));
}

const items = [...classes.map((c) => ({ cls: c.index, title: c.label || c.name, name: c.name, hint: `${rulesOf[c.index].length} rules` })),
  ...rules.map((r) => ({ rule: r.index, title: shortened(r.id, 60), name: r.id, hint: data.kinds[r.kind] }))];
view.items = () => items;
view.pick = pick;
view.clear = () => { state.rule = state.cls = -1; delete root.dataset.picked; mark(); list(); tell(count()); };
view.legend = [...Object.entries(data.kinds).filter(([kind]) => rules.some((r) => r.kind === kind)).map(([kind, words]) => ["box", kind, words]),
  ["box", "tied", "class (tied to a data set)"], ["line", "ink", "dark rim: hard; paler: less sure" + (rules.some(unused) ? "; hollow: not in use" : "")]];
byId("panel").append(filters(), about, listed);
list();
start(draw);
