"""An annotation as a picture for whoever re-draws it: the part of the image around it, with the boxes that there are for it.

The annotated box is drawn whole, the suggested one dashed, predictions thin with class and score: that which agrees best,
and others that are sure or of the annotation's class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from neurosym.learning.annotation_estimate import AnnotationQuality
from neurosym.records import Box, Detection

ANNOTATED, SUGGESTED, PREDICTED = "#f94144", "#90be6d", "#4cc9f0"
"""Colours of the annotated, the suggested and the predicted boxes."""
SIDE: Final = 320
"""Pixels of the picture's longer side."""
AROUND: Final = 0.4
"""What is shown around the boxes, as a share of their extent; at least `LEAST` pixels."""
LEAST: Final = 12
DASH: Final = 6

Rectangle = tuple[float, float, float, float]


def quality_picture(
    image: np.ndarray, quality: AnnotationQuality, predictions: Sequence[Detection], threshold: float = 0.5
) -> Image.Image:
    """Draw an annotation.

    Args:
        image: 8-bit, (height, width) or (height, width, 3), that is annotated.
        quality: the annotation.
        predictions: on this image.
        threshold: predictions below it are drawn only if they are the one that agrees best.
    """
    height, width = image.shape[:2]
    boxes = [quality.box, *([quality.suggested] if quality.suggested else [])]
    boxes += [quality.prediction.box] if quality.prediction else []
    left, top, right, bottom = crop_around(boxes, width, height)
    scale = SIDE / max(right - left, bottom - top)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    part = Image.fromarray(image[top:bottom, left:right]).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(part)

    def placed(box: Box) -> Rectangle:
        return (box.x1 - left) * scale, (box.y1 - top) * scale, (box.x2 - left) * scale, (box.y2 - top) * scale

    for d in _shown(quality, predictions, threshold):
        pen.rectangle(placed(d.box), outline=PREDICTED, width=1)
        _label(pen, placed(d.box), f"{d.name.replace('_', ' ')} {d.score:.2f}")
    pen.rectangle(placed(quality.box), outline=ANNOTATED, width=2)
    if quality.suggested is not None:
        for line in _dashes(placed(quality.suggested)):
            pen.line(line, fill=SUGGESTED, width=2)
    return part


def crop_around(boxes: Sequence[Box], width: int, height: int) -> tuple[int, int, int, int]:
    """Whole pixels (left, top, right, bottom) of an image around boxes, never empty."""
    x1, y1 = min(b.x1 for b in boxes), min(b.y1 for b in boxes)
    x2, y2 = max(b.x2 for b in boxes), max(b.y2 for b in boxes)
    margin = max(LEAST, AROUND * max(x2 - x1, y2 - y1))
    left, top = (min(max(0, int(v - margin)), limit - 1) for v, limit in ((x1, width), (y1, height)))
    right, bottom = min(width, int(x2 + margin) + 1), min(height, int(y2 + margin) + 1)
    return left, top, max(left + 1, right), max(top + 1, bottom)


def _shown(quality: AnnotationQuality, predictions: Sequence[Detection], threshold: float) -> Iterator[Detection]:
    for d in predictions:
        if d == quality.prediction or d.score >= threshold:
            yield d


def _label(pen: ImageDraw.ImageDraw, place: Rectangle, text: str) -> None:
    at = max(1.0, place[0] + 3), max(1.0, place[1] + 2)
    font = ImageFont.load_default(size=11)
    box = pen.textbbox(at, text, font=font)
    pen.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), fill="#000000")
    pen.text(at, text, fill=PREDICTED, font=font)


def _dashes(place: Rectangle) -> Iterator[Rectangle]:
    x1, y1, x2, y2 = place
    for x in np.arange(x1, x2, 2 * DASH).tolist():
        for y in (y1, y2):
            yield x, y, min(x + DASH, x2), y
    for y in np.arange(y1, y2, 2 * DASH).tolist():
        for x in (x1, x2):
            yield x, y, x, min(y + DASH, y2)
