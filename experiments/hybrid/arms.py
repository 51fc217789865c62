"""One run of the grid: a detector trained on films of mixed supervision, scored against exact annotations.

A run is what a user makes of a config and overrides; all that differs between runs is in `ARMS`, `mix` and
`CHOSEN`. Every arm has the same films, backbone, augmentation and settings of the optimiser; those whose steps take less
time have more of them, so that all should have about the same time.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import HERE, record, timed
from PIL import Image

from neurosym.constraints import compile_constraints
from neurosym.data.config import data_folder, open_split
from neurosym.data.images import annotated_scene
from neurosym.knowledge import load_knowledge
from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.evaluate import evaluate_scenes
from neurosym.learning.predict import predict
from neurosym.learning.pretrain import WEIGHTS, pretrain
from neurosym.learning.pretrain_config import load_pretrain_config
from neurosym.learning.runfolder import open_run
from neurosym.learning.train import train

NAME = "hybrid"
RUNS = HERE.parent / "runs" / NAME
PRETRAINING = HERE / "pretrain" / "kermany.yaml"
PRETRAINED = HERE.parent / "runs" / "pretrain-kermany" / WEIGHTS
STEPS = {"teacher.": 236, "compose.": 350, "weak.": 430, "": 500}
"""Of arms by the dearest thing in them, meant to take about as long as each other; what they took is in their records."""

OTHER = "kermany/images"
"""Films of another population: children's, most of them with pneumonia, none with nodules; no label of them is used."""

_SSL = ("model.weights={weights}",)
_SEMI = ("teacher.weight={teacher}", "teacher.start=100", "teacher.batch=4", "teacher.threshold={threshold}")
_WEAK = (
    "model.inexact.posterior=true",
    "model.inexact.mixed=true",
    "train.sampling=quality",
    "train.quality_repeat={repeat}",
    "weak.weight={weak}",
)
_ALL = (*_SSL, *_SEMI, *_WEAK)
_COMPOSED = ("compose.rate={composed}", "compose.unlabelled=true")
_RULES = (*_COMPOSED, "constraints.weight={violation}", "constraints.warmup_steps=50")
UNNAMED, ANYWHERE = "all but image labels", "all + findings anywhere"
ARMS: dict[str, tuple[str, ...]] = {
    "supervised": (),
    "+SSL": _SSL,
    "+semi": _SEMI,
    "+weak": _WEAK,
    "all": _ALL,
    "all + constraints": (*_ALL, *_RULES),
    UNNAMED: _ALL,
    ANYWHERE: (*_ALL, *_COMPOSED, "compose.rules=false"),
}
"""The last two are controls: of image labels, whose films then have none, and of the rules, for findings laid onto films."""
CHOSEN = {"teacher": "0.5", "threshold": "0.6", "weak": "1.0", "violation": "0.1", "repeat": "12", "composed": "0.5"}


@dataclass(frozen=True)
class Job:
    """One arm of one seed; `share` of the films is annotated exactly; `split` "val" is for choosing settings.

    `other` is the share of the unlabelled films in whose place there are as many children's films (`OTHER`).
    """

    data: str
    share: float
    arm: str
    seed: int
    split: str = "test"
    extra: tuple[str, ...] = ()
    other: float = 0.0

    @property
    def key(self) -> str:
        """The name of its record."""
        other = (f"other{100 * self.other:g}",) if self.other else ()
        words = (self.data, f"{100 * self.share:g}", self.arm, *other, *self.extra, self.split, f"seed{self.seed}")
        return "-".join(words).replace(" + ", "-").replace("+", "and-").replace("=", "_").replace(" ", "-")


def uses_weak_labels(arm: str) -> bool:
    """Whether films that are not annotated exactly say something to the arm."""
    return "weak" in arm or arm.startswith("all")


def teaches(job: Job) -> bool:
    """Whether the run has a teacher: its arm has one, and there are films of which it could say more."""
    return any(o.startswith("teacher.weight") for o in ARMS[job.arm]) and job.share < 1


def mix(job: Job) -> dict[str, Any]:
    """Kinds of supervision of the training films; the exact ones of a seed are the same films in every arm.

    `jsrt`: three films in ten have inexact boxes, three image labels, what is left none. `covid-cxr`: the lungs are boxed on
    all films, of their lesions only the labels are known; an arm without weak labels sees the exact films alone. A teacher,
    where there is one, has the films with labels in the place of boxes to itself.
    """
    share, rest = job.share, round(1.0 - job.share, 6)
    if not uses_weak_labels(job.arm) or rest == 0:
        return {"kinds": {"exact": share, "none": rest}}
    labels = {"labels_in": "pool"} if teaches(job) else {}
    if job.data == "covid-cxr":
        return {"kinds": {"exact": share, "image": rest}, "classes": {"lung": {"exact": 1.0}}} | labels
    named = 0.0 if job.arm == UNNAMED else 0.3
    kinds = {"exact": share, "inexact": 0.3, "image": named, "none": round(rest - 0.3 - named, 6)}
    return {"kinds": kinds, "r": 0.4} | labels


def other_films(job: Job, own: TrainConfig) -> tuple[str, ...]:
    """Overrides that put children's films, others for each seed, in the place of a share of the films without labels.

    `own` is the config without them.
    """
    if job.data != "jsrt" or uses_weak_labels(job.arm):
        raise ValueError("films of another population have no labels: only for the arms of jsrt that use none")
    knowledge = load_knowledge(own.base / p for p in own.knowledge)
    films = len(open_split(own.data, "unlabelled", own.base, knowledge))
    count = films - round((1 - job.other) * films)
    images = data_folder() / OTHER
    names = sorted(p.name for p in images.iterdir())
    entries = []
    for n in np.random.default_rng([job.seed, 8]).choice(len(names), films, replace=False)[:count].tolist():
        with Image.open(images / names[n]) as image:
            entries.append({"id": n, "file_name": names[n], "width": image.width, "height": image.height})
    known = [{"id": n, "name": name} for n, name in enumerate(own.data.categories or ())]
    path = RUNS / "pools" / f"children-{count}-seed{job.seed}.json"
    write_text_atomically(path, json.dumps({"images": entries, "annotations": [], "categories": known}))
    less = f"data.supervision.pool={1 - job.other:g}"
    return less, f"data.unlabelled={json.dumps({'annotations': str(path), 'images': str(images)})}"


def config_of(job: Job) -> TrainConfig:
    """The run's config; another seed annotates other films."""
    values = CHOSEN | {"weights": str(PRETRAINED)}
    of_teacher = ("teacher.", "compose.unlabelled")
    arm = [o.format(**values) for o in ARMS[job.arm] if teaches(job) or not o.startswith(of_teacher)]
    steps = next(n for section, n in STEPS.items() if not section or any(o.startswith(section) for o in arm))
    common = [f"seed={job.seed}", f"train.steps={steps}"]
    supervision = f"data.supervision={json.dumps(mix(job) | {'seed': job.seed})}"
    overrides, path = (*common, supervision, *arm, *job.extra), HERE / NAME / f"{job.data}.yaml"
    config = load_config(path, overrides)
    return load_config(path, (*overrides, *other_films(job, config))) if job.other else config


def pretrained() -> Path:
    """The backbone of the arms with self-supervised pretraining, which all share; made if it is not there."""
    if not PRETRAINED.is_file():
        folder = PRETRAINED.parent
        pretrain(load_pretrain_config(PRETRAINING), folder, (folder / "checkpoints").is_dir())
    return PRETRAINED


def run(job: Job) -> dict[str, Any]:
    """The record of one job, computed if there is none yet."""
    logging.getLogger("neurosym").setLevel("ERROR")
    config = config_of(job)
    knowledge = load_knowledge(config.base / p for p in config.knowledge)
    settings = config.model_dump(
        mode="json", include={"seed", "data", "model", "train", "constraints", "teacher", "weak", "compose"}
    )
    settings["data"] = {k: v for k, v in settings["data"].items() if k in ("supervision", "categories")}
    del settings["model"]["multi_label"]  # came after the first records, and is off as it was for those
    if config.train.sampling != "quality":
        del settings["train"]["quality_every"]  # so did this
    if settings["data"]["supervision"]["labels_in"] == "batch":
        del settings["data"]["supervision"]["labels_in"]  # and this
    if job.other:
        settings["other"] = [job.other, OTHER]
    if config.model.weights:
        settings["model"]["weights"] = PRETRAINING.read_text(encoding="utf-8")
    settings |= {"split": job.split, "rules": [str(r) for r in knowledge.rules]}

    def compute() -> dict[str, Any]:
        if config.model.weights:
            pretrained()
        return timed(RUNS / job.key, lambda folder: train(config, folder), lambda folder: scored(folder, job.split))

    return record(NAME, job.key, settings, compute)


def scored(folder: Path, split: str) -> dict[str, Any]:
    """AP and the rules' scores of the run's predictions."""
    opened = open_run(folder)
    images = opened.images(split)
    constraints = compile_constraints(opened.knowledge, opened.names, required=False)
    true = [annotated_scene(sample) for sample in images]
    result = evaluate_scenes(predict(opened, images), true, opened.names, constraints).as_dict()
    return {k: result[k] for k in ("ap", "ap50", "per_class", "rules")}


def told(job: Job) -> None:
    """Run a job and tell what came out."""
    result = run(job)
    print(f"{job.key}: AP {result['ap']:.3f}, AP50 {result['ap50']:.3f}, {result['seconds']:.0f} s", flush=True)
