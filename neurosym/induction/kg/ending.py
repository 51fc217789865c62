"""What comes after the search: rules in columns, those that known facts need, and as few of them as facts held back ask for."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from neurosym.induction.kg.assembly import columns
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.forecast import seconds_of_all
from neurosym.induction.kg.island import Kept
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.selection import Selection, chosen_of
from neurosym.induction.kg.store import Int64, TripleStore
from neurosym.induction.kg.thinning import Beginner, Beginnings, HeldBack, joined

log = logging.getLogger(__name__)
NEEDED: Final = 5
"""Most trusted rules that a fact needs."""
_LOOKED_AT: Final = 1_000_000
_SHORT: Final = 2
"""Atoms of a path."""
_SETS: Final = 1 << 20
"""Sets of which the members are kept, so that a trial lists those of new rules alone."""


class Ending:
    """Chooses rules, and tells before how long that will take.

    Args:
        select: whether known facts, and facts held back, choose at all.
        tolerance: how much MRR may be lost for fewer rules.
        asking: seconds to spend on facts held back, at most: the questions asked by then tell.
        selecting: seconds that known facts may be asked for; if the last trial told more, all rules are kept.
        after: seconds that are needed for so many rules afterwards.
    """

    def __init__(
        self,
        store: TripleStore,
        select: bool,
        tolerance: float,
        seed: int,
        cap: int,
        workers: int,
        held: HeldBack | None = None,
        asking: float = math.inf,
        selecting: float = math.inf,
        after: Callable[[RuleColumns], float] = lambda _: 0.0,
    ) -> None:
        self.store, self.select, self.tolerance, self.seed, self.workers = store, select, tolerance, seed, workers
        self.held, self.asking, self.selecting, self.after = held, asking, selecting, after
        self._has_time = True
        self._evaluator = Evaluator(store, cap=cap, kept=_SETS)

    def chosen(
        self, base: RuleColumns, evolved: Sequence[Kept], until: float | None = None
    ) -> tuple[RuleColumns, Beginnings | None]:
        """The rules that are kept, and what facts held back said of their numbers.

        Args:
            until: when to stop, by the clock of `time.monotonic`: rules that could not be judged by then are kept.
        """
        rules = columns(self._evaluator, base, evolved)
        if not self.select:
            return rules, None
        if not self._has_time:
            log.warning(
                "choosing would take too much of the budget: all %d rules are kept; give it more seconds", len(rules)
            )
            return rules, None
        if self.held is not None:
            fewest = self._fewest(self.held, _kinds(base, rules), until)
            if fewest is not None:
                return fewest
        need = self._selection(rules).needed(until)
        if not need.complete:
            log.warning(
                "time was over before all known facts were asked which rules they need: the other rules are kept"
            )
        rules = chosen_of(rules, need.worth > 0)
        if self.held is not None and len(rules):
            log.warning("time was over before facts held back were asked which rules they need: all are kept")
        return rules, None

    def _fewest(
        self, held: HeldBack, kinds: Sequence[RuleColumns], until: float | None
    ) -> tuple[RuleColumns, Beginnings] | None:
        """Of the rules of some kinds as few as do well; None if time was over before any of the kinds was judged."""
        judged: list[tuple[RuleColumns, Int64, Beginnings]] = []
        for rules in kinds:
            need = self._selection(rules).needed(until)
            if not need.complete:
                break
            worth = need.worth[need.worth > 0]
            if not len(worth):
                continue
            rules = chosen_of(rules, need.worth > 0)
            order = np.lexsort((-rules.smoothed, -worth))
            latest = time.monotonic() + self.asking / len(kinds)
            beginner = Beginner(self.store, rules, order, held, self.workers, seed=self.seed)
            same = judged[0][2].asked if judged else None
            found = beginner.mrr(latest if until is None else min(until, latest), last=same)
            if found is None:
                break
            judged.append((rules, order, found))
        if not judged:
            return None
        beginnings = joined([found for _, _, found in reversed(judged)])
        place = beginnings.place(self.tolerance)
        for rules, order, found in reversed(judged):
            if place < len(found.sizes):
                kept = np.zeros(len(rules), dtype=np.bool_)
                kept[order[: found.sizes[place]]] = True
                return chosen_of(rules, kept), beginnings
            place -= len(found.sizes)
        raise AssertionError("a place in no kind")

    def seconds(self, base: RuleColumns, evolved: Sequence[Kept], at_most: float) -> float:
        """Seconds that `chosen` will take, and what comes after it, told in `at_most` seconds or so.

        What it told last says whether `chosen` chooses at all (`selecting`).
        """
        started = time.perf_counter()
        rules = columns(self._evaluator, base, evolved)
        if not self.select or not len(rules):
            return time.perf_counter() - started + self.after(rules)
        times = 1.0 if self.held is None else sum(map(len, _kinds(base, rules))) / len(rules)
        selection = self._selection(rules)
        found = time.perf_counter() - started
        asking = times * seconds_of_all(selection.part, at_most)
        self._has_time = asking <= self.selecting
        if not self._has_time:
            return found + self.after(rules)
        found += asking
        if asking < 2 * at_most:  # so the rest need not be told for rules that will not be there
            rules = chosen_of(rules, selection.needed().worth > 0)
        if self.held is not None:
            started = time.perf_counter()
            beginner = Beginner(self.store, rules, np.arange(len(rules)), self.held, self.workers, seed=self.seed)
            found += times * (time.perf_counter() - started)
            found += min(self.asking, times * seconds_of_all(beginner.part, at_most))
        return found + self.after(rules)

    def _selection(self, rules: RuleColumns) -> Selection:
        most = max(1, _LOOKED_AT // len(self.store.relations))
        return Selection(self.store, rules, NEEDED, most, self.seed, self.workers)


def _kinds(base: RuleColumns, rules: RuleColumns) -> list[RuleColumns]:
    """Rules of ever more kinds: the short ones, paths of three to five atoms, too, and all; those that add any."""
    short = np.ones(len(base), dtype=np.bool_)
    short[: len(base.paths.head)] = (base.paths.path >= 0).sum(1) <= _SHORT
    kinds = [chosen_of(base, short), base, rules]
    return [less for less, more in pairwise(kinds) if 0 < len(less) < len(more)] + [rules]
