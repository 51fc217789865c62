"""Suggested boxes as a COCO file, for import into an annotation tool where somebody accepts or corrects them.

Each annotation has the suggested box as ``bbox``, the annotated one as ``original_bbox``, the estimate of the latter's quality
as ``quality`` (and, for tools that show scores, as ``attributes.quality``), and in ``reasons`` what speaks against it. Those
that have no suggestion keep their box. Segmentations are left out, because they belong to the old boxes. Categories are called
as in the data, images by their paths below the folder of images.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.annotation_estimate import AnnotationQuality
from neurosym.records import Box, Scene


def write_suggestions(
    path: Path,
    found: Sequence[AnnotationQuality],
    scenes: Sequence[Scene],
    categories: Mapping[str, str],
    folder: Path | None = None,
) -> int:
    """Write the file, all or nothing; returns how many boxes differ from the annotated ones.

    Args:
        path: the JSON file.
        found: every annotation that was judged.
        scenes: of all images, for their sizes and paths.
        categories: what each class is called in the data.
        folder: of images, from which file names are told; without it, the last part of the path.
    """
    numbers = {scene.image_id: i for i, scene in enumerate(scenes, 1)}
    ids = {name: i for i, name in enumerate(categories, 1)}
    value = {
        "info": {"description": "suggested boxes; original_bbox is what was annotated"},
        "images": [
            {"id": numbers[s.image_id], "file_name": _file_name(s, folder), "width": s.width, "height": s.height}
            for s in scenes
        ],
        "categories": [{"id": ids[name], "name": category} for name, category in categories.items()],
        "annotations": [
            {"id": k, "image_id": numbers[q.image_id], "category_id": ids[q.name]} | _boxes(q)
            for k, q in enumerate(found, 1)
        ],
    }
    write_text_atomically(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")
    return sum(q.suggested is not None and q.suggested != q.box for q in found)


def _file_name(scene: Scene, folder: Path | None) -> str:
    if not scene.image_path:
        return f"{scene.image_id}.png"
    path = Path(scene.image_path)
    if folder is not None:
        relative = Path(os.path.relpath(path, folder))
        if ".." not in relative.parts:
            return relative.as_posix()
    return path.name


def _boxes(quality: AnnotationQuality) -> dict[str, Any]:
    box = quality.suggested or quality.box
    score = round(quality.estimate, 4)
    return {
        "bbox": _xywh(box),
        "area": round(box.width * box.height, 2),
        "iscrowd": 0,
        "original_bbox": _xywh(quality.box),
        "quality": score,
        "attributes": {"quality": score},
        "reasons": list(quality.reasons),
    }


def _xywh(box: Box) -> list[float]:
    return [round(float(v), 2) for v in (box.x1, box.y1, box.width, box.height)]
