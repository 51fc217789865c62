"""Graphs from files, by suffix.

    .tsv .txt   a fact a line, `subject⇥relation⇥object`, and a fourth field for its weight if it is not certain
    .nt .ttl    RDF: see `neurosym.induction.kg.rdf`
    .parquet    see `neurosym.induction.kg.tables`
    a folder    as `TripleStore.write` makes it

Text and RDF may be packed, with ``.gz`` after the suffix. Lines that are no facts are an error, the first of them shown
with their numbers; or, if asked for, they are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from neurosym.errors import InductionError, Problem, short_path
from neurosym.induction.kg.facts import Found, Triple, Triples, gather, opened, weighted
from neurosym.induction.kg.lines import read_lines
from neurosym.induction.kg.names import Names
from neurosym.induction.kg.rdf import SYNTAXES, read_rdf
from neurosym.induction.kg.store import Int64, TripleStore
from neurosym.induction.kg.tables import read_parquet

_TEXT: Final = (".tsv", ".txt")
_PARQUET: Final = ".parquet"
_EXPECTED: Final = "a fact is subject, relation and object between tabs"


class Splits(NamedTuple):
    """A benchmark in numbers of `train`: the facts to learn from, all known to be right, and those held back."""

    train: TripleStore
    known: TripleStore
    valid: tuple[Int64, Int64, Int64]
    test: tuple[Int64, Int64, Int64]


def read_graph(path: str | Path, strict: bool = True, literals: bool = False, full_iris: bool = False) -> Triples:
    """Read a file, or the folder of a store.

    Args:
        strict: a line that is no fact is an error; else it is left out.
        literals: of RDF, keep the facts that lead to literals.
        full_iris: of RDF, shorten no IRI, for a graph that comes in several files.

    Raises:
        InductionError: the suffix is unknown; the file cannot be read, has no facts, or, if `strict`, other lines.
    """
    path = Path(path)
    if path.is_dir():
        return _facts_of(TripleStore.open(path, verify=True))
    suffix = _suffix(path)
    if suffix in _TEXT:
        return read_triples(path, strict)
    if suffix in SYNTAXES:
        return read_rdf(path, strict, literals, full_iris)
    if path.suffix.lower() == _PARQUET:
        return read_parquet(path, strict)
    known = ", ".join((*_TEXT, *SYNTAXES))
    cure = f"known: {known}, each also with .gz, {_PARQUET}, and a folder that TripleStore.write made"
    raise InductionError(Problem(f"no graph is read from files {path.suffix!r}", file=short_path(path), cure=cure))


def read_triples(file: str | Path, strict: bool = True) -> Triples:
    """Read facts between tabs, whatever the file's suffix.

    Args:
        strict: a line that is no fact is an error; else it is left out.

    Raises:
        InductionError: the file cannot be read, has no facts, or, if `strict`, has other lines than facts.
    """
    file = Path(file)
    found = ((number, _fact(line)) for number, line in enumerate(_lines(file), 1) if line)
    return gather(short_path(file), found, strict, _EXPECTED)


def read_store(path: str | Path, strict: bool = True, literals: bool = False, full_iris: bool = False) -> TripleStore:
    """`read_graph(…).store()`; of facts between tabs by the million, and of the folder of a store without reading it.

    Raises:
        InductionError: see `read_graph`.
    """
    path = Path(path)
    if path.is_dir():
        return TripleStore.open(path)
    if _suffix(path) in _TEXT:
        return read_lines(path, _fact, strict, _EXPECTED)
    return read_graph(path, strict, literals, full_iris).store()


def read_splits(train: str | Path, valid: str | Path, test: str | Path, strict: bool = True) -> Splits:
    """Read the files of a benchmark; entities and relations of all of them are numbered together.

    Files of triples between tabs may have any suffix. IRIs of RDF are shortened in each file by itself, as where rules are
    learned from it.

    Raises:
        InductionError: see `read_graph`.
    """
    parts = [_part(Path(file), strict) for file in (train, valid, test)]
    facts = [fact for part in parts for fact in part.facts]
    entities = Names.of({e for s, _, o in facts for e in (s, o)})
    relations = Names.of({r for _, r, _ in facts})

    def columns(some: list[Triple]) -> tuple[Int64, Int64, Int64]:
        subjects, names, objects = zip(*some, strict=True)
        return entities.numbers(subjects), relations.numbers(names), entities.numbers(objects)

    weights = np.array(parts[0].weights, dtype=np.float32)
    return Splits(
        TripleStore.of_numbers(entities, relations, *columns(parts[0].facts), weights),
        TripleStore.of_numbers(entities, relations, *columns(facts)),
        columns(parts[1].facts),
        columns(parts[2].facts),
    )


def _part(file: Path, strict: bool) -> Triples:
    known = file.is_dir() or _suffix(file) in SYNTAXES or file.suffix.lower() == _PARQUET
    return read_graph(file, strict) if known else read_triples(file, strict)


def _facts_of(store: TripleStore) -> Triples:
    entities, relations = list(store.entities), list(store.relations)
    columns = (column.tolist() for column in store.columns())
    facts = [(entities[s], relations[r], entities[o]) for s, r, o in zip(*columns, strict=True)]
    if store.weight is None:
        return Triples(facts, [1.0] * len(facts), 0)
    forward = np.repeat(store.csr.direction_of & 1 == 0, np.diff(store.csr.start))
    return Triples(facts, store.weight[forward].tolist(), 0)


def _suffix(path: Path) -> str:
    """That of what is packed, if it is packed."""
    return Path(path.stem).suffix.lower() if path.suffix == ".gz" else path.suffix.lower()


def _lines(file: Path) -> Iterator[str]:
    with opened(file) as lines:
        for line in lines:
            yield line.decode().rstrip("\r\n")


def _fact(line: str) -> Found:
    """The fact of a line with its weight, or what is wrong with it."""
    fields = line.split("\t")
    if len(fields) not in (3, 4):
        expected = "subject, relation, object and perhaps a weight"
        return f"found {len(fields)} fields between tabs, expected {expected}: {line[:60]!r}"
    try:
        weight = float(fields[3]) if len(fields) == 4 else 1.0
    except ValueError:
        return f"the weight {fields[3][:20]!r} is no number"
    return weighted((fields[0], fields[1], fields[2]), weight)
