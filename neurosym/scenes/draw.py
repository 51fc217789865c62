"""Scenes as pictures: the image with its detections, boxes and masks, outlined and named, and contact sheets."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from neurosym.data.images import annotated_scene
from neurosym.data.masks import decode_mask
from neurosym.errors import DataError, Problem, short_path
from neurosym.records import Sample, Scene, by_box

_PALETTE = ("#4cc9f0", "#f9c74f", "#f94144", "#90be6d", "#f8961e", "#b388eb", "#43aa8b", "#ff70a6")
_GREY = "#8a8f98"


def colour_of(name: str) -> str:
    """A colour that a class keeps in every picture."""
    return _PALETTE[hashlib.sha256(name.encode()).digest()[0] % len(_PALETTE)]


def draw_scene(
    image: np.ndarray, scene: Scene, threshold: float = 0.5, width: int = 384, highlight: Collection[int] | None = None
) -> Image.Image:
    """The image scaled to `width` pixels, with boxes and masks; detections of one box are drawn as one object.

    Detections outside `highlight` (indices) are grey; an object of such alone is thin and has no name.
    """
    picture = Image.fromarray(image).convert("RGB")
    scale = width / picture.width
    picture = picture.resize((width, max(1, round(picture.height * scale))), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(10, width // 30))
    found = [(d, highlight is None or i in highlight) for i, d in enumerate(scene.detections) if d.score >= threshold]
    for group in by_box([d for d, _ in found]):
        labels = [(d, colour_of(d.name) if lit else _GREY) for d, lit in (found[k] for k in group)]
        outline = next((colour for _, colour in labels if colour != _GREY), _GREY)
        x1, y1, x2, y2 = (v * scale for v in labels[0][0].box.xyxy)
        masks = [(d.mask, colour) for d, colour in labels if d.mask is not None]
        for mask, colour in sorted(masks, key=lambda m: m[1] != _GREY):  # what is lit on top
            pen.bitmap((0, 0), mask_outline(mask, picture.size), fill=colour)
        pen.rectangle((x1, y1, x2, y2), outline=outline, width=1 if outline == _GREY or masks else 2)
        if outline != _GREY:
            names = [(d.name.replace("_", " ") + (f" {d.score:.2f}" if d.score < 1 else ""), c) for d, c in labels]
            _write(pen, font, (x1 + 3, max(0.0, y1 + 2)), names, picture.size)
    return picture


def _write(
    pen: ImageDraw.ImageDraw,
    font: Any,
    at: tuple[float, float],
    names: Sequence[tuple[str, str]],
    size: tuple[int, int],
) -> None:
    """Texts in their colours below each other, on black; moved up and to the left where they would leave the picture."""
    left, top = at
    placed = []
    for text, colour in names:
        box = pen.textbbox((left, top), text, font=font)
        placed.append((text, colour, top, box))
        top = box[3] + 2
    up = min(at[1], max(0.0, top - size[1]))
    for text, colour, y, box in placed:
        back = min(left, max(0.0, box[2] + 3 - size[0]))
        pen.rectangle((box[0] - 2 - back, box[1] - 1 - up, box[2] + 2 - back, box[3] + 1 - up), fill="#000000")
        pen.text((left - back, y - up), text, fill=colour, font=font)


def mask_outline(mask: Mapping[str, Any], size: tuple[int, int]) -> Image.Image:
    """The mask's own pixels that touch its outside, two pixels wide, in a picture of the given (width, height)."""
    scaled = Image.fromarray(decode_mask(mask) * 255).resize(size, Image.Resampling.NEAREST)
    inside = np.asarray(scaled) > 0
    core = binary_erosion(inside, iterations=2)
    return Image.fromarray((inside & ~core).astype(np.uint8) * 255)


def contact_sheet(pictures: Sequence[Image.Image], columns: int = 4, gap: int = 6) -> Image.Image:
    """Pictures in rows, on black."""
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap))
    for i, picture in enumerate(pictures):
        sheet.paste(picture, ((i % columns) * (width + gap), (i // columns) * (height + gap)))
    return sheet


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG or JPEG; the file is replaced as a whole.

    Raises:
        DataError: another kind of file.
    """
    kind = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower())
    if kind is None:
        raise DataError(Problem(f"a picture cannot be written as {path.suffix!r}", short_path(path), cure="use .png"))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    picture.save(unfinished, kind)
    unfinished.replace(path)


def save_overlays(
    folder: Path, samples: Sequence[Sample], scenes: Sequence[Scene], threshold: float, count: int
) -> list[Path]:
    """Draw the first `count` scenes, predictions beside annotations, as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(min(count, len(scenes))):
        sample = samples[index]
        pictures = [
            draw_scene(sample.image, scenes[index], threshold),
            draw_scene(sample.image, annotated_scene(sample), threshold),
        ]
        paths.append(folder / f"{scenes[index].image_id}.png")
        contact_sheet(pictures, columns=2).save(paths[-1])
    return paths
