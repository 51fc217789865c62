"""Candidates say how their facts were made, and whoever measures their rules makes the same facts; nothing is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.data.masks import encode_mask
from neurosym.errors import ConfigError
from neurosym.induction import InductionConfig, evaluate_rule
from neurosym.learning.runfolder import open_run
from neurosym.loop import Stages
from neurosym.records import Box, Detection, Scene
from neurosym.review.evidence import Evidence
from neurosym.review.origin import in_words
from neurosym.review.run import RunReview
from neurosym.scenes import load_facts, save_scenes
from tests.review.test_confirmation import run_folder

FILMS = {"val": {"start": 0, "count": 12}, "test": {"start": 50, "count": 12}}


def ring(image_id: str, score: float) -> Scene:
    """A heart in the hole of a lung that is a ring: their boxes overlap, their masks do not."""
    outer, heart = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    outer[4:60, 4:60], outer[12:52, 12:52], heart[24:40, 24:40] = True, False, True
    lung = Detection("lung", Box(4, 4, 60, 60), score, encode_mask(outer))
    return Scene(image_id, 64, 64, (lung, Detection("heart", Box(24, 24, 40, 40), score, encode_mask(heart))))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """On val every second detection is wrong; on test some lungs are rings about the heart."""
    data = {"format": "phantom", "size": 64, "train": {"start": 90, "count": 2}, **FILMS}
    folder = run_folder(tmp_path / "run", "near(H, L) :- heart(H), lung(L).", data=data)
    rng = np.random.default_rng(0)
    for split in FILMS:
        stages = Stages.of(folder, split)
        scenes = []
        for number, scene in enumerate(stages.true_scenes()):
            far = [replace(d, box=Box(*(v + 40 for v in d.box.xyxy))) for d in scene.detections]
            found = [replace(d, score=float(rng.uniform(0.6, 0.9))) for d in (*scene.detections, *far)]
            is_ring = split == "test" and number % 2 == 0
            scenes.append(ring(scene.image_id, 0.8) if is_ring else replace(scene, detections=tuple(found)))
        save_scenes(stages.file("scenes", ".json"), scenes, "")
    return folder


def induced(run: Path, *options: str) -> RunReview:
    words = ["induce", str(run), "--target", "overlaps", "--max-atoms", "2", "--min-confidence", "0.1", *options]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return RunReview.of(run)


@pytest.mark.parametrize("options", [(), ("--masks",), ("--calibrated",), ("--masks", "--calibrated")])
def test_the_page_measures_candidates_on_the_facts_that_they_were_learned_from(
    run: Path, options: tuple[str, ...]
) -> None:
    review = induced(run, *options)
    evidence = Evidence.of(open_run(run), review.origin)
    assert evidence.missing == ""
    how = "".join(options).replace("--", "-")
    written = load_facts(run / f"facts-test{how}.tsv")
    assert review.candidates
    for candidate in review.candidates:
        shown, fresh = evidence.measure(candidate.rule), evaluate_rule(candidate.rule, written)
        assert (shown.support, shown.body_size) == (candidate.support, candidate.body_size)
        assert shown.weighted_confidence == pytest.approx(fresh.weighted_confidence, abs=1e-4)
        for film in (*candidate.supporting[:2], *candidate.refuting[:2]):
            assert evidence.cases(candidate.rule, film)


def test_masks_change_what_overlaps_and_probabilities_change_what_it_weighs(run: Path) -> None:
    [rule] = [c.rule for c in induced(run).candidates if str(c.rule.head[0]) == "overlaps(X, Y)"][:1]
    measured = {}
    for options in ((), ("--masks",), ("--calibrated",)):
        evidence = Evidence.of(open_run(run), induced(run, *options).origin)
        measured[options] = evidence.measure(rule)
    assert measured["--masks",].support < measured[()].support, "six hearts lie in the hole of a lung"
    assert measured["--calibrated",].support == measured[()].support
    assert measured["--calibrated",].weighted_support < 0.8 * measured[()].weighted_support


def test_rules_are_confirmed_on_facts_of_the_same_making(run: Path) -> None:
    induced(run, "--masks", "--calibrated")
    Stages.of(run).assess(confirm="val", top=2, resamples=0)
    assert (run / "facts-val-masks-calibrated.tsv").is_file()
    assert not (run / "facts-val.tsv").exists()


def test_a_calibration_that_is_gone_or_of_another_checkpoint_is_told_and_no_film_is_shown(run: Path) -> None:
    origin = induced(run, "--calibrated").origin
    path = run / "calibration-scores.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"origin": {"checkpoint": "step-7", "split": "val"}}))
    for _ in range(2):
        evidence = Evidence.of(open_run(run), origin)
        assert not evidence.scenes
        expected = "is not there, or not of checkpoint '', by which the candidates' facts were calibrated; induce again"
        assert evidence.missing.endswith(f"calibration-scores.json: {expected}")
        path.unlink(missing_ok=True)


def test_the_source_of_a_rule_says_how_its_facts_were_made(run: Path) -> None:
    assert in_words(induced(run).origin).endswith("run test: predictions of score ≥ 0.5")
    made = in_words(induced(run, "--masks", "--calibrated").origin)
    assert made.endswith("run test: predictions of score ≥ 0.5, related by masks, calibrated")
    assert in_words({"facts": "annotations", "masks": True}) == "annotations, related by masks"


def test_what_has_no_scores_or_is_made_already_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="--calibrated: annotations have no scores to calibrate"):
        Stages.of(run).induce(InductionConfig(), truth=True, calibrated=True)
    (run / "f.tsv").write_text("relation\targuments\tweight\tscene\nheart\ta/0\t1\ta\n")
    given = ["induce", "--facts", str(run / "f.tsv"), "--masks", "--calibrated"]
    error = CliRunner().invoke(app, given).exception
    assert str(error).startswith("--masks and --calibrated: say how facts are made of a run; those in ")
