"""The commands: check, rules, ontology, infer, lsp (knowledge); pretrain; train … demo (loop); findings; facts, induce;
review …; complete; data …. No logic here.

Messages and progress go to standard error, results to standard output (as JSON with ``--json``). Exit codes: 0 done,
1 something is wrong with what was given (each problem on a line), 2 an unknown option or command, 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer
from rich.logging import RichHandler

from neurosym import __version__
from neurosym.cli import data, findings, graphs, induction, knowledge, loop, pretrain, review, rounds
from neurosym.cli.console import console, show_problems
from neurosym.errors import ConfigError, NeurosymError, Problem
from neurosym.learning.launch import is_main, processes

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
knowledge.register(app)
pretrain.register(app)
loop.register(app)
findings.register(app)
induction.register(app)
review.register(app)
rounds.register(app)
graphs.register(app)
data.register(app)
_TRAINING = ("torch", "torchvision", "tensorboard", "safetensors", "jaxtyping", "lightly")
_REVIEW = ("fastapi", "starlette", "uvicorn")
_EXTRAS = {
    "pygls": "lsp",
    "lsprotocol": "lsp",
    "numba": "graphs",
    "pyarrow": "graphs",
    "distributed": "cluster",
    "highdicom": "dicom",
    "nibabel": "nifti",
    "pydicom": "dicom",
    **dict.fromkeys(_TRAINING, "train"),
    **dict.fromkeys(_REVIEW, "review"),
}


def main() -> None:
    """Entry point: every expected error is one message a problem, and exit code 1."""
    handler = RichHandler(console=console, show_path=False, show_time=False)
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[handler])
    try:
        app()
    except NeurosymError as error:
        if not is_main():  # torchrun's other processes speak of what they alone may have met
            console.print(f"process {os.environ['RANK']}:")
        show_problems(error.problems)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if extra is None:
            raise
        show_problems([Problem(f"{error.name} is not installed", cure=f"pip install 'neurosym-imaging[{extra}]'")])
    except OSError as error:
        named = error.filename2 or error.filename  # of a renaming the new name: the old one is no name of the user's
        if not named:
            raise
        show_problems([Problem(f"cannot be read or written: {error.strerror}", str(named))])
    sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neurosym {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version.")
    ] = False,
) -> None:
    """Ontologies and rules become training constraints; predictions become rules again."""
    if processes() > 1 and context.invoked_subcommand != "train":
        message = f"neurosym {context.invoked_subcommand} runs in one process"
        raise ConfigError(f"{message}; start it without torchrun, which is for neurosym train")
