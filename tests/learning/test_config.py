from __future__ import annotations

from pathlib import Path

import pytest

from neurosym.errors import ConfigError
from neurosym.learning.config import load_config

ROOT = Path(__file__).parents[2]
GOOD = """name: x
knowledge: [a.ttl]
data:
  format: phantom
  train: {start: 0, count: 4}
train:
  steps: 10
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*/config.yaml")), ids=lambda p: p.parent.name)
def test_every_shipped_config_is_valid(path: Path) -> None:
    assert load_config(path).name == path.parent.name


def test_what_a_merge_brings_may_be_said_again(tmp_path: Path) -> None:
    text = GOOD + "teacher: &t {weight: 1, batch: 3}\nconstraints: {weight: 1}\n"
    merged = text.replace("constraints: {", "teacher: {<<: *t, batch: 4}\nconstraints: {").replace(
        "teacher: &t", "x: &t", 1
    )
    with pytest.raises(ConfigError, match="^[^\n]*: x: unknown setting[^\n]*$"):
        load_config(write(tmp_path, merged))


def test_overrides_are_typed_and_exponents_are_numbers(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD), ["train.lr=1e-3", "seed=7", "model.backbone=resnet18"])
    assert (config.train.lr, config.seed, config.model.backbone) == (1e-3, 7, "resnet18")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("steps", "stesp"), r"config.yaml:7: train.stesp: unknown setting; did you mean 'steps'\?"),
        (GOOD.replace("steps: 10", "steps: -1"), r"config.yaml:7: train.steps: .*greater than or equal to 1, found -1"),
        (GOOD.replace("name: x", ""), "name: is missing"),
        (GOOD.replace("[a.ttl]", "x.ttl"), "config.yaml:2: knowledge: expected a list, found 'x.ttl'"),
        (GOOD + "teacher: 1\n", "config.yaml:8: teacher: expected a section of settings, found 1"),
        (GOOD.replace("count", "cuont"), "data.train.count: is missing"),
        (GOOD.replace("count", "cuont"), r"data.train.cuont: unknown setting; did you mean 'count'\?"),
        (GOOD.replace("  train: {s", "  sise: 128\n  train: {s"), r"data.sise: unknown setting; did you mean 'size'\?"),
        (GOOD.replace("format: phantom", "format: dicom"), "'coco', 'voc', 'phantom'"),
        ("- a\n- b\n", "expected a mapping of settings"),
        ("a: [1\nb: 2", r"config.yaml:\d:\d+: YAML syntax"),
        ("a: 1\nb: 2001-13-45", "config.yaml:2:4: YAML syntax: '2001-13-45' is no timestamp"),
        ("a: !!bool maybe", "config.yaml:1:4: YAML syntax: 'maybe' is no bool"),
        ("a: 0b_", "config.yaml:1:4: YAML syntax: '0b_' is no int"),
        ("a: 0100", "config.yaml:1:4: YAML syntax: '0100' is a number to the base of 8; write it out, or in quotes"),
        ("a: 1:30", "YAML syntax: '1:30' is a number to the base of 60"),
        ('a: "\\ud800"', "YAML syntax: '.+ud800' holds half a character"),
        ("a: \0", "YAML syntax: unacceptable character #x0000: special characters are not allowed in"),
        (GOOD + "train: {lr: 1}\n", "config.yaml:8:1: YAML syntax: 'train' stands there twice"),
        (GOOD.replace("steps: 10", "steps: yes"), "config.yaml:7: train.steps: expected a number, found yes"),
        (GOOD.replace("steps: 10", "lr: on"), "config.yaml:7: train.lr: expected a number, found yes"),
        (GOOD.replace("steps: 10", "lr: .inf"), "config.yaml:7: train.lr: expected a finite number, found inf"),
        (GOOD + "model: {aspect_ratios: [1, .nan]}\n", "model.aspect_ratios.1: expected a finite number, found nan"),
        ("a: !!python/object/apply:os.system ['true']", "YAML syntax: could not determine a constructor"),
    ],
)
def test_a_mistake_names_line_setting_and_what_was_expected(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("steps: 10", "steps: ten\n  lr: -1").replace("name: x", "nam: x")
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, text))
    assert len(error.value.problems) == 4


@pytest.mark.parametrize("override", ["train.lr", "name.sub=1"])
def test_a_wrong_override_is_explained(override: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_config(write(tmp_path, GOOD), [override])


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ("teacher: {weight: 1}", "teacher.weight"),
        ("compose: {rate: 1}", "compose.rate"),
        ("energy: {weight: 1}", "energy.weight"),
    ],
)
def test_what_takes_a_box_for_an_object_of_one_class_does_not_go_with_several_labels(
    section: str, named: str, tmp_path: Path
) -> None:
    text = GOOD + "model: {kind: retinanet, multi_label: true}\n"
    assert load_config(write(tmp_path, text)).model.multi_label
    with pytest.raises(ConfigError, match=f"{named}: it takes a box for an object of one class"):
        load_config(write(tmp_path, text + section + "\n"))


def test_a_detector_of_one_class_a_box_is_not_given_several_labels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multi_label: mask_rcnn gives a box one class; set model.kind to retinanet"):
        load_config(write(tmp_path, GOOD + "model: {kind: mask_rcnn, multi_label: true}\n"))
