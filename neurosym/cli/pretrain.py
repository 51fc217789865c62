"""`neurosym pretrain`: films without labels → weights of a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurosym.cli.console import AsJson, bars, print_json, show_done

_EPILOG = (
    "Examples: `neurosym pretrain experiments/pretrain/kermany.yaml --out runs/ssl`, "
    "`neurosym pretrain ssl.yaml --set train.steps=200 --set method=byol`, `neurosym pretrain ssl.yaml --resume`; "
    "then `model: {weights: …/runs/ssl/backbone.safetensors}` in a training config"
)


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog=_EPILOG)(pretrain)


def pretrain(
    config: Annotated[Path, typer.Argument(help="A YAML file, e.g. experiments/pretrain/kermany.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run folder's last checkpoint.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: key.sub=value.")] = None,
    as_json: AsJson = False,
) -> None:
    """Pretrain a backbone on films without labels; says after a few steps how long it will take."""
    from neurosym.learning.pretrain_config import load_pretrain_config

    settings = load_pretrain_config(config, set_ or ())
    from neurosym.learning.pretrain import WEIGHTS  # after the config: a typing mistake need not wait for torch
    from neurosym.learning.pretrain import pretrain as run_pretraining

    out = out or Path("runs") / settings.name
    with bars() as stage:
        advance = stage(f"pretrain {settings.name}")

        def progress(done: int, total: int, terms: dict[str, float]) -> None:
            advance(done, total, f"loss {terms['loss']:.3f}, {terms['films_per_second']:.0f} films/s")

        run = run_pretraining(settings, out, resume, progress)
    if as_json:
        print_json({"run": str(run.path), "step": run.step, "weights": str(run.path / WEIGHTS), "figures": run.metrics})
    else:
        show_done("pretrained", f"{run.path / WEIGHTS}; the card beside it says on what")
