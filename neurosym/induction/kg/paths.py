"""Rules whose body is a path, measured exactly for all heads at once; all paths of one and two atoms that hold somewhere.

For two atoms it is not asked which of the (2 · relations)² paths are worth measuring: for each fact (x, y) of a head the
neighbours that x and y share are gone through, which gives the support of all paths for this head at once, and only paths with
enough of it for some head are measured. A path read backwards is the same body with X and Y exchanged, so one of the two is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np

from neurosym.induction.kg.kernels import ANY, Space, count_path, pair_supports, space_for
from neurosym.induction.kg.rules import DOUBT, PathRules
from neurosym.induction.kg.store import Int32, Int64, TripleStore

Path = tuple[int, ...]
WORK: Final = 200_000_000
"""Facts that may be looked at to measure one body: a second or so."""


class Thresholds(NamedTuple):
    """What a rule must have: support, and support / (body size + 5)."""

    support: int = 2
    smoothed: float = 0.01

    def least(self, size: int) -> int:
        """The support that a rule of a body of some size must have."""
        return max(self.support, math.ceil(self.smoothed * (max(size, 0) + DOUBT) - 1e-9))


def backwards(path: Path) -> Path:
    """The same body with X and Y exchanged.

    >>> backwards((0, 3))
    (2, 1)
    """
    return tuple(d ^ 1 for d in reversed(path))


def canonical_path(path: Path) -> Path:
    """The lesser of a path and the path backwards."""
    return min(path, backwards(path))


class Found(NamedTuple):
    """What one worker found: rows of a table of rules, how many paths it measured and gave up."""

    rows: list[tuple[int, ...]]
    measured: int
    given_up: int


class PathMiner:
    """Measures paths on a store, with one space per worker."""

    def __init__(self, store: TripleStore, thresholds: Thresholds, cap: int = WORK, workers: int = 1) -> None:
        self.store, self.thresholds, self.cap, self.workers = store, thresholds, cap, workers
        self.measured = self.too_expensive = 0
        self._spaces = [space_for(len(store.entities)) for _ in range(workers)]

    def rules(self, paths: Sequence[Path], largest: Sequence[int] = ()) -> PathRules:
        """The rules above the thresholds with one of these canonical paths for a body, by head and path.

        Args:
            largest: of each path, the pairs it may hold for; none of its rules are looked for if it has more.
        """
        longest = max((len(p) for p in paths), default=1)

        def lane(i: int) -> Found:
            found: list[tuple[int, ...]] = []
            measured = given_up = 0
            for n in range(i, len(paths), self.workers):
                rows = self._of_path(paths[n], longest, self._spaces[i], largest[n] if largest else ANY)
                found += rows or []
                measured, given_up = measured + 1, given_up + (rows is None)
            return Found(found, measured, given_up)

        with ThreadPoolExecutor(self.workers) as pool:
            lots = list(pool.map(lane, range(self.workers)))
        self.measured += sum(lot.measured for lot in lots)
        self.too_expensive += sum(lot.given_up for lot in lots)
        rows = sorted(row for lot in lots for row in lot.rows)
        return _columns(np.array(rows, dtype=np.int32).reshape(len(rows), longest + 3))  # also of no rows

    def _of_path(self, path: Path, longest: int, space: Space, largest: int) -> list[tuple[int, ...]] | None:
        """The rules with this body; None if it is too expensive."""
        support, subjects = np.zeros((2, self.store.directions), dtype=np.int64)
        xs, steps = self.store.sources(path[0]), np.array(path, dtype=np.int32)
        nowhere = np.zeros(0, np.int32)
        size, work = count_path(self.store.csr, steps, xs, space, self.cap, largest, support, subjects, nowhere)
        if work < 0:
            return None
        if size > largest:
            return []
        heads = np.flatnonzero(support >= self.thresholds.least(size)).tolist()
        if path == backwards(path):
            heads = [h for h in heads if not h & 1]  # the others say the same
        padding = [-1] * (longest - len(path))
        return [
            (h >> 1, *(backwards(path) if h & 1 else path), *padding, int(support[h]), int(size))
            for h in heads
            if path != (h,)
        ]


def joined(lots: Sequence[PathRules]) -> PathRules:
    """The rules of several tables, by head and path; no two may have the same rule."""
    width = max(lot.path.shape[1] for lot in lots)
    rows = []
    for lot in lots:
        padding = np.full((len(lot.head), width - lot.path.shape[1]), -1, dtype=np.int32)
        rows.append(np.column_stack([lot.head, lot.path, padding, lot.support, lot.size]))
    table = np.concatenate(rows)
    table = table[np.lexsort(table[:, : width + 1].T[::-1])]
    return _columns(table)


def path_rules(rows: Sequence[tuple[int, Path, int, int]]) -> PathRules:
    """Rows of (head, path, support, body size), the paths of any length, as columns."""
    width = max((len(path) for _, path, _, _ in rows), default=1)
    table = [(h, *path, *[-1] * (width - len(path)), support, size) for h, path, support, size in rows]
    return _columns(np.array(table, dtype=np.int32).reshape(len(rows), width + 3))


def _columns(table: Int32) -> PathRules:
    """Rows of (head, path, support, body size) as columns."""
    parts = table[:, 0], table[:, 1:-2], table[:, -2], table[:, -1]
    return PathRules(*(np.ascontiguousarray(part) for part in parts))


def short_paths(store: TripleStore, longest: int, least: int) -> list[Path]:
    """The canonical paths of one atom, and of two where the support is at least `least` for some head; in order.

    Needs three tables of (2 · relations)² numbers.
    """
    found: list[Path] = [(d,) for d in range(0, store.directions, 2)]
    if longest < 2:
        return found
    start, adjacent, direction = neighbours(store)
    shape = (store.directions, store.directions)
    best, table = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    seen = np.empty(shape, dtype=np.int32)
    csr = store.csr
    for d in range(0, store.directions, 2):
        rows = slice(csr.first_row[d], csr.first_row[d + 1])
        low, high = csr.start[csr.first_row[d]], csr.start[csr.first_row[d + 1]]
        source = np.repeat(csr.source[rows], np.diff(csr.start[csr.first_row[d] : csr.first_row[d + 1] + 1]))
        table[:] = 0
        seen[:] = -1
        pair_supports(start, adjacent, direction, source, csr.target[low:high], table, seen)
        np.maximum(best, table, out=best)
    # the support of a path for a head is that of the path backwards for the head backwards
    best = np.maximum(best, best.T[np.arange(len(best)) ^ 1][:, np.arange(len(best)) ^ 1])
    pairs = np.argwhere(best >= max(1, least)).tolist()
    return found + [(a, b) for a, b in pairs if (a, b) <= (b ^ 1, a ^ 1)]


def neighbours(store: TripleStore) -> tuple[Int64, Int32, Int32]:
    """Each entity's neighbours, ascending, with the direction that leads there: (start, neighbour, direction)."""
    csr = store.csr
    rows = np.repeat(np.arange(len(csr.source)), np.diff(csr.start))
    source, direction = csr.source[rows], csr.direction_of[rows]
    order = np.lexsort((direction, csr.target, source))
    start = np.searchsorted(source[order], np.arange(len(store.entities) + 1)).astype(np.int64)
    return start, csr.target[order], direction[order]
