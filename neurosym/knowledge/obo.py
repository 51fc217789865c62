"""OBO → triples, by the OBO-to-OWL mapping of OBO Flat File Format 1.4, section 5.

Why not a library: fastobo panics at every ``[Instance]``; py-horned-owl takes five times as long, drops property chains and
turns every cardinality into "some". Both are oracles of the tests. One thing is different from the mapping: an id of the
file's own id space that no stanza declares stays undeclared, so that a mistyped ``is_a`` is reported and does not quietly
become a class; terms of other id spaces are declared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from neurosym.errors import OntologyError, Problem
from neurosym.knowledge.stanzas import (
    KINDS,
    MAX_PROBLEMS,
    OBO,
    OIO,
    Clause,
    Names,
    Stanza,
    plain_text,
    read_stanzas,
    unescaped,
    words_of,
)
from neurosym.knowledge.triples import OWL, RDF, RDFS, TYPE, XSD, Literal, Node, Triple

CLASS, OBJECT_PROPERTY = KINDS["Term"], KINDS["Typedef"]
SUBCLASS = RDFS + "subClassOf"
TRUE = Literal("true", XSD + "boolean")
_SYNONYMS = {"EXACT": "Exact", "BROAD": "Broad", "NARROW": "Narrow", "RELATED": "Related"}
_CHARACTERISTICS = {
    "is_transitive": "Transitive",
    "is_symmetric": "Symmetric",
    "is_asymmetric": "Asymmetric",
    "is_reflexive": "Reflexive",
    "is_functional": "Functional",
    "is_inverse_functional": "InverseFunctional",
}
_LINKS = {  # tag: how a Term says it, how a Typedef says it
    "is_a": (SUBCLASS, RDFS + "subPropertyOf"),
    "equivalent_to": (OWL + "equivalentClass", OWL + "equivalentProperty"),
    "disjoint_from": (OWL + "disjointWith", OWL + "propertyDisjointWith"),
    "domain": ("", RDFS + "domain"),
    "range": ("", RDFS + "range"),
    "inverse_of": ("", OWL + "inverseOf"),
}
_CHAINS = {"holds_over_chain": 2, "equivalent_to_chain": 2, "transitive_over": 1}
_COUNTS = {
    "cardinality": "qualifiedCardinality",
    "minCardinality": "minQualifiedCardinality",
    "maxCardinality": "maxQualifiedCardinality",
}
_SHAPING = {*_COUNTS, "all_some", "all_only"}
_NOTES = {  # what only people read: tag → annotation property, and whether its value is an id
    "comment": (RDFS + "comment", False),
    "namespace": (OIO + "hasOBONamespace", False),
    "created_by": (OIO + "created_by", False),
    "creation_date": (OIO + "creation_date", False),
    "xref": (OIO + "hasDbXref", False),
    "subset": (OIO + "inSubset", True),
    "replaced_by": (OBO + "IAO_0100001", True),
    "consider": (OIO + "consider", True),
}
_QUOTED = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"\s*(.*)')


def read_obo(text: str, file: str, label: str, everything: bool = False) -> list[Triple]:
    """The triples of an OBO document.

    Args:
        file: for messages.
        label: what the names of its blank nodes begin with.
        everything: whether to give also what only people read (cross references, who wrote it when).

    Raises:
        OntologyError: with the first twenty mistakes.
    """
    stanzas, problems = read_stanzas(text, file)
    mapping = _Mapping(Names(stanzas), file, label, everything)
    found = list(mapping.document(stanzas))
    problems = sorted({*problems, *mapping.problems}, key=lambda p: p.line)
    if problems:
        raise OntologyError(problems[:MAX_PROBLEMS])
    return found


class _Mapping:
    def __init__(self, names: Names, file: str, label: str, everything: bool) -> None:
        self.iri = names.iri
        self.file, self.label, self.everything = file, label, everything
        self.problems: list[Problem] = []
        self.mentioned: dict[str, str] = {}
        self.blanks = 0

    def problem(self, message: str, line: int, cure: str = "") -> None:
        self.problems.append(Problem(f"OBO syntax: {message}", self.file, line, cure=cure))

    def blank(self) -> str:
        self.blanks += 1
        return f"_:{self.label}{self.blanks}"

    def mention(self, name: str, kind: str) -> str:
        """The IRI of an id that is used as a class or a property."""
        self.mentioned.setdefault(name, kind)
        return self.iri(name)

    def document(self, stanzas: list[Stanza]) -> Iterator[Triple]:
        """Everything the document says."""
        yield from self.header(stanzas[0])
        declared: dict[str, int] = {}
        alternatives: set[str] = set()
        for stanza in stanzas[1:]:
            if not stanza.id:
                self.problem(f"a [{stanza.kind}] without an id", stanza.line, 'add "id: …" as its first line')
                continue
            if stanza.id in declared:
                line = declared[stanza.id]
                self.problem(f"the id {stanza.id!r} was declared already on line {line}", stanza.line, "keep one")
            declared.setdefault(stanza.id, stanza.line)
            alternatives.update(name for c in stanza.clauses if c.tag == "alt_id" for name in self.ids(c, 1)[0])
            yield from self.stanza(stanza)
        for name in sorted(alternatives - declared.keys()):
            yield self.iri(name), TYPE, CLASS
            yield self.iri(name), OWL + "deprecated", TRUE
        own = {name.partition(":")[0] for name in declared}
        for name, kind in self.mentioned.items():
            if ":" in name and name not in declared and name.partition(":")[0] not in own:
                yield self.iri(name), TYPE, kind

    def header(self, header: Stanza) -> Iterator[Triple]:
        """The ontology, what it imports, its version."""
        name = next((c.value.split()[0] for c in header.clauses if c.tag == "ontology" and c.value), "")
        if not name:
            return
        ontology = self.iri(name) if "://" in name else f"{OBO}{name}.owl"
        yield ontology, TYPE, OWL + "Ontology"
        for clause in header.clauses:
            if clause.tag == "import" and clause.value:
                imported = clause.value.split()[0]
                local = OBO + imported + ("" if "." in imported else ".owl")
                yield ontology, OWL + "imports", self.iri(imported) if "://" in imported else local
            elif clause.tag == "data-version":
                yield ontology, OWL + "versionInfo", Literal(clause.value)
            elif clause.tag == "remark" and self.everything:
                yield ontology, RDFS + "comment", Literal(unescaped(clause.value))
            elif clause.tag == "property_value" and self.everything:
                yield from self.property_value(ontology, clause)

    def stanza(self, stanza: Stanza) -> Iterator[Triple]:
        """One term, relation or individual."""
        me, kind = self.iri(stanza.id), KINDS[stanza.kind]
        if any(c.tag == "is_metadata_tag" and self.truth(c) for c in stanza.clauses):
            kind = OWL + "AnnotationProperty"
        yield me, TYPE, kind
        if self.everything:
            yield me, OIO + "id", Literal(stanza.id)
        wholes: dict[str, list[Node]] = {}
        for clause in stanza.clauses:
            if clause.tag in {"intersection_of", "union_of"}:
                if stanza.kind == "Term":
                    part, triples = self.part(clause)
                    wholes.setdefault(clause.tag, []).append(part)
                    yield from triples
            else:
                yield from self.clause(me, kind, clause)
        for tag, members in wholes.items():
            if len(members) == 1:
                line = next(c.line for c in stanza.clauses if c.tag == tag)
                self.problem(f"one {tag!r} alone says nothing, expected two or more", line)
            whole = self.blank()
            yield from [(me, OWL + "equivalentClass", whole), (whole, TYPE, CLASS)]
            yield from self.chained(whole, OWL + tag.replace("_of", "Of"), members)

    def clause(self, me: str, kind: str, clause: Clause) -> Iterator[Triple]:
        """One line about `me`."""
        tag, value = clause.tag, clause.value
        if tag == "name":
            yield me, RDFS + "label", Literal(plain_text(value))
        elif tag == "def":
            yield me, OBO + "IAO_0000115", Literal(self.quoted(clause)[0])
        elif tag == "synonym":
            words, rest = self.quoted(clause)
            yield me, f"{OIO}has{_SYNONYMS.get(rest.partition(' ')[0], 'Related')}Synonym", Literal(words)
        elif tag == "is_obsolete":
            if self.truth(clause):
                yield me, OWL + "deprecated", TRUE
        elif tag in _CHARACTERISTICS:
            if self.truth(clause):
                yield me, TYPE, f"{OWL}{_CHARACTERISTICS[tag]}Property"
        elif tag in _LINKS:
            yield from self.link(me, kind, clause)
        elif tag == "relationship":
            yield from self.relationship(me, kind, clause)
        elif tag == "instance_of":
            yield from ((me, TYPE, self.mention(name, CLASS)) for name in self.ids(clause, 1)[0])
        elif tag in _CHAINS:
            chain = [self.mention(name, OBJECT_PROPERTY) for name in self.ids(clause, _CHAINS[tag])[0]]
            if chain:
                yield from self.chained(me, OWL + "propertyChainAxiom", [me, *chain] if len(chain) == 1 else chain)
        elif tag == "property_value":
            yield from self.property_value(me, clause)
        elif self.everything and tag in _NOTES:
            prop, is_id = _NOTES[tag]
            yield me, prop, self.iri(value.split()[0]) if is_id else Literal(plain_text(value))

    def link(self, me: str, kind: str, clause: Clause) -> Iterator[Triple]:
        """A line that ties two classes, two relations, or a relation to a class."""
        names, qualifiers = self.ids(clause, 1)
        prop = _LINKS[clause.tag][kind != CLASS]
        other = CLASS if clause.tag in {"domain", "range"} else kind
        for name in names if prop else ():
            target = self.mention(name, other)
            yield me, prop, target
            yield from self.qualified(me, prop, target, qualifiers)

    def relationship(self, me: str, kind: str, clause: Clause) -> Iterator[Triple]:
        """Of a class: restrictions; of an individual: a fact."""
        names, qualifiers = self.ids(clause, 2)
        if len(names) != 2:
            return
        prop = self.mention(names[0], OBJECT_PROPERTY)
        if kind != CLASS:
            yield me, prop, self.iri(names[1])
            return
        for restriction, triples in self.restrictions(prop, self.mention(names[1], CLASS), qualifiers, clause.line):
            yield me, SUBCLASS, restriction
            yield from triples
            yield from self.qualified(me, SUBCLASS, restriction, qualifiers)

    def restrictions(
        self, prop: str, target: str, qualifiers: dict[str, str], line: int
    ) -> Iterator[tuple[str, list[Triple]]]:
        """A relationship as restrictions: "some", unless its qualifiers say only, or how many."""
        for key in _COUNTS.keys() & qualifiers.keys():
            if not qualifiers[key].isdecimal():
                self.problem(f"found {key}={qualifiers[key]!r}, expected a whole number", line)
        said = [
            (_COUNTS[key], Literal(qualifiers[key], XSD + "nonNegativeInteger")) for key in _COUNTS if key in qualifiers
        ]
        kinds: list[tuple[str, Node]] = [*said]
        if qualifiers.get("all_only") == "true":
            kinds.append(("allValuesFrom", target))
        if not kinds or qualifiers.get("all_some") == "true":
            kinds.append(("someValuesFrom", target))
        for kind, value in kinds:
            node = self.blank()
            triples: list[Triple] = [(node, TYPE, OWL + "Restriction"), (node, OWL + "onProperty", prop)]
            triples.append((node, OWL + kind, value))
            if isinstance(value, Literal):
                triples.append((node, OWL + "onClass", target))
            yield node, triples

    def part(self, clause: Clause) -> tuple[str, list[Triple]]:
        """One line of an intersection or union: a class, or a relation and a class."""
        names, qualifiers = self.ids(clause, 1, 2)
        if len(names) != 2:
            return self.mention("".join(names), CLASS), []
        prop = self.mention(names[0], OBJECT_PROPERTY)
        return next(self.restrictions(prop, self.mention(names[1], CLASS), qualifiers, clause.line))

    def property_value(self, me: str, clause: Clause) -> Iterator[Triple]:
        """An annotation: a text with its datatype, or an id."""
        prop, _, rest = clause.value.partition(" ")
        quoted = _QUOTED.match(rest.strip())
        if quoted:
            datatype = quoted[2].partition(" ")[0]
            iri = self.iri(datatype) if datatype.startswith("xsd:") else XSD + "string"
            yield me, self.iri(prop), Literal(unescaped(quoted[1]), iri)
        elif rest.strip():
            yield me, self.iri(prop), self.iri(rest.split()[0])
        else:
            self.problem(f"property_value: nothing after {prop!r}", clause.line)

    def qualified(self, me: str, prop: str, target: str, qualifiers: dict[str, str]) -> Iterator[Triple]:
        """What is said about an axiom in braces."""
        said = {key: value for key, value in qualifiers.items() if key not in _SHAPING}
        if said:
            node = self.blank()
            yield from [(node, TYPE, OWL + "Axiom"), (node, OWL + "annotatedSource", me)]
            yield from [(node, OWL + "annotatedProperty", prop), (node, OWL + "annotatedTarget", target)]
            for key, value in said.items():
                yield node, self.iri(key) if ":" in key else OIO + key, Literal(value)

    def chained(self, node: str, prop: str, members: Iterable[Node]) -> Iterator[Triple]:
        """An RDF list."""
        for member in members:
            cell = self.blank()
            yield node, prop, cell
            yield cell, RDF + "first", member
            node, prop = cell, RDF + "rest"
        yield node, prop, RDF + "nil"

    def ids(self, clause: Clause, *counts: int) -> tuple[list[str], dict[str, str]]:
        """The ids of a line, if they are as many as expected, and its qualifiers."""
        words, qualifiers = words_of(clause.value)
        if len(words) in counts:
            return words, qualifiers
        expected = " or ".join("one id" if n == 1 else "two ids" for n in counts)
        cure = 'begin a comment with " ! "' if len(words) > max(counts) else ""
        self.problem(f"{clause.tag}: found {' '.join(words)[:40]!r}, expected {expected}", clause.line, cure)
        return [], {}

    def quoted(self, clause: Clause) -> tuple[str, str]:
        """A text in quotes, and what comes after it."""
        quoted = _QUOTED.match(clause.value)
        if quoted is None:
            self.problem(f"{clause.tag}: found {clause.value[:30]!r}, expected a text in quotes", clause.line)
            return "", ""
        return unescaped(quoted[1]), quoted[2]

    def truth(self, clause: Clause) -> bool:
        """Whether the line says true."""
        word = clause.value.split()[0]
        if word not in {"true", "false"}:
            self.problem(f"{clause.tag}: found {word!r}, expected true or false", clause.line)
        return word == "true"
