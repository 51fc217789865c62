"""Ontology files, with what they import, → `Source`: one set of triples, the files, and the line of everything.

Ten syntaxes are read (`FORMATS`). An import is looked up in ``catalog-v001.xml`` beside the importing file, then among the
ontologies of that folder by ontology IRI or version IRI. The network is never asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from neurosym.errors import OntologyError, Problem, short_path
from neurosym.knowledge.catalog import CATALOG, catalog_file
from neurosym.knowledge.places import Places
from neurosym.knowledge.syntaxes import FORMATS, parse, read_text, syntax_of
from neurosym.knowledge.triples import OWL, RDF, TYPE, XSD, Literal, Triple, Triples, is_blank

if TYPE_CHECKING:
    from rdflib import Graph
    from rdflib.term import Node as RdflibNode

__all__ = ["FORMATS", "Source", "read_sources"]

MAX_DEPTH = 100


@dataclass(frozen=True)
class Document:
    """One file as it was read; `label` begins the names of its blank nodes."""

    path: Path
    text: str
    syntax: str
    label: str

    @cached_property
    def places(self) -> Places:
        """The lines of its blocks."""
        return Places(self.text, self.syntax)


@dataclass(frozen=True)
class Source:
    """Ontology files as read: their triples, where they came from, the whole graph for experts."""

    triples: Triples
    files: tuple[Path, ...]
    documents: tuple[Document, ...] = field(default=(), repr=False)

    def place(self, node: str, *words: str) -> tuple[str, int]:
        """The file and line where the block about an IRI begins, for messages.

        With `words`, the first line of such a block that holds one of them. What has no block is looked for as a text. If
        nothing is found: the last file, line 0.
        """
        documents = self.documents[::-1]
        for document in documents if words else ():
            if line := document.places.in_block(node, words):
                return short_path(document.path), line
        for document in documents:
            if line := document.places.of_block(node):
                return short_path(document.path), line
        for text in (node, *words):
            for document in documents:
                if text and not is_blank(text) and (line := document.places.of_mention(text)):
                    return short_path(document.path), line
        return short_path(self.files[-1]), 0

    @cached_property
    def graph(self) -> Graph:
        """The complete RDF, with every annotation, as rdflib's graph."""
        from rdflib import BNode, Graph, URIRef
        from rdflib import Literal as RdflibLiteral

        def term(node: str | Literal) -> RdflibNode:
            if isinstance(node, str):
                return BNode(node[2:]) if is_blank(node) else URIRef(node)
            if node.language:
                return RdflibLiteral(node.value, lang=node.language)
            return RdflibLiteral(
                node.value, datatype=None if node.datatype == XSD + "string" else URIRef(node.datatype)
            )

        graph = Graph()
        for d in self.documents:
            for s, p, o in parse(d.path, d.text, d.syntax, d.label, everything=True)[1]:
                graph.add((term(s), term(p), term(o)))
        return graph


def read_sources(paths: Iterable[Path], texts: Mapping[Path, str] | None = None) -> Source:
    """Read ontology files and everything they import.

    Args:
        paths: the files.
        texts: text that an editor has not saved yet, by absolute path; read instead of the file.

    Raises:
        OntologyError: a file that cannot be read or is wrong, an import that is not on this disk, a circle of imports.
    """
    loader = _Loader({path.resolve(): text for path, text in (texts or {}).items()})
    problems: list[Problem] = []
    for path in paths:
        try:
            loader.load(Path(path).resolve(), ())
        except OntologyError as error:
            problems += error.problems
    if problems:
        raise OntologyError(dict.fromkeys(problems))
    triples = Triples()
    for path in loader.order:
        for triple in loader.parsed[path][1]:
            triples.add(*triple)
    return Source(triples, tuple(loader.order), tuple(loader.order.values()))


class _Loader:
    def __init__(self, unsaved: Mapping[Path, str]) -> None:
        self.unsaved = unsaved
        self.parsed: dict[Path, tuple[Document, list[Triple]]] = {}
        self.texts: dict[Path, str] = {}
        self.order: dict[Path, Document] = {}

    def load(self, path: Path, trail: tuple[Path, ...]) -> None:
        """Put a file behind everything it imports; `trail` are the files that are being read already."""
        trail = (*trail, path)
        document, triples = self.parse(path)
        if path in self.order:
            return
        problems: list[Problem] = []
        for iri in sorted({o for _, p, o in triples if p == OWL + "imports" and isinstance(o, str)}):
            try:
                target = self.imported(iri, document)
                if target in trail:
                    circle = " → ".join(p.name for p in (*trail[trail.index(target) :], target))
                    message, line = f"cyclic owl:imports: {circle}", document.places.of_mention(iri)
                    raise OntologyError(Problem(message, short_path(path), line, cure="remove one of these imports"))
                self.load(target, trail)
            except OntologyError as error:
                problems += error.problems
        if problems:
            raise OntologyError(problems)
        self.order[path] = document

    def text(self, path: Path) -> str:
        """The text of a file, read once."""
        if path not in self.texts:
            self.texts[path] = read_text(path, self.unsaved)
        return self.texts[path]

    def parse(self, path: Path) -> tuple[Document, list[Triple]]:
        """A file with its triples, parsed once."""
        if path not in self.parsed:
            label = f"f{len(self.parsed)}n"
            text = self.text(path)
            syntax, triples = parse(path, text, syntax_of(path, text), label)
            document = Document(path, text, syntax, label)
            _check_depth(triples, document)
            self.parsed[path] = (document, triples)
        return self.parsed[path]

    def imported(self, iri: str, importer: Document) -> Path:
        """The local file of an imported ontology."""
        folder = importer.path.parent
        found = catalog_file(iri, folder)
        if found is not None:
            return found.resolve()
        broken: list[Problem] = []
        for candidate in sorted(p.resolve() for p in folder.iterdir() if p.suffix.lower() in FORMATS and p.is_file()):
            if candidate == importer.path:
                continue
            try:
                if candidate.suffix.lower() == ".obo" or iri in self.text(candidate):
                    triples = self.parse(candidate)[1]
                    if (iri, TYPE, OWL + "Ontology") in triples or any(
                        p == OWL + "versionIRI" and o == iri for _, p, o in triples
                    ):
                        return candidate
            except OntologyError as error:
                broken += error.problems
        catalog = short_path(folder / CATALOG)
        cure = f"put its file beside this one, or map it in {catalog} (nothing is fetched from the network)"
        line = importer.places.of_mention(iri)
        message = f"owl:imports <{iri}> is not on this disk"
        raise OntologyError([Problem(message, short_path(importer.path), line, cure=cure), *broken])


def _check_depth(triples: list[Triple], document: Document) -> None:
    """Refuse class expressions so deep that whoever follows them runs out of stack; a long list is not deep."""
    above: dict[str, tuple[str, bool]] = {}
    for subject, predicate, value in triples:
        if isinstance(value, str) and value.startswith("_:"):
            above.setdefault(value, (subject, predicate != RDF + "rest"))
    depth: dict[str, int] = {}
    for node in above:
        path = []
        at = node
        while at in above and at not in depth:
            depth[at] = 0  # until it is known; ends a circle
            path.append(at)
            at = above[at][0]
        level = depth.get(at, 0)
        for each in reversed(path):
            level += above[each][1]
            depth[each] = level
        if level > MAX_DEPTH:
            message = f"class expressions are nested deeper than {MAX_DEPTH}"
            climbed: set[str] = set()
            while node in above and node not in climbed:
                climbed.add(node)
                node = above[node][0]
            line = document.places.of_block(node)
            raise OntologyError(Problem(message, short_path(document.path), line, cure="give the inner ones names"))
