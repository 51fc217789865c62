"""What a teacher costs: a training step with pseudo-labels beside a supervised one of the same batch and model (`step.py`)."""

from __future__ import annotations

from functools import partial
from typing import Any

from harness import HERE, Figure, figure, measured, record

NAME = "teacher-cost"
SCRIPT = HERE / NAME / "step.py"
SEEDS = (0, 1, 2)
TEACHERS = {"teacher": "a teacher", "everything": "a teacher with all its settings on"}


def figures() -> list[Figure]:
    """A supervised step, then the ratios to it."""
    times, memories = runs("time"), runs("memory")
    found = [
        figure("supervised step, ms", times, lambda r: r["supervised"]),
        figure("objects on a film that the teacher is sure of", times, lambda r: r["objects"]),
    ]
    for arm, name in TEACHERS.items():
        ratio = f"{arm} / supervised"
        found += [
            figure(f"step with {name} / supervised", times, lambda r, k=ratio: r[k], "<= 2.2"),
            figure(f"memory with {name} / supervised", memories, lambda r, k=ratio: r[k]),
        ]
    return found


def runs(what: str) -> list[dict[str, Any]]:
    """The records of all seeds; a measurement is of the script as it is."""
    settings = {"what": what, "script": SCRIPT.read_text(encoding="utf-8")}
    return [record(NAME, f"{what}-{seed}", settings, partial(measured, SCRIPT, what, seed)) for seed in SEEDS]
