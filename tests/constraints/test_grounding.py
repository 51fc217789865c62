"""The three ways to sum over groundings — matrix products, sparse choices, loops by the definition — tell the same."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints import SEMANTICS, ConstraintSet, Groundings, compile_constraints, ground, violation
from neurosym.constraints.geometry import WORDS, soft_measures, soft_places, soft_words
from neurosym.constraints.grounding import split_truth
from neurosym.constraints.semantics import TNORMS
from neurosym.constraints.truth import image_truth
from neurosym.errors import ConstraintError
from neurosym.knowledge import Knowledge
from neurosym.knowledge.rules import parse_rules
from neurosym.records import Scene
from tests.constraints.scenes_and_rules import (
    CHECKED,
    EVERY_SHAPE,
    LEAVES,
    SIZE,
    THORAX,
    boxes_of,
    compiled,
    rule_texts,
    scenes,
    unsure,
)
from tests.oracles.soft_rules import NORMS, SoftReader

SHAPES = compiled(*EVERY_SHAPE)
NORM_OF = {
    "product": "product",
    "product-log": "product",
    "sigmoidal": "product",
    "lukasiewicz": "lukasiewicz",
    "goedel": "goedel",
}
T = 0.1


def by_loops(
    constraints: ConstraintSet, p: torch.Tensor, boxes: torch.Tensor, norm: str, masks: torch.Tensor | None = None
) -> list[list[tuple[tuple[int, ...], float, float]]]:
    """For each rule its groundings by the definition."""
    frames = p[:, [LEAVES.index(name) + 1 for name in ("left_lung", "right_lung")]]
    places = soft_places(boxes, frames.sum(1), *SIZE, T, classes=frames.T.contiguous())
    words = soft_words(boxes, T, masks)[: len(WORDS)]
    measures = soft_measures(boxes, *SIZE)
    tables = (t.tolist() for t in (words, places, measures))
    reader = SoftReader(THORAX.ontology, LEAVES, p.tolist(), *tables, T, NORMS[norm])
    return [reader.groundings(rule) for rule in constraints.rules]


def sums(groundings: Iterable[tuple[tuple[int, ...], float, float]], semantics: str) -> tuple[float, float]:
    found = list(groundings)
    a = torch.tensor([g[1] for g in found], dtype=torch.float64)
    h = torch.tensor([g[2] for g in found], dtype=torch.float64)
    chosen = SEMANTICS[semantics]
    return float(chosen.fired(a).sum()), float(chosen.broken(a, h).sum())


@given(scenes(5), st.integers(0, 10**6), st.sampled_from(sorted(SEMANTICS)))
@settings(max_examples=40)
def test_the_dense_form_is_what_loops_over_all_assignments_sum(scene: Scene, seed: int, semantics: str) -> None:
    p, boxes = unsure(scene, seed), boxes_of(scene)
    found = violation(SHAPES, p, boxes, T, size=SIZE, semantics=semantics)
    if not len(boxes):
        return
    for i, of_rule in enumerate(by_loops(SHAPES, p, boxes, NORM_OF[semantics])):
        expected = sums(of_rule, semantics)
        assert (float(found.fired[i]), float(found.violated[i])) == pytest.approx(expected, rel=1e-6, abs=1e-9), (
            SHAPES.rules[i].id
        )


@given(scenes(4), st.integers(0, 10**6))
@settings(max_examples=20)
def test_what_a_body_says_twice_counts_once(scene: Scene, seed: int) -> None:
    p, boxes = unsure(scene, seed), boxes_of(scene)
    found = []
    for body in (
        "upper_zone(X), \\+ left_of(_, X)",
        "upper_zone(X), upper_zone(X), \\+ left_of(_, X), \\+ left_of(_, X)",
    ):
        rules = parse_rules(f":- nodule(X), {body}.")
        constraints = compile_constraints(Knowledge(THORAX.ontology, rules, CHECKED), LEAVES)
        found.append(violation(constraints, p, boxes, T, size=SIZE))
    assert torch.equal(found[0].violated, found[1].violated)
    assert torch.equal(found[0].fired, found[1].fired)


@given(scenes(4), st.integers(0, 10**6), rule_texts(), st.sampled_from(["product", "lukasiewicz", "goedel"]))
@settings(max_examples=80)
def test_random_rules_are_summed_as_loops_sum_them(scene: Scene, seed: int, text: str, semantics: str) -> None:
    rules = parse_rules(text)
    constraints = compile_constraints(Knowledge(THORAX.ontology, rules, CHECKED), LEAVES, required=False)
    p, boxes = unsure(scene, seed), boxes_of(scene)
    if not len(boxes) or not constraints.rules:
        return
    [of_rule] = by_loops(constraints, p, boxes, semantics)
    for threshold in (0.0, 1e-12):
        found = violation(constraints, p, boxes, T, size=SIZE, semantics=semantics, threshold=threshold)
        expected = sums(of_rule, semantics)
        assert (float(found.fired), float(found.violated)) == pytest.approx(expected, rel=1e-6, abs=1e-9), text


@given(scenes(), st.integers(0, 10**6), st.sampled_from(sorted(SEMANTICS)))
@settings(max_examples=40)
def test_sparse_grounding_tends_to_the_dense_sums_as_the_threshold_falls(
    scene: Scene, seed: int, semantics: str
) -> None:
    p, boxes = unsure(scene, seed), boxes_of(scene)
    dense = violation(SHAPES, p, boxes, T, size=SIZE, semantics=semantics)
    sparse = violation(SHAPES, p, boxes, T, size=SIZE, semantics=semantics, threshold=1e-15)
    torch.testing.assert_close(sparse.fired, dense.fired, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(sparse.violated, dense.violated, rtol=1e-7, atol=1e-9)


@given(scenes(), st.integers(0, 10**6), st.sampled_from([0.01, 0.1, 0.3]))
@settings(max_examples=40)
def test_exactly_the_groundings_whose_premise_exceeds_the_threshold_are_kept(
    scene: Scene, seed: int, threshold: float
) -> None:
    """Of rules without witnesses and counts, whose own objects are thresholded too."""
    plain = compiled(
        *(r for r in EVERY_SHAPE if not r.existential and "count" not in str(r) and "_" not in str(r.conditions))
    )
    p, boxes = unsure(scene, seed, 4.0), boxes_of(scene)
    found = ground(plain, p, boxes, size=SIZE, temperature=T, threshold=threshold)
    kept = as_set(found)
    if not len(boxes):
        assert not kept
        return
    for i, of_rule in enumerate(by_loops(plain, p, boxes, "product")):
        expected = {objects: (a, h) for objects, a, h in of_rule if a > threshold}
        mine = {objects: (a, h) for rule, objects, a, h in kept if rule == i}
        assert mine.keys() == expected.keys(), plain.rules[i].id
        for objects, truths in expected.items():
            assert mine[objects] == pytest.approx(truths, rel=1e-6, abs=1e-9), plain.rules[i].id


def as_set(found: Groundings) -> list[tuple[int, tuple[int, ...], float, float]]:
    objects = [
        tuple(i for i in pair if i >= 0) for pair in zip(found.first.tolist(), found.second.tolist(), strict=True)
    ]
    return list(zip(found.rule.tolist(), objects, found.premise.tolist(), found.head.tolist(), strict=True))


@given(scenes(5), st.integers(0, 10**6))
@settings(max_examples=10)
def test_masks_speak_in_the_sparse_form_as_in_the_dense_one(scene: Scene, seed: int) -> None:
    p, boxes = unsure(scene, seed), boxes_of(scene)
    masks = torch.rand(len(boxes), 12, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    dense = violation(SHAPES, p, boxes, T, size=SIZE, masks=masks)
    sparse = violation(SHAPES, p, boxes, T, size=SIZE, masks=masks, threshold=1e-15)
    torch.testing.assert_close(sparse.violated, dense.violated, rtol=1e-7, atol=1e-9)
    if len(boxes):
        for i, of_rule in enumerate(by_loops(SHAPES, p, boxes, "product", masks)):
            assert float(dense.violated[i]) == pytest.approx(sums(of_rule, "product")[1], rel=1e-6, abs=1e-9)


def test_gradients_of_the_sparse_form_are_those_of_the_dense_one() -> None:
    scene = Scene("film", 100, 100, boxes_like())
    p, boxes = unsure(scene, 3), boxes_of(scene)
    gradients = []
    for threshold in (0.0, 1e-15):
        logits, corners = p.log().requires_grad_(), boxes.clone().requires_grad_()
        found = violation(SHAPES, logits.softmax(-1), corners, T, size=SIZE, threshold=threshold)
        weights = torch.linspace(1, 2, len(SHAPES.rules), dtype=torch.float64)
        ((weights * found.violated).sum() - (weights * found.fired).sum()).backward()
        gradients.append((logits.grad, corners.grad))
    (dense_p, dense_boxes), (sparse_p, sparse_boxes) = gradients
    torch.testing.assert_close(sparse_p, dense_p, rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(sparse_boxes, dense_boxes, rtol=1e-6, atol=1e-10)


def test_rules_that_fire_as_a_whole_and_others_add_up_to_their_groundings() -> None:
    """40 objects of which most are sure: some rules are summed by matrix products, some choice by choice."""
    words = ("left_of", "above", "near", "inside")
    lines = [f"{w}(X, Y) :- {a}(X), {b}(Y)." for w in words for a, b in (("nodule", "lung"), ("heart", "nodule"))]
    constraints = compiled(*parse_rules("\n".join(lines)))
    torch.manual_seed(3)
    count, leaves = 40, len(LEAVES) + 1
    probabilities = 0.1 * torch.rand(count, leaves, dtype=torch.float64).softmax(1)
    sure = torch.tensor([LEAVES.index(name) + 1 for name in ("nodule", "left_lung")])
    probabilities[torch.arange(count), sure[torch.randint(2, (count,))]] += 0.9
    heart = LEAVES.index("heart") + 1
    probabilities[0] = 0.0
    probabilities[0, 0] = 1.0 - 0.052
    probabilities[0, heart] = 0.052  # the heart's rules have premises on both sides of the threshold
    probabilities.requires_grad_()
    corner = 300 * torch.rand(count, 2, dtype=torch.float64)
    boxes = torch.cat([corner, corner + 20 + 80 * torch.rand(count, 2, dtype=torch.float64)], 1).requires_grad_()
    whole = split_truth(image_truth(constraints, probabilities, boxes, None, None, 0.1, TNORMS["product"]), 0.05)[1]
    assert whole is not None
    assert 0 < len(whole.row) < len(constraints.pairs.rule)
    found = ground(constraints, probabilities, boxes, threshold=0.05)
    none = torch.zeros(len(constraints.rules), dtype=torch.float64)
    wanted = none.index_add(0, found.rule, found.premise * (1.0 - found.head))
    summed = violation(constraints, probabilities, boxes, threshold=0.05)
    assert torch.allclose(summed.fired, none.index_add(0, found.rule, found.premise))
    assert torch.allclose(summed.violated, wanted)
    one, other = (torch.autograd.grad(v.sum(), [probabilities, boxes]) for v in (wanted, summed.violated))
    assert all(torch.allclose(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("threshold", [0.0, 1e-6])
def test_gradients_are_those_of_finite_differences(threshold: float) -> None:
    scene = Scene("film", 100, 100, boxes_like())
    p, boxes = unsure(scene, 5), boxes_of(scene)

    def violated(logits: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
        return violation(SHAPES, logits.softmax(-1), corners, 0.3, size=SIZE, threshold=threshold).violated

    assert torch.autograd.gradcheck(
        violated, (p.log().requires_grad_(), boxes.requires_grad_()), atol=1e-4, fast_mode=True
    )


def boxes_like() -> tuple:
    from neurosym.records import Box, Detection

    places = [
        ("left_lung", 55, 8, 92, 83),
        ("right_lung", 6, 11, 43, 87),
        ("heart", 35, 45, 66, 79),
        ("nodule", 61, 30, 66, 37),
    ]
    return tuple(Detection(name, Box(*place)) for name, *place in places)


def test_an_existential_rule_names_its_best_witness() -> None:
    [rule] = parse_rules("inside(N, L), lung(L) :- nodule(N).")
    constraints = compiled(rule)
    kinds = torch.full((4, len(LEAVES) + 1), 0.01)
    for n, name in enumerate(("left_lung", "right_lung", "nodule", "nodule")):
        kinds[n, LEAVES.index(name) + 1] = 0.93
    boxes = torch.tensor([[0.0, 0, 40, 90], [60, 0, 100, 90], [70, 40, 78, 48], [45, 40, 50, 45]])
    found = ground(constraints, kinds, boxes, threshold=0.5, temperature=0.01)
    assert found.first.tolist() == [2, 3]
    assert found.second.tolist()[0] == 1
    assert found.head.tolist() == pytest.approx([0.93 + 0.01, 0.0], abs=1e-3)


def test_a_rule_about_the_image_has_one_grounding_of_no_object() -> None:
    constraints = compiled(*parse_rules(":- count{L : lung(L)} > 1."))
    kinds = torch.zeros(3, len(LEAVES) + 1)
    kinds[:, 1] = torch.tensor([0.5, 0.5, 0.8])
    kinds[:, 0] = 1 - kinds[:, 1]
    found = ground(constraints, kinds, torch.rand(3, 4), threshold=0.1)
    assert (found.first.tolist(), found.second.tolist(), found.premise.tolist()) == ([-1], [-1], [1.0])
    assert float(found.head) == pytest.approx(1 - (0.5 * 0.5 * 0.2 + 2 * 0.25 * 0.8 + 0.25 * 0.8), abs=1e-6)


def test_rules_that_need_the_size_of_the_image_are_silent_without_it() -> None:
    constraints = compiled(*parse_rules("small_object(N) :- nodule(N).\nleft_of(R, H) :- right_lung(R), heart(H)."))
    assert constraints.needs_size.tolist() == [True, False]
    kinds = torch.full((2, len(LEAVES) + 1), 1 / (len(LEAVES) + 1))
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]])
    assert violation(constraints, kinds, boxes).fired.tolist()[0] == 0.0
    assert violation(constraints, kinds, boxes, size=(50, 50)).fired.tolist()[0] > 0.0
    assert set(ground(constraints, kinds, boxes, threshold=1e-4).rule.tolist()) == {1}
    assert set(ground(constraints, kinds, boxes, threshold=1e-4, size=(50, 50)).rule.tolist()) == {0, 1}


def test_nothing_detected_grounds_nothing() -> None:
    found = ground(SHAPES, torch.zeros(0, len(LEAVES) + 1), torch.zeros(0, 4), size=SIZE)
    assert len(found) == 0
    assert len(ground(SHAPES, torch.zeros(3, len(LEAVES) + 1), torch.rand(3, 4), size=SIZE, threshold=0.05)) == sum(
        ":- count{" in str(rule) and not rule.body for rule in EVERY_SHAPE
    )


def test_unusable_values_are_refused_by_name() -> None:
    with pytest.raises(ConstraintError, match="not finite"):
        ground(SHAPES, torch.full((1, len(LEAVES) + 1), float("nan")), torch.zeros(1, 4))
    with pytest.raises(ConstraintError, match="known: product, product-log"):
        ground(SHAPES, torch.zeros(1, len(LEAVES) + 1), torch.zeros(1, 4), semantics="fuzzy")
