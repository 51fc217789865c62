"""AnyBURL run beside, and its rules applied as ours are."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from graph_splits import read, scored, train_file

from neurosym.induction.kg.aggregation import aggregation
from neurosym.induction.kg.applied import arrange
from neurosym.induction.kg.completion import rank_answers
from neurosym.induction.kg.files import read_rule_set
from neurosym.induction.kg.store import Int64, TripleStore
from neurosym.induction.kg.thinning import HeldBack


def learn(jar: Path, folder: Path, budgets: Sequence[int], batch: int, workers: int, scratch: Path) -> list[Path]:
    """Have AnyBURL learn from a graph; the files of the rules that it has after so many seconds.

    Args:
        batch: milliseconds after which it draws anew what its threads look for.
    """
    train = scratch / "train.txt"
    file = train_file(folder)
    train.write_bytes(gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes())
    settings = {
        "PATH_TRAINING": train,
        "PATH_OUTPUT": scratch / "rules",
        "SNAPSHOTS_AT": ",".join(map(str, budgets)),
        "WORKER_THREADS": workers,
        "BATCH_TIME": batch,
    }
    config = scratch / "learn.properties"
    config.write_text("".join(f"{k} = {v}\n" for k, v in settings.items()))
    command = ["java", "-Xmx12G", "-cp", str(jar), "de.unima.ki.anyburl.Learn", str(config)]
    subprocess.run(command, capture_output=True, check=False, cwd=scratch)  # noqa: S603  the user's jar; it exits with 1
    return [(scratch / f"rules-{b}").rename(scratch / f"rules-{b}.tsv") for b in budgets]


def applied(folder: Path, rules: Path, valid: bool) -> dict[str, Any]:
    """Test ranks of AnyBURL's rules by max-plus, as its authors do, with its counts; of validation facts, too, if wanted."""
    splits = read(folder)
    columns = read_rule_set(rules, splits.train)
    told = scored(splits, columns, 1, "max-plus")
    if valid:
        known = held_back(splits.train, splits.valid).known
        how = aggregation(splits.train, columns, "max-plus")
        told["valid"] = rank_answers(splits.train, arrange(splits.train, columns), how, splits.valid, known).mrr
    return told


def held_back(store: TripleStore, valid: Sequence[Int64]) -> HeldBack:
    """Validation facts, known to be right beside the training facts; test facts are not known."""
    s, r, o = (np.concatenate(pair) for pair in zip(store.columns(), valid, strict=True))
    return HeldBack(valid, TripleStore.of_numbers(store.entities, store.relations, s, r, o))
