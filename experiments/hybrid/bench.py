"""What is each kind of supervision worth? Learning curves, an ablation at 10% of the labels, and what annotators' time buys.

The grid takes hours and resumes where it was stopped; with ``RECORDED=1`` in the environment nothing is computed and figures
are those of the runs recorded so far.
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import arms
import harness
from arms import ARMS, NAME, UNNAMED, Job
from costs import seconds_of
from curve import Point, curve_svg
from harness import HERE, Figure, data_folder, figure, gained, side_by_side

from neurosym.knowledge.rules import write_text_atomically

SEEDS = (0, 1, 2)
FIRST, LAST = "supervised", ("all", "all + constraints")
MISMATCHED = ("jsrt", 0.1, "+semi")
"""The arm whose unlabelled films are also exchanged for films of another population (Oliver et al. 2018, section 4.4)."""
OTHERS = (0.5, 1.0)
"""Shares of them."""
Record = dict[str, Any]


def cells() -> list[tuple[str, float, str]]:
    """Every (data set, share of exact labels, arm), the ones that decide first."""
    found = [("jsrt", 0.1, arm) for arm in ARMS] + [("jsrt", 0.25, FIRST)]
    found += [("covid-cxr", 0.1, arm) for arm in (FIRST, *LAST)]
    found += [("jsrt", share, arm) for share in (0.05, 0.25, 1.0) for arm in (FIRST, *LAST)]
    return list(dict.fromkeys(found))


def grid() -> list[Job]:
    """Every run, all seeds of a cell before the next one: what is recorded so far can be compared."""
    found = [Job(*cell, seed) for cell in cells() for seed in SEEDS]
    return found + [Job(*MISMATCHED, seed, other=other) for other in OTHERS for seed in SEEDS]


def recorded(data: str, share: float, arm: str, other: float = 0.0) -> dict[int, Record]:
    """The records of an arm, by seed."""
    return harness.recorded(NAME, {seed: Job(data, share, arm, seed, other=other).key for seed in SEEDS})


def figures() -> list[Figure]:
    """Means of each arm, then the paired gains that goals are set on; writes the curves beside the results."""
    if not os.environ.get("RECORDED"):
        data_folder("jsrt", "covid-cxr", "kermany")
        arms.pretrained()
        side_by_side(arms.told, grid())
    found: list[Figure] = []
    for data, share, arm in cells():
        runs = list(recorded(data, share, arm).values())
        title = f"{data}, {share:.0%} exact, {arm}"
        if runs:
            hours = hours_of(data, share, arm)
            found += [
                figure(f"{title}: AP50", runs, lambda r: r["ap50"]),
                figure(f"{title}: AP", runs, lambda r: r["ap"]),
                figure(f"{title}: annotators' hours", runs, lambda _, hours=hours: hours),
            ]
    for data, share, arm in (c for c in cells() if c[2] != FIRST):
        like, own = recorded(data, share, FIRST), recorded(data, share, arm)
        found += gained(f"{data}, {share:.0%} exact, {arm}: training time / {FIRST}", own, like, _time, ratio=True)
    write_curves()
    write_text_atomically(HERE / NAME / "table.md", table())
    best = recorded("jsrt", 0.1, LAST[1])
    name = "jsrt, AP50 gain, all + constraints at 10% over supervised at 25%"
    found += gained(name, best, recorded("jsrt", 0.25, FIRST), _ap50, ">= 0.0")
    for data, share, arm in (c for c in cells() if c[2] not in (LAST[1], UNNAMED)):
        name = f"{data}, {share:.0%} exact: AP50 gain, all + constraints over {arm}"
        found += gained(name, recorded(data, share, LAST[1]), recorded(data, share, arm), _ap50, ">= 0.0")
    mixed, full = recorded("jsrt", 0.1, "all"), recorded("jsrt", 1.0, FIRST)
    name = "jsrt: AP50 of the mixed run (10% exact) / of the fully exact one"
    found += gained(name, mixed, full, _ap50, ">= 0.9", ratio=True)
    name = "jsrt, 10% exact: AP gain (localisation), all over all but image labels"
    found += gained(name, mixed, recorded("jsrt", 0.1, UNNAMED), lambda r: r["ap"], ">= 0.0")
    return found + mismatch()


def hours_of(data: str, share: float, arm: str) -> float:
    """Annotators' hours of the training films of an arm, the same for all that use the same labels; a mean over the seeds."""
    like = arm if arm == UNNAMED else "all" if arms.uses_weak_labels(arm) else FIRST
    return statistics.fmean(seconds_of(Job(data, share, like, seed)) for seed in SEEDS) / 3600


def lines(data: str) -> dict[str, list[Point]]:
    """What is recorded of each arm: AP50 against annotators' hours."""
    found: dict[str, list[Point]] = {}
    for _, share, arm in (c for c in cells() if c[0] == data):
        runs = list(recorded(data, share, arm).values())
        if runs:
            mean = figure(arm, runs, _ap50)
            found.setdefault(arm, []).append(Point(hours_of(data, share, arm), mean.value, mean.low, mean.high))
    return found


def write_curves() -> None:
    """What annotators' time buys, as a picture of each data set of which something is recorded."""
    for data in dict.fromkeys(c[0] for c in cells()):
        drawn = lines(data)
        if drawn:
            picture = curve_svg(f"{data}: what annotators' time buys", "annotators' hours", "AP50", drawn)
            write_text_atomically(HERE / NAME / f"curve-{data}.svg", picture)


def table() -> str:
    """Every arm that something is recorded of, as a table in Markdown."""
    head = "| data | exact | arm | seeds | AP | AP50 | AP50 of each class | annotators' hours | minutes of training |"
    lines = [head, "|---" * head.count(" | ") + "|---|"]
    for data, share, arm in sorted(cells(), key=lambda cell: (cell[0] != "jsrt", cell[1])):
        runs = list(recorded(data, share, arm).values())
        if runs:
            classes = {c: _spread([r["per_class"][c]["ap50"] for r in runs]) for c in runs[0]["per_class"]}
            of_classes = ", ".join(f"{c.replace('_', ' ')} {told}" for c, told in classes.items())
            cell = [data, f"{share:.0%}", arm, str(len(runs)), *(_spread([r[v] for r in runs]) for v in ("ap", "ap50"))]
            hours, minutes = hours_of(data, share, arm), statistics.fmean(map(_time, runs)) / 60
            lines.append(f"| {' | '.join([*cell, of_classes, f'{hours:.1f}', f'{minutes:.1f}'])} |")
    return "Mean ± standard deviation over the seeds.\n\n" + "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def mismatch() -> list[Figure]:
    """What unlabelled films of another population do to a teacher's worth; no goals, it is asked and not promised."""
    data, share, arm = MISMATCHED
    own, without = recorded(*MISMATCHED), recorded(data, share, FIRST)
    found: list[Figure] = []
    for other in OTHERS:
        runs = recorded(*MISMATCHED, other)
        title = f"{data}, {share:.0%} exact, {arm}, {other:.0%} of the unlabelled films of another population"
        if runs:
            found.append(figure(f"{title}: AP50", list(runs.values()), _ap50))
        found += gained(f"{title}: AP50 gain over its own films", runs, own, _ap50)
        found += gained(f"{title}: AP50 gain over {FIRST}", runs, without, _ap50)
    return found


def _time(run: Record) -> float:
    return float(run["training_seconds"])


def _ap50(run: Record) -> float:
    return float(run["ap50"])
