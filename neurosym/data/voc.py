"""Pascal VOC XML → annotated images (one XML a picture, the split in a text file of picture names)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from neurosym.data.images import BadBoxes, BoxChecker, ImageEntry, ImageSet, image_id_of, require_file, require_folder
from neurosym.errors import DataError, Problem, short_path
from neurosym.knowledge import Knowledge
from neurosym.records import Annotation, Box


def load_voc(
    split: Path,
    annotations: Path,
    images: Path,
    knowledge: Knowledge,
    categories: Sequence[str] | None = None,
    bad_boxes: BadBoxes = "error",
    labelled: bool = True,
) -> ImageSet:
    """Read the pictures that a split file names, one a line.

    VOC counts pixels from 1 and includes the last one: a box becomes (xmin − 1, ymin − 1, xmax, ymax).

    Raises:
        DataError: missing file or folder, broken XML, nothing annotated, unknown category, bad boxes.
    """
    require_file(split, "split file")
    require_folder(annotations, "annotation")
    require_folder(images, "image")
    try:
        lines = split.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            Problem("not UTF-8 text", short_path(split), cure="expected one picture name a line")
        ) from error
    stems = [line.split()[0] for line in lines if line.strip()]
    if not stems:
        raise DataError(Problem("the split file is empty", short_path(split), cure="expected one picture name a line"))
    wanted = None if categories is None else {c: knowledge.class_of_category(c) for c in categories}
    seen: dict[str, str] = dict(wanted or {})
    entries = []
    taken: set[str] = set()
    pictures = BoxChecker(short_path(split))
    for stem in stems:
        image_id = image_id_of(f"{stem}.xml", taken, short_path(split))
        path = annotations / f"{stem}.xml"
        checker = BoxChecker(short_path(path), bad_boxes, pictures.problems, pictures.dropped)
        entries.append(_entry(image_id, path, images, knowledge, wanted, seen, checker))
    pictures.check_images([e.path for e in entries])
    pictures.finish()
    if labelled and not any(e.annotations for e in entries):
        raise DataError(Problem("no picture of the split is annotated", short_path(split)))
    return ImageSet(entries, list(dict.fromkeys(seen[c] for c in (categories or sorted(seen)))))


def _entry(
    image_id: str,
    path: Path,
    images: Path,
    knowledge: Knowledge,
    wanted: dict[str, str] | None,
    seen: dict[str, str],
    checker: BoxChecker,
) -> ImageEntry:
    require_file(path, "annotation file")
    try:
        # expat refuses entities that grow, ElementTree reads none from outside
        root = ET.parse(path).getroot()  # noqa: S314  # nosec B314
    except ET.ParseError as error:
        raise DataError(Problem(f"not XML: {error.msg}", checker.file, error.position[0])) from error
    except (LookupError, ValueError) as error:  # an encoding that expat does not know
        raise DataError(
            Problem(f"not XML that can be read: {error}", checker.file, 1, cure="save it as UTF-8")
        ) from error
    try:
        width, height = (int(_text(root, f"size/{side}", checker)) for side in ("width", "height"))
        found = []
        for number, node in enumerate(root.iter("object"), 1):
            category = _text(node, "name", checker)
            if wanted is not None and category not in wanted:
                continue
            if category not in seen:
                seen[category] = knowledge.class_of_category(category, checker.file)
            corners = [float(_text(node, f"bndbox/{k}", checker)) for k in ("xmin", "ymin", "xmax", "ymax")]
            if corners[0] == corners[2] or corners[1] == corners[3]:
                raw = Box(corners[0], corners[1], corners[2], corners[3])  # a click, not a box: keep it empty
            else:
                raw = Box(corners[0] - 1, corners[1] - 1, corners[2], corners[3])
            box = checker.check(raw, width, height, f"object {number} ({category})")
            if box is not None:
                found.append(Annotation(seen[category], box))
    except ValueError as error:
        raise DataError(Problem(f"not a number: {error}", checker.file)) from error
    name = root.findtext("filename") or f"{path.stem}.jpg"
    return ImageEntry(image_id, images / Path(name).name, width, height, tuple(found))


def _text(node: ET.Element, tag: str, checker: BoxChecker) -> str:
    text = node.findtext(tag)
    if text is None or not text.strip():
        raise DataError(Problem(f"no <{tag}>", checker.file, cure="is this a Pascal VOC annotation?"))
    return text.strip()
