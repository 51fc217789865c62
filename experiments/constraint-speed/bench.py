"""How fast constraints are evaluated beside LTNtorch and PiShield, sparsely, and repaired (`peers.py`), and what they add to a
training step (`step.py`)."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness import HERE, Figure, figure, measured, record

FOLDER = HERE / "constraint-speed"
ROOT = HERE.parent
ENVIRONMENT = ROOT / ".venv-bench"
SEEDS = (0, 1, 2)
LAYERS = ("pishield layer, iterative", "pishield layer, tensor")


def figures() -> list[Figure]:
    """Medians of CPU time in ms, and ratios of systems that took turns in one process."""
    python = environment()
    labels, pairs, sparse, repair = (
        [
            record("constraint-speed", f"{kind}-{seed}", settings(seed), by(python, "peers.py", kind, str(seed)))
            for seed in SEEDS
        ]
        for kind in ("labels", "pairs", "sparse", "repair")
    )
    steps = [training_step_share(seed) for seed in SEEDS]
    found = []
    for count in ("100", "1000"):
        case = f"64 × 50 labels, {count} clauses"
        found.append(figure(f"{case}: ours, ms", labels, at(count, "ours", "first")))
        found += ratios(f"{case}: LTNtorch / ours", labels, count, ("ltn",), ">= 20")
        found += ratios(f"{case}: PiShield layer / ours", labels, count, LAYERS, ">= 5")
        if all("pishield loss" in r[count] for r in labels):
            found += ratios(f"{case}: PiShield product loss / ours", labels, count, ("pishield loss",), ">= 5")
    for count in ("20", "100", "1000"):
        case = f"100 detections, {count} pair rules"
        found.append(figure(f"{case}: ours, ms", pairs, at(count, "ours", "first")))
        if count != "1000":
            found += ratios(f"{case}: LTNtorch / ours", pairs, count, ("ltn",), ">= 20")
    return [
        *found,
        figure("300 detections, 5000 pair rules, sparse: forward, ms", sparse, at("forward"), "<= 10"),
        figure("300 detections, 5000 pair rules, sparse: forward and backward, ms", sparse, at("forward and backward")),
        figure("50 detections, 100 hard rules: repair, ms", repair, at("repair"), "<= 20"),
        figure("ResNet-18-FPN at 320 px: a training step without knowledge, ms", steps, at("without")),
        figure("ResNet-18-FPN at 320 px: what knowledge adds to a step, share", steps, at("share"), "<= 0.1"),
    ]


def training_step_share(seed: int) -> dict[str, Any]:
    """What the whole constraint term adds to a training step of a ResNet-18-FPN detector at 320 px, as a share of the step."""
    run = by(Path(sys.executable), "step.py", str(seed))
    return record("constraint-speed", f"step-{seed}", {"seed": seed}, run)


def at(*keys: str) -> Callable[[dict[str, Any]], float]:
    def value(run: dict[str, Any]) -> float:
        inner: Any = run
        for key in keys:
            inner = inner[key]
        return float(inner)

    return value


def ratios(name: str, runs: Sequence[dict[str, Any]], count: str, peers: tuple[str, ...], goal: str) -> list[Figure]:
    """How many times slower the peer is, in the fastest of its forms: in turns (which the goal is for), and in a row."""

    def slower(run: dict[str, Any], turn: str) -> float:
        times = run[count]
        return float(min(times[peer][turn] for peer in peers) / times["ours"][turn])

    return [
        figure(name, runs, lambda run: slower(run, "first"), goal),
        figure(f"{name}, a second time in a row", runs, lambda run: slower(run, "again")),
    ]


def settings(seed: int) -> dict[str, Any]:
    return {"seed": seed, "peers": (FOLDER / "requirements.txt").read_text(), "pishield": "PISHIELD" in os.environ}


def by(python: Path, script: str, *arguments: str) -> Callable[[], dict[str, Any]]:
    """A measurement by an interpreter that also finds the checkout of PiShield, where there is one."""
    path = os.pathsep.join(filter(None, (os.environ.get("PISHIELD", ""), str(ROOT))))
    return partial(measured, FOLDER / script, *arguments, python=python, path=path)


def environment() -> Path:
    """The interpreter of `.venv-bench`: this environment's packages, and the peers beside them."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        commands = (
            [sys.executable, "-m", "venv", str(ENVIRONMENT)],
            [str(python), "-m", "pip", "install", "-q", "--no-deps", "-r", str(FOLDER / "requirements.txt")],
        )
        for command in commands:
            subprocess.run(command, check=True)  # noqa: S603
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        link = ENVIRONMENT / "lib" / version / "site-packages" / "neurosym-packages.pth"
        link.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python
