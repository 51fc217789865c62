"""Rules that follow from the ontology anyway, that can never fire, and that contradict the ontology or each other.

Each rule's body is *frozen*: its variables become objects of a scene that holds nothing else, and the hard rules and axioms
are run on it (`neurosym.knowledge.inference`). If the head comes out without the rule, the rule is superfluous. If a denial or
an equality breaks, the proof names the rules and axioms at fault, and dropping them one by one leaves a smallest set of them.
A rule that speaks of what is *absent* (negation, an upper limit to a count) proves nothing on a scene that may have more on
it, and is left out here. A weighted rule contradicts nothing: it allows exceptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from neurosym.errors import Problem
from neurosym.knowledge.inference import Clash, GroundAtom, Inference, Program
from neurosym.knowledge.ontology import Ontology
from neurosym.knowledge.redundancy import place
from neurosym.knowledge.relations import Value, value_of
from neurosym.knowledge.subsumption import by_predicate, matches
from neurosym.logic import Atom, Condition, Count, Negation, Rule, Term

DEPTH = 2
"""How far objects that must exist are followed: an object, and what must exist because of it."""
BOUNDS: Final = {"max_depth": DEPTH, "max_bindings": 100_000}
"""A frozen scene is small, but a body of many loose variables can be fulfilled in millions of ways on it; what is found within
the bounds is true, what is not found is not said."""


def conflicts(rules: Sequence[Rule], ontology: Ontology | None) -> list[Problem]:
    """Superfluous, dead and contradictory rules of a set of active rules, in the order of the files."""
    return list(Court(rules, ontology).problems())


class Court:
    """The rules of one set, tried one by one: `world` is the axioms alone, `whole` the hard rules with them."""

    def __init__(self, rules: Sequence[Rule], ontology: Ontology | None) -> None:
        self.rules, self.ontology = rules, ontology
        self.sources = {} if ontology is None else {r: a for a in ontology.axioms for r in a.rules}
        self.measurements = frozenset() if ontology is None else ontology.measurements
        axioms = () if ontology is None else ontology.theory
        self.axioms = [r for r in axioms if r.weight is None and _is_monotone(r)]
        self.hard = [r for r in rules if r.weight is None and _is_monotone(r)]
        self.world = Program(self.axioms, self.measurements)
        self.whole = Program([*self.axioms, *self.hard], self.measurements)
        self.told: set[frozenset[Rule]] = set()

    def with_weighted(self, rules: Iterable[Rule]) -> Program:
        """`whole` with weighted rules taken as if they allowed no exception."""
        return Program([*self.axioms, *self.hard, *filter(_is_monotone, rules)], self.measurements)

    def problems(self) -> Iterator[Problem]:
        facts = self.whole.run(())
        if facts.clashes:
            yield from self._contradiction(facts, facts.clashes[0], ())
            return  # nothing can be told from what is false already
        for rule in self.rules:
            if rule.body:
                yield from self._try(rule)

    def _try(self, rule: Rule) -> Iterator[Problem]:
        body = [frozen(a) for a in rule.body]
        alone = self.world.run(body, **BOUNDS)
        reasons = self._reasons(rule, alone)
        if reasons is not None:
            message = (
                f"the rule follows anyway from {self.names(reasons)}" if reasons else "its head stands in its body"
            )
            yield Problem(message, rule.file, rule.line, cure="remove it", severity="warning")
        if forbids(rule):
            return
        scene = self.whole.run(body, **BOUNDS)
        absent = [c.atom for c in rule.conditions if isinstance(c, Negation)]
        for atom in absent:
            if set(atom.variables) <= rule.bound and scene.holds(frozen(atom)):
                message = rf"the rule can never fire: its body entails {atom}, and it asks for \+ {atom}"
                yield Problem(message, rule.file, rule.line, cure="remove one of them")
                return
        if scene.clashes:
            yield from self._clash(rule, scene, body)
        elif rule.conditions and rule.weight is None and not rule.existential:
            fired = self.whole.run([*body, *(frozen(a) for a in rule.head if a.predicate != "=")], **BOUNDS)
            if fired.clashes:
                yield from self._contradiction(fired, fired.clashes[0], body, rule)

    def _clash(self, rule: Rule, scene: Inference, body: list[GroundAtom]) -> Iterator[Problem]:
        guilty = self.minimal(scene.proof_of(scene.clashes[0]).rules(), body)
        if rule in guilty:
            yield from self._contradiction(scene, scene.clashes[0], body, rule)
            return
        message = f"the rule can never fire: its body breaks {self.names(guilty)}"
        yield Problem(message, rule.file, rule.line, cure="correct the body, or remove the rule")

    def _contradiction(
        self, scene: Inference, clash: Clash, body: Sequence[GroundAtom], rule: Rule | None = None
    ) -> Iterator[Problem]:
        guilty = self.minimal(scene.proof_of(clash).rules(), body)
        written = [r for r in guilty if r in self.hard]
        rule = rule or (written or guilty)[0]
        key = frozenset({*written, rule})
        if key in self.told:
            return
        self.told.add(key)
        others = [r for r in guilty if r != rule]
        with_what = self.names(others) if others else "itself"
        message = f"the rule contradicts {with_what}: where its body holds, they cannot all be true"
        yield Problem(message, rule.file, rule.line, cure="give one of them a weight, or remove it")

    def _reasons(self, rule: Rule, scene: Inference) -> list[Rule] | None:
        """The axioms that make a rule superfluous; None if they do not."""
        if forbids(rule):
            return list(scene.proof_of(scene.clashes[0]).rules()) if scene.clashes else None
        found = None if scene.clashes else witness(rule, scene)
        return None if found is None else list(dict.fromkeys(r for fact in found for r in scene.proof(fact).rules()))

    def names(self, rules: Iterable[Rule]) -> str:
        """Rules and axioms as a message names them."""
        ordered = sorted(rules, key=lambda r: (not r.file, r.file, r.line, r.id))
        return " and ".join(dict.fromkeys(map(self._name, ordered)))

    def _name(self, rule: Rule) -> str:
        axiom = self.sources.get(rule)
        if axiom is not None and self.ontology is not None:
            file, line = self.ontology.place(axiom)
            return f"'{axiom.text}' ({file}:{line})"
        if rule.id.startswith("geometry_"):
            return f"'{rule}' (what the words mean)"
        text = f"'{rule.id}'"
        return f"{text} ({place(rule)})" if rule.file else text

    def minimal(self, rules: Iterable[Rule], facts: Sequence[GroundAtom]) -> list[Rule]:
        """A subset of the rules that still clashes on the facts, of which none can be left out."""
        kept = sorted(set(rules), key=lambda r: (r.file, r.line, str(r)))
        for rule in list(kept):
            fewer = [r for r in kept if r != rule]
            if Program(fewer, self.measurements).run(facts, **BOUNDS).clashes:
                kept = fewer
        return kept


def forbids(rule: Rule) -> bool:
    """Whether a rule only says what must not be: a denial, or an equality."""
    return not rule.head or rule.head[0].predicate == "="


def _is_monotone(rule: Rule) -> bool:
    """Whether more facts can only make the rule fire more often."""
    return all(_is_monotone_condition(c) for c in rule.conditions)


def _is_monotone_condition(condition: Condition) -> bool:
    if isinstance(condition, Negation):
        return False
    if not condition.counts:
        return True
    plain = isinstance(condition.left, Count) and not isinstance(condition.right, Count)
    return plain and condition.operator in (">", ">=") and not condition.counts[0].conditions


def _value(term: Term) -> Value:
    return f"?{term.name}" if term.is_variable else value_of(term)


def frozen(atom: Atom) -> GroundAtom:
    """An atom with each variable made an object of its own, called after it."""
    return atom.predicate, tuple(map(_value, atom.args))


def witness(rule: Rule, scene: Inference) -> list[GroundAtom] | None:
    """The facts of a frozen scene that make the head true, for some object where it is existential; None if it is not."""
    if not rule.existential:
        ground = [frozen(a) for a in rule.head]
        return ground if all(map(scene.holds, ground)) else None
    numbers = {v: i for i, v in enumerate(rule.existential)}
    pattern = [(a.predicate, tuple(numbers.get(t, _value(t)) for t in a.args)) for a in rule.head]
    facts = by_predicate(f for a in rule.head for f in scene.facts(a.predicate))
    for found in matches(pattern, facts, injective=rule.distinct):
        return [(p, tuple(found.get(a, a) if isinstance(a, int) else a for a in args)) for p, args in pattern]
    return None
