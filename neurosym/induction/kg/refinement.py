"""The best literals to add to a body, found at once: all properties of a variable are counted in one pass over the body.

A property is a row, "has a d-fact with c", or a direction, "has a d-fact". Of each property of an X the pass adds up the
bindings of the body and those for which the head holds: these are body size and support of the body with the property, and the
rest those of the body with it forbidden. So all one-literal refinements on X cost one evaluation; for those on Y the pairs are
read backwards. For those on Z, half-way of a path of two atoms or beyond the only one of a set, bindings are counted once for
each way, which is a little too often. (Distinctness from c is not looked at here: what is chosen is measured like any other.)
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from neurosym.induction.kg.bodies import (
    Body,
    Literal,
    X,
    Y,
    chain,
    constant,
    is_pair,
    literal,
    path_of,
    swapped,
    variables_of,
)
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.engine import Room, solve
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.kernels import find, find_row
from neurosym.induction.kg.orders import Order, domain
from neurosym.induction.kg.store import Csr, Int32, Int64
from neurosym.induction.scores import wilson

_CAP: Final = 2_000_000


class Properties(NamedTuple):
    """Of each row and of each direction: bindings of the body that have it, and of these the ones for which the head holds."""

    rows: Int64
    directions: Int64


class Refiner:
    """Counts the properties of a body's variables on one store; for one thread."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator, self.store = evaluator, evaluator.store
        rows, directions = len(self.store.csr.source), self.store.directions
        self._sums = Properties(*(np.zeros((2, n), dtype=np.int64) for n in (rows, directions)))

    def all(self, body: Body, direction: int, c: int, most: int) -> list[Body]:
        """The body with one literal more, on X, on Y, or on Z if it has two atoms or one: of each `most`, see `best`."""
        found = self.best(body, direction, c, most)
        if is_pair(body):
            found += [swapped(other) for other in self.best(swapped(body), direction ^ 1, c, most)]
        path = path_of(body)
        if path is not None and len(path) == 2:
            found += self._half_way(path, direction, most)
        elif len(body) == 1 and len(variables_of(body)) == 2 and not is_pair(body) and not body[0].negated:
            found += self._beyond(body, direction, c, most)
        return found

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
        size, held, work = count_properties(csr, order, xs, direction, head, self.evaluator.room, _CAP, self._sums)
        return self._chosen(body, X, size, held, work, head, most)

    def _half_way(self, path: tuple[int, ...], direction: int, most: int) -> list[Body]:
        body = chain(path, Y)
        size, held, work = count_half_way(self.store.csr, *path, direction, self.evaluator.room, _CAP, self._sums)
        return self._chosen(body, variables_of(body)[-1], size, held, work, -1, most)

    def _beyond(self, body: Body, direction: int, c: int, most: int) -> list[Body]:
        head = self.store.row(direction ^ 1, c)
        there = 2 * body[0].relation + (body[0].b == X)
        size, held, work = count_beyond(self.store.csr, there, head, _CAP, self._sums)
        return self._chosen(body, variables_of(body)[-1], size, held, work, -1, most)

    def _chosen(self, body: Body, v: int, size: int, held: int, work: int, head: int, most: int) -> list[Body]:
        """The body with the best literals on v, by what was added up, which is wiped."""
        found: list[tuple[float, int, bool, int]] = []
        for kind, table in enumerate(self._sums):
            there = np.flatnonzero(table[0])
            sizes, supports = table[0, there], table[1, there]
            table[:, there] = 0
            if work < 0 or held == 0:
                continue
            both = [(supports, sizes, False), (held - supports, size - sizes, True)]
            for support, whole, negated in both:
                confidence = support / np.maximum(whole, 1)
                gain = support * (wilson(confidence, whole.astype(np.float64)) - held / size)
                first = np.argsort(-gain, kind="stable")[:most]
                wanted = [i for i in first if gain[i] > 0 and (kind == 1 or there[i] != head)]
                found += [(float(gain[i]), int(there[i]), negated, kind) for i in wanted]
        found.sort(key=lambda one: (-one[0], one[3], one[1], one[2]))
        return [(*body, self._literal(body, v, g, negated, kind)) for _, g, negated, kind in found[:most]]

    def _literal(self, body: Body, v: int, g: int, negated: bool, kind: int) -> Literal:
        """v is in row g, or has a fact of direction g."""
        csr = self.store.csr
        if kind == 0:
            return literal(int(csr.direction_of[g]), constant(int(csr.source[g])), v, negated)
        return literal(g, v, max(variables_of(body)[-1], Y) + 1, negated)


@compiled
def count_properties(
    csr: Csr,
    order: Order,
    xs: Int32,
    d: int,
    head: int,
    room: Room,
    cap: int,
    sums: Properties,
) -> tuple[int, int, int]:
    """Add up the bindings of the body by what X has, and those for which the head holds.

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
        add_properties(csr, x, n, hits, sums)
    return whole, right, work


@compiled
def count_half_way(
    csr: Csr,
    there: int,
    on: int,
    d: int,
    room: Room,
    cap: int,
    sums: Properties,
) -> tuple[int, int, int]:
    """`count_properties` of Z in there(X, Z), on(Z, Y) for the head d(X, Y): ways from X to Y are counted."""
    whole, right, work = 0, 0, 0
    for g in range(csr.first_row[on], csr.first_row[on + 1]):
        z = csr.source[g]
        r = find_row(csr, there ^ 1, z)
        if r < 0:
            continue
        work += (csr.start[r + 1] - csr.start[r]) * (csr.start[g + 1] - csr.start[g])
        if work > cap:
            return whole, right, -1
        n, hits = 0, 0
        for e in range(csr.start[r], csr.start[r + 1]):
            x = csr.target[e]
            if x == z:
                continue
            room.turn[0] += 1
            h = find_row(csr, d, x)
            if h >= 0:
                for f in range(csr.start[h], csr.start[h + 1]):
                    room.mark[csr.target[f]] = room.turn[0]
            for f in range(csr.start[g], csr.start[g + 1]):
                y = csr.target[f]
                if y != x and y != z:
                    n += 1
                    hits += room.mark[y] == room.turn[0]
        if n > 0:
            whole += n
            right += hits
            add_properties(csr, z, n, hits, sums)
    return whole, right, work


@compiled
def count_beyond(csr: Csr, there: int, head: int, cap: int, sums: Properties) -> tuple[int, int, int]:
    """`count_properties` of Z in there(X, Z) for the head that X is in a row: ways from X to Z are counted."""
    whole, right, work = 0, 0, 0
    for g in range(csr.first_row[there ^ 1], csr.first_row[(there ^ 1) + 1]):
        z = csr.source[g]
        n, hits = 0, 0
        work += csr.start[g + 1] - csr.start[g]
        if work > cap:
            return whole, right, -1
        for e in range(csr.start[g], csr.start[g + 1]):
            x = csr.target[e]
            if x != z:
                n += 1
                hits += find(csr.target, csr.start[head], csr.start[head + 1], x) >= 0
        if n > 0:
            whole += n
            right += hits
            add_properties(csr, z, n, hits, sums)
    return whole, right, work


@compiled
def add_properties(csr: Csr, x: int, n: int, hits: int, sums: Properties) -> None:
    """To all properties of x add n bindings, and the hits among them."""
    for i in range(csr.entity_start[x], csr.entity_start[x + 1]):
        r = csr.row_of[i]
        sums.directions[0, csr.direction_of[r]] += n
        sums.directions[1, csr.direction_of[r]] += hits
        for f in range(csr.start[r], csr.start[r + 1]):
            sums.rows[0, csr.back[f]] += n
            sums.rows[1, csr.back[f]] += hits
