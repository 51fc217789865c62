"""Rule bodies compiled to pipelines: a plan is a join order and, for it, a list of steps from bindings to bindings.

A step is a generator over tuples: a join looks up an index and lengthens each binding by the new values, a condition drops
bindings as soon as its variables are known. Laziness keeps memory flat and lets a search for one witness stop at the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count as numbers
from operator import itemgetter
from typing import Any, TypeAlias

from neurosym.errors import Problem, RuleError
from neurosym.knowledge.arithmetic import NUMBER, Slots, result_of, test_of
from neurosym.knowledge.relations import Binding, Pattern, Picker, Row, Signature, Store, Text, pick, pick_key, value_of
from neurosym.knowledge.strata import signature
from neurosym.logic import Atom, Comparison, Condition, Count, Negation, Operand, Rule, Term, variables_of

Step: TypeAlias = Callable[[Iterator[Binding], Store], Iterator[Binding]]
_LITERAL = (*NUMBER, Text)


@dataclass(slots=True, eq=False)
class Witness:
    """The existential side of a head: what its witness hangs on, and how to find one that is there already."""

    variables: tuple[Term, ...]
    key: Picker
    steps: list[Step]
    objects: Picker

    def is_apart(self, binding: Binding) -> bool:
        """Whether the objects of a full binding differ, as far as they have to."""
        return objects_differ(self.objects(binding))

    def is_known(self, key: Row, store: Store) -> bool:
        """Whether some objects satisfy the whole head already."""
        return next(run(iter((key,)), self.steps, store), None) is not None


@dataclass(slots=True, eq=False)
class Plan:
    """One rule in one join order; `number` stands first in its bindings, which say by it how they are to be read."""

    rule: Rule
    number: int
    body: tuple[Atom, ...]
    slots: Slots
    start: tuple[Signature, Pattern] | None
    steps: list[Step]
    heads: list[tuple[Signature, Picker]]
    equalities: list[Picker]
    witness: Witness | None

    def bindings(self, store: Store, low: int, tally: Tally | None = None) -> Iterator[Binding]:
        """Every way to satisfy the body with a row of the first atom's relation from position `low` on.

        With a tally only as many as it allows bindings, those of a part of the body counted, too.
        """
        prefix = (self.number,)
        if self.start is None:
            return run(iter((prefix,)), self.steps, store, tally)
        relation, pattern = self.start
        rows = pattern.among(store[relation].rows[low:])
        if pattern.fixed or pattern.same:
            rows = map(pick(pattern.wanted), rows)
        return run((prefix + row for row in rows), self.steps, store, tally)


@dataclass(slots=True, eq=False)
class Tally:
    """Bindings that are left; `is_over` if there were more."""

    left: int
    is_over: bool = False

    def counted(self, bindings: Iterator[Binding]) -> Iterator[Binding]:
        """The bindings, as long as any are left."""
        for binding in bindings:
            if self.left <= 0:
                self.is_over = True
                return
            self.left -= 1
            yield binding


def run(
    bindings: Iterator[Binding], steps: Iterable[Step], store: Store, tally: Tally | None = None
) -> Iterator[Binding]:
    """Send bindings through the steps."""
    for step in steps:
        bindings = step(bindings, store)
        if tally is not None:
            bindings = tally.counted(bindings)
    return bindings


@dataclass(slots=True, eq=False)
class Clause:
    """A rule made ready: the relations it reads, its place in the order of evaluation, its plans."""

    rule: Rule
    rank: int = 0
    grows: bool = False
    body: tuple[Atom, ...] = ()
    reads: tuple[Signature, ...] = ()
    needs: frozenset[Signature] = frozenset()
    _plans: dict[tuple[int, ...], Plan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.body = _with_named_blanks(self.rule.body)
        self.reads = tuple(map(signature, self.body))
        self.needs = frozenset(self.reads)

    def plan(self, first: int, sizes: Sequence[int], made: list[Plan], measurements: frozenset[str]) -> Plan:
        """The plan that starts with one atom (-1: the smallest) and goes on with the one that is bound best, then smallest."""
        order = _join_order(self.body, first, sizes) if len(sizes) > 1 else (0,) * len(sizes)
        plan = self._plans.get(order)
        if plan is None:
            plan = _compile(self.rule, self.body, order, len(made), measurements)
            self._plans[order] = plan
            made.append(plan)
        return plan


def objects_of(rule: Rule, measurements: frozenset[str]) -> tuple[Term, ...]:
    """The variables of a rule's atoms that stand for objects: not measured, and not only the last place of a data property."""
    atoms = (*rule.body, *rule.head)
    seen = {t for atom in atoms for t in (atom.args[:-1] if atom.predicate in measurements else atom.args)}
    values = rule.measured
    return tuple(dict.fromkeys(v for atom in atoms for v in atom.variables if v in seen - values and v.name != "_"))


def _with_named_blanks(atoms: tuple[Atom, ...]) -> tuple[Atom, ...]:
    if not any(t.name == "_" and t.is_variable for atom in atoms for t in atom.args):
        return atoms
    fresh = numbers()
    return tuple(
        Atom(a.predicate, tuple(Term(f"_ {next(fresh)}") if t.is_variable and t.name == "_" else t for t in a.args))
        for a in atoms
    )


def _join_order(atoms: Sequence[Atom], first: int, sizes: Sequence[int]) -> tuple[int, ...]:
    rest = set(range(len(atoms)))
    if first < 0:
        first = min(rest, key=lambda i: (sizes[i], i))
    order = [first]
    bound = set(atoms[first].args)
    while rest := rest - {order[-1]}:
        order.append(min(rest, key=lambda i: (*_unbound(atoms[i], bound), sizes[i], i)))
        bound.update(atoms[order[-1]].args)
    return tuple(order)


def _unbound(atom: Atom, bound: set[Term]) -> tuple[bool, int]:
    """Whether nothing is bound, and how many variables are not."""
    free = [t for t in atom.args if t.is_variable and t not in bound]
    return len(free) == len(atom.args), len(free)


def _compile(
    rule: Rule, body: Sequence[Atom], order: tuple[int, ...], number: int, measurements: frozenset[str]
) -> Plan:
    objects = objects_of(rule, measurements) if rule.distinct else ()
    planner = _Planner({}, 1, body, rule.conditions, frozenset(objects))
    start = None
    if order:
        start = planner.scan(body[order[0]])
    planner.settle()
    for i in order[1:]:
        planner.join(body[i])
    if planner.waiting:
        conditions = ", ".join(map(str, planner.waiting))
        cure = "add a body atom with its variables"
        raise RuleError(
            Problem(f"unsafe rule: nothing binds what it tests: {conditions}", rule.file, rule.line, 0, cure)
        )
    slots = dict(planner.slots)
    unknown = rule.existential
    for term in unknown:
        slots[term] = len(slots) + 1
    witness = _witness(rule, slots, unknown, objects) if unknown else None
    heads = [(signature(a), instance(a.args, slots)) for a in rule.head if a.predicate != "="]
    equalities = [instance(a.args, slots) for a in rule.head if a.predicate == "="]
    return Plan(rule, number, tuple(body), slots, start, planner.steps, heads, equalities, witness)


def _witness(rule: Rule, slots: Slots, unknown: tuple[Term, ...], objects: Sequence[Term]) -> Witness:
    head = tuple(atom for atom in rule.head if atom.predicate != "=")
    frontier = dict.fromkeys(v for atom in head for v in atom.variables if v not in unknown)
    key = tuple(dict.fromkeys((*frontier, *(v for v in objects if v not in unknown))))
    within = _Planner({v: i for i, v in enumerate(key)}, len(key), head, (), frozenset(objects))
    for i in within.best_order(head):
        within.join(head[i])
    return Witness(unknown, pick([slots[v] for v in key]), within.steps, pick([slots[v] for v in objects]))


def instance(args: Sequence[Term], slots: Slots) -> Picker:
    """From a full binding to the values of some terms."""
    constants = tuple(value_of(t) for t in args if not t.is_variable)
    if not constants:
        return pick([slots[t] for t in args])
    parts = [(slots[t], None) if t.is_variable else (0, value_of(t)) for t in args]
    return lambda b: tuple([b[slot] if value is None else value for slot, value in parts])


class _Planner:
    """Builds the steps for atoms and conditions over bindings that have the values of `slots` already."""

    def __init__(
        self,
        slots: dict[Term | Count, int],
        width: int,
        atoms: Iterable[Atom],
        conditions: Sequence[Condition],
        objects: frozenset[Term],
    ) -> None:
        self.slots, self.width, self.waiting, self.objects = slots, width, list(conditions), objects
        self.steps: list[Step] = []
        named = (c.left for c in conditions if isinstance(c, Comparison) and c.operator == "is")
        self.outer = {*slots, *(v for a in atoms for v in a.variables), *(v for t in named for v in variables_of(t))}
        self.compared = [t for t in slots if t in objects]

    def best_order(self, atoms: Sequence[Atom]) -> tuple[int, ...]:
        """A join order by bound variables alone."""
        start = Atom("", tuple(t for t in self.slots if isinstance(t, Term)))
        order = _join_order((start, *atoms), 0, [0] * (len(atoms) + 1))
        return tuple(i - 1 for i in order[1:])

    def scan(self, atom: Atom) -> tuple[Signature, Pattern]:
        """The first atom, of which the plan reads the rows itself."""
        pattern, _, new = self._pattern(atom)
        self._bind(new)
        return signature(atom), pattern

    def join(self, atom: Atom) -> None:
        """Lengthen each binding by the values of an atom's new variables, once for each row that fits."""
        pattern, known, new = self._pattern(atom)
        self.steps.append(_filter(atom, pattern, known, True) if not new else _join(atom, pattern, known))
        self._bind(new)
        self.settle()

    def _pattern(self, atom: Atom) -> tuple[Pattern, list[int], list[Term]]:
        """What to ask of the atom's relation, the slots that make the key, and the variables that are new."""
        key, fixed, same = [], [], []
        first: dict[Term, int] = {}
        for position, term in enumerate(atom.args):
            if not term.is_variable:
                fixed.append((position, value_of(term)))
            elif term in self.slots:
                key.append((position, self.slots[term]))
            elif term in first:
                same.append((first[term], position))
            elif term.name != "_":
                first[term] = position
        pattern = Pattern(tuple(p for p, _ in key), tuple(fixed), tuple(same), tuple(first.values()))
        return pattern, [slot for _, slot in key], list(first)

    def _bind(self, terms: Iterable[Term | Count]) -> None:
        for term in terms:
            self.slots[term] = self.width
            self.width += 1

    def settle(self) -> None:
        """Add the conditions of which everything is bound by now, the cheap ones first."""
        bound = [t for t in self.slots if t in self.objects]
        if len(bound) > max(len(self.compared), 1):
            self.steps.append(_all_differ([self.slots[t] for t in bound]))
        self.compared = bound
        while ready := [c for c in self.waiting if self._needs(c) <= self.slots.keys()]:
            chosen = min(ready, key=lambda c: isinstance(c, Comparison) and bool(c.counts))
            self.waiting.remove(chosen)
            self._condition(chosen)

    def _needs(self, condition: Condition) -> set[Term]:
        if isinstance(condition, Negation):
            return {v for v in condition.variables if v in self.outer and v.name != "_"}
        sides = (condition.right,) if condition.operator == "is" else (condition.left, condition.right)
        return {v for side in sides for v in self._bound_outside(side)}

    def _bound_outside(self, operand: Operand) -> Iterator[Term]:
        """The variables of one side that must be bound before; of a count those that the rest of the rule has too."""
        if isinstance(operand, Term):
            yield from variables_of(operand)
        elif isinstance(operand, Count):
            yield from (v for v in operand.variables if v in self.outer and v.name != "_")
        else:
            for inner in operand.operands:
                yield from self._bound_outside(inner)

    def _condition(self, condition: Condition) -> None:
        if isinstance(condition, Negation):
            pattern, known, _ = self._pattern(condition.atom)
            self.steps.append(_filter(condition.atom, pattern._replace(wanted=()), known, False))
            return
        for counted in condition.counts:
            if counted not in self.slots:
                self.steps.append(self._count(counted))
                self._bind([counted])
        if condition.operator == "is" and condition.left not in self.slots and variables_of(condition.left):
            self.steps.append(_alone(result_of(condition, self.slots)))
            self._bind([t for t in (condition.left,) if isinstance(t, Term)])
        else:
            self.steps.append(_alone(test_of(condition, self.slots)))

    def _count(self, counted: Count) -> Step:
        shared = tuple(dict.fromkeys(self._bound_outside(counted)))
        body = _with_named_blanks(counted.body)
        within = _Planner({v: i for i, v in enumerate(shared)}, len(shared), body, counted.conditions, frozenset())
        within.settle()
        for i in within.best_order(body):
            within.join(body[i])
        if within.waiting or any(t.is_variable and t not in within.slots for t in counted.terms):
            raise RuleError(f"unsafe rule: nothing binds a variable of {counted}")
        key, terms, steps = pick([self.slots[v] for v in shared]), instance(counted.terms, within.slots), within.steps

        def step(bindings: Iterator[Binding], store: Store) -> Iterator[Binding]:
            known: dict[Row, int] = {}
            for b in bindings:
                values = key(b)
                size = known.get(values)
                if size is None:
                    size = known[values] = len(set(map(terms, run(iter((values,)), steps, store))))
                yield b + (size,)

        return step


def _alone(step: Callable[[Iterator[Binding]], Iterator[Binding]]) -> Step:
    return lambda bindings, _: step(bindings)


def _join(atom: Atom, pattern: Pattern, known: list[int]) -> Step:
    relation, key = signature(atom), pick_key(known)

    def step(bindings: Iterator[Binding], store: Store) -> Iterator[Binding]:
        if relation not in store:
            return iter(())
        get = store[relation].index(pattern).get
        return (b + row for b in bindings for row in get(key(b), ()))

    return step


def _filter(atom: Atom, pattern: Pattern, known: list[int], wanted: bool) -> Step:
    """Keep the bindings for which a row that fits is there, or is not."""
    relation = signature(atom)
    is_full = len(known) == len(atom.args)
    key = pick(known) if is_full else pick_key(known)

    def step(bindings: Iterator[Binding], store: Store) -> Iterator[Binding]:
        if relation not in store:
            return iter(()) if wanted else bindings
        table: dict[Any, Any] = store[relation].why if is_full else store[relation].index(pattern)
        if wanted:
            return (b for b in bindings if key(b) in table)
        return (b for b in bindings if key(b) not in table)

    return step


def _all_differ(slots: list[int]) -> Step:
    """Different objects; literals may be equal."""
    if len(slots) == 2:
        i, j = slots
        return lambda bindings, _: (b for b in bindings if b[i] != b[j] or isinstance(b[i], _LITERAL))
    values = itemgetter(*slots)
    return lambda bindings, _: (b for b in bindings if len(set(values(b))) == len(slots) or objects_differ(values(b)))


def objects_differ(values: Row) -> bool:
    """Whether no two values are one object; literals may be equal."""
    found = [v for v in values if not isinstance(v, _LITERAL)]
    return len(set(found)) == len(found)
