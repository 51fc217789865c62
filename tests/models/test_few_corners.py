"""Polygons of few corners: mended towards shapes that are known, and told from other coarse masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurosym.data.degrade_masks import COARSE, polygon
from neurosym.models.config import InexactConfig
from neurosym.models.few_corners import mended_polygon, rounded
from neurosym.models.inexact_masks import InexactMasks
from neurosym.models.scene import UNKNOWN

SIDE = 120
RNG = np.random.default_rng(0)


def ellipse(height: float = 34, width: float = 46, turn: float = 0.4) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    along, across = columns * np.cos(turn) + rows * np.sin(turn), rows * np.cos(turn) - columns * np.sin(turn)
    return np.asarray((along / width) ** 2 + (across / height) ** 2 <= 1)


def bean() -> np.ndarray:
    """Hollow on one side, as a lung is."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    return ellipse(50, 30, 0.0) & ~((rows / 30) ** 2 + ((columns - 32) / 16) ** 2 <= 1)


def dice(found: np.ndarray, true: np.ndarray) -> float:
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


def mend(mask: np.ndarray) -> np.ndarray | None:
    result = mended_polygon(torch.from_numpy(mask.astype(np.uint8)))
    return None if result is None else result.numpy() > 0


@pytest.mark.parametrize("true", [ellipse(), ellipse(40, 40), ellipse(20, 44, 1.2), bean()])
@pytest.mark.parametrize("r", [0.2, 0.3])
def test_a_polygon_of_few_corners_comes_closer_to_what_it_was_drawn_around(true: np.ndarray, r: float) -> None:
    drawn = polygon(true, r, RNG)
    mended = mend(drawn)
    assert mended is not None
    assert 1 - dice(mended, true) < 0.8 * (1 - dice(drawn, true))


@pytest.mark.parametrize("true", [ellipse(), ellipse(40, 40), ellipse(20, 44, 1.2), bean()])
def test_exact_masks_and_those_of_other_kinds_of_coarseness_are_left_alone(true: np.ndarray) -> None:
    assert mend(true) is None
    assert mend(COARSE["dilate"](true, 0.15, RNG)) is None
    assert mend(COARSE["scribble"](true, 0.2, RNG)) is None
    assert mend(polygon(true, 0.01, RNG)) is None


def test_small_masks_whose_edges_say_nothing_are_left_alone() -> None:
    square = np.zeros((SIDE, SIDE), bool)
    square[50:60, 40:52] = True
    assert mend(square) is None


def test_a_box_in_the_place_of_a_mask_is_left_alone() -> None:
    box = np.zeros((SIDE, SIDE), bool)
    box[20:80, 30:100] = True
    assert mend(box) is None


def test_a_mask_that_is_unknown_or_empty_is_left_alone() -> None:
    drawn = torch.from_numpy(polygon(ellipse(), 0.2, RNG).astype(np.uint8))
    assert mended_polygon(drawn) is not None
    drawn[0, 0] = UNKNOWN
    assert mended_polygon(drawn) is None
    assert mended_polygon(torch.zeros(8, 8, dtype=torch.uint8)) is None


@given(st.integers(0, 2**16 - 1))
def test_masks_of_a_few_pixels_are_left_alone_whatever_they_are(bits: int) -> None:
    mask = np.array([bits >> k & 1 for k in range(16)], np.uint8).reshape(4, 4)
    assert mended_polygon(torch.from_numpy(mask)) is None


@given(st.integers(3, 9), st.integers(0, 10_000))
def test_the_curve_goes_through_its_corners_and_turns_as_they_are_turned(count: int, seed: int) -> None:
    corners = np.random.default_rng(seed).uniform(0, 100, (count, 2))
    turned = corners @ np.array([[0.6, -0.8], [0.8, 0.6]]) + 5
    curve = rounded(corners)
    assert np.allclose(curve[::12], corners)
    assert np.allclose(rounded(turned), curve @ np.array([[0.6, -0.8], [0.8, 0.6]]) + 5)


def test_corners_at_equal_distances_give_the_uniform_curve_of_catmull_and_rom() -> None:
    angles = np.arange(6) * np.pi / 3
    corners = np.stack([np.cos(angles), np.sin(angles)], 1)
    t = np.arange(12) / 12
    p0, p1, p2, p3 = (np.roll(corners, s, 0)[:, None] for s in (1, 0, -1, -2))
    # Hermite form, tangents (p2 − p0) / 2 and (p3 − p1) / 2
    basis = [2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t, -2 * t**3 + 3 * t**2, t**3 - t**2]
    hermite = sum(b[:, None] * v for b, v in zip(basis, (p1, (p2 - p0) / 2, p2, (p3 - p1) / 2), strict=True))
    assert np.allclose(rounded(corners), np.reshape(hermite, (-1, 2)))


def test_in_training_polygons_are_mended_from_the_first_step_beside_other_masks_of_their_class() -> None:
    true, far = ellipse(20, 24)[:, :], np.zeros((SIDE, SIDE), bool)
    true = np.roll(true, -30, 1)
    far[50:70, 90:110] = True
    drawn = polygon(true, 0.2, RNG)
    masks = torch.from_numpy(np.stack([drawn, far]).astype(np.uint8))
    target = {"masks": masks, "labels": torch.tensor([1, 1]), "boxes": torch.zeros(2, 4)}
    inexact = InexactMasks(InexactConfig(posterior=True, start=5), 1, 4)
    found = inexact([torch.rand(3, SIDE, SIDE)], [target], [masks.amax(0)[None]], [torch.rand(4, SIDE // 4, SIDE // 4)])
    taught = found.truth[0][0].numpy() > 0
    assert dice(taught, true | far) > dice(drawn | far, true | far)
    assert taught[far].all()
    assert float(found.weight[0].min()) == 1.0
