"""One step of our SwAV training and one of lightly's, in turn; prints films/s, the ratio, and the ratio of peak memory as JSON.

    python step.py BACKBONE SEED [ROUNDS]

lightly's is its documented example (docs.lightly.ai/examples/swav.html, the plain PyTorch loop): LightlyDataset,
SwaVTransform, DataLoader, SwaVProjectionHead, SwaVPrototypes, SwaVLoss, Adam. Both read the same 64 films of 256 px from disk,
have the same trunk, widths, prototypes and crops (2 of 96 px, 4 of 48 px), and no queue. Time is CPU time of a whole step:
reading, views, forward, backward, update. Memory is by how much a process, forked before anything is computed, grows at its
peak in two steps.
"""

from __future__ import annotations

import gc
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

import torch
from lightly.data import LightlyDataset
from lightly.loss import SwaVLoss
from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes
from lightly.transforms.swav_transform import SwaVTransform
from PIL import Image
from torch import Tensor, nn

from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.learning.pretrain import Pretrainer
from neurosym.learning.pretrain_config import PretrainConfig
from neurosym.models.backbones import build_trunk

BATCH, LARGE, SMALL, LOCAL, HIDDEN, EMBEDDING, PROTOTYPES, FILMS = 16, 96, 48, 4, 512, 128, 128, 64
MEMORY_STEPS, ROUNDS = 2, 2
SCALES = ((0.3, 1.0), (0.05, 0.3))


class LightlysSwav(nn.Module):
    """The model of lightly's example around our trunk."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.trunk, channels = build_trunk(backbone, nn.BatchNorm2d)  # type: ignore[arg-type]
        self.projection_head = SwaVProjectionHead(channels[-1], HIDDEN, EMBEDDING)
        self.prototypes = SwaVPrototypes(EMBEDDING, n_prototypes=PROTOTYPES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x)["3"].mean((2, 3))
        x = nn.functional.normalize(self.projection_head(x), dim=1, p=2)
        return self.prototypes(x)


def lightlys(backbone: str, seed: int, folder: Path) -> Callable[[], float]:
    """A function that makes one step and returns its loss."""
    torch.manual_seed(seed)
    model = LightlysSwav(backbone).train()
    scales = {f"crop_{k}_scales": tuple(s[i] for s in SCALES) for i, k in enumerate(("min", "max"))}
    transform = SwaVTransform(crop_sizes=(LARGE, SMALL), crop_counts=(2, LOCAL), **scales)
    dataset = LightlyDataset(str(folder), transform=transform)
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)
    criterion, optimizer = SwaVLoss(), torch.optim.Adam(model.parameters(), lr=0.001)

    def batches() -> Iterator[list[Tensor]]:
        while True:
            for views, _, _ in loader:
                yield views

    source = batches()

    def step() -> float:
        views = next(source)
        model.prototypes.normalize()
        scores = [model(x) for x in views]
        loss = criterion(scores[:2], scores[2:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def ours(backbone: str, seed: int, folder: Path) -> Callable[[], float]:
    """The same of ours."""
    config = PretrainConfig.model_validate(
        {
            "name": "speed",
            "seed": seed,
            "images": [{"folder": str(folder)}],
            "backbone": backbone,
            "pretrained": False,
            "hidden": HIDDEN,
            "embedding": EMBEDDING,
            "views": {
                "size": LARGE,
                "local_size": SMALL,
                "local_crops": LOCAL,
                "scale": SCALES[0],
                "local_scale": SCALES[1],
            },
            "train": {"batch_size": BATCH},
            "swav": {"prototypes": PROTOTYPES, "queue": 0, "frozen_steps": 0},
        }
    )
    trainer = Pretrainer(config, folder.parent / "run")
    return lambda: trainer.train_step()["loss"]


WHICH = {"lightly": lightlys, "ours": ours}


def timed(backbone: str, seed: int, folder: Path, rounds: int) -> dict[str, float]:
    """Medians of films/s, and of the ratio of a round's two steps; the first round, which makes much once, is left out."""
    steps = {which: make(backbone, seed, folder) for which, make in WHICH.items()}
    taken: dict[str, list[float]] = {which: [] for which in WHICH}
    for turn in range(rounds + 1):
        gc.collect()
        for which, step in steps.items():
            started = time.process_time()
            loss = step()
            spent = time.process_time() - started
            assert 0 < loss < 20
            if turn:
                taken[which].append(spent)
    found = {f"{which} films/s": round(BATCH / statistics.median(times), 2) for which, times in taken.items()}
    pairs = zip(taken["lightly"], taken["ours"], strict=True)
    return found | {"throughput": round(statistics.median(a / b for a, b in pairs), 4)}


def peak() -> float:
    """MB; of this program alone, where the peak that `getrusage` tells begins with that of the program that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def grown(backbone: str, seed: int, folder: Path, which: str) -> float:
    before = peak()
    step = WHICH[which](backbone, seed, folder)
    for _ in range(MEMORY_STEPS):
        step()
    return round(peak() - before, 1)


def memory(backbone: str, seed: int, folder: Path) -> dict[str, float]:
    """Of each in a process of its own, forked from this one before it computes anything."""
    with get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        found = dict(zip(WHICH, pool.map(partial(grown, backbone, seed, folder), WHICH, chunksize=1), strict=True))
    return {f"{k} MB": v for k, v in found.items()} | {"memory": round(found["ours"] / found["lightly"], 4)}


def main() -> None:
    torch.set_num_threads(1)
    backbone, seed, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "films"
        folder.mkdir()
        for film in Phantom(0, FILMS, PhantomConfig(size=256, seed=int(seed))):
            Image.fromarray(film.image).save(folder / f"{film.image_id}.png")
        found = memory(backbone, int(seed), folder)
        found |= timed(backbone, int(seed), folder, int(rest[0]) if rest else ROUNDS)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
