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
from harness import Figure, data_folder, figure, side_by_side

SEEDS = (0, 1, 2)
FIRST, LAST = "supervised", ("all", "all + constraints")
SHARES = {"jsrt": (0.05, 0.1, 0.25, 1.0), "covid-cxr": (0.1,)}
WITHOUT_LABELS = ("+semi", "all")
"""Arms whose boxes are held against one another: what image labels do to localisation (AP75 would be blunter than AP here)."""
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
            found += [figure(f"{title}: {n}", runs, lambda r, v=v: r[v]) for v, n in (("ap50", "AP50"), ("ap", "AP"))]
            found.append(figure(f"{title}: annotators' hours", [_hours(r, data, share, arm) for r in runs], _value))
    found += _gain(
        "jsrt, all + constraints at 10% over supervised at 25%", ("jsrt", 0.1, LAST[1]), ("jsrt", 0.25, FIRST)
    )
    for data, share in ((d, s) for d, shares in SHARES.items() for s in shares):
        best = (data, share, LAST[1])
        for arm in (a for d, s, a in cells() if (d, s) == (data, share) and a != LAST[1]):
            found += _gain(f"{data}, {share:.0%} exact, all + constraints over {arm}", best, (data, share, arm))
    full, mixed = recorded("jsrt", 1.0, FIRST), recorded("jsrt", 0.1, "all")
    found += _ratio("jsrt, mixed run (10% exact) as a share of the fully exact one", mixed, full, ">= 0.9")
    found += _gain(
        "jsrt, 10% exact, AP (localisation) of all over +semi", ("jsrt", 0.1, "all"), ("jsrt", 0.1, "+semi"), "ap"
    )
    return found


def _gain(name: str, one: tuple[str, float, str], other: tuple[str, float, str], value: str = "ap50") -> list[Figure]:
    runs, base = recorded(*one), recorded(*other)
    pairs = [runs[s] | {"base": base[s][value]} for s in sorted({*runs} & {*base})]
    return [figure(name, pairs, lambda r: r[value] - r["base"], ">= 0.0")] if len(pairs) > 1 else []


def _ratio(name: str, runs: dict[int, Record], base: dict[int, Record], goal: str) -> list[Figure]:
    pairs = [runs[s] | {"base": base[s]["ap50"]} for s in sorted({*runs} & {*base})]
    return [figure(name, pairs, lambda r: r["ap50"] / r["base"], goal)] if len(pairs) > 1 else []


def _hours(run: Record, data: str, share: float, arm: str) -> Record:
    return run | {"value": seconds_of(Job(data, share, arm, 0)) / 3600}


def _value(run: Record) -> float:
    return float(run["value"])
