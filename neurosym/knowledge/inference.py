r"""Crisp inference with proofs: everything that follows from facts by rules (Datalog±), and why.

A rule derives its head for every way to satisfy its body (weights are not looked at: the caller chooses the rules). Negation
and counting are stratified. A head variable that the body lacks stands for some object: one that is known, if any satisfies
the whole head, else a new labelled null (restricted chase; Calì, Gottlob & Lukasiewicz 2012), down to a depth. An equality in
a head gives a null a better name; two different names, or two different literals, are a clash (unique names), and so is a
denial whose body holds: clashes are reported with their proofs, and nothing follows from them.

    program = Program(rules, measurements)          stratified once; plans are compiled when first needed
    program.run([("nodule", ("n1",))]).proof(("in_lung", ("n1",)))

Under `distinct` a rule's variables for objects take different values (two literals may be equal), and so does the witness of
an existential variable; variables that only a negation or a count has are free of that, and `\=` says it where it is meant.
A null counts as different from every other value as long as no equality says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from neurosym.errors import KnowledgeError, Problem, RuleError, did_you_mean
from neurosym.knowledge.chase import Chase, Clash, Limits
from neurosym.knowledge.plans import Clause, Plan
from neurosym.knowledge.proofs import Proof, canonical
from neurosym.knowledge.relations import GroundAtom, Null, Row, Signature, Text, Value, shown_atom
from neurosym.knowledge.strata import closed_reads, derives, signature, stratify
from neurosym.logic import Comparison, Negation, Rule

__all__ = ["Clash", "GroundAtom", "Inference", "Null", "Program", "Proof", "Text", "Value", "infer"]


class Program:
    """Rules ready to run on any number of fact sets; a run touches only rules of which all body predicates have facts.

    Raises:
        RuleError: the rules cannot be stratified, or a condition tests what nothing binds; all such problems at once.
    """

    def __init__(self, rules: Sequence[Rule], measurements: frozenset[str] = frozenset()) -> None:
        component = stratify(rules)
        self.clauses = [Clause(rule) for rule in sorted(rules, key=lambda rule: _rank(rule, component))]
        self.users: dict[Signature, list[tuple[int, frozenset[Signature]]]] = {}
        self.unconditional: list[int] = []
        self.plans: list[Plan] = []
        self._measurements = measurements
        problems: list[Problem] = []
        for rank, clause in enumerate(self.clauses):
            clause.rank = rank
            for read in clause.needs:
                self.users.setdefault(read, []).append((rank, clause.needs))
            if not clause.needs:
                self.unconditional.append(rank)
            if clause.rule.conditions:
                clause.grows = _computes_in_recursion(clause.rule, component)
            problems.extend(self._problems(clause))
        if problems:
            raise RuleError(problems)

    def _problems(self, clause: Clause) -> Iterator[Problem]:
        rule = clause.rule
        negated = [c.atom for c in rule.conditions if isinstance(c, Negation)]
        if any(atom.predicate == "=" for atom in (*rule.body, *negated)):
            yield Problem("'=' stands in a head only", rule.file, rule.line, cure=r"in a body write =:= or \=")
        if any(a.predicate == "=" for a in rule.head):
            loose = [v for v in rule.existential for a in rule.head if a.predicate == "=" and v in a.args]
            if loose:
                yield Problem(
                    f"the body does not bind {loose[0]}", rule.file, rule.line, cure="add a body atom with it"
                )
        if rule.conditions:
            try:
                self.plan(clause, -1, [0] * len(clause.reads))
            except RuleError as error:
                yield from error.problems

    def plan(self, clause: Clause, first: int, sizes: Sequence[int]) -> Plan:
        """How to evaluate a rule from one of its atoms on (-1: any), given the sizes of the relations it reads."""
        return clause.plan(first, sizes, self.plans, self._measurements)

    def run(
        self,
        facts: Iterable[GroundAtom],
        max_depth: int = 8,
        clash_limit: int = 100,
        max_computed: int = 100_000,
        max_bindings: int | None = None,
    ) -> Inference:
        """Everything that follows.

        `max_depth` bounds chains of nulls that are made from nulls, `max_computed` the facts of a rule that computes (`is`)
        within its own recursion, `max_bindings` the ways to satisfy a body that are looked at at a time, those of its parts
        included; rules that met a bound are reported as `truncated`. Of one rule at most `clash_limit` clashes are kept.
        """
        return Inference(Chase(self, facts, Limits(max_depth, max_computed, clash_limit, max_bindings)))


def infer(
    facts: Iterable[GroundAtom],
    rules: Sequence[Rule],
    measurements: frozenset[str] = frozenset(),
    max_depth: int = 8,
    clash_limit: int = 100,
) -> Inference:
    """Everything that follows from facts by rules; `measurements` are the data properties (see `Program` to run it often).

    >>> from neurosym.logic import Atom, Rule, Term
    >>> x = Term("X")
    >>> found = infer([("nodule", ("n1",))], [Rule((Atom("lesion", (x,)),), (Atom("nodule", (x,)),), meta={"id": "r1"})])
    >>> print(found.proof(("lesion", ("n1",))))
    lesion(n1)  [r1]
      nodule(n1)  [given]
    """
    return Program(rules, measurements).run(facts, max_depth, clash_limit)


class Inference:
    """What follows from the facts: `clashes` by rule, and the rules of which a bound cut off conclusions (`truncated`)."""

    def __init__(self, chase: Chase) -> None:
        self._chase = chase
        self._store = chase.store
        self.clashes: tuple[Clash, ...] = tuple(chase.clashes.values())
        self.truncated: tuple[Rule, ...] = tuple(chase.truncated.values())

    @property
    def derived(self) -> int:
        """How many facts were derived."""
        return sum(len(relation.rows) - self._chase.given.get(one, 0) for one, relation in self._store.items())

    def holds(self, atom: GroundAtom) -> bool:
        """Whether a fact was given or derived."""
        predicate, args = self._named(atom)
        relation = self._store.get((predicate, len(args)))
        return relation is not None and args in relation.why

    def facts(self, predicate: str = "") -> Iterator[GroundAtom]:
        """The facts, given and derived, of one predicate or of all."""
        for (name, _), relation in self._store.items():
            if predicate in ("", name):
                for row in relation.rows:
                    yield name, row

    def conclusions(self, predicate: str = "") -> Iterator[GroundAtom]:
        """The derived facts, of one predicate or of all."""
        for one, relation in self._store.items():
            if predicate in ("", one[0]):
                for row in islice(relation.rows, self._chase.given.get(one, 0), None):
                    yield one[0], row

    def proof(self, atom: GroundAtom) -> Proof:
        """Why a fact holds.

        Raises:
            KnowledgeError: it does not hold; the message names the nearest one that does.
        """
        if not self.holds(atom):
            near = [shown_atom(fact) for fact in islice(self.facts(atom[0]), 500)]
            cure = did_you_mean(shown_atom(atom), near) if near else did_you_mean(atom[0], (p for p, _ in self._store))
            raise KnowledgeError(Problem(f"{shown_atom(atom)} is neither given nor derived", cure=cure))
        return self._chase.proof(self._named(atom))

    def proof_of(self, clash: Clash) -> Proof:
        """Why the body of a denial, or of an equality that cannot be, holds."""
        return self._chase.proof_of(clash)

    def _named(self, atom: GroundAtom) -> GroundAtom:
        if not self._chase.equalities:
            return atom
        args: Row = tuple(canonical(value, self._chase.equalities) for value in atom[1])
        return atom[0], args


def _rank(rule: Rule, component: dict[Signature, int]) -> tuple[float, int]:
    """The order of evaluation: by component, and in it plain rules, then existential ones, then equalities; denials last."""
    heads = derives(rule)
    if heads:
        return min(component[one] for one in heads), 1 if rule.existential else 0
    if rule.head:
        return max((component[one] for one in (*map(signature, rule.body), *closed_reads(rule))), default=0), 2
    return float("inf"), 0


def _computes_in_recursion(rule: Rule, component: dict[Signature, int]) -> bool:
    computes = any(isinstance(c, Comparison) and c.operator == "is" for c in rule.conditions)
    inside = {component[one] for one in derives(rule)}
    return computes and any(component[signature(atom)] in inside for atom in rule.body)
