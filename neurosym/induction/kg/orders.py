"""The order in which a body's literals are looked at, as a table that compiled loops read.

From X on, each step either *binds* a variable to the targets of a row, or *tests* what is bound. What leads to Y comes first,
because once X and Y are bound one way to bind the rest is enough. Tests come as soon as their variables are bound, and a
variable is tested for having any fact of the directions that are to be followed from it later.

Distinct variables bind distinct entities, none of them a constant of the body (Rule.distinct), unless *homomorphic* bodies are
asked for. Then what comes after a variable may depend on it and X alone, and the entities that it was bound to are visited once
for each X, not once for each way that leads there (`ONCE`): a path is evaluated by its entities, not by its walks.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurosym.errors import InductionError
from neurosym.induction.kg.bodies import DIFFERENT, LESS, Body, Literal, X, Y, constant, free_variables, is_connected
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.kernels import find_row
from neurosym.induction.kg.store import Csr, Int32, TripleStore

BIND, BIND_IN, TEST, IN, HAS, APART, BELOW = range(7)
"""Bind v to targets of (direction, u); bind v to members of a row; test direction(u, v); u in a row; u has the direction;
u ≠ v; u < v."""
OPERATION, U, V, WHAT, NEGATED, BEFORE, ONCE = range(7)
"""Columns of a step: what to do, variables, direction or row, whether the test is negated, the last step that binds before it
(−1: none), the number of the list of entities visited once (−1: none)."""


class Order(NamedTuple):
    """Steps, variables, the step that binds Y (−1 for a set), entities that no variable may bind, whether variables differ."""

    steps: Int32
    variables: int
    binds_y: int
    constants: Int32
    distinct: bool
    numbers: NDArray[np.float64]


class _Impossible(Exception):
    """A constant has no fact that a body asks for."""


def order_of(
    store: TripleStore, body: Body, start: int, distinct: bool, numbers: NDArray[np.float64]
) -> tuple[Order, dict[int, int]] | None:
    """The order of a body whose `start` (X or Y) is bound, and where its variables are in it; None if it cannot hold because a
    constant has no such fact.

    Args:
        numbers: what entities are worth where `<` compares them (`values_of`).

    Raises:
        InductionError: its variables do not hang together.
    """
    if not is_connected(body):
        raise InductionError("the variables of a body must be connected through literals that are not negated")
    try:
        ordering = _Ordering(store, body, start, distinct)
        return ordering.order(numbers), ordering.slots
    except _Impossible:
        return None


def values_of(store: TripleStore) -> NDArray[np.float64]:
    """The entities' names as numbers; NaN where they are none."""
    found = np.full(len(store.entities), np.nan)
    for i, name in enumerate(store.entities):
        try:
            found[i] = float(name)
        except ValueError:
            continue
    return found


def domain(store: TripleStore, body: Body, start: int = X) -> Int32:
    """Entities among which all are that X can be, ascending: all that a literal of X allows, or all that are reached backwards
    from a constant, whichever seems fewer.

    Raises:
        InductionError: X occurs in no literal that is not negated.
    """
    best: tuple[float, Int32, list[int]] | None = None
    for literal in _positive(body):
        for v, direction, other in (
            (literal.a, 2 * literal.relation, literal.b),
            (literal.b, 2 * literal.relation + 1, literal.a),
        ):
            if v < 0 or (other >= 0 and v != start):
                continue
            found = store.sources(direction) if other >= 0 else store.targets(direction ^ 1, constant(other))
            way = _way(body, v, start)
            size = float(len(found))
            for d in way or ():
                size *= width(store, d)
            if way is not None and (best is None or size < best[0]):
                best = size, found, way
    if best is None:
        raise InductionError("the head's variable occurs in no literal that is not negated")
    _, found, way = best
    for d in way:
        found = np.unique(spread(store.csr, found, d))
    return found


def _way(body: Body, v: int, goal: int) -> list[int] | None:
    """The directions that lead from one variable to another by the fewest literals."""
    ways: dict[int, list[int]] = {v: []}
    queue = deque([v])
    while queue and goal not in ways:
        here = queue.popleft()
        for literal in _positive(body):
            for a, b, back in ((literal.a, literal.b, 0), (literal.b, literal.a, 1)):
                if a == here and b >= 0 and b not in ways:
                    ways[b] = [*ways[a], 2 * literal.relation + back]
                    queue.append(b)
    return ways.get(goal)


def width(store: TripleStore, direction: int) -> float:
    """The mean number of targets of the entities that have any."""
    csr = store.csr
    low, high = csr.first_row[direction : direction + 2]
    return float((csr.start[high] - csr.start[low]) / max(1, high - low))


@compiled
def spread(csr: Csr, xs: Int32, direction: int) -> Int32:
    """The targets of some entities, one after another."""
    n = 0
    for x in xs:
        g = find_row(csr, direction, x)
        if g >= 0:
            n += csr.start[g + 1] - csr.start[g]
    found = np.empty(n, dtype=np.int32)
    n = 0
    for x in xs:
        g = find_row(csr, direction, x)
        if g >= 0:
            for e in range(csr.start[g], csr.start[g + 1]):
                found[n] = csr.target[e]
                n += 1
    return found


def _positive(body: Body) -> list[Literal]:
    return [literal for literal in body if not literal.negated and literal.relation >= 0]


class _Ordering:
    def __init__(self, store: TripleStore, body: Body, start: int, distinct: bool) -> None:
        self.store, self.body, self.distinct = store, body, distinct
        self.start, self.goal = start, (Y if start == X else X)
        self.slots = {start: 0, self.goal: 1}
        self.left = list(body)
        self.bound: set[int] = set()
        self.steps: list[list[int]] = []
        self.before = -1
        self.far = self._distances()

    def order(self, numbers: NDArray[np.float64]) -> Order:
        self._bound(self.start)
        while any(not literal.negated and literal.relation >= 0 for literal in self.left):
            self._bind(self._next())
        lists = self._visited_once()
        table = np.array(self.steps, dtype=np.int32).reshape(-1, 7)
        for i, k in enumerate(lists):
            table[k, ONCE] = i
        constants = sorted({constant(t) for literal in self.body for t in (literal.a, literal.b) if t < 0})
        goal = [k for k, step in enumerate(self.steps) if step[OPERATION] <= BIND_IN and step[V] == 1]
        own = np.array(constants if self.distinct else [], dtype=np.int32)
        return Order(table, max(2, len(self.slots)), goal[0] if goal else -1, own, self.distinct, numbers)

    def _distances(self) -> dict[int, int]:
        """Of each variable the number of literals between it and the goal."""
        far, queue = {self.goal: 0}, deque([self.goal])
        while queue:
            v = queue.popleft()
            for literal in _positive(self.body):
                if v in literal.variables:
                    for other in literal.variables:
                        if other not in far:
                            far[other] = far[v] + 1
                            queue.append(other)
        return far

    def _next(self) -> tuple[Literal, int]:
        """The literal to follow, and the variable to follow it from: towards the goal, then where it branches least."""
        choices = []
        for i, literal in enumerate(self.left):
            if literal.negated or literal.relation < 0:
                continue
            known = [v for v in literal.variables if v in self.bound]
            free = [v for v in literal.variables if v not in self.bound]
            if len(free) == 1 and (known or min(literal.a, literal.b) < 0):
                towards = self.goal not in self.bound and self.far.get(free[0], 99)
                choices.append(
                    (
                        towards or 0,
                        width(self.store, 2 * literal.relation + (literal.a == free[0])),
                        i,
                        known[0] if known else -1,
                    )
                )
        _, _, i, u = min(choices)
        return self.left.pop(i), u

    def _bind(self, chosen: tuple[Literal, int]) -> None:
        literal, u = chosen
        free = next(v for v in literal.variables if v not in self.bound)
        direction = 2 * literal.relation + (literal.a == free)
        v = self.slots.setdefault(free, len(self.slots))
        if u >= 0:
            step = [BIND, self.slots[u], v, direction, 0, self.before, -1]
        else:
            step = [
                BIND_IN,
                0,
                v,
                self._row(direction, literal.b if literal.a == free else literal.a),
                0,
                self.before,
                -1,
            ]
        self.before = len(self.steps)
        self.steps.append(step)
        self._bound(free)

    def _bound(self, variable: int) -> None:
        """A variable is bound: what can be tested now is."""
        self.bound.add(variable)
        later = []
        for literal in self.left:
            if not self._test(literal):
                later.append(literal)
        self.left = later
        u = self.slots[variable]
        for literal in later:
            if variable in literal.variables and not literal.negated and literal.relation >= 0:
                self._add(HAS, u, 0, 2 * literal.relation + (literal.a != variable), False)

    def _test(self, literal: Literal) -> bool:
        """Add the test of a literal if its variables are bound."""
        local = free_variables(literal, self.body) if literal.negated else ()
        if not {v for v in literal.variables if v not in local} <= self.bound:
            return False
        a, b = literal.a, literal.b
        if literal.relation == DIFFERENT or literal.relation == LESS:
            if min(a, b) < 0:
                raise InductionError("a comparison with a constant is not evaluated; compare two variables")
            self._add(
                APART if literal.relation == DIFFERENT else BELOW, self.slots[a], self.slots[b], 0, literal.negated
            )
        elif local:
            known = b if a in local else a
            if known >= 0:
                self._add(HAS, self.slots[known], 0, 2 * literal.relation + (known == b), True)
            elif self.store.row(2 * literal.relation + (known == b), constant(known)) >= 0:
                raise _Impossible
        elif a >= 0 and b >= 0:
            self._add(TEST, self.slots[a], self.slots[b], 2 * literal.relation, literal.negated)
        elif a < 0 and b < 0:
            held = constant(b) in self.store.targets(2 * literal.relation, constant(a))
            if held == literal.negated:
                raise _Impossible
        else:
            direction = 2 * literal.relation + (a >= 0)  # read from the constant on
            if literal.negated and self.store.row(direction, constant(min(a, b))) < 0:
                return True
            self._add(IN, self.slots[max(a, b)], 0, self._row(direction, min(a, b)), literal.negated)
        return True

    def _row(self, direction: int, term: int) -> int:
        row = self.store.row(direction, constant(term))
        if row < 0:
            raise _Impossible
        return row

    def _add(self, operation: int, u: int, v: int, what: int, negated: bool) -> None:
        step = [operation, u, v, what, int(negated), self.before, -1]
        if step not in self.steps:
            self.steps.append(step)

    def _visited_once(self) -> list[int]:
        """The steps after which nothing depends on variables bound between X and theirs; for homomorphic pairs only."""
        if self.distinct:
            return []
        found, bound = [], {0}
        for k, step in enumerate(self.steps):
            if step[OPERATION] > BIND_IN:
                continue
            if 1 in bound:
                break
            own, new = {0, step[V]}, set()
            free = True
            for later in self.steps[k + 1 :]:
                if later[OPERATION] <= BIND_IN:
                    new.add(later[V])
                read = {later[U]} if later[OPERATION] in (BIND, IN, HAS) else set()
                if later[OPERATION] in (TEST, APART, BELOW):
                    read = {later[U], later[V]}
                free &= read <= own | new
            if free:
                found.append(k)
            bound.add(step[V])
        return found
