"""Repeat factor sampling: LVIS's formula by hand, the counts of epochs, and an order that any step can be asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import ConfigError
from neurosym.learning.batches import batch_indices
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.sampling import RepeatFactorOrder, class_repeats, image_order, repeat_factors
from neurosym.learning.train import train
from tests.learning.killing import killed_and_whole

ROOT = Path(__file__).parents[2]
CONFIG = f"""
name: tiny
threads: 1
knowledge: [{ROOT}/ontologies/thorax.ttl]
data:
  format: phantom
  size: 96
  categories: [left_lung, heart, ground_glass_opacity, consolidation]
  train: {{start: 0, count: 6}}
model:
  {{image_size: 64, max_size: 64, proposals: 40, sampled_boxes: 24, head_features: 16, fpn_channels: 16, pretrained: false,
    classification: {{loss: label_enhancement, start: 1, ontology: 0.2}}}}
train:
  {{steps: 5, batch_size: 2, warmup_steps: 1, checkpoint_every: 2, sampling: repeat_factor, repeat_threshold: 1.0}}
"""


def config_of(tmp_path: Path, *overrides: str) -> TrainConfig:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return load_config(path, overrides)


def test_factors_are_those_of_the_paper() -> None:
    # f: cell 4/4, plate 1/4, none of the others; t = 1/2 repeats plates √2 times
    shown = [{"cell"}, {"cell", "plate"}, {"cell"}, {"cell"}]
    assert class_repeats(shown, 0.5) == pytest.approx({"cell": 1.0, "plate": 2**0.5})
    assert repeat_factors(shown, 0.5) == pytest.approx([1.0, 2**0.5, 1.0, 1.0])
    assert repeat_factors(shown, 1.0) == pytest.approx([1.0, 2.0, 1.0, 1.0])
    assert repeat_factors(shown, 0.001) == [1.0] * 4


def test_an_image_counts_by_its_rarest_class_and_one_that_shows_none_once() -> None:
    shown = [{"a", "b"}, {"b", "c"}, {"b"}, set(), {"b"}, {"b"}, {"c"}, {"b"}]  # f: a 1/8, b 6/8, c 2/8
    assert repeat_factors(shown, 0.5) == pytest.approx([2.0, 2**0.5, 1.0, 1.0, 1.0, 1.0, 2**0.5, 1.0])


@given(st.lists(st.floats(1.0, 5.0), min_size=1, max_size=12), st.integers(0, 50), st.integers(1, 5))
def test_steps_walk_through_epochs_in_which_each_image_is_as_often_as_its_factor_says(
    factors: list[float], seed: int, batch: int
) -> None:
    order = RepeatFactorOrder(factors, seed)
    expected = np.concatenate([order.epoch(e) for e in range(3)]).tolist()
    for epoch in range(3):
        counts = Counter(order.epoch(epoch).tolist())
        for image, factor in enumerate(factors):
            assert counts[image] in (int(factor), int(factor) + 1)
            assert factor % 1 or counts[image] == factor
    steps = len(expected) // batch
    walked = [i for step in range(steps) for i in order(batch, step)]
    assert walked == expected[: len(walked)]


def test_an_image_is_shown_as_often_as_its_factor_in_the_mean() -> None:
    order = RepeatFactorOrder([1.0, 1.25, 2.5, 3.9], seed=4)
    mean = np.mean([order.counts(e) for e in range(2000)], axis=0)
    assert mean == pytest.approx([1.0, 1.25, 2.5, 3.9], abs=0.05)


@given(st.integers(0, 40), st.integers(0, 5))
def test_any_step_can_be_asked_for_first(step: int, seed: int) -> None:
    factors = [1.0, 1.7, 1.0, 3.2, 1.0]
    walking = RepeatFactorOrder(factors, seed)
    before = [walking(3, s) for s in range(step + 1)]
    assert RepeatFactorOrder(factors, seed)(3, step) == before[-1]
    assert walking(3, 0) == before[0]


def test_another_seed_gives_another_order_and_epochs_differ() -> None:
    one, other = RepeatFactorOrder([1.5] * 20, 0), RepeatFactorOrder([1.5] * 20, 1)
    assert one(20, 0) != other(20, 0)
    assert one.epoch(0).tolist() != one.epoch(1).tolist()


def test_without_rare_classes_the_order_is_the_uniform_one() -> None:
    films = list(Phantom(0, 7, PhantomConfig(size=64)))
    names = ("heart", "left_lung")  # on every film
    repeated = image_order("repeat_factor", films, names, 1.0, 3)
    uniform = image_order("uniform", films, names, 1.0, 3)
    for step in range(9):
        assert repeated(2, step) == uniform(2, step) == batch_indices(7, 2, step, 3)


def test_factors_are_counted_on_the_classes_of_the_model() -> None:
    films = list(Phantom(0, 30, PhantomConfig(size=64)))
    order = image_order("repeat_factor", films, ("heart", "consolidation"), 1.0, 0)
    assert isinstance(order, RepeatFactorOrder)
    rare = [any(a.name == "consolidation" for a in film.annotations) for film in films]
    expected = (len(films) / sum(rare)) ** 0.5
    assert order.factors.tolist() == pytest.approx([expected if r else 1.0 for r in rare])
    assert 0 < sum(rare) < len(films)


def test_an_unknown_order_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="repeat_factor"):
        image_order("repeat_factors", [], (), 0.5, 0)


def test_a_killed_run_that_repeats_images_and_enhances_labels_resumes_to_the_same_weights(tmp_path: Path) -> None:
    killed, whole = killed_and_whole(config_of(tmp_path), tmp_path, 3)
    assert killed.keys() == whole.keys()
    assert all(torch.equal(killed[k], whole[k]) for k in whole)
    assert int(killed["model.net.roi_heads.classification.steps"]) == 5
    assert float(killed["model.net.roi_heads.classification.memory.features"].abs().sum()) > 0
    # the ontology has ground glass and consolidation below one class, apart from anatomy
    relations = killed["model.net.roi_heads.classification.relations"]
    assert float(relations[2, 3]) > 0.1
    assert float(relations[2, 1]) < 0.01
    with pytest.raises(ConfigError, match=r"train\.sampling"):
        train(config_of(tmp_path, "train.sampling=uniform"), tmp_path / "whole", resume=True)
