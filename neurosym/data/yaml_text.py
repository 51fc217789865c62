"""YAML from anyone: no objects of its own making, and nothing that a few aliases make endless."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import yaml

_VALUES: Final = 100_000
"""The most values that a text may have, aliases followed."""


def parse_yaml(text: str) -> Any:
    """What a YAML text says, without objects of its own, and not if a few aliases make it endless.

    Raises:
        yaml.YAMLError: no YAML, an unknown tag, an alias within itself, or more than 100,000 values with aliases followed.
    """
    try:
        values = yaml.load(text, _YamlWithFloats)  # noqa: S506  (a SafeLoader)  # nosec B506
        count = _count(values, {})
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    if count > _VALUES:
        raise yaml.YAMLError(f"its aliases make more than {_VALUES:,} values; write out what is meant")
    return values


def _count(value: Any, known: dict[int, float]) -> float:
    """Values in a value, itself included, each as often as it is referred to; endless within itself."""
    if not isinstance(value, (dict, list)):
        return 1.0
    if id(value) not in known:
        known[id(value)] = math.inf  # while it is being counted
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1.0 + sum(_count(part, known) for part in parts)
    return known[id(value)]


class _YamlWithFloats(yaml.SafeLoader):
    """YAML 1.1 reads ``1e-3`` as text; people mean a number."""


_YamlWithFloats.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
