r"""New bodies from facts and from other bodies: the operators of the evolution.

Nothing but a crossing is made up: what an operator adds holds for a fact that the body is to explain (or, negated, does not,
and holds where the body is wrong), so that little time is spent on bodies without support.

    seed        a walk from x to y, or from x to a constant or anywhere, of a fact h(x, y)
    refine      the literals that gain most (`neurosym.induction.kg.refinement`): once for each parent
    extend      a literal that holds of a variable's entity in one such fact: with a constant, with a new variable, a cycle
    forbid      a negated literal that holds where the body is wrong and not where it is right
    drop        a literal less, if the rest hangs together
    generalise  a variable for a constant
    specialise  another constant that stands in its place, for one that fewer entities have (a subclass for a class)
    exchange    a relation for another one between the same entities
    cross       some literals of each of two parents, joined at a variable

The chromosome is the body; its genes are the literals (Wu et al., ICDE 2022, whose operators exchange predicates, variables and
atoms at random).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from neurosym.induction.kg.bodies import (
    Body,
    X,
    Y,
    chain,
    constant,
    freed,
    is_connected,
    is_pair,
    literal,
    renamed,
    variables_of,
)
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.orders import domain
from neurosym.induction.kg.refinement import Refiner
from neurosym.induction.kg.store import Csr, Int32, Int64

Fact = tuple[int, int, int]
"""Direction, x, y."""
WORK: Final = 200_000
_TRIES: Final = 4
_CHOICES: Final = 8
SEEDS: Final = ("pair", "set", "some")
REFINE: Final = "refine"
CHANGES: Final = ("extend", "forbid", "drop", "generalise", "specialise", "exchange", "cross")


@compiled
def common_neighbour(csr: Csr, a: int, b: int, mark: Int64, turn: int, chance: float) -> int:
    """An entity that facts of a and facts of b lead to, by the chance of the facts; −1 if there is none."""
    for i in range(csr.entity_start[a], csr.entity_start[a + 1]):
        r = csr.row_of[i]
        for e in range(csr.start[r], csr.start[r + 1]):
            mark[csr.target[e]] = turn
    total = 0
    for i in range(csr.entity_start[b], csr.entity_start[b + 1]):
        r = csr.row_of[i]
        for e in range(csr.start[r], csr.start[r + 1]):
            z = csr.target[e]
            total += mark[z] == turn and z != a and z != b
    wanted = int(chance * total)
    for i in range(csr.entity_start[b], csr.entity_start[b + 1]):
        r = csr.row_of[i]
        for e in range(csr.start[r], csr.start[r + 1]):
            z = csr.target[e]
            if mark[z] == turn and z != a and z != b:
                if wanted == 0:
                    return int(z)
                wanted -= 1
    return -1


@compiled
def directions_between(csr: Csr, a: int, b: int) -> Int32:
    """The directions that lead from a to b."""
    found = np.empty(csr.entity_start[a + 1] - csr.entity_start[a], dtype=np.int32)
    n = 0
    for i in range(csr.entity_start[a], csr.entity_start[a + 1]):
        r = csr.row_of[i]
        low, high = csr.start[r], csr.start[r + 1]
        at = low + np.searchsorted(csr.target[low:high], b)
        if at < high and csr.target[at] == b:
            found[n] = csr.direction_of[r]
            n += 1
    return found[:n]


@compiled
def random_fact(csr: Csr, a: int, by_direction: float, chance: float) -> tuple[int, int]:
    """A fact of a, a direction with equal chance and then one of its facts: (direction, target); −1 where a has none."""
    low, high = csr.entity_start[a], csr.entity_start[a + 1]
    if low == high:
        return -1, -1
    r = csr.row_of[low + int(by_direction * (high - low))]
    first, last = csr.start[r], csr.start[r + 1]
    return csr.direction_of[r], csr.target[first + int(chance * (last - first))]


class Growth:
    """The operators on one store, with their own chances; for one thread.

    Args:
        most: literals that a body may have.
    """

    def __init__(self, evaluator: Evaluator, most: int, rng: np.random.Generator) -> None:
        self.evaluator, self.store, self.most, self.rng = evaluator, evaluator.store, most, rng
        self.refiner = Refiner(evaluator)
        self._mark = np.full(len(self.store.entities), -1, dtype=np.int64)
        self._turn = 0

    def seed(self, kind: str, fact: Fact) -> Body | None:
        """A walk from x ("pair": to y, "set": to a constant, "some": anywhere), longer than those that are all known."""
        _, x, y = fact
        if kind == "pair":
            return self._between(x, y, int(self.rng.integers(min(3, self.most), self.most + 1)))
        return self._from(x, int(self.rng.integers(min(2, self.most), self.most + 1)), kind == "set")

    def change(self, kind: str, body: Body, fact: Fact, other: Body) -> Body | None:
        """One of the operators on a body that explains the fact; None if it has nothing to do here."""
        operators: dict[str, Callable[[], Body | None]] = {
            "extend": lambda: self.extended(body, fact),
            "forbid": lambda: self.forbidding(body, fact),
            "drop": lambda: self.dropped(body),
            "generalise": lambda: self.generalised(body),
            "specialise": lambda: self.specialised(body, fact),
            "exchange": lambda: self.exchanged(body, fact),
            "cross": lambda: self.crossed(body, other),
        }
        found = operators[kind]()
        return found if found and found != body and len(found) <= self.most and is_connected(found) else None

    def example(self, body: Body, direction: int, c: int) -> Fact | None:
        """A fact of a direction, of a set with the target c, that a body explains; None if none is found soon."""
        xs = domain(self.store, body) if is_pair(body) else self.store.targets(direction ^ 1, c)
        order = self.evaluator.order(body)
        for _ in range(4 * _TRIES if order is not None and len(xs) else 0):
            x = int(xs[int(self.rng.integers(len(xs)))])
            found = self.evaluator.ys(order, x, WORK)
            if found is None or not len(found):
                continue
            if not is_pair(body):
                return direction, x, c
            right = np.intersect1d(found, self.store.targets(direction, x))
            if len(right):
                return direction, x, self._one_of(right)
        return None

    def refined(self, body: Body, direction: int, c: int) -> list[Body]:
        """With one of the literals that gain most, on each of its variables that are looked at."""
        if len(body) >= self.most:
            return []
        return self.refiner.all(body, direction, c, _CHOICES)

    def extended(self, body: Body, fact: Fact) -> Body | None:
        """With one literal more that holds in the fact."""
        theta = self.binding(body, fact)
        if theta is None or len(body) >= self.most:
            return None
        v = self._one_of(sorted(theta))
        d, target = random_fact(self.store.csr, theta[v], *self.rng.random(2))
        if d < 0 or (v == X and (d, target) == (fact[0], fact[2])):
            return None
        for other, entity in theta.items():
            if entity == target and other != v:
                return (*body, literal(d, v, other))
        if self.rng.random() < 0.6:
            return (*body, literal(d, v, constant(target)))
        return (*body, literal(d, v, _new(body)))

    def forbidding(self, body: Body, fact: Fact) -> Body | None:
        """With a negated literal that holds where the body is wrong, and not in the fact."""
        theta, wrong = self.binding(body, fact), self._mistake(body, fact[0], fact[2])
        if theta is None or wrong is None or len(body) >= self.most:
            return None
        v = self._one_of(sorted(theta))
        d, target = random_fact(self.store.csr, wrong[v], *self.rng.random(2))
        if d < 0:
            return None
        if self.rng.random() < 0.5 and self.store.row(d, theta[v]) < 0:
            return (*body, literal(d, v, _new(body), True))
        if target in self.store.targets(d, theta[v]):
            return None
        return (*body, literal(d, v, constant(target), True))

    def dropped(self, body: Body) -> Body:
        """With one literal less."""
        k = int(self.rng.integers(len(body)))
        return body[:k] + body[k + 1 :]

    def generalised(self, body: Body) -> Body | None:
        """With a variable for one of its constants."""
        places = freed(body)
        return places[int(self.rng.integers(len(places)))] if places else None

    def specialised(self, body: Body, fact: Fact) -> Body | None:
        """With a rarer constant in the place of one, of which the fact holds, too."""
        places = [k for k, p in enumerate(body) if (p.a < 0) != (p.b < 0) and not p.negated and p.relation >= 0]
        theta = self.binding(body, fact)
        if not places or theta is None:
            return None
        k = self._one_of(places)
        p = body[k]
        v, c = max(p.a, p.b), constant(min(p.a, p.b))
        if v not in theta:
            return None
        d = 2 * p.relation + (p.a < 0)
        others = [int(o) for o in self.store.targets(d, theta[v]) if self._members(d, int(o)) < self._members(d, c)]
        if not others:
            return None
        return (*body[:k], literal(d, v, constant(self._one_of(others))), *body[k + 1 :])

    def exchanged(self, body: Body, fact: Fact) -> Body | None:
        """With another relation between the same two entities."""
        theta = self.binding(body, fact)
        places = [
            k for k, p in enumerate(body) if min(p.a, p.b) >= 0 and p.a != p.b and p.relation >= 0 and not p.negated
        ]
        if theta is None or not places:
            return None
        k = self._one_of(places)
        p = body[k]
        between = [int(d) for d in directions_between(self.store.csr, theta[p.a], theta[p.b])]
        between = [d for d in between if d != 2 * p.relation and not ((p.a, p.b) == (X, Y) and d == fact[0])]
        return (*body[:k], literal(self._one_of(between), p.a, p.b), *body[k + 1 :]) if between else None

    def crossed(self, body: Body, other: Body) -> Body:
        """Some literals of each parent; the variables of the second that are not the head's are its own, but for one."""
        inner = [v for v in variables_of(other) if v > Y]
        mine = [v for v in variables_of(body) if v > Y]
        names = {v: _new(body) + i for i, v in enumerate(inner)}
        if inner and mine:
            names[self._one_of(inner)] = self._one_of(mine)
        parts = [list(body), list(renamed(other, names))]
        for part in parts:
            while len(part) > 1 and self.rng.random() < 0.5:
                part.pop(int(self.rng.integers(len(part))))
        return tuple(dict.fromkeys((*parts[0], *parts[1])))

    def binding(self, body: Body, fact: Fact) -> dict[int, int] | None:
        """The entities of one way in which the body holds for the fact; None if it does not, or that needs too much work."""
        return self.evaluator.binding(body, fact[1], fact[2], WORK)

    def _mistake(self, body: Body, direction: int, y: int) -> dict[int, int] | None:
        """A binding of the body where the head is not known to hold; None if none is found soon."""
        xs = domain(self.store, body)
        order = self.evaluator.order(body)
        for _ in range(_TRIES if order is not None else 0):
            x = int(xs[int(self.rng.integers(len(xs)))])
            found = self.evaluator.ys(order, x, WORK)
            if found is None or not len(found):
                continue
            if not is_pair(body):
                if y not in self.store.targets(direction, x):
                    return self.binding(body, (direction, x, y))
                continue
            wrong = np.setdiff1d(found, self.store.targets(direction, x))
            if len(wrong):
                return self.binding(body, (direction, x, int(wrong[int(self.rng.integers(len(wrong)))])))
        return None

    def _between(self, x: int, y: int, length: int) -> Body | None:
        """A path from x to y of distinct entities, at least two steps."""
        path: list[int] = []
        here, seen = x, {x, y}
        for _ in range(length - 2):
            d, here = random_fact(self.store.csr, here, *self.rng.random(2))
            if d < 0 or here in seen:
                return None
            seen.add(here)
            path.append(d)
        self._turn += 1
        z = common_neighbour(self.store.csr, here, y, self._mark, self._turn, self.rng.random())
        if z < 0 or z in seen:
            return None
        to, last = directions_between(self.store.csr, here, z), directions_between(self.store.csr, z, y)
        return chain([*path, self._one_of(to), self._one_of(last)], Y)

    def _from(self, x: int, length: int, to_constant: bool) -> Body | None:
        """A path from x to an entity, which is a constant or any."""
        path: list[int] = []
        here, seen = x, {x}
        for _ in range(length):
            d, here = random_fact(self.store.csr, here, *self.rng.random(2))
            if d < 0 or here in seen:
                return None
            seen.add(here)
            path.append(d)
        return chain(path, constant(here) if to_constant else length + 1)

    def _members(self, direction: int, entity: int) -> int:
        return len(self.store.targets(direction ^ 1, entity))

    def _one_of(self, choices: list[int] | Int32) -> int:
        return int(choices[int(self.rng.integers(len(choices)))])


def _new(body: Body) -> int:
    """A variable that the body does not have."""
    return max(variables_of(body)[-1], Y) + 1
