"""The assessment of a run folder through the command line, on phantom films; nothing is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.errors import InductionError, ReviewError
from neurosym.learning.runfolder import open_run
from neurosym.loop import Stages
from neurosym.review import load_candidates, save_candidates
from neurosym.review.origin import origin_of_annotations
from neurosym.review.run import RunReview
from neurosym.scenes import save_scenes
from tests.review.cohorts import found
from tests.review.reviews import ANNOTATIONS
from tests.review.test_confirmation import run_folder

FILMS = {"train": {"start": 0, "count": 10}, "val": {"start": 50, "count": 15}, "test": {"start": 90, "count": 20}}
KNOWN = "left_of(R, H) :- right_lung(R), heart(H)."


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model predicts what is annotated, with candidates of its predictions and of annotations."""
    data = {"format": "phantom", "size": 64, **FILMS}
    folder = run_folder(tmp_path_factory.mktemp("assess") / "run", f"{KNOWN} %! id=taught", data=data)
    for split in FILMS:
        stages = Stages.of(folder, split)
        save_scenes(stages.file("scenes", ".json"), stages.true_scenes(), "")
    words = ["induce", str(folder), "--max-atoms", "2", "--target", "left_of", "--target", "large_object"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    of = origin_of_annotations(open_run(folder), "test", [s.image_id for s in Stages.of(folder).true_scenes()])
    save_candidates(folder / "true-candidates.json", load_candidates(folder / "candidates.json")[0][:5], of)
    return folder


def told(*words: object) -> dict:
    result = CliRunner().invoke(app, ["review", "assess", *map(str, words), "--json"], catch_exceptions=False)
    return json.loads(result.stdout)


def test_candidates_of_predictions_are_confirmed_on_another_split_and_listed_with_their_standing(run: Path) -> None:
    value = told(run, "--resamples", 20)
    assert (value["confirmed_on"], value["file"]) == ("val", str(run / "assessments.json"))
    assert value["notes"][0] == "found on test (20 images), confirmed on predictions of val (15 images)"
    assert any("does not say whose all images are" in note for note in value["notes"])
    by_rule = {a["rule"]: a for a in value["assessments"]}
    known = next(a for rule, a in by_rule.items() if rule.endswith("left_of(X, Y) :- right_lung(X), heart(Y)."))
    assert (known["standing"], known["passes"], known["held"]) == ("known", False, 1.0)
    assert known["because"].endswith("x.rules:1")
    assert known["confirmation"]["body_size"] == 15
    assert {s["value"] for s in known["subgroups"]} == {"female", "male"}
    listed = CliRunner().invoke(app, ["review", "list", str(run), "--json"], catch_exceptions=False)
    assert {e["rule"]: e["standing"] for e in json.loads(listed.stdout)} == {
        r: a["standing"] for r, a in by_rule.items()
    }


def test_the_table_tells_standing_interval_and_notes(run: Path) -> None:
    result = CliRunner().invoke(app, ["review", "assess", str(run), "--top", "2"], catch_exceptions=False)
    for word in ("standing", "confirmed", "held"):
        assert word in result.stdout
    assert "found on test" in result.stderr
    assert "of 2 say something new" in result.stderr
    listed = CliRunner().invoke(app, ["review", "list", str(run)], catch_exceptions=False)
    assert "standing" in listed.stdout


def test_a_part_that_adds_nothing_is_told_of(run: Path, tmp_path: Path) -> None:
    """The right lung is left of the heart on each film, whatever else is on it."""
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    origin = load_candidates(folder / "candidates.json")[1]
    mixture = "left_of(X, Y) :- right_lung(X), heart(Y), left_lung(Z), ground_glass_opacity(W)."
    save_candidates(folder / "candidates.json", [found(mixture)], origin)
    [one] = told(folder, "--resamples", 0)["assessments"]
    assert [part["part"] for part in one["idle"]] == ["ground_glass_opacity(W)"]
    words = ["review", "assess", str(folder), "--resamples", "0"]
    shown = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    assert "adds" in shown


def test_what_the_learner_asked_for_is_kept_with_the_candidates(run: Path) -> None:
    origin = json.loads((run / "candidates.json").read_text())["origin"]
    assert origin["bounds"] == {"min_support": 5, "min_scenes": 3, "min_confidence": 0.8, "measure": "standard"}
    file = json.loads((run / "assessments.json").read_text())
    assert file["origin"] == origin
    assert file["made"]["confirmed_on"] == "val"


def test_candidates_of_annotations_are_confirmed_on_annotations(run: Path) -> None:
    value = told(run, "--truth", "--confirm", "train", "--resamples", 0)
    assert value["notes"][0] == "found on test (20 images), confirmed on annotations of train (10 images)"
    assert value["file"] == str(run / "true-assessments.json")
    assert {a["held"] for a in value["assessments"]} == {None}
    assert any("do not say what the learner asked for; taken is support 5" in note for note in value["notes"])


def test_the_split_that_they_were_found_on_confirms_nothing(run: Path) -> None:
    with pytest.raises(ReviewError, match="found on 'test': they cannot be confirmed on it"):
        told(run, "--confirm", "test")


def test_candidates_of_other_facts_are_refused_with_the_cure(run: Path, tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", KNOWN)
    with pytest.raises(InductionError, match="write it with `neurosym induce RUN`"):
        told(folder)
    save_candidates(folder / "candidates.json", [found("near(X, Y) :- heart(X), lung(Y).")], ANNOTATIONS)
    with pytest.raises(InductionError, match="not told to be of predictions of a split"):
        told(folder)


def test_assessments_of_other_candidates_are_not_listed(run: Path, tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", KNOWN)
    (folder / "assessments.json").write_text((run / "assessments.json").read_text())
    save_candidates(folder / "candidates.json", [found("near(X, Y) :- heart(X), lung(Y).")], ANNOTATIONS)
    listed = CliRunner().invoke(app, ["review", "list", str(folder), "--json"], catch_exceptions=False)
    assert [e["standing"] for e in json.loads(listed.stdout)] == [""]


def test_a_contradicted_rule_is_not_published_and_the_clash_is_the_reason(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", KNOWN)
    bad, good = found("right_of(R, H) :- right_lung(R), heart(H)."), found("near(X, Y) :- heart(X), lung(Y).")
    twice = found("near(X, Y) :- heart(X), left_lung(X), nodule(Y).")  # whose body cannot hold
    save_candidates(folder / "candidates.json", [bad, good, twice], ANNOTATIONS)
    review = RunReview.of(folder)
    for number in "123":
        review.judge(number, "Anna", "accept")
    made = review.publish(tmp_path / "rules/x.rules", knowledge=open_run(folder).knowledge)
    assert [r.head[0].predicate for r in made.accepted] == ["near"]
    refused = [str(p) for p in made.refused]
    assert len(refused) == 2
    assert any("the knowledge contradicts it: body and head cannot hold together: If " in p for p in refused)
    assert any("the knowledge contradicts it: its body cannot hold: If X is a left lung" in p for p in refused)
