"""Wardedness: can every question about what the rules entail be answered? Arenas, Gottlob & Pieris, "Expressive languages for
querying the semantic web", ACM TODS 43(3), 2018 (warded Datalog±, the core of the Vadalog system: Bellomarini et al. 2018).

A position (predicate, place) is *affected* if an unnamed object that an existential rule invents can get there. A body variable
that occurs at affected positions only is *harmful*, and *dangerous* if the head has it too. A rule is warded if it has no
dangerous variable, or one body atom (the ward) holds them all and shares only harmless variables with the others. Warded sets
are decidable; so are weakly acyclic ones, in which the chase ends (Fagin et al. 2005). What is neither is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from neurosym.errors import Problem
from neurosym.logic import Atom, Rule, Term

Position = tuple[str, int]


def unwarded(rules: Sequence[Rule], axioms: Iterable[Rule] = ()) -> Iterator[Problem]:
    """The rules that are not warded, as warnings; none if the whole set, axioms included, is weakly acyclic."""
    whole = (*rules, *axioms)
    if not any(r.existential for r in whole) or _is_weakly_acyclic(whole):
        return
    affected = affected_positions(whole)
    for rule in rules:
        dangerous = _dangerous(rule, affected)
        if dangerous and not _has_ward(rule, dangerous, affected):
            names = ", ".join(map(str, sorted(dangerous)))
            message = f"not warded: no single body atom guards {names}, which may stand for unnamed objects"
            cure = "inference stops at a fixed depth here; bind them by one atom, or drop the existential head they come from"
            yield Problem(message, rule.file, rule.line, cure=cure, severity="warning")


def affected_positions(rules: Iterable[Rule]) -> set[Position]:
    """Where unnamed objects can get to."""
    rules = [r for r in rules if r.head and not any(a.predicate == "=" for a in r.head)]
    affected = {p for r in rules for v in r.existential for p in _positions(r.head, v)}
    grown = True
    while grown:
        grown = False
        for rule in rules:
            for v in rule.bound:
                if (
                    set(_positions(rule.body, v)) <= affected
                    and not (found := set(_positions(rule.head, v))) <= affected
                ):
                    if not set(_positions(rule.body, v)):
                        continue
                    affected |= found
                    grown = True
    return affected


def _positions(atoms: Iterable[Atom], variable: Term) -> Iterator[Position]:
    return ((a.predicate, i) for a in atoms for i, t in enumerate(a.args) if t == variable)


def _dangerous(rule: Rule, affected: set[Position]) -> set[Term]:
    head = {v for a in rule.head if a.predicate != "=" for v in a.variables}
    return {v for v in head if (where := set(_positions(rule.body, v))) and where <= affected}


def _has_ward(rule: Rule, dangerous: set[Term], affected: set[Position]) -> bool:
    for i, ward in enumerate(rule.body):
        if dangerous <= set(ward.variables):
            others = {v for j, a in enumerate(rule.body) if j != i for v in a.variables}
            shared = others & set(ward.variables)
            if all(not set(_positions(rule.body, v)) <= affected for v in shared):
                return True
    return False


def _is_weakly_acyclic(rules: Iterable[Rule]) -> bool:
    """No cycle of positions through an existential variable (Fagin et al. 2005, definition 3.7)."""
    plain: dict[Position, set[Position]] = {}
    special: list[tuple[Position, Position]] = []
    for rule in rules:
        invented = [p for v in rule.existential for p in _positions(rule.head, v)]
        for v in rule.bound:
            targets = set(_positions(rule.head, v))
            for position in _positions(rule.body, v) if targets else ():
                plain.setdefault(position, set()).update(targets)
                if invented:
                    plain[position].update(invented)
                    special += [(position, p) for p in invented]
    return not any(_reaches(plain, end, start) for start, end in set(special))


def _reaches(edges: dict[Position, set[Position]], start: Position, goal: Position) -> bool:
    seen, pending = {start}, [start]
    while pending:
        position = pending.pop()
        if position == goal:
            return True
        new = edges.get(position, set()) - seen
        seen |= new
        pending += new
    return False
