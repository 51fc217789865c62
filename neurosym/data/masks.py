"""Masks as COCO run-length codes, the form in which annotations and detections carry them: plain values that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from faster_coco_eval.core import mask as mask_api
from faster_coco_eval.mask_api_new_cpp import toUncompressedRLE

from neurosym.records import Box

_FAR: Final = 1e300
_LONGEST: Final = 5_000_000
"""Pixels of all outlines of a mask; each takes forty bytes while it is followed."""


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A (height, width) mask, true where it is not 0, as ``{"size": [height, width], "counts": text}``.

    >>> code = encode_mask(np.eye(3))
    >>> code["size"], decode_mask(code).diagonal().tolist()
    ([3, 3], [1, 1, 1])
    """
    return as_text(mask_api.encode(np.asfortranarray(mask != 0, dtype=np.uint8)))


def decode_mask(code: Mapping[str, Any]) -> np.ndarray:
    """The (height, width) mask of a compressed code, 1 inside and 0 outside, as bytes."""
    return np.asarray(mask_api.decode(as_text(code)), dtype=np.uint8)


def box_of(mask: np.ndarray) -> Box:
    """The tight box of a mask with a pixel: from the first pixel's near edge to the last pixel's far edge."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def mask_overlap(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """The intersection over union of two masks of one image, 0 if both are empty.

    Raises:
        ValueError: they are of images of different sizes.

    >>> mask_overlap(encode_mask(np.eye(3)), encode_mask(np.ones((3, 3)))) == 3 / 9
    True
    """
    if list(a["size"]) != list(b["size"]):
        raise ValueError(f"masks of {a['size']} and {b['size']} pixels are not of one image")
    return float(mask_api.iou([as_text(a)], [as_text(b)], [0])[0, 0])


def as_text(code: Mapping[str, Any]) -> dict[str, Any]:
    """The code with its size as plain whole numbers and its counts as text; libraries write bytes."""
    counts = code["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(v) for v in code["size"]], "counts": text}


def code_of(segmentation: Any, width: int, height: int) -> dict[str, Any]:
    """A COCO segmentation (polygons, run lengths or their code) of an image of this size, as a code.

    Raises:
        ValueError: it cannot be read, or is of another size; what is wrong, in words.

    >>> code_of({"size": [2, 3], "counts": [5, 2]}, 3, 2)
    Traceback (most recent call last):
    ValueError: the runs of the mask have 7 pixels; its image has 6
    """
    if isinstance(segmentation, list):
        return _code_of_polygons(segmentation, width, height)
    if not isinstance(segmentation, Mapping) or not {"size", "counts"} <= set(segmentation):
        raise ValueError("a mask needs size and counts")
    size, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(size, Sequence) or list(size) != [height, width]:
        found = "×".join(map(str, reversed(size))) if isinstance(size, Sequence) else repr(size)
        raise ValueError(f"mask is {found}; its image is {width}×{height}")
    runs = counts
    if isinstance(counts, (str, bytes)):
        try:
            runs = toUncompressedRLE([as_text(segmentation)])[0]["counts"]
        except (RuntimeError, ValueError) as error:
            raise ValueError("the code of the mask is damaged") from error
    if not isinstance(runs, list) or not all(isinstance(n, int) and n >= 0 for n in runs):
        raise ValueError("the runs of a mask must be whole numbers from 0 on")
    if sum(runs) != width * height:
        raise ValueError(f"the runs of the mask have {sum(runs)} pixels; its image has {width * height}")
    return as_text(mask_api.frPyObjects(dict(segmentation), height, width) if runs is counts else segmentation)


def _code_of_polygons(polygons: list[Any], width: int, height: int) -> dict[str, Any]:
    if not all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in polygons):
        raise ValueError("a polygon needs three points, x and y each")
    for v in (v for polygon in polygons for v in polygon):
        if not isinstance(v, int | float) or not -_FAR < v < _FAR:
            raise ValueError(f"a polygon's points must be finite numbers, found {v!r:.40}")
    length = 0.0
    for polygon in polygons:
        far = max(-min(polygon[::2]), max(polygon[::2]) - width, -min(polygon[1::2]), max(polygon[1::2]) - height)
        if far > max(width, height):  # no rounding, and the outline is followed pixel by pixel
            raise ValueError(f"a polygon leaves its {width}×{height} image by {far:g} px")
        length += float(np.abs(np.diff(np.reshape(polygon, (-1, 2)), axis=0)).sum())
    if length > _LONGEST:
        raise ValueError(f"the polygons are {length:.0f} px long; expected at most {_LONGEST}")
    return as_text(mask_api.merge(mask_api.frPyObjects(polygons, height, width)))
