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
from typing import Any, Final, NamedTuple

import numpy as np

from neurosym.induction.kg.aggregation import Aggregation, Standing, nobody, stand
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.constants import only_targets
from neurosym.induction.kg.kernels import Space, find_row, reach, space_for
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.store import Csr, Int32, Int64, TripleStore

WORK: Final = 1_000_000
"""Facts that may be looked at to answer one question by one path; a path that needs more is silent."""
_ROOM: Final = 1 << 18


class Applied(NamedTuple):
    """Rules arranged for questions.

    Paths first: those for head direction h are `path_start[h] ≤ i < path_start[h + 1]`, and `path_rule` tells which rule each
    is, since a rule answers the questions of both directions. The constant rules are sorted by the row of their head, and
    `by_body` orders them by `body_key`, of the direction that is asked and the body. `only`: see `only_targets`.
    """

    path: Int32
    length: Int32
    path_rule: Int32
    path_start: Int64
    offset: int
    head: Int32
    body: Int32
    head_start: Int64
    body_key: Int64
    by_body: Int32
    only: Int32


def arrange(store: TripleStore, rules: RuleColumns) -> Applied:
    """Rules for `answers`."""
    csr, paths, constants = store.csr, rules.paths, rules.constants
    length = (paths.path >= 0).sum(1)
    reverse = np.full_like(paths.path, -1)
    for k in range(1, paths.path.shape[1] + 1):
        own = length == k
        reverse[own, :k] = paths.path[own, :k][:, ::-1] ^ 1
    head = np.concatenate([2 * paths.head, 2 * paths.head + 1])
    order = np.argsort(head, kind="stable")
    rows = len(csr.source)
    # a direction as body is numbered after the rows
    body = np.where(constants.body >= 0, constants.body, rows - 1 - constants.body).astype(np.int64)
    key = (csr.direction_of[constants.head] ^ 1).astype(np.int64) * (rows + store.directions) + body
    by_body = np.argsort(key, kind="stable")
    return Applied(
        np.ascontiguousarray(np.concatenate([paths.path, reverse])[order]),
        np.tile(length, 2)[order].astype(np.int32),
        np.tile(np.arange(len(paths.head), dtype=np.int32), 2)[order],
        np.searchsorted(head[order], np.arange(store.directions + 1)).astype(np.int64),
        len(paths.head),
        constants.head,
        constants.body,
        np.searchsorted(constants.head, np.arange(rows + 1)).astype(np.int64),
        key[by_body],
        by_body.astype(np.int32),
        only_targets(csr),
    )


@compiled
def answers(csr: Csr, rules: Applied, x: int, h: int, space: Space, hits: Int32) -> int:
    """What the rules say of h(x, ?), as `hits[:n]` = (rule, entity): n, or −1 if there is no room for all."""
    n: int = _by_paths(csr, rules, x, h, space, hits)
    if n >= 0:
        n = _by_bodies(csr, rules, x, h, hits, n)
    if n >= 0:
        n = _by_heads(csr, rules, x, h, hits, n)
    return n


@compiled
def _by_paths(csr: Csr, rules: Applied, x: int, h: int, space: Space, hits: Int32) -> int:
    """Where the paths lead."""
    n = 0
    for i in range(rules.path_start[h], rules.path_start[h + 1]):
        m, work = reach(csr, rules.path[i, : rules.length[i]], x, space, WORK)
        if work < 0:
            continue
        if n + m > len(hits):
            return -1
        for j in range(m):
            hits[n, 0], hits[n, 1] = rules.path_rule[i], space.found[j]
            n += 1
    return n


@compiled
def _by_bodies(csr: Csr, rules: Applied, x: int, h: int, hits: Int32, n: int) -> int:
    """h(X, c) ← …: the constants of the rules whose bodies x fulfils."""
    rows = len(csr.source)
    base = h * (rows + len(csr.first_row) - 1)
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
                    hits[n, 0], hits[n, 1] = rules.offset + k, c
                    n += 1
                at += 1
    return n


@compiled
def _by_heads(csr: Csr, rules: Applied, x: int, h: int, hits: Int32, n: int) -> int:
    """The rules whose constant is x: the entities that fulfil their bodies."""
    g = find_row(csr, h, x)
    if g < 0:
        return n
    for k in range(rules.head_start[g], rules.head_start[g + 1]):
        b = rules.body[k]
        if b >= 0:
            low, high = csr.start[b], csr.start[b + 1]
        else:
            low, high = csr.first_row[-1 - b], csr.first_row[-b]
        if n + high - low > len(hits):
            return -1
        for f in range(low, high):
            if b >= 0:
                y = csr.target[f]
                fulfils = y != csr.source[b]
            else:
                y = csr.source[f]
                fulfils = rules.only[f] != -1 and rules.only[f] != x
            if fulfils and y != x:
                hits[n, 0], hits[n, 1] = rules.offset + k, y
                n += 1
    return n


@compiled
def all_answers(csr: Csr, rules: Applied, x: int, h: int, space: Space, hits: Int32) -> tuple[Int32, int]:
    """`answers`, with a larger list where the one given is too short; that list, and how much of it is used."""
    n = answers(csr, rules, x, h, space, hits)
    while n < 0:
        hits = np.empty((2 * len(hits), 2), dtype=np.int32)
        n = answers(csr, rules, x, h, space, hits)
    return hits, n


@compiled
def right_answers(known: Csr, x: int, h: int, right: Int64, q: int) -> None:
    """Mark with q the entities that are known to answer h(x, ?)."""
    g = find_row(known, h, x)
    if g >= 0:
        for e in range(known.start[g], known.start[g + 1]):
            right[known.target[e]] = q


@compiled
def _ranks(
    csr: Csr,
    rules: Applied,
    how: Aggregation,
    known: Csr,
    asked: Int64,
    space: Space,
    standing: Standing,
    ranks: Any,
) -> None:
    """The filtered rank of the answer of each question (x, h, answer); questions of one (x, h) come after one another."""
    entities = len(csr.entity_start) - 1
    depth = how.depth
    right = np.full(entities, -1, dtype=np.int64)
    hits = np.empty((_ROOM, 2), dtype=np.int32)
    for q in range(len(asked)):
        x, h, answer = asked[q]
        if q == 0 or asked[q - 1, 0] != x or asked[q - 1, 1] != h:
            hits, n = all_answers(csr, rules, x, h, space, hits)
            stand(csr, how, h, q == 0 or asked[q - 1, 1] != h, hits[:n], standing)
        right_answers(known, x, h, right, q)
        above, equal = 0, 0
        for y in range(entities):
            if y == answer or right[y] == q:
                continue
            side = 0.0
            if how.lexicographic and (standing.filled[y] or standing.filled[answer]):
                for k in range(depth):
                    side = standing.value[y, k] - standing.value[answer, k]
                    if side != 0:
                        break
            if side == 0:
                side = standing.score[y] - standing.score[answer]
            if side > 0:
                above += 1
            elif side == 0:
                equal += 1
        ranks[q] = 1 + above + 0.5 * equal


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


def rank_answers(
    store: TripleStore,
    rules: Applied,
    how: Aggregation,
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
    pieces = np.array_split(order, max(1, min(workers * 8, len(asked) // 64)))

    def rank(rows: Int64) -> None:
        part = np.empty(len(rows))
        space, standing = space_for(len(store.entities)), nobody(len(store.entities), how.depth)
        _ranks(store.csr, rules, how, known.csr, asked[rows], space, standing, part)
        ranks[rows] = part

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(rank, pieces))
    return Ranking(ranks)
