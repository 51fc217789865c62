"""Ground facts as tables: a relation is a list of rows and a dictionary from each row to the reason why it holds.

Rows are only ever added, so a position in the list says what somebody has seen already; hash indices on some of the arguments
are built when first asked for, and brought up to date when asked for again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from neurosym.logic import Atom, Term


class Text(NamedTuple):
    """A string literal, so that "a" the text is not `a` the individual."""

    value: str


class Null(NamedTuple):
    """An object that must exist and has no name; `depth` is how many others it was made from, one after the other."""

    number: int
    depth: int

    def __str__(self) -> str:
        return f"_:n{self.number}"


Value: TypeAlias = str | int | float | Text | Null
"""The name of an individual, a number, a text, or a labelled null. Numbers are equal by size: 1 is 1.0."""
Row: TypeAlias = tuple[Value, ...]
GroundAtom: TypeAlias = tuple[str, Row]
Signature: TypeAlias = tuple[str, int]
"""A predicate with its number of arguments."""
Binding: TypeAlias = tuple[Any, ...]
"""The number of a plan, then a value for each variable in the order in which the plan binds them."""
Picker: TypeAlias = Callable[[tuple[Any, ...]], Any]


def value_of(term: Term) -> Value:
    """The value that a constant stands for."""
    return Text(term.name) if term.datatype == "string" else term.value


def shown(value: Value) -> str:
    """A value as rule text spells it."""
    if isinstance(value, Null):
        return str(value)
    if isinstance(value, Text):
        return str(Term(value.value, False, "string"))
    return repr(value) if isinstance(value, int | float) else str(Term(value, False))


def shown_atom(atom: GroundAtom) -> str:
    """A ground atom as rule text spells it."""
    return str(Atom(atom[0], tuple(Term(shown(value)) for value in atom[1])))


def pick(positions: Sequence[int]) -> Picker:
    """A function from a tuple to the tuple of its values at some positions."""
    if not positions:
        return lambda _: ()
    first, last = positions[0], positions[-1]
    if list(positions) == list(range(first, last + 1)):
        return itemgetter(slice(first, last + 1))
    return itemgetter(*positions)


def pick_key(positions: Sequence[int]) -> Picker:
    """Like `pick`, but a single value comes bare: the key of an index."""
    return itemgetter(positions[0]) if len(positions) == 1 else pick(positions)


class Pattern(NamedTuple):
    """What is asked of a relation: which arguments are given, are constants, are equal to each other, are wanted."""

    key: tuple[int, ...]
    fixed: tuple[tuple[int, Value], ...] = ()
    same: tuple[tuple[int, int], ...] = ()
    wanted: tuple[int, ...] = ()

    def among(self, rows: Iterable[Row]) -> Iterable[Row]:
        """The rows that have the constants and the equal arguments."""
        for position, value in self.fixed:
            rows = [row for row in rows if row[position] == value]
        for one, other in self.same:
            rows = [row for row in rows if row[one] == row[other]]
        return rows


class Relation:
    """The facts of one predicate: `rows` in the order found, `why` from a row to its reason (None: it was given)."""

    __slots__ = ("_indices", "rows", "why")

    def __init__(self, why: dict[Row, Binding | None]) -> None:
        self.why = why
        self.rows: list[Row] = list(self.why)
        self._indices: dict[Pattern, tuple[dict[Any, Any], list[int]]] = {}

    def add(self, fresh: Mapping[Row, Binding]) -> None:
        """Add rows that are not there yet."""
        self.why.update(fresh)
        self.rows.extend(fresh)

    def index(self, pattern: Pattern) -> dict[Any, Any]:
        """From the key to the wanted parts of all rows that fit; just the keys where nothing is wanted."""
        found = self._indices.get(pattern)
        if found is None:
            found = self._indices[pattern] = (defaultdict(list) if pattern.wanted else {}, [0])
        table, seen = found
        if seen[0] < len(self.rows):
            rows = pattern.among(self.rows[seen[0] :] if seen[0] else self.rows)
            seen[0] = len(self.rows)
            key = pick_key(pattern.key)
            if pattern.wanted:
                wanted = pick(pattern.wanted)
                for row in rows:
                    table[key(row)].append(wanted(row))
            else:
                table.update(dict.fromkeys(map(key, rows)))
        return table


Store: TypeAlias = dict[Signature, Relation]
"""The relations that have at least one row."""
