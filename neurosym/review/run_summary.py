"""What a run was, for its report: the settings that differ from the defaults, and how the terms of its loss fell.

Settings that name files, folders or data are left out: a path often says whose films they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neurosym.errors import DataError, Problem, short_path
from neurosym.learning.config import TrainConfig
from neurosym.learning.runfolder import OpenRun

POINTS: Final = 120
"""Of a curve at most: the means of as many equal stretches."""
WIDTH: Final = 240
HEIGHT: Final = 72
_UNTOLD: Final = ("name", "base", "knowledge", "data", "initial", "device", "threads")
"""Settings that name files, or say nothing of the result."""
_NO_TERMS: Final = ("step", "lr", "seconds")


@dataclass(frozen=True, slots=True)
class Curve:
    """One term over the steps; `points` are those of an SVG polyline in `WIDTH` by `HEIGHT`."""

    name: str
    points: str
    steps: int
    least: float
    most: float
    last: float


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Settings as (key, value), the classes in words, and the curves."""

    settings: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]
    curves: tuple[Curve, ...]


def summary_of(run: OpenRun) -> RunSummary:
    """The summary of a run folder; there are no curves where it holds no log.

    Raises:
        DataError: the log is damaged.
    """
    classes = run.knowledge.ontology.classes
    names = tuple(classes[n].label if n in classes else n for n in run.names)
    log = run.path / "log.jsonl"
    return RunSummary(tuple(_settings(run.config)), names, tuple(_curves(log)) if log.is_file() else ())


def _settings(config: TrainConfig) -> Iterator[tuple[str, str]]:
    plain = config.model_dump(mode="json")
    yield "data.format", str(plain["data"].get("format"))
    yield "knowledge", ", ".join(Path(p).name for p in plain["knowledge"])
    fields = TrainConfig.model_fields
    for key in (k for k in plain if k not in _UNTOLD):
        default = fields[key].get_default(call_default_factory=True)
        default = default.model_dump(mode="json") if hasattr(default, "model_dump") else default
        yield from _differing(key, plain[key], default)


def _differing(key: str, value: Any, default: Any) -> Iterator[tuple[str, str]]:
    """What of a value is not the default, by its dotted key; a text that looks like a path is not told."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _differing(f"{key}.{name}", inner, default.get(name) if isinstance(default, Mapping) else None)
    elif value != default and not (isinstance(value, str) and ("/" in value or "\\" in value)):
        yield key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _curves(path: Path) -> Iterator[Curve]:
    series: dict[str, list[tuple[int, float]]] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()  # a training that was killed, or still writes
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            step = int(values["step"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(Problem(f"no line of a training log: {error}", short_path(path), number)) from error
        for name, value in values.items():
            if name not in _NO_TERMS and isinstance(value, int | float) and math.isfinite(value):
                series.setdefault(name, []).append((step, float(value)))
    for name in sorted(series, key=lambda n: (n != "loss", n)):
        if any(value != series[name][0][1] for _, value in series[name]):
            yield _curve(name, series[name])


def _curve(name: str, values: Sequence[tuple[int, float]]) -> Curve:
    size = math.ceil(len(values) / POINTS)
    stretches = [values[i : i + size] for i in range(0, len(values), size)]
    means = [(s[-1][0], math.fsum(v for _, v in s) / len(s)) for s in stretches]
    least, most = min(v for _, v in means), max(v for _, v in means)
    first, final = means[0][0], means[-1][0]
    points = " ".join(
        f"{WIDTH * (step - first) / max(1, final - first):.1f},{HEIGHT * (1 - (v - least) / ((most - least) or 1)):.1f}"
        for step, v in means
    )
    return Curve(name, points, final, least, most, means[-1][1])
