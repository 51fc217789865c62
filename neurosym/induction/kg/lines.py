"""Facts between tabs by the million: blocks of lines become columns of numbers, and no line a Python object.

Only lines that are no facts are looked at one by one, by the reader of single lines, which says what is wrong with them; and
weights, which are read as Python reads numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Final

import numpy as np

from neurosym.errors import Problem, short_path
from neurosym.induction.kg.coding import Bytes, Coder, Int64
from neurosym.induction.kg.compiled import compiled
from neurosym.induction.kg.facts import SHOWN, Found, judge, opened, readable
from neurosym.induction.kg.store import Float32, Int32, TripleStore

_BLOCK: Final = 1 << 24
_TAB, _NEWLINE, _RETURN = 9, 10, 13


class Lines:
    """The facts of a file as columns, in its order; and the lines that are none.

    `fact` says what a single line holds.
    """

    def __init__(self, source: str, fact: Callable[[str], Found]) -> None:
        self.source, self.fact = source, fact
        self.entities, self.relations = Coder(), Coder()
        self.columns: list[tuple[Int32, Int32, Int32]] = []
        self.weights: list[Float32] = []
        self.problems: list[Problem] = []
        self.number = self.wrong = 0

    def add(self, block: bytes) -> None:
        """Add whole lines."""
        text = np.frombuffer(block, dtype=np.uint8)
        _check(block)
        bounds = _bounds(text, block.count(b"\n") + 1)
        weights = np.ones(len(bounds))
        good = _are_facts(bounds)
        with_weight = np.flatnonzero(good & (bounds[:, 3] < bounds[:, 4]))
        weights[with_weight] = [_weight(block[a + 1 : b]) for a, b in bounds[with_weight, 3:].tolist()]
        good &= (weights > 0) & (weights <= 1)
        for i in np.flatnonzero(~good).tolist():
            self._refuse(block, bounds[i])
        self.number += block.count(b"\n")
        bounds = bounds[good]
        begin, first, second, third = (np.ascontiguousarray(bounds[:, k]) for k in range(4))
        self.columns.append(
            (
                self.entities.numbers(text, begin, first),
                self.relations.numbers(text, first + 1, second),
                self.entities.numbers(text, second + 1, third),
            )
        )
        self.weights.append(weights[good].astype(np.float32))

    def _refuse(self, block: bytes, bounds: Int64) -> None:
        self.wrong += 1
        if len(self.problems) < SHOWN:
            message = self.fact(_line(block, bounds))
            assert isinstance(message, str)
            number = self.number + block.count(b"\n", 0, int(bounds[0])) + 1
            self.problems.append(Problem(message, file=self.source, line=number))

    def store(self) -> TripleStore:
        """The facts as a store."""
        columns = [np.concatenate(parts) for parts in zip(*self.columns, strict=True)]
        weight = np.concatenate(self.weights)
        self.columns, self.weights = [], []
        entities, place = self.entities.sorted()
        relations, relation_place = self.relations.sorted()
        subject, relation, target = place[columns[0]], relation_place[columns[1]], place[columns[2]]
        del columns
        return TripleStore.of_numbers(entities, relations, subject, relation, target, weight)


def read_lines(file: Path, fact: Callable[[str], Found], strict: bool, expected: str) -> TripleStore:
    """Read a file of lines; see `neurosym.induction.kg.facts.gather`."""
    source = short_path(file)
    lines = Lines(source, fact)
    with readable(source), opened(file) as stream:
        for block in _blocks(stream):
            lines.add(block)
    facts = sum(len(column) for column, _, _ in lines.columns)
    judge(source, facts, lines.wrong, lines.problems, 0, strict, expected)
    return lines.store()


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """The stream in blocks of whole lines."""
    rest = b""
    while more := stream.read(_BLOCK):
        lines, newline, last = more.rpartition(b"\n")
        if newline:
            yield rest + lines + newline
            rest = last
        else:
            rest += more
    if rest:
        yield rest


def _check(block: bytes) -> None:
    """Raise what the first line raises that is no text."""
    try:
        block.decode()
    except UnicodeDecodeError:
        for line in BytesIO(block):
            line.decode()


def _weight(text: bytes) -> float:
    """NaN if it is no number."""
    try:
        return float(text.decode())
    except ValueError:
        return math.nan


def _line(block: bytes, bounds: Int64) -> str:
    return block[bounds[0] : bounds[4]].decode()


def _are_facts(bounds: Int64) -> np.ndarray:
    """Whether the lines have three or four fields, the first three not empty."""
    begin, first, second, third, _ = bounds.T
    found: np.ndarray = (begin < first) & (first + 1 < second) & (second + 1 < third)
    return found


@compiled
def _bounds(text: Bytes, most: int) -> Int64:
    """Of each line that is not empty: where it begins, where its first, second and third field end, and where it ends itself.

    A line with less than three fields or more than four says that its fields end where it begins.
    """
    bounds = np.empty((most, 5), dtype=np.int64)
    n, begin = 0, 0
    while begin < len(text):
        end, tabs = begin, 0
        while end < len(text) and text[end] != _NEWLINE:
            if text[end] == _TAB:
                tabs += 1
                if tabs <= 3:
                    bounds[n, tabs] = end
            end += 1
        after = end + 1
        while end > begin and text[end - 1] == _RETURN:
            end -= 1
        if end > begin:
            bounds[n, 0] = begin
            bounds[n, 4] = end
            if tabs == 2:
                bounds[n, 3] = end
            elif tabs != 3:
                bounds[n, 1:4] = begin
            n += 1
        begin = after
    return bounds[:n]
