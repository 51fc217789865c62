"""What is learned in so many seconds, and how well does it complete the graph? AnyBURL beside it, where its jar is given.

Standard splits, filtered ranks, both directions. Seconds are of wall time, from the facts in memory to the last rule chosen.
``ANYBURL_JAR`` names the program that is run beside (AnyBURL 23-1); its rules are read and applied as ours are.
``RULE_SECONDS=10,50`` runs these budgets only.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import Figure, data_folder, figure, record

from neurosym.induction.kg.aggregation import METHODS, aggregation
from neurosym.induction.kg.applied import arrange
from neurosym.induction.kg.completion import best_aggregation, rank_answers
from neurosym.induction.kg.files import read_rule_set
from neurosym.induction.kg.island import EvolutionConfig
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
from neurosym.induction.kg.reading import Splits, read_splits
from neurosym.induction.kg.rules import RuleColumns
from neurosym.induction.kg.store import TripleStore

NAME = "rule-learning"
GRAPHS = ("umls", "kinship", "nations", "wn18rr", "fb15k-237")
SEEDS = (0, 1, 2)
SEARCH = {10: 4.0, 50: 35.0, 100: 80.0}
"""Of so many seconds in all, those until no generation is begun any more; the rest is for the last one and the selection."""
TOO_LONG_TO_SELECT = {("fb15k-237", 10): 8.0}
"""Where the short rules alone take most of the time: until when they are looked for, then."""
BROOD = 8
"""Fewer than usual: no generation is begun late, but one that is begun is ended."""
WORKERS = 2
_AFTER = 5
"""AnyBURL ends before its last snapshot is all written: rule counts of equal runs differed twentyfold. One more, then."""
METRICS = ("mrr", "hits1", "hits10")


def figures() -> list[Figure]:
    """MRR and Hits of each graph and budget, the number of rules, and AnyBURL's."""
    folder = data_folder("kg") / "kg"
    budgets = [int(b) for b in os.environ.get("RULE_SECONDS", "10,50,100").split(",")]
    jar = os.environ.get("ANYBURL_JAR")
    found: list[Figure] = []
    for budget in budgets:
        for graph in GRAPHS:
            runs = [learned(folder / graph, graph, budget, seed) for seed in SEEDS]
            others = [anyburl(Path(jar), folder / graph, graph, budget, again) for again in SEEDS] if jar else []
            for metric in METRICS:
                peers = (
                    [figure(f"{graph}, {budget} s: {metric}, AnyBURL", others, lambda r, m=metric: r[m])]
                    if others
                    else []
                )
                goal = f">= {peers[0].value:.4f}" if peers else ""
                found += [figure(f"{graph}, {budget} s: {metric}", runs, lambda r, m=metric: r[m], goal), *peers]
            found.append(figure(f"{graph}, {budget} s: rules", runs, lambda r: r["rules"]))
            found.append(
                figure(f"{graph}, {budget} s: seconds of learning", runs, lambda r: r["learned_in"], f"<= {budget}")
            )
            if others:
                found.append(figure(f"{graph}, {budget} s: rules, AnyBURL", others, lambda r: r["rules"]))
    return found


def learned(folder: Path, graph: str, budget: int, seed: int) -> dict[str, Any]:
    """The record of one run of the learner; validation facts choose the aggregation."""
    select = (graph, budget) not in TOO_LONG_TO_SELECT
    until = TOO_LONG_TO_SELECT.get((graph, budget), SEARCH[budget])
    config = LearnerConfig(
        budget=until, evolution=EvolutionConfig(most=3, brood=BROOD, seed=seed), workers=WORKERS, select=select
    )

    def compute() -> dict[str, Any]:
        warm_up()
        splits = read(folder)
        started = time.perf_counter()
        store = TripleStore.of_numbers(splits.train.entities, splits.train.relations, *splits.train.columns())
        learner = RuleLearner(config).fit(store)
        took = time.perf_counter() - started
        return scored(splits, learner.rules) | {"learned_in": round(took, 1)}

    settings = {"search": config.budget, "seed": seed, "select": select, "most": 3, "brood": BROOD, "workers": WORKERS}
    found: dict[str, Any] = record(NAME, f"{graph}-{budget}s-seed{seed}", settings, compute)
    return found


def anyburl(jar: Path, folder: Path, graph: str, budget: int, again: int) -> dict[str, Any]:
    """The record of AnyBURL's rules after so many seconds, applied by max-plus as its authors do; it has no seed, so it is
    run several times."""

    def compute() -> dict[str, Any]:
        splits = read(folder)
        with tempfile.TemporaryDirectory() as scratch:
            train = Path(scratch) / "train.txt"
            file = train_file(folder)
            train.write_bytes(gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes())
            settings = {
                "PATH_TRAINING": train,
                "PATH_OUTPUT": Path(scratch) / "rules",
                "SNAPSHOTS_AT": f"{budget},{budget + _AFTER}",
                "WORKER_THREADS": WORKERS,
            }
            config = Path(scratch) / "learn.properties"
            config.write_text("".join(f"{k} = {v}\n" for k, v in settings.items()))
            command = ["java", "-Xmx6G", "-cp", str(jar), "de.unima.ki.anyburl.Learn", str(config)]
            subprocess.run(command, capture_output=True, check=False, cwd=scratch)  # noqa: S603  the user's jar; it exits with 1
            rules = (Path(scratch) / f"rules-{budget}").rename(Path(scratch) / "rules.tsv")
            columns = read_rule_set(rules, splits.train)
        return scored(splits, columns, "max-plus")

    found: dict[str, Any] = record(
        NAME, f"{graph}-{budget}s-anyburl{again}", {"jar": jar.name, "workers": WORKERS, "again": again}, compute
    )
    return found


def scored(splits: Splits, rules: RuleColumns, method: str = "") -> dict[str, Any]:
    """Test ranks, by the method that ranks validation facts best unless one is given."""
    store = splits.train
    applied = arrange(store, rules)
    if method in METHODS:
        how = aggregation(store, rules, method)
    else:
        method, how = best_aggregation(store, rules, applied, splits.valid, splits.known, WORKERS)
    ranking = rank_answers(store, applied, how, splits.test, splits.known, WORKERS)
    told = {"mrr": ranking.mrr, "hits1": ranking.hits(1), "hits10": ranking.hits(10)}
    return {**told, "rules": len(rules), "method": method}


def read(folder: Path) -> Splits:
    return read_splits(train_file(folder), folder / "valid.txt", folder / "test.txt")


def train_file(folder: Path) -> Path:
    plain = folder / "train.txt"
    return plain if plain.exists() else folder / "train.txt.gz"


def warm_up() -> None:
    """Have everything compiled, which is kept on disk from then on."""
    facts = [(f"x{i}", "p", f"x{(i * 7) % 20}") for i in range(20)] + [
        (f"x{i}", "q", f"x{(i * 3) % 20}") for i in range(20)
    ]
    config = LearnerConfig(budget=None, generations=60, evolution=EvolutionConfig(islands=1), workers=1, support=1)
    RuleLearner(config).fit(TripleStore.of(facts))
