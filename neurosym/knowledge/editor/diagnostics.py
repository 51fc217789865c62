"""The mistakes of a document as marks on its text, and the replacement where a mistake is a word spelled wrongly.

A `Problem` has a place where it begins, sometimes only a line. The mark is the word there; without a column, the word that the
message quotes, or else the whole statement.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from neurosym.errors import Problem
from neurosym.knowledge.check import check_rules
from neurosym.knowledge.editor.document import Document
from neurosym.knowledge.editor.project import Vocabulary
from neurosym.knowledge.editor.rulefile import RuleFile
from neurosym.logic import quoted

log = logging.getLogger(__name__)

_SUGGESTION = re.compile(r"did you mean '([^']+)'\?")
_WORDS = re.compile(r"'([^']+)'|<[^<>]*?([^#/:<>]+)>")
_WORD = re.compile(r"[^\s,;()\[\]]+")
_NO_ONTOLOGY = (
    "no ontology is known for this file: names are taken as they are written; name one: %! ontology=path/to/file.ttl"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A mark from `start` to `end`; `severity` is "error", "warning" or "note", `replacement` the cure as text."""

    start: int
    end: int
    message: str
    severity: str
    replacement: str = ""


def rule_findings(file: RuleFile, vocabulary: Vocabulary) -> list[Finding]:
    """Every mistake of a rule file, by itself and against its ontology."""
    problems = list(file.syntax_problems)
    found = list(_about_ontology(file, vocabulary))
    try:
        problems += check_rules(file.rules, vocabulary.ontology)
    except Exception:  # what does not even parse is still worth telling
        log.exception("cannot check %s", file.file)
    ends: dict[int, int] = {}
    for entry in file.entries:
        ends[entry.statement.line] = entry.end
    for problem in problems:
        if problem.file in ("", file.file):
            found.append(_finding(file.document, problem, ends.get(problem.line, 0)))
        else:
            found.append(Finding(0, _line_end(file.document, 0), str(problem), problem.severity))
    return found


def _about_ontology(file: RuleFile, vocabulary: Vocabulary) -> Iterator[Finding]:
    start = file.directive
    end = _line_end(file.document, start)
    if vocabulary.ontology is None and not vocabulary.problems:
        yield Finding(start, end, _NO_ONTOLOGY, "note")
    elif vocabulary.ontology is None:
        for problem in vocabulary.problems:
            yield Finding(start, end, f"the ontology cannot be loaded: {problem}", "error")
    elif vocabulary.problems:
        message = f"the ontology cannot be loaded as it is now, its last good state is used: {vocabulary.problems[0]}"
        yield Finding(start, end, message, "warning")


def ontology_findings(document: Document, problems: Iterable[Problem]) -> list[Finding]:
    """The mistakes of an ontology file; one that lies in another file is told on the first line."""
    found = []
    for problem in problems:
        if not problem.file or Path(problem.file).resolve() == document.path.resolve():
            found.append(_finding(document, problem, 0))
        else:
            found.append(Finding(0, _line_end(document, 0), str(problem), problem.severity))
    return found


def _finding(document: Document, problem: Problem, statement_end: int) -> Finding:
    message = f"{problem.message}; {problem.cure}" if problem.cure else problem.message
    wrong, right = _misspelt(problem)
    start, end = _mark(document, problem, wrong, statement_end)
    marked = document.text[start:end]
    replacement = quoted(right) if document.path.suffix == ".rules" else right
    return Finding(start, end, message, problem.severity, replacement if right and marked.strip("'") == wrong else "")


def _misspelt(problem: Problem) -> tuple[str, str]:
    """The word of the message that is meant by "did you mean", and the word to write instead; both "" if there is none."""
    suggestion = _SUGGESTION.search(problem.cure)
    words = [a or b for a, b in _WORDS.findall(problem.message)]
    if suggestion is None or not words:
        return "", ""
    right = suggestion[1]
    return max(words, key=lambda word: difflib.SequenceMatcher(None, word, right).ratio()), right


def _mark(document: Document, problem: Problem, wrong: str, statement_end: int) -> tuple[int, int]:
    start = document.offset_of(problem.line, problem.column)
    line_end = _line_end(document, start)
    if problem.column:
        end = _token_end(document, start)
        return (start, min(end, line_end)) if start < line_end else (max(start - 1, document.line_start(start)), start)
    region_end = max(_line_end(document, statement_end), line_end) if statement_end else line_end
    region = document.text[start:region_end]
    for word in filter(None, (wrong, *(a or b for a, b in _WORDS.findall(problem.message)))):
        found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", region)
        if found:
            a, b = start + found.start(), start + found.end()
            in_quotes = document.text[a - 1 : a] == "'" == document.text[b : b + 1] and document.path.suffix == ".rules"
            return (a - 1, b + 1) if in_quotes else (a, b)
    start += len(region) - len(region.lstrip())
    return start, max(start, statement_end or line_end)


def _token_end(document: Document, start: int) -> int:
    if document.path.suffix != ".rules":
        word = _WORD.match(document.text, start)
        return word.end() if word else start + 1
    token = document.token_at(start)
    return token.end if token and token.start == start and token.kind != "comment" else start + 1


def _line_end(document: Document, offset: int) -> int:
    return document.line_start(offset) + len(document.line_at(offset))
