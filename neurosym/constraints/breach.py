r"""Why a rule is broken by some detections, as a sentence: what it expects of them, what is found instead, what is missing.

| rule | sentence |
|---|---|
| `left_of(R, H) :- right_lung(R), heart(H).` | right_lung 0.98 should lie left of heart 0.93, but its centre is 14 px to … |
| `X = Y :- heart(X), heart(Y).` | heart 0.93 and heart 0.61 should be one object, but they share 12% of their union … |
| `inside(N, L), lung(L) :- nodule(N).` | nodule 0.62 should lie inside a lung, but no lung is detected |
| `:- nodule(N), lung(L), encloses(N, L).` | nodule 0.62 must not enclose left_lung 0.91, but 100% of left_lung 0.91's width … |
| `:- count{L : lung(L)} > 2.` | count{L : lung(L)} should be at most 2, but it is 3 |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from neurosym.constraints.broken import Theta
from neurosym.constraints.wording import PHRASES, Wording, joined, with_article
from neurosym.knowledge.geometry import MEASURES
from neurosym.logic import Atom, Comparison, Condition, Count, Negation, Rule, Term

OPERATORS: Final = {
    "<": "should be at least",
    "=<": "should be more than",
    ">": "should be at most",
    ">=": "should be less than",
    "=:=": "should not be",
    r"=\=": "should be",
}
"""What a comparison that must not hold asks instead."""


@dataclass(frozen=True, slots=True)
class Breach:
    """The parts of the sentence; `related` are detections (indices of the scene) beside those of the body."""

    expected: str
    found: str
    missing: str = ""
    since: str = ""
    related: tuple[int, ...] = ()

    @property
    def message(self) -> str:
        """The whole sentence."""
        return f"{self.expected}, but {self.found}{f' (since {self.since})' if self.since else ''}"


def object_variables(rule: Rule, wording: Wording) -> tuple[str, ...]:
    """The variables of a rule's body that stand for detections, in the order in which groundings name them."""
    atoms = ((a, wording.word(a) in MEASURES) for a in rule.body)
    found = (t for a, measures in atoms for t in (a.args[:1] if measures else a.args) if t.is_variable)
    return tuple(dict.fromkeys(t.name for t in found))


def breach_of(rule: Rule, detections: Sequence[int], wording: Wording) -> Breach:
    """Why a rule is broken by detections (indices of the scene) for the objects of its body.

    One detection may stand for two objects, where the rule does not ask for distinct ones.
    """
    names = object_variables(rule, wording)
    numbers = [wording.seen.index(d) for d in detections]
    if len(numbers) == 1 < len(names):
        numbers = numbers * len(names)
    theta: Theta = dict(zip(names, numbers, strict=True)) if len(names) == len(numbers) else {}
    full = next(iter(wording.facts.matches(rule.body, theta)), theta)
    reader = _Reader(rule, wording.facts.satisfied(rule.conditions, full) or full, wording)
    return reader.denial() if not rule.head else reader.implication()


class _Reader:
    """Reads one rule, whose variables stand for the detections and values of `theta`."""

    def __init__(self, rule: Rule, theta: Theta, wording: Wording) -> None:
        self.rule, self.theta, self.wording = rule, theta, wording
        self.objects = {n: theta[n] for n in object_variables(rule, wording) if n in theta}
        self.measures = {a.args[1].name: a for a in rule.body if wording.word(a) in MEASURES}

    def _told(self) -> list[Atom | Condition]:
        """What the body says beyond the classes of its objects and the names of values."""
        atoms = [a for a in self.rule.body if not self.wording.is_class(a) and self.wording.word(a) not in MEASURES]
        conditions = [c for c in self.rule.conditions if isinstance(c, Negation) or c.operator not in ("is", r"\=")]
        return [*atoms, *conditions]

    # --- rules with a head --------------------------------------------------------------------------------------------

    def implication(self) -> Breach:
        """The atoms of the head that do not hold, and the witness that is not there."""
        unbound = set(self.rule.existential)
        asked = [a for a in self.rule.head if unbound & set(a.variables)]
        failing = [a for a in self.rule.head if a not in asked and not self.wording.holds(a, self.theta)]
        parts = [self._failing(failing)] if failing else []
        if asked and not self._has_witness(asked):
            parts.append(self._without_witness(self.rule.existential, asked))
        since = joined([self.wording.statement(c, self.theta, measured=False) for c in self._told()])
        if not parts:  # by the compiled form's arithmetic it does not hold: a tie to the last digit
            head = joined([str(a) for a in self.rule.head])
            return Breach(f"{head} should hold", "it does not", since=since)
        missing, related = parts[-1].missing, parts[-1].related
        return Breach(joined([p.expected for p in parts]), "; ".join(p.found for p in parts), missing, since, related)

    def _has_witness(self, asked: Sequence[Atom]) -> bool:
        taken = set(self.objects.values()) if self.rule.distinct else set()
        unbound = [v.name for v in self.rule.existential]
        matched = ([t[v] for v in unbound] for t in self.wording.facts.matches(asked, self.theta))
        return any(not (taken & set(w)) and len(set(w)) == len(w) for w in matched)

    def _failing(self, atoms: Sequence[Atom]) -> Breach:
        """What is asked of objects that are there, by object."""
        told: dict[str, tuple[list[str], list[str]]] = {}
        for atom in atoms:
            subject, demand = self.wording.label(self.theta[atom.args[0].name]), self.wording.demand(atom, self.theta)
            if atom.predicate == "=":
                subject, demand = f"{subject} and {self.wording.label(self.theta[atom.args[1].name])}", "be one object"
            demands, found = told.setdefault(subject, ([], []))
            demands.append(demand)
            found.append(self.wording.found(atom, self.theta))
        expected = joined([f"{subject} should {joined(demands)}" for subject, (demands, _) in told.items()])
        if len(told) == 1:
            return Breach(expected, joined(list(dict.fromkeys(found))))
        return Breach(expected, "; ".join(f"of {s}, {joined(found)}" for s, (_, found) in told.items()))

    def _without_witness(self, unbound: Sequence[Term], atoms: Sequence[Atom]) -> Breach:
        if len(unbound) > 1:
            return Breach(f"{joined([str(a) for a in atoms])} should hold of something", "nothing is so", "something")
        [witness] = unbound
        noun = self.wording.witness_noun(witness, atoms)
        expected, missing = self._asked(witness, atoms, noun)
        wording, taken = self.wording, {self.wording.seen[v] for v in self.objects.values()}
        candidates = [pair for pair in wording.witness_candidates(witness, atoms, self.theta) if pair[1] not in taken]
        scores = {i: wording.scene.detections[i].score for _, i in candidates}
        seen = [pair for pair in candidates if scores[pair[1]] >= wording.threshold]
        faint = [i for margin, i in candidates if margin > 0 and scores[i] < wording.threshold]
        if seen:
            found = self._nearest(witness, atoms, *seen[0])
        else:
            kinds = [a.predicate for a in atoms if a.args == (witness,) and wording.is_class(a)]
            found = f"no {joined(kinds)} is detected" if kinds else "nothing else is detected"
        if faint:
            best = max(faint, key=lambda i: scores[i])
            d = wording.scene.detections[best]
            found += f"; {d.name} {d.score:.2f} would do, but scores below {wording.threshold:g}"
        return Breach(expected, found, missing, related=(seen[0][1],) if seen else ())

    def _asked(self, witness: Term, atoms: Sequence[Atom], noun: str) -> tuple[str, str]:
        """What is expected, and the witness that is missing."""
        expected: list[str] = []
        missing: list[str] = []
        for atom in atoms:
            if len(atom.args) != 2:
                continue
            infinitive, stated = PHRASES[self.wording.word(atom)]
            other = next(t for t in atom.args if t != witness) if set(atom.args) != {witness} else witness
            name = self.wording.label(self.theta[other.name]) if other.name in self.theta else "something"
            if atom.args[0] == witness:
                expected.append(f"{'it' if expected else noun} should {infinitive.format(name)}")
                missing.append(f"that {stated.format(name)}")
            else:
                expected.append(f"{name} should {infinitive.format('it' if expected else noun)}")
                missing.append(f"that {name} {stated.format('').strip()}")
        if not expected:
            beside = joined([self.wording.label(v) for v in self.objects.values()])
            return f"{f'with {beside} ' if beside else ''}there should be {noun}", noun
        return joined(expected), f"{noun} {joined(missing)}"

    def _nearest(self, witness: Term, atoms: Sequence[Atom], margin: float, index: int) -> str:
        """Why the best candidate is none."""
        wording = self.wording
        name = wording.label(wording.seen.index(index))
        relations = wording.witness_relations(witness, index, atoms, self.theta)
        failing = [(w, a, b) for w, a, b in relations if float(wording.margins[w][a, b]) <= 0]
        if failing:
            return f"none does: with {name}, {wording.relation_found(*failing[0])}"
        bound = {**self.theta, witness.name: wording.seen.index(index)}
        places = [a for a in atoms if len(a.args) == 1 and not wording.holds(a, bound)]
        if places and margin > 0:
            return f"none does: of {name}, {wording.found(places[0], bound)}"
        return f"none does, not {name}"

    # --- denials ------------------------------------------------------------------------------------------------------

    def denial(self) -> Breach:
        """What must not be."""
        told = self._told()
        if not told:
            return self._together()
        if len(told) > 1:
            statements = [self.wording.statement(c, self.theta) for c in told]
            related = tuple(i for c in told if isinstance(c, Comparison) for i in self._counted(c))
            return Breach(f"it must not be that {joined(statements)}", "it is so", related=related)
        [only] = told
        if isinstance(only, Comparison):
            return self._compared(only)
        if isinstance(only, Negation):
            return self._negated(only.atom)
        subject = self.wording.label(self.theta[only.args[0].name])
        demand = self.wording.demand(only, self.theta)
        return Breach(f"{subject} must not {demand}", self.wording.found(only, self.theta))

    def _together(self) -> Breach:
        names = [self.wording.label(v) for v in dict.fromkeys(self.objects.values())]
        if len(names) > 1:
            return Breach(f"{joined(names)} must not be there together", "they are")
        classes = joined([with_article(a.predicate) for a in self.rule.body])
        return Breach(f"{joined(names) or 'nothing'} must not be {classes}", "it is")

    def _negated(self, atom: Atom) -> Breach:
        free = [t for t in atom.args if t.name not in self.theta or t.name == "_"]
        if free:
            return self._without_witness(list(dict.fromkeys(free)), [atom])
        subject = self.wording.label(self.theta[atom.args[0].name])
        return Breach(f"{subject} should {self.wording.demand(atom, self.theta)}", self.wording.found(atom, self.theta))

    def _counted(self, comparison: Comparison) -> tuple[int, ...]:
        known = set(self.objects.values())
        return tuple(self.wording.seen[k] for k in self.wording.counted(comparison, self.theta) if k not in known)

    def _compared(self, comparison: Comparison) -> Breach:
        related = self._counted(comparison)
        left, right = comparison.left, comparison.right
        if comparison.operator in OPERATORS and isinstance(right, Term) and not right.is_variable:
            bound = f"{OPERATORS[comparison.operator]} {right}"
            if isinstance(left, Term) and left.name in self.measures:
                name, value = self._measurement(left.name)
                return Breach(f"the {name} {bound}", f"it is {value}")
            if isinstance(left, Count):
                within = joined([self.wording.label(v) for v in self.objects.values()])
                value = self.wording.measured(comparison, self.theta).rsplit(" ", 1)[-1]
                of = f" (of {within})" if within else ""
                return Breach(f"{left}{of} {bound}", f"it is {value}", related=related)
        values = self.wording.measured(comparison, self.theta)
        parts = [" is ".join(self._measurement(v.name)) for v in comparison.variables if v.name in self.measures]
        found = f"{values}{f', as the {joined(parts)}' if parts else ''}"
        return Breach(f"{comparison} must not hold", found, related=related)

    def _measurement(self, variable: str) -> tuple[str, str]:
        atom = self.measures[variable]
        value = self.theta.get(variable)
        shown = f"{value:.3g}" if isinstance(value, int | float) else "unknown"
        return f"{self.wording.word(atom)} of {self.wording.label(self.theta[atom.args[0].name])}", shown
