"""A rule file while it is being typed: its statements, the rules of those that parse, and which of them is where."""

from __future__ import annotations

import logging
import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from neurosym.errors import Problem, short_path
from neurosym.knowledge.editor.document import Document, Token, tokens
from neurosym.knowledge.rules import parse_statement
from neurosym.knowledge.statements import Statement, named_ontologies, split
from neurosym.logic import KEYWORDS, Rule

log = logging.getLogger(__name__)

_DIRECTIVE = re.compile(r"^[ \t]*%![^\n]*?\bontology=", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One statement between two offsets, of which `end` lies behind its dot; `rule` is None if it does not parse."""

    statement: Statement
    rule: Rule | None
    start: int
    end: int


class RuleFile:
    """A document read as a rule file."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.file = short_path(document.path)

    @cached_property
    def _read(self) -> tuple[list[Entry], list[Problem]]:
        entries: list[Entry] = []
        problems: list[Problem] = []
        for item in split(self.document.text, self.file):
            if not isinstance(item, Statement):
                continue
            rule: Rule | None = None
            try:
                rule, mistakes = parse_statement(item, self.file)
                problems += mistakes
            except Exception:  # one statement that upsets the parser must not hide the mistakes of all others
                log.exception("cannot parse %s:%d", self.file, item.line)
                problems.append(Problem("cannot be understood", self.file, item.line, item.column))
            start = self.document.offset_of(item.line, item.column)
            lines = item.text.split("\n")
            last = item.line + len(lines) - 1
            column = len(lines[-1].rstrip()) + (item.column if len(lines) == 1 else 1)
            entries.append(Entry(item, rule, start, max(start, self.document.offset_of(last, column))))
        return entries, problems

    @property
    def entries(self) -> list[Entry]:
        """The statements in the order of the file."""
        return self._read[0]

    @property
    def syntax_problems(self) -> list[Problem]:
        """What is wrong with statements and metadata, whatever the ontology."""
        return self._read[1]

    @property
    def rules(self) -> list[Rule]:
        """The rules of the statements that parse."""
        return [e.rule for e in self.entries if e.rule is not None]

    @cached_property
    def ontologies(self) -> tuple[str, ...]:
        """The files that lines `%! ontology=…` name, as written."""
        return tuple(named_ontologies(self.document.text))

    @property
    def directive(self) -> int:
        """The offset of the first such line, 0 if there is none."""
        found = _DIRECTIVE.search(self.document.text)
        return found.start() if found else 0

    @cached_property
    def predicates(self) -> list[Token]:
        """Every name that stands where a class or a relation does."""
        pairs = pairwise(tokens(self.document.text))
        return [a for a, b in pairs if a.kind in ("name", "quoted") and b.text == "(" and a.text not in KEYWORDS]

    def entry_at(self, offset: int) -> Entry | None:
        """The statement that an offset lies in, or, behind the dot, on whose last line it lies."""
        index = bisect_right(self.entries, offset, key=lambda e: e.start) - 1
        if index < 0:
            return self._on_line(0, offset)
        entry = self.entries[index]
        if offset <= entry.end or self.document.line_number(entry.end) == self.document.line_number(offset):
            return entry
        return self._on_line(index + 1, offset)

    def _on_line(self, index: int, offset: int) -> Entry | None:
        """The statement of that index if an offset stands before it on its line (an indented rule)."""
        if index >= len(self.entries):
            return None
        entry = self.entries[index]
        return entry if self.document.line_number(entry.start) == self.document.line_number(offset) else None
