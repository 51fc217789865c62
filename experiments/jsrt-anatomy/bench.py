"""Lungs and heart on the real JSRT films, and the laterality order among the rules that their detections give."""

from __future__ import annotations

import itertools
from typing import Any

from detection import rate, seed_record
from harness import Figure, data_folder, figure

SEEDS = (0, 1, 2)
ORDER = ("right_lung", "heart", "left_lung")
"""From left to right of the image."""


def figures() -> list[Figure]:
    """Every figure is of the test split, touched once a seed."""
    data_folder("jsrt")
    runs = [seed_record("jsrt-anatomy", seed) for seed in SEEDS]
    found = [
        figure(
            f"AP50 {name}, test", runs, lambda r, n=name: r["per_class"][n]["ap50"], ">= 0.9" if name in ORDER else ""
        )
        for name in (*ORDER, "nodule")
    ]
    found += [
        figure(f"AP {name}, test", runs, lambda r, n=name: r["per_class"][n]["ap"]) for name in (*ORDER, "nodule")
    ]
    found.append(figure("training seconds", runs, lambda r: r["training_seconds"], "<= 1200"))
    found.append(figure("laterality rules induced (of 2)", runs, laterality_rules, ">= 2"))
    found.append(figure("violated/fired, all rules", runs, lambda r: rate(r, "violated", "fired")))
    found.append(figure("fired/true, all rules", runs, lambda r: rate(r, "fired", "fired_true")))
    return found


def laterality_rules(run: dict[str, Any]) -> float:
    """How many neighbours of the order are induced: left_of(X, Y) from the class of X and the class of Y, or more general."""
    general = {name: {name, "anatomical_structure", *(["lung"] if name.endswith("lung") else [])} for name in ORDER}
    rules = {r["rule"].split(" :: ")[-1] for r in run["induced"]}
    pairs = list(itertools.pairwise(ORDER))
    spellings = [
        {f"left_of(X, Y) :- {a}(X), {b}(Y)." for a in general[x] for b in general[y] if a == x or b == y}
        for x, y in pairs
    ]
    return float(sum(bool(rules & wanted) for wanted in spellings))
