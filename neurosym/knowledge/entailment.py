"""What an ontology entails by its hierarchy, and what its geometric relations entail by their definition, as hard rules.

The words of geometry.py are facts about boxes, so more is known of them than OWL 2 DL may state of one property: `left_of`
compares centres and is a strict order; a share of 3/4 of both sides within another box is some common area; two boxes with
common area have no gap. These rules serve to find contradictions, not to train.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Final

from neurosym.knowledge.geometry import SIZES, SWAPPED, ZONES
from neurosym.logic import Atom, Rule, Term

if TYPE_CHECKING:
    from neurosym.knowledge.ontology import Ontology, Relation
    from neurosym.knowledge.regions import Region

_X, _Y, _Z = Term("X"), Term("Y"), Term("Z")

MATES: Final = {
    "left_of": "right_of",
    "above": "below",
    "larger_than": "smaller_than",
    "inside": "encloses",
    "patient_left_of": "patient_right_of",
}
"""Each word with the one of `SWAPPED` that says the same of the two boxes exchanged."""
ORDERS: Final = (
    *("left_of", "right_of", "above", "below", "larger_than", "smaller_than"),
    *("patient_left_of", "patient_right_of"),
)
"""Strict orders: they compare one number of each box."""
SYMMETRIC: Final = ("overlaps", "near", "same", "adjacent")
WIDER: Final = {
    "inside": ("overlaps", "near"),
    "encloses": ("overlaps", "near"),
    "same": ("overlaps", "near"),
    "overlaps": ("near",),
    "adjacent": ("near",),
    "patient_left_of": ("right_of",),
    "right_of": ("patient_left_of",),
    "patient_right_of": ("left_of",),
    "left_of": ("patient_right_of",),
}
"""Words that hold of every two boxes that the word on the left holds of."""


def theory(ontology: Ontology) -> tuple[Rule, ...]:
    """Everything to conclude with: what the axioms became, what a reasoner found besides, what the words of geometry mean."""
    stated = (rule for axiom in ontology.axioms for rule in axiom.rules)
    found = (
        Rule((Atom(above, (_X,)),), (Atom(name, (_X,)),), None, {"id": f"{name}_{above}_entailed"}, distinct=False)
        for name, c in ontology.classes.items()
        for above in sorted(c.entailed)
    )
    return tuple(dict.fromkeys((*stated, *found, *geometry_rules(ontology))))


def entailments(ontology: Ontology) -> tuple[Rule, ...]:
    """The closure of the class hierarchy, what is stated of each relation, and how regions lie in one another."""
    rules = [
        Rule((Atom(above, (_X,)),), (Atom(name, (_X,)),))
        for name in ontology.classes
        for above in ontology.ancestors(name)
    ]
    sizes = [size for size in SIZES if size in ontology.classes]
    for name, r in ontology.relations.items():
        body = (Atom(name, (_X, _Y)),)
        rules += [Rule((Atom(parent, (_X, _Y)),), body) for parent in r.parents]
        rules += [Rule((Atom(c, (_X,)),), body) for c in r.domain]
        rules += [Rule((Atom(c, (_Y,)),), body) for c in r.range]
        if r.inverse:
            rules.append(Rule((Atom(r.inverse, (_Y, _X)),), body))
        if r.symmetric:
            rules.append(Rule((Atom(name, (_Y, _X)),), body))
        if r.transitive:
            rules.append(Rule((Atom(name, (_X, _Z)),), (*body, Atom(name, (_Y, _Z)))))
        if r.predicate == "larger_than":
            pairs = combinations(sizes, 2)  # from small to large
            rules += [Rule((Atom(name, (_X, _Y)),), (Atom(b, (_X,)), Atom(a, (_Y,)))) for a, b in pairs]
    rules += _regions(ontology)
    return tuple(sorted(set(rules), key=str))


def _regions(ontology: Ontology) -> Iterator[Rule]:
    """What is in a region, and in a zone of it, is in every region that holds that zone."""
    for inner in ontology.scene_words.placed:
        for zone in (z for z in ZONES if z in ontology.classes):
            there = [region for region in inner.regions if zone in region.zones]
            for outer in ontology.scene_words.placed if there else ():
                held = all(any(_holds(o, region, zone) for o in outer.regions) for region in there)
                if outer != inner and held and not ontology.is_a(inner.name, outer.name):
                    yield Rule((Atom(outer.name, (_X,)),), (Atom(inner.name, (_X,)), Atom(zone, (_X,))))


def _holds(outer: Region, inner: Region, zone: str) -> bool:
    return zone in outer.zones and set(inner.frames) <= set(outer.frames)


def geometry_rules(ontology: Ontology) -> tuple[Rule, ...]:
    """What the geometric relations of this ontology entail of one another."""
    geometric = [r for _, r in sorted(ontology.relations.items()) if r.predicate]
    found = [rule for r in geometric for rule in (*_alone(r), *(s for other in geometric for s in _together(r, other)))]
    return tuple(found)


def _rule(name: str, head: tuple[Atom, ...], *body: Atom) -> Rule:
    return Rule(head, body, meta={"id": f"geometry_{name}"}, distinct=False)


def _alone(r: Relation) -> Iterator[Rule]:
    forward, backward = Atom(r.name, (_X, _Y)), Atom(r.name, (_Y, _X))
    if r.predicate in ORDERS:
        yield _rule(f"{r.name}_asymmetric", (), forward, backward)
        yield _rule(f"{r.name}_transitive", (Atom(r.name, (_X, _Z)),), forward, Atom(r.name, (_Y, _Z)))
    if r.predicate in SYMMETRIC:
        yield _rule(f"{r.name}_symmetric", (backward,), forward)


def _together(r: Relation, other: Relation) -> Iterator[Rule]:
    forward = Atom(r.name, (_X, _Y))
    if r.name != other.name and r.predicate == other.predicate:
        yield _rule(f"{r.name}_same_as_{other.name}", (Atom(other.name, (_X, _Y)),), forward)
    if other.predicate in WIDER.get(r.predicate, ()):
        yield _rule(f"{r.name}_implies_{other.name}", (Atom(other.name, (_X, _Y)),), forward)
    if _mate(r.predicate) == other.predicate:
        yield _rule(f"{r.name}_inverse_of_{other.name}", (Atom(other.name, (_Y, _X)),), forward)


def _mate(word: str) -> str:
    if word in SWAPPED:
        return next(plain for plain, swapped in MATES.items() if swapped == word)
    return MATES.get(word, "")
