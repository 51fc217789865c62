"""What ours costs beside torchvision's detectors, plain and trained on inexact boxes: time and memory of a step (`step.py`)."""

from __future__ import annotations

from functools import partial
from typing import Any

from harness import HERE, Figure, figure, measured, record

SCRIPT = HERE / "detector-cost" / "step.py"
SEEDS = (0, 1, 2)
KINDS = ("faster_rcnn", "cascade_rcnn", "retinanet", "mask_rcnn")
WHICH = {"plain": "", "inexact": " with inexact boxes", "scenes": " with inexact boxes and scenes"}


def figures() -> list[Figure]:
    """Ratios to torchvision's detector; goals are for training on inexact boxes, where torchvision has the detector."""
    found = []
    for kind in KINDS:
        peer = "torchvision's Faster R-CNN" if kind == "cascade_rcnn" else "torchvision's"
        found.append(figure(f"{kind}: a step of {peer}, ms", runs("time", kind), lambda r: r["torchvision"]))
        for what, name, goal in (("time", "step", "<= 1.15"), ("memory", "memory", "<= 1.2")):
            for which, words in WHICH.items():
                held = goal if which == "inexact" and kind != "cascade_rcnn" else ""
                ratio = f"{which} / torchvision"
                found.append(figure(f"{kind}: {name}{words} / {peer}", runs(what, kind), lambda r, k=ratio: r[k], held))
    return found


def runs(what: str, kind: str) -> list[dict[str, Any]]:
    """The records of all seeds."""
    return [
        record("detector-cost", f"{what}-{kind}-{seed}", settings(what), partial(measured, SCRIPT, what, kind, seed))
        for seed in SEEDS
    ]


def settings(what: str) -> dict[str, str]:
    """A measurement is of the script as it is."""
    return {"what": what, "script": SCRIPT.read_text(encoding="utf-8")}
