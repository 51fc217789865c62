"""Graphs from files: a fact a line, `subject⇥relation⇥object`, and a fourth field for its weight if it is not certain.

Files that end in ``.gz`` are unpacked on the way. Lines that are no facts are an error, the first of them shown with their
numbers; or, if asked for, they are left out and counted.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from neurosym.errors import InductionError, Problem, short_path
from neurosym.induction.kg.names import Names
from neurosym.induction.kg.store import Int64, TripleStore

Triple = tuple[str, str, str]
_SHOWN: Final = 5
log = logging.getLogger(__name__)


class Triples(NamedTuple):
    """The facts of a file, with their weights, in its order; how many lines were left out."""

    facts: list[Triple]
    weights: list[float]
    left_out: int

    def store(self) -> TripleStore:
        """The facts alone, as a store."""
        return TripleStore.of(self.facts, self.weights)


class Splits(NamedTuple):
    """A benchmark: the facts to learn from, all that are known to be right, and those held back, in numbers of `train`."""

    train: TripleStore
    known: TripleStore
    valid: tuple[Int64, Int64, Int64]
    test: tuple[Int64, Int64, Int64]


def read_triples(file: str | Path, strict: bool = True) -> Triples:
    """Read a file.

    Args:
        strict: a line that is no fact is an error; else it is left out.

    Raises:
        InductionError: the file cannot be read, has no facts, or, if `strict`, has other lines than facts.
    """
    file = Path(file)
    facts: list[Triple] = []
    weights: list[float] = []
    problems: list[Problem] = []
    wrong = 0
    try:
        for number, line in enumerate(_lines(file), 1):
            if not line:
                continue
            found = _fact(line)
            if isinstance(found, str):
                wrong += 1
                if len(problems) < _SHOWN:
                    problems.append(Problem(found, file=str(file), line=number))
                continue
            facts.append(found[0])
            weights.append(found[1])
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InductionError(f"{short_path(file)} cannot be read: {error}") from error
    if wrong and strict:
        more = [Problem(f"… and {wrong - _SHOWN} more such lines")] if wrong > _SHOWN else []
        raise InductionError(problems + more)
    if not facts:
        raise InductionError(f"{short_path(file)} has no facts: a fact is subject, relation and object between tabs")
    if wrong:
        log.warning("%s: %d lines are no facts and were left out, the first is line %d", file, wrong, problems[0].line)
    return Triples(facts, weights, wrong)


def read_splits(train: str | Path, valid: str | Path, test: str | Path, strict: bool = True) -> Splits:
    """Read the files of a benchmark; entities and relations of all of them are numbered together.

    Raises:
        InductionError: see `read_triples`.
    """
    parts = [read_triples(file, strict) for file in (train, valid, test)]
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


def _lines(file: Path) -> Iterator[str]:
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
        for line in lines:
            yield line.decode().rstrip("\r\n")


def _fact(line: str) -> tuple[Triple, float] | str:
    """The fact of a line with its weight, or what is wrong with it."""
    fields = line.split("\t")
    if len(fields) not in (3, 4):
        expected = "subject, relation, object and perhaps a weight"
        return f"found {len(fields)} fields between tabs, expected {expected}: {line[:60]!r}"
    if not all(fields[:3]):
        return f"a field is empty: {line[:60]!r}"
    weight = 1.0
    if len(fields) == 4:
        try:
            weight = float(fields[3])
        except ValueError:
            return f"the weight {fields[3][:20]!r} is no number"
        if not 0 < weight <= 1:
            return f"the weight {fields[3]} is not in (0, 1]"
    return (fields[0], fields[1], fields[2]), weight
