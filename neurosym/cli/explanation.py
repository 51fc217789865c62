"""An explanation of one scene in the terminal: what is broken, what a repair changes, which rules are silent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table

from neurosym.cli.console import escaped, output

if TYPE_CHECKING:
    from neurosym.constraints.explanation import BrokenNote, SceneExplanation, SeenDetection


def show_explanation(found: SceneExplanation) -> None:
    """Print tables; nothing is left out but the silent rules' texts."""
    output.print(escaped(found.summary), soft_wrap=True)
    if found.violations:
        table = Table("", "what is wrong, by which rule, of which detections", show_lines=True)
        for number, broken in enumerate(found.violations, 1):
            table.add_row(str(number), escaped("\n".join(_lines(broken))))
        output.print(table)
    for change in found.changes:
        output.print(f"repair: {escaped(change.message)}", soft_wrap=True)
    for broken in found.unsatisfied:
        output.print(f"no repair can satisfy {escaped(broken.rule.id)}: {escaped(broken.message)}", soft_wrap=True)
    silent = [use for use in found.uses if not use.fired]
    if silent and found.detections:
        table = Table("did not fire", "why")
        for use in silent:
            table.add_row(escaped(use.rule.id), escaped(use.silent))
        output.print(table)


def _lines(broken: BrokenNote) -> Iterator[str]:
    rule = broken.rule
    yield broken.message
    if broken.missing:
        yield f"missing: {broken.missing}"
    yield f"{rule.id} ({', '.join(part for part in (rule.place, rule.trust) if part)})"
    yield f"  {rule.text}"
    yield from map(_shown, broken.detections)


def _shown(d: SeenDetection) -> str:
    return f"#{d.index} {d} at [{', '.join(f'{v:.0f}' for v in d.box)}]"
