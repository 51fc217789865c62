"""Rules and facts of the tests of inference, spelled as values."""

from __future__ import annotations

from typing import Any

from neurosym.knowledge.inference import Inference
from neurosym.logic import Atom, Rule, Term

X, Y, Z, D, E = Term("X"), Term("Y"), Term("Z"), Term("D"), Term("E")


def atom(predicate: str, *args: Term | str) -> Atom:
    return Atom(predicate, tuple(a if isinstance(a, Term) else Term(a, False) for a in args))


def rule(head: list[Atom], body: list[Atom], *conditions: Any, distinct: bool = True, name: str = "") -> Rule:
    return Rule(tuple(head), tuple(body), None, {"id": name} if name else {}, "", 0, tuple(conditions), distinct)


def names(found: Inference, predicate: str) -> list[Any]:
    return sorted(args[0] if len(args) == 1 else args for _, args in found.facts(predicate))
