"""XML that may be read: well-formed, not endlessly deep, and with no entity that grows or reaches outside this file.

Real OWL files declare short names in a DTD (``<!ENTITY owl "http://www.w3.org/2002/07/owl#">``); those stay. Nested and outside
entities are how a small file becomes gigabytes or reads another file ("billion laughs", XXE), so they are refused with
their line. Expat reads the file once, before any parser that would obey it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.parsers import expat

from neurosym.errors import OntologyError, Problem

MAX_LITERAL = 1_000_000
MAX_ENTITY = 1000
MAX_DEPTH = 1000
_LONG = re.compile(rf">[^<]{{{MAX_LITERAL + 1}}}")
_MISMATCH = expat.errors.codes[expat.errors.XML_ERROR_TAG_MISMATCH]
_TOO_EARLY = expat.errors.codes[expat.errors.XML_ERROR_NO_ELEMENTS]
_HARMLESS = 'only short names such as <!ENTITY owl "http://www.w3.org/2002/07/owl#"> may be declared'


@dataclass
class Markup:
    """What the parsers need to know of an XML text: its root element (namespace + name) and its entities."""

    root: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    entities: dict[str, str] = field(default_factory=dict)
    deepest: int = 0
    deepest_line: int = 0


def expat_parser() -> expat.XMLParserType:
    """A parser that names elements and attributes ``namespace local`` and takes every text as UTF-8."""
    parser = expat.ParserCreate(encoding="utf-8", namespace_separator=" ")
    parser.buffer_text = True
    return parser


def check_xml(text: str, file: str) -> Markup:
    """Read a text as XML.

    Raises:
        OntologyError: not well-formed, nested deeper than `MAX_DEPTH`, an entity that is not a short plain text, a text
            longer than `MAX_LITERAL`.
    """
    if long := _LONG.search(text):
        message, line = f"a text of more than {MAX_LITERAL:,} characters", text.count("\n", 0, long.start()) + 1
        raise OntologyError(Problem(message, file, line, cure="shorten it"))
    markup = Markup()
    parser = expat_parser()
    open_elements: list[tuple[str, int]] = []

    def refuse(message: str, cure: str = "") -> None:
        raise OntologyError(Problem(message, file, parser.CurrentLineNumber, parser.CurrentColumnNumber + 1, cure=cure))

    def doctype(name: str, system: str | None, public: str | None, internal: bool) -> None:
        if system or public:
            refuse(f"the DTD of this XML file lies outside it: {system or public!r}", "remove it from the DOCTYPE line")

    def entity(name: str, parameter: bool, value: str | None, *outside: str | None) -> None:
        if value is None or parameter:
            refuse(f"the XML entity {name!r} reaches outside this file", _HARMLESS)
        elif "&" in value or "<" in value or len(value) > MAX_ENTITY:
            refuse(f"the XML entity {name!r} is nested or long", _HARMLESS)
        else:
            markup.entities[name] = value

    def start(name: str, attributes: dict[str, str]) -> None:
        if not open_elements:
            markup.root, markup.attributes = name.replace(" ", ""), attributes
        open_elements.append((name.rpartition(" ")[2], parser.CurrentLineNumber))
        if len(open_elements) > markup.deepest:
            markup.deepest, markup.deepest_line = len(open_elements), parser.CurrentLineNumber
        if len(open_elements) > MAX_DEPTH:
            refuse(f"XML elements are nested deeper than {MAX_DEPTH}")

    def end(name: str) -> None:
        open_elements.pop()

    parser.StartDoctypeDeclHandler, parser.EntityDeclHandler = doctype, entity
    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        found = text.split("\n")[error.lineno - 1][error.offset :].strip()[:30]
        reason = f"{reason}, found {found!r}" if found else "the file ends too early"
        if open_elements and error.code in {_MISMATCH, _TOO_EARLY}:
            name, line = open_elements[-1]
            reason += f"; <{name}> of line {line} is still open"
        raise OntologyError(Problem(f"XML: {reason}", file, error.lineno, error.offset + 1)) from error
    return markup
