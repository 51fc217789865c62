from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints import compile_constraints, exact
from neurosym.constraints.circuits import FLOOR
from neurosym.constraints.exact import exact_loss
from neurosym.constraints.geometry import PLACES, WORDS, soft_places, soft_words
from neurosym.errors import ConstraintError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.logic import Atom, Rule, Term
from neurosym.records import Box, Detection, Scene
from tests.oracles.rules import evaluate

ROOT = Path(__file__).parents[2]
THORAX = load_knowledge([ROOT / "ontologies/thorax.ttl", ROOT / "rules/thorax.rules"])
LEAVES = ("left_lung", "right_lung", "heart", "nodule")
SIZE = (100.0, 100.0)

Key = tuple[str, int, int]


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_told", [])


# --- the oracle: every choice of labels, and of those truths that the rules then ask for ---------------------------------


class Unknown(Exception):
    """A truth that is not decided yet."""


def key(word: str, i: int, j: int) -> tuple[Key, bool]:
    """One name for each way to say the same of two detections; False if it says the opposite."""
    inverse = {"right_of": "left_of", "below": "above", "encloses": "inside", "smaller_than": "larger_than"}
    if word in inverse:
        word, i, j = inverse[word], j, i
    if word in ("left_of", "above", "larger_than") and i > j:
        return (word, j, i), False
    if word in ("overlaps", "same", "near") and i > j:
        i, j = j, i
    return (word, i, j), True


def asked(known: Mapping[Key, bool], word: str, i: int, j: int) -> bool:
    name, same = key(word, i, j)
    if name not in known:
        raise Unknown(name)
    return known[name] == same


def true(atom: Atom, bound: Mapping[Term, int], labels: tuple[int, ...], known: Mapping[Key, bool]) -> bool:
    who = [bound[t] for t in atom.args]
    if atom.predicate == "=":
        return asked(known, "same", *who)
    if len(who) == 2:
        return asked(known, THORAX.ontology.relations[atom.predicate].predicate, *who)
    if atom.predicate in PLACES:
        return asked(known, atom.predicate, who[0], who[0])
    return labels[who[0]] > 0 and THORAX.ontology.is_a(LEAVES[labels[who[0]] - 1], atom.predicate)


def violated(rule: Rule, labels: tuple[int, ...], known: Mapping[Key, bool]) -> int:
    """How many groundings of a rule are broken."""
    seen = [i for i, label in enumerate(labels) if label]
    variables = list(dict.fromkeys(v for a in rule.body for v in a.variables))
    unary_first = sorted(rule.body, key=lambda a: len(a.args))
    count = 0
    for chosen in itertools.permutations(seen, len(variables)):
        bound = dict(zip(variables, chosen, strict=True))
        if not all(true(a, bound, labels, known) for a in unary_first):
            continue
        choices = itertools.permutations([i for i in seen if i not in chosen], len(rule.existential))
        heads = sorted(rule.head, key=lambda a: len(a.args))
        count += not rule.head or not any(
            all(true(a, {**bound, **dict(zip(rule.existential, more, strict=True))}, labels, known) for a in heads)
            for more in choices
        )
    return count


def enumerated(
    rules: tuple[Rule, ...], probabilities: torch.Tensor, chance: Callable[[Key], torch.Tensor]
) -> torch.Tensor:
    """The probability that all rules hold."""

    def given_labels(labels: tuple[int, ...], known: dict[Key, bool]) -> torch.Tensor:
        weight = torch.ones((), dtype=probabilities.dtype)
        try:
            for rule in rules:
                keeps = 1.0 - (1.0 if rule.weight is None else rule.weight)
                weight = weight * keeps ** violated(rule, labels, known)
        except Unknown as unknown:
            [name] = unknown.args
            p = chance(name)
            yes, no = (given_labels(labels, {**known, name: value}) for value in (True, False))
            return p * yes + (1.0 - p) * no
        return weight

    total = torch.zeros((), dtype=probabilities.dtype)
    for labels in itertools.product(range(probabilities.shape[1]), repeat=len(probabilities)):
        weight = torch.stack([probabilities[n, label] for n, label in enumerate(labels)]).prod()
        total = total + weight * given_labels(labels, {})
    return total


def chance_of(boxes: torch.Tensor, temperature: float) -> Callable[[Key], torch.Tensor]:
    words = soft_words(boxes, temperature)
    places = soft_places(boxes, torch.zeros(len(boxes), dtype=boxes.dtype), *SIZE, temperature)

    def chance(name: Key) -> torch.Tensor:
        word, i, j = name
        return places[PLACES.index(word), i] if word in PLACES else words[WORDS.index(word), i, j]

    return chance


def some_scene(seed: int, count: int, leaves: int = len(LEAVES)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, leaves + 1, generator=generator, dtype=torch.float64)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 50
    side = 5 + torch.rand(count, 2, generator=generator, dtype=torch.float64) * 40
    return logits, torch.cat([corner, corner + side], 1)


def ids(*names: str) -> Knowledge:
    return Knowledge(THORAX.ontology, tuple(r for r in THORAX.rules if r.id in names))


SET = compile_constraints(THORAX, LEAVES)


@pytest.mark.parametrize(("seed", "count"), [(0, 1), (1, 2), (2, 2), (3, 2), (4, 2)])
def test_the_loss_is_the_exact_probability_that_all_thorax_rules_hold(seed: int, count: int) -> None:
    logits, boxes = some_scene(seed, count)
    p = logits.softmax(1)
    found = exact_loss(SET, p, boxes, size=SIZE, temperature=0.5, threshold=0.0, negligible=0.0)
    expected = enumerated(SET.rules, p, chance_of(boxes, 0.5))
    assert found.fallbacks == 0
    torch.testing.assert_close(found.log_probability, expected.log(), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.loss, -found.log_probability)


@pytest.mark.parametrize(
    "names",
    [
        ("lungs_in_order", "heart_left_of_left_lung", "lungs_apart"),
        ("nodule_in_lung", "nodule_not_around_lung"),
        ("one_right_lung", "heart_not_in_lung", "lung_is_large"),
        ("one_heart", "heart_below_lung", "right_lung_left_of_heart"),
    ],
)
def test_rules_between_three_detections_share_their_words_and_witnesses(names: tuple[str, ...]) -> None:
    constraints = compile_constraints(ids(*names), LEAVES)
    logits, boxes = some_scene(7, 3)
    p = logits.softmax(1)
    found = exact_loss(constraints, p, boxes, size=SIZE, temperature=0.5, threshold=0.0, negligible=0.0)
    expected = enumerated(constraints.rules, p, chance_of(boxes, 0.5))
    assert found.fallbacks == 0
    torch.testing.assert_close(found.log_probability, expected.log(), rtol=1e-7, atol=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=8)
def test_with_crisp_geometry_it_is_a_sum_over_scenes_of_what_their_violations_leave(seed: int) -> None:
    logits, boxes = some_scene(seed, 3)
    rules = ids("lungs_in_order", "nodule_in_lung", "one_left_lung", "lungs_apart", "lung_larger_than_heart")
    constraints = compile_constraints(rules, LEAVES)
    p = logits.softmax(1)
    found = exact_loss(constraints, p, boxes, temperature=1e-7, threshold=0.0, negligible=0.0)
    total = 0.0
    for labels in itertools.product(range(len(LEAVES) + 1), repeat=3):
        seen = [Detection(LEAVES[k - 1], Box(*boxes[n].tolist())) for n, k in enumerate(labels) if k]
        scene = Scene("film", 100, 100, tuple(seen))
        weight = float(torch.stack([p[n, k] for n, k in enumerate(labels)]).prod())
        for rule in constraints.rules:
            keeps = 1.0 - (1.0 if rule.weight is None else rule.weight)
            weight *= keeps ** evaluate(rule, scene, THORAX.ontology)[1]
        total += weight
    assert float(found.log_probability.exp()) == pytest.approx(total, rel=1e-6)


def test_gradients_are_those_of_the_enumeration_and_of_finite_differences() -> None:
    logits, boxes = some_scene(5, 2)
    logits.requires_grad_()
    boxes.requires_grad_()

    def mine(logits: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return exact_loss(SET, logits.softmax(1), boxes, size=SIZE, temperature=0.5, threshold=0.0, negligible=0.0).loss

    assert torch.autograd.gradcheck(mine, (logits, boxes), eps=1e-6, atol=1e-5, rtol=1e-4)
    found = torch.autograd.grad(mine(logits, boxes), (logits, boxes))
    # the frames of places follow the class probabilities too; sizes do not, and no rule here speaks of zones
    expected = -enumerated(SET.rules, logits.softmax(1), chance_of(boxes, 0.5)).log()
    for one, other in zip(found, torch.autograd.grad(expected, (logits, boxes)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_a_learned_confidence_stands_in_for_the_stated_one() -> None:
    constraints = compile_constraints(ids("right_lung_left_of_heart"), LEAVES)
    p = torch.zeros(2, len(LEAVES) + 1)
    p[0, LEAVES.index("right_lung") + 1] = p[1, LEAVES.index("heart") + 1] = 1.0
    boxes = torch.tensor([[60.0, 10, 80, 80], [30, 40, 55, 70]])
    found = exact_loss(constraints, p, boxes, temperature=0.01, confidence=torch.tensor([0.7]))
    assert float(found.log_probability.exp()) == pytest.approx(0.3, rel=1e-5)
    with pytest.raises(ConstraintError, match="confidence is of 2 rules; the set has 1"):
        exact_loss(constraints, p, boxes, confidence=torch.ones(2))


def test_components_that_share_nothing_are_counted_apart() -> None:
    constraints = compile_constraints(ids("right_lung_left_of_heart", "nodule_is_small"), LEAVES)
    p = torch.full((4, 5), 0.02)
    for n, label in enumerate(("right_lung", "heart", "nodule", "nodule")):
        p[n, LEAVES.index(label) + 1] = 0.92
    boxes = torch.tensor([[60.0, 10, 80, 80], [30, 40, 55, 70], [0, 0, 40, 40], [50, 50, 95, 95]])
    together = exact_loss(constraints, p, boxes, size=SIZE)
    assert [c.detections for c in together.components] == [(2,), (3,), (0, 1)]
    assert {constraints.rules[c.rules[0]].id for c in together.components[:2]} == {"nodule_is_small"}
    parts = [exact_loss(constraints, p[rows], boxes[rows], size=SIZE).loss for rows in ([2], [3], [0, 1])]
    torch.testing.assert_close(together.loss, torch.stack(parts).sum())


def test_groundings_with_an_unlikely_premise_are_left_out() -> None:
    constraints = compile_constraints(ids("right_lung_left_of_heart"), LEAVES)
    p = torch.tensor([[0.8, 0.0, 0.2, 0.0, 0.0], [0.8, 0.0, 0.0, 0.2, 0.0]])
    boxes = torch.tensor([[60.0, 10, 80, 80], [30, 40, 55, 70]])
    assert float(exact_loss(constraints, p, boxes, threshold=0.05).loss) == 0.0
    broken = exact_loss(constraints, p, boxes, threshold=0.03, temperature=0.01).loss
    assert float(broken) == pytest.approx(-torch.tensor(1 - 0.04).log().item(), rel=1e-4)


def test_overlapping_classes_are_independent_variables(tmp_path: Path) -> None:
    (tmp_path / "x.ttl").write_text(
        "@prefix : <urn:x#> . @prefix owl: <http://www.w3.org/2002/07/owl#> .\n"
        "@prefix ns: <https://w3id.org/neurosym/core#> . <urn:x> a owl:Ontology .\n"
        + "\n".join(f':{c} a owl:Class ; ns:category "{c}" .' for c in "abcd")
    )
    (tmp_path / "x.rules").write_text("c(X) :- a(X), b(X).\n0.9 :: d(X) :- c(X).\n")
    knowledge = load_knowledge([tmp_path / "x.ttl", tmp_path / "x.rules"])
    constraints = compile_constraints(knowledge, ("a", "b", "c", "d"), exclusive=False)
    p = torch.tensor([[0.0, 0.7, 0.6, 0.4, 0.2]], dtype=torch.float64)
    total = 0.0
    for a, b, c, d in itertools.product((0, 1), repeat=4):
        values = zip(p[0, 1:].tolist(), (a, b, c, d), strict=True)
        weight = torch.tensor([q if x else 1 - q for q, x in values]).prod().item()
        total += weight * (not (a and b) or c) * (0.1 if c and not d else 1.0)
    boxes = torch.tensor([[0.0, 0, 10, 10]], dtype=torch.float64)
    found = exact_loss(constraints, p, boxes, threshold=0.0, negligible=0.0)
    assert float(found.log_probability.exp()) == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize(
    "words", [("right_of", "left_of"), ("encloses", "inside"), ("near", "near"), ("smaller_than", "larger_than")]
)
def test_words_that_say_the_same_or_the_opposite_are_one_variable(words: tuple[str, str], tmp_path: Path) -> None:
    one, other = words
    path = tmp_path / "x.rules"
    converse_rule = "" if one == "near" else f"0.9 :: {one}(Y, X) :- heart(X), nodule(Y).\n"
    path.write_text(
        f"{one}(X, Y) :- heart(X), nodule(Y).\n{other}(Y, X) :- heart(X), nodule(Y).\n{converse_rule}"
        f":- heart(X), nodule(Y), \\+ {one}(X, Y).\n"
    )
    read = load_knowledge([ROOT / "ontologies/thorax.ttl", path]).rules
    rules = Knowledge(THORAX.ontology, tuple(r for r in read if r.file.endswith("x.rules")))
    constraints = compile_constraints(rules, LEAVES)
    assert len(constraints.rules) >= 3
    _, boxes = some_scene(11, 2)
    truth, converse = (float(soft_words(boxes, 0.5)[WORDS.index(one), i, 1 - i]) for i in (0, 1))
    p = torch.zeros(2, len(LEAVES) + 1, dtype=torch.float64)
    p[0, LEAVES.index("heart") + 1] = p[1, LEAVES.index("nodule") + 1] = 0.8
    p[:, 0] = 0.2
    found = exact_loss(constraints, p, boxes, temperature=0.5, threshold=0.0, negligible=0.0)
    if one in ("right_of", "smaller_than"):  # the converse is the opposite
        all_hold = truth * 0.1
    elif one == "near":
        all_hold = truth
    else:
        all_hold = truth * (0.1 + 0.9 * converse)
    assert float(found.log_probability.exp()) == pytest.approx(0.36 + 0.64 * all_hold, rel=1e-6)


def test_counted_objects_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text(":- heart(H), count{N : nodule(N), left_of(N, H)} >= 2.")
    counting = tuple(r for r in load_knowledge([ROOT / "ontologies/thorax.ttl", path]).rules if not r.head)
    constraints = compile_constraints(Knowledge(THORAX.ontology, counting), LEAVES)
    logits, boxes = some_scene(3, 4)
    p = logits.softmax(1)
    boxes[0, [0, 2]] += 100.0
    words = soft_words(boxes, 0.5)
    left = WORDS.index("left_of")
    total = 0.0
    # detection 0 as the only heart: others left of it
    only_first = p.clone()
    only_first[1:, LEAVES.index("heart") + 1] = 0.0
    only_first = only_first / only_first.sum(1, keepdim=True)
    for labels in itertools.product(range(len(LEAVES) + 1), repeat=4):
        weight = float(torch.stack([only_first[n, k] for n, k in enumerate(labels)]).prod())
        if labels[0] == LEAVES.index("heart") + 1:
            chances = [float(words[left, n, 0]) for n in (1, 2, 3) if labels[n] == LEAVES.index("nodule") + 1]
            fewer = 0.0
            for there in itertools.product((0, 1), repeat=len(chances)):
                if sum(there) < 2:
                    fewer += (
                        torch.tensor([c if t else 1 - c for c, t in zip(chances, there, strict=True)]).prod().item()
                    )
            weight *= fewer
        total += weight
    found = exact_loss(constraints, only_first, boxes, temperature=0.5, threshold=0.0, negligible=0.0)
    assert found.fallbacks == 0
    assert float(found.log_probability.exp()) == pytest.approx(total, rel=1e-6)


def crowd(count: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    logits, boxes = some_scene(0, count)
    return logits.float().requires_grad_(), boxes.float().requires_grad_()


@pytest.mark.parametrize(
    ("limits", "told"),
    [({"max_variables": 20}, r"variables; the limit is 20"), ({"max_nodes": 50}, r"elements; the limit is 50")],
)
def test_a_component_that_is_too_large_counts_by_the_product_and_is_told_once(
    limits: dict, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    logits, boxes = crowd()
    with caplog.at_level(logging.WARNING, logger="neurosym.constraints.exact"):
        for _ in range(3):
            found = exact_loss(SET, logits.softmax(1), boxes, size=SIZE, **limits)
    assert found.fallbacks == sum(not c.exact for c in found.components) > 0
    [record] = caplog.records
    assert "rules over 7 detections" in record.message
    assert told in record.message
    found.loss.backward()
    assert torch.isfinite(found.loss)
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(boxes.grad).all()


def test_the_fallback_is_the_product_over_groundings_as_if_they_were_independent() -> None:
    constraints = compile_constraints(ids("right_lung_left_of_heart", "lungs_apart"), LEAVES)
    logits, boxes = some_scene(1, 3)
    p = logits.softmax(1)
    found = exact_loss(constraints, p, boxes, threshold=0.0, negligible=0.0, max_variables=0)
    words, expected = soft_words(boxes), 0.0
    left, right, heart = (LEAVES.index(c) + 1 for c in ("left_lung", "right_lung", "heart"))
    for n, m in itertools.permutations(range(3), 2):
        expected += torch.log(1 - p[n, right] * p[m, heart] * (1 - words[WORDS.index("left_of"), n, m]))
        expected += torch.log(1 - 0.991 * p[n, left] * p[m, right] * words[WORDS.index("overlaps"), n, m])
    torch.testing.assert_close(found.log_probability, expected)


def test_detections_that_are_surely_background_change_nothing() -> None:
    logits, boxes = some_scene(2, 3)
    p = logits.softmax(1)
    nothing = torch.zeros(2, p.shape[1], dtype=p.dtype)
    nothing[:, 0] = 1.0
    more = exact_loss(SET, torch.cat([p, nothing]), torch.cat([boxes, boxes[:2] + 20]), size=SIZE)
    torch.testing.assert_close(more.loss, exact_loss(SET, p, boxes, size=SIZE).loss)


def test_impossible_evidence_has_the_floor_as_logarithm_and_finite_gradients() -> None:
    [rule] = [r for r in THORAX.rules if r.id == "right_lung_left_of_heart"]
    constraints = compile_constraints(Knowledge(THORAX.ontology, (rule,)), ("right_lung", "heart"))
    p = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], requires_grad=True)
    boxes = torch.tensor([[900.0, 0, 910, 10], [0, 0, 10, 10]], requires_grad=True)
    found = exact_loss(constraints, p, boxes, temperature=0.01)
    assert float(found.loss.detach()) == -FLOOR
    found.loss.backward()
    assert torch.isfinite(p.grad).all()
    assert torch.isfinite(boxes.grad).all()


def test_rows_without_any_probability_and_empty_images_have_a_finite_loss() -> None:
    p = torch.zeros(3, len(LEAVES) + 1, requires_grad=True)
    boxes = torch.rand(3, 4)
    found = exact_loss(SET, p, torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), size=SIZE)
    assert float(found.loss.detach()) == 0.0
    found.loss.backward()
    assert torch.isfinite(p.grad).all()
    assert float(exact_loss(SET, torch.zeros(0, len(LEAVES) + 1), torch.zeros(0, 4)).loss) == 0.0


def test_values_that_are_not_finite_are_refused() -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1]])
    with pytest.raises(ConstraintError, match="not finite"):
        exact_loss(SET, torch.full((1, len(LEAVES) + 1), float("nan")), boxes)
    with pytest.raises(ConstraintError, match="not finite"):
        exact_loss(SET, torch.full((1, len(LEAVES) + 1), 0.2), boxes * float("inf"))
    with pytest.raises(ConstraintError, match=r"3 columns; expected 5 classes \(background first\)"):
        exact_loss(SET, torch.zeros(1, 3), boxes)


def test_training_on_the_loss_makes_the_rules_hold() -> None:
    constraints = compile_constraints(ids("right_lung_left_of_heart"), LEAVES)
    kinds = torch.zeros(2, len(LEAVES) + 1)
    kinds[0, LEAVES.index("right_lung") + 1] = kinds[1, LEAVES.index("heart") + 1] = 1.0
    boxes = torch.tensor([[50.0, 0, 70, 60], [40, 20, 60, 50]], requires_grad=True)
    optimiser = torch.optim.SGD([boxes], lr=8.0)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = exact_loss(constraints, kinds, boxes).loss
        losses.append(float(loss.detach()))
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.05 < 1.0 < losses[0]
    assert boxes[0, [0, 2]].sum() < boxes[1, [0, 2]].sum()
