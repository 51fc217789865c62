"""Rules on a scene, by trying every assignment of distinct detections to the body's variables."""

from __future__ import annotations

import itertools

from neurosym.knowledge import Ontology
from neurosym.records import Atom, Detection, Rule, Scene, Term
from tests.oracles.spatial import holds


def true(atom: Atom, bound: dict[Term, Detection], ontology: Ontology) -> bool:
    objects = [bound[t] for t in atom.args]
    if atom.predicate == "=":
        return holds("same", objects[0].box, objects[1].box)
    if len(objects) == 1:
        return ontology.is_a(objects[0].name, atom.predicate)
    return holds(ontology.relations[atom.predicate].predicate, objects[0].box, objects[1].box)


def evaluate(rule: Rule, scene: Scene, ontology: Ontology) -> tuple[int, int]:
    """(fired, violated); for a denial every choice of objects of its classes fires, whatever lies between them."""
    body = rule.body if rule.head else tuple(a for a in rule.body if len(a.args) == 1)
    variables = list(dict.fromkeys(v for a in rule.body for v in a.variables))
    fired = violated = 0
    for chosen in itertools.permutations(scene.detections, len(variables)):
        bound = dict(zip(variables, chosen, strict=True))
        if not all(true(a, bound, ontology) for a in body):
            continue
        fired += 1
        if not rule.head:
            violated += all(true(a, bound, ontology) for a in rule.body)
            continue
        others = [d for d in scene.detections if not any(d is c for c in chosen)]
        choices = itertools.permutations(others, len(rule.existential))
        violated += not any(
            all(true(a, {**bound, **dict(zip(rule.existential, extra, strict=True))}, ontology) for a in rule.head)
            for extra in choices
        )
    return fired, violated
