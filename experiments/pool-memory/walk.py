"""Resident memory of a process that goes through a large unlabelled pool in the order of training; prints JSON.

    python walk.py films SEED [COUNT]     generated films: MB at the 1 000th, 5 000th and every 10 000th film, and at the end
    python walk.py files SEED [COUNT]     as many PNG files in a folder: seconds until it is open, and MB that it takes

Films go the way they go in training: `open_split` joins the films of a train split that a teacher could say more of with an
unlabelled split, `batch_indices` draws four a step, `make_batch` makes tensors of them and augments them. Each film is seen
once, which is checked. There is no detector: what a step computes is freed with it and would only hide what the pool keeps.
"""

from __future__ import annotations

import gc
import io
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from neurosym.data.config import class_names, open_split
from neurosym.data.images import folder_images
from neurosym.knowledge import load_knowledge
from neurosym.learning.batches import batch_indices, make_batch
from neurosym.learning.config import TrainConfig
from neurosym.records import Sample

ROOT = Path(__file__).parents[2]
COUNT, SIZE, BATCH = 100_000, 64, 4
FIRST, EARLY, EVERY = 1_000, 5_000, 10_000
"""Films after which memory is told; growth is counted from the second on."""


def status(key: str) -> float:
    """MB; a line of what the kernel says of this process."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"{key}:\s+(\d+) kB", text)[1]) / 1024  # type: ignore[index]


def config_of(seed: int, count: int) -> TrainConfig:
    """Half of the pool are films of the train split with labels or nothing, half an unlabelled split of its own."""
    half = count // 2
    names = ["left_lung", "right_lung", "heart", "ground_glass_opacity", "consolidation", "nodule"]
    return TrainConfig.model_validate(
        {
            "name": "pool",
            "seed": seed,
            "knowledge": [str(ROOT / "ontologies" / "thorax.ttl")],
            "data": {
                "format": "phantom",
                "size": SIZE,
                "seed": seed,
                "categories": names,
                "train": {"start": 0, "count": half + half // 9},
                "unlabelled": {"start": 10 * count, "count": half},
                "supervision": {"seed": seed, "kinds": {"exact": 0.1, "image": 0.45, "none": 0.45}},
            },
        }
    )


def walked(seed: int, count: int) -> dict[str, float]:
    """MB after so many films, and what the walk took."""
    config = config_of(seed, count)
    knowledge = load_knowledge(config.base / p for p in config.knowledge)
    before, started = status("VmRSS"), time.process_time()
    pool = open_split(config.data, "unlabelled", config.base, knowledge)
    found = {"opened MB": round(status("VmRSS") - before, 1), "open s": round(time.process_time() - started, 2)}
    names = class_names(config.data, open_split(config.data, "train", config.base, knowledge), knowledge)
    return found | {"films": len(pool)} | through(pool, names, seed)


def through(pool: Sequence[Sample], names: tuple[str, ...], seed: int) -> dict[str, float]:
    """One epoch of the pool."""
    seen = np.zeros(len(pool), dtype=np.int64)
    marks = {FIRST, EARLY, *range(EVERY, len(pool), EVERY)}
    found: dict[str, float] = {}
    started = time.process_time()
    for step in range(-(-len(pool) // BATCH)):
        chosen = batch_indices(len(pool), BATCH, step, seed + 1)[: len(pool) - step * BATCH]
        rng = np.random.default_rng([seed, step, 1])
        images, _ = make_batch([pool[i] for i in chosen], names, torch.device("cpu"), rng)
        assert len(images) == len(chosen)
        np.add.at(seen, chosen, 1)
        done = step * BATCH + len(chosen)
        if done in marks:
            gc.collect()
            found[f"{done} MB"] = round(status("VmRSS"), 2)
    gc.collect()
    assert (seen == 1).all(), "an epoch shows each film once"
    last = round(status("VmRSS"), 2)
    early = found.get(f"{EARLY} MB", found.get(f"{FIRST} MB", last))
    spent = time.process_time() - started
    return found | {
        "last MB": last,
        "peak MB": round(status("VmHWM"), 2),
        "growth": round(last / early - 1, 5),
        "ms a film": round(1e3 * spent / len(pool), 3),
    }


def opened(count: int) -> dict[str, float]:
    """A folder of so many small grey PNG files, opened as the unlabelled films of `neurosym pretrain` are."""
    buffer = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(buffer, "PNG")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for n in range(count):
            part = folder / f"{n // 1000:03d}"
            part.mkdir(exist_ok=True)
            (part / f"film-{n:06d}.png").write_bytes(buffer.getvalue())
        gc.collect()
        before, started = status("VmRSS"), time.process_time()
        pool = folder_images(folder)
        spent = time.process_time() - started
        gc.collect()
        taken = status("VmRSS") - before
        assert len(pool) == count
        assert pool[count - 1].image.shape == (16, 16)
    return {"files": count, "open s": round(spent, 2), "opened MB": round(taken, 1)}


def main() -> None:
    torch.set_num_threads(1)
    what, seed, *rest = sys.argv[1:]
    count = int(rest[0]) if rest else COUNT
    print(json.dumps(walked(int(seed), count) if what == "films" else opened(count)))


if __name__ == "__main__":
    main()
