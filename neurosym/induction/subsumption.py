"""θ-subsumption between rules, and what a set of known rules makes redundant. Exact, by backtracking; clauses are
small.

Rule C subsumes rule D when, for every head atom of D, a substitution θ of C's variables maps a head atom of C onto it
and C's body into D's (Plotkin 1970): whatever D derives, C derives too. Under injective semantics θ must map distinct
variables to distinct terms (object identity, Esposito et al. 1996), because C itself only speaks of distinct entities.

`Known` goes one step beyond single rules. It freezes the variables of a body, closes the body under the known rules
(left_lung(X) brings lung(X); left_of(X, Y) brings right_of(Y, X)), and asks whether the head, or another body atom, was
to be expected anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final

from neurosym.induction.clauses import Coded, encode
from neurosym.records import Rule

Clause = tuple[Coded, tuple[Coded, ...]]
"""(head atom, body atoms), coded."""
_MOST_REMEMBERED: Final = 100_000


def subsumes(general: Rule, specific: Rule, *, injective: bool = True) -> bool:
    """Does `general` derive whatever `specific` derives, by θ-subsumption?

    >>> from neurosym.records import Atom, Rule, Term
    >>> x, z = Term("X"), Term("Z")
    >>> short = Rule((Atom("sick", (x,)),), (Atom("film", (x,)),))
    >>> subsumes(short, Rule(short.head, (*short.body, Atom("opacity", (z,)))))
    True
    """
    if bool(general.head) != bool(specific.head):  # a denial derives no atom, and nothing but a denial is a denial
        return False
    variables: dict[str, int] = {}
    general_head, general_body = encode(general.head, variables), encode(general.body, variables)
    unknown = {variables[v.name] for v in general.existential}
    others: dict[str, int] = {}
    head, body = encode(specific.head, others), _by_predicate(encode(specific.body, others))
    other_unknown = {others[v.name] for v in specific.existential}

    def covers(*pairs: tuple[Coded, Coded]) -> bool:
        """One substitution sends every chosen atom of the general head to its partner, and the body into the body."""
        theta: dict[int, Any] = {}
        for (predicate, args), (other, image) in pairs:
            if predicate != other or len(args) != len(image):
                return False
            if not all(_assign(a, b, theta, [], injective) for a, b in zip(args, image, strict=True)):
                return False
        # An existential variable promises some entity, which is no more than another rule's existential variable says.
        if any((a in unknown) != (b in other_unknown) for a, b in theta.items()):
            return False
        return is_match(general_body, body, injective=injective, theta=theta)

    if unknown:
        return any(covers(*zip(choice, head, strict=True)) for choice in product(general_head, repeat=len(head)))
    return all(any(covers((atom, wanted)) for atom in general_head) for wanted in head) and (bool(head) or covers())


def matches(
    pattern: Sequence[Coded],
    target: Mapping[Any, Sequence[tuple[Any, ...]]],
    *,
    injective: bool,
    theta: Mapping[int, Any] | None = None,
) -> Iterator[dict[int, Any]]:
    """All substitutions of the pattern's variables that send every pattern atom to a target atom.

    `target` lists argument tuples by predicate; its terms are opaque. A constant of the pattern matches only itself.
    """
    chosen: dict[int, Any] = dict(theta or {})
    pending = sorted(pattern, key=lambda atom: len(target.get(atom[0], ())))  # the most constrained atom first

    def extend(i: int) -> Iterator[dict[int, Any]]:
        if i == len(pending):
            yield dict(chosen)
            return
        predicate, args = pending[i]
        for image in target.get(predicate, ()):
            if len(image) != len(args):
                continue
            added: list[int] = []
            if all(_assign(a, b, chosen, added, injective) for a, b in zip(args, image, strict=True)):
                yield from extend(i + 1)
            for a in added:
                del chosen[a]

    yield from extend(0)


def is_match(
    pattern: Sequence[Coded],
    target: Mapping[Any, Sequence[tuple[Any, ...]]],
    *,
    injective: bool,
    theta: Mapping[int, Any] | None = None,
) -> bool:
    """Is there a substitution at all?"""
    return next(matches(pattern, target, injective=injective, theta=theta), None) is not None


def _assign(term: Any, image: Any, chosen: dict[int, Any], added: list[int], injective: bool) -> bool:
    if isinstance(term, str):
        return bool(term == image)
    if term in chosen:
        return bool(chosen[term] == image)
    if injective and image in chosen.values():
        return False
    chosen[term] = image
    added.append(term)
    return True


def _by_predicate(atoms: Iterable[Coded]) -> dict[Any, list[tuple[Any, ...]]]:
    grouped: dict[Any, list[tuple[Any, ...]]] = defaultdict(list)
    for predicate, args in atoms:
        grouped[predicate].append(args)
    return grouped


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
            target = _by_predicate(result)
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

    Denials, facts, equality and existential heads say nothing that can be chained and give no clause; nor does a rule
    with a relation outside `numbers`.
    """
    if not rule.body or rule.existential:
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
