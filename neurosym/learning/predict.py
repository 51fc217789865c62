"""`predict`: a trained run and images → scenes, refined as the run's config says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from neurosym.constraints.graph import InstanceScorer, SceneRefiner
from neurosym.data.masks import encode_mask
from neurosym.errors import Problem, TrainingError, short_path
from neurosym.learning.batches import to_tensor
from neurosym.learning.checkpoint import latest_checkpoint, load_guidance, load_weights
from neurosym.learning.guidance import refiner_weights, restored_refiner, scorer_weights
from neurosym.learning.mask_refinement import refined_masks, restored_scorer
from neurosym.learning.optimisation import pick_device
from neurosym.learning.runfolder import OpenRun
from neurosym.learning.teacher import in_pixels, masks_of, refine_all, sure_objects
from neurosym.models.build import build_model
from neurosym.models.scene import SceneModel
from neurosym.records import Box, Detection, Sample, Scene

log = logging.getLogger(__name__)
PROPOSALS = 300
"""Objects of an image that a refiner is asked about at most."""


class Predictor:
    """A run's newest checkpoint, ready to detect: images → scenes.

    The scenes carry the images' own study labels, which the model does not predict, and masks if it has any.
    Where the run has a refiner for it (`refiner.at_test`), the scenes are refined; where it has a scorer of instance masks
    (`instances.enabled`), so are the masks of what was found.

    Raises:
        TrainingError: the run has no finished checkpoint.
    """

    def __init__(self, run: OpenRun) -> None:
        checkpoint = latest_checkpoint(run.path / "checkpoints")
        if checkpoint is None:
            raise TrainingError(Problem("the run has no checkpoint yet", short_path(run.path), cure="train it first"))
        self.run, self.checkpoint = run, checkpoint.name
        self._device = pick_device(run.config)
        self._model = build_model(run.config.model, run.names, load=False).to(self._device)
        load_weights(checkpoint, self._model)
        self._refiner, self._scorer = _refiner(run, checkpoint, self._device), _scorer(run, checkpoint)

    def __call__(self, samples: Sequence[Sample]) -> list[Scene]:
        """Detect on one batch of images; boxes and masks are in the pixels of each."""
        pixels = [to_tensor(s.image, self._device) for s in samples]
        refiner = self._refiner
        found = self._model.detect(pixels) if refiner is None else detect_refined(self._model, refiner, pixels)
        made = [scene_of(s, f, self.run.names) for s, f in zip(samples, found, strict=True)]
        if self._scorer is None:
            return made
        pairs = zip(made, samples, strict=True)
        return [refined_masks(m, self._scorer, self.run.config, s.image) for m, s in pairs]


def predict(
    run: OpenRun, images: Sequence[Sample], batch_size: int = 4, progress: Callable[[int, int], None] | None = None
) -> list[Scene]:
    """Detect on images, a batch at a time; what the scenes hold is told of `Predictor`.

    Raises:
        TrainingError: the run has no finished checkpoint.
    """
    detect = Predictor(run)
    scenes: list[Scene] = []
    for start in range(0, len(images), batch_size):
        scenes += detect([images[i] for i in range(start, min(start + batch_size, len(images)))])
        if progress is not None:
            progress(len(scenes), len(images))
    return scenes


def _refiner(run: OpenRun, checkpoint: Path, device: torch.device) -> SceneRefiner | None:
    """The run's refiner, if its predictions are to be refined."""
    if not (run.config.refiner.enabled and run.config.refiner.at_test):
        return None
    weights = refiner_weights(load_guidance(checkpoint))
    return restored_refiner(run.config, run.names, run.knowledge, weights, device) if weights else None


def _scorer(run: OpenRun, checkpoint: Path) -> InstanceScorer | None:
    """The run's scorer of instance masks, if its predictions are to be refined by it."""
    if not run.config.instances.enabled:
        return None
    weights = scorer_weights(load_guidance(checkpoint))
    if not weights:
        log.warning("%s: masks are not refined, their scorer is trained when training ends", short_path(run.path))
        return None
    return restored_scorer(run.config, run.names, run.knowledge, weights)


@torch.no_grad()
def detect_refined(
    model: SceneModel, refiner: SceneRefiner, images: list[torch.Tensor]
) -> list[dict[str, torch.Tensor]]:
    """Detections of the refined scenes: like `SceneModel.detect`, scored by class probability · √(estimated overlap).

    Where the model has masks each detection has one (`SceneModel.masks_of`); an object that has no pixel is none.
    """
    model.eval()
    scenes = [in_pixels(s, image) for s, image in zip(model.propose(images, PROPOSALS), images, strict=True)]
    objects = []
    for better in refine_all(refiner, scenes):
        scores = better.probabilities * better.fit[:, None].sqrt()
        objects.append(sure_objects(better.probabilities, better.boxes, model.config.score_threshold, scores))
    found = [o.target | {"scores": o.scores} for o in objects]
    if not model.uses_masks:
        return found
    masks = masks_of(model, images, scenes, objects)
    found = [f | {"masks": m} for f, m in zip(found, masks, strict=True)]
    return [{k: v[f["masks"].flatten(1).any(1)] for k, v in f.items()} for f in found]


def scene_of(sample: Sample, found: dict[str, torch.Tensor], names: Sequence[str]) -> Scene:
    """What a model's `detect` found on one image, as a scene with masks of the image's size where there are."""
    height, width = sample.image.shape[:2]
    boxes, labels, scores = (found[k].tolist() for k in ("boxes", "labels", "scores"))
    masks = [encode_mask(m) for m in found["masks"].cpu().numpy()] if "masks" in found else [None] * len(boxes)
    detections = tuple(
        Detection(names[label - 1], Box(*(round(v, 2) for v in box)), round(score, 4), mask)
        for box, label, score, mask in zip(boxes, labels, scores, masks, strict=True)
    )
    return Scene(sample.image_id, width, height, detections, dict.fromkeys(sorted(sample.labels), 1.0), sample.path)
