"""A picture sheet of a data set: a row a class, first the boxes with a fault or least like their class in size, then its first.

How unlike a box is to its class: the greater of |z| of log area and of log aspect ratio, by median and median deviation.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from neurosym.data.checking.faults import box_fault
from neurosym.data.checking.films import Boxed, CheckedFilm, Splits
from neurosym.data.checking.report import Report
from neurosym.data.images import read_image
from neurosym.data.importing.journal import write_bytes_atomically
from neurosym.errors import DataError
from neurosym.records import Box

TILE = 150
EACH = 4
"""Worst boxes of a class, and first ones."""
_MOST_CLASSES = 60
_CAPTION = 30
_FAULTY, _ODD, _FIRST = (220, 50, 40), (230, 150, 30), (60, 170, 80)
Shown = tuple[CheckedFilm, Boxed, tuple[int, int, int]]


def sheet(splits: Splits, report: Report) -> Image.Image:
    """The sheet; red boxes have a fault, orange ones are least like their class, green ones come first in the files."""
    rows = [(c, _chosen(c, splits, report)) for c in _classes(splits)[:_MOST_CLASSES]]
    rows = [(c, shown) for c, shown in rows if shown]
    height = max(1, len(rows)) * (TILE + 2 * _CAPTION)
    page = Image.new("RGB", (2 * EACH * (TILE + 8) + 8, height), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(12)
    for row, (category, shown) in enumerate(rows):
        top = row * (TILE + 2 * _CAPTION)
        draw.text((8, top + 8), category, fill="black", font=ImageFont.load_default(16))
        for column, (film, boxed, colour) in enumerate(shown):
            left = 8 + column * (TILE + 8)
            page.paste(_tile(film, boxed.box, colour), (left, top + _CAPTION))
            draw.text((left, top + _CAPTION + TILE + 2), f"{film.split} {film.name}"[-24:], fill="black", font=font)
    return page


def _classes(splits: Splits) -> list[str]:
    return list(dict.fromkeys(c for categories in splits.categories.values() for c in categories))


def _chosen(category: str, splits: Splits, report: Report) -> list[Shown]:
    own = [(f, b) for f in splits.films for b in f.boxes if b.category == category]
    faulty = [pair for pair in own if pair in report.odd]
    sound = [
        (f, b) for f, b in own if (f, b) not in report.odd and box_fault(b.box, *(f.size or (10**9, 10**9))) is None
    ]
    unlike = _unlike([b.box for _, b in sound])
    worst = [sound[k] for k in np.argsort(-unlike, kind="stable")[: max(0, EACH - len(faulty))]]
    first = [pair for pair in own if pair not in worst and pair not in faulty][:EACH]
    chosen = [(f, b, _FAULTY) for f, b in faulty[:EACH]] + [(f, b, _ODD) for f, b in worst]
    return chosen + [(f, b, _FIRST) for f, b in first]


def _unlike(boxes: list[Box]) -> np.ndarray:
    if not boxes:
        return np.zeros(0)
    sides = np.log(np.array([(b.width * b.height, b.width / b.height) for b in boxes]))
    away = np.abs(sides - np.median(sides, axis=0))
    return np.asarray((away / np.maximum(np.median(away, axis=0), 1e-3)).max(axis=1))


def _tile(film: CheckedFilm, box: Box, colour: tuple[int, int, int]) -> Image.Image:
    """The film around a box; the whole film where the box has no place on it, grey where the film cannot be read."""
    tile = Image.new("RGB", (TILE, TILE), (200, 200, 200))
    try:
        image = Image.fromarray(read_image(film.path)).convert("RGB")
    except DataError:
        return tile
    width, height = image.size
    x1, y1, x2, y2 = (v if math.isfinite(v) else 0.0 for v in box.xyxy)
    side = 1.8 * max(x2 - x1, y2 - y1, 16)
    left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
    if left >= width or top >= height or left + side <= 0 or top + side <= 0 or side > 4 * max(width, height):
        side, left, top = float(max(width, height)), 0.0, 0.0
    scale = TILE / side
    frame = (left, top, left + side, top + side)
    tile = image.transform((TILE, TILE), Image.Transform.EXTENT, frame, Image.Resampling.BILINEAR)
    corners = [np.clip((v - o) * scale, -4, TILE + 4) for v, o in zip((x1, y1, x2, y2), (left, top) * 2, strict=True)]
    ends = [
        min(corners[0], corners[2]),
        min(corners[1], corners[3]),
        max(corners[0], corners[2]),
        max(corners[1], corners[3]),
    ]
    ImageDraw.Draw(tile).rectangle([float(v) for v in ends], outline=colour, width=2)
    return tile


def write_sheet(path: Path, splits: Splits, report: Report) -> None:
    """Write the sheet as a PNG file."""
    stream = io.BytesIO()
    sheet(splits, report).save(stream, "PNG")
    write_bytes_atomically(path, stream.getvalue())
