"""`predict`: a trained run and images → scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from neurosym.errors import Problem, TrainingError, short_path
from neurosym.learning.batches import to_tensor
from neurosym.learning.checkpoint import latest_checkpoint, load_weights
from neurosym.learning.runfolder import OpenRun
from neurosym.learning.train import pick_device
from neurosym.models.detector import Detector
from neurosym.records import Box, Detection, Sample, Scene


def predict(
    run: OpenRun, images: Sequence[Sample], batch_size: int = 4, progress: Callable[[int, int], None] | None = None
) -> list[Scene]:
    """Detect on images; the scenes carry the images' own study labels, which the detector does not predict.

    Raises:
        TrainingError: the run has no finished checkpoint.
    """
    checkpoint = latest_checkpoint(run.path / "checkpoints")
    if checkpoint is None:
        raise TrainingError(Problem("the run has no checkpoint yet", short_path(run.path), cure="train it first"))
    device = pick_device(run.config)
    model = Detector(run.config.model, run.names, load=False).to(device)
    load_weights(checkpoint, model)
    scenes = []
    for start in range(0, len(images), batch_size):
        samples = [images[i] for i in range(start, min(start + batch_size, len(images)))]
        found = model.detect([to_tensor(s.image, device) for s in samples])
        scenes += [_scene(s, f, run.names) for s, f in zip(samples, found, strict=True)]
        if progress is not None:
            progress(len(scenes), len(images))
    return scenes


def _scene(sample: Sample, found: dict[str, torch.Tensor], names: Sequence[str]) -> Scene:
    height, width = sample.image.shape[:2]
    detections = tuple(
        Detection(names[label - 1], Box(*(round(v, 2) for v in box)), round(score, 4))
        for box, label, score in zip(*(found[k].tolist() for k in ("boxes", "labels", "scores")), strict=True)
    )
    return Scene(sample.image_id, width, height, detections, dict.fromkeys(sorted(sample.labels), 1.0), sample.path)
