"""One run of the grid: a burn-in that all arms of a seed share, then an arm, scored on validation or test.

Both phases are runs as a user makes them, by config and overrides. What differs between arms is in `ARMS`; what was chosen on
validation films is in `CHOSEN`.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection import drop_later
from harness import HERE, record

from neurosym.constraints import compile_constraints
from neurosym.constraints.repair import RepairPlan
from neurosym.data.images import annotated_scene
from neurosym.knowledge import load_knowledge
from neurosym.learning.config import TeacherConfig, TrainConfig, load_config
from neurosym.learning.evaluate import above, evaluate_scenes
from neurosym.learning.predict import predict
from neurosym.learning.runfolder import open_run
from neurosym.learning.train import train
from neurosym.records import Scene

NAME = "few-labels"
RUNS = HERE.parent / "runs" / NAME
BURN_IN, STEPS = 120, 80
"""Steps on labels alone (shared by the arms of a seed), then of the arm: 200 in all."""
THRESHOLD = 0.5
LATER_TEACHER = ("adaptive", "adaptive_floor", "adaptive_decay", "strong", "jitters", "jitter", "variance")
"""The teacher's settings that came after the first records; at their defaults it is what it was for those."""
ALL = 0
"""In the place of a number of labelled films: all of them, the most that any use of the unlabelled ones could be worth."""

_PSEUDO = ("teacher.weight={teacher}", "teacher.start=0", "teacher.batch=2")
_REFINER = ("refiner.enabled=true", "compose.rate={compose}", "compose.unlabelled=true")
ARMS: dict[str, tuple[str, ...]] = {
    "supervised": (),
    "pseudo-labels": _PSEUDO,
    "violation": (*_PSEUDO, "constraints.weight={violation}"),
    "refiner": (*_PSEUDO, *_REFINER),
    "both": (*_PSEUDO, *_REFINER, "constraints.weight={violation}"),
    "both, placebo ontology": (*_PSEUDO, *_REFINER, "constraints.weight={violation}", "knowledge={placebo}"),
    "both, relations zeroed": (
        *_PSEUDO,
        *_REFINER,
        "constraints.weight={violation}",
        "refiner.relations=false",
        "compose.rules=false",
    ),
}
CHOSEN = {
    "teacher": "0.3",
    "violation": "0.1",
    "consistency": "0.2",
    "pseudo": "0.5",
    "refined": "0.5",
    "compose": "1.5",
}
"""Weights of pseudo-labels, violation and consistency, the two thresholds of pseudo-labels, findings laid onto a film."""
PLACEBO = {
    "phantom": "[../../ontologies/thorax.ttl, placebo/phantom.rules]",
    "jsrt": "[../../ontologies/thorax.ttl, placebo/jsrt.rules]",
}


@dataclass(frozen=True)
class Job:
    """One arm of one seed; `count` films are labelled (`ALL`: every training film). `split` "val" is for choosing settings,
    "test" for the result."""

    data: str
    count: int
    arm: str
    seed: int
    split: str = "test"
    extra: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name of its record."""
        arm = self.arm.replace(", ", "-").replace(" ", "-")
        extra = "".join(f"-{e.replace('=', '_')}" for e in self.extra)
        return f"{self.films}-{arm}{extra}-{self.split}-seed{self.seed}"

    @property
    def films(self) -> str:
        """The data set and how many of its films are labelled."""
        return f"{self.data}-{self.count or 'all'}"


def labelled(job: Job) -> tuple[str, ...]:
    """The overrides that pick the labelled films of a seed: other films for another seed."""
    if job.data.startswith("phantom"):
        return (f"data.train.start={1000 * job.seed}", f"data.train.count={job.count}")
    if job.count == ALL:
        return ("data.few=null",)
    return (f"data.few.count={job.count}", f"data.few.seed={job.seed}")


def burn_in_config(job: Job) -> TrainConfig:
    """Training on labels alone."""
    settings = (f"seed={job.seed}", f"train.steps={BURN_IN}")
    return load_config(HERE / NAME / f"{job.data}.yaml", (*labelled(job), *settings))


def burn_in_folder(job: Job) -> Path:
    """Where the shared burn-in of a seed lies."""
    return RUNS / f"{job.films}-burn-in-seed{job.seed}"


def arm_config(job: Job) -> TrainConfig:
    """The arm's own steps, from the burn-in's weights."""
    values = CHOSEN | {"placebo": PLACEBO.get(job.data, "")}
    overrides = tuple(o.format(**values) for o in ARMS[job.arm])
    common = (
        f"seed={job.seed}",
        f"initial={burn_in_folder(job)}",
        f"train.steps={STEPS}",
        "train.lr=5e-4",
        "train.warmup_steps=10",
        "constraints.warmup_steps=20",
        f"teacher.threshold={CHOSEN['pseudo']}",
        f"refiner.threshold={CHOSEN['refined']}",
        f"refiner.weight={CHOSEN['consistency']}",
    )
    return load_config(HERE / NAME / f"{job.data}.yaml", (*labelled(job), *common, *overrides, *job.extra))


def run(job: Job) -> dict[str, Any]:
    """The record of one job, computed if there is none yet."""
    logging.getLogger("neurosym").setLevel("WARNING")
    config = arm_config(job)
    knowledge = load_knowledge(config.base / p for p in config.knowledge)
    settings = config.model_dump(mode="json", exclude={"base", "knowledge", "threads", "initial"})
    # what came after the first records and is off, as it was for those
    for section in ("energy", "instances", "comatch", "weak"):
        if getattr(config, section) == TrainConfig.model_fields[section].default:
            del settings[section]
    for later in LATER_TEACHER:
        if getattr(config.teacher, later) == TeacherConfig.model_fields[later].default:
            del settings["teacher"][later]
    if not config.compose.unlabelled:
        del settings["compose"]["unlabelled"]
    if not config.model.inexact.active:
        del settings["model"]["inexact"]
    if not config.model.oamil.enabled:
        del settings["model"]["oamil"]
    drop_later(settings)
    settings |= {"rules": [str(r) for r in knowledge.rules], "burn_in": BURN_IN, "split": job.split}
    settings["data"] = {k: v for k, v in settings["data"].items() if k in ("few", "categories", "seed", "size")} | {
        "labelled": labelled(job)
    }

    def compute() -> dict[str, Any]:
        if not list(burn_in_folder(job).glob("checkpoints/step-*")):
            shutil.rmtree(burn_in_folder(job), ignore_errors=True)
            train(burn_in_config(job), burn_in_folder(job))
        folder = RUNS / job.key
        shutil.rmtree(folder, ignore_errors=True)
        started = time.perf_counter()
        train(config, folder)
        seconds = time.perf_counter() - started
        result = scored(folder, job) | {"training_seconds": round(seconds, 1)}
        if job.split == "val":
            shutil.rmtree(folder)
        return result

    return record(NAME, job.key, settings, compute)


def chain(jobs: Sequence[Job]) -> None:
    """Run jobs one after the other, and tell what came out."""
    for job in jobs:
        result = run(job)
        print(f"{job.key}: AP50 {result['ap50']:.3f}, AP {result['ap']:.3f}, {result['seconds']:.0f} s", flush=True)


def scored(folder: Path, job: Job) -> dict[str, Any]:
    """AP, rules and calibration of the run's predictions; for arms with a refiner also of the detector by itself."""
    opened = open_run(folder)
    images = opened.images(job.split)
    true = [annotated_scene(sample) for sample in images]
    scenes = predict(opened, images)
    # every arm is held against the true rules, the placebo's too
    knowledge = load_knowledge(burn_in_config(job).base / p for p in burn_in_config(job).knowledge)
    constraints = compile_constraints(knowledge, opened.names)

    def score(found: list[Scene]) -> dict[str, Any]:
        result = evaluate_scenes(found, true, opened.names, constraints, THRESHOLD).as_dict()
        return {k: result[k] for k in ("ap", "ap50", "per_class", "calibration_error", "rules")}

    result = score(scenes)
    if opened.config.refiner.enabled:
        plain = opened.config.model_copy(
            update={"refiner": opened.config.refiner.model_copy(update={"at_test": False})}
        )
        alone = type(opened)(opened.path, plain, opened.names, opened.knowledge)
        result["detector_alone"] = score(predict(alone, images))
    if job.arm == "both":
        plan = RepairPlan(knowledge, opened.names)
        repairs = [plan.repair(s, threshold=THRESHOLD) for s in scenes]
        repaired = [r.scene for r in repairs]
        result["repaired"] = score(repaired) | {
            "hard_violations": sum(len(plan.broken(above(s, THRESHOLD))) for s in repaired),
            "hard_violations_before": sum(len(plan.broken(above(s, THRESHOLD))) for s in scenes),
            "changes": sum(len(r.changes) for r in repairs),
            "unsatisfied": sum(len(r.unsatisfied) for r in repairs),
        }
    return result
