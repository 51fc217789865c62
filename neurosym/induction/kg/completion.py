"""Which facts are missing? Rules applied to questions h(x, ?), and where the known answers stand among the entities.

A question asks for the targets of a direction h from an entity x, so that "who is the subject" is the reverse direction's
question. What the rules say is a list of (rule, entity); `neurosym.induction.kg.aggregation` makes of an entity's rules its
standing.

Ranks are *filtered* (Bordes et al., NeurIPS 2013): other entities that are known to be right do not count. Of the entities that
stand as high as the answer half are taken to be above it (the mean of the best and the worst order), so that a tie is no gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosym.induction.kg.aggregation import METHODS, Aggregation, ByDirection, Standing, aggregation, nobody, stand
from neurosym.induction.kg.applied import EVERY, ROOM, Applied, Workplace, all_answers, workplace_for
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.kernels import find_row
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.store import Csr, Int32, Int64, TripleStore


@compiled
def right_answers(known: Csr, x: int, h: int, right: Int64, q: int) -> None:
    """Mark with q the entities that are known to answer h(x, ?)."""
    g = find_row(known, h, x)
    if g >= 0:
        for e in range(known.start[g], known.start[g + 1]):
            right[known.target[e]] = q


@compiled
def ask(
    csr: Csr, rules: Applied, how: Aggregation, asked: Int64, q: int, place: Workplace, standing: Standing, hits: Int32
) -> Int32:
    """Fill `standing` for question q of `asked`, (x, h, …), if it is not the one before; the list to ask the next with."""
    x, h = asked[q, 0], asked[q, 1]
    if q == 0 or asked[q - 1, 0] != x or asked[q - 1, 1] != h:
        hits, n = all_answers(csr, rules, x, h, place, hits, how.depth if how.by_trust else EVERY)
        stand(csr, how, h, q == 0 or asked[q - 1, 1] != h, hits[:n], standing)
    return hits


@compiled
def rank_of(how: Aggregation, standing: Standing, right: Int64, q: int, answer: int) -> float:
    """The filtered rank of an answer: entities marked with q are known to be right and do not count."""
    above, equal = 0, 0
    for y in range(len(right)):
        if y == answer or right[y] == q:
            continue
        side = 0.0
        if how.lexicographic and (standing.filled[y] or standing.filled[answer]):
            for k in range(how.depth):
                side = standing.value[y, k] - standing.value[answer, k]
                if side != 0:
                    break
        if side == 0:
            side = standing.score[y] - standing.score[answer]
        if side > 0:
            above += 1
        elif side == 0:
            equal += 1
    return 1 + above + 0.5 * equal


@compiled
def _ranks(
    csr: Csr,
    rules: Applied,
    how: Aggregation,
    known: Csr,
    asked: Int64,
    place: Workplace,
    standing: Standing,
    ranks: Any,
) -> None:
    """The filtered rank of the answer of each question (x, h, answer); questions of one (x, h) come after one another."""
    right = np.full(len(csr.entity_start) - 1, -1, dtype=np.int64)
    hits = np.empty((ROOM, 2), dtype=np.int32)
    for q in range(len(asked)):
        x, h, answer = asked[q]
        hits = ask(csr, rules, how, asked, q, place, standing, hits)
        right_answers(known, x, h, right, q)
        ranks[q] = rank_of(how, standing, right, q, answer)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Filtered ranks of the answers of all questions, in the order in which they were asked."""

    ranks: np.ndarray

    @property
    def mrr(self) -> float:
        """The mean of 1 / rank."""
        return float((1 / self.ranks).mean())

    def hits(self, k: int) -> float:
        """The share of ranks that are at most k."""
        return float((self.ranks <= k).mean())


def questions(facts: Sequence[Int64]) -> Int64:
    """Facts (subject, relation, object) as questions (x, h, answer): first those after objects, then those after subjects."""
    s, r, o = facts
    return np.concatenate([np.stack([s, 2 * r, o], 1), np.stack([o, 2 * r + 1, s], 1)]).astype(np.int64)


def drawn(asked: Int64, directions: int, most: int, rng: np.random.Generator) -> Int64:
    """At most so many questions of each direction, sorted."""
    asked = asked[rng.permutation(len(asked))]
    asked = asked[np.argsort(asked[:, 1], kind="stable")]
    first = np.searchsorted(asked[:, 1], np.arange(directions))
    kept = asked[np.arange(len(asked)) - first[asked[:, 1]] < most]
    return kept[np.lexsort((kept[:, 0], kept[:, 1]))]


def rank_answers(
    store: TripleStore,
    rules: Applied,
    how: Aggregation | ByDirection,
    facts: Sequence[Int64],
    known: TripleStore,
    workers: int = 1,
) -> Ranking:
    """Where the answers stand when facts are asked for in both directions.

    Args:
        store: the facts that rules are applied to.
        facts: columns subject, relation, object, in numbers of the store.
        known: all that is known to be right, in the same numbers.
        workers: threads.
    """
    asked = questions(facts)
    order = np.lexsort((asked[:, 0], asked[:, 1]))
    ranks = np.empty(len(asked))
    own = [(how, order)]
    if isinstance(how, ByDirection):
        way = how.way[asked[order, 1]]
        own = [(how.ways[w], order[way == w]) for w in np.unique(way).tolist()]
    pieces = [
        (way, rows)
        for way, all_rows in own
        for rows in np.array_split(all_rows, max(1, min(workers * 8, len(all_rows) // 64)))
    ]

    def rank(piece: tuple[Aggregation, Int64]) -> None:
        way, rows = piece
        part = np.empty(len(rows))
        place, standing = workplace_for(len(store.entities)), nobody(len(store.entities), way.depth)
        _ranks(store.csr, rules, way, known.csr, asked[rows], place, standing, part)
        ranks[rows] = part

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(rank, pieces))
    return Ranking(ranks)


def best_aggregation(
    store: TripleStore,
    rules: RuleColumns,
    applied: Applied,
    valid: Sequence[Int64],
    known: TripleStore,
    workers: int = 1,
    most: int = 2000,
) -> tuple[str, Aggregation]:
    """The method under which the answers of held-back facts stand best by MRR, and its name.

    Args:
        most: facts to look at, evenly spaced.
    """
    step = max(1, len(valid[0]) // most)
    some = [column[::step] for column in valid]
    found = {name: aggregation(store, rules, name) for name in METHODS}
    value = {name: rank_answers(store, applied, how, some, known, workers).mrr for name, how in found.items()}
    best = max(METHODS, key=lambda name: value[name])
    return best, found[best]
