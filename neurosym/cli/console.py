"""What every command shares: where messages and results go, and how they look."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from neurosym.errors import Problem

if TYPE_CHECKING:
    from neurosym.loop import Advance

console = Console(stderr=True)
"""For messages and progress; results go to `output`."""
output = Console()

RunFolder = Annotated[Path, typer.Argument(help="A folder that `neurosym train` has written.")]
SplitName = Annotated[str, typer.Option(help="Split of the run's data: train, val, test or unlabelled.")]
Threshold = Annotated[float, typer.Option(min=0.0, max=1.0, help="Detections scored below it are left out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def show_problems(problems: Sequence[Problem]) -> None:
    """One line a problem, errors in red."""
    for problem in problems:
        kind = f"[{_COLOURS[problem.severity]}]{problem.severity}[/]"
        console.print(f"{kind} {escaped(str(problem))}", soft_wrap=True, highlight=False)


def escaped(text: str) -> str:
    """Text that rich takes letter for letter."""
    return text.replace("[", r"\[")


def show_done(done: str, told: str) -> None:
    """What was done, in green, and of which files, letter for letter."""
    console.print(f"[green]{done}[/] {escaped(told)}", soft_wrap=True, highlight=False)


def show_trained(out: Path, run: Path | None = None) -> None:
    """Where a training is, and the command that comes next: for `run`, by default the same folder."""
    next_ = f"neurosym evaluate {shlex.quote(str(run or out))}"
    show_done("trained", f"{out}; next: {next_}")


def print_json(value: Any) -> None:
    """A result for scripts."""
    typer.echo(json.dumps(value, indent=1))


class Bars(Progress):
    """Progress bars with the time that remains, one a stage, and lines below them while they move on a terminal."""

    def __init__(self) -> None:
        self._below = ""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        super().__init__(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console)

    def __call__(self, title: str) -> Advance:
        """Another stage."""
        task = self.add_task(title, total=None, note="")

        def advance(done: int, total: int, note: str) -> None:
            self.update(task, completed=done, total=total or None, note=note)

        return advance

    def below(self, text: str) -> None:
        """What stands below the bars from now on; lines are cut at the terminal's width."""
        self._below = text

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bars, and what stands below them."""
        yield from super().get_renderables()
        if self._below and not self.finished:
            yield Text(self._below, no_wrap=True, overflow="ellipsis")


@contextmanager
def bars() -> Iterator[Bars]:
    """Bars that stay on the screen when all is done; what stands below them does not."""
    with Bars() as shown:
        try:
            yield shown
        finally:
            shown.below("")
