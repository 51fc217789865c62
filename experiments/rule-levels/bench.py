"""Do ten minutes on two cores reach what others published, with many more cores or hours?

Standard splits, filtered ranks, both directions. Validation facts chose the settings, and choose in each run how rules are
added up. ``LEVELS=wn18rr,kinship`` runs these graphs only.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from graph_splits import read, training_facts, warm_up
from harness import Figure, data_folder, figure, record

from neurosym.induction.kg.aggregation import Aggregation, ByDirection
from neurosym.induction.kg.applied import arrange
from neurosym.induction.kg.completion import rank_answers
from neurosym.induction.kg.island import EvolutionConfig
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
from neurosym.induction.kg.tuning import tuned_aggregation
from neurosym.induction.kg.weights import learned_aggregation

NAME = "rule-levels"
SEEDS = (0, 1, 2)
WORKERS = 2
LIMIT = 600
"""Seconds for all that comes before test facts are ranked."""


class Level(NamedTuple):
    """A published MRR and how to reach it; rules are added up with learned weights, or as is best for each relation."""

    mrr: float
    budget: int
    most: int = 3
    smoothed: float = 0.01
    weights: bool = False


LEVELS = {
    "kinship": Level(0.70, 60, weights=True),
    "wn18rr": Level(0.49, 400, most=5, smoothed=0.001),
    "fb15k-237": Level(0.355, 400),
}


def figures() -> list[Figure]:
    """MRR of each graph, and what it took."""
    folder = data_folder("kg") / "kg"
    found: list[Figure] = []
    for graph in os.environ.get("LEVELS", ",".join(LEVELS)).split(","):
        runs = [learned(folder / graph, graph, seed) for seed in SEEDS]
        found += [
            figure(f"{graph}: mrr", runs, lambda r: r["mrr"], f">= {LEVELS[graph].mrr}"),
            figure(f"{graph}: hits1", runs, lambda r: r["hits1"]),
            figure(f"{graph}: hits10", runs, lambda r: r["hits10"]),
            figure(f"{graph}: rules", runs, lambda r: r["rules"]),
            figure(f"{graph}: seconds before test facts are ranked", runs, lambda r: r["ready_in"], f"<= {LIMIT}"),
        ]
    return found


def learned(folder: Path, graph: str, seed: int) -> dict[str, Any]:
    """The record of one run."""
    level = LEVELS[graph]
    config = LearnerConfig(
        budget=level.budget,
        smoothed=level.smoothed,
        evolution=EvolutionConfig(most=level.most, seed=seed),
        workers=WORKERS,
    )

    def compute() -> dict[str, Any]:
        warm_up()
        splits = read(folder)
        started = time.perf_counter()
        store = training_facts(splits)
        rules = RuleLearner(config).fit(store).rules
        applied = arrange(store, rules)
        how: Aggregation | ByDirection
        if level.weights:
            how = learned_aggregation(store, rules, applied, splits.valid, splits.known, workers=WORKERS)
        else:
            how = tuned_aggregation(store, rules, applied, splits.valid, splits.known, WORKERS)
        ready = time.perf_counter() - started
        ranking = rank_answers(store, applied, how, splits.test, splits.known, WORKERS)
        told = {"mrr": ranking.mrr, "hits1": ranking.hits(1), "hits10": ranking.hits(10)}
        return {**told, "rules": len(rules), "ready_in": round(ready, 1)}

    found: dict[str, Any] = record(NAME, f"{graph}-seed{seed}", [config, level.weights], compute)
    return found
