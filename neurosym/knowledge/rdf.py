"""RDF files → one rdflib graph: Turtle, RDF/XML and N-Triples, with `owl:imports` resolved on this disk only.

An import is looked up in ``catalog-v001.xml`` (as Protégé writes it) beside the importing file, then among the ontologies of
that folder. The network is never asked. All problems of a file are reported with file and line.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlparse

from rdflib import Graph, URIRef
from rdflib.namespace import OWL, RDF
from rdflib.plugins.parsers.notation3 import BadSyntax

from neurosym.errors import OntologyError, Problem, short_path

_WORD = re.compile(r"[\w-]+")
FORMATS = {".ttl": "turtle", ".owl": "xml", ".rdf": "xml", ".nt": "nt"}
CATALOG = "catalog-v001.xml"
_CATALOG_URI = "{urn:oasis:names:tc:entity:xmlns:xml:catalog}uri"


def read_graph(path: Path, trail: tuple[Path, ...] = ()) -> tuple[Graph, tuple[Path, ...]]:
    """Read an ontology with everything it imports.

    Args:
        path: the file; its suffix names the syntax.
        trail: the files that are being read already (used to find import cycles).

    Returns:
        The merged graph, and the files it came from, importing file last.

    Raises:
        OntologyError: unreadable file, unknown suffix, syntax error, import not found locally, cyclic import.
    """
    path = path.resolve()
    if path in trail:
        circle = " → ".join(p.name for p in (*trail[trail.index(path) :], path))
        raise OntologyError(
            Problem(f"cyclic owl:imports: {circle}", short_path(path), cure="remove one of these imports")
        )
    graph = _parse(path)
    files: tuple[Path, ...] = ()
    for iri in sorted(str(o) for o in graph.objects(None, OWL.imports)):
        imported, seen = read_graph(resolve_import(iri, path), (*trail, path))
        graph += imported
        files += tuple(f for f in seen if f not in files)
    return graph, (*files, path)


def _parse(path: Path) -> Graph:
    syntax = FORMATS.get(path.suffix.lower())
    if syntax is None:
        raise OntologyError(
            Problem(f"unknown ontology format {path.suffix!r}; known: {', '.join(FORMATS)}", short_path(path))
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise OntologyError(Problem("not UTF-8 text", short_path(path), line, cure="save the file as UTF-8")) from error
    except OSError as error:
        raise OntologyError(Problem(f"cannot be read: {error.strerror}", short_path(path))) from error
    graph = Graph()
    try:
        graph.parse(data=text, format=syntax, publicID=path.as_uri())
    except BadSyntax as error:
        found = text[error._i : error._i + 30].split("\n")[0]
        message = f"Turtle syntax: {error._why}, found {found!r}"
        raise OntologyError(Problem(message, short_path(path), error.lines + 1)) from error
    except Exception as error:  # rdflib's other parsers raise whatever their XML library does
        line = getattr(error, "getLineNumber", lambda: 0)() or 0
        reason = getattr(error, "getMessage", lambda: str(error))()
        raise OntologyError(Problem(f"{syntax} syntax: {reason}".split("\n")[0], short_path(path), line)) from error
    return graph


def resolve_import(iri: str, importer: Path) -> Path:
    """The local file of an imported ontology."""
    folder = importer.parent
    entries = _catalog(folder / CATALOG)
    if iri in entries:
        target = folder / entries[iri]
        if target.is_file():
            return target
        problem = Problem(
            f"catalog maps <{iri}> to {entries[iri]!r}, which does not exist", short_path(folder / CATALOG)
        )
        raise OntologyError(problem)
    for candidate in sorted(p for p in folder.iterdir() if p.suffix in FORMATS and p != importer):
        if f"<{iri}>" in candidate.read_text(encoding="utf-8", errors="replace"):
            graph = _parse(candidate)
            if (URIRef(iri), RDF.type, OWL.Ontology) in graph:
                return candidate
    raise OntologyError(
        Problem(
            f"owl:imports <{iri}> is not on this disk",
            short_path(importer),
            line_of(importer, iri),
            cure=f"map it to a local file in {folder / CATALOG} (nothing is fetched from the network)",
        )
    )


def _catalog(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        root = ET.parse(path).getroot()  # noqa: S314
    except ET.ParseError as error:
        raise OntologyError(Problem(f"catalog is not XML: {error.msg}", short_path(path), error.position[0])) from error
    return {e.get("name", ""): unquote(urlparse(e.get("uri", "")).path) for e in root.iter(_CATALOG_URI)}


def line_of(path: Path, word: str) -> int:
    """The first line of a file that holds a word or an IRI (for messages); 0 if none does."""
    if "/" not in word:
        return _first_lines(path, path.stat().st_mtime_ns).get(word, 0)
    text = path.read_text(encoding="utf-8", errors="replace")
    return text[: text.find(word)].count("\n") + 1 if word in text else 0


@lru_cache(maxsize=32)
def _first_lines(path: Path, modified: int) -> dict[str, int]:
    """Each word of a file with the first line that holds it; `modified` makes an edited file be read anew."""
    found: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        for word in _WORD.findall(line):
            found.setdefault(word, number)
    return found
