"""`neurosym data quality` on runs that have hardly been trained: what is ranked, written and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor
from rich.console import Console
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.cli import data as data_cli
from neurosym.data.coco import load_coco
from neurosym.data.degrade import degradation
from neurosym.data.degrade_files import degrade_file
from neurosym.errors import ConfigError, DataError, TrainingError
from neurosym.learning.annotation_estimate import AnnotationQuality, QualityParts
from neurosym.learning.annotation_truth import QualityBin, QualityScores
from neurosym.learning.runfolder import open_run
from neurosym.learning.train import train
from neurosym.records import Box, Detection, Sample, Scene
from neurosym.review.quality_page import write_quality_page
from neurosym.review.suggestions import write_suggestions
from neurosym.scenes.quality_picture import ANNOTATED, PREDICTED, SUGGESTED, crop_around, quality_picture
from tests.learning.test_annotation_quality import NOISY, SMALL
from tests.learning.test_train import config_of
from tests.review.test_report import Page


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    settings = (*SMALL, NOISY, "train.steps=3", "model.inexact={posterior: true, start: 2}", "constraints.weight=0.5")
    return train(config_of(folder, *settings), folder / "run").path


def invoke(*words: object) -> str:
    result = CliRunner().invoke(app, ["data", "quality", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_worst_come_first_and_all_are_written(run: Path, tmp_path: Path) -> None:
    told = json.loads(invoke(run, "--top", 5, "--suggest", tmp_path / "s.json", "--json"))
    written = json.loads((run / "quality-train.json").read_text())
    estimates = [q["estimate"] for q in written["ranked"]]
    assert estimates == sorted(estimates)
    assert len(estimates) == told["annotations"] == told["scores"]["annotations"] > 5
    assert told["worst"] == written["ranked"][:5]
    assert (told["split"], told["checkpoint"]) == ("train", "step-000003")
    page = (run / "quality-train.html").read_text()
    assert told["report"] == str(run / "quality-train.html")
    assert page.count("data:image/jpeg;base64,") == 5
    shown = invoke(run, "--top", 2)  # of the predictions that are there now
    assert "the worst 2 of" in shown
    assert "against the truth: calibration error" in shown


def test_suggested_boxes_are_a_coco_file_that_keeps_the_annotated_ones(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    told = json.loads(invoke(run, "--suggest", path, "--json"))
    opened = open_run(run)
    samples, ranked = opened.images("train"), json.loads((run / "quality-train.json").read_text())["ranked"]
    shown = {q["image_id"]: {} for q in ranked}  # type: ignore[var-annotated]
    for q in ranked:
        shown[q["image_id"]][q["index"]] = q
    images = load_coco(path, run / "films/train", opened.knowledge)
    entries = iter(json.loads(path.read_text())["annotations"])
    changed = 0
    for sample, entry in zip((samples[i] for i in range(len(samples))), images.entries, strict=True):
        assert entry.image_id == sample.image_id
        of_image = [shown[sample.image_id][i] for i in sorted(shown[sample.image_id])]
        for q, suggested in zip(of_image, entry.annotations, strict=True):
            raw, own = next(entries), sample.annotations[q["index"]]
            assert suggested.name == q["name"] == own.name
            assert suggested.box.xyxy == pytest.approx(q["suggested"], abs=0.011)
            x, y, w, h = raw["original_bbox"]
            assert own.box.xyxy == pytest.approx((x, y, x + w, y + h), abs=0.011)
            assert raw["quality"] == q["estimate"]
            changed += q["suggested"] != q["box"]
    assert told["changed"] == changed > 0


def test_another_annotation_file_is_judged_and_scored_if_its_truth_is_in_it(
    run: Path, coco_folder: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    source, images = coco_folder(2)
    degrade_file(source, tmp_path / "noisy.json", degradation("uniform", 0.4, 0))
    words = ("--images", images, "--out", tmp_path / "deep/page.html", "--json")
    noisy = json.loads(invoke(run, "--annotations", tmp_path / "noisy.json", *words))
    assert noisy["scores"]["annotated_iou"] < 0.8
    assert (tmp_path / "deep/page.html").is_file()
    assert (run / "quality-file-noisy.json").is_file()
    clean = json.loads(invoke(run, "--annotations", source, *words))
    assert clean["scores"] is None
    assert clean["annotations"] == noisy["annotations"]


def test_what_cannot_be_judged_is_told_with_its_cure(run: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not a run folder; name a folder that `neurosym train` has written"):
        invoke(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="unknown split 'trian'; did you mean 'train'"):
        invoke(run, "--split", "trian")
    with pytest.raises(ConfigError, match="--annotations and --images belong together"):
        invoke(run, "--annotations", tmp_path / "a.json")
    (tmp_path / "bare").mkdir()
    text = (run / "config.yaml").read_text()
    assert "posterior: true" in text
    (tmp_path / "bare/config.yaml").write_text(text.replace("posterior: true", "posterior: false"))
    with pytest.raises(ConfigError, match="--suggest: the run refines no boxes; train with model.inexact.posterior"):
        invoke(tmp_path / "bare", "--suggest", tmp_path / "s.json")


def test_annotations_of_no_class_of_the_run_are_an_error(
    run: Path, coco_folder: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    def only_effusions(data: dict) -> None:  # type: ignore[type-arg]
        [effusion] = [c["id"] for c in data["categories"] if c["name"] == "pleural_effusion"]
        data["categories"] = [c for c in data["categories"] if c["id"] == effusion]
        data["annotations"] = [a | {"category_id": effusion} for a in data["annotations"][:1]]

    source, images = coco_folder(1, only_effusions)
    source = source.rename(tmp_path / "effusions.json")
    expected = (
        r"effusions\.json: nothing is annotated that the run learns \(left_lung, right_lung, heart, ground_glass_opacity\); "
        r"annotated are 1 of pleural_effusion; give a file of its classes"
    )
    with pytest.raises(DataError, match=expected):
        invoke(run, "--annotations", source, "--images", images)
    assert not (run / "scenes-file-effusions.json").exists(), "nothing is predicted in vain"


def test_categories_that_the_run_does_not_learn_are_left_out_and_counted(
    run: Path, coco_folder: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    def with_tubes(data: dict) -> None:  # type: ignore[type-arg]
        data["categories"].append({"id": 99, "name": "[tube]"})  # tied to no class
        first = data["annotations"][0]
        tubes = [first | {"id": 1000 + n, "category_id": 99, "bbox": [500, 0, 10, 10]} for n in range(3)]
        effusion = first | {"id": 2000, "category_id": 7}  # tied to a class, but not learned
        data["annotations"] = [tubes[0], *data["annotations"], *tubes[1:], effusion]

    words = ("--out", tmp_path / "page.html", "--top", 1000)
    source, images = coco_folder(2, with_tubes)
    whole = len(json.loads(source.read_text())["annotations"])
    given = ("--annotations", source, "--images", images, *words)
    told = json.loads(invoke(run, *given, "--json"))
    assert told["left_out"].pop("[tube]") == 3
    assert set(told["left_out"]) <= {"pleural_effusion", "nodule", "consolidation"}
    assert told["left_out"]["pleural_effusion"] >= 1
    assert "[tube] (3)" in invoke(run, *given)
    clean, _ = coco_folder(2)
    only = json.loads(invoke(run, "--annotations", clean, "--images", images, *words, "--json"))
    assert only["worst"] == told["worst"]
    assert told["annotations"] + sum(told["left_out"].values()) + 3 == whole
    assert json.loads(invoke(run, "--json"))["left_out"] == {}


def test_what_is_truly_of_a_category_without_a_class_counts_as_a_wrong_class(
    run: Path, coco_folder: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    def one_heart_was_a_tube(data: dict) -> None:  # type: ignore[type-arg]
        data["categories"].append({"id": 99, "name": "tube"})

    source, images = coco_folder(1, one_heart_was_a_tube)
    noisy = tmp_path / "noisy.json"
    degrade_file(source, noisy, degradation("uniform", 0.0))
    value = json.loads(noisy.read_text())
    wrong = next(a for a in value["annotations"] if a["category_id"] == 3)
    wrong["true_category_id"] = 99
    noisy.write_text(json.dumps(value))
    told = json.loads(invoke(run, "--annotations", noisy, "--images", images, "--out", tmp_path / "q.html", "--json"))
    true = [b["truth"] * b["count"] for b in told["scores"]["bins"]]
    assert sum(true) == pytest.approx(told["annotations"] - 1)  # boxes are exact, one class is not


@pytest.mark.parametrize("width", [80, 120])
def test_reasons_take_what_is_left_of_the_terminal_and_no_word_of_them_is_cut(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_cli, "output", Console(width=width))
    image, reason = "a_study_of_the_[chest]_" + "0123456789" * 5, "rule `lungs_apart` violated: they must not overlap"
    one = {"estimate": 0.5, "image_id": image, "index": 12, "name": "ground_glass_opacity", "reasons": [reason] * 4}
    data_cli._show_worst({"worst": [one, one | {"reasons": []}], "annotations": 7})
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= width for line in lines)
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in lines if "│" in line]
    first = rows[: next(i for i, row in enumerate(rows) if row[0] == "2")]
    assert " ".join(row[3] for row in first).split() == ("; ".join([reason] * 4)).split()
    assert "".join(row[2] for row in first).replace(" ", "") == f"ground_glass_opacity{image},no.12"
    assert max(len(row[3]) for row in rows) > 0.3 * width
    assert rows[len(first)][3] == "nothing"


# --- page, pictures, suggestions ----------------------------------------------------------------------------------------

EVIL = "<script>alert(1)</script>"
QUALITY = AnnotationQuality(
    EVIL,
    0,
    "<b>heart</b>",
    Box(40.0, 40.0, 60.0, 60.0),
    Box(50.0, 40.0, 70.0, 60.0),
    0.2,
    QualityParts(0.1, 0.3, 0.4, 0.5, 0.2),
    Detection("<b>heart</b>", Box(54.0, 50.0, 74.0, 70.0), 0.6),
    ("rule `<i>r</i>` violated: it lies wrong",),
)
BLACK = np.zeros((128, 128), np.uint8)


def test_the_page_is_one_file_without_scripts_or_links_and_escapes_every_name(tmp_path: Path) -> None:
    scores = QualityScores(1, 0.1, None, 0.5, 0.6, (QualityBin(1, 0.2, 0.3),))
    scene, sample = Scene(EVIL, 128, 128), Sample(EVIL, BLACK)
    write_quality_page(tmp_path / "q.html", "<b>T</b>", [QUALITY], lambda _: sample, {EVIL: scene}, 1, scores)
    text = (tmp_path / "q.html").read_text()
    page = Page(text)
    assert not [t for t, _ in page.tags if t in ("script", "link", "iframe", "a", "b", "i")]
    places = [a.get("src") or a.get("href") or "" for _, a in page.tags]
    assert all(p.startswith("data:image/jpeg;base64,") for p in places if p)
    assert not re.search(r"https?://|url\(|@import", text)
    assert all(a.get("alt") for t, a in page.tags if t == "img")
    assert "&lt;script&gt;" in text
    assert "rule `&lt;i&gt;r&lt;/i&gt;` violated" in text
    assert [p.name for p in tmp_path.iterdir()] == ["q.html"]


def test_the_boxes_of_a_picture_are_where_they_should_be() -> None:
    faint = Detection("nodule", Box(42.0, 62.0, 50.0, 72.0), 0.3)
    assert QUALITY.prediction is not None
    picture = quality_picture(BLACK, QUALITY, [QUALITY.prediction, faint])
    left, top, right, _ = crop_around([QUALITY.box, Box(50.0, 40.0, 74.0, 70.0)], 128, 128)
    scale = 320 / (right - left)
    pixels = np.asarray(picture).astype(int)

    def near(x: float, y: float) -> set[tuple[int, ...]]:
        column, row = round((x - left) * scale), round((y - top) * scale)
        around = pixels[row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3)
        return {tuple(p) for p in around.tolist()}

    colours = [ImageColor.getrgb(c) for c in (ANNOTATED, SUGGESTED, PREDICTED)]
    assert colours[0] in near(40, 50)
    assert colours[1] in near(70, 41)  # where a dash begins
    assert colours[2] in near(74, 66)
    assert not {*near(42, 70)} & {*colours}  # below the threshold


def test_a_crop_stays_within_the_image_and_is_never_empty() -> None:
    assert crop_around([Box(0.0, 0.0, 128.0, 128.0)], 128, 128) == (0, 0, 128, 128)
    left, top, right, bottom = crop_around([Box(127.5, 0.0, 128.0, 0.5)], 128, 128)
    assert (left, top, right, bottom) == (115, 0, 128, 13)


def test_file_names_are_told_from_the_folder_of_images_and_a_box_without_suggestion_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    scenes = [Scene("a_b", 9, 9, image_path=str(folder / "a/b.png")), Scene("c", 9, 9, image_path="/x/c.png")]
    kept = AnnotationQuality("c", 0, "heart", Box(1.0, 2.0, 4.0, 7.0), None, 0.9, QualityParts(0.9))
    path = tmp_path / "s.json"
    assert write_suggestions(path, [kept], [*scenes, Scene("d", 9, 9)], {"heart": "Heart"}, folder) == 0
    value = json.loads(path.read_text())
    assert [i["file_name"] for i in value["images"]] == ["a/b.png", "c.png", "d.png"]
    assert value["categories"] == [{"id": 1, "name": "Heart"}]
    [entry] = value["annotations"]
    assert entry["bbox"] == entry["original_bbox"] == [1.0, 2.0, 3.0, 5.0]
    assert entry["image_id"] == 2


def test_a_picture_of_a_colour_image_keeps_its_colour() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = 200
    small = AnnotationQuality("x", 0, "heart", Box(30.0, 30.0, 32.0, 32.0), None, 0.9, QualityParts(0.9))
    picture = quality_picture(image, small, [])
    assert isinstance(picture, Image.Image)
    assert picture.getpixel((1, 1)) == (200, 0, 0)
