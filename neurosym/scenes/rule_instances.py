"""Which rules fire on a scene and whether they hold there, without torch: each rule is asked of the inference engine as two.

Of ``head :- body`` the engine derives a marker for every choice of objects that satisfies the body, and a second one for
those that also satisfy the head; a choice without the second marker breaks the rule. The facts are those of `facts_from` (by
boxes, a label of the film where it is at least as probable as the threshold, and what the data says of the film), so
`neurosym explain`, which measures masks where there are any, can judge a mask otherwise. A rule whose head asks for what
nobody looked for is left out: it cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurosym.knowledge import Knowledge
from neurosym.knowledge.geometry import MEASURES, PREDICATES, SIDES, SIZES, ZONES
from neurosym.knowledge.inference import GroundAtom, Inference, Program
from neurosym.knowledge.relations import shown_atom
from neurosym.logic import Atom, Rule, Term
from neurosym.records import Scene
from neurosym.scenes.facts import facts_from

FILM = "film"
"""The entity that stands for the image as a whole; detection i (of the scene) is `#i`."""
_SAME = "same object"


@dataclass(frozen=True, slots=True)
class RuleInstance:
    """One choice of objects that satisfies a rule's body.

    `detections` are the body's, by their indices in the scene; `witnesses` are others that the head was satisfied with.
    `premises` are the facts that it rests on, as rule text with `#i` for detections, conditions included.
    """

    rule: Rule
    holds: bool
    detections: tuple[int, ...]
    witnesses: tuple[int, ...] = ()
    premises: tuple[str, ...] = ()


class RuleBook:
    """The rules that can be asked of scenes in which the classes `names` (and labels of the film) are looked for."""

    def __init__(self, knowledge: Knowledge, names: Iterable[str]) -> None:
        self.knowledge, self.names = knowledge, frozenset(names)
        ontology = knowledge.ontology
        spoken_of = {a.predicate for rule in knowledge.rules for a in rule.atoms}
        words = {n: r.predicate for n, r in ontology.relations.items() if n in spoken_of}
        self.relations = {n: word for n, word in words.items() if word in PREDICATES}
        self.measures = {n: word for n, word in words.items() if word in MEASURES}
        self._programs: dict[frozenset[str], tuple[tuple[Rule, ...], Program]] = {}

    def instances(
        self, scene: Scene, threshold: float = 0.5, attributes: Mapping[str, Any] | None = None
    ) -> tuple[RuleInstance, ...]:
        """Every instance on a scene, in the order of the rules; the same objects in another order are told once.

        `attributes` are what the data says of the film, for rules with words that are read off it.
        """
        labels = {name: p for name, p in scene.labels.items() if p >= threshold}
        seen = [i for i, d in enumerate(scene.detections) if d.score >= threshold and self._declared(d.name)]
        rules, program = self._asked(frozenset(scene.labels))
        film = replace(scene, image_id=FILM, labels=labels)
        found = program.run(self._facts(film, seen, threshold, attributes or {}))
        return tuple(self._instances(rules, found, seen))

    def _declared(self, name: str) -> bool:
        return name in self.knowledge.ontology.classes

    def _asked(self, labels: frozenset[str]) -> tuple[tuple[Rule, ...], Program]:
        """The rules that can hold where these labels are told apart, and their program."""
        if labels not in self._programs:
            looked_for = self.names | {name for name in labels if self._declared(name)}
            rules = tuple(r for r in self.knowledge.rules if _variables(r) and self._can_hold(r, looked_for))
            markers = [m for n, rule in enumerate(rules) for m in _markers(n, rule)]
            self._programs[labels] = rules, Program(markers, self.knowledge.ontology.measurements)
        return self._programs[labels]

    def _can_hold(self, rule: Rule, looked_for: Iterable[str]) -> bool:
        is_a = self.knowledge.ontology.is_a
        shown = self.knowledge.ontology.scene_words.shown
        known = [n for n in (*looked_for, *ZONES, *SIDES, *SIZES, *shown) if self._declared(n)]
        for atom in rule.head:
            if len(atom.args) == 1:
                if not any(is_a(name, atom.predicate) for name in known):
                    return False
            elif atom.predicate != "=" and atom.predicate not in {*self.relations, *self.measures}:
                return False
        return True

    def _facts(
        self, scene: Scene, seen: Sequence[int], threshold: float, attributes: Mapping[str, Any]
    ) -> Iterator[GroundAtom]:
        ontology = self.knowledge.ontology
        for fact in facts_from([scene], self.knowledge, threshold, attributes={FILM: attributes}).facts:
            if len(fact.args) == 1:
                for name in {fact.relation, *ontology.ancestors(fact.relation)}:
                    yield name, fact.args
        boxes = np.array([scene.detections[i].box.xyxy for i in seen], dtype=np.float64).reshape(-1, 4)
        for name, word in {**self.relations, _SAME: "same"}.items():
            holds = PREDICATES[word](boxes[:, None], boxes[None], np) > 0
            np.fill_diagonal(holds, name == _SAME)
            for n, m in np.argwhere(holds).tolist():
                yield name, (f"{FILM}/{n}", f"{FILM}/{m}")
        for name, word in self.measures.items():
            for n, value in enumerate(MEASURES[word](boxes, float(scene.width), float(scene.height), np).tolist()):
                yield name, (f"{FILM}/{n}", value)

    def _instances(self, rules: Sequence[Rule], found: Inference, seen: Sequence[int]) -> Iterator[RuleInstance]:
        shown = {f"{FILM}/{n}": f"#{i}" for n, i in enumerate(seen)}
        for number, rule in enumerate(rules):
            told: set[tuple[bool, frozenset[int]]] = set()
            for _, row in sorted(found.facts(_fired(number)), key=str):
                holds = found.holds((_held(number), row))
                body = _indices(row, shown)
                key = holds, frozenset(body)
                if key in told:
                    continue
                told.add(key)
                proof = found.proof((_held(number) if holds else _fired(number), row))
                facts = [p.conclusion for p in proof.premises if p.conclusion is not None]
                facts = [f for f in facts if f[0] != _SAME]
                others = _indices(tuple(v for f in facts for v in f[1]), shown)
                premises = tuple(dict.fromkeys(_text(f, shown) for f in facts))
                conditions = tuple(_renamed(c, shown) for c in proof.conditions)
                witnesses = tuple(i for i in others if i not in body)
                yield RuleInstance(rule, holds, body, witnesses, (*premises, *conditions))


def _fired(number: int) -> str:
    return f"body of {number}"


def _held(number: int) -> str:
    return f"rule {number}"


def _variables(rule: Rule) -> tuple[Term, ...]:
    return tuple(dict.fromkeys(v for a in rule.body for v in a.variables if v.name != "_"))


def _markers(number: int, rule: Rule) -> Iterator[Rule]:
    arguments = _variables(rule)
    rest = {"conditions": rule.conditions, "distinct": rule.distinct, "meta": {"id": rule.id}}
    yield Rule((Atom(_fired(number), arguments),), rule.body, **rest)  # type: ignore[arg-type]
    if rule.head:
        head = tuple(Atom(_SAME, a.args) if a.predicate == "=" else a for a in rule.head)
        yield Rule((Atom(_held(number), arguments),), (*rule.body, *head), **rest)  # type: ignore[arg-type]


def _indices(values: Iterable[object], shown: dict[str, str]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(shown[v][1:]) for v in values if isinstance(v, str) and v in shown))


def _text(fact: GroundAtom, shown: dict[str, str]) -> str:
    """A fact as rule text, with detections as `#i`."""
    values = [shown.get(v, v) if isinstance(v, str) else v for v in fact[1]]
    if all(isinstance(v, str) for v in values):
        return f"{fact[0]}({', '.join(map(str, values))})"
    return _renamed(shown_atom(fact), shown)


def _renamed(text: str, shown: dict[str, str]) -> str:
    for name, short in sorted(shown.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(f"'{name}'", short).replace(name, short)
    return text
