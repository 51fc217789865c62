"""A folder of COCO files and films → the same films in 8 bits, with boxes, masks, attributes and supervision as they are.

Any JSON file below the folder that has images, annotations and categories is a split, called train, val, test or unlabelled if
its name or its folder's says so. Its films are looked for beside it, in `images/`, and in the folder that is called like it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from neurosym.data.coco import CocoFile, mask_code, read_coco
from neurosym.data.images import BoxChecker, read_image, require_folder
from neurosym.data.importing.source import Drawn, Loaded, Source, ToImport, raise_all, require_size
from neurosym.data.importing.split import may_tell_the_patient, patient_of
from neurosym.errors import DataError, Problem, short_path
from neurosym.records import Box

SPLITS: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "unlabelled": "unlabelled",
    "unlabeled": "unlabelled",
}


def coco_source(folder: Path) -> Source:
    """The films of every COCO file below a folder.

    Raises:
        DataError: there is none, or their annotations are wrong; all mistakes at once.
    """
    require_folder(folder, "COCO")
    files = [p for p in sorted(folder.rglob("*.json")) if not p.name.startswith(".") and _looks_like_coco(p)]
    if not files:
        cure = "expected a JSON file with images, annotations and categories"
        raise DataError(Problem("no COCO file", short_path(folder), cure=cure))
    films: list[ToImport] = []
    left: set[str] = set()
    categories: dict[str, None] = {}
    problems: list[Problem] = []
    for file in files:
        shown = short_path(file)
        data, used = read_coco(file, shown)
        categories |= dict.fromkeys(c.name for c in used.categories)
        left |= {k for i in used.images for k in i.attributes or {} if may_tell_the_patient(k)}
        split = split_of(file.relative_to(folder)) if len(files) > 1 else ""
        if len(files) > 1 and not split:
            cure = "call it train, val, test or unlabelled, or keep one file in the folder"
            problems.append(Problem("the file's name says no split", shown, cure=cure))
        checker = BoxChecker(shown, problems=problems)
        films += _films(data, used, file, folder, split, checker)
    raise_all(problems)
    told = ", ".join(sorted(left))
    notes = (
        (f"attributes that may say who the patient is are left out; patients get pseudonyms: {told}",) if left else ()
    )
    return Source(tuple(films), tuple(categories), notes)


def split_of(path: Path) -> str:
    """The split that a file's name says, else its folder's; "" if neither does.

    >>> split_of(Path("annotations/instances_val2017.json")), split_of(Path("valid/_annotations.coco.json"))
    ('val', 'val')
    """
    for text in reversed(path.with_suffix("").parts):
        for word in re.findall(r"[a-z]+", text.lower()):
            if word in SPLITS:
                return SPLITS[word]
    return ""


def _looks_like_coco(path: Path) -> bool:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and {"images", "annotations", "categories"} <= data.keys()


def _films(
    data: dict[str, Any], used: CocoFile, file: Path, folder: Path, split: str, checker: BoxChecker
) -> list[ToImport]:
    names = {c.id: c.name for c in used.categories}
    sizes = {i.id: (i.width, i.height) for i in used.images}
    objects: dict[int, list[Drawn]] = defaultdict(list)
    for a, raw in zip(used.annotations, data["annotations"], strict=True):
        what = f"annotation {a.id}"
        if a.category_id not in names or a.image_id not in sizes:
            kind = "category" if a.category_id not in names else "image"
            checker.problems.append(Problem(f"{what}: unknown {kind}_id {getattr(a, kind + '_id')}", checker.file))
            continue
        x, y, w, h = a.bbox
        extra = {k: raw[k] for k in ("drawn", "iscrowd") if raw.get(k)}
        mask = mask_code(a.segmentation, *sizes[a.image_id], checker, what)
        objects[a.image_id].append(Drawn(names[a.category_id], Box(x, y, x + w, y + h), mask, extra))
    place = _place(used, file, folder)
    found = []
    for image in used.images:
        supervision = None if image.supervision is None else image.supervision.model_dump(exclude_unset=True)
        own = tuple(objects[image.id])
        size = (image.width, image.height)
        load = partial(_load, place / image.file_name, size, own, image.attributes or {}, supervision)
        said = json.dumps([repr(own), image.attributes, supervision, size], default=str)
        name = str(Path(image.file_name).with_suffix(""))
        found.append(ToImport(name, (place / image.file_name,), load, said, split))
    return found


def _load(
    path: Path,
    size: tuple[int, int],
    objects: tuple[Drawn, ...],
    attributes: dict[str, Any],
    supervision: dict[str, Any] | None,
) -> Loaded:
    image = read_image(path)
    require_size(image, size, path)
    kept = {k: v for k, v in attributes.items() if not may_tell_the_patient(k)}
    return Loaded(image, objects, kept, patient_of(attributes), supervision)


def _place(used: CocoFile, file: Path, folder: Path) -> Path:
    """The folder that the names of films start from: the first that has one of the first films."""
    stem = file.stem.removeprefix("instances_")
    places = [file.parent, file.parent / "images", file.parent / stem, folder, folder / "images", folder / stem]
    places += [folder / "images" / stem]
    for place in places:
        if any((place / i.file_name).is_file() for i in used.images[:20]):
            return place
    return places[1]
