from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurosym.cli import app, main
from neurosym.cli.console import show_trained

ROOT = Path(__file__).parents[1]
COMMANDS = (
    *("check", "infer", "lsp", "rules format", "rules export", "rules import", "rules show", "ontology show"),
    *(
        "train",
        "evaluate",
        "predict",
        "explain",
        "facts",
        "induce",
        "report",
        "findings",
        "loop",
        "demo",
        "data quality",
        "data import",
        "data check",
        "data shards",
    ),
    *("review list", "review assess", "review verdict", "review agreement", "review publish"),
)


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """What the program prints and exits with, in this process, which need not start."""
    printed, told = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    level = logging.root.level
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(told):
        patch.chdir(ROOT)
        patch.setenv("COLUMNS", "200")
        patch.setenv("PATH", "")
        patch.setattr(sys, "argv", ["neurosym", *map(str, words)])
        patch.setattr(logging.root, "handlers", [])  # pytest's own would keep `main` from adding its handler
        with pytest.raises(SystemExit) as ended:
            main()
    logging.root.setLevel(level)
    out, err = (stream.buffer.getvalue().decode() for stream in (printed, told))  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(words, ended.value.code, out, err)  # type: ignore[arg-type]


def run_as_program(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "neurosym", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={"COLUMNS": "200", "PATH": ""}
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"neurosym {command}" in result.output


def test_checking_good_files_succeeds_and_says_what_was_read() -> None:
    result = run_as_program("check", "ontologies/thorax.ttl", "rules/thorax.rules", "--json")
    assert (result.returncode, json.loads(result.stdout)) == (
        0,
        {"ok": True, "reasoner": "not asked", "problems": []},
    )


def test_checking_a_bad_file_exits_with_1_and_names_line_and_cure(tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text("left_of(X, Y) :- heart(X), lung(Y).\nlocted_in(X, Y) :- heart(X), lung(Y).\n")
    result = run_as_program("check", "ontologies/thorax.ttl", path)
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
        (("review", "list", "nowhere"), "nowhere/candidates.json: cannot be read"),
        (("report", "x" * 300), "cannot be read or written: File name too long"),
    ],
)
def test_a_wrong_path_is_one_message_and_exit_code_1(words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_result_that_cannot_be_written_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "facts.tsv").write_text("relation\targuments\tweight\tscene\nheart\th\t1\tf\n")
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere" / "else")
    for out, named, why in ((tmp_path, tmp_path, "Is a directory"), (dangling / "x", dangling, "File exists")):
        result = run("infer", tmp_path / "facts.tsv", "ontologies/thorax.ttl", "--out", out)
        assert (result.returncode, "Traceback" in result.stderr) == (1, False)
        assert f"error {named}: cannot be read or written: {why}" in result.stderr.replace("\n", "")


def test_the_command_that_comes_next_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    show_trained(Path("my runs/[a]"))
    told = capsys.readouterr().err
    assert "trained my runs/[a]; next: neurosym evaluate 'my runs/[a]'" in told


def test_a_file_is_named_letter_for_letter(tmp_path: Path) -> None:
    folder = tmp_path / "[red]" / "[a]"
    folder.mkdir(parents=True)
    path = folder / "x.rules"
    path.write_text("p(X):-q(X).\n")
    assert f"formatted {path}" in run("rules", "format", path).stderr
    assert (
        f"written {folder}/y.lp (1 of 1 rules)"
        in run("rules", "export", path, "--to", "clingo", "--out", folder / "y.lp").stderr
    )


def test_a_reasoner_that_did_not_run_is_told_to_scripts_too() -> None:
    result = run("check", "ontologies/blood.ttl", "--reason", "--json")
    assert json.loads(result.stdout)["reasoner"] == "reasonable"
    assert "Java is not installed, HermiT did NOT run" in result.stderr


def test_results_go_to_standard_output_and_messages_to_standard_error() -> None:
    result = run_as_program("check", "ontologies/thorax.ttl", "rules/thorax.rules")
    assert result.stdout.startswith("ok ")
    assert result.stderr == ""
    assert run("--version").stdout.startswith("neurosym ")


def test_wrong_usage_exits_with_2() -> None:
    assert run_as_program("train").returncode == 2
    assert run("frobnicate").returncode == 2


def test_rules_are_learned_from_plain_triples(tmp_path: Path) -> None:
    path = tmp_path / "family.txt"
    lines = [f"p{i}\tparent\tp{i + 1}\np{i + 1}\tchild\tp{i}\n" for i in range(20)]
    path.write_text("".join(lines))
    result = run("induce", "--facts", path, "--budget", "3", "--json")
    assert result.returncode == 0, result.stderr
    assert "1 :: child(X, Y) :- parent(Y, X)." in json.loads(result.stdout)["rules"]
    told = json.loads(result.stdout)["progress"][-1]
    assert told["rules"] == json.loads(result.stdout)["count"]
    assert told["seconds"] > 0
    rules = tmp_path / "family-candidates.rules"
    assert rules.read_text().count(":-") == json.loads(result.stdout)["count"]
    path.write_text("".join(lines[:-1]) + lines[-1].split("\n")[0] + "\n")  # the last child is to be found
    (tmp_path / "test.txt").write_text("p20\tchild\tp19\n")
    known = ("complete", "--rules", rules, "--train", path)
    asked = run(*known, "--test", tmp_path / "test.txt", "--aggregation", "max-plus", "--json")
    assert json.loads(asked.stdout)["mrr"] == 1.0, asked.stderr
    question = (*known, "--subject", "p20", "--relation", "child")
    answer = run(*question, "--json")
    assert json.loads(answer.stdout)[0]["entity"] == "p19"
    assert json.loads(answer.stdout)[0]["reasons"][0]["facts"] == [["parent", "p19", "p20"]]
    assert "p19" in run(*question).stdout
    neither = run(*known)
    assert neither.returncode == 1
    assert "give either --test FILE, or --subject and --relation" in neither.stderr


def test_facts_held_back_say_how_few_of_the_rules_of_a_graph_are_written(tmp_path: Path) -> None:
    train, valid, out = (tmp_path / name for name in ("train.txt", "valid.txt", "few.rules"))
    lines = [f"p{i}\tparent\tp{i + 1}\np{i + 1}\tchild\tp{i}\n" for i in range(30)]
    train.write_text("".join(lines) + "p7\tparent\tp40\np41\tchild\tp9\n")
    valid.write_text("p40\tchild\tp7\np9\tparent\tp41\nsomebody\tparent\tp1\n")
    command = ("induce", "--facts", train, "--valid", valid, "--out", out, "--budget", "0", "--tolerance", "0.5")
    told = json.loads(run(*command, "--json").stdout)
    best = max(each["mrr"] for each in told["valid"])
    fewest, mrr = min((each["rules"], each["mrr"]) for each in told["valid"] if each["mrr"] >= best - 0.5)
    assert out.read_text().count(":-") == told["count"] == fewest < told["valid"][0]["rules"]
    assert f"MRR of {valid}: {mrr:.4f} with the {fewest} rules kept" in run(*command).stderr
    assert (
        "--tolerance: how much may be lost on the facts of --valid FILE"
        in run(*command[:3], "--tolerance", "0.1").stderr
    )
    valid.write_text("somebody\tparent\tnobody\n")
    assert "no fact that is held back has a relation and two entities that the graph has" in run(*command).stderr


def test_a_graph_is_kept_as_a_folder_of_which_some_relations_may_be_read(tmp_path: Path) -> None:
    path, folder = tmp_path / "family.txt", tmp_path / "family"
    lines = [f"p{i}\tparent\tp{i + 1}\np{i + 1}\tchild\tp{i}\np{i}\tknows\tp{i + 1}\n" for i in range(20)]
    path.write_text("".join(lines))
    command = ("induce", "--budget", "0", "--json", "--out", tmp_path / "x.rules", "--facts")
    assert json.loads(run(*command, path, "--store", folder).stdout)["count"] > 0
    assert json.loads(run(*command, folder).stdout)["count"] > 0
    told = json.loads(run(*command, folder, "--only", "parent", "--only", "child").stdout)["rules"]
    assert told  # how many of the two there are is a question of time
    assert set(told) <= {"1 :: child(X, Y) :- parent(Y, X).", "1 :: parent(X, Y) :- child(Y, X)."}
    assert "--only reads some relations of a store's folder" in run(*command, path, "--only", "parent").stderr
    assert f"--store: {folder} is where the facts are read from" in run(*command, folder, "--store", folder).stderr
    (folder / "back.npy").unlink()
    assert "back.npy: the file is missing, expected" in run(*command, folder).stderr


def test_rules_over_a_graph_know_what_an_ontology_says_of_its_classes(tmp_path: Path) -> None:
    path = tmp_path / "films.tsv"
    sides = [(f"l{i}", ("left_lung", "right_lung")[i % 2]) for i in range(12)]
    path.write_text(
        "".join(f"{x}\ta\t{side}\n{x}\tshows\tair\n" for x, side in sides) + "h\ta\theart\nh\tshows\tblood\n"
    )
    command = ("induce", "--facts", path, "--budget", "0", "--target", "shows", "--json")
    told = json.loads(run(*command, "--ontology", "ontologies/thorax.ttl").stdout)
    assert "1 :: shows(X, air) :- a(X, lung)." in told["rules"]
    assert not any("lung)" in rule and "_lung)" not in rule for rule in json.loads(run(*command).stdout)["rules"])


def test_formatting_writes_the_normal_form_and_a_file_with_a_mistake_stops_all(tmp_path: Path) -> None:
    loose, broken = tmp_path / "loose.rules", tmp_path / "broken.rules"
    loose.write_text("a(X):-b(X).")
    broken.write_text("a(X):-b(X.")
    refused = run("rules", "format", loose, broken)
    assert (refused.returncode, loose.read_text(), broken.read_text()) == (1, "a(X):-b(X).", "a(X):-b(X.")
    assert "broken.rules:1:10: unexpected '.'" in refused.stderr
    assert run("rules", "format", "--check", loose).returncode == 1
    other = run("rules", "format", "ontologies/thorax.ttl")
    assert (other.returncode, other.stderr) == (
        1,
        "error ontologies/thorax.ttl: is no rule file; name files that end in .rules\n",
    )
    assert run("rules", "format", loose).returncode == 0
    assert loose.read_text() == "a(X) :- b(X).\n"
    assert run("rules", "format", "--check", loose).returncode == 0


def test_a_proof_names_the_rule_and_its_line(tmp_path: Path) -> None:
    facts = tmp_path / "facts.tsv"
    facts.write_text("relation\targuments\tweight\tscene\nright_lung\tr\t1\tf\nleft_lung\tl\t1\tf\n")
    known = ("ontologies/thorax.ttl", "rules/thorax.rules")
    result = run("infer", facts, *known, "--why", "left_of(r, l)")
    assert result.returncode == 0, result.stderr
    line = next(i for i, t in enumerate((ROOT / known[1]).read_text().splitlines(), 1) if "id=lungs_in_order" in t)
    assert f"left_of(r, l)  [lungs_in_order, rules/thorax.rules:{line}]" in result.stdout
    wrong = run("infer", facts, *known, "--why", "left_of(l, r)")
    assert wrong.returncode == 1
    assert "left_of(l, r) does not follow; did you mean 'left_of(r, l)'?" in wrong.stderr
    unknown = run("infer", facts, *known, "--why", "lungs(r)").stderr
    assert "lungs(r) does not follow; 'lungs' is no class or relation: did you mean 'lung'?" in " ".join(
        unknown.split()
    )


def test_facts_in_words_that_the_ontology_does_not_have_are_told(tmp_path: Path) -> None:
    facts = tmp_path / "facts.tsv"
    facts.write_text("relation\targuments\tweight\tscene\nrigth_lung\tr\t1\tf\nheart\th,r\t1\tf\nlung\tl\t1\tf\n")
    result = run("infer", facts, "ontologies/thorax.ttl")
    assert result.returncode == 0, result.stderr
    told = " ".join(result.stderr.split())
    assert "'rigth_lung', of 1 fact(s), is no class or relation of the ontology, so nothing follows from them" in told
    assert "did you mean 'right_lung'?" in told
    assert "'heart' takes 1 argument(s), but has 2 in 1 fact(s)" in told
    assert "'lung'" not in told


def test_explaining_lists_every_axiom_with_its_constraint_or_the_reason_why_it_has_none() -> None:
    axioms = json.loads(run("check", "ontologies/thorax.ttl", "--explain", "--json").stdout)["axioms"]
    datatypes = [a for a in axioms if a["kind"] == "DataPropertyRange"]  # held by how values are read
    assert all(bool(a["constraints"]) != bool(a["unused"]) for a in axioms if a not in datatypes)
    assert all(a["axiom"].endswith("Range decimal") for a in datatypes)
    [lung] = [a for a in axioms if a["axiom"] == "left_lung SubClassOf lung"]
    assert lung["constraints"] == ["lung(X) :- left_lung(X)."]
    assert (
        (ROOT / lung["file"])
        .read_text()
        .splitlines()[lung["line"] - 1]
        .strip()
        .startswith(("rdfs:subClassOf", ":left_lung"))
    )


def test_options_that_facts_of_scenes_have_no_use_for_are_refused(tmp_path: Path) -> None:
    facts = tmp_path / "facts.tsv"
    facts.write_text("relation\targuments\tweight\tscene\nheart\th\t1\tf\n")
    refused = run("induce", "--facts", facts, "--ontology", "no.ttl", "--search", tmp_path)
    assert (refused.returncode, "--ontology, --search: of a graph" in refused.stderr) == (1, True)
    nameless = run("induce", "--facts", facts, "--out", "")
    assert (nameless.returncode, "--out: '.' is no file's name" in nameless.stderr) == (1, True)


def test_pictures_are_written_and_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    known = ("ontologies/thorax.ttl", "rules/thorax.rules")
    for words in (("ontology", "show", "o.html"), ("rules", "show", "r.svg", "--around", "nodule")):
        out = tmp_path / words[2]
        assert run(*words[:2], *known, "--out", out, *words[3:], "--depth", 10**25).returncode == 0
        assert out.stat().st_size > 1000
    refused = run("rules", "show", *known, "--out", tmp_path / "r.png")
    assert (refused.returncode, "cannot draw '.png'" in refused.stderr) == (1, True)


def test_rules_travel_to_clingo_and_back(tmp_path: Path) -> None:
    rules = tmp_path / "x.rules"
    rules.write_text("left_of(X, Y) :- heart(X), lung(Y).  %! id=a\ninside(X, L), lung(L) :- nodule(X).  %! id=b\n")
    out, back = tmp_path / "x.lp", tmp_path / "back.rules"
    exported = run("rules", "export", rules, "--to", "clingo", "--out", out)
    assert exported.returncode == 0, exported.stderr
    assert f"{rules}:2: left out:" in exported.stderr
    assert run("rules", "import", out, "--from", "clingo", "--out", back).returncode == 0
    assert rules.read_text().splitlines()[0] in back.read_text()
