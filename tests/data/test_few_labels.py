from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from neurosym.data.config import CocoData, open_split
from neurosym.errors import ConfigError
from neurosym.knowledge import Knowledge

Write = Callable[..., tuple[Path, Path]]


def data_of(write: Write, **few: int) -> CocoData:
    annotations, images = write(8)
    return CocoData.model_validate(
        {"format": "coco", "few": few, "train": {"annotations": str(annotations), "images": str(images)}}
    )


def ids(data: CocoData, split: str, knowledge: Knowledge) -> list[str]:
    images = open_split(data, split, Path(), knowledge)  # type: ignore[arg-type]
    return [images[i].image_id for i in range(len(images))]


def test_few_images_keep_their_labels_and_the_rest_are_the_unlabelled_ones(
    coco_folder: Write, thorax: Knowledge
) -> None:
    data = data_of(coco_folder, count=3, seed=1)
    labelled, rest = ids(data, "train", thorax), ids(data, "unlabelled", thorax)
    assert len(labelled) == 3
    assert sorted(labelled + rest) == [f"phantom-{i:06d}" for i in range(8)]


def test_another_seed_labels_other_images_and_the_same_seed_the_same(coco_folder: Write, thorax: Knowledge) -> None:
    drawn = {tuple(ids(data_of(coco_folder, count=3, seed=s), "train", thorax)) for s in (1, 1, 2, 3)}
    assert 2 <= len(drawn) <= 3


def test_more_labels_than_there_are_images_is_an_error_that_says_both(coco_folder: Write, thorax: Knowledge) -> None:
    with pytest.raises(ConfigError, match=r"data\.few\.count: 8 of 8 training images leave none without labels"):
        ids(data_of(coco_folder, count=8), "train", thorax)
