"""What our SwAV training costs beside lightly's own of the same backbone and crops: time and memory of a step (`step.py`)."""

from __future__ import annotations

from functools import partial

from harness import HERE, Figure, figure, measured, record

SCRIPT = HERE / "ssl-speed" / "step.py"
SEEDS = (0, 1, 2)
BACKBONES = ("lite0", "resnet18")


def figures() -> list[Figure]:
    """Throughputs, and ratios to lightly's."""
    found = []
    for backbone in BACKBONES:
        runs = [
            record("ssl-speed", f"{backbone}-{seed}", settings(), partial(measured, SCRIPT, backbone, seed))
            for seed in SEEDS
        ]
        found += [
            figure(f"{backbone}: films/s, lightly's", runs, lambda r: r["lightly films/s"]),
            figure(f"{backbone}: films/s, ours", runs, lambda r: r["ours films/s"]),
            figure(f"{backbone}: throughput, ours / lightly's", runs, lambda r: r["throughput"], ">= 1.0"),
            figure(f"{backbone}: peak memory, ours / lightly's", runs, lambda r: r["memory"], "<= 1.15"),
        ]
    return found


def settings() -> dict[str, str]:
    """A measurement is of the script as it is."""
    return {"script": SCRIPT.read_text(encoding="utf-8")}
