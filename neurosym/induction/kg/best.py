"""The most trusted rules of a search, as people read them, while it goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurosym.induction.kg.assembly import rule_of
from neurosym.induction.kg.clock import Reached
from neurosym.induction.kg.evolution import SHOWN, Search
from neurosym.induction.kg.island import Kept
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.store import TripleStore
from neurosym.logic import Rule

Ranked = tuple[float, int, str]
"""Smoothed confidence and support, negative, and how the rule reads."""


class Best:
    """Holds the best of the rules that were found at once, and those that evolved beside them, each written once."""

    def __init__(self, store: TripleStore, rules: RuleColumns) -> None:
        self.store = store
        self._first = _most_trusted(store, rules)
        self._evolved: dict[Kept, Ranked] = {}

    def reached(self, search: Search) -> Reached:
        """What the evolution has come to."""
        self._evolved = {kept: self._evolved.get(kept) or self._ranked(kept) for kept in search.best}
        best = sorted((*self._first, *self._evolved.values()))[:SHOWN]
        return Reached(search.generation, tuple(line for *_, line in best), search.worth)

    def _ranked(self, kept: Kept) -> Ranked:
        return -kept.smoothed, -kept.support, _line(rule_of(self.store, kept), kept.support, kept.size)


def _most_trusted(store: TripleStore, rules: RuleColumns) -> list[Ranked]:
    support, size, value = rules.support, rules.size, rules.smoothed
    if not len(value):
        return []
    shown = min(SHOWN, len(value))
    high = np.flatnonzero(value >= np.partition(value, -shown)[-shown])  # of millions few are sorted
    first = high[np.lexsort((-support[high], -value[high]))][:shown].tolist()
    return [
        (-float(value[i]), -int(support[i]), _line(rules.rule(store, i), int(support[i]), int(size[i]))) for i in first
    ]


def _line(rule: Rule, support: int, size: int) -> str:
    """A rule in one line, without its weight: with what its body is right about of what it says instead."""
    return f"{support}/{size} {replace(rule, weight=None)}"
