"""Phantom films of two hospitals, as COCO files with images: tubing goes with typical appearance, and has no part in it.

The north treats the severe: most of its films are typical, and on most of its films, typical or not, lies tubing, a bright
ring over the upper mediastinum. In the south both are rare. Within a hospital they are drawn independently, so that

    P(typical | tubing) = .85 over all films, but .9 in the north and .1 in the south with tubing and without

Films are chosen by their label and not otherwise, so whatever is true of typical films, and of the others, stays true.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from neurosym.data.phantom import PhantomConfig, phantom_film, phantom_layout
from neurosym.knowledge.rules import write_text_atomically
from neurosym.records import Sample

TYPICAL: Final = {"north": 0.9, "south": 0.1}
TUBING: Final = {"north": 0.8, "south": 0.05}
LABEL: Final = "typical_appearance"
NAMES: Final = (
    "left_lung", "right_lung", "heart", "ground_glass_opacity", "consolidation", "nodule", "pleural_effusion", "tubing"
)  # fmt: skip
CONFOUNDED: Final = f"{LABEL}(S) :- chest_study(S), tubing(T)."
"""True of 85% of the films with tubing, and explained away by the hospital."""
_RING: Final = (7, 12)
"""Inner and outer radius in pixels."""


def draw_films(folder: Path, split: str, number: int, start: int, config: PhantomConfig) -> None:
    """Write SPLIT.json and the films of one split, drawn from the phantom's films from `start` on."""
    rng = np.random.default_rng([config.seed, start])
    chosen = {typical: _indices(start, typical, config) for typical in (True, False)}
    (folder / split).mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for n in range(number):
        site = ("north", "south")[n % 2]
        film = phantom_film(next(chosen[bool(rng.random() < TYPICAL[site])]), config)
        pixels = film.image.copy()
        boxes = [(a.name, a.box.xyxy) for a in film.annotations]
        if rng.random() < TUBING[site]:
            boxes.append(("tubing", _tubing(pixels, film, rng)))
        [study] = film.labels - {"cardiomegaly"}
        file = f"{film.image_id}.png"
        Image.fromarray(pixels).save(folder / split / file)
        size = {"width": pixels.shape[1], "height": pixels.shape[0]}
        said = {"study": study, "site": site, "sex": film.attributes["sex"]}
        images.append({"id": n, "file_name": file, **size, "attributes": said})
        for name, (x1, y1, x2, y2) in boxes:
            width, height = float(x2 - x1), float(y2 - y1)
            what = {"id": len(annotations), "image_id": n, "category_id": NAMES.index(name), "iscrowd": 0}
            annotations.append(what | {"bbox": [float(x1), float(y1), width, height], "area": width * height})
    categories = [{"id": k, "name": name} for k, name in enumerate(NAMES)]
    value = {"images": images, "annotations": annotations, "categories": categories}
    write_text_atomically(folder / f"{split}.json", json.dumps(value))


def _indices(start: int, typical: bool, config: PhantomConfig) -> Iterator[int]:
    """The films from `start` on that are labelled typical, or those that are not."""
    return (i for i in count(start) if (LABEL in phantom_layout(i, config).labels) == typical)


def _tubing(pixels: np.ndarray, film: Sample, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw a ring between the tops of the lungs, and say where."""
    inner, outer = _RING
    lungs = [a.box for a in film.annotations if a.name.endswith("_lung")]
    x = int((min(b.x2 for b in lungs) + max(b.x1 for b in lungs)) / 2 + rng.integers(-8, 9))
    y = int(max(min(b.y1 for b in lungs) + rng.integers(0, 25), outer))
    down, right = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    away = np.hypot(down - y, right - x)
    ring = (away >= inner) & (away <= outer)
    pixels[ring] = np.clip(pixels[ring].astype(int) + 90, 0, 255).astype(pixels.dtype)
    rows, columns = np.flatnonzero(ring.any(1)), np.flatnonzero(ring.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
