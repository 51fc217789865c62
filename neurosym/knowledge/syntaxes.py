"""The text of an ontology file → triples, whatever syntax it is in: RDF syntaxes through pyoxigraph, the others through
py-horned-owl (`horned`) and `obo`.

``.owl``, ``.rdf`` and ``.xml`` say little about what is inside, so those are told apart by their content. Relative IRIs are
refused: they would mean another thing in every folder. Whatever is wrong is an `OntologyError` with line and column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn, cast

from neurosym.errors import OntologyError, Problem, short_path
from neurosym.knowledge import horned, obo
from neurosym.knowledge.safe_xml import MAX_LITERAL, Markup, check_xml
from neurosym.knowledge.triples import RDF, Literal, Node, Triple

if TYPE_CHECKING:
    import pyoxigraph

FORMATS = {
    ".ttl": "Turtle",
    ".owl": "RDF/XML",
    ".rdf": "RDF/XML",
    ".xml": "RDF/XML",
    ".nt": "N-Triples",
    ".jsonld": "JSON-LD",
    ".ofn": "functional",
    ".omn": "Manchester",
    ".owx": "OWL/XML",
    ".obo": "OBO",
}
MAX_BYTES = 500_000_000
_OXIGRAPH = {"Turtle": "TURTLE", "N-Triples": "N_TRIPLES", "JSON-LD": "JSON_LD", "RDF/XML": "RDF_XML"}
_OPENINGS = (  # after comments; the first that matches names the syntax
    (re.compile(r"<(\?xml|!DOCTYPE|!--|[\w.-]+(:[\w.-]+)?\s[^>]*?xmlns)"), "RDF/XML"),
    (re.compile(r"(Prefix|Ontology)\s*\("), "functional"),
    (re.compile(r"(Prefix|Ontology):"), "Manchester"),
    (re.compile(r"format-version:|\[(Term|Typedef)\]"), "OBO"),
    (re.compile(r"\{|\[\s*\{"), "JSON-LD"),
)
_COMMENTS = re.compile(r"(\s+|#[^\n]*)*")
_POSITION = re.compile(
    r"Parser error (?:at|between) line (?P<line>\d+)(?: between)? columns? (?P<column>\d+)"
    r"(?: and (?:line \d+ column )?\d+)?: (?P<reason>.*?)(?: \(line \d+\))?$",
    re.DOTALL,
)
_SMART = re.compile("[“”„‟«»‘’‚]")
_REMOTE_CONTEXT = re.compile(r'"@(context|import)"\s*:(?:.*?[\[,])??\s*"([^"]*)"\s*[,}\]]', re.DOTALL)


def read_text(path: Path, unsaved: Mapping[Path, str]) -> str:
    """The text of a file, or of the editor that has it open."""
    if path in unsaved:
        text = unsaved[path]
    else:
        data = _read_bytes(path)
        if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
            _refuse(path, "this is UTF-16 text, expected UTF-8", 1, cure="save the file as UTF-8")
        if b"\0" in data:
            line = data.count(b"\n", 0, data.index(b"\0")) + 1
            _refuse(path, "holds a NUL byte, so it is no text", line, cure="is this the right file?")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            _refuse(path, f"not UTF-8 text: byte 0x{data[error.start]:02x}", line, cure="save the file as UTF-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # else each parser counts lines in its own way
    if not text.strip():
        _refuse(path, "the file is empty")
    return text


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            _refuse(path, "is a folder, expected a file")
        if path.exists() and not path.is_file():
            _refuse(path, "is no ordinary file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            _refuse(
                path, f"has {size / 1e6:.0f} MB, the limit is {MAX_BYTES / 1e6:.0f} MB", cure="extract a module of it"
            )
        return path.read_bytes()
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror}")


def syntax_of(path: Path, text: str) -> str:
    """The syntax of a file: by its suffix, and by its content where the suffix says little."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        _refuse(path, f"unknown ontology format {path.suffix!r}; known: {', '.join(FORMATS)}")
    return FORMATS[suffix] if FORMATS[suffix] != "RDF/XML" else _sniffed(text)


def _sniffed(text: str) -> str:
    opening = _COMMENTS.match(text)
    start = opening.end() if opening else 0
    return next((name for pattern, name in _OPENINGS if pattern.match(text, start)), "Turtle")


def parse(path: Path, text: str, syntax: str, label: str, everything: bool = False) -> tuple[str, list[Triple]]:
    """The syntax that was found after all, and the triples.

    Args:
        path: for messages.
        syntax: as `syntax_of` names it; RDF/XML becomes OWL/XML where the root element says so.
        label: what the names of this file's blank nodes begin with.
        everything: whether OBO gives also what only people read (cross references, who wrote it when).
    """
    file = short_path(path)
    try:
        if syntax == "OBO":
            return syntax, obo.read_obo(text, file, label, everything)
        if syntax in {"RDF/XML", "OWL/XML"}:
            markup = check_xml(text, file)
            syntax = _xml_syntax(markup, file)
            if syntax == "OWL/XML":
                text = horned.without_entities(text, file, markup)
        if syntax in _OXIGRAPH:
            return syntax, _checked(_from_rdf(text, syntax, label, file), text, file)
        rdf, extra = horned.to_rdf(text, syntax, file, label)
        return syntax, _checked([*_from_rdf(rdf, "RDF/XML", label, file), *extra], text, file)
    except OntologyError as error:
        raise OntologyError([_with_cure(p, path, text, syntax) for p in error.problems]) from error


def _xml_syntax(markup: Markup, file: str) -> str:
    if markup.root == RDF + "RDF":
        return "RDF/XML"
    if markup.root == horned.ROOT and RDF + " about" not in markup.attributes:
        return "OWL/XML"
    name = re.split(r"[#/]", markup.root)[-1]
    raise OntologyError(
        Problem(
            f"the root element is <{name}>, expected <rdf:RDF> or <Ontology>", file, 1, cure="is this the right file?"
        )
    )


def _from_rdf(text: str, syntax: str, label: str, file: str) -> list[Triple]:
    import pyoxigraph

    syntax_code = getattr(pyoxigraph.RdfFormat, _OXIGRAPH[syntax])
    try:
        return _plain(pyoxigraph.parse(text.encode(), syntax_code), label, file, text)
    except MemoryError:
        line = _line_of_failure(text, syntax_code)
        raise OntologyError(Problem("a text of more than 16 MB", file, line, cure="shorten it")) from None
    except SyntaxError as error:
        raise OntologyError(_problem(str(error), text, file, syntax, syntax_code)) from error


def _plain(quads: Iterable[pyoxigraph.Quad], label: str, file: str, text: str) -> list[Triple]:
    from pyoxigraph import BlankNode, NamedNode
    from pyoxigraph import Triple as TripleTerm

    blanks: dict[str, str] = {}
    found: list[Triple] = []
    for quad in quads:
        s, o = quad.subject, quad.object
        if isinstance(s, TripleTerm) or isinstance(o, TripleTerm):
            message = "a triple inside a triple (RDF 1.2) means nothing in OWL"
            raise OntologyError(Problem(message, file, _line_of(text, "<<(")))
        subject = s.value if isinstance(s, NamedNode) else blanks.setdefault(s.value, f"_:{label}{len(blanks)}")
        value: Node
        if isinstance(o, NamedNode):
            value = o.value
        elif isinstance(o, BlankNode):
            value = blanks.setdefault(o.value, f"_:{label}{len(blanks)}")
        else:
            value = Literal(o.value, o.datatype.value, o.language or "")
        found.append((subject, quad.predicate.value, value))
    return found


def _problem(message: str, text: str, file: str, syntax: str, code: pyoxigraph.RdfFormat) -> Problem:
    if "LoadDocumentCallback" in message:
        remote = _REMOTE_CONTEXT.search(text)
        line = text.count("\n", 0, remote.start(2)) + 1 if remote else 0
        named = f" {remote[2]!r}" if remote else ""
        cure = "write the context into the file (nothing is fetched from the network)"
        return Problem(f"JSON-LD: the @context{named} is not in this file", file, line, cure=cure)
    position = _POSITION.match(message)
    if position is None:
        line, column, reason = _line_of_failure(text, code), 0, message
    else:
        line, column, reason = int(position["line"]), int(position["column"]), position["reason"]
    lines = text.split("\n", line)
    rest = lines[line - 1][max(column - 1, 0) :].strip()[:30] if 0 < line <= len(lines) and column else ""
    cure = ""
    if "No scheme found" in reason:
        reason = "a relative IRI means another thing in every folder"
        cure = "write the whole IRI" + ("" if syntax == "N-Triples" else ", or declare a base at the top of the file")
    elif reason.startswith("Unexpected end"):
        reason = "a text that begins here is never closed" if rest[:1] in {'"', "'"} else "the file ends too early"
        cure = "is it complete?" if not rest else ""
    elif reason.startswith("Invalid IRI"):
        cure = "an IRI holds no blanks, quotes or braces"
    elif "has not been declared" in reason:
        cure = "declare the prefix at the top of the file"
    found = f", found {rest!r}" if rest and "found" not in reason else ""
    return Problem(f"{syntax} syntax: {reason}{found}", file, line, column, cure)


class _LineByLine:
    """A file that hands out one line at a time, so that one knows where a parser gave up."""

    def __init__(self, text: str) -> None:
        self.data = text.encode()
        self.at = self.number = 0

    def read(self, size: int) -> bytes:
        """At most one line; a longer one in parts."""
        begins = self.at == 0 or self.data[self.at - 1 : self.at] == b"\n"
        self.number += begins and self.at < len(self.data)
        end = self.data.find(b"\n", self.at, self.at + size) + 1 or min(self.at + size, len(self.data))
        given, self.at = self.data[self.at : end], end
        return given


def _line_of_failure(text: str, code: pyoxigraph.RdfFormat) -> int:
    import pyoxigraph

    feed = _LineByLine(text)
    try:
        for _ in pyoxigraph.parse(cast("IO[bytes]", feed), code):
            pass
    except (SyntaxError, MemoryError):
        return feed.number
    return 0


def _checked(triples: list[Triple], text: str, file: str) -> list[Triple]:
    """The triples, if no text is gigantic."""
    for _, predicate, value in triples:
        if isinstance(value, Literal) and len(value.value) > MAX_LITERAL:
            line = _line_of(text, value.value[:40].split("\n")[0])
            name = re.split(r"[#/]", predicate)[-1]
            message = f"a text of {len(value.value):,} characters for {name!r}, the limit is {MAX_LITERAL:,}"
            raise OntologyError(Problem(message, file, line, cure="shorten it"))
    return triples


def _line_of(text: str, found: str) -> int:
    at = text.find(found)
    return text.count("\n", 0, at) + 1 if at >= 0 else 0


def _with_cure(problem: Problem, path: Path, text: str, syntax: str) -> Problem:
    """The problem with what usually causes it: quotes of a word processor, a suffix that does not fit the content."""
    cure = problem.cure
    lines = text.split("\n", problem.line)
    smart = _SMART.search(lines[problem.line - 1]) if 0 < problem.line <= len(lines) else None
    content = _sniffed(text)
    if smart and "IRI" not in problem.message:
        cure = f"write plain ASCII quotes instead of {smart[0]}"
    elif content not in {"Turtle", syntax} and syntax != "OWL/XML":
        suffix = next(s for s, name in FORMATS.items() if name == content)
        cure = f"the content looks like {content}: rename the file to {path.stem}{suffix}"
    return Problem(problem.message, problem.file, problem.line, problem.column, cure)


def _refuse(path: Path, message: str, line: int = 0, cure: str = "") -> NoReturn:
    raise OntologyError(Problem(message, short_path(path), line, cure=cure))
