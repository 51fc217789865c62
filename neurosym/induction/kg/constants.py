"""All rules with constants `h(X, c) ← b(X, d)` and `h(X, c) ← b(X, Z)`, exactly and at once.

An entity X fulfils h(X, c) iff it is in the row of c in h's reverse direction (see `neurosym.induction.kg.store`), so head and
body are rows, a rule is a pair of rows, its body size is the length of the body's row and its support the size of the
intersection. For a head's row all intersections are counted by going through the facts of its members: the work is the sum over
entities of (degree)², not the number of pairs of rows. A body `b(X, Z)` is a direction instead: the entities that have a row.
Heads are gone through from the cheapest to the dearest, so that the search may be stopped at any moment.

A graph has tens of millions of such rules, of which few are among the most trusted ones for any fact; the others can be left
out as they are found (`depth`), head by head, before they take room and time.

X differs from both constants, which may be equal; Z differs from X and c.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.kernels import enter, find, find_row
from neurosym.induction.kg.paths import Thresholds
from neurosym.induction.kg.rules import DOUBT, ConstantRules
from neurosym.induction.kg.store import Csr, Int32, Int64, TripleStore

_AT_ONCE: Final = 5_000_000
"""Facts that are looked at before others are asked whether there is time."""


def constant_rules_by_cost(
    store: TripleStore, thresholds: Thresholds, workers: int = 1, depth: int = 0
) -> Iterator[ConstantRules]:
    """Those above the thresholds, part by part: heads that many facts speak of first, since most questions ask for those, and
    at last those that take more than a part each, the cheapest first.

    Args:
        workers: threads; as many parts are counted before others are asked whether there is time.
        depth: only rules that are, of those with the same head, among so many most trusted ones for some fact; all, if 0.
    """
    csr = store.csr
    only = only_targets(csr)
    domains, last = np.zeros(store.directions, dtype=np.int64), np.zeros(len(csr.source), dtype=np.int32)
    domain_sizes(csr, only, domains, last)
    counts = [np.zeros((2, len(csr.source)), dtype=np.int32) for _ in range(workers)]
    heads = np.flatnonzero(np.diff(csr.start) >= thresholds.support).astype(np.int32)
    costs = _costs(csr, heads)
    dear = costs > _AT_ONCE
    order = np.lexsort((np.where(dear, costs, -costs), dear))
    heads, total = heads[order], np.cumsum(costs[order])

    def counted(part: Int32, own: Int32) -> ConstantRules:
        table = _count(
            csr, only, domains, last, thresholds.support, thresholds.smoothed, depth, part, own[0], own[1]
        ).reshape(-1, 4)
        return ConstantRules(*(np.ascontiguousarray(table[:, i]) for i in range(4)))

    parts: list[Int32] = []
    first = 0
    while first < len(heads):
        done = total[first - 1] if first else 0
        end = max(first + 1, int(np.searchsorted(total, done + _AT_ONCE)))
        parts.append(heads[first:end])
        first = end
    with ThreadPoolExecutor(workers) as pool:
        for k in range(0, len(parts), workers):
            yield from pool.map(counted, parts[k : k + workers], counts)


def joined_constants(parts: Sequence[ConstantRules]) -> ConstantRules:
    """Rules of several parts, by head and body."""
    columns = [np.concatenate([part[i] for part in parts] or [np.zeros(0, np.int32)]) for i in range(4)]
    order = np.lexsort((columns[1], columns[0]))
    return ConstantRules(*(column[order] for column in columns))


@compiled
def only_targets(csr: Csr) -> Int32:
    """Of each row its only target beside its own entity; −1 if it has none, −2 if it has several."""
    only = np.full(len(csr.source), -1, dtype=np.int32)
    for g in range(len(csr.source)):
        for e in range(csr.start[g], csr.start[g + 1]):
            if csr.target[e] != csr.source[g]:
                only[g] = csr.target[e] if only[g] == -1 else -2
    return only


@compiled
def domain_sizes(csr: Csr, only: Int32, sizes: Int64, last: Int32) -> None:
    """How many entities have a fact of each direction with another entity, and of each row (d, c) how many have facts of d ^ 1
    with c alone: added to `sizes` and `last`."""
    for g in range(len(csr.source)):
        if only[g] == -1:
            continue
        sizes[csr.direction_of[g]] += 1
        if only[g] >= 0:
            for e in range(csr.start[g], csr.start[g + 1]):
                if csr.target[e] == only[g]:
                    last[csr.back[e]] += 1


@compiled
def holds(csr: Csr, g: int, x: int) -> bool:
    """Is x in row g?"""
    place: int = find(csr.target, csr.start[g], csr.start[g + 1], x)
    return place >= 0


@compiled
def _members(csr: Csr, g: int, c: int) -> int:
    """How many entities other than c and the row's own are in row g."""
    d = csr.source[g]
    size: int = csr.start[g + 1] - csr.start[g] - holds(csr, g, d) - (c != d and holds(csr, g, c))
    return size


@compiled
def _not_free(csr: Csr, only: Int32, last: Int32, d: int, c: int) -> int:
    """How many of the entities that `domain_sizes` counts for d are c itself or have facts of d with c alone."""
    own, reverse = find_row(csr, d, c), find_row(csr, d ^ 1, c)
    found: int = (own >= 0 and only[own] != -1) + (last[reverse] if reverse >= 0 else 0)
    return found


@compiled
def _costs(csr: Csr, heads: Int32) -> Int64:
    """How many facts the members of each row have, all together."""
    degree = np.zeros(len(csr.entity_start) - 1, dtype=np.int64)
    for g in range(len(csr.source)):
        degree[csr.source[g]] += csr.start[g + 1] - csr.start[g]
    costs = np.zeros(len(heads), dtype=np.int64)
    for i in range(len(heads)):
        for e in range(csr.start[heads[i]], csr.start[heads[i] + 1]):
            costs[i] += degree[csr.target[e]]
    return costs


@compiled
def _count(
    csr: Csr,
    only: Int32,
    domains: Int64,
    last: Int32,
    least: int,
    smoothed: float,
    depth: int,
    heads: Int32,
    count: Int32,
    touched: Int32,
) -> Int32:
    """Rows of (head, body, support, body size). `count` must be zero, and is afterwards."""
    found = np.empty(4 * 65536, dtype=np.int32)
    n = 0
    of_direction = np.zeros(len(domains), dtype=np.int32)
    for head in heads:
        low, high = csr.start[head], csr.start[head + 1]
        c, before = csr.source[head], n
        m = 0
        of_direction[:] = 0
        for e in range(low, high):
            x = csr.target[e]
            if x == c:
                continue
            for i in range(csr.entity_start[x], csr.entity_start[x + 1]):
                r = csr.row_of[i]
                if only[r] != -1 and only[r] != c:
                    of_direction[csr.direction_of[r]] += 1
                for f in range(csr.start[r], csr.start[r + 1]):
                    if csr.target[f] == x:
                        continue
                    g = csr.back[f]
                    if count[g] == 0:
                        touched[m] = g
                        m += 1
                    count[g] += 1
        for j in range(m + len(of_direction)):
            if j < m:
                g = touched[j]
                held = count[g]
                count[g] = 0
                if held < least or g == head:
                    continue
                size = _members(csr, g, c)
            else:
                d = j - m
                held = of_direction[d]
                if held < least:
                    continue
                g = -1 - d
                size = domains[d] - _not_free(csr, only, last, d, c)
            if held < smoothed * (size + DOUBT) - 1e-9:
                continue
            if n + 4 > len(found):
                more = np.empty(2 * len(found), dtype=np.int32)
                more[:n] = found[:n]
                found = more
            found[n], found[n + 1], found[n + 2], found[n + 3] = head, g, held, size
            n += 4
        if depth > 0:
            n = _most_trusted(csr, only, depth, found, before, n, count, of_direction)
    return found[:n].copy()


@compiled
def _most_trusted(
    csr: Csr, only: Int32, depth: int, found: Int32, first: int, last: int, place: Int32, of_direction: Int32
) -> int:
    """Of the rules of one head, `found[first:last]`, keep those among the `depth` most trusted ones for some member of its row;
    where they end now. `place` must be zero, and is afterwards."""
    if first == last:
        return first
    rules = (last - first) // 4
    value, needed = np.empty(rules, dtype=np.float32), np.zeros(rules, dtype=np.bool_)
    of_direction[:] = 0
    for i in range(rules):
        b = found[first + 4 * i + 1]
        value[i] = found[first + 4 * i + 2] / np.float32(found[first + 4 * i + 3] + DOUBT)
        if b >= 0:
            place[b] = i + 1
        else:
            of_direction[-1 - b] = i + 1
    values, which = np.empty(depth, dtype=np.float32), np.empty(depth, dtype=np.int32)
    head = found[first]
    c = csr.source[head]
    for e in range(csr.start[head], csr.start[head + 1]):
        x = csr.target[e]
        if x == c:
            continue
        filled = 0
        for i in range(csr.entity_start[x], csr.entity_start[x + 1]):
            r = csr.row_of[i]
            j = of_direction[csr.direction_of[r]] if only[r] != -1 and only[r] != c else 0
            if j > 0:
                filled = enter(values, which, filled, value[j - 1], j - 1)
            for f in range(csr.start[r], csr.start[r + 1]):
                j = place[csr.back[f]]
                if j > 0 and csr.target[f] != x:
                    filled = enter(values, which, filled, value[j - 1], j - 1)
        for i in range(filled):
            needed[which[i]] = True
    n = first
    for i in range(rules):
        b = found[first + 4 * i + 1]
        if b >= 0:
            place[b] = 0
        if needed[i]:
            found[n : n + 4] = found[first + 4 * i : first + 4 * i + 4]
            n += 4
    return n
