r"""Hard rules as denials: what must not be found on a scene, in a form that can be grounded over detections.

Every rule becomes one denial per head atom, because `h :- b.` says that b without h does not occur:

| rule | denial |
|---|---|
| `:- b.` | b |
| `c(X) :- b.` | b, and X is no c |
| `r(X, Y) :- b.` | b, and not r(X, Y) |
| `X = Y :- b.` | b, X and Y two detections that are not `same` |
| `r(X, L), d(L) :- b.` (L existential) | b, and no L with r(X, L), d(L) |

A denial is a `Part`: the variables it introduces, with what their classes, places, positions and measures must be, parts that
must be absent, and counts. Negations, counts and witnesses are parts themselves, so that one procedure grounds them all
(`neurosym.constraints.worlds`). A rule that says nothing about detections has no denials but a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, count
from typing import TypeAlias

from neurosym.knowledge import Ontology
from neurosym.knowledge.geometry import MEASURES, SIDES, SIZES, ZONES
from neurosym.logic import Atom, Comparison, Condition, Count, Expression, Negation, Operand, Rule, Term


@dataclass(frozen=True)
class Part:
    """A conjunction over detections.

    `fresh` are the variables it introduces. `classes` gives a variable the columns (see `ClassColumns`) of the classes it must
    and must not belong to; `relations` are (word, first, second, whether it must hold); `measures` are (measure, object, the
    variable of its value); `different` are pairs of variables for two detections.
    """

    fresh: tuple[Term, ...] = ()
    classes: tuple[tuple[Term, tuple[int, ...], tuple[int, ...]], ...] = ()
    relations: tuple[tuple[str, Term, Term, bool], ...] = ()
    measures: tuple[tuple[str, Term, Term], ...] = ()
    different: tuple[tuple[Term, Term], ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    absent: tuple[Part, ...] = ()
    counts: tuple[tuple[Comparison, tuple[tuple[Count, Part], ...]], ...] = ()


@dataclass(frozen=True)
class Denial:
    """A part that must not be found; `existential` if it lacks a witness, `placed` if it depends on zones or sides."""

    rule: int
    part: Part
    existential: bool
    placed: bool


@dataclass
class ClassColumns:
    """The classes that denials name, one column each, for detections of the classes `names`."""

    ontology: Ontology
    names: tuple[str, ...]
    columns: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.places = [p for p in (*ZONES, *SIDES, *SIZES) if p in self.ontology.classes]

    def of(self, name: str) -> int:
        """The column of a class."""
        if name not in self.columns:
            self.columns.append(name)
        return self.columns.index(name)

    def can_hold(self, name: str) -> bool:
        """Whether a detection of some class, or at some place, belongs to the class."""
        return any(self.ontology.is_a(n, name) for n in (*self.names, *self.places))

    def is_placed(self, column: int) -> bool:
        """Whether membership depends on where the detection lies in its frame."""
        return any(self.ontology.is_a(p, self.columns[column]) for p in self.places if p not in SIZES)


Classes: TypeAlias = tuple[Term, tuple[int, ...], tuple[int, ...]]
Word: TypeAlias = tuple[str, Term, Term, bool]


class Unfit(Exception):
    """Why a rule says nothing that can be checked on detections."""


def denials_of(rule: Rule, number: int, columns: ClassColumns) -> list[Denial]:
    """The denials of a rule; `number` is carried along.

    Raises:
        Unfit: with the reason.
    """
    return _Reader(rule, columns).read(number)


class _Reader:
    def __init__(self, rule: Rule, columns: ClassColumns) -> None:
        self.rule, self.columns, self.ontology = rule, columns, columns.ontology
        self.hidden = (Term(f"hidden {n}") for n in count())

    def read(self, number: int) -> list[Denial]:
        rule = self.rule
        if not (rule.body or rule.conditions):
            raise Unfit("it is a fact, about no object of an image")
        body = self._part(rule.body, rule.conditions, frozenset(), rule.distinct)
        bound = frozenset(body.fresh)
        values = frozenset(value for _, _, value in body.measures)
        witness = [a for a in rule.head if any(v not in bound | values for v in a.variables)]
        parts = [self._without(body, atom, bound) for atom in rule.head if atom not in witness]
        if not rule.head:
            parts = [body]
        found = [Denial(number, part, False, self._is_placed(part)) for part in parts]
        if witness:
            absent = self._part(witness, (), bound, rule.distinct, values)
            part = replace(body, absent=(*body.absent, absent))
            found.append(Denial(number, part, True, self._is_placed(part)))
        return found

    def _without(self, body: Part, atom: Atom, bound: frozenset[Term]) -> Part:
        """The body, and not this head atom."""
        if atom.predicate == "=":
            x, y = self._objects(atom)
            return replace(
                body, relations=(*body.relations, ("same", x, y, False)), different=(*body.different, (x, y))
            )
        head = self._part((atom,), (), bound, False)
        if head.measures:
            raise Unfit("its head is a measurement, which no change of a label can mend")
        if head.classes:
            [(variable, holds, _)] = head.classes
            return replace(body, classes=_merged((*body.classes, (variable, (), holds))))
        return replace(body, relations=(*body.relations, *((w, x, y, False) for w, x, y, _ in head.relations)))

    def _part(
        self,
        atoms: Sequence[Atom],
        conditions: Sequence[Condition],
        bound: frozenset[Term],
        distinct: bool,
        values: frozenset[Term] = frozenset(),
    ) -> Part:
        """A conjunction below another, which binds the objects `bound` and the values `values`."""
        relations: list[Word] = []
        measures: list[tuple[str, Term, Term]] = []
        classes: list[Classes] = []
        different: list[tuple[Term, Term]] = []
        fresh: dict[Term, None] = {}
        conditions = _without_results(conditions, {v for a in atoms for v in a.variables})
        comparisons = [c for c in conditions if isinstance(c, Comparison)]
        for atom in atoms:
            word = self._word(atom)
            objects = self._objects(atom, 1 if word in MEASURES else 2)
            fresh.update(dict.fromkeys(v for v in objects if v not in bound))
            if not word:
                classes.append((objects[0], (self._class(atom.predicate),), ()))
            elif word in MEASURES:
                value = atom.args[-1]
                if not value.is_variable or value in values or any(value == known for _, _, known in measures):
                    value = next(self.hidden)
                    comparisons.append(Comparison("=:=", value, atom.args[-1]))
                measures.append((word, objects[0], value))
            else:
                relations.append((word, objects[0], objects[1], True))
        here = frozenset((*bound, *fresh))
        known = values | {value for _, _, value in measures}
        if distinct:
            different = [(x, y) for x, y in combinations((*bound, *fresh), 2) if y in fresh]
        absent: list[Part] = []
        for condition in conditions:
            if isinstance(condition, Negation):
                self._negate(condition.atom, here, known, relations, classes, absent)
        different += self._differences(comparisons, here)
        tests = [c for c in comparisons if not self._is_difference(c, here)]
        self._check_values(tests, here, known)
        counts = [(c, tuple((k, self._count(k, here, known)) for k in c.counts)) for c in tests if c.counts]
        return Part(
            tuple(fresh),
            _merged(classes),
            tuple(relations),
            tuple(measures),
            tuple(sorted(different)),
            tuple(c for c in tests if not c.counts),
            tuple(absent),
            tuple(counts),
        )

    def _negate(
        self,
        atom: Atom,
        here: frozenset[Term],
        known: frozenset[Term],
        relations: list[Word],
        classes: list[Classes],
        absent: list[Part],
    ) -> None:
        word = self._word(atom)
        if not word and not self.columns.can_hold(atom.predicate):
            return  # nothing that a detector shows belongs to the class
        free = Atom(atom.predicate, tuple(next(self.hidden) if t.name == "_" else t for t in atom.args))
        part = self._part((free,), (), here, False, known)
        if part.fresh or part.measures:
            absent.append(part)
        elif part.classes:
            classes.append((part.classes[0][0], (), part.classes[0][1]))
        else:
            relations += [(w, x, y, False) for w, x, y, _ in part.relations]

    def _count(self, counted: Count, here: frozenset[Term], known: frozenset[Term]) -> Part:
        part = self._part(counted.body, counted.conditions, here, False, known)
        if not set(counted.terms) <= {*part.fresh, *here}:
            raise Unfit("it counts something else than objects")
        return part

    def _class(self, name: str) -> int:
        if not self.columns.can_hold(name):
            if not any(self.ontology.is_a(c, name) for c in self.ontology.categories.values()):
                raise Unfit(f"class {name!r} has no category, so no data can show it")
            raise Unfit(f"no category of this data set is tied to {name!r}")
        return self.columns.of(name)

    def _word(self, atom: Atom) -> str:
        """The geometric word or measure that an atom means; "" for a class."""
        if atom.predicate in self.ontology.classes and len(atom.args) == 1:
            return ""
        relation = self.ontology.relations.get(atom.predicate)
        word = relation.predicate if relation else ""
        if not word:
            raise Unfit(f"{atom.predicate!r} has no ns:predicate, so an image cannot show it")
        return word

    def _objects(self, atom: Atom, limit: int = 2) -> tuple[Term, ...]:
        objects = atom.args[:limit]
        if not all(t.is_variable for t in objects):
            raise Unfit("it names a constant; objects of an image have no names")
        return objects

    def _is_difference(self, c: Comparison, here: frozenset[Term]) -> bool:
        return c.operator == r"\=" and c.left in here and c.right in here

    def _differences(self, comparisons: Iterable[Comparison], here: frozenset[Term]) -> Iterator[tuple[Term, Term]]:
        for c in comparisons:
            if self._is_difference(c, here):
                assert isinstance(c.left, Term)
                assert isinstance(c.right, Term)
                yield c.left, c.right

    def _check_values(self, tests: Iterable[Comparison], here: frozenset[Term], known: frozenset[Term]) -> None:
        for test in tests:
            inner = {v for k in test.counts for v in k.variables}
            for variable in set(test.variables) - inner:
                if variable in here:
                    raise Unfit(f"it compares the object {variable} with a number")
                if variable not in known:
                    raise Unfit(f"the value {variable} is measured on no detection")

    def _is_placed(self, part: Part) -> bool:
        columns = [c for _, holds, fails in part.classes for c in (*holds, *fails)]
        inner = (*part.absent, *(p for _, counted in part.counts for _, p in counted))
        return any(map(self.columns.is_placed, columns)) or any(map(self._is_placed, inner))


def _merged(
    classes: Iterable[Classes],
) -> tuple[Classes, ...]:
    """One entry a variable."""
    table: dict[Term, tuple[set[int], set[int]]] = {}
    for variable, holds, fails in classes:
        entry = table.setdefault(variable, (set(), set()))
        entry[0].update(holds)
        entry[1].update(fails)
    return tuple((v, tuple(sorted(holds)), tuple(sorted(fails))) for v, (holds, fails) in table.items())


def _without_results(conditions: Sequence[Condition], bound: set[Term]) -> list[Condition]:
    """`V is E` written out: V replaced by E wherever it stands, and E compared with itself so that it must have a result."""
    found = list(conditions)
    for index, condition in enumerate(found):
        if not (isinstance(condition, Comparison) and condition.operator == "is"):
            continue
        left, right = condition.left, condition.right
        if isinstance(left, Term) and left.is_variable and left not in bound:
            found = [c if isinstance(c, Negation) else _substituted(c, left, right) for c in found]
            found[index] = Comparison("=:=", right, right)
        else:
            found[index] = replace(condition, operator="=:=")
    return found


def _substituted(c: Comparison, variable: Term, value: Operand) -> Comparison:
    def inner(operand: Operand) -> Operand:
        if operand == variable:
            return value
        if isinstance(operand, Expression):
            return replace(operand, operands=tuple(map(inner, operand.operands)))
        if isinstance(operand, Count) and variable in operand.variables:
            changed = (x if isinstance(x, Negation) else _substituted(x, variable, value) for x in operand.conditions)
            return replace(operand, conditions=tuple(changed))
        return operand

    return replace(c, left=inner(c.left), right=inner(c.right))
