r"""The axioms of an ontology, each with the rules it becomes or with the reason why it becomes none.

| axiom | rules |
|---|---|
| `c SubClassOf d`, `c and r some e SubClassOf d` | `d(X) :- c(X).`, `d(X) :- c(X), r(X, Y), e(Y).` |
| `c SubClassOf r some d` | `r(X, Y), d(Y) :- c(X).` |
| `c SubClassOf r only d` (and range, domain) | `d(Y) :- c(X), r(X, Y).` |
| `c SubClassOf r value a` | `r(X, a) :- c(X).` |
| `c SubClassOf not d`, disjoint classes | `:- c(X), d(X).` |
| `c SubClassOf d or e`, disjoint union | `:- c(X), \+ d(X), \+ e(X).` |
| `c SubClassOf r max 1 d`, functional, inverse functional, key | `Y = Z :- c(X), r(X, Y), d(Y), r(X, Z), d(Z).` |
| `c SubClassOf r max 2 d`, `r min 2 d` | `:- c(X), count{Y : r(X, Y), d(Y)} > 2.`, `… < 2.` |
| `c SubClassOf age only integer[>= 0]` | `:- c(X), age(X, V), V < 0.` |
| sub-property, chain, inverse, symmetric, transitive | `s(X, Z) :- p(X, Y), q(Y, Z).` and so on |
| asymmetric, irreflexive, disjoint properties | `:- r(X, Y), r(Y, X).`, `:- r(X, X).`, `:- p(X, Y), q(X, Y).` |
| assertions about individuals, negative ones | `c(a).`, `r(a, b).`, `:- r(a, b).` |

The kinds are those of the OWL 2 structural specification (https://www.w3.org/TR/owl2-syntax/, section 9), read by the mapping
to RDF graphs; where OWL 2 RL (https://www.w3.org/TR/owl2-profiles/, section 4.3) has a rule for an axiom, ours is the same.
Rules have OWL's reading (`distinct=False`); `ns:confidence` on an axiom is the weight of its rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from neurosym.knowledge.annotations import Annotations, subject_of
from neurosym.knowledge.class_axioms import Assertions, ClassAxioms
from neurosym.knowledge.drafts import Draft
from neurosym.knowledge.expressions import ExpressionReader
from neurosym.knowledge.horn import Clause
from neurosym.knowledge.property_axioms import PropertyAxioms
from neurosym.knowledge.triples import SWRL, TYPE, Triple
from neurosym.knowledge.vocabulary import Unreadable, Vocabulary
from neurosym.logic import Rule


@dataclass(frozen=True, slots=True)
class Axiom:
    """One axiom.

    `kind` is its name in the OWL 2 structural specification, `text` is Manchester-like, `triple` its main triple. It becomes
    `rules`, or nothing for the reason `unused`. A `structural` one says how names relate and nothing more: the ontology's
    closure, or the datatype of a relation, holds it. `confidence` and `source` are annotations on the axiom itself.
    """

    kind: str
    text: str
    triple: Triple
    rules: tuple[Rule, ...]
    unused: str = ""
    structural: bool = False
    confidence: float | None = None
    source: str = ""


_SPELLED: Final = {
    **dict.fromkeys(("SubClassOf", "some", "value"), ""),
    **dict.fromkeys(("EquivalentTo", "Type", "Characteristics"), "is"),
    **dict.fromkeys(("DisjointWith", "DisjointClasses", "DisjointProperties"), "disjoint"),
    **{w: w.lower() for w in ("Functional", "Symmetric", "Asymmetric", "Transitive", "Irreflexive")},
    **{"InverseFunctional": "inverse_functional", "InverseOf": "inverse_of", "DisjointUnionOf": "disjoint_union_of"},
    **{"Domain": "domain", "Range": "range", "SubPropertyOf": "below", "HasKey": "key", "Self": "self"},
}
"""How the words of a text that are no names appear in the id of a rule."""
_OF_DATATYPES: Final = ("DataPropertyRange", "DatatypeDefinition")
"""Structural axioms that need no rule: a relation's datatype holds them, or the places where the datatype is named."""


def read_axioms(vocabulary: Vocabulary) -> tuple[Axiom, ...]:
    """Every axiom of an ontology, in the order of their texts; problems go to the vocabulary's."""
    return tuple(_AxiomReader(vocabulary).read())


class _AxiomReader:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self.v, self.t = vocabulary, vocabulary.triples
        self.expressions = ExpressionReader(vocabulary)
        self.notes = Annotations(vocabulary, self.expressions)
        self.ids: dict[str, int] = {}

    def read(self) -> Iterator[Axiom]:
        readers = (kind(self.v, self.expressions) for kind in (ClassAxioms, PropertyAxioms, Assertions))
        drafts = [draft for reader in readers for draft in reader.read()]
        drafts.sort(key=lambda d: (d.text, d.kind))
        before: tuple[str, str] | None = None
        for draft in drafts:
            if (draft.kind, draft.text) != before or draft.unused:
                yield self._axiom(draft)
            before = (draft.kind, draft.text)
        yield from self._swrl()
        self.notes.report_strays()

    def _axiom(self, d: Draft) -> Axiom:
        confidence, source = self.notes.of(d.triple)
        unused = d.unused
        rules: list[Rule] = []
        if not unused:
            try:
                clauses = d.clauses if isinstance(d.clauses, tuple) else tuple(d.clauses())
            except (Unreadable, ValueError) as error:
                clauses, unused = (), str(error)
            rules = self._rules(d, clauses, confidence, source)
            if not rules and not unused and not (d.structural and d.kind in _OF_DATATYPES):
                unused = "it holds anyway"
        structural = d.structural and confidence is None and not unused
        return Axiom(d.kind, d.text, d.triple, tuple(rules), unused, structural, confidence, source)

    def _rules(self, d: Draft, clauses: Iterable[Clause], confidence: float | None, source: str) -> list[Rule]:
        name, about = d.id, subject_of(self.t, d.triple)
        if not name:
            name = "_".join(filter(None, (_SPELLED.get(w, w) for w in re.findall(r"\w+", d.text))))
        rules = []
        for head, body, conditions in dict.fromkeys(clauses):
            count = self.ids[name] = self.ids.get(name, 0) + 1
            meta = {"id": name if count == 1 else f"{name}_{count}", "axiom": about}
            if source:
                meta["source"] = source
            rules.append(Rule(head, body, confidence, meta, "", 0, conditions, False))
        return rules

    def _swrl(self) -> Iterator[Axiom]:
        if not self.t.instances(SWRL + "Imp"):
            return
        from neurosym.knowledge.exchange.swrl import rules_of

        for number, (node, rule) in enumerate(rules_of(self.t, self.v.names), 1):
            triple = (node, TYPE, SWRL + "Imp")
            confidence, source = self.notes.of(triple)
            if isinstance(rule, str):
                yield Axiom("DLSafeRule", "a SWRL rule", triple, (), rule, False, confidence, source)
                continue
            label = self.v.label(node)
            meta = {
                "id": re.sub(r"\W+", "_", label) if label else f"swrl_{number}",
                "axiom": subject_of(self.t, triple),
            }
            if source:
                meta["source"] = source
            rule = replace(rule, weight=confidence, meta=meta, distinct=False)
            yield Axiom("DLSafeRule", str(replace(rule, weight=None)), triple, (rule,), "", False, confidence, source)
