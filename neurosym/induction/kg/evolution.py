"""The genetic search for rules of any shape: islands that exchange their best (see `neurosym.induction.kg.island`).

After every generation each island sends its best bodies to the next one. How many islands there are is a setting, where they
run is not: chances belong to islands, and what a body measures does not depend on who asks, so the rules of a number of
generations are the same on any number of threads, or of machines (`neurosym.induction.kg.cluster`). What the search has found
and where its islands are is known after every generation, so it can be written down and gone on with
(`neurosym.induction.kg.search_files`).
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from neurosym.induction.kg.bodies import Body
from neurosym.induction.kg.island import EvolutionConfig, Island, IslandState, Kept, Report
from neurosym.induction.kg.paths import Thresholds
from neurosym.induction.kg.store import TripleStore

log = logging.getLogger(__name__)
_MIGRANTS: Final = 4
SHOWN: Final = 3
"""Best rules that are known at any time."""


def _by_trust(rule: Kept) -> tuple[float, Body, int]:
    return -rule.smoothed, rule.body, rule.head


@dataclass(slots=True)
class Search:
    """Where an evolution is: the generations done, the rules found, and of each island its state and the rules sent to it.

    Attributes:
        best: the most trusted of the rules found.
        worth: see `neurosym.induction.kg.clock.Reached`.
    """

    generation: int
    found: dict[tuple[Body, int], Kept]
    islands: list[IslandState]
    sent: list[list[Kept]]
    best: list[Kept] = field(init=False)
    worth: float = field(init=False)

    def __post_init__(self) -> None:
        self.best = sorted(self.found.values(), key=_by_trust)[:SHOWN]
        self.worth = sum(rule.news for rule in self.found.values())

    @property
    def rules(self) -> list[Kept]:
        """Each once, in the order of bodies and heads."""
        return [self.found[key] for key in sorted(self.found)]

    def take(self, reports: Sequence[Report]) -> None:
        """One generation of all islands more."""
        for i, (lot, change) in enumerate(reports):
            self.islands[i].update(change)
            new = {key: rule for rule in lot if (key := (rule.body, rule.head)) not in self.found}
            self.found |= new
            self.worth += sum(rule.news for rule in new.values())
            self.best = sorted((*self.best, *new.values()), key=_by_trust)[:SHOWN]
            ranked = sorted(lot, key=_by_trust)
            self.sent[(i + 1) % len(reports)] = ranked[:_MIGRANTS]
        self.generation += 1


@dataclass(frozen=True, slots=True)
class Setting:
    """What all islands of a search share."""

    store: TripleStore
    thresholds: Thresholds
    config: EvolutionConfig
    targets: frozenset[int] | None = None

    def island(self, state: IslandState) -> Island:
        return Island(self.store, self.thresholds, self.config, self.targets, state)

    def search(self, start: Sequence[Kept], known: frozenset[Body] = frozenset()) -> Search:
        """A search that begins with some rules; the bodies `known` need not be measured."""
        states = [IslandState.of(self.config, i, known) for i in range(self.config.islands)]
        return Search(0, {}, states, [list(start) for _ in states])


class Archipelago(ABC):
    """Where the islands of a search run."""

    @abstractmethod
    def generation(self, search: Search) -> list[Report]:
        """The next generation of each island of a search."""

    @abstractmethod
    def close(self) -> None:
        """The search has ended."""


class Threads(Archipelago):
    """Islands in threads of this process."""

    def __init__(self, setting: Setting, search: Search, workers: int) -> None:
        self._islands = [setting.island(state) for state in search.islands]
        self._pool = ThreadPoolExecutor(workers)

    def generation(self, search: Search) -> list[Report]:
        return list(self._pool.map(Island.generation, self._islands, search.sent))

    def close(self) -> None:
        self._pool.shutdown()


def evolve(search: Search, archipelago: Archipelago, goes_on: Callable[[Search], bool]) -> None:
    """Go on with a search; an interrupt (Ctrl-C) ends it as well, after the generations that were done.

    Args:
        goes_on: asked before each generation.
    """
    with closing(archipelago):
        try:
            while goes_on(search):
                search.take(archipelago.generation(search))
        except KeyboardInterrupt:
            log.warning("interrupted: the rules found in %d generations are kept", search.generation)
