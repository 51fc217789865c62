"""Rules on a scene, by trying every assignment of detections to the body's variables: docs/rules.md read word by word.

No index, no tensor, no shared code with the compiler: words and places are those of `tests.oracles.spatial`, arithmetic is
Python's, a negation or a count looks at every detection.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Sequence
from typing import Any

from neurosym.knowledge import Ontology
from neurosym.logic import Comparison, Condition, Count, Expression, Negation, Operand
from neurosym.records import Atom, Detection, Rule, Scene, Term
from tests.oracles import spatial
from tests.oracles.spatial import holds

PLACES = (
    "upper_zone",
    "middle_zone",
    "lower_zone",
    "central",
    "peripheral",
    "small_object",
    "medium_object",
    "large_object",
)
TESTS = {"<": operator.lt, "=<": operator.le, ">": operator.gt, ">=": operator.ge}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "min": min, "max": max}
Bound = dict[Term, Any]
"""Detections and numbers by the variables that stand for them."""


class Reader:
    """One scene under one ontology; classes that may overlap make no difference here, a detection is what its name says."""

    def __init__(self, scene: Scene, ontology: Ontology) -> None:
        self.scene, self.ontology = scene, ontology
        self.objects = list(scene.detections)

    # --- atoms ----------------------------------------------------------------------------------------------------

    def is_frame(self, d: Detection) -> bool:
        return any(self.ontology.is_a(d.name, zoned) for zoned in self.ontology.zoned)

    def is_place(self, place: str, d: Detection) -> bool:
        if place.endswith("_object"):
            return spatial.size(d.box, self.scene.width, self.scene.height) == place
        frames: dict[str, list[Any]] = {}
        for other in self.objects:
            if self.is_frame(other):
                frames.setdefault(other.name, []).append(other.box)
        if not frames or self.is_frame(d):
            return False
        frame = spatial.frame(d.box, [box for several in frames.values() for box in several])
        if place.endswith("_zone"):
            return spatial.zone(d.box, frame) == place
        return spatial.side(d.box, frame, frames, self.scene.width) == place

    def is_value(self, atom: Atom) -> bool:
        return len(atom.args) == 2 and atom.predicate != "=" and bool(self.ontology.relations[atom.predicate].datatype)

    def true(self, atom: Atom, bound: Bound) -> bool:
        found = [bound[t] for t in atom.args]
        if len(found) == 1:
            if atom.predicate in PLACES:
                return self.is_place(atom.predicate, found[0])
            return self.ontology.is_a(found[0].name, atom.predicate)
        if found[0] is found[1]:
            return False  # every relation is between two objects
        word = "same" if atom.predicate == "=" else self.ontology.relations[atom.predicate].predicate
        return holds(word, found[0].box, found[1].box)

    # --- bodies ---------------------------------------------------------------------------------------------------

    def assignments(self, atoms: Sequence[Atom], bound: Bound) -> Iterator[Bound]:
        """Every way to make atoms true, each occurrence of `_` a variable of its own."""
        if not atoms:
            yield bound
            return
        first, rest = atoms[0], atoms[1:]
        if self.is_value(first):
            owner, value = first.args
            for d in [bound[owner]] if owner in bound else self.objects:
                word = self.ontology.relations[first.predicate].predicate
                number = spatial.measure(word, d.box, self.scene.width, self.scene.height)
                yield from self.assignments(rest, {**bound, owner: d, value: number})
            return
        free = [(i, t) for i, t in enumerate(first.args) if t not in bound or t.name == "_"]
        for chosen in itertools.product(self.objects, repeat=len({(i if t.name == "_" else t) for i, t in free})):
            values = iter(chosen)
            given: dict[Any, Detection] = {}
            for i, t in free:
                key = i if t.name == "_" else t
                if key not in given:
                    given[key] = next(values)
            parts = [given[i if t.name == "_" else t] if (i, t) in free else bound[t] for i, t in enumerate(first.args)]
            spelled = tuple(Term(f"P{i}") for i in range(len(parts)))
            if self.true(Atom(first.predicate, spelled), dict(zip(spelled, parts, strict=True))):
                named = {t: d for t, d in given.items() if isinstance(t, Term)}
                yield from self.assignments(rest, {**bound, **named})

    def satisfied(self, conditions: Sequence[Condition], bound: Bound) -> bool:
        bound = dict(bound)
        waiting = [c for c in conditions if isinstance(c, Comparison) and c.operator == "is"]
        while waiting:
            ready = [c for c in waiting if all(v in bound for v in _variables(c.right))]
            for c in ready:
                try:
                    bound[c.left] = self.number(c.right, bound)  # type: ignore[index]
                except ArithmeticError:
                    return False
            waiting = [c for c in waiting if c not in ready]
        return all(self.holds(c, bound) for c in conditions)

    def holds(self, condition: Condition, bound: Bound) -> bool:
        if isinstance(condition, Negation):
            return not any(True for _ in self.assignments([condition.atom], bound))
        if condition.operator == "is":
            return True
        if condition.operator == "\\=":
            return bound[condition.left] is not bound[condition.right]  # type: ignore[index]
        try:
            left, right = self.number(condition.left, bound), self.number(condition.right, bound)
        except ArithmeticError:
            return False
        if condition.operator == "=:=":
            return left == right
        return left != right if condition.operator == "=\\=" else TESTS[condition.operator](left, right)

    def number(self, operand: Operand, bound: Bound) -> float:
        if isinstance(operand, Term):
            return bound[operand] if operand.is_variable else float(operand.name)
        if isinstance(operand, Count):
            found = (b for b in self.assignments(operand.body, bound) if self.satisfied(operand.conditions, b))
            return len({tuple(id(b[t]) for t in operand.terms) for b in found})
        assert isinstance(operand, Expression)
        values = [self.number(o, bound) for o in operand.operands]
        if len(values) == 1:
            return abs(values[0]) if operand.operator == "abs" else -values[0]
        return ARITHMETIC[operand.operator](*values)

    # --- rules ----------------------------------------------------------------------------------------------------

    def evaluate(self, rule: Rule) -> tuple[int, int]:
        values = {a.args[1] for a in rule.body if self.is_value(a)}
        variables = [v for v in dict.fromkeys(v for a in rule.body for v in a.variables) if v not in values]
        premise, denied = (rule.body, rule.conditions), None
        if not rule.head:
            premise, denied = self._denial(rule, variables)
        fired = violated = 0
        for chosen in itertools.product(self.objects, repeat=len(variables)):
            bound: Bound = dict(zip(variables, chosen, strict=True))
            if self._is_excluded(rule, bound):
                continue
            whole = next(self.assignments(premise[0], bound), None)
            if whole is None or not self.satisfied(premise[1], whole):
                continue
            fired += 1
            if denied is not None:
                broken = next(self.assignments(denied[0], bound), None)
                violated += broken is not None and self.satisfied(denied[1], broken)
            else:
                violated += not self._head(rule, bound)
        return fired, violated

    def _is_excluded(self, rule: Rule, bound: Bound) -> bool:
        """Distinct variables are distinct objects; and no object has a relation to itself, whatever a rule says."""
        negated = [c.atom for c in rule.conditions if isinstance(c, Negation)]
        related = [set(a.args) for a in (*rule.body, *rule.head, *negated) if len(a.args) == 2]
        pairs = itertools.combinations(bound, 2)
        return any(bound[x] is bound[y] and (rule.distinct or {x, y} in related) for x, y in pairs)

    def _denial(self, rule: Rule, variables: Sequence[Term]) -> Any:
        """A denial fires for every choice of objects of its classes, whatever else it says of them."""

        def is_class(atom: Atom) -> bool:
            return len(atom.args) == 1 and atom.predicate not in PLACES

        classes = tuple(a for a in rule.body if is_class(a))
        others = tuple(a for a in rule.body if not is_class(a))
        if len(variables) == 1 and not others and not rule.conditions:
            classes, others = classes[:1], classes[1:]
        return (classes, ()), (others, rule.conditions)

    def _head(self, rule: Rule, bound: Bound) -> bool:
        others = [d for d in self.objects if not rule.distinct or not any(d is c for c in bound.values())]
        return any(
            all(self.true(a, {**bound, **dict(zip(rule.existential, extra, strict=True))}) for a in rule.head)
            for extra in itertools.product(others, repeat=len(rule.existential))
        )


def _variables(operand: Operand) -> tuple[Term, ...]:
    if isinstance(operand, Term):
        return (operand,) if operand.is_variable else ()
    return operand.variables if isinstance(operand, Expression) else ()


def evaluate(rule: Rule, scene: Scene, ontology: Ontology) -> tuple[int, int]:
    """(fired, violated); for a denial every choice of objects of its classes fires, whatever lies between them.

    A scene on which nothing is detected says nothing.
    """
    return Reader(scene, ontology).evaluate(rule) if scene.detections else (0, 0)
