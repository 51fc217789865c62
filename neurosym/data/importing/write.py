"""A source of films → PNG files and one COCO file a split.

    OUT/images/NAME.png      8 bits
    OUT/train.json …         COCO; an image's attributes hold a pseudonym of its patient
    OUT/.import.jsonl        what each film has become, so that an import that was stopped goes on where it was

Every file is written beside its place and renamed. A film that cannot be read, or a box that cannot be meant, is left out and
told (`bad="skip"`), or nothing but films is written (`bad="error"`). A box that leaves its film is clipped if most of it lies
within. The same source and settings give the same bytes. Films of an earlier import that are in no split now are removed.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from neurosym.data.images import image_id_of
from neurosym.data.importing.journal import Journal, write_bytes_atomically
from neurosym.data.importing.source import Drawn, Loaded, Source, ToImport, raise_all
from neurosym.data.importing.split import part_of, pseudonym, whose
from neurosym.data.masks import decode_mask, encode_mask
from neurosym.errors import DataError, Problem
from neurosym.knowledge.files import write_text_atomically
from neurosym.records import Box

Bad = Literal["error", "skip"]
Advance = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Settings:
    """How films are written and split; `val` and `test` are shares of the patients."""

    val: float = 0.0
    test: float = 0.0
    seed: int = 0
    bad: Bad = "skip"
    longest: int = 0
    """Films are made smaller until no side is longer; 0 leaves them as they are."""
    key: bytes = b""
    """Makes pseudonyms that nobody without it can compute from a patient's id."""
    patient: str = ""
    """A regular expression: the part of a film's name that says whose it is, whatever the film itself says."""


@dataclass
class Imported:
    """What an import did."""

    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    written: int = 0
    kept: int = 0
    removed: int = 0
    """Films that imports wrote and no split has now: of a patient who was withdrawn, under another key, not annotated."""
    strangers: int = 0
    """PNG files among the films that no split has and no import is known to have written: left."""
    clipped: int = 0
    skipped: list[Problem] = field(default_factory=list)
    dropped: list[Problem] = field(default_factory=list)
    nobody: int = 0
    """Films that do not say whose they are."""
    mixed: int = 0
    """Studies whose films name several patients: each is taken for one patient's."""
    unscored: int = 0
    """Films that are not annotated and were drawn for validation or test, where they would count as negatives: left out."""


def import_films(source: Source, out: Path, settings: Settings, name: str, advance: Advance | None = None) -> Imported:
    """Write the films of a source and their annotations.

    Args:
        source: of one of the formats.
        out: the folder; what an earlier import left there is used.
        settings: see `Settings`.
        name: of the format, for the files' `info`.
        advance: is told (films done, films in all, what went wrong so far).

    Raises:
        DataError: no film can be imported, or something is bad and `settings.bad` is "error".
    """
    _check_names(source)
    result = Imported(skipped=list(source.missing))
    records: list[tuple[ToImport, dict[str, Any]]] = []
    with Journal(out / ".import.jsonl") as journal:
        for number, film in enumerate(source.films, 1):
            try:
                record = _record(film, out, settings, journal, result)
                records.append((film, record))
                result.clipped += record["clipped"]
                result.dropped += [Problem(text, str(film.files[0])) for text in record["dropped"]]
            except DataError as error:
                result.skipped += error.problems
            if advance is not None:
                advance(number, len(source.films), f"{len(result.skipped)} unreadable" if result.skipped else "")
        if settings.bad == "error":
            raise_all(result.skipped + result.dropped)
        if not records:
            raise_all(result.skipped or [Problem("there is no film to import", str(out))])
        names = _write_splits(records, source, out, settings, name, result)
        _remove_films(out / "images", journal.names - set(names), set(names), result)
        journal.keep(names)
    return result


def _check_names(source: Source) -> None:
    taken: set[str] = set()
    problems: list[Problem] = []
    for film in source.films:
        try:
            image_id_of(f"{film.name}.png", taken, str(film.files[0]))
        except DataError as error:
            problems += error.problems
    raise_all(problems)


def _record(film: ToImport, out: Path, settings: Settings, journal: Journal, result: Imported) -> dict[str, Any]:
    """What a film has become: from the journal if it was made of the same, else anew."""
    path = out / "images" / f"{film.name}.png"
    mark = f"{film.mark()} {settings.longest} {pseudonym('', settings.key)}"
    known = journal.get(film.name, mark)
    if known is not None and path.is_file() and path.stat().st_size == known["bytes"]:
        result.kept += 1
        return known
    loaded = _smaller(film.load(), settings.longest)
    stream = io.BytesIO()
    Image.fromarray(loaded.image).save(stream, "PNG", compress_level=3)
    content = stream.getvalue()
    if path.is_file() and path.read_bytes() == content:
        result.kept += 1
    else:
        write_bytes_atomically(path, content)
        result.written += 1
    height, width = loaded.image.shape[:2]
    record: dict[str, Any] = {"bytes": len(content), "width": width, "height": height, "clipped": 0, "dropped": []}
    record |= {"attributes": dict(loaded.attributes), "supervision": loaded.supervision, "objects": []}
    # the journal may lie where the films are given away: it holds no more than they do
    record["patient"] = pseudonym(loaded.patient, settings.key) if loaded.patient else ""
    for k, drawn in enumerate(loaded.objects, 1):
        box = usable_box(drawn.box, width, height)
        if box is None:
            corners = ", ".join(f"{v:g}" for v in drawn.box.xyxy)
            message = (
                f"object {k} ({drawn.category}): box [{corners}] is empty, not finite or outside of {width}×{height}"
            )
            record["dropped"].append(message)
            continue
        record["clipped"] += box != drawn.box
        record["objects"].append(_annotation(drawn, box))
    journal.add(film.name, mark, record)
    return record


def usable_box(box: Box, width: int, height: int) -> Box | None:
    """The box clipped to the film; None if it is empty, not finite, or for the most part outside.

    >>> usable_box(Box(-1, 2, 9, 6), 10, 10), usable_box(Box(-9, 2, 8, 6), 10, 10)
    (Box(x1=0.0, y1=2.0, x2=9.0, y2=6.0), None)
    """
    if not all(map(math.isfinite, box.xyxy)) or box.width <= 0 or box.height <= 0:
        return None
    inside = Box(max(box.x1, 0.0), max(box.y1, 0.0), min(box.x2, float(width)), min(box.y2, float(height)))
    if inside.width <= 0 or inside.height <= 0:
        return None
    share = (inside.width / box.width) * (inside.height / box.height)
    return inside if share >= 0.5 else None


def _smaller(film: Loaded, longest: int) -> Loaded:
    """A film and its objects, scaled so that no side is longer."""
    height, width = film.image.shape[:2]
    if not longest or max(height, width) <= longest:
        return film
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    across, down = size[0] / width, size[1] / height
    objects = []
    for drawn in film.objects:
        x1, y1, x2, y2 = drawn.box.xyxy
        mask = drawn.mask
        if mask is not None:
            small = Image.fromarray(decode_mask(mask)).resize(size, Image.Resampling.NEAREST)
            mask = encode_mask(np.asarray(small)) if small.getbbox() else None  # thinner than a pixel now
        objects.append(Drawn(drawn.category, Box(x1 * across, y1 * down, x2 * across, y2 * down), mask, drawn.extra))
    attributes = dict(film.attributes)
    if "pixel_spacing" in attributes:
        rows, columns = attributes["pixel_spacing"]
        attributes["pixel_spacing"] = [rows / down, columns / across]
    image = np.asarray(Image.fromarray(film.image).resize(size, Image.Resampling.BOX))
    return Loaded(image, tuple(objects), attributes, film.patient, film.supervision)


def _annotation(drawn: Drawn, box: Box) -> dict[str, Any]:
    found = {"category": drawn.category, "bbox": [box.x1, box.y1, box.width, box.height]}
    return found | ({"segmentation": dict(drawn.mask)} if drawn.mask is not None else {}) | dict(drawn.extra)


def _write_splits(
    records: list[tuple[ToImport, dict[str, Any]]],
    source: Source,
    out: Path,
    settings: Settings,
    name: str,
    result: Imported,
) -> list[str]:
    """Write a COCO file a split; the names of the films in them."""
    info = {"imported": {"format": name, "seed": settings.seed, "val": settings.val, "test": settings.test}}
    files: dict[str, dict[str, Any]] = {}
    categories = [{"id": k, "name": c} for k, c in enumerate(source.categories, 1)]
    ids = {c["name"]: c["id"] for c in categories}
    patients: dict[str, set[str]] = {}
    names: list[str] = []
    # what the user says of names goes before what a film says
    told = [
        (part_of_name(f.name, settings) or r["patient"], pseudonym(f.study, settings.key) if f.study else "")
        for f, r in records
    ]
    result.mixed = _studies_of_several(told)
    for (film, record), patient in zip(records, whose(told), strict=True):
        split = film.split or part_of(patient or film.name, settings.seed, settings.val, settings.test)
        if not film.split and split != "train" and record["supervision"] == {"complete": []}:
            result.unscored += 1
            continue
        result.nobody += not patient
        names.append(film.name)
        data = files.setdefault(split, {"info": info, "images": [], "annotations": [], "categories": categories})
        attributes = dict(record["attributes"]) | ({"patient": patient} if patient else {})
        image = {"id": len(data["images"]) + 1, "file_name": f"{film.name}.png"}
        image |= {"width": record["width"], "height": record["height"], "attributes": attributes}
        if record["supervision"] is not None:
            image["supervision"] = record["supervision"]
        data["images"].append(image)
        patients.setdefault(split, set()).add(patient or film.name)
        for drawn in record["objects"]:
            _, _, w, h = drawn["bbox"]
            said = {k: v for k, v in drawn.items() if k != "category"}
            known = {"id": len(data["annotations"]) + 1, "image_id": image["id"], "category_id": ids[drawn["category"]]}
            data["annotations"].append(known | {"iscrowd": 0, "area": w * h} | said)
    for split, data in sorted(files.items()):
        write_text_atomically(out / f"{split}.json", json.dumps(data) + "\n")
        counts = {"films": len(data["images"]), "objects": len(data["annotations"]), "patients": len(patients[split])}
        result.splits[split] = counts
    _remove_stale(out, files)
    return names


def part_of_name(name: str, settings: Settings) -> str:
    """The pseudonym of the patient that a film's name tells, "" if it tells none."""
    found = re.search(settings.patient, name) if settings.patient else None
    return pseudonym(found[0], settings.key) if found else ""


def _studies_of_several(told: Sequence[tuple[str, str]]) -> int:
    patients: dict[str, set[str]] = {}
    for patient, study in told:
        if patient and study:
            patients.setdefault(study, set()).add(patient)
    return sum(len(own) > 1 for own in patients.values())


def _remove_films(images: Path, stale: set[str], names: set[str], result: Imported) -> None:
    """Take away what no split has, with the folders that it leaves empty: they may be called like a patient."""
    for path in sorted(images.rglob("*.png")):
        name = path.relative_to(images).with_suffix("").as_posix()
        if name in stale:
            path.unlink()
            result.removed += 1
            for folder in path.parents:
                if folder == images or any(folder.iterdir()):
                    break
                folder.rmdir()
        elif name not in names:
            result.strangers += 1


def _remove_stale(out: Path, files: Mapping[str, Any]) -> None:
    """Splits of an earlier import with other settings would share films with the new ones."""
    for path in out.glob("*.json"):
        if path.stem not in files:
            try:
                with path.open(encoding="utf-8") as file:
                    head = file.read(60)
            except (OSError, UnicodeDecodeError):
                continue
            if head.startswith('{"info": {"imported":'):
                os.unlink(path)
