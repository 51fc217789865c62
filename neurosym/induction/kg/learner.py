"""Facts → rules: what is short exactly and at once, what is longer by evolution, for as many seconds as there are.

    learner = RuleLearner(LearnerConfig(budget=60)).fit(store)
    learner.rules                      all of them, in columns
    learner.answers("ann", "parent")   what they say

The search can be stopped at any moment: what was found until then is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

import numpy as np

from neurosym.errors import ConfigError, InductionError
from neurosym.induction.kg.aggregation import aggregation, nobody
from neurosym.induction.kg.applied import ROOM, Applied, arrange, workplace_for
from neurosym.induction.kg.assembly import columns, first_parents
from neurosym.induction.kg.bodies import X, constant, numbered
from neurosym.induction.kg.completion import ask
from neurosym.induction.kg.constants import constant_rules
from neurosym.induction.kg.evaluator import Evaluator
from neurosym.induction.kg.evolution import EvolutionConfig, evolve
from neurosym.induction.kg.paths import PathMiner, Thresholds, short_paths
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.selection import chosen_of, needed, of_heads
from neurosym.induction.kg.store import TripleStore
from neurosym.logic import Rule

_NEEDED: Final = 5
_LOOKED_AT: Final = 1_000_000
_WORK: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """How rules are learned.

    Attributes:
        targets: relations to learn rules for; none means all.
        budget: seconds after which no generation is begun; None for no limit, then `generations` must be given.
        generations: of the evolution, at most; the same number gives the same rules.
        support, smoothed: what a rule must have (`Thresholds`).
        evolution: of rules that are longer than the ones found at once.
        workers: threads.
        select: keep only what known facts need (`neurosym.induction.kg.selection`); it takes some seconds more.
    """

    targets: tuple[str, ...] = ()
    budget: float | None = 60.0
    generations: int | None = None
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


class RuleLearner:
    """Learns rules from a graph, as scikit-learn's estimators do: `fit`, then `rules` and `answers`."""

    store: TripleStore
    rules: RuleColumns
    applied: Applied

    def __init__(self, config: LearnerConfig | None = None) -> None:
        self.config = config or LearnerConfig()

    def fit(self, store: TripleStore, told: Callable[[State], None] = lambda _: None) -> Self:
        """Learn from all facts of a store.

        Args:
            told: called after each stage and generation.

        Raises:
            InductionError: a target has no facts.
        """
        config, started = self.config, time.monotonic()
        targets = frozenset(store.relation(name) for name in config.targets) or None
        self.store = store
        least = Thresholds(config.support, config.smoothed)
        evolution = config.evolution
        paths = PathMiner(store, least, workers=config.workers).rules(
            short_paths(store, min(2, evolution.most), least.support)
        )
        base = of_heads(store, RuleColumns(paths, constant_rules(store, least)), targets)
        told(State(time.monotonic() - started, 0, len(base)))

        def goes_on(generation: int, found: int) -> bool:
            seconds = time.monotonic() - started
            told(State(seconds, generation, len(base) + found))
            late = config.budget is not None and seconds >= config.budget
            return not late and (config.generations is None or generation < config.generations)

        kept = evolve(
            store, first_parents(store, base, evolution.niche), least, evolution, goes_on, config.workers, targets
        )
        self.rules = columns(Evaluator(store, cap=evolution.cap), base, kept)
        self.applied = arrange(store, self.rules)
        if config.select:
            how = aggregation(store, self.rules, "max-plus", _NEEDED)
            most = max(1, _LOOKED_AT // store.directions)
            used = needed(store, self.rules, self.applied, how, most, evolution.seed, config.workers)
            self.rules = chosen_of(self.rules, used > 0)
            self.applied = arrange(store, self.rules)
        told(State(time.monotonic() - started, 0, len(self.rules)))
        return self

    def answers(
        self, subject: str, relation: str, inverse: bool = False, most: int = 10, method: str = "noisy-or"
    ) -> list[Answer]:
        """What the rules say; see `answers_to`."""
        return answers_to(self.store, self.rules, self.applied, subject, relation, inverse, most, method)


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
