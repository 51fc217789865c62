"""YAML from anyone: no objects of its own making, and nothing that a few aliases make endless."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import yaml

_VALUES: Final = 100_000
"""The most values that a text may have, aliases followed."""
_MERGE: Final = "tag:yaml.org,2002:merge"
_NUMBERS: Final = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_OCTAL: Final = re.compile(r"[-+]?0[0-7_]*[1-7][0-7_]*")


def parse_yaml(text: str) -> Any:
    """What a YAML text says, without objects of its own, and not if a few aliases make it endless.

    Raises:
        yaml.YAMLError: no YAML, an unknown tag, an alias within itself, more than 100,000 values with aliases followed, a key
            that stands twice in a mapping, or a number to the base of 8 or 60.
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
        if isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise yaml.YAMLError(f"{value!r:.60} holds half a character")
        return 1.0
    if id(value) not in known:
        known[id(value)] = math.inf  # while it is being counted
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1.0 + sum(_count(part, known) for part in parts)
    return known[id(value)]


class _YamlWithFloats(yaml.SafeLoader):
    """YAML 1.1 reads ``1e-3`` as text; people mean a number. They do not mean 64 by ``0100``, nor 90 by ``1:30``."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)  # before merges, which may say again what the mapping says
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if (key.tag, key.value) in seen:
                    raise _wrong(f"{key.value!r:.60} stands there twice", key)
                seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        if node.tag in _NUMBERS and (":" in text or _OCTAL.fullmatch(text)):
            raise _wrong(
                f"{text!r:.60} is a number to the base of {60 if ':' in text else 8}; write it out, or in quotes", node
            )
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise _wrong(f"{text!r:.60} is no {node.tag.rpartition(':')[2]}", node) from error


def _wrong(problem: str, node: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


_YamlWithFloats.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
