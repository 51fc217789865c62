"""`neurosym loop`: rounds of train, induce, review, publish."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from neurosym.cli.console import AsJson, bars, console, escaped, output, print_json
from neurosym.cli.induction import Calibrated, Masks, warn_of_fit
from neurosym.errors import ConfigError

_EXAMPLES = (
    "Examples: `neurosym loop experiments/jsrt-anatomy/config.yaml --to rules/accepted.rules`, then `neurosym review` as it "
    "says, then the same again; `neurosym loop CONFIG --to accepted.rules --accept-plausible --rounds 2`, without reviewers"
)


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("loop", epilog=_EXAMPLES)(loop)


def loop(
    config: Annotated[Path, typer.Argument(help="A YAML file of a run.")],
    to: Annotated[Path, typer.Option("--to", help="The rule file for accepted rules; rejected ones go beside it.")],
    out: Annotated[Path | None, typer.Option(help="The loop's folder; runs/NAME-loop by default.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often rules are induced, judged and learned.")] = 1,
    on: Annotated[str, typer.Option(metavar="SPLIT", help="Induce from the predictions on this split.")] = "val",
    score: Annotated[str, typer.Option(metavar="SPLIT", help="Compare rounds on this split.")] = "test",
    offered: Annotated[int, typer.Option(min=1, help="So many of the first candidates are to be judged.")] = 20,
    min_confidence: Annotated[float, typer.Option(min=0.0, max=1.0, help="Lowest confidence of a candidate.")] = 0.8,
    masks: Masks = False,
    calibrated: Calibrated = False,
    accept_plausible: Annotated[
        bool, typer.Option("--accept-plausible", help="Nobody reviews: accept by figures. For experiments.")
    ] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: key.sub=value.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train, induce, review, publish, and train again with the accepted rules; tell what each round gained.

    It stops where a review is waited for; the same command goes on when every offered candidate has a verdict.
    """
    from neurosym.induction import InductionConfig
    from neurosym.learning.config import load_config
    from neurosym.rounds import Loop, Policy

    if on == score:
        raise ConfigError(f"--on and --score are both {on!r}: rounds would be compared where their rules were found")
    settings = load_config(config, set_ or ())
    with bars() as stage:
        loop = Loop(
            settings,
            out or Path("runs") / f"{settings.name}-loop",
            to,
            found_on=on,
            score=score,
            masks=masks,
            calibrated=calibrated,
            induction=InductionConfig(min_confidence=min_confidence),
            offered=offered,
            policy=Policy() if accept_plausible else None,
            stage=stage,
        )
        made = loop.run(rounds)
    if as_json:
        waiting = [str(c.rule) for c in made.waiting]
        print_json({"rounds": [asdict(r) for r in made.done], "waiting": waiting})
        return
    if calibrated:
        warn_of_fit(on)
    table = Table("round", "rules", "AP", "AP50", "violated", "candidates", "accepted")
    before = None
    for number, r in enumerate(made.done):
        gains = ("", "") if before is None else (f" {r.ap - before.ap:+.3f}", f" {r.ap50 - before.ap50:+.3f}")
        scores = (f"{r.ap:.3f}{gains[0]}", f"{r.ap50:.3f}{gains[1]}", f"{r.violated}/{r.fired}")
        table.add_row(str(number), str(r.taught), *scores, str(r.candidates), str(r.accepted))
        before = r
    output.print(table)
    for r in made.done:
        for problem in r.refused:
            console.print(escaped(f"refused: {problem}"), soft_wrap=True, highlight=False)
    last = made.done[-1]
    if made.waiting:
        told = (
            f"{len(made.waiting)} candidates wait for a verdict: `neurosym review {shlex.quote(str(last.run))}`, "
            "then this command again"
        )
        console.print(escaped(told), soft_wrap=True, highlight=False)
    elif len(made.done) <= rounds:
        console.print("no rule was accepted: nothing more to learn")
