"""Films that are labelled as a whole, listed in a CSV file; and splits of them that keep a patient's films together.

One column names the image file; the others are the film's attributes, of which the ontology makes labels
(``ns:studyLabel "finding=viral_pneumonia"``). A split by film would put one patient into training and test: each patient's
place is drawn from a hash of who that is, so that it does not change when films are added.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

from neurosym.data.images import ImageEntry, ImageSet, image_id_of, opened_image, require_file, require_folder
from neurosym.errors import DataError, Problem, did_you_mean, short_path
from neurosym.knowledge import Knowledge

_MAX_PROBLEMS = 20


def load_image_labels(table: Path, images: Path, knowledge: Knowledge, file_column: str = "file_name") -> ImageSet:
    """Read a CSV file of labelled films; `names` of the set are the classes that any of them is labelled with.

    Args:
        table: comma-separated with a header, UTF-8.
        images: the folder that `file_column` is relative to.
        knowledge: ties attributes to study labels.
        file_column: the column with the file names.

    Raises:
        DataError: missing file, column or image; no film with a label.
    """
    require_file(table, "table of image labels")
    require_folder(images, "image")
    shown = short_path(table)
    try:
        rows = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig")))
        columns, lines = rows.fieldnames or [], list(rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(Problem(f"not a CSV file in UTF-8 ({error})", shown)) from error
    if file_column not in columns:
        raise DataError(Problem(f"no column {file_column!r}", shown, 1, cure=did_you_mean(file_column, columns)))
    entries: list[ImageEntry] = []
    problems: list[Problem] = []
    taken: set[str] = set()
    for number, row in enumerate(lines, 2):
        try:
            entries.append(_entry(row, images, knowledge, file_column, taken, shown))
        except DataError as error:
            problems += [Problem(p.message, shown, number, cure=p.cure) for p in error.problems]
    if problems:
        more = [Problem(f"… and {len(problems) - _MAX_PROBLEMS} more", shown)] if len(problems) > _MAX_PROBLEMS else []
        raise DataError(problems[:_MAX_PROBLEMS] + more)
    if not any(e.labels for e in entries):
        cure = 'add ns:studyLabel "COLUMN=VALUE" to the classes in the ontology'
        raise DataError(Problem("no film has a label that the ontology knows", shown, cure=cure))
    return ImageSet(entries, sorted({name for e in entries for name in e.labels}))


def _entry(
    row: dict[str, str], images: Path, knowledge: Knowledge, file_column: str, taken: set[str], shown: str
) -> ImageEntry:
    name = row[file_column] or ""
    image_id = image_id_of(name, taken, shown)
    path = images / name
    if not path.exists():
        raise DataError(Problem(f"image {name!r} is not in {short_path(images)}"))
    try:
        with opened_image(path, shown) as image:
            width, height = image.size
    except DataError as error:
        [problem] = error.problems
        message = f"image {name!r} {problem.message.removeprefix('image ')}"
        raise DataError(Problem(message, cure=problem.cure)) from error
    # a row longer or shorter than the header has None for a key or a value
    attributes = {k: v for k, v in row.items() if k and v is not None}
    return ImageEntry(image_id, path, width, height, (), knowledge.labels_of(attributes), attributes)


def patient_of(entry: ImageEntry, column: str, pattern: str = "") -> str:
    """Who a film is of: the text of `column`, or the part of it that `pattern` matches (all of it where it does not match)."""
    text = str(entry.attributes[column])
    match = re.search(pattern, text) if pattern else None
    return match.group(0) if match else text


def split_by_patient(
    entries: Sequence[ImageEntry], column: str, pattern: str, shares: Sequence[float]
) -> list[list[int]]:
    """Indices of the films of each part; parts have about `shares` of the patients, the last one what is left.

    Raises:
        DataError: a film lacks the column.
    """
    missing = [e for e in entries if column not in e.attributes]
    if missing:
        known = did_you_mean(column, missing[0].attributes)
        raise DataError(Problem(f"film {missing[0].image_id!r} has no {column!r} to tell its patient by", cure=known))
    parts: list[list[int]] = [[] for _ in range(len(shares) + 1)]
    for index, entry in enumerate(entries):
        digest = hashlib.sha256(patient_of(entry, column, pattern).encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        part = 0
        while part < len(shares) and place >= shares[part]:
            place -= shares[part]
            part += 1
        parts[part].append(index)
    return parts
