"""Facts on their way from a file into a store.

A line that is no fact is an error, the first of them shown with their numbers; or, if asked for, it is left out and
counted.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

from neurosym.errors import InductionError, Problem
from neurosym.induction.kg.store import TripleStore

Triple = tuple[str, str, str]
Found = tuple[Triple, float] | str | None
"""What a line holds: a fact with its weight, or what is wrong with it, or None for a literal that nobody wants."""

TYPE: Final = "a"
"""The relation of membership: C(x) is the fact (x, "a", C), so that a store's row (a, C) is the set of C's members."""
SHOWN: Final = 5
"""How many problems of one kind are told one by one."""
log = logging.getLogger(__name__)


class Triples(NamedTuple):
    """The facts of a file, with their weights, in its order; how many lines were left out.

    `literals` counts the facts that are left out because they lead to a literal.
    """

    facts: list[Triple]
    weights: list[float]
    left_out: int
    literals: int = 0

    def store(self) -> TripleStore:
        """The facts alone, as a store."""
        return TripleStore.of(self.facts, self.weights)


def gather(source: str, lines: Iterable[tuple[int, Found]], strict: bool, expected: str) -> Triples:
    """What numbered lines hold.

    Args:
        source: the file, for messages.
        strict: a line that is no fact is an error; else it is left out.
        expected: what a fact looks like, for who has given a file without any.

    Raises:
        InductionError: the lines cannot be read, hold no facts, or, if `strict`, other lines than facts.
    """
    facts: list[Triple] = []
    weights: list[float] = []
    problems: list[Problem] = []
    wrong = literals = 0
    with readable(source):
        for number, found in lines:
            if isinstance(found, tuple):
                facts.append(found[0])
                weights.append(found[1])
            elif found is None:
                literals += 1
            else:
                wrong += 1
                if len(problems) < SHOWN:
                    problems.append(Problem(found, file=source, line=number))
    judge(source, len(facts), wrong, problems, literals, strict, expected)
    return Triples(facts, weights, wrong, literals)


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Tell of a file that cannot be read by its name."""
    try:
        yield
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InductionError(f"{source} cannot be read: {error}") from error


def opened(file: Path) -> IO[bytes]:
    """The bytes of a file, unpacked if it is packed, without a byte order mark, which is no part of the first name."""
    stream = gzip.open(file) if file.suffix == ".gz" else file.open("rb")  # noqa: SIM115  (the caller closes it)
    try:
        if stream.peek(len(BOM_UTF8)).startswith(BOM_UTF8):
            stream.read(len(BOM_UTF8))
    except BaseException:
        stream.close()
        raise
    return cast("IO[bytes]", stream)


def judge(
    source: str, facts: int, wrong: int, problems: list[Problem], literals: int, strict: bool, expected: str
) -> None:
    """Refuse what was found in a file, or warn of what is left out; see `gather`.

    Args:
        facts, wrong, literals: how many lines are facts, are none, and lead to literals that nobody wants.
        problems: the first of those that are none.
    """
    if wrong and strict:
        more = [Problem(f"… and {wrong - SHOWN} more such lines")] if wrong > SHOWN else []
        raise InductionError(problems + more)
    if not facts:
        only = (
            f"all {literals} lead to literals, which are left out unless they are asked for" if literals else expected
        )
        raise InductionError(f"{source} has no facts: {only}")
    if wrong:
        log.warning(
            "%s: %d lines are no facts and were left out, the first is line %d", source, wrong, problems[0].line
        )


def weighted(fact: Triple, weight: float) -> Found:
    """The fact with its weight, if both are sound.

    >>> weighted(("heart", "part of", ""), 1.0)
    "a field is empty: 'heart', 'part of', ''"
    """
    if not all(fact):
        return f"a field is empty: {', '.join(repr(field[:20]) for field in fact)}"
    if not 0 < weight <= 1:
        return f"the weight {weight:g} is not in (0, 1]"
    return fact, weight
