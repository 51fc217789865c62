"""Scenes and facts on disk: JSON for scenes, tab-separated text for facts; both written atomically, both plain to read."""

from __future__ import annotations

import json
import math
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
        DataError: missing, not JSON, or not scenes.
    """
    shown = short_path(path)
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        return [_scene(v) for v in value["scenes"]], str(value["origin"])
    except OSError as error:
        cure = "write it with `neurosym predict RUN`"
        raise DataError(Problem(f"cannot be read: {error.strerror}", shown, cure=cure)) from error
    except json.JSONDecodeError as error:
        raise DataError(Problem(f"not JSON: {error.msg}", shown, error.lineno, error.colno)) from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(Problem(f"not a file of scenes: {error}", shown)) from error


def _plain(scene: Scene) -> dict[str, Any]:
    value = asdict(scene)
    for detection in value["detections"]:
        if detection["mask"] is None:
            del detection["mask"]
    return value


def _mask(code: Any, width: int, height: int) -> dict[str, Any] | None:
    """A run-length code as it was written; anything else is refused before a library decodes it."""
    if code is None:
        return None
    if not isinstance(code["counts"], str):
        raise TypeError("a mask needs counts as text")
    return code_of(code, width, height)


def _scene(v: dict[str, Any]) -> Scene:
    texts = {k: _kind(v[k], str, k) for k in ("image_id", "image_path")}
    sides = {k: _kind(v[k], int, k) for k in ("width", "height")}
    if min(sides.values()) < 1:
        raise ValueError(f"image {v['image_id']!r:.60} has no pixels")
    labels = {name: _number(share, name) for name, share in v["labels"].items()}
    detections = tuple(
        Detection(
            _kind(d["name"], str, "name"),
            Box(**{k: _number(x, k) for k, x in d["box"].items()}),
            _score(d["score"]),
            _mask(d.get("mask"), **sides),
        )
        for d in v["detections"]
    )
    return Scene(detections=detections, labels=labels, **texts, **sides)


def _kind(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{what} is {value!r:.40}")
    return value


def _score(value: Any) -> Any:
    if not -_ROUNDED < _number(value, "score") < 1 + _ROUNDED:
        raise ValueError(f"score is {value:g}, expected 0 to 1")
    return value


def _number(value: Any, what: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise TypeError(f"{what} is {value!r:.40}, expected a finite number")
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
