"""Compiled loops over rows of facts: which entities a path leads to, and for which heads that holds.

A *path* is a body d₁(X, Z₁), d₂(Z₁, Z₂), …, dₖ(Zₖ₋₁, Y) of directions (see `neurosym.induction.kg.store`). Distinct variables
bind distinct entities. What is counted are the distinct pairs (x, y), never the ways to get from x to y, so the entities
half-way are visited once each: a second way to Z₂ matters only where the first one went through y itself, so of the ways to an
entity the first Z₁ and whether there was another are all that is kept. Paths of four atoms and more are walked in full.

Work is bounded by facts looked at; a body that needs more is given up and says so.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from neurosym.induction.kg.compiled import compiled, inlined
from neurosym.induction.kg.store import Csr, Float32, Int32, Int64

NO_LIMIT: Final = 1 << 62


@inlined
def find(values: Int32, low: int, high: int, value: int) -> int:
    """The place of a value among the ascending ones from `low` to `high`, −1 if it is not there."""
    end = high
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low if low < end and values[low] == value else -1


@inlined
def find_row(csr: Csr, d: int, x: int) -> int:
    """The row of entity x in direction d, −1 if it has none."""
    t = csr.table[d]
    if t >= 0:
        place: int = csr.place[t, x]
        return place
    found: int = find(csr.source, csr.first_row[d], csr.first_row[d + 1], x)
    return found


class Space(NamedTuple):
    """What the loops over one store write into, for one thread: lists of entities, and marks by entity.

    Marks are numbers of turns, so that nothing is ever wiped.
    """

    mark: Int64
    found: Int32
    half: Int64
    via: Int32
    middle: Int32
    turn: Int64


def space_for(entities: int) -> Space:
    """A space that nothing was written into."""
    marks = np.full((2, entities), -1, dtype=np.int64)
    lists = np.empty((3, entities), dtype=np.int32)
    return Space(marks[0], lists[0], marks[1], lists[1], lists[2], np.zeros(1, dtype=np.int64))


@inlined
def reach(csr: Csr, path: Int32, x: int, space: Space, cap: int) -> Any:
    """Mark and list the entities that a path leads to from x: (how many, facts looked at; −1 if these would exceed `cap`)."""
    return _reach(csr, path, np.int64(x), space, np.int64(cap))


@compiled
def _reach(csr: Csr, path: Int32, x: int, space: Space, cap: int) -> tuple[int, int]:
    """`reach`, compiled once: numba takes numbers of other sizes, and numbers that it knows, for other types."""
    space.turn[0] += 1
    g = find_row(csr, path[0], x)
    if g < 0:
        return 0, 0
    if len(path) > 3:
        walked: tuple[int, int] = _walk(csr, path, x, space, cap)
        return walked
    mark, found, now, n = space.mark, space.found, space.turn[0], 0
    if len(path) == 1:
        for e in range(csr.start[g], csr.start[g + 1]):
            y = csr.target[e]
            if y != x:
                mark[y] = now
                found[n] = y
                n += 1
        return n, csr.start[g + 1] - csr.start[g]
    m, work = _two_steps(csr, path, x, g, space, cap)
    if work < 0:
        return n, -1
    for i in range(m):
        w = space.middle[i]
        if len(path) == 2:
            mark[w] = now
            found[i] = w
            continue
        r = find_row(csr, path[2], w)
        if r < 0:
            continue
        low, high = csr.start[r], csr.start[r + 1]
        work += high - low
        if work > cap:
            return n, -1
        for f in range(low, high):
            y = csr.target[f]
            if y != x and y != w and y != space.via[w] and mark[y] != now:
                mark[y] = now
                found[n] = y
                n += 1
    return (m if len(path) == 2 else n), work


@compiled
def _two_steps(csr: Csr, path: Int32, x: int, g: int, space: Space, cap: int) -> tuple[int, int]:
    """List in `middle` where two steps lead from x, whose row is g, with the one way there `via`, −1 if there are several."""
    half, via, now = space.half, space.via, space.turn[0]
    m, work = 0, 0
    for e in range(csr.start[g], csr.start[g + 1]):
        z = csr.target[e]
        r = find_row(csr, path[1], z) if z != x else -1
        if r < 0:
            continue
        work += csr.start[r + 1] - csr.start[r]
        if work > cap:
            return m, -1
        for f in range(csr.start[r], csr.start[r + 1]):
            w = csr.target[f]
            if w != x and w != z:
                if half[w] != now:
                    half[w] = now
                    via[w] = z
                    space.middle[m] = w
                    m += 1
                else:
                    via[w] = -1  # whatever y is, one of the ways avoids it
    return m, work


@compiled
def _walk(csr: Csr, path: Int32, x: int, space: Space, cap: int) -> tuple[int, int]:
    """`reach` for paths of any length, by walking all of them."""
    mark, found, now, k = space.mark, space.found, space.turn[0], len(path)
    at = np.empty(k, dtype=np.int64)
    end = np.empty(k, dtype=np.int64)
    here = np.empty(k + 1, dtype=np.int64)
    here[0] = x
    n, work, depth = 0, 0, 0
    g = find_row(csr, path[0], x)
    at[0], end[0] = csr.start[g], csr.start[g + 1]
    while depth >= 0:
        if at[depth] == end[depth]:
            depth -= 1
            continue
        y = csr.target[at[depth]]
        at[depth] += 1
        work += 1
        if work > cap:
            return n, -1
        seen = False
        for i in range(depth + 1):
            if here[i] == y:
                seen = True
        if seen:
            continue
        if depth == k - 1:
            if mark[y] != now:
                mark[y] = now
                found[n] = y
                n += 1
            continue
        r = find_row(csr, path[depth + 1], y)
        if r >= 0:
            depth += 1
            here[depth] = y
            at[depth], end[depth] = csr.start[r], csr.start[r + 1]
    return n, work


@compiled
def count_facts(csr: Csr, x: int, ys: Int32, mark: Int64, turn: int, support: Int64, subjects: Int64) -> None:
    """Of the pairs (x, y), the y marked with the turn, add those with d(x, y) to `support[d]`, and all of them to `subjects[d]`
    if x has any fact of d."""
    for i in range(csr.entity_start[x], csr.entity_start[x + 1]):
        r = csr.row_of[i]
        d = csr.direction_of[r]
        low, high = csr.start[r], csr.start[r + 1]
        held = 0
        if high - low <= 8 * len(ys):
            for e in range(low, high):
                held += mark[csr.target[e]] == turn
        else:
            for y in ys:
                held += find(csr.target, low, high, y) >= 0
        subjects[d] += len(ys)
        support[d] += held


@compiled
def count_path(
    csr: Csr,
    path: Int32,
    xs: Int32,
    space: Space,
    cap: int,
    support: Int64,
    subjects: Int64,
    times: Int32,
    most: int,
) -> tuple[int, int]:
    """Of the x of `xs` add up the pairs (x, y) that a path holds for: (pairs, facts looked at, −1 if these would exceed `cap`).

    To `support[d]` the number of these with d(x, y) is added, to `subjects[d]` that of those whose x has any fact of d: for all
    directions d at once. To `times[y]` how often y was found; it may be empty. More pairs than `most` are not looked for.
    """
    size, spent = 0, 0
    for x in xs:
        n, work = reach(csr, path, x, space, cap - spent)
        if work < 0:
            return size, -1
        spent += work + n
        size += n
        if size > most:
            return size, spent
        if n == 0:
            continue
        if len(times):
            for i in range(n):
                times[space.found[i]] += 1
        count_facts(csr, x, space.found[:n], space.mark, space.turn[0], support, subjects)
    return size, spent


@compiled
def neighbours(csr: Csr) -> tuple[Int64, Int32, Int32]:
    """Each entity's neighbours, ascending, with the direction that leads there: (start, neighbour, direction).

    Those of y are gone through by z, in whose rows y is found.
    """
    entities = len(csr.entity_start) - 1
    start = np.zeros(entities + 1, dtype=np.int64)
    for g in range(len(csr.source)):
        start[csr.source[g] + 1] += csr.start[g + 1] - csr.start[g]
    for x in range(entities):
        start[x + 1] += start[x]
    place = start.copy()
    adjacent, direction = np.empty(len(csr.target), dtype=np.int32), np.empty(len(csr.target), dtype=np.int32)
    for z in range(entities):
        for i in range(csr.entity_start[z], csr.entity_start[z + 1]):
            g = csr.row_of[i]
            for e in range(csr.start[g], csr.start[g + 1]):
                y = csr.target[e]
                adjacent[place[y]] = z
                direction[place[y]] = csr.direction_of[g] ^ 1
                place[y] += 1
    return start, adjacent, direction


@compiled
def lesser_degrees(around: Int64, source: Int32, target: Int32) -> Int64:
    """Of facts the lesser number of facts that one of its ends has, added up from the first on."""
    total = np.zeros(len(source) + 1, dtype=np.int64)
    for i in range(len(source)):
        x, y = source[i], target[i]
        total[i + 1] = total[i] + min(around[x + 1] - around[x], around[y + 1] - around[y])
    return total


@inlined
def _from(values: Int32, low: int, end: int, value: int) -> int:
    """The first place after `low` whose value is not below one, or the end; near ones are found sooner."""
    step = 1
    while low + step < end and values[low + step] < value:
        low += step
        step *= 2
    high = min(low + step, end)
    low += 1
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def pair_supports(
    adjacent_start: Int64,
    adjacent: Int32,
    direction: Int32,
    source: Int32,
    target: Int32,
    first: int,
    last: int,
    table: Int32,
    seen: Int32,
) -> None:
    """Of the facts (x, y) of a head from `first` to `last`, add up for how many of them each body d₁(X, Z), d₂(Z, Y) holds:
    `table[d₁, d₂]`.

    `adjacent` has the neighbours of each entity, ascending, and `direction` how they are reached. Of two entities the one with
    fewer neighbours says how long it takes. `seen`, of the same shape as the table, must not hold numbers of the facts yet to
    be looked at.
    """
    for i in range(first, last):
        x, y = source[i], target[i]
        if x == y:
            continue
        a, a_end = adjacent_start[x], adjacent_start[x + 1]
        b, b_end = adjacent_start[y], adjacent_start[y + 1]
        while a < a_end and b < b_end:
            u, v = adjacent[a], adjacent[b]
            if u < v:
                a = _from(adjacent, a, a_end, v)
            elif v < u:
                b = _from(adjacent, b, b_end, u)
            else:
                a_next, b_next = a, b
                while a_next < a_end and adjacent[a_next] == u:
                    a_next += 1
                while b_next < b_end and adjacent[b_next] == u:
                    b_next += 1
                if u != x and u != y:
                    for p in range(a, a_next):
                        for q in range(b, b_next):
                            d, e = direction[p], direction[q] ^ 1
                            if seen[d, e] != i:
                                seen[d, e] = i
                                table[d, e] += 1
                a, b = a_next, b_next


@inlined
def enter(values: Float32, rules: Int32, filled: int, value: float, rule: int) -> int:
    """Enter a rule into a list of the most trusted ones, if it belongs there: how many there are. Of equals the first stays."""
    depth = len(values)
    if filled < depth or value > values[depth - 1]:
        k = min(filled, depth - 1)
        while k > 0 and values[k - 1] < value:
            values[k] = values[k - 1]
            rules[k] = rules[k - 1]
            k -= 1
        values[k] = value
        rules[k] = rule
        filled = min(filled + 1, depth)
    return filled
