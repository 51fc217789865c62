"""The rows of sorted facts, in time that grows with the number of facts alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neurosym.induction.kg.compiled import compiled

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@compiled
def ordered_by(value: Int32, count: int) -> tuple[Int64, Int32]:
    """(where each number below `count` begins in the order, the order); equal ones keep theirs."""
    start = np.zeros(count + 1, dtype=np.int64)
    for v in value:
        start[v + 1] += 1
    for v in range(count):
        start[v + 1] += start[v]
    place, order = start.copy(), np.empty(len(value), dtype=np.int32)
    for i in range(len(value)):
        order[place[value[i]]] = i
        place[value[i]] += 1
    return start, order


@compiled
def rows_of(key: Int64, count: int) -> tuple[Int32, Int64, Int32, Int32]:
    """Of sorted (direction · count + source) · count + target: (targets, where rows begin, their sources, directions)."""
    rows = 0
    last = np.int64(-1)
    target = np.empty(len(key), dtype=np.int32)
    for e in range(len(key)):
        row = key[e] // count
        target[e] = key[e] - row * count
        rows += row != last
        last = row
    start = np.empty(rows + 1, dtype=np.int64)
    source, direction = np.empty(rows, dtype=np.int32), np.empty(rows, dtype=np.int32)
    g, last = 0, np.int64(-1)
    for e in range(len(key)):
        row = (key[e] - target[e]) // count
        if row != last:
            start[g] = e
            direction[g] = row // count
            source[g] = row - np.int64(direction[g]) * count
            g += 1
            last = row
    start[rows] = len(key)
    return target, start, source, direction


@compiled
def reverses(target: Int32, start: Int64, source: Int32, first_row: Int64, count: int) -> Int32:
    """The row of the reverse of each fact: that of row (d, x) with target y lies in row (d ^ 1, y)."""
    back = np.empty(len(target), dtype=np.int32)
    row = np.empty(count, dtype=np.int32)
    for d in range(len(first_row) - 1):
        for g in range(first_row[d ^ 1], first_row[(d ^ 1) + 1]):
            row[source[g]] = g
        for e in range(start[first_row[d]], start[first_row[d + 1]]):
            back[e] = row[target[e]]
    return back
