"""One run of the grid: a segmenter trained on masks of one coarseness, scored against exact ones by Dice.

A run is what a user makes of a config and overrides; all that differs between runs is in `COARSENESS` and `ARMS`.
"""

from __future__ import annotations

import logging
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection import drop_later
from harness import HERE, record, timed

from neurosym.data.images import annotated_scene
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.evaluate import evaluate_scenes
from neurosym.learning.predict import predict
from neurosym.learning.runfolder import open_run
from neurosym.learning.train import train

NAME = "inexact-masks"
RUNS = HERE.parent / "runs" / NAME
EXACT, PLAIN, POSTERIOR = "exact", "plain", "posterior"
COARSENESS: dict[str, tuple[str, ...]] = {
    EXACT: (),
    "dilate": ("data.degrade.how=coarse_mask", "data.degrade.shape=dilate", "data.degrade.r=0.15"),
    "polygon": ("data.degrade.how=coarse_mask", "data.degrade.shape=polygon", "data.degrade.r=0.2"),
    "scribble": ("data.degrade.how=coarse_mask", "data.degrade.shape=scribble", "data.degrade.r=0.2"),
}
_POSTERIOR, _FILTER, _ADVERSARY = (
    "model.inexact.posterior=true",
    "model.inexact.filter=true",
    "model.inexact.adversary=0.1",
)
ARMS: dict[str, tuple[str, ...]] = {
    PLAIN: (),
    POSTERIOR: (_POSTERIOR,),
    "posterior + filter": (_POSTERIOR, _FILTER),
    "posterior + filter + adversary": (_POSTERIOR, _FILTER, _ADVERSARY),
}


@dataclass(frozen=True)
class Job:
    """One arm of one seed; `split` "val" is for choosing settings, "test" for the result."""

    data: str
    coarseness: str
    arm: str
    seed: int
    split: str = "test"
    extra: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name of its record."""
        words = (self.data, self.coarseness, self.arm, *self.extra, self.split, f"seed{self.seed}")
        return "-".join(words).replace(" + ", "-").replace("=", "_")


def config_of(job: Job) -> TrainConfig:
    """The run's config; another seed cuts other strokes, too."""
    coarse = COARSENESS[job.coarseness]
    seeds = (f"seed={job.seed}", *((f"data.degrade.seed={job.seed}",) if coarse else ()))
    return load_config(HERE / NAME / f"{job.data}.yaml", (*seeds, *coarse, *ARMS[job.arm], *job.extra))


def run(job: Job) -> dict[str, Any]:
    """The record of one job, computed if there is none yet: Dice of each class, and their mean."""
    logging.getLogger("neurosym").setLevel("ERROR")
    config = config_of(job)
    settings = config.model_dump(
        mode="json", include={"seed", "data", "model", "train"}, exclude={"train": {"checkpoint_every"}}
    )
    settings["data"] = {k: settings["data"][k] for k in ("degrade", "categories")}
    if not config.model.inexact.active:
        del settings["model"]["inexact"]
    drop_later(settings)
    settings |= {"split": job.split}

    def compute() -> dict[str, Any]:
        return timed(RUNS / job.key, lambda folder: train(config, folder), lambda folder: scored(folder, job.split))

    return record(NAME, job.key, settings, compute)


def scored(folder: Path, split: str) -> dict[str, Any]:
    """Dice of each class, and their mean."""
    opened = open_run(folder)
    images = opened.images(split)
    scenes, true = predict(opened, images), [annotated_scene(sample) for sample in images]
    dice = evaluate_scenes(scenes, true, opened.names).dice
    return {"dice": statistics.fmean(dice.values()), "per_class": dice}


def told(job: Job) -> None:
    """Run one job and print its result."""
    result = run(job)
    print(f"{job.key}: Dice {result['dice']:.3f}, {result['seconds']:.0f} s", flush=True)
