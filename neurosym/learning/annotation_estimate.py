r"""How good an annotation is, from what is known without the truth: the values, and the one formula that joins them; no torch.

An annotation's quality is the intersection over union of its box with the true box, 0 if its class is wrong; of its mask with
the true mask, where it has one and the run's model has masks. Its estimate is the expectation of that under opinions of equal
weight, less what the rules say:

    estimate = mean(opinions) · (1 − blame / 2)

    agreement   max_j s_j IoU(a, b_j) over predictions of its class: with probability s_j the object is where detection j says.
                A lower bound of the expected IoU under the predictions, for what the others hold adds to it.
    posterior   expected IoU with a box of the posterior (`neurosym.models.posterior`), where the run has one; of a mask that a
                segmenter judges, its IoU with the posterior's mask (`neurosym.learning.mask_quality`)
    attained    e(a) / max e(b) over b = a and the best predicted box, e the centroid map's evidence: on a map that is 1 on a
                box and 0 elsewhere, e of that box is 1 and e(a) is near their IoU (equal if a contains the box, within .07 if
                a is it, shifted along an axis by up to half a side), and the division takes out how blurred maps are.

Nothing tells beforehand which opinion is right more often, so each that the run has is given the same weight (a linear opinion
pool; Stone, 1961).

The blame of annotation i is the probability that it is the mistake in a violation v that it takes part in, if each violation
tells of a mistake with probability π_v and the annotations in it share it in proportion to what else speaks against them:

    blame_i = 1 − Π_v (1 − π_v n_i / Σ_{j ∈ v} n_j),      n_j = Σ π_v over the violations of the image that j takes part in
    π_v = ŵ · max(0, 1 − (1 − w) F / V)

so of two annotations that contradict each other each has half, and one that contradicts ten others has most of it; one more
violation never lowers the blame of those in it. ŵ is the learned confidence of the rule (how far it describes these annotations
at all), and the other factor the share of its V violations in F groundings beyond those that its stated confidence w allows. A
mistaken box is worth half of what it would be else: uniform on [0, mean(opinions)]. The estimate falls with the blame and rises
with each opinion. No weight was fitted to a truth. The combination is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from neurosym.data.masks import mask_overlap
from neurosym.learning.calibration import overlap_of
from neurosym.records import Annotation, Box, Detection

ELSEWHERE = 0.5
"""Least overlap with a prediction of another class that is told."""
NOTICED = 0.05
"""Least relative change of a side that is told."""
ALIKE = 0.8
"""Overlap of masks below which it is told."""


@dataclass(frozen=True, slots=True)
class QualityParts:
    """What an estimate is made of, each in [0, 1]; see the module. None: the run has no such opinion.

    `evidence` is e(a) itself, as the filter of a training uses it; only its share `attained` counts in the estimate.
    """

    agreement: float
    evidence: float | None = None
    attained: float | None = None
    posterior: float | None = None
    blame: float = 0.0


@dataclass(frozen=True, slots=True)
class AnnotationQuality:
    """One annotation: number `index` of its sample; the posterior's box, if there is one; estimate, parts, reasons in words.

    `prediction` is the one that agrees best, None if none of its class overlaps it; `mask` is what was annotated if masks were
    judged, and not boxes.
    """

    image_id: str
    index: int
    name: str
    box: Box
    suggested: Box | None
    estimate: float
    parts: QualityParts
    prediction: Detection | None = None
    reasons: tuple[str, ...] = ()
    mask: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; boxes are x1, y1, x2, y2 in pixels, and `judged` says if it was the "box" or the "mask"."""
        value = asdict(self) | {"judged": "box" if self.mask is None else "mask"}
        del value["mask"]
        value |= {"estimate": round(self.estimate, 4), "box": _plain(self.box)}
        value["suggested"] = None if self.suggested is None else _plain(self.suggested)
        value["parts"] = {k: None if v is None else round(v, 4) for k, v in value["parts"].items()}
        if self.prediction is not None:
            value["prediction"] = {"box": _plain(self.prediction.box), "score": self.prediction.score}
        return value


def estimate_of(parts: QualityParts) -> float:
    """mean(opinions) · (1 − blame / 2), in [0, 1]."""
    opinions = [v for v in (parts.agreement, parts.posterior, parts.attained) if v is not None]
    return min(1.0, max(0.0, sum(opinions) / len(opinions) * (1.0 - parts.blame / 2.0)))


def extent_overlap(a: Annotation | Detection, b: Annotation | Detection) -> float:
    """The intersection over union of two objects' masks if both have one, else of their boxes."""
    if a.mask is not None and b.mask is not None:
        return mask_overlap(a.mask, b.mask)
    return overlap_of(a.box, b.box)


def best_prediction(annotation: Annotation, predictions: Sequence[Detection]) -> tuple[float, Detection | None]:
    """max_j s_j IoU(a, b_j) over the predictions of the annotation's class, and that prediction; (0, None) if none overlaps.

    Masks are compared where both have one, else boxes.
    """
    found = [(d.score * extent_overlap(annotation, d), d) for d in predictions if d.name == annotation.name]
    agreement, best = max(found, key=lambda pair: pair[0], default=(0.0, None))
    return (agreement, best) if agreement > 0 else (0.0, None)


def blame_of(violations: Sequence[tuple[float, Sequence[int]]]) -> Mapping[int, float]:
    """The blame of each annotation that takes part in a violation.

    Args:
        violations: of one image: π_v, and the annotations that take part.
    """
    mass: dict[int, float] = {}
    for confidence, objects in violations:
        for i in set(objects):
            mass[i] = mass.get(i, 0.0) + confidence
    blameless = dict.fromkeys(mass, 1.0)
    for confidence, objects in violations:
        total = sum(mass[j] for j in set(objects))
        for i in set(objects) if total > 0 else ():
            blameless[i] *= 1.0 - confidence * mass[i] / total
    return {i: 1.0 - p for i, p in blameless.items()}


def trust_of(stated: float, learned: float, fired: float, violated: float) -> float:
    """π_v = ŵ · max(0, 1 − (1 − w) F / V), the probability that a violation of a rule tells of a mistake; 0 without any.

    >>> round(trust_of(0.9, 0.9, fired=100, violated=10), 3), trust_of(1.0, 0.8, fired=100, violated=20)
    (0.0, 0.8)
    """
    return learned * max(0.0, 1.0 - (1.0 - stated) * fired / violated) if violated else 0.0


# --- in words ---------------------------------------------------------------------------------------------------------


def reasons_of(
    annotation: Annotation,
    predictions: Sequence[Detection],
    best: Detection | None,
    suggested: Box | None,
    violated: Sequence[str],
    mended: float | None = None,
) -> tuple[str, ...]:
    """What speaks against an annotation, in words; `violated` are the sentences of its rules.

    `mended` is the overlap of its mask with the posterior's, if there is one.
    """
    told = []
    if best is None:
        told.append(f"no {annotation.name} is predicted there")
    elif moved := moved_in_words(annotation.box, best.box):
        told.append(f"predictions ({best.score:.2f}) put it {moved}")
    elif best.score < ELSEWHERE:
        told.append(f"the prediction of it is faint ({best.score:.2f})")
    if best is not None and best.mask is not None and annotation.mask is not None:
        alike = mask_overlap(annotation.mask, best.mask)
        if alike < ALIKE:
            told.append(f"the predicted mask overlaps it by {alike:.2f}")
    if mended is not None and mended < ALIKE:
        told.append(f"the posterior's mask overlaps it by {mended:.2f}")
    own = 0.0 if best is None else best.score
    others = [d for d in predictions if d.name != annotation.name and d.score > max(own, ELSEWHERE)]
    there = [d for d in others if overlap_of(d.box, annotation.box) >= ELSEWHERE]
    if there:
        surest = max(there, key=lambda d: d.score)
        told.append(f"a {surest.name} ({surest.score:.2f}) is predicted there")
    if suggested is not None and (moved := moved_in_words(annotation.box, suggested)):
        told.append(f"the posterior puts it {moved}")
    return (*told, *violated)


def moved_in_words(box: Box, other: Box) -> str:
    """What it takes to make `other` of `box`; "" for less than a pixel and a twentieth of a side.

    >>> moved_in_words(Box(20, 0, 40, 20), Box(6, 0, 30, 20))
    '12 px to the left and 20% wider'
    """
    dx, dy = ((other.x1 + other.x2) - (box.x1 + box.x2)) / 2, ((other.y1 + other.y2) - (box.y1 + box.y2)) / 2
    parts = []
    if abs(dx) >= 1:
        parts.append(f"{abs(dx):.0f} px to the {'right' if dx > 0 else 'left'}")
    if abs(dy) >= 1:
        parts.append(f"{abs(dy):.0f} px {'down' if dy > 0 else 'up'}")
    sides = ((box.width, other.width, "wider", "narrower"), (box.height, other.height, "taller", "shorter"))
    for old, new, more, less in sides:
        change = new / old - 1 if old > 0 else 0.0
        if abs(change) >= NOTICED:
            parts.append(f"{abs(change):.0%} {more if change > 0 else less}")
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def _plain(box: Box) -> list[float]:
    return [round(float(v), 2) for v in box.xyxy]
