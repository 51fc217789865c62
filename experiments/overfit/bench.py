"""Every kind of model learns four films by heart, through the trainer and the evaluation that a user runs."""

from __future__ import annotations

from detection import seed_record
from harness import Figure, figure

SEEDS = (0, 1, 2)
KINDS = ("faster_rcnn", "cascade_rcnn", "retinanet", "mask_rcnn", "fpn_segmenter")
WITH_MASKS = ("mask_rcnn", "fpn_segmenter")


def figures() -> list[Figure]:
    """Average precision (COCO's, over ten thresholds) on the films that were trained on."""
    found = []
    for kind in KINDS:
        runs = [seed_record("overfit", seed, (f"model.kind={kind}",), key=kind) for seed in SEEDS]
        found.append(figure(f"{kind}: AP on its four training films", runs, lambda r: r["ap"], ">= 0.95"))
        if kind in WITH_MASKS:
            found.append(figure(f"{kind}: mask AP50 on its four training films", runs, lambda r: r["mask_ap50"]))
    return found
