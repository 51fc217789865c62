"""Does label enhancement help where a class is rare? Against cross-entropy, focal loss and repeating its films, seed by seed.

With ``RECORDED=1`` in the environment nothing is computed and figures are those of the runs recorded so far.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import arms
import harness
from arms import ARMS, NAME, PLAIN, RARE, Job
from harness import Figure, data_folder, figure, gained, side_by_side

SEEDS = (0, 1, 2)
Record = dict[str, Any]
VALUES: dict[str, Callable[[Record], float]] = {
    "AP of the rare": lambda r: r["rare"]["ap"],
    "AP50 of the rare": lambda r: r["rare"]["ap50"],
    "AP of all classes": lambda r: r["ap"],
    "AP50 of all classes": lambda r: r["ap50"],
}


def grid() -> list[Job]:
    """Every run, the ones that decide first."""
    return [Job(data, arm, seed) for data in RARE for seed in SEEDS for arm in ARMS]


def recorded(data: str, arm: str) -> dict[int, Record]:
    """The records of an arm, by seed."""
    return harness.recorded(NAME, {seed: Job(data, arm, seed).key for seed in SEEDS})


def figures() -> list[Figure]:
    """Means of each arm, then its gains over cross-entropy on the same films with the same seed."""
    if not os.environ.get("RECORDED"):
        data_folder("bccd")
        side_by_side(arms.told, grid())
    cells = [(data, arm) for data in RARE for arm in ARMS]
    return [f for cell in cells for f in _means(*cell)] + [f for cell in cells for f in _gains(*cell)]


def _means(data: str, arm: str) -> list[Figure]:
    runs = list(recorded(data, arm).values())
    return [figure(f"{data}, {arm}: {name}", runs, of) for name, of in VALUES.items()] if runs else []


def _gains(data: str, arm: str) -> list[Figure]:
    if arm == PLAIN:
        return []
    plain, runs = recorded(data, PLAIN), recorded(data, arm)
    return [f for name, of in VALUES.items() for f in gained(f"{data}, {arm}: gain in {name}", runs, plain, of)]
