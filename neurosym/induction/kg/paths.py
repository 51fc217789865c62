"""Rules whose body is a path, measured exactly for all heads at once; all paths of one and two atoms that hold somewhere.

For two atoms it is not asked which of the (2 · relations)² paths are worth measuring: for each fact (x, y) of a head the
neighbours that x and y share are gone through, which gives the support of all paths for this head at once, and only paths with
enough of it for some head are measured. A path read backwards is the same body with X and Y exchanged, so one of the two is.

The support for a head says how many pairs the body may have at most, or the rule is below the thresholds: one that has more is
left where this is seen. Heads are gone through from the cheapest to the dearest, so that the search may be stopped at any
moment and what it found is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np

from neurosym.induction.kg.kernels import (
    NO_LIMIT,
    Space,
    count_path,
    lesser_degrees,
    neighbours,
    pair_supports,
    space_for,
)
from neurosym.induction.kg.rules import DOUBT, PathRules
from neurosym.induction.kg.store import Int32, Int64, TripleStore

Path = tuple[int, ...]
_NO_PATHS: Final = PathRules(*(np.zeros(shape, np.int32) for shape in (0, (0, 1), 0, 0)))
WORK: Final = 200_000_000
"""Facts that may be looked at to measure one body: a second or so."""
_TOGETHER: Final = 16
"""Paths that a worker measures before others are asked whether there is time."""
_AT_ONCE: Final = 5_000_000
"""Neighbours that are looked at before others are asked."""


class Thresholds(NamedTuple):
    """What a rule must have: support, and support / (body size + 5)."""

    support: int = 2
    smoothed: float = 0.01

    def least(self, size: int) -> int:
        """The support that a rule of a body of some size must have."""
        return int(self.leasts(np.array(size)))

    def leasts(self, sizes: Int64) -> Int64:
        """`least` of many."""
        wanted = np.ceil(self.smoothed * (np.maximum(sizes, 0) + DOUBT) - 1e-9)
        return np.maximum(self.support, wanted).astype(np.int64)

    def most(self, support: int) -> int:
        """A bound of the size of the bodies for which some support is enough."""
        return math.floor(support / self.smoothed) if self.smoothed else NO_LIMIT


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
    """What one worker found: rows of a table of rules, how many paths it measured and gave up, which have too many pairs."""

    rows: list[tuple[int, ...]]
    measured: int
    given_up: int
    too_wide: list[Path]


class PathMiner:
    """Measures paths on a store, with one space per worker."""

    def __init__(self, store: TripleStore, thresholds: Thresholds, cap: int = WORK, workers: int = 1) -> None:
        self.store, self.thresholds, self.cap, self.workers = store, thresholds, cap, workers
        self.measured = self.too_expensive = 0
        self.too_wide: list[Path] = []
        self._spaces = [space_for(len(store.entities)) for _ in range(workers)]

    def rules(self, paths: Sequence[Path], most: Sequence[int] = ()) -> PathRules:
        """The rules above the thresholds with one of these canonical paths for a body, by head and path.

        Args:
            most: how many pairs each path may have; `too_wide` are then those that have more.
        """
        longest = max((len(p) for p in paths), default=1)
        limits = most or [NO_LIMIT] * len(paths)

        def lane(i: int) -> Found:
            found = Found([], 0, 0, [])
            for path, limit in zip(paths[i :: self.workers], limits[i :: self.workers], strict=True):
                rows, size = self._of_path(path, longest, limit, self._spaces[i])
                found.rows.extend(rows or [])
                if size > limit:
                    found.too_wide.append(path)
                found = found._replace(measured=found.measured + 1, given_up=found.given_up + (rows is None))
            return found

        lots = self._in_lanes(lane)
        self.measured += sum(lot.measured for lot in lots)
        self.too_expensive += sum(lot.given_up for lot in lots)
        self.too_wide = [path for lot in lots for path in lot.too_wide]
        rows = sorted(row for lot in lots for row in lot.rows)
        return _columns(np.array(rows, dtype=np.int32).reshape(len(rows), longest + 3))  # also of no rows

    def rules_of_one_atom(self) -> Iterator[PathRules]:
        """All rules whose body is one atom, part by part, the relations with the fewest facts first; parts may be empty."""
        csr = self.store.csr
        facts = np.diff(csr.start[csr.first_row])[::2]
        for relation in np.argsort(facts, kind="stable").tolist():
            yield self.rules([(2 * relation,)])

    def rules_of_two_atoms(self) -> Iterator[PathRules]:
        """All rules whose body is a path of two atoms, part by part, the cheapest heads first; parts may be empty."""
        supports, looked_at = PairSupports(self.store), dict[Path, int]()
        for relation in np.argsort(supports.costs, kind="stable").tolist():
            for _ in supports.of(relation):
                yield _NO_PATHS
            limits: dict[Path, int] = {}
            for path, support in supports.paths(self.thresholds.support):
                limits[path] = max(limits.get(path, 0), self.thresholds.most(support))
            new = [(p, limit) for p, limit in sorted(limits.items()) if looked_at.get(p, -1) < limit]
            for k in range(0, len(new), _TOGETHER * self.workers):
                paths, most = zip(*new[k : k + _TOGETHER * self.workers], strict=True)
                found = self.rules(paths, most)
                looked_at |= dict.fromkeys(paths, NO_LIMIT)
                looked_at |= {path: limits[path] for path in self.too_wide}
                yield found

    def known(self, rules: PathRules) -> Int64:
        """Of how many of the pairs of each rule's body X has some fact of the head's relation."""
        csr, space = self.store.csr, self._spaces[0]
        counted: dict[Path, Int64] = {}
        for path in {tuple(int(d) for d in row if d >= 0) for row in rules.path}:
            support, subjects = np.zeros((2, self.store.directions), dtype=np.int64)
            steps, nothing = np.array(path, dtype=np.int32), np.zeros(0, np.int32)
            count_path(csr, steps, self.store.sources(path[0]), space, NO_LIMIT, support, subjects, nothing, NO_LIMIT)
            counted[path] = subjects
        rows = zip(rules.head.tolist(), rules.path.tolist(), strict=True)
        known = [counted[tuple(d for d in path if d >= 0)][2 * head] for head, path in rows]
        return np.array(known, dtype=np.int64)

    def _in_lanes(self, lane: Callable[[int], Found]) -> list[Found]:
        if self.workers == 1:
            return [lane(0)]
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(lane, range(self.workers)))

    def _of_path(self, path: Path, longest: int, most: int, space: Space) -> tuple[list[tuple[int, ...]] | None, int]:
        """The rules with this body, None if it is too expensive; and its size, or one above `most`."""
        support, subjects = np.zeros((2, self.store.directions), dtype=np.int64)
        xs, steps = self.store.sources(path[0]), np.array(path, dtype=np.int32)
        nothing = np.zeros(0, np.int32)
        size, work = count_path(self.store.csr, steps, xs, space, self.cap, support, subjects, nothing, most)
        if work < 0 or size > most:
            return (None if work < 0 else []), size
        heads = np.flatnonzero(support >= self.thresholds.least(size)).tolist()
        if path == backwards(path):
            heads = [h for h in heads if not h & 1]  # the others say the same
        padding = [-1] * (longest - len(path))
        rows = [
            (h >> 1, *(backwards(path) if h & 1 else path), *padding, int(support[h]), int(size))
            for h in heads
            if path != (h,)
        ]
        return rows, size


class PairSupports:
    """For how many facts of a relation each path of two atoms holds.

    Needs two tables of (2 · relations)² numbers.

    Attributes:
        table: by the directions of both atoms, of the facts that were looked at last.
        costs: of each relation, how many neighbours have to be looked at, or so.
    """

    def __init__(self, store: TripleStore) -> None:
        self.store = store
        self.around = neighbours(store.csr)
        self.table, self._seen = np.zeros((2, store.directions, store.directions), dtype=np.int32)
        self.costs = np.array([self._facts(r)[2][-1] for r in range(len(store.relations))])

    def of(self, relation: int) -> Iterator[None]:
        """Look at the facts of a relation; the table is right when that has come to its end."""
        source, target, cost = self._facts(relation)
        self.table[:] = 0
        self._seen[:] = -1
        first = 0
        while first < len(source):
            last = max(first + 1, int(np.searchsorted(cost, cost[first] + _AT_ONCE)))
            pair_supports(*self.around, source, target, first, min(last, len(source)), self.table, self._seen)
            first = last
            yield

    def paths(self, least: int) -> Iterator[tuple[Path, int]]:
        """The canonical paths with enough support, and how much that is."""
        for a, b in np.argwhere(self.table >= max(1, least)).tolist():
            yield canonical_path((a, b)), int(self.table[a, b])

    def _facts(self, relation: int) -> tuple[Int32, Int32, Int64]:
        """(subjects, objects, what it costs to look at those before each)."""
        csr = self.store.csr
        low, high = csr.first_row[2 * relation : 2 * relation + 2]
        source = np.repeat(csr.source[low:high], np.diff(csr.start[low : high + 1]))
        target = csr.target[csr.start[low] : csr.start[high]]
        return source, target, lesser_degrees(self.around[0], source, target)


def joined_paths(parts: Sequence[PathRules]) -> PathRules:
    """Rules of several parts, by head and path; no two parts may have the same rule."""
    width = max((part.path.shape[1] for part in parts), default=1)
    rows = [np.zeros((0, width + 3), dtype=np.int32)]
    for part in parts:
        padding = np.full((len(part.head), width - part.path.shape[1]), -1, dtype=np.int32)
        rows.append(np.column_stack([part.head, part.path, padding, part.support, part.size]))
    table = np.concatenate(rows)
    return _columns(table[np.lexsort(table[:, : width + 1].T[::-1])])


def path_rules(rows: Sequence[tuple[int, Path, int, int]]) -> PathRules:
    """Rows of (head, path, support, body size), the paths of any length, as columns."""
    width = max((len(path) for _, path, _, _ in rows), default=1)
    table = [(h, *path, *[-1] * (width - len(path)), support, size) for h, path, support, size in rows]
    return _columns(np.array(table, dtype=np.int32).reshape(len(rows), width + 3))


def _columns(table: Int32) -> PathRules:
    """Rows of (head, path, support, body size) as columns."""
    parts = table[:, 0], table[:, 1:-2], table[:, -2], table[:, -1]
    return PathRules(*(np.ascontiguousarray(part) for part in parts))
