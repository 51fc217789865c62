"""The verbs of data: `data degrade`; no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from neurosym.cli.console import AsJson, console, print_json
from neurosym.errors import ConfigError

data_app = typer.Typer(no_args_is_help=True, help="Work on annotation files.")
_HOWS = "uniform, too_big, partial, annotator, missing, wrong_label, point or coarse_mask."
_EXAMPLES = (
    "Examples: `neurosym data degrade train.json noisy.json --how uniform --r 0.4 --seed 0`, "
    "`neurosym data degrade train.json less.json --how missing --r 0.1 --rate nodule=0.5`, "
    "`neurosym data degrade train.json strokes.json --how coarse_mask --shape scribble --r 0.3`"
)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    data_app.command("degrade", epilog=_EXAMPLES)(degrade)
    data_app.callback()(lambda: None)  # a single command would else take the place of its group
    app.add_typer(data_app, name="data")


def degrade(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A COCO file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The COCO file to write.")],
    r: Annotated[
        float, typer.Option("--r", help="How much, 0 (nothing) to 1; what it means for each way: docs/data.md.")
    ],
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
    noise = degradation(how, r, seed, factor=factor, annotators=annotators, shape=shape, rates=rates)
    record = degrade_file(source, target, noise, bad_boxes)
    if as_json:
        print_json({"out": str(target)} | record)
        return
    counts = f"{record['changed']} of {record['annotations']} annotations changed, {record['dropped']} dropped"
    iou = "" if record["mean_iou"] is None else f", mean IoU with the true boxes {record['mean_iou']:.3f}"
    console.print(f"[green]written[/] {target} ({counts}{iou})", soft_wrap=True, highlight=False)
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
