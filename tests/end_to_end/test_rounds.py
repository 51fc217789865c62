"""Rounds of the loop, with a detector that hardly learns: what it sees is put beside its checkpoint instead."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.errors import ConfigError
from neurosym.induction import InductionConfig
from neurosym.knowledge.rules import parse_rules
from neurosym.learning.config import TrainConfig, load_config
from neurosym.learning.runfolder import open_run
from neurosym.learning.train import train
from neurosym.loop import Stages
from neurosym.records import Box, Detection
from neurosym.review.assessment import Assessment, Confounder, Counted, Idle
from neurosym.review.evidence import Evidence
from neurosym.review.run import RunReview
from neurosym.rounds import AUTOMATIC, Loop, Policy
from neurosym.scenes import save_scenes

ROOT = Path(__file__).parents[2]
CONFIG = f"""
name: tiny
threads: 1
knowledge: [{ROOT}/ontologies/thorax.ttl, one.rules]
data:
  format: phantom
  size: 96
  categories: [left_lung, right_lung, heart]
  train: {{start: 0, count: 4}}
  val: {{start: 100, count: 24}}
  test: {{start: 200, count: 24}}
model: {{image_size: 96, max_size: 96, proposals: 20, sampled_boxes: 16, head_features: 32, fpn_channels: 32}}
train: {{steps: 2, batch_size: 2, lr: 1.0e-4, warmup_steps: 1}}
constraints: {{weight: 0.3}}
"""


def trained(folder: Path, settings: TrainConfig) -> None:
    """A run whose predictions on validation and test films are what is annotated there, and a faint one that is wrong."""
    run = train(settings, folder)
    checkpoint = max(p.name for p in (run.path / "checkpoints").glob("step-*"))
    for split in ("val", "test"):
        stages = Stages.of(folder, split)
        wrong = Detection("heart", Box(0, 0, 8, 8), 0.1)
        scenes = [
            replace(s, image_path=f"{s.image_id}.png", detections=(*s.detections, wrong)) for s in stages.true_scenes()
        ]
        save_scenes(stages.file("scenes", ".json"), scenes, checkpoint)
        scores = {"ap": 0.5, "ap50": 0.75, "rules": []} | stages._origin()
        stages.file("evaluation", ".json").write_text(json.dumps(scores))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "one.rules").write_text("X = Y :- heart(X), heart(Y).  %! id=one_heart\n")
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path / "config.yaml"


@pytest.fixture
def loop(config: Path, tmp_path: Path) -> Loop:
    settings = load_config(config)
    trained(tmp_path / "loop" / "round-0", settings)
    induction = InductionConfig(min_confidence=0.9, top=12, generations=2)
    return Loop(settings, tmp_path / "loop", tmp_path / "accepted.rules", induction=induction, offered=6)


def test_a_round_waits_for_its_reviewers_and_then_trains_with_just_what_they_accepted(loop: Loop) -> None:
    first = loop.run(1)
    assert [r.ap50 for r in first.done] == [0.75]
    assert first.waiting
    assert not loop.rules.exists()
    review = RunReview.of(loop.out / "round-0")
    taken, *others = first.waiting
    review.judge(str(taken.rule), "anna", "accept")
    assert loop.run(1).waiting == tuple(others)
    for candidate in others:
        review.judge(str(candidate.rule), "anna", "reject", "not of the anatomy")
    second = loop.run(1)
    assert second.waiting == ()
    assert [(r.taught, r.accepted) for r in second.done] == [(0, 1), (1, 0)]
    [published] = parse_rules(loop.rules.read_text())
    assert (published.head, published.body) == (taken.rule.head, taken.rule.body)
    round_one = Stages.of(loop.out / "round-1").run
    assert {r.meta["id"] for r in round_one.knowledge.rules if r.body} >= {"one_heart", published.meta["id"]}
    written = json.loads((loop.out / "rounds.json").read_text())
    assert [w["taught"] for w in written] == [0, 1]


def test_what_was_done_is_not_done_again(loop: Loop) -> None:
    done = replace(loop, policy=Policy(held=0.0, low=0.0)).run(1)
    logs = {p: p.read_bytes() for p in loop.out.glob("round-*/log.jsonl")}
    before = loop.rules.read_bytes()
    assert len(logs) == 2
    again = replace(loop, policy=Policy(held=0.0, low=0.0)).run(1)
    assert again == done
    assert {p: p.read_bytes() for p in logs} == logs
    assert loop.rules.read_bytes() == before


def test_a_loop_does_not_go_on_with_other_settings(loop: Loop, config: Path) -> None:
    other = replace(loop, config=load_config(config, ["train.lr=1e-3"]))
    with pytest.raises(ConfigError, match="round-0 was trained with other settings"):
        other.run()


@pytest.mark.parametrize("how", [{"masks": True}, {"calibrated": True}, {"masks": True, "calibrated": True}])
def test_all_steps_of_a_round_make_its_facts_as_asked(loop: Loop, how: dict[str, bool]) -> None:
    folder, alone = loop.out / "round-0", loop.out.parent / "alone"
    shutil.copytree(folder, alone)
    made = replace(loop, **how).run(1)  # type: ignore[arg-type]
    facts = {"split": "val", "masks": False, "calibrated": False} | how
    assert [w["facts"] for w in json.loads((loop.out / "rounds.json").read_text())] == [facts]
    options = "".join(f"-{name}" for name in ("masks", "calibrated") if how.get(name))
    written = {p.name for p in folder.glob("facts-*.tsv")}
    assert written == {f"facts-val{options}.tsv", f"facts-test{options}.tsv"}, "of induction, of its confirmation"
    Stages.of(alone, "val").induce(loop.induction, **how)
    review, expected = RunReview.of(folder), RunReview.of(alone)
    assert review.candidates == expected.candidates
    evidence = Evidence.of(open_run(folder), review.origin)
    assert not evidence.missing
    assert (evidence.masks, evidence.calibration is not None) == (facts["masks"], facts["calibrated"])
    assert made.waiting, "they are offered with these facts"


def test_a_loop_does_not_go_on_with_other_facts(loop: Loop) -> None:
    waiting = replace(loop, masks=True).run(1)
    assert replace(loop, masks=True).run(1) == waiting
    logs = (loop.out / "rounds.json").read_bytes()
    asked = {"--on val": {}, "--on val --masks --calibrated": {"masks": True, "calibrated": True}}
    asked["--on train --masks"] = {"masks": True, "found_on": "train"}  # type: ignore[dict-item]
    for options, how in asked.items():
        cure = "give the same again, or use another --out"
        expected = f"{loop.out / 'round-0'}: its rules were induced with --on val --masks, not with {options}; {cure}"
        with pytest.raises(ConfigError) as refused:
            replace(loop, **how).run(1)  # type: ignore[arg-type]
        assert str(refused.value) == expected
    assert (loop.out / "rounds.json").read_bytes() == logs


def test_the_command_makes_facts_as_its_options_say_and_tells_of_films_that_are_fitted_to(
    loop: Loop, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurosym.induction.InductionConfig", partial(InductionConfig, generations=2, top=12))
    files = ("--to", str(loop.rules), "--out", str(loop.out))
    words = ["loop", str(config), *files, "--masks", "--calibrated", "--offered", "1"]
    shown = CliRunner().invoke(app, words, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    assert "the probabilities were fitted to these very films" in shown.stderr
    told = json.loads(CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).stdout)
    assert [r["facts"] for r in told["rounds"]] == [{"split": "val", "masks": True, "calibrated": True}]


def test_a_policy_says_that_nobody_reviewed(loop: Loop) -> None:
    replace(loop, policy=Policy(held=0.0, low=0.0)).run(1)
    rules = parse_rules(loop.rules.read_text())
    assert rules
    assert {r.meta["reviewer"] for r in rules} == {AUTOMATIC}


def test_the_loop_ends_where_nothing_is_accepted(loop: Loop) -> None:
    made = replace(loop, policy=Policy(held=1.01)).run(3)
    assert len(made.done) == 1
    assert made.done[0].accepted == 0
    assert not (loop.out / "round-1").exists()


def test_a_policy_accepts_what_is_new_stable_confirmed_not_explained_away_and_without_idle_parts() -> None:
    sure = Counted(20, 95, 100, 0.95, 0.88, 0.98)
    fine = Assessment("a(X) :- b(X).", "", "novel", confirmation=sure, resamples=100, held=0.99)
    sex = Confounder("sex", 0.4, 0.01, -0.1, 0.1, "sex may explain it")
    policy = Policy(held=0.9, low=0.8)
    assert policy.objection(fine) == ""
    assert policy.objection(None) == "it was not assessed"
    assert policy.objection(replace(fine, standing="entailed")) == "it is entailed"
    assert policy.objection(replace(fine, held=0.5)) == "it keeps the learner's bounds on 0.50 of the samples"
    unsure = replace(fine, confirmation=replace(sure, low=0.7))
    assert policy.objection(unsure) == "its confidence on other images may be below 0.8"
    assert policy.objection(replace(fine, confirmation=None)) == "its confidence on other images may be below 0.8"
    assert policy.objection(replace(fine, confounders=(sex,))) == "sex may explain it"
    idle = (
        Idle("c(Y)", 0.0, -0.1, 0.1, "", "c(Y) adds nothing"),
        Idle("d(Z)", 0.4, 0.2, 0.6, "sex", "d(Z) adds little"),
    )
    assert policy.objection(replace(fine, idle=idle)) == "c(Y) adds nothing; d(Z) adds little"
    assert policy.objection(replace(fine, confounders=(sex,), idle=idle[:1])) == "sex may explain it; c(Y) adds nothing"


def test_rules_are_not_found_on_the_films_that_rounds_are_compared_on(config: Path, tmp_path: Path) -> None:
    words = ["loop", str(config), "--to", str(tmp_path / "a.rules"), "--on", "test"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code != 0
    assert "compared where their rules were found" in str(result.exception)


def test_a_split_that_is_not_there_is_told_before_anything_is_trained(config: Path, tmp_path: Path) -> None:
    loop = Loop(load_config(config), tmp_path / "loop", tmp_path / "a.rules", found_on="unlabelled")
    with pytest.raises(ConfigError, match="the data of tiny has no split 'unlabelled'; it has train, val, test"):
        loop.run()
    assert not loop.out.exists()


def test_probabilities_need_a_validation_split_before_anything_is_trained(config: Path, tmp_path: Path) -> None:
    settings = load_config(config, ["data.val=null"])
    loop = Loop(settings, tmp_path / "loop", tmp_path / "a.rules", found_on="train", calibrated=True)
    with pytest.raises(ConfigError, match="the data of tiny has no split 'val'; it has train, test"):
        loop.run()
    assert not loop.out.exists()
