from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neurosym.constraints.geometry import (
    FUNCTION_NAMES,
    MEASURE_NAMES,
    PLACES,
    TRUE,
    WORDS,
    pair_functions,
    soft_measures,
    soft_places,
    soft_words,
)
from neurosym.errors import ConstraintError
from neurosym.knowledge.geometry import SIDES, SIZES, ZONES
from neurosym.records import Box
from tests.oracles import spatial

KINDS = ("left_lung", "right_lung", "heart", "nodule")
FRAMES = ("left_lung", "right_lung")
WIDTH, HEIGHT = 151.0, 139.0
DEGENERATE = torch.tensor(
    [
        [10.0, 10.0, 50.0, 60.0],
        [10.0, 10.0, 50.0, 60.0],  # equal
        [10.0, 10.0, 10.0, 60.0],  # no width
        [10.0, 10.0, 10.0, 10.0],  # a point
        [10.0, 10.0, 10.0, 10.0],
        [30.0, 35.0, 20.0, 25.0],  # turned inside out
        [30.0, 35.0, 30.0, 35.0],  # the centre of the first
    ]
)


@st.composite
def boxes(draw: st.DrawFn, least: int = 1) -> list[Box]:
    found = []
    for i in range(draw(st.integers(least, 6))):
        x, y = draw(st.integers(0, 80)) + 0.0137 * i, draw(st.integers(0, 80)) + 0.0071 * i
        found.append(Box(x, y, x + draw(st.integers(1, 60)), y + draw(st.integers(1, 50))))
    return found


def tensor(found: list[Box], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor([b.xyxy for b in found], dtype=dtype)


def decided(soft: torch.Tensor) -> torch.Tensor:
    """The crisp truth; at so low a temperature only what lies on the very border of a word is left undecided."""
    assume(bool(((soft < 1e-3) | (soft > 1 - 1e-3)).all()))
    return soft > 0.5


@given(boxes(least=2))
@settings(deadline=None)
def test_each_soft_word_tends_to_the_crisp_one_as_the_temperature_falls(found: list[Box]) -> None:
    off = ~torch.eye(len(found), dtype=torch.bool)
    soft = soft_words(tensor(found), temperature=1e-7)
    truth = decided(soft[:, off])
    for index, word in enumerate(WORDS):
        pairs = [(a, b) for a, b in itertools.product(found, found) if a is not b]
        assert truth[index].tolist() == [spatial.holds(word, a, b) for a, b in pairs], word
        assert truth[len(WORDS) + index].tolist() == [spatial.holds(word, b, a) for a, b in pairs], word
    assert len(soft) == TRUE + 1


@given(boxes(), st.sampled_from([0.01, 0.1, 1.0]))
@settings(max_examples=40, deadline=None)
def test_orders_are_antisymmetric_and_symmetric_words_symmetric(found: list[Box], temperature: float) -> None:
    truth = dict(zip(WORDS, soft_words(tensor(found), temperature), strict=False))
    for word in ("left_of", "right_of", "above", "below", "larger_than", "smaller_than", "patient_left_of"):
        torch.testing.assert_close(truth[word] + truth[word].T, torch.ones_like(truth[word]))
    for word in ("overlaps", "near", "same", "adjacent"):
        torch.testing.assert_close(truth[word], truth[word].T)
    torch.testing.assert_close(truth["patient_left_of"], truth["right_of"])
    torch.testing.assert_close(truth["patient_right_of"], truth["left_of"])


@given(boxes(), st.floats(0.05, 50))
@settings(max_examples=40, deadline=None)
def test_soft_truth_does_not_depend_on_the_scale_of_the_image(found: list[Box], scale: float) -> None:
    before = tensor(found)
    after = before * scale
    torch.testing.assert_close(soft_words(after), soft_words(before), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(pair_functions(after), pair_functions(before), rtol=1e-3, atol=1e-3)
    size = (WIDTH * scale, HEIGHT * scale)
    torch.testing.assert_close(soft_measures(after, *size), soft_measures(before, WIDTH, HEIGHT), rtol=1e-3, atol=1e-3)
    frames = torch.linspace(0.1, 0.9, len(found), dtype=torch.float64)
    places = [soft_places(b, frames, *s) for b, s in ((after, size), (before, (WIDTH, HEIGHT)))]
    torch.testing.assert_close(*places, rtol=1e-3, atol=1e-3)


@given(boxes())
def test_numbers_of_boxes_are_those_of_their_definitions(found: list[Box]) -> None:
    pairs = pair_functions(tensor(found))
    for index, name in enumerate(FUNCTION_NAMES):
        expected = [[spatial.number(name, a, b) for b in found] for a in found]
        torch.testing.assert_close(pairs[index], torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    measures = soft_measures(tensor(found), WIDTH, HEIGHT)
    for index, name in enumerate(MEASURE_NAMES):
        expected = [spatial.measure(name, a, WIDTH, HEIGHT) for a in found]
        torch.testing.assert_close(measures[index], torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5)


def placed(found: list[Box], kinds: list[str], temperature: float) -> torch.Tensor:
    classes = torch.tensor([[float(k == c) for k in kinds] for c in FRAMES], dtype=torch.float64)
    return soft_places(tensor(found), classes.sum(0), WIDTH, HEIGHT, temperature, classes=classes)


@given(boxes(), st.data())
@settings(max_examples=200, deadline=None)
def test_soft_places_tend_to_the_crisp_ones_with_any_number_of_frames(found: list[Box], data: st.DataObject) -> None:
    kinds = [data.draw(st.sampled_from(KINDS)) for _ in found]
    frames = {c: [b for b, k in zip(found, kinds, strict=True) if k == c] for c in FRAMES}
    every = [f for several in frames.values() for f in several]
    expected = []
    for box, kind in zip(found, kinds, strict=True):
        places = {spatial.size(box, WIDTH, HEIGHT)}
        if every and kind not in FRAMES:
            frame = spatial.frame(box, every)
            places |= {spatial.zone(box, frame), spatial.side(box, frame, frames, WIDTH)}
        expected.append([p in places for p in PLACES])
    assert decided(placed(found, kinds, temperature=1e-7)).T.tolist() == expected


@given(boxes(), st.data(), st.sampled_from([1e-3, 0.1, 1.0]))
@settings(max_examples=60, deadline=None)
def test_zones_sides_and_sizes_share_the_truth_out(found: list[Box], data: st.DataObject, temperature: float) -> None:
    frames = torch.tensor([data.draw(st.sampled_from([0.0, 0.2, 0.9, 1.0])) for _ in found], dtype=torch.float64)
    truth = soft_places(tensor(found), frames, WIDTH, HEIGHT, temperature)
    assert ((truth >= -1e-9) & (truth <= 1 + 1e-9)).all()
    row = PLACES.index
    zones, sides = (truth[[row(p) for p in places]].sum(0) for places in (ZONES, SIDES))
    others = [[float(1 - frames[j]) for j in range(len(found)) if j != i] for i in range(len(found))]
    some = torch.tensor([1 - torch.tensor(o, dtype=torch.float64).prod() for o in others], dtype=torch.float64)
    torch.testing.assert_close(zones, some * (1 - frames))
    torch.testing.assert_close(sides, some * (1 - frames))
    torch.testing.assert_close(truth[[row(p) for p in SIZES]].sum(0), torch.ones_like(frames))


@given(boxes(least=3), st.data())
@settings(max_examples=60, deadline=None)
def test_uncertain_frames_weigh_as_the_mean_over_every_choice_of_true_frames(
    found: list[Box], data: st.DataObject
) -> None:
    found = found[:5]
    odds = [data.draw(st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0])) for _ in found]
    expected = torch.zeros(len(ZONES), len(found), dtype=torch.float64)
    for chosen in itertools.product([False, True], repeat=len(found)):
        weight = torch.tensor([p if c else 1 - p for p, c in zip(odds, chosen, strict=True)]).prod()
        frames = [b for b, c in zip(found, chosen, strict=True) if c]
        for i, box in enumerate(found):
            if frames and not chosen[i]:
                expected[ZONES.index(spatial.zone(box, spatial.frame(box, frames))), i] += weight
    truth = soft_places(tensor(found), torch.tensor(odds, dtype=torch.float64), WIDTH, HEIGHT, 1e-7)[: len(ZONES)]
    assume(bool(((truth - truth.round(decimals=4)).abs() < 1e-6).all()))  # a box on a border of a zone has half of both
    torch.testing.assert_close(truth, expected, atol=1e-5, rtol=1e-5)


def test_a_box_between_two_frames_is_drawn_to_the_zone_that_each_gives_it() -> None:
    low, high = [0.0, 0.0, 30.0, 60.0], [70.0, 40.0, 100.0, 100.0]
    between = torch.tensor([low, high, [45.0, 45.0, 55.0, 55.0]], requires_grad=True)
    truth = soft_places(between, torch.tensor([1.0, 1.0, 0.0]), 100, 100)
    truth[PLACES.index("upper_zone"), 2].backward()
    assert 0.2 < float(truth[PLACES.index("upper_zone"), 2].detach()) < 0.8
    assert between.grad is not None
    assert between.grad[2, 0] > 0, "to the right, towards the frame in whose upper zone it lies"
    assert between.grad[2, 1] < 0, "upwards"


@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 0.1, 1.0])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_gradients_are_finite_at_degenerate_and_equal_boxes(temperature: float, scale: float) -> None:
    found = (DEGENERATE * scale).requires_grad_()
    frames = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0], requires_grad=True)
    classes = torch.stack([frames * 0.5, frames * 0.5])
    size = (100 * scale, 100 * scale)
    values = {
        "words": soft_words(found, temperature),
        "functions": pair_functions(found),
        "measures": soft_measures(found, *size),
        "places": soft_places(found, frames, *size, temperature, classes=classes),
    }
    for name, value in values.items():
        assert torch.isfinite(value).all(), name
        value.sum().backward(retain_graph=True)
        assert found.grad is not None
        assert torch.isfinite(found.grad).all(), name
    assert frames.grad is not None
    assert torch.isfinite(frames.grad).all()


def test_the_gradients_are_the_slopes() -> None:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(4, 2, dtype=torch.float64, generator=generator) * 60
    side = 10 + torch.rand(4, 2, dtype=torch.float64, generator=generator) * 30
    found = torch.cat([corner, corner + side], 1).requires_grad_()
    classes = torch.rand(2, 4, dtype=torch.float64, generator=generator).div(2).requires_grad_()
    assert torch.autograd.gradcheck(soft_words, (found,), fast_mode=True)
    assert torch.autograd.gradcheck(pair_functions, (found,), fast_mode=True)
    places = lambda b, c: soft_places(b, c.sum(0), 100, 100, classes=c)  # noqa: E731
    assert torch.autograd.gradcheck(places, (found, classes), fast_mode=True)


def test_an_image_without_boxes_has_no_truths() -> None:
    none = torch.zeros(0, 4)
    assert soft_words(none).shape == (TRUE + 1, 0, 0)
    assert soft_places(none, torch.zeros(0), 10, 10, classes=torch.zeros(2, 0)).shape == (len(PLACES), 0)
    assert soft_measures(none, 10, 10).shape == (len(MEASURE_NAMES), 0)


def test_a_temperature_or_an_image_of_nothing_is_refused() -> None:
    with pytest.raises(ConstraintError, match="temperature 0.0 is not positive; crisp predicates are the limit"):
        soft_words(DEGENERATE, 0.0)
    with pytest.raises(ConstraintError, match="an image of 0 × 10 has no area"):
        soft_places(DEGENERATE, torch.zeros(7), 0, 10)
