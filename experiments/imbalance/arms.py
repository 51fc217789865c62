"""One run of the grid: a detector trained where a class is rare, scored class by class.

A run is what a user makes of a config and overrides; all that differs between runs is in `DATA` and `ARMS`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import HERE, record, timed

from neurosym.data.config import data_folder, open_split
from neurosym.data.images import ImageSet, annotated_scene
from neurosym.knowledge import load_knowledge
from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.evaluate import evaluate_scenes
from neurosym.learning.predict import predict
from neurosym.learning.runfolder import open_run
from neurosym.learning.train import train

NAME = "imbalance"
RUNS = HERE.parent / "runs" / NAME
PLAIN = "cross_entropy"
SHOWN = 12
"""Smears of `bccd` that show platelets and are left in training."""
RARE: dict[str, tuple[str, ...]] = {"bccd": ("platelet",), "phantom": ("nodule", "pleural_effusion")}
"""The rare classes of each data set."""
_REPEAT = ("train.sampling=repeat_factor", "train.repeat_threshold={threshold}")
_ENHANCE = ("model.classification.loss=label_enhancement",)
ARMS: dict[str, tuple[str, ...]] = {
    PLAIN: (),
    "focal": ("model.classification.loss=focal",),
    "repeat_factor": _REPEAT,
    "label_enhancement": _ENHANCE,
    "label_enhancement + repeat_factor": (*_ENHANCE, *_REPEAT),
}
CHOSEN = {"threshold": "0.5"}
"""Share of films below which a class is repeated: platelets and nodules then some twice as often."""


@dataclass(frozen=True)
class Job:
    """One arm of one seed; `split` "val" is for choosing settings, "test" for the result."""

    data: str
    arm: str
    seed: int
    split: str = "test"
    extra: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name of its record."""
        words = (self.data, self.arm, *self.extra, self.split, f"seed{self.seed}")
        return "-".join(words).replace(" + ", "-").replace("=", "_")


def films(job: Job) -> tuple[str, ...]:
    """The overrides that choose a seed's training films, of which few show a rare class."""
    if job.data == "phantom":
        return (f"data.train.start={1000 * job.seed}",)
    path = RUNS / f"bccd-films-seed{job.seed}.txt"
    write_text_atomically(path, "".join(f"{name}\n" for name in few_platelets(job.seed)))
    return (f"data.train.split={path}",)


def few_platelets(seed: int) -> list[str]:
    """The training smears without platelets, and `SHOWN` of those with some; each with all that is annotated on it."""
    config = load_config(HERE / NAME / "bccd.yaml")
    knowledge = load_knowledge(config.base / p for p in config.knowledge)
    images = open_split(config.data, "train", config.base, knowledge)
    assert isinstance(images, ImageSet)
    names = (data_folder() / "bccd" / "train.txt").read_text(encoding="utf-8").split()
    shows = [any(a.name in RARE["bccd"] for a in entry.annotations) for entry in images.entries]
    rare = [name for name, there in zip(names, shows, strict=True) if there]
    kept = set(np.random.default_rng(seed).choice(rare, SHOWN, replace=False).tolist())
    return [name for name, there in zip(names, shows, strict=True) if not there or name in kept]


def config_of(job: Job) -> TrainConfig:
    """The run's config; another seed has other films, too."""
    arm = (o.format(**CHOSEN) for o in ARMS[job.arm])
    overrides = (f"seed={job.seed}", *films(job), *arm, *job.extra)
    return load_config(HERE / NAME / f"{job.data}.yaml", overrides)


def run(job: Job) -> dict[str, Any]:
    """The record of one job, computed if there is none yet: AP and AP50 of each class, and their means."""
    logging.getLogger("neurosym").setLevel("ERROR")
    config = config_of(job)
    settings = config.model_dump(
        mode="json", include={"seed", "model", "train"}, exclude={"train": {"checkpoint_every"}}
    )
    del settings["model"]["multi_label"]  # came after the first records, and is off as it was for those
    chosen = few_platelets(job.seed) if job.data == "bccd" else films(job)
    settings |= {"data": job.data, "films": list(chosen), "split": job.split}

    def compute() -> dict[str, Any]:
        return timed(
            RUNS / job.key,
            lambda folder: train(config, folder),
            lambda folder: scored(folder, job.split, RARE[job.data]),
        )

    return record(NAME, job.key, settings, compute)


def scored(folder: Path, split: str, rare: Sequence[str]) -> dict[str, Any]:
    """AP of the run's predictions; `rare` is the mean over the rare classes."""
    opened = open_run(folder)
    images = opened.images(split)
    result = evaluate_scenes(predict(opened, images), [annotated_scene(s) for s in images], opened.names).as_dict()
    of_rare = {v: float(np.mean([result["per_class"][name][v] for name in rare])) for v in ("ap", "ap50")}
    return {k: result[k] for k in ("ap", "ap50", "per_class")} | {"rare": of_rare}


def told(job: Job) -> None:
    """Run a job and tell what came out."""
    result = run(job)
    rare = result["rare"]
    print(
        f"{job.key}: rare AP {rare['ap']:.3f}, rare AP50 {rare['ap50']:.3f}, AP {result['ap']:.3f}, "
        f"{result['seconds']:.0f} s",
        flush=True,
    )
