"""What a run is said to take, against what it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.learning.config import load_config
from neurosym.learning.forecast import Forecast, forecast, spoken, steps_done
from neurosym.learning.train import train

ROOT = Path(__file__).parents[2]
CONFIG = f"""
name: tiny
threads: 1
knowledge: [{ROOT}/ontologies/thorax.ttl, {ROOT}/rules/thorax.rules]
data:
  format: phantom
  size: 128
  categories: [left_lung, right_lung, heart]
  train: {{start: 0, count: 4}}
  unlabelled: {{start: 100, count: 4}}
  val: {{start: 200, count: 2}}
model: {{image_size: 96, max_size: 96, proposals: 40, sampled_boxes: 24, head_features: 32, fpn_channels: 32}}
train: {{steps: 6, batch_size: 2, warmup_steps: 1, checkpoint_every: 2}}
"""


def written(folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(CONFIG)
    return path


def test_steps_with_a_teacher_are_forecast_apart_and_what_is_behind_does_not_count(tmp_path: Path) -> None:
    config = load_config(written(tmp_path), ("teacher.weight=1", "teacher.start=4"))
    told = forecast(config, steps=1)
    assert [steps for steps, _ in told.phases] == [4, 2]
    assert told.seconds == pytest.approx(sum(n * s for n, s in told.phases))
    assert all(s > 0 for _, s in told.phases)
    assert [steps for steps, _ in forecast(config, steps=1, done=5).phases] == [1]
    ended = forecast(config, steps=1, done=6)
    assert (ended.seconds, str(ended)) == (0, "no step is left")


def test_what_is_not_timed_is_said(tmp_path: Path) -> None:
    config = load_config(written(tmp_path), ("teacher.weight=1", "teacher.start=4", "refiner.enabled=true"))
    assert "without the refiner" in str(forecast(config, steps=1))


def test_a_forecast_leaves_the_run_as_it_would_have_been(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(written(tmp_path), ("model.inexact.strictness=0.5",))
    train(config, tmp_path / "plain")
    assert "has no effect here" in caplog.text
    caplog.clear()
    forecast(config, steps=1)
    assert not caplog.records
    train(config, tmp_path / "forecast")
    lines = [
        [
            {k: v for k, v in json.loads(line).items() if k != "seconds"}
            for line in (tmp_path / run / "log.jsonl").open()
        ]
        for run in ("plain", "forecast")
    ]
    assert lines[0] == lines[1]
    assert steps_done(tmp_path / "plain") == 6


def test_durations_are_told_as_people_say_them() -> None:
    assert [spoken(s) for s in (42, 150, 9000)] == ["42 s", "2.5 min", "2.5 h"]
    assert str(Forecast(((10, 0.5), (20, 1.0)))) == "about 25 s (10 steps of 0.50 s + 20 steps of 1.00 s)"


def test_the_command_forecasts_first_and_tables_what_the_stages_of_a_schedule_gained(tmp_path: Path) -> None:
    shared = CONFIG.strip().replace("name: tiny\n", "").replace("\n", "\n  ").replace("steps: 6", "steps: 2")
    path = tmp_path / "schedule.yaml"
    path.write_text(f"name: two\ntrain:\n  {shared}\nstages: [{{name: one}}, {{name: more, set: [seed=1]}}]\n")
    result = CliRunner().invoke(app, ["train", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert result.output.index("stage one: about") < result.output.index("gain in AP50")
    again = CliRunner().invoke(app, ["train", str(path), "--out", str(tmp_path / "out"), "--no-forecast", "--json"])
    assert [c["stage"] for c in json.loads(again.stdout)] == ["one", "more"]
