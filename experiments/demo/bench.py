"""The demonstration over several seeds: knowledge against none, on the same 16 labelled films and as many steps.

The gain of the constraint term alone has no goal here: `violation only` is one arm of a later experiment. What is promised is
that the loop fits into five minutes on two cores.
"""

from __future__ import annotations

from typing import Any

from detection import rate, seed_record
from harness import Figure, figure

SEEDS = (0, 1, 2)


def figures() -> list[Figure]:
    """Paired by seed; the seconds count both arms with their evaluation, induction and report."""
    without = [seed_record("demo", seed, ("constraints.weight=0",), "unconstrained") for seed in SEEDS]
    within = [seed_record("demo", seed, (), "constrained") for seed in SEEDS]
    both = [
        {"commit": b["commit"], "seconds": a["seconds"] + b["seconds"], "pair": (a, b)}
        for a, b in zip(without, within, strict=True)
    ]

    def gain(record: dict[str, Any], key: str) -> float:
        before, after = record["pair"]
        return float(after[key] - before[key])

    found = [figure("seconds for the whole loop, both arms", both, lambda r: r["seconds"], "<= 300")]
    for key in ("ap50", "ap"):
        found.append(figure(f"{key.upper()} unconstrained", without, lambda r, k=key: r[k]))
        found.append(figure(f"{key.upper()} constrained", within, lambda r, k=key: r[k]))
        found.append(figure(f"{key.upper()} gain, paired", both, lambda r, k=key: gain(r, k)))
    for name, arm in (("unconstrained", without), ("constrained", within)):
        found.append(figure(f"violated/fired {name}", arm, lambda r: rate(r, "violated", "fired")))
        found.append(figure(f"fired/true {name}", arm, lambda r: rate(r, "fired", "fired_true")))
    return found
