from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from neurosym.data.degrade import degrade
from neurosym.data.degrade_masks import (
    COARSE,
    coarse_mask,
    cut_mask,
    mask_box,
    move_mask,
    nearest_pixel,
    outlines,
    polygon,
    scribble,
    simplified,
)
from neurosym.data.masks import decode_mask, encode_mask
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.records import Box

masks = arrays(bool, (14, 17)).filter(np.any)
RNG = np.random.default_rng(0)


def blob(size: int = 96) -> np.ndarray:
    """A lung-like piece: an ellipse with a bite."""
    y, x = np.mgrid[:size, :size]
    ellipse = ((x - 45) / 22) ** 2 + ((y - 48) / 40) ** 2 <= 1
    return ellipse & ~(((x - 70) ** 2 + (y - 60) ** 2) <= 14**2)


def area_between(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels inside a closed line, by counting crossings of a ray from each pixel's centre."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, 0), strict=True):
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return inside


@given(masks)
def test_outlines_enclose_each_piece_without_its_holes(mask: np.ndarray) -> None:
    found = np.zeros_like(mask)
    pieces, count = ndimage.label(mask)
    loops = outlines(mask)
    assert len(loops) == count
    for loop in loops:
        found |= area_between(loop, mask.shape)
        assert np.abs(np.roll(loop, -1, 0) - loop).sum(1).tolist() == [1] * len(loop)
    expected = np.zeros_like(mask)
    for k in range(1, count + 1):
        expected |= ndimage.binary_fill_holes(pieces == k, np.ones((3, 3)))  # a corner lets the outside in
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("tolerance", [1.0, 3.0, 8.0])
def test_a_simplified_line_has_few_corners_and_keeps_to_its_tolerance(tolerance: float) -> None:
    (loop,) = outlines(blob())
    corners = simplified(loop, tolerance)
    assert 3 <= len(corners) < len(loop) / 5
    for point in loop:  # the distance to the nearest segment, by brute force
        a, b = corners, np.roll(corners, -1, 0)
        t = np.clip(((point - a) * (b - a)).sum(1) / ((b - a) ** 2).sum(1), 0, 1)
        assert np.hypot(*(a + t[:, None] * (b - a) - point).T).min() <= tolerance + 1e-9


def test_a_polygon_of_a_larger_tolerance_is_coarser() -> None:
    mask = blob()
    overlaps = []
    for r in (0.02, 0.1, 0.3):
        found = polygon(mask, r, RNG)
        overlaps.append((found & mask).sum() / (found | mask).sum())
    assert overlaps[0] > 0.9 > overlaps[2]
    assert overlaps == sorted(overlaps, reverse=True)


@given(masks, st.sampled_from(sorted(COARSE)), st.floats(0, 0.6))
def test_a_coarse_mask_is_never_empty_and_keeps_its_size(mask: np.ndarray, shape: str, r: float) -> None:
    found = decode_mask(coarse_mask(encode_mask(mask), shape, r, np.random.default_rng(1)))
    assert found.shape == mask.shape
    assert found.any()


@given(masks, st.floats(0, 0.5))
def test_dilation_adds_exactly_what_is_near(mask: np.ndarray, r: float) -> None:
    found = decode_mask(coarse_mask(encode_mask(mask), "dilate", r, RNG)) > 0
    inside = np.argwhere(mask)
    radius = r * np.sqrt(mask.sum())
    for pixel in np.argwhere(np.ones_like(mask)):
        distance = np.sqrt(((inside - pixel) ** 2).sum(1).min())
        if abs(distance - radius) > 1e-9:
            assert found[tuple(pixel)] == (distance < radius)


@pytest.mark.parametrize("size", [96, 400])
def test_a_scribble_is_one_thin_stroke_in_the_middle_from_end_to_end(size: int) -> None:
    mask = ndimage.zoom(blob(), size / 96, order=0)
    found = scribble(mask, 0.0, np.random.default_rng(0))
    assert not (found & ~mask).any()
    assert ndimage.label(found, np.ones((3, 3)))[1] == 1
    rows = np.flatnonzero(found.any(1))
    assert rows[-1] - rows[0] > 0.9 * (np.flatnonzero(mask.any(1))[-1] - np.flatnonzero(mask.any(1))[0])
    assert found.sum() < 4 * size
    depth = ndimage.distance_transform_edt(mask)
    assert depth[found].mean() > 1.2 * depth[mask].mean()


def test_a_scribble_loses_a_share_of_its_length_where_the_seed_says() -> None:
    mask = blob()
    whole = scribble(mask, 0.0, np.random.default_rng(0)).sum()
    half = [scribble(mask, 0.5, np.random.default_rng(s)) for s in range(4)]
    assert all(h.sum() == pytest.approx(whole / 2, rel=0.15) for h in half)
    assert len({h.tobytes() for h in half}) > 1


def test_a_moved_mask_is_shifted_and_stretched_as_its_box() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:15, 10:20] = True
    mask[5:10, 10:15] = False  # its upper left quarter is missing
    found = move_mask(encode_mask(mask), Box(10, 5, 20, 15), Box(30, 10, 50, 20))
    expected = np.zeros_like(mask)
    expected[10:20, 30:50] = True
    expected[10:15, 30:40] = False
    assert found is not None
    assert np.array_equal(decode_mask(found) > 0, expected)


def test_a_cut_mask_keeps_what_lies_in_the_box_and_is_none_when_nothing_does() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:15, 10:20] = True
    found = cut_mask(encode_mask(mask), Box(15, 0, 60, 8))
    assert found is not None
    assert mask_box(found) == Box(15, 5, 20, 8)
    assert cut_mask(encode_mask(mask), Box(30, 20, 50, 30)) is None


@given(masks, st.floats(0, 17), st.floats(0, 14))
def test_the_nearest_pixel_is_nearest(mask: np.ndarray, x: float, y: float) -> None:
    px, py = nearest_pixel(encode_mask(mask), x, y)
    assert mask[int(py), int(px)]
    rows, columns = np.nonzero(mask)
    assert np.hypot(px - x, py - y) == pytest.approx(np.hypot(columns + 0.5 - x, rows + 0.5 - y).min())


@pytest.mark.parametrize("shape", sorted(COARSE))
def test_the_box_of_a_coarse_mask_is_the_masks_own(shape: str) -> None:
    film = Phantom(12, 1, PhantomConfig(size=96))[0]
    shown = degrade(film, "coarse_mask", 0.2, shape=shape)
    for truth, a in zip(film.annotations, shown.annotations, strict=True):
        assert a.mask != truth.mask
        rows, columns = np.nonzero(decode_mask(a.mask))
        assert a.box.xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
