"""Samples → tensors: augmentation that keeps left and right, and an order of images that depends on seed and step alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neurosym.data.masks import decode_mask
from neurosym.data.unread import unread
from neurosym.errors import DataError, Problem
from neurosym.models.scene import OF_THE_FILM, Target, unknown_masks
from neurosym.records import Annotation, Sample

MIN_SIDE = 1.0
"""Pixels; a box that the augmentation has shrunk or cut below this is left out."""


def batch_indices(count: int, batch: int, step: int, seed: int) -> list[int]:
    """The images of a step: a fresh permutation each epoch, wrapping around; any step can be asked for first."""
    places = [divmod(k, count) for k in range(step * batch, (step + 1) * batch)]
    orders = {e: np.random.default_rng([seed, e]).permutation(count) for e in {epoch for epoch, _ in places}}
    return [int(orders[epoch][place]) for epoch, place in places]


def to_tensor(image: np.ndarray, device: torch.device | str = "cpu") -> Float[Tensor, "3 height width"]:
    """An 8-bit image as three channels in [0, 1]."""
    pixels = torch.from_numpy(np.array(image)).to(device).float() / 255.0
    return pixels.expand(3, -1, -1) if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def one_channel(image: Tensor) -> Tensor:
    """The one channel of a grey film whose three are the same memory (see `to_tensor`), else the image as it is."""
    return image[:1] if image.stride(0) == 0 else image


def known_annotations(sample: Sample, names: Sequence[str]) -> list[Annotation]:
    """The annotations with an extent that a model of these classes learns from; crowds, points and scribbles are none."""
    return [a for a in sample.annotations if a.name in names and not a.iscrowd and not a.drawn]


def to_target(sample: Sample, names: Sequence[str], masks: bool = False) -> Target:
    """The boxes, and if asked for the masks, of the model's classes; other annotations are not shown to it.

    The mask of an annotation that has only a box is unknown within the box (see `neurosym.models.scene.Target`).
    """
    known = known_annotations(sample, names)
    boxes = torch.tensor([a.box.xyxy for a in known], dtype=torch.float32).reshape(-1, 4)
    target = {"boxes": boxes, "labels": torch.tensor([names.index(a.name) + 1 for a in known], dtype=torch.int64)}
    if masks:
        target["masks"] = unknown_masks(boxes, *sample.image.shape[:2])
        for mask, annotation in zip(target["masks"], known, strict=True):
            if annotation.mask is not None:
                mask.copy_(torch.from_numpy(decode_mask(annotation.mask)))
    return target


def annotated_sizes(samples: Sequence[Sample], names: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Every box (box, 4) of the model's classes, its label, and the area of its image in pixels; pixels are not read."""
    samples = unread(samples)
    boxes, labels, areas = [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0)]
    for n in range(len(samples)):
        sample = samples[n]
        target = to_target(sample, names)
        height, width = sample.image.shape[:2]
        boxes.append(target["boxes"])
        labels.append(target["labels"])
        areas.append(torch.full((len(target["labels"]),), float(height * width)))
    return torch.cat(boxes), torch.cat(labels), torch.cat(areas)


def require_masks(samples: Sequence[Sample], names: Sequence[str], look_at: int = 32) -> None:
    """Refuse data that a model which learns from masks could learn nothing from.

    Raises:
        DataError: none of the first `look_at` images has a mask of a class of `names`.
    """
    shown = unread(samples)
    first = (shown[i] for i in range(min(look_at, len(shown))))
    if not any(a.mask is not None for s in first for a in known_annotations(s, names)):
        message = "the model learns from masks, but the annotations of the first training images are boxes only"
        cure = "use annotations with segmentations, or model.kind: faster_rcnn, cascade_rcnn or retinanet"
        raise DataError(Problem(message, cure=cure))


def augment(image: Tensor, target: Target, rng: np.random.Generator) -> tuple[Tensor, Target]:
    """Exposure (gamma), contrast and brightness, then scale and shift about the centre by up to 15% and 8%.

    Masks move by the same map as the image, each pixel taking its nearest; boxes move by themselves. What is done to a grey
    film is done once, to one channel.
    """
    channels = len(image)
    image = one_channel(image)
    gamma, contrast, brightness = rng.uniform(0.75, 1.33), rng.uniform(0.8, 1.25), rng.uniform(-0.1, 0.1)
    image = ((image.clamp(1e-3, 1.0) ** gamma - 0.5) * contrast + 0.5 + brightness).clamp(0.0, 1.0)
    scale, shift_x, shift_y = rng.uniform(0.85, 1.15), rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08)
    _, height, width = image.shape
    theta = torch.tensor([[[1 / scale, 0, -2 * shift_x / scale], [0, 1 / scale, -2 * shift_y / scale]]])
    grid = F.affine_grid(theta.to(image), [1, *image.shape], align_corners=False)
    moved = F.grid_sample(image[None], grid, align_corners=False)[0].expand(channels, -1, -1)
    centre = torch.tensor([width, height, width, height]) / 2
    offset = torch.tensor([shift_x * width, shift_y * height] * 2)
    boxes = (target["boxes"] - centre) * scale + centre + offset
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]))
    left = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    big = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE).all(1) & (left >= 0.5 * area)
    result = {"boxes": boxes[big], "labels": target["labels"][big]}
    for key in OF_THE_FILM & target.keys():
        result[key] = target[key]
    if "points" in target:
        result["points"] = _moved_points(target["points"], scale, (shift_x * width, shift_y * height), (width, height))
    if "masks" in target:
        masks = target["masks"][big][None].to(image.dtype)
        result["masks"] = F.grid_sample(masks, grid, mode="nearest", align_corners=False)[0].to(torch.uint8)
    return moved, result


def _moved_points(
    points: Float[Tensor, "point 3"], scale: float, shift: tuple[float, float], size: tuple[int, int]
) -> Float[Tensor, "kept 3"]:
    """The points of marks that are still on the image, moved as its boxes are."""
    whole = torch.tensor(size, dtype=points.dtype)
    moved = (points[:, :2] - whole / 2) * scale + whole / 2 + torch.tensor(shift, dtype=points.dtype)
    there = ((moved >= 0) & (moved < whole)).all(1)
    return torch.cat([moved, points[:, 2:]], 1)[there]


def make_batch(
    samples: Sequence[Sample],
    names: Sequence[str],
    device: torch.device,
    rng: np.random.Generator | None,
    masks: bool = False,
    weak: Callable[[Sample, Target], Target] | None = None,
) -> tuple[list[Tensor], list[Target]]:
    """Images and targets on a device, augmented if a generator is given, with masks for the models that use them.

    `weak` adds to a target what is known of its film beside boxes and masks.
    """
    images, targets = [], []
    for sample in samples:
        image, target = to_tensor(sample.image), to_target(sample, names, masks)
        if weak is not None:
            target = weak(sample, target)
        if rng is not None:
            image, target = augment(image, target, rng)
        images.append(image.to(device))
        targets.append({k: v.to(device) for k, v in target.items()})
    return images, targets
