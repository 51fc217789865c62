"""Whether a run may be gone on with: it must have been trained with the same settings and the same knowledge."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from neurosym.data.yaml_text import parse_yaml
from neurosym.errors import ConfigError, Problem, TrainingError, short_path
from neurosym.learning.config import TrainConfig
from neurosym.learning.runfolder import copy_of

MAY_CHANGE: Final = frozenset({"train", "device", "threads", "base"})
"""Settings that a resumed run may have changed; of `train`, only those of `TRAIN_MAY_CHANGE`."""
DATA_MAY_CHANGE: Final = frozenset({"readers", "on_unreadable"})
"""Of `data`: how shards are read."""
TRAIN_MAY_CHANGE: Final = frozenset({"steps", "checkpoint_every", "accumulate", "precision"})


def logged_steps(log: Path, step: int) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a training's log up to a step, each as it stands and what it says.

    A training that was killed leaves lines of later steps, the last of them cut: they are left out.

    Raises:
        TrainingError: it is missing, or another line is none of a log.
    """
    number = 0
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        found = []
        for number, line in enumerate(lines, 1):
            if number == len(lines) and not line.endswith("\n"):
                break
            told = json.loads(line)
            if told["step"] <= step:
                found.append((line, told))
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        said = error.strerror if isinstance(error, OSError) else f"line {number} is none of a training's log"
        message = f"cannot be resumed, a file of it is missing or damaged: {log.name}, {said}"
        cure = "restore it, or start anew with another --out"
        raise TrainingError(Problem(message, short_path(log.parent), cure=cure)) from error
    return found


def require_same_run(out: Path, resolved: dict[str, Any], files: Sequence[Path]) -> None:
    """Refuse to go on with a run that was trained otherwise.

    Args:
        out: its folder.
        resolved: the settings it is to go on with, and the `names` of its classes.
        files: of its knowledge.

    Raises:
        ConfigError: settings or knowledge have changed; each is named.
        TrainingError: a file of the folder is missing or damaged.
    """
    try:
        before = parse_yaml((out / "config.yaml").read_text(encoding="utf-8"))
        names = before.pop("names")
        before = TrainConfig.model_validate(before).model_dump(mode="json") | {"names": names}
        copies = {f: copy_of(out, f).read_bytes() for f in files}
        old = before["train"]
    except (OSError, yaml.YAMLError, AttributeError, TypeError, KeyError, ValueError) as error:
        raise TrainingError(f"{out} cannot be resumed, a file of it is missing or damaged: {error}") from error
    before, resolved = (v | {"data": _fixed(v["data"], DATA_MAY_CHANGE)} for v in (before, resolved))
    changed = [k for k in sorted({*before, *resolved} - MAY_CHANGE) if before.get(k) != resolved.get(k)]
    fixed = _fixed(resolved["train"], TRAIN_MAY_CHANGE)
    changed += [f"train.{k}" for k in sorted(fixed) if old.get(k) != fixed[k]]
    changed += [short_path(f) for f, copy in copies.items() if f.read_bytes() != copy]
    if changed:
        what = ", ".join(changed)
        raise ConfigError(f"{out} was trained with other settings of {what}; restore them, or use another --out")


def _fixed(settings: Mapping[str, Any], may_change: Collection[str]) -> dict[str, Any]:
    return {k: v for k, v in settings.items() if k not in may_change}
