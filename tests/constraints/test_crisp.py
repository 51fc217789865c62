"""Crisp groundings against every assignment tried; and crisp as the limit of soft."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints import ConstraintSet, compile_constraints, groundings, score_rules, violation
from neurosym.constraints.crisp import masks_of, share_of_broken
from neurosym.constraints.semantics import SEMANTICS, TNORMS
from neurosym.constraints.truth import image_truth
from neurosym.data.masks import encode_mask
from neurosym.knowledge import Knowledge
from neurosym.knowledge.rules import parse_rules
from neurosym.records import Box, Detection, Rule, Scene
from tests.constraints.scenes_and_rules import (
    CHECKED,
    EVERY_SHAPE,
    LEAVES,
    SIZE,
    THORAX,
    boxes_of,
    compiled,
    one_hot,
    rule_texts,
    scenes,
)
from tests.oracles.rules import evaluate

SET = compile_constraints(THORAX, LEAVES)
SHAPES = compiled(*EVERY_SHAPE)


def counted(constraints: ConstraintSet, scene: Scene) -> list[tuple[int, int]]:
    found = groundings(constraints, scene)
    mine = [[g for g in found if g.rule == i] for i in range(len(constraints.rules))]
    return [(len(of_rule), sum(not g.holds for g in of_rule)) for of_rule in mine]


def expected(rules: tuple[Rule, ...], scene: Scene) -> list[tuple[int, int]]:
    return [evaluate(rule, scene, THORAX.ontology) for rule in rules]


def test_every_shape_of_rule_compiles() -> None:
    assert [rule.id for rule, _ in SHAPES.unused] == []
    assert len(SHAPES.rules) == len(EVERY_SHAPE)


@given(scenes())
@settings(max_examples=80)
def test_crisp_satisfaction_equals_trying_every_assignment(scene: Scene) -> None:
    for constraints in (SET, SHAPES):
        found = counted(constraints, scene)
        for rule, mine, truth in zip(constraints.rules, found, expected(constraints.rules, scene), strict=True):
            assert mine == truth, str(rule)


@given(scenes(5), rule_texts())
@settings(max_examples=150)
def test_random_rules_hold_exactly_where_trying_every_assignment_says_so(scene: Scene, text: str) -> None:
    rules = parse_rules(text)
    constraints = compile_constraints(Knowledge(THORAX.ontology, rules, CHECKED), LEAVES, required=False)
    assert counted(constraints, scene) == expected(constraints.rules, scene), constraints.unused


@given(scenes(), st.sampled_from(sorted(SEMANTICS)))
@settings(max_examples=60)
def test_the_soft_violation_tends_to_the_crisp_one_as_the_temperature_falls(scene: Scene, semantics: str) -> None:
    kinds, boxes = one_hot(scene), boxes_of(scene)
    for constraints in (SET, SHAPES):
        if len(boxes):
            truth = image_truth(constraints, kinds, boxes, SIZE, None, 1e-7, TNORMS["product"])
            if any(bool(((t > 1e-6) & (t < 1 - 1e-6)).any()) for t in (truth.early, truth.rows)):
                return  # something lies on the very border of a word
        soft = violation(constraints, kinds, boxes, 1e-7, size=SIZE, semantics=semantics)
        crisp = torch.tensor(counted(constraints, scene), dtype=torch.float64).reshape(-1, 2)
        torch.testing.assert_close(soft.fired, crisp[:, 0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(soft.violated, crisp[:, 1], atol=1e-4, rtol=1e-4)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[0:64, 0:64] + 0.5
    return ((columns - x) ** 2 + (rows - y) ** 2 < radius**2).astype(np.uint8)


def test_words_are_read_off_masks_where_detections_have_them() -> None:
    """A crescent's box holds the disc beside it, its mask does not."""
    [rule] = parse_rules("inside(N, L) :- nodule(N), left_lung(L).")
    crescent = disc(32, 32, 30) - disc(32, 32, 30) * disc(44, 32, 24)
    small = disc(46, 32, 6)
    kinds, constraints = torch.zeros(2, len(LEAVES) + 1), compiled(rule)
    kinds[0, LEAVES.index("nodule") + 1] = kinds[1, LEAVES.index("left_lung") + 1] = 1.0
    boxes = [Box(40, 26, 52, 38), Box(2, 2, 62, 62)]
    soft = violation(
        constraints, kinds, torch.tensor([b.xyxy for b in boxes], dtype=torch.float32), 1e-4, size=(64, 64)
    )
    assert float(soft.violated) == pytest.approx(0.0, abs=1e-5)
    masks = np.stack([small, crescent])
    told = violation(
        constraints,
        kinds,
        torch.tensor([b.xyxy for b in boxes], dtype=torch.float32),
        1e-4,
        size=(64, 64),
        masks=torch.tensor(masks).float(),
    )
    assert float(told.violated) == pytest.approx(1.0, abs=1e-5)
    for shown, violated in ((None, 0), (masks, 1)):
        codes = [None, None] if shown is None else [encode_mask(m) for m in shown]
        found = zip(("nodule", "left_lung"), boxes, codes, strict=True)
        scene = Scene("film", 64, 64, tuple(Detection(name, box, 1.0, code) for name, box, code in found))
        assert counted(constraints, scene) == [(1, violated)]


def test_a_scene_without_detections_has_no_groundings_not_even_of_the_image() -> None:
    [rule] = parse_rules(r":- count{L : lung(L)} < 1.")
    constraints = compiled(rule)
    assert groundings(constraints, Scene("film", 100, 100)) == []
    heart = Scene("film", 100, 100, (Detection("heart", Box(0, 0, 9, 9)),))
    assert [(g.objects, g.holds) for g in groundings(constraints, heart)] == [((), False)]


def test_variables_of_a_rule_that_may_be_equal_stand_for_one_object_too() -> None:
    text = "small_object(Y) :- nodule(X), opacity(Y).  %! distinct=no"
    constraints, scene = compiled(*parse_rules(text)), Scene("a", 100, 100, (Detection("nodule", Box(0, 0, 50, 50)),))
    assert counted(constraints, scene) == [(1, 1)] == expected(constraints.rules, scene)
    distinct = compiled(*parse_rules(text.split("%")[0]))
    assert counted(distinct, scene) == [(0, 0)]


def test_fired_over_true_shows_a_detector_that_stopped_seeing() -> None:
    lung, heart = Detection("right_lung", Box(0, 0, 40, 90)), Detection("heart", Box(30, 40, 70, 80))
    true = [Scene("a", 100, 100, (lung, heart)), Scene("b", 100, 100, (lung, heart))]
    blind = [true[0], Scene("b", 100, 100, (lung,))]
    [score] = [s for s in score_rules(SET, blind, true) if s.rule == "right_lung_left_of_heart"]
    assert (score.fired, score.violated, score.fired_ratio, score.violation_rate) == (1, 0, 0.5, 0.0)


def test_a_mask_on_a_coarser_grid_keeps_its_mass_where_it_was() -> None:
    fine = np.random.default_rng(0).integers(0, 2, (256, 384)).astype(np.uint8)
    found = masks_of([Detection("heart", Box(0, 0, 1, 1), 1.0, encode_mask(fine))], Scene("a", 384, 256))
    assert found is not None
    assert found.shape == (1, 128, 128)
    np.testing.assert_allclose(found[0], fine.reshape(128, 2, 128, 3).mean((1, 3)), atol=1e-9)
    odd = masks_of([Detection("heart", Box(0, 0, 1, 1), 1.0, encode_mask(fine[:201, :157]))], Scene("a", 157, 201))
    assert odd is not None
    assert odd.mean() == pytest.approx(fine[:201, :157].mean())
    assert 0.0 <= odd.min() <= odd.max() <= 1.0


@given(scenes(most=3), st.lists(st.sets(st.sampled_from(LEAVES), min_size=1, max_size=3), min_size=3, max_size=3))
@settings(max_examples=15, deadline=None)
def test_detections_of_one_box_are_one_object_with_all_their_classes(scene: Scene, classes: list[set[str]]) -> None:
    """The crisp counts are the soft ones for probabilities of 0 and 1."""
    constraints = compiled(*EVERY_SHAPE, exclusive=False)
    objects = [(d.box, names) for d, names in zip(scene.detections, classes, strict=False)]
    several = tuple(Detection(name, box) for box, names in objects for name in sorted(names))
    found = groundings(constraints, replace(scene, detections=several))
    p = torch.zeros(len(objects), len(LEAVES) + 1, dtype=torch.float64)
    for n, (_, names) in enumerate(objects):
        p[n, [LEAVES.index(name) + 1 for name in names]] = 1.0
    soft = violation(constraints, p, boxes_of(scene), 1e-7, size=SIZE)
    fired, violated = (torch.zeros(len(constraints.rules), dtype=torch.float64) for _ in range(2))
    for g in found:
        fired[g.rule] += 1
        violated[g.rule] += not g.holds
    torch.testing.assert_close(fired, soft.fired, atol=1e-3, rtol=0)
    torch.testing.assert_close(violated, soft.violated, atol=1e-3, rtol=0)


def test_the_share_of_broken_objects_counts_each_object_once() -> None:
    a, b, c = (Box(x, 0, x + 8, 8) for x in (0, 10, 20))
    rules = parse_rules(
        ":- heart(X), nodule(X).\n:- heart(X), consolidation(X).\n0.9 :: nodule(X) :- ground_glass_opacity(X)."
    )
    told = (("heart", a), ("nodule", a), ("consolidation", a), ("heart", b), ("ground_glass_opacity", c))
    scene = Scene("film", 100, 100, tuple(Detection(name, box) for name, box in told))
    names = ("heart", "nodule", "consolidation", "ground_glass_opacity")
    constraints = compiled(*rules, names=names, exclusive=False)
    assert share_of_broken(constraints, [scene]) == pytest.approx(1 / 3)
    assert share_of_broken(constraints, [replace(scene, detections=())]) is None
    soft = replace(constraints, rules=tuple(replace(rule, weight=0.9) for rule in constraints.rules))
    assert share_of_broken(soft, [scene]) is None, "no rule is hard"
