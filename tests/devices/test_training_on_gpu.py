"""Runs on a simulated GPU (`simulated_gpu`) end as they do on the CPU, whatever teaches the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from neurosym.learning.annotation_quality import annotation_quality
from neurosym.learning.checkpoint import latest_checkpoint
from neurosym.learning.config import TrainConfig
from neurosym.learning.predict import predict
from neurosym.learning.pretrain import pretrain
from neurosym.learning.runfolder import open_run
from neurosym.learning.strong_view import strong_view
from neurosym.learning.train import train
from tests.devices.simulated_gpu import simulated_gpu
from tests.learning import test_mixed_supervision, test_pretrain, test_train

TINY = [
    *("model.image_size=64", "model.max_size=64", "model.head_features=16", "model.fpn_channels=16"),
    "train={steps: 2, batch_size: 1, warmup_steps: 0}",
    "data.train.count=2",
    "constraints.warmup_steps=0",
]
INEXACT = ["model.inexact={posterior: true, filter: true, adversary: 0.5, start: 1}"]
TEACHER = ["teacher={weight: 1, start: 1, batch: 1, threshold: 0.2, adaptive: true}"]
GUIDED = [
    "refiner={enabled: true, films: 2, scenes: 6, steps: 2, batch: 2, hidden: 8, rounds: 1, warmup_steps: 0}",
    "energy={weight: 0.5, start_after_updates: 1, warmup_steps: 0, hidden: 8, rounds: 1}",
    *("compose.rate=1", "constraints.learn_confidence=true"),
]
KINDS = ("cascade_rcnn", "retinanet", "mask_rcnn", "fpn_segmenter")
"""Faster R-CNN is the model of all other tests here."""


def on_both(tmp_path: Path, run: Callable[[str, Path], Any]) -> list[Any]:
    """What a run gives on the CPU and on the simulated GPU; it is told the device's name and a folder of its own."""
    found = []
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        with simulated_gpu() if device == "cuda" else nullcontext():
            found.append(run(device, tmp_path / device))
    return found


def log_of(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "seconds" not in k} for line in lines]


def state_of(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the newest checkpoint."""
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return {f"{file.stem}.{k}": v for file in checkpoint.glob("*.safetensors") for k, v in load_file(file).items()}


def assert_alike(runs: list[Path]) -> None:
    assert log_of(runs[0]) == log_of(runs[1])
    states = [state_of(run) for run in runs]
    assert states[0].keys() == states[1].keys()
    assert [k for k, v in states[0].items() if not torch.equal(v, states[1][k])] == []


def trained(tmp_path: Path, settings: list[str], make: Callable[..., TrainConfig] = test_train.config_of) -> list[Path]:
    """The folders of a training on the CPU and on the simulated GPU, which are alike."""

    def run(device: str, folder: Path) -> Path:
        return train(make(folder, *settings, f"device={device}"), folder / "run").path

    runs = on_both(tmp_path, run)
    assert_alike(runs)
    return runs


@pytest.mark.parametrize(
    "settings",
    [
        *([f"model.kind={kind}", *INEXACT] for kind in KINDS),
        [
            *INEXACT,
            "model.inexact.mixed=true",
            "train.sampling=quality",
            "train.quality_start=1",
            "train.quality_every=1",
        ],
        ["model.oamil.enabled=true", "model.oamil.start=1", "model.oamil.extension_start=1"],
        ["model.classification.loss=label_enhancement", "model.classification.start=1", "train.ema=0"],
        ["model.kind=retinanet", "model.multi_label=true", "constraints.semantics=exact"],
    ],
    ids=lambda settings: " ".join(settings[:1]),
)
def test_a_model_learns_the_same(tmp_path: Path, settings: list[str]) -> None:
    trained(tmp_path, [*TINY, *settings])


def test_it_learns_the_same_from_every_kind_of_supervision(tmp_path: Path) -> None:
    marks = ["model.kind=mask_rcnn", "train.steps=3", "weak.warmup_steps=0", "teacher.start=1", "teacher.strong=false"]
    runs = trained(tmp_path, marks, test_mixed_supervision.mixed)
    told = {k for line in log_of(runs[1]) for k in line}
    assert {"loss_weak_label", "loss_weak_tag", "loss_weak_mark", "loss_weak_negative"} <= told


def test_a_teacher_and_all_knowledge_teach_the_same_after_a_resumption_on_another_device(tmp_path: Path) -> None:
    comatch = ["comatch.weight=1", "comatch.foreground=0.05", "model.embedding=16", "teacher.jitters=2"]
    settings = [*TINY, *TEACHER, *GUIDED, *comatch, "train.checkpoint_every=1"]

    class Killed(Exception):
        pass

    def kill(step: int, steps: int, terms: dict[str, float]) -> None:
        if step == 2:
            raise Killed

    def run(device: str, folder: Path) -> tuple[Path, Any]:
        config = test_train.config_of(folder, *settings, "train.steps=3", f"device={device}")
        with pytest.raises(Killed):
            train(config, folder / "run", progress=kill)
        path = train(config, folder / "run", resume=True).path
        opened = open_run(path)
        return path, predict(opened, opened.images("test"))

    (one, seen), (other, told) = on_both(tmp_path, run)
    assert_alike([one, other])
    assert seen == told
    losses = log_of(other)[-1]
    assert {"energy_ranked", "loss_consistency", "pseudo_loss_classifier"} <= losses.keys()


@pytest.mark.parametrize(
    "settings",
    [
        ["model.kind=faster_rcnn", "data.degrade={how: uniform, r: 0.3}"],
        ["model.kind=fpn_segmenter", "data.degrade={how: coarse_mask, shape: dilate, r: 0.2}"],
    ],
    ids=lambda settings: settings[0],
)
def test_annotations_are_judged_alike(tmp_path: Path, settings: list[str]) -> None:
    """By a model that was trained on the CPU, for its run may go on anywhere."""
    posterior = ["model.inexact.posterior=true", "model.inexact.start=1"]
    folder = train(test_train.config_of(tmp_path, *TINY, *settings, *posterior, "device=cpu"), tmp_path / "run").path

    def judge(device: str, _: Path) -> Any:
        run = open_run(folder)
        opened = replace(run, config=run.config.model_copy(update={"device": device}))
        return annotation_quality(opened, samples=run.images("train"))

    one, other = on_both(tmp_path, judge)
    assert len(one) > 0
    assert one == other


@pytest.mark.parametrize("method", ["swav", "byol"])
def test_a_backbone_is_pretrained_alike(tmp_path: Path, method: str) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "films").mkdir()
    for n in range(8):
        Image.fromarray(rng.integers(0, 256, (40, 48), dtype=np.uint8)).save(tmp_path / f"films/{n}.png")

    def run(device: str, folder: Path) -> Path:
        fewer = {"train": {"steps": 2}, "swav": {"queue": 4}}
        config = test_pretrain.settings(tmp_path, method=method, device=device, **fewer)
        return pretrain(config, folder / "run").path

    runs = on_both(tmp_path, run)
    # norms over a batch are summed in another order
    pairs = zip(*(log_of(r) for r in runs), strict=True)
    assert all(one == pytest.approx(other, abs=2e-3) for one, other in pairs)
    assert load_file(runs[1] / "backbone.safetensors").keys() == load_file(runs[0] / "backbone.safetensors").keys()


def test_the_strong_view_of_an_image_is_the_same() -> None:
    image = torch.rand(3, 16, 16)
    for seed in range(8):
        wanted = strong_view(image, np.random.default_rng(seed))
        with simulated_gpu() as gpu:
            assert torch.equal(strong_view(image.to(gpu), np.random.default_rng(seed)).cpu(), wanted)


def test_what_is_trained_beside_the_model_does_not_seed_the_gpu_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    masks = "instances.enabled=true instances.films=2 instances.groups=1 instances.steps=1 instances.hidden=8"
    settings = [*TINY, *TEACHER, *GUIDED, "model.kind=mask_rcnn", *masks.split(), "seed=5", "device=cpu"]
    train(test_train.config_of(tmp_path, *settings), tmp_path / "run")
    assert seeded == [5]
