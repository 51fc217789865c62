"""Chains that connect the two arguments of a head's facts, and of few other pairs: bodies to start from.

A rule h(X, Y) :- p(X, Z), q(Z, W), r(W, Y) has no part that promises anything by itself, so evolution alone finds it by
luck. As AnyBURL does (Meilicke et al., IJCAI 2019), start from facts of the head instead and follow facts from one
argument to the other. AnyBURL generalises one random chain at a time; here all chains of a sample of facts are counted
by their relations, and those kept that most often join a fact's arguments and least often arguments paired at random.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from neurosym.induction.clauses import BodyAtom
from neurosym.induction.index import FactIndex, IntArray

_MOST_WALKS: Final = 1000


class Paths:
    """All binary facts by entity, in both directions."""

    def __init__(self, index: FactIndex) -> None:
        self._base = 2 * len(index.relations)
        self.longest = int(62 / np.log2(self._base))
        """Longest chain whose pattern fits a 64-bit number."""
        empty = np.zeros(0, dtype=np.int64)
        here, there, label = [empty], [empty], [empty]
        for number, relation in enumerate(index.relations):
            if relation.arity == 2:
                here += [relation.first, relation.second]
                there += [relation.second, relation.first]
                label += [np.full(len(relation), 2 * number + i, dtype=np.int64) for i in (0, 1)]
        entity = np.concatenate(here)
        order = np.argsort(entity, kind="stable")
        self._start = entity[order].searchsorted(np.arange(len(index.entities) + 1))
        self._there = np.concatenate(there)[order]
        self._label = np.concatenate(label)[order]
        """2 · relation, plus 1 if the fact is walked from its second argument to its first."""

    def contrast(
        self, pairs: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]], length: int, most: int, seed: int
    ) -> list[list[BodyAtom]]:
        """The chains of so many atoms that join more of the pairs than of the others, by that excess, largest first."""
        rng = np.random.default_rng(seed)
        excess: Counter[int] = Counter()
        for sign, chosen in ((1, pairs), (-1, others)):
            for x, y in chosen:
                for pattern in self._patterns(x, y, length, rng):
                    excess[pattern] += sign
        ranked = sorted((p for p in excess if excess[p] > 0), key=lambda p: (-excess[p], p))
        return [self._atoms(pattern, length) for pattern in ranked[:most]]

    def _patterns(self, x: int, y: int, length: int, rng: np.random.Generator) -> list[int]:
        """The chains from x to y through distinct other entities; a chain is its labels as the digits of one number."""
        if x == y:
            return []
        half = length // 2
        nodes, labels = self._walks(x, length - half, y, rng)
        back, back_labels = self._walks(y, half, x, rng)
        order = np.argsort(back[:, -1], kind="stable")
        ends = back[order, -1]
        begin, end = ends.searchsorted(nodes[:, -1]), ends.searchsorted(nodes[:, -1], side="right")
        count = end - begin
        rows = np.repeat(np.arange(len(nodes)), count)
        partners = order[np.arange(len(rows)) + np.repeat(end - np.cumsum(count), count)]
        entities = np.sort(np.column_stack([nodes[rows], back[partners, :-1]]), axis=1)
        distinct = (np.diff(entities, axis=1) != 0).all(axis=1)
        steps = np.column_stack([labels[rows], back_labels[partners, ::-1] ^ 1])[distinct]
        return [int(p) for p in np.unique(steps @ self._base ** np.arange(length)[::-1])]

    def _atoms(self, pattern: int, length: int) -> list[BodyAtom]:
        variables = [0, *range(2, length + 1), 1]
        atoms: list[BodyAtom] = []
        for i, (a, b) in enumerate(pairwise(variables)):
            step = pattern // self._base ** (length - 1 - i) % self._base
            atoms.append((step // 2, (b, a) if step % 2 else (a, b)))
        return atoms

    def _walks(self, start: int, steps: int, avoid: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Walks from an entity around another one: (entities, labels); a random part of them where they are many."""
        nodes = np.full((1, 1), start, dtype=np.int64)
        labels = np.zeros((1, 0), dtype=np.int64)
        for _ in range(steps):
            begin = self._start[nodes[:, -1]]
            count = self._start[nodes[:, -1] + 1] - begin
            total = int(count.sum())
            many = total > _MOST_WALKS
            chosen = np.unique(rng.integers(total, size=_MOST_WALKS)) if many else np.arange(total)
            ends = np.cumsum(count)
            rows = ends.searchsorted(chosen, side="right")
            places = begin[rows] + chosen - (ends - count)[rows]
            keep = (self._there[places] != avoid) & (self._there[places] != start)
            rows, places = rows[keep], places[keep]
            nodes = np.column_stack([nodes[rows], self._there[places]])
            labels = np.column_stack([labels[rows], self._label[places]])
        return nodes, labels
