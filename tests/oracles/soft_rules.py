"""Rules on a detector's output, by loops over assignments: each truth a Python number, each conjunction a t-norm over a list.

The truths of single words and places are given (they have tests of their own); what is looked at here is how they are joined.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from neurosym.constraints.geometry import MEASURE_NAMES, PLACES, WORDS
from neurosym.knowledge import Ontology
from neurosym.logic import Atom, Comparison, Condition, Count, Expression, Negation, Operand, Rule, Term
from tests.oracles.spatial import INVERSE

Norm = Callable[[Sequence[float]], float]
NORMS: dict[str, Norm] = {
    "product": math.prod,
    "lukasiewicz": lambda truths: max(0.0, sum(truths) - len(truths) + 1),
    "goedel": lambda truths: min(truths, default=1.0),
}


def _with_names(atoms: Sequence[Atom]) -> tuple[Atom, ...]:
    """Each `_` as a variable of its own."""
    return tuple(
        replace(a, args=tuple(Term(f"_{i}") if t.name == "_" else t for t in a.args)) for i, a in enumerate(atoms)
    )


class SoftReader:
    """One image: `p[n][leaf]` with the background first, `words[w][n][m]`, `places[k][n]`, `measures[k][n]`."""

    def __init__(
        self,
        ontology: Ontology,
        names: Sequence[str],
        p: list[list[float]],
        words: list[list[list[float]]],
        places: list[list[float]],
        measures: list[list[float]],
        temperature: float,
        norm: Norm,
    ) -> None:
        self.ontology, self.names, self.p, self.words, self.places, self.measures = (
            ontology,
            names,
            p,
            words,
            places,
            measures,
        )
        self.temperature, self.norm = temperature, norm

    def leaves(self, classes: Sequence[tuple[str, bool]]) -> set[int]:
        """The leaves that are of all classes marked True and of none marked False."""
        return {
            i
            for i, leaf in enumerate(self.names, 1)
            if all(self.ontology.is_a(leaf, c) == positive for c, positive in classes)
        }

    def chance(self, n: int, leaves: set[int]) -> float:
        return sum(self.p[n][i] for i in leaves)

    def place(self, name: str, n: int, positive: bool = True) -> float:
        truth = self.places[PLACES.index(name)][n]
        return truth if positive else 1 - truth

    def word(self, atom: Atom, bound: dict[Term, int]) -> float:
        n, m = (bound[t] for t in atom.args)
        word = "same" if atom.predicate == "=" else self.ontology.relations[atom.predicate].predicate
        return self.words[WORDS.index(word)][n][m] if n != m else 0.0

    def is_value(self, atom: Atom) -> bool:
        return len(atom.args) == 2 and atom.predicate != "=" and bool(self.ontology.relations[atom.predicate].datatype)

    # --- one side of a rule ---------------------------------------------------------------------------------------

    def parts(self, atoms: Sequence[Atom], conditions: Sequence[Condition], bound: dict[Term, int]) -> list[float]:
        """The truths of everything but the classes of bound variables, which are a set of leaves."""
        found = []
        for atom in atoms:
            if len(atom.args) == 1 and atom.predicate in PLACES:
                found.append(self.place(atom.predicate, bound[atom.args[0]]))
            elif len(atom.args) == 2 and not self.is_value(atom):
                found.append(self.word(atom, bound))
        values = {
            a.args[1]: (a.predicate, bound[a.args[0]])
            for a in (*self.measured, *atoms)
            if self.is_value(a) and a.args[0] in bound
        }
        for condition in conditions:
            if isinstance(condition, Negation):
                found += self.negation(condition.atom, bound)
            elif condition.counts:
                found.append(self.count(condition, bound))
            elif condition.operator not in ("is", "\\="):
                found.append(self.comparison(condition, values))
        return found

    def negation(self, atom: Atom, bound: dict[Term, int]) -> list[float]:
        free = [t for t in atom.args if t not in bound]
        if not free:
            if len(atom.args) == 2:
                return [1 - self.word(atom, bound)]
            is_place = atom.predicate in PLACES
            return [self.place(atom.predicate, bound[atom.args[0]], False)] if is_place else []
        [local] = free
        truths = []
        for m in range(len(self.p)):
            if len(atom.args) == 1:
                is_place = atom.predicate in PLACES
                truths.append(
                    self.place(atom.predicate, m) if is_place else self.chance(m, self.leaves([(atom.predicate, True)]))
                )
            else:
                truths.append(self.norm([self.word(atom, {**bound, local: m}), self.chance(m, self.leaves([]))]))
        return [1 - max(truths)]

    def comparison(self, condition: Comparison, values: dict[Term, tuple[str, int]]) -> float:
        named = {c.left: c.right for c in self.rule.conditions if isinstance(c, Comparison) and c.operator == "is"}

        def number(operand: Operand) -> tuple[float, float]:
            """The value, and the size of what it is made of."""
            if isinstance(operand, Term):
                if not operand.is_variable:
                    return float(operand.name), abs(float(operand.name))
                if operand in named:
                    return number(named[operand])
                relation, n = values[operand]
                value = self.measures[MEASURE_NAMES.index(self.ontology.relations[relation].predicate)][n]
                return value, abs(value)
            assert isinstance(operand, Expression)
            of = [number(o) for o in operand.operands]
            (a, s), (b, t) = of[0], of[-1]
            if len(of) == 1:
                return (abs(a) if operand.operator == "abs" else -a), s
            return {
                "+": (a + b, s + t),
                "-": (a - b, s + t),
                "*": (a * b, s * t),
                "/": (a / b, s / abs(b)),
                "min": (min(a, b), max(s, t)),
                "max": (max(a, b), max(s, t)),
            }[operand.operator]

        (left, s), (right, t) = number(condition.left), number(condition.right)
        margin = (left - right) / (0.5 * (s + t) + 1e-12)
        if condition.operator in ("<", "=<"):
            margin = -margin
        return 1 / (1 + math.exp(-max(-700.0, min(700.0, margin / self.temperature))))

    def count(self, condition: Comparison, bound: dict[Term, int]) -> float:
        """The chance that the number compares so, summed over all sets of objects."""
        count, limit = condition.left, condition.right
        assert isinstance(count, Count)
        count = replace(count, body=_with_names(count.body))
        assert isinstance(limit, Term)
        [it] = count.terms
        chances = []
        for n in range(len(self.p)):
            here = {**bound, it: n}
            others = {t for a in count.body for t in a.args if t not in here and not self.is_value(a)}
            own = [a for a in count.body if not others & set(a.args)]
            classes = [(a.predicate, True) for a in own if len(a.args) == 1 and a.predicate not in PLACES]
            negated = [c.atom for c in count.conditions if isinstance(c, Negation)]
            classes += [(a.predicate, False) for a in negated if len(a.args) == 1 and a.predicate not in PLACES]
            found = [self.chance(n, self.leaves(classes)), *self.parts(own, count.conditions, here)]
            for other in others:
                about = [a for a in count.body if other in a.args]
                kinds = self.leaves(self._classes(about, (), other))
                found.append(
                    max(
                        self.norm([self.chance(m, kinds), *self.parts(about, (), {**here, other: m})])
                        for m in range(len(self.p))
                    )
                )
            chances.append(self.norm(found))
        operators: dict[str, Callable[[int, float], bool]] = {
            ">": lambda a, b: a > b,
            ">=": lambda a, b: a >= b,
            "<": lambda a, b: a < b,
            "=<": lambda a, b: a <= b,
            "=:=": lambda a, b: a == b,
            "=\\=": lambda a, b: a != b,
        }
        total = 0.0
        for there in itertools.product((0, 1), repeat=len(chances)):
            if operators[condition.operator](sum(there), float(limit.name)):
                total += math.prod(q if is_there else 1 - q for q, is_there in zip(chances, there, strict=True))
        return total

    # --- rules ----------------------------------------------------------------------------------------------------

    def groundings(self, rule: Rule) -> list[tuple[tuple[int, ...], float, float]]:
        """Each choice of distinct objects with the truth of the body and of the head; what is said twice counts once."""
        rule = replace(
            rule,
            head=tuple(dict.fromkeys(rule.head)),
            body=tuple(dict.fromkeys(rule.body)),
            conditions=tuple(dict.fromkeys(rule.conditions)),
        )
        self.rule = rule
        self.measured = [a for a in rule.body if self.is_value(a)]
        values = {a.args[1] for a in self.measured}
        variables = [v for v in dict.fromkeys(v for a in rule.body for v in a.variables) if v not in values]
        found = []
        for chosen in itertools.permutations(range(len(self.p)), len(variables)):
            bound = dict(zip(variables, chosen, strict=True))
            found.append((chosen, *(self._denial if not rule.head else self._implication)(rule, bound)))
        return found

    def _classes(self, atoms: Sequence[Atom], conditions: Sequence[Condition], v: Term) -> list[tuple[str, bool]]:
        found = [(a.predicate, True) for a in atoms if a.args == (v,) and a.predicate not in PLACES]
        negated = [c.atom for c in conditions if isinstance(c, Negation)]
        return found + [(a.predicate, False) for a in negated if a.args == (v,) and a.predicate not in PLACES]

    def said(self, atom: Atom) -> tuple[str, tuple[Term, ...]]:
        """An atom so that two atoms that say the same are equal."""
        if len(atom.args) == 1:
            return atom.predicate, atom.args
        word = "same" if atom.predicate == "=" else self.ontology.relations[atom.predicate].predicate
        args = atom.args
        while word in INVERSE:
            word, args = INVERSE[word], args[::-1]
        return word, tuple(sorted(args)) if word in ("overlaps", "near", "same", "adjacent") else args

    def _implication(self, rule: Rule, bound: dict[Term, int]) -> tuple[float, float]:
        """What the body says already holds in the head, whatever its truth."""
        body, head = self.parts(rule.body, rule.conditions, bound), []
        given = {self.said(a) for a in rule.body if not self.is_value(a)}
        for v, n in bound.items():
            said = self._classes(rule.body, rule.conditions, v)
            among = self.leaves(said)
            body.append(self.chance(n, among))
            joint = self.leaves(said + self._classes(rule.head, (), v))
            if joint != among:
                head.append(self.chance(n, joint) / max(self.chance(n, among), 1e-12))
        if not rule.existential:
            new = [a for a in rule.head if self.said(a) not in given]
            return self.norm(body), self.norm(head + self.parts(new, (), bound))
        [z] = rule.existential
        mine = [a for a in rule.head if z not in a.args and self.said(a) not in given]
        others = [a for a in rule.head if z in a.args]
        best = max(
            (
                self.norm(
                    [
                        self.chance(m, self.leaves(self._classes(rule.head, (), z))),
                        *self.parts(others, (), {**bound, z: m}),
                    ]
                )
                for m in range(len(self.p))
                if m not in bound.values()
            ),
            default=0.0,
        )
        return self.norm(body), self.norm([*head, best, *self.parts(mine, (), bound)])

    def _denial(self, rule: Rule, bound: dict[Term, int]) -> tuple[float, float]:
        premise, denied = [], self.parts(rule.body, rule.conditions, bound)
        for v, n in bound.items():
            positive, said = self._classes(rule.body, (), v), self._classes(rule.body, rule.conditions, v)
            among, joint = self.leaves(positive), self.leaves(said)
            premise.append(self.chance(n, among))
            if joint != among:
                denied.append(self.chance(n, joint) / max(self.chance(n, among), 1e-12))
        return self.norm(premise), 1 - self.norm(denied)
