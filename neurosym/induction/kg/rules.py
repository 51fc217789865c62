"""Rules in columns: a graph has millions of them, of few forms.

    path      r(X, Y) ← d₁(X, Z₁), …, dₖ(Zₖ₋₁, Y)         dᵢ a relation read either way
    constant  r(X, c) ← b(X, d)   and   r(c, X) ← b(X, d)    b a relation read either way
    exists    r(X, c) ← b(X, Z)   and   r(c, X) ← b(X, Z)
    set       r(X, c) ← any body of X                        see `neurosym.induction.kg.bodies`
    pairs     r(X, Y) ← any body of X and Y

The first three are the cyclic and acyclic rules of AnyBURL (Meilicke et al., IJCAI 2019). Distinct variables bind distinct
entities, and entities other than the constants. *Support* is the number of distinct bindings of the head's variables for which
body and head hold, *body size* that of those for which the body does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from neurosym.induction.kg.bodies import Body, written
from neurosym.induction.kg.evaluator import Members
from neurosym.induction.kg.store import Float32, Int32, TripleStore
from neurosym.logic import Atom, Rule, Term

DOUBT: Final = 5
"""Unseen counter-examples that a body is thought to have (Meilicke et al., 2019)."""
_BETWEEN: Final = "ZWVUTSRQPONMLKJIHGFEDCBA"


class PathRules(NamedTuple):
    """The head's relation, the path of directions padded with −1, support and body size; a row each."""

    head: Int32
    path: Int32
    support: Int32
    size: Int32


class ConstantRules(NamedTuple):
    """The head's row, the body's row (or −1 − b of `b(X, Z)`), support and body size; a row each, by head and body."""

    head: Int32
    body: Int32
    support: Int32
    size: Int32


class BodyRules(NamedTuple):
    """The head, a row for a set and a relation for pairs; which body; support and body size; a row each."""

    head: Int32
    body: Int32
    support: Int32
    size: Int32


NO_RULES: Final = BodyRules(*np.zeros((4, 0), dtype=np.int32))


@dataclass(frozen=True, slots=True)
class General:
    """Rules with bodies of any shape, which share them; of a set of pairs X is the head's subject."""

    sets: tuple[Members, ...] = ()
    set_rules: BodyRules = NO_RULES
    pairs: tuple[Body, ...] = ()
    pair_rules: BodyRules = NO_RULES
    distinct: bool = True


@dataclass(frozen=True, slots=True)
class RuleColumns:
    """All rules learned from a store, numbered one after another: paths, constants, sets, pairs."""

    paths: PathRules
    constants: ConstantRules
    general: General = General()

    def __len__(self) -> int:
        return sum(len(part.head) for part in self.parts)

    @property
    def parts(self) -> tuple[PathRules, ConstantRules, BodyRules, BodyRules]:
        return self.paths, self.constants, self.general.set_rules, self.general.pair_rules

    @property
    def support(self) -> Int32:
        return np.concatenate([part.support for part in self.parts])

    @property
    def size(self) -> Int32:
        return np.concatenate([part.size for part in self.parts])

    @property
    def smoothed(self) -> Float32:
        """support / (body size + 5): what a rule that was seen a few times only is trusted to."""
        return (self.support / (self.size + np.float32(DOUBT))).astype(np.float32)

    def relations(self, direction_of: Int32) -> Int32:
        """The relation of each rule's head, by the directions of the store's rows."""
        of_rows = [direction_of[part.head] >> 1 for part in (self.constants, self.general.set_rules)]
        return np.concatenate([self.paths.head, *of_rows, self.general.pair_rules.head])

    def rule(self, store: TripleStore, i: int) -> Rule:
        """Rule i as people write it, its confidence for its weight.

        >>> facts = [("a", "parent", "b"), ("b", "child", "a"), ("c", "parent", "d"), ("d", "child", "c")]
        >>> store = TripleStore.of(facts)
        >>> paths = PathRules(*(np.array(v, dtype=np.int32) for v in ([0], [[3]], [2], [2])))
        >>> none = ConstantRules(*(np.zeros(0, np.int32) for _ in range(4)))
        >>> str(RuleColumns(paths, none).rule(store, 0))
        '1 :: child(X, Y) :- parent(Y, X).'
        """
        x, y = Term("X"), Term("Y")
        whole, k = self._place(i)
        weight = int(whole.support[k]) / int(whole.size[k])
        if isinstance(whole, PathRules):
            path = [int(d) for d in whole.path[k] if d >= 0]
            stops = [x, *(Term(name) for name in _BETWEEN[: len(path) - 1]), y]
            body = tuple(_atom(store, d, stops[k], stops[k + 1]) for k, d in enumerate(path))
            return Rule((_atom(store, 2 * int(whole.head[k]), x, y),), body, weight)
        if whole is self.general.pair_rules:
            return pair_rule(store, int(whole.head[k]), self.general.pairs[int(whole.body[k])], weight)
        b = int(whole.body[k])
        if isinstance(whole, BodyRules):
            return set_rule(store, int(whole.head[k]), self.general.sets[b].body, weight)
        body = (_atom(store, -1 - b, x, Term("Z")) if b < 0 else _member(store, b),)
        return Rule((_member(store, int(whole.head[k])),), body, weight)

    def _place(self, i: int) -> tuple[PathRules | ConstantRules | BodyRules, int]:
        """The part that rule i is in, and where."""
        for part in self.parts:
            if i < len(part.head):
                return part, i
            i -= len(part.head)
        raise IndexError("no such rule")


def pair_rule(store: TripleStore, relation: int, body: Body, weight: float) -> Rule:
    """relation(X, Y) ← body, as people write it."""
    atoms, conditions = written(store, body)
    return Rule((_atom(store, 2 * relation, Term("X"), Term("Y")),), atoms, weight, conditions=conditions)


def set_rule(store: TripleStore, row: int, body: Body, weight: float) -> Rule:
    """r(X, c) ← body or r(c, X) ← body, whichever the row is, as people write it."""
    atoms, conditions = written(store, body)
    return Rule((_member(store, row),), atoms, weight, conditions=conditions)


def _member(store: TripleStore, row: int) -> Atom:
    """That X is in a row of the store."""
    c = Term(store.entities[int(store.csr.source[row])], is_variable=False)
    return _atom(store, int(store.csr.direction_of[row]) ^ 1, Term("X"), c)


def _atom(store: TripleStore, direction: int, a: Term, b: Term) -> Atom:
    return Atom(store.relations[direction >> 1], (b, a) if direction & 1 else (a, b))
