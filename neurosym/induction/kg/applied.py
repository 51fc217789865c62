"""Rules arranged so that the answers to a question h(x, ?) are found at once: (rule, entity), for all rules that speak.

Paths and other sets of pairs are followed from x. A rule h(X, c) speaks in two ways: for c if x fulfils its body, and, to a
question about c, for all that do; so rules with constants are found by their bodies, which are the rows and sets that x is in,
and by their heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurosym.errors import InductionError
from neurosym.induction.kg.bodies import X, Y
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.constants import only_targets
from neurosym.induction.kg.engine import Room, room_for, solve
from neurosym.induction.kg.evaluator import Evaluator, Members
from neurosym.induction.kg.kernels import Space, find_row, reach, space_for
from neurosym.induction.kg.orders import Order
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.store import Csr, Float32, Int32, Int64, TripleStore

WORK: Final = 1_000_000
"""Facts that may be looked at to answer one question by one body; a body that needs more is silent."""
EVERY: Final = 1 << 30
"""Deeper than any list."""
ROOM: Final = 1 << 18
"""Places of the list that a thread starts with (`all_answers`)."""


class Workplace(NamedTuple):
    """What one thread writes into; `paths`: how many paths have led to each entity."""

    space: Space
    room: Room
    paths: Int32


def workplace_for(entities: int) -> Workplace:
    return Workplace(space_for(entities), room_for(entities), np.zeros(entities, dtype=np.int32))


class Orders(NamedTuple):
    """The orders of many bodies: steps and constants of order i are those from `start[i]` to `start[i + 1]`."""

    steps: Int32
    start: Int64
    constants: Int32
    constants_start: Int64
    variables: Int64
    binds_y: Int64
    distinct: bool
    numbers: NDArray[np.float64]


class Sets(NamedTuple):
    """Members of each set, the sets of each entity, and (set, x, w) as sorted numbers where x is in the set by w alone."""

    start: Int64
    member: Int32
    of_start: Int64
    of: Int32
    exception: Int64


class Applied(NamedTuple):
    """Rules arranged for questions.

    Paths first: those for head direction h are `path_start[h] ≤ i < path_start[h + 1]`, the most trusted first, and `path_rule`
    tells which rule each is, since a rule answers the questions of both directions; so are other pairs. The rules with
    constants are sorted by the row of their head, and `by_body` orders them by `body_key`, of the direction that is asked and
    the body. A body is a row, a direction, or a set, numbered in this order. `only`: see `only_targets`.
    """

    path: Int32
    length: Int32
    path_rule: Int32
    path_start: Int64
    pair_rule: Int32
    pair_start: Int64
    pairs: Orders
    rule: Int32
    head: Int32
    body: Int32
    head_start: Int64
    body_key: Int64
    by_body: Int32
    only: Int32
    sets: Sets


def arrange(store: TripleStore, rules: RuleColumns) -> Applied:
    """Rules for `answers`."""
    csr, paths, general = store.csr, rules.paths, rules.general
    rows, bodies = len(csr.source), len(csr.source) + store.directions
    length = (paths.path >= 0).sum(1)
    reverse = np.full_like(paths.path, -1)
    for k in range(1, paths.path.shape[1] + 1):
        own = length == k
        reverse[own, :k] = paths.path[own, :k][:, ::-1] ^ 1
    value = rules.smoothed
    path_order, path_start = _both_ways(paths.head, value[: len(paths.head)], store.directions)
    pairs = general.pair_rules.head
    pair_order, pair_start = _both_ways(pairs, value[len(value) - len(pairs) :], store.directions)
    of_pair = np.concatenate([2 * general.pair_rules.body, 2 * general.pair_rules.body + 1])[pair_order]
    constants, sets = rules.constants, general.set_rules
    first = len(paths.head)
    number = np.arange(first, first + len(constants.head) + len(sets.head), dtype=np.int32)
    head = np.concatenate([constants.head, sets.head])
    body = np.concatenate(
        [np.where(constants.body >= 0, constants.body, rows - 1 - constants.body), bodies + sets.body]
    )
    order = np.argsort(head, kind="stable")
    head, body = head[order], body[order]
    key = (csr.direction_of[head] ^ 1).astype(np.int64) * (bodies + len(general.sets)) + body
    by_body = np.argsort(key, kind="stable")
    return Applied(
        np.ascontiguousarray(np.concatenate([paths.path, reverse])[path_order]),
        np.tile(length, 2)[path_order].astype(np.int32),
        np.tile(np.arange(first, dtype=np.int32), 2)[path_order],
        path_start,
        np.tile(np.arange(len(number) + first, len(rules), dtype=np.int32), 2)[pair_order],
        pair_start,
        _orders(store, rules, of_pair),
        number[order],
        head,
        body.astype(np.int32),
        np.searchsorted(head, np.arange(rows + 1)).astype(np.int64),
        key[by_body],
        by_body.astype(np.int32),
        only_targets(csr),
        _sets(len(store.entities), general.sets),
    )


def _both_ways(relation: Int32, value: Float32, directions: int) -> tuple[Int64, Int64]:
    """The order by direction and trust of rules that are read both ways, and where each direction starts."""
    head = np.concatenate([2 * relation, 2 * relation + 1])
    order = np.lexsort((-np.tile(value, 2), head))
    return order, np.searchsorted(head[order], np.arange(directions + 1)).astype(np.int64)


def _orders(store: TripleStore, rules: RuleColumns, of: Int64) -> Orders:
    """The orders of bodies: 2i from X on, 2i + 1 from Y on, of body i."""
    evaluator = Evaluator(store, rules.general.distinct)
    found = [
        o for i in of.tolist() if (o := evaluator.order(rules.general.pairs[i >> 1], Y if i & 1 else X)) is not None
    ]
    if len(found) < len(of):
        raise InductionError("a rule asks for a fact of a constant that the graph does not have")
    steps = [order.steps for order in found]
    constants = [order.constants for order in found]
    return Orders(
        np.concatenate([np.zeros((0, 7), np.int32), *steps]),
        np.cumsum([0, *map(len, steps)], dtype=np.int64),
        np.concatenate([np.zeros(0, np.int32), *constants]),
        np.cumsum([0, *map(len, constants)], dtype=np.int64),
        np.array([order.variables for order in found], dtype=np.int64),
        np.array([order.binds_y for order in found], dtype=np.int64),
        rules.general.distinct,
        next((order.numbers for order in found if len(order.numbers)), np.zeros(0)),
    )


def _sets(entities: int, sets: Sequence[Members]) -> Sets:
    member = np.concatenate([np.zeros(0, np.int32), *(s.members for s in sets)])
    start = np.cumsum([0, *(len(s.members) for s in sets)], dtype=np.int64)
    of_set = np.repeat(np.arange(len(sets), dtype=np.int32), np.diff(start))
    order = np.argsort(member, kind="stable")
    keys = [_key(entities, i, *s.exceptions.T.astype(np.int64)) for i, s in enumerate(sets)]
    return Sets(
        start,
        member,
        np.searchsorted(member[order], np.arange(entities + 1)).astype(np.int64),
        of_set[order],
        np.sort(np.concatenate([np.zeros(0, np.int64), *keys])),
    )


def _key(entities: int, s: int, x: Int64, w: Int64) -> Int64:
    return (np.int64(s) * entities + x) * entities + w


@compiled
def answers(csr: Csr, rules: Applied, x: int, h: int, place: Workplace, hits: Int32, depth: int) -> int:
    """What the rules say of h(x, ?), as `hits[:n]` = (rule, entity): n, or −1 if there is no room for all.

    Of an entity no path is told but its `depth` most trusted ones.
    """
    n: int = _by_paths(csr, rules, x, h, place, hits, depth)
    if n >= 0:
        n = _by_pairs(csr, rules, x, h, place.room, hits, n)
    if n >= 0:
        n = _by_bodies(csr, rules, x, h, hits, n)
    if n >= 0:
        n = _by_sets(csr, rules, x, h, hits, n)
    if n >= 0:
        n = _by_heads(csr, rules, x, h, hits, n)
    return n


@compiled
def _said(hits: Int32, n: int, rule: int, ys: Int32) -> int:
    """Add what a rule says to the n that there are: how many now, −1 if there is no room."""
    if n + len(ys) > len(hits):
        return -1
    hits[n : n + len(ys), 0] = rule
    hits[n : n + len(ys), 1] = ys
    return n + len(ys)


@compiled
def _by_paths(csr: Csr, rules: Applied, x: int, h: int, place: Workplace, hits: Int32, depth: int) -> int:
    """Where the paths lead, until every entity but x has as many as are wanted."""
    space, paths = place.space, place.paths
    paths[:] = 0
    n, left = 0, len(paths) - 1
    for i in range(rules.path_start[h], rules.path_start[h + 1]):
        if left == 0:
            break
        m, work = reach(csr, rules.path[i, : rules.length[i]], x, space, WORK)
        if work < 0:
            continue
        for y in space.found[:m]:
            if paths[y] == depth:
                continue
            if n == len(hits):
                return -1
            hits[n, 0], hits[n, 1] = rules.path_rule[i], y
            n += 1
            paths[y] += 1
            left -= paths[y] == depth
    return n


@compiled
def order_of_pairs(orders: Orders, i: int) -> Order:
    """The order of number i."""
    return Order(
        orders.steps[orders.start[i] : orders.start[i + 1]],
        orders.variables[i],
        orders.binds_y[i],
        orders.constants[orders.constants_start[i] : orders.constants_start[i + 1]],
        orders.distinct,
        orders.numbers,
    )


@compiled
def _by_pairs(csr: Csr, rules: Applied, x: int, h: int, room: Room, hits: Int32, n: int) -> int:
    """Where other sets of pairs lead."""
    for i in range(rules.pair_start[h], rules.pair_start[h + 1]):
        m, work = solve(csr, order_of_pairs(rules.pairs, i), x, -1, -1, room, WORK)
        if work < 0:
            continue
        n = _said(hits, n, rules.pair_rule[i], room.found[:m])
        if n < 0:
            break
    return n


@compiled
def _by_bodies(csr: Csr, rules: Applied, x: int, h: int, hits: Int32, n: int) -> int:
    """h(X, c) ← …: the constants of the rules whose bodies, rows or directions, x fulfils."""
    rows = len(csr.source)
    base = h * (rows + len(csr.first_row) - 1 + len(rules.sets.start) - 1)
    for i in range(csr.entity_start[x], csr.entity_start[x + 1]):
        r = csr.row_of[i]
        first = csr.start[r]
        for f in range(first - 1, csr.start[r + 1]):
            if f < first:  # b(X, Z)
                if rules.only[r] == -1:
                    continue
                key = base + rows + csr.direction_of[r]
            elif csr.target[f] == x:
                continue
            else:
                key = base + csr.back[f]
            at = np.searchsorted(rules.body_key, key)
            while at < len(rules.body_key) and rules.body_key[at] == key:
                k = rules.by_body[at]
                c = csr.source[rules.head[k]]
                if c != x and (f >= first or rules.only[r] != c):
                    if n == len(hits):
                        return -1
                    hits[n, 0], hits[n, 1] = rules.rule[k], c
                    n += 1
                at += 1
    return n


@compiled
def excepted(sets: Sets, s: int, x: int, w: int) -> bool:
    """Is x in the set by w alone?"""
    entities = len(sets.of_start) - 1
    key = (s * entities + x) * entities + w
    at = np.searchsorted(sets.exception, key)
    return bool(at < len(sets.exception) and sets.exception[at] == key)


@compiled
def _by_sets(csr: Csr, rules: Applied, x: int, h: int, hits: Int32, n: int) -> int:
    """The same for the sets that x is in."""
    sets = rules.sets
    bodies = len(csr.source) + len(csr.first_row) - 1
    base = h * (bodies + len(sets.start) - 1) + bodies
    for i in range(sets.of_start[x], sets.of_start[x + 1]):
        s = sets.of[i]
        at = np.searchsorted(rules.body_key, base + s)
        while at < len(rules.body_key) and rules.body_key[at] == base + s:
            k = rules.by_body[at]
            c = csr.source[rules.head[k]]
            if (c != x or not rules.pairs.distinct) and not excepted(sets, s, x, c):
                if n == len(hits):
                    return -1
                hits[n, 0], hits[n, 1] = rules.rule[k], c
                n += 1
            at += 1
    return n


@compiled
def _by_heads(csr: Csr, rules: Applied, x: int, h: int, hits: Int32, n: int) -> int:
    """The rules whose constant is x: the entities that fulfil their bodies."""
    g = find_row(csr, h, x)
    if g < 0:
        return n
    rows = len(csr.source)
    first_set = rows + len(csr.first_row) - 1
    for k in range(rules.head_start[g], rules.head_start[g + 1]):
        b = rules.body[k]
        if b < rows:
            low, high = csr.start[b], csr.start[b + 1]
        elif b < first_set:
            low, high = csr.first_row[b - rows], csr.first_row[b - rows + 1]
        else:
            low, high = rules.sets.start[b - first_set], rules.sets.start[b - first_set + 1]
        if n + high - low > len(hits):
            return -1
        for f in range(low, high):
            if b < rows:
                y = csr.target[f]
                fulfils = y != x and y != csr.source[b]
            elif b < first_set:
                y = csr.source[f]
                fulfils = y != x and rules.only[f] != -1 and rules.only[f] != x
            else:
                y = rules.sets.member[f]
                apart = y != x or not rules.pairs.distinct
                fulfils = apart and not excepted(rules.sets, b - first_set, y, x)
            if fulfils:
                hits[n, 0], hits[n, 1] = rules.rule[k], y
                n += 1
    return n


@compiled
def all_answers(
    csr: Csr, rules: Applied, x: int, h: int, place: Workplace, hits: Int32, depth: int
) -> tuple[Int32, int]:
    """`answers`, with a larger list where the one given is too short; that list, and how much of it is used."""
    n = answers(csr, rules, x, h, place, hits, depth)
    while n < 0:
        hits = np.empty((2 * len(hits), 2), dtype=np.int32)
        n = answers(csr, rules, x, h, place, hits, depth)
    return hits, n
