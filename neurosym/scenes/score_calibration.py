"""A detector's scores as probabilities: class by class, how often a detection of such a score was right on annotated films.

Detections are matched to annotations at IoU 0.5 (`neurosym.learning.calibration.judged`), and one of two monotone maps is
fitted to (score, right or wrong), with n₊ detections that are right and n₋ that are wrong:

    platt     p = σ(a · ln(s / (1 − s)) + b), a ≥ 0, by maximum likelihood towards the targets (n₊ + 1) / (n₊ + 2) of what is
              right and 1 / (n₋ + 2) of what is wrong (Platt 1999): two numbers, for few films
    isotonic  the non-decreasing map of least squares (Zadrozny and Elkan 2002), linear between its steps, for many

A class with fewer than `FEWEST` detections, or with right or wrong ones alone, has the map of all classes together. No
probability is below 1 / (n + 2) or above (n + 1) / (n + 2), n the detections of the fit: nothing is ever certain.

Fitting tells the expected calibration error before, and after by cross-validation over films: each is judged by maps that were
fitted without it. The maps are plain numbers in a JSON file. What they make probable is that *a detection* is right; objects
that were not detected have none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, logit

from neurosym.errors import DataError, Problem, did_you_mean, short_path
from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.calibration import expected_calibration_error, judged
from neurosym.records import Detection, Scene

FEWEST: Final = 20
"""Detections that a class needs for a map of its own."""
FOLDS: Final = 5
"""Parts of the cross-validation."""
EVERY: Final = "*"
"""The name of the map of all classes together."""
_EDGE: Final = 1e-6
"""Scores are taken to be at least this far from 0 and 1."""

Judged = tuple[Detection, bool]


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """A non-decreasing map from scores to probabilities: through (scores, probabilities), or Platt's two numbers.

    Attributes:
        detections: how many it was fitted to.
        right: how many of them are right.
        slope, intercept: of Platt's map.
        scores, probabilities: the corners of the isotonic map, empty for Platt's.
    """

    detections: int
    right: int
    slope: float = 1.0
    intercept: float = 0.0
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()

    def __call__(self, score: float) -> float:
        """The probability in (0, 1) that a detection of this score is right."""
        if self.scores:
            p = float(np.interp(score, self.scores, self.probabilities))
        else:
            p = float(expit(self.slope * _logit(score) + self.intercept))
        floor = 1 / (self.detections + 2)
        return min(max(p, floor), 1 - floor)


@dataclass(frozen=True)
class ScoreCalibration:
    """The maps of a run's classes, and what they are worth on the films of the fit.

    Attributes:
        method: "platt" or "isotonic".
        origin: what was fitted to: the checkpoint and the split.
        maps: by class; `EVERY` is that of all classes together.
        error_before: the expected calibration error of the scores.
        error_after: that of the probabilities, on films that the maps were not fitted to; None for a single film.
    """

    method: str
    origin: Mapping[str, str]
    maps: Mapping[str, ScoreMap]
    error_before: float
    error_after: float | None

    def __call__(self, name: str, score: float) -> float:
        """The probability that a detection of this class and score is right."""
        return self.maps.get(name, self.maps[EVERY])(score)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        maps = {name: {k: v for k, v in asdict(m).items() if v != ()} for name, m in sorted(self.maps.items())}
        errors = {"error_before": self.error_before, "error_after": self.error_after}
        value = {"method": self.method, "origin": dict(self.origin), **errors, "maps": maps}
        write_text_atomically(Path(path), json.dumps(value, indent=1) + "\n")


def fit_calibration(
    predicted: Sequence[Scene], true: Sequence[Scene], method: str = "platt", origin: Mapping[str, str] | None = None
) -> ScoreCalibration:
    """Fit a map a class.

    Args:
        predicted: scenes with every detection, of whatever score.
        true: what is annotated on the same images.
        method: of `METHODS`.
        origin: what is noted of where they come from.

    Raises:
        DataError: an unknown method; no detection, or none that is right, or none that is wrong.
    """
    if method not in METHODS:
        raise DataError(f"unknown calibration {method!r}; {did_you_mean(method, METHODS)}")
    films = [judged(p, t) for p, t in zip(predicted, true, strict=True)]
    pairs = [pair for film in films for pair in film]
    right = sum(ok for _, ok in pairs)
    if not 0 < right < len(pairs):
        message = f"{right} of {len(pairs)} detections are right: scores say nothing of that"
        raise DataError(Problem(message, cure="calibrate on a split with annotations, and a model with some training"))
    maps = _fit(pairs, method)
    before = _error(pairs, lambda name, score: score)
    return ScoreCalibration(method, origin or {}, maps, before, _held_out(films, method))


def load_calibration(path: Path) -> ScoreCalibration:
    """Read what `ScoreCalibration.save` wrote.

    Raises:
        DataError: missing, not JSON, no calibration, or a map that decreases or leaves [0, 1].
    """
    shown = short_path(path)
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        maps = {str(name): _map(v) for name, v in value["maps"].items()}
        if EVERY not in maps:
            raise ValueError(f"no map {EVERY!r}")
        origin = {str(k): str(v) for k, v in value["origin"].items()}
        after = value["error_after"]
        after = None if after is None else float(after)
        return ScoreCalibration(str(value["method"]), origin, maps, float(value["error_before"]), after)
    except OSError as error:
        cure = "write it with `neurosym facts RUN --calibrated`"
        raise DataError(Problem(f"cannot be read: {error.strerror}", shown, cure=cure)) from error
    except json.JSONDecodeError as error:
        raise DataError(Problem(f"not JSON: {error.msg}", shown, error.lineno, error.colno)) from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(Problem(f"not a calibration of scores: {error}", shown)) from error


def _map(v: Mapping[str, Any]) -> ScoreMap:
    corners = tuple(map(float, v.get("scores", ()))), tuple(map(float, v.get("probabilities", ())))
    if len(corners[0]) != len(corners[1]):
        raise ValueError("scores and probabilities are not of one length")
    found = ScoreMap(int(v["detections"]), int(v["right"]), float(v["slope"]), float(v["intercept"]), *corners)
    numbers = (found.slope, found.intercept, *corners[0], *corners[1])
    rising = all(list(c) == sorted(c) for c in corners)
    if not (all(map(math.isfinite, numbers)) and rising and found.slope >= 0 and found.detections >= 0):
        raise ValueError("a map is not finite, or decreases")
    if not all(0 <= p <= 1 for p in corners[1]):
        raise ValueError("a probability is not in [0, 1]")
    return found


def _fit(pairs: Sequence[Judged], method: str) -> dict[str, ScoreMap]:
    by_class: dict[str, list[Judged]] = {}
    for pair in pairs:
        by_class.setdefault(pair[0].name, []).append(pair)
    groups = {EVERY: list(pairs)} | {
        name: own for name, own in by_class.items() if len(own) >= FEWEST and 0 < sum(ok for _, ok in own) < len(own)
    }
    return {name: METHODS[method](*_numbers(own)) for name, own in groups.items()}


def _numbers(pairs: Sequence[Judged]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([d.score for d, _ in pairs]), np.array([float(ok) for _, ok in pairs])


def _held_out(films: Sequence[Sequence[Judged]], method: str) -> float | None:
    """The error of the films' probabilities by maps of the other films; None where no others tell right from wrong."""
    folds = min(FOLDS, len(films))
    pairs: list[Judged] = []
    probabilities: list[float] = []
    for fold in range(folds):
        others = [pair for i, film in enumerate(films) if i % folds != fold for pair in film]
        held = [pair for film in films[fold::folds] for pair in film]
        if not 0 < sum(ok for _, ok in others) < len(others):
            return None
        maps = _fit(others, method)
        pairs += held
        probabilities += [maps.get(d.name, maps[EVERY])(d.score) for d, _ in held]
    return expected_calibration_error(np.array(probabilities), _numbers(pairs)[1])


def _error(pairs: Sequence[Judged], probability: Callable[[str, float], float]) -> float:
    return expected_calibration_error(np.array([probability(d.name, d.score) for d, _ in pairs]), _numbers(pairs)[1])


# --- the two maps ------------------------------------------------------------------------------------------------------


def platt(scores: np.ndarray, right: np.ndarray) -> ScoreMap:
    """The logistic map of the scores' logits."""
    x, many = _logit(scores), float(right.sum())
    few = len(right) - many
    target = np.where(right > 0, (many + 1) / (many + 2), 1 / (few + 2))

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = w[0] * x + w[1]
        gap = expit(z) - target
        return float((np.logaddexp(0, z) - target * z).mean()), np.array([(gap * x).mean(), gap.mean()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return ScoreMap(len(right), int(many), float(found.x[0]), float(found.x[1]))


def isotonic(scores: np.ndarray, right: np.ndarray) -> ScoreMap:
    """The non-decreasing map of least squares, as the corners of its steps."""
    at, which = np.unique(scores, return_inverse=True)
    counts = np.bincount(which)
    fitted = isotonic_regression(np.bincount(which, right) / counts, weights=counts.astype(float)).x
    kept = np.ones(len(at), dtype=bool)  # a step's first and last score
    kept[1:-1] = (fitted[1:-1] != fitted[:-2]) | (fitted[1:-1] != fitted[2:])
    corners = tuple(map(float, at[kept])), tuple(float(np.clip(p, 0, 1)) for p in fitted[kept])
    return ScoreMap(len(right), int(right.sum()), 1.0, 0.0, *corners)


METHODS: Final[dict[str, Callable[[np.ndarray, np.ndarray], ScoreMap]]] = {"platt": platt, "isotonic": isotonic}


def _logit(scores: np.ndarray | float) -> np.ndarray:
    return np.asarray(logit(np.clip(scores, _EDGE, 1 - _EDGE)))
