"""Any body and any rule, measured: the typed face of `neurosym.induction.kg.engine`.

Measures of a canonical body are kept, so that it is evaluated once however many heads and children ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from neurosym.errors import InductionError
from neurosym.induction.kg.bodies import (
    LESS,
    Body,
    Literal,
    X,
    Y,
    canonical,
    canonical_pair,
    constant,
    is_pair,
    numbered,
    path_of,
)
from neurosym.induction.kg.engine import (
    count_heads,
    count_objects,
    count_pairs,
    each_of_order,
    each_of_path,
    list_members,
    no_sums,
    room_for,
    solve,
    tally_for,
)
from neurosym.induction.kg.kernels import NO_LIMIT, count_path, space_for
from neurosym.induction.kg.orders import Order, domain, order_of, values_of
from neurosym.induction.kg.store import Int32, Int64, TripleStore
from neurosym.logic import Rule

WORK: Final = 50_000_000
"""Facts that may be looked at to measure one body."""
_NOTHING: Final = np.zeros(0, dtype=np.int32)
_NO_EXCEPTIONS: Final = np.zeros((0, 2), dtype=np.int32)


class RuleCounts(NamedTuple):
    """Of one rule: distinct bindings of the head's variables for which body and head hold, for which the body does, and of
    these the ones whose subject has a fact of the head's relation, whose object is in one."""

    support: int
    size: int
    subjects: int
    objects: int


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """A set of pairs (X, Y), measured for the heads d(X, Y) of all directions d."""

    body: Body
    size: int
    support: Int64
    subjects: Int64
    objects: Int64

    def counts(self, direction: int) -> RuleCounts:
        """Of the rule d(X, Y) ← body."""
        parts = (self.support, self.subjects, self.objects)
        support, subjects, objects = (int(part[direction]) for part in parts)
        back = direction & 1  # of a relation read backwards X is the object
        return RuleCounts(support, self.size, *((objects, subjects) if back else (subjects, objects)))


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """A set of entities, ascending, and its exceptions (x, w): x is in the set of no rule with the constant w.

    `rows` are, ascending, the rows (d, c) that some member is in, `support` how many: that of the rule d⁻¹(X, c).
    """

    body: Body
    members: Int32
    exceptions: Int32
    rows: Int32
    support: Int32
    distinct: bool

    def supports(self, rows: Int32 | Int64) -> Int64:
        """The support of d⁻¹(X, c) for rows (d, c)."""
        if not len(self.rows):
            return np.zeros(len(rows), dtype=np.int64)
        at = np.searchsorted(self.rows, rows)
        at[at == len(self.rows)] = 0
        return np.where(self.rows[at] == rows, self.support[at], 0).astype(np.int64)

    def sizes(self, cs: Int32) -> Int64:
        """The body sizes of rules with these constants in the head."""
        size = np.full(len(cs), len(self.members), dtype=np.int64)
        if self.distinct:
            size -= np.isin(cs, self.members)
            lost, times = np.unique(self.exceptions[:, 1], return_counts=True)
            at = np.searchsorted(lost, cs)
            at[at == len(lost)] = 0
            if len(lost):
                size -= np.where(lost[at] == cs, times[at], 0)
        return size

    def without(self, c: int) -> Int32:
        """The members for rules with the constant c in the head."""
        if not self.distinct:
            return self.members
        lost = np.append(self.exceptions[self.exceptions[:, 1] == c, 0], np.int32(c))
        return self.members[~np.isin(self.members, lost)]


class Evaluator:
    """Measures bodies on a store; for one thread.

    Args:
        distinct: distinct variables bind distinct entities, none of them a constant of the rule.
        cap: facts that may be looked at for one body; one that needs more is not measured.
        kept: bodies whose measures are kept.
    """

    def __init__(self, store: TripleStore, distinct: bool = True, cap: int = WORK, kept: int = 4096) -> None:
        self.store, self.distinct, self.cap, self.kept = store, distinct, cap, kept
        self.room = room_for(len(store.entities))
        self._space = space_for(len(store.entities))
        self._times = np.zeros(len(store.entities), dtype=np.int32)
        self._tally = tally_for(len(store.csr.source))
        self._pairs: dict[Body, Pairs | None] = {}
        self._sets: dict[Body, Members | None] = {}
        self._numbers = np.zeros(0)

    def order(self, body: Body, start: int = X) -> Order | None:
        """See `neurosym.induction.kg.orders.order_of`."""
        found = self._ordered(body, start)
        return None if found is None else found[0]

    def binding(self, body: Body, x: int, y: int, cap: int) -> dict[int, int] | None:
        """The entities of one way to bind the variables for x, and for y if it is a set of pairs; None if there is none, or it
        needs more work than the cap."""
        found = self._ordered(body)
        if found is None:
            return None
        order, slots = found
        n, work = solve(self.store.csr, order, x, y if is_pair(body) else -1, -1, self.room, cap)
        if work < 0 or n == 0:
            return None
        bound = {v for literal in body if not literal.negated for v in literal.variables}
        return {v: int(self.room.value[slots[v]]) for v in sorted(bound)}

    def _ordered(self, body: Body, start: int = X) -> tuple[Order, dict[int, int]] | None:
        if not len(self._numbers) and any(literal.relation == LESS for literal in body):
            self._numbers = values_of(self.store)
        return order_of(self.store, body, start, self.distinct, self._numbers)

    def pairs(self, body: Body) -> Pairs | None:
        """Measures of a canonical set of pairs; None if it needs more work than the cap."""
        if body in self._pairs:
            return self._pairs[body]
        counting = self.counting(body)
        if counting is None:
            return Pairs(body, 0, *no_sums(self.store.directions))
        return self.finished(body, counting, counting.xs)

    def members(self, body: Body) -> Members | None:
        """The members of a canonical set of entities; None if it needs more work than the cap."""
        if body not in self._sets:
            self._keep(self._sets, body, self._listed_members(body))
        return self._sets[body]

    def counts(self, rule: Rule) -> RuleCounts:
        """The measures of any rule `h(X, Y)`, `h(X, c)`, `h(c, X)` or `h(X, V)`, V existential.

        Raises:
            InductionError: see `numbered`; or it needs more work than the cap.
        """
        head, body = numbered(self.store, rule)
        if is_pair(body):
            least, back = canonical_pair(body)
            pairs = self.pairs(least)
            if pairs is None:
                raise _too_much(rule)
            return pairs.counts(2 * head.relation + ((head.a != X) != back))
        found = self.members(canonical(body))
        if found is None:
            raise _too_much(rule)
        return self._counts_of_set(head, found)

    def ys(self, order: Order | None, x: int, cap: int) -> Int32 | None:
        """What an order leads to from x; None if that needs more work than the cap."""
        if order is None:
            return _NOTHING
        n, work = solve(self.store.csr, order, x, -1, -1, self.room, cap)
        return None if work < 0 else self.room.found[:n]

    def _keep(self, memo: dict[Body, Any], body: Body, found: Pairs | Members | None) -> None:
        memo[body] = found
        if len(memo) > self.kept:
            del memo[next(iter(memo))]  # the oldest

    def counting(self, body: Body, times: Int32 | None = None) -> Counting | None:
        """A canonical set of pairs of which nothing is counted yet; None if it has none, for a constant has no such fact.

        Args:
            times: zeros, an entity each, to write into if other bodies are measured before this one is finished.
        """
        path, times = path_of(body) if self.distinct else None, self._times if times is None else times
        if path is not None:
            return Counting(self, np.array(path, dtype=np.int32), None, self.store.sources(path[0]), times)
        order = self.order(body)
        return None if order is None else Counting(self, None, order, domain(self.store, body), times)

    def finished(self, body: Body, counting: Counting, xs: Int32, size: int = 0, work: int = 0) -> Pairs | None:
        """Measures of a set of pairs, once the x that are left have been counted; see `pairs`.

        Args:
            size, work: pairs of the others, and facts that were looked at.
        """
        if body in self._pairs:
            counting.wipe()
            return self._pairs[body]
        n, more = counting.all(xs, self.cap - work)
        if more < 0 or work + more > self.cap:
            counting.wipe()
            found = None
        else:
            count_objects(self.store.csr, counting.times, counting.sums)
            found = Pairs(body, size + n, *counting.sums)
        self._keep(self._pairs, body, found)
        return found

    def _listed_members(self, body: Body) -> Members | None:
        order = self.order(body)
        if order is None:
            return Members(body, _NOTHING, _NO_EXCEPTIONS, _NOTHING, _NOTHING, self.distinct)
        xs, tally = domain(self.store, body), self._tally
        members = np.empty(len(xs), dtype=np.int32)
        n, exceptions, work = list_members(self.store.csr, order, xs, self.room, self.cap, members)
        if work < 0:
            return None
        m = count_heads(self.store.csr, members[:n], exceptions, self.distinct, tally)
        rows = np.sort(tally.rows[:m])
        support = tally.by_row[rows]
        tally.by_row[rows] = 0
        return Members(body, members[:n].copy(), exceptions, rows, support, self.distinct)

    def _counts_of_set(self, head: Literal, found: Members) -> RuleCounts:
        x_first = head.a == X
        direction, other = 2 * head.relation + (not x_first), head.b if x_first else head.a
        if other == Y:  # existential
            own, leads = found.members, True
            held = known = self._known(direction, own)
        else:
            c = constant(other)
            own = found.without(c)
            leads = self.store.row(direction ^ 1, c) >= 0
            held = int(found.supports(np.array([self.store.row(direction ^ 1, c)]))[0])
            known = self._known(direction, own)
        sides = known, len(own) if leads else 0
        return RuleCounts(held, len(own), *(sides if x_first else sides[::-1]))

    def _known(self, direction: int, xs: Int32) -> int:
        """How many of these have a fact of a direction."""
        return int(np.isin(xs, self.store.sources(direction)).sum())


class Counting:
    """A set of pairs that is being counted: what has been added up over some of the x of its domain, `sums` of all heads."""

    def __init__(self, evaluator: Evaluator, path: Int32 | None, order: Order | None, xs: Int32, times: Int32) -> None:
        self.xs, self.times, self.sums = xs, times, no_sums(evaluator.store.directions)
        self._evaluator, self._path, self._order = evaluator, path, order

    def all(self, xs: Int32, cap: int) -> tuple[int, int]:
        """Add some x: (pairs, facts looked at, −1 if these would exceed the cap)."""
        own, csr, sums, times = self._evaluator, self._evaluator.store.csr, self.sums, self.times
        if self._path is not None:
            found = count_path(csr, self._path, xs, own._space, cap, sums.support, sums.subjects, times, NO_LIMIT)
        else:
            found = count_pairs(csr, self._order, xs, own.room, cap, sums, times)
        size, work = found
        return size, work

    def each(self, xs: Int32, cap: int, sizes: Int64, works: Int64) -> int:
        """Add some x, with the pairs and the facts looked at of each: how many, fewer if the cap is reached."""
        own, csr, times = self._evaluator, self._evaluator.store.csr, self.times
        if self._path is not None:
            done = each_of_path(csr, self._path, xs, own._space, cap, self.sums, times, sizes, works)
        else:
            done = each_of_order(csr, self._order, xs, own.room, cap, self.sums, times, sizes, works)
        return int(done)

    def wipe(self) -> None:
        """It is not finished, and another may be counted."""
        self.times[:] = 0


def _too_much(rule: Rule) -> InductionError:
    return InductionError(f"more work than allowed to measure one rule: {rule}")
