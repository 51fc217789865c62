r"""Graphs with rules planted in them, and what was done to their facts: the truth that a learner of rules is held against.

*Entities* are of one of six kinds, which `is(x, kind)` tells, and of a neighbourhood of eight within their kind. A *base
relation* leads from one kind to one: a share of the first has facts of it, a geometric number each, four in five of them to
the neighbourhood that goes with their own. Entities have one of four values of each *attribute*, also as facts. None of this
depends on anything else, but for kinds and neighbourhoods.

A *planted rule* is a path of two base relations from X to Y, read either way, or of three, and what its shape adds:

    path        nothing
    tree        a fact of one of its variables, with anything
    constant    a value of an attribute of one of its variables
    negation    a value that one must not have, or a relation that one must have no fact of
    mixed       a constant and a negation
    set         as a constant, but Y is not told: the head is h(X, c) with a constant of its own

Every literal matters: without any one of those that a shape adds, the body holds for a third more at least. The rule
*derives* a fact of its head for each (X, Y), distinct like all variables of a rule, for which the body holds. A head has one
rule, or two that share no base relation; bodies have base relations and attributes only. Of the facts derived for a head,

    removed     a share, drawn at random, is not in the graph
    noise       as many as another share of those derived (before any is removed) is added, of facts of the head that no rule
                derives: between an entity of X's kind and one of Y's (or, of a set, the constant), drawn evenly

so the confidence of a planted rule is about 1 − removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from neurosym.logic import Atom, Negation, Rule, Term

Triple = tuple[str, str, str]
SHAPES: Final = {"set": 1, "mixed": 1, "path": 7, "tree": 4, "constant": 4, "negation": 3}
KINDS: Final = 6
ATTRIBUTES: Final = 4
VALUES: Final = 4
NEIGHBOURS: Final = 8
STAYING: Final = 0.8
SIZES: Final = (100, 3000)
"""Facts that a planted rule derives."""
MATTERS: Final = 4 / 3
TRIES: Final = 1000
"""Rules of a shape drawn before one is given up."""
X, Y, ANY = Term("X"), Term("Y"), Term("_")
Ends = tuple[int, int]
"""The kinds of X and Y; −1 for a constant."""


@dataclass(frozen=True, slots=True)
class Planting:
    """What is planted.

    Attributes:
        entities: how many, of all kinds.
        relations: base relations.
        heads: relations that rules derive; with fewer than rules, some have two.
        removed, noise: shares of a head's derived facts; see above.
    """

    seed: int = 0
    entities: int = 3000
    relations: int = 24
    heads: int = 16
    removed: float = 0.3
    noise: float = 0.1


class Planted(NamedTuple):
    """A rule and the facts that it derives."""

    shape: str
    rule: Rule
    derived: frozenset[Triple]


class World(NamedTuple):
    """A graph: facts that nothing derives, the rules, which derived facts were removed, which noise was added."""

    base: frozenset[Triple]
    planted: tuple[Planted, ...]
    removed: frozenset[Triple]
    noise: frozenset[Triple]

    @property
    def facts(self) -> list[Triple]:
        """What a learner sees, sorted."""
        derived = {fact for planted in self.planted for fact in planted.derived}
        return sorted((self.base | derived | self.noise) - self.removed)


def plant(planting: Planting) -> World:
    """A graph and its rules; the same for the same planting.

    Raises:
        ValueError: there are too few entities, relations or heads for a rule of some shape.
    """
    return _Planter(planting).world()


class Links:
    """Facts by relation and either end."""

    def __init__(self, facts: Iterable[Triple]) -> None:
        self._of: dict[tuple[str, bool, str], set[str]] = {}
        self._ends: dict[tuple[str, bool], set[str]] = {}
        for s, r, o in facts:
            for back, here, there in ((False, s, o), (True, o, s)):
                self._of.setdefault((r, back, here), set()).add(there)
                self._ends.setdefault((r, back), set()).add(here)

    def of(self, relation: str, back: bool, entity: str) -> set[str]:
        """The objects of an entity's facts; its subjects, read back."""
        return self._of.get((relation, back, entity), set())

    def ends(self, relation: str, back: bool) -> set[str]:
        """The subjects of a relation; its objects, read back."""
        return self._ends.get((relation, back), set())


def derived(rule: Rule, links: Links) -> frozenset[Triple]:
    """The facts of its head that a rule derives; its atoms lead on from one another, the first from X."""
    first = rule.body[0]
    starts = links.ends(first.predicate, first.args[0] != X)
    constants = {t.name for atom in rule.atoms for t in atom.args if not t.is_variable}
    found = set()
    for x in starts - constants:
        for theta in _bound(rule.body, {X: x}, links, constants):
            if not any(_holds(c.atom, theta, links) for c in rule.conditions if isinstance(c, Negation)):
                s, o = (theta[t] if t.is_variable else t.name for t in rule.head[0].args)
                found.add((s, rule.head[0].predicate, o))
    return frozenset(found)


def _bound(
    atoms: Sequence[Atom], theta: dict[Term, str], links: Links, constants: set[str]
) -> Iterator[dict[Term, str]]:
    """The ways to bind all variables apart."""
    if not atoms:
        yield theta
        return
    atom, rest = atoms[0], atoms[1:]
    new = next((t for t in atom.variables if t not in theta), None)
    if new is None:
        if _holds(atom, theta, links):
            yield from _bound(rest, theta, links, constants)
        return
    back = atom.args[0] == new
    known = theta[atom.args[1 if back else 0]]
    for entity in links.of(atom.predicate, back, known) - constants - set(theta.values()):
        yield from _bound(rest, {**theta, new: entity}, links, constants)


def _holds(atom: Atom, theta: dict[Term, str], links: Links) -> bool:
    s, o = (t.name if not t.is_variable else theta.get(t, "") for t in atom.args)
    if not o:
        return bool(links.of(atom.predicate, False, s))
    return s in links.of(atom.predicate, True, o) if s else bool(links.of(atom.predicate, True, o))


class _Planter:
    def __init__(self, planting: Planting) -> None:
        self.planting, self.rng = planting, np.random.default_rng(planting.seed)
        size = planting.entities // KINDS
        self.kinds = [[f"e{k * size + i}" for i in range(size)] for k in range(KINDS)]
        self.leads: list[tuple[str, int, int]] = []
        for i in range(planting.relations):
            low, high = self.rng.integers(KINDS, size=2).tolist()
            self.leads.append((f"r{i}", low, high))

    def world(self) -> World:
        base = frozenset(self._base())
        links, planted, ends = Links(base), list[Planted](), list[Ends]()
        for shape in (shape for shape, times in SHAPES.items() for _ in range(times)):
            for _ in range(TRIES):
                head = len(ends) if len(ends) < self.planting.heads else int(self.rng.integers(len(ends)))
                rule, own = self._drawn(shape, f"h{head}")
                shared = head < len(ends)
                others = [p.rule for p in planted if p.rule.head == rule.head]
                if shared and (own != ends[head] or len(others) > 1 or _relations(rule) & _relations(others[0])):
                    continue
                if facts := self._kept(rule, links):
                    break
            else:
                raise ValueError(f"no {shape} rule planted in {TRIES} tries: too few entities, relations or heads")
            ends += [] if shared else [own]
            planted.append(Planted(shape, rule, facts))
        return World(base, tuple(planted), *self._spoiled(planted, ends))

    def _base(self) -> Iterator[Triple]:
        for k, kind in enumerate(self.kinds):
            for entity in kind:
                yield entity, "is", f"kind{k}"
                for a in range(ATTRIBUTES):
                    yield entity, f"a{a}", f"v{a}_{self.rng.integers(VALUES)}"
        for relation, low, high in self.leads:
            subjects, objects = self.kinds[low], self.kinds[high]
            share, mean = self.rng.uniform(0.4, 0.8), self.rng.uniform(1.5, 2.5)
            for i in self.rng.permutation(len(subjects))[: int(share * len(subjects))].tolist():
                for _ in range(self.rng.geometric(1 / mean)):
                    near = i - i % NEIGHBOURS + int(self.rng.integers(NEIGHBOURS))
                    far = int(self.rng.integers(len(objects)))
                    yield subjects[i], relation, objects[near % len(objects) if self.rng.random() < STAYING else far]

    def _drawn(self, shape: str, head: str) -> tuple[Rule, Ends]:
        """A rule of a shape, and its ends."""
        length = 1 if shape == "set" else 3 if shape == "path" and self.rng.random() < 0.5 else 2
        stops = [X, *(Term(f"Z{i}") for i in range(1, length)), Term("Z") if shape == "set" else Y]
        atoms, kinds = self._walk(stops)
        variables = list(zip(stops, kinds, strict=True))
        conditions: list[Negation] = []
        if shape == "tree":
            atoms.append(self._fact(variables, Term("W"), atoms))
        if shape in ("constant", "mixed"):
            atoms.append(self._property(variables))
        elif shape == "set":
            atoms.append(self._property(variables[1:]))
        if shape in ("negation", "mixed"):
            some = self.rng.random() < 0.5
            conditions.append(Negation(self._property(variables) if some else self._fact(variables, ANY, atoms)))
        other = Term(f"c{head}", False) if shape == "set" else Y
        rule = Rule((Atom(head, (X, other)),), tuple(atoms), conditions=tuple(conditions))
        return rule, (kinds[0], -1 if shape == "set" else kinds[-1])

    def _walk(self, stops: Sequence[Term]) -> tuple[list[Atom], list[int]]:
        """A path of distinct relations, and the kinds that it leads through."""
        while True:
            here = int(self.rng.integers(KINDS))
            atoms, kinds = list[Atom](), [here]
            for a, b in pairwise(stops):
                used = {atom.predicate for atom in atoms}
                ways = [(r, t, False) for r, s, t in self.leads if s == here and r not in used]
                ways += [(r, s, True) for r, s, t in self.leads if t == here and r not in used]
                if not ways:
                    break
                relation, here, back = ways[int(self.rng.integers(len(ways)))]
                atoms.append(Atom(relation, (b, a) if back else (a, b)))
                kinds.append(here)
            if len(atoms) == len(stops) - 1:
                return atoms, kinds

    def _fact(self, variables: Sequence[tuple[Term, int]], other: Term, atoms: Sequence[Atom]) -> Atom:
        """A relation that the atoms do not have, between one of some variables and another."""
        used = {atom.predicate for atom in atoms}
        ways = [
            Atom(r, (other, v) if back else (v, other))
            for v, k in variables
            for r, *sides in self.leads
            for back in (False, True)
            if sides[back] == k and r not in used
        ]
        return ways[int(self.rng.integers(len(ways)))]

    def _property(self, variables: Sequence[tuple[Term, int]]) -> Atom:
        variable, _ = variables[int(self.rng.integers(len(variables)))]
        a = int(self.rng.integers(ATTRIBUTES))
        return Atom(f"a{a}", (variable, Term(f"v{a}_{self.rng.integers(VALUES)}", False)))

    def _kept(self, rule: Rule, links: Links) -> frozenset[Triple]:
        """What the rule derives; nothing if that is too little or too much, or if a literal does not matter."""
        found = derived(rule, links)
        if not SIZES[0] <= len(found) <= SIZES[1]:
            return frozenset()
        needed = {v for v in (X, Y) if v in rule.head[0].args}
        for k in range(len(rule.body)):
            rest = rule.body[:k] + rule.body[k + 1 :]
            if _leads_on(rest) >= needed | _named(rule.conditions):
                less = Rule(rule.head, rest, conditions=rule.conditions)
                if len(derived(less, links)) < MATTERS * len(found):
                    return frozenset()
        for k in range(len(rule.conditions)):
            less = Rule(rule.head, rule.body, conditions=rule.conditions[:k] + rule.conditions[k + 1 :])
            if len(derived(less, links)) < MATTERS * len(found):
                return frozenset()
        return found

    def _spoiled(self, planted: Sequence[Planted], ends: Sequence[Ends]) -> tuple[frozenset[Triple], frozenset[Triple]]:
        """The facts that are removed, and the noise."""
        removed, noise = set[Triple](), set[Triple]()
        for head in range(self.planting.heads):
            own = [p for p in planted if p.rule.head[0].predicate == f"h{head}"]
            facts = sorted({fact for p in own for fact in p.derived})
            order = self.rng.permutation(len(facts))[: round(self.planting.removed * len(facts))]
            removed |= {facts[i] for i in order.tolist()}
            added = set[Triple]()
            other = own[0].rule.head[0].args[1]
            subjects = self.kinds[ends[head][0]]
            objects = self.kinds[ends[head][1]] if other.is_variable else [other.name]
            while len(added) < round(self.planting.noise * len(facts)):
                pair = subjects[self.rng.integers(len(subjects))], objects[self.rng.integers(len(objects))]
                added |= {(pair[0], f"h{head}", pair[1])} - set(facts)
            noise |= added
        return frozenset(removed), frozenset(noise)


def _relations(rule: Rule) -> set[str]:
    """The base relations of a rule."""
    return {atom.predicate for atom in rule.atoms if atom.predicate.startswith("r")}


def _leads_on(atoms: Sequence[Atom]) -> set[Term]:
    """The variables of a body whose every atom leads on from those before it, from X; none if one does not."""
    reached = {X}
    for atom in atoms:
        if not reached & set(atom.variables):
            return set()
        reached |= set(atom.variables)
    return reached if atoms and X in atoms[0].variables else set()


def _named(conditions: Iterable[object]) -> set[Term]:
    return {v for c in conditions if isinstance(c, Negation) for v in c.variables if v != ANY}
