"""Does knowledge raise accuracy where labels are few? Arms paired by seed, on the phantom and on real films.

The grid is long (hours on two cores) and resumes where it was stopped; with ``RECORDED=1`` in the environment nothing
is computed and the figures are those of the runs recorded so far.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import arms
import harness
from arms import ALL, ARMS, NAME, Job
from detection import rate
from harness import Figure, data_folder, figure, side_by_side

SEEDS = (0, 1, 2, 3, 4)
THREE = ("supervised", "pseudo-labels", "both")
REAL = {"jsrt": tuple(ARMS), "covid-cxr": THREE}
FINDINGS = {
    "phantom": ("ground_glass_opacity", "consolidation", "nodule", "pleural_effusion"),
    "jsrt": ("nodule",),
    "covid-cxr": ("ground_glass_opacity", "consolidation"),
}
Record = dict[str, Any]


def grid() -> list[Job]:
    """Every run, the ones that decide first."""
    jobs = [Job("phantom", 16, arm, seed) for seed in SEEDS for arm in ARMS]
    jobs += [Job(data, 16, arm, seed) for data, some in REAL.items() for seed in SEEDS for arm in some]
    jobs += [Job(data, ALL, "supervised", seed) for data in REAL for seed in SEEDS]
    jobs += [Job("phantom", count, arm, seed) for count in (8, 32) for seed in SEEDS for arm in THREE]
    return jobs


def compute(jobs: Iterable[Job], workers: int = 2) -> None:
    """Run what is not recorded yet: the seeds side by side, the arms of a seed one after the other (they share a burn-in)."""
    chains: dict[tuple[str, int, int], list[Job]] = {}
    for job in jobs:
        chains.setdefault((job.data, job.count, job.seed), []).append(job)
    side_by_side(arms.chain, chains.values(), workers)


def recorded(data: str, count: int, arm: str) -> list[Record]:
    """The records of an arm, in the order of seeds; those that are not there are left out."""
    found = harness.recorded(NAME, {seed: Job(data, count, arm, seed).key for seed in SEEDS})
    return [value | {"seed": seed} for seed, value in found.items()]


def figures() -> list[Figure]:
    """The table: each arm's means, then paired gains over pseudo-labels with their intervals."""
    if not os.environ.get("RECORDED"):
        data_folder("jsrt", "covid-cxr")
        compute(job for job in grid() if job.arm in THREE)
        compute(grid())
    found: list[Figure] = []
    for data in ("phantom", *REAL):
        found += _of(data, 16)
    for data, count in (*((data, ALL) for data in REAL), ("phantom", 8), ("phantom", 32)):
        found += _of(data, count)
    return found


def _of(data: str, count: int) -> list[Figure]:
    title = f"{data}, {count} films" if count else f"{data}, every training film labelled"
    found = []
    for arm in ARMS:
        runs = recorded(data, count, arm)
        if not runs:
            continue
        found += [
            figure(f"{title}: AP50, {arm}", runs, lambda r: r["ap50"]),
            figure(f"{title}: AP, {arm}", runs, lambda r: r["ap"]),
            figure(f"{title}: AP50 of findings, {arm}", runs, lambda r: findings(r, data)),
            figure(f"{title}: violated/fired, {arm}", runs, lambda r: rate(r, "violated", "fired")),
            figure(f"{title}: fired/true, {arm}", runs, lambda r: rate(r, "fired", "fired_true")),
            figure(f"{title}: calibration error, {arm}", runs, lambda r: r["calibration_error"]),
        ]
        if "detector_alone" in runs[0]:
            found.append(figure(f"{title}: AP50, {arm}, detector alone", runs, lambda r: r["detector_alone"]["ap50"]))
    found += _gains(data, count, title)
    return found


def _gains(data: str, count: int, title: str) -> list[Figure]:
    decides = count == 16 and data != "covid-cxr"
    goals = {("both", "pseudo-labels"): ">= 0.05" if decides else ""}
    compared = [("pseudo-labels", "supervised"), ("violation", "pseudo-labels"), ("refiner", "pseudo-labels")]
    compared += [("both", "pseudo-labels"), ("both", "supervised")]
    compared += [("both", "both, placebo ontology"), ("both", "both, relations zeroed")]
    found = []
    for arm, other in compared:
        pairs = _paired(recorded(data, count, arm), recorded(data, count, other))
        if len(pairs) < 2:
            continue
        name = f"{title}: AP50 gain, {arm} over {other}"
        gain = figure(name, pairs, _difference(lambda r: r["ap50"]), goals.get((arm, other), ""))
        found.append(replace(gain, met=gain.met and (not gain.goal or gain.low > 0)))  # the interval counts, too
        found.append(figure(name.replace("AP50", "AP50 of findings"), pairs, _difference(lambda r: findings(r, data))))
        if (arm, other) == ("both", "pseudo-labels"):
            alone = _difference(lambda r: r.get("detector_alone", r)["ap50"])
            found.append(figure(f"{name}, detector alone", pairs, alone))
    repaired = [r for r in recorded(data, count, "both") if "repaired" in r]
    if repaired:
        found += [
            figure(f"{title}: AP50, both + repair", repaired, lambda r: r["repaired"]["ap50"]),
            figure(f"{title}: hard violations, both", repaired, lambda r: r["repaired"]["hard_violations_before"]),
            figure(
                f"{title}: hard violations, both + repair", repaired, lambda r: r["repaired"]["hard_violations"], "<= 0"
            ),
        ]
    return found


def findings(record: Record, data: str) -> float:
    """Mean AP50 of the classes that are no anatomy."""
    values = [record["per_class"][name]["ap50"] for name in FINDINGS[data] if name in record["per_class"]]
    return sum(values) / len(values)


def _paired(ones: list[Record], others: list[Record]) -> list[Record]:
    by_seed = {r["seed"]: r for r in others}
    return [
        {"commit": r["commit"], "seconds": r["seconds"], "pair": (r, by_seed[r["seed"]])}
        for r in ones
        if r["seed"] in by_seed
    ]


def _difference(of: Callable[[Record], float]) -> Callable[[Record], float]:
    return lambda record: of(record["pair"][0]) - of(record["pair"][1])


if __name__ == "__main__":
    deciding = [job for job in grid() if job.arm in THREE]
    compute(deciding)
    compute(grid())
