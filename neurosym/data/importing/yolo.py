"""YOLO → films with boxes or polygons: data.yaml, images/, and labels/NAME.txt with one object a line.

    class x y width height        centre and size, as shares of the film's sides
    class x1 y1 x2 y2 x3 y3 …     a polygon of three points or more

data.yaml names the classes (`names`, a list or a mapping) and where the films of train, val and test are: a folder or a list of
files. A film without a label file is a negative, as YOLO has it. Paths that leave the folder are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from neurosym.data.images import IMAGE_SUFFIXES, read_image, require_file
from neurosym.data.importing.source import Drawn, Loaded, Source, ToImport, raise_all
from neurosym.data.masks import code_of
from neurosym.data.yaml_text import parse_yaml
from neurosym.errors import DataError, Problem, short_path
from neurosym.records import Box

_KEYS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
Shape = tuple[str, tuple[float, ...]]


def yolo_source(folder: Path) -> Source:
    """The films of the splits of data.yaml.

    Raises:
        DataError: data.yaml is missing or wrong, a film is in two splits, or lines are wrong; all mistakes at once.
    """
    config = require_file(folder / "data.yaml", "YOLO data file")
    shown = short_path(config)
    try:
        data: Any = parse_yaml(config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(Problem(f"not YAML ({str(error).splitlines()[0]})", shown)) from error
    names = _names(data, shown)
    problems: list[Problem] = []
    films: dict[Path, ToImport] = {}
    bare = 0
    for key, split in _KEYS.items():
        for path in _images(data, key, folder, shown, problems):
            if path in films:
                if films[path].split != split:
                    message = f"film {short_path(path)} is in {films[path].split} and in {split}"
                    problems.append(Problem(message, shown, cure="take it out of one of them"))
                continue
            label = _label_file(path, folder)
            bare += not label.is_file()
            shapes = read_label_file(label, names, problems) if label.is_file() else ()
            files = (path, label) if label.is_file() else (path,)
            name = str(path.relative_to(folder.resolve()).with_suffix(""))
            films[path] = ToImport(name, files, partial(_load, path, shapes), repr(shapes), split)
    raise_all(problems)
    if not films:
        raise DataError(Problem("no film", shown, cure="expected train: images/train, or a list of files"))
    notes = (f"{bare} films have no label file: taken for negatives",) if bare else ()
    return Source(tuple(films.values()), tuple(dict.fromkeys(names.values())), notes)


def _names(data: Any, shown: str) -> dict[int, str]:
    found = data.get("names") if isinstance(data, dict) else None
    pairs = dict(enumerate(found)) if isinstance(found, list) else found
    if not isinstance(pairs, dict) or not pairs or not all(type(k) is int for k in pairs):
        raise DataError(Problem("names no classes", shown, cure="expected names: [opacity, …], or names: {0: opacity}"))
    for number, name in pairs.items():
        if isinstance(name, bool) or not isinstance(name, str | int | float) or not str(name).strip():
            cure = "expected a name; in quotes if it is yes, no, on, off or null"
            raise DataError(Problem(f"class {number} is {name!r:.40}", shown, cure=cure))
    return {k: str(v) for k, v in pairs.items()}


def _images(data: dict[str, Any], key: str, folder: Path, shown: str, problems: list[Problem]) -> list[Path]:
    """The films of a split, in order of their names."""
    listed = data.get(key) or []
    found: list[Path] = []
    for entry in listed if isinstance(listed, list) else [listed]:
        place = _within(folder, str(data.get("path") or ""), str(entry))
        if place is None:
            cure = "expected a folder or a list of files below that of data.yaml"
            problems.append(Problem(f"{key}: {str(entry)!r:.60} is not there", shown, cure=cure))
        elif place.is_dir():
            found += sorted(p for p in place.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        elif place.suffix == ".txt":
            for line, text in enumerate(place.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
                path = _within(folder, "", text.strip()) if text.strip() else None
                if path is not None:
                    found.append(path)
                elif text.strip():
                    message = f"film {text.strip()!r:.60} is not below {short_path(folder)}"
                    problems.append(Problem(message, short_path(place), line))
    return found


def _within(folder: Path, base: str, entry: str) -> Path | None:
    """The path below the folder that an entry means: relative to `base` or to the folder, without leading dots."""
    root = folder.resolve()
    plain = entry
    while plain.startswith("../"):  # Roboflow writes ../train/images for what is beside data.yaml
        plain = plain[3:]
    for candidate in (root / base / entry, root / entry, root / plain):
        try:
            path = candidate.resolve()
            if path.is_relative_to(root) and path.exists():
                return path
        except (OSError, ValueError):  # no name that a file can have
            continue
    return None


def _label_file(image: Path, folder: Path) -> Path:
    """The last folder called images on the way to the film is called labels on the way to its objects."""
    parts = list(image.relative_to(folder.resolve()).with_suffix(".txt").parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == "images":
            parts[at] = "labels"
            break
    return folder.resolve().joinpath(*parts)


def read_label_file(path: Path, names: dict[int, str], problems: list[Problem]) -> tuple[Shape, ...]:
    """The objects of a file in shares of the film's sides; wrong lines are left with `problems`."""
    found = []
    for line, text in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        words = text.split()
        if not words:
            continue
        try:
            number, values = int(words[0]), tuple(map(float, words[1:]))
        except ValueError:
            number, values = -1, ()
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            cure = "expected class x y width height, or class and three points or more"
            problems.append(Problem(f"found {text!r:.60}", short_path(path), line, cure=cure))
        elif not all(map(math.isfinite, values)):
            problems.append(Problem(f"found {text!r:.60}", short_path(path), line, cure="expected finite numbers"))
        elif len(values) > 4 and max(map(abs, values)) > 2:
            cure = "expected shares of the film's sides, not pixels"
            problems.append(Problem(f"found {text!r:.60}", short_path(path), line, cure=cure))
        elif number not in names:
            cure = f"data.yaml names {min(names)} to {max(names)}"
            problems.append(Problem(f"unknown class {number}", short_path(path), line, cure=cure))
        else:
            found.append((names[number], values))
    return tuple(found)


def _load(path: Path, shapes: Sequence[Shape]) -> Loaded:
    image = read_image(path)
    height, width = image.shape[:2]
    return Loaded(image, tuple(_drawn(name, values, width, height) for name, values in shapes))


def _drawn(name: str, values: tuple[float, ...], width: int, height: int) -> Drawn:
    if len(values) == 4:
        x, y, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
        return Drawn(name, Box(x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    across, down = [v * width for v in values[::2]], [v * height for v in values[1::2]]
    points = [v for pair in zip(across, down, strict=True) for v in pair]
    box = Box(min(across), min(down), max(across), max(down))
    return Drawn(name, box, code_of([points], width, height))
