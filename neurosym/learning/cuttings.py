"""Findings cut from their films and laid onto others: what is painted, and how.

A finding is scaled to its new box, mirrored if it changes sides, brought to the brightness of what surrounds it and faded out
towards the border of its mask or, where it has only a box, of an ellipse (Cut, Paste and Learn, Dwibedi et al. 2017; Simple
Copy-Paste, Ghiasi et al. 2021). What rules say it lies inside bounds the painting, too: a ground glass of a lung is cut off at
the lung's border, and its surroundings are those inside the lung, here as on its own film; that is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from neurosym.constraints.graph import ObjectScene
from neurosym.constraints.graph.sampler import Array
from neurosym.data.masks import box_of, decode_mask
from neurosym.records import Annotation, Box, Sample

LEAST_LEFT = 0.5
"""A finding of which less than this share remains, cut off at the borders of image and organ, is not painted."""


@dataclass(frozen=True)
class Cutting:
    """A finding cut from its film: pixels, opacity (0 outside it), and `around`: which of the pixels it lies on but is not."""

    label: int
    name: str
    pixels: Float[Array, "height width"]
    alpha: Float[Array, "height width"]
    around: Bool[Array, "height width"]
    box: Float[Array, " border"]
    source: ObjectScene


def ellipse(box: Float[Array, " border"], height: int, width: int) -> Bool[Array, "height width"]:
    """The pixels of the ellipse in a box: the mask of an object of which only the box is known."""
    x1, y1, x2, y2 = box
    y, x = np.ogrid[:height, :width]
    across, down = max(float(x2 - x1), 1.0), max(float(y2 - y1), 1.0)
    return ((x + 0.5 - (x1 + x2) / 2) / across) ** 2 + ((y + 0.5 - (y1 + y2) / 2) / down) ** 2 <= 0.25  # type: ignore[no-any-return]


def mask_of(annotation: Annotation, height: int, width: int) -> Bool[Array, "height width"]:
    """The annotation's mask, or the ellipse in its box."""
    if annotation.mask is not None:
        return decode_mask(annotation.mask) > 0
    return ellipse(np.array(annotation.box.xyxy), height, width)


def grey_of(image: Array) -> Float[Array, "height width"]:
    """The image's brightness."""
    return (image if image.ndim == 2 else image.mean(2)).astype(np.float32)


def cut(
    sample: Sample, annotation: Annotation, label: int, scene: ObjectScene, organ: Bool[Array, "height width"] | None
) -> Cutting:
    """The finding, and a rim around it; `organ` is what it lies inside on this film, if anything."""
    grey = grey_of(sample.image)
    height, width = grey.shape
    x1, y1, x2, y2 = annotation.box.xyxy
    rim_x, rim_y = 0.15 * (x2 - x1) + 1, 0.15 * (y2 - y1) + 1
    left, top = max(0, int(x1 - rim_x)), max(0, int(y1 - rim_y))
    right, bottom = min(width, int(np.ceil(x2 + rim_x))), min(height, int(np.ceil(y2 + rim_y)))
    window = slice(top, bottom), slice(left, right)
    inside = mask_of(annotation, height, width)
    lies_in_it = organ is not None and (organ & inside).sum() >= LEAST_LEFT * inside.sum()
    around = organ & ~inside if organ is not None and lies_in_it else ~inside
    alpha = ndimage.gaussian_filter(inside[window].astype(np.float32), 0.04 * max(x2 - x1, y2 - y1) + 0.5)
    box = np.array(annotation.box.xyxy, dtype=float)
    return Cutting(label, annotation.name, grey[window], alpha, around[window], box, scene)


def paste(
    image: Array, cutting: Cutting, box: Array, mirrored: bool, organ: Bool[Array, "height width"] | None
) -> tuple[Box, Bool[Array, "height width"]] | None:
    """Lay a cutting over the box of an image (changed in place), within the organ if one is given.

    Returns the box and the mask that it really takes; None, and nothing is painted, if too little of it is left.
    """
    pixels, alpha, around = _scaled(cutting, box, mirrored)
    high, wide = alpha.shape
    centre = (box[:2] + box[2:]) / 2
    left, top = round(centre[0] - wide / 2), round(centre[1] - high / 2)
    x1, y1 = max(0, left), max(0, top)
    x2, y2 = min(image.shape[1], left + wide), min(image.shape[0], top + high)
    if x2 - x1 < 2 or y2 - y1 < 2:
        return None
    whole = (alpha > 0.5).sum()
    window = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))
    pixels, alpha, around = pixels[window], alpha[window], around[window]
    allowed = np.ones(alpha.shape, dtype=bool) if organ is None else organ[y1:y2, x1:x2]
    inside = (alpha > 0.5) & allowed
    if inside.sum() < max(4, LEAST_LEFT * whole):
        return None
    if organ is not None:
        alpha = alpha * ndimage.gaussian_filter(allowed.astype(np.float32), 0.7)
    under = grey_of(image[y1:y2, x1:x2])
    rims = (alpha < 0.2) & allowed, (alpha < 0.2) & around
    lift = float(under[rims[0]].mean() - pixels[rims[1]].mean()) if all(r.any() for r in rims) else 0.0
    laid = (1 - alpha) * under + alpha * (pixels + lift)
    image[y1:y2, x1:x2] = laid if image.ndim == 2 else laid[..., None]
    mask = np.zeros(image.shape[:2], dtype=bool)
    mask[y1:y2, x1:x2] = inside
    return box_of(mask), mask


def _scaled(cutting: Cutting, box: Array, mirrored: bool) -> tuple[Array, Array, Array]:
    scale = (box[2:] - box[:2]) / np.maximum(cutting.box[2:] - cutting.box[:2], 1.0)
    pixels, alpha, around = cutting.pixels, cutting.alpha, cutting.around
    if mirrored:
        pixels, alpha, around = pixels[:, ::-1], alpha[:, ::-1], around[:, ::-1]
    zoom = (
        max(2, round(alpha.shape[0] * scale[1])) / alpha.shape[0],
        max(2, round(alpha.shape[1] * scale[0])) / alpha.shape[1],
    )
    pixels, alpha = ndimage.zoom(pixels, zoom, order=1), np.clip(ndimage.zoom(alpha, zoom, order=1), 0, 1)
    return pixels, alpha, ndimage.zoom(around.astype(np.float32), zoom, order=0) > 0.5
