"""`neurosym explain` and the repaired scenes, on a detector that has hardly been trained and so breaks every rule."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageColor, ImageDraw
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.constraints import compile_constraints, groundings
from neurosym.constraints.explain import explain_scene
from neurosym.constraints.explanation import SceneExplanation
from neurosym.constraints.repair import RepairPlan
from neurosym.data.masks import encode_mask
from neurosym.errors import ConstraintError, DataError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.learning.evaluate import above
from neurosym.learning.train import train
from neurosym.loop import Stages
from neurosym.records import Box, Detection, Scene
from neurosym.scenes import load_scenes
from neurosym.scenes.draw import save_picture
from neurosym.scenes.explanation_picture import GREY, MARGIN, PANEL, explanation_picture, violation_colour
from tests.learning.test_train import config_of

ROOT = Path(__file__).parents[1]
THRESHOLD = "0.1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    small = ("train.steps=1", "model.score_threshold=0.01", "model.max_detections=8", "data.test.count=2")
    return train(config_of(folder, *small), folder / "run").path


def invoke(*words: object) -> str:
    result = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_image_of_a_split_is_explained_as_table_json_and_picture(run: Path) -> None:
    words = ("explain", "phantom-000200", "--run", run, "--threshold", THRESHOLD)
    value = json.loads(invoke(*words, "--json"))
    found = SceneExplanation.from_dict(value)
    scenes, _ = load_scenes(run / "scenes-test.json")
    constraints = compile_constraints(Stages.of(run).run.knowledge, Stages.of(run).run.names)
    expected = [g for g in groundings(constraints, above(scenes[0], float(THRESHOLD))) if not g.holds]
    assert len(expected) > 0
    assert sum(use.violated for use in found.uses) == len(expected)
    assert value["picture"] == str(run / "explanations/test/phantom-000200.png")
    with Image.open(value["picture"]) as picture:
        assert picture.width == 2 * PANEL + 3 * MARGIN  # after repair stands beside
    table = invoke(*words)
    assert found.summary in table
    first = found.violations[0]
    assert all(
        part in " ".join(table.split()) for part in (first.rule.id, f"#{first.detections[0].index} ", "repair: ")
    )


def test_an_image_file_is_detected_on_now_and_explained_alike(run: Path, tmp_path: Path) -> None:
    invoke("predict", run)
    film = run / "films/test/phantom-000201.png"
    by_file = json.loads(
        invoke("explain", film, "--run", run, "--threshold", THRESHOLD, "--json", "--out", tmp_path / "a.png")
    )
    by_id = json.loads(
        invoke("explain", film.stem, "--run", run, "--threshold", THRESHOLD, "--json", "--out", tmp_path / "b.png")
    )
    assert [b["message"] for b in by_file["violations"]] == [b["message"] for b in by_id["violations"]]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_training_learned_of_the_rules_is_told(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    entry = {"rule": "one_left_lung", "text": "", "file": "", "line": 1, "axiom": "", "stated": 1.0, "learned": 0.41}
    entry |= {"fired": 16.0, "violated": 9.0, "verdict": "down-weighted"}
    (copy / "confidences.json").write_text(json.dumps([entry]))
    value = json.loads(invoke("explain", "phantom-000200", "--run", copy, "--threshold", THRESHOLD, "--json"))
    learned = {u["rule"]["id"]: u["rule"]["learned"] for u in value["uses"]}
    assert learned["one_left_lung"] == 0.41
    assert learned["one_heart"] is None


def test_a_scene_without_detections_is_told_plainly(run: Path) -> None:
    words = ("explain", "phantom-000200", "--run", run, "--threshold", "1")
    assert "no detection scores ≥ 1 on phantom-000200; no rule fires" in invoke(*words)
    value = json.loads(invoke(*words, "--json"))
    assert (value["rules_fired"], value["violations"], value["changes"]) == (0, [], [])
    assert Path(value["picture"]).is_file()


def test_an_unknown_image_names_the_nearest_one(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the test split has no image 'phantom-00200'; did you mean 'phantom-000200'"):
        Stages.of(run).explain("phantom-00200")
    with pytest.raises(DataError, match=r"film\.png: image not found; name an image file or an image's id"):
        Stages.of(run).explain(str(tmp_path / "film.png"))
    with pytest.raises(DataError, match=r"a picture cannot be written as '\.svg'; use \.png"):
        Stages.of(run).explain("phantom-000200", tmp_path / "x.svg")


def test_a_run_without_rules_has_nothing_to_explain(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config |= {"knowledge": [str(ROOT / "ontologies/thorax.ttl")], "names": ["left_lung", "right_lung", "heart"]}
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConstraintError, match="no rule says anything about this detector's classes"):
        Stages.of(copy).explain("phantom-000200")


# --- repair of a whole split --------------------------------------------------------------------------------------------


def test_repaired_predictions_break_no_hard_rule_and_are_scored_beside_the_raw_ones(run: Path) -> None:
    raw = json.loads(invoke("evaluate", run, "--threshold", THRESHOLD, "--overlays", "0", "--json"))
    mended = json.loads(invoke("evaluate", run, "--threshold", THRESHOLD, "--overlays", "1", "--json", "--repair"))
    assert raw["hard_violations"] > 0
    assert (mended["hard_violations"], mended["repair"]["unsatisfied"]) == (0, {})
    assert mended["repair"]["removed"] > 0
    assert json.loads((run / "evaluation-test-repaired.json").read_text())["hard_violations"] == 0
    assert json.loads((run / "evaluation-test.json").read_text())["hard_violations"] == raw["hard_violations"]
    assert [p.name for p in (run / "overlays/test-repaired").iterdir()] == ["phantom-000200.png"]
    stages = Stages.of(run)
    constraints = compile_constraints(stages.run.knowledge, stages.run.names)
    for scene in load_scenes(run / "scenes-test-repaired.json")[0]:
        broken = {g.rule for g in groundings(constraints, above(scene, float(THRESHOLD))) if not g.holds}
        assert not [constraints.rules[r] for r in broken if constraints.rules[r].weight is None]


def test_predicting_with_repair_writes_both_and_a_summary_of_each_change(run: Path) -> None:
    value = json.loads(invoke("predict", run, "--repair", "--threshold", "0.3", "--json"))
    raw, mended = (load_scenes(run / f"scenes-test{suffix}.json")[0] for suffix in ("", "-repaired"))
    told = json.loads((run / "repairs-test.json").read_text())
    assert value["repair"]["removed"] == len(told["changes"]) > 0
    for before, after in zip(raw, mended, strict=True):
        gone = {c["detection"] for c in told["changes"] if c["image"] == before.image_id}
        assert after.detections == tuple(d for i, d in enumerate(before.detections) if i not in gone)
        assert all(before.detections[i].score >= 0.3 for i in gone)
    for change in told["changes"]:
        assert change["rules"]
        assert all(rule in change["message"] for rule in change["rules"])
    assert "detections removed and 0 relabelled" in invoke("predict", run, "--repair", "--threshold", "0.3")


# --- pictures -----------------------------------------------------------------------------------------------------------

BLACK = np.zeros((300, 300), np.uint8)
TOP = MARGIN + 26
"""Where the first film begins on the sheet; its scale is 2."""


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Knowledge:
    path = tmp_path_factory.mktemp("rules") / "order.rules"
    path.write_text("left_of(R, H) :- right_lung(R), heart(H).\nlarger_than(L, H) :- lung(L), heart(H).\n")
    return load_knowledge([ROOT / "ontologies/thorax.ttl", path])


def scene_of(heart: float, width: float = 60.0) -> Scene:
    found = (
        Detection("right_lung", Box(30, 40, 110, 220), 0.98),
        Detection("heart", Box(heart, 120, heart + width, 180), 0.93),
        Detection("left_lung", Box(200, 40, 280, 220), 0.97),
    )
    return Scene("film", 300, 300, found)


def drawn(scene: Scene, knowledge: Knowledge, repair: bool = False) -> tuple[np.ndarray, SceneExplanation]:
    plan = RepairPlan(knowledge, ("left_lung", "right_lung", "heart")) if repair else None
    constraints = compile_constraints(knowledge, ("left_lung", "right_lung", "heart"))
    found = explain_scene(scene, knowledge, constraints=constraints, plan=plan)
    return np.asarray(explanation_picture(BLACK, scene, found)), found


def sides(box: Box, left: int = MARGIN) -> Iterator[tuple[int, int]]:
    """Pixels (row, column) of the sheet in the middle of the lower halves of a box's left and right side, and at its foot."""
    x1, y1, x2, y2 = (round(2 * v) for v in box.xyxy)
    yield TOP + y1 + 3 * (y2 - y1) // 4, left + x1
    yield TOP + y1 + 3 * (y2 - y1) // 4, left + x2
    yield TOP + y2, left + (x1 + 3 * x2) // 4


def is_colour(pixel: np.ndarray, colour: str) -> bool:
    return tuple(int(v) for v in pixel) == ImageColor.getrgb(colour)


def test_the_boxes_of_a_violation_have_its_colour_and_the_others_are_grey(order: Knowledge) -> None:
    scene = scene_of(heart=20)  # left of the right lung's centre
    picture, found = drawn(scene, order)
    assert [[d.name for d in b.detections] for b in found.violations] == [["right_lung", "heart"]]
    lung, heart, other = (d.box for d in scene.detections)
    for box, colour in ((lung, violation_colour(0)), (heart, violation_colour(0)), (other, GREY)):
        assert all(is_colour(picture[at], colour) for at in sides(box)), (box, colour)
    right, nothing = drawn(scene_of(heart=130), order)
    assert nothing.violations == ()
    assert all(is_colour(right[at], GREY) for d in scene_of(heart=130).detections for at in sides(d.box))


def test_a_detection_in_two_violations_carries_both_colours_one_within_the_other(order: Knowledge) -> None:
    scene = scene_of(heart=0, width=260)  # left of centre no more, but larger than both lungs
    picture, found = drawn(scene, order)
    assert len(found.violations) == 2
    row, column = list(sides(scene.detections[1].box))[2]
    assert is_colour(picture[row, column], violation_colour(0))
    assert is_colour(picture[row - 4, column], violation_colour(1))


def test_every_violation_adds_its_caption_below_the_film(order: Knowledge) -> None:
    heights = [drawn(scene, order)[0].shape[0] for scene in (scene_of(130), scene_of(20), scene_of(0, 260))]
    assert heights == sorted(set(heights))
    picture, _ = drawn(scene_of(20), order)
    below = picture[TOP + 600 :]
    assert (below == np.array(ImageColor.getrgb(violation_colour(0)))).all(-1).any()  # the number's disc
    clean = drawn(scene_of(130), order)[0][TOP + 600 :]
    assert not (clean == np.array(ImageColor.getrgb(violation_colour(0)))).all(-1).any()


def test_a_crowded_scene_shows_every_broken_rule_and_says_what_is_left_out(
    order: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(20)
    hearts = tuple(Detection("heart", Box(10 + x, 120, 40 + x, 150), 0.9) for x in range(0, 20, 2))
    big = Detection("heart", Box(0, 0, 300, 300), 0.8)  # the only one that is larger than the lungs
    crowded = Scene("film", 300, 300, (*scene.detections, *hearts, big))
    told: list[str] = []
    write = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda pen, at, words, **k: (told.append(words), write(pen, at, words, **k))
    )
    _, found = drawn(crowded, order)
    assert len(found.violations) == 13
    numbers = sorted({int(words) for words in told if words.isdigit()})
    assert {found.violations[n - 1].rule.text for n in numbers} == {b.rule.text for b in found.violations}
    assert len(numbers) == 8
    assert "and 5 more places, which are not drawn" in told


def test_the_repaired_film_stands_beside_with_what_went_crossed_out(order: Knowledge) -> None:
    scene = scene_of(heart=20)
    picture, found = drawn(scene, order, repair=True)
    [gone] = found.changes
    assert (gone.detection.name, gone.after) == ("heart", None)
    left = 2 * MARGIN + PANEL
    x1, y1, x2, y2 = (round(2 * v) for v in scene.detections[1].box.xyxy)
    crossing = picture[TOP + (y1 + y2) // 2, left + (x1 + x2) // 2]
    assert is_colour(crossing, "#f94144")
    lung, _, other = (d.box for d in scene.detections)
    assert all(is_colour(picture[at], GREY) for box in (lung, other) for at in sides(box, left))


def test_masks_are_outlined_and_nothing_is_drawn_beside_the_film(order: Knowledge) -> None:
    mask = np.zeros((300, 300), np.uint8)
    mask[100:200, 40:100] = 1
    scene = scene_of(heart=20)
    shown = Scene("film", 300, 300, (Detection("right_lung", Box(30, 40, 110, 220), 0.98, encode_mask(mask)),))
    picture, _ = drawn(shown, order)
    assert is_colour(picture[TOP + 2 * 150, MARGIN + 2 * 40], GREY)
    assert is_colour(picture[TOP + 2 * 150, MARGIN + 2 * 70], "#000000")
    outside = Scene("film", 300, 300, (Detection("heart", Box(-40, 290, 340, 330), 0.9), *scene.detections))
    assert not drawn(outside, order)[0][TOP : TOP + 600, :MARGIN].std((0, 1)).any()


def test_a_picture_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep/x.jpg"
    for colour in ("red", "blue"):
        save_picture(Image.new("RGB", (4, 4), colour), path)
    with Image.open(path) as found:
        red, _, blue = np.asarray(found)[0, 0]
    assert blue > red
    assert [p.name for p in path.parent.iterdir()] == ["x.jpg"]
