from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosym.knowledge.geometry import PREDICATES, side_of, size_of, zone_of
from neurosym.records import Box
from tests.oracles.spatial import holds


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y = draw(st.integers(0, 90)), draw(st.integers(0, 90))
    return Box(x, y, x + draw(st.integers(1, 60)), y + draw(st.integers(1, 60)))


@pytest.mark.parametrize("word", PREDICATES)
@given(a=boxes(), b=boxes())
def test_a_margin_is_positive_iff_the_word_is_true_by_its_definition(word: str, a: Box, b: Box) -> None:
    margin = float(PREDICATES[word](np.array(a.xyxy), np.array(b.xyxy), np))
    if abs(margin) > 1e-6:  # on the border itself either answer is one of rounding
        assert (margin > 0) == holds(word, a, b)


@given(a=boxes(), b=boxes(), scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_words_do_not_depend_on_the_image_scale_or_origin(a: Box, b: Box, scale: float, shift: float) -> None:
    first, second = np.array(a.xyxy), np.array(b.xyxy)
    for word, margin in PREDICATES.items():
        before = margin(first, second, np)
        after = margin(first * scale + shift, second * scale + shift, np)
        assert after == pytest.approx(before, rel=1e-3, abs=1e-3), word


def test_zones_are_thirds_and_sides_face_away_from_the_midline() -> None:
    frame = np.array([10.0, 0.0, 40.0, 90.0])
    at = lambda x, y: np.array([x - 1, y - 1, x + 1, y + 1], dtype=float)  # noqa: E731
    assert [zone_of(at(25, y), frame) for y in (10, 45, 80)] == ["upper_zone", "middle_zone", "lower_zone"]
    assert [side_of(at(x, 45), frame, midline=50) for x in (12, 38)] == ["peripheral", "central"]
    assert [side_of(at(x, 45), frame, midline=0) for x in (12, 38)] == ["central", "peripheral"]
    assert [size_of(np.array([0, 0, s, s]), 100, 100) for s in (5, 20, 50)] == [
        "small_object",
        "medium_object",
        "large_object",
    ]
