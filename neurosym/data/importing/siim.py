"""The SIIM-FISABIO-RSNA COVID-19 data set as Kaggle distributes it → films with boxes of opacities and the study's label.

    DIR/train/STUDY/SERIES/IMAGE.dcm
    DIR/train_image_level.csv   id ("IMAGE_image"), boxes, label ("opacity 1 x1 y1 x2 y2 …", "none 1 0 0 1 1"), StudyInstanceUID
    DIR/train_study_level.csv   id ("STUDY_study") and four columns, one of which is 1

Some studies have several films of one patient and boxes on one of them only. Such a film without boxes is no negative: where
its study is positive, by default it says that not every object on it is annotated (`unboxed="weak"`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from neurosym.data.film_sources import read_table
from neurosym.data.images import require_folder
from neurosym.data.importing.dicom_film import load_dicom
from neurosym.data.importing.source import Drawn, Loaded, Source, ToImport, Unboxed, raise_all
from neurosym.errors import DataError, Problem, short_path
from neurosym.records import Box

OPACITY: Final = "opacity"
STUDIES: Final = {
    "Negative for Pneumonia": "negative_for_pneumonia",
    "Typical Appearance": "typical_appearance",
    "Indeterminate Appearance": "indeterminate_appearance",
    "Atypical Appearance": "atypical_appearance",
}
"""The columns of the study table, each with what an image's attribute `study` says."""
_NEGATIVE: Final = "negative_for_pneumonia"
_LONGEST = 20_000


def siim_source(folder: Path, unboxed: Unboxed = "weak") -> Source:
    """The films of the table of images, in its order.

    Args:
        folder: what the archive unpacks to.
        unboxed: of a film without boxes in a positive study: "weak" says that its objects are not annotated,
            "leave-out" drops the film, "negative" takes it for a film without opacities.

    Raises:
        DataError: a table or the folder of films is missing, or rows are wrong; all of them at once.
    """
    films = require_folder(folder / "train", "film")
    table = folder / "train_image_level.csv"
    problems: list[Problem] = []
    studies = _studies(folder / "train_study_level.csv", problems)
    files, problem_files = _files(films)
    problems += problem_files
    rows = read_table(table, "id", "boxes", "label", "StudyInstanceUID")
    shown = short_path(table)
    boxes: dict[str, tuple[str, tuple[Box, ...]]] = {}
    for line, row in enumerate(rows, 2):
        try:
            image = _stem(row["id"], "_image")
            if image in boxes:
                raise ValueError(f"image {image!r} has a row already")
            if row["StudyInstanceUID"] not in studies:
                raise ValueError(f"study {row['StudyInstanceUID']!r} is not in train_study_level.csv")
            boxes[image] = row["StudyInstanceUID"], _boxes(row)
        except ValueError as error:
            problems.append(Problem(str(error), shown, line))
    raise_all(problems)
    return _source(boxes, studies, files, films, unboxed, shown)


def _source(
    boxes: Mapping[str, tuple[str, tuple[Box, ...]]],
    studies: Mapping[str, str],
    files: Mapping[str, Path],
    films: Path,
    unboxed: Unboxed,
    shown: str,
) -> Source:
    found, missing, open_films = [], [], 0
    for line, (image, (study, own)) in enumerate(boxes.items(), 2):
        path = files.get(image)
        if path is None or path.parts[-3] != study:
            place = f"not below {short_path(films / study)}"
            missing.append(Problem(f"film {image}.dcm is {place}", shown, line))
            continue
        is_open = not own and studies[study] != _NEGATIVE
        open_films += is_open
        if is_open and unboxed == "leave-out":
            continue
        weak = is_open and unboxed == "weak"
        said = f"{study} {studies[study]} {own} {weak}"
        load = partial(_load, path, studies[study], own, weak)
        found.append(ToImport(image, (path,), load, said, study=study))
    what = {"weak": "kept as not annotated", "leave-out": "left out", "negative": "taken for negatives"}[unboxed]
    several = len(boxes) - len({study for study, _ in boxes.values()})
    notes = [f"{several} films are further ones of a study"] if several else []
    notes += [f"{open_films} films of positive studies have no box: {what}"] if open_films else []
    unlisted = len(files.keys() - boxes.keys())
    notes += [f"{unlisted} films below {short_path(films)} are not in the table: left out"] if unlisted else []
    return Source(tuple(found), (OPACITY,), tuple(notes), tuple(missing))


def _load(path: Path, label: str, boxes: tuple[Box, ...], weak: bool) -> Loaded:
    film = load_dicom(path)
    return replace(
        film,
        objects=tuple(Drawn(OPACITY, box) for box in boxes),
        attributes={"study": label, **film.attributes},
        supervision={"complete": []} if weak else None,
    )


def _files(films: Path) -> tuple[dict[str, Path], list[Problem]]:
    """Every film below STUDY/SERIES/ by its name."""
    found: dict[str, Path] = {}
    problems = []
    for path in sorted(films.glob("*/*/*.dcm")):
        if path.stem in found:
            problems.append(Problem(f"a film of the same name is in {short_path(found[path.stem])}", short_path(path)))
        found[path.stem] = path
    if not found:
        raise DataError(Problem("no film", short_path(films), cure="expected STUDY/SERIES/IMAGE.dcm"))
    return found, problems


def _studies(table: Path, problems: list[Problem]) -> dict[str, str]:
    """What each study is labelled with."""
    found = {}
    for line, row in enumerate(read_table(table, "id", *STUDIES), 2):
        try:
            study = _stem(row["id"], "_study")
            if study in found:
                raise ValueError(f"study {study!r} has a row already")
            said = [label for column, label in STUDIES.items() if _flag(row[column], column)]
            found[study] = said[0] if said else ""
            if len(said) != 1:
                raise ValueError(f"study {study!r} has {len(said)} appearances; expected one")
        except ValueError as error:
            problems.append(Problem(str(error), short_path(table), line))
    return found


def _flag(text: str, column: str) -> bool:
    if text.strip() not in ("0", "1"):
        raise ValueError(f"column {column!r} is {text!r:.40}; expected 0 or 1")
    return text.strip() == "1"


def _stem(text: str, suffix: str) -> str:
    name = text.removesuffix(suffix)
    if name == text or not name or not name.replace("-", "").replace(".", "").isalnum():
        raise ValueError(f"id is {text!r:.60}; expected letters and digits, then {suffix}")
    return name


def _boxes(row: Mapping[str, str]) -> tuple[Box, ...]:
    """The boxes of a row, which both of its columns have to agree on."""
    first, second = _listed(row["boxes"]), _labelled(row["label"])
    same = len(first) == len(second) and all(
        math.isclose(u, v, abs_tol=0.5) or u == v
        for a, b in zip(first, second, strict=True)
        for u, v in zip(a.xyxy, b.xyxy, strict=True)
    )
    if not same:
        raise ValueError(f"boxes and label differ: {len(first)} and {len(second)} boxes, or other corners")
    return first


def _listed(text: str) -> tuple[Box, ...]:
    """[{'x': 1, 'y': 2, 'width': 3, 'height': 4}, …], which is JSON but for its quotes."""
    if not text.strip():
        return ()
    try:
        items: Any = json.loads(text.replace("'", '"')) if len(text) <= _LONGEST else None
        corners = [tuple(float(i[k]) for k in ("x", "y", "width", "height")) for i in items]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"boxes are {text!r:.60}; expected [{{'x': …, 'y': …, 'width': …, 'height': …}}]") from error
    return tuple(Box(x, y, x + w, y + h) for x, y, w, h in corners)


def _labelled(text: str) -> tuple[Box, ...]:
    """ "opacity 1 x1 y1 x2 y2 …"; "none 1 0 0 1 1" says that there is none."""
    words = text.split()
    found = []
    try:
        for at in range(0, len(words), 6):
            name, _, *corners = words[at : at + 6]
            if name == OPACITY:
                x1, y1, x2, y2 = map(float, corners)
                found.append(Box(x1, y1, x2, y2))
            elif name != "none" or len(words) != 6:
                raise ValueError(name)
    except ValueError as error:
        raise ValueError(f"label is {text!r:.60}; expected opacity 1 x1 y1 x2 y2, or none 1 0 0 1 1") from error
    if not words:
        raise ValueError("label is empty; expected opacity 1 x1 y1 x2 y2, or none 1 0 0 1 1")
    return tuple(found)
