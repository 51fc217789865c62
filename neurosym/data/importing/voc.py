"""Pascal VOC → films with boxes: Annotations/*.xml, JPEGImages/, and splits in ImageSets/Main/{train,val,test}.txt.

Without split files there is one split. VOC counts pixels from 1 and includes the last one: a box becomes
(xmin − 1, ymin − 1, xmax, ymax). A film that has another size than its XML file says is not the one that was annotated.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

from neurosym.data.images import IMAGE_SUFFIXES, read_image, require_folder
from neurosym.data.importing.source import Drawn, Loaded, Source, ToImport, raise_all, require_size
from neurosym.errors import DataError, Problem, short_path
from neurosym.records import Box

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc_source(folder: Path) -> Source:
    """The films that have an XML file and, where there are split files, are in one.

    Raises:
        DataError: a folder is missing, a split names an unknown film, or files are wrong; all mistakes at once.
    """
    annotations = require_folder(folder / "Annotations", "annotation")
    images = require_folder(folder / "JPEGImages", "image")
    pictures = {p.stem: p for p in sorted(images.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES}
    problems: list[Problem] = []
    splits = _splits(folder / "ImageSets/Main", problems)
    films: list[ToImport] = []
    categories: set[str] = set()
    stems = splits or dict.fromkeys((p.stem for p in sorted(annotations.glob("*.xml"))), "")
    for stem, split in stems.items():
        path = annotations / f"{stem}.xml"
        if stem not in pictures:
            problems.append(Problem(f"image {stem!r} is not in {short_path(images)}", short_path(path)))
            continue
        try:
            objects, size = read_annotation(path)
        except DataError as error:
            problems += error.problems
            continue
        categories |= {o.category for o in objects}
        files = (pictures[stem], path)
        films.append(ToImport(stem, files, partial(_load, pictures[stem], objects, size), split=split))
    raise_all(problems)
    return Source(tuple(films), tuple(sorted(categories)))


def read_annotation(path: Path) -> tuple[tuple[Drawn, ...], tuple[int, int] | None]:
    """The boxes of an XML file as they stand, and the width and height that they are of, None if it does not say (or 0).

    Raises:
        DataError: missing, not XML, a size that is no number, or without a name or corners; all mistakes at once.
    """
    shown = short_path(path)
    try:
        text = path.read_bytes()
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise DataError(Problem("declares a document type", shown, cure="remove it: entities can grow without end"))
        root = ET.fromstring(text)  # noqa: S314  # nosec B314
    except OSError as error:
        raise DataError(Problem(f"cannot be read: {error.strerror}", shown)) from error
    except ET.ParseError as error:
        raise DataError(Problem(f"not XML: {error.msg}", shown, error.position[0])) from error
    except (LookupError, ValueError) as error:  # an encoding that expat does not know
        raise DataError(Problem(f"not XML that can be read: {error}", shown, 1, cure="save it as UTF-8")) from error
    found, problems = [], []
    said = [(root.findtext(f"size/{k}") or "0").strip() for k in ("width", "height")]
    if not all(re.fullmatch(r"[0-9]{1,9}(\.0+)?", text) for text in said):
        problems.append(Problem(f"size is {' × '.join(said)!r:.40}", shown, cure="expected whole numbers of pixels"))
        said = ["0", "0"]
    width, height = (int(float(text)) for text in said)
    for number, node in enumerate(root.iter("object"), 1):
        name = (node.findtext("name") or "").strip()
        try:
            x1, y1, x2, y2 = (float(node.findtext(f"bndbox/{k}") or "") for k in _CORNERS)
        except ValueError:
            problems.append(Problem(f"object {number}: expected numbers in {', '.join(_CORNERS)}", shown))
            continue
        if not name:
            problems.append(Problem(f"object {number}: no <name>", shown))
        empty = x1 == x2 or y1 == y2  # a click, not a box: it stays empty
        found.append(Drawn(name, Box(x1, y1, x2, y2) if empty else Box(x1 - 1, y1 - 1, x2, y2)))
    if problems:
        raise DataError(problems)
    return tuple(found), (width, height) if width and height else None


def _splits(folder: Path, problems: list[Problem]) -> dict[str, str]:
    """The split of each film that a split file names; trainval counts where there is no train."""
    found: dict[str, str] = {}
    there = {p.stem: p for p in folder.glob("*.txt")} if folder.is_dir() else {}
    chosen = {"train": there.get("train") or there.get("trainval"), "val": there.get("val"), "test": there.get("test")}
    if chosen["train"] is not None and chosen["train"].stem == "trainval":
        chosen["val"] = None
    for split, path in chosen.items():
        if path is None:
            continue
        for line, text in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
            stem = (text.split() or [""])[0]
            if stem and found.setdefault(stem, split) != split:
                message = f"film {stem!r} is in {found[stem]}.txt, too"
                problems.append(Problem(message, short_path(path), line, cure="take it out of one of them"))
    return found


def _load(path: Path, objects: tuple[Drawn, ...], size: tuple[int, int] | None) -> Loaded:
    image = read_image(path)
    if size is not None:
        require_size(image, size, path)
    return Loaded(image, objects)
