"""`annotation_quality`: a run and annotated images → an estimate of each annotation's quality, without looking at any truth.

What the estimate is made of and why is in `neurosym.learning.annotation_estimate`; here the parts are gathered: predictions of
the run, posterior and centroid maps of its model (`InexactBoxes.judge`: no training step, no state changes), and the run's
compiled rules held against the annotations as they are (`neurosym.constraints.crisp`), worded as `neurosym explain` words them.
A run without `model.inexact` judges by predictions and rules alone. A model with masks judges the annotated mask, where there
is one: against predicted masks, and a segmenter with `model.inexact.posterior` also against the posterior's
(`neurosym.learning.mask_quality`).

A detector that was trained on an annotation has seen it, and agrees with it more than it should; the ranking suffers less than
the level. Where that matters, judge with a run that was trained on other images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from neurosym.data.images import annotated_scene
from neurosym.errors import Problem, TrainingError, short_path
from neurosym.learning.annotation_estimate import (
    AnnotationQuality,
    QualityParts,
    best_prediction,
    estimate_of,
    reasons_of,
)
from neurosym.learning.annotation_rules import Violations, violations_of
from neurosym.learning.batches import to_target, to_tensor
from neurosym.learning.checkpoint import latest_checkpoint, load_weights
from neurosym.learning.mask_quality import judge_masks
from neurosym.learning.optimisation import pick_device
from neurosym.learning.predict import predict
from neurosym.learning.run_constraints import constraints_of
from neurosym.learning.runfolder import OpenRun
from neurosym.learning.witness import RuleWitness
from neurosym.models.build import MODELS, build_model
from neurosym.models.centroids import evidence
from neurosym.models.inexact import InexactBoxes, Refined
from neurosym.models.scene import SceneModel
from neurosym.models.segmenter import FpnSegmenter
from neurosym.records import Annotation, Box, Sample, Scene

Progress = Callable[[int, int], None]
"""Called with (images judged, images in all)."""
Seen = tuple[Box | None, QualityParts]
"""What the model sees in an annotated box: the posterior's box, and the parts that need the image."""


def annotation_quality(
    run: OpenRun,
    split: str = "train",
    samples: Sequence[Sample] | None = None,
    scenes: Sequence[Scene] | None = None,
    batch_size: int = 4,
    progress: Progress | None = None,
) -> list[AnnotationQuality]:
    """Judge the annotations of a split, in the order of images and annotations.

    Annotations of classes that the run does not know, and crowds, are left out.

    Args:
        run: see `neurosym.learning.runfolder.open_run`.
        split: of the run's data.
        samples: other annotated images in its place.
        scenes: the run's predictions on these images; predicted now if None.
        batch_size: images at a time.
        progress: called after each batch.

    Raises:
        TrainingError: no checkpoint; predictions of other images. ConfigError, DataError: the split cannot be opened.
    """
    samples = run.images(split) if samples is None else samples
    scenes = predict(run, samples, batch_size) if scenes is None else scenes
    if len(scenes) != len(samples):
        raise TrainingError(f"{len(scenes)} predictions are not of these {len(samples)} images; predict them again")
    judge = _Judge.of(run)
    images: list[_Image] = []  # without the pixels: the rules want all images at once
    for start in range(0, len(samples), batch_size):
        numbers = range(start, min(start + batch_size, len(samples)))
        batch, predicted = [samples[i] for i in numbers], [scenes[i] for i in numbers]
        for sample, scene, seen in zip(batch, predicted, judge.seen(batch, predicted), strict=True):
            if scene.image_id != sample.image_id:
                raise TrainingError(f"the predictions have {scene.image_id!r} in the place of {sample.image_id!r}")
            images.append(_Image(sample.annotations, annotated_scene(sample), scene, seen))
        if progress is not None:
            progress(numbers.stop, len(samples))
    said = violations_of(run, [image.annotated for image in images])
    masks = MODELS[run.config.model.kind].uses_masks
    return [q for image, rules in zip(images, said, strict=True) for q in _judged(image, rules, run.names, masks)]


@dataclass(frozen=True)
class _Image:
    """What is kept of an image: its annotations, also as a scene (without crowds), predictions, and what the model sees."""

    annotations: tuple[Annotation, ...]
    annotated: Scene
    predicted: Scene
    seen: Sequence[Seen]


def _judged(image: _Image, rules: Violations, names: Sequence[str], masks: bool) -> Iterator[AnnotationQuality]:
    place = {i: k for k, i in enumerate(i for i, a in enumerate(image.annotations) if not a.iscrowd)}
    for i, (suggested, parts) in zip(judged_annotations(image.annotations, names), image.seen, strict=True):
        annotation, predictions = image.annotations[i], image.predicted.detections
        agreement, best = best_prediction(annotation, predictions)
        parts = replace(parts, agreement=agreement, blame=rules.blame.get(place[i], 0.0))
        mended = parts.posterior if suggested is None else None  # of a box that is suggested it is told how it moves
        reasons = reasons_of(annotation, predictions, best, suggested, rules.told.get(place[i], ()), mended)
        found = (image.annotated.image_id, i, annotation.name, annotation.box, suggested)
        mask = annotation.mask if masks else None
        yield AnnotationQuality(*found, estimate_of(parts), parts, best, reasons, mask)


def judged_annotations(annotations: Sequence[Annotation], names: Sequence[str]) -> list[int]:
    """The indices of the annotations that are judged, in the order in which `to_target` has them."""
    return [i for i, a in enumerate(annotations) if a.name in names and not a.iscrowd and not a.drawn]


# --- what the image shows -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Judge:
    """A run's model with its posterior and centroid maps, of boxes or of masks; None where it was trained without."""

    names: Sequence[str]
    model: SceneModel | None

    @classmethod
    def of(cls, run: OpenRun) -> _Judge:
        checkpoint = latest_checkpoint(run.path / "checkpoints")
        if checkpoint is None:
            raise TrainingError(Problem("the run has no checkpoint yet", short_path(run.path), cure="train it first"))
        if not run.config.model.inexact.active:
            return cls(run.names, None)
        device = pick_device(run.config)
        model = build_model(run.config.model, run.names, load=False).to(device)
        load_weights(checkpoint, model)
        if run.config.rules_are_witnesses and model.inexact is not None:  # as in its training
            rules = constraints_of(run).to(device)
            model.inexact.witness = RuleWitness(rules, run.config.constraints.temperature)
        return cls(run.names, model.eval())

    def seen(self, samples: Sequence[Sample], scenes: Sequence[Scene]) -> list[list[Seen]]:
        """Of each image, of each judged annotation."""
        counts = [len(judged_annotations(s.annotations, self.names)) for s in samples]
        if self.model is None or not any(counts):
            return [[(None, QualityParts(0.0))] * count for count in counts]
        if isinstance(self.model, FpnSegmenter):
            opinions = judge_masks(self.model, samples)
            return [[(None, QualityParts(0.0, posterior=p)) for p in of_image] for of_image in opinions]
        return judge_images(self.model, samples, scenes)


@torch.no_grad()
def judge_images(model: SceneModel, samples: Sequence[Sample], scenes: Sequence[Scene]) -> list[list[Seen]]:
    """Posterior and evidence of each judged annotation of each image, by a model in evaluation mode that refines boxes.

    Args:
        samples: the images.
        scenes: their predictions, whose boxes compete with the annotated ones for the evidence.
    """
    inexact = cast(InexactBoxes, model.inexact)
    told, factors, scaled = _judged_by(model, samples)
    refines = inexact.config.posterior and inexact.ready
    found: list[list[Seen]] = []
    for n, (sample, scene) in enumerate(zip(samples, scenes, strict=True)):
        refined, quality = told.targets[n]["boxes"] / factors[n], told.targets[n]["quality"]
        seen: list[Seen] = []
        for k, i in enumerate(judged_annotations(sample.annotations, model.names)):
            suggested = Box(*(round(v, 2) for v in refined[k].tolist())) if refines else None
            own, share = _evidence(told.maps[n][k], sample.annotations[i], scene, factors[n], scaled[n])
            seen.append((suggested, QualityParts(0.0, own, share, float(quality[k]) if refines else None)))
        found.append(seen)
    return found


@torch.no_grad()
def qualities(model: SceneModel, samples: Sequence[Sample]) -> list[Tensor]:
    """Of each image, the expected overlap of its judged annotations with the true boxes, by a model in evaluation mode."""
    return [target["quality"].cpu() for target in _judged_by(model, samples)[0].targets]


def _judged_by(model: SceneModel, samples: Sequence[Sample]) -> tuple[Refined, list[Tensor], list[tuple[float, float]]]:
    """What a model says of annotations, in pixels of its scaled images; the factors of that scale; the scaled sizes."""
    inexact = cast(InexactBoxes, model.inexact)
    device = next(model.parameters()).device
    # any proposals will do: they are asked for because they leave the pyramid and the scaled sizes behind, for every kind
    shown = model.propose([to_tensor(s.image, device) for s in samples], 1)
    scaled = [cast(tuple[float, float], p.size) for p in shown]
    targets, factors = [], []
    for sample, (width, height) in zip(samples, scaled, strict=True):
        own_height, own_width = sample.image.shape[:2]
        factor = torch.tensor([width / own_width, height / own_height] * 2, device=device)
        target = {k: v.to(device) for k, v in to_target(sample, model.names).items()}
        targets.append(target | {"boxes": target["boxes"] * factor})
        factors.append(factor)
    sizes = [(round(height), round(width)) for width, height in scaled]
    return inexact.judge(model.vote_levels(), sizes, targets), factors, scaled


def _evidence(
    shown: Tensor, annotation: Annotation, scene: Scene, factor: Tensor, size: tuple[float, float]
) -> tuple[float, float | None]:
    """e(a), and its share of the most that the annotated and the best predicted box have; None where the map is empty."""
    best = best_prediction(annotation, scene.detections)[1]
    boxes = torch.tensor([b.xyxy for b in (annotation.box, best.box if best else annotation.box)], device=factor.device)
    own, other = evidence(shown[None], (boxes * factor)[None], size)[0].tolist()
    return own, own / max(own, other) if max(own, other) > 0 else None
