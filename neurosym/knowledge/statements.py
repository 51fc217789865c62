"""A rule file as text: where each statement begins and ends, and which comment belongs to it.

A statement ends with a dot before white space, a comment or the end of the file; it may span lines. A comment that starts with
``%!`` carries metadata (``key=value``, values with blanks in double quotes): behind a statement or on a line before it, about
that statement; a line with ``ontology=…`` names the file's ontologies. Every other comment is kept where it is.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from neurosym.errors import Problem, did_you_mean

STATUSES = ("written", "accepted", "candidate", "rejected")
ACTIVE = frozenset({"", "written", "accepted"})
"""The statuses of rules that are used; a candidate or rejected rule is kept in its file and does nothing."""
LONGEST = 20_000
"""Characters that one statement may have."""

_META = re.compile(r'([A-Za-z_]\w*)=("[^"]*"|[^\s"“”]\S*)')
_MARKS = re.compile(r"""%[^\n]*|'[^'\n]*'|"(?:[^"\\\n]|\\.)*"|\.(?=\s|%|\Z)""")


@dataclass(slots=True)
class Statement:
    """One rule as written: `text` has its comments blanked, so that lines and columns stay true."""

    line: int
    column: int
    text: str
    meta: dict[str, str] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    trailing: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """A line without a rule: a comment, or blank (text "")."""

    line: int
    text: str


def split(text: str, file: str = "") -> Iterator[Statement | Remark]:
    """Cut the text of a rule file into statements and remarks, in order."""
    return _Splitter(text, file).items()


def directives(text: str) -> dict[str, str]:
    """The file's own metadata: lines ``%! ontology=…`` that stand alone."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.lstrip().startswith("%!") and "ontology=" in line:
            found.update((k, v.strip('"')) for k, v in _META.findall(line))
    return found


def named_ontologies(text: str) -> list[str]:
    """The ontology files that such lines name, as written: relative to the rule file."""
    return [name for part in directives(text).get("ontology", "").split(",") if (name := part.strip())]


class _Splitter:
    def __init__(self, text: str, file: str) -> None:
        self.lines, self.file = [line.rstrip("\r") for line in text.split("\n")], file
        self.pending: Statement | None = None
        self.meta: dict[str, str] = {}
        self.problems: list[Problem] = []

    def items(self) -> Iterator[Statement | Remark]:
        last: Statement | None = None  # the statement that ended on this line: a comment behind it is its own
        if not self.lines[-1]:
            self.lines.pop()  # what follows the last line's end
        for number, line in enumerate(self.lines, 1):
            if not line.strip() and self.pending is None:
                yield Remark(number, "")
                continue
            if self._is_new_rule(line):  # the dot of the rule before was forgotten
                yield self._end()
            elif self.pending is not None:
                self.pending.text += "\n"
            start, last = 0, None
            for mark in _MARKS.finditer(line):
                kind = mark[0][0]
                if kind == "%":
                    yield from self._take(number, line[start : mark.start()], start)
                    remark = self._comment(number, mark[0], last)
                    if remark is not None:
                        yield remark
                    start = len(line)
                elif kind == ".":
                    yield from self._take(number, line[start : mark.end()], start)
                    start = mark.end()
                    if self.pending is not None:
                        last = self._end()
                        if not line[start:].strip().startswith("%"):
                            yield last
                            last = None
            yield from self._take(number, line[start:], start)
            if last is not None:
                yield last
        if self.pending is not None:
            yield self._end()

    def _is_new_rule(self, line: str) -> bool:
        code = re.split(r"\.(?=\s|$)", re.sub(r"'[^'\n]*'|%.*", "", line))[0]
        return self.pending is not None and ":-" in code and ":-" in self.pending.text

    def _take(self, number: int, code: str, column: int) -> Iterator[Statement]:
        if self.pending is None:
            if not code.strip():
                return
            lead = len(code) - len(code.lstrip())
            self.pending = Statement(number, column + lead + 1, "")
            code = code.lstrip()
        self.pending.text += code
        if len(self.pending.text) > LONGEST:
            message = f"the rule is longer than {LONGEST} characters; is a '.' missing?"
            self.pending.problems.append(Problem(message, self.file, self.pending.line))
            self.pending.text = ""
            yield self._end()

    def _end(self) -> Statement:
        assert self.pending is not None
        done, self.pending = self.pending, None
        done.meta, self.meta = self.meta, {}
        done.problems += self.problems
        self.problems = []
        return done

    def _comment(self, number: int, comment: str, ended: Statement | None) -> Remark | None:
        if comment.startswith("%!") and not (ended is None and "ontology=" in comment):
            meta, problems = _metadata(comment[2:], self.file, number)
            if ended is not None:
                ended.meta = {**ended.meta, **meta}
                ended.problems += problems
            else:
                self.meta = {**self.meta, **meta}
                self.problems += problems
        elif ended is not None:
            ended.trailing = comment.rstrip()
        elif self.pending is not None:
            self.pending.comments.append(comment.rstrip())
        else:
            return Remark(number, comment.rstrip())
        return None


def _metadata(text: str, file: str, line: int) -> tuple[dict[str, str], list[Problem]]:
    meta = {k: v.strip('"') for k, v in _META.findall(text)}
    problems = []
    rest = _META.sub("", text).strip()
    if rest:
        quotes = "write plain ASCII quotes" if re.search("[“”„‟‘’«»]", rest) else 'write key=value or key="some words"'
        problems.append(Problem(f"metadata {rest[:40]!r} is not key=value", file, line, cure=quotes))
    if meta.get("status", "written") not in STATUSES:
        cure = did_you_mean(meta["status"], STATUSES)
        problems.append(Problem(f"unknown status {meta['status']!r}", file, line, cure=cure))
    if meta.get("distinct", "no") not in ("yes", "no"):
        problems.append(Problem(f"distinct={meta['distinct']} is neither yes nor no", file, line))
    try:
        datetime.date.fromisoformat(meta.get("date", "2000-01-01"))
    except ValueError:
        cure = "write it as year-month-day, e.g. 2026-01-31"
        problems.append(Problem(f"date {meta['date']!r} is not a date", file, line, cure=cure))
    return meta, problems
