"""Where a thing is declared, where else it is used, what a rule file holds, and the one-word cures of its mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from neurosym.errors import NeurosymError
from neurosym.knowledge.editor.document import Document, Token
from neurosym.knowledge.editor.project import Vocabulary
from neurosym.knowledge.editor.rulefile import RuleFile
from neurosym.knowledge.files import read_text
from neurosym.logic import KEYWORDS

_ID = re.compile(r'%!.*?(?<!\w)id=("?)([^\s"]+)\1')
_META_WORD = re.compile(r'[^\s"=,]+')


@dataclass(frozen=True, slots=True)
class Place:
    """A range of a document."""

    document: Document
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A rule of a file: its name, its text, its extent, and where its name stands."""

    name: str
    text: str
    start: int
    end: int
    name_start: int
    name_end: int


def definition(file: RuleFile, vocabulary: Vocabulary, offset: int, others: Iterable[RuleFile]) -> list[Place]:
    """Where the class, relation, ontology file or rule id under the cursor is declared."""
    token = file.document.token_at(offset)
    if token is None:
        return []
    if token.kind == "comment":
        return _from_metadata(file, token, offset, others)
    name = predicate_at(file, offset)
    return _declaration(name, vocabulary) if name else []


def _declaration(name: str, vocabulary: Vocabulary) -> list[Place]:
    ontology = vocabulary.ontology
    known = (ontology.classes.get(name) or ontology.relations.get(name)) if ontology else None
    if ontology is None or known is None:
        return []
    short, line = ontology.source.place(known.iri)
    document = read_document(Path(short).resolve())
    if document is None:
        return []
    start = document.offset_of(line or 1, 1)
    text = document.line_at(start)
    local = re.search(rf"(?<!\w){re.escape(re.split('[#/:]', known.iri)[-1])}(?!\w)", text)
    return [
        Place(document, start + local.start(), start + local.end())
        if local
        else Place(document, start, start + len(text))
    ]


def _from_metadata(file: RuleFile, token: Token, offset: int, others: Iterable[RuleFile]) -> list[Place]:
    word = next((m for m in _META_WORD.finditer(token.text) if m.start() <= offset - token.start <= m.end()), None)
    if word is None or not token.text.startswith("%!"):
        return []
    path = file.document.path.parent / word[0]
    if word[0] in file.ontologies and path.is_file():
        document = read_document(path.resolve())
        return [Place(document, 0, 0)] if document else []
    for candidate in chain((file,), others):
        for symbol in symbols(candidate):
            if symbol.name == word[0]:
                return [Place(candidate.document, symbol.name_start, symbol.name_end)]
    return []


def references(
    file: RuleFile, vocabulary: Vocabulary, offset: int, others: Iterable[RuleFile], declared: bool
) -> list[Place]:
    """Every use of the class or relation under the cursor in this and the other rule files."""
    name = predicate_at(file, offset)
    if not name:
        return []
    found = _declaration(name, vocabulary) if declared else []
    for candidate in chain((file,), others):
        if name in candidate.document.text:
            found += [Place(candidate.document, t.start, t.end) for t in candidate.predicates if t.name == name]
    return found


def predicate_at(file: RuleFile, offset: int) -> str:
    """The name of a class or a relation at an offset, "" if none stands there."""
    token = file.document.token_at(offset)
    if token is None or token.kind not in ("name", "quoted") or token.text in KEYWORDS:
        return ""
    return token.name


def symbols(file: RuleFile) -> Iterator[Symbol]:
    """The rules of a file by their ids; a statement without an id goes by its text."""
    for entry in file.entries:
        document = file.document
        line_end = document.line_start(entry.end) + len(document.line_at(entry.end))
        name = entry.statement.meta.get("id", "")
        found = _ID.search(document.text, entry.end, line_end)
        text = " ".join(document.text[entry.start : entry.end].split())
        if found and found[2] == name:
            yield Symbol(name, text, entry.start, line_end, *found.span(2))
        else:
            yield Symbol(name or text[:80], text, entry.start, entry.end, entry.start, entry.end)


def read_document(path: Path) -> Document | None:
    """A file as it lies on disk, None if it cannot be read."""
    try:
        return Document(path, read_text(path))
    except NeurosymError:
        return None
