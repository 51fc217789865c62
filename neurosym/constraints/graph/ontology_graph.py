"""The ontology as the static part of a scene graph: which class nodes there are and how they hang together.

A network that refines scenes should not have to learn from sixteen films that a left lung is a lung. So the classes that a
detector knows, with everything above them, become nodes; subsumption, disjointness and the relations that rules state between
two classes become typed edges; and each compiled rule becomes a row of features (its words, its confidence, whether it denies)
with the two class nodes it speaks of. Nothing here depends on an image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurosym.constraints.geometry import PLACES, WORDS
from neurosym.constraints.shapes import ConstraintSet
from neurosym.knowledge import Ontology
from neurosym.records import Rule, Term

ROOT = "(any object)"
"""The node of a rule's variable that no class is stated for."""
_PREDICATES = (*WORDS, *PLACES)
RULE_FEATURES = 2 * len(_PREDICATES) + 3
"""Words and places of body and head, then: confidence, is a denial, has a witness."""


@dataclass(frozen=True)
class OntologyGraph:
    """`classes` are the nodes, the detector's leaves first; edges are (2, edge) index pairs between them.

    `membership[leaf, class]` is 1 where a leaf (background first) is the class or below it; `rule_class[rule]` are the class
    nodes of the rule's first and second object, and so an edge between them; `rule_features[rule]` describe the rule itself.
    """

    classes: tuple[str, ...]
    leaves: int
    membership: Float[Tensor, "leaf class"]
    subclass: Int[Tensor, "2 subclass_edge"]
    disjoint: Int[Tensor, "2 disjoint_edge"]
    rule_class: Int[Tensor, "rule 2"]
    rule_features: Float[Tensor, "rule rule_feature"]

    def to(self, device: torch.device | str) -> OntologyGraph:
        """The same graph with its tensors on a device."""
        moved: dict[str, Any] = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


def ontology_graph(constraints: ConstraintSet, ontology: Ontology) -> OntologyGraph:
    """The class nodes and typed edges around a detector's classes, and the rules compiled for it."""
    leaves = constraints.names
    named = {c for rule in constraints.rules for c in _classes_of(rule, ontology).values()} - {ROOT}
    above = {a for leaf in leaves for a in ontology.ancestors(leaf)} | (named - set(leaves))
    classes = (*leaves, *sorted(above), ROOT)
    index = {name: i for i, name in enumerate(classes)}
    known = [c for c in classes if c != ROOT]
    membership = torch.zeros(len(leaves) + 1, len(classes))
    for i, leaf in enumerate(leaves, 1):
        membership[i, index[ROOT]] = 1.0
        for name in known:
            membership[i, index[name]] = float(ontology.is_a(leaf, name))
    subclass = [
        (index[a], index[p])
        for a in known
        for p in sorted(ontology.classes[a].parents | ontology.classes[a].entailed)
        if p in index
    ]
    disjoint = [(index[a], index[b]) for a in known for b in known if a != b and ontology.are_disjoint(a, b)]
    features = torch.tensor([_features(rule, ontology) for rule in constraints.rules]).reshape(-1, RULE_FEATURES)
    features[:, -3] = constraints.confidence.cpu()
    pairs = [_roles(rule, ontology) for rule in constraints.rules]
    rule_class = torch.tensor([[index[a], index[b]] for a, b in pairs], dtype=torch.long).reshape(-1, 2)
    return OntologyGraph(
        classes,
        len(leaves),
        membership,
        _edges(subclass),
        _edges(disjoint),
        rule_class,
        features,
    )


def _edges(pairs: list[tuple[int, int]]) -> Tensor:
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T.contiguous()


def _classes_of(rule: Rule, ontology: Ontology) -> dict[Term, str]:
    """The first class that the body, else the head, states of each variable."""
    found: dict[Term, str] = {}
    for atom in (*rule.body, *rule.head):
        if len(atom.args) == 1 and atom.predicate in ontology.classes and atom.predicate not in PLACES:
            found.setdefault(atom.args[0], atom.predicate)
    return found


def _roles(rule: Rule, ontology: Ontology) -> tuple[str, str]:
    """The classes of the rule's objects in the order in which groundings name them."""
    classes = _classes_of(rule, ontology)
    variables = list(dict.fromkeys(v for a in (*rule.body, *rule.head) for v in a.variables if v not in rule.measured))
    names = [classes.get(v, ROOT) for v in variables[:2]]
    return (*names, *[ROOT] * (2 - len(names)))  # type: ignore[return-value]


def _features(rule: Rule, ontology: Ontology) -> list[float]:
    parts = []
    for atoms in (rule.body, rule.head):
        words = set()
        for atom in atoms:
            relation = ontology.relations.get(atom.predicate)
            words.add("same" if atom.predicate == "=" else relation.predicate if relation else atom.predicate)
        parts += [float(p in words) for p in _PREDICATES]
    return [*parts, 0.0, float(not rule.head), float(bool(rule.existential))]
