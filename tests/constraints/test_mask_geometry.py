from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neurosym.constraints.geometry import TRUE, WORDS, soft_words
from neurosym.errors import ConstraintError
from neurosym.knowledge.geometry import PREDICATES
from neurosym.knowledge.mask_geometry import mask_margins, pair_margins
from neurosym.records import Box
from tests.oracles.spatial import Pixels, holds, holds_of_masks

HEIGHT, WIDTH = 18, 24
INDEX = {word: i for i, word in enumerate(WORDS)}

Cells = tuple[int, int, int, int]


@st.composite
def rectangles(draw: st.DrawFn) -> Cells:
    x, y = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return x, y, draw(st.integers(x + 1, WIDTH)), draw(st.integers(y + 1, HEIGHT))


@st.composite
def shapes(draw: st.DrawFn) -> np.ndarray:
    """A few rectangles, some of their pixels missing."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for x1, y1, x2, y2 in draw(st.lists(rectangles(), min_size=1, max_size=3)):
        mask[y1:y2, x1:x2] = True
    holes = np.random.default_rng(draw(st.integers(0, 99))).random(mask.shape) < draw(st.sampled_from([0.0, 0.3, 0.8]))
    mask &= ~holes
    assume(mask.any())
    return mask


def pixels(mask: np.ndarray) -> Pixels:
    return frozenset((int(x), int(y)) for y, x in np.argwhere(mask))


def filled(cells: Cells) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    x1, y1, x2, y2 = cells
    mask[y1:y2, x1:x2] = True
    return mask


def extent(mask: np.ndarray) -> list[float]:
    y, x = np.nonzero(mask)
    return [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 1, 1]


def boxes_of(masks: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.array([extent(m) for m in masks]), dtype=torch.float64)


@given(st.lists(shapes(), min_size=2, max_size=4))
@settings(deadline=None)
def test_crisp_and_soft_words_of_masks_are_those_of_their_pixels(found: list[np.ndarray]) -> None:
    masks = np.stack(found)
    boxes = boxes_of(masks)
    margins = pair_margins(boxes.numpy(), masks, np)
    soft = soft_words(boxes, 1e-7, torch.from_numpy(masks).double()).numpy()
    sets = [pixels(m) for m in masks]
    for word, index in INDEX.items():
        for n, a in enumerate(sets):
            for m, b in enumerate(sets):
                if abs(margins[index, n, m]) > 1e-9:  # on the border itself either answer is one of rounding
                    assert (margins[index, n, m] > 0) == holds_of_masks(word, a, b), word
                if abs(margins[index, n, m]) > 2e-6:
                    assert soft[index, n, m] == pytest.approx(float(holds_of_masks(word, a, b)), abs=1e-6), word
                    assert soft[len(WORDS) + index, m, n] == soft[index, n, m], word
    assert len(soft) == TRUE + 1


def shares(a: Cells, b: Cells) -> tuple[float, float]:
    return tuple(max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) / (a[i + 2] - a[i]) for i in (0, 1))


@given(rectangles(), rectangles(), st.sampled_from([1.0, 7.5]))
@settings(max_examples=300, deadline=None)
def test_masks_that_are_filled_rectangles_agree_with_their_boxes(a: Cells, b: Cells, scale: float) -> None:
    masks = torch.from_numpy(np.stack([filled(a), filled(b)])).double()
    boxes = torch.tensor([a, b], dtype=torch.float64) * scale
    margins = dict(zip(WORDS, pair_margins(boxes, masks, torch)[:, 0, 1].tolist(), strict=True))
    first, second = Box(*a), Box(*b)
    (wide, high), (wide_too, high_too) = shares(a, b), shares(b, a)
    differ: set[str] = set()
    if max(wide * high, wide_too * high_too) <= 0.01 and wide * high > 0:  # a sliver
        differ.add("overlaps")
    for word, (w, h) in (("inside", (wide, high)), ("encloses", (wide_too, high_too))):
        if (w * h >= 0.75) != (w >= 0.75 and h >= 0.75):  # clipped on both axes
            differ |= {word, "adjacent"}
    for word in set(WORDS) - differ:
        if abs(margins[word]) > 1e-5:
            assert (margins[word] > 0) == holds(word, first, second), word
    for word in ("left_of", "above", "larger_than", "same"):
        by_box = float(PREDICATES[word](boxes[0], boxes[1], torch))
        assert margins[word] == pytest.approx(by_box, rel=1e-5, abs=1e-5), word


@given(st.lists(shapes(), min_size=2, max_size=3))
@settings(max_examples=60, deadline=None)
def test_what_is_the_same_or_inside_overlaps_and_what_overlaps_is_near(found: list[np.ndarray]) -> None:
    truth = {w: m > 0 for w, m in mask_margins(np.stack(found) * 1.0, np).items()}
    for narrow, wide in (("same", "overlaps"), ("inside", "overlaps"), ("overlaps", "near"), ("adjacent", "near")):
        assert (truth[wide] | ~truth[narrow]).all(), f"{narrow} ⇒ {wide}"


@given(st.lists(shapes(), min_size=2, max_size=3), st.integers(0, 99), st.sampled_from([0.01, 0.1, 1.0]))
@settings(max_examples=60, deadline=None)
def test_orders_of_soft_masks_are_antisymmetric_and_symmetric_words_symmetric(
    found: list[np.ndarray], seed: int, temperature: float
) -> None:
    noise = np.random.default_rng(seed).random((len(found), HEIGHT, WIDTH))
    masks = torch.from_numpy(np.stack(found) * noise)
    truth = dict(zip(WORDS, soft_words(boxes_of(np.stack(found)), temperature, masks), strict=False))
    for word in ("left_of", "right_of", "above", "below", "larger_than", "smaller_than", "patient_left_of"):
        torch.testing.assert_close(truth[word] + truth[word].T, torch.ones_like(truth[word]))
    for word in ("overlaps", "near", "same", "adjacent"):
        torch.testing.assert_close(truth[word], truth[word].T)


@given(st.lists(shapes(), min_size=2, max_size=3), st.sampled_from([2, 3]))
@settings(max_examples=60, deadline=None)
def test_words_of_masks_do_not_depend_on_the_resolution_of_their_grid(found: list[np.ndarray], times: int) -> None:
    coarse = mask_margins(np.stack(found) * 1.0, np)
    fine = mask_margins(np.stack(found).repeat(times, 1).repeat(times, 2) * 1.0, np)
    for word, margin in coarse.items():
        if word in ("near", "adjacent"):  # counts the pixels that are met
            np.testing.assert_array_equal(fine[word] > 0, margin > 0, word)
        else:
            np.testing.assert_allclose(fine[word], margin, atol=1e-9, err_msg=word)


def special_masks() -> dict[str, torch.Tensor]:
    one = torch.zeros(HEIGHT, WIDTH)
    one[5, 7] = 1.0
    square = torch.zeros(HEIGHT, WIDTH)
    square[4:12, 3:15] = 1.0
    return {
        "empty": torch.zeros(HEIGHT, WIDTH),
        "also empty": torch.zeros(HEIGHT, WIDTH),
        "full": torch.ones(HEIGHT, WIDTH),
        "one pixel": one,
        "square": square,
        "equal": square.clone(),
        "haze": torch.full((HEIGHT, WIDTH), 0.01),
        "less than half a pixel": one * 0.4,
    }


@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 0.1, 1.0])
def test_gradients_are_finite_for_empty_full_equal_and_faint_masks(temperature: float) -> None:
    masks = torch.stack(list(special_masks().values())).requires_grad_()
    boxes = torch.zeros(len(masks), 4, requires_grad=True)  # degenerate as well
    truth = soft_words(boxes, temperature, masks)
    assert torch.isfinite(truth).all()
    weights = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0))
    (truth * weights).sum().backward()
    assert masks.grad is not None
    assert torch.isfinite(masks.grad).all()
    assert boxes.grad is not None
    assert torch.isfinite(boxes.grad).all()


def test_the_gradients_of_soft_masks_are_the_slopes() -> None:
    generator = torch.Generator().manual_seed(3)
    masks = (0.05 + 0.9 * torch.rand(3, 4, 5, dtype=torch.float64, generator=generator)).requires_grad_()
    boxes = torch.tensor([[0, 0, 3, 3], [1, 1, 4, 3], [2, 0, 5, 4]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m: soft_words(boxes, 0.3, m), (masks,), fast_mode=True)


def test_a_mask_is_drawn_into_the_one_that_it_should_lie_in() -> None:
    lung, nodule = torch.zeros(HEIGHT, WIDTH), torch.zeros(HEIGHT, WIDTH)
    lung[2:16, 2:12] = 0.9
    nodule[6:10, 9:15] = 0.8
    masks = torch.stack([nodule, lung]).requires_grad_()
    inside = soft_words(boxes_of(masks.detach().numpy() > 0.5).float(), 0.1, masks)[INDEX["inside"], 0, 1]
    inside.backward()
    assert masks.grad is not None
    assert (masks.grad[0, 6:10, 9:12] > 0).all(), "more of the nodule within the lung"
    assert (masks.grad[0, 6:10, 12:15] < 0).all(), "less of it outside"
    assert (masks.grad[1, 6:10, 12:15] > 0).all(), "or a larger lung"


def test_of_an_object_with_an_empty_mask_the_box_tells() -> None:
    named = special_masks()
    masks = torch.stack(list(named.values()))
    boxes = torch.tensor([[3.0 * i, 2.0 * i, 3.0 * i + 9, 2.0 * i + 7] for i in range(len(masks))])
    truth, by_box = soft_words(boxes, 0.1, masks), soft_words(boxes, 0.1)
    empty = torch.tensor([name in ("empty", "also empty", "less than half a pixel") for name in named])
    either = empty[:, None] | empty[None]
    torch.testing.assert_close(truth[:, either], by_box[:, either])
    assert (truth[:TRUE, ~either] - by_box[:TRUE, ~either]).abs().amax() > 0.5


def test_masks_say_what_boxes_cannot_see() -> None:
    """A finding in the corner of a lung's box that the lung itself does not fill."""
    grid = torch.arange(20)
    lung = ((grid[:, None] + grid[None]) >= 20).float()  # a triangle: its box is the whole square
    finding = torch.zeros(20, 20)
    finding[2:6, 2:6] = 1.0
    masks = torch.stack([finding, lung])
    boxes = torch.tensor([[2.0, 2.0, 6.0, 6.0], [0.0, 0.0, 20.0, 20.0]])
    for word in ("inside", "overlaps", "near"):
        by_box, by_mask = soft_words(boxes)[INDEX[word], 0, 1], soft_words(boxes, masks=masks)[INDEX[word], 0, 1]
        assert by_box > 0.9, word
        assert by_mask < 0.1, word


def test_an_image_without_objects_has_no_words() -> None:
    assert soft_words(torch.zeros(0, 4), masks=torch.zeros(0, 8, 8)).shape == (TRUE + 1, 0, 0)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (
            torch.zeros(3, 8, 8),
            "masks are 3 × 8 × 8 for 2 boxes; give one mask a box over the whole image: 2 × height × width",
        ),
        (torch.zeros(2, 0, 8), "masks of 0 × 8 pixels show nothing"),
        (torch.full((2, 8, 8), float("nan")), "the detector's masks are not finite; lower the learning rate"),
        (torch.full((2, 8, 8), float("inf")), "the detector's masks are not finite; lower the learning rate"),
        (torch.full((2, 8, 8), -3.5), "mask values lie between -3.5 and -3.5, not in [0, 1]; turn logits into shares"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: torch.Tensor, message: str) -> None:
    with pytest.raises(ConstraintError) as error:
        soft_words(torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 8.0, 8.0]]), masks=masks)
    assert str(error.value).startswith(message)
