"""What do coarse masks cost a segmenter, and how much of it is won back? Dice on two data sets, three kinds of coarseness.

The grid takes about an hour on two cores and resumes where it was stopped; with ``RECORDED=1`` in the environment nothing is
computed and the figures are those of the runs recorded so far.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import arms
from arms import ARMS, COARSENESS, EXACT, NAME, PLAIN, POSTERIOR, Job
from harness import HERE, Figure, data_folder, figure

SEEDS = (0, 1, 2)
DATA = ("jsrt", "covid-cxr")
COARSE = tuple(c for c in COARSENESS if c != EXACT)
GOAL = ">= 0.6"
Record = dict[str, Any]


def grid() -> list[Job]:
    """Every run, the ones that decide first."""
    jobs = [
        Job(data, coarseness, arm, seed)
        for seed in SEEDS
        for data in DATA
        for coarseness, arm in [(EXACT, PLAIN), *((c, a) for c in COARSE for a in (PLAIN, POSTERIOR))]
    ]
    jobs += [Job("jsrt", c, "posterior + filter + adversary", seed) for seed in SEEDS for c in COARSE]
    return jobs + [Job("jsrt", "dilate", "posterior + filter", seed) for seed in SEEDS]


def compute(jobs: Iterable[Job], workers: int = 2) -> None:
    """Run what is not recorded yet, one thread each."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(arms.told, jobs))


def recorded(data: str, coarseness: str, arm: str) -> dict[int, Record]:
    """The records of an arm by seed; those that are not there are left out."""
    found = {}
    for seed in SEEDS:
        path = HERE / NAME / "records" / f"{Job(data, coarseness, arm, seed).key}.json"
        if path.is_file():
            found[seed] = json.loads(path.read_text(encoding="utf-8"))
    return found


def figures() -> list[Figure]:
    """Means of each arm, then the shares of the lost Dice that are won back."""
    if not os.environ.get("RECORDED"):
        data_folder(*DATA)
        compute(grid())
    found: list[Figure] = []
    for data in DATA:
        for coarseness, arm in ((c, a) for c in COARSENESS for a in ARMS):
            runs = list(recorded(data, coarseness, arm).values())
            if runs:
                found.append(figure(f"{data}, {coarseness}, {arm}: Dice", runs, lambda r: r["dice"]))
        for coarseness in COARSE:
            for arm in ARMS:
                found += _won_back(data, coarseness, arm)
    return found


def _won_back(data: str, coarseness: str, arm: str) -> list[Figure]:
    """Share of the loss: (arm − plain) / (plain on exact masks − plain), of the means; its interval is the seeds' own."""
    exact, plain, runs = (
        recorded(data, EXACT, PLAIN),
        recorded(data, coarseness, PLAIN),
        recorded(data, coarseness, arm),
    )
    seeds = sorted({*exact} & {*plain} & {*runs})
    if arm == PLAIN or len(seeds) < 2:
        return []
    # the seeds' mean loss is the measure of all, for the loss of one seed may be small by chance
    loss = sum(exact[s]["dice"] - plain[s]["dice"] for s in seeds) / len(seeds)
    chosen = [runs[s] | {"share": (runs[s]["dice"] - plain[s]["dice"]) / loss} for s in seeds]
    name = f"{data}, {coarseness}: share of lost Dice recovered, {arm}"
    return [figure(name, chosen, lambda r: r["share"], GOAL if arm == POSTERIOR else "")]


if __name__ == "__main__":
    compute(grid())
