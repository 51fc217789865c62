"""The full-scale configs of experiments/siim-covid run as they are written, on generated films in the data set's layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from neurosym.data.config import CocoData
from neurosym.data.degrade import degradation
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.train import train
from neurosym.loop import Stages
from neurosym.models.build import build_model

FOLDER = Path(__file__).parents[1] / "experiments/siim-covid"
CONFIGS = ("faster.yaml", "cascade.yaml", "retinanet.yaml")
FILMS = {"train": (0, 1, 6), "val": (8,), "test": (9, 10)}
OPACITIES = ("ground_glass_opacity", "consolidation")
SMALL = (
    "model.backbone=resnet18",
    "model.image_size=64",
    "model.max_size=96",
    "model.fpn_channels=32",
    "model.proposals=30",
    "train.steps=2",
    "train.batch_size=2",
    "train.warmup_steps=1",
    "threads=1",
)
NOISE = "data.degrade={how: uniform, r: 0.3}"
CURE = "model.inexact={posterior: true, filter: true, adversary: 0.1, start: 1}"


@pytest.fixture
def siim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Generated films as the README lays the data set out: every opacity a box of one category, the study an attribute."""
    folder = tmp_path / "data/siim"
    (folder / "images").mkdir(parents=True)
    films = Phantom(0, 11, PhantomConfig(size=96))
    for split, numbers in FILMS.items():
        data: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "opacity"}]}
        for number in numbers:
            film, name = films[number], f"{number:03d}.png"
            Image.fromarray(film.image).save(folder / "images" / name)
            study = min(film.labels - {"cardiomegaly"})
            size = {"width": 96, "height": 96, "attributes": {"study": study}}
            data["images"].append({"id": number, "file_name": name} | size)
            for a in film.annotations:
                if a.name in OPACITIES:
                    box = [a.box.x1, a.box.y1, a.box.width, a.box.height]
                    known = {"id": len(data["annotations"]) + 1, "image_id": number, "category_id": 1}
                    data["annotations"].append(known | {"bbox": box})
        (folder / f"{split}.json").write_text(json.dumps(data), encoding="utf-8")
    monkeypatch.setenv("NEUROSYM_DATA", str(folder.parent))
    return folder


def small(name: str, *more: str) -> TrainConfig:
    heads = () if name == "retinanet.yaml" else ("model.head_features=32", "model.sampled_boxes=16")
    return load_config(FOLDER / name, (*SMALL, *heads, *more))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_trains_and_is_evaluated_with_the_cure_on_inexact_boxes(name: str, siim: Path, tmp_path: Path) -> None:
    run = train(small(name, NOISE, CURE), tmp_path / "run")
    assert run.step == 2
    terms = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert all("loss_votes" in t for t in terms)
    assert any("adversary" in k for k in terms[1])
    result = Stages.of(tmp_path / "run").evaluate()
    assert list(result["per_class"]) == ["opacity"]
    assert result["images"] == 2
    assert 0.0 <= result["ap"] <= result["ap50"] <= 1.0


@pytest.mark.parametrize("more", [(), (NOISE,)])
def test_the_arms_without_the_cure_run_as_well(more: tuple[str, ...], siim: Path, tmp_path: Path) -> None:
    train(small("faster.yaml", *more), tmp_path / "run")
    [first, _] = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert {k for k in first if k.startswith("loss_")} == {
        "loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg",
    }  # fmt: skip
    assert Stages.of(tmp_path / "run", "val").evaluate()["images"] == 1


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_the_paper_s_network_on_exact_boxes_and_an_arm_changes_nothing_else(name: str, siim: Path) -> None:
    config = load_config(FOLDER / name)
    assert config.model.kind == {"faster.yaml": "faster_rcnn", "cascade.yaml": "cascade_rcnn"}.get(name, "retinanet")
    assert (config.model.backbone, config.model.fpn_channels, config.device) == ("resnet50", 256, "auto")
    assert 512 <= config.model.image_size <= config.model.max_size <= 800
    assert isinstance(config.data, CocoData)
    assert config.data.degrade is None
    assert not config.model.inexact.active
    assert config.data.test is not None
    assert Path(config.data.test.annotations) == siim / "test.json"
    arm = load_config(FOLDER / name, (NOISE, CURE))
    assert arm.data.degrade == degradation("uniform", 0.3)  # type: ignore[union-attr]
    assert arm.model_dump(exclude={"data", "model"}) == config.model_dump(exclude={"data", "model"})
    assert arm.model.model_dump(exclude={"inexact"}) == config.model.model_dump(exclude={"inexact"})


def test_the_three_configs_differ_in_the_network_alone(siim: Path) -> None:
    first, *others = [load_config(FOLDER / name) for name in CONFIGS]
    for other in others:
        assert other.model_dump(exclude={"name", "model"}) == first.model_dump(exclude={"name", "model"})
        shared = {"image_size", "max_size", "anchor_scale", "proposals", "fpn_channels", "backbone"}
        assert other.model.model_dump(include=shared) == first.model.model_dump(include=shared)
    assert len({type(build_model(small(name).model, ["opacity"], load=False)) for name in CONFIGS}) == 3
