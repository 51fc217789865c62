"""Training runs whose films have every kind of supervision, mixed in a batch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from neurosym.data.coco import load_coco
from neurosym.errors import DataError
from neurosym.knowledge import Knowledge
from neurosym.learning.checkpoint import latest_checkpoint
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.train import train
from neurosym.learning.weak_supervision import check_supervision
from tests.learning.test_train import CONFIG, Killed, weights

ROOT = Path(__file__).parents[2]
EIGHTHS = ("exact", "box", "inexact", "coarse_mask", "point", "scribble", "image", "none")
MIXED = f"""
name: mixed
threads: 1
knowledge: [{ROOT}/ontologies/lung-lobes.ttl, {ROOT}/rules/thorax.rules]
data:
  format: phantom
  size: 96
  categories: [left_lung, right_lung, heart, ground_glass_opacity, consolidation, nodule]
  train: {{start: 0, count: 16}}
  test: {{start: 200, count: 3}}
  supervision:
    kinds: {json.dumps(dict.fromkeys(EIGHTHS, 0.125))}
    classes: {{opacity: {{location: 0.25, image: 0.25, point: 0.25, none: 0.25}}}}
model: {{image_size: 64, max_size: 64, proposals: 30, sampled_boxes: 16, head_features: 16, fpn_channels: 16}}
train: {{steps: 6, batch_size: 5, warmup_steps: 1, checkpoint_every: 3}}
teacher: {{weight: 1, start: 2, batch: 2, threshold: 0.2, adaptive: true, adaptive_floor: 0.05, strong: true}}
weak: {{warmup_steps: 1}}
"""


def mixed(tmp_path: Path, *overrides: str) -> TrainConfig:
    path = tmp_path / "config.yaml"
    path.write_text(MIXED)
    return load_config(path, overrides)


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_all_kinds_mix_in_a_batch_and_a_killed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    config = mixed(tmp_path, "teacher.jitters=3")

    def kill(step: int, steps: int, terms: dict[str, float]) -> None:
        if step == 5:
            raise Killed

    train(config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, tmp_path / "parts", progress=kill)
    train(config, tmp_path / "parts", resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    states = [latest_checkpoint(tmp_path / n / "checkpoints") for n in ("whole", "parts")]
    learned = [load_file(s / "guidance.safetensors") for s in states if s is not None]
    assert torch.equal(learned[0]["class_thresholds.mean"], learned[1]["class_thresholds.mean"])
    assert float(learned[0]["class_thresholds.seen"].sum()) > 0
    steps = lines(tmp_path / "whole")
    kinds = ("label", "tag", "mark", "cover", "negative")
    for kind in kinds:
        values = [s[f"loss_weak_{kind}"] for s in steps if f"loss_weak_{kind}" in s]
        assert values, kind
        assert any(v > 0 for v in values), kind
    assert all(math.isfinite(v) for s in steps for v in s.values())
    assert all(s["loss_classifier"] > 0 for s in steps)
    assert any(s.get("pseudo_loss_classifier", 0) > 0 for s in steps)


@pytest.mark.parametrize("kind", ["retinanet", "mask_rcnn", "fpn_segmenter"])
def test_every_kind_of_model_learns_from_every_kind_of_supervision(tmp_path: Path, kind: str) -> None:
    train(mixed(tmp_path, f"model.kind={kind}", "train.steps=3"), tmp_path / "run")
    steps = lines(tmp_path / "run")
    assert all(math.isfinite(v) for s in steps for v in s.values())
    assert all(any(f"loss_weak_{k}" in s for s in steps) for k in ("label", "tag", "mark", "negative"))
    if kind == "mask_rcnn":
        assert any(s.get("loss_weak_stroke", 0) > 0 for s in steps)


@pytest.mark.parametrize("kind", ["faster_rcnn", "fpn_segmenter"])
def test_inexact_boxes_are_mended_beside_a_teacher_whose_labels_they_learn_nothing_from(
    tmp_path: Path, kind: str
) -> None:
    inexact = (
        "model.inexact.posterior=true",
        "model.inexact.filter=true",
        "model.inexact.start=1",
        f"model.kind={kind}",
    )
    kinds = "data.supervision={kinds: {inexact: 0.5, none: 0.5}}"
    train(mixed(tmp_path, *inexact, kinds, "train.steps=4"), tmp_path / "run")
    found = weights(tmp_path / "run")
    steps = next(v for k, v in found.items() if k.endswith(("inexact.steps", "inexact_masks.steps")))
    assert int(steps) == 4  # one of each step's labelled batch, none of the pseudo-labelled ones
    last = lines(tmp_path / "run")[-1]
    assert not any(k.startswith("pseudo_loss_votes") for k in last)
    assert any(k.startswith("pseudo_") for k in last)


def test_an_unlabelled_film_that_is_also_a_test_film_stops_the_run_or_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    leak = ("data.unlabelled={start: 198, count: 4}", "train.steps=1")
    with pytest.raises(DataError, match="unlabelled film 'phantom-000200' is also in the test split"):
        train(load_config(path, leak), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(load_config(path, (*leak, "weak.problems=report")), tmp_path / "run")
    assert "unlabelled film 'phantom-000201' is also in the test split" in caplog.text


def test_films_of_image_labels_alone_train_without_a_number_that_is_none(tmp_path: Path) -> None:
    kinds = "data.supervision={kinds: {image: 1}}"
    train(mixed(tmp_path, kinds, "teacher.weight=0", "train.steps=2", "train.batch_size=2"), tmp_path / "run")
    first = lines(tmp_path / "run")[0]
    assert first["loss_classifier"] == first["loss_objectness"] == 0
    assert first["loss_weak_label"] > 0
    assert first["loss_weak_negative"] > 0


def test_the_example_of_the_page_is_a_config(tmp_path: Path) -> None:
    page = (ROOT / "docs/supervision.md").read_text(encoding="utf-8")
    path = tmp_path / "config.yaml"
    path.write_text(page.split("```yaml\n")[1].split("```")[0])
    config = load_config(path)
    assert config.data.supervision is not None
    assert config.data.supervision.kinds["inexact"] == 0.3
    assert config.teacher.jitters == 10


def test_contradictions_of_a_file_stop_a_run_and_a_split_that_is_not_there_is_said_to_be_unchecked(
    coco_folder: Callable[..., tuple[Path, Path]], thorax: Knowledge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def change(data: dict) -> None:
        data["images"][1]["supervision"] = {"absent": ["lung"]}

    annotations, images = coco_folder(3, change)
    part = {"annotations": str(annotations), "images": str(images)}
    data = {"format": "coco", "train": part, "test": {"annotations": "nowhere.json", "images": str(images)}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "knowledge": [str(ROOT / "ontologies/thorax.ttl")], "data": data}))
    films = load_coco(annotations, images, thorax)
    with pytest.raises(DataError, match="phantom-000001: image label contradicts: 'lung' is labelled absent, but a"):
        check_supervision(load_config(path), films.names, thorax, films, films)
    check_supervision(load_config(path, ("weak.problems=report",)), films.names, thorax, films, films)
    assert "'lung' is labelled absent, but a 'right_lung' is annotated" in caplog.text
    assert "the test split cannot be read, so it is not checked for unlabelled films" in caplog.text
