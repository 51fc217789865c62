"""A rule file as bytes that stay: rules are added, and what stood there is not touched; and what others changed meanwhile.

New rules go under one heading, at its end, each on a line of its own. A file is written in the line ends it has.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurosym.errors import Problem, ReviewError, short_path
from neurosym.knowledge.files import read_text
from neurosym.knowledge.rules import format_rule, parse_rules
from neurosym.knowledge.statements import Remark, split
from neurosym.records import Rule
from neurosym.review.ledger import Key, rule_key

_MARK = "\ufeff"
_SECTION = "% ---"


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A rule file as it was when it was read; a missing one is empty. `text` has its own line ends and byte order mark."""

    path: Path
    text: str
    rules: tuple[Rule, ...]

    @property
    def digest(self) -> str:
        """Of the bytes."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def by_key(self) -> dict[Key, Rule]:
        """Its rules, active or not; of two that say the same the first."""
        return {rule_key(rule): rule for rule in reversed(self.rules)}


def read_rule_file(path: Path) -> RuleFile:
    """Read a rule file, following links: the file that is meant is the one that will be written.

    Raises:
        RuleError: it cannot be read or has a mistake.
    """
    path = Path(path).resolve()
    if not path.exists():
        return RuleFile(path, "", ())
    read_text(path)  # tells what is wrong with a file that is no text
    text = path.read_bytes().decode()
    return RuleFile(path, text, parsed(text, path))


def parsed(text: str, path: Path) -> tuple[Rule, ...]:
    """The rules of a file's own text."""
    return parse_rules(text.removeprefix(_MARK), short_path(path))


def lines_of(text: str) -> list[str]:
    """The lines with their ends, cut where the rule language cuts them."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def changed_rules(before: RuleFile, now: RuleFile) -> dict[Key, Rule]:
    """The rules that were added, removed, or altered in weight or metadata; of removed ones what they were."""
    old, new = before.by_key(), now.by_key()
    keys = [k for k in (*old, *new) if k not in old or k not in new or format_rule(old[k]) != format_rule(new[k])]
    return {k: new.get(k) or old[k] for k in dict.fromkeys(keys)}


def with_rules(file: RuleFile, rules: Sequence[Rule], heading: str, title: str = "") -> str:
    """The file's text with rules added under a heading; `title` opens a file that is new.

    Raises:
        ReviewError: the file is such that the text would not read as what it was and the rules.
    """
    if not rules:
        return file.text
    added = [format_rule(rule) for rule in rules]
    lines = lines_of(file.text)
    end = "\r\n" if file.text.count("\r\n") * 2 > len(lines) else "\n"
    place = _end_of_section(file, heading)
    if place is None:
        start = [f"% {line}" for line in title.splitlines()] if not file.text else []
        gap = [""] if start or (lines and lines[-1].strip()) else []
        added = [*start, *gap, heading, *added]
        place = len(lines)
    if place == len(lines) and lines and not lines[-1].endswith("\n"):
        lines[-1] += end
    text = "".join([*lines[:place], *(line + end for line in added), *lines[place:]])
    _require_additions_only(file, text, rules)
    return text


def _end_of_section(file: RuleFile, heading: str) -> int | None:
    """The number of lines before which new rules go; None if there is no such heading."""
    remarks = [i for i in split(file.text.removeprefix(_MARK)) if isinstance(i, Remark)]
    begins = next((r.line for r in remarks if r.text == heading), None)
    if begins is None:
        return None
    lines = lines_of(file.text)
    after = next((r.line - 1 for r in remarks if r.line > begins and r.text.startswith(_SECTION)), len(lines))
    while after > begins and not lines[after - 1].strip():
        after -= 1
    return after


def _require_additions_only(file: RuleFile, text: str, rules: Iterable[Rule]) -> None:
    expected = sorted(map(format_rule, (*file.rules, *rules)))
    if sorted(map(format_rule, parsed(text, file.path))) != expected:
        message = "rules cannot be added without changing what the others say"
        cure = "write metadata behind its rule, not on a line at the end of the file or of a section"
        raise ReviewError(Problem(message, short_path(file.path), cure=cure))
