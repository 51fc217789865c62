"""One run of the grid: a detector trained on spoilt boxes, scored against exact ones.

A run is what a user makes of a config and overrides; all that differs between runs is in `NOISES` and `ARMS`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detection import drop_later
from harness import HERE, record, timed

from neurosym.constraints import compile_constraints
from neurosym.data.images import annotated_scene
from neurosym.knowledge import load_knowledge
from neurosym.learning.annotation_quality import annotation_quality
from neurosym.learning.annotation_truth import score_quality, truth_of_split
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.evaluate import evaluate_scenes
from neurosym.learning.predict import predict
from neurosym.learning.runfolder import OpenRun, open_run
from neurosym.learning.train import train

NAME = "inexact-boxes"
RUNS = HERE.parent / "runs" / NAME
STEPS = 300
JUDGED = 60
"""Training images, at least, whose annotations are judged."""
DETECTORS = ("faster_rcnn", "cascade_rcnn", "retinanet")
OF_DETECTOR: dict[str, tuple[str, ...]] = {"retinanet": ("model.anchor_scale=2", "model.inexact.votes=3")}
"""RetinaNet's finest level has a stride of 8: anchors of four strides are larger than platelets, which it then never finds.
The weight of its votes was chosen on validation films (README)."""
NOISES: dict[str, tuple[str, ...]] = {
    "exact": (),
    "r=.2": ("data.degrade.how=uniform", "data.degrade.r=0.2"),
    "r=.4": ("data.degrade.how=uniform", "data.degrade.r=0.4"),
    "too big": ("data.degrade.how=too_big", "data.degrade.r=0.4"),
    "partial": ("data.degrade.how=partial", "data.degrade.r=0.4"),
}
_ALL = ("model.inexact.posterior=true", "model.inexact.filter=true", "model.inexact.adversary={adversary}")
ARMS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "plain, equal compute": ("train.steps={longer}",),
    # the authors correct boxes after a twelfth of the training, and extend bags after two thirds; gamma: see README
    "OA-MIL": (
        "model.oamil.enabled=true",
        "model.oamil.gamma=2",
        "model.oamil.start=25",
        "model.oamil.extension_start=200",
    ),
    "filter": _ALL[1:2],
    "filter + adversary": _ALL[1:],
    "posterior": _ALL[:1],
    "all": _ALL,
    "all + constraints": (*_ALL, "constraints.weight={constraints}"),
}
CHOSEN = {"adversary": "0.1", "constraints": "0.1", "longer": "345"}
"""Weights of the adversary and of the violation; steps in which plain training takes as long as "all" in 300."""


@dataclass(frozen=True)
class Job:
    """One arm of one seed; `split` "val" is for choosing settings, "test" for the result."""

    data: str
    detector: str
    noise: str
    arm: str
    seed: int
    split: str = "test"
    extra: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name of its record."""
        words = (self.data, self.detector, self.noise, self.arm, *self.extra, self.split, f"seed{self.seed}")
        return "-".join(words).replace(", ", "-").replace(" ", "-").replace("=", "_")


def config_of(job: Job) -> TrainConfig:
    """The run's config; another seed draws other mistakes, too."""
    noise = NOISES[job.noise]
    seeds = (f"seed={job.seed}", *((f"data.degrade.seed={job.seed}",) if noise else ()))
    arm = (o.format(**CHOSEN) for o in ARMS[job.arm])
    own = (f"train.steps={STEPS}", f"model.kind={job.detector}", *OF_DETECTOR.get(job.detector, ()))
    overrides = (*own, *seeds, *noise, *arm, *job.extra)
    return load_config(HERE / NAME / f"{job.data}.yaml", overrides)


def run(job: Job) -> dict[str, Any]:
    """The record of one job, computed if there is none yet."""
    logging.getLogger("neurosym").setLevel("ERROR")
    config = config_of(job)
    knowledge = load_knowledge(config.base / p for p in config.knowledge)
    settings = config.model_dump(
        mode="json", include={"seed", "data", "model", "train", "constraints"}, exclude={"train": {"checkpoint_every"}}
    )
    settings["data"] = {k: v for k, v in settings["data"].items() if k in ("degrade", "categories", "seed", "size")}
    drop_later(settings)
    settings |= {"split": job.split}
    if config.constraints.weight:
        settings["rules"] = [str(r) for r in knowledge.rules]

    def compute() -> dict[str, Any]:
        return timed(
            RUNS / job.key,
            lambda folder: train(config, folder),
            lambda folder: scored(open_run(folder), job.split) | _estimated(folder),
        )

    return record(NAME, job.key, settings, compute)


def _estimated(folder: Path) -> dict[str, float]:
    """What the last step took the annotations' noise and bias for."""
    last = json.loads((folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return {k: last[k] for k in ("annotation_noise", "size_bias") if k in last}


def told(job: Job) -> None:
    """Run a job and tell what came out."""
    result = run(job)
    print(f"{job.key}: AP {result['ap']:.3f}, AP50 {result['ap50']:.3f}, {result['seconds']:.0f} s", flush=True)


def scored(opened: OpenRun, split: str) -> dict[str, Any]:
    """AP of the run's predictions, and what its annotations' estimated quality is worth."""
    images = opened.images(split)
    constraints = compile_constraints(opened.knowledge, opened.names, required=False)
    scenes, true = predict(opened, images), [annotated_scene(sample) for sample in images]
    result = evaluate_scenes(scenes, true, opened.names, constraints).as_dict()
    kept = {k: result[k] for k in ("ap", "ap50", "per_class", "rules")}
    samples = opened.images("train")
    samples = samples[:: max(1, len(samples) // JUDGED)]
    truth = truth_of_split(opened, "train", samples)
    if truth is None:
        return kept
    quality = score_quality(annotation_quality(opened, samples=samples), truth)
    return kept | ({} if quality is None else {"quality": asdict(quality)})
