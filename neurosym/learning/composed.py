"""Films composed by the rules: labelled findings laid onto other films, where the ontology lets them be.

Sixteen films show a handful of findings in a handful of places. The sampler of the refiner
(`neurosym.constraints.graph.sampler`) draws where else they may lie, given the anatomy that is there and the rules;
here such a scene is painted. A finding is cut from its film and laid over the new place (Cut, Paste and Learn,
Dwibedi et al. 2017; Simple Copy-Paste, Ghiasi et al. 2021): scaled to the new box, mirrored if it changes sides, its
brightness matched at the rim, faded out towards the border of its mask or, where it has only a box, of an ellipse.
The target is exact, for it is known what was pasted. That knowledge chooses the place is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from neurosym.constraints.graph import ObjectScene, SceneSampler
from neurosym.constraints.graph.sampler import Array
from neurosym.data.masks import decode_mask
from neurosym.records import Annotation, Box, Sample

MAX_COVER = 0.3
"""A pasted finding that another finding's box would cover, or that would cover it, by more than this share is left out."""


@dataclass(frozen=True)
class Cutting:
    """A finding cut from its film: pixels and opacity of its surroundings, 0 outside."""

    label: int
    name: str
    pixels: Float[Array, "height width"]
    alpha: Float[Array, "height width"]
    box: Float[Array, " border"]
    source: ObjectScene


class Composer:
    """Lays findings of labelled films onto films; the same generator state gives the same film."""

    def __init__(
        self, samples: Sequence[Sample], scenes: Sequence[ObjectScene], names: Sequence[str], sampler: SceneSampler
    ) -> None:
        self.names, self.sampler = tuple(names), sampler
        self.cuttings: dict[int, list[Cutting]] = {}
        for sample, scene in zip(samples, scenes, strict=True):
            for annotation in sample.annotations:
                if annotation.name in names and not annotation.iscrowd:
                    label = self.names.index(annotation.name) + 1
                    if label not in sampler.permanent:
                        self.cuttings.setdefault(label, []).append(_cut(sample, annotation, label, scene))

    def compose(self, sample: Sample, scene: ObjectScene, rate: float, rng: np.random.Generator) -> Sample:
        """The film with about `rate` more findings, classes drawn evenly, each where the rules let it be."""
        if not self.cuttings:
            return sample
        image = sample.image.astype(np.float32)
        labels, boxes, added = scene.labels.tolist(), list(scene.boxes), []
        frame = self.sampler.frame_of(scene)
        for _ in range(int(rng.poisson(rate))):
            label = sorted(self.cuttings)[int(rng.integers(len(self.cuttings)))]
            cutting = self.cuttings[label][int(rng.integers(len(self.cuttings[label])))]
            start = self.sampler.carried(cutting.box, cutting.source, frame)
            box = self.sampler.place(labels, boxes, label, start, frame, scene.size, rng)
            if box is None or self._crowded(box, labels, boxes):
                continue
            shown = _paste(image, cutting, box, self._changes_side(cutting, box, frame))
            if shown is not None:
                labels.append(label)
                boxes.append(np.array(shown.xyxy))
                added.append(Annotation(cutting.name, shown))
        pixels = np.clip(image + 0.5, 0, 255).astype(np.uint8)
        return Sample(
            sample.image_id, pixels, (*sample.annotations, *added), sample.labels, sample.attributes, sample.path
        )

    def _changes_side(self, cutting: Cutting, box: Array, frame: Array) -> bool:
        """Whether the finding comes to lie on the other side of the anatomy: there it is mirrored, as the anatomy is."""
        before = self.sampler.frame_of(cutting.source)
        sides = [np.sign(b[0] + b[2] - f[0] - f[2]) for b, f in ((cutting.box, before), (box, frame))]
        return bool(sides[0] != sides[1])

    def _crowded(self, box: Array, labels: Sequence[int], boxes: Sequence[Array]) -> bool:
        area = np.prod(box[2:] - box[:2])
        for label, other in zip(labels, boxes, strict=True):
            if label in self.sampler.permanent:
                continue
            common = np.prod(np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None))
            if common > MAX_COVER * min(area, np.prod(other[2:] - other[:2])):
                return True
        return False


def _cut(sample: Sample, annotation: Annotation, label: int, scene: ObjectScene) -> Cutting:
    """The pixels of the box and a rim around it, and how opaque they are pasted."""
    grey = sample.image if sample.image.ndim == 2 else sample.image.mean(2)
    height, width = grey.shape
    x1, y1, x2, y2 = annotation.box.xyxy
    rim_x, rim_y = 0.15 * (x2 - x1) + 1, 0.15 * (y2 - y1) + 1
    left, top = max(0, int(x1 - rim_x)), max(0, int(y1 - rim_y))
    right, bottom = min(width, int(np.ceil(x2 + rim_x))), min(height, int(np.ceil(y2 + rim_y)))
    if annotation.mask is not None:
        inside = decode_mask(annotation.mask)[top:bottom, left:right].astype(np.float32)
    else:
        y, x = np.mgrid[top:bottom, left:right] + 0.5
        inside = ((((x - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1)) ** 2) <= 0.25).astype(
            np.float32
        )
    alpha = ndimage.gaussian_filter(inside, 0.04 * max(x2 - x1, y2 - y1) + 0.5)
    return Cutting(
        label,
        annotation.name,
        grey[top:bottom, left:right].astype(np.float32),
        alpha,
        np.array(annotation.box.xyxy, dtype=float),
        scene,
    )


def _paste(image: Array, cutting: Cutting, box: Array, mirrored: bool) -> Box | None:
    """Lay a cutting over the box; returns the box that it really takes, None if hardly anything is left of it."""
    scale = (box[2:] - box[:2]) / np.maximum(cutting.box[2:] - cutting.box[:2], 1.0)
    pixels, alpha = cutting.pixels, cutting.alpha
    if mirrored:
        pixels, alpha = pixels[:, ::-1], alpha[:, ::-1]
    zoom = (
        max(2, round(alpha.shape[0] * scale[1])) / alpha.shape[0],
        max(2, round(alpha.shape[1] * scale[0])) / alpha.shape[1],
    )
    pixels, alpha = ndimage.zoom(pixels, zoom, order=1), np.clip(ndimage.zoom(alpha, zoom, order=1), 0, 1)
    high, wide = alpha.shape
    centre = (box[:2] + box[2:]) / 2
    left, top = round(centre[0] - wide / 2), round(centre[1] - high / 2)
    x1, y1 = max(0, left), max(0, top)
    x2, y2 = min(image.shape[1], left + wide), min(image.shape[0], top + high)
    if x2 - x1 < 2 or y2 - y1 < 2:
        return None
    window = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))
    pixels, alpha = pixels[window], alpha[window]
    inside = alpha > 0.5
    if inside.sum() < 4:
        return None
    under = image[y1:y2, x1:x2] if image.ndim == 2 else image[y1:y2, x1:x2].mean(2)
    rim = alpha < 0.2
    lift = float(under[rim].mean() - pixels[rim].mean()) if rim.any() else 0.0
    laid = (1 - alpha) * under + alpha * (pixels + lift)
    image[y1:y2, x1:x2] = laid if image.ndim == 2 else laid[..., None]
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return Box(float(x1 + columns[0]), float(y1 + rows[0]), float(x1 + columns[-1] + 1), float(y1 + rows[-1] + 1))
