"""What a set of known rules makes redundant: θ-subsumption (`neurosym.knowledge.subsumption`), and one step beyond it.

`Known` freezes the variables of a body, closes the body under the known rules (left_lung(X) brings lung(X); left_of(X, Y)
brings right_of(Y, X)), and asks whether the head, or another body atom, was to be expected anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from neurosym.knowledge.subsumption import Coded, by_predicate, encode, matches
from neurosym.records import Rule

Clause = tuple[Coded, tuple[Coded, ...]]
"""(head atom, body atoms), coded."""
_MOST_REMEMBERED: Final = 100_000


class Known:
    """Rules taken for granted; `closure(body)` is every atom they derive from a body whose variables are frozen.

    Most of an ontology's rules have one body atom (subclass, inverse, symmetry, domain and range); these are applied by
    copying arguments, the others by matching.
    """

    def __init__(self, clauses: Iterable[Clause] = (), *, injective: bool = True) -> None:
        self.injective = injective
        self.clauses: list[Clause] = []
        self._copying: dict[tuple[Any, int], list[tuple[Any, tuple[int, ...]]]] = {}
        """(body predicate, arity) → head predicate, and the body place that each head argument is copied from."""
        self._matching: list[Clause] = []
        self._superfluous: dict[tuple[Coded, ...], list[Coded]] = {}
        for clause in clauses:
            self.add(clause)

    def add(self, clause: Clause) -> None:
        """Take one more rule for granted."""
        self.clauses.append(clause)
        self._superfluous.clear()
        (predicate, args), body = clause
        premise, places = body[0]
        plain = all(isinstance(a, int) for a in places) and set(args) <= set(places)
        if len(body) == 1 and plain and len(set(places)) == len(places):
            copied = (predicate, tuple(places.index(a) for a in args))
            self._copying.setdefault((premise, len(places)), []).append(copied)
        else:
            self._matching.append(clause)

    def closure(self, atoms: Iterable[Coded], extra: Clause | None = None) -> set[Coded]:
        """The atoms and all their consequences, under the known rules and one more."""
        result = set(atoms)
        clauses = self._matching if extra is None else [*self._matching, extra]
        self._copy(result, list(result))
        # Each round derives an atom over the same few terms, so this ends.
        while clauses:
            target = by_predicate(result)
            new: set[Coded] = set()
            for (predicate, args), body in clauses:
                if all(p in target for p, _ in body):
                    for theta in matches(body, target, injective=self.injective):
                        new.add((predicate, tuple(theta.get(a, a) for a in args)))
            if new <= result:
                break
            self._copy(result, list(new - result))
        return result

    def _copy(self, result: set[Coded], pending: list[Coded]) -> None:
        """Add the pending atoms and what rules with one body atom derive from them."""
        while pending:
            atom = pending.pop()
            result.add(atom)
            predicate, args = atom
            steps = self._copying.get((predicate, len(args)))
            if steps is None or (self.injective and len(set(args)) < len(args)):
                continue
            for head, places in steps:
                new = (head, tuple([args[i] for i in places]))
                if new not in result:
                    pending.append(new)

    def entails(self, head: Coded, body: Iterable[Coded], extra: Clause | None = None) -> bool:
        """Does the head follow from the body (or stand in it)?"""
        return head in self.closure(body, extra)

    def superfluous(self, body: Sequence[Coded]) -> list[Coded]:
        """The atoms of a body that its other atoms imply, one by one in order of the body."""
        key = tuple(body)
        if key not in self._superfluous:
            if len(self._superfluous) >= _MOST_REMEMBERED:
                self._superfluous.clear()
            found = [a for i, a in enumerate(key) if self.entails(a, (*key[:i], *key[i + 1 :]))]
            self._superfluous[key] = found
        return self._superfluous[key]


def clauses_of(rule: Rule, numbers: Mapping[str, int] | None = None) -> list[Clause]:
    """A rule as clauses with one head atom each, predicates replaced by `numbers` where given.

    Denials, facts, equality and existential heads say nothing that can be chained and give no clause; nor does a rule with
    conditions, which a chain does not test, or with a relation outside `numbers`.
    """
    if not rule.body or rule.existential or rule.conditions:
        return []
    variables: dict[str, int] = {}
    head, body = encode(rule.head, variables), encode(rule.body, variables)
    atoms = (*head, *body)
    if any(p == "=" or (numbers is not None and p not in numbers) for p, _ in atoms):
        return []
    if numbers is not None:
        head = tuple((numbers[p], args) for p, args in head)
        body = tuple((numbers[p], args) for p, args in body)
    return [(atom, body) for atom in head]
