"""The graph as one static SVG picture, made without a browser: the same graph gives the same bytes.

An ontology is a tree that grows to the right, with brackets round disjoint classes and arcs for existential axioms; rules are a
factor graph in two columns, classes on the left and rules, grouped by kind, on the right. Text has colours for light and for
dark surroundings (a media query); every string of the ontology is escaped.
"""

from __future__ import annotations

import html
import re
from collections import defaultdict
from pathlib import Path
from typing import Final

from neurosym.errors import KnowledgeError, Problem
from neurosym.knowledge.files import write_text_atomically
from neurosym.knowledge.views.graph import KINDS, ClassNode, Edge, Graph, RuleNode
from neurosym.knowledge.views.layout import Rect, cliques, forest, lanes, spread, text_width, tree_layout, wrapped

MOST_BOXES: Final = 1500
"""More classes or rules than this is no picture that a person can look at."""

_UNUSED: Final = ("candidate", "rejected")
_MARGIN, _HEADER, _LINE, _LANE = 24.0, 64.0, 16.0, 7.0
_LABEL, _SMALL, _WIDEST = 13.0, 11.0, 210.0
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

_STYLE = """
text { font-family: "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif; fill: #1f2933 }
.title { font-size: 20px; font-weight: 600 } .note, .tie, .some { font-size: 11px } .note { fill: #52606d }
.class text.label, .rule text.label { font-size: 13px } .rule text.label { font-weight: 600 }
.rule text.body { font-size: 12px; fill: #3e4c59 } .kind { font-size: 13px; font-weight: 600 }
.paper { fill: #ffffff } .class rect { fill: #f5f7fa; stroke: #9aa5b1 } .class.tied rect { fill: #e3f2f1; stroke: #2c7a7b }
.tie { fill: #23696a } .some { fill: #8a5a00 } path { fill: none } .subclass, .second { stroke: #9aa5b1; stroke-width: 1.2 }
.tip { fill: #ffffff; stroke: #9aa5b1; stroke-width: 1.2 } .disjoint { stroke: #b4465a; stroke-dasharray: 4 3 }
.axiom { stroke: #b7791f } .hard { stroke: #1f2933; stroke-width: 1.6 }
.ordering { --kind: #2b6cb0 } .containment { --kind: #2f855a } .size { --kind: #6b46c1 } .count { --kind: #0e7490 }
.denial { --kind: #c53030 } .existential { --kind: #b7791f } .numeric { --kind: #b83280 } .other { --kind: #627d98 }
.link { stroke: var(--kind) } .link.negated { stroke-dasharray: 4 3 } .factor, .kind { fill: var(--kind) }
.factor.unused { fill: none; stroke: var(--kind); stroke-dasharray: 3 2 }
@media (prefers-color-scheme: dark) {
text, .rule text.body { fill: #e4e7eb } .note { fill: #9aa5b1 } .paper { fill: #16202b }
.class rect { fill: #243240; stroke: #52667a }
.class.tied rect { fill: #17403f; stroke: #4fa8a6 } .tie { fill: #8fd3cf } .some { fill: #f0c674 } .tip { fill: #16202b }
.hard { stroke: #e4e7eb } .disjoint { stroke: #e48a98 } .axiom { stroke: #d9a441 }
.ordering { --kind: #63a4e8 } .containment { --kind: #5cc08a } .size { --kind: #a88bf0 } .count { --kind: #4fc3dc }
.denial { --kind: #f08080 } .existential { --kind: #e0ac4a } .numeric { --kind: #ee7fbd } .other { --kind: #9fb3c8 }
.factor, .kind { fill: var(--kind) } .factor.unused { fill: none }
}
"""


def write_svg(path: Path, graph: Graph, title: str) -> None:
    """Write the graph as an SVG file.

    Raises:
        KnowledgeError: the graph has more than `MOST_BOXES` classes or rules.
    """
    write_text_atomically(Path(path), svg_text(graph, title))


def svg_text(graph: Graph, title: str) -> str:
    """The graph as SVG (see `write_svg`)."""
    boxes = max(len(graph.classes), len(graph.rules) if graph.view == "rules" else 0)
    if boxes > MOST_BOXES:
        message = f"{boxes} boxes are too many for a picture; at most {MOST_BOXES}"
        raise KnowledgeError(Problem(message, cure="show a part (--around CLASS --depth 2), or write the HTML page"))
    parts, size, summary = _ontology(graph) if graph.view == "ontology" else _rules(graph)
    width = max(size[0], text_width(title, 20) * 1.1, text_width(summary, _SMALL)) + _MARGIN
    height = size[1] + _MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" width="{_n(width)}" '
            f'height="{_n(height)}" role="img" aria-labelledby="title desc">',
            f'<title id="title">{_text(title)}</title>',
            f'<desc id="desc">{_text(summary)}</desc>',
            f"<style>{_STYLE}</style>",
            f'<rect class="paper" width="{_n(width)}" height="{_n(height)}"/>',
            _words(_MARGIN, 32, title, "title"),
            _words(_MARGIN, 50, summary, "note"),
            *parts,
            "</svg>\n",
        ]
    )


def _text(text: str) -> str:
    return html.escape(_CONTROL.sub("\ufffd", text))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _words(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}">{_text(text)}</text>'


def _path(kind: str, d: str, extra: str = "") -> str:
    return f'<path class="{kind}" d="{d}"{extra}/>'


def _weight(weight: float | None) -> str:
    return "" if weight is None else f" {weight:.3g}"


# --- the ontology ------------------------------------------------------------------------------------------------------


def _ontology(graph: Graph) -> tuple[list[str], tuple[float, float], str]:
    """The parts of the picture, its size, and one sentence about it."""
    by_kind: dict[str, list[Edge]] = defaultdict(list)
    for edge in graph.edges:
        by_kind[edge.kind].append(edge)
    parents: dict[str, list[str]] = defaultdict(list)
    for edge in by_kind["subclass"]:
        parents[edge.source].append(edge.target)
    labels = {c.name: c.label for c in graph.classes}
    some: dict[str, list[str]] = defaultdict(list)
    for edge in by_kind["axiom"]:
        some[edge.source].append(f"{edge.label} some {labels[edge.target]}{_weight(edge.weight)}")
    tree = forest([c.name for c in graph.classes], parents)
    lines = {c.name: _class_lines(c, some[c.name]) for c in graph.classes}
    sizes = {name: _size_of(found) for name, found in lines.items()}
    groups = [
        g for g in cliques((e.source, e.target) for e in by_kind["disjoint"]) if len({tree[n][0] for n in g}) == 1
    ]
    in_column: dict[int, list[tuple[str, ...]]] = defaultdict(list)
    gaps = {0: _MARGIN} | {depth: 44.0 for depth, _ in tree.values() if depth}
    for depth in sorted(gaps):
        in_column[depth] = [g for g in groups if tree[g[0]][0] == depth]
        gaps[depth] += _LANE * len(in_column[depth])
    rects = tree_layout(tree, sizes, gaps, _HEADER)
    edges = [_subclass(e, rects, second=tree[e.source][1] != e.target) for e in by_kind["subclass"]]
    for depth in sorted(in_column):
        edges += _brackets(in_column[depth], rects)
    bracketed = {frozenset((a, b)) for g in groups for a in g for b in g}
    apart = [e for e in by_kind["disjoint"] if frozenset((e.source, e.target)) not in bracketed]
    edges += [_arc("disjoint", rects[e.source], rects[e.target]) for e in apart]
    edges += [_arc("axiom", rects[e.source], rects[e.target], e.weight) for e in by_kind["axiom"]]
    boxes = [_class_box(c, rects[c.name], lines[c.name]) for c in graph.classes]
    right = max((r.right for r in rects.values()), default=0.0) + 40
    bottom = max((r.y + r.height for r in rects.values()), default=_HEADER)
    counts = ", ".join(f"{len(by_kind[k])} {word}" for k, word in _COUNTED if by_kind[k])
    summary = f"{len(graph.classes)} classes{', ' + counts if counts else ''}."
    return [*edges, *boxes, *_legend(bottom + 34)], (max(right, 640), bottom + 40), summary


_COUNTED: Final = (
    ("subclass", "subclass edges"),
    ("disjoint", "pairs of disjoint classes"),
    ("axiom", "existential axioms"),
)


def _class_lines(node: ClassNode, some: list[str]) -> list[tuple[str, str]]:
    """The lines of a box, each with its style."""
    ties = "; ".join(tie.removeprefix("category ").removeprefix("study label ") for tie in node.ties)
    lines = [("label", line) for line in wrapped(node.label, _LABEL, _WIDEST)]
    lines += [("tie", line) for line in wrapped(f"◆ {ties}", _SMALL, _WIDEST, most=2)] if ties else []
    return lines + [("some", line) for text in some for line in wrapped(f"→ {text}", _SMALL, _WIDEST)]


def _size_of(lines: list[tuple[str, str]]) -> tuple[float, float]:
    width = max(text_width(text, _LABEL if kind == "label" else _SMALL) for kind, text in lines)
    return width + 18, _LINE * len(lines) + 8


def _class_box(node: ClassNode, rect: Rect, lines: list[tuple[str, str]]) -> str:
    inner = "".join(_words(rect.x + 9, rect.y + 16 + _LINE * i, text, kind) for i, (kind, text) in enumerate(lines))
    told = f"{node.label} ({node.name})" + (f": {node.definition}" if node.definition else "")
    tied = " tied" if node.ties else ""
    return f'<g class="class{tied}"><title>{_text(told)}</title>{_box(rect)}{inner}</g>'


def _box(rect: Rect) -> str:
    x, y, width, height = map(_n, (rect.x, rect.y, rect.width, rect.height))
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>'


def _subclass(edge: Edge, rects: dict[str, Rect], second: bool) -> str:
    """An elbow into the superclass, with a hollow tip; a curve for a second superclass."""
    child, parent = rects[edge.source], rects[edge.target]
    if second:
        return _arc("second", child, parent)
    turn, y = parent.right + 20, parent.middle
    tip = f'<path class="tip" d="M{_n(parent.right)} {_n(y)} l8 -4.5 v9 z"/>'
    widest = _n(turn)
    return _path("subclass", f"M{_n(child.x)} {_n(child.middle)} H{widest} V{_n(y)} H{_n(parent.right + 8)}") + tip


def _brackets(groups: list[tuple[str, ...]], rects: dict[str, Rect]) -> list[str]:
    """Dashed lines at the left of classes in one column, no two of which share an instance."""
    rows = [sorted(rects[name].middle for name in group) for group in groups]
    found = []
    for group, ys, lane in zip(groups, rows, lanes([(ys[0], ys[-1]) for ys in rows]), strict=True):
        left = rects[group[0]].x
        x = left - 6 - _LANE * lane
        ticks = "".join(f" M{_n(x)} {_n(y + 4)} H{_n(left)}" for y in ys)
        found.append(_path("disjoint", f"M{_n(x)} {_n(ys[0] + 4)} V{_n(ys[-1] + 4)}{ticks}"))
    return found


def _arc(kind: str, a: Rect, b: Rect, weight: float | None = None) -> str:
    """A curve between the right sides of two boxes, drawn beneath all boxes; the thicker, the surer."""
    far = max(a.right, b.right) + 26
    d = f"M{_n(a.right)} {_n(a.middle)} C{_n(far)} {_n(a.middle)} {_n(far)} {_n(b.middle)} {_n(b.right)} {_n(b.middle)}"
    return _path(kind, d, f' stroke-width="{_n(0.6 + 1.4 * (1.0 if weight is None else weight))}"')


def _legend(y: float) -> list[str]:
    entries = (
        ("subclass", "subclass of"),
        ("second", "a further superclass"),
        ("disjoint", "disjoint"),
        ("axiom", "→ existential axiom"),
    )
    found, x = [], _MARGIN
    for kind, label in entries:
        found += [_path(kind, f"M{_n(x)} {_n(y - 4)} h24"), _words(x + 30, y, label, "note")]
        x += 56 + text_width(label, _SMALL)
    return [*found, _words(x, y, "◆ tied to data", "tie")]


# --- the rules ---------------------------------------------------------------------------------------------------------


def _rules(graph: Graph) -> tuple[list[str], tuple[float, float], str]:
    """The parts of the picture, its size, and one sentence about it."""
    lines = {c.name: [("label", line) for line in wrapped(c.label, _LABEL, _WIDEST)] for c in graph.classes}
    sizes = {name: _size_of(found) for name, found in lines.items()}
    widest = max((w for w, _ in sizes.values()), default=80.0)
    factor_x = _MARGIN + widest + 240
    rows: list[str] = []
    centre: dict[str, float] = {}
    y, right = _HEADER + 8, factor_x
    for kind in (k for k in KINDS if any(r.kind == k for r in graph.rules)):
        y += 14
        rows.append(f'<g class="{kind}">{_words(factor_x + 18, y, KINDS[kind], "kind")}</g>')
        y += 8
        for rule in (r for r in graph.rules if r.kind == kind):
            drawn, height, width = _rule_row(rule, factor_x, y)
            rows.append(drawn)
            centre[rule.key] = y + 12
            y, right = y + height, max(right, width)
        y += 10
    of_class: dict[str, list[float]] = defaultdict(list)
    for edge in graph.edges:
        of_class[edge.target].append(centre[edge.source])
    mean = {
        c.name: sum(of_class[c.name]) / len(of_class[c.name]) if of_class[c.name] else _HEADER for c in graph.classes
    }
    order = sorted(graph.classes, key=lambda c: (mean[c.name], c.name))
    step = (y - _HEADER) / max(len(order), 1)
    tops = spread(
        [_HEADER + step * (i + 0.5) for i in range(len(order))], [sizes[c.name][1] for c in order], 10, _HEADER
    )
    rects = {c.name: Rect(_MARGIN, top, *sizes[c.name]) for c, top in zip(order, tops, strict=True)}
    kinds = {r.key: r.kind for r in graph.rules}
    links = [_link(e, rects[e.target], factor_x, centre[e.source], kinds[e.source]) for e in graph.edges]
    boxes = [_class_box(c, rects[c.name], lines[c.name]) for c in order]
    bottom = max([y, *(r.y + r.height for r in rects.values())])
    summary = (
        f"{len(graph.rules)} rules about {len(graph.classes)} classes. A dark rim: hard; the paler, the less sure."
    )
    return [*links, *boxes, *rows], (right, bottom), summary


def _rule_row(rule: RuleNode, x: float, y: float) -> tuple[str, float, float]:
    """A factor and its text at (x, y), the height it takes, and its right edge."""
    head = wrapped(rule.id if rule.id != rule.text else "", _LABEL, 560, most=2)
    body = wrapped(rule.text, 12, 560, most=4)
    lines = [("label", line) for line in head if line] + [("body", line) for line in body]
    text = "".join(_words(x + 18, y + 16 + _LINE * i, line, kind) for i, (kind, line) in enumerate(lines))
    look = " hard" if rule.weight is None else ""
    look += " unused" if rule.status in _UNUSED else ""
    box = f'<rect class="factor{look}" x="{_n(x - 6)}" y="{_n(y + 6)}" width="12" height="12"{_opacity(rule.weight)}/>'
    told = _text(f"{rule.place} {rule.source}".strip())
    width = max(text_width(line, _LABEL) for _, line in lines)
    return f'<g class="rule {rule.kind}"><title>{told}</title>{box}{text}</g>', _LINE * len(lines) + 10, x + 18 + width


def _link(edge: Edge, rect: Rect, x: float, y: float, kind: str) -> str:
    bend = (rect.right + x) / 2
    d = f"M{_n(rect.right)} {_n(rect.middle)} C{_n(bend)} {_n(rect.middle)} {_n(bend)} {_n(y)} {_n(x - 6)} {_n(y)}"
    return _path(f"link {edge.kind} {kind}", d, _opacity(edge.weight))


def _opacity(weight: float | None) -> str:
    return "" if weight is None else f' opacity="{_n2(0.25 + 0.75 * weight)}"'


def _n2(value: float) -> str:
    return f"{value:.2f}"
