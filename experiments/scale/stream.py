"""Films streamed from shards: what the index of a million takes, an epoch of a hundred thousand, and the reader's speed; JSON.

    python stream.py index SEED [COUNT]     MB that the index of so many films takes with every row of it looked at
    python stream.py epoch SEED [COUNT]     MB at each tenth of an epoch of generated films, and films/s
    python stream.py speed SEED [STEPS]     films/s of the reader and of a light step of training, each alone and together

Films are packed by another process, so that what packing takes is not counted, into a temporary folder (2 GB for the index). Of
`epoch` each generated film is packed twice, under two ids, which halves the time of drawing; the reader does not know.
"""

from __future__ import annotations

import gc
import io
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from neurosym.data.film_order import StreamOrder
from neurosym.data.patient import ANATOMY, IN_LUNG
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.data.shard_films import sample_films
from neurosym.data.shard_index import ShardIndex
from neurosym.data.shard_pack import FilmsToPack, PackedFilm, pack
from neurosym.data.shards import ShardSet, open_shards
from neurosym.knowledge import load_knowledge
from neurosym.learning.config import TrainConfig
from neurosym.learning.film_reader import FilmReader
from neurosym.learning.train import Trainer, open_trainer

ROOT = Path(__file__).parents[2]
ONTOLOGY = ROOT / "ontologies" / "thorax.ttl"
INDEXED, STREAMED, STEPS = 1_000_000, 100_000, 40
SIZE, BATCH, READERS, FEW = 64, 4, 1, 240
"""Pixels of a film, films of a step, threads that read, films of `speed`."""


def status(key: str) -> float:
    """MB; a line of what the kernel says of this process."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"{key}:\s+(\d+) kB", text)[1]) / 1024  # type: ignore[index]


# --- packing, in a process of its own ---------------------------------------------------------------------------------


def packed(write: Callable[[Path], None], folder: Path) -> None:
    """Let another process write the shards."""
    process = get_context("spawn").Process(target=write, args=(folder,))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the films could not be packed")


def phantom_films(seed: int, count: int) -> FilmsToPack:
    """Generated films as they are packed."""
    classes = sorted((*ANATOMY, *IN_LUNG))
    return sample_films(Phantom(0, count, PhantomConfig(size=SIZE, seed=seed)), classes, load_knowledge([ONTOLOGY]))


_films: dict[str, FilmsToPack] = {}


def _begin(seed: int, count: int) -> None:
    _films["own"] = phantom_films(seed, count)


def _drawn(n: int) -> PackedFilm:
    return _films["own"].film(n)


def pack_phantom(folder: Path, seed: int, count: int) -> None:
    """`count` films, of which two processes draw half."""
    films, half = phantom_films(seed, count), -(-count // 2)
    with get_context("spawn").Pool(2, _begin, (seed, half)) as pool:
        in_turn = _InTurn(_twice(pool.imap(_drawn, range(half), chunksize=50)))
        pack(FilmsToPack(count, in_turn, films.categories, films.digest), folder)


def _twice(films: Iterator[PackedFilm]) -> Iterator[PackedFilm]:
    for film in films:
        for copy in "ab":
            image = film.record["images"][0] | {"file_name": f"{film.image_id}-{copy}.png"}
            yield PackedFilm(f"{film.image_id}-{copy}", film.suffix, film.image, film.record | {"images": [image]})


class _InTurn:
    """Films that come one after the other, of which the last one may be asked for again."""

    def __init__(self, films: Iterator[PackedFilm]) -> None:
        self.films, self.number = films, -1

    def __call__(self, n: int) -> PackedFilm:
        if n != self.number:
            self.number, self.last = n, next(self.films)
        return self.last


def pack_tiny(folder: Path, count: int) -> None:
    """`count` films of 8 x 8 pixels without annotations, with ids as long as those of real data are."""
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(buffer, "PNG")

    def film(n: int) -> PackedFilm:
        name = f"patient-{n // 3:06d}_study-1_{n:07d}"
        image = {"id": n, "file_name": f"{name}.png", "width": 8, "height": 8}
        return PackedFilm(name, ".png", buffer.getvalue(), {"images": [image], "annotations": [], "categories": []})

    pack(FilmsToPack(count, film, ("heart",), "tiny"), folder)


# --- what is measured -------------------------------------------------------------------------------------------------


def indexed(seed: int, count: int) -> dict[str, float]:
    """MB that an open index takes when every row and id was looked at, and a thousand films were read."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "films"
        packed(partial(pack_tiny, count=count), folder)
        gc.collect()
        before, started = status("VmRSS"), time.perf_counter()
        index = ShardIndex.open(folder)
        opened = time.perf_counter() - started
        hashes = int(index.films.view(np.uint8).max()) + int(index.ids.max())
        for n in StreamOrder(count, seed)(min(count, 1000), 0):
            index.image(n)
            index.record(n)
        gc.collect()
        taken = status("VmRSS") - before
        assert hashes > 0
        on_disk = sum((folder / name).stat().st_size for name in ("films.npy", "ids.bin")) / 2**20
    return {"films": count, "resident MB": round(taken, 1), "MB": round(on_disk, 1), "open s": round(opened, 4)}


def walked(seed: int, count: int) -> dict[str, float]:
    """MB at each tenth of an epoch, whose films are each seen once, and films/s."""
    with tempfile.TemporaryDirectory() as place:
        packed(partial(pack_phantom, seed=seed, count=count), Path(place) / "films")
        films = open_shards(Path(place) / "films", load_knowledge([ONTOLOGY]))
        steps = -(-count // BATCH)
        reader = FilmReader(films, StreamOrder(count, seed), BATCH, READERS, steps)
        seen = np.zeros(count, dtype=np.int64)
        tenths = {round(steps * tenth / 10): tenth for tenth in range(1, 11)}
        found: dict[str, float] = {"films": count}
        started = time.perf_counter()
        for step in range(steps):
            chosen, samples = reader.films(step)
            assert all(sample.image.shape == (SIZE, SIZE) for sample in samples)
            np.add.at(seen, chosen[: count - step * BATCH], 1)
            if step + 1 in tenths:
                gc.collect()
                found[f"{tenths[step + 1]}0% MB"] = round(status("VmRSS"), 2)
        spent = time.perf_counter() - started
        reader.close()
    assert (seen == 1).all(), "an epoch shows each film once"
    growth = round(found["100% MB"] / found["10% MB"] - 1, 5)
    return found | {"growth": growth, "peak MB": round(status("VmHWM"), 2), "films/s": round(count / spent, 1)}


def config_of(seed: int, shards: Path) -> TrainConfig:
    """As light a step as a detector has: few channels, few proposals, films of 64 pixels."""
    return TrainConfig.model_validate(
        {
            "name": "light",
            "seed": seed,
            "device": "cpu",
            "threads": 1,
            "knowledge": [str(ONTOLOGY)],
            "data": {"format": "shards", "readers": READERS, "train": {"shards": str(shards)}},
            "model": {
                "backbone": "lite0",
                "pretrained": False,
                "image_size": SIZE,
                "max_size": SIZE,
                "proposals": 40,
                "sampled_boxes": 24,
                "head_features": 16,
                "fpn_channels": 16,
            },
            "train": {"steps": 100_000, "batch_size": BATCH, "warmup_steps": 20},
        }
    )


def compared(seed: int, steps: int) -> dict[str, Any]:
    """Films/s that the reader gives, that steps on films in memory take in, and that steps on shards do, in turn."""
    with tempfile.TemporaryDirectory() as place:
        shards = Path(place) / "films"
        packed(partial(pack_phantom, seed=seed, count=FEW), shards)
        streaming, in_memory = (_trainer(seed, shards, Path(place) / name) for name in ("streaming", "memory"))
        films = streaming.images
        assert isinstance(films, ShardSet)
        in_memory.films = FilmReader(list(films), StreamOrder(FEW, seed), BATCH, 0, steps)
        rates: dict[str, list[float]] = {"reader": [], "memory": [], "shards": []}
        for turn in range(4):
            first = turn * steps
            for name, trainer in (("memory", in_memory), ("shards", streaming)):
                rates[name].append(BATCH / statistics.median(trainer.time_steps(first, steps)))
            reader = FilmReader(films, StreamOrder(FEW, seed), BATCH, READERS, first + steps)
            started = time.perf_counter()
            for step in range(first, first + steps):
                reader.films(step)
            rates["reader"].append(steps * BATCH / (time.perf_counter() - started))
            reader.close()
    found = {name: round(statistics.median(each[1:]), 2) for name, each in rates.items()}  # the first turn warms up
    return found | {
        "reader / training": round(found["reader"] / found["memory"], 3),
        "shards / memory": round(found["shards"] / found["memory"], 4),
    }


def _trainer(seed: int, shards: Path, out: Path) -> Trainer:
    trainer = open_trainer(config_of(seed, shards), out)
    trainer.prepare(resume=False)
    return trainer


def main() -> None:
    torch.set_num_threads(1)
    what, seed, *rest = sys.argv[1:]
    measure, count = {"index": (indexed, INDEXED), "epoch": (walked, STREAMED), "speed": (compared, STEPS)}[what]
    print(json.dumps(measure(int(seed), int(rest[0]) if rest else count)))


if __name__ == "__main__":
    main()
