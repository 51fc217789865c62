"""What could stand at the cursor: a class or a relation, a variable of the rule, a key or a value of the metadata."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neurosym.knowledge.editor.document import tokens
from neurosym.knowledge.editor.hover import KEYWORDS, describe
from neurosym.knowledge.editor.rulefile import RuleFile
from neurosym.knowledge.ontology import Ontology
from neurosym.knowledge.statements import STATUSES
from neurosym.logic import FUNCTIONS, quoted

METADATA: Final = {
    "id": "the rule's name, its own in the file",
    "status": "written or accepted: the rule is used; candidate or rejected: it is kept and does nothing",
    "source": "where the rule comes from: a guideline, a paper, counts of a data set",
    "reviewer": "who accepted or rejected it",
    "date": "when, as year-month-day",
    "reason": "why it was rejected",
    "distinct": "no: different variables may stand for one object",
    "ontology": "in a line of its own: the file's ontologies, separated by commas",
}
MOST: Final = 300
"""Suggestions at a time; the editor asks again as more letters are typed."""
_WORD_BEFORE = re.compile(r"'?\w*\Z")
_VALUE_BEFORE = re.compile(r"\b(\w+)=(\"?)([^\s\"]*)\Z")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A word that replaces what was typed from `start` on; `snippet` has $1, $2 … where the editor stops, "" for none."""

    text: str
    kind: str
    start: int
    detail: str = ""
    documentation: str = ""
    snippet: str = ""


def complete(
    file: RuleFile, ontology: Ontology | None, offset: int, ontologies: Iterable[Path] = ()
) -> tuple[list[Suggestion], bool]:
    """The suggestions at an offset, best first, and whether there were more than fit; `ontologies` are files to be named."""
    document = file.document
    line_start = document.line_start(offset)
    before = document.text[line_start:offset]
    last = tokens(before)[-1:]
    if last and last[0].kind == "comment":
        found = list(_metadata(last[0].text, offset, file, ontologies)) if last[0].text.startswith("%!") else []
        return found, False
    if last and last[0].kind == "string" and last[0].end == len(before):
        return [], False
    word = _WORD_BEFORE.search(before)
    typed = word[0] if word else ""
    start = offset - len(typed)
    inside_brackets = _wants_term(file, start)
    found = [Suggestion(name, "variable", start) for name in _variables(file, offset) if name.startswith(typed)]
    if inside_brackets:
        return found, False
    followed = document.text[offset : offset + 1] == "("
    names = list(_predicates(ontology, typed.strip("'"), start, followed)) if ontology is not None else []
    found = [*names[:MOST], *found, *_keywords(typed, start)]
    return found, len(names) > MOST


def _wants_term(file: RuleFile, offset: int) -> bool:
    """Whether an offset lies in the arguments of an atom or a function, or among the terms of a count."""
    entry = file.entry_at(offset)
    if entry is None or offset <= entry.start:
        return False
    open_: list[str] = []
    for token in tokens(file.document.text[entry.start : offset], entry.start):
        if token.text in ("(", "{"):
            open_.append(token.text)
        elif token.text in (")", "}") and open_:
            open_.pop()
        elif token.text == ":" and open_[-1:] == ["{"]:
            open_[-1] = ":"
    return open_[-1:] in (["("], ["{"])


def _variables(file: RuleFile, offset: int) -> list[str]:
    """The variables of the statement at an offset, but not the word that is being typed."""
    entry = file.entry_at(offset)
    if entry is None:
        return []
    words = tokens(file.document.text[entry.start : entry.end], entry.start)
    names = {t.text for t in words if t.kind == "variable" and not t.start < offset <= t.end}
    return sorted(names - {"_"})


def _predicates(ontology: Ontology, typed: str, start: int, followed: bool) -> Iterator[Suggestion]:
    """Names that begin with what was typed, then those of which a word, or a word of the label, begins so."""
    sought = typed.lower()
    ranked = []
    for arity, known in ((1, ontology.classes), (2, ontology.relations)):
        for name, entity in known.items():
            parts = (name.lower(), *name.lower().split("_"), *entity.label.lower().split())
            rank = next((i for i, part in enumerate(parts) if part.startswith(sought)), -1)
            if rank >= 0:
                ranked.append((min(rank, 1), name, arity, entity.label))
    for _, name, arity, label in sorted(ranked)[: MOST + 1]:
        arguments = "($1)" if arity == 1 else "($1, $2)"
        yield Suggestion(
            quoted(name),
            "class" if arity == 1 else "relation",
            start,
            label,
            describe(name, ontology),
            "" if followed else quoted(name) + arguments,
        )


def _keywords(typed: str, start: int) -> Iterator[Suggestion]:
    for word in ("count", "is", *FUNCTIONS):
        if word.startswith(typed):
            snippet = "count{$1 : $2}" if word == "count" else "" if word == "is" else f"{word}($1)"
            yield Suggestion(word, "keyword", start, "", KEYWORDS[word], snippet)


def _metadata(comment: str, offset: int, file: RuleFile, ontologies: Iterable[Path]) -> Iterator[Suggestion]:
    value = _VALUE_BEFORE.search(comment)
    if comment.count('"') % 2 and not (value and value[1] == "ontology"):
        return  # within quoted words
    if value:
        key, _, typed = value.groups()
        typed = typed.rsplit(",", 1)[-1]
        choices: list[str] = []
        if key == "status":
            choices = list(STATUSES)
        elif key == "distinct":
            choices = ["yes", "no"]
        elif key == "ontology":
            choices = [Path(os.path.relpath(p, file.document.path.parent)).as_posix() for p in ontologies]
        yield from (Suggestion(c, "value", offset - len(typed)) for c in choices if c.startswith(typed))
        return
    word = re.search(r"\w*\Z", comment)
    typed = word[0] if word else ""
    present = set(re.findall(r"(\w+)=", comment))
    for key, meaning in METADATA.items():
        if key.startswith(typed) and key not in present:
            yield Suggestion(key, "key", offset - len(typed), meaning, "", f"{key}=$1")
