"""Paths of three and of four atoms between the entities of known facts: of all facts, or of some of each head of a large graph.

    h(X, Y) ← d₁(X, Z₁), d₂(Z₁, Z₂), d₃(Z₂, Y)

There are (2 · relations)³ of them, of which few hold for any fact. So it is asked from the facts: for each (x, y) of them the
ways of two steps from x that meet the ways of one step, or two, to y are gone through, which gives the support of all paths for
the head at once; exactly, if no fact and no way was left out. What a path promises is

    support · support / walks,      walks = (d₁ d₂) (d₂ d₃) / |d₂|,

support being scaled up from the facts that were drawn, and (d e) the number of ways to make two steps, so that `walks` is how
many there would be if a step depended on the one before it alone. The most promising paths are measured first, as long as there
is time. The support tells how large a body may be before its rules fall below the threshold, where the path is given up; if it
is an estimate, four times as large.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neurosym.induction.kg.compiled import compiled, inlined
from neurosym.induction.kg.kernels import neighbours
from neurosym.induction.kg.paths import Path, PathMiner
from neurosym.induction.kg.rules import PathRules
from neurosym.induction.kg.store import Int32, Int64, TripleStore

Float64 = NDArray[np.float64]
_NEIGHBOURS: Final = 256
_WORK: Final = 1 << 13
"""Neighbours of x that are gone through, and of these the neighbours altogether; where there are more, some are drawn."""
_WAYS: Final = 4_000
_DOUBTED: Final = 4
"""By how much an estimated support may be too small."""
_LOT: Final = 32
LOOKED_AT: Final = 100_000


class Promises(NamedTuple):
    """Canonical paths, the most promising first; the most support of each for any head, which is `exact` or an estimate."""

    paths: list[Path]
    support: Float64
    exact: bool


def promising(
    store: TripleStore, length: int, least: int, most: int, seed: int = 0, looked_at: int = LOOKED_AT
) -> Promises:
    """At most `most` canonical paths whose support is at least `least` for some head.

    Args:
        length: their atoms, 3 or 4.
        looked_at: facts to look at, as many of each head as far as there are; drawn by the seed.
    """
    rng, d = np.random.default_rng(seed), store.directions
    start, adjacent, direction = neighbours(store.csr)
    graph, behind = Graph(start, adjacent, direction, d), nothing_behind(len(store.entities))
    keys, supports, exact = [], [], True
    each = max(1, looked_at // len(store.relations))
    subject, relation, target = store.columns()  # by relation
    bounds = np.searchsorted(relation, np.arange(len(store.relations) + 1))
    for first, last in pairwise(bounds.tolist()):
        facts = np.arange(first, last)
        drawn = facts if len(facts) <= each else np.sort(rng.choice(facts, each, replace=False))
        found, every = ways(graph, length, subject[drawn], target[drawn], rng.random(len(drawn)), behind, first)
        path, count = np.unique(found, return_counts=True)
        keys.append(path)
        supports.append(count * (len(facts) / len(drawn)))
        exact &= every and len(drawn) == len(facts)
    there, back = _steps(np.concatenate(keys), d, length), d ** np.arange(length)[::-1]
    key = np.minimum(there @ back, (there ^ 1)[:, ::-1] @ back)
    key, place = np.unique(key, return_inverse=True)
    support = np.zeros(len(key))
    np.maximum.at(support, place, np.concatenate(supports))
    steps = _steps(key, d, length)
    order = np.lexsort((key, -(support**2) / np.maximum(1.0, _walks(store, steps))))
    chosen = order[support[order] >= least][:most]
    return Promises([tuple(path) for path in steps[chosen].tolist()], support[chosen], exact)


def _steps(key: Int64, base: int, length: int) -> Int64:
    """The digits of numbers."""
    return np.stack([key // base**k % base for k in range(length)][::-1], 1)


def _walks(store: TripleStore, steps: Int64) -> Float64:
    """How many ways there are to make the steps, as far as those of two steps tell."""
    csr = store.csr
    rows = np.diff(csr.start).astype(np.float64)
    out = sparse.csr_matrix((rows, (csr.direction_of, csr.source)), shape=(store.directions, len(store.entities)))
    into = out[np.arange(store.directions) ^ 1]
    two: Float64 = (into @ out.T).toarray()
    facts = np.asarray(out.sum(1)).ravel()
    walks: Float64 = two[steps[:, 0], steps[:, 1]]
    for k in range(1, steps.shape[1] - 1):
        walks = walks * two[steps[:, k], steps[:, k + 1]] / facts[steps[:, k]]
    return walks


def mined(miner: PathMiner, promises: Promises) -> Iterator[PathRules]:
    """The rules of promising paths, some paths at a time, in their order."""
    trust = 1 if promises.exact else _DOUBTED
    most = [miner.thresholds.most(math.ceil(trust * support)) for support in promises.support]
    lot = _LOT * miner.workers
    for i in range(0, len(promises.paths), lot):
        yield miner.rules(promises.paths[i : i + lot], most[i : i + lot])


class Graph(NamedTuple):
    """The facts of each entity as `neighbours` gives them, and how many directions there are."""

    start: Int64
    adjacent: Int32
    direction: Int32
    directions: int


class Behind(NamedTuple):
    """What the compiled functions write into: of the entities from which an end leads on, a list each of the ways.

    `first[w]` is the first of w's list if `mark[w]` is the number of the turn, `next` that after a way; `key` has its steps,
    `via` the entity half-way, −1 if there is none.
    """

    mark: Int64
    first: Int64
    next: Int64
    key: Int64
    via: Int64


def nothing_behind(entities: int) -> Behind:
    marks = np.full(entities, -1, dtype=np.int64), np.zeros(entities, dtype=np.int64)
    return Behind(*marks, *np.zeros((3, _WORK), dtype=np.int64))


@compiled
def _drawn(graph: Graph, x: int, room: int, chance: float) -> tuple[int, int, int]:
    """Of x's facts those that are gone through: the first place, the one that begins the turn, how many."""
    low, count = graph.start[x], graph.start[x + 1] - graph.start[x]
    return low, int(chance * count), min(count, room)


@inlined
def apart(w: int, x: int, y: int, z: int) -> bool:
    """Whether an entity is none of three others."""
    return w != x and w != y and w != z


@compiled
def list_behind(graph: Graph, x: int, y: int, steps: int, chance: float, behind: Behind, turn: int) -> bool:
    """List the ways of one or two steps that lead to y, by the entity where they begin; whether these are all."""
    n = 0
    low, begin, count = _drawn(graph, y, _NEIGHBOURS if steps == 2 else _WORK, chance)
    of_y = graph.start[y + 1] - low
    every: bool = count == of_y
    for k in range(count):
        q = low + (begin + k) % of_y
        v, last = graph.adjacent[q], graph.direction[q] ^ 1
        if not apart(v, x, y, y):
            continue
        if steps == 1:
            n = _listed(behind, turn, v, last, -1, n)
            continue
        first, from_v, count_v = _drawn(graph, v, _WORK // count, chance)
        of_v = graph.start[v + 1] - first
        every &= count_v == of_v
        for j in range(count_v):
            r = first + (from_v + j) % of_v
            w = graph.adjacent[r]
            if apart(w, x, y, v):
                n = _listed(behind, turn, w, (graph.direction[r] ^ 1) * graph.directions + last, v, n)
    return every


@inlined
def _listed(behind: Behind, turn: int, w: int, key: int, via: int, n: int) -> int:
    behind.next[n] = behind.first[w] if behind.mark[w] == turn else -1
    behind.mark[w] = turn
    behind.first[w] = n
    behind.key[n] = key
    behind.via[n] = via
    return n + 1


@compiled
def list_ways(
    graph: Graph, x: int, y: int, shift: int, chance: float, behind: Behind, turn: int, own: Int64
) -> tuple[int, bool]:
    """List the ways of two steps from x that meet what is listed behind: how many, and whether these are all."""
    m = 0
    low, begin, count = _drawn(graph, x, _NEIGHBOURS, chance)
    of_x = graph.start[x + 1] - low
    every: bool = count == of_x
    for k in range(count):
        p = low + (begin + k) % of_x
        z = graph.adjacent[p]
        if not apart(z, x, y, y):
            continue
        first, from_z, count_z = _drawn(graph, z, _WORK // count, chance)
        of_z = graph.start[z + 1] - first
        every &= count_z == of_z
        for j in range(count_z):
            r = first + (from_z + j) % of_z
            w = graph.adjacent[r]
            if behind.mark[w] != turn or not apart(w, x, y, z):
                continue
            q = behind.first[w]
            while q >= 0:
                if behind.via[q] != z:
                    if m == len(own):
                        return m, False
                    own[m] = (graph.direction[p] * graph.directions + graph.direction[r]) * shift + behind.key[q]
                    m += 1
                q = behind.next[q]
    return m, every


@compiled
def ways(
    graph: Graph, length: int, xs: Int64, ys: Int64, chances: Float64, behind: Behind, turn: int
) -> tuple[Int64, bool]:
    """Of each fact (x, y) the paths of three or four steps from x to y, each once, as numbers whose digits, to the base of
    the directions, are its steps; whether these are all.

    `behind` must not be marked by numbers from `turn` on.
    """
    out, n, every = np.empty(1 << 12, dtype=np.int64), 0, True
    own = np.empty(_WAYS, dtype=np.int64)
    shift = graph.directions ** (length - 2)
    for i in range(len(xs)):
        if xs[i] == ys[i]:
            continue
        every &= list_behind(graph, xs[i], ys[i], length - 2, chances[i], behind, turn + i)
        m, found_all = list_ways(graph, xs[i], ys[i], shift, chances[i], behind, turn + i, own)
        every &= found_all
        seen = np.unique(own[:m])
        while n + len(seen) > len(out):
            out = np.concatenate((out, np.empty_like(out)))
        out[n : n + len(seen)] = seen
        n += len(seen)
    return out[:n], every
