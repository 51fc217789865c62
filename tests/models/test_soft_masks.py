from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.ops import masks_to_boxes

from neurosym.models.soft_masks import cells_of, paste, presence, soft_box


def test_the_box_of_a_crisp_mask_is_its_tight_box() -> None:
    rng = np.random.default_rng(0)
    masks = torch.zeros(20, 12, 18)
    for mask in masks:
        y, x = rng.integers(0, 9), rng.integers(0, 14)
        mask[y : y + rng.integers(1, 4), x : x + rng.integers(1, 5)] = 1.0
    tight = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])
    torch.testing.assert_close(soft_box(masks, (18.0, 12.0)), tight, atol=1e-4, rtol=0)
    torch.testing.assert_close(soft_box(masks, (36.0, 36.0)), tight * torch.tensor([2.0, 3.0] * 2), atol=1e-3, rtol=0)


def test_the_soft_box_is_the_expected_box_of_a_random_set_that_is_not_empty() -> None:
    torch.manual_seed(0)
    mask = torch.rand(1, 5, 6, dtype=torch.float64)
    columns, rows = (mask[0].amax(axis) / mask.max() for axis in (0, 1))

    def expected(profile: torch.Tensor) -> tuple[float, float]:
        occupied = (profile**4 / (profile**4 + (1 - profile) ** 4)).tolist()
        mass = first = last = 0.0
        for cells in itertools.product((False, True), repeat=len(occupied)):
            if any(cells):
                p = float(np.prod([a if c else 1 - a for a, c in zip(occupied, cells, strict=True)]))
                mass += p
                first += p * cells.index(True)
                last += p * (len(cells) - cells[::-1].index(True))
        return first / mass, last / mass

    (x1, x2), (y1, y2) = expected(columns), expected(rows)
    assert soft_box(mask, (6.0, 5.0))[0].tolist() == pytest.approx([x1, y1, x2, y2], abs=1e-5)


@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.sampled_from([0.0, 1e-8, 1e-3, 1.0]))
def test_a_soft_box_is_a_cell_wide_at_least_and_lies_in_its_image(seed: int, floor: float, peak: float) -> None:
    torch.manual_seed(seed)
    masks = (torch.rand(4, 7, 9) ** 3 * (1 - floor) + floor) * peak
    masks.requires_grad_()
    box = soft_box(masks, (90.0, 70.0))
    assert (box[:, 2:] - box[:, :2] >= 10 - 1e-3).all()
    assert box.min() >= -1e-3
    assert (box[:, 2:].max(0).values <= torch.tensor([90, 70]) + 1e-3).all()
    box.sum().backward()
    assert torch.isfinite(masks.grad).all()  # type: ignore[arg-type]


@given(st.integers(0, 10_000))
def test_presence_lies_between_the_mean_and_the_maximum(seed: int) -> None:
    torch.manual_seed(seed)
    masks = torch.rand(3, 6, 6) ** 4
    found = presence(masks)
    assert (found >= masks.mean((1, 2)) - 1e-6).all()
    assert (found <= masks.amax((1, 2)) + 1e-6).all()


@pytest.mark.parametrize("p", [0.0, 0.01, 0.4, 1.0])
def test_a_map_that_is_p_everywhere_has_presence_p_and_a_crisp_mask_has_presence_1(p: float) -> None:
    assert float(presence(torch.full((1, 8, 8), p))) == pytest.approx(p, abs=1e-5)
    crisp = torch.zeros(1, 50, 50)
    crisp[0, 3, 4:7] = 1.0
    assert float(presence(crisp)) == pytest.approx(1.0)
    assert float(presence(crisp.clamp(min=0.01))) > 0.9, "a faint background lowers it little"


def test_a_pasted_mask_is_the_resized_mask_inside_its_box_and_0_outside() -> None:
    torch.manual_seed(0)
    masks = torch.rand(2, 28, 28)
    boxes = torch.tensor([[10.0, 20.0, 66.0, 76.0], [0.0, 0.0, 40.0, 90.0]])
    found = paste(masks, boxes, (80.0, 100.0), (100, 80))
    for mask, (x1, y1, x2, y2), pasted in zip(masks, boxes.int().tolist(), found, strict=True):
        expected = torch.zeros(100, 80)
        resized = F.interpolate(mask[None, None], (y2 - y1, x2 - x1), mode="bilinear", align_corners=False)
        expected[y1:y2, x1:x2] = resized[0, 0]
        torch.testing.assert_close(pasted, expected, atol=1e-5, rtol=1e-4)


@given(st.lists(st.floats(-20, 120), min_size=4, max_size=4))
def test_a_mask_of_ones_has_the_area_of_its_box_however_coarse_the_cells(sides: list[float]) -> None:
    x1, x2 = sorted(sides[:2])
    y1, y2 = sorted(sides[2:])
    pasted = paste(torch.ones(1, 28, 28), torch.tensor([[x1, y1, x2, y2]]), (96.0, 64.0), (8, 12))
    width, height = (max(0.0, min(high, side) - max(low, 0.0)) for low, high, side in ((x1, x2, 96), (y1, y2, 64)))
    assert float(pasted.sum()) * 64 == pytest.approx(width * height, rel=1e-4, abs=1e-2)


def test_a_pasted_mask_moves_with_its_box() -> None:
    boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0]], requires_grad=True)
    masks = torch.ones(1, 28, 28, requires_grad=True)
    pasted = paste(masks, boxes, (64.0, 64.0), (32, 32))
    to_the_right = (pasted * torch.arange(32)).sum() / pasted.sum()
    to_the_right.backward()
    assert boxes.grad is not None
    assert boxes.grad[0, 0] > 0
    assert boxes.grad[0, 2] > 0
    assert masks.grad is not None
    assert masks.grad.abs().sum() > 0


def test_boxes_of_no_extent_or_far_away_paste_nothing_and_keep_gradients_finite() -> None:
    boxes = torch.tensor([[10.0, 10.0, 10.0, 10.0], [900.0, 0.0, 950.0, 9.0]], requires_grad=True)
    pasted = paste(torch.ones(2, 28, 28), boxes, (64.0, 64.0), (16, 16))
    assert pasted.sum() == 0
    pasted.sum().backward()
    assert torch.isfinite(boxes.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "longest", "cells"),
    [
        ((96.0, 96.0), 56, (56, 56)),
        ((200.0, 100.0), 50, (25, 50)),
        ((30.0, 20.0), 56, (20, 30)),
        ((500.0, 2.0), 50, (1, 50)),
    ],
)
def test_cells_are_square_and_never_finer_than_pixels(
    size: tuple[float, float], longest: int, cells: tuple[int, int]
) -> None:
    assert cells_of(size, longest) == cells
