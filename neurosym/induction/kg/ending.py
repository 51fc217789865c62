"""What comes after the search: rules in columns, those that known facts need, and as few of them as facts held back ask for."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from neurosym.induction.kg.assembly import columns
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.forecast import seconds_of_all
from neurosym.induction.kg.island import Kept
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.selection import Selection, chosen_of
from neurosym.induction.kg.store import Int64, TripleStore
from neurosym.induction.kg.thinning import Beginner, Beginnings, HeldBack

log = logging.getLogger(__name__)
NEEDED: Final = 5
"""Most trusted rules that a fact needs."""
_LOOKED_AT: Final = 1_000_000
_SHORT: Final = 2
"""Atoms of a path."""
_SETS: Final = 1 << 20
"""Sets of which the members are kept, so that a trial lists those of new rules alone."""


class _Judged(NamedTuple):
    """Rules that known facts need, in which order they are kept, and what facts held back say of so many."""

    rules: RuleColumns
    order: Int64
    beginnings: Beginnings


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
        self._judged: list[_Judged] = []
        self._asking_each = asking
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
            evolved_any = len(rules) > len(base)
            self.judge(base, until, evolved_any)
            if evolved_any:
                self._judge(rules, until)
            if self._judged:
                return self._fewest()
        need = self._selection(rules).needed(until)
        if not need.complete:
            log.warning(
                "time was over before all known facts were asked which rules they need: the other rules are kept"
            )
        rules = chosen_of(rules, need.worth > 0)
        if self.held is not None and len(rules):
            log.warning("time was over before facts held back were asked which rules they need: all are kept")
        return rules, None

    def judge(self, base: RuleColumns, until: float | None = None, more: bool = True) -> None:
        """Ask the facts held back how well rules that did not evolve complete the graph, all of them and the short ones alone.

        That is done once, and best before anything evolves: where time is over in the end, there is something to choose from.

        Args:
            more: whether evolved rules will be judged, too.
        """
        if self.held is None or self._judged:
            return
        kinds = _kinds(base)
        self._asking_each = self.asking / (len(kinds) + more)
        for kind in kinds:
            self._judge(kind, until)

    def _judge(self, rules: RuleColumns, until: float | None) -> None:
        """Ask for rules of one kind; they are not judged where time was over before."""
        assert self.held is not None
        need = self._selection(rules).needed(until)
        rules, worth = chosen_of(rules, need.worth > 0), need.worth[need.worth > 0]
        if not need.complete or not len(rules):
            return
        order = np.lexsort((-rules.smoothed, -worth))
        latest = time.monotonic() + self._asking_each
        beginner = Beginner(self.store, rules, order, self.held, self.workers, seed=self.seed)
        found = beginner.mrr(latest if until is None else min(until, latest))
        if found is not None:
            self._judged.append(_Judged(rules, order, found))

    def _fewest(self) -> tuple[RuleColumns, Beginnings]:
        """As few rules as do well, of the kind that does best; one with more rules must do surely better."""
        chosen = self._judged[0]
        for more in self._judged[1:]:
            if more.beginnings.is_surely_above(chosen.beginnings):
                chosen = more
        rules, order, beginnings = chosen
        kept = np.zeros(len(rules), dtype=np.bool_)
        kept[order[: beginnings.smallest(self.tolerance)[0]]] = True
        return chosen_of(rules, kept), beginnings

    def seconds(self, base: RuleColumns, evolved: Sequence[Kept], at_most: float) -> float:
        """Seconds that `chosen` will take, and what comes after it, told in `at_most` seconds or so.

        What it told last says whether `chosen` chooses at all (`selecting`).
        """
        started = time.perf_counter()
        rules = columns(self._evaluator, base, evolved)
        if not self.select or not len(rules):
            return time.perf_counter() - started + self.after(rules)
        times = 1.0
        if self.held is not None and not self._judged:
            times = (sum(map(len, _kinds(base))) + len(rules) - len(base)) / len(rules)
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


def _kinds(base: RuleColumns) -> list[RuleColumns]:
    """The short rules, unless they are all there are; and all."""
    short = np.ones(len(base), dtype=np.bool_)
    short[: len(base.paths.head)] = (base.paths.path >= 0).sum(1) <= _SHORT
    return [chosen_of(base, short), base] if 0 < short.sum() < len(base) else [base]
