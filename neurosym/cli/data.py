"""The verbs of data: degrade, shards, quality (which imports torch when it runs), and those of `cli.importing`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from neurosym.cli import importing
from neurosym.cli.console import AsJson, bars, console, escaped, output, print_json, show_done
from neurosym.errors import ConfigError

data_app = typer.Typer(no_args_is_help=True, help="Import, check and work on films and annotations.")
_HOWS = "uniform, too_big, partial, annotator, missing, wrong_label, point or coarse_mask."
_EXAMPLES = (
    "Examples: `neurosym data degrade train.json noisy.json --how uniform --r 0.4 --seed 0`, "
    "`neurosym data degrade train.json less.json --how missing --r 0.1 --rate nodule=0.5`, "
    "`neurosym data degrade train.json strokes.json --how coarse_mask --shape scribble --r 0.3`"
)

_SHARDS_EXAMPLES = (
    "Examples: `neurosym data shards train.json shards/train --images images/`, "
    "`neurosym data shards experiments/jsrt-anatomy/config.yaml shards/val --split val`, "
    "`neurosym data shards experiments/phantom/config.yaml shards/train --size 64MB --json`; "
    "then `data: {format: shards, train: {shards: shards/train}}` in a training config"
)

_QUALITY_EXAMPLES = (
    "Examples: `neurosym data quality runs/bccd --top 100`, then open runs/bccd/quality-train.html in a browser, "
    "`neurosym data quality runs/bccd --suggest suggestions.json --json`, "
    "`neurosym data quality runs/bccd --annotations new.json --images new-images/`"
)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    importing.register(data_app)
    data_app.command("degrade", epilog=_EXAMPLES)(degrade)
    data_app.command("shards", epilog=_SHARDS_EXAMPLES)(shards)
    data_app.command("quality", epilog=_QUALITY_EXAMPLES)(quality)
    app.add_typer(data_app, name="data")


def degrade(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A COCO file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The COCO file to write.")],
    r: Annotated[
        float | None,
        typer.Option("--r", help="How much, 0 (nothing) to 1; what it means for each way: docs/data.md."),
    ] = None,
    how: Annotated[str, typer.Option(help=_HOWS)] = "uniform",
    seed: Annotated[int, typer.Option(help="Another seed draws other mistakes.")] = 0,
    factor: Annotated[float, typer.Option(help="Of too_big: the largest area, in areas of the true box.")] = 6.0,
    annotators: Annotated[int, typer.Option(help="Of annotator: how many there are.")] = 4,
    shape: Annotated[str, typer.Option(help="Of coarse_mask: dilate, polygon or scribble.")] = "dilate",
    rate: Annotated[
        list[str] | None, typer.Option(help="Of missing and wrong_label: CATEGORY=PROBABILITY, in the place of --r.")
    ] = None,
    bad_boxes: Annotated[
        Literal["error", "drop"],
        typer.Option(help="Boxes of IN that are empty or not finite: stop, or leave them out."),
    ] = "error",
    as_json: AsJson = False,
) -> None:
    """Make annotations worse by a seed; the truth stays in fields of its own, which training never reads."""
    from neurosym.data.degrade import degradation
    from neurosym.data.degrade_files import degrade_file

    rates = dict(_rate(text) for text in rate or ())
    if r is None and not rates:
        raise ConfigError("--r: how much worse is not said; give --r 0.4, or --rate where the way has rates")
    noise = degradation(how, r or 0.0, seed, factor=factor, annotators=annotators, shape=shape, rates=rates)
    record = degrade_file(source, target, noise, bad_boxes)
    if as_json:
        print_json({"out": str(target)} | record)
        return
    counts = f"{record['changed']} of {record['annotations']} annotations changed, {record['dropped']} dropped"
    iou = "" if record["mean_iou"] is None else f", mean IoU with the true boxes {record['mean_iou']:.3f}"
    show_done("written", f"{target} ({counts}{iou})")
    if record["reverted"]:
        ids = ", ".join(map(str, record["reverted"][:10])) + (", …" if len(record["reverted"]) > 10 else "")
        console.print(
            f"{len(record['reverted'])} emptied boxes reverted to the true ones: annotation {ids}", soft_wrap=True
        )


def _rate(text: str) -> tuple[str, float]:
    name, sign, value = text.rpartition("=")
    try:
        return name, float(value if sign and name else "?")
    except ValueError as error:
        raise ConfigError(f"--rate {text!r}: expected CATEGORY=PROBABILITY, e.g. nodule=0.5") from error


def shards(
    source: Annotated[
        Path, typer.Argument(metavar="CONFIG_OR_COCO", help="A training config (YAML), or a COCO file (JSON).")
    ],
    out: Annotated[Path, typer.Argument(help="The folder to write; one that is there must be of the same command.")],
    images: Annotated[Path | None, typer.Option(help="The folder of a COCO file's images.")] = None,
    split: Annotated[
        Literal["train", "val", "test", "unlabelled"] | None,
        typer.Option(help="Split of a config's data, train by default; as its files have it."),
    ] = None,
    size: Annotated[str, typer.Option(help="Of a shard at most: a number with kB, MB or GB.")] = "256MB",
    bad_boxes: Annotated[
        Literal["error", "drop"] | None,
        typer.Option(help="Boxes of a COCO file that are empty or not finite: stop (the default), or leave them out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Pack films and annotations into tar shards, which training streams; a run that was stopped goes on."""
    from neurosym.data.shard_films import coco_films, split_films
    from neurosym.data.shard_pack import pack

    limit = _bytes(size)
    if source.suffix.lower() in (".yaml", ".yml"):
        if images is not None or bad_boxes is not None:
            raise ConfigError(f"--images and --bad-boxes are of COCO files; {source} says both itself")
        from neurosym.knowledge import load_knowledge
        from neurosym.learning.config import load_config

        config = load_config(source)
        knowledge = load_knowledge((config.base / p for p in config.knowledge), config.reason)
        films = split_films(config.data, split or "train", config.base, knowledge)
    elif images is None or split is not None:
        raise ConfigError(f"{source}: of a COCO file give --images FOLDER and no --split; a config ends in .yaml")
    else:
        films = coco_films(source, images, bad_boxes or "error")
    with bars() as stage:
        advance = stage("pack")
        header = pack(films, out, limit, lambda done, total: advance(done, total, ""))
    if as_json:
        print_json({"out": str(out), "films": header.films, "shards": header.shards, "annotated": header.annotated})
        return
    told = f"{header.films} films in {header.shards} shard{'s' * (header.shards > 1)}"
    show_done("written", f"{out} ({told})")


def _bytes(size: str) -> int:
    units = {"kb": 10**3, "mb": 10**6, "gb": 10**9}
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmg]b)", size.strip().lower())
    if found is None or not float(found[1]):
        raise ConfigError(f"--size {size!r}: expected a number with kB, MB or GB, e.g. 256MB")
    return int(float(found[1]) * units[found[2]])


def quality(
    run: Annotated[Path, typer.Argument(help="A folder that `neurosym train` has written.")],
    split: Annotated[str, typer.Option(help="Split of the run's data whose annotations are judged.")] = "train",
    annotations: Annotated[Path | None, typer.Option(help="A COCO file to judge instead of a split.")] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of that file's images.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the worst are shown.")] = 40,
    out: Annotated[Path | None, typer.Option(help="HTML file; RUN/quality-SPLIT.html by default.")] = None,
    suggest: Annotated[
        Path | None, typer.Option(help="Write the suggested boxes of all annotations as a COCO file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank annotations for re-drawing, the worst first, by predictions, centroid maps and rules, with pictures and reasons."""
    from neurosym.loop import Stages

    if (annotations is None) != (images is None):
        raise ConfigError("--annotations and --images belong together; give both or neither")
    given = (annotations, images) if annotations and images else None
    with bars() as stage:
        stages = Stages.of(run, f"file-{annotations.stem}" if annotations else split, advance=stage("judge"))
        out = out or stages.file("quality", ".html")
        result = stages.quality(out, top, suggest, given)
    if as_json:
        print_json(result)
        return
    _show_worst(result)
    if result["left_out"]:
        told = ", ".join(f"{name} ({count})" for name, count in result["left_out"].items())
        count = sum(result["left_out"].values())
        message = f"{count} annotations of categories that the run does not learn were left out: {escaped(told)}"
        output.print(message, soft_wrap=True, highlight=False)
    if result["scores"]:
        _show_quality_scores(result["scores"])
    if suggest is not None:
        show_done("written", f"{suggest} ({result['changed']} boxes changed)")
    show_done("written", f"{out}; all in {stages.file('quality', '.json')}")


def _show_worst(result: dict[str, Any]) -> None:
    """A table; what speaks against an annotation takes what is left of the terminal's width, long names are folded."""
    title = f"the worst {len(result['worst'])} of {result['annotations']} annotations"
    table = Table("", "estimate", title=title)
    table.add_column("annotation", overflow="fold", max_width=max(12, output.width // 3))
    table.add_column("what speaks against it", overflow="fold")
    for rank, q in enumerate(result["worst"], 1):
        which = f"{q['name']}\n{q['image_id']}, no. {q['index']}"
        table.add_row(*map(escaped, (str(rank), f"{q['estimate']:.2f}", which, "; ".join(q["reasons"]) or "nothing")))
    output.print(table)


def _show_quality_scores(scores: dict[str, Any]) -> None:
    """How the estimates fare against the truth."""
    rank = "–" if scores["rank_correlation"] is None else f"{scores['rank_correlation']:.3f}"
    output.print(f"against the truth: calibration error {scores['error']:.3f}, rank correlation {rank}")
    suggested = "" if scores["suggested_iou"] is None else f", of the suggested ones {scores['suggested_iou']:.3f}"
    output.print(f"mean IoU of the annotated boxes with the true ones {scores['annotated_iou']:.3f}{suggested}")
    if scores["mask_iou"] is not None:
        output.print(f"mean IoU of the judged masks with the true ones {scores['mask_iou']:.3f}")
