"""Propositional formulas as clauses: gates with constants folded away, shared where they are equal (Tseitin, 1968).

A literal is an integer, its negation the negative one, as in DIMACS. Everything is built from and-gates: ``any_of`` is
De Morgan's dual, ``at_least`` the table of partial sums ``s(i, j) = s(i-1, j) or (literal_i and s(i-1, j-1))``. A gate is
equivalent to what it stands for, in both directions, so it may be used with either sign; and since gates are numbered after
what they are made of, one pass gives their values for any assignment (`Cnf.values`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

TRUE: Final = 1
"""The literal that always holds."""


class Cnf:
    """Clauses under construction; `top` is the largest variable in use."""

    def __init__(self) -> None:
        self.top = TRUE
        self.clauses: list[list[int]] = [[TRUE]]
        self.gates: list[tuple[int, tuple[int, ...]]] = []
        self._known: dict[tuple[int, ...], int] = {}

    def new(self) -> int:
        """A fresh variable."""
        self.top += 1
        return self.top

    def add(self, clause: Iterable[int]) -> None:
        """A clause that must hold."""
        self.clauses.append(list(clause))

    def all_of(self, literals: Iterable[int]) -> int:
        """The literal of a conjunction; of nothing: `TRUE`."""
        members = set(literals)
        members.discard(TRUE)
        if -TRUE in members or any(-literal in members for literal in members):
            return -TRUE
        if len(members) < 2:
            return members.pop() if members else TRUE
        key = tuple(sorted(members))
        gate = self._known.get(key)
        if gate is None:
            gate = self._known[key] = self.new()
            self.gates.append((gate, key))
            self.clauses += [[-gate, member] for member in key]
            self.clauses.append([gate, *(-member for member in key)])
        return gate

    def any_of(self, literals: Iterable[int]) -> int:
        """The literal of a disjunction; of nothing: ``-TRUE``."""
        return -self.all_of([-literal for literal in literals])

    def at_least(self, literals: Sequence[int]) -> list[int]:
        """For j = 0 … len(literals) the literal of "at least j of them hold"."""
        sums = [TRUE] + [-TRUE] * len(literals)
        for seen, literal in enumerate(literals, 1):
            for j in range(seen, 0, -1):
                sums[j] = self.any_of((sums[j], self.all_of((literal, sums[j - 1]))))
        return sums

    def exactly_one(self, literals: Sequence[int]) -> None:
        """One and only one of the literals holds."""
        self.add(literals)
        for i, literal in enumerate(literals):
            self.clauses += [[-literal, -other] for other in literals[:i]]

    def values(self, assignment: Mapping[int, bool]) -> dict[int, bool]:
        """The values of all gates under an assignment of the variables that are no gates, with those variables."""
        value = {TRUE: True, **assignment}
        for gate, members in self.gates:
            value[gate] = all(value[abs(m)] == (m > 0) for m in members)
        return value
