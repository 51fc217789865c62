"""Knowledge → nodes and edges: what the page and the SVG picture draw, as plain values.

In the view "ontology" the edges run between classes: `subclass` (to the superclass), `disjoint` (of a sorted pair), `axiom` (an
existential axiom, labelled by its relation). In the view "rules" they run from a rule to each class it names, one a class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from neurosym.errors import KnowledgeError, Problem, did_you_mean
from neurosym.knowledge.geometry import SIZES
from neurosym.logic import Atom, Comparison, Condition, Negation, Rule, Term

if TYPE_CHECKING:
    from neurosym.knowledge.knowledge import Knowledge
    from neurosym.knowledge.ontology import Ontology, Relation

KINDS: Final = {
    "ordering": "order in the image",
    "containment": "inside, overlap, nearness",
    "size": "size",
    "count": "how many",
    "denial": "what never occurs",
    "existential": "something must exist",
    "numeric": "measurements",
    "other": "any other rule",
}
"""The kinds of rules that the constraint graph tells apart by colour, and what a reader is told they are."""

_WORDS: Final = {
    **dict.fromkeys(("left_of", "right_of", "above", "below", "patient_left_of", "patient_right_of"), "ordering"),
    **dict.fromkeys(("inside", "encloses", "overlaps", "near", "adjacent"), "containment"),
    **dict.fromkeys(("larger_than", "smaller_than", *SIZES), "size"),
    "same": "count",
}


@dataclass(frozen=True, slots=True)
class ClassNode:
    """A class; `ties` say which data mean it: ``category heart``, ``study label finding=COVID-19``, ``zoned``."""

    name: str
    label: str
    iri: str = ""
    definition: str = ""
    ties: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleNode:
    """A rule: `key` is unique in its graph, `kind` one of `KINDS`, `weight` None if hard, `place` is ``file:line``."""

    key: str
    id: str
    text: str
    kind: str
    weight: float | None
    status: str
    source: str
    place: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """An edge; in the view "rules" from a rule's key to a class, with the words that lead to the class as its label."""

    source: str
    target: str
    kind: str
    label: str = ""
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class RelationEntry:
    """A relation and what the ontology says of it, in words."""

    name: str
    label: str
    facts: str


@dataclass(frozen=True, slots=True)
class Graph:
    """What there is to draw; classes and edges are sorted, rules in the order of their files."""

    view: Literal["ontology", "rules"]
    classes: tuple[ClassNode, ...]
    rules: tuple[RuleNode, ...]
    edges: tuple[Edge, ...]
    relations: tuple[RelationEntry, ...] = ()


def ontology_graph(knowledge: Knowledge) -> Graph:
    """The classes with their hierarchy, disjointness and existential axioms.

    The rules give the existential axioms, the domains and ranges, and what is told of a class; axioms that repeat the
    hierarchy or the disjointness are left out.
    """
    ontology = knowledge.ontology
    told = [r for r in knowledge.rules if not _repeats_hierarchy(r, ontology)]
    edges = {Edge(name, parent, "subclass") for name, c in ontology.classes.items() for parent in c.parents}
    edges |= {Edge(min(pair), max(pair), "disjoint") for pair in ontology.disjoint if len(pair) == 2}
    edges |= {e for rule in told for e in _axiom_edges(rule, ontology)}
    return Graph(
        "ontology",
        _class_nodes(ontology.classes, ontology),
        tuple(_rule_node(i, rule, ontology) for i, rule in enumerate(told)),
        tuple(sorted((e for e in edges if e.target in ontology.classes), key=_edge_order)),
        tuple(_relation_entry(r, told) for _, r in sorted(ontology.relations.items())),
    )


def rule_graph(knowledge: Knowledge) -> Graph:
    """The constraint graph: a node for each rule and each class that rules name, an edge for each rule and class.

    Candidate and rejected rules are there too, told apart by their status; left out are only the ontology's own superclass and
    disjointness axioms.
    """
    ontology = knowledge.ontology
    rules = [r for r in (*knowledge.rules, *knowledge.inactive) if not _repeats_hierarchy(r, ontology)]
    nodes = tuple(_rule_node(i, rule, ontology) for i, rule in enumerate(rules))
    edges = [e for node, rule in zip(nodes, rules, strict=True) for e in _rule_edges(node.key, rule, ontology)]
    named = {name for node in nodes for name in node.classes}
    return Graph("rules", _class_nodes(named, ontology), nodes, tuple(edges))


def neighbourhood(graph: Graph, names: Iterable[str], depth: int = 1) -> Graph:
    """The part of a graph within `depth` steps of the named classes; from class to class through a rule is one step.

    Raises:
        KnowledgeError: a name is not a class of the graph, with the nearest that is.
    """
    known = {c.name for c in graph.classes}
    wanted = set(names)
    if unknown := sorted(wanted - known):
        raise KnowledgeError([Problem(f"unknown class {name!r}", cure=did_you_mean(name, known)) for name in unknown])
    links: dict[str, set[str]] = defaultdict(set)
    groups = (
        [(e.source, e.target) for e in graph.edges] if graph.view == "ontology" else [r.classes for r in graph.rules]
    )
    for group in groups:
        for name in group:
            links[name].update(group)
    reached, frontier, inner = set(wanted), set(wanted), set[str]()
    for _ in range(depth):
        inner |= frontier
        frontier = {other for name in frontier for other in links[name]} - reached
        reached |= frontier
        if not frontier:
            break
    keep = reached if graph.view == "ontology" else inner
    rules = tuple(r for r in graph.rules if keep.intersection(r.classes))
    ends = reached | {r.key for r in rules}
    return replace(
        graph,
        classes=tuple(c for c in graph.classes if c.name in reached),
        rules=rules,
        edges=tuple(e for e in graph.edges if e.source in ends and e.target in ends),
    )


def rule_kind(rule: Rule, relations: Mapping[str, Relation]) -> str:
    """Which of `KINDS` a rule is: the first that fits of count, numeric, denial, existential, the meaning of its head."""
    comparisons = [c for c in rule.conditions if isinstance(c, Comparison) and c.operator != r"\="]
    if any(atom.predicate == "=" for atom in rule.head) or any(c.counts for c in comparisons):
        return "count"
    if comparisons:
        return "numeric"
    if not rule.head:
        return "denial"
    if rule.existential:
        return "existential"
    words = (relations[a.predicate].predicate if a.predicate in relations else a.predicate for a in rule.head)
    return next((_WORDS[w] for w in words if w in _WORDS), "other")


def _repeats_hierarchy(rule: Rule, ontology: Ontology) -> bool:
    """Whether an ontology's axiom is a superclass or a disjointness, which edges of the ontology show already."""
    if rule.distinct or rule.conditions or rule.weight is not None:
        return False
    if any(len(a.args) != 1 for a in (*rule.head, *rule.body)):
        return False
    if len({a.args for a in (*rule.head, *rule.body)}) != 1:
        return False
    names = [a.predicate for a in rule.body]
    if not rule.head:
        return len(names) == 2 and frozenset(names) in ontology.disjoint
    if len(names) != 1 or len(rule.head) != 1 or names[0] not in ontology.classes:
        return False
    return rule.head[0].predicate in ontology.classes[names[0]].parents


def _class_nodes(names: Iterable[str], ontology: Ontology) -> tuple[ClassNode, ...]:
    ties: dict[str, list[str]] = defaultdict(list)
    for category, name in sorted(ontology.categories.items()):
        ties[name].append(f"category {category}")
    for label, name in sorted(ontology.study_labels.items()):
        ties[name].append(f"study label {label}")
    for name in ontology.zoned:
        ties[name].append("zoned")

    def node(name: str) -> ClassNode:
        if name not in ontology.classes:
            return ClassNode(name, name.replace("_", " "))
        c = ontology.classes[name]
        return ClassNode(name, c.label or name, c.iri, c.definition, tuple(ties[name]))

    return tuple(node(name) for name in sorted(names))


def _rule_node(index: int, rule: Rule, ontology: Ontology) -> RuleNode:
    place = f"{rule.file}:{rule.line}" if rule.line else rule.file
    return RuleNode(
        key=f"rule {index}",
        id=rule.id,
        text=str(rule),
        kind=rule_kind(rule, ontology.relations),
        weight=rule.weight,
        status=rule.meta.get("status", ""),
        source=rule.meta.get("source", ""),
        place=place,
        classes=tuple(sorted({a.predicate for a, _ in _atoms(rule) if len(a.args) == 1})),
    )


def _atoms(rule: Rule) -> Iterator[tuple[Atom, str]]:
    """Every atom of a rule with its part: head, body, or negated; what a count counts belongs to the body."""
    yield from ((atom, "head") for atom in rule.head)
    yield from ((atom, "body") for atom in rule.body)
    yield from _atoms_of(rule.conditions)


def _atoms_of(conditions: Iterable[Condition]) -> Iterator[tuple[Atom, str]]:
    for condition in conditions:
        if isinstance(condition, Negation):
            yield condition.atom, "negated"
        else:
            for count in condition.counts:
                yield from ((atom, "body") for atom in count.body)
                yield from _atoms_of(count.conditions)


def _rule_edges(key: str, rule: Rule, ontology: Ontology) -> Iterator[Edge]:
    """One edge for each class: `head` if only the head names it, `negated` if only a negation does, else `body`."""
    parts: dict[str, set[str]] = defaultdict(set)
    classes_of: dict[Term, set[str]] = defaultdict(set)
    words: dict[str, list[str]] = defaultdict(list)
    atoms = list(_atoms(rule))
    for atom, part in atoms:
        if len(atom.args) == 1:
            parts[atom.predicate].add(part)
            classes_of[atom.args[0]].add(atom.predicate)
            if part == "head" and atom.args[0] in rule.bound:
                words[atom.predicate].append("is a")
    body_word = "" if rule.head else "never "
    for atom, part in atoms:
        if len(atom.args) != 2:
            continue
        word = {"head": "", "body": body_word or "if ", "negated": "not "}[part] + _word(atom.predicate, ontology)
        for name in classes_of.get(atom.args[1], ()):
            words[name].append(word)
    for name in sorted(parts):
        kind = "body" if "body" in parts[name] else "head" if "head" in parts[name] else "negated"
        yield Edge(key, name, kind, ", ".join(dict.fromkeys(words[name])), rule.weight)


def _word(predicate: str, ontology: Ontology) -> str:
    if predicate == "=":
        return "only one"
    relation = ontology.relations.get(predicate)
    return relation.label if relation and relation.label else predicate.replace("_", " ")


def _axiom_edges(rule: Rule, ontology: Ontology) -> Iterator[Edge]:
    """`r(X, Y), d(Y) :- c(X).`: an edge from c to d, labelled r."""
    if rule.conditions or len(rule.body) != 1 or len(rule.body[0].args) != 1:
        return
    subject, existential = rule.body[0], rule.existential
    for atom in rule.head:
        if len(atom.args) == 2 and atom.args[0] == subject.args[0] and atom.args[1] in existential:
            fillers = [a.predicate for a in rule.head if a.args == (atom.args[1],)]
            label = _word(atom.predicate, ontology)
            if subject.predicate in ontology.classes:
                yield from (Edge(subject.predicate, filler, "axiom", label, rule.weight) for filler in fillers)


def _relation_entry(relation: Relation, rules: Iterable[Rule]) -> RelationEntry:
    facts = [f"means {relation.predicate}"] if relation.predicate not in ("", relation.name) else []
    facts += [f"inverse of {relation.inverse}"] if relation.inverse else []
    facts += ["symmetric"] if relation.symmetric else []
    facts += ["transitive"] if relation.transitive else []
    facts += [f"implies {parent}" for parent in sorted(relation.parents)]
    for rule in rules:
        if len(rule.head) == len(rule.body) == 1 and rule.body[0].predicate == relation.name and not rule.conditions:
            head, body = rule.head[0], rule.body[0]
            if len(body.args) == 2 and head.args in ((body.args[0],), (body.args[1],)):
                facts.append(f"{'domain' if head.args[0] == body.args[0] else 'range'} {head.predicate}")
    return RelationEntry(relation.name, relation.label or relation.name, ", ".join(facts))


def _edge_order(edge: Edge) -> tuple[str, str, str, str, float]:
    return (edge.kind, edge.source, edge.target, edge.label, -1.0 if edge.weight is None else edge.weight)
