"""One seed of a detection experiment: train, evaluate on test, induce, report; through the stages a user runs."""

from __future__ import annotations

import shutil
import time
from typing import Any

from harness import HERE, record
from rich.console import Console

from neurosym.induction import InductionConfig
from neurosym.knowledge import load_knowledge
from neurosym.learning.config import ConstraintConfig, OptimConfig, TrainConfig, load_config
from neurosym.learning.train import train
from neurosym.loop import Stages
from neurosym.models.config import DetectorConfig

RUNS = HERE.parent / "runs"
LATER = ("kind", "finest_level", "mask_cells", "min_area", "inexact", "oamil")
"""Model settings that came after the first records; their defaults are what those records mean."""
LATER_SECTIONS = ("teacher", "refiner", "compose", "energy", "instances", "comatch", "weak", "initial")
"""Sections that came later; off by default, as they were for those records."""


def drop_later(settings: dict[str, Any]) -> None:
    """Leave out of a run's settings what came after the first records and is off, as it was for these."""
    for later in ("embedding", "multi_label"):
        if not settings["model"][later]:
            del settings["model"][later]
    inexact = settings["model"].get("inexact", {})
    if not inexact.get("mixed"):
        inexact.pop("mixed", None)
    if settings["model"]["classification"]["loss"] == "cross_entropy":
        del settings["model"]["classification"]
    for later in ("accumulate", "precision"):
        if settings["train"][later] == OptimConfig.model_fields[later].default:
            del settings["train"][later]
    if settings["train"]["sampling"] != "quality":
        for name in ("quality_start", "quality_every", "quality_repeat"):
            del settings["train"][name]
    if settings["train"]["sampling"] == "uniform":
        del settings["train"]["sampling"], settings["train"]["repeat_threshold"]


def seed_record(name: str, seed: int, overrides: tuple[str, ...] = (), key: str = "") -> dict[str, Any]:
    """The record of one seed of ``experiments/NAME/config.yaml``; the run folder is ``runs/NAME-KEY-seedN``."""
    path = HERE / name / "config.yaml"
    config = load_config(path, (*overrides, f"seed={seed}"))
    key = f"{key}-seed{seed}" if key else f"seed{seed}"
    knowledge = load_knowledge(config.base / p for p in config.knowledge)
    settings = config.model_dump(mode="json", exclude={"base", "knowledge", "data", "threads"})
    if not config.reason:
        del settings["reason"]  # what was measured before there was a reasoner stays valid
    for section in LATER_SECTIONS:
        if getattr(config, section) == TrainConfig.model_fields[section].default:
            del settings[section]
    for later in ("semantics", "learn_confidence"):
        if settings["constraints"][later] == ConstraintConfig.model_fields[later].default:
            del settings["constraints"][later]
    for later in LATER:
        if getattr(config.model, later) == DetectorConfig.model_fields[later].default:
            del settings["model"][later]
    drop_later(settings)
    if config.data.degrade is not None:
        settings["degrade"] = config.data.degrade.model_dump(mode="json")
    settings |= {"config": path.read_text(encoding="utf-8"), "rules": [str(r) for r in knowledge.rules]}

    def compute() -> dict[str, Any]:
        folder = RUNS / f"{name}-{key}"
        shutil.rmtree(folder, ignore_errors=True)
        started = time.perf_counter()

        def tell(step: int, steps: int, terms: dict[str, float]) -> None:
            if step % 50 == 0 or step == steps:
                Console().print(
                    f"{name} {key}: {step}/{steps}, loss {terms['loss']:.3f}, {time.perf_counter() - started:.0f} s"
                )

        train(config, folder, progress=tell)
        seconds = time.perf_counter() - started
        stages = Stages.of(folder)
        result = stages.evaluate()
        found = stages.induce(InductionConfig(min_confidence=0.8, top=40))
        stages.report(folder / "report.html")
        rules = [{"rule": str(c.rule), "support": c.support, "confidence": round(c.confidence, 4)} for c in found]
        return {"training_seconds": round(seconds, 1), "induced": rules} | {
            k: result[k] for k in ("images", "ap", "ap50", "mask_ap", "mask_ap50", "per_class", "rules") if k in result
        }

    return record(name, key, settings, compute)


def rate(run: dict[str, Any], above: str, below: str) -> float:
    """The quotient of two counts of a run's rules, each summed over the rules."""
    return float(sum(r[above] for r in run["rules"]) / sum(r[below] for r in run["rules"]))
