"""Paths of three to five atoms between the entities of known facts: of all facts, or of some of each head of a large graph.

    h(X, Y) ← d₁(X, Z₁), d₂(Z₁, Z₂), d₃(Z₂, Y)

There are (2 · relations)³ of them, of which few hold for any fact. So it is asked from the facts: for each (x, y) of them the
ways of two steps from x, or three, that meet the ways of one step, or two, to y are gone through, which gives the support of
all paths for the head at once; exactly, if no fact and no way was left out. What a path promises is

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
LONGEST: Final = 5
"""Atoms of a path."""
_WORK: Final = 1 << 13
_WAYS_OF: Final = ((_WORK, 0, 0), (256, _WORK, 0), (64, 1024, _WORK))
"""Ways of one, two and three steps from an end that are gone through, if these are halves of one, of two or of three steps;
where there are more, some are drawn."""
_PATHS: Final = 4_000
"""Paths of one fact."""
_DOUBTED: Final = 4
"""By how much an estimated support may be too small."""
_LOT: Final = 32
LOOKED_AT: Final = 100_000


def longest(store: TripleStore) -> int:
    """Atoms of the longest paths that are looked for: all of a length must have numbers of 62 bits."""
    return min(LONGEST, int(62 / math.log2(max(2, store.directions))))


class Promises(NamedTuple):
    """Canonical paths, the most promising first; the most support of each for any head, which is `exact` or an estimate."""

    paths: list[Path]
    support: Float64
    exact: bool


def promising(
    store: TripleStore, graph: Graph, length: int, least: int, most: int, seed: int = 0, looked_at: int = LOOKED_AT
) -> Promises:
    """At most `most` canonical paths whose support is at least `least` for some head.

    Args:
        graph: the store's (`graph_of`).
        length: their atoms, from 3 to `longest`.
        looked_at: facts to look at, as many of each head as far as there are; drawn by the seed.
    """
    rng, d, room = np.random.default_rng(seed), store.directions, room_for(len(store.entities))
    keys, supports, exact = [], [], True
    each = max(1, looked_at // len(store.relations))
    subject, relation, target = store.columns()  # by relation
    bounds = np.searchsorted(relation, np.arange(len(store.relations) + 1))
    for first, last in pairwise(bounds.tolist()):
        facts = np.arange(first, last)
        drawn = facts if len(facts) <= each else np.sort(rng.choice(facts, each, replace=False))
        found, every = ways(graph, length, subject[drawn], target[drawn], rng.random(len(drawn)), first, room)
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


def graph_of(store: TripleStore) -> Graph:
    start, adjacent, direction = neighbours(store.csr)
    return Graph(start, adjacent, direction, store.directions)


class Walks(NamedTuple):
    """The ways of one, two and three steps from an entity, one row each: where they end, the last direction, the place of the
    way that they make one step longer."""

    end: Int32
    direction: Int32
    shorter: Int32


class Met(NamedTuple):
    """By entity, the ways that end there as a list: the first of them if `mark` is the number of the turn; the next of each."""

    mark: Int64
    first: Int64
    next: Int64


class Room(NamedTuple):
    """What the compiled functions write into."""

    there: Walks
    back: Walks
    met: Met
    own: Int64


def room_for(entities: int) -> Room:
    there, back = (Walks(*np.empty((3, len(_WAYS_OF[-1]), _WORK), dtype=np.int32)) for _ in range(2))
    met = Met(np.full(entities, -1, dtype=np.int64), *(np.zeros(n, dtype=np.int64) for n in (entities, _WORK)))
    return Room(there, back, met, np.empty(_PATHS, dtype=np.int64))


@compiled
def walk(graph: Graph, x: int, other: int, steps: int, chance: float, walks: Walks) -> tuple[int, bool]:
    """List the ways of one to `steps` steps from x that touch no entity twice and not the other one: how many of `steps`,
    and whether these are all."""
    n, every = 1, True
    for k in range(steps):
        before, n, most = n, 0, _WAYS_OF[steps - 1][k]
        for p in range(before):
            z = walks.end[k - 1, p] if k else x
            of_z = graph.start[z + 1] - graph.start[z]
            room = min(of_z, most // before)
            every &= room == of_z
            for j in range(room):
                r = graph.start[z] + (int(chance * of_z) + j) % of_z
                w = graph.adjacent[r]
                if w != x and w != other and not _passes(walks, k - 1, p, w):
                    walks.end[k, n], walks.direction[k, n], walks.shorter[k, n] = w, graph.direction[r], p
                    n += 1
    return n, every


@inlined
def _passes(walks: Walks, k: int, p: int, w: int) -> bool:
    """Whether way p of k + 1 steps touches entity w."""
    found = False
    while k >= 0:
        found |= walks.end[k, p] == w
        p = walks.shorter[k, p]
        k -= 1
    return found


@inlined
def _number(there: Walks, first: int, p: int, back: Walks, second: int, q: int, d: int) -> np.int64:
    """The number of the path that way p there and way q back make."""
    key = np.int64(0)
    for k in range(second, -1, -1):
        key = key * d + (back.direction[k, q] ^ 1)
        q = back.shorter[k, q]
    power = d ** (second + 1)
    for k in range(first, -1, -1):
        key += power * there.direction[k, p]
        power *= d
        p = there.shorter[k, p]
    return key


@compiled
def meet(graph: Graph, length: int, m: int, n: int, turn: int, room: Room) -> tuple[int, bool]:
    """Number the paths of which m ways from x and n ways from y are the halves: how many, and whether these are all."""
    there, back, met, d, found = room.there, room.back, room.met, graph.directions, 0
    first, second = length - length // 2 - 1, length // 2 - 1
    for q in range(n):
        w = back.end[second, q]
        met.next[q] = met.first[w] if met.mark[w] == turn else -1
        met.mark[w] = turn
        met.first[w] = q
    for p in range(m):
        w = there.end[first, p]
        q = met.first[w] if met.mark[w] == turn else -1
        while q >= 0:
            if second == 0 or not _passes(there, first, p, back.end[0, back.shorter[1, q]]):
                if found == len(room.own):
                    return found, False
                room.own[found] = _number(there, first, p, back, second, q, d)
                found += 1
            q = met.next[q]
    return found, True


@compiled
def ways(
    graph: Graph, length: int, xs: Int64, ys: Int64, chances: Float64, turn: int, room: Room
) -> tuple[Int64, bool]:
    """Of each fact (x, y) the paths of three to five steps from x to y, each once, as numbers whose digits, to the base of
    the directions, are its steps; whether these are all.

    No entity of the room may be marked by a number from `turn` on.
    """
    out, n, every = np.empty(1 << 12, dtype=np.int64), 0, True
    for i in range(len(xs)):
        if xs[i] == ys[i]:
            continue
        there, all_there = walk(graph, xs[i], ys[i], length - length // 2, chances[i], room.there)
        back, all_back = walk(graph, ys[i], xs[i], length // 2, chances[i], room.back)
        found, all_found = meet(graph, length, there, back, turn + i, room)
        every &= all_there and all_back and all_found
        seen = np.unique(room.own[:found])
        while n + len(seen) > len(out):
            out = np.concatenate((out, np.empty_like(out)))
        out[n : n + len(seen)] = seen
        n += len(seen)
    return out[:n], every
