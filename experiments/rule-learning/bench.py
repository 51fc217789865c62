"""How far do short rules go? All of one and two path atoms and all with constants, exactly; then three ways to add them up.

Standard splits, filtered ranks, both directions. The rules are the same in every run; only learned weights have seeds.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from harness import Figure, data_folder, figure, record

from neurosym.induction.kg.aggregation import Aggregation, aggregation
from neurosym.induction.kg.applied import arrange
from neurosym.induction.kg.completion import Ranking, rank_answers
from neurosym.induction.kg.constants import constant_rules
from neurosym.induction.kg.paths import PathMiner, Thresholds, short_paths
from neurosym.induction.kg.reading import read_splits
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.weights import WeightConfig, learn_weights

NAME = "rule-learning"
GRAPHS = ("umls", "kinship", "nations", "wn18rr", "fb15k-237")
SEEDS = (0, 1, 2)
THRESHOLDS = Thresholds(support=2, smoothed=0.01)
QUESTIONS = {"fb15k-237": 300}
"""Facts of each direction that weights are learned from, where it is not 1000."""
WORKERS = 2
METHODS = {"max-plus": 10, "noisy-or": 5}
"""Method and depth."""
VALUES = {"MRR": lambda r: r["mrr"], "Hits@1": lambda r: r["hits1"], "Hits@10": lambda r: r["hits10"]}


def figures() -> list[Figure]:
    """MRR and Hits of each graph and method."""
    folder = data_folder("kg") / "kg"
    found: list[Figure] = []
    for graph in GRAPHS:
        runs = record(NAME, graph, settings(graph), lambda graph=graph: run(folder / graph, QUESTIONS.get(graph, 1000)))
        found.append(figure(f"{graph}: rules, in thousands", [runs], lambda r: r["rules"] / 1000))
        for method in (*METHODS, "learned"):
            own = [runs | r | {"seconds": runs["seconds"] / len(runs[method])} for r in runs[method]]
            found += [figure(f"{graph}, {method}: {name}", own, of) for name, of in VALUES.items()]
    return found


def settings(graph: str) -> dict[str, Any]:
    return {"thresholds": THRESHOLDS, "methods": METHODS, "seeds": SEEDS, "questions": QUESTIONS.get(graph, 1000)}


def run(folder: Path, asked: int) -> dict[str, Any]:
    """Ranks of test answers by each method; weights are judged by those of the validation split."""
    started = time.perf_counter()
    train = folder / "train.txt"
    splits = read_splits(
        train if train.exists() else folder / "train.txt.gz", folder / "valid.txt", folder / "test.txt"
    )
    store = splits.train
    paths = PathMiner(store, THRESHOLDS, workers=WORKERS).rules(short_paths(store, 2, THRESHOLDS.support))
    rules = RuleColumns(paths, constant_rules(store, THRESHOLDS))
    learned_in = time.perf_counter() - started
    applied = arrange(store, rules)

    def ranking(how: Aggregation, facts: Any) -> Ranking:
        return rank_answers(store, applied, how, facts, splits.known, workers=WORKERS)

    found: dict[str, Any] = {"rules": len(rules)}
    for method, depth in METHODS.items():
        found[method] = [told(ranking(aggregation(store, rules, method, depth), splits.test))]
    start = aggregation(store, rules, "noisy-or")
    learned = (
        learn_weights(
            store, rules, applied, start, THRESHOLDS.support, WeightConfig(questions=asked, seed=seed),
            lambda how: ranking(how, splits.valid).mrr, WORKERS,
        )
        for seed in SEEDS
    )  # fmt: skip
    found["learned"] = [told(ranking(how, splits.test)) for how in learned]
    return found | {"seconds_of_learning_rules": round(learned_in, 1)}


def told(found: Ranking) -> dict[str, float]:
    return {"mrr": found.mrr, "hits1": found.hits(1), "hits10": found.hits(10)}
