"""The whole loop through the command line, on films small enough for seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.loop import Stages

ROOT = Path(__file__).parents[2]
CONFIG = f"""
name: tiny
threads: 1
knowledge: [{ROOT}/ontologies/thorax.ttl, {ROOT}/rules/thorax.rules]
data:
  format: phantom
  size: 128
  categories: [left_lung, right_lung, heart]
  train: {{start: 0, count: 8}}
  unlabelled: {{start: 100, count: 8}}
  test: {{start: 200, count: 12}}
model: {{image_size: 128, max_size: 128, proposals: 60, sampled_boxes: 32, head_features: 64, fpn_channels: 48}}
train: {{steps: 60, batch_size: 2, lr: 1.0e-3, warmup_steps: 5, ema: 0.9}}
constraints: {{weight: 0.3, warmup_steps: 20, unlabelled_batch: 1}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector trained until it sees lungs and hearts, then taken round the loop by the commands."""
    folder = tmp_path_factory.mktemp("loop")
    (folder / "config.yaml").write_text(CONFIG)
    out = folder / "run"
    for words in (
        ("train", folder / "config.yaml", "--out", out),
        ("evaluate", out, "--overlays", "2"),
        ("facts", out),
        ("induce", out),
        ("report", out),
    ):
        result = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    return out


def test_training_teaches_the_detector_the_anatomy(run: Path) -> None:
    scores = json.loads((run / "evaluation-test.json").read_text())
    assert scores["ap50"] > 0.5
    assert {r["rule"] for r in scores["rules"]} >= {"one_heart", "right_lung_left_of_heart"}


def test_the_laterality_order_is_among_the_rules_induced_from_predictions(run: Path) -> None:
    rules = (run / "candidates.rules").read_text()
    assert "left_of(X, Y) :- " in rules
    assert any(
        "left_of(X, Y) :- right_lung(X), " in line or "left_of(X, Y) :- heart(X), " in line
        for line in rules.splitlines()
    )


def test_every_stage_leaves_its_file_and_overlays_are_pictures(run: Path) -> None:
    for name in ("config.yaml", "log.jsonl", "constraints.json", "scenes-test.json", "facts-test.tsv", "report.html"):
        assert (run / name).stat().st_size > 0
    pictures = sorted((run / "overlays/test").glob("*.png"))
    assert len(pictures) == 2
    with Image.open(pictures[0]) as picture:
        assert picture.width > picture.height
    assert list((run / "tensorboard").iterdir())


def test_report_and_facts_need_no_new_prediction(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run / "scenes-test.json").stat().st_mtime_ns
    monkeypatch.setattr(Stages, "predict", None)
    assert CliRunner().invoke(app, ["report", str(run)], catch_exceptions=False).exit_code == 0
    assert (run / "scenes-test.json").stat().st_mtime_ns == before


def test_a_run_is_evaluated_on_any_coco_file(run: Path, coco_folder: Callable[..., tuple[Path, Path]]) -> None:
    annotations, images = coco_folder(3)
    words = ["evaluate", str(run), "--annotations", str(annotations), "--images", str(images), "--json"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert json.loads(result.stdout)["images"] == 3
    assert CliRunner().invoke(app, words[:4]).exit_code == 1


def test_evaluating_a_file_named_like_a_split_leaves_the_splits_results(
    run: Path, coco_folder: Callable[..., tuple[Path, Path]]
) -> None:
    annotations, images = coco_folder(2)
    named = annotations.rename(annotations.with_name("test.json"))
    before = (run / "scenes-test.json").read_bytes(), (run / "evaluation-test.json").read_bytes()
    words = ["evaluate", str(run), "--annotations", str(named), "--images", str(images)]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    assert before == ((run / "scenes-test.json").read_bytes(), (run / "evaluation-test.json").read_bytes())


def test_a_folder_of_new_films_is_detected_on(run: Path, coco_folder: Callable[..., tuple[Path, Path]]) -> None:
    _, images = coco_folder(2)
    result = CliRunner().invoke(app, ["predict", str(run), "--images", str(images), "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["images"] == 2
    assert (run / "scenes-folder-images.json").is_file()


def test_a_report_of_rules_from_another_checkpoint_is_refused(run: Path) -> None:
    path = run / "candidates.json"
    text = path.read_text()
    path.write_text(text.replace("step-000060", "step-000050"))
    result = CliRunner().invoke(app, ["report", str(run)])
    path.write_text(text)
    assert "the rules were induced with step-000050, the run is at step-000060" in str(result.exception)


def test_the_report_shows_only_an_evaluation_of_the_same_checkpoint_and_threshold(run: Path) -> None:
    def shown() -> bool:
        assert CliRunner().invoke(app, ["report", str(run)], catch_exceptions=False).exit_code == 0
        return "<h2>The detector</h2>" in (run / "report.html").read_text()

    path = run / "evaluation-test.json"
    text = path.read_text()
    assert shown()
    path.write_text(text.replace('"threshold": 0.5', '"threshold": 0.9'))
    assert not shown()
    path.write_text(text)


def test_what_the_run_was_taught_is_not_published_on_its_own_word(run: Path, tmp_path: Path) -> None:
    taught, other = "left_of(X, Y) :- right_lung(X), heart(Y).", "above(X, Y) :- nodule(X), heart(Y)."
    path = run / "candidates.json"
    before, value = path.read_text(), json.loads(path.read_text())
    first = value["candidates"][0]
    value["candidates"] = [first | {"rule": f"0.9 :: {rule}"} for rule in (taught, other)]
    path.write_text(json.dumps(value))
    for number in "12":
        words = ["review", "verdict", str(run), "--rule", number, "--accept", "--reviewer", "Anna"]
        assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    words = ["review", "publish", str(run), "--to", str(tmp_path / "x.rules"), "--json"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    path.write_text(before)
    (run / "reviews.jsonl").unlink()
    assert result.exit_code == 1
    [refused] = json.loads(result.stdout)["refused"]
    assert "run, which was trained with this rule: right_lung_left_of_heart" in refused
    assert "above(X, Y)" in (tmp_path / "x.rules").read_text()


def test_rules_are_induced_from_annotations_too_and_say_so(run: Path) -> None:
    result = CliRunner().invoke(
        app, ["induce", str(run), "--truth", "--max-atoms", "2", "--json"], catch_exceptions=False
    )
    value = json.loads(Path(json.loads(result.stdout)["candidates"]).read_text())
    assert (value["origin"]["facts"], len(value["origin"]["images"])) == ("annotations", 12)
    origin = json.loads((run / "candidates.json").read_text())["origin"]
    assert (origin["facts"], origin["split"], len(origin["images"])) == ("predictions", "test", 12)
    assert {rule["id"] for rule in origin["trained_with"]} >= {"one_heart", "right_lung_left_of_heart"}


def test_facts_of_the_annotations_are_certain(run: Path) -> None:
    result = CliRunner().invoke(app, ["facts", str(run), "--truth", "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["count"] > 100
    lines = (run / "true-facts-test.tsv").read_text().splitlines()[1:]
    assert {line.split("\t")[2] for line in lines} == {"1"}
