"""Chains that connect the two arguments of a fact: bodies that are true of at least one example.

A rule h(X, Y) :- p(X, Z), q(Z, W), r(W, Y) has no parts that promise anything by themselves, so evolution alone finds it by
luck. As AnyBURL does (Meilicke et al., IJCAI 2019), start from a fact of the head instead, follow facts from one argument
to the other, and put variables for the entities. Here the walks from both ends meet in the middle, so that an existing
chain is found at once; and the facts worth starting from are those no accepted rule explains yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import numpy as np

from neurosym.induction.clauses import BodyAtom
from neurosym.induction.index import FactIndex, IntArray

_MOST_WALKS: Final = 2000


class Paths:
    """All binary facts by entity, in both directions."""

    def __init__(self, index: FactIndex) -> None:
        self.index = index
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

    def sample(self, x: int, y: int, length: int, rng: Random) -> Sequence[BodyAtom] | None:
        """A random chain of so many facts from x to y through other entities, as a body; None if none is met."""
        half = length // 2
        nodes, labels = self._walks(x, length - half, y, rng)
        back, back_labels = self._walks(y, half, x, rng)
        meeting = np.flatnonzero(np.isin(nodes[:, -1], back[:, -1]))
        if not len(meeting):
            return None
        i = int(meeting[rng.randrange(len(meeting))])
        partners = np.flatnonzero(back[:, -1] == nodes[i, -1])
        j = int(partners[rng.randrange(len(partners))])
        entities = [*nodes[i].tolist(), *back[j, -2::-1].tolist()]
        if len(set(entities)) < len(entities):
            return None
        steps = [*labels[i].tolist(), *(label ^ 1 for label in back_labels[j, ::-1].tolist())]
        variables = [0, *range(2, length + 1), 1]
        atoms: list[BodyAtom] = []
        for a, b, step in zip(variables, variables[1:], steps, strict=False):
            atoms.append((step // 2, (b, a) if step % 2 else (a, b)))
        return atoms

    def _walks(self, start: int, steps: int, avoid: int, rng: Random) -> tuple[IntArray, IntArray]:
        """Walks from an entity around another one: (entities, labels); a random part of them where they are many."""
        nodes = np.full((1, 1), start, dtype=np.int64)
        labels = np.zeros((1, 0), dtype=np.int64)
        for _ in range(steps):
            begin = self._start[nodes[:, -1]]
            count = self._start[nodes[:, -1] + 1] - begin
            total = int(count.sum())
            chosen = np.arange(total)
            if total > _MOST_WALKS:
                chosen = np.array(sorted(rng.sample(range(total), _MOST_WALKS)), dtype=np.int64)
            ends = np.cumsum(count)
            rows = ends.searchsorted(chosen, side="right")
            places = begin[rows] + chosen - (ends - count)[rows]
            keep = (self._there[places] != avoid) & (self._there[places] != start)
            rows, places = rows[keep], places[keep]
            nodes = np.column_stack([nodes[rows], self._there[places]])
            labels = np.column_stack([labels[rows], self._label[places]])
        return nodes, labels
