"""What the knowledge says of a rule: that it holds anyway, that it stands there already, that it cannot hold, or nothing.

The body is *frozen*, each variable an object of its own, and the hard rules and axioms are run on it, as the check of rule
files does (`neurosym.knowledge.consistency`). With K the hard rules and axioms, B the body and H the head of a rule,

    known          a rule of the files, active or not, is the same up to the names of variables and the order of atoms
    contradicted   K ∪ B ∪ H clashes: a denial fires, or two objects would be one
    entailed       K ∪ B ⊢ H
    novel          none of these; asked in this order

Whatever a weight says, a contradicted rule holds for no choice of objects; if K ∪ B clashes by itself, it speaks of nothing
that there can be. Weighted rules prove nothing and refute nothing: what would follow with them, or be broken, is a warning.

Negation and upper limits to a count, in rules or axioms, take no part: they prove nothing on a scene that may have more on it.
Of an axiom that only a reasoner can use (a disjunction, a minimum) the classification counts, if the knowledge was classified.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neurosym.knowledge import Knowledge
from neurosym.knowledge.canonical import canonical
from neurosym.knowledge.consistency import BOUNDS, Court, forbids, frozen, witness
from neurosym.knowledge.inference import GroundAtom, Inference, Program, Proof, Value
from neurosym.knowledge.reading import reading
from neurosym.knowledge.redundancy import place
from neurosym.knowledge.relations import shown
from neurosym.knowledge.statements import ACTIVE
from neurosym.logic import Atom, Rule, Term
from neurosym.review.assessment import Standing


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the knowledge says of one rule, why, and what else it has to say."""

    standing: Standing
    because: str = ""
    warnings: tuple[str, ...] = ()


class Standings:
    """Judges rules by one knowledge; its rules are compiled once."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.ontology = knowledge.ontology
        self._written = {canonical(r): r for r in reversed((*knowledge.rules, *knowledge.inactive))}
        axioms = set(self.ontology.rules)
        self._court = Court([r for r in knowledge.rules if r not in axioms], self.ontology)
        soft = [r for r in knowledge.rules if r.weight is not None and r not in axioms]
        self._usual = self._court.with_weighted(soft)

    def of(self, rule: Rule) -> Judgement:
        """The standing of a rule.

        One with `distinct=no` is compared with the rules of the files and no more, because its variables may be one object.
        """
        written = self._written.get(canonical(rule))
        if written is not None:
            return Judgement("known", _known(written))
        if not rule.body or not rule.distinct:
            return Judgement("novel")
        body = [frozen(a) for a in rule.body]
        scene = self._court.whole.run(body, **BOUNDS)
        if forbids(rule):
            return Judgement("entailed", self._clash(scene, body)) if scene.clashes else Judgement("novel")
        if scene.clashes:
            because = f"its body cannot hold: {self._clash(scene, body)}"
            return Judgement(
                "contradicted", because, ("what its body describes breaks the knowledge, whatever its head",)
            )
        both = [*body, *map(frozen, rule.head)]
        joint = self._court.whole.run(both, **BOUNDS)
        if joint.clashes:
            return Judgement("contradicted", f"body and head cannot hold together: {self._clash(joint, both)}")
        if (found := witness(rule, scene)) is not None:
            return Judgement("entailed", self._proofs(scene, found))
        return Judgement("novel", warnings=tuple(self._usually(rule, body, both)))

    def _usually(self, rule: Rule, body: Sequence[GroundAtom], both: Sequence[GroundAtom]) -> Iterator[str]:
        """What the rules that allow exceptions say of a rule."""
        scene = self._usual.run(body, **BOUNDS)
        if scene.clashes:
            return
        if (found := witness(rule, scene)) is not None:
            rules = {r for fact in found for r in scene.proof(fact).rules()}
            yield f"it follows anyway with rules that allow exceptions: {self._court.names(rules)}"
            return
        joint = self._usual.run(both, **BOUNDS)
        if joint.clashes:
            rules = set(self._court.minimal(joint.proof_of(joint.clashes[0]).rules(), both))
            yield f"it describes exceptions to {self._court.names(rules)}"

    def _clash(self, scene: Inference, facts: Sequence[GroundAtom]) -> str:
        """One clash in words, by as few rules as clash on these facts."""
        guilty = self._court.minimal(scene.proof_of(scene.clashes[0]).rules(), facts)
        smallest = Program(guilty, self._court.measurements).run(facts, **BOUNDS)
        return " ".join(self._steps([smallest.proof_of(smallest.clashes[0])]))

    def _proofs(self, scene: Inference, facts: Sequence[GroundAtom]) -> str:
        """Why these facts hold, in words."""
        return " ".join(self._steps([scene.proof(f) for f in facts])) or "its head stands in its body"

    def _steps(self, proofs: Sequence[Proof]) -> list[str]:
        """Each step that uses a rule as a sentence, premises before what they give."""
        sentences: list[str] = []
        seen: set[int] = set()

        def tell(step: Proof) -> None:
            if id(step) in seen:
                return
            seen.add(id(step))
            for premise in step.premises:
                tell(premise)
            if step.rule is not None:
                sentences.append(self._sentence(step, step.rule))

        for proof in proofs:
            tell(proof)
        return list(dict.fromkeys(sentences))

    def _sentence(self, step: Proof, rule: Rule) -> str:
        head = () if step.conclusion is None else (_atom(step.conclusion),)
        said = Rule(head, tuple(_atom(p.conclusion) for p in step.premises if p.conclusion is not None))
        tested = f" ({', '.join(step.conditions)})" if step.conditions else ""
        sentence = reading(said, self.ontology).removesuffix(".")
        if head and head[0].predicate == "=" and not any(t.name.startswith("_") for t in head[0].args):
            sentence += ", and they are two"
        return f"{sentence}{tested}, by {self._court.names([rule])}."


def _known(written: Rule) -> str:
    where = place(written) if written.line else f"'{written.id}'"
    weight = "" if written.weight is None else f", with weight {written.weight:g}"
    status = written.meta.get("status", "")
    reason = f": {written.meta['reason']}" if written.meta.get("reason") else ""
    told = "" if status in ACTIVE else f", {status}{reason}"
    return f"{where}{weight}{told}"


def _atom(fact: GroundAtom) -> Atom:
    """A fact of a frozen scene with its variables again."""
    return Atom(fact[0], tuple(map(_term, fact[1])))


def _term(value: Value) -> Term:
    if isinstance(value, str) and value.startswith("?"):
        return Term(value[1:])
    return Term(shown(value))  # a constant, or an object without a name, as a proof shows it
