"""What entities are, as facts that respect subsumption: from (x, "a", C) follows (x, "a", D) for every class D above C.

Rules know of classes by such facts alone; the row (a, C) of a store is the set of C's members. What is above a class,
an ontology says, with what a reasoner found if it was asked; or the facts (C, "rdfs:subClassOf", D) of a graph, each
taken as certain.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from neurosym.errors import InductionError, Problem, did_you_mean
from neurosym.induction.kg.facts import SHOWN, TYPE, Triple, Triples
from neurosym.induction.kg.rdf import BUILT_IN
from neurosym.knowledge.vocabulary import local_name

if TYPE_CHECKING:
    from neurosym.knowledge.ontology import Ontology

SUBCLASS: Final = "rdfs:subClassOf"
_DECLARED: Final = ("owl:Class", "rdfs:Class")
_NO_CLASS: Final = ("_:", *BUILT_IN.values())
"""What the names of anonymous classes and of the words of OWL (owl:NamedIndividual) begin with."""
log = logging.getLogger(__name__)


def typed(triples: Triples, hierarchy: Ontology | Triples, strict: bool = True, told_by: str = TYPE) -> Triples:
    """The facts, with the memberships that subsumption adds; these are as certain as those they follow from.

    A class of an ontology may be told by its name there, its IRI, its local name or its label, and gets its name.
    Anonymous classes and words of OWL stay as they are.

    Args:
        hierarchy: what is above each class; a graph may be its own.
        strict: a class that the hierarchy does not know is an error; else nothing follows for its members.
        told_by: the relation that tells memberships in `triples`.

    Raises:
        InductionError: no fact tells a membership, or, if `strict`, a class is unknown, with the nearest that is known.

    >>> graph = Triples([("h1", "a", "heart"), ("heart", "rdfs:subClassOf", "organ")], [0.5, 1.0], 0)
    >>> typed(graph, graph).facts
    [('heart', 'rdfs:subClassOf', 'organ'), ('h1', 'a', 'heart'), ('h1', 'a', 'organ')]
    """
    told = Counter(o for _, r, o in triples.facts if r == told_by and not o.startswith(_NO_CLASS))
    if not told:
        cure = did_you_mean(told_by, {r for _, r, _ in triples.facts} - {told_by})
        raise InductionError(Problem(f"the relation {told_by!r} tells of nothing what it is", cure=cure))
    classes = _of_graph(hierarchy) if isinstance(hierarchy, Triples) else _of_ontology(hierarchy)
    names = _names(told, classes, strict)
    holds = {name: (name, *classes.above(name)) for name in names.values()}
    facts: list[Triple] = []
    weights: list[float] = []
    members: dict[Triple, float] = {}
    for (s, r, o), weight in zip(triples.facts, triples.weights, strict=True):
        s, o = names.get(s, s), names.get(o, o)
        if r != told_by:
            facts.append((s, r, o))
            weights.append(weight)
            continue
        for c in holds.get(o, (o,)):
            members[s, TYPE, c] = max(weight, members.get((s, TYPE, c), 0.0))
    order = sorted(members)
    return triples._replace(facts=facts + order, weights=weights + [members[m] for m in order])


class _Classes(NamedTuple):
    """By what words classes may be called, what is above each, and where they are declared, for messages."""

    called: dict[str, set[str]]
    above: Callable[[str], Iterable[str]]
    where: str = ""


def _of_ontology(ontology: Ontology) -> _Classes:
    called: dict[str, set[str]] = {}
    for c in ontology.classes.values():
        for word in (c.iri, local_name(c.iri), c.label):
            called.setdefault(word, set()).add(c.name)
    return _Classes(called | {name: {name} for name in ontology.classes}, ontology.ancestors, ontology.where)


def _of_graph(graph: Triples) -> _Classes:
    parents: dict[str, set[str]] = {}
    for s, r, o in graph.facts:
        if r == SUBCLASS or (r == TYPE and o in _DECLARED):
            parents.setdefault(s, set())
        if r == SUBCLASS and not o.startswith(_NO_CLASS):
            parents.setdefault(o, set())
            parents[s].add(o)

    def above(name: str) -> set[str]:
        found, ahead = {name}, [name]
        while ahead:
            new = parents[ahead.pop()] - found
            found |= new
            ahead += new
        return found - {name}

    return _Classes({name: {name} for name in parents}, above)


def _names(told: Counter[str], classes: _Classes, strict: bool) -> dict[str, str]:
    """The names of the classes by the words that tell them."""
    names: dict[str, str] = {}
    wrong: list[str] = []
    for word in sorted(told):
        meant = classes.called.get(word, set())
        if len(meant) == 1:
            names[word] = min(meant)
        else:
            wrong.append(word)
    if wrong and strict:
        problems = [_problem(word, told[word], classes) for word in wrong[:SHOWN]]
        more = [Problem(f"… and {len(wrong) - SHOWN} more such classes")] if len(wrong) > SHOWN else []
        raise InductionError(problems + more)
    if wrong:
        log.warning(
            "%d classes are unknown, so nothing follows for their members; the first is %r", len(wrong), wrong[0]
        )
    return names


def _problem(word: str, members: int, classes: _Classes) -> Problem:
    meant = sorted(classes.called.get(word, ()))
    if meant:
        choice = " or ".join(map(repr, meant))
        return Problem(f"class {word!r}, of {members} facts, may be {choice}", cure="tell it by its IRI")
    return Problem(
        f"class {word!r}, of {members} facts, is unknown", cure=did_you_mean(word, classes.called, classes.where)
    )
