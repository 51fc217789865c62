"""`neurosym train` and `neurosym evaluate` where the config is that of a film classifier, and the run one of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from neurosym.cli.console import bars, escaped, output, print_json, show_trained
from neurosym.errors import ConfigError, did_you_mean
from neurosym.knowledge.rules import write_text_atomically

_SPLITS = ("val", "test")


def train_films(config: Path, out: Path | None, resume: bool, overrides: Sequence[str], as_json: bool) -> None:
    """Train the classifier that a config describes."""
    from neurosym.learning.image_config import load_image_config

    settings = load_image_config(config, overrides)
    # after the config: a mistake need not wait for torch
    from neurosym.learning.image_classifier import train_classifier

    out = out or Path("runs") / settings.name
    with bars() as stage:
        advance = stage(f"train {settings.name}")
        run = train_classifier(
            settings, out, resume, lambda i, n, terms: advance(i, n, f"loss {sum(terms.values()):.3f}")
        )
    if as_json:
        print_json({"run": str(run.path), "step": run.step, "terms": run.metrics})
    else:
        show_trained(run.path)


def evaluate_films(run: Path, split: str, as_json: bool, unused: Sequence[str] = ()) -> None:
    """Score a classifier's run and write ``evaluation-SPLIT.json`` into it; `unused` are options that are of detectors alone.

    Raises:
        ConfigError: such an option, or a split that has no labels to score against.
    """
    if unused:
        raise ConfigError(f"{run} is the run of a film classifier; leave out {', '.join(unused)}, which detectors have")
    if split not in _SPLITS:
        raise ConfigError(
            f"a film classifier is scored on val or test, not on {split!r}; {did_you_mean(split, _SPLITS)}"
        )
    from neurosym.learning.evaluate_films import evaluate_classifier

    result = {"split": split} | evaluate_classifier(run, "val" if split == "val" else "test")
    result = _without_nan(result)
    write_text_atomically(run / f"evaluation-{split}.json", json.dumps(result, indent=1) + "\n")
    if as_json:
        print_json(result)
        return
    table = Table("class", "recall", "AUC", "accuracy", title=f"{run}, {result['films']} films of {split}")
    for name, recall in result["recall"].items():
        table.add_row(escaped(name), _number(recall), "", "")
    for name, scores in result["above"].items():
        table.add_row(f"{escaped(name)} or not", "", _number(scores["auc"]), _number(scores["accuracy"]))
    table.add_row("mean", _number(result["balanced_accuracy"]), _number(result["auc"]), _number(result["accuracy"]))
    output.print(table)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _without_nan(value: Any) -> Any:
    """The same with None for what is not a number, which JSON has no word for."""
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
