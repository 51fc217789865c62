"""Predictions against annotations: average precision by COCO's definition, and what the rules say of both.

Average precision is of boxes; where every annotated and every predicted object has a mask, it is told of masks too. So is a
class's Dice coefficient, of the pixels that any of its objects covers:

    Dice = 2 |P ∩ T| / (|P| + |T|)      P predicted, T annotated; the mean over the images where either has a pixel

Crowd regions are left out of the truth: a detection inside one counts as false, where COCO would ignore it.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from neurosym.constraints import ConstraintSet, RuleScore
from neurosym.constraints.crisp import score_scenes
from neurosym.data.coco import as_coco
from neurosym.data.images import annotated_scene
from neurosym.data.masks import decode_mask
from neurosym.errors import TrainingError
from neurosym.learning.calibration import calibration_error
from neurosym.records import Sample, Scene

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Average precision overall and per class (percent is not used: 1 is perfect), and the rules' scores.

    `mask_ap` and `mask_ap50` are None where an object, annotated or predicted, has no mask.
    """

    ap: float
    ap50: float
    per_class: dict[str, dict[str, float]]
    rules: tuple[RuleScore, ...]
    images: int
    mask_ap: float | None = None
    mask_ap50: float | None = None
    calibration_error: float | None = None
    """Of the boxes' scores (see `calibration_error`); None without detections."""
    dice: dict[str, float] = field(default_factory=dict)
    """Of each class that is annotated here and has masks only."""
    broken: float | None = None
    """The share of predicted objects at which a hard rule is broken; None without hard rules, or without objects."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rules = [asdict(r) | {"violation_rate": r.violation_rate, "fired_ratio": r.fired_ratio} for r in self.rules]
        masks: dict[str, Any] = {} if self.mask_ap is None else {"mask_ap": self.mask_ap, "mask_ap50": self.mask_ap50}
        masks |= {} if self.calibration_error is None else {"calibration_error": self.calibration_error}
        masks |= {"dice": self.dice} if self.dice else {}
        masks |= {} if self.broken is None else {"broken_objects": self.broken}
        overall = {"images": self.images, "ap": self.ap, "ap50": self.ap50} | masks
        return overall | {"per_class": self.per_class, "rules": rules}


def scenes_to_score(samples: Iterable[Sample], names: Sequence[str]) -> list[Scene]:
    """What is annotated by a box or a mask, to score against; it is told where that is not every object of these classes.

    Points and scribbles are left out: they have no extent. What is found of an object that is not annotated counts as false.
    """
    found, partial = [], 0
    for sample in samples:
        open_classes = {a.name for a in sample.annotations if a.drawn}
        if sample.complete is not None:
            open_classes |= {*names} - sample.complete - sample.absent
        partial += not open_classes.isdisjoint(names)
        found.append(annotated_scene(replace(sample, annotations=tuple(a for a in sample.annotations if not a.drawn))))
    if partial:
        log.warning(
            "on %d of %d images not every object has a box: what is found of the others counts as false",
            partial,
            len(found),
        )
    return found


def evaluate_scenes(
    predicted: Sequence[Scene],
    true: Sequence[Scene],
    names: Sequence[str],
    constraints: ConstraintSet | None = None,
    threshold: float = 0.5,
) -> Evaluation:
    """Compare predictions with annotations of the same images, in the same order.

    Args:
        predicted: detections with scores; all of them count for average precision.
        true: what is annotated.
        names: the classes to score; a class that is never annotated here has no average precision (NaN → left out).
        constraints: also count violated/fired and fired/true of its rules, on detections scored at least `threshold`.
        threshold: of what counts as predicted, for rules and Dice.

    Raises:
        TrainingError: the two lists are not of the same images.
    """
    if [s.image_id for s in predicted] != [s.image_id for s in true]:
        raise TrainingError("predictions and annotations are not of the same images in the same order")
    per_class = _average_precision(predicted, true, names, "bbox")
    rules: list[RuleScore] = []
    sure, broken = [above(s, threshold) for s in predicted], None
    if constraints is not None:
        rules, broken = score_scenes(constraints, sure, true)
    present = list(per_class.values())
    if not present:
        raise TrainingError("nothing is annotated on these images, so nothing can be scored")
    if _have_masks((*predicted, *true), names):
        for name, scores in _average_precision(predicted, true, names, "segm").items():
            per_class[name] |= {f"mask_{k}": v for k, v in scores.items()}
    mean = {k: float(np.mean([c[k] for c in present])) for k in present[0]}
    masks = mean.get("mask_ap"), mean.get("mask_ap50")
    calibration = calibration_error(predicted, true)
    dice = dice_scores(sure, true, names)
    return Evaluation(mean["ap"], mean["ap50"], per_class, tuple(rules), len(true), *masks, calibration, dice, broken)


def dice_scores(predicted: Sequence[Scene], true: Sequence[Scene], names: Sequence[str]) -> dict[str, float]:
    """The Dice coefficient of each class that is annotated and of which every object, annotated or predicted, has a mask."""
    found = {}
    for name in names:
        if not any(d.name == name for s in true for d in s.detections) or not _have_masks((*predicted, *true), [name]):
            continue
        scores = []
        for mine, annotated in zip(predicted, true, strict=True):
            p, t = _pixels_of(mine, name), _pixels_of(annotated, name)
            if total := p.sum() + t.sum():
                scores.append(2.0 * (p & t).sum() / total)
        found[name] = float(np.mean(scores)) if scores else 0.0
    return found


def _pixels_of(scene: Scene, name: str) -> np.ndarray:
    """Whether each pixel belongs to an object of a class."""
    covered = np.zeros((scene.height, scene.width), dtype=bool)
    for d in scene.detections:
        if d.name == name and d.mask is not None:
            covered |= decode_mask(d.mask) > 0
    return covered


def _have_masks(scenes: Iterable[Scene], names: Sequence[str]) -> bool:
    return all(d.mask is not None for s in scenes for d in s.detections if d.name in names)


def above(scene: Scene, threshold: float) -> Scene:
    """The scene with its surer detections only."""
    kept = tuple(d for d in scene.detections if d.score >= threshold)
    return Scene(scene.image_id, scene.width, scene.height, kept, scene.labels, scene.image_path)


def _average_precision(
    predicted: Sequence[Scene], true: Sequence[Scene], names: Sequence[str], of: Literal["bbox", "segm"]
) -> dict[str, dict[str, float]]:
    from faster_coco_eval import COCO, COCOeval_faster

    truth, guess = as_coco(true, names), as_coco(predicted, names)
    annotated = {a["category_id"] for a in truth["annotations"]}
    scores = {n: {"ap": 0.0, "ap50": 0.0} for i, n in enumerate(names, 1) if i in annotated}
    if not guess["annotations"] or not scores:
        return scores
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO(truth)
        run = COCOeval_faster(ground, ground.loadRes(guess["annotations"]), iouType=of, print_function=lambda *_: None)
        run.run()
    precision = run.eval["precision"]  # IoU, recall, class, area, detections per image
    for name in scores:
        table = precision[:, :, names.index(name), 0, -1]
        scores[name] = {"ap": _mean(table), "ap50": _mean(table[:1])}
    return scores


def _mean(table: np.ndarray) -> float:
    valid = table[table > -1]
    return float(valid.mean()) if valid.size else 0.0
