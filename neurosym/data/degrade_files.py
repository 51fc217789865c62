"""A COCO file → the same file with worse annotations, the truth kept beside them for scoring.

Each annotation gets ``true_bbox`` and ``true_category_id``, and ``true_segmentation`` where the mask was changed; what is
missing is kept under ``dropped_annotations``; ``info.degraded`` says what was done, one entry for each time. `load_coco` reads
none of these fields; `read_truth` and `true_boxes` read nothing else. A file that is degraded twice keeps its first truth.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as mask_api
from pydantic import BaseModel, ValidationError

from neurosym.data.coco import CocoBox, CocoFile, checked_annotations, mask_code, read_coco
from neurosym.data.degrade import DegradedSamples, check_names, require_a_mask
from neurosym.data.degrade_draws import (
    Degradation,
    Degraded,
    annotator_of,
    bias_of,
    count_changes,
    degrade_annotations,
    point_of,
)
from neurosym.data.images import BadBoxes, BoxChecker, image_id_of, require_file
from neurosym.errors import ConfigError, DataError, Problem, did_you_mean, short_path
from neurosym.knowledge.files import write_text_atomically
from neurosym.knowledge.geometry import iou
from neurosym.records import Annotation, Box


def degrade_file(
    source: str | Path, target: str | Path, noise: Degradation, bad_boxes: BadBoxes = "error"
) -> dict[str, Any]:
    """Write `source` with worse annotations to `target`, all or nothing; the same call writes the same bytes.

    Returns what ``info.degraded`` records: the settings, how many annotations were changed, dropped and relabelled, the ids of
    those that reverted to their true box, and the mean IoU with the true boxes.

    Raises:
        ConfigError: `target` is `source`; a rate of an unknown category.
        DataError: missing file, not COCO, an annotation without box, bad boxes (`bad_boxes="drop"` leaves those out), no mask.
    """
    source, target = Path(source), Path(target)
    require_file(source, "annotation file")
    shown = short_path(source)
    if source.resolve() == target.resolve():
        raise ConfigError(
            Problem("would be overwritten by its degraded copy", shown, cure="name another file to write")
        )
    raw, data = read_coco(source, shown)
    categories = {c.name: c.id for c in data.categories}
    check_names(noise, tuple(categories))
    image_ids = _image_ids(data, shown)
    checker = BoxChecker(shown, bad_boxes)
    grouped: dict[int, list[tuple[int, Annotation]]] = {i.id: [] for i in data.images}
    sizes = {i.id: (i.width, i.height) for i in data.images}
    names = {c.id: c.name for c in data.categories}
    for k, annotation in checked_annotations(data, {c: c for c in categories}, checker):
        entry, used = raw["annotations"][k], data.annotations[k]
        grouped[used.image_id].append((k, annotation))
        if not {"true_bbox", "true_category_id"}.isdisjoint(entry):  # it was degraded before
            _truth(entry, sizes[used.image_id], names, BoxChecker(shown, problems=checker.problems), used.id)
    info = raw.get("info") or {}
    info = info if isinstance(info, dict) else {"description": info}
    for key, holder in (("degraded", info), ("dropped_annotations", raw)):
        if not isinstance(holder.get(key, []), list):
            checker.problems.append(Problem(f"{key} is {holder[key]!r:.40}", shown, cure="expected a list"))
    checker.finish()
    if noise.how == "coarse_mask":
        require_a_mask((a for group in grouped.values() for _, a in group), shown)
    done: dict[int, Degraded] = {}
    for image in data.images:
        places, annotations = [k for k, _ in grouped[image.id]], [a for _, a in grouped[image.id]]
        size = (image.width, image.height)
        degraded = degrade_annotations(annotations, image_ids[image.id], *size, noise, tuple(categories))
        done |= dict(zip(places, degraded, strict=True))
    entries = {k: _entry(raw["annotations"][k], done[k], categories) for k in sorted(done)}
    result = copy.copy(raw)
    result["annotations"] = [e for k, e in entries.items() if done[k].shown is not None]
    dropped = [e for k, e in entries.items() if done[k].shown is None]
    if dropped or "dropped_annotations" in raw:
        result["dropped_annotations"] = [*raw.get("dropped_annotations", ()), *dropped]
    record = noise.record() | {"images": len(data.images), "left_out": len(checker.dropped)} | _counts(done, entries)
    if noise.how == "annotator":
        who = {i.id: annotator_of(image_ids[i.id], noise) for i in data.images}
        result["images"] = [
            image | {"annotator": who[known.id]} for image, known in zip(raw["images"], data.images, strict=True)
        ]
        record["bias"] = [list(bias_of(k, noise)) for k in range(noise.annotators)]
    result["info"] = info | {"degraded": [*info.get("degraded", ()), record]}
    write_text_atomically(target, json.dumps(result, ensure_ascii=False) + "\n")
    return record


def _image_ids(data: CocoFile, shown: str) -> dict[int, str]:
    taken: set[str] = set()
    return {i.id: image_id_of(i.file_name, taken, shown) for i in data.images}


def _entry(raw: dict[str, Any], degraded: Degraded, categories: dict[str, int]) -> dict[str, Any]:
    """The annotation as it is written: what was changed in its fields, the truth in fields of its own."""
    entry = {"true_bbox": raw["bbox"], "true_category_id": raw["category_id"]} | raw
    shown, truth = degraded.shown, degraded.truth
    if shown is None or shown is truth:
        return entry
    if shown.name != truth.name:
        entry["category_id"] = categories[shown.name]
    if shown.mask != truth.mask:
        entry = {"true_segmentation": raw["segmentation"]} | entry
        if shown.mask is None:
            del entry["segmentation"]
        else:
            entry["segmentation"] = dict(shown.mask)
    if shown.box != truth.box:
        entry["bbox"] = [shown.box.x1, shown.box.y1, shown.box.width, shown.box.height]
        point = point_of(shown.box)
        if point is not None:
            entry |= {"keypoints": [*point, 2], "num_keypoints": 1}
    if "area" in raw:
        mask = shown.mask
        entry["area"] = float(mask_api.area(dict(mask))) if mask is not None else shown.box.width * shown.box.height
    return entry


def _counts(done: dict[int, Degraded], entries: dict[int, dict[str, Any]]) -> dict[str, Any]:
    kept = [k for k in sorted(done) if done[k].shown is not None and not done[k].truth.iscrowd]
    boxes = np.array([[(e := entries[k])["true_bbox"], e["bbox"]] for k in kept], dtype=float).reshape(-1, 2, 4)
    boxes[..., 2:] += boxes[..., :2]
    return count_changes(done.values()) | {
        "reverted": [entries[k].get("id") for k in sorted(done) if done[k].reverted],
        "mean_iou": round(float(iou(boxes[:, 0], boxes[:, 1], np).mean()), 4) if kept else None,
    }


class _Truth(BaseModel):
    """What an annotation of a degraded file says of itself."""

    true_bbox: CocoBox
    true_category_id: int


def _truth(
    entry: dict[str, Any],
    size: tuple[int, int],
    names: Mapping[int, str],
    checker: BoxChecker,
    number: int | str | None,
) -> tuple[Box, str] | None:
    """The true box and category of an annotation; None, with a problem left to the checker, where it does not say them."""
    what = f"annotation {number}"
    try:
        said = _Truth.model_validate(entry)
        name = names[said.true_category_id]
    except (ValidationError, KeyError):
        cure = "the truth is in files that `neurosym data degrade` wrote"
        checker.problems.append(Problem(f"{what}: no true_bbox or true_category_id", checker.file, cure=cure))
        return None
    x, y, w, h = said.true_bbox
    box = checker.check(Box(x, y, x + w, y + h), *size, what)
    return None if box is None else (box, name)


# --- the truth, for scoring only --------------------------------------------------------------------------------------


def read_truth(path: str | Path, categories: Sequence[str] | None = None) -> dict[str, tuple[Annotation, ...]]:
    """For scoring only: what is true of each image of a degraded file, by the image's id.

    The annotations have the order of `load_coco(path, …, categories)`, and are those that it shows under one of these
    categories; `name` is the true category.

    Raises:
        DataError: the file was not written by `degrade_file`; unknown category.
    """
    path = Path(path)
    require_file(path, "annotation file")
    shown = short_path(path)
    raw, data = read_coco(path, shown)
    name_of = {c.id: c.name for c in data.categories}
    known = set(name_of.values())
    for category in categories or ():
        if category not in known:
            cure = did_you_mean(category, known, shown)
            raise DataError(Problem(f"the file has no category {category!r}", shown, cure=cure))
    image_ids = _image_ids(data, shown)
    sizes = {i.id: (i.width, i.height) for i in data.images}
    checker = BoxChecker(shown)
    found: dict[str, list[Annotation]] = {image_id: [] for image_id in image_ids.values()}
    for k, annotation in checked_annotations(data, {c: c for c in categories or sorted(known)}, checker):
        entry, used = raw["annotations"][k], data.annotations[k]
        size = sizes[used.image_id]
        truth = _truth(entry, size, name_of, checker, used.id)
        mask = annotation.mask
        if "true_segmentation" in entry:
            mask = mask_code(entry["true_segmentation"], *size, checker, f"annotation {used.id}")
        if truth is not None:
            box, name = truth
            found[image_ids[used.image_id]].append(Annotation(name, box, mask, annotation.iscrowd))
    checker.finish()
    return {image_id: tuple(group) for image_id, group in found.items()}


def true_boxes(
    source: DegradedSamples | str | Path, categories: Sequence[str] | None = None
) -> dict[str, tuple[Box, ...]]:
    """For scoring only: the true boxes of each image, by the image's id, in the order of the annotations that training sees.

    Args:
        source: a degraded sequence, or a file that `degrade_file` wrote.
        categories: of a file, those that are read; all if None.
    """
    if isinstance(source, DegradedSamples):
        return {source.image_id(i): tuple(a.box for a in source.truth(i)) for i in range(len(source))}
    return {image_id: tuple(a.box for a in group) for image_id, group in read_truth(source, categories).items()}
