"""The settings of the rule learner, checked when made, and what it reports while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from neurosym.errors import ConfigError, Problem

Measure = Literal["standard", "pca"]
Stage = Literal["seeds", "evolution", "selection", "done"]
EXACT_BODY: Final = 2
"""Bodies up to this many atoms are enumerated, all of them; longer ones are evolved."""
_LEAST: Final = {
    "max_body": 1,
    "max_variables": 2,
    "population": 2,
    "generations": 0,
    "min_support": 1,
    "cases": 0,
    "work_cap": 1,
}


@dataclass(frozen=True, slots=True)
class InductionConfig:
    """What to look for and how hard.

    The same facts, config and background give the same candidates, in the same order, whatever the order of the facts,
    unless `budget_seconds` runs out.

    Raises:
        ConfigError: naming every setting that makes no sense.
    """

    targets: tuple[str, ...] = ()
    """Head relations; empty means all."""
    max_body: int = 4
    """Most atoms of a body."""
    max_variables: int = 4
    """Most variables of a rule, those of the head included."""
    population: int = 60
    """Rules of a niche; there is one niche per head relation."""
    generations: int = 30
    """0: nothing beyond the exhaustive pass over bodies of one and two atoms."""
    budget_seconds: float | None = None
    """Stop searching after this time and return what has been found."""
    min_support: int = 5
    """Fewest distinct bindings of the head variables for which body and head hold."""
    min_scenes: int = 3
    """Fewest scenes in which that happens; of no effect in a general graph."""
    min_confidence: float = 0.6
    measure: Measure = "standard"
    """The confidence that `min_confidence` and the fitness look at: closed world, or partial completeness.

    A candidate's weight is its standard confidence either way.
    """
    seed: int = 0
    injective: bool = True
    """Distinct variables bind distinct entities."""
    top: int | None = 50
    """Most candidates to return; None for all."""
    fill_up: bool = False
    """Among the candidates, let rules stand that others make superfluous where their like is worth less: special cases."""
    cases: int = 50
    """Most supporting and most refuting scenes to list per candidate."""
    work_cap: int = 1_000_000
    """Bodies that need a table of more rows are skipped, counted and reported."""

    def __post_init__(self) -> None:
        problems = []
        for name, bound in _LEAST.items():
            if getattr(self, name) < bound:
                problems.append(Problem(f"{name} is {getattr(self, name)} but must be at least {bound}"))
        if not 0.0 <= self.min_confidence <= 1.0:
            problems.append(Problem(f"min_confidence is {self.min_confidence} but must lie in [0, 1]"))
        budget = self.budget_seconds
        if budget is not None and not (budget > 0 and math.isfinite(budget)):
            problems.append(Problem(f"budget_seconds is {budget} but must be positive", cure="None: no limit"))
        if self.top is not None and self.top < 1:
            problems.append(Problem(f"top is {self.top} but must be at least 1", cure="None: all"))
        if self.measure not in get_args(Measure):
            problems.append(Problem(f"unknown measure {self.measure!r}", cure=f"known: {', '.join(get_args(Measure))}"))
        if isinstance(cast(object, self.targets), str):
            problems.append(Problem(f"targets is {self.targets!r} but must be a tuple", cure=f"({self.targets!r},)"))
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class Progress:
    """A report of a running induction, handed to the `progress` callback."""

    stage: Stage
    target: str
    """The head relation of the niche at work; "" outside of evolution."""
    step: int
    """Of the stage: bodies enumerated, generation, or rules accepted."""
    evaluated: int
    """Bodies measured so far; each is scored for all heads at once."""
    too_expensive: int
    """Bodies given up because they exceed `work_cap`."""
    found: int
    """Rules above the thresholds so far, before redundant ones are removed."""
    out_of_time: bool = False
