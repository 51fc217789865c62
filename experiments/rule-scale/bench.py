"""What do 22 million facts cost, and how do costs grow from ten thousand on? (`graph.py`, `step.py`)"""

from __future__ import annotations

import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from harness import HERE, Figure, figure, measured, record

from neurosym.knowledge.files import write_text_atomically

sys.path.insert(0, str(Path(__file__).parent))
from picture import cost_svg

NAME = "rule-scale"
FOLDER = HERE / NAME
SIZES = {10_000: (0, 1, 2), 100_000: (0, 1, 2), 1_000_000: (0, 1, 2), 5_000_000: (0,), 22_000_000: (0,)}
"""Facts, and seeds of the generator."""
SECONDS, RULES = 60, 100
GOALS = {"load_wall": "<= 60", "first_wall": "<= 60", "peak": "<= 8192", "restart": "<= 2"}
TOLD = {
    "load_wall": "s to load",
    "first_wall": f"s to the first {RULES} exact rules of PCA confidence > 0.5",
    "load": "s of CPU to load",
    "write": "s of CPU to write the store",
    "first": f"s of CPU to the first {RULES} exact rules of PCA confidence > 0.5",
    "peak": "MB at the peak",
    "restart": "s of CPU of a restart",
    "confident": f"path rules of PCA confidence > 0.5 in {SECONDS} s of CPU",
    "rules": f"rules in {SECONDS} s of CPU",
}


def figures() -> list[Figure]:
    """Costs at the largest size; draws those of all sizes in `costs.svg`."""
    found: list[Figure] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    for facts, seeds in SIZES.items():
        runs = [run(facts, seed) for seed in seeds]
        for value, words in TOLD.items():
            if any(value not in r for r in runs):
                continue  # a graph of few facts has less than so many rules
            if facts == max(SIZES):
                found.append(figure(f"{facts:,} facts: {words}", runs, lambda r, v=value: r[v], GOALS.get(value, "")))
            if value in ("load", "write", "first", "restart"):
                lines.setdefault(words.partition(" exact")[0], []).append(
                    (facts, statistics.fmean(r[value] for r in runs))
                )
    draw(lines)
    return found


def run(facts: int, seed: int) -> dict[str, Any]:
    """The record of one graph, which is made and goes again."""
    found: dict[str, Any] = record(NAME, f"{facts}-seed{seed}", settings(facts, seed), partial(costs, facts, seed))
    return found | {
        "peak": max(found[k] for k in ("load_peak", "search_peak", "open_peak")),
        "rules": sum(found[k] for k in ("one_atom", "two_atoms", "constants")),
    }


def costs(facts: int, seed: int) -> dict[str, Any]:
    """What each step says."""
    with tempfile.TemporaryDirectory() as scratch:
        file, store = Path(scratch) / "graph.tsv", Path(scratch) / "store"
        found = measured(FOLDER / "graph.py", facts, seed, file)
        with file.open(encoding="utf-8") as lines:
            subject, relation, _ = lines.readline().split("\t")
        found |= measured(FOLDER / "step.py", "load", file, store)
        file.unlink()
        found |= measured(FOLDER / "step.py", "search", store, SECONDS, RULES)
        return found | measured(FOLDER / "step.py", "open", store, subject, relation)


def settings(facts: int, seed: int) -> dict[str, Any]:
    """A measurement is of the scripts as they are."""
    scripts = {name: (FOLDER / f"{name}.py").read_text(encoding="utf-8") for name in ("graph", "step")}
    return {"facts": facts, "seed": seed, "seconds": SECONDS, "rules": RULES} | scripts


def draw(lines: dict[str, list[tuple[float, float]]]) -> None:
    picture = cost_svg("What facts cost", "facts", "s", lines)
    write_text_atomically(FOLDER / "costs.svg", picture)
