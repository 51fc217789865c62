"""Where in a file the block about an IRI begins: ``:nodule a owl:Class``, ``rdf:about="…#nodule"``, ``id: X:1``.

One pass per file, made when the first message needs it. What has no block of its own is looked for as an IRI, then by its
local name or text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from urllib.parse import urljoin

from neurosym.knowledge.safe_xml import expat_parser
from neurosym.knowledge.stanzas import id_lines
from neurosym.knowledge.triples import RDF

Block = tuple[int, int]  # the first line and the one after the last
_TURTLE = re.compile(
    r'"""[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*+"""|' + r"'''[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*+'''|"
    r'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"|' + r"'[^'\\\n]*+(?:\\.[^'\\\n]*+)*+'|"
    r"#[^\n]*|<[^<>\s]*>|[^\s<>\"'#\[\](){};,]+|[\[\](){};,]",
    re.DOTALL,
)
_PREFIX = re.compile(r"(?:@prefix\s+|PREFIX\s+|Prefix\(\s*|Prefix:\s*)([\w.-]*:)\s*=?\s*<([^>]*)>", re.IGNORECASE)
_NAME = r"(<[^<>\s]*>|[\w.-]*:[\w.%-]+)"
_STARTS = {
    "N-Triples": re.compile(r"^\s*" + _NAME, re.MULTILINE),
    "functional": re.compile(r"^\s*\w+\((?:Annotation\([^)]*\)\s*)*(?:\w+\()?\s*" + _NAME, re.MULTILINE),
    "Manchester": re.compile(
        r"^\s*(?:Class|ObjectProperty|DataProperty|AnnotationProperty|Datatype|Individual):\s+(<[^<>\s]*>|[\w.%:-]+)",
        re.MULTILINE,
    ),
}
_ABOUT = (RDF + " about", RDF + " ID", RDF + " resource", "IRI", "abbreviatedIRI")
_BASE = "http://www.w3.org/XML/1998/namespace base"


class Places:
    """The lines of one file."""

    def __init__(self, text: str, syntax: str) -> None:
        self.text, self.syntax = text, syntax

    @cached_property
    def blocks(self) -> dict[str, list[Block]]:
        """Each IRI that blocks are about, with those blocks in the order of the file."""
        if self.syntax == "OBO":
            starts = list(id_lines(self.text).items())
        elif self.syntax in {"RDF/XML", "OWL/XML"}:
            starts = list(_xml_blocks(self.text))
        elif self.syntax == "Turtle":
            starts = list(_turtle_blocks(self.text))
        elif self.syntax in _STARTS:
            starts = list(_line_blocks(self.text, _STARTS[self.syntax]))
        else:
            starts = []
        starts.sort(key=lambda start: start[1])
        ends = [line for _, line in starts[1:]] + [self.text.count("\n") + 2] * bool(starts)
        found: dict[str, list[Block]] = {}
        for (iri, line), end in zip(starts, ends, strict=True):
            found.setdefault(iri, []).append((line, max(end, line + 1)))
        return found

    def of_block(self, node: str) -> int:
        """The line at which the first block about an IRI begins, 0 if there is none."""
        return self.blocks[node][0][0] if node in self.blocks else 0

    def in_block(self, node: str, words: tuple[str, ...]) -> int:
        """The first line of an IRI's blocks that holds one of the words, 0 if there is none."""
        pattern = _whole(*words)
        for start, end in self.blocks.get(node, ()):
            for number in range(start, end):
                if pattern.search(self._lines[number - 1 : number][0] if number <= len(self._lines) else ""):
                    return number
        return 0

    def of_mention(self, node: str) -> int:
        """The first line that names an IRI, its local name or a text; 0 if there is none."""
        at = self.text.find(node)
        if at < 0 or not _whole(node).match(self.text, at):
            found = _whole(node).search(self.text) or _whole(re.split(r"[#/]", node)[-1] or node).search(self.text)
            at = found.start() if found else -1
        return self.text.count("\n", 0, at) + 1 if at >= 0 else 0

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")


def _whole(*words: str) -> re.Pattern[str]:
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)")


def _turtle_blocks(text: str) -> Iterator[tuple[str, int]]:
    prefixes: dict[str, str] = {}
    base = ""
    line, counted = 1, 0
    statement: list[str] = []  # the first three tokens of the statement that is being read
    for match in _TURTLE.finditer(text):
        found = match[0]
        if found[0] == "#":
            continue
        bare = found.rstrip(".") if found[0] not in "<\"'" else found
        ended = bare != found
        if bare and len(statement) < 3:
            statement.append(bare)
            if len(statement) == 1:
                line += text.count("\n", counted, match.start())
                counted = match.start()
                if bare[0] == "<" or ":" in bare:
                    yield _iri(bare, prefixes, base), line
        word = statement[0].lower() if statement else ""
        if word in {"@prefix", "prefix"} and len(statement) == 3:
            prefixes[statement[1]] = _joined(base, statement[2][1:-1])
            ended = ended or word == "prefix"
        elif word in {"@base", "base"} and len(statement) == 2:
            base = _joined(base, statement[1][1:-1])
            ended = ended or word == "base"
        if ended:
            statement = []


def _joined(base: str, iri: str) -> str:
    """An IRI made absolute; one that is no address (a bracket that stays open, say) as it is written."""
    try:
        return urljoin(base, iri)
    except ValueError:
        return iri


def _iri(name: str, prefixes: dict[str, str], base: str = "") -> str:
    if name[0] == "<":
        return _joined(base, name[1:-1]) if base else name[1:-1]
    prefix, _, local = name.rpartition(":")
    return prefixes.get(f"{prefix}:", f"{prefix}:") + local.replace("\\", "")


def _line_blocks(text: str, start: re.Pattern[str]) -> Iterator[tuple[str, int]]:
    prefixes = {m[1]: m[2] for m in _PREFIX.finditer(text)}
    line, counted = 1, 0
    for match in start.finditer(text):
        line += text.count("\n", counted, match.start(1))
        counted = match.start(1)
        yield _iri(match[1], prefixes), line


def _xml_blocks(text: str) -> Iterator[tuple[str, int]]:
    """Each child of the root, under the first IRI that it or what is in it names."""
    parser = expat_parser()
    found: list[tuple[str, int]] = []
    prefixes: dict[str, str] = {}
    base = ""
    depth = begin = 0
    named = False

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, begin, named, base
        depth += 1
        base = attributes.get(_BASE, base) if depth == 1 else base
        if depth == 2:
            begin, named = parser.CurrentLineNumber, False
        if name.endswith(" Prefix"):
            prefixes[attributes.get("name", "") + ":"] = attributes.get("IRI", "")
        elif depth > 1 and not named and not name.endswith(("AnnotationProperty", "annotatedProperty")):
            key = next((k for k in _ABOUT if k in attributes), None)
            if key is not None:
                value = ("#" if key.endswith(" ID") else "") + attributes[key]
                found.append((_iri(value, prefixes) if key == "abbreviatedIRI" else _joined(base, value), begin))
                named = True

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(text.encode(), True)
    return iter(found)
