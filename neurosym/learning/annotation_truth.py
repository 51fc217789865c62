"""Estimates of annotation quality against the truth, where there is one: for degraded annotations, and for scoring only.

The truth of an annotation is the intersection over union of its box with the true box, 0 if its class is wrong; of its mask
with the true mask, where it was the mask that was judged and there is a true one. Reported are the expected calibration error
of the estimates over ten bins,

    ECE = Σ_bins |bin| / N · |mean truth(bin) − mean estimate(bin)|,

Spearman's rank correlation (does the worst come first?), the mean overlap with the true box of the annotated boxes and of the
suggested ones, and that of judged masks with the true masks. No torch, and nothing that the estimates are made of.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from neurosym.data.coco import known_categories, load_coco, read_coco, told_counts
from neurosym.data.config import CocoData, CocoSplit
from neurosym.data.degrade import DegradedSamples
from neurosym.data.degrade_files import read_truth
from neurosym.data.masks import mask_overlap
from neurosym.errors import DataError, Problem, short_path
from neurosym.learning.annotation_estimate import AnnotationQuality
from neurosym.learning.calibration import BINS, expected_calibration_error, overlap_of
from neurosym.learning.runfolder import OpenRun
from neurosym.records import Annotation, Sample

log = logging.getLogger(__name__)
SAME = 1e-6
"""Overlaps that differ by less are the same but for rounding."""
Truth = Mapping[str, Sequence[Annotation]]
"""By the image's id: the true annotation of each one that is shown, in their order."""


@dataclass(frozen=True, slots=True)
class QualityBin:
    """The annotations whose estimates lie in one bin."""

    count: int
    estimate: float
    truth: float


@dataclass(frozen=True, slots=True)
class QualityScores:
    """How estimates fare: `error` is the ECE; `rank_correlation` is None where all estimates or all truths are the same.

    `annotated_iou` and `suggested_iou` are means over the annotations' boxes (the latter None without suggestions), `mask_iou`
    that over judged masks (None without any).
    """

    annotations: int
    error: float
    rank_correlation: float | None
    annotated_iou: float
    suggested_iou: float | None
    bins: tuple[QualityBin, ...]
    mask_iou: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def score_quality(found: Sequence[AnnotationQuality], truth: Truth) -> QualityScores | None:
    """Hold estimates against the truth; None without an annotation."""
    if not found:
        return None
    true = [truth[q.image_id][q.index] for q in found]
    boxes = np.array([overlap_of(q.box, t.box) for q, t in zip(found, true, strict=True)])
    masks = {
        k: mask_overlap(q.mask, t.mask)
        for k, (q, t) in enumerate(zip(found, true, strict=True))
        if q.mask is not None and t.mask is not None
    }
    overlaps = np.array([masks.get(k, box) for k, box in enumerate(boxes)])
    same = np.array([q.name == t.name for q, t in zip(found, true, strict=True)])
    estimates, quality = np.array([q.estimate for q in found]), overlaps * same
    suggested = [overlap_of(q.suggested, t.box) for q, t in zip(found, true, strict=True) if q.suggested is not None]
    correlation = None
    if min(np.ptp(estimates), np.ptp(quality)) > SAME:
        correlation = float(spearmanr(estimates, quality).statistic)
    return QualityScores(
        len(found),
        expected_calibration_error(estimates, quality),
        correlation,
        float(boxes.mean()),
        float(np.mean(suggested)) if suggested else None,
        _bins(estimates, quality),
        float(np.mean([*masks.values()])) if masks else None,
    )


def _bins(estimates: np.ndarray, quality: np.ndarray) -> tuple[QualityBin, ...]:
    which = np.minimum((estimates * BINS).astype(int), BINS - 1)
    inside = (which == b for b in np.unique(which))
    return tuple(QualityBin(int(i.sum()), float(estimates[i].mean()), float(quality[i].mean())) for i in inside)


# --- where the truth is -------------------------------------------------------------------------------------------------


def truth_of_split(run: OpenRun, split: str, samples: Sequence[Sample]) -> Truth | None:
    """For scoring only: the truth of a run's split, if its annotations were degraded by the config or in their file."""
    data, own = run.config.data, getattr(run.config.data, split, None)
    of_file = None
    if isinstance(data, CocoData) and isinstance(own, CocoSplit):
        of_file = truth_of_file(run, run.config.base / own.annotations, data.categories)
    if not isinstance(samples, DegradedSamples):
        return of_file
    if of_file is not None:
        log.warning("the annotations were degraded in their file and again by the config, so they are not scored")
        return None
    return {samples.image_id(i): samples.truth(i) for i in range(len(samples))}


def truth_of_file(run: OpenRun, file: Path, categories: Sequence[str] | None = None) -> Truth | None:
    """For scoring only: the truth in a COCO file that `neurosym data degrade` wrote, None in others.

    Names are ontology classes, as in the annotations that training sees; a true category that is tied to no class (another
    one was annotated by mistake) keeps its name, in words that no class has.
    """
    info = read_coco(file, short_path(file))[0].get("info")
    if not (isinstance(info, dict) and "degraded" in info):
        return None
    ties = run.knowledge.ontology.categories
    return {
        image_id: [replace(a, name=ties.get(a.name, f"category {a.name!r}")) for a in group]
        for image_id, group in read_truth(file, categories).items()
    }


def to_judge(
    run: OpenRun, split: str, given: tuple[Path, Path] | None = None
) -> tuple[Sequence[Sample], Truth | None, dict[str, int]]:
    """Images whose annotations are to be judged: of a split, or of a COCO file and the folder of its images.

    With them the truth where there is one, which is for scoring only, and of a file how many annotations of each category are
    left out, because the run does not learn it.

    Raises:
        DataError: nothing is annotated that the run learns.
    """
    if given is None:
        images = run.images(split)
        return images, truth_of_split(run, split, images), {}
    file, folder = given
    known, left_out = known_categories(file, run.knowledge, run.names)
    found = load_coco(file, folder, run.knowledge, known, run.config.data.bad_boxes, labelled=False)
    if not any(entry.annotations for entry in found.entries):
        others = f"; annotated are {told_counts(left_out)}" if left_out else ""
        message = f"nothing is annotated that the run learns ({', '.join(run.names)}){others}"
        cure = "give a file of its classes, or tie a category to one of them (ns:category in the ontology)"
        raise DataError(Problem(message, short_path(file), cure=cure))
    return found, truth_of_file(run, file, known), left_out
