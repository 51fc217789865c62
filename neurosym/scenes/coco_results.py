"""Predictions as COCO files: the results format that COCO's own evaluation reads, and a data set that viewers open.

    coco-results.json   a list of every detection, whatever its score: average precision needs them all
    coco.json           images, categories, and as annotations the detections of at least a threshold, with their `score`

Both number images and categories alike. Boxes are x, y, width, height in pixels of the film, masks run-length codes of its
size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurosym.data.masks import as_text
from neurosym.knowledge.files import write_text_atomically
from neurosym.records import Detection, Scene

DATA_SET, RESULTS = "coco.json", "coco-results.json"


def save_coco(
    folder: Path,
    scenes: Sequence[Scene],
    categories: Mapping[str, str],
    threshold: float,
    images: Mapping[str, Mapping[str, Any]],
    info: Mapping[str, Any],
) -> tuple[Path, Path]:
    """Write both files; returns their paths, the data set first.

    Args:
        folder: where to.
        scenes: in the order of the images' numbers.
        categories: what each class that is looked for is called in the file.
        threshold: the least score of an annotation.
        images: by image id what else is said of it: `file_name`, `attributes`.
        info: what the file says of itself.
    """
    number = {name: i for i, name in enumerate(categories, 1)}
    found = [(i, d) for i, s in enumerate(scenes, 1) for d in s.detections if d.name in number]
    results = [_result(i, number[d.name], d) for i, d in found]
    value = {
        "info": dict(info) | {"threshold": threshold},
        "images": [
            {"id": i, "width": s.width, "height": s.height} | dict(images[s.image_id]) for i, s in enumerate(scenes, 1)
        ],
        "categories": [{"id": number[name], "name": category} for name, category in categories.items()],
        "annotations": [
            {"id": k, "iscrowd": 0, "area": round(r["bbox"][2] * r["bbox"][3], 2)} | r
            for k, r in enumerate((r for r in results if r["score"] >= threshold), 1)
        ],
    }
    paths = folder / DATA_SET, folder / RESULTS
    for path, content in zip(paths, (value, results), strict=True):
        write_text_atomically(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return paths


def _result(image: int, category: int, found: Detection) -> dict[str, Any]:
    box = found.box
    xywh = [round(float(v), 2) for v in (box.x1, box.y1, box.width, box.height)]
    plain = {"image_id": image, "category_id": category, "bbox": xywh, "score": float(found.score)}
    return plain if found.mask is None else plain | {"segmentation": as_text(found.mask)}
