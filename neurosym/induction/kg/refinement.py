"""The best literal to add to a body, found at once: all properties of X are counted in one pass over the body.

A property is a row, "has a d-fact with c". Of each property g of an X the pass adds up the bindings of the body and those for
which the head holds: these are body size and support of the body with g, and the rest those of the body with g forbidden. So
all one-literal refinements on X cost one evaluation; for those on Y the pairs are read backwards. (Distinctness from c is not
looked at here: what is chosen is measured like any other body.)
"""

from __future__ import annotations

from typing import Final

import numpy as np

from neurosym.induction.kg.bodies import Body, Literal, X, constant, is_pair, literal
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.engine import Room, solve
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.kernels import find, find_row
from neurosym.induction.kg.orders import Order, domain
from neurosym.induction.kg.store import Csr, Int32, Int64
from neurosym.induction.scores import wilson

_CAP: Final = 2_000_000


class Refiner:
    """Counts the properties of X on one store; for one thread."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator, self.store = evaluator, evaluator.store
        self._size, self._held = np.zeros((2, len(self.store.csr.source)), dtype=np.int64)

    def best(self, body: Body, direction: int, c: int, most: int) -> list[Body]:
        """The body with one literal on X more, those by which most is gained for the head first.

        Gain is support times what the lower bound of the confidence exceeds the body's confidence by. Empty if the body needs
        too much work.

        Args:
            direction, c: the head d(X, Y), or of a set d(X, c).
        """
        order = self.evaluator.order(body)
        if order is None:
            return []
        xs, csr = domain(self.store, body), self.store.csr
        head = -1 if is_pair(body) else self.store.row(direction ^ 1, c)
        size, held, work = count_properties(
            csr, order, xs, direction, head, self.evaluator.room, _CAP, self._size, self._held
        )
        rows = np.flatnonzero(self._size)
        sizes, supports = self._size[rows], self._held[rows]
        self._size[rows] = self._held[rows] = 0
        if work < 0 or held == 0:
            return []
        both = [(rows, supports, sizes, False), (rows, held - supports, size - sizes, True)]
        found: list[tuple[float, int, bool]] = []
        for g, support, whole, negated in both:
            confidence = support / np.maximum(whole, 1)
            gain = support * (wilson(confidence, whole.astype(np.float64)) - held / size)
            first = np.argsort(-gain, kind="stable")[:most]
            found += [(float(gain[i]), int(g[i]), negated) for i in first if gain[i] > 0 and g[i] != head]
        found.sort(key=lambda one: (-one[0], one[1], one[2]))
        return [(*body, self._literal(g, negated)) for _, g, negated in found[:most]]

    def _literal(self, g: int, negated: bool) -> Literal:
        """X is in row g."""
        csr = self.store.csr
        return literal(int(csr.direction_of[g]), constant(int(csr.source[g])), X, negated)


@compiled
def count_properties(
    csr: Csr, order: Order, xs: Int32, d: int, head: int, room: Room, cap: int, size: Int64, held: Int64
) -> tuple[int, int, int]:
    """To `size` and `held`, by row, add the bindings of the body whose X is in the row, and those for which the head holds.

    The head is d(X, Y), or that X is in the row `head` if it is not −1. Returns how many bindings there are, for how many the
    head holds, and the facts looked at, −1 if these would exceed `cap`.
    """
    whole, right, work = 0, 0, 0
    for x in xs:
        n, looked = solve(csr, order, x, -1, -1, room, cap - work)
        if looked < 0:
            return whole, right, -1
        work += looked + n
        if n == 0:
            continue
        hits = 0
        if head >= 0:
            hits = 1 if find(csr.target, csr.start[head], csr.start[head + 1], x) >= 0 else 0
        else:
            g = find_row(csr, d, x)
            if g >= 0:
                for e in range(csr.start[g], csr.start[g + 1]):
                    hits += room.mark[csr.target[e]] == room.turn[0]
        whole += n
        right += hits
        for i in range(csr.entity_start[x], csr.entity_start[x + 1]):
            r = csr.row_of[i]
            for f in range(csr.start[r], csr.start[r + 1]):
                size[csr.back[f]] += n
                held[csr.back[f]] += hits
    return whole, right, work
