"""What the engine computes, written a second time as slowly and as plainly as possible: all assignments, one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from math import prod

from neurosym.records import Atom, FactStore, Rule, Term

Key = tuple[str, tuple[str, ...]]
"""(scene, entities of the head variables that the body binds)"""


@dataclass
class Measures:
    body_size: int
    support: int
    confidence: float
    pca_confidence: float
    head_coverage: float
    lift: float
    weighted_confidence: float
    supporting: list[str]
    refuting: list[str]


class World:
    def __init__(self, store: FactStore) -> None:
        self.weight: dict[tuple[str, str, tuple[str, ...]], float] = {}
        entities: dict[str, set[str]] = defaultdict(set)
        for fact in store.facts:
            key = (fact.scene, fact.relation, fact.args)
            self.weight[key] = max(fact.weight, self.weight.get(key, 0.0))
            entities[fact.scene].update(fact.args)
        self.entities = {scene: sorted(names) for scene, names in sorted(entities.items())}
        self.has_scenes = set(self.entities) != {""}

    def assignments(self, variables: list[Term], injective: bool, scene: str) -> Iterator[dict[Term, str]]:
        for values in product(self.entities[scene], repeat=len(variables)):
            if not injective or len(set(values)) == len(values):
                yield dict(zip(variables, values, strict=True))

    def truth(self, atoms: tuple[Atom, ...], theta: dict[Term, str], scene: str) -> float:
        """The product of the weights, 0 if an atom is no fact."""
        return prod(
            self.weight.get((scene, a.predicate, tuple(theta[t] if t.is_variable else t.name for t in a.args)), 0.0)
            for a in atoms
        )

    def facts_of(self, relation: str) -> list[tuple[str, tuple[str, ...]]]:
        return [(scene, args) for scene, name, args in self.weight if name == relation]


def measure(rule: Rule, store: FactStore, injective: bool = True) -> Measures:
    world = World(store)
    body_variables = variables_of(rule.body)
    head_variables = variables_of(rule.head)
    frontier = [v for v in head_variables if v in body_variables]
    existential = [v for v in head_variables if v not in body_variables]
    body: dict[Key, float] = {}
    heads: set[Key] = set()
    for scene in world.entities:
        for theta in world.assignments(body_variables, injective, scene):
            weight = world.truth(rule.body, theta, scene)
            if weight:
                key = (scene, tuple(theta[v] for v in frontier))
                body[key] = max(weight, body.get(key, 0.0))
        for theta in world.assignments(head_variables, injective, scene):
            if world.truth(rule.head, theta, scene):
                heads.add((scene, tuple(theta[v] for v in frontier)))
    held: dict[Key, float] = {}
    for scene, values in body:
        bound = dict(zip(frontier, values, strict=True))
        for theta in world.assignments(existential, injective, scene):
            if not injective or not set(theta.values()) & set(values):
                weight = world.truth(rule.head, bound | theta, scene)
                held[scene, values] = max(weight, held.get((scene, values), 0.0))
    support = [key for key in body if held.get(key)]
    against = [key for key in body if not held.get(key)]
    confidence = ratio(len(support), len(body))
    strength = {key: min(body[key], held.get(key, 0.0)) for key in body}
    return Measures(
        body_size=len(body),
        support=len(support),
        confidence=confidence,
        pca_confidence=ratio(len(support), len(known_subjects(rule, world, list(body), frontier))),
        head_coverage=ratio(len(support), len(heads)),
        lift=ratio(confidence, prior(rule, world, frontier, len(heads), injective)),
        weighted_confidence=ratio(sum(strength.values()), sum(body.values())),
        supporting=cases(rule, world, frontier, {key: strength[key] for key in support}),
        refuting=cases(rule, world, frontier, {key: body[key] for key in against}),
    )


def known_subjects(rule: Rule, world: World, body: list[Key], frontier: list[Term]) -> list[Key]:
    atom = rule.head[0]
    facts = world.facts_of(atom.predicate)
    if len(rule.head) > 1 or not facts or any(t.is_variable and t not in frontier for t in atom.args):
        return body
    if len(atom.args) == 1:
        known = {(scene, args[0]) for scene, _, args in world.weight if len(args) == 1}
        subject = atom.args[0]
    else:
        subjects = {(scene, args[0]) for scene, args in facts}
        objects = {(scene, args[1]) for scene, args in facts}
        backwards = len(objects) > len(subjects)
        if not atom.args[int(backwards)].is_variable:
            backwards = not backwards
        known, subject = (objects, atom.args[1]) if backwards else (subjects, atom.args[0])
    if not subject.is_variable:
        return body
    return [(scene, values) for scene, values in body if (scene, values[frontier.index(subject)]) in known]


def prior(rule: Rule, world: World, frontier: list[Term], heads: int, injective: bool) -> float:
    atom = rule.head[0]
    facts = world.facts_of(atom.predicate)
    plain = len(rule.head) == 1 and facts and len(frontier) == len(atom.args) == len(set(atom.args))
    if plain and len(atom.args) == 2 and not world.has_scenes:
        return len(facts) / (len({a for _, (a, _) in facts}) * len({b for _, (_, b) in facts}))
    room = 0
    for names in world.entities.values():
        ways = permutations(names, len(frontier)) if injective else product(names, repeat=len(frontier))
        room += sum(1 for _ in ways)
    return ratio(heads, room)


def cases(rule: Rule, world: World, frontier: list[Term], strength: dict[Key, float]) -> list[str]:
    if world.has_scenes:
        best: dict[str, float] = {}
        for (scene, _), value in strength.items():
            best[scene] = max(value, best.get(scene, 0.0))
        return sorted(best, key=lambda scene: (-best[scene], scene))
    ordered = sorted(strength, key=lambda key: (-strength[key], key))
    texts = []
    for _, values in ordered:
        names = dict(zip(frontier, values, strict=True))
        texts.append(", ".join(f"{a.predicate}({', '.join(names.get(t, t.name) for t in a.args)})" for a in rule.head))
    return texts


def subsumes(general: Rule, specific: Rule, injective: bool) -> bool:
    """All substitutions of the general rule's variables by terms of the specific one, for single heads."""
    variables = variables_of((*general.head, *general.body))
    terms = sorted({t for a in (*specific.head, *specific.body) for t in a.args})
    for values in product(terms, repeat=len(variables)):
        if injective and len(set(values)) < len(values):
            continue
        theta = dict(zip(variables, values, strict=True))
        head = {substitute(a, theta) for a in general.head}
        if head == set(specific.head) and {substitute(a, theta) for a in general.body} <= set(specific.body):
            return True
    return False


def are_variants(one: Rule, other: Rule) -> bool:
    """Is there a renaming of variables that makes the rules equal?"""
    mine, theirs = variables_of((*one.head, *one.body)), variables_of((*other.head, *other.body))
    if len(mine) != len(theirs):
        return False
    for order in permutations(theirs):
        theta = dict(zip(mine, order, strict=True))
        heads = {substitute(a, theta) for a in one.head}, set(other.head)
        bodies = {substitute(a, theta) for a in one.body}, set(other.body)
        if heads[0] == heads[1] and bodies[0] == bodies[1]:
            return True
    return False


def substitute(atom: Atom, theta: dict[Term, Term]) -> Atom:
    return Atom(atom.predicate, tuple(theta.get(t, t) for t in atom.args))


def variables_of(atoms: tuple[Atom, ...]) -> list[Term]:
    return list(dict.fromkeys(v for atom in atoms for v in atom.variables))


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
