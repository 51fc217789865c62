"""What do coarse masks cost a segmenter, and how much of it is won back? Dice on two data sets, three kinds of coarseness.

The grid takes about an hour on two cores and resumes where it was stopped; with ``RECORDED=1`` in the environment nothing is
computed and the figures are those of the runs recorded so far.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import arms
import harness
from arms import ARMS, COARSENESS, EXACT, NAME, PLAIN, POSTERIOR, Job
from harness import Figure, data_folder, figure, side_by_side, won_back

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


def recorded(data: str, coarseness: str, arm: str) -> dict[int, Record]:
    """The records of an arm, by seed."""
    return harness.recorded(NAME, {seed: Job(data, coarseness, arm, seed).key for seed in SEEDS})


def figures() -> list[Figure]:
    """Means of each arm, then the shares of the lost Dice that are won back."""
    if not os.environ.get("RECORDED"):
        data_folder(*DATA)
        side_by_side(arms.told, grid())
    found: list[Figure] = []
    for data in DATA:
        for coarseness, arm in ((c, a) for c in COARSENESS for a in ARMS):
            runs = list(recorded(data, coarseness, arm).values())
            if runs:
                found.append(figure(f"{data}, {coarseness}, {arm}: Dice", runs, lambda r: r["dice"]))
        for coarseness in COARSE:
            for arm in (a for a in ARMS if a != PLAIN):
                found += _won_back(data, coarseness, arm)
    return found


def _won_back(data: str, coarseness: str, arm: str) -> list[Figure]:
    runs = [recorded(data, *cell) for cell in ((EXACT, PLAIN), (coarseness, PLAIN), (coarseness, arm))]
    name = f"{data}, {coarseness}: share of lost Dice recovered, {arm}"
    return won_back(name, *runs, "dice", GOAL if arm == POSTERIOR else "")
