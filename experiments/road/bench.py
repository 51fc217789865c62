"""Does a detector of several labels a box break fewer requirements when it is trained with them, and what does that cost in AP?

Two arms, paired by seed: the same training with and without the constraints' loss, held against the same rules. With
``ROAD_REQUIREMENTS`` in the environment, the path of ROAD-R's `requirements_dimacs.txt`, the rules are the published ones.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent))

import make
from harness import HERE, Figure, figure, gained, record, timed

from neurosym.data.images import annotated_scene
from neurosym.knowledge import load_ontology
from neurosym.knowledge.exchange import import_rules
from neurosym.knowledge.rules import read_rules, read_text, write_rules
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.evaluate import evaluate_scenes
from neurosym.learning.predict import predict
from neurosym.learning.run_constraints import constraints_of
from neurosym.learning.runfolder import open_run
from neurosym.learning.train import train

NAME: Final = "road"
SEEDS: Final = (0, 1, 2)
RUNS: Final = HERE.parent / "runs" / NAME
CONFIG: Final = HERE / NAME / "config.yaml"
ARMS: Final = {"without": ("constraints.weight=0",), "with": ()}
THRESHOLDS: Final = (0.3, 0.5)
"""Labels of at least this score are what a box has."""


def rules() -> Path:
    """The rules of both arms: ours, or the published requirements, imported."""
    given = os.environ.get("ROAD_REQUIREMENTS")
    if not given:
        return make.RULES
    ontology = load_ontology([make.ONTOLOGY])
    found, problems = import_rules(read_text(Path(given)), "dimacs", given, ontology, make.LABELS, "road_object")
    if errors := [str(p) for p in problems if p.severity == "error"]:
        raise SystemExit("\n".join(errors))
    path = RUNS / "requirements.rules"
    write_rules(path, found, f"From {Path(given).name}.")
    return path


def config_of(arm: str, seed: int, chosen: Path, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """The settings of one run."""
    knowledge = json.dumps([str(make.ONTOLOGY), str(chosen)])
    return load_config(CONFIG, (f"seed={seed}", f"knowledge={knowledge}", *ARMS[arm], *overrides))


def run(arm: str, seed: int, chosen: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """The record of one run, computed if there is none yet: AP, and the share of boxes that break a requirement."""
    logging.getLogger("neurosym").setLevel("ERROR")
    config = config_of(arm, seed, chosen, overrides)
    settings = config.model_dump(mode="json", include={"seed", "model", "train", "constraints"})
    settings |= {"rules": [str(r) for r in read_rules(chosen)], "data": make.SIZES}
    key = f"{'published-' if chosen != make.RULES else ''}{arm}-seed{seed}"
    return record(NAME, key, settings, lambda: timed(RUNS / key, lambda folder: train(config, folder), scored))


def scored(folder: Path) -> dict[str, Any]:
    """AP of a run's predictions on the test split, and the share of broken boxes at each threshold."""
    opened = open_run(folder)
    images = opened.images("test")
    scenes, true = predict(opened, images), [annotated_scene(sample) for sample in images]
    result: dict[str, Any] = {}
    for threshold in THRESHOLDS:
        found = evaluate_scenes(scenes, true, opened.names, constraints_of(opened), threshold)
        result |= {"ap": found.ap, "ap50": found.ap50, f"broken_{threshold}": found.broken}
    return result


def figures() -> list[Figure]:
    """AP50 and the share of broken boxes of each arm, and what the constraints change."""
    chosen = rules()
    make.write(HERE.parent / "runs" / "road-data", [chosen])
    runs = {arm: {seed: run(arm, seed, chosen) for seed in SEEDS} for arm in ARMS}
    whose = "published requirements" if chosen != make.RULES else "rules"
    found = [figure(f"{arm} {whose}: AP50", list(of.values()), lambda r: r["ap50"]) for arm, of in runs.items()]
    found += gained("AP50 gain", runs["with"], runs["without"], lambda r: float(r["ap50"]))
    for threshold in THRESHOLDS:
        key = f"broken_{threshold}"
        seen = {arm: {s: r for s, r in of.items() if r[key] is not None} for arm, of in runs.items()}
        for arm, of in seen.items():
            name = f"{arm} {whose}: boxes that break one, of score ≥ {threshold}"
            found += [figure(name, list(of.values()), lambda r, key=key: float(r[key]))] if of else []
        name = f"broken boxes, with less without, of score ≥ {threshold}"
        found += gained(name, seen["with"], seen["without"], lambda r, key=key: float(r[key]))
    return found
