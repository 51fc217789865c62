"""Films that seem well annotated are shown more often: the factors, the change of order, and a run that is killed around it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurosym.errors import ConfigError
from neurosym.learning.batches import batch_indices
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.film_reader import FilmReader
from neurosym.learning.quality_order import QualityOrder, factors
from neurosym.learning.train import open_trainer
from tests.learning.killing import killed_and_whole

ROOT = Path(__file__).parents[2]
CONFIG = f"""
name: tiny
threads: 1
knowledge: [{ROOT}/ontologies/thorax.ttl]
data:
  format: phantom
  size: 96
  categories: [left_lung, right_lung, heart]
  train: {{start: 0, count: 12}}
  supervision: {{kinds: {{exact: 0.25, inexact: 0.5, image: 0.25}}, r: 0.4}}
model:
  {{image_size: 64, max_size: 64, proposals: 40, sampled_boxes: 24, head_features: 16, fpn_channels: 16, pretrained: false,
    inexact: {{posterior: true, mixed: true, start: 1}}}}
train:
  {{steps: 6, batch_size: 2, warmup_steps: 1, checkpoint_every: 1, sampling: quality, quality_start: 3,
   quality_every: 2, quality_repeat: 4}}
"""


def config_of(tmp_path: Path, *overrides: str) -> TrainConfig:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return load_config(path, overrides)


def even(batch: int, step: int) -> list[int]:
    return batch_indices(8, batch, step, 0)


@given(st.lists(st.one_of(st.just(float("nan")), st.floats(0, 1)), min_size=1, max_size=30), st.floats(1, 20))
def test_a_better_film_is_never_shown_less_and_none_less_than_once(quality: list[float], repeat: float) -> None:
    found = factors(torch.tensor(quality, dtype=torch.float64), repeat)
    known = [(q, r) for q, r in zip(quality, found.tolist(), strict=True) if q == q]
    assert found.min() >= 1.0
    assert found.max() <= repeat + 1e-9
    assert [r for _, r in sorted(known)] == sorted(r for _, r in known)
    assert all(r == 1.0 for q, r in zip(quality, found, strict=True) if q != q)


def test_exact_films_are_shown_about_as_often_as_asked_and_films_without_boxes_once() -> None:
    found = factors(torch.tensor([0.95, 0.95, 0.5, 0.5, 0.5, float("nan")]), 6.0)
    assert found.tolist() == pytest.approx([6.0, 6.0, 1.24, 1.24, 1.24, 1.0], abs=0.01)


def test_the_order_changes_at_its_step_and_not_before_and_shows_every_film_still() -> None:
    order = QualityOrder(even, 4, 10, 5.0, 0)
    assert [order.is_due(step) for step in (0, 3, 4, 9)] == [False, False, True, True]
    before = [order(2, step) for step in range(8)]
    assert before == [even(2, step) for step in range(8)]
    order.tell(torch.tensor([0.95] * 2 + [0.4] * 6), 4)
    assert [order.is_due(step) for step in (4, 13, 14)] == [False, False, True]
    assert [order(2, step) for step in range(4)] == before[:4]
    shown = Counter(n for step in range(4, 404) for n in order(2, step))
    good, bad = (np.mean([shown[n] for n in which]) for which in (range(2), range(2, 8)))
    assert good / bad == pytest.approx(5.0 / factors(torch.tensor([0.95] * 2 + [0.4] * 6), 5.0)[2], rel=0.05)
    again = QualityOrder(even, 4, 10, 5.0, 0)
    again.load(order.tensors())
    assert [again(2, step) for step in range(20)] == [order(2, step) for step in range(20)]
    assert [again.is_due(step) for step in (13, 14)] == [False, True]


def test_films_that_seem_better_at_a_second_look_are_shown_more_often_from_then_on() -> None:
    order = QualityOrder(even, 0, 10, 9.0, 0)
    shown = []
    for step, good in ((0, 0), (10, 7)):
        quality = torch.full((8,), 0.4)
        quality[good] = 0.95
        order.tell(quality, step)
        seen = Counter(n for later in range(step, step + 200) for n in order(2, later))
        shown.append([seen[n] for n in range(8)])
    assert [max(range(8), key=counts.__getitem__) for counts in shown] == [0, 7]


@pytest.mark.parametrize("readers", [0, 2])
def test_what_was_read_ahead_in_the_old_order_is_not_shown(readers: int) -> None:
    order = QualityOrder(even, 2, 10, 5.0, 0)
    reader = FilmReader(list(range(8)), order, 2, readers, 8)  # type: ignore[arg-type]
    seen = [reader.films(step)[1] for step in range(2)]
    order.tell(torch.tensor([0.95] + [0.4] * 7), 2)
    seen += [reader.films(step)[1] for step in range(2, 8)]
    assert seen == [order(2, step) for step in range(8)]
    reader.close()


def test_a_training_judges_the_films_that_have_boxes_when_they_are_due(tmp_path: Path) -> None:
    trainer = open_trainer(config_of(tmp_path), tmp_path / "run")
    order, films = trainer.quality_order, trainer.images
    assert order is not None
    trainer.time_steps(0, 3)
    assert order.quality is None
    trainer.time_steps(3, 1)
    assert order.quality is not None
    boxed = [n for n in range(len(films)) if films[n].annotations]
    assert len(boxed) == 9
    assert (~order.quality.isnan()).nonzero()[:, 0].tolist() == boxed
    assert all(0.0 < q <= 1.0 for q in order.quality[boxed].tolist())
    assert trainer.model.training
    first = order.quality
    trainer.time_steps(4, 1)
    assert order.quality is first
    trainer.time_steps(5, 1)
    assert order.quality is not first


@pytest.mark.parametrize("last", [2, 4])
def test_a_run_that_is_killed_before_or_after_its_films_are_judged_resumes_to_the_same_weights(
    tmp_path: Path, last: int
) -> None:
    killed, whole = killed_and_whole(config_of(tmp_path), tmp_path, last)
    assert killed.keys() == whole.keys()
    assert whole["film_quality"].shape == (12,)
    assert all(torch.equal(killed[k].nan_to_num(-1.0), whole[k].nan_to_num(-1.0)) for k in whole)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.inexact.posterior=false", "model.inexact.posterior"),
        ("model.inexact.start=50", "train.quality_start: 3 is before model.inexact.start, 50"),
    ],
)
def test_an_order_by_quality_without_an_estimate_of_it_is_refused(tmp_path: Path, override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        config_of(tmp_path, override)
