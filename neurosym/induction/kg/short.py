"""All rules with short bodies, or those for which there is time: paths of one and two atoms, and rules with constants.

The three kinds take turns, each from its cheapest heads to its dearest; the one that has had least time is next. The first ones
have a start of some seconds, for on a graph of millions of facts the others need as many before their first rule. When time is
over, what was found is kept: each rule has been measured on all facts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from neurosym.induction.kg.constants import constant_rules_by_cost, joined_constants
from neurosym.induction.kg.paths import PathMiner, Thresholds, joined_paths
from neurosym.induction.kg.rules import ConstantRules, PathRules
from neurosym.induction.kg.store import TripleStore

_START: Final = 1.0
"""Seconds."""


class ShortRules(NamedTuple):
    """What was found, and whether that is all."""

    paths: PathRules
    constants: ConstantRules
    complete: bool


def short_rules(
    store: TripleStore,
    thresholds: Thresholds,
    longest: int = 2,
    until: float | None = None,
    workers: int = 1,
    depth: int = 0,
    goes_on: Callable[[Sequence[PathRules], Sequence[ConstantRules]], bool] = lambda paths, constants: True,
) -> ShortRules:
    """The rules above the thresholds.

    Args:
        longest: how many atoms a path may have, 1 or 2.
        until: when to stop, by the clock of `time.monotonic`; None for when all are found.
        depth: see `constant_rules_by_cost`; all, if 0.
        goes_on: asked after each part, with all parts until then.

    >>> store = TripleStore.of([(f"p{i}", r, f"p{i + 1}") for i in range(9) for r in ("parent", "ancestor")])
    >>> found = short_rules(store, Thresholds())
    >>> len(found.paths.head), found.complete
    (2, True)
    """
    paths: list[PathRules] = []
    constants: list[ConstantRules] = []
    parts = short_rules_by_cost(store, thresholds, longest, workers, depth)
    complete = False
    while not complete and (until is None or time.monotonic() < until) and goes_on(paths, constants):
        part = next(parts, None)
        if isinstance(part, PathRules):
            paths.append(part)
        elif part is not None:
            constants.append(part)
        complete = part is None
    return ShortRules(joined_paths(paths), joined_constants(constants), complete)


def short_rules_by_cost(
    store: TripleStore, thresholds: Thresholds, longest: int = 2, workers: int = 1, depth: int = 0
) -> Iterator[PathRules | ConstantRules]:
    """All the rules, part by part, for who wants to stop by what was found; parts may be empty."""
    miner = PathMiner(store, thresholds, workers=workers)
    lanes: list[Iterator[PathRules] | Iterator[ConstantRules]] = [miner.rules_of_one_atom()]
    if longest > 1:
        lanes.append(miner.rules_of_two_atoms())
    lanes.append(constant_rules_by_cost(store, thresholds, workers, depth))
    seconds = {lane: _START * place for place, lane in enumerate(lanes)}
    while seconds:
        lane = min(seconds, key=lambda lane: seconds[lane])
        started = time.monotonic()
        part = next(lane, None)
        seconds[lane] += time.monotonic() - started
        if part is None:
            del seconds[lane]
        else:
            yield part
