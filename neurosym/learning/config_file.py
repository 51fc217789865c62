"""A YAML file → checked settings: every mistake at once, each with its line and the nearest known key; no torch here.

Settings are a frozen pydantic model with ``extra="forbid"`` that has a field `base`, the folder that relative paths start from.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from neurosym.data.config import CocoData, PhantomData, ShardData, VocData
from neurosym.data.yaml_text import parse_yaml
from neurosym.errors import ConfigError, Problem, short_path

Settings = TypeVar("Settings", bound=BaseModel)
_SHOWN = 200
"""The most characters of a wrong value that are shown."""


def load_settings(model: type[Settings], path: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a YAML file as settings, with ``key.sub=value`` overrides (values are YAML too).

    Raises:
        ConfigError: every mistake of the file at once, each with its line, what was expected, and the nearest known key.
    """
    values, text = read_yaml(path)
    for override in overrides:
        override_setting(values, override)
    return checked(model, {"base": Path(path).parent, **values}, text, short_path(path))


def read_yaml(path: str | Path) -> tuple[dict[str, Any], str]:
    """The mapping that a YAML file holds, and its text.

    Raises:
        ConfigError: it cannot be read, is no YAML, or no mapping.
    """
    shown = short_path(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(Problem(f"cannot be read: {getattr(error, 'strerror', error)}", shown)) from error
    try:
        values = parse_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        said = " ".join(str(getattr(error, "problem", error)).split())
        raise ConfigError(Problem(f"YAML syntax: {said}", shown, line, column)) from error
    if not isinstance(values, dict):
        raise ConfigError(Problem("expected a mapping of settings", shown))
    return values, text


def checked(model: type[Settings], values: Mapping[str, Any], text: str = "", shown: str = "") -> Settings:
    """Values as settings; `text` and `shown` are those of the file that they are from.

    Raises:
        ConfigError: every mistake at once.
    """
    try:
        found = model.model_validate(values)
    except ValidationError as error:
        raise ConfigError([_problem(model, e, text, shown) for e in error.errors()]) from error
    if odd := list(_odd_numbers(found, values, ())):
        raise ConfigError([Problem(f"{'.'.join(k)}: {m}", shown, _line(text, k)) for k, m in odd])
    return found


def _odd_numbers(found: Any, given: Any, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The settings that pydantic takes for numbers and nobody means as ones: yes, no, infinity; each with what to say."""
    if isinstance(found, BaseModel) and isinstance(given, Mapping):
        for key in (k for k in given if k in type(found).model_fields):
            yield from _odd_numbers(getattr(found, key), given[key], (*where, key))
    elif isinstance(found, Mapping) and isinstance(given, Mapping):
        for key in given:
            yield from _odd_numbers(found.get(key), given[key], (*where, str(key)))
    elif isinstance(found, (list, tuple)) and isinstance(given, (list, tuple)):
        for place, (one, other) in enumerate(zip(found, given, strict=False)):
            yield from _odd_numbers(one, other, (*where, str(place)))
    elif isinstance(found, (int, float)) and not isinstance(found, bool) and isinstance(given, bool):
        yield where, f"expected a number, found {'yes' if given else 'no'}"
    elif isinstance(found, float) and not math.isfinite(found):
        yield where, f"expected a finite number, found {found}"


def override_setting(values: dict[str, Any], override: str) -> None:
    """Set ``key.sub=value`` in a mapping.

    Raises:
        ConfigError: no such form, or no YAML value.
    """
    key, sign, value = override.partition("=")
    if not sign:
        raise ConfigError(f"--set {override!r}: expected key.sub=value, e.g. train.lr=1e-3")
    *folders, last = key.strip().split(".")
    target = values
    for folder in folders:
        target = target.setdefault(folder, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override!r}: {folder!r} is a value, not a section")
    try:
        target[last] = parse_yaml(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: {value!r} is not a YAML value") from error


_EXPECTED = {
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a section of settings",
}
"""In the words of YAML, by pydantic's names of what is wrong."""
_DATA: dict[Any, type[BaseModel]] = {"coco": CocoData, "voc": VocData, "phantom": PhantomData, "shards": ShardData}


def _problem(model: type[BaseModel], error: Any, text: str, shown: str) -> Problem:
    where = [str(p) for p in error["loc"] if p not in _DATA]
    key, message, cure = ".".join(where), error["msg"], ""
    if error["type"] == "extra_forbidden":
        message = "unknown setting"
        known = _fields(model, where[:-1], next((_DATA[p] for p in error["loc"] if p in _DATA), None))
        near = difflib.get_close_matches(where[-1], known, n=1)
        cure = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
    elif error["type"] == "missing":
        message = "is missing"
    else:
        found = repr(error.get("input"))
        expected = _EXPECTED.get(error["type"], message)
        message = f"{expected}, found {found if len(found) <= _SHOWN else found[:_SHOWN] + '…'}"
    return Problem(f"{key}: {message}", shown, _line(text, where), cure=cure)


def _fields(root: type[BaseModel], folders: Sequence[str], data: type[BaseModel] | None) -> Iterable[str]:
    """The settings of a section; `data` is the model that the data's format chose."""
    model: Any = root
    for folder in folders:
        if folder.isdigit():  # the place in a list
            continue
        if folder == "data" and data is not None:
            model = data
        else:
            field = model.model_fields.get(folder) if model is not None else None
            choices = get_args(field.annotation) or (field.annotation,) if field else ()
            model = next((c for c in choices if hasattr(c, "model_fields")), None)
    return tuple(model.model_fields) if model is not None else ()


def _line(text: str, keys: Sequence[str]) -> int:
    """The line of the innermost key that the file has, walking the keys in order."""
    found = 0
    lines = text.splitlines()
    for key in keys:
        for number in range(found, len(lines)):
            if lines[number].lstrip(" -{").startswith(f"{key}:"):
                found = number + 1
                break
    return found
