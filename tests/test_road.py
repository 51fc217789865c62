"""The road scenes of experiments/road: generated data, rules over the labels of a box, and a run by the commands of films."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from neurosym.errors import ConfigError
from neurosym.learning.config import load_config
from neurosym.learning.train import train
from neurosym.loop import Stages

ROOT = Path(__file__).parents[1]
ROAD = ROOT / "experiments" / "road"
LIGHTS, COLOURS = {"TL", "OthTL"}, {"Red", "Amber", "Green"}


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROAD))
    import make

    yield make
    for name in ("make", "scenes"):
        sys.modules.pop(name)


def objects(file: Path) -> list[tuple[int, tuple[int, ...], frozenset[str]]]:
    """Each object of a COCO file: its image, its box and all labels that are annotated there."""
    data = json.loads(file.read_text())
    names = {c["id"]: c["name"] for c in data["categories"]}
    found: dict[tuple[int, tuple[int, ...]], set[str]] = {}
    for a in data["annotations"]:
        found.setdefault((a["image_id"], tuple(a["bbox"])), set()).add(names[a["category_id"]])
    return [(image, box, frozenset(labels)) for (image, box), labels in found.items()]


def test_the_same_seed_draws_the_same_scenes(make: ModuleType, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        make.write(tmp_path / folder, sizes={"train": 4})
    one, two = (sorted(p.read_bytes() for p in (tmp_path / f).rglob("*.*")) for f in ("one", "two"))
    assert one == two
    assert len(set(one)) == len(one)


def test_every_object_is_something_somewhere_and_shows_it_once(make: ModuleType, tmp_path: Path) -> None:
    make.write(tmp_path, sizes={"train": 40})
    agents, places = set(make.LABELS[:10]), set(make.LABELS[29:])
    found = objects(tmp_path / "train.json")
    assert len(found) > 120
    for _, _, labels in found:
        assert len(labels & agents) == 1
        assert len(labels & places) == (0 if labels & LIGHTS else 1)
        assert bool(labels & COLOURS) == bool(labels & LIGHTS)
    for image, (x, y, w, h), _ in found:
        for other, (u, v, s, t), _ in found:
            if image == other and (x, y) != (u, v):
                assert x + w <= u or u + s <= x or y + h <= v or v + t <= y, "no two objects overlap"


def test_no_object_breaks_a_rule_that_was_given(make: ModuleType, tmp_path: Path) -> None:
    rules = tmp_path / "own.rules"
    rules.write_text(":- car(X), stops(X).\n" + r":- pedestrian(X), \+ left_pavement(X), \+ right_pavement(X)." + "\n")
    make.write(tmp_path / "all", sizes={"train": 30})
    make.write(tmp_path / "some", [rules], sizes={"train": 30})
    before, left = (objects(tmp_path / f / "train.json") for f in ("all", "some"))

    def breaks(labels: frozenset[str]) -> bool:
        return {"Car", "Stop"} <= labels or ("Ped" in labels and not labels & {"LftPav", "RhtPav"})

    assert left == [o for o in before if not breaks(o[2])]
    assert len(left) < len(before)


def test_a_run_of_several_labels_goes_through_the_commands_of_films(make: ModuleType, tmp_path: Path) -> None:
    make.write(tmp_path / "data", sizes={"train": 4, "test": 4})
    places = [
        f"data.{split}={{annotations: {tmp_path}/data/{split}.json, images: {tmp_path}/data/{split}}}"
        for split in ("train", "test")
    ]
    small = ("train.steps=2", "model.score_threshold=0.01", "model.max_detections=5", "data.val=null")
    run = tmp_path / "run"
    train(load_config(ROAD / "config.yaml", (*places, *small)), run)
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert last["loss_constraint"] > 0
    stages = Stages.of(run, threshold=0.02)
    result = stages.evaluate(overlays=0)
    scenes = stages.scenes()
    boxes = {(s.image_id, d.box) for s in scenes for d in s.detections}
    assert 0 < len(boxes) <= 5 * 4 < sum(len(s.detections) for s in scenes), "several labels share a box"
    assert 0 <= result["broken_objects"] <= 1
    true = [(f.relation, f.args[0]) for f in stages.true_facts().facts if len(f.args) == 1]
    agents = {entity for relation, entity in true if relation == "agent"}
    assert len(agents) == len(objects(tmp_path / "data/test.json"))
    assert {e for r, e in true if r == "location"} <= agents
    (run / "scenes-test.json").unlink()
    for stage in (
        stages.repair,
        lambda: stages.evaluate(repair=True),
        lambda: stages.explain("test-0000"),
        lambda: stages.quality(tmp_path / "q.html"),
        lambda: stages.quality(tmp_path / "q.html", suggest=tmp_path / "s.json"),
    ):
        with pytest.raises(ConfigError, match="is of objects of one class; the boxes of this run have several labels"):
            stage()
    assert not (run / "scenes-test.json").exists(), "nothing was detected only to be refused"
