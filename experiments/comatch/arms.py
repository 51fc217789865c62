"""One run of the grid: a film classifier with few labelled films, scored on films of other patients."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from harness import HERE, record, timed

from neurosym.knowledge import load_knowledge
from neurosym.knowledge.similarity import class_similarity
from neurosym.learning.evaluate_films import evaluate_classifier
from neurosym.learning.image_classifier import train_classifier
from neurosym.learning.image_config import ImageTrainConfig, load_image_config

NAME = "comatch"
RUNS = HERE.parent / "runs" / NAME
SUPERVISED, PSEUDO, COMATCH, HIERARCHY = "supervised", "pseudo-labels", "CoMatch", "CoMatch + hierarchy"
ARMS: dict[str, tuple[str, ...]] = {
    SUPERVISED: ("method=supervised",),
    PSEUDO: ("method=fixmatch",),
    COMATCH: ("method=comatch",),
    HIERARCHY: ("method=comatch", "comatch.kernel=lin"),
}
"""All cost the same (`train.passes`); the last two differ in the kernel alone."""


@dataclass(frozen=True)
class Job:
    """One arm of one seed; `split` "val" is for choosing settings, "test" for the result."""

    arm: str
    seed: int
    per_class: int = 10
    split: str = "test"
    extra: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name of its record."""
        words = ("kermany", str(self.per_class), self.arm, *self.extra, self.split, f"seed{self.seed}")
        return "-".join(words).replace(" + ", "-").replace("=", "_")


def config_of(job: Job) -> ImageTrainConfig:
    """The run's config; another seed labels other films, too."""
    overrides = (f"seed={job.seed}", f"data.per_class={job.per_class}", *ARMS[job.arm], *job.extra)
    return load_image_config(HERE / NAME / "kermany.yaml", overrides)


def run(job: Job) -> dict[str, Any]:
    """The record of one job, computed if there is none yet: accuracies, AUC, and pneumonia against none."""
    logging.getLogger("neurosym").setLevel("ERROR")
    config = config_of(job)
    settings = config.model_dump(mode="json", exclude={"base", "knowledge", "threads"})
    for section, place in (("data", "table"), ("data", "images"), ("train", "checkpoint_every")):
        del settings[section][place]
    knowledge = load_knowledge(config.base / p for p in config.knowledge)
    kernel = class_similarity(knowledge.ontology, config.data.classes, config.comatch.kernel)
    settings |= {"split": job.split, "likeness": [[round(v, 6) for v in row] for row in kernel]}

    def compute() -> dict[str, Any]:
        split = "val" if job.split == "val" else "test"
        result = timed(
            RUNS / job.key,
            lambda folder: train_classifier(config, folder),
            lambda folder: evaluate_classifier(folder, split),
        )
        return result | {"steps": config.steps}

    return record(NAME, job.key, settings, compute)


def told(job: Job) -> None:
    """Run one job and tell what came out."""
    result = run(job)
    print(f"{job.key}: balanced accuracy {result['balanced_accuracy']:.3f}, {result['seconds']:.0f} s", flush=True)
