r"""Which rules a scene breaks, read straight off the definition in docs/rules.md: the check that repair answers to.

A rule is broken where its body holds and its head does not, for detections (of at least a score) as they are labelled. Bodies
are matched by plain backtracking, without the joins, bit masks and formulas that a repair is computed with, so that a mistake
there is found here. What is not labelled, measured or placed is false; a relation holds of nothing with itself.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, TypeAlias

import numpy as np

from neurosym.constraints.worlds import Words, places_of_all
from neurosym.knowledge import Ontology
from neurosym.knowledge.geometry import MEASURES, PREDICATES
from neurosym.logic import Atom, Comparison, Condition, Count, Expression, Negation, Operand, Rule, Term
from neurosym.records import Scene

Theta: TypeAlias = Mapping[str, Any]
"""What variables (by name) stand for: the index of a detection (int), or a value (float)."""


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """One place where a rule does not hold: the rule, and the detections (indices in the scene) that its body is about."""

    rule: Rule
    detections: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        return self.rule.id

    @property
    def axiom(self) -> str:
        """The IRI of the class or property whose axiom the rule is, "" for a rule of a file."""
        return self.rule.meta.get("axiom", "")

    @property
    def place(self) -> str:
        """``file:line``, as far as it is known."""
        return f"{self.rule.file}:{self.rule.line}" if self.rule.line else self.rule.file

    def __str__(self) -> str:
        where = f" ({self.place})" if self.place else ""
        return f"{self.id}{where}: {self.rule}"


class SceneFacts:
    """What holds of a scene's detections of declared classes; others, and those below the threshold, are not seen."""

    def __init__(self, scene: Scene, ontology: Ontology, threshold: float = 0.0) -> None:
        self.ontology = ontology
        self.seen = [i for i, d in enumerate(scene.detections) if d.score >= threshold and d.name in ontology.classes]
        names = [scene.detections[i].name for i in self.seen]
        self.words = Words(scene, self.seen)
        self.boxes = self.words.boxes
        self.width, self.height = float(scene.width), float(scene.height)
        frame = {n: n if any(ontology.is_a(n, z) for z in ontology.zoned) else "" for n in names}
        places = places_of_all(self.boxes, [frame[n] for n in names], self.width, self.height)
        self.members: dict[str, dict[int, None]] = {}
        for i, (name, words) in enumerate(zip(names, places, strict=True)):
            for stated in (name, *(w for w in words if w in ontology.classes)):
                for c in (stated, *sorted(ontology.ancestors(stated))):
                    self.members.setdefault(c, {})[i] = None
        self._relations: dict[str, list[list[bool]]] = {}
        self._measures: dict[str, list[float]] = {}

    def relation(self, word: str) -> list[list[bool]]:
        """The table of a relation."""
        if word not in self._relations:
            self._relations[word] = self.words[word].tolist()
        return self._relations[word]

    def measure(self, word: str) -> list[float]:
        """The values of a measure of one detection."""
        if word not in self._measures:
            values = np.asarray(MEASURES[word](self.boxes, self.width, self.height, np), dtype=np.float64)
            self._measures[word] = values.tolist()
        return self._measures[word]

    def word(self, atom: Atom) -> str:
        """The geometric word of an atom, "" for a class."""
        if len(atom.args) == 1 and atom.predicate in self.ontology.classes:
            return ""
        relation = self.ontology.relations.get(atom.predicate)
        return relation.predicate if relation else atom.predicate

    def matches(self, atoms: Sequence[Atom], theta: Theta) -> Iterator[Theta]:
        """Every way to give the atoms' free variables detections and values so that all of them hold."""
        return self._matched(self._ordered(atoms, theta), 0, theta)

    def _ordered(self, atoms: Sequence[Atom], bound: Iterable[str]) -> list[tuple[Atom, str]]:
        """Atoms with their words, the fewest free variables first, classes before relations: it prunes most."""
        ordered, known = [], set(bound)
        ahead = list(atoms)
        while ahead:
            best = ahead[0]
            if len(ahead) > 1:
                best = min(ahead, key=lambda a: (sum(v.name not in known for v in a.variables), len(a.args)))
                known |= {v.name for v in best.variables}
            ahead.remove(best)
            ordered.append((best, self.word(best)))
        return ordered

    def _matched(self, atoms: Sequence[tuple[Atom, str]], step: int, theta: Theta) -> Iterator[Theta]:
        if step == len(atoms):
            yield theta
            return
        for extended in self._extensions(*atoms[step], theta):
            yield from self._matched(atoms, step + 1, extended)

    def _extensions(self, atom: Atom, word: str, theta: Theta) -> Iterator[Theta]:
        """`theta` with what one atom may bind; `_` stands for anything and binds nothing."""
        everything: Iterable[int] = range(len(self.seen))
        first, last = atom.args[0].name, atom.args[-1]
        if not word:
            members = self.members.get(atom.predicate, {})
            if first not in theta:
                yield from (_bound(theta, first, i) for i in members)
            elif theta[first] in members:
                yield theta
        elif word in PREDICATES:
            table, second = self.relation(word), last.name
            for i in (theta[first],) if first in theta else everything:
                one = _bound(theta, first, i)
                for j in (one[second],) if second in one else everything:
                    if table[i][j]:
                        yield _bound(one, second, j)
        else:
            values = self.measure(word)
            for i in (theta[first],) if first in theta else everything:
                given = theta.get(last.name, values[i]) if last.is_variable else last.value
                if given == values[i]:
                    yield _bound(_bound(theta, first, i), last.name, values[i])

    def satisfied(self, conditions: Sequence[Condition], theta: Theta) -> Theta | None:
        """`theta` with the results of `is`, or None where a condition fails."""
        theta = dict(theta)
        for condition in sorted(conditions, key=lambda c: not (isinstance(c, Comparison) and c.operator == "is")):
            if isinstance(condition, Negation):
                if any(True for _ in self._extensions(condition.atom, self.word(condition.atom), theta)):
                    return None
            elif condition.operator == "is" and isinstance(condition.left, Term) and condition.left.name not in theta:
                value = self.value(condition.right, theta)
                if value is None:
                    return None
                theta[condition.left.name] = value
            elif not self._compared(condition, theta):
                return None
        return theta

    def _compared(self, c: Comparison, theta: Theta) -> bool:
        left, right = self.value(c.left, theta), self.value(c.right, theta)
        return left is not None and right is not None and bool(_COMPARE[c.operator](left, right))

    def value(self, operand: Operand, theta: Theta) -> Any:
        """What one side of a comparison comes to, None if it has no finite result."""
        if isinstance(operand, Term):
            found = theta.get(operand.name) if operand.is_variable else operand.value
            return found if isinstance(found, int | float) else None
        if isinstance(operand, Count):
            matched = (
                t for t in self.matches(operand.body, theta) if self.satisfied(operand.conditions, t) is not None
            )
            return len({tuple(t[term.name] for term in operand.terms) for t in matched})
        assert isinstance(operand, Expression)
        values = [self.value(o, theta) for o in operand.operands]
        if None in values:
            return None
        try:
            result = _OPERATIONS[operand.operator, len(values)](*values)
        except ArithmeticError:
            return None
        return result if math.isfinite(result) else None

    def broken(self, rule: Rule) -> Iterator[tuple[int, ...]]:
        """The detections (as this object counts them) for which a rule's body holds and its head does not."""
        if any(len(a.args) == 1 and a.predicate not in self.members for a in rule.body):
            return
        objects = list(dict.fromkeys(v for a in rule.body for v in self._objects(a)))
        head: _Head | None = None
        for theta in self.matches(rule.body, {}):
            if rule.distinct and any(theta[a] == theta[b] for a, b in combinations(objects, 2)):
                continue
            full = self.satisfied(rule.conditions, theta) if rule.conditions else theta
            if full is None:
                continue
            head = head or self._head(rule, full, objects)  # which variables are bound, no choice of objects changes
            if not self._headed(head, full):
                yield tuple(full[v] for v in objects)

    def _objects(self, atom: Atom) -> tuple[str, ...]:
        return tuple(v.name for v in atom.args[: 1 if self.word(atom) in MEASURES else 2] if v.is_variable)

    def _head(self, rule: Rule, theta: Theta, objects: Sequence[str]) -> _Head:
        equal = tuple((a.args[0].name, a.args[1].name) for a in rule.head if a.predicate == "=")
        atoms = self._ordered([a for a in rule.head if a.predicate != "="], theta)
        existential = rule.existential if rule.distinct else ()
        different = [*objects, *(v.name for v in existential)] if existential else []
        return _Head(not rule.head, equal, atoms, list(combinations(different, 2)))

    def _headed(self, head: _Head, theta: Theta) -> bool:
        if head.never:
            return False
        for one, other in head.equal:
            a, b = theta[one], theta[other]
            if a != b and not self.relation("same")[a][b]:
                return False
        return any(all(t[a] != t[b] for a, b in head.different) for t in self._matched(head.atoms, 0, theta))


@dataclass(frozen=True, slots=True)
class _Head:
    """What a rule's head asks for: `never` nothing that could hold, else equalities, atoms, variables that differ."""

    never: bool
    equal: tuple[tuple[str, str], ...]
    atoms: list[tuple[Atom, str]]
    different: list[tuple[str, str]]


def _bound(theta: Theta, name: str, value: Any) -> Theta:
    return theta if name == "_" or name in theta else {**theta, name: value}


def broken_rules(
    rules: Iterable[Rule], scene: Scene, ontology: Ontology, threshold: float = 0.0
) -> tuple[BrokenRule, ...]:
    """Every place where one of the rules is broken on a scene, in the order of the rules.

    The rules must be about detections (see `neurosym.constraints.denials`); a symmetric rule is told once for each order.
    """
    facts = SceneFacts(scene, ontology, threshold)
    return tuple(
        BrokenRule(rule, tuple(facts.seen[i] for i in found)) for rule in rules for found in facts.broken(rule)
    )


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "=<": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=:=": operator.eq,
    "is": operator.eq,
    r"=\=": operator.ne,
    r"\=": operator.ne,
}
_OPERATIONS: Final[dict[tuple[str, int], Callable[..., Any]]] = {
    ("+", 2): operator.add,
    ("-", 2): operator.sub,
    ("-", 1): operator.neg,
    ("*", 2): operator.mul,
    ("/", 2): operator.truediv,
    ("abs", 1): abs,
    ("min", 2): min,
    ("max", 2): max,
}
