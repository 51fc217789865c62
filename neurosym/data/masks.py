"""Masks as COCO run-length codes, the form in which annotations and detections carry them: plain values that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as mask_api

from neurosym.records import Box


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
