"""Several processes against one: the same batches, the same losses, the same weights."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from neurosym.cli import app
from neurosym.errors import ConfigError, TrainingError
from neurosym.learning.batches import batch_indices
from neurosym.learning.checkpoint import latest_checkpoint, load_checkpoint
from neurosym.learning.class_thresholds import ClassThresholds
from neurosym.learning.comatch import MemoryBank
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.distribution import ALONE, Merges, World
from neurosym.learning.train import OVERFLOWS, open_trainer, train
from neurosym.models.backbones import Pyramid, build_backbone
from neurosym.models.centroids import CentroidBank
from neurosym.models.config import DetectorConfig
from neurosym.models.label_enhancement import ObjectMemory
from tests.learning.one_of_two import run_as

ROOT = Path(__file__).parents[2]
CONFIG = f"""
name: tiny
threads: 1
device: cpu
knowledge: [{ROOT}/ontologies/thorax.ttl, {ROOT}/rules/thorax.rules]
data:
  format: phantom
  size: 96
  categories: [left_lung, right_lung, heart, ground_glass_opacity]
  train: {{start: 0, count: 8}}
  unlabelled: {{start: 100, count: 4}}
model: {{image_size: 96, max_size: 96, proposals: 40, sampled_boxes: 24, head_features: 32, fpn_channels: 32}}
train: {{steps: 4, batch_size: 4, warmup_steps: 1, checkpoint_every: 2}}
"""
PLAIN = ("model.kind=retinanet", "train.augment=false")
"""What a film adds to the loss of a RetinaNet does not depend on the films beside it, and nothing is drawn at random."""
EVERYTHING = (
    "model.inexact={posterior: true, filter: true, adversary: 0.1, start: 1}",
    "model.classification={loss: label_enhancement, start: 1}",
    "model.embedding=16",
    "constraints={weight: 0.5, warmup_steps: 1, learn_confidence: true}",
    "teacher={weight: 0.5, start: 1, batch: 2, threshold: 0.05, adaptive: true, strong: true, jitters: 2}",
    "refiner={enabled: true, films: 4, scenes: 20, steps: 4, hidden: 16, rounds: 1, warmup_steps: 0}",
    "compose={rate: 1.0, unlabelled: true}",
    "energy={weight: 0.1, start_after_updates: 0, warmup_steps: 0}",
    "comatch={weight: 0.1, bank: 64}",
)


def config_of(tmp_path: Path, *overrides: str) -> TrainConfig:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return load_config(path, overrides)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / "model.safetensors")


def torchrun(tmp_path: Path, out: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    config_of(tmp_path)
    settings = [part for o in overrides for part in ("--set", o)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    program = ["-m", "neurosym", "train", str(tmp_path / "config.yaml"), "--out", str(out), "--resume", *settings]
    return subprocess.run([*launch, *program], capture_output=True, text=True, cwd=ROOT, timeout=400, check=False)


def in_two_processes(tmp_path: Path, out: Path, *overrides: str) -> list[int | None]:
    """Exit codes of `neurosym train` in two processes like torchrun's, but forked from one that has imported torch."""
    config_of(tmp_path)
    settings = [part for o in overrides for part in ("--set", o)]
    words = ["train", str(tmp_path / "config.yaml"), "--out", str(out), "--resume", *settings]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["neurosym.cli", "neurosym.learning.train"])
    started = [forks.Process(target=run_as, args=(rank, port, words), daemon=True) for rank in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(300)
    return [process.exitcode for process in started]


@given(
    size=st.integers(1, 4), parts=st.integers(1, 3), each=st.integers(0, 3), data=st.lists(st.integers(), min_size=36)
)
def test_the_shares_of_a_batch_are_the_batch_dealt_without_repeats_or_gaps(
    size: int, parts: int, each: int, data: list[int]
) -> None:
    batch = data[: size * parts * each]
    dealt = [World(rank, size).share(batch, part, parts) for part in range(parts) for rank in range(size)]
    assert all(len(share) == each for share in dealt)
    assert [item for share in dealt for item in share] == batch


def test_a_batch_that_cannot_be_dealt_evenly_is_refused_with_the_nearest_that_can(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.batch_size: 5 images cannot be dealt evenly to 2 processes; 4 can"):
        World(0, 2).require_even(5, "train.batch_size")
    with pytest.raises(
        ConfigError, match=r"4 images cannot be dealt .* 1 processes × 3 parts \(train.accumulate\); 3 can"
    ):
        train(config_of(tmp_path, "train.accumulate=3"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_processes_learn_what_one_does_from_the_same_batches(tmp_path: Path) -> None:
    train(config_of(tmp_path, *PLAIN), tmp_path / "one")
    assert in_two_processes(tmp_path, tmp_path / "two", *PLAIN) == [0, 0]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=2e-4)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    start = open_trainer(config_of(tmp_path, *PLAIN), tmp_path / "none").model.state_dict()
    apart, gone = (
        torch.cat([(one[k] - other[k]).float().flatten() for k in one if one[k].is_floating_point()]).norm()
        for other in (two, start)
    )
    assert gone > 0
    assert apart < 0.05 * gone


def test_two_processes_judge_the_films_as_one_does(tmp_path: Path) -> None:
    settings = (
        "model.inexact={posterior: true, mixed: true, start: 1}",
        "train.sampling=quality",
        "train.quality_start=2",
    )
    train(config_of(tmp_path, *settings, "train.steps=2"), tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    train(config_of(tmp_path, *settings, "train.steps=3"), tmp_path / "one", resume=True)
    assert in_two_processes(tmp_path, tmp_path / "two", *settings, "train.steps=3") == [0, 0]
    one, two = (
        load_checkpoint(latest_checkpoint(tmp_path / run / "checkpoints")).guidance["film_quality"]  # type: ignore[arg-type]
        for run in ("one", "two")
    )
    assert one.unique().numel() == 8
    assert two.tolist() == pytest.approx(one.tolist(), abs=1e-5)


def test_a_batch_seen_in_parts_teaches_what_it_does_in_one(tmp_path: Path) -> None:
    train(config_of(tmp_path, *PLAIN), tmp_path / "whole")
    train(config_of(tmp_path, *PLAIN, "train.accumulate=2"), tmp_path / "parts")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=2e-4)


def test_a_step_in_parts_counts_once_for_whatever_starts_after_some_steps(tmp_path: Path) -> None:
    settings = ("train.accumulate=2", "model.inexact={posterior: true, start: 3}", "energy={weight: 0.1, updates: 2}")
    run = train(config_of(tmp_path, *settings, "train.steps=2"), tmp_path / "run")
    state = load_checkpoint(latest_checkpoint(run.path / "checkpoints"))  # type: ignore[arg-type]
    assert int(state.model["inexact.steps"]) == 2
    assert int(state.guidance["energy.updates"]) == 4


def test_all_that_knowledge_and_inexact_boxes_learn_stays_the_same_on_two_processes_and_goes_on_on_one(
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    # processes compare their weights before they save
    assert in_two_processes(tmp_path, out, *EVERYTHING, "train.steps=3") == [0, 0]
    state = load_checkpoint(latest_checkpoint(out / "checkpoints"))  # type: ignore[arg-type]
    assert state.step == 3
    assert len(state.random) == 2
    assert not torch.equal(*state.random)
    assert float(state.model["inexact.bank.centroids"].abs().sum()) > 0
    assert int(state.model["inexact.steps"]) == 3
    assert any(k.startswith("energy.network") for k in state.guidance)
    assert any(k.startswith("refiner.") for k in state.guidance)
    run = train(config_of(tmp_path, *EVERYTHING, "train.steps=4"), out, resume=True)
    assert run.step == 4
    assert len(losses(out)) == 4


def test_a_process_that_alone_fails_ends_the_run_and_says_why(
    tmp_path: Path, coco_folder: Callable[..., tuple[Path, Path]]
) -> None:
    annotations, images = coco_folder(4)
    damaged = sorted(images.iterdir())[batch_indices(4, 4, 0, 0)[3]]  # the second process draws it
    damaged.write_bytes(damaged.read_bytes()[:200])
    split = f"{{annotations: {annotations}, images: {images}}}"
    began = time.monotonic()
    told = torchrun(tmp_path, tmp_path / "run", f"data={{format: coco, train: {split}}}", *PLAIN)
    assert told.returncode != 0
    assert time.monotonic() - began < 300  # the other does not wait for ever
    said = " ".join(told.stderr.split())
    assert "process 1: error" in said
    assert damaged.name in said.replace(" ", "")
    assert not list((tmp_path / "run").glob("checkpoints/step-*"))


def test_other_commands_are_refused_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="neurosym check runs in one process; start it without torchrun"):
        app(["check", "x.ttl"], standalone_mode=False)


def test_centroids_of_several_processes_are_the_mean_of_those_that_have_seen_the_class() -> None:
    banks = [CentroidBank(2, 1, 3) for _ in range(2)]
    banks[0].feed(0, [torch.eye(3)[:, :, None]], [torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 0]])])
    banks[1].feed(0, [torch.eye(3)[:, :, None]], [torch.tensor([[0, 1.0, 0], [0, 0, 0], [0, 0, 0]])])
    states = {k: torch.stack([dict(b.named_buffers())[k] for b in banks]) for k in ("centroids", "seen")}
    banks[0].merge(states)
    assert banks[0].seen.tolist() == [[True, True, False]]
    assert torch.equal(banks[0].centroids[0], torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))


@pytest.mark.parametrize("bank", [ObjectMemory(2, 4, 3), MemoryBank(4, 3, 2)], ids=lambda b: type(b).__name__)
def test_what_is_remembered_by_the_piece_is_that_of_the_first_process(bank: torch.nn.Module) -> None:
    assert isinstance(bank, Merges)
    before = {k: v.clone() for k, v in bank.named_buffers()}
    first = {k: torch.ones_like(v) for k, v in before.items()}
    bank.merge({k: torch.stack([first[k], torch.full_like(v, 7)]) for k, v in before.items()})
    assert all(torch.equal(v, first[k]) for k, v in bank.named_buffers())


def test_alone_nothing_is_shared() -> None:
    layer = torch.nn.BatchNorm1d(2)
    layer.weight.grad = torch.ones(2)
    ALONE.average_gradients(layer.parameters())
    ALONE.agree([layer])
    assert torch.equal(layer.weight.grad, torch.ones(2))
    assert layer.bias.grad is None
    assert ALONE.gather(torch.arange(3)).tolist() == [[0, 1, 2]]
    thresholds = ClassThresholds(2, 0.5, 0.1, 0.9)
    thresholds.mean, thresholds.seen = torch.tensor([0.4, 0.0]), torch.tensor([1.0, 0.0])
    thresholds.agree(ALONE)
    assert thresholds.mean.tolist() == pytest.approx([0.4, 0.0])
    assert thresholds.seen.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("dtype", "away"), [(torch.bfloat16, 0.06), (torch.float16, 0.01)])
def test_a_pyramid_of_fewer_bits_gives_32_bits_that_are_nearly_the_same(dtype: torch.dtype, away: float) -> None:
    torch.manual_seed(0)
    pyramid: Pyramid = build_backbone(DetectorConfig(fpn_channels=32)).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        whole = pyramid(image)
        pyramid.precision = dtype
        fewer = pyramid(image)
    for name, level in whole.items():
        assert fewer[name].dtype == torch.float32
        assert 0 < float((fewer[name] - level).norm() / level.norm()) < away


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_training_with_fewer_bits_learns_alike_and_resumes_to_the_same_weights(tmp_path: Path, precision: str) -> None:
    settings = (*PLAIN, f"train.precision={precision!r}")
    train(config_of(tmp_path, *PLAIN), tmp_path / "whole")
    train(config_of(tmp_path, *settings), tmp_path / "fewer")
    assert losses(tmp_path / "fewer") == pytest.approx(losses(tmp_path / "whole"), rel=0.05)
    assert losses(tmp_path / "fewer") != losses(tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop(step: int, steps: int, terms: dict[str, float]) -> None:
        if step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        train(config_of(tmp_path, *settings), tmp_path / "parts", progress=stop)
    train(config_of(tmp_path, *settings), tmp_path / "parts", resume=True)
    one, parts = weights(tmp_path / "fewer"), weights(tmp_path / "parts")
    assert all(torch.equal(one[k], parts[k]) for k in one)


def test_a_gradient_that_overflows_for_ever_stops_a_run_of_16_bits(tmp_path: Path) -> None:
    trainer = open_trainer(config_of(tmp_path, *PLAIN, "train.precision='16'"), tmp_path / "run")
    for _ in range(OVERFLOWS):
        assert trainer._require_gradient(float("inf"))["loss_scale"] > 0
    with pytest.raises(TrainingError, match="no gradient of the last 31 steps is finite; set train.precision to bf16"):
        trainer._require_gradient(float("nan"))
