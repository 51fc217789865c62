from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurosym.cli import app

ROOT = Path(__file__).parents[1]
COMMANDS = ("check", "train", "evaluate", "predict", "facts", "induce", "report", "demo")


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "neurosym", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={"COLUMNS": "200", "PATH": ""}
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"neurosym {command}" in result.output


def test_checking_good_files_succeeds_and_says_what_was_read() -> None:
    result = run("check", "ontologies/thorax.ttl", "rules/thorax.rules", "--json")
    assert (result.returncode, json.loads(result.stdout)) == (
        0,
        {"ok": True, "reasoner": "not asked", "problems": []},
    )


def test_checking_a_bad_file_exits_with_1_and_names_line_and_cure(tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text("left_of(X, Y) :- heart(X), lung(Y).\nlocted_in(X, Y) :- heart(X), lung(Y).\n")
    result = run("check", "ontologies/thorax.ttl", path)
    assert result.returncode == 1
    assert f"{path}:2: unknown relation 'locted_in'" in result.stderr
    assert "Traceback" not in result.stderr
    problems = json.loads(run("check", "ontologies/thorax.ttl", path, "--json").stdout)["problems"]
    assert [(p["line"], p["file"]) for p in problems] == [(2, str(path))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "no.yaml"), "no.yaml: cannot be read"),
        (("evaluate", "nowhere"), "nowhere: not a run folder"),
        (("report", "nowhere"), "nowhere: not a run folder"),
        (("induce",), "give either a run folder"),
        (("induce", "--facts", "no.txt"), "no.txt: cannot be read"),
    ],
)
def test_a_wrong_path_is_one_message_and_exit_code_1(words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_reasoner_that_did_not_run_is_told_to_scripts_too() -> None:
    result = run("check", "ontologies/blood.ttl", "--reason", "--json")
    assert json.loads(result.stdout)["reasoner"] == "none: Java is not installed"
    assert "HermiT did NOT run" in result.stderr


def test_results_go_to_standard_output_and_messages_to_standard_error() -> None:
    result = run("check", "ontologies/thorax.ttl", "rules/thorax.rules")
    assert result.stdout.startswith("ok ")
    assert result.stderr == ""
    assert run("--version").stdout.startswith("neurosym ")


def test_wrong_usage_exits_with_2() -> None:
    assert run("train").returncode == 2
    assert run("frobnicate").returncode == 2


def test_rules_are_learned_from_plain_triples(tmp_path: Path) -> None:
    path = tmp_path / "family.txt"
    lines = [f"p{i}\tparent\tp{i + 1}\np{i + 1}\tchild\tp{i}\n" for i in range(20)]
    path.write_text("".join(lines))
    result = run("induce", "--facts", path, "--json")
    assert result.returncode == 0, result.stderr
    assert "1 :: child(X, Y) :- parent(Y, X)." in json.loads(result.stdout)["rules"]
    assert (tmp_path / "family-candidates.rules").read_text().count(":-") == json.loads(result.stdout)["count"]
