"""Facts → rules: what is short exactly and at once, what is longer by evolution, for as many seconds as there are.

    learner = RuleLearner(LearnerConfig(budget=60)).fit(store)
    learner.rules                      all of them, in columns
    learner.answers("ann", "parent")   what they say

The search can be stopped at any moment: what was found until then is kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np

from neurosym.errors import ConfigError, InductionError
from neurosym.induction.kg.aggregation import aggregation, nobody
from neurosym.induction.kg.applied import ROOM, Applied, arrange, workplace_for
from neurosym.induction.kg.assembly import columns, first_parents, path_bodies
from neurosym.induction.kg.bodies import X, constant, numbered
from neurosym.induction.kg.completion import ask
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.evolution import Archipelago, Search, Setting, Threads, evolve
from neurosym.induction.kg.island import EvolutionConfig, Kept
from neurosym.induction.kg.longer_paths import graph_of, mined, promising
from neurosym.induction.kg.paths import PathMiner, Thresholds, joined_paths
from neurosym.induction.kg.rules import PathRules, RuleColumns
from neurosym.induction.kg.search_files import read_base, read_search, write_base, write_search
from neurosym.induction.kg.selection import chosen_of, needed, of_heads
from neurosym.induction.kg.short import short_rules
from neurosym.induction.kg.store import TripleStore
from neurosym.logic import Rule

log = logging.getLogger(__name__)
_NEEDED: Final = 5
_LOOKED_AT: Final = 1_000_000
_WORK: Final = 1_000_000
_FOR_PATHS: Final = 0.5
"""Share of the budget after which no path of three or four atoms is measured any more."""
_WRITTEN_EVERY: Final = 30.0
_LEAST_SECONDS: Final = 5.0
"""For the short rules, whatever the budget: without them there is nothing to begin with."""


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """How rules are learned.

    Attributes:
        targets: relations to learn rules for; none means all.
        budget: seconds after which no generation is begun; None for no limit, then `generations` must be given.
        generations: of the evolution, at most; the same number gives the same rules, unless the budget ends before.
        paths: of three atoms and of four that are measured before anything evolves, at most; in the first half of the budget.
        support, smoothed: what a rule must have (`Thresholds`).
        evolution: of rules that are longer than the ones found at once.
        workers: threads.
        select: keep only what known facts need (`neurosym.induction.kg.selection`); it takes some seconds more.
    """

    targets: tuple[str, ...] = ()
    budget: float | None = 60.0
    generations: int | None = None
    paths: int = 20_000
    support: int = 2
    smoothed: float = 0.01
    evolution: EvolutionConfig = field(default_factory=EvolutionConfig)
    workers: int = 2
    select: bool = True

    def __post_init__(self) -> None:
        problems = [
            f"{k} is {getattr(self, k)} but must be at least 1" for k in ("support", "workers") if getattr(self, k) < 1
        ]
        if self.budget is None and self.generations is None:
            problems.append("give a budget in seconds, or a number of generations, or both")
        if self.paths < 0:
            problems.append(f"paths is {self.paths} but must not be negative")
        if self.budget is not None and self.budget < 0:
            problems.append(f"budget is {self.budget} but must not be negative")
        if not 0 <= self.smoothed <= 1:
            problems.append(f"smoothed is {self.smoothed} but must lie in [0, 1]")
        if problems:
            raise ConfigError("; ".join(problems))


class State(NamedTuple):
    """Where the search is: seconds, generation, rules found so far."""

    seconds: float
    generation: int
    rules: int


class Reason(NamedTuple):
    """A rule that speaks for an answer, and facts (relation, subject, object) for which its body holds."""

    rule: Rule
    facts: tuple[tuple[str, str, str], ...]


class Answer(NamedTuple):
    """An entity that rules speak for: its name, its score (comparable within one question), why, most trusted rules first."""

    entity: str
    score: float
    reasons: tuple[Reason, ...]


class _Clock:
    """Tells how far a search is, and when its time is over."""

    def __init__(self, config: LearnerConfig, told: Callable[[State], None]) -> None:
        self.config, self.told = config, told
        self.started = self.written = time.monotonic()
        self.before = 0
        self.stopped = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def since_written(self) -> float:
        return time.monotonic() - self.written

    def goes_on(self, found: int, share: float, generation: int = 0) -> bool:
        """Whether there is time left of a share of the budget."""
        self.told(State(self.seconds, generation, self.before + found))
        in_time = self.config.budget is None or self.seconds < share * self.config.budget
        return in_time and not self.stopped


class RuleLearner:
    """Learns rules from a graph, as scikit-learn's estimators do: `fit`, then `rules` and `answers`."""

    store: TripleStore
    rules: RuleColumns
    applied: Applied

    def __init__(self, config: LearnerConfig | None = None) -> None:
        self.config = config or LearnerConfig()

    def fit(
        self,
        store: TripleStore,
        told: Callable[[State], None] = lambda _: None,
        folder: Path | None = None,
        resume: bool = False,
        scheduler: str | None = None,
    ) -> Self:
        """Learn from all facts of a store.

        Args:
            told: called after each stage and generation.
            folder: where the search is written down every half a minute, and at its end.
            resume: go on with the search in the folder; the budget counts anew, `generations` do not.
            scheduler: where the islands run: the address of a Dask scheduler, "local" for processes of this machine; threads
                of this process, if None.

        Raises:
            InductionError: a target has no facts; there is no search to go on with, or it is of other facts or settings.
        """
        _compile()
        return self._fit(store, told, folder, resume, scheduler)

    def _fit(
        self,
        store: TripleStore,
        told: Callable[[State], None],
        folder: Path | None = None,
        resume: bool = False,
        scheduler: str | None = None,
    ) -> Self:
        clock = _Clock(self.config, told)
        self.store = store
        setting = self._setting()
        base, search = self._begun(setting, clock, folder if resume else None)
        if folder is not None and not resume:
            write_base(folder, store, self._settings(), base)
        clock.before = len(base)

        def goes_on(search: Search) -> bool:
            done = self.config.generations is not None and search.generation >= self.config.generations
            if folder is not None and clock.since_written > _WRITTEN_EVERY:
                write_search(folder, search)
                clock.written = time.monotonic()
            return clock.goes_on(len(search.found), 1.0, search.generation) and not done

        evolve(search, self._archipelago(setting, search, scheduler), goes_on)
        if folder is not None:
            write_search(folder, search)
        self._finish(base, search.rules)
        clock.told(State(clock.seconds, search.generation, len(self.rules)))
        return self

    def _settings(self) -> dict[str, Any]:
        """What a search that is gone on with must have had, too."""
        kept = asdict(self.config)
        return {k: kept[k] for k in ("targets", "paths", "support", "smoothed", "evolution")}

    def _setting(self) -> Setting:
        config = self.config
        targets = frozenset(self.store.relation(name) for name in config.targets) or None
        return Setting(self.store, Thresholds(config.support, config.smoothed), config.evolution, targets)

    def _begun(self, setting: Setting, clock: _Clock, folder: Path | None) -> tuple[RuleColumns, Search]:
        """The rules that are found at once, and the search that goes on from them; or those in the folder."""
        base = self._base(setting, clock) if folder is None else read_base(folder, self.store, self._settings())
        search = None if folder is None else read_search(folder)
        if search is None:
            first = first_parents(self.store, base, self.config.evolution.niche)
            search = setting.search(first, path_bodies(base.paths))
        return base, search

    def _base(self, setting: Setting, clock: _Clock) -> RuleColumns:
        """The short rules, and as many paths of three and of four atoms as there is time for."""
        store, config, most = self.store, self.config, self.config.evolution.most
        until = None if config.budget is None else clock.started + max(_LEAST_SECONDS, config.budget)
        short = short_rules(store, setting.thresholds, min(2, most), until, config.workers)
        miner = PathMiner(store, setting.thresholds, workers=config.workers)
        lots, constants = [short.paths], short.constants
        clock.before = len(constants.head) + len(lots[0].head)
        try:
            for lot in self._longer(miner, clock):
                lots.append(lot)
                clock.before += len(lot.head)
        except KeyboardInterrupt:
            log.warning("interrupted: the rules found until now are kept")
            clock.stopped = True
        paths = joined_paths(lots)
        return of_heads(store, RuleColumns(paths, constants), setting.targets)

    def _longer(self, miner: PathMiner, clock: _Clock) -> Iterator[PathRules]:
        """The rules of paths of three and of four atoms, while there is time for them."""
        config = self.config
        lengths = range(3, min(config.evolution.most, 4) + 1)
        if not lengths or not config.paths:
            return
        graph = graph_of(self.store)
        for length in lengths:
            if not clock.goes_on(0, _FOR_PATHS):
                return
            promises = promising(self.store, graph, length, config.support, config.paths, config.evolution.seed)
            for lot in mined(miner, promises):
                yield lot
                if not clock.goes_on(0, _FOR_PATHS):
                    return

    def _archipelago(self, setting: Setting, search: Search, scheduler: str | None) -> Archipelago:
        if scheduler is None:
            return Threads(setting, search, self.config.workers)
        from neurosym.induction.kg.cluster import Cluster

        return Cluster(setting, search, scheduler, self.config.workers)

    def _finish(self, base: RuleColumns, evolved: Sequence[Kept]) -> None:
        """All rules in columns; those that known facts need, if only these are wanted."""
        config, store = self.config, self.store
        self.rules = columns(Evaluator(store, cap=config.evolution.cap), base, evolved)
        self.applied = arrange(store, self.rules)
        if not config.select:
            return
        how = aggregation(store, self.rules, "max-plus", _NEEDED)
        most = max(1, _LOOKED_AT // store.directions)
        used = needed(store, self.rules, self.applied, how, most, config.evolution.seed, config.workers)
        self.rules = chosen_of(self.rules, used > 0)
        self.applied = arrange(store, self.rules)

    def answers(
        self, subject: str, relation: str, inverse: bool = False, most: int = 10, method: str = "noisy-or"
    ) -> list[Answer]:
        """What the rules say; see `answers_to`."""
        return answers_to(self.store, self.rules, self.applied, subject, relation, inverse, most, method)


@cache
def _compile() -> None:
    """Have the loops compiled before the clock starts: on a machine's first run that takes as long as a search."""
    steps = [(f"x{i}", r, f"x{(i * k) % 20}") for i in range(20) for r, k in (("p", 7), ("q", 3))]
    evolution = EvolutionConfig(most=4, islands=1)
    config = LearnerConfig(budget=None, generations=20, paths=10, support=1, evolution=evolution, workers=1)
    RuleLearner(config)._fit(TripleStore.of(steps), lambda _: None)


def answers_to(
    store: TripleStore,
    rules: RuleColumns,
    applied: Applied,
    subject: str,
    relation: str,
    inverse: bool = False,
    most: int = 10,
    method: str = "noisy-or",
) -> list[Answer]:
    """What the rules say that `relation(subject, ?)` is, or `relation(?, subject)` if `inverse`; known facts are left out.

    Raises:
        InductionError: the graph has no such entity or relation, or the method is unknown.
    """
    x, h = store.entities.number(subject), 2 * store.relation(relation) + inverse
    if x < 0:
        raise InductionError(f"the graph has no entity {subject!r}")
    how = aggregation(store, rules, method)
    place, standing = workplace_for(len(store.entities)), nobody(len(store.entities), how.depth)
    ask(store.csr, applied, how, np.array([[x, h]]), 0, place, standing, np.empty((ROOM, 2), dtype=np.int32))
    known = set(store.targets(h, x).tolist())
    found = [int(y) for y in standing.touched[: standing.size[0]] if int(y) not in known]
    values = -standing.value if how.lexicographic else np.zeros_like(standing.value)
    found.sort(key=lambda y: (values[y].tolist(), -standing.score[y], y))
    evaluator = Evaluator(store)

    def reasons(y: int) -> tuple[Reason, ...]:
        ends = (y, x) if inverse else (x, y)
        return tuple(
            _because(evaluator, rules.rule(store, int(r)), *ends) for r in standing.rule[y, : standing.filled[y]]
        )

    return [Answer(store.entities[y], float(standing.score[y]), reasons(y)) for y in found[:most]]


def _because(evaluator: Evaluator, rule: Rule, subject: int, target: int) -> Reason:
    """A rule that predicts a fact, with one way in which its body holds."""
    store = evaluator.store
    head, body = numbered(store, rule)
    x, y = (subject, target) if head.a == X else (target, subject)
    names = {v: store.entities[e] for v, e in (evaluator.binding(body, x, y, _WORK) or {}).items()}

    def said(term: int) -> str:
        return store.entities[constant(term)] if term < 0 else names.get(term, "_")

    facts = [(store.relations[p.relation], said(p.a), said(p.b)) for p in body if p.relation >= 0 and not p.negated]
    return Reason(rule, tuple(facts))
