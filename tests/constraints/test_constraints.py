"""The violation and the loss: what they are worth, where they point, what they refuse."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints import SEMANTICS, compile_constraints, constraint_loss, violation
from neurosym.constraints.geometry import WORDS, soft_words
from neurosym.errors import ConstraintError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.knowledge.rules import parse_rules
from neurosym.records import Scene
from tests.constraints.scenes_and_rules import (
    CHECKED,
    EVERY_SHAPE,
    LEAVES,
    ROOT,
    SIZE,
    THORAX,
    boxes_of,
    compiled,
    scenes,
    unsure,
)

SET = compile_constraints(THORAX, LEAVES)
SHAPES = compiled(*EVERY_SHAPE)


@dataclass
class Image:
    probabilities: torch.Tensor
    boxes: torch.Tensor
    masks: torch.Tensor | None = None
    size: tuple[int, int] | None = None


def test_the_violation_is_the_product_t_norm_summed_over_all_pairs() -> None:
    torch.manual_seed(0)
    probabilities = torch.rand(5, len(LEAVES) + 1).softmax(-1)
    corner = torch.rand(5, 2) * 50
    boxes = torch.cat([corner, corner + 5 + torch.rand(5, 2) * 40], 1)
    truth = violation(SET, probabilities, boxes, temperature=0.1)
    index = [r.id for r in SET.rules].index("right_lung_left_of_heart")
    right, heart = LEAVES.index("right_lung") + 1, LEAVES.index("heart") + 1
    fired = violated = 0.0
    for n, m in itertools.permutations(range(5), 2):
        premise = float(probabilities[n, right] * probabilities[m, heart])
        (x1, _, x2, _), (u1, _, u2, _) = boxes[n].tolist(), boxes[m].tolist()
        margin = ((u1 + u2) / 2 - (x1 + x2) / 2) / ((x2 - x1 + u2 - u1) / 2)
        fired += premise
        violated += premise * (1 - 1 / (1 + math.exp(-margin / 0.1)))
    assert float(truth.fired[index]) == pytest.approx(fired, rel=1e-4)
    assert float(truth.violated[index]) == pytest.approx(violated, rel=1e-4)


def test_an_existential_rule_is_decided_by_the_best_witness_of_any_subclass() -> None:
    constraints = compile_constraints(THORAX, ("left_lung", "right_lung", "nodule"))
    index = [r.id for r in constraints.rules].index("nodule_in_lung")
    lungs = torch.tensor([[0.0, 0.0, 40.0, 90.0], [60.0, 0.0, 100.0, 90.0]])
    nodule = torch.tensor([[70.0, 40.0, 78.0, 48.0]])
    kinds = torch.tensor([[0.0, 0.7, 0.2, 0.1], [0.1, 0.0, 0.9, 0.0], [0.2, 0.0, 0.0, 0.8]])
    found = violation(constraints, kinds, torch.cat([lungs, nodule]), temperature=0.01)
    # 0.8 of a nodule in 0.9 of a lung, and 0.1 of a nodule (the first box) in no lung at all
    assert float(found.fired[index]) == pytest.approx(0.9)
    assert float(found.violated[index]) == pytest.approx(0.8 * 0.1 + 0.1, abs=1e-3)


def test_a_class_in_a_head_is_judged_by_the_same_detection_not_by_an_independent_one() -> None:
    """What is surely one of two opacities breaks "opacities are consolidations" exactly as far as it is the other one."""
    constraints = compiled(*parse_rules("0.9 :: consolidation(X) :- opacity(X)."))
    kinds = torch.zeros(1, len(LEAVES) + 1)
    kinds[0, LEAVES.index("consolidation") + 1], kinds[0, LEAVES.index("nodule") + 1] = 0.7, 0.2
    found = violation(constraints, kinds, torch.rand(1, 4))
    assert (float(found.fired), float(found.violated)) == pytest.approx((0.9, 0.2))


def test_silencing_the_premises_does_not_lower_the_normalised_violation() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 60.0, 10.0]])
    rates, plain = [], []
    index = [r.id for r in SET.rules].index("right_lung_left_of_heart")
    for surety in (0.9, 0.5, 0.1):
        probabilities = torch.zeros(2, len(LEAVES) + 1)
        probabilities[0, LEAVES.index("heart") + 1] = surety
        probabilities[1, LEAVES.index("right_lung") + 1] = surety
        probabilities[:, 0] = 1 - surety
        found = violation(SET, probabilities, boxes)
        rates.append(float(found.rate(epsilon=1e-6)[index]))
        plain.append(float(found.violated[index]))
    assert rates == pytest.approx([1.0, 1.0, 1.0], abs=1e-3)
    assert plain[0] > plain[1] > plain[2]


@pytest.mark.parametrize("semantics", ["product", "product-log", "goedel"])
def test_a_rule_of_confidence_w_costs_nothing_until_more_than_1_minus_w_of_it_is_broken(
    tmp_path: Path, semantics: str
) -> None:
    path = tmp_path / "x.rules"
    path.write_text("0.7 :: left_of(R, H) :- right_lung(R), heart(H).")
    knowledge = load_knowledge([ROOT / "ontologies/thorax.ttl", path])
    constraints = compile_constraints(knowledge, ("right_lung", "heart"))

    def loss(wrong: int, right: int, confidence: float | None = None) -> float:
        good, bad = [0.0, 0.0, 10.0, 10.0], [80.0, 0.0, 90.0, 10.0]
        middle = [40.0, 0.0, 50.0, 10.0]
        images = []
        for place in [bad] * wrong + [good] * right:
            kinds = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
            images.append((kinds, torch.tensor([place, middle])))
        learned = None if confidence is None else torch.tensor([confidence])
        return float(constraint_loss(constraints, images, 0.01, 1e-6, semantics=semantics, confidence=learned)[0])

    def cost(share: float) -> float:
        return -math.log(1 - share) if semantics == "product-log" else share

    assert loss(wrong=2, right=8) == pytest.approx(0.0, abs=1e-4)
    assert loss(wrong=5, right=5) == pytest.approx(cost(0.5 - 0.3), abs=1e-4)
    assert loss(wrong=5, right=5, confidence=0.9) == pytest.approx(cost(0.5 - 0.1), abs=1e-3)


def test_the_default_loss_is_product_log() -> None:
    scene = next(iter(made_scenes()))
    images = [(unsure(scene, 0).float(), boxes_of(scene).float())]
    default, named = constraint_loss(SET, images)[0], constraint_loss(SET, images, semantics="product-log")[0]
    assert float(default) == float(named) != float(constraint_loss(SET, images, semantics="product")[0])


@pytest.mark.parametrize("semantics", sorted(SEMANTICS))
def test_the_loss_pulls_misplaced_boxes_towards_their_places(semantics: str) -> None:
    [rule] = [r for r in THORAX.rules if r.id == "right_lung_left_of_heart"]
    constraints = compile_constraints(Knowledge(THORAX.ontology, (rule,)), ("right_lung", "heart"))
    kinds = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    boxes = torch.tensor([[50.0, 0.0, 70.0, 60.0], [40.0, 20.0, 60.0, 50.0]], requires_grad=True)
    constraint_loss(constraints, [(kinds, boxes)], epsilon=1e-6, semantics=semantics)[0].backward()
    assert boxes.grad is not None
    step = -boxes.grad[:, 0] - boxes.grad[:, 2]
    assert step[0] < 0 < step[1]


@pytest.mark.parametrize(
    ("text", "direction"),
    [
        ("small_object(H) :- heart(H).", -1),  # a heart that is too large should shrink
        (":- heart(H), width_share(H, W), W > 0.3.", -1),
        ("0.9 :: large_object(H) :- heart(H).", 1),
    ],
)
def test_the_loss_pulls_boxes_of_the_wrong_size_towards_the_right_one(text: str, direction: int) -> None:
    constraints, kinds = compiled(*parse_rules(text)), torch.zeros(1, len(LEAVES) + 1)
    kinds[0, LEAVES.index("heart") + 1] = 1.0
    boxes = torch.tensor([[30.0, 40.0, 62.0, 68.0]], requires_grad=True)
    image = Image(kinds, boxes, size=(100, 100))
    constraint_loss(constraints, [image], epsilon=1e-6)[0].backward()
    wider = float(-boxes.grad[0, 2] + boxes.grad[0, 0])
    assert wider * direction > 0


def test_more_objects_than_allowed_are_pushed_down() -> None:
    constraints = compiled(*parse_rules(":- count{H : heart(H)} > 1."))
    logits = torch.zeros(3, len(LEAVES) + 1)
    logits[:, LEAVES.index("heart") + 1] = torch.tensor([4.0, 2.0, 1.0])
    logits.requires_grad_()
    constraint_loss(constraints, [(logits.softmax(-1), torch.rand(3, 4))])[0].backward()
    assert (logits.grad[:, LEAVES.index("heart") + 1] > 0).all()


@given(scenes(), st.sampled_from([1e-3, 0.1, 1.0]), st.sampled_from(sorted(SEMANTICS)), st.sampled_from([0.0, 0.01]))
@settings(max_examples=60)
def test_gradients_are_finite_even_for_degenerate_boxes(
    scene: Scene, temperature: float, semantics: str, threshold: float
) -> None:
    boxes = boxes_of(scene).float()
    if len(boxes):
        boxes = torch.cat([boxes, boxes[:1], boxes[:1, [0, 1, 0, 1]]])  # a duplicate and a point
    boxes.requires_grad_()
    logits = torch.zeros(len(boxes), len(LEAVES) + 1, requires_grad=True)
    image = Image(logits.softmax(-1), boxes, size=(100, 100))
    loss, found = constraint_loss(SHAPES, [image], temperature, semantics=semantics, threshold=threshold)
    assert torch.isfinite(loss)
    assert (found.violated >= -1e-6).all()
    assert (found.violated <= found.fired + 1e-4).all()
    loss.backward()
    assert torch.isfinite(boxes.grad).all()
    assert torch.isfinite(logits.grad).all()


@given(scenes(5), st.integers(0, 10**6))
@settings(max_examples=30)
def test_the_order_of_the_objects_does_not_matter(scene: Scene, seed: int) -> None:
    p, boxes = unsure(scene, seed), boxes_of(scene)
    order = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(seed))
    for threshold in (0.0, 0.01):
        found = violation(SHAPES, p, boxes, size=SIZE, threshold=threshold)
        mixed = violation(SHAPES, p[order], boxes[order], size=SIZE, threshold=threshold)
        torch.testing.assert_close(found.violated, mixed.violated)


def made_scenes() -> list[Scene]:
    from neurosym.records import Box, Detection

    lung, heart = Detection("right_lung", Box(30, 5, 60, 90)), Detection("heart", Box(30, 40, 70, 80))
    return [Scene("a", 100, 100, (lung, heart))]


# --- bad and empty input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("semantics", sorted(SEMANTICS))
@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_an_image_without_objects_violates_nothing_and_has_a_gradient(semantics: str, threshold: float) -> None:
    logits, boxes = torch.zeros(0, len(LEAVES) + 1, requires_grad=True), torch.zeros(0, 4, requires_grad=True)
    masks = torch.zeros(0, 8, 8)
    image = Image(logits.softmax(-1), boxes, masks, (100, 100))
    loss, found = constraint_loss(SHAPES, [image], semantics=semantics, threshold=threshold)
    assert float(loss.detach()) == 0.0
    assert found.fired.tolist() == found.violated.tolist() == [0.0] * len(SHAPES.rules)
    loss.backward()
    assert logits.grad is not None


def test_a_batch_of_no_images_costs_nothing() -> None:
    loss, found = constraint_loss(SHAPES, [])
    assert float(loss) == 0.0
    assert len(found.fired) == len(SHAPES.rules)


def test_a_set_of_no_rules_costs_nothing() -> None:
    constraints = compile_constraints(Knowledge(THORAX.ontology, (), CHECKED), LEAVES, required=False)
    for threshold in (0.0, 0.05):
        loss, found = constraint_loss(
            constraints, [(torch.eye(len(LEAVES) + 1)[1:], torch.rand(len(LEAVES), 4))], threshold=threshold
        )
        assert float(loss) == 0.0
        assert len(found.fired) == 0


@pytest.mark.parametrize("semantics", sorted(SEMANTICS))
def test_objects_that_are_surely_nothing_violate_nothing_but_rules_about_the_image(semantics: str) -> None:
    for first in (0.0, 1.0):  # all background, and no probability at all
        kinds = torch.zeros(3, len(LEAVES) + 1)
        kinds[:, 0] = first
        found = violation(SHAPES, kinds, torch.rand(3, 4) * 50, size=(100, 100), semantics=semantics)
        about_objects = torch.tensor([bool(rule.body) for rule in SHAPES.rules])
        assert float(found.fired[about_objects].abs().max()) < 1e-6
        assert torch.isfinite(found.violated).all()
        assert found.fired[~about_objects].tolist() == pytest.approx([1.0] * 2, abs=1e-6)


def test_duplicated_boxes_and_boxes_of_no_extent_are_counted_like_any() -> None:
    kinds = torch.zeros(2, len(LEAVES) + 1)
    kinds[:, LEAVES.index("heart") + 1] = 1.0
    index = [r.id for r in SHAPES.rules].index("equality")
    same = violation(SHAPES, kinds, torch.tensor([[1.0, 1, 9, 9], [1, 1, 9, 9]]), 0.01)
    point = violation(SHAPES, kinds, torch.tensor([[1.0, 1, 9, 9], [5, 5, 5, 5]]), 0.01)
    assert (float(same.fired[index]), float(same.violated[index])) == pytest.approx((2.0, 0.0), abs=1e-6)
    assert (float(point.fired[index]), float(point.violated[index])) == pytest.approx((2.0, 2.0), abs=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    good, boxes = torch.full((1, len(LEAVES) + 1), 1 / (len(LEAVES) + 1)), torch.zeros(1, 4)
    logits = good.clone()
    logits[0, 2] = value
    bad = logits.softmax(-1) if value != -float("inf") else logits  # softmax of -inf is a plain 0
    with pytest.raises(ConstraintError, match="not finite; lower the learning rate"):
        violation(SET, bad, boxes)
    with pytest.raises(ConstraintError, match="not finite"):
        violation(SET, good, boxes + value)
    with pytest.raises(ConstraintError, match="not finite"):
        violation(SET, good, boxes, masks=torch.full((1, 4, 4), value))


def test_logits_in_the_place_of_probabilities_are_refused() -> None:
    with pytest.raises(
        ConstraintError, match=r"probabilities lie between -3 and 4; expected \[0, 1\]: take the softmax"
    ):
        violation(SET, torch.tensor([[-3.0, 4.0, *[0.0] * (len(LEAVES) - 1)]]), torch.zeros(1, 4))


def test_probabilities_of_another_detector_are_refused() -> None:
    with pytest.raises(ConstraintError, match=r"3 columns; expected 8 classes \(background first\)"):
        violation(SET, torch.zeros(1, 3), torch.zeros(1, 4))


def test_boxes_and_masks_of_another_number_are_refused() -> None:
    kinds = torch.zeros(2, len(LEAVES) + 1)
    with pytest.raises(ConstraintError, match="there are 2 objects, but 3 boxes"):
        violation(SET, kinds, torch.zeros(3, 4))
    with pytest.raises(ConstraintError, match="there are 2 objects, but 1 masks"):
        violation(SET, kinds, torch.zeros(2, 4), masks=torch.zeros(1, 4, 4))


def test_an_image_of_no_area_is_refused() -> None:
    with pytest.raises(ConstraintError, match="has no area"):
        violation(SHAPES, torch.zeros(1, len(LEAVES) + 1), torch.zeros(1, 4), size=(0, 100))


def test_confidences_of_another_rule_set_are_refused() -> None:
    with pytest.raises(ConstraintError, match=r"confidence is of 3 rules; the set has \d+"):
        constraint_loss(SET, [], confidence=torch.ones(3))


def test_an_unknown_semantics_lists_the_choices() -> None:
    with pytest.raises(ConstraintError, match="unknown semantics 'fuzzy'; known: product, product-log, lukasiewicz"):
        constraint_loss(SET, [], semantics="fuzzy")


def test_half_precision_is_computed_in_single() -> None:
    scene = made_scenes()[0]
    p, boxes = unsure(scene, 0), boxes_of(scene).float()
    full = violation(SHAPES, p.half().float(), boxes, size=SIZE)
    half = violation(SHAPES, p.half(), boxes, size=SIZE)
    assert half.fired.dtype == torch.float32
    torch.testing.assert_close(half.violated, full.violated)


def test_soft_words_are_transposed_for_the_swapped_pair() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 20.0, 45.0, 40.0], [3.0, 3.0, 6.0, 6.0]])
    words = soft_words(boxes)
    count = len(WORDS)
    torch.testing.assert_close(words[count : 2 * count], words[:count].transpose(1, 2))
    torch.testing.assert_close(words[WORDS.index("right_of")], words[count + WORDS.index("left_of")])
    assert (words[-1] == 1).all()
