from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosym.learning.calibration import calibration_error, expected_calibration_error
from neurosym.records import Box, Detection, Scene

HEART = Box(10, 10, 30, 30)


def scene(*detections: Detection) -> Scene:
    return Scene("film", 100, 100, detections)


def test_scores_that_are_the_share_of_right_detections_have_no_error() -> None:
    scores = np.repeat([0.25, 0.75], 400)
    right = np.concatenate([np.arange(400) % 4 == 0, np.arange(400) % 4 != 0])
    assert expected_calibration_error(scores, right) == pytest.approx(0.0)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_error_is_the_sum_over_bins_written_out(pairs: list[tuple[float, bool]]) -> None:
    expected = 0.0
    for k in range(10):
        inside = [(s, r) for s, r in pairs if min(int(s * 10), 9) == k]
        if inside:
            gap = sum(r for _, r in inside) / len(inside) - sum(s for s, _ in inside) / len(inside)
            expected += abs(gap) * len(inside) / len(pairs)
    scores, right = np.array([s for s, _ in pairs]), np.array([r for _, r in pairs])
    assert expected_calibration_error(scores, right) == pytest.approx(expected, abs=1e-9)


def test_a_second_detection_of_one_object_is_wrong_and_so_is_another_class() -> None:
    true = scene(Detection("heart", HEART))
    sure, second = Detection("heart", HEART, 0.95), Detection("heart", Box(11, 10, 31, 30), 0.85)
    other = Detection("nodule", HEART, 0.75)
    found = calibration_error([scene(second, sure, other)], [true])
    assert found == pytest.approx((0.05 + 0.85 + 0.75) / 3)


def test_without_detections_there_is_no_error_to_tell() -> None:
    assert calibration_error([scene()], [scene(Detection("heart", HEART))]) is None
