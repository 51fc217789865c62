from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosym.errors import DataError
from neurosym.records import Box, Detection, Scene
from neurosym.scenes.score_calibration import (
    EVERY,
    METHODS,
    ScoreCalibration,
    fit_calibration,
    isotonic,
    load_calibration,
    platt,
)


def films(
    count: int, share: Any, seed: int = 0, name: str = "nodule", each: int = 8
) -> tuple[list[Scene], list[Scene]]:
    """Detections of any score, right with probability `share(score)`; what is right is annotated, far from the others."""
    rng = np.random.default_rng(seed)
    predicted, true = [], []
    for film in range(count):
        boxes = [Box(40 * k, 0, 40 * k + 20, 20) for k in range(each)]
        scores = rng.uniform(0.02, 0.98, each)
        right = rng.uniform(size=each) < share(scores)
        found = tuple(Detection(name, b, float(s)) for b, s in zip(boxes, scores, strict=True))
        real = tuple(Detection(name, b) for b, ok in zip(boxes, right, strict=True) if ok)
        predicted.append(Scene(f"film-{film}", 400, 20, found))
        true.append(Scene(f"film-{film}", 400, 20, real))
    return predicted, true


def squared(scores: np.ndarray) -> np.ndarray:
    return scores**2


@pytest.mark.parametrize("method", sorted(METHODS))
def test_scores_that_say_too_much_become_the_share_of_right_detections(method: str) -> None:
    found = fit_calibration(*films(300, squared), method)
    for score in (0.3, 0.5, 0.7, 0.9):
        assert found("nodule", score) == pytest.approx(score**2, abs=0.07)
    assert found.error_before == pytest.approx(1 / 6, abs=0.03), "∫ s − s² ds"
    assert found.error_after is not None
    assert found.error_after < 0.04


def test_platts_map_finds_the_logistic_rule_that_generated_the_detections() -> None:
    def rule(scores: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(0.6 * np.log(scores / (1 - scores)) - 1.0)))

    found = fit_calibration(*films(1500, rule)).maps["nodule"]
    assert (found.slope, found.intercept) == (pytest.approx(0.6, abs=0.05), pytest.approx(-1.0, abs=0.06))


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40))
def test_the_isotonic_map_is_the_min_max_formula(pairs: list[tuple[int, bool]]) -> None:
    scores, right = np.array([s / 10 for s, _ in pairs]), np.array([float(r) for _, r in pairs])
    found, n = isotonic(scores, right), len(pairs)
    levels = sorted(set(scores))
    for level in levels:  # max over starts ≤ level of min over ends ≥ level of the mean between them
        expected = max(
            min(right[(scores >= a) & (scores <= b)].mean() for b in levels if b >= level) for a in levels if a <= level
        )
        assert found(level) == pytest.approx(np.clip(expected, 1 / (n + 2), 1 - 1 / (n + 2)), abs=1e-9)


@given(st.sampled_from([platt, isotonic]), st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_a_surer_detection_is_never_less_probable_and_none_is_certain(
    fit: Any, pairs: list[tuple[float, bool]]
) -> None:
    found = fit(np.array([s for s, _ in pairs]), np.array([float(r) for _, r in pairs]))
    shown = [found(s) for s in np.linspace(0, 1, 21)]
    assert all(a <= b + 1e-12 for a, b in pairwise(shown))
    assert shown[0] > 0
    assert shown[-1] < 1


def test_each_class_has_its_own_map_and_a_rare_one_that_of_all() -> None:
    sure, unsure = films(100, lambda s: s * 0 + 0.9), films(100, lambda s: s * 0 + 0.1, 1, "mass")
    rare = films(1, lambda s: s * 0 + 0.5, 2, "heart")
    predicted, true = ([*a, *b, *c] for a, b, c in zip(sure, unsure, rare, strict=True))
    found = fit_calibration(predicted, true)
    assert set(found.maps) == {EVERY, "nodule", "mass"}
    assert found("nodule", 0.5) == pytest.approx(0.9, abs=0.05)
    assert found("mass", 0.5) == pytest.approx(0.1, abs=0.05)
    assert found("heart", 0.5) == found("never seen", 0.5) == found.maps[EVERY](0.5)


def test_the_error_after_is_of_films_that_the_map_was_not_fitted_to() -> None:
    """Scores that tell nothing at all: a map can only remember them, and on other films it is no better than before."""
    predicted, true = films(10, lambda s: s * 0 + 0.5, each=4)
    found = fit_calibration(predicted, true, "isotonic")
    assert found.error_after is not None
    repeated = ([film for film in side for _ in range(5)] for side in (predicted, true))  # each film in every part
    remembered = fit_calibration(*repeated, "isotonic")
    assert remembered.error_after is not None
    assert found.error_after > 2 * remembered.error_after


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    for method in METHODS:
        found = fit_calibration(*films(30, squared), method, {"checkpoint": "step-000007", "split": "val"})
        found.save(tmp_path / "c.json")
        assert load_calibration(tmp_path / "c.json") == found


def test_nothing_can_be_fitted_to_detections_that_are_all_wrong() -> None:
    predicted, true = films(3, lambda s: s * 0)
    with pytest.raises(DataError, match="0 of 24 detections are right"):
        fit_calibration(predicted, true)
    with pytest.raises(DataError, match="unknown calibration 'plat'; did you mean 'platt'"):
        fit_calibration(predicted, true, "plat")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slope": -1.0}, "a map is not finite, or decreases"),
        ({"slope": float("nan")}, "a map is not finite, or decreases"),
        ({"scores": [0.1, 0.2], "probabilities": [0.5, 0.4]}, "a map is not finite, or decreases"),
        ({"scores": [0.1], "probabilities": []}, "not of one length"),
        ({"scores": [0.1], "probabilities": [1.5]}, r"not in \[0, 1\]"),
        ({"detections": "many"}, "not a calibration of scores"),
    ],
)
def test_a_spoilt_file_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    ScoreCalibration("platt", {}, {EVERY: platt(np.array([0.2, 0.8]), np.array([0.0, 1.0]))}, 0.1, None).save(path)
    value = json.loads(path.read_text())
    value["maps"][EVERY] |= change
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=message):
        load_calibration(path)


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="write it with `neurosym facts RUN --calibrated`"):
        load_calibration(tmp_path / "none.json")
