"""What a training step with a teacher costs beside a supervised one of the same batch and model; prints JSON.

    python step.py time SEED [ROUNDS]      CPU time in ms: medians, and medians of the ratios of steps in turn
    python step.py memory SEED             MB that a process grew by at its peak: model, teacher, optimiser, two steps

Compared are `supervised`, `teacher` (pseudo-labels as the arms of experiments/hybrid have them) and `everything` (that, with
adaptive thresholds, the strong view and boxes that must be found again from ten places nearby). Each is the trainer of
`neurosym train` on the same files, with the model and the batch of experiments/hybrid: four annotated films a step, and with a
teacher as many without annotations. A step is all of it: reading, views, teacher, forward, backward, update, average.
"""

from __future__ import annotations

import gc
import json
import re
import statistics
import sys
import tempfile
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from PIL import Image

from neurosym.data.coco import as_coco
from neurosym.data.images import annotated_scene
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.learning.config import TrainConfig
from neurosym.learning.sampling import Moment
from neurosym.learning.teacher import Lesson
from neurosym.learning.train import Trainer, open_trainer

ROOT = Path(__file__).parents[2]
NAMES = ("left_lung", "right_lung", "heart", "ground_glass_opacity", "consolidation", "nodule")
FILMS, SIZE, BATCH, BURN_IN, ROUNDS, MEMORY_STEPS = 32, 256, 4, 30, 5, 2
"""Films of each pool and their pixels; steps on labels before anything is measured, so that the teacher sees something."""
_TEACHER = {"weight": 0.5, "start": 0, "batch": BATCH, "threshold": 0.6}
ARMS: dict[str, dict[str, object]] = {
    "supervised": {},
    "teacher": _TEACHER,
    "everything": _TEACHER | {"adaptive": True, "strong": True, "jitters": 10},
}


def write_films(folder: Path, seed: int) -> None:
    """Annotated films 0–31 and others 32–63, as PNG files with a COCO file of each pool."""
    config = PhantomConfig(size=SIZE, seed=seed)
    for split, start in (("train", 0), ("unlabelled", FILMS)):
        films = list(Phantom(start, FILMS, config))
        data = as_coco([annotated_scene(f) for f in films], NAMES)
        for film, image in zip(films, data["images"], strict=True):
            image["file_name"] = f"{film.image_id}.png"
            Image.fromarray(film.image).save(folder / image["file_name"])
        (folder / f"{split}.json").write_text(json.dumps(data), encoding="utf-8")


def config_of(arm: str, seed: int, films: Path) -> TrainConfig:
    """Model and optimiser of experiments/hybrid."""
    split = {s: {"annotations": str(films / f"{s}.json"), "images": str(films)} for s in ("train", "unlabelled")}
    return TrainConfig.model_validate(
        {
            "name": "cost",
            "seed": seed,
            "device": "cpu",
            "threads": 1,
            "knowledge": [str(ROOT / "ontologies" / "thorax.ttl")],
            "data": {"format": "coco", "categories": NAMES, **split},
            "model": {"backbone": "lite0", "image_size": 224, "proposals": 200, "sampled_boxes": 64},
            "train": {"steps": 1000, "batch_size": BATCH, "lr": 7e-4, "warmup_steps": 20},
            "teacher": ARMS[arm],
        }
    )


def opened(arm: str, seed: int, folder: Path) -> Trainer:
    """A trainer before its first step."""
    trainer = open_trainer(config_of(arm, seed, folder), folder / arm)
    trainer.prepare(resume=False)
    return trainer


def timed(seed: int, folder: Path, rounds: int, burn_in: int) -> dict[str, float]:
    """Medians in ms, and of the ratios to the supervised step of the same round; the first round does not count."""
    trainers = {arm: opened(arm, seed, folder) for arm in ARMS}
    first = trainers["supervised"]
    first.time_steps(0, burn_in)
    for trainer in trainers.values():
        trainer.model.load_state_dict(first.model.state_dict())
        trainer.average = {k: v.clone() for k, v in first.average.items()}
    taken: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for turn in range(rounds + 1):
        gc.collect()
        for arm, trainer in trainers.items():
            torch.manual_seed(turn)
            started = time.process_time()
            trainer.time_steps(burn_in + turn, 1)
            spent = time.process_time() - started
            if turn:
                taken[arm].append(1e3 * spent)
    found = {arm: round(statistics.median(times), 1) for arm, times in taken.items()}
    for arm in list(ARMS)[1:]:
        pairs = zip(taken[arm], taken["supervised"], strict=True)
        found[f"{arm} / supervised"] = round(statistics.median(a / b for a, b in pairs), 4)
    taught = lessons_of(trainers["everything"])
    return found | {"objects": round(statistics.fmean(len(each.target["labels"]) for each in taught), 2)}


def lessons_of(trainer: Trainer) -> list[Lesson]:
    """What the teacher says in a step: proof that there was something to learn."""
    return trainer._unlabelled_part(0, Moment(trainer.step), None)[2]


def peak() -> float:
    """MB; of this program alone, where the peak that `getrusage` tells begins with that of the program that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def grown(seed: int, folder: Path, arm: str) -> float:
    before = peak()
    opened(arm, seed, folder).time_steps(0, MEMORY_STEPS)
    return round(peak() - before, 1)


def memory(seed: int, folder: Path) -> dict[str, float]:
    """Of each arm in a process of its own, forked from this one before it computes anything."""
    with get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        found = dict(zip(ARMS, pool.map(partial(grown, seed, folder), ARMS, chunksize=1), strict=True))
    return found | {f"{arm} / supervised": round(found[arm] / found["supervised"], 4) for arm in list(ARMS)[1:]}


def main() -> None:
    torch.set_num_threads(1)
    what, seed, *rest = sys.argv[1:]
    rounds, burn_in = (int(rest[0]), 2) if rest else (ROUNDS, BURN_IN)
    with tempfile.TemporaryDirectory() as place:
        films = Path(place)
        write_films(films, int(seed))
        found = timed(int(seed), films, rounds, burn_in) if what == "time" else memory(int(seed), films)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
