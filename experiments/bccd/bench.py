"""Blood cells on real smears, through the same program with another ontology."""

from __future__ import annotations

from detection import seed_record
from harness import Figure, data_folder, figure

SEEDS = (0, 1, 2)
CELLS = ("red_blood_cell", "white_blood_cell", "platelet")


def figures() -> list[Figure]:
    """Every figure is of the test split, touched once a seed."""
    data_folder("bccd")
    runs = [seed_record("bccd", seed) for seed in SEEDS]
    found = [figure("AP, test", runs, lambda r: r["ap"]), figure("AP50, test", runs, lambda r: r["ap50"])]
    found += [figure(f"AP50 {name}, test", runs, lambda r, n=name: r["per_class"][n]["ap50"]) for name in CELLS]
    found.append(figure("training seconds", runs, lambda r: r["training_seconds"]))
    found.append(figure("rules induced", runs, lambda r: len(r["induced"])))
    return found
