"""OWL/XML, functional and Manchester syntax → RDF/XML, through py-horned-owl.

Three things need care. Its parsers recurse, and a class expression some thousand levels deep would end the process, so the
depth is counted before. Its OWL/XML reader knows no entities and lets an undeclared prefix pass. Its RDF writer keeps of
``DisjointClasses(a b c)`` only a–b and a–c, so those axioms are taken out before and written here.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from neurosym.errors import OntologyError, Problem, did_you_mean
from neurosym.knowledge.safe_xml import MAX_LITERAL, Markup
from neurosym.knowledge.triples import OWL, RDF, TYPE, Triple

if TYPE_CHECKING:
    import pyhornedowl

ROOT = OWL + "Ontology"
MAX_DEPTH = 100
_SUFFIXES: dict[str, Literal["owx", "ofn", "omn"]] = {"OWL/XML": "owx", "functional": "ofn", "Manchester": "omn"}
_TOKEN = re.compile(  # possessive: a long text must not fill a stack of ways to match it
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|<[^<>\s]*>|#[^\n]*|(?P<open>[(\[{])|(?P<close>[)\]}])'
    rf"|(?P<deep>(?:Annotations:\s*+){{{MAX_DEPTH}}})"
    r"|(?P<step>\b(?i:some|only|not|min|max|exactly|value)\b)|(?P<end>,|\b(?i:and|or)\b|\w+:(?=\s))"
)
_OWL_WORDS = """
Prefix Ontology Import Declaration Annotation Annotations AnnotationAssertion Class Classes Datatype Individual Types Facts
ObjectProperty DataProperty AnnotationProperty NamedIndividual SubClassOf EquivalentTo EquivalentClasses DisjointWith
DisjointClasses DisjointUnion DisjointUnionOf SubPropertyOf SubPropertyChain SubObjectPropertyOf ObjectPropertyChain
EquivalentProperties EquivalentObjectProperties DisjointProperties DisjointObjectProperties InverseOf ObjectInverseOf
InverseObjectProperties Domain Range ObjectPropertyDomain ObjectPropertyRange Characteristics Functional InverseFunctional
Reflexive Irreflexive Symmetric Asymmetric Transitive FunctionalObjectProperty InverseFunctionalObjectProperty
ReflexiveObjectProperty IrreflexiveObjectProperty SymmetricObjectProperty AsymmetricObjectProperty TransitiveObjectProperty
SubDataPropertyOf DataPropertyDomain DataPropertyRange FunctionalDataProperty SameAs SameIndividual DifferentFrom
DifferentIndividuals ClassAssertion ObjectPropertyAssertion DataPropertyAssertion HasKey ObjectIntersectionOf ObjectUnionOf
ObjectComplementOf ObjectOneOf ObjectSomeValuesFrom ObjectAllValuesFrom ObjectHasValue ObjectHasSelf ObjectMinCardinality
ObjectMaxCardinality ObjectExactCardinality DataSomeValuesFrom DataAllValuesFrom DataHasValue DataMinCardinality
DataMaxCardinality DataExactCardinality
"""
_SPAN = re.compile(r"(?:ByteSpan\(|BytePosition\(|Pos\()(\d+)")
_LINE = re.compile(r"line_col: (?:Pos|Span)\(\((\d+), (\d+)\)")
_EXPECTED = re.compile(r"positives: \[([^\]]*)\]")


def without_entities(text: str, file: str, markup: Markup) -> str:
    """OWL/XML with its entities written out; its depth and prefixes are checked on the way."""
    if markup.deepest > MAX_DEPTH:
        raise OntologyError(Problem(f"class expressions are nested deeper than {MAX_DEPTH}", file, markup.deepest_line))
    for name, value in markup.entities.items():
        text = text.replace(f"&{name};", value)
    prefixes = {"owl", "rdf", "rdfs", "xsd", "xml", *re.findall(r'<Prefix\b[^>]*?\bname\s*=\s*"([^"]*)"', text)}
    problems = [
        Problem(f"the prefix {m[1] + ':'!r} has not been declared", file, _line(text, m.start()), cure=_declare(m[1]))
        for m in re.finditer(r'abbreviatedIRI\s*=\s*"([^":]*):', text)
        if m[1] not in prefixes
    ]
    if problems:
        raise OntologyError(problems)
    return text


def _declare(prefix: str) -> str:
    return f'add <Prefix name="{prefix}" IRI="http://…"/> at the top of the file'


def to_rdf(text: str, syntax: str, file: str, label: str) -> tuple[str, list[Triple]]:
    """The ontology as RDF/XML, and the triples that its writer would lose.

    Raises:
        OntologyError: a syntax error, class expressions nested deeper than `MAX_DEPTH`.
    """
    import pyhornedowl

    if syntax != "OWL/XML":
        _check_size(text, file)
    try:
        ontology = pyhornedowl.open_ontology_from_string(text, _SUFFIXES[syntax])
        extra = _disjoint_classes(ontology, label)
        return ontology.save_to_string("rdf"), extra
    except ValueError as error:
        raise OntologyError(_problem(str(error), text, syntax, file)) from error
    except BaseException as error:  # pyo3's PanicException is no Exception
        if type(error).__name__ != "PanicException":
            raise
        message = f"{syntax} syntax: the reader gave up without a reason ({error})"
        raise OntologyError(Problem(message, file, cure="save the ontology as Turtle")) from None


def _check_size(text: str, file: str) -> None:
    brackets = steps = 0
    for token in _TOKEN.finditer(text):
        if token.end() - token.start() > MAX_LITERAL:
            message, line = f"a text of more than {MAX_LITERAL:,} characters", _line(text, token.start())
            raise OntologyError(Problem(message, file, line, cure="shorten it"))
        if token["open"]:
            brackets += 1
        elif token["close"]:
            brackets = max(0, brackets - 1)
        steps = 0 if token["end"] else steps + bool(token["step"])
        if brackets + steps > MAX_DEPTH or token["deep"]:
            line = _line(text, token.start())
            raise OntologyError(Problem(f"class expressions are nested deeper than {MAX_DEPTH}", file, line))


def _disjoint_classes(ontology: pyhornedowl.PyIndexedOntology, label: str) -> list[Triple]:
    """Takes every disjointness of three or more classes out: named ones as triples, others back as pairs."""
    import pyhornedowl.model as model

    found: list[Triple] = []
    axioms = [c for c in ontology.get_components() if isinstance(c.component, model.DisjointClasses)]
    for number, axiom in enumerate(sorted(axioms, key=str)):
        members = list(axiom.component.first)
        if len(members) < 3:
            continue
        ontology.remove_component(axiom.component)
        names = [str(m.first) for m in members if isinstance(m, model.Class)]
        if len(names) == len(members) and not axiom.ann:
            found += all_disjoint(names, f"_:{label}d{number}n")
        else:
            for pair in combinations(members, 2):
                ontology.add_component(model.DisjointClasses(list(pair)), axiom.ann)
    return found


def all_disjoint(names: list[str], node: str) -> list[Triple]:
    """The triples of an owl:AllDisjointClasses; `node` is the blank node it starts with."""
    cells = [f"{node}{number}" for number in range(len(names))]
    nexts = [*cells[1:], RDF + "nil"]
    found: list[Triple] = [(node, TYPE, OWL + "AllDisjointClasses"), (node, OWL + "members", cells[0])]
    for cell, name, following in zip(cells, names, nexts, strict=True):
        found += [(cell, RDF + "first", name), (cell, RDF + "rest", following)]
    return found


def _problem(message: str, text: str, syntax: str, file: str) -> Problem:
    place, span = _LINE.search(message), _SPAN.search(message)
    line = column = 0
    if place:
        line, column = int(place[1]), int(place[2])
    elif span:
        before = text.encode()[: int(span[1])].decode(errors="replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    lines = text.split("\n")
    rest = lines[line - 1][column - 1 :].strip()[:30] if 0 < line <= len(lines) else ""
    expected = _EXPECTED.search(message)
    quoted = re.search(r'(?:ValidityError|ParserError)\("([^"]*)"', message)
    cure = ""
    if "undefined prefix" in message:
        name = re.match(r"[\w.-]*:", rest)
        reason, cure = (
            f"the prefix {name[0] if name else rest!r} has not been declared",
            "declare it at the top of the file",
        )
    elif quoted:
        reason = quoted[1]
        cure = _nearest(reason.rpartition(" ")[2])
    elif expected:
        words = [word.removesuffix("Kw") for word in expected[1].split(", ") if word not in {"EOI", "Misc"}]
        cure = _nearest(rest)
        reason = f"found {rest!r}" + ("" if cure else f", expected {' or '.join(words)}")
        reason = reason if rest else "the file ends too early"
    else:
        reason = message.removeprefix("Failed to open ontology: ")[:200]
    return Problem(f"{syntax} syntax: {reason}", file, line, column, cure)


def _nearest(found: str) -> str:
    cure = did_you_mean(re.split(r"\W", found.strip())[0], _OWL_WORDS.split())
    return cure if cure.startswith("did you mean") else ""


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
