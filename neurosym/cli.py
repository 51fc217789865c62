"""The commands of the loop: check, train, evaluate, predict, facts, induce, report, demo. No logic lives here.

Messages and progress go to standard error, results to standard output (as JSON with ``--json``). Exit codes: 0 done,
1 something is wrong with what was given (each problem on a line), 2 an unknown option or command, 130 interrupted.
torch is imported by the commands that need it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from neurosym import __version__
from neurosym.errors import ConfigError, NeurosymError, Problem

if TYPE_CHECKING:
    from neurosym.loop import Advance

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)
"""For messages and progress; results go to `output`."""
output = Console()

RunFolder = Annotated[Path, typer.Argument(help="A folder that `neurosym train` has written.")]
SplitName = Annotated[str, typer.Option(help="Split of the run's data: train, val, test or unlabelled.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Threshold = Annotated[float, typer.Option(min=0.0, max=1.0, help="Detections scored below it are left out.")]


def main() -> None:
    """Entry point: every expected error is one message a problem, and exit code 1."""
    handler = RichHandler(console=console, show_path=False, show_time=False)
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[handler])
    try:
        app()
    except NeurosymError as error:
        _show_problems(error.problems)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchvision", "tensorboard", "safetensors", "jaxtyping"):
            raise
        _show_problems([Problem(f"{error.name} is not installed", cure="pip install 'neurosym-imaging[train]'")])
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        _show_problems([Problem(f"cannot be written: {error.strerror}", str(error.filename))])
    sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neurosym {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version.")
    ] = False,
) -> None:
    """Ontologies and rules become training constraints; predictions become rules again."""


@app.command(epilog="Example: `neurosym check ontologies/thorax.ttl rules/thorax.rules`")
def check(
    files: Annotated[list[Path], typer.Argument(help="Ontology (.ttl, .owl, .rdf, .nt) and rule (.rules) files.")],
    reason: Annotated[
        bool, typer.Option("--reason", help="Also let HermiT (needs Java) look for contradictions.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read knowledge files and report every mistake with its place and its cure."""
    from neurosym.knowledge import check_files

    knowledge, problems = check_files(files)
    reasoner = "not asked"
    if reason and knowledge is not None:
        from neurosym.knowledge.reasoner import is_available, reason_over

        problems += reason_over(knowledge.ontology)
        reasoner = "hermit" if is_available() else "none: Java is not installed"
    if as_json:
        fields = ("file", "line", "column", "message", "cure")
        _print_json(
            {
                "ok": not problems,
                "reasoner": reasoner,
                "problems": [{f: getattr(p, f) for f in fields} for p in problems],
            }
        )
    else:
        _show_problems(problems)
        if knowledge is not None and not problems:
            counts = (len(knowledge.ontology.classes), len(knowledge.ontology.relations), len(knowledge.rules))
            output.print("[green]ok[/] {} classes, {} relations, {} rules".format(*counts))
    raise typer.Exit(1 if problems else 0)


@app.command(
    epilog="Example: `neurosym train experiments/jsrt-anatomy/config.yaml --set train.steps=100 --out runs/short`"
)
def train(
    config: Annotated[Path, typer.Argument(help="A YAML file, e.g. experiments/jsrt-anatomy/config.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run folder's last checkpoint.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: key.sub=value.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a detector under the constraints that the config's knowledge compiles to."""
    from neurosym.learning.config import load_config

    settings = load_config(config, set_ or ())
    from neurosym.learning.train import train as train_run  # after the config: a typing mistake need not wait for torch

    out = out or Path("runs") / settings.name
    with _bars() as stage:
        advance = stage(f"train {settings.name}")
        run = train_run(settings, out, resume, lambda i, n, t: advance(i, n, f"loss {t['loss']:.3f}"))
    if as_json:
        _print_json({"run": str(run.path), "step": run.step, "terms": run.metrics})
    else:
        console.print(f"[green]trained[/] {run.path}; next: neurosym evaluate {run.path}", soft_wrap=True)


@app.command(epilog="Example: `neurosym evaluate runs/jsrt-anatomy --split test --json`")
def evaluate(
    run: RunFolder,
    split: SplitName = "test",
    annotations: Annotated[Path | None, typer.Option(help="A COCO file to evaluate on instead of a split.")] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of that file's images.")] = None,
    threshold: Threshold = 0.5,
    overlays: Annotated[int, typer.Option(min=0, help="How many pictures with detections to draw.")] = 12,
    as_json: AsJson = False,
) -> None:
    """Score a run: AP and AP50 per class, violated/fired and fired/true per rule, overlays as PNG."""
    from neurosym.data.coco import load_coco
    from neurosym.loop import Stages

    if (annotations is None) != (images is None):
        raise ConfigError("--annotations and --images belong together; give both or neither")
    with _bars() as stage:
        stages = Stages.of(run, f"file-{annotations.stem}" if annotations else split, threshold, stage("detect"))
        data = None
        if annotations and images:
            data = load_coco(annotations, images, stages.run.knowledge, bad_boxes=stages.run.config.data.bad_boxes)
        result = stages.evaluate(data, overlays)
    if as_json:
        _print_json(result)
        return
    _show_scores({str(run): result})
    table = Table("rule", "fired", "violated", "violated/fired", "fired/true")
    for r in result["rules"]:
        shares = (_share(r["violation_rate"], 3), _share(r["fired_ratio"], 2))
        table.add_row(_escaped(r["text"]), str(r["fired"]), str(r["violated"]), *shares)
    output.print(table)
    console.print(f"overlays: {run / 'overlays' / stages.split}", soft_wrap=True)


@app.command(
    epilog="Examples: `neurosym predict runs/jsrt-anatomy --split val`, `neurosym predict RUN --images new-films/`"
)
def predict(
    run: RunFolder,
    split: SplitName = "test",
    images: Annotated[Path | None, typer.Option(help="A folder of images to detect on instead of a split.")] = None,
    as_json: AsJson = False,
) -> None:
    """Detect on the images of a split or a folder and write the scenes as JSON."""
    from neurosym.data.images import folder_images
    from neurosym.loop import Stages

    with _bars() as stage:
        stages = Stages.of(run, f"folder-{images.resolve().name}" if images else split, advance=stage("detect"))
        scenes = stages.predict(folder_images(images) if images else None)
    path = stages.file("scenes", ".json")
    if as_json:
        _print_json({"scenes": str(path), "images": len(scenes), "detections": sum(len(s.detections) for s in scenes)})
    else:
        console.print(f"[green]{len(scenes)} scenes[/] in {path}", soft_wrap=True)


@app.command(epilog="Example: `neurosym facts runs/jsrt-anatomy --threshold 0.7`")
def facts(
    run: RunFolder,
    split: SplitName = "test",
    threshold: Threshold = 0.5,
    truth: Annotated[bool, typer.Option("--truth", help="Facts of the annotations, not of the predictions.")] = False,
    as_json: AsJson = False,
) -> None:
    """Turn a split's scenes into weighted facts in the words of the ontology."""
    from neurosym.loop import Stages

    with _bars() as stage:
        stages = Stages.of(run, split, threshold, stage("detect"))
        store = stages.true_facts() if truth else stages.facts()
    path = stages.file("true-facts" if truth else "facts", ".tsv")
    if as_json:
        _print_json({"facts": str(path), "count": len(store.facts), "relations": list(store.relations)})
    else:
        console.print(f"[green]{len(store.facts)} facts[/] in {path}", soft_wrap=True)


@app.command(
    epilog="Examples: `neurosym induce runs/jsrt-anatomy --target left_of`, `neurosym induce --facts train.txt --budget 60`"
)
def induce(
    run: Annotated[Path | None, typer.Argument(help="A run folder; none with --facts.")] = None,
    split: SplitName = "test",
    facts_file: Annotated[Path | None, typer.Option("--facts", help="Facts, or triples: head, relation, tail.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --facts: the JSON file to write; rules go beside it.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="A head relation; repeat it for more. All by default.")
    ] = None,
    threshold: Threshold = 0.5,
    max_atoms: Annotated[int, typer.Option(min=1, help="Most atoms of a body.")] = 4,
    min_support: Annotated[int, typer.Option(min=1, help="Fewest groundings that a rule must explain.")] = 5,
    min_confidence: Annotated[float, typer.Option(min=0.0, max=1.0, help="Lowest confidence.")] = 0.8,
    budget: Annotated[float | None, typer.Option(help="Seconds to search; the best rules so far are kept.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Most rules to return.")] = 40,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Learn rules from facts by a genetic search over Horn rules."""
    from neurosym.induction import InductionConfig
    from neurosym.induction import induce as learn
    from neurosym.loop import Stages
    from neurosym.review import save_candidates
    from neurosym.scenes import load_facts

    config = InductionConfig(
        targets=tuple(target or ()),
        max_body=max_atoms,
        min_support=min_support,
        min_confidence=min_confidence,
        budget_seconds=budget,
        top=top,
        seed=seed,
    )
    with _bars() as stage:
        if run is not None and facts_file is None and out is None:
            out = run / "candidates.json"
            found = Stages.of(run, split, threshold, stage("induce")).induce(config)
        elif facts_file is not None and run is None:
            out = (out or facts_file.with_name(f"{facts_file.stem}-candidates")).with_suffix(".json")
            advance = stage("induce")
            found = learn(
                load_facts(facts_file), config, lambda s: advance(0, 0, f"{s.stage} {s.target}: {s.found} rules")
            )
            save_candidates(out, found)
        else:
            raise ConfigError(
                "give either a run folder (its candidates.json is written), or --facts FILE, with --out if wanted"
            )
    if as_json:
        _print_json({"candidates": str(out), "count": len(found), "rules": [str(c.rule) for c in found]})
        return
    table = Table("rule", "support", "confidence", "coverage", title=f"{len(found)} candidate rules, the first 15")
    for c in found[:15]:
        measures = (f"{c.support}/{c.body_size}", f"{c.confidence:.3f}", f"{c.head_coverage:.3f}")
        table.add_row(_escaped(str(c.rule)), *measures)
    output.print(table)
    console.print(f"[green]written[/] {out} and {out.with_suffix('.rules')}", soft_wrap=True)


@app.command(
    epilog="Example: `neurosym report runs/jsrt-anatomy`, then open runs/jsrt-anatomy/report.html in a browser"
)
def report(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="HTML file; RUN/report.html by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file with each induced rule, its measures, and the films for and against it."""
    from neurosym.loop import Stages

    out = out or run / "report.html"
    count = Stages.of(run).report(out)
    if as_json:
        _print_json({"report": str(out), "rules": count})
    else:
        console.print(f"[green]written[/] {out} ({count} rules)", soft_wrap=True)


@app.command(epilog="Example: `neurosym demo --out runs/demo`")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the two runs and the report.")] = Path("runs/demo"),
    as_json: AsJson = False,
) -> None:
    """The whole loop on generated films: with knowledge against without, on 16 labelled films, in a few minutes."""
    from neurosym.demo import run_demo

    with _bars() as stage:
        result = run_demo(out, stage)
    if as_json:
        files = {k: str(v) for k, v in result.files.items()}
        _print_json({"seconds": result.seconds, "rules": result.rules, "files": files, **result.evaluations})
        return
    _show_scores(result.evaluations)
    console.print(f"{result.rules} rules induced from the predictions; {result.seconds:.0f} s in all")
    console.print("One seed is a demonstration, no proof.\n\nOpen:")
    for what, path in result.files.items():
        console.print(f"  {path}  [dim]{what}[/]", soft_wrap=True)


def _show_scores(evaluations: dict[str, dict[str, Any]]) -> None:
    """One column a run: AP50 by class, AP, and what its rules say in sum."""
    first = next(iter(evaluations.values()))
    table = Table("", *evaluations)
    for name in first["per_class"]:
        shown = [_share(e["per_class"][name]["ap50"], 3) for e in evaluations.values()]
        table.add_row(f"AP50 {name}", *shown)
    for key in ("ap50", "ap"):
        table.add_row(f"{key.upper()}, mean", *(_share(e[key], 3) for e in evaluations.values()))
    sums = [[sum(r[k] for r in e["rules"]) for k in ("violated", "fired", "fired_true")] for e in evaluations.values()]
    table.add_row("rules: violated/fired", *(_share(v / f if f else None, 3) for v, f, _ in sums))
    table.add_row("rules: fired/true", *(_share(f / t if t else None, 2) for _, f, t in sums))
    output.print(table)


def _share(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _show_problems(problems: Sequence[Problem]) -> None:
    for problem in problems:
        console.print(f"[bold red]error[/] {_escaped(str(problem))}", soft_wrap=True, highlight=False)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1))


@contextmanager
def _bars() -> Iterator[Any]:
    """Progress bars with the time that remains, one a stage; yields a function from a title to an `Advance`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, *times, console=console) as progress:

        def stage(title: str) -> Advance:
            task = progress.add_task(title, total=None, note="")

            def advance(done: int, total: int, note: str) -> None:
                progress.update(task, completed=done, total=total or None, note=note)

            return advance

        yield stage


if __name__ == "__main__":
    main()
