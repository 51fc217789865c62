from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from neurosym.data.images import annotated_scene
from neurosym.data.phantom import PhantomConfig, phantom_layout
from neurosym.induction import evaluate_rule
from neurosym.knowledge import Knowledge, parse_rules
from neurosym.records import Fact, FactStore, Sample
from neurosym.scenes import facts_from

ROOT = Path(__file__).parents[1]


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import harness

    (tmp_path / "README.md").write_text("before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n")
    monkeypatch.setattr(harness, "HERE", tmp_path)
    monkeypatch.setattr(harness, "README", tmp_path / "README.md")
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results.md")
    yield harness
    sys.modules.pop("harness")


def runs(*values: float) -> list[dict]:
    return [{"value": v, "seconds": 1.5, "commit": "abc"} for v in values]


def test_a_figure_is_a_mean_with_the_t_interval_of_its_seeds(harness: ModuleType) -> None:
    values = (0.9, 0.95, 1.0)
    found = harness.figure("x", runs(*values), lambda r: r["value"], ">= 0.9")
    low, high = stats.t.interval(0.95, 2, loc=0.95, scale=stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((0.95, low, high), abs=1e-4)
    assert (found.seeds, found.seconds, found.commit, found.met) == (3, 4.5, "abc", True)


@pytest.mark.parametrize(
    ("goal", "met"), [("", True), (">= 0.5", True), (">= 0.6", False), ("<= 0.5", True), ("<= 0.4", False)]
)
def test_a_goal_is_held_against_the_mean(goal: str, met: bool, harness: ModuleType) -> None:
    assert harness.figure("x", runs(0.4, 0.6), lambda r: r["value"], goal).met is met


@pytest.mark.parametrize(
    ("goal", "verdict"),  # the interval of two runs at .45 and .55 is -.135 to 1.135
    [
        ("", ""), (">= 0.5", ">= 0.5 ○"), (">= -0.2", ">= -0.2 ✓"), (">= 0.6", ">= 0.6 ✗"),
        ("<= 1", "<= 1 ○"), ("<= 1.2", "<= 1.2 ✓"), ("<= 0.4", "<= 0.4 ✗"),
    ],
)  # fmt: skip
def test_a_goal_that_only_the_mean_meets_is_told_as_within_noise(goal: str, verdict: str, harness: ModuleType) -> None:
    assert harness.figure("x", runs(0.45, 0.55), lambda r: r["value"], goal).verdict == verdict


def test_a_recorded_run_is_not_computed_again_unless_its_settings_change(harness: ModuleType) -> None:
    calls = []

    def compute() -> dict:
        calls.append(1)
        return {"value": len(calls)}

    assert [harness.record("x", "seed0", {"lr": lr}, compute)["value"] for lr in (1, 1, 2, 2)] == [1, 1, 2, 2]


@pytest.mark.parametrize(("goal", "code"), [(">= 0.1", 0), (">= 0.9", 1)])
def test_an_experiment_writes_its_results_and_exits_with_1_if_a_goal_is_not_met(
    goal: str, code: int, harness: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/bench.py").write_text(
        "from harness import figure\n"
        "def figures():\n"
        "    runs = [{'v': 0.5, 'seconds': 1, 'commit': 'abc'}]\n"
        f"    return [figure('score', runs, lambda r: r['v'], {goal!r}), figure('told', runs, lambda r: 0.25)]\n"
    )
    assert harness.run("toy") == code
    [kept, _] = json.loads((tmp_path / "toy/results.json").read_text())
    assert set(kept) == {"figure", "value", "low", "high", "goal", "met", "seeds", "seconds", "commit"}
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "| [toy](experiments/toy) | score | 0.5 |" in readme
    assert "old" not in readme
    assert "told" not in readme  # it has no goal
    every = (tmp_path / "results.md").read_text()
    assert "| score | 0.5 | " in every
    assert "| told | 0.25 | " in every


def test_an_unknown_experiment_lists_the_known_ones(harness: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness.run("nothing") == 2
    assert "no experiment 'nothing'" in capsys.readouterr().out


def test_the_share_won_back_is_of_the_mean_loss_of_the_seeds_that_all_arms_have(harness: ModuleType) -> None:
    exact, plain, mended = (dict(enumerate(runs(*v))) for v in ((0.9, 0.8, 0.7), (0.5, 0.6), (0.7, 0.75)))
    (found,) = harness.won_back("x", exact, plain, mended, "value", ">= 0.5")
    assert found.value == pytest.approx((0.2 / 0.3 + 0.15 / 0.3) / 2, abs=1e-4)
    assert (found.seeds, found.met) == (2, True)
    assert harness.won_back("x", exact, plain, {0: mended[0]}, "value") == []


def test_records_that_are_not_there_are_left_out(harness: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "x" / "records").mkdir(parents=True)
    (tmp_path / "x" / "records" / "b.json").write_text('{"ap": 0.5}')
    assert harness.recorded("x", {0: "a", 1: "b"}) == {1: {"ap": 0.5}}


@pytest.fixture
def curve(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import curve

    yield curve
    sys.modules.pop("curve")


def test_a_curve_has_a_line_for_each_arm_on_which_ten_times_the_cost_is_as_far_wherever_it_begins(
    curve: ModuleType,
) -> None:
    costs, values = (0.1, 1.0, 10.0), (0.2, 0.6, 0.7)
    arms = {"a < b": [curve.Point(c, v, v - 0.1, v + 0.1) for c, v in zip(costs, values, strict=True)][::-1]}
    arms["one point"] = [curve.Point(1.0, 0.6, 0.6, 0.6)]
    root = ElementTree.fromstring(curve.curve_svg("title", "hours", "AP50", arms))
    space = "{http://www.w3.org/2000/svg}"
    named = {t.text: line for line in root.iter(f"{space}polyline") if (t := line.find(f"{space}title")) is not None}
    assert set(named) == {"a < b", "one point"}
    places = [tuple(map(float, p.split(","))) for p in named["a < b"].attrib["points"].split()]
    (x0, y0), (x1, y1), (x2, y2) = places
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert x1 > x0
    assert (y0 - y1) / (y1 - y2) == pytest.approx(4, abs=0.1)
    assert y1 < y0
    assert named["one point"].attrib["points"] == f"{x1:.1f},{y1:.1f}"
    names = [t for t in root.iter(f"{space}text") if t.text in named]
    assert abs(float(names[0].attrib["y"]) - float(names[1].attrib["y"])) >= 12


@pytest.mark.parametrize(("costs", "message"), [((), "no point to draw"), ((1.0, 0.0), "above 0")])
def test_a_curve_without_points_or_with_one_that_cost_nothing_is_refused(
    costs: tuple[float, ...], message: str, curve: ModuleType
) -> None:
    with pytest.raises(ValueError, match=message):
        curve.curve_svg("title", "hours", "AP50", {"arm": [curve.Point(c, 0.5, 0.4, 0.6) for c in costs]})


def test_again_computes_anew_beside_what_is_kept_and_shows_both(
    harness: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiments = tmp_path / "experiments"
    (experiments / "toy").mkdir(parents=True)
    monkeypatch.setattr(harness, "HERE", experiments)
    bench = "from harness import figure, record\nVALUE = {}\n"
    bench += "def figures():\n    runs = [record('toy', 'x', 'same', lambda: {{'v': VALUE}})]\n"
    bench += "    return [figure('score', runs, lambda r: r['v'])]\n"
    (experiments / "toy/bench.py").write_text(bench.format(0.25))
    harness.run("toy")
    (experiments / "toy/bench.py").write_text(bench.format(0.75))
    harness.run("toy")  # is recorded
    kept = (experiments / "toy/results.json").read_bytes()
    assert json.loads(kept)[0]["value"] == 0.25
    monkeypatch.setattr(harness, "AGAIN", True)
    capsys.readouterr()
    harness.run("toy")
    line = next(line for line in capsys.readouterr().out.splitlines() if "score" in line)
    assert "0.25" in line
    assert "0.75" in line
    assert (experiments / "toy/results.json").read_bytes() == kept


@pytest.fixture
def rule_overlap(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import rule_overlap

    yield rule_overlap
    sys.modules.pop("rule_overlap")


def test_what_a_rule_derives_by_trying_everything_is_what_the_engine_counts(
    rule_overlap: ModuleType, thorax: Knowledge
) -> None:
    plans = (phantom_layout(i, PhantomConfig(size=96)) for i in range(12))
    samples = (Sample(p.image_id, np.zeros((96, 96), np.uint8), p.annotations, p.labels) for p in plans)
    facts = facts_from(map(annotated_scene, samples), thorax)
    held = rule_overlap.held_in(facts, "chest_study")
    rules = parse_rules(
        """larger_than(X, Y) :- lung(X), finding(Y).
        left_of(X, Y) :- above(X, Z), above(Y, Z), heart(Z).
        peripheral(X) :- opacity(X), lower_zone(X), inside(X, Y).
        indeterminate_appearance(S) :- chest_study(S), ground_glass_opacity(X), ground_glass_opacity(Y)."""
    )
    for rule in rules:
        measured = evaluate_rule(rule, facts)
        assert len(rule_overlap.derived(rule, held)) == measured.body_size > 0
        assert rule_overlap.confidence(rule, held) == pytest.approx(measured.confidence)


def test_rules_overlap_by_what_they_derive_and_not_by_how_they_say_it(rule_overlap: ModuleType) -> None:
    facts = [("heart", "h"), ("left_lung", "l"), ("right_lung", "r"), ("lung", "l"), ("lung", "r")]
    held = rule_overlap.held_in(FactStore(tuple(Fact(name, (f"f/{e}",), scene="f") for name, e in facts)))
    texts = (
        "left_of(X, Y) :- lung(X), heart(Y).",
        "left_of(B, A) :- heart(A), lung(B), study(S).",
        "left_of(X, Y) :- right_lung(X), heart(Y).",
        "above(X, Y) :- lung(X), heart(Y).",
        "left_of(X, Y) :- nodule(X), heart(Y).",
    )
    one, *others = (rule_overlap.derived(parse_rules(text)[0], held) for text in texts)
    assert [rule_overlap.overlap(one, other) for other in others] == [1.0, 0.5, 0.0, 0.0]
    assert rule_overlap.overlap(others[-1], others[-1]) == 0.0, "of rules that derive nothing nobody can tell"


def test_a_rule_is_covered_by_candidates_of_which_none_is_the_same(rule_overlap: ModuleType) -> None:
    one, other = (frozenset({("film", "r", (name,))}) for name in "ab")
    assert rule_overlap.recovery(one | other, [one, other]) == {"overlap": 0.5, "covered": 1.0}
    assert rule_overlap.recovery(one | other, []) == {"overlap": 0.0, "covered": 0.0}
