"""The verbs of knowledge: check, infer, lsp, `rules …` and `ontology …`; none of them needs torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurosym.cli.console import AsJson, bars, escaped, output, print_json, show_done, show_problems
from neurosym.errors import ConfigError, NeurosymError, Problem, RuleError, short_path

if TYPE_CHECKING:
    from neurosym.knowledge import Knowledge

Files = Annotated[
    list[Path],
    typer.Argument(
        help="Ontologies (.ttl .owl .rdf .nt .jsonld .ofn .omn .owx .obo) and rule files (.rules), together or alone."
    ),
]
RuleFiles = Annotated[list[Path], typer.Argument(help="Rule files (.rules).")]
Shapes = Annotated[list[Path] | None, typer.Option("--shapes-file", help="Your own SHACL shapes (Turtle), besides.")]
_MOST_TREES = 5
rules_app = typer.Typer(no_args_is_help=True, help="Format, show, export and import rule files.")
ontology_app = typer.Typer(no_args_is_help=True, help="Look at an ontology.")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(
        epilog="Examples: `neurosym check ontologies/thorax.ttl rules/thorax.rules`, `neurosym check hp.obo --reason`"
    )(check)
    app.command(epilog='Example: `neurosym infer facts.tsv ontologies/thorax.ttl --why "lung(l1)"`')(infer)
    app.command(
        epilog="Example: see docs/editors.md for VS Code, Neovim and Emacs; `neurosym lsp` speaks on stdin/stdout"
    )(lsp)
    rules_app.command("format", epilog="Example: `neurosym rules format rules/*.rules`")(format_)
    rules_app.command(
        "export", epilog="Example: `neurosym rules export rules/thorax.rules --to clingo --out thorax.lp`"
    )(export)
    rules_app.command(
        "import",
        epilog="Examples: `neurosym rules import rules-100.tsv --from anyburl --out learned.rules`; `neurosym rules import "
        "requirements_dimacs.txt --from dimacs --ontology ontologies/road.ttl --labels experiments/road/labels.txt --every "
        "road_object --out road-r.rules`",
    )(import_)
    shown = "ontologies/thorax.ttl rules/thorax.rules --out"
    rules_app.command("show", epilog=f"Example: `neurosym rules show {shown} rules.html`")(rules_show)
    ontology_app.command("show", epilog=f"Example: `neurosym ontology show {shown} thorax.svg`")(ontology_show)
    app.add_typer(rules_app, name="rules")
    app.add_typer(ontology_app, name="ontology")


def check(
    files: Files,
    reason: Annotated[
        bool,
        typer.Option(
            "--reason", help="Also classify with HermiT (needs Java): contradictions, and what they come from."
        ),
    ] = False,
    shapes: Annotated[bool, typer.Option("--shapes", help="Also hold the ontology against the SHACL profile.")] = False,
    shapes_file: Shapes = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="List what each axiom becomes, and each axiom that is not used, with the reason."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read knowledge files and report every mistake with its place and its cure; exit code 1 if there is an error."""
    from neurosym.knowledge import check_files

    knowledge, problems = check_files(files, reason)
    reasoner = (knowledge.reasoner if knowledge is not None else "") or ("none" if reason else "not asked")
    if (shapes or shapes_file) and knowledge is not None:
        from neurosym.knowledge.ontology import collector_at_rest
        from neurosym.knowledge.shapes import check_shapes

        with collector_at_rest():
            problems += check_shapes(knowledge.ontology, shapes_file or ())
    errors = [p for p in problems if p.severity == "error"]
    if as_json:
        fields = ("file", "line", "column", "message", "cure", "severity")
        told = [{f: getattr(p, f) for f in fields} for p in problems]
        result: dict[str, Any] = {"ok": not errors, "reasoner": reasoner, "problems": told}
        if explain and knowledge is not None:
            result["axioms"] = _explained(knowledge)
        print_json(result)
        raise typer.Exit(1 if errors else 0)
    if explain and knowledge is not None:
        _show_axioms(_explained(knowledge))
    show_problems(problems)
    if not errors:
        counts = "the rules parse"
        if knowledge is not None:
            ontology = knowledge.ontology
            counts = (
                f"{len(ontology.classes)} classes, {len(ontology.relations)} relations, {len(knowledge.rules)} rules"
            )
        output.print(f"[green]ok[/] {counts}")
    raise typer.Exit(1 if errors else 0)


def _explained(knowledge: Knowledge) -> list[dict[str, Any]]:
    explained = []
    for axiom in knowledge.ontology.axioms:
        file, line = knowledge.ontology.place(axiom)
        value = {"axiom": axiom.text, "kind": axiom.kind, "file": file, "line": line, "unused": axiom.unused}
        explained.append({**value, "constraints": [str(r) for r in axiom.rules], "source": axiom.source})
    return explained


def _show_axioms(axioms: list[dict[str, Any]]) -> None:
    for axiom in axioms:
        output.print(
            f"[bold]{escaped(axiom['axiom'])}[/]  [dim]{escaped(axiom['file'])}:{axiom['line']}[/]", soft_wrap=True
        )
        for rule in axiom["constraints"]:
            output.print(f"    → {escaped(rule)}", soft_wrap=True, highlight=False)
        if axiom["unused"]:
            output.print(f"    [yellow]not used:[/] {escaped(axiom['unused'])}", soft_wrap=True)
    unused = sum(bool(a["unused"]) for a in axioms)
    output.print(f"{len(axioms)} axioms, {unused} of them not used")


def infer(
    facts: Annotated[Path, typer.Argument(help="Facts: what `neurosym facts` wrote, or triples head, relation, tail.")],
    files: Files,
    why: Annotated[
        str | None, typer.Option(help="Prove one fact: print the tree of rules and axioms it follows by.")
    ] = None,
    min_weight: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Weighted rules below it are left out; hard ones are always used.")
    ] = 1.0,
    out: Annotated[Path | None, typer.Option(help="Write given and derived facts to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """What follows from facts by the ontology and the rules, what they contradict, and why; every fact counts as certain."""
    from neurosym.knowledge import load_knowledge
    from neurosym.records import Fact, FactStore
    from neurosym.scenes import load_facts, save_facts
    from neurosym.scenes.inference import ground_atom, infer_scenes, strange_facts, why_not

    knowledge = load_knowledge(files)
    asked = None if why is None else ground_atom(why)
    store = load_facts(facts)
    show_problems(strange_facts(store, knowledge, short_path(facts)))
    derived: list[Fact] = []
    clashes, proofs = [], []
    with bars() as stage:
        advance = stage("infer")
        for done, (scene, found) in enumerate(infer_scenes(store, knowledge, min_weight), 1):
            advance(done, 0, scene)
            clashes += [(scene, str(found.proof_of(clash))) for clash in found.clashes]
            derived += [Fact(p, tuple(map(str, args)), 1.0, scene) for p, args in found.facts()]
            if asked is not None and found.holds(asked):
                proofs.append((scene, str(found.proof(asked))))
    if out is not None:
        save_facts(out, FactStore(tuple(sorted(derived))))
    if asked is not None and not proofs:
        cure = why_not(asked, derived, knowledge)
        raise RuleError(Problem(f"{why} does not follow", short_path(facts), cure=cure))
    if as_json:
        print_json({"facts": len(derived), "clashes": clashes, "proofs": proofs, "out": str(out) if out else None})
        return
    for kind, trees in (("contradiction", clashes), ("proof", proofs)):
        for scene, tree in trees[:_MOST_TREES]:
            output.print(
                f"[bold]{kind}[/]{f' in {scene}' if scene else ''}\n{escaped(tree)}", soft_wrap=True, highlight=False
            )
        if len(trees) > _MOST_TREES:
            output.print(f"… and {len(trees) - _MOST_TREES} more; --json prints all")
    output.print(f"{len(derived)} facts hold, {len(clashes)} contradictions")


def lsp() -> None:
    """Speak the language server protocol: diagnostics, hover, completion, definitions and formatting in an editor."""
    from neurosym.knowledge.lsp import serve

    serve()


def format_(
    files: RuleFiles,
    check_only: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 1 if a file would change.")
    ] = False,
) -> None:
    """Write rule files in their normal form: one rule a line, metadata last, comments kept."""
    from neurosym.knowledge.rules import format_text, rule_file_text, write_text_atomically

    problems: list[Problem] = []
    changed: list[tuple[Path, str]] = []
    for path in files:
        try:
            text = rule_file_text(path)
            formatted = format_text(text, short_path(path))
        except NeurosymError as error:
            problems += error.problems
            continue
        if formatted != text:
            changed.append((path, formatted))
    if problems:
        raise RuleError(problems)  # and no file is written
    for path, formatted in changed:
        if not check_only:
            write_text_atomically(path, formatted)
        show_done("would change" if check_only else "formatted", str(path))
    raise typer.Exit(1 if check_only and changed else 0)


def export(
    files: Files,
    to: Annotated[str, typer.Option("--to", help="anyburl, problog, clingo, swrl, shacl or dimacs.")],
    out: Annotated[Path | None, typer.Option(help="File to write; standard output by default.")] = None,
) -> None:
    """Write rules in another system's language; what it cannot say is left out and listed with the reason."""
    from neurosym.knowledge import check_files
    from neurosym.knowledge.exchange import export_rules
    from neurosym.knowledge.rules import read_rules, write_text_atomically

    knowledge, problems = check_files(files)
    errors = [p for p in problems if p.severity == "error"]
    if errors:
        raise RuleError(errors)
    rules = [r for path in files if path.suffix == ".rules" for r in read_rules(path)]
    exported = export_rules(rules, to, knowledge.ontology if knowledge is not None else None)
    show_problems(
        [Problem(f"left out: {why}", r.file, r.line, cure=str(r), severity="warning") for r, why in exported.left_out]
    )
    if out is None:
        sys.stdout.write(exported.text)
    else:
        write_text_atomically(out, exported.text)
        show_done("written", f"{out} ({len(rules) - len(exported.left_out)} of {len(rules)} rules)")


def import_(
    file: Annotated[Path, typer.Argument(help="The file to read.")],
    source: Annotated[str, typer.Option("--from", help="anyburl, problog, clingo, swrl, shacl or dimacs.")],
    ontology: Annotated[list[Path] | None, typer.Option(help="Ontologies whose names the rules use.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Of dimacs: the labels of variables 1, 2 …, one a line, as classes or categories."),
    ] = None,
    every: Annotated[
        str, typer.Option(help="Of dimacs: the class that all objects are of, for clauses that negate no label.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Rule file to write; standard output by default.")] = None,
) -> None:
    """Read rules of another system; nothing is written if one of them cannot be read."""
    from neurosym.knowledge import load_ontology
    from neurosym.knowledge.exchange import import_rules
    from neurosym.knowledge.rules import format_rule, read_text, write_rules

    vocabulary = load_ontology(ontology) if ontology else None
    given = [line.strip() for line in read_text(labels).splitlines() if line.strip()] if labels else []
    rules, problems = import_rules(read_text(file), source, short_path(file), vocabulary, given, every)
    show_problems(problems)
    if any(p.severity == "error" for p in problems):
        raise typer.Exit(1)
    if out is None:
        sys.stdout.write("".join(f"{format_rule(r)}\n" for r in rules))
    else:
        write_rules(out, rules, f"From {file.name}, by neurosym rules import --from {source}.")
        show_done("written", f"{out} ({len(rules)} rules)")


Out = Annotated[Path, typer.Option(help="The file to write: .html for an interactive page, .svg for a picture.")]
Around = Annotated[list[str] | None, typer.Option(help="Show only what is near this class; repeat it for more.")]
Depth = Annotated[int, typer.Option(min=1, help="How many steps around it.")]


def ontology_show(files: Files, out: Out = Path("ontology.html"), around: Around = None, depth: Depth = 2) -> None:
    """Draw the ontology: hierarchy, disjointness, relations, axioms and ties to data sets."""
    from neurosym.knowledge import load_knowledge
    from neurosym.knowledge.views import ontology_graph

    _draw(ontology_graph(load_knowledge(files)), out, around, depth)


def rules_show(files: Files, out: Out = Path("rules.html"), around: Around = None, depth: Depth = 2) -> None:
    """Draw the constraint graph: rules, and the classes they tie together."""
    from neurosym.knowledge import load_knowledge
    from neurosym.knowledge.views import rule_graph

    _draw(rule_graph(load_knowledge(files)), out, around, depth)


def _draw(graph: Any, out: Path, around: list[str] | None, depth: int) -> None:
    from neurosym.knowledge.views import neighbourhood, write_page, write_svg

    writers = {".html": write_page, ".svg": write_svg}
    if out.suffix not in writers:
        raise ConfigError(Problem(f"cannot draw {out.suffix!r}", str(out), cure=f"known: {', '.join(writers)}"))
    if around:
        graph = neighbourhood(graph, around, depth)
    writers[out.suffix](out, graph, out.stem)
    show_done("written", str(out))
