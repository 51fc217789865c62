from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints import compile_constraints, constraint_loss, groundings, score_rules, violation
from neurosym.constraints.compile import WORDS
from neurosym.constraints.geometry import soft_words
from neurosym.errors import ConstraintError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.knowledge.geometry import PREDICATES
from neurosym.records import Box, Detection, Scene
from tests.conftest import CLASSES
from tests.oracles.rules import evaluate

ROOT = Path(__file__).parents[2]
LEAVES = CLASSES
THORAX = load_knowledge([ROOT / "ontologies/thorax.ttl", ROOT / "rules/thorax.rules"])
SET = compile_constraints(THORAX, LEAVES)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    found = []
    for _ in range(draw(st.integers(0, 7))):
        x, y = draw(st.integers(0, 80)), draw(st.integers(0, 80))
        box = Box(x + 0.11, y + 0.07, x + draw(st.integers(4, 50)), y + draw(st.integers(4, 50)))
        found.append(Detection(draw(st.sampled_from(LEAVES)), box))
    return Scene("film", 100, 100, tuple(found))


def one_hot(scene: Scene) -> torch.Tensor:
    probabilities = torch.zeros(len(scene.detections), len(LEAVES) + 1, dtype=torch.float64)
    for i, d in enumerate(scene.detections):
        probabilities[i, LEAVES.index(d.name) + 1] = 1.0
    return probabilities


def boxes_of(scene: Scene) -> torch.Tensor:
    return torch.tensor([d.box.xyxy for d in scene.detections], dtype=torch.float64).reshape(-1, 4)


@given(scenes())
@settings(max_examples=60, deadline=None)
def test_crisp_satisfaction_equals_trying_every_assignment(scene: Scene) -> None:
    found = groundings(SET, scene)
    for index, rule in enumerate(SET.rules):
        mine = [g for g in found if g.rule == index]
        assert (len(mine), sum(not g.holds for g in mine)) == evaluate(rule, scene, THORAX.ontology), str(rule)


@given(scenes())
@settings(max_examples=60, deadline=None)
def test_the_soft_violation_tends_to_the_crisp_one_as_the_temperature_falls(scene: Scene) -> None:
    boxes = boxes_of(scene)
    margins = [PREDICATES[w](boxes[:, None], boxes[None], torch) for w in WORDS]
    off = ~torch.eye(len(boxes), dtype=torch.bool)
    if any((m[off].abs() < 1e-5).any() for m in margins):
        return  # a pair on the very border of a word
    soft = violation(SET, one_hot(scene).float(), boxes.float(), temperature=1e-7)
    expected = torch.tensor([evaluate(rule, scene, THORAX.ontology) for rule in SET.rules], dtype=torch.float32)
    torch.testing.assert_close(soft.fired, expected[:, 0], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(soft.violated, expected[:, 1], atol=1e-3, rtol=1e-4)


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


def test_a_rule_of_confidence_w_costs_nothing_until_more_than_1_minus_w_of_it_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text("0.7 :: left_of(R, H) :- right_lung(R), heart(H).")
    knowledge = load_knowledge([ROOT / "ontologies/thorax.ttl", path])
    constraints = compile_constraints(knowledge, ("right_lung", "heart"))

    def loss(wrong: int, right: int) -> float:
        good, bad = [0.0, 0.0, 10.0, 10.0], [80.0, 0.0, 90.0, 10.0]
        middle = [40.0, 0.0, 50.0, 10.0]
        images = []
        for place in [bad] * wrong + [good] * right:
            kinds = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
            images.append((kinds, torch.tensor([place, middle])))
        return float(constraint_loss(constraints, images, temperature=0.01, epsilon=1e-6)[0])

    assert loss(wrong=2, right=8) == pytest.approx(0.0, abs=1e-4)
    assert loss(wrong=5, right=5) == pytest.approx(0.5 - 0.3, abs=1e-4)


def test_the_loss_pulls_misplaced_boxes_towards_their_places() -> None:
    [rule] = [r for r in THORAX.rules if r.id == "right_lung_left_of_heart"]
    constraints = compile_constraints(Knowledge(THORAX.ontology, (rule,)), ("right_lung", "heart"))
    kinds = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    boxes = torch.tensor([[50.0, 0.0, 70.0, 60.0], [40.0, 20.0, 60.0, 50.0]], requires_grad=True)
    constraint_loss(constraints, [(kinds, boxes)], epsilon=1e-6)[0].backward()  # type: ignore[no-untyped-call]
    assert boxes.grad is not None
    step = -boxes.grad[:, 0] - boxes.grad[:, 2]
    assert step[0] < 0 < step[1]


@given(scenes(), st.sampled_from([1e-3, 0.1, 1.0]))
@settings(max_examples=40, deadline=None)
def test_gradients_are_finite_even_for_degenerate_boxes(scene: Scene, temperature: float) -> None:
    boxes = boxes_of(scene).float()
    if len(boxes):
        boxes = torch.cat([boxes, boxes[:1], boxes[:1, [0, 1, 0, 1]]])  # a duplicate and a point
    boxes.requires_grad_()
    logits = torch.zeros(len(boxes), len(LEAVES) + 1, requires_grad=True)
    loss, found = constraint_loss(SET, [(logits.softmax(-1), boxes)], temperature)
    assert torch.isfinite(loss)
    assert (found.violated <= found.fired + 1e-4).all()
    if len(boxes):
        loss.backward()
        assert torch.isfinite(boxes.grad).all()
        assert torch.isfinite(logits.grad).all()


def test_an_image_without_objects_violates_nothing() -> None:
    loss, found = constraint_loss(SET, [(torch.zeros(0, len(LEAVES) + 1), torch.zeros(0, 4))])
    assert float(loss) == 0.0
    assert float(found.fired.sum()) == 0.0


def test_soft_words_are_transposed_for_the_swapped_pair() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 20.0, 45.0, 40.0], [3.0, 3.0, 6.0, 6.0]])
    words = soft_words(boxes)
    count = len(WORDS)
    torch.testing.assert_close(words[count : 2 * count], words[:count].transpose(1, 2))
    torch.testing.assert_close(words[WORDS.index("right_of")], words[count + WORDS.index("left_of")])
    assert (words[-1] == 1).all()


def test_values_that_are_not_finite_are_refused() -> None:
    kinds = torch.full((1, len(LEAVES) + 1), float("nan"))
    with pytest.raises(ConstraintError, match="not finite"):
        violation(SET, kinds, torch.zeros(1, 4))


def test_probabilities_of_another_detector_are_refused() -> None:
    with pytest.raises(ConstraintError, match=r"3 columns; expected 8 classes \(background first\)"):
        violation(SET, torch.zeros(1, 3), torch.zeros(1, 4))


def test_each_rule_that_constrains_nothing_says_why(thorax: Knowledge) -> None:
    unused = {rule.id: why for rule, why in compile_constraints(thorax, ("left_lung", "heart")).unused}
    assert unused["one_right_lung"] == "no category of this data set is tied to 'right_lung'"
    assert unused["lung_is_large"].startswith("'large_object' is a size or a place")


def test_a_class_without_any_category_says_what_to_add(thorax: Knowledge, tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text("left_of(H, L) :- heart(H), left_lung(L).\nlarger_than(H, M) :- heart(H), mass(M).")
    knowledge = load_knowledge([ROOT / "ontologies/thorax.ttl", path])
    [(rule, why)] = [(r, w) for r, w in compile_constraints(knowledge, ("heart", "left_lung")).unused if r.line == 2]
    assert str(rule) == "larger_than(H, M) :- heart(H), mass(M)."
    assert why == "class 'mass' has no category, so no data can show it; add ns:category to it in the ontology"


def test_a_rule_set_that_constrains_nothing_is_an_error(blood: Knowledge) -> None:
    with pytest.raises(ConstraintError, match="no rule constrains this detector"):
        compile_constraints(Knowledge(blood.ontology, ()), ("platelet",))


def test_a_class_that_the_ontology_does_not_have_is_an_error(thorax: Knowledge) -> None:
    with pytest.raises(ConstraintError, match=r"the detector's class 'spleen' is not in .*thorax.ttl"):
        compile_constraints(thorax, ("spleen",))


def test_fired_over_true_shows_a_detector_that_stopped_seeing() -> None:
    lung, heart = Detection("right_lung", Box(0, 0, 40, 90)), Detection("heart", Box(30, 40, 70, 80))
    true = [Scene("a", 100, 100, (lung, heart)), Scene("b", 100, 100, (lung, heart))]
    blind = [true[0], Scene("b", 100, 100, (lung,))]
    [score] = [s for s in score_rules(SET, blind, true) if s.rule == "right_lung_left_of_heart"]
    assert (score.fired, score.violated, score.fired_ratio, score.violation_rate) == (1, 0, 0.5, 0.0)
