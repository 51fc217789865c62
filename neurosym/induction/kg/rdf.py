"""Graphs in RDF: N-Triples line by line, Turtle as a stream, both through pyoxigraph; and short names for their IRIs.

An IRI is named by what follows its last ``#``, ``/`` or ``:`` if no other IRI of the file has that name, else in full;
entities and relations each for themselves. rdf:type is the relation "a" (`TYPE`) always, and the other words of RDF,
RDFS, OWL and XSD keep their usual prefix (``rdfs:subClassOf``). A blank node is ``_:b0``, ``_:b1``, … in the order of
the file. A literal, where literals are wanted, is the entity named by its text, whatever its datatype and language; the
text stands in quotes if it is empty, begins with a quote, or is the name of another entity.

A line of N-Triples is a fact or wrong on its own. After a mistake in Turtle nobody knows where the next fact begins, so
there it is an error always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import pyoxigraph as ox

from neurosym.errors import InductionError, Problem, short_path
from neurosym.induction.kg.facts import TYPE, Found, Triples, gather, opened
from neurosym.knowledge.triples import OWL, RDF, RDFS, XSD
from neurosym.knowledge.triples import TYPE as RDF_TYPE
from neurosym.knowledge.vocabulary import local_name

SYNTAXES: Final = {".nt": ox.RdfFormat.N_TRIPLES, ".ttl": ox.RdfFormat.TURTLE}
BUILT_IN: Final = {RDF: "rdf:", RDFS: "rdfs:", OWL: "owl:", XSD: "xsd:"}
"""Vocabularies whose words keep a prefix."""
_TOGETHER: Final = 1 << 14
"""Lines of N-Triples that are parsed at once; only where one is wrong they are parsed one by one."""


def read_rdf(file: str | Path, strict: bool = True, literals: bool = False, full_iris: bool = False) -> Triples:
    """Read a file in N-Triples or Turtle, perhaps packed.

    Args:
        strict: a line of N-Triples that is no fact is an error; else it is left out.
        literals: keep the facts that lead to literals; else they are left out and counted.
        full_iris: shorten no IRI but rdf:type and those with a usual prefix.

    Raises:
        InductionError: the file cannot be read, has no facts, is broken Turtle, or, if `strict`, other lines.
    """
    file = Path(file)
    terms = Terms(literals)
    syntax = SYNTAXES[Path(file.stem if file.suffix == ".gz" else file).suffix.lower()]
    lines = _turtle(file, terms) if syntax == ox.RdfFormat.TURTLE else _n_triples(file, terms)
    return named(gather(short_path(file), lines, strict, f"expected {syntax.name}"), full_iris)


class Terms:
    """RDF terms as keys: an IRI is itself, a blank node ``_:b`` and its place, a literal a quote and its text."""

    def __init__(self, literals: bool) -> None:
        self.literals = literals
        self._kept: dict[str, str] = {}
        self._blanks: dict[str, str] = {}

    def iri(self, iri: str) -> str:
        return self._kept.setdefault(iri, iri)

    def blank(self, label: str) -> str:
        return self._blanks.setdefault(label, f"_:b{len(self._blanks)}")

    def literal(self, text: str) -> str | None:
        """None if literals are left out."""
        key = '"' + text
        return self._kept.setdefault(key, key) if self.literals else None


def named(triples: Triples, full_iris: bool) -> Triples:
    """Facts between keys of `Terms` → facts between names."""
    ends = {e for s, _, o in triples.facts for e in (s, o)}
    entities = _names((e for e in ends if e[0] not in '_"'), full_iris)
    entities |= {e: e for e in ends if e[0] == "_"}
    taken = set(entities.values()) | {""}
    for key in ends:
        if key[0] == '"':
            text = key[1:]
            entities[key] = f'"{text}"' if text in taken or text[0] == '"' else text
    relations = _names({r for _, r, _ in triples.facts} - {RDF_TYPE}, full_iris, TYPE) | {RDF_TYPE: TYPE}
    facts = [(entities[s], relations[r], entities[o]) for s, r, o in triples.facts]
    return triples._replace(facts=facts)


def _names(iris: Iterable[str], full_iris: bool, *taken: str) -> dict[str, str]:
    """Distinct names for distinct IRIs, other than those that are taken."""
    short = {iri: _short(iri, full_iris) for iri in iris}
    used = Counter([*short.values(), *short, *taken])
    return {iri: name if name and used[name] == 1 else iri for iri, name in short.items()}


def _short(iri: str, full_iris: bool) -> str:
    for base, prefix in BUILT_IN.items():
        if iri.startswith(base):
            return prefix + iri[len(base) :]
    return "" if full_iris else local_name(iri)


def _turtle(file: Path, terms: Terms) -> Iterator[tuple[int, Found]]:
    with opened(file) as stream:
        try:
            for quad in ox.parse(stream, ox.RdfFormat.TURTLE):
                yield 0, _fact(quad, terms)
        except (SyntaxError, MemoryError) as error:
            line, column = getattr(error, "lineno", 0), getattr(error, "offset", 0)
            message = f"Turtle syntax: {_reason(error)}"
            raise InductionError(Problem(message, short_path(file), line or 0, column or 0)) from error


def _n_triples(file: Path, terms: Terms) -> Iterator[tuple[int, Found]]:
    number = 1
    with opened(file) as stream:
        while block := list(islice(stream, _TOGETHER)):
            try:
                found = [_fact(quad, terms) for quad in ox.parse(b"".join(block), ox.RdfFormat.N_TRIPLES)]
                one_by_one = any(isinstance(f, str) for f in found)
            except (SyntaxError, MemoryError):
                one_by_one = True
            if one_by_one:
                yield from ((n, f) for n, line in enumerate(block, number) for f in _line(line, terms))
            else:
                yield from ((0, f) for f in found)
            number += len(block)


def _line(line: bytes, terms: Terms) -> list[Found]:
    try:
        return [_fact(quad, terms) for quad in ox.parse(line, ox.RdfFormat.N_TRIPLES)]
    except (SyntaxError, MemoryError) as error:
        return [f"{_reason(error)}: {line[:60].decode(errors='replace').rstrip()!r}"]


def _fact(quad: ox.Quad, terms: Terms) -> Found:
    ends = []
    for term in (quad.subject, quad.object):
        if isinstance(term, ox.NamedNode):
            ends.append(terms.iri(term.value))
        elif isinstance(term, ox.BlankNode):
            ends.append(terms.blank(term.value))
        elif isinstance(term, ox.Literal):
            text = terms.literal(term.value)
            if text is None:
                return None
            ends.append(text)
        else:
            return f"a fact about a fact (RDF 1.2): {str(term)[:60]}"
    return (ends[0], terms.iri(quad.predicate.value), ends[1]), 1.0


def _reason(error: SyntaxError | MemoryError) -> str:
    """What is wrong, without the place, which pyoxigraph puts before it."""
    return "a text of more than 16 MB" if isinstance(error, MemoryError) else error.msg.split(": ", 1)[-1]
