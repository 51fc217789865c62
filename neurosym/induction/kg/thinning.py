"""As few rules as held-back facts ask for: the shortest beginning of an order of rules whose MRR is as good as the best one's.

Known facts say which rules are needed and how much (`neurosym.induction.kg.selection`), but they have taught the rules
themselves. Facts that were held back tell how many of the rules, the most needed first, complete the graph as well as any
number does. What the rules say to a question is listed once for all beginnings; entities stand by those of it that are in each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurosym.errors import InductionError
from neurosym.induction.kg.aggregation import METHODS, Aggregation, Standing, aggregation, nobody, stand
from neurosym.induction.kg.applied import EVERY, ROOM, Applied, Workplace, all_answers, arrange, workplace_for
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.completion import questions, rank_of, right_answers
from neurosym.induction.kg.facts import Triple
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.store import Csr, Int64, TripleStore

Float64 = NDArray[np.float64]
_STEPS: Final = 8
"""Beginnings: all rules, and each time half as many."""
_PIECE: Final = 32


class HeldBack(NamedTuple):
    """Facts that nothing is learned from, in numbers of the store (subjects, relations, objects), and all known to be right."""

    facts: Sequence[Int64]
    known: TripleStore


def held_back(store: TripleStore, facts: Iterable[Triple]) -> HeldBack:
    """Facts of which the graph has both entities and the relation; the others cannot be predicted.

    Raises:
        InductionError: there are none.
    """
    numbers = [(store.entities.number(s), store.relations.number(r), store.entities.number(o)) for s, r, o in facts]
    table = np.array([fact for fact in numbers if min(fact) >= 0], dtype=np.int64).reshape(-1, 3)
    if not len(table):
        raise InductionError("no fact that is held back has a relation and two entities that the graph has")
    columns = [np.ascontiguousarray(column) for column in table.T]
    s, r, o = (np.concatenate(pair) for pair in zip(store.columns(), columns, strict=True))
    return HeldBack(columns, TripleStore.of_numbers(store.entities, store.relations, s, r, o))


class Beginnings(NamedTuple):
    """Of descending sizes of beginnings the filtered MRR under each of `METHODS`, a column each; of how many questions.

    `best` has the reciprocal rank of each question's answer under the best size and method, NaN where time was over.
    """

    sizes: Int64
    mrr: Float64
    asked: int
    best: Float64

    def smallest(self, tolerance: float) -> tuple[int, str, float]:
        """The least size whose MRR is within a tolerance of the best, under the best method for it: (size, method, MRR)."""
        best = self.mrr.max(1)
        i = int(np.flatnonzero(best >= best.max() - tolerance)[-1])
        return int(self.sizes[i]), METHODS[int(np.argmax(self.mrr[i]))], float(best[i])

    def is_surely_above(self, other: Beginnings) -> bool:
        """Whether the best of these is above the best of others by more than a standard error, question by question."""
        gain = self.best - other.best
        gain = gain[np.isfinite(gain)]
        return len(gain) > 1 and float(gain.mean()) > float(gain.std(ddof=1)) / math.sqrt(len(gain))


class Beginner:
    """Ranks the answers of held-back facts by beginnings of an order of rules.

    Args:
        order: numbers of rules, the first to be kept first.
        most: questions to ask, drawn by the seed.
    """

    def __init__(
        self,
        store: TripleStore,
        rules: RuleColumns,
        order: Int64,
        held: HeldBack,
        workers: int = 1,
        most: int = 2000,
        seed: int = 0,
    ) -> None:
        asked = questions(held.facts)
        self.store, self.held, self.workers = store, held, workers
        self.asked = asked[np.random.default_rng(seed).permutation(len(asked))[:most]]
        self.sizes = np.unique(np.maximum(1, len(order) >> np.arange(_STEPS)))[::-1].astype(np.int64)
        self._applied = arrange(store, rules)
        self._place = np.full(len(rules), len(rules), dtype=np.int64)
        self._place[order] = np.arange(len(order))
        self._methods = [aggregation(store, rules, name) for name in METHODS]

    def part(self, first: float, share: float) -> None:
        """Do a share of the work of `mrr`."""
        self.mrr(first=int(first * len(self.asked)), last=int((first + share) * len(self.asked)))

    def mrr(self, until: float | None = None, first: int = 0, last: int | None = None) -> Beginnings | None:
        """The MRR of each beginning; None if time was over before there was any.

        Args:
            until: when to stop, by the clock of `time.monotonic`; the questions asked by then tell, the same of all beginnings.
            first, last: of the questions only these.
        """
        asked = self.asked[first:last]
        left = iter(range(0, len(asked), _PIECE))
        found = np.full((len(self.sizes), len(METHODS), len(asked)), np.nan)

        def lane(_: int) -> None:
            entities = len(self.store.entities)
            place = workplace_for(entities)
            standings = [nobody(entities, how.depth) for how in self._methods]
            for start in left:
                if until is not None and time.monotonic() > until:
                    break
                piece = asked[start : start + _PIECE]
                order = np.lexsort((piece[:, 0], piece[:, 1]))
                for k, (how, standing) in enumerate(zip(self._methods, standings, strict=True)):
                    ranks = np.empty((len(self.sizes), len(piece)))
                    _ranks_of(
                        self.store.csr,
                        self._applied,
                        how,
                        self.held.known.csr,
                        piece[order],
                        place,
                        standing,
                        self._place,
                        self.sizes,
                        ranks,
                    )
                    found[:, k, start + order] = 1 / ranks

        with ThreadPoolExecutor(self.workers) as pool:
            list(pool.map(lane, range(self.workers)))
        there = np.isfinite(found[0, 0])
        if not there.any():
            return None
        mrr = found[:, :, there].mean(2)
        size, method = np.unravel_index(int(np.argmax(mrr)), mrr.shape)
        return Beginnings(self.sizes, mrr, int(there.sum()), found[size, method])


@compiled
def _ranks_of(
    csr: Csr,
    rules: Applied,
    how: Aggregation,
    known: Csr,
    asked: Int64,
    place: Workplace,
    standing: Standing,
    order: Int64,
    sizes: Int64,
    ranks: Float64,
) -> None:
    """The filtered rank of each question's answer, by the rules whose place in the order is below each of descending sizes."""
    right = np.full(len(csr.entity_start) - 1, -1, dtype=np.int64)
    hits = np.empty((ROOM, 2), dtype=np.int32)
    for q in range(len(asked)):
        x, h, answer = asked[q]
        hits, n = all_answers(csr, rules, x, h, place, hits, EVERY)
        right_answers(known, x, h, right, q)
        for s in range(len(sizes)):
            m = 0
            for i in range(n):
                if order[hits[i, 0]] < sizes[s]:
                    hits[m, 0], hits[m, 1] = hits[i, 0], hits[i, 1]
                    m += 1
            n = m
            stand(csr, how, h, s == 0 and (q == 0 or asked[q - 1, 1] != h), hits[:n], standing)
            ranks[s, q] = rank_of(how, standing, right, q, answer)
