"""The real data sets, read in place where they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from neurosym.data.config import class_names, data_folder, open_split
from neurosym.knowledge import load_knowledge
from neurosym.learning.config import load_config

ROOT = Path(__file__).parents[2]
COUNTS = {  # images of train, val, test, as the sets' own documentation counts them
    "jsrt-anatomy": ("jsrt", (155, 23, 69)),
    "covid-cxr": ("covid-cxr", (60, 12, 28)),
    "bccd": ("bccd", (205, 87, 72)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_shipped_config_opens_its_real_data_with_every_class_seen(name: str) -> None:
    folder, counts = COUNTS[name]
    if not (data_folder() / folder).is_dir():
        pytest.skip(f"no {folder} in {data_folder()}; set NEUROSYM_DATA")
    config = load_config(ROOT / f"experiments/{name}/config.yaml")
    knowledge = load_knowledge(config.base / p for p in config.knowledge)
    found = []
    for split in ("train", "val", "test"):
        images = open_split(config.data, split, config.base, knowledge)  # type: ignore[arg-type]
        found.append(len(images))
        names = class_names(config.data, images, knowledge)
        sample = images[0]
        assert {a.name for a in sample.annotations} <= set(names)
        if split == "train":
            seen = Counter(a.name for entry in images.entries for a in entry.annotations)  # type: ignore[attr-defined]
            assert set(seen) == set(names)
    assert tuple(found) == counts


def test_the_patients_left_is_the_images_right_on_every_jsrt_film(thorax) -> None:  # type: ignore[no-untyped-def]
    if not (data_folder() / "jsrt").is_dir():
        pytest.skip(f"no jsrt in {data_folder()}; set NEUROSYM_DATA")
    config = load_config(ROOT / "experiments/jsrt-anatomy/config.yaml")
    for split in ("train", "val", "test"):
        for entry in open_split(config.data, split, config.base, thorax).entries:  # type: ignore[arg-type, attr-defined]
            centre = {a.name: a.box.x1 + a.box.x2 for a in entry.annotations}
            assert centre["right_lung"] < centre["heart"] < centre["left_lung"]
