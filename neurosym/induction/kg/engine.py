"""Bodies of any shape evaluated exactly, for all heads at once.

For each X of the domain a depth-first join over rows, in the order of `neurosym.induction.kg.orders`, finds the distinct Y,
each looked for until there is one way to bind the rest. The facts of X and Y then tell for which heads that is support:

    pairs (X, Y)   support[d] of d(X, Y), for all directions d
    a set of X     support of h(X, c) for every row (h, c)

No variable binds a constant of its rule. The body of h(X, c) is evaluated once for all c: where the first way to bind the rest
goes through an entity w, it is asked whether there is another that avoids it; if not, X is in the set of all rules but those
with the constant w, an *exception*. Work is counted in facts that are looked at, and bounded.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from neurosym.induction.kg.compiled import compiled, inlined
from neurosym.induction.kg.kernels import NO_LIMIT, Space, count_facts, count_path, find, find_row
from neurosym.induction.kg.orders import (
    APART,
    BEFORE,
    BELOW,
    BIND_IN,
    HAS,
    IN,
    NEGATED,
    ONCE,
    OPERATION,
    WHAT,
    Order,
    U,
    V,
)
from neurosym.induction.kg.store import Csr, Int32, Int64

LISTS = 4
"""Of a body, how many of its variables may be visited once for each X."""


class Room(NamedTuple):
    """What the loops over one store write into, for one thread; marks are numbers of turns, so that nothing is ever wiped."""

    mark: Int64
    seen: Int64
    found: Int32
    turn: Int64
    at: Int64
    end: Int64
    value: Int32


def room_for(entities: int, steps: int = 32) -> Room:
    """A room that nothing was written into, for bodies of at most so many steps."""
    return Room(
        np.full(entities, -1, dtype=np.int64),
        np.full((LISTS, entities), -1, dtype=np.int64),
        np.empty(entities, dtype=np.int32),
        np.zeros(1, dtype=np.int64),
        np.empty(steps, dtype=np.int64),
        np.empty(steps, dtype=np.int64),
        np.empty(steps, dtype=np.int32),
    )


@compiled
def holds(csr: Csr, order: Order, k: int, value: Int32) -> bool:
    """Does step k, a test, come out right for what is bound?"""
    step = order.steps[k]
    operation = step[OPERATION]
    u = value[step[U]]
    if operation == IN:
        right = find(csr.target, csr.start[step[WHAT]], csr.start[step[WHAT] + 1], u) >= 0
    elif operation == HAS:
        right = find_row(csr, step[WHAT], u) >= 0
    elif operation == APART:
        right = u != value[step[V]]
    elif operation == BELOW:
        right = order.numbers[u] < order.numbers[value[step[V]]]
    else:
        g = find_row(csr, step[WHAT], u)
        right = g >= 0 and find(csr.target, csr.start[g], csr.start[g + 1], value[step[V]]) >= 0
    told: bool = right != (step[NEGATED] != 0)
    return told


@compiled
def _may_bind(order: Order, k: int, v: int, only: int, avoided: int, room: Room) -> bool:
    """May step k bind its variable to entity v? See `solve`."""
    step = order.steps[k]
    if k == order.binds_y and (room.mark[v] == room.turn[0] or (only >= 0 and v != only)):
        return False
    if order.distinct:
        if v == avoided or v == room.value[0]:
            return False
        for c in order.constants:
            if v == c:
                return False
        j = step[BEFORE]
        while j >= 0:
            if room.value[order.steps[j, V]] == v:
                return False
            j = order.steps[j, BEFORE]
    once = step[ONCE]
    if once >= 0:
        if room.seen[once, v] == room.turn[0]:
            return False
        room.seen[once, v] = room.turn[0]
    return True


@inlined
def solve(csr: Csr, order: Order, x: int, only: int, avoided: int, room: Room, cap: int) -> Any:
    """The Y of x, in `found` and marked, for a set of pairs; for a set 1 if x is in it.

    Of a set, and of pairs if `only` one Y is asked for, the first way to bind all variables is left in `value`. `avoided` may
    not be bound at all. (−1: none.)

    Returns how many, and the facts looked at, −1 if these would exceed `cap`.
    """
    return _solve(csr, order, np.int64(x), np.int64(only), np.int64(avoided), room, np.int64(cap))


@compiled
def _solve(csr: Csr, order: Order, x: int, only: int, avoided: int, room: Room, cap: int) -> tuple[int, int]:
    """`solve`, compiled once: numba takes numbers of other sizes, and numbers that it knows, for other types."""
    room.turn[0] += 1
    steps, value = order.steps, room.value
    value[0] = x
    if order.distinct:
        for c in order.constants:
            if x == c:
                return 0, 0
        if x == avoided:
            return 0, 0
    n, work, forwards = 0, 0, True
    k: Any = np.int64(0)  # not a number that numba knows
    while True:
        if forwards:
            if k == len(steps):
                if order.binds_y < 0:
                    return 1, work
                y = value[1]
                room.mark[y] = room.turn[0]
                room.found[n] = y
                n += 1
                if only >= 0:
                    return n, work
                k, forwards = order.binds_y, False
                continue
            operation = steps[k, OPERATION]
            if operation <= BIND_IN:
                g = steps[k, WHAT] if operation == BIND_IN else find_row(csr, steps[k, WHAT], value[steps[k, U]])
                room.at[k] = csr.start[g] if g >= 0 else 0
                room.end[k] = csr.start[g + 1] if g >= 0 else 0
                forwards = False
            elif holds(csr, order, k, value):
                k += 1
            else:
                k, forwards = steps[k, BEFORE], False
            continue
        if k < 0:
            return n, work
        while room.at[k] < room.end[k]:
            v = csr.target[room.at[k]]
            room.at[k] += 1
            work += 1
            if _may_bind(order, k, v, only, avoided, room):
                value[steps[k, V]] = v
                forwards = True
                break
        if work > cap:
            return n, -1
        k = k + 1 if forwards else steps[k, BEFORE]


class Sums(NamedTuple):
    """What is counted of pairs, by direction d: those with d(x, y), those whose x has a fact of d, those whose y is in
    one."""

    support: Int64
    subjects: Int64
    objects: Int64


def no_sums(directions: int) -> Sums:
    return Sums(*np.zeros((3, directions), dtype=np.int64))


@compiled
def count_pairs(csr: Csr, order: Order, xs: Int32, room: Room, cap: int, sums: Sums, times: Int32) -> tuple[int, int]:
    """Add up for the x of `xs`: (pairs, facts looked at, −1 if these would exceed `cap`).

    `times[y]`, which must be zero, is how often y was found.
    """
    size, work = 0, 0
    for x in xs:
        n, looked = solve(csr, order, x, -1, -1, room, cap - work)
        if looked < 0:
            return size, -1
        work += looked + n
        size += n
        if n == 0:
            continue
        for i in range(n):
            times[room.found[i]] += 1
        count_facts(csr, x, room.found[:n], room.mark, room.turn[0], sums.support, sums.subjects)
    return size, work


@compiled
def count_objects(csr: Csr, times: Int32, sums: Sums) -> None:
    """Finish `sums.objects` by how often each y was found; `times` is zero again."""
    for y in range(len(times)):
        if times[y] == 0:
            continue
        for i in range(csr.entity_start[y], csr.entity_start[y + 1]):
            sums.objects[csr.direction_of[csr.row_of[i]] ^ 1] += times[y]
        times[y] = 0


@compiled
def list_members(csr: Csr, order: Order, xs: Int32, room: Room, cap: int, members: Int32) -> tuple[int, Int32, int]:
    """The x of `xs` that are in the set, in `members`: (how many, exceptions, facts looked at, −1 if these would exceed `cap`).

    An exception is a row (x, w): x is in the set only by binding w.
    """
    exceptions = np.empty((16, 2), dtype=np.int32)
    others = np.empty(order.variables, dtype=np.int32)
    n, m, work = 0, 0, 0
    for x in xs:
        found, looked = solve(csr, order, x, -1, -1, room, cap - work)
        if looked < 0:
            return n, exceptions[:m], -1
        work += looked + 1
        if found == 0:
            continue
        members[n] = x
        n += 1
        if not order.distinct:
            continue
        bound = 0
        for k in range(len(order.steps)):
            if order.steps[k, OPERATION] <= BIND_IN:
                others[bound] = room.value[order.steps[k, V]]
                bound += 1
        for i in range(bound):
            again, looked = solve(csr, order, x, -1, others[i], room, cap - work)
            if looked < 0:
                return n, exceptions[:m], -1
            work += looked
            if again == 0:
                if m == len(exceptions):
                    more = np.empty((2 * m, 2), dtype=np.int32)
                    more[:m] = exceptions
                    exceptions = more
                exceptions[m, 0], exceptions[m, 1] = x, others[i]
                m += 1
    return n, exceptions[:m], work


class Tally(NamedTuple):
    """Counts by row, all zero, and a list of rows."""

    by_row: Int32
    rows: Int32


def tally_for(rows: int) -> Tally:
    return Tally(np.zeros(rows, np.int32), np.empty(rows, np.int32))


@compiled
def count_heads(csr: Csr, members: Int32, exceptions: Int32, distinct: bool, tally: Tally) -> int:
    """How many members have which facts with which entity: the number of rows listed in `tally.rows`, whose entities are the c.

    Of a row (d, c), d leads from c to X.
    """
    m = 0
    for x in members:
        for i in range(csr.entity_start[x], csr.entity_start[x + 1]):
            r = csr.row_of[i]
            for f in range(csr.start[r], csr.start[r + 1]):
                if distinct and csr.target[f] == x:
                    continue
                g = csr.back[f]
                if tally.by_row[g] == 0:
                    tally.rows[m] = g
                    m += 1
                tally.by_row[g] += 1
    for i in range(len(exceptions)):
        x, w = exceptions[i, 0], exceptions[i, 1]
        for j in range(csr.entity_start[x], csr.entity_start[x + 1]):
            r = csr.row_of[j]
            at = find(csr.target, csr.start[r], csr.start[r + 1], w)
            if at >= 0:
                tally.by_row[csr.back[at]] -= 1
    return m


@compiled
def each_of_path(
    csr: Csr, path: Int32, xs: Int32, space: Space, cap: int, sums: Sums, times: Int32, sizes: Int64, works: Int64
) -> int:
    """`count_path` for one x after the other, and what each has of pairs and work: how many x, fewer if the cap is reached."""
    spent = 0
    for i in range(len(xs)):
        each = xs[i : i + 1]
        n, work = count_path(
            csr, path, each, space, cap - spent, sums.support, sums.subjects, times, np.int64(NO_LIMIT)
        )
        if work < 0:
            return i
        sizes[i], works[i] = n, work
        spent += work
    return len(xs)


@compiled
def each_of_order(
    csr: Csr, order: Order, xs: Int32, room: Room, cap: int, sums: Sums, times: Int32, sizes: Int64, works: Int64
) -> int:
    """The same with `count_pairs`."""
    spent = 0
    for i in range(len(xs)):
        n, work = count_pairs(csr, order, xs[i : i + 1], room, cap - spent, sums, times)
        if work < 0:
            return i
        sizes[i], works[i] = n, work
        spent += work
    return len(xs)
