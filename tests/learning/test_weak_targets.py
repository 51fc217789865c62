"""What a teacher says of weakly annotated films, made to agree with them; thresholds of classes; boxes that are found again."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurosym.errors import ConfigError
from neurosym.knowledge import Knowledge
from neurosym.learning.box_jitter import jittered, reliable, spread
from neurosym.learning.class_thresholds import ClassThresholds
from neurosym.learning.config import load_config
from neurosym.learning.hints import Hinter
from neurosym.learning.objects import sure_objects
from neurosym.learning.strong_view import cut_out, strong_view
from neurosym.learning.weak_targets import WeakTargets, assigned
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig
from neurosym.models.detector import Detector
from neurosym.models.scene import SceneProposals
from neurosym.records import Sample
from tests.learning.test_train import CONFIG
from tests.learning.test_weak_terms import (
    CONSOLIDATION,
    GGO,
    IN_LEFT,
    IN_RIGHT,
    NAMES,
    NODULE,
    OUTSIDE,
    RIGHT,
    film,
    lungs,
    point,
    scene_of,
)


def said(
    knowledge: Knowledge, sample: Sample, rows: list, threshold: float = 0.5
) -> set[tuple[tuple[float, ...], int]]:
    """Boxes and labels of what the teacher's scene becomes."""
    scene = scene_of(rows)[0]
    scene = SceneProposals(scene.probabilities.detach(), scene.boxes.detach(), None, scene.size)
    targets = WeakTargets(Hinter(NAMES, knowledge.ontology), 0.05, 0.01)
    found = targets.refined(sample, scene, threshold)
    return {(tuple(b), k) for b, k in zip(found.boxes.tolist(), found.labels.tolist(), strict=True)}


def test_a_label_takes_the_teachers_best_object_whether_it_is_sure_or_not(thorax: Knowledge) -> None:
    rows = [(IN_RIGHT, {GGO: 0.2, NODULE: 0.1}), (IN_LEFT, {GGO: 0.3}), (OUTSIDE, {CONSOLIDATION: 0.6})]
    label = film(labels=frozenset({"ground_glass_opacity"}))
    assert said(thorax, label, rows) == {(tuple(IN_LEFT), GGO), (tuple(OUTSIDE), CONSOLIDATION)}
    exhaustive = replace(label, absent=frozenset({"consolidation", "nodule"}))
    assert said(thorax, exhaustive, rows) == {(tuple(IN_LEFT), GGO)}
    assert said(thorax, film(labels=frozenset({"opacity"})), rows) == {(tuple(OUTSIDE), CONSOLIDATION)}
    assert said(thorax, film(labels=frozenset({"nodule"})), [(IN_LEFT, {NODULE: 0.01})]) == set()  # below the floor


def test_a_tag_restricts_the_candidates_to_its_region(thorax: Knowledge) -> None:
    rows = [(IN_RIGHT, {NODULE: 0.2}), (IN_LEFT, {NODULE: 0.4})]
    tagged = film(tags=(("nodule", "right_lung/upper_zone"),))
    assert said(thorax, tagged, rows) == {(tuple(IN_RIGHT), NODULE)}


def test_points_take_one_object_each_and_there_are_no_others_of_their_class(thorax: Knowledge) -> None:
    points = (point("nodule", 25, 20), point("nodule", 27, 22))
    sample = film(annotations=(*lungs(), *points), complete=frozenset({*NAMES[:3], "nodule"}))
    other = [22.0, 17.0, 34.0, 29.0]
    rows = [(IN_RIGHT, {NODULE: 0.3}), (other, {NODULE: 0.1}), (IN_LEFT, {NODULE: 0.9})]
    assert said(thorax, sample, rows) == {(tuple(IN_RIGHT), NODULE), (tuple(other), NODULE)}


def test_classes_with_boxes_are_not_the_teachers_to_tell(thorax: Knowledge) -> None:
    rows = [([60.0, 15.0, 80.0, 80.0], {RIGHT: 0.9}), (IN_LEFT, {GGO: 0.9})]
    assert said(thorax, film(), rows) == {(tuple(IN_LEFT), GGO)}
    targets = WeakTargets(Hinter(NAMES, thorax.ontology), 0.05, 0.01)
    annotated = targets.annotated(film(), False)
    assert annotated is not None
    assert annotated["boxes"].tolist() == [list(a.box.xyxy) for a in lungs()]
    assert targets.annotated(film(complete=None), False) is None


def test_a_film_of_which_nothing_is_said_is_left_to_the_teacher(thorax: Knowledge) -> None:
    rows = [(IN_RIGHT, {GGO: 0.6}), (IN_LEFT, {GGO: 0.4}), (OUTSIDE, {RIGHT: 0.7})]
    empty = film(annotations=(), complete=frozenset())
    expected = {(tuple(IN_RIGHT), GGO), (tuple(OUTSIDE), RIGHT)}
    assert said(thorax, empty, rows) == said(thorax, replace(empty, complete=None), rows) == expected


@given(
    st.lists(st.lists(st.floats(0.001, 1), min_size=5, max_size=5), min_size=1, max_size=3),
    st.lists(st.lists(st.floats(0.01, 0.5), min_size=2, max_size=2), min_size=5, max_size=5),
    st.lists(st.sampled_from([frozenset({1}), frozenset({2}), frozenset({1, 2})]), min_size=3, max_size=3),
)
def test_the_assignment_is_the_one_of_least_cost(
    fits: list[list[float]], rows: list[list[float]], kinds: list[frozenset[int]]
) -> None:
    p = torch.tensor([[1 - sum(r), *r] for r in rows])
    demands = [(labels, torch.tensor(fit)) for labels, fit in zip(kinds, fits, strict=False)]
    value = np.array([[float(f[n]) * max(float(p[n, k]) for k in labels) for n in range(5)] for labels, f in demands])
    found = assigned(demands, p, 1e-9)
    assert len({n for n, _ in found}) == len(found) == len(demands)
    cost = -sum(math.log(value[d, n]) for d, (n, _) in enumerate(found))
    best = min(
        -sum(math.log(value[d, n]) for d, n in enumerate(order)) for order in permutations(range(5), len(demands))
    )
    assert cost == pytest.approx(best, abs=1e-4)
    assert all(k in labels for (_, k), (labels, _) in zip(found, demands, strict=True))


# --- thresholds of classes --------------------------------------------------------------------------------------------


def scores(*rows: tuple[int, float]) -> SceneProposals:
    p = torch.zeros(len(rows), 4)
    for n, (label, score) in enumerate(rows):
        p[n, label], p[n, 0] = score, 1 - score
    return SceneProposals(p, torch.zeros(len(rows), 4))


def test_thresholds_follow_freematch_of_the_means_by_class() -> None:
    thresholds = ClassThresholds(3, 0.8, 0.1, 0.9)
    assert set(thresholds.thresholds()) == {0.8}
    steps = [[(1, 0.9), (1, 0.7), (2, 0.4), (3, 0.05)], [(1, 0.6), (2, 0.2)], [(2, 0.3)]]
    mean: dict[int, float] = {}
    for step in steps:
        thresholds.watch([scores(*step[:1]), scores(*step[1:])])
        for label in {k for k, s in step if s >= 0.1}:
            own = np.mean([s for k, s in step if k == label])
            mean[label] = 0.9 * mean[label] + 0.1 * own if label in mean else own
    expected = [max(0.1, 0.8 * mean[k] / max(mean.values())) if k in mean else 0.8 for k in (1, 2, 3)]
    assert thresholds.thresholds() == pytest.approx(expected, abs=1e-6)
    other = ClassThresholds(3, 0.8, 0.1, 0.9)
    other.load(thresholds.tensors())
    assert other.thresholds() == thresholds.thresholds()


@given(st.lists(st.lists(st.tuples(st.integers(1, 3), st.floats(0.01, 1)), max_size=5), max_size=6))
def test_no_threshold_is_above_the_configs_or_below_the_floor(steps: list[list[tuple[int, float]]]) -> None:
    thresholds = ClassThresholds(3, 0.7, 0.2, 0.5)
    for step in steps:
        thresholds.watch([scores(*step)])
    assert all(0.2 - 1e-6 <= t <= 0.7 + 1e-6 for t in thresholds.thresholds())


def test_a_threshold_for_each_class_picks_as_each_class_says() -> None:
    p, boxes = (
        scores((1, 0.6), (2, 0.6), (3, 0.6)).probabilities,
        torch.tensor([[0.0, 0, 1, 1], [5, 5, 6, 6], [8, 8, 9, 9]]),
    )
    assert sure_objects(p, boxes, [0.5, 0.7, 0.6]).labels.tolist() == [1, 3]
    assert sure_objects(p, boxes, 0.5).labels.tolist() == [1, 2, 3]


# --- boxes that are found again ---------------------------------------------------------------------------------------


def test_boxes_are_moved_by_up_to_the_share_of_their_sides() -> None:
    boxes = torch.tensor([[10.0, 20.0, 30.0, 120.0]])
    moved = jittered(boxes, 500, 0.06, np.random.default_rng(0)) - boxes
    assert (moved.abs().amax((0, 1)) <= torch.tensor([1.2, 6.0, 1.2, 6.0])).all()
    assert (moved.abs().amax((0, 1)) > torch.tensor([1.1, 5.7, 1.1, 5.7])).all()
    assert (moved.mean((0, 1)).abs() < torch.tensor([0.12, 0.6, 0.12, 0.6])).all()


def test_the_spread_is_the_mean_deviation_of_corners_in_mean_sides() -> None:
    found = torch.tensor([[[0.0, 0.0, 20.0, 10.0]], [[2.0, 0.0, 20.0, 14.0]]])
    expected = np.mean([np.std([0, 2]), 0, 0, np.std([10, 14])]) / 15
    assert float(spread(found, torch.tensor([[0.0, 0.0, 20.0, 10.0]]))) == pytest.approx(expected)


def test_boxes_that_the_head_finds_again_are_reliable_and_those_it_leaves_where_they_were_put_are_not() -> None:
    boxes, labels = (
        [torch.tensor([[10.0, 10.0, 50.0, 50.0]]), torch.zeros(0, 4)],
        [torch.tensor([1]), torch.zeros(0).long()],
    )

    def steady(moved: list[torch.Tensor], kinds: list[torch.Tensor]) -> list[torch.Tensor]:
        assert [len(k) for k in kinds] == [10, 0]
        return [b[:1].expand(len(m), 4) for b, m in zip(boxes, moved, strict=True)]

    rng = np.random.default_rng(0)
    assert [r.tolist() for r in reliable(boxes, labels, steady, rng, 10, 0.06, 0.02)] == [[True], []]
    assert [r.tolist() for r in reliable(boxes, labels, lambda m, k: m, rng, 10, 0.06, 0.02)] == [[False], []]


@pytest.mark.parametrize("kind", ["faster_rcnn", "cascade_rcnn", "mask_rcnn"])
def test_a_box_heads_own_detections_are_where_it_moves_the_proposals_that_they_come_from(kind: str) -> None:
    torch.manual_seed(0)
    small = {
        "image_size": 64,
        "max_size": 128,
        "proposals": 32,
        "head_features": 16,
        "fpn_channels": 16,
        "pretrained": False,
    }
    model = build_model(DetectorConfig.model_validate({"kind": kind, **small}), ("a", "b")).eval()
    assert isinstance(model, Detector)
    images = [torch.rand(3, 96, 128)]
    model.propose(images)
    last = model.net.roi_heads.last
    height, width = last.sizes[0]
    scale = torch.tensor([128 / width, 96 / height] * 2)
    labels = torch.ones(len(last.proposals[0]), dtype=torch.int64)
    decoded = model.net.roi_heads.box_coder.decode(last.regression, last.proposals).reshape(len(labels), -1, 4)[:, 1]
    if (
        kind == "cascade_rcnn"
    ):  # its last proposals went through two stages; one that moves nothing is needed to compare
        moved = model.regress(images, [last.proposals[0] * scale], [labels])[0]
        assert moved.shape == (len(labels), 4)
        assert bool(moved.isfinite().all())
        return
    found = model.regress(images, [last.proposals[0] * scale], [labels])[0]
    assert torch.allclose(found, decoded * scale, atol=1e-3)


def test_only_models_with_a_box_head_can_be_asked_about_boxes(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    with pytest.raises(ConfigError, match=r"teacher\.jitters: retinanet has no box head to ask about a box"):
        load_config(path, ("teacher.weight=1", "teacher.jitters=10", "model.kind=retinanet"))


# --- the strong view --------------------------------------------------------------------------------------------------


def test_a_strong_view_is_another_image_of_the_same_size_and_the_seed_decides_which() -> None:
    image = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    views = [strong_view(image, np.random.default_rng(s)) for s in (1, 1, 2)]
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    assert torch.equal(image, before)
    assert all(v.shape == image.shape and float(v.min()) >= 0 and float(v.max()) <= 1 for v in views)


def test_what_is_cut_out_is_a_few_rectangles_of_the_films_mean() -> None:
    image = torch.rand(3, 50, 50, generator=torch.Generator().manual_seed(0))
    for seed in range(20):
        shown = cut_out(image, 1, np.random.default_rng(seed))
        changed = (shown != image).any(0)
        rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
        area = (int(rows[-1]) - int(rows[0]) + 1) * (int(columns[-1]) - int(columns[0]) + 1)
        assert area == int(changed.sum())
        assert 0.01 * 2500 < area < 0.12 * 2500
        assert torch.allclose(shown[:, changed], image.mean().expand(3, int(changed.sum())))
    assert torch.equal(cut_out(image, 0, np.random.default_rng(0)), image)
