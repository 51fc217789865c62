"""Train a model on a few films until it knows them by heart: the shortest proof that its losses teach what it detects."""

from __future__ import annotations

import torch
from torch import Tensor

from neurosym.data.images import annotated_scene
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.learning.batches import make_batch
from neurosym.learning.evaluate import Evaluation, evaluate_scenes
from neurosym.learning.predict import scene_of
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig
from neurosym.models.scene import SceneModel
from neurosym.records import Sample

NAMES = ("right_lung", "heart", "left_lung")


def overfit(
    kind: str, steps: int, lr: float, films: int = 2, size: int = 96
) -> tuple[SceneModel, list[Sample], list[Tensor], Evaluation]:
    """The model, the films (of `size` pixels) as samples and as tensors, and how well they are detected."""
    torch.manual_seed(0)
    settings = {"image_size": size, "max_size": size, "fpn_channels": 32, "head_features": 64}
    config = DetectorConfig(kind=kind, proposals=100, sampled_boxes=32, **settings)  # type: ignore[arg-type]
    model = build_model(config, NAMES).train()
    samples = list(Phantom(0, films, PhantomConfig(size=size)))
    images, targets = make_batch(samples, NAMES, torch.device("cpu"), None, model.uses_masks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 8) * (0.2 if step > 0.75 * steps else 1.0)
        losses, _ = model(images, targets)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    found = [scene_of(s, f, NAMES) for s, f in zip(samples, model.detect(images), strict=True)]
    return model, samples, images, evaluate_scenes(found, [annotated_scene(s) for s in samples], NAMES)
