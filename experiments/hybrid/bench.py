"""What is each kind of supervision worth? Learning curves, an ablation at 10% of the labels, and what annotators' time buys.

The grid takes hours and resumes where it was stopped; with ``RECORDED=1`` in the environment nothing is computed and figures
are those of the runs recorded so far.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import arms
import harness
from arms import ARMS, NAME, Job
from costs import seconds_of
from harness import Figure, data_folder, figure, gained, side_by_side

SEEDS = (0, 1, 2)
FIRST, LAST = "supervised", ("all", "all + constraints")
SHARES = {"jsrt": (0.05, 0.1, 0.25, 1.0), "covid-cxr": (0.1,)}
Record = dict[str, Any]


def cells() -> list[tuple[str, float, str]]:
    """Every (data set, share of exact labels, arm), the ones that decide first."""
    found = [("jsrt", 0.1, arm) for arm in ARMS] + [("jsrt", 0.25, FIRST)]
    found += [("covid-cxr", 0.1, arm) for arm in (FIRST, *LAST)]
    found += [("jsrt", share, arm) for share in (0.05, 0.25, 1.0) for arm in (FIRST, *LAST)]
    return list(dict.fromkeys(found))


def grid() -> list[Job]:
    """Every run."""
    return [Job(*cell, seed) for seed in SEEDS for cell in cells()]


def recorded(data: str, share: float, arm: str) -> dict[int, Record]:
    """The records of an arm, by seed."""
    return harness.recorded(NAME, {seed: Job(data, share, arm, seed).key for seed in SEEDS})


def figures() -> list[Figure]:
    """Means of each arm, then the paired gains that goals are set on."""
    if not os.environ.get("RECORDED"):
        data_folder("jsrt", "covid-cxr", "kermany")
        arms.pretrained()
        side_by_side(arms.told, grid())
    found: list[Figure] = []
    for data, share, arm in cells():
        runs = list(recorded(data, share, arm).values())
        title = f"{data}, {share:.0%} exact, {arm}"
        if runs:
            hours = seconds_of(Job(data, share, arm, 0)) / 3600
            found += [
                figure(f"{title}: AP50", runs, lambda r: r["ap50"]),
                figure(f"{title}: AP", runs, lambda r: r["ap"]),
                figure(f"{title}: annotators' hours", runs, lambda _, hours=hours: hours),
            ]
    best = recorded("jsrt", 0.1, LAST[1])
    name = "jsrt, AP50 gain, all + constraints at 10% over supervised at 25%"
    found += gained(name, best, recorded("jsrt", 0.25, FIRST), _ap50, ">= 0.0")
    for data, share, arm in (c for c in cells() if c[2] != LAST[1]):
        name = f"{data}, {share:.0%} exact: AP50 gain, all + constraints over {arm}"
        found += gained(name, recorded(data, share, LAST[1]), recorded(data, share, arm), _ap50, ">= 0.0")
    mixed, full = recorded("jsrt", 0.1, "all"), recorded("jsrt", 1.0, FIRST)
    name = "jsrt: AP50 of the mixed run (10% exact) / of the fully exact one"
    found += gained(name, mixed, full, _ap50, ">= 0.9", ratio=True)
    name = "jsrt, 10% exact: AP gain (localisation), all over +semi"
    return found + gained(name, mixed, recorded("jsrt", 0.1, "+semi"), lambda r: r["ap"], ">= 0.0")


def _ap50(run: Record) -> float:
    return float(run["ap50"])
