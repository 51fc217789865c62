"""The whole loop on generated films: the same few labelled films with knowledge and without, then facts, rules, report."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosym.errors import ConfigError
from neurosym.induction import InductionConfig
from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.config import load_config
from neurosym.loop import Advance, Stages

CONFIG = Path("experiments/demo/config.yaml")
ARMS = {"unconstrained": ("constraints.weight=0",), "constrained": ()}


@dataclass(frozen=True)
class DemoResult:
    """Evaluations by arm, the number of induced rules, the files to look at, and the wall time in seconds."""

    evaluations: dict[str, dict[str, Any]]
    rules: int
    files: dict[str, Path]
    seconds: float


def run_demo(out: Path, stage: Callable[[str], Advance]) -> DemoResult:
    """Run the loop.

    Args:
        out: holds one run folder per arm; those of an earlier demonstration are removed.
        stage: called with a title when a stage starts; returns what to tell its progress to.

    Raises:
        ConfigError: not in a clone of the repository.
    """
    from neurosym.learning.train import train

    if not CONFIG.is_file():
        raise ConfigError(f"{CONFIG} not found; run the demo from a clone of the repository")
    started = time.perf_counter()
    evaluations = {}
    for arm, overrides in ARMS.items():
        folder = out / arm
        shutil.rmtree(folder, ignore_errors=True)
        config = load_config(CONFIG, overrides)
        advance = stage(f"train {arm}")
        train(config, folder, progress=lambda i, n, t, tell=advance: tell(i, n, f"loss {t['loss']:.2f}"))  # type: ignore[misc]
        evaluations[arm] = Stages.of(folder, advance=stage(f"detect {arm}")).evaluate()
    last = Stages.of(out / "constrained", advance=stage("induce"))
    found = last.induce(InductionConfig(min_confidence=0.8, top=30))
    report = out / "constrained" / "report.html"
    last.report(report)
    seconds = time.perf_counter() - started
    write_text_atomically(out / "demo.json", json.dumps({"seconds": round(seconds), **evaluations}, indent=1) + "\n")
    files = {
        "report with films for and against each rule": report,
        "induced rules": out / "constrained" / "candidates.rules",
        "detections beside annotations": out / "constrained" / "overlays" / "test",
        "facts": out / "constrained" / "facts-test.tsv",
        "numbers": out / "demo.json",
    }
    return DemoResult(evaluations, len(found), files, seconds)
