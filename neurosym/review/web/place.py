"""A rule's place in the ontology: its classes with everything above them, and its relations drawn between them.

The same is told in words, for whoever does not see the picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from neurosym.knowledge.ontology import Ontology
from neurosym.records import Rule, Term

MOST: Final = 40
"""Classes in the picture; of a deeper ontology those nearest to the rule's."""


@dataclass(frozen=True, slots=True)
class Place:
    """`elements` are those of cytoscape.js, with positions; `lines` say the same in words."""

    elements: tuple[dict[str, Any], ...]
    lines: tuple[str, ...]


def place_of(rule: Rule, ontology: Ontology) -> Place:
    """Where the words of a rule stand in the ontology."""
    names: dict[Term, list[str]] = {}
    for atom in rule.atoms:
        if len(atom.args) == 1:
            names.setdefault(atom.args[0], []).append(atom.predicate)
    classes = list(dict.fromkeys(n for of in names.values() for n in of if n in ontology.classes))
    shown = _nearest(classes, ontology)
    edges = [(a, b, "", "above") for a in shown for b in _parents(a, ontology) if b in shown]
    for atoms, side in ((rule.body, "body"), (rule.head, "head")):
        for atom in (a for a in atoms if len(a.args) == 2 and a.predicate != "="):
            ends = [next(iter(names.get(t, [f"{t}"]))) for t in atom.args]
            edges.append((ends[0], ends[1], _label(atom.predicate, ontology), side))
    nodes = list(dict.fromkeys([*shown, *(n for a, b, _, _ in edges for n in (a, b))]))
    positions = _positions(nodes, [(a, b) for a, b, _, side in edges if side == "above"])
    elements: list[dict[str, Any]] = [
        {
            "data": {"id": n, "label": _label(n, ontology)},
            "classes": "named" if n in classes else "" if n in ontology.classes else "open",
            "position": positions[n],
        }
        for n in nodes
    ]
    elements += [
        {"data": {"id": f"e{i}", "source": a, "target": b, "label": label}, "classes": side}
        for i, (a, b, label, side) in enumerate(edges)
    ]
    return Place(tuple(elements), tuple(_lines(rule, classes, ontology)))


def _parents(name: str, ontology: Ontology) -> list[str]:
    c = ontology.classes[name]
    return sorted(c.parents | c.entailed)


def _nearest(classes: Iterable[str], ontology: Ontology) -> list[str]:
    """The classes and those above, nearest first, up to `MOST`."""
    found = list(dict.fromkeys(classes))
    for name in found:  # grows while it is read
        found += [p for p in _parents(name, ontology) if p not in found]
        if len(found) >= MOST:
            break
    return found[:MOST]


def _positions(nodes: list[str], above: list[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """General classes on top, each row centred and in the order of the row above."""
    depth = dict.fromkeys(nodes, 0)
    for _ in nodes:
        for child, parent in above:
            depth[child] = min(max(depth[child], depth[parent] + 1), len(nodes))
    parents: dict[str, list[str]] = {}
    for child, parent in above:
        parents.setdefault(child, []).append(parent)
    found: dict[str, dict[str, float]] = {}
    for level in range(max(depth.values(), default=0) + 1):
        row = [n for n in nodes if depth[n] == level]
        row.sort(key=lambda n: (min((found[p]["x"] for p in parents.get(n, ()) if p in found), default=0.0), n))
        for i, name in enumerate(row):
            found[name] = {"x": (i - (len(row) - 1) / 2) * 150, "y": level * 78.0}
    return found


def _lines(rule: Rule, classes: Iterable[str], ontology: Ontology) -> Iterable[str]:
    for name in classes:
        above = _nearest([name], ontology)[1:]
        what = f": {ontology.classes[name].definition}" if ontology.classes[name].definition else ""
        chain = ", ".join(_label(n, ontology) for n in above)
        yield f"{_label(name, ontology)} is a kind of {chain}{what}" if chain else f"{_label(name, ontology)}{what}"
    for name in dict.fromkeys(a.predicate for a in rule.atoms if len(a.args) == 2 and a.predicate != "="):
        relation = ontology.relations.get(name)
        if relation is None:
            yield f"{name} is not in the ontology"
            continue
        said = [f"it implies {_label(p, ontology)}" for p in sorted(relation.parents)]
        said += [f"its inverse is {_label(relation.inverse, ontology)}"] if relation.inverse else []
        said += ["it is symmetric"] * relation.symmetric + ["it is transitive"] * relation.transitive
        for what, ends in (("from", relation.domain), ("to", relation.range)):
            said += [f"it leads {what} {_label(e, ontology)}" for e in sorted(ends)]
        yield f"{_label(name, ontology)} is a relation" + (f"; {', '.join(said)}" if said else "")


def _label(name: str, ontology: Ontology) -> str:
    known = ontology.classes.get(name) or ontology.relations.get(name)
    return known.label if known is not None and known.label.strip() else name.replace("_", " ")
