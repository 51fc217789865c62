"""What a compiled rule is made of before it becomes numbers: literals of one object, literals of a pair, shapes.

A literal is a value: two rules that say the same of an object say it with equal literals, and share the number
(`neurosym.constraints.assemble`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from neurosym.constraints.numeric import Inequality


class ClassIs(NamedTuple):
    """The object's class is one of the leaves."""

    leaves: frozenset[int]
    positive: bool = True


class ClassGiven(NamedTuple):
    """The object's class is one of `leaves`, given that it is one of `among`."""

    leaves: frozenset[int]
    among: frozenset[int]


class PlaceIs(NamedTuple):
    """A place or size, by its index in `PLACES`."""

    place: int
    positive: bool = True


class WitnessIs(NamedTuple):
    """Some object of a column stands in these words (from this object to it)."""

    words: tuple[int, ...]
    column: Column
    reflexive: bool
    positive: bool = True


class CountIs(NamedTuple):
    """The number of objects of a column that stand in these words to this one: `weights` as in `shapes.Counts`."""

    words: tuple[int, ...]
    column: Column
    reflexive: bool
    offset: float
    weights: tuple[float, ...]


class Never(NamedTuple):
    """What cannot hold."""


class WordIs(NamedTuple):
    """A word between two objects, by its index among the words of (X, Y), then of (Y, X)."""

    word: int
    positive: bool = True


Literal: TypeAlias = ClassIs | ClassGiven | PlaceIs | WitnessIs | CountIs | Never | Inequality
Column: TypeAlias = frozenset[Literal]
PairLiteral: TypeAlias = WordIs | Inequality
NOTHING: Final[Column] = frozenset()


@dataclass(frozen=True)
class Shape:
    """A rule as columns of at most two objects and the literals between them."""

    objects: int
    body: tuple[Column, Column]
    between: tuple[PairLiteral, ...]
    head: tuple[Column, Column]
    head_between: tuple[PairLiteral, ...]
    denied: bool
    witness: WitnessIs | None = None


class Unusable(Exception):
    """Why a rule constrains nothing here."""


class Impossible(Unusable):
    """A rule whose head no detection of its body's classes can satisfy."""


def negated(literal: ClassIs | PlaceIs) -> ClassIs | PlaceIs:
    """The literal that holds where this one does not."""
    return literal._replace(positive=not literal.positive)


def common(classes: Iterable[ClassIs], leaves: frozenset[int]) -> frozenset[int]:
    """Those of some leaves that are of every class, and of none that is negated."""
    for part in classes:
        leaves = leaves & part.leaves if part.positive else leaves - part.leaves
    return leaves
