"""COCO JSON ⇄ annotated images. Categories become ontology classes through the ontology's own ``ns:category`` ties."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from neurosym.data.coco_weak import DRAWN, WeakLabels, with_weak_labels
from neurosym.data.images import (
    BadBoxes,
    BoxChecker,
    ImageEntry,
    ImageSet,
    can_be_a_file,
    image_id_of,
    require_file,
    require_folder,
)
from neurosym.data.masks import as_text, code_of
from neurosym.errors import DataError, Problem, did_you_mean, short_path
from neurosym.knowledge import Knowledge
from neurosym.records import Annotation, Box, Scene

log = logging.getLogger(__name__)
LONGEST_SIDE: Final = 1_000_000
"""Pixels; what is larger is a mistake, and would take the memory of a mask of it."""
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def load_coco(
    annotations: Path,
    images: Path,
    knowledge: Knowledge,
    categories: Sequence[str] | None = None,
    bad_boxes: BadBoxes = "error",
    labelled: bool = True,
) -> ImageSet:
    """Read a COCO file.

    Args:
        annotations: the JSON file; `segmentation` may be run-length codes or polygons.
        images: the folder that its `file_name`s are relative to.
        knowledge: ties categories to classes and image `attributes` to study labels.
        categories: the categories to use, in this order; all if None.
        bad_boxes: "error" reports every bad box and stops; "drop" leaves them out and says so.
        labelled: whether something must be annotated.

    Raises:
        DataError: missing file or folder, not COCO, no annotation at all, unknown category, bad boxes.
    """
    require_file(annotations, "annotation file")
    require_folder(images, "image")
    shown = short_path(annotations)
    data = read_coco(annotations, shown)[1]
    names = wanted_classes([c.name for c in data.categories], knowledge, categories, shown)
    checker = BoxChecker(shown, bad_boxes)
    entries = image_entries(data, names, images, knowledge, checker)
    checker.check_images([e.path for e in entries])
    checker.finish()
    if labelled:
        require_annotated(Counter(a.name for e in entries for a in e.annotations), names, shown)
    return ImageSet(entries, list(dict.fromkeys(names.values())))


def image_entries(
    data: CocoFile, names: Mapping[str, str], images: Path, knowledge: Knowledge, checker: BoxChecker
) -> list[ImageEntry]:
    """Each image with what is said of it; mistakes are left with the checker, of which `finish` raises them.

    `names` are the categories to use, each with its class.

    Raises:
        DataError: an image's name leaves the folder, or two images have one id.
    """
    grouped: dict[int, list[Annotation]] = {i.id: [] for i in data.images}
    for k, annotation in checked_annotations(data, names, checker):
        grouped[data.annotations[k].image_id].append(annotation)
    undrawn = unknown_drawings(data, names)
    taken: set[str] = set()
    entries = [
        ImageEntry(
            image_id_of(i.file_name, taken, checker.file),
            images / i.file_name,
            i.width,
            i.height,
            tuple(grouped[i.id]),
            knowledge.labels_of(i.attributes or {}),
            i.attributes or {},
        )
        for i in data.images
    ]
    return [
        with_weak_labels(e, i.supervision, undrawn.get(i.id, set()), names, knowledge, checker)
        for e, i in zip(entries, data.images, strict=True)
    ]


class _Category(BaseModel):
    id: int
    name: str


def _file_name(name: str) -> str:
    if not can_be_a_file(name):
        raise ValueError("no name that a file can have")
    return name


class _Image(BaseModel):
    id: int
    file_name: Annotated[str, AfterValidator(_file_name)]
    width: int = Field(ge=1, le=LONGEST_SIDE)
    height: int = Field(ge=1, le=LONGEST_SIDE)
    attributes: dict[str, Any] | None = None
    supervision: WeakLabels | None = None


CocoBox = tuple[float, float, float, float]


class _Annotation(BaseModel):
    image_id: int
    category_id: int
    bbox: CocoBox
    id: int | str | None = None
    segmentation: Any = None
    iscrowd: bool = False
    drawn: str = ""


class CocoFile(BaseModel):
    """What is used of a COCO file; every other field is ignored, so that none of it can reach training."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_coco(path: Path, shown: str) -> tuple[dict[str, Any], CocoFile]:
    """A COCO file as it stands, and what of it is used; entries have the same order in both.

    Raises:
        DataError: not JSON, or not COCO; two images, or two categories of different names, have one id.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(Problem("not UTF-8 text", shown, cure="expected COCO JSON")) from error
    if not text.strip():
        raise DataError(Problem("the annotation file is empty", shown, cure="expected COCO JSON"))
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(Problem(f"not JSON: {error.msg}", shown, error.lineno, error.colno)) from error
    except RecursionError as error:
        raise DataError(Problem("its lists are nested too deeply", shown, cure="expected COCO JSON")) from error
    except ValueError as error:  # of a number with thousands of digits
        raise DataError(Problem(f"not JSON that can be read: {error}", shown)) from error
    _require_whole_texts(text, data, shown)
    missing = [k for k in ("images", "annotations", "categories") if not isinstance(data, dict) or k not in data]
    if missing:
        raise DataError(Problem(f"not a COCO file: no {', '.join(missing)}", shown))
    try:
        used = CocoFile.model_validate(data)
    except ValidationError as error:
        found = error.errors()
        shown_first = [
            Problem(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, found {e['input']!r:.60}", shown) for e in found[:20]
        ]
        more = [Problem(f"… and {len(found) - 20} more", shown)] if len(found) > 20 else []
        raise DataError(shown_first + more) from error
    if problems := [*_shared_ids(used.images, "images", shown), *_shared_ids(used.categories, "categories", shown)]:
        raise DataError(problems[:20])
    return data, used


def _require_whole_texts(text: str, data: Any, shown: str) -> None:
    """Refuse a text with half a character, which JSON may have and no file that is written."""
    if half := _HALF.search(text):
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            message = f"a text holds half a character, such as {half[0]}…"
            raise DataError(Problem(message, shown, text.count("\n", 0, half.start()) + 1)) from error


def _shared_ids(entries: Sequence[_Image] | Sequence[_Category], what: str, shown: str) -> Iterator[Problem]:
    """Of several entries with one id nobody knows which one an annotation means."""
    names: dict[int, str] = {}
    for entry in entries:
        name = entry.file_name if isinstance(entry, _Image) else entry.name
        if entry.id in names and (isinstance(entry, _Image) or name != names[entry.id]):
            message = f"{what} {names[entry.id]!r:.60} and {name!r:.60} have the same id {entry.id}"
            yield Problem(message, shown, cure="number them anew, and the annotations with them")
        names.setdefault(entry.id, name)


def wanted_classes(
    there: Sequence[str], knowledge: Knowledge, categories: Sequence[str] | None, shown: str
) -> dict[str, str]:
    """The wanted ones of a file's categories, all if None, each with the class that it is tied to.

    Raises:
        DataError: the file has no such category, or it is tied to no class.
    """
    there = list(dict.fromkeys(there))
    wanted = there if categories is None else categories
    require_categories(wanted, there, shown)
    return {c: knowledge.class_of_category(c, shown) for c in wanted}


def require_categories(wanted: Sequence[str], there: Collection[str], shown: str) -> None:
    """Raise DataError, naming all that are absent, where a file lacks a wanted category."""
    absent = [c for c in wanted if c not in there]
    if absent:
        raise DataError(
            [Problem(f"the file has no category {c!r}", shown, cure=did_you_mean(c, there, shown)) for c in absent]
        )


def require_annotated(seen: Mapping[str, int], names: Mapping[str, str], shown: str) -> None:
    """Warn of each category whose class has no annotation; `seen` counts annotations by class.

    Raises:
        DataError: there is none at all.
    """
    if not any(seen.values()):
        cure = "give a file with boxes; images without any belong to the config's `unlabelled`"
        raise DataError(Problem("the file annotates nothing", shown, cure=cure))
    for category, name in names.items():
        if not seen.get(name):
            log.warning("%s: category %r is annotated nowhere, so it cannot be learned from this file", shown, category)


def known_categories(
    path: Path, knowledge: Knowledge, classes: Collection[str]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """The categories of a COCO file that are tied to one of these classes, and how many annotations each other one has.

    Categories that are tied to no class at all are among the others; those without annotations are not told.

    Raises:
        DataError: missing file, not COCO.
    """
    require_file(path, "annotation file")
    data = read_coco(path, short_path(path))[1]
    ties = knowledge.ontology.categories
    known = [c.name for c in data.categories if ties.get(c.name) in classes]
    name_of = {c.id: c.name for c in data.categories}
    # an unknown id is no category that could be left out: reading the annotations reports it
    others = Counter(name_of[a.category_id] for a in data.annotations if a.category_id in name_of)
    for category in known:
        others.pop(category, None)
    return tuple(dict.fromkeys(known)), dict(sorted(others.items()))


def told_counts(annotations: Mapping[str, int]) -> str:
    """How many annotations there are of each category, in words; of the ten most frequent ones, if there are more."""
    most = sorted(annotations.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in most[10:])
    return ", ".join(f"{count} of {name}" for name, count in most[:10]) + (f", {rest} of others" if rest else "")


def checked_annotations(
    data: CocoFile, names: Mapping[str, str], checker: BoxChecker
) -> Iterator[tuple[int, Annotation]]:
    """The usable annotations with their places in the file; what is wrong with the others is left with the checker.

    `names` are the categories to use, each with what it is called in the annotation.
    """
    category_of = {c.id: c.name for c in data.categories}
    images = {i.id: i for i in data.images}
    for k, a in enumerate(data.annotations):
        annotation = _checked(a, images.get(a.image_id), category_of.get(a.category_id), names, checker)
        if annotation is not None:
            yield k, annotation


def other_mistakes(data: CocoFile, names: Mapping[str, str], shown: str) -> Iterator[tuple[str, str]]:
    """What reading refuses in annotations besides their boxes: the film's name, "" if no film has it, and what is wrong.

    `names` are as of `checked_annotations`.
    """
    category_of = {c.id: c.name for c in data.categories}
    images = {i.id: i for i in data.images}
    for a in data.annotations:
        image, checker = images.get(a.image_id), BoxChecker(shown)
        whole = (0.0, 0.0, image.width, image.height) if image is not None else a.bbox
        _checked(a.model_copy(update={"bbox": whole}), image, category_of.get(a.category_id), names, checker)
        yield from (("" if image is None else image.file_name, p.message) for p in checker.problems)


def _checked(
    a: _Annotation, image: _Image | None, category: str | None, names: Mapping[str, str], checker: BoxChecker
) -> Annotation | None:
    """An annotation as it is used; None if it is not, and what is wrong with it is left with the checker."""
    what = f"annotation {a.id}"
    if category is None or image is None:
        kind = "category" if category is None else "image"
        checker.problems.append(Problem(f"{what}: unknown {kind}_id {getattr(a, kind + '_id')}", checker.file))
        return None
    if category not in names:
        return None
    if a.drawn not in DRAWN:
        message = f"{what}: no loss covers what is drawn as {a.drawn!r}"
        checker.unusable(message, f"known: {', '.join(filter(None, DRAWN))}; leave it out for a box or a mask")
        return None
    x, y, w, h = a.bbox
    box = checker.check(Box(x, y, x + w, y + h), image.width, image.height, what)
    if box is None:
        return None
    mask = mask_code(a.segmentation, image.width, image.height, checker, what)
    return Annotation(names[category], box, mask, a.iscrowd, a.drawn)


def unknown_drawings(data: CocoFile, names: Mapping[str, str]) -> dict[int, set[str]]:
    """Of each image the classes that are left out somewhere because no loss covers how they are drawn."""
    category_of = {c.id: c.name for c in data.categories}
    found: dict[int, set[str]] = {}
    for a in data.annotations:
        name = names.get(category_of.get(a.category_id, ""))
        if a.drawn not in DRAWN and name is not None:
            found.setdefault(a.image_id, set()).add(name)
    return found


def mask_code(segmentation: Any, width: int, height: int, checker: BoxChecker, what: str) -> dict[str, Any] | None:
    """A COCO segmentation as a code of the image's size, None if there is none; what is wrong is left with the checker."""
    if not segmentation:
        return None
    try:
        return code_of(segmentation, width, height)
    except ValueError as error:
        checker.problems.append(Problem(f"{what}: {error}", checker.file))
        return None


def as_coco(scenes: Iterable[Scene], names: Sequence[str]) -> dict[str, Any]:
    """Scenes as a COCO data set, what faster-coco-eval compares predictions with; objects keep the masks they have."""
    scenes = list(scenes)
    category = {name: i for i, name in enumerate(names, 1)}
    boxes = [(i, d) for i, s in enumerate(scenes, 1) for d in s.detections if d.name in category]
    return {
        "info": {},
        "images": [{"id": i, "width": s.width, "height": s.height} for i, s in enumerate(scenes, 1)],
        "categories": [{"id": i, "name": n} for n, i in category.items()],
        "annotations": [
            {
                "id": k,
                "image_id": i,
                "category_id": category[d.name],
                "bbox": [d.box.x1, d.box.y1, d.box.width, d.box.height],
                "area": d.box.width * d.box.height,
                "iscrowd": 0,
                "score": d.score,
            }
            | ({"segmentation": as_text(d.mask)} if d.mask is not None else {})
            for k, (i, d) in enumerate(boxes, 1)
        ],
    }
