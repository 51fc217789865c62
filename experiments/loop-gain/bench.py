"""What does a round of the loop gain? Train, induce, accept by figures, train again with the accepted rules; paired by seed.

The grid takes an hour on two cores and resumes where it was stopped; with ``RECORDED=1`` in the environment nothing is computed
and figures are those of the runs recorded so far.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import arms
import harness
from arms import ARMS, LEAST, NAME, SAME, Job
from harness import Figure, figure, gained, side_by_side

SEEDS = (0, 1, 2, 3, 4)
Record = dict[str, Any]


def recorded(arm: str) -> dict[int, Record]:
    """The records of an arm, by seed."""
    return harness.recorded(NAME, {seed: Job(arm, seed).key for seed in SEEDS})


def figures() -> list[Figure]:
    """AP50 and AP of each arm, then what the rules of the loop gain, and whether the rule that was left out is found."""
    if not os.environ.get("RECORDED"):
        side_by_side(arms.chain, [[Job(arm, seed) for arm in ARMS] for seed in SEEDS])
    loop, left = recorded("loop"), recorded("left-out")
    scores: dict[str, dict[int, Record]] = {
        "start": {s: r | r["rounds"][0] for s, r in loop.items()},
        "start + the loop's rules": {s: r | r["rounds"][-1] for s, r in loop.items()},
        "start again": recorded("again"),
        "the expert's rules": recorded("expert"),
        "one of the expert's left out": {s: r | r["rounds"][0] for s, r in left.items()},
        "one left out + the loop's rules": {s: r | r["rounds"][-1] for s, r in left.items()},
    }
    found = [
        figure(f"{name}: {key.upper()}", list(runs.values()), _value(key))
        for name, runs in scores.items()
        for key in ("ap50", "ap")
        if runs
    ]
    compared = [("start + the loop's rules", "start", ">= 0.0")]
    compared += [(name, "start", "") for name in ("start again", "the expert's rules")]
    compared += [("one left out + the loop's rules", "one of the expert's left out", "")]
    for one, other, goal in compared:
        for key in ("ap50", "ap"):
            gains = gained(f"{key.upper()} gain, {one} over {other}", scores[one], scores[other], _value(key), goal)
            # a gain counts if its interval does
            found += [replace(g, met=g.met and (not goal or g.low > 0)) for g in gains]
    if loop:
        runs = list(loop.values())
        found.append(figure("rules accepted", runs, lambda r: len(r["accepted"])))
        name = f"accepted with a confidence below {LEAST} on annotated films"
        found.append(figure(name, runs, lambda r: sum(a["confidence"] < LEAST for a in r["accepted"]), "<= 0"))
    if left:
        runs = list(left.values())
        found.append(figure("the rule left out is found again", runs, lambda r: r["overlap"] >= SAME, ">= 1"))
        found.append(figure("share of its facts that the accepted rules derive", runs, lambda r: r["covered"]))
    return found


def _value(key: str) -> Callable[[Record], float]:
    return lambda run: float(run[key])
