"""The verbs of the loop that train and look: train, evaluate … demo. torch is imported by those that need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neurosym.cli.console import (
    AsJson,
    RunFolder,
    SplitName,
    Threshold,
    bars,
    console,
    escaped,
    output,
    print_json,
    show_done,
    show_trained,
)
from neurosym.cli.explanation import show_explanation
from neurosym.cli.films import evaluate_films, train_films
from neurosym.cli.prediction import EXAMPLES as PREDICT_EXAMPLES
from neurosym.cli.prediction import predict, show_repair
from neurosym.errors import ConfigError
from neurosym.learning.forecast import spoken, steps_done
from neurosym.learning.launch import is_main, processes

if TYPE_CHECKING:
    from neurosym.learning.config import TrainConfig


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    epilogs: dict[Callable[..., None], str] = {
        train: "Examples: `neurosym train experiments/jsrt-anatomy/config.yaml --set train.steps=100 --out runs/short`, "
        "`neurosym train schedule.yaml --out runs/hybrid`; the same again goes on where a schedule was stopped; "
        "`neurosym train experiments/comatch/kermany.yaml --out runs/films`, a classifier of whole films; "
        "`torchrun --nproc-per-node 2 -m neurosym train CONFIG --resume`, on two GPUs or cores",
        evaluate: "Examples: `neurosym evaluate runs/jsrt-anatomy --split test --json`, "
        "`neurosym evaluate runs/films --split val`",
        predict: PREDICT_EXAMPLES,
        explain: "Examples: `neurosym explain phantom-005003 --run runs/demo/constrained --split test`, "
        "`neurosym explain film.png --run runs/jsrt-anatomy --out why.png --json`",
        report: "Example: `neurosym report runs/jsrt-anatomy`, then open runs/jsrt-anatomy/report.html in a browser",
        demo: "Example: `neurosym demo --out runs/demo`",
    }
    for command, epilog in epilogs.items():
        app.command(epilog=epilog)(command)


def train(
    config: Annotated[Path, typer.Argument(help="A YAML file: one run, a schedule of stages, or a film classifier.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run folder's last checkpoint.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: key.sub=value.")] = None,
    forecast: Annotated[
        bool, typer.Option(help="First time a few steps of a detector, and say how long it will take.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Train a detector under the constraints that the config's knowledge compiles to, or a classifier of whole films.

    Under torchrun all processes train one detector together.
    """
    from neurosym.learning.config import load_config
    from neurosym.learning.image_config import is_film_config
    from neurosym.learning.schedule import is_schedule

    if processes() > 1 and (is_film_config(config) or is_schedule(config)):
        raise ConfigError(f"{config}: several processes train one detector; start this one without torchrun")
    if is_film_config(config):
        train_films(config, out, resume, set_ or (), as_json)
        return
    if is_schedule(config):
        _train_schedule(config, out, set_ or (), forecast, as_json)
        return
    settings = load_config(config, set_ or ())
    from neurosym.learning.train import train as train_run  # after the config: a typing mistake need not wait for torch

    out = out or Path("runs") / settings.name
    if not is_main():  # the first process speaks for all
        train_run(settings, out, resume)
        return
    refused = not resume and steps_done(out) > 0  # the run tells why
    expected = _told_forecast(settings, out) if forecast and not refused and processes() == 1 else None
    with bars() as stage:
        advance = stage(f"train {settings.name}")
        run = train_run(settings, out, resume, lambda i, n, t: advance(i, n, f"loss {t['loss']:.3f}"))
    if as_json:
        print_json({"run": str(run.path), "step": run.step, "terms": run.metrics, "forecast_seconds": expected})
    else:
        show_trained(run.path)


def _told_forecast(settings: TrainConfig, out: Path, name: str = "") -> float:
    """Say how long a run will take, in seconds."""
    from neurosym.learning.forecast import forecast

    told = forecast(settings, done=steps_done(out))
    console.print(f"{name or settings.name}: {told}", soft_wrap=True, highlight=False)
    return round(told.seconds, 1)


def _train_schedule(config: Path, out: Path | None, overrides: Sequence[str], forecast: bool, as_json: bool) -> None:
    from neurosym.learning.schedule import load_schedule

    schedule = load_schedule(config, overrides)
    out = out or Path("runs") / schedule.config.name
    if forecast:
        stages = zip(schedule.config.stages, schedule.stages, strict=True)
        total = sum(_told_forecast(settings, out / stage.name, f"stage {stage.name}") for stage, settings in stages)
        console.print(f"all stages: about {spoken(total)}", highlight=False)
    with bars() as stage:
        advances: dict[str, Any] = {}

        def tell(name: str, done: int, steps: int, note: str) -> None:
            if name not in advances:
                advances[name] = stage(name)
            advances[name](done, steps, note)

        found = schedule.run(out, tell)
    if as_json:
        print_json([asdict(c) for c in found])
        return
    table = Table("stage", "AP", "AP50", "gain in AP", "gain in AP50", "steps", "seconds")
    for c in found:
        scores = (_number(v) for v in (c.ap, c.ap50, c.gain_ap, c.gain_ap50))
        table.add_row(c.stage, *scores, str(c.steps), f"{c.seconds:g}")
    output.print(table)
    show_trained(out, out / found[-1].stage)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def evaluate(
    run: RunFolder,
    split: SplitName = "test",
    annotations: Annotated[Path | None, typer.Option(help="A COCO file to evaluate on instead of a split.")] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of that file's images.")] = None,
    threshold: Threshold = 0.5,
    overlays: Annotated[int, typer.Option(min=0, help="How many pictures with detections to draw.")] = 12,
    repair: Annotated[bool, typer.Option("--repair", help="Score the predictions after repair.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score a run: AP and AP50 per class, violated/fired and fired/true per rule, overlays as PNG; of films recall and AUC."""
    from neurosym.data.coco import load_coco
    from neurosym.learning.image_config import is_film_config
    from neurosym.loop import Stages

    if is_film_config(run / "config.yaml"):
        given = {"--annotations": annotations, "--images": images, "--repair": repair}
        evaluate_films(run, split, as_json, [option for option, value in given.items() if value])
        return
    if (annotations is None) != (images is None):
        raise ConfigError("--annotations and --images belong together; give both or neither")
    with bars() as stage:
        stages = Stages.of(run, f"file-{annotations.stem}" if annotations else split, threshold, stage("detect"))
        data = None
        if annotations and images:
            data = load_coco(annotations, images, stages.run.knowledge, bad_boxes=stages.run.config.data.bad_boxes)
        result = stages.evaluate(data, overlays, repair)
    if as_json:
        print_json(result)
        return
    _show_scores({str(run): result})
    table = Table("rule", "fired", "violated", "violated/fired", "fired/true")
    for r in result["rules"]:
        shares = (_share(r["violation_rate"], 3), _share(r["fired_ratio"], 2))
        table.add_row(escaped(r["text"]), str(r["fired"]), str(r["violated"]), *shares)
    output.print(table)
    if "broken_objects" in result:
        shown = f"{_share(result['broken_objects'], 3)} of the objects of score ≥ {threshold:g} break a hard rule"
        output.print(shown, highlight=False)
    if repair:
        show_repair(result["repair"], result["hard_violations"])
    show_done("overlays", f"in {run / 'overlays' / stages.split}{'-repaired' if repair else ''}")


def explain(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image file, or an image's id in the run's split.")],
    run: Annotated[Path, typer.Option("--run", help="A folder that `neurosym train` has written.")],
    split: SplitName = "test",
    threshold: Threshold = 0.5,
    out: Annotated[Path | None, typer.Option(help="The picture; RUN/explanations/… by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell why an image's detections break rules, which rules did not fire, and what a repair would change."""
    from neurosym.loop import Stages

    with bars() as stage:
        found, picture = Stages.of(run, split, threshold, stage("detect")).explain(image, out)
    if as_json:
        print_json({"picture": str(picture)} | found.as_dict())
        return
    show_explanation(found)
    show_done("drawn", str(picture))


def report(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="HTML file; RUN/report.html by default.")] = None,
    films: Annotated[int, typer.Option(min=0, help="On how many films to tell what is found.")] = 4,
    keep_identifiers: Annotated[
        bool, typer.Option("--keep-identifiers", help="Call films by their ids instead of numbers.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file to share: settings, curves, scores, and each induced rule with the films for and against it.

    It names no patient, file or folder, unless identifiers are kept; what is written on a film itself stays.
    """
    from neurosym.loop import Stages

    out = out or run / "report.html"
    count = Stages.of(run).report(out, keep_identifiers, films)
    if as_json:
        print_json({"report": str(out), "rules": count})
    else:
        show_done("written", f"{out} ({count} rules)")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the two runs and the report.")] = Path("runs/demo"),
    as_json: AsJson = False,
) -> None:
    """The whole loop on generated films: with knowledge against without, on 16 labelled films, in a few minutes."""
    from neurosym.demo import run_demo

    with bars() as stage:
        result = run_demo(out, stage)
    if as_json:
        files = {k: str(v) for k, v in result.files.items()}
        print_json({"seconds": result.seconds, "rules": result.rules, "files": files, **result.evaluations})
        return
    _show_scores(result.evaluations)
    console.print(f"{result.rules} rules induced from the predictions; {result.seconds:.0f} s in all")
    console.print("One seed is a demonstration, no proof.\n\nOpen:")
    for what, path in result.files.items():
        console.print(f"  {escaped(str(path))}  [dim]{what}[/]", soft_wrap=True)


def _show_scores(evaluations: dict[str, dict[str, Any]]) -> None:
    """One column a run: AP50 by class, AP, and what its rules say in sum."""
    first = next(iter(evaluations.values()))
    table = Table("", *evaluations)
    for name in first["per_class"]:
        shown = [_share(e["per_class"][name]["ap50"], 3) for e in evaluations.values()]
        table.add_row(f"AP50 {name}", *shown)
    for key in ("ap50", "ap", "mask_ap50", "mask_ap"):
        if any(key in e for e in evaluations.values()):
            title = key.replace("ap", "AP").replace("_", " ")
            table.add_row(f"{title}, mean", *(_share(e.get(key), 3) for e in evaluations.values()))
    sums = [[sum(r[k] for r in e["rules"]) for k in ("violated", "fired", "fired_true")] for e in evaluations.values()]
    table.add_row("rules: violated/fired", *(_share(v / f if f else None, 3) for v, f, _ in sums))
    table.add_row("rules: fired/true", *(_share(f / t if t else None, 2) for _, f, t in sums))
    output.print(table)


def _share(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
