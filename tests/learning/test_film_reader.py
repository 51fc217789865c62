"""Films of a step read ahead by threads and shared out to processes: the order that one reader would have, whoever reads."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from neurosym.data.film_order import StreamOrder
from neurosym.data.shard_films import split_films
from neurosym.data.shard_pack import pack
from neurosym.errors import ConfigError, DataError
from neurosym.knowledge import Knowledge
from neurosym.learning.batches import batch_indices
from neurosym.learning.checkpoint import latest_checkpoint
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.distribution import World
from neurosym.learning.film_reader import AHEAD, FilmReader, dealt
from neurosym.learning.sampling import uniform_order
from neurosym.learning.train import train

ROOT = Path(__file__).parents[2]
CONFIG = f"""
name: tiny
threads: 1
knowledge: [{ROOT}/ontologies/thorax.ttl]
data:
  format: phantom
  size: 64
  train: {{start: 0, count: 6}}
  unlabelled: {{start: 50, count: 5}}
model:
  {{image_size: 64, max_size: 64, proposals: 40, sampled_boxes: 24, head_features: 16, fpn_channels: 16, pretrained: false}}
train: {{steps: 4, batch_size: 2, warmup_steps: 1, checkpoint_every: 2}}
teacher: {{weight: 0.5, start: 1, batch: 1}}
"""


class Numbered(Sequence[int]):
    """Films that are their own numbers; some cannot be read, and each takes its time."""

    def __init__(self, count: int, broken: int = -1) -> None:
        self.count, self.broken, self.read = count, broken, list[int]()
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        time.sleep(0.0003 * (index % 3 == 0))
        with self.lock:
            self.read.append(index)
        if index == self.broken:
            raise DataError(f"film {index} cannot be read")
        return index


@settings(max_examples=40)
@given(
    count=st.integers(1, 60),
    batch=st.integers(1, 5),
    ranks=st.integers(1, 5),
    parts=st.integers(1, 3),
    readers=st.integers(0, 4),
    resumed_at=st.integers(0, 30),
    seed=st.integers(0, 3),
)
def test_processes_and_threads_show_each_film_of_an_epoch_once_from_wherever_they_begin(
    count: int, batch: int, ranks: int, parts: int, readers: int, resumed_at: int, seed: int
) -> None:
    order, steps = StreamOrder(count, seed), resumed_at + 8
    shown: list[list[int]] = []
    for rank in range(ranks):
        own = dealt(order, World(rank, ranks), parts)
        reader = FilmReader(Numbered(count), own, ranks * parts * batch, readers, steps, parts)  # type: ignore[arg-type]
        moments = [(step, part) for step in range(resumed_at, steps) for part in range(parts)]
        shown.append([n for step, part in moments for n in reader.films(step, part)[1]])  # type: ignore[misc]
        reader.close()
    together = [
        n for moment in zip(*(np.array(s).reshape(-1, batch) for s in shown), strict=True) for n in np.ravel(moment)
    ]
    batch *= parts
    first, last = resumed_at * batch * ranks, steps * batch * ranks
    epochs = {
        e: order(count, e) for e in range(first // count, -(-last // count))
    }  # of an epoch a step: the plain truth
    assert together == [epochs[p // count][p % count] for p in range(first, last)]
    for epoch, wanted in epochs.items():
        own = [n for place, n in zip(range(first, last), together, strict=True) if place // count == epoch]
        assert len(own) == len(set(own))
        assert set(own) <= set(wanted) == set(range(count))


def test_only_the_next_steps_are_read_ahead_and_none_after_the_last() -> None:
    films = Numbered(1000)
    reader = FilmReader(films, StreamOrder(1000, 0), 4, 2, steps=20)  # type: ignore[arg-type]
    reader.films(0)
    reader.films(10)
    for step in range(17, 20):
        reader.films(step)
    reader.close()
    order = StreamOrder(1000, 0)
    near = {n for step in (0, 10, *range(17, 20)) for s in range(step, step + 1 + AHEAD) if s < 20 for n in order(4, s)}
    assert set(films.read) <= near
    assert {n for s in (0, 10, 17, 18, 19) for n in order(4, s)} <= set(films.read)


@pytest.mark.parametrize("readers", [0, 3])
def test_a_film_that_cannot_be_read_stops_the_run_at_its_own_step(readers: int) -> None:
    order = StreamOrder(30, 1)
    films = Numbered(30, broken=order(2, 5)[1])
    reader = FilmReader(films, order, 2, readers, 15)  # type: ignore[arg-type]
    for step in range(5):
        assert reader.films(step)[1] == order(2, step)
    with pytest.raises(DataError, match="cannot be read"):
        reader.films(5)
    assert reader.films(6)[1] == order(2, 6)
    reader.close()


def test_films_of_files_keep_the_order_that_they_had() -> None:
    films = Numbered(7)
    assert [uniform_order(films, 3)(2, s) for s in range(9)] == [batch_indices(7, 2, s, 3) for s in range(9)]  # type: ignore[arg-type]


# --- training -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path: Path, thorax: Knowledge) -> tuple[Path, Path]:
    """Shards of a train and an unlabelled split."""
    (tmp_path / "phantom.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "phantom.yaml")
    for split in ("train", "unlabelled"):
        pack(split_films(config.data, split, config.base, thorax), tmp_path / split, 20_000)  # type: ignore[arg-type]
    return tmp_path / "train", tmp_path / "unlabelled"


def config_of(tmp_path: Path, *overrides: str) -> TrainConfig:
    data = "data={format: shards, train: {shards: train}, unlabelled: {shards: unlabelled}}"
    return load_config(tmp_path / "phantom.yaml", [data, *overrides])


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / "training.safetensors")


class Killed(Exception):
    pass


def kill(step: int, steps: int, terms: dict[str, float]) -> None:
    if step == 3:
        raise Killed


def test_a_run_on_shards_ends_the_same_however_many_threads_read_when_it_is_resumed_and_lists_damaged_films(
    packed: tuple[Path, Path], tmp_path: Path
) -> None:
    films = np.load(packed[0] / "films.npy")
    for n in (1, 4):
        with (packed[0] / f"shard-{films[n]['shard']:05d}.tar").open("r+b") as file:
            file.seek(int(films[n]["offset"]) + 700)
            file.write(b"damaged")
    whole, killed, resumed = (config_of(tmp_path, "data.on_unreadable=skip", f"data.readers={n}") for n in (0, 3, 1))
    train(whole, tmp_path / "whole")
    with pytest.raises(Killed):
        train(killed, tmp_path / "parts", progress=kill)
    run = train(resumed, tmp_path / "parts", resume=True)
    own, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(own[k], other[k]) for k in own)
    for lines in ((tmp_path / out / "skipped.txt").read_text().splitlines() for out in ("whole", "parts")):
        assert [line.split(": ")[1] for line in lines] == ["film 'phantom-000001'", "film 'phantom-000004'"]
        assert all("is not what was packed" in line for line in lines)
    assert [json.loads(line)["step"] for line in (run.path / "log.jsonl").read_text().splitlines()] == [1, 2, 3, 4]
    with pytest.raises(ConfigError, match="other settings of data"):
        train(config_of(tmp_path, "data.train.limit=5"), tmp_path / "parts", resume=True)


def test_a_wrong_setting_of_shards_is_told_with_the_nearest_known_one(
    packed: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"data.reader: unknown setting; did you mean 'readers'"):
        config_of(tmp_path, "data.reader=3")
    with pytest.raises(ConfigError, match=r"data.train.shard: unknown setting; did you mean 'shards'"):
        config_of(tmp_path, "data.train={shard: x, shards: y}")
