from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurosym.errors import DataError
from neurosym.learning.runfolder import open_run
from neurosym.review.run_summary import HEIGHT, WIDTH, summary_of
from tests.review.test_confirmation import run_folder


def logged(folder: Path, steps: int) -> Path:
    lines = ({"step": n, "loss": 1000 / n, "flat": 2.0, "seconds": n} for n in range(1, steps + 1))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_summary_tells_what_is_not_the_default_and_no_path(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "doe-jane", "", constraints=0.7, initial="../doe-jane/run", seed=5)
    summary = summary_of(open_run(folder))
    settings = dict(summary.settings)
    assert (settings["constraints.weight"], settings["seed"], settings["data.format"]) == ("0.7", "5", "phantom")
    assert settings["knowledge"] == "thorax.ttl, x.rules"
    assert summary.classes == ("heart", "lung")
    assert "doe" not in str(summary)
    assert "train.steps" not in settings


@pytest.mark.parametrize("steps", [1, 2, 119, 500])
def test_a_curve_runs_from_the_first_step_to_the_last_within_its_frame(tmp_path: Path, steps: int) -> None:
    summary = summary_of(open_run(logged(run_folder(tmp_path / "run", ""), steps)))
    if steps == 1:
        assert summary.curves == ()  # a point is no curve
        return
    [loss] = summary.curves
    points = [tuple(map(float, p.split(","))) for p in loss.points.split()]
    assert (loss.name, loss.steps, len(points) <= 120) == ("loss", steps, True)
    assert (points[0][0], points[-1][0]) == (0, WIDTH)
    assert [y for _, y in points] == sorted(y for _, y in points)  # the loss falls, and y grows downwards
    assert (points[0][1], points[-1][1]) == (0, HEIGHT)


def test_a_damaged_log_is_named_with_its_line_and_one_that_is_cut_short_is_read(tmp_path: Path) -> None:
    folder = logged(run_folder(tmp_path / "run", ""), 2)
    log = folder / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"step": 3, "lo')
    assert summary_of(open_run(folder)).curves[0].steps == 2
    log.write_text(whole + '{"step": 3, "lo\n')
    with pytest.raises(DataError, match=r"log\.jsonl:3: no line of a training log"):
        summary_of(open_run(folder))
