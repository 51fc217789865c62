"""What are films without labels worth to a classifier, and what does the ontology's hierarchy add to CoMatch's label graph?

Four arms of equal cost, three seeds, 10 labelled films of each of three classes, tested on films of other patients. The grid
resumes where it was stopped; with ``RECORDED=1`` in the environment nothing is computed and the figures are those of the runs
recorded so far.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import arms
import harness
from arms import ARMS, COMATCH, HIERARCHY, NAME, PSEUDO, SUPERVISED, Job
from harness import Figure, data_folder, figure, gained, side_by_side

SEEDS = (0, 1, 2)
COMPARED = ((PSEUDO, SUPERVISED), (COMATCH, SUPERVISED), (COMATCH, PSEUDO), (HIERARCHY, COMATCH), (HIERARCHY, PSEUDO))
Record = dict[str, Any]
VALUES: dict[str, Callable[[Record], float]] = {
    "balanced accuracy": lambda r: r["balanced_accuracy"],
    "AUC": lambda r: r["auc"],
    "AUC of pneumonia": lambda r: r["above"]["pneumonia_study"]["auc"],
}


def grid() -> list[Job]:
    """Every run, a seed at a time."""
    return [Job(arm, seed) for seed in SEEDS for arm in ARMS]


def recorded(arm: str) -> dict[int, Record]:
    """The records of an arm, by seed."""
    return harness.recorded(NAME, {seed: Job(arm, seed).key for seed in SEEDS})


def figures() -> list[Figure]:
    """Means of each arm, then gains paired by seed."""
    if not os.environ.get("RECORDED"):
        data_folder("kermany")
        side_by_side(arms.told, grid())
    found: list[Figure] = []
    for arm in ARMS:
        runs = list(recorded(arm).values())
        if runs:
            found += [figure(f"10 labels a class, {arm}: {name}", runs, of) for name, of in VALUES.items()]
    value = "balanced accuracy"
    for arm, other in COMPARED:
        found += gained(f"gain in {value}, {arm} over {other}", recorded(arm), recorded(other), VALUES[value])
    return found
