"""Rules in columns: a graph has millions of them, of few forms.

    path      r(X, Y) ← d₁(X, Z₁), …, dₖ(Zₖ₋₁, Y)         dᵢ a relation read either way
    constant  r(X, c) ← b(X, d)   and   r(c, X) ← b(X, d)    b a relation read either way
    exists    r(X, c) ← b(X, Z)   and   r(c, X) ← b(X, Z)

These are the cyclic and acyclic rules of AnyBURL (Meilicke et al., IJCAI 2019). Distinct variables bind distinct entities, and
entities other than the constants. *Support* is the number of distinct bindings of the head's variables for which body and head
hold, *body size* that of those for which the body does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from neurosym.induction.kg.store import Float32, Int32, TripleStore
from neurosym.records import Atom, Rule, Term

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


@dataclass(frozen=True, slots=True)
class RuleColumns:
    """All rules learned from a store. Rule i is paths' if i < len(paths.head), else constants' number i − len(paths.head)."""

    paths: PathRules
    constants: ConstantRules

    def __len__(self) -> int:
        return len(self.paths.head) + len(self.constants.head)

    @property
    def support(self) -> Int32:
        return np.concatenate([self.paths.support, self.constants.support])

    @property
    def size(self) -> Int32:
        return np.concatenate([self.paths.size, self.constants.size])

    @property
    def smoothed(self) -> Float32:
        """support / (body size + 5): what a rule that was seen a few times only is trusted to."""
        return (self.support / (self.size + np.float32(DOUBT))).astype(np.float32)

    def rule(self, store: TripleStore, i: int) -> Rule:
        """Rule i as people write it, its confidence for its weight.

        >>> facts = [("a", "parent", "b"), ("b", "child", "a"), ("c", "parent", "d"), ("d", "child", "c")]
        >>> store = TripleStore.of(facts)
        >>> paths = PathRules(*(np.array(v, dtype=np.int32) for v in ([0], [[3]], [2], [2])))
        >>> none = ConstantRules(*(np.zeros(0, np.int32) for _ in range(4)))
        >>> str(RuleColumns(paths, none).rule(store, 0))
        '1 :: child(X, Y) :- parent(Y, X).'
        """
        count = len(self.paths.head)
        x, y = Term("X"), Term("Y")
        if i < count:
            path = [int(d) for d in self.paths.path[i] if d >= 0]
            stops = [x, *(Term(name) for name in _BETWEEN[: len(path) - 1]), y]
            body = tuple(_atom(store, d, stops[k], stops[k + 1]) for k, d in enumerate(path))
            head = _atom(store, 2 * int(self.paths.head[i]), x, y)
            support, size = int(self.paths.support[i]), int(self.paths.size[i])
        else:
            own = self.constants
            g, b = int(own.head[i - count]), int(own.body[i - count])
            csr = store.csr
            head = _atom(store, int(csr.direction_of[g]) ^ 1, x, _constant(store, int(csr.source[g])))
            if b < 0:
                body = (_atom(store, -1 - b, x, Term("Z")),)
            else:
                body = (_atom(store, int(csr.direction_of[b]) ^ 1, x, _constant(store, int(csr.source[b]))),)
            support, size = int(own.support[i - count]), int(own.size[i - count])
        return Rule((head,), body, weight=support / size)


def _constant(store: TripleStore, entity: int) -> Term:
    return Term(store.entities[entity], is_variable=False)


def _atom(store: TripleStore, direction: int, a: Term, b: Term) -> Atom:
    return Atom(store.relations[direction >> 1], (b, a) if direction & 1 else (a, b))
