"""Whether a detection's score is the share of such detections that are right.

The expected calibration error of detections (Küppers et al. 2020, D-ECE in confidence alone): detections are sorted
into bins by score; in each, mean score and precision at IoU 0.5 are compared,

    ECE = Σ_bins |bin| / N · |precision(bin) − mean score(bin)|.

A detection is right if it is matched, highest score first, to an object of its class that no surer one has taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from neurosym.knowledge.geometry import iou
from neurosym.records import Box, Detection, Scene

BINS = 10


def calibration_error(predicted: Sequence[Scene], true: Sequence[Scene], overlap: float = 0.5) -> float | None:
    """The error in [0, 1] over all detections of all images, None if there are none."""
    pairs = [pair for p, t in zip(predicted, true, strict=True) for pair in judged(p, t, overlap)]
    if not pairs:
        return None
    scores, right = np.array([d.score for d, _ in pairs]), np.array([r for _, r in pairs])
    return expected_calibration_error(scores, right)


def expected_calibration_error(
    scores: Float[np.ndarray, " detection"],
    right: Bool[np.ndarray, " detection"] | Float[np.ndarray, " detection"],
    bins: int = BINS,
) -> float:
    """Over equal-width bins; a score of exactly 1 belongs to the last.

    `right` may also be numbers whose mean the scores should have, e.g. overlaps.
    """
    which = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [abs(right[which == b].mean() - scores[which == b].mean()) * (which == b).mean() for b in np.unique(which)]
    return float(sum(gaps))


def judged(predicted: Scene, true: Scene, overlap: float = 0.5) -> list[tuple[Detection, bool]]:
    """Each detection, the surest first, and whether it is right."""
    taken: set[int] = set()
    found = []
    for d in sorted(predicted.detections, key=lambda d: -d.score):
        free = [
            (overlap_of(d.box, t.box), k) for k, t in enumerate(true.detections) if t.name == d.name and k not in taken
        ]
        best, which = max(free, default=(0.0, -1))
        if best >= overlap:
            taken.add(which)
        found.append((d, best >= overlap))
    return found


def overlap_of(a: Box, b: Box) -> float:
    """The intersection over union of two boxes."""
    return float(iou(np.array(a.xyxy), np.array(b.xyxy), np))
