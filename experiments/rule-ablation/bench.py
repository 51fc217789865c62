"""What do rules that are no paths add, in the same time? The learner with some kinds of bodies left out.

Short rules and longer paths are the same in all arms; `without` says what may not evolve beside them, so that an arm with fewer
kinds has more time for those it has. ``ABLATION_GRAPHS=umls,kinship`` runs these graphs only, ``ABLATION_SECONDS=10`` another
budget.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from graph_splits import read, scored, training_facts, warm_up
from harness import Figure, data_folder, figure, gained, record

from neurosym.induction.kg.bodies import KINDS
from neurosym.induction.kg.island import EvolutionConfig
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner

NAME = "rule-ablation"
GRAPHS = ("umls", "kinship", "nations", "wn18rr")
SEEDS = (0, 1, 2)
SECONDS = 20
WORKERS = 2
PATHS = "paths alone"
GENERAL = tuple(kind for kind in KINDS if kind != "path")
ARMS = {"all kinds": (), PATHS: GENERAL} | {f"without {kind}": (kind,) for kind in GENERAL}
"""Of each arm the kinds that it leaves out."""


def figures() -> list[Figure]:
    """MRR and number of rules of each graph and arm, and what each arm's MRR is above that of paths alone."""
    folder = data_folder("kg") / "kg"
    budget = float(os.environ.get("ABLATION_SECONDS", SECONDS))
    graphs = os.environ.get("ABLATION_GRAPHS", ",".join(GRAPHS)).split(",")
    found: list[Figure] = []
    for graph in graphs:
        runs = {arm: {seed: learned(folder / graph, graph, arm, budget, seed) for seed in SEEDS} for arm in ARMS}
        for arm, of_arm in runs.items():
            name = f"{graph}, {budget:g} s, {arm}"
            found.append(figure(f"{name}: mrr", [*of_arm.values()], lambda r: r["mrr"]))
            found.append(figure(f"{name}: rules", [*of_arm.values()], lambda r: r["rules"]))
            if arm != PATHS:
                found += gained(f"{name}: mrr above {PATHS}", of_arm, runs[PATHS], lambda r: r["mrr"])
    return found


def learned(folder: Path, graph: str, arm: str, budget: float, seed: int) -> dict[str, Any]:
    """The record of one run; validation facts choose the aggregation."""
    evolution = EvolutionConfig(most=3, seed=seed, without=ARMS[arm])
    config = LearnerConfig(budget=budget, evolution=evolution, workers=WORKERS)

    def compute() -> dict[str, Any]:
        warm_up()
        splits = read(folder)
        store = training_facts(splits)
        started = time.perf_counter()
        learner = RuleLearner(config).fit(store)
        took = time.perf_counter() - started
        return scored(splits, learner.rules, WORKERS) | {"learned_in": round(took, 1)}

    key = f"{graph}-{budget:g}s-{arm.replace(' ', '-')}-seed{seed}"
    found: dict[str, Any] = record(NAME, key, config, compute)
    return found
