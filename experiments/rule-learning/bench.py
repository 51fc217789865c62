"""What is learned in so many seconds, and how well does it complete the graph? AnyBURL beside it, where its jar is given.

Standard splits, filtered ranks, both directions. Seconds are of wall time, from the facts in memory to the last rule chosen.
``ANYBURL_JAR`` names the program that is run beside (AnyBURL 23-1); its rules are read and applied as ours are.
``RULE_SECONDS=10,50`` runs these budgets only, ``RULE_GRAPHS=umls,nations`` these graphs.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import peer
from graph_splits import read, scored, training_facts, warm_up
from harness import Figure, data_folder, figure, gained, record

from neurosym.induction.kg.island import EvolutionConfig
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner

NAME = "rule-learning"
GRAPHS = ("umls", "kinship", "nations", "wn18rr", "fb15k-237")
SEEDS = (0, 1, 2)
BROOD = 8
"""Fewer than usual: a generation that is begun is ended."""
WORKERS = 2
FEW = LearnerConfig().tolerance
MOST, SMOOTHED = {"wn18rr": 5}, {"wn18rr": 0.001}
"""Atoms of a body and least smoothed confidence where validation facts chose others than 3 and .01 (`rule-levels`)."""
SEARCHED = ("wn18rr", "fb15k-237")
"""Where all the time goes into the search: better on validation facts than to have them choose among the rules."""
BATCH, DEFAULT_BATCH = {"fb15k-237": 5000}, 250
"""Milliseconds after which AnyBURL draws anew what rules a thread looks for, by graph as validation facts chose (README). By
its default of 5000 two threads draw two or three times each in ten seconds, and equal runs differ twentyfold."""
METRICS = ("mrr", "hits1", "hits10")
Runs = list[dict[str, Any]]


def figures() -> list[Figure]:
    """MRR and Hits of each graph and budget, the number of rules, and AnyBURL's."""
    folder = data_folder("kg") / "kg"
    budgets = [int(b) for b in os.environ.get("RULE_SECONDS", "10,50,100").split(",")]
    graphs = os.environ.get("RULE_GRAPHS", ",".join(GRAPHS)).split(",")
    jar = os.environ.get("ANYBURL_JAR")
    found: list[Figure] = []
    ours, theirs = dict[tuple[str, int], Runs](), dict[tuple[str, int], Runs]()
    for graph in graphs if jar else ():
        made = [anyburl(Path(jar), folder / graph, graph, budgets, k, budgets[:1]) for k in SEEDS]
        theirs |= {(graph, b): [runs[i] for runs in made] for i, b in enumerate(budgets)}
    for budget in budgets:
        for graph in graphs:
            best = None if graph in SEARCHED else 0.0
            runs = [learned(folder / graph, graph, budget, seed, "", best) for seed in SEEDS]
            others = theirs.get((graph, budget), [])
            ours[graph, budget] = runs
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
            if budget == budgets[0]:
                found += fewer(folder / graph, graph, budget, others)
            if others:
                found.append(figure(f"{graph}, {budget} s: rules, AnyBURL", others, lambda r: r["rules"]))
    for graph in graphs:
        for less, more in pairwise(budgets):
            by_seed = (dict(zip(SEEDS, ours[graph, b], strict=True)) for b in (more, less))
            found += gained(f"{graph}: mrr of {more} s above that of {less} s", *by_seed, lambda r: r["mrr"], ">= 0")
    return found + sooner(graphs, ours, theirs, budgets[0], budgets[-1])


def sooner(
    graphs: Sequence[str],
    ours: Mapping[tuple[str, int], Runs],
    theirs: Mapping[tuple[str, int], Runs],
    least: int,
    most: int,
) -> list[Figure]:
    """On how many graphs the least budget reaches what the most gives AnyBURL, seed by seed; nothing without AnyBURL."""
    if least == most or not theirs:
        return []
    runs = []
    for seed in SEEDS:
        reached = sum(ours[g, least][seed]["mrr"] >= theirs[g, most][seed]["mrr"] for g in graphs)
        runs.append(ours[graphs[-1], least][seed] | {"reached": reached})
    return [figure(f"graphs on which {least} s reach AnyBURL's mrr of {most} s", runs, lambda r: r["reached"], ">= 3")]


def fewer(folder: Path, graph: str, budget: int, others: Sequence[dict[str, Any]]) -> list[Figure]:
    """How many rules validation facts choose, and how few are as good as AnyBURL's: as few as reach its MRR on those."""
    few = [learned(folder, graph, budget, seed, "few", FEW) for seed in SEEDS]
    found = [
        figure(f"{graph}, {budget} s, fewest by validation: {metric}", few, lambda r, m=metric: r[m])
        for metric in ("mrr", "rules")
    ]
    if not others:
        return found
    runs = []
    for seed, ours, other in zip(SEEDS, few, others, strict=True):
        valid = ours.get("valid", 0.0)  # not known where time was over before
        spare = max(0.0, round(valid - other["valid"], 4))
        run = learned(folder, graph, budget, seed, "lean", spare)
        runs.append(run | {"smaller": other["rules"] / run["rules"]})
    named = f"{graph}, {budget} s, as few as reach AnyBURL's MRR of validation facts"
    peer_mrr = figure("", others, lambda r: r["mrr"]).value
    return [
        *found,
        figure(f"{named}: mrr", runs, lambda r: r["mrr"], f">= {peer_mrr:.4f}"),
        figure(f"{named}: rules", runs, lambda r: r["rules"]),
        figure(f"{named}: AnyBURL's rules / ours", runs, lambda r: r["smaller"], ">= 10"),
    ]


def learned(folder: Path, graph: str, budget: int, seed: int, arm: str, tolerance: float | None) -> dict[str, Any]:
    """The record of one run; validation facts choose the aggregation and, with a tolerance, how many rules are kept."""
    evolution = EvolutionConfig(most=MOST.get(graph, 3), brood=BROOD, seed=seed)
    config = LearnerConfig(budget=budget, smoothed=SMOOTHED.get(graph, 0.01), evolution=evolution, workers=WORKERS)
    settings: Any = [config, "no facts held back"]
    if tolerance is not None:
        settings = config = replace(config, tolerance=tolerance)

    def compute() -> dict[str, Any]:
        warm_up()
        splits = read(folder)
        store = training_facts(splits)
        started = time.perf_counter()
        held = None if tolerance is None else peer.held_back(store, splits.valid)
        learner = RuleLearner(config).fit(store, held=held)
        told = {"learned_in": round(time.perf_counter() - started, 1)}
        if learner.beginnings is not None:
            told["valid"] = float(learner.beginnings.mrr.max())
        return scored(splits, learner.rules, WORKERS) | told

    key = "-".join(filter(None, (graph, f"{budget}s", arm, f"seed{seed}")))
    found: dict[str, Any] = record(NAME, key, settings, compute)
    return found


def anyburl(
    jar: Path, folder: Path, graph: str, budgets: Sequence[int], again: int, valid: Sequence[int]
) -> list[dict[str, Any]]:
    """The records of AnyBURL's rules after so many seconds, all of one run that stores them on the way, ranked on validation
    facts, too, after the seconds that `valid` names. It has no seed, so it is run several times; not where its records are
    there."""
    batch = BATCH.get(graph, DEFAULT_BATCH)
    settings = {"jar": jar.name, "workers": WORKERS, "batch": batch, "again": again}
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:

        @cache
        def run() -> dict[int, Future[dict[str, Any]]]:
            files = peer.learn(jar, folder, budgets, batch, WORKERS, Path(scratch))
            return {b: pool.submit(peer.applied, folder, f, b in valid) for b, f in zip(budgets, files, strict=True)}

        return [
            record(NAME, f"{graph}-{b}s-anyburl{again}", settings, lambda b=b: run()[b].result())  # type: ignore[misc]
            for b in budgets
        ]
