"""Scenes and facts on disk: JSON for scenes, tab-separated text for facts; both written atomically, both plain to read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neurosym.data.masks import code_of
from neurosym.errors import DataError, Problem, short_path
from neurosym.knowledge.rules import write_text_atomically
from neurosym.records import Box, Detection, Fact, FactStore, Scene

_HEADING = "relation\targuments"
_LARGEST = 1e300
_ROUNDED = 1e-5


def save_scenes(path: Path, scenes: Iterable[Scene], origin: str = "") -> None:
    """Write scenes as JSON; `origin` names the checkpoint that they were predicted with. Masks are written where there are."""
    value = {"origin": origin, "scenes": [_plain(s) for s in scenes]}
    write_text_atomically(Path(path), json.dumps(value, indent=1) + "\n")


def load_scenes(path: Path) -> tuple[list[Scene], str]:
    """Read scenes and their origin back.

    Raises:
        DataError: missing, not JSON, or not scenes: the scene and the detection that are wrong are named.
    """
    shown = short_path(path)
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        scenes = [_scene(v, number) for number, v in enumerate(_list(value["scenes"], "'scenes'"), 1)]
        twice = [name for name, count in Counter(s.image_id for s in scenes).items() if count > 1]
        if twice:
            raise ValueError(f"two scenes have the image_id {twice[0]!r}")
        return scenes, str(value["origin"])
    except OSError as error:
        cure = "write it with `neurosym predict RUN`"
        raise DataError(Problem(f"cannot be read: {error.strerror}", shown, cure=cure)) from error
    except json.JSONDecodeError as error:
        raise DataError(Problem(f"not JSON: {error.msg}", shown, error.lineno, error.colno)) from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        cure = "remove it and write it anew with `neurosym predict RUN`"
        raise DataError(Problem(f"not a file of scenes: {error}", shown, cure=cure)) from error


def _plain(scene: Scene) -> dict[str, Any]:
    value = asdict(scene)
    for detection in value["detections"]:
        if detection["mask"] is None:
            del detection["mask"]
    return value


def _scene(v: Any, number: int) -> Scene:
    """One scene; ValueError tells which one and what is wrong."""
    where = f"scene {number}"
    try:
        texts = {k: v[k] for k in ("image_id", "image_path")}
        for key, text in texts.items():
            if not isinstance(text, str):
                raise ValueError(f"{key!r} is {text!r}, expected text")
        where = f"scene {number} ({v['image_id']!r})"
        if not v["image_id"].isprintable() or set(v["image_id"]) & set("/\\,") or not v["image_id"]:
            raise ValueError(
                "'image_id' is no image's: it is empty, or has a slash, a comma or a character that cannot be seen"
            )
        size = {k: v[k] for k in ("width", "height")}
        for key, pixels in size.items():
            if not isinstance(pixels, int) or isinstance(pixels, bool) or pixels < 1:
                raise ValueError(f"{key!r} is {pixels!r}, expected a whole number of pixels")
        if not isinstance(v["labels"], dict):
            raise ValueError(f"'labels' is {v['labels']!r}, expected classes with their probabilities")
        labels = {name: _share(p, f"the probability of {name!r}") for name, p in v["labels"].items()}
        detections = []
        for index, d in enumerate(_list(v["detections"], "'detections'")):
            where = f"scene {number} ({v['image_id']!r}), detection {index}"
            detections.append(_detection(d, v["width"], v["height"]))
    except (KeyError, TypeError, ValueError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{where}: {said}") from error
    return Scene(detections=tuple(detections), labels=labels, **texts, **size)


def _detection(d: Any, width: int, height: int) -> Detection:
    if not isinstance(d["name"], str):
        raise ValueError(f"'name' is {d['name']!r}, expected text")
    box = Box(**d["box"])
    if not (all(map(_is_finite, box.xyxy)) and box.x1 <= box.x2 and box.y1 <= box.y2):
        raise ValueError(f"'box' is {list(box.xyxy)}, expected finite x1 ≤ x2 and y1 ≤ y2")
    mask = d.get("mask")
    if mask is not None:
        if not isinstance(mask, dict) or not isinstance(mask.get("counts"), str):
            raise ValueError("a mask needs a size of two whole numbers and counts as text")
        mask = code_of(mask, width, height)
    return Detection(d["name"], box, _share(d["score"], "'score'"), mask)


def _share(value: Any, what: str) -> float:
    if not _is_finite(value) or not -_ROUNDED < value < 1 + _ROUNDED:
        raise ValueError(f"{what} is {value!r:.40}, expected a number in [0, 1]")
    return float(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is no list")
    return value


def save_facts(path: Path, store: FactStore) -> None:
    """One fact a line: relation, arguments joined by a comma, weight, scene; tab-separated."""
    lines = (f"{f.relation}\t{','.join(f.args)}\t{f.weight:.4g}\t{f.scene}\n" for f in store.facts)
    write_text_atomically(Path(path), "relation\targuments\tweight\tscene\n" + "".join(lines))


def is_facts_of_scenes(path: Path) -> bool:
    """Whether a file is what `save_facts` wrote, by its first line; else it is a graph.

    Raises:
        DataError: it cannot be read.
    """
    if Path(path).is_dir():
        return False
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_HEADING)) == _HEADING.encode()
    except OSError as error:
        raise DataError(Problem(f"cannot be read: {error}", short_path(path))) from error


def load_facts(path: Path) -> FactStore:
    """Read facts: what `save_facts` wrote, or plain triples (head, relation, tail; tab-separated, no heading).

    Raises:
        DataError: every malformed line (the first five are shown).
    """
    shown = short_path(path)
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(Problem(f"cannot be read: {error}", shown)) from error
    own = bool(lines) and lines[0].startswith(_HEADING)
    facts, problems = set(), []
    for number, line in enumerate(lines[1:] if own else lines, 2 if own else 1):
        if not line.strip():
            continue
        cells = line.split("\t")
        try:
            if own:
                relation, arguments, weight, scene = cells
                fact = Fact(relation, tuple(arguments.split(",")), float(weight), scene)
                if not (math.isfinite(fact.weight) and 0 < fact.weight <= 1):
                    raise ValueError
            else:
                head, relation, tail = (c.strip() for c in cells)
                if not (head and relation and tail):
                    raise ValueError
                fact = Fact(relation, (head, tail))
            facts.add(fact)
        except ValueError:
            expected = "relation, arguments, weight in (0, 1], scene" if own else "head, relation, tail"
            problems.append(Problem(f"expected {expected} (tab-separated), found {line[:60]!r}", shown, number))
    if problems:
        more = [Problem(f"… {len(problems)} malformed lines in all", shown)] if len(problems) > 5 else []
        raise DataError(problems[:5] + more)
    return FactStore(tuple(sorted(facts)))
