"""The review of a run folder through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.data.coco import load_coco
from neurosym.errors import ConfigError, ReviewError
from neurosym.review import save_candidates
from neurosym.review.origin import origin_of_annotations
from tests.review.reviews import ANNOTATIONS, candidate
from tests.review.test_confirmation import run_folder

NEAR = "near(X, Y) :- heart(X), lung(Y)."
ABOVE = "above(X, Y) :- nodule(X), heart(Y)."


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = run_folder(tmp_path / "run", "left_of(R, H) :- right_lung(R), heart(H).")
    save_candidates(folder / "candidates.json", [candidate(NEAR), candidate(ABOVE, 5, 5)], ANNOTATIONS)
    return folder


def told(*words: object) -> dict:
    result = CliRunner().invoke(app, ["review", *map(str, words), "--json"], catch_exceptions=False)
    return {"exit": result.exit_code, "value": json.loads(result.stdout)}


def judge(run: Path, rule: str, *words: str, reviewer: str = "Anna") -> dict:
    return told("verdict", run, "--rule", rule, "--reviewer", reviewer, *words)["value"]


def test_a_review_from_verdict_to_rule_file(run: Path, tmp_path: Path) -> None:
    judge(run, "1", "--accept")
    judge(run, "above(A, B) :- heart(B), nodule(A).", "--reject", "--reason", "by chance")
    listed = told("list", run)["value"]
    assert [(e["number"], e["verdicts"]["Anna"]["verdict"]) for e in listed] == [(1, "accept"), (2, "reject")]
    words = ("publish", run, "--to", tmp_path / "rules/x.rules")
    dry = told(*words, "--dry-run")
    assert not (tmp_path / "rules").exists()
    wet = told(*words)
    assert (dry["exit"], wet["exit"], dry["value"]["diff"]) == (0, 0, wet["value"]["diff"])
    assert NEAR in (tmp_path / "rules/x.rules").read_text()
    assert 'reason="by chance"' in (tmp_path / "rules/x.rejected.rules").read_text()
    check = CliRunner().invoke(app, ["check", "ontologies/thorax.ttl", *map(str, (tmp_path / "rules").glob("*.rules"))])
    assert check.exit_code == 0


def test_a_dry_run_prints_the_diff_alone_on_standard_output(run: Path, tmp_path: Path) -> None:
    judge(run, "1", "--accept")
    words = ["review", "publish", str(run), "--to", str(tmp_path / "x.rules"), "--dry-run"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.stdout.startswith("--- a/")
    assert "would write" in result.stderr


def test_a_verdict_sent_twice_counts_once_and_undo_takes_it_back(run: Path) -> None:
    first = judge(run, "1", "--accept", "--id", "click-1")
    assert judge(run, "1", "--accept", "--id", "click-1") == first
    judge(run, "1", "--undo")
    assert told("list", run)["value"][0]["verdicts"] == {}
    assert len((run / "reviews.jsonl").read_text().splitlines()) == 2


def test_the_agreement_of_reviewers_is_told_with_their_disputes(run: Path) -> None:
    judge(run, "1", "--accept")
    judge(run, "2", "--accept")
    judge(run, "1", "--accept", reviewer="Ben")
    judge(run, "2", "--reject", "--reason", "no", reviewer="Ben")
    [found] = told("agreement", run)["value"]
    assert (found["rules"], found["observed"], found["expected"], found["kappa"]) == (2, 0.5, 0.5, 0.0)
    assert found["disputes"][0]["Ben"] == {"verdict": "reject", "reason": "no"}
    result = CliRunner().invoke(app, ["review", "agreement", str(run)], catch_exceptions=False)
    assert "Ben reject: no" in result.stdout


def test_a_refused_rule_is_an_error_for_scripts_and_the_others_are_written(run: Path, tmp_path: Path) -> None:
    for number in "12":
        judge(run, number, "--accept")
    judge(run, "2", "--reject", "--reason", "no", reviewer="Ben")
    found = told("publish", run, "--to", tmp_path / "x.rules")
    assert (found["exit"], len(found["value"]["accepted"]), len(found["value"]["refused"])) == (1, 1, 1)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("3", "no candidate '3' among 2"),
        ("above(X, Y) :- nodule(X), lung(Y).", "did you mean '1 :: above"),
        ("induced_y", "did you mean 'induced_x'"),
    ],
)
def test_a_rule_that_is_no_candidate_is_answered_with_the_nearest(run: Path, rule: str, message: str) -> None:
    with pytest.raises(ReviewError, match=message):
        judge(run, rule, "--accept")


def test_an_edited_rule_is_in_words_of_the_ontology(run: Path) -> None:
    with pytest.raises(ReviewError, match=r"--edited: unknown .*'hart'; did you mean 'heart'\?"):
        judge(run, "1", "--accept", "--edited", "near(X, Y) :- hart(X), lung(Y).")
    assert told("list", run)["value"][0]["verdicts"] == {}
    assert judge(run, "1", "--accept", "--edited", "near(X, Y) :- heart(X), left_lung(Y).")["edited"]


@pytest.mark.parametrize("words", [(), ("--accept", "--later")])
def test_exactly_one_verdict_is_given(run: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="exactly one of --accept"):
        judge(run, "1", *words)


def test_the_images_are_listed_by_patient_where_the_data_names_one(tmp_path: Path, coco_folder, thorax) -> None:  # type: ignore[no-untyped-def]
    def name_patients(data: dict) -> None:
        for image, patient in zip(data["images"], ("p2", "p1", "p2"), strict=True):
            image["attributes"]["Patient ID"] = patient

    annotations, images = coco_folder(3, name_patients)
    split = {"annotations": str(annotations), "images": str(images)}
    folder = run_folder(tmp_path / "run", "", data={"format": "coco", "train": split, "test": split})
    from neurosym.learning.runfolder import open_run

    ids = [entry.image_id for entry in load_coco(annotations, images, thorax).entries]
    run = open_run(folder)
    origin = origin_of_annotations(run, "test", ids)
    assert origin["patients"] == {"p1": [ids[1]], "p2": sorted((ids[0], ids[2]))}
    assert "images" not in origin
    assert origin_of_annotations(run, "test", ["elsewhere"])["images"] == ["elsewhere"]
