"""What do inexact boxes cost, and how much of it is won back? The founding paper's table in our columns.

The grid takes hours and resumes where it was stopped; with ``RECORDED=1`` in the environment nothing is computed and figures
are those of the runs recorded so far.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import arms
import harness
from arms import ARMS, DETECTORS, NAME, Job
from harness import Figure, data_folder, figure, gained, side_by_side, won_back

SEEDS = (0, 1, 2)
Record = dict[str, Any]
PLAIN, ALL = "plain", "all"


def grid(seeds: Sequence[int] = SEEDS) -> list[Job]:
    """Every run, the ones that decide first."""
    ablation = [arm for arm in ARMS if arm != "all + constraints"]

    def seeded(data: str, detector: str, noises: Iterable[str], some: Iterable[str]) -> list[Job]:
        return [Job(data, detector, n, arm, seed) for n in noises for seed in seeds for arm in some]

    jobs = seeded("bccd", "faster_rcnn", ("exact", "r=.4"), (PLAIN, ALL))
    for other in DETECTORS[1:]:
        jobs += seeded("bccd", other, ("exact", "r=.4"), (PLAIN, ALL))
    jobs += seeded("bccd", "faster_rcnn", ("r=.2",), (PLAIN, ALL))
    jobs += seeded("bccd", "faster_rcnn", ("r=.4",), ablation)
    jobs += seeded("bccd", "faster_rcnn", ("too big", "partial"), (PLAIN, ALL))
    for data in ("jsrt", "phantom"):
        jobs += seeded(data, "faster_rcnn", ("exact", "r=.4"), (PLAIN, ALL))
        jobs += seeded(data, "faster_rcnn", ("r=.4",), ("all + constraints",))
    return list(dict.fromkeys(jobs))


def recorded(data: str, detector: str, noise: str, arm: str) -> dict[int, Record]:
    """The records of an arm, by seed."""
    return harness.recorded(NAME, {seed: Job(data, detector, noise, arm, seed).key for seed in SEEDS})


def figures() -> list[Figure]:
    """Means of each arm whose seeds have all run, and of these the shares of the loss that are won back, seed by seed."""
    if not os.environ.get("RECORDED"):
        data_folder("bccd", "jsrt")
        side_by_side(arms.told, grid())
    cells = dict.fromkeys((j.data, j.detector, j.noise, j.arm) for j in grid())
    found = [f for cell in cells for f in _means(*cell)]
    for data, detector, noise, arm in cells:
        if noise != "exact" and arm != PLAIN:
            found += _won_back(data, detector, noise, arm)
        elif noise == "exact" and arm == ALL:
            found += _cost_on_exact_boxes(data, detector)
    return found


def _means(data: str, detector: str, noise: str, arm: str) -> list[Figure]:
    runs = list(recorded(data, detector, noise, arm).values())
    if len(runs) < len(SEEDS):
        return []
    title = f"{data}, {detector}, {noise}, {arm}"
    found = [figure(f"{title}: AP", runs, lambda r: r["ap"]), figure(f"{title}: AP50", runs, lambda r: r["ap50"])]
    judged = [r for r in runs if "quality" in r]
    if judged and arm == PLAIN:
        found.append(figure(f"{title}: IoU of annotated boxes", judged, lambda r: r["quality"]["annotated_iou"]))
    refined = [r for r in judged if r["quality"]["suggested_iou"] is not None]
    if refined:
        found += [
            figure(f"{title}: IoU of refined boxes", refined, lambda r: r["quality"]["suggested_iou"]),
            figure(f"{title}: calibration error of quality", refined, lambda r: r["quality"]["error"]),
            figure(f"{title}: rank correlation of quality", refined, lambda r: r["quality"]["rank_correlation"]),
        ]
    return found


def _won_back(data: str, detector: str, noise: str, arm: str) -> list[Figure]:
    goals: dict[str, str] = {}
    if data == "bccd" and arm == ALL:
        goals = {"r=.4": {"ap50": ">= 0.85", "ap": ">= 0.65"}, "r=.2": {"ap": ">= 0.8"}}.get(noise, {})
    runs = [recorded(data, detector, *cell) for cell in (("exact", PLAIN), (noise, PLAIN), (noise, arm))]
    if min(map(len, runs)) < len(SEEDS):
        return []
    title = f"{data}, {detector}, {noise}: share of the lost"
    return [
        f
        for v, n in (("ap", "AP"), ("ap50", "AP50"))
        for f in won_back(f"{title} {n}, {arm}", *runs, v, goals.get(v, ""))
    ]


def _cost_on_exact_boxes(data: str, detector: str) -> list[Figure]:
    plain, runs = recorded(data, detector, "exact", PLAIN), recorded(data, detector, "exact", ALL)
    if min(len(plain), len(runs)) < len(SEEDS):
        return []
    goal = ">= -0.01" if data == "bccd" else ""
    return gained(f"{data}, {detector}, exact: AP gain, all over plain", runs, plain, lambda r: r["ap"], goal)
