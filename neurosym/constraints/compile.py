"""Knowledge → index tensors: the rules a detector's output can be held against, and the reason for each that cannot.

A detector sees leaf classes; a rule may speak of any class above them. `closure[c, k] = 1` iff leaf class c is a k, so that
``probabilities @ closure`` is the probability of every class a rule names (a detection has one leaf class, so probabilities of
disjoint subclasses add up). Rules are grouped by shape, one row of an index tensor each, never one object per rule:

    pair         b₁(X), b₂(Y), g(X, Y) … → h(X, Y)     for all pairs of distinct objects; `X = Y` is the word `same`
    existential  b(X) → ∃Y h(X, Y), c(Y)               the best object decides

A denial ``:- b₁(X), b₂(Y), g(X, Y).`` is the pair rule with head ¬g(X, Y).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurosym.errors import ConstraintError, Problem
from neurosym.knowledge import Knowledge, Ontology
from neurosym.knowledge.geometry import PREDICATES, SIDES, SIZES, ZONES
from neurosym.records import Atom, Rule, Term

WORDS: tuple[str, ...] = tuple(PREDICATES)
TRUE = 2 * len(WORDS)
"""Index of the word that always holds; word w of (X, Y) has index w, of (Y, X) `len(WORDS) + w`."""


@dataclass(frozen=True)
class PairGroup:
    """`first` and `second` index the class columns of X and Y; `body` and `head` the words, padded with `TRUE`."""

    rule: Int[Tensor, " rule"]
    first: Int[Tensor, " rule"]
    second: Int[Tensor, " rule"]
    body: Int[Tensor, "rule body_word"]
    head: Int[Tensor, "rule head_word"]
    denied: Bool[Tensor, " rule"]


@dataclass(frozen=True)
class ExistentialGroup:
    """`first` is the class column of X, `second` of the object that must exist, `head` the words between them."""

    rule: Int[Tensor, " rule"]
    first: Int[Tensor, " rule"]
    second: Int[Tensor, " rule"]
    head: Int[Tensor, "rule head_word"]


@dataclass(frozen=True)
class ConstraintSet:
    """The compiled rules over the detector's classes `names` (background is column 0 of its probabilities).

    `unused` tells for each rule that constrains nothing here, why.
    """

    names: tuple[str, ...]
    rules: tuple[Rule, ...]
    unused: tuple[tuple[Rule, str], ...]
    closure: Float[Tensor, "leaf column"]
    confidence: Float[Tensor, " rule"]
    pairs: PairGroup
    existentials: ExistentialGroup

    def to(self, device: torch.device | str) -> ConstraintSet:
        """The same constraints with their tensors on a device."""

        def moved(group: PairGroup | ExistentialGroup) -> dict[str, Tensor]:
            return {k: v.to(device) for k, v in vars(group).items()}

        return replace(
            self,
            closure=self.closure.to(device),
            confidence=self.confidence.to(device),
            pairs=PairGroup(**moved(self.pairs)),
            existentials=ExistentialGroup(**moved(self.existentials)),
        )


def compile_constraints(knowledge: Knowledge, names: Sequence[str], required: bool = True) -> ConstraintSet:
    """Compile a rule set for a detector of the classes `names`.

    Raises:
        ConstraintError: an unknown class among `names`, or (if `required`) not a single rule that can constrain them.
    """
    ontology = knowledge.ontology
    unknown = [n for n in names if n not in ontology.classes]
    if unknown:
        raise ConstraintError([Problem(f"the detector's class {n!r} is not in {ontology.where}") for n in unknown])
    compiler = _Compiler(ontology, tuple(names))
    unused = []
    for rule in knowledge.rules:
        reason = compiler.add(rule)
        if reason:
            unused.append((rule, reason))
    if required and not compiler.rules:
        reasons = [Problem(f"{rule}: {why}", rule.file, rule.line) for rule, why in unused]
        raise ConstraintError([Problem("no rule constrains this detector"), *reasons])
    return compiler.finish(tuple(unused))


def _words(atoms: Sequence[Atom], ontology: Ontology, x: Term, y: Term) -> list[int] | None:
    """Binary atoms as word indices from x to y; None if one of them is not geometric."""
    indices = []
    for atom in atoms:
        word = "same" if atom.predicate == "=" else ontology.relations[atom.predicate].predicate
        if not word or set(atom.args) != {x, y}:
            return None
        indices.append(WORDS.index(word) + (len(WORDS) if atom.args[0] == y else 0))
    return indices


class _Compiler:
    def __init__(self, ontology: Ontology, names: tuple[str, ...]) -> None:
        self.ontology, self.names = ontology, names
        self.columns: list[frozenset[str]] = []
        self.rules: list[Rule] = []
        self.pair_rows: list[tuple[int, int, int, list[int], list[int], bool]] = []
        self.existential_rows: list[tuple[int, int, int, list[int]]] = []

    def add(self, rule: Rule) -> str:
        """Compile one rule; returns the reason if it cannot constrain a detector, else ""."""
        variables = tuple(dict.fromkeys(v for a in (*rule.body, *rule.head) for v in a.variables))
        if rule.conditions:
            return f"it has the condition {rule.conditions[0]}; constraints relate boxes by their geometry only"
        if not rule.body:
            return "it is a fact, about no object of an image"
        if any(not t.is_variable for a in (*rule.body, *rule.head) for t in a.args):
            return "it names a constant; objects of an image have no names"
        if len(variables) > 2:
            return f"it relates {len(variables)} objects; constraints relate at most 2"
        classes: dict[Term, list[str]] = {v: [] for v in variables}
        head_classes: dict[Term, list[str]] = {v: [] for v in variables}
        for atoms, table in ((rule.body, classes), (rule.head, head_classes)):
            for atom in atoms:
                if len(atom.args) == 1:
                    table[atom.args[0]].append(atom.predicate)
        missing = self._missing([c for table in (classes, head_classes) for cs in table.values() for c in cs])
        if missing in (*SIZES, *ZONES, *SIDES):
            return f"{missing!r} is a size or a place, which facts tell but constraints do not learn from"
        tied = self.ontology.categories.values()
        if missing and not any(self.ontology.is_a(c, missing) for c in tied):
            return f"class {missing!r} has no category, so no data can show it; add ns:category to it in the ontology"
        if missing:
            return f"no category of this data set is tied to {missing!r}"
        if rule.existential:
            return self._add_existential(rule, classes, head_classes)
        if any(head_classes.values()):
            return "its head is a class: the class hierarchy, not a relation between objects"
        return self._add_pair(rule, variables, classes)

    def _missing(self, names: Sequence[str]) -> str:
        return next((n for n in names if not any(self.ontology.is_a(leaf, n) for leaf in self.names)), "")

    def _column(self, classes: Sequence[str]) -> int:
        """The column of a conjunction of classes (of no class: any object at all)."""
        key = frozenset(classes)
        if key not in self.columns:
            self.columns.append(key)
        return self.columns.index(key)

    def _add_pair(self, rule: Rule, variables: tuple[Term, ...], classes: dict[Term, list[str]]) -> str:
        if len(variables) < 2:
            return "it is about a single object's classes, which exclude each other in the detector anyway"
        x, y = variables
        body = _words([a for a in rule.body if len(a.args) == 2], self.ontology, x, y)
        head = _words([a for a in rule.head if len(a.args) == 2], self.ontology, x, y)
        if body is None or head is None:
            return "a relation in it has no ns:predicate, so an image cannot show it"
        denied = not rule.head
        if denied:
            head, body = body, []
        row = (len(self.rules), self._column(classes[x]), self._column(classes[y]), body, head, denied)
        self.pair_rows.append(row)
        self.rules.append(rule)
        return ""

    def _add_existential(self, rule: Rule, classes: dict[Term, list[str]], head_classes: dict[Term, list[str]]) -> str:
        bound = [v for v in classes if v not in rule.existential]
        if len(bound) != 1 or any(len(a.args) == 2 for a in rule.body):
            return "an existential constraint needs a body about one object"
        x, y = bound[0], rule.existential[0]
        head = _words([a for a in rule.head if len(a.args) == 2], self.ontology, x, y)
        if head is None or head_classes[x]:
            return "a relation in it has no ns:predicate, so an image cannot show it"
        row = (len(self.rules), self._column(classes[x]), self._column(head_classes[y]), head)
        self.existential_rows.append(row)
        self.rules.append(rule)
        return ""

    def finish(self, unused: tuple[tuple[Rule, str], ...]) -> ConstraintSet:
        closure = torch.zeros(len(self.names) + 1, len(self.columns))
        for k, classes in enumerate(self.columns):
            for leaf, name in enumerate(self.names, 1):
                closure[leaf, k] = float(all(self.ontology.is_a(name, c) for c in classes))
        pairs, some = self.pair_rows, self.existential_rows
        return ConstraintSet(
            names=self.names,
            rules=tuple(self.rules),
            unused=unused,
            closure=closure,
            confidence=torch.tensor([1.0 if r.weight is None else r.weight for r in self.rules]),
            pairs=PairGroup(
                rule=_column(pairs, 0),
                first=_column(pairs, 1),
                second=_column(pairs, 2),
                body=_padded([row[3] for row in pairs]),
                head=_padded([row[4] for row in pairs]),
                denied=torch.tensor([row[5] for row in pairs], dtype=torch.bool),
            ),
            existentials=ExistentialGroup(
                rule=_column(some, 0),
                first=_column(some, 1),
                second=_column(some, 2),
                head=_padded([row[3] for row in some]),
            ),
        )


def _column(rows: Sequence[tuple[Any, ...]], column: int) -> Tensor:
    return torch.tensor([row[column] for row in rows], dtype=torch.long)


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max((len(r) for r in rows), default=0)
    return torch.tensor([[*r, *[TRUE] * (width - len(r))] for r in rows], dtype=torch.long).reshape(len(rows), width)
