"""A COCO file with all that shards have to keep, and what its films are compared by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from neurosym.data.masks import encode_mask
from neurosym.records import Sample

Folder = Callable[..., tuple[Path, Path]]
FILMS, SIZE = 7, 30_000
"""With films of 128 px, two to three a shard."""


def rich(data: dict) -> None:
    """Masks, a crowd, a stroke, what is known of a film, a polygon, a box to clip, a category without films."""
    square = np.zeros((128, 128))
    square[20:50, 10:60] = 1
    first, second, third, fourth, *_ = data["annotations"]
    first |= {"segmentation": encode_mask(square), "area": 3.0, "note": "of no use"}
    second |= {"iscrowd": 1}
    third |= {"drawn": "scribble", "segmentation": encode_mask(square)}
    fourth |= {"segmentation": [[1.5, 2, 40, 2, 40, 60.25]], "bbox": [-0.5, 1.1, 40.3, 60.7], "true_bbox": [0, 0, 9, 9]}
    data["images"][1]["supervision"] = {"complete": ["left_lung"], "absent": ["nodule"], "present": ["opacity"]}
    data["images"][2]["supervision"] = {"tags": [["nodule", "right_lung/upper_zone"]]}
    data["categories"].append({"id": 90, "name": "pneumothorax"})


def bare(sample: Sample) -> Sample:
    """All of a sample but its pixels and its path, of which shards have none."""
    return replace(sample, image=np.zeros(0), path="")


def same(found: Sequence[Sample], wanted: Sequence[Sample]) -> None:
    assert len(found) == len(wanted) > 0
    for i in range(len(wanted)):
        assert np.array_equal(found[i].image, wanted[i].image)
        assert repr(bare(found[i])) == repr(bare(wanted[i]))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
