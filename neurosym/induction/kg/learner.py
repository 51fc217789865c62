"""Facts → rules: what is short exactly and at once, what is longer by evolution, for as many seconds as there are.

    learner = RuleLearner(LearnerConfig(budget=60)).fit(store)
    learner.rules                      all of them, in columns
    learner.answers("ann", "parent")   what they say

The budget is for all of it, the selection of rules included: `neurosym.induction.kg.clock` tells when the search must stop. It
can be stopped at any other moment, too: what was found until then is kept.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from threading import Timer
from typing import Any, Final, NamedTuple, Self

import numpy as np

from neurosym.errors import ConfigError, InductionError
from neurosym.induction.kg.aggregation import aggregation, nobody
from neurosym.induction.kg.applied import ROOM, Applied, arrange, workplace_for
from neurosym.induction.kg.assembly import first_parents, path_bodies
from neurosym.induction.kg.best import Best
from neurosym.induction.kg.bodies import X, Y, canonical_pair, chain, constant, literal, numbered
from neurosym.induction.kg.clock import Clock, State
from neurosym.induction.kg.completion import ask
from neurosym.induction.kg.constants import joined_constants
from neurosym.induction.kg.ending import NEEDED, Ending
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.evolution import Archipelago, Search, Setting, Threads, evolve
from neurosym.induction.kg.island import EvolutionConfig
from neurosym.induction.kg.longer_paths import graph_of, longest, mined, promising
from neurosym.induction.kg.measures import log_fisher
from neurosym.induction.kg.paths import PathMiner, Thresholds, joined_paths
from neurosym.induction.kg.refinement import Refiner
from neurosym.induction.kg.rules import ConstantRules, PathRules, RuleColumns
from neurosym.induction.kg.search_files import read_base, read_search, write_base, write_search
from neurosym.induction.kg.selection import of_heads
from neurosym.induction.kg.short import short_rules
from neurosym.induction.kg.store import TripleStore
from neurosym.induction.kg.thinning import Beginnings, HeldBack
from neurosym.logic import Rule

log = logging.getLogger(__name__)
_WORK: Final = 1_000_000
_FOR_PATHS: Final = 0.5
"""Share of the budget after which no path of three to five atoms is measured any more."""
_ASKING: Final = 0.1
"""Share of the budget for asking facts held back, at most."""
_SELECTING: Final = 0.3
"""Share of the budget for asking known facts, at most: where that would take longer, finding more rules is worth more. It holds
where no facts are held back: who gives some asks for few rules."""
_WRITTEN_EVERY: Final = 30.0
_INTERRUPTED: Final = "interrupted: the rules found until now are kept"
_PATIENCE: Final = 8.0
"""Seconds of compiling after which it is told; loops that were kept are loaded in less."""


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """How rules are learned.

    Attributes:
        targets: relations to learn rules for; none means all.
        budget: seconds for all of it, five at least; None for no limit, then `generations` must be given.
        generations: of the evolution, at most; the same number gives the same rules, unless the budget ends before.
        paths: of three atoms, of four and of five that are measured before anything evolves, at most; in the first half of the
            budget.
        support, smoothed: what a rule must have (`Thresholds`).
        evolution: of rules that are longer than the ones found at once.
        workers: threads.
        select: keep only what known facts need (`neurosym.induction.kg.selection`).
        tolerance: of facts held back, how much MRR may be lost for fewer rules (`neurosym.induction.kg.thinning`).
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
    tolerance: float = 0.002

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
        problems += [
            f"{k} is {getattr(self, k)} but must lie in [0, 1]"
            for k in ("smoothed", "tolerance")
            if not 0 <= getattr(self, k) <= 1
        ]
        if problems:
            raise ConfigError("; ".join(problems))


class Reason(NamedTuple):
    """A rule that speaks for an answer, and facts (relation, subject, object) for which its body holds."""

    rule: Rule
    facts: tuple[tuple[str, str, str], ...]


class Answer(NamedTuple):
    """An entity that rules speak for: its name, its score (comparable within one question), why, most trusted rules first."""

    entity: str
    score: float
    reasons: tuple[Reason, ...]


class RuleLearner:
    """Learns rules from a graph, as scikit-learn's estimators do: `fit`, then `rules` and `answers`.

    Attributes:
        beginnings: with facts held back, how well they are answered by how many rules.
    """

    store: TripleStore
    rules: RuleColumns
    beginnings: Beginnings | None
    _applied: Applied | None

    def __init__(self, config: LearnerConfig | None = None) -> None:
        self.config = config or LearnerConfig()

    def fit(
        self,
        store: TripleStore,
        told: Callable[[State], None] = lambda _: None,
        folder: Path | None = None,
        resume: bool = False,
        scheduler: str | None = None,
        held: HeldBack | None = None,
        after: Callable[[RuleColumns], float] = lambda _: 0.0,
    ) -> Self:
        """Learn from all facts of a store.

        Args:
            told: called after each stage and generation.
            folder: where the search is written down every half a minute, and at its end.
            resume: go on with the search in the folder; the budget counts anew, `generations` do not.
            scheduler: where the islands run: the address of a Dask scheduler, "local" for processes of this machine; threads
                of this process, if None.
            held: facts by which, of the rules that known facts need (`select`), the fewest are chosen that complete the graph
                as well as more of them do.
            after: seconds of the budget that are left for what is done with so many rules afterwards.

        Raises:
            InductionError: a target has no facts; there is no search to go on with, or it is of other facts or settings.
            ConfigError: facts are held back, but `select` is off.
        """
        if held is not None and not self.config.select:
            raise ConfigError("facts held back choose among rules that known facts need: leave select on")
        _compile()
        return self._fit(store, told, folder, resume, scheduler, held, after)

    def _fit(
        self,
        store: TripleStore,
        told: Callable[[State], None],
        folder: Path | None = None,
        resume: bool = False,
        scheduler: str | None = None,
        held: HeldBack | None = None,
        after: Callable[[RuleColumns], float] = lambda _: 0.0,
    ) -> Self:
        config = self.config
        clock = Clock(config.budget, told)
        self.store = store
        setting = self._setting()
        evolution = config.evolution
        ending = Ending(
            store,
            config.select,
            config.tolerance,
            evolution.seed,
            evolution.cap,
            config.workers,
            held=held,
            asking=clock.share(_ASKING),
            selecting=clock.share(_SELECTING) if held is None else math.inf,
            after=after,
        )
        base, search = self._begun(setting, clock, ending, folder, resume)
        if folder is not None and not resume:
            write_base(folder, store, self._settings(), base)
        clock.before = len(base)
        try:
            if clock.has_time_to_begin(len(base)):
                ending.judge(base, clock.end)
        except KeyboardInterrupt:
            log.warning(_INTERRUPTED)
            clock.stopped = True
        best = Best(store, base)
        clock.begins()

        def goes_on(search: Search) -> bool:
            found = len(search.found)
            clock.try_rest(len(base) + found, lambda most: ending.seconds(base, search.rules, most))
            done = config.generations is not None and search.generation >= config.generations
            if folder is not None and clock.since_written > _WRITTEN_EVERY:
                write_search(folder, search)
                clock.wrote()
            return clock.goes_on(found, 1.0, best.reached(search)) and clock.has_time_for_another(found) and not done

        evolve(search, self._archipelago(setting, search, scheduler), goes_on)
        if folder is not None:
            write_search(folder, search)
        self.rules, self.beginnings = ending.chosen(base, search.rules, clock.end)
        if not len(self.rules) and clock.end is not None:
            log.warning(
                "no rule with the support and the confidence that are wanted was found in %.0f s", clock.seconds
            )
        self._applied = None
        clock.told(State(clock.seconds, len(self.rules), best.reached(search)))
        return self

    def _settings(self) -> dict[str, Any]:
        """What a search that is gone on with must have had, too."""
        kept = asdict(self.config)
        return {k: kept[k] for k in ("targets", "paths", "support", "smoothed", "evolution", "select")}

    def _setting(self) -> Setting:
        config = self.config
        targets = frozenset(self.store.relation(name) for name in config.targets) or None
        return Setting(self.store, Thresholds(config.support, config.smoothed), config.evolution, targets)

    def _begun(
        self, setting: Setting, clock: Clock, ending: Ending, folder: Path | None, resume: bool
    ) -> tuple[RuleColumns, Search]:
        """The rules that are found at once, and the search that goes on from them; or those in the folder, to `resume` it."""
        if folder is not None and resume:
            base, search = read_base(folder, self.store, self._settings()), read_search(folder)
        else:
            base, search = self._base(setting, clock, ending), None
        if search is None and folder is None and not clock.has_time_to_begin(len(base)):
            clock.stopped = True  # what evolution starts from takes seconds to set up, and nobody will go on with it
            search = setting.search([])
        if search is None:
            first = first_parents(self.store, base, self.config.evolution.niche)
            search = setting.search(first, path_bodies(base.paths))
        return base, search

    def _base(self, setting: Setting, clock: Clock, ending: Ending) -> RuleColumns:
        """The short rules, and as many paths of three to five atoms as there is time for."""
        store, config, most = self.store, self.config, self.config.evolution.most

        def goes_on(paths: Sequence[PathRules], constants: Sequence[ConstantRules]) -> bool:
            found = sum(len(part.head) for part in paths) + sum(len(part.head) for part in constants)
            clock.try_rest(
                found,
                lambda most: ending.seconds(RuleColumns(joined_paths(paths), joined_constants(constants)), (), most),
            )
            return clock.has_time_for_another(found)

        depth = NEEDED if config.select else 0
        short = short_rules(store, setting.thresholds, min(2, most), clock.end, config.workers, depth, goes_on)
        miner = PathMiner(store, setting.thresholds, workers=config.workers)
        lots, constants = [short.paths], short.constants
        clock.before = len(constants.head) + len(lots[0].head)
        try:
            for lot in self._longer(miner, clock):
                lots.append(lot)
                clock.before += len(lot.head)
                clock.try_rest(
                    clock.before, lambda most: ending.seconds(RuleColumns(joined_paths(lots), constants), (), most)
                )
        except KeyboardInterrupt:
            log.warning(_INTERRUPTED)
            clock.stopped = True
        paths = joined_paths(lots)
        return of_heads(store, RuleColumns(paths, constants), setting.targets)

    def _longer(self, miner: PathMiner, clock: Clock) -> Iterator[PathRules]:
        """The rules of paths of three to five atoms, while there is time for them."""
        config = self.config
        lengths = range(3, min(config.evolution.most, longest(self.store)) + 1)
        if not lengths or not config.paths:
            return
        graph = graph_of(self.store)
        for length in lengths:
            if not clock.goes_on(0, _FOR_PATHS):
                return
            clock.begins()
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

    @property
    def applied(self) -> Applied:
        """The rules arranged for questions, when they are first asked for."""
        if self._applied is None:
            self._applied = arrange(self.store, self.rules)
        return self._applied

    def answers(
        self, subject: str, relation: str, inverse: bool = False, most: int = 10, method: str = "noisy-or"
    ) -> list[Answer]:
        """What the rules say; see `answers_to`."""
        return answers_to(self.store, self.rules, self.applied, subject, relation, inverse, most, method)


@cache
def _compile() -> None:
    """Let numba compile the loops before the clock starts: on a machine's first run that takes as long as a search."""
    notice = Timer(_PATIENCE, log.info, ("loops are compiled and kept: about a minute, on a machine's first run only",))
    notice.daemon = True
    notice.start()
    try:
        _meet_all_loops()
    finally:
        notice.cancel()


def _meet_all_loops() -> None:
    """Learn from a small graph, in every way."""
    steps = [(f"x{i}", r, f"x{(i * k) % 20}") for i in range(20) for r, k in (("p", 7), ("q", 3))]
    evolution = EvolutionConfig(most=4, islands=1)
    config = LearnerConfig(budget=None, generations=20, paths=10, support=1, evolution=evolution, workers=1)
    store = TripleStore.of(steps)
    RuleLearner(config)._fit(store, lambda _: None, held=HeldBack(store.columns(), store))
    evaluator = Evaluator(store)
    # a path and none, raced in large graphs
    for body in (chain((0, 2), Y), (literal(0, X, Y), literal(2, X, Y))):
        counting = evaluator.counting(canonical_pair(body)[0])
        if counting is not None:
            sizes, works = np.zeros((2, 1), dtype=np.int64)
            counting.each(counting.xs[np.zeros(1, dtype=np.int64)], evaluator.cap, sizes, works)
            counting.wipe()
    # refined parents of each kind, which few generations may not come upon
    for body in (chain((0, 2), Y), (literal(0, X, 2),)):
        Refiner(evaluator).all(body, 0, 0, 1)
    log_fisher(1, 2, 2, 9)  # of rules that are written


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
