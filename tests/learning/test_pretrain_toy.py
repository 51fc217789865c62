"""Seconds of pretraining on films of three textures, under exposures that hide them from an untrained network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from neurosym.learning.pretrain import Pretrainer
from neurosym.learning.pretrain_config import PretrainConfig

SIDE, FILMS, STEPS = 40, 330, 45


def texture(number: int, rng: np.random.Generator) -> np.ndarray:
    """Columns, rows or a chessboard of faint waves, on a slanted background, under grain and a random exposure."""
    y, x = np.mgrid[:SIDE, :SIDE]
    one, other = 2 * np.pi * rng.uniform(0, 1, 2)
    wave = 2 * np.pi / 6
    faint = [np.sin(wave * x + one), np.sin(wave * y + one), np.sin(wave * x + one) * np.sin(wave * y + other)][
        number % 3
    ]
    slant = rng.uniform(-0.3, 0.3) * (x / SIDE - 0.5) + rng.uniform(-0.3, 0.3) * (y / SIDE - 0.5)
    film = rng.uniform(0.3, 0.7) + slant + rng.uniform(0.08, 0.2) * faint + rng.normal(0, 0.1, (SIDE, SIDE))
    return (255 * np.clip(film, 0.01, 1) ** rng.uniform(0.6, 1.6)).astype(np.uint8)


def test_pretraining_makes_films_of_a_kind_neighbours(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["file_name,kind"]
    for n in range(FILMS):
        Image.fromarray(texture(n, rng)).save(folder / f"{n:03d}.png")
        rows.append(f"{n:03d}.png,{'abc'[n % 3]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    views = {
        "size": 32,
        "scale": [0.5, 1.0],
        "local_crops": 0,
        "gamma": 1.8,
        "brightness": 0.2,
        "noise": 0.1,
        "blur": 0,
    }
    config = PretrainConfig.model_validate(
        {
            "name": "toy",
            "threads": 1,
            "base": tmp_path,
            "images": [{"folder": "films"}],
            "backbone": "resnet18",
            "hidden": 64,
            "embedding": 32,
            "views": views | {"rotation": 4},
            "train": {"steps": 100, "batch_size": 32, "lr": 2e-3, "warmup_steps": 5},
            "swav": {"prototypes": 24, "queue": 64, "queue_start": 5, "frozen_steps": 5, "epsilon": 0.03},
            "probe": {
                "table": "labels.csv",
                "images": "films",
                "label_column": "kind",
                "test": 0.35,
                "neighbours": 5,
                "size": SIDE,
            },
        }
    )
    trainer = Pretrainer(config, tmp_path / "run")
    assert trainer.probe is not None
    assert len(trainer.reader.pool) == FILMS - len(trainer.probe.held_out)
    before = trainer.probed()
    losses = [trainer.train_step()["loss"] for _ in range(STEPS)]  # the first half of what the rate falls over
    after, seen = trainer.probed(), trainer.monitor()
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert before["probe_knn"] < 0.75
    assert after["probe_knn"] > before["probe_knn"] + 0.1, (before, after)
    assert seen["rank"] > 3
    assert seen["std"] > 0.3
