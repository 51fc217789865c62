"""A schedule against its stages run one by one, and what it says of mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neurosym.errors import ConfigError
from neurosym.learning.checkpoint import latest_checkpoint
from neurosym.learning.config import load_config
from neurosym.learning.schedule import Schedule, is_schedule, load_schedule
from neurosym.learning.train import train

ROOT = Path(__file__).parents[2]
TRAIN = f"""
threads: 1
knowledge: [{ROOT}/ontologies/thorax.ttl, {ROOT}/rules/thorax.rules]
data:
  format: phantom
  size: 128
  categories: [left_lung, right_lung, heart]
  train: {{start: 0, count: 4}}
  val: {{start: 200, count: 2}}
model: {{image_size: 96, max_size: 96, proposals: 40, sampled_boxes: 24, head_features: 32, fpn_channels: 32}}
train: {{steps: 2, batch_size: 2, warmup_steps: 1}}
"""


def written(folder: Path, stages: str, more: str = "") -> Path:
    path = folder / "schedule.yaml"
    shared = TRAIN.strip().replace("\n", "\n  ")
    path.write_text(f"name: two\ntrain:\n  {shared}\nstages:\n{stages}\n{more}")
    return path


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def test_a_schedule_is_its_stages_one_after_the_other(tmp_path: Path) -> None:
    path = written(tmp_path, "  - {name: first}\n  - {name: second, set: [train.lr=1e-3, train.steps=3]}")
    told: list[tuple[str, int, int]] = []
    found = load_schedule(path).run(
        tmp_path / "out", lambda stage, done, total, note: told.append((stage, done, total))
    )

    plain = tmp_path / "plain.yaml"
    plain.write_text("name: alone\n" + TRAIN)
    train(load_config(plain), tmp_path / "a")
    train(load_config(plain, ("train.lr=1e-3", "train.steps=3", f"initial={tmp_path / 'a'}")), tmp_path / "b")
    assert same(weights(tmp_path / "out" / "first"), weights(tmp_path / "a"))
    assert same(weights(tmp_path / "out" / "second"), weights(tmp_path / "b"))
    assert told == [("first", 1, 2), ("first", 2, 2), *(("second", k, 3) for k in (1, 2, 3))]

    assert [c.stage for c in found] == ["first", "second"]
    assert [c.steps for c in found] == [2, 3]
    first, second = found
    assert first.gain_ap is None
    assert first.ap is not None
    assert second.ap is not None
    assert second.gain_ap == pytest.approx(second.ap - first.ap, abs=1e-4)
    assert json.loads((tmp_path / "out" / "contributions.json").read_text())[1]["stage"] == "second"


class Killed(Exception):
    pass


def test_a_killed_schedule_goes_on_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    stages = "  - {name: first}\n  - {name: second, set: [train.steps=3, train.checkpoint_every=1]}"
    path = written(tmp_path, stages, 'validate: ""')

    def kill(stage: str, done: int, total: int, note: str) -> None:
        if (stage, done) == ("second", 2):
            raise Killed

    with pytest.raises(Killed):
        load_schedule(path).run(tmp_path / "killed", kill)
    told: list[tuple[str, int]] = []
    load_schedule(path).run(tmp_path / "killed", lambda stage, done, total, note: told.append((stage, done)))
    assert told == [("second", 3)]
    load_schedule(path).run(tmp_path / "whole")
    assert same(weights(tmp_path / "killed" / "second"), weights(tmp_path / "whole" / "second"))


def test_a_mistake_in_a_stage_names_the_stage_and_the_nearest_setting(tmp_path: Path) -> None:
    path = written(tmp_path, "  - {name: first}\n  - {name: second, set: [train.step=3]}")
    with pytest.raises(ConfigError, match=r"stage 'second': train.step: unknown setting; did you mean 'steps'"):
        load_schedule(path)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("  - {name: one}\n  - {name: one}", "two are called 'one'"),
        ("  - {name: pretrain}", "'pretrain' is the name of the pretraining"),
        ("  - {name: one, sets: []}", "did you mean 'set'"),
        ("  []", "at least 1 item"),
    ],
)
def test_wrong_stages_are_refused_before_anything_runs(stages: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_schedule(written(tmp_path, stages))


def test_a_pretraining_of_another_backbone_is_refused(tmp_path: Path) -> None:
    more = "pretrain: {backbone: resnet18, images: [{folder: films}]}"
    with pytest.raises(ConfigError, match="pretrain.backbone: resnet18, but the stages train a lite0"):
        load_schedule(written(tmp_path, "  - {name: one}", more))


def test_a_schedule_is_told_from_a_training_config(tmp_path: Path) -> None:
    assert is_schedule(written(tmp_path, "  - {name: one}"))
    assert not is_schedule(ROOT / "experiments" / "phantom" / "config.yaml")
    assert not is_schedule(tmp_path / "no-such-file.yaml")


def test_damaged_contributions_are_named_and_the_cure_told(tmp_path: Path) -> None:
    schedule = load_schedule(written(tmp_path, "  - {name: one}"))
    assert isinstance(schedule, Schedule)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "contributions.json").write_text("[{]")
    with pytest.raises(ConfigError, match="contributions.json: cannot be read.*delete it"):
        schedule.run(tmp_path / "out")


def test_the_first_stage_starts_from_the_pretrained_backbone(tmp_path: Path) -> None:
    more = """pretrain:
  threads: 1
  backbone: resnet18
  images: [{phantom: {start: 900, count: 6}}]
  views: {size: 32, local_size: 32, local_crops: 0}
  train: {steps: 2, batch_size: 3}
  swav: {prototypes: 4, queue: 0}
"""
    path = written(tmp_path, "  - {name: one}\n  - {name: two, set: [seed=1]}", more + 'validate: ""')
    path.write_text(path.read_text().replace("model: {", "model: {backbone: resnet18, "))
    load_schedule(path).run(tmp_path / "out")
    plain = tmp_path / "plain.yaml"
    plain.write_text(("name: alone\n" + TRAIN).replace("model: {", "model: {backbone: resnet18, "))
    weights_file = tmp_path / "out" / "pretrain" / "backbone.safetensors"
    train(load_config(plain, (f"model.weights={weights_file}",)), tmp_path / "a")
    assert same(weights(tmp_path / "out" / "one"), weights(tmp_path / "a"))
    assert not same(weights(tmp_path / "out" / "two"), weights(tmp_path / "a"))
