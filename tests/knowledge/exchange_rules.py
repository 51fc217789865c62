"""Random rules that an exchange format can carry, and texts of other authors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

from hypothesis import strategies as st

from neurosym.knowledge.exchange import FORMATS, Context
from neurosym.knowledge.rules import parse_rules
from neurosym.logic import Atom, Comparison, Count, Expression, Negation, Rule, Term, number

DATA = frozenset({"diameter"})
CONTEXT = Context(measurements=DATA)
OBJECTS = [Term(v) for v in "XYZ"]
BASE = "urn:neurosym:"


def rule(text: str) -> Rule:
    [found] = parse_rules(text)
    return found


def atoms(terms: Sequence[Term], classes: Sequence[str], relations: Sequence[str]) -> st.SearchStrategy[Atom]:
    one = st.builds(lambda p, x: Atom(p, (x,)), st.sampled_from(classes), st.sampled_from(terms))
    two = st.builds(
        lambda p, x, y: Atom(p, (x, y)), st.sampled_from(relations), st.sampled_from(terms), st.sampled_from(terms)
    )
    return st.one_of(one, two)


def calculations(terms: Sequence[Term], operators: Sequence[str], numbers: st.SearchStrategy) -> st.SearchStrategy:
    variables = st.sampled_from(list(terms))
    found: st.SearchStrategy = st.one_of(variables, numbers.map(number))
    for _ in range(2):
        two = st.builds(lambda o, a, b: Expression(o, (a, b)), st.sampled_from(operators), found, found)
        one = st.builds(lambda o, a: Expression(o, (a,)), st.sampled_from(["-", "abs"]), st.one_of(variables, two))
        found = st.one_of(found, two, one)
    return found


META = st.fixed_dictionaries(
    {},
    optional={
        "id": st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True),
        "source": st.text(
            st.characters(codec="utf-8", categories=("L", "N", "P", "Zs"), exclude_characters='"“”'),
            min_size=1,
            max_size=12,
        )
        .map(str.strip)
        .filter(bool),
        "status": st.sampled_from(["written", "accepted", "candidate", "rejected"]),
    },
)
"""What is known about a rule."""


@st.composite
def rules(draw: st.DrawFn, format: str) -> Rule:
    """A rule that the format can carry, with whatever it can carry in it."""
    carries = {
        "clingo": ("negation", "count", "denial", "equality"),
        "problog": ("negation", "min"),
        "swrl": ("denial", "equality", "conjunction"),
        "shacl": ("negation", "denial", "equality", "conjunction", "existential"),
    }[format]
    symbols = [Term("a", False), Term("Left lung", False)]
    names = [*OBJECTS, *symbols]
    first = draw(st.sampled_from([Atom("nodule", (OBJECTS[0],)), Atom("near", (OBJECTS[0], OBJECTS[1]))]))
    body = (first, *draw(st.lists(atoms(names, ["nodule", "lung"], ["near", "inside"]), max_size=2)))
    conditions: list = []
    bound = list(dict.fromkeys(v for a in body for v in a.variables))
    if draw(st.booleans()):
        body += (Atom("diameter", (bound[0], Term("D"))),)
        numbers = st.integers(-9, 9)
        if format != "clingo":
            numbers = st.one_of(
                numbers, st.floats(-99, 99).filter(lambda f: abs(f) > 1e-3 or f == 0).map(lambda f: f + 0.0)
            )
        operators = [o for o in "+-*/" if format != "clingo" or o != "/"]
        operand = calculations([Term("D")], operators, numbers)
        for _ in range(draw(st.integers(0, 2))):
            operator = draw(st.sampled_from(["<", "=<", ">", ">=", "=:=", "=\\="]))
            conditions.append(Comparison(operator, draw(operand), draw(operand)))
        if draw(st.booleans()):
            conditions.append(Comparison("is", Term("V"), draw(operand)))
            conditions.append(Comparison("=\\=", Term("V"), Term("D")))
        if "min" in carries and draw(st.booleans()):
            conditions.append(Comparison("<", Expression("min", (Term("D"), number(2))), number(0.5)))
    if draw(st.booleans()):
        conditions.append(Comparison("\\=", draw(st.sampled_from(bound)), draw(st.sampled_from([*bound, *symbols]))))
    if "negation" in carries and draw(st.booleans()):
        negated = atoms([*bound, *symbols, Term("_")], ["artefact"], ["touches"])
        conditions.insert(draw(st.integers(0, len(conditions))), Negation(draw(negated)))
    if "count" in carries and draw(st.booleans()):
        counted = Count(
            (Term("C"),), (Atom("near", (Term("C"), bound[0])),), (Negation(Atom("artefact", (Term("C"),))),)
        )
        conditions.append(Comparison(draw(st.sampled_from(["<", ">="])), counted, number(2)))
    kind = draw(st.sampled_from(["one", *(c for c in carries if c not in ("negation", "count", "min"))]))
    if kind == "equality":
        head = (Atom("=", (bound[0], draw(st.sampled_from([*bound, symbols[0]])))),)
    elif kind == "denial":
        head = ()
    else:
        heads = atoms([*bound, *symbols, *([Term("W")] if kind == "existential" else [])], ["big"], ["beside"])
        head = tuple(draw(st.lists(heads, min_size=1, max_size=1 if kind == "one" else 2, unique=True)))
    weight = draw(st.one_of(st.none(), st.floats(1e-6, 1)))
    return Rule(head, body, weight, draw(META), conditions=tuple(conditions), distinct=draw(st.booleans()))


def round_trip(format: str, one: Rule, context: Context = CONTEXT) -> Rule:
    exported = FORMATS[format].export((one,), context)
    assert exported.left_out == ()
    found, problems = FORMATS[format].load(exported.text, "f", context)
    assert problems == []
    [back] = found
    return back


@st.composite
def anyburl_rules(draw: st.DrawFn) -> Rule:
    """A path from X to Y, or from X to an entity, apart from every entity as AnyBURL takes it."""
    relation = st.sampled_from(["/people/person/born_in", "<http://example.org/r>", "_hypernym", "a b"])
    entity = st.sampled_from(["/m/02mjmr", "x y", "Q42", "<http://example.org/e>"])
    ends = draw(st.booleans())
    last = Term("Y") if ends else draw(st.one_of(st.just(Term("B")), entity.map(lambda e: Term(e, False))))
    chain = [Term("X"), Term("A"), last] if draw(st.booleans()) else [Term("X"), last]
    body = []
    for one, other in pairwise(chain):
        pair = (one, other) if draw(st.booleans()) else (other, one)
        body.append(Atom(draw(relation), pair))
    head = Atom(draw(relation), (Term("X"), Term("Y") if ends else Term(draw(entity), False)))
    entities = dict.fromkeys(t for a in (head, *body) for t in a.args if not t.is_variable)
    variables = dict.fromkeys(t for a in (head, *body) for t in a.args if t.is_variable)
    apart = tuple(Comparison("\\=", v, e) for v, e in product(variables, entities))
    size = draw(st.integers(1, 10**6))
    meta = {"support": str(draw(st.integers(1, size))), "body_size": str(size)}
    return Rule((head,), tuple(body), draw(st.floats(1e-6, 1)), meta, conditions=apart)


UNCLE = """
@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> .
@prefix swrl: <http://www.w3.org/2003/11/swrl#> .
@prefix swrlb: <http://www.w3.org/2003/11/swrlb#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix swrla: <http://swrl.stanford.edu/ontologies/3.3/swrla.owl#> .
@prefix eg: <http://example.org/> .
<urn:swrl:var#x1> a swrl:Variable . <urn:swrl:var#x2> a swrl:Variable . eg:x3 a swrl:Variable . eg:X3 a swrl:Variable .
[] a swrl:Imp ; rdfs:label "uncle" ; swrla:isRuleEnabled true ;
    swrl:body ( [ a swrl:IndividualPropertyAtom ; swrl:propertyPredicate eg:hasParent ;
                  swrl:argument1 <urn:swrl:var#x1> ; swrl:argument2 <urn:swrl:var#x2> ]
                [ a swrl:IndividualPropertyAtom ; swrl:propertyPredicate eg:hasBrother ;
                  swrl:argument1 <urn:swrl:var#x2> ; swrl:argument2 eg:x3 ] ) ;
    swrl:head ( [ a swrl:IndividualPropertyAtom ; swrl:propertyPredicate eg:hasUncle ;
                  swrl:argument1 <urn:swrl:var#x1> ; swrl:argument2 eg:x3 ] ) .
[] a swrl:Imp ; rdfs:label "area" ;
    swrl:body ( [ a swrl:DatavaluedPropertyAtom ; swrl:propertyPredicate eg:side ;
                  swrl:argument1 eg:x3 ; swrl:argument2 eg:X3 ]
                [ a swrl:BuiltinAtom ; swrl:builtin swrlb:multiply ; swrl:arguments ( <urn:swrl:var#x1> eg:X3 eg:X3 ) ]
                [ a swrl:BuiltinAtom ; swrl:builtin swrlb:add ;
                  swrl:arguments ( <urn:swrl:var#x2> eg:X3 <urn:swrl:var#x1> 1.5 ) ] ) ;
    swrl:head ( [ a swrl:DatavaluedPropertyAtom ; swrl:propertyPredicate eg:area ;
                  swrl:argument1 eg:x3 ; swrl:argument2 <urn:swrl:var#x2> ] ) .
[] a swrl:Imp ; rdfs:label "text" ;
    swrl:body ( [ a swrl:BuiltinAtom ; swrl:builtin swrlb:startsWith ; swrl:arguments ( eg:x3 "a" ) ] ) ; swrl:head () .
[] a swrl:Imp ; rdfs:label "off" ; swrla:isRuleEnabled false ; swrl:body () ; swrl:head () .
[] a swrl:Imp ; rdfs:label "round" ; swrl:body _:l . _:l rdf:first [ a swrl:ClassAtom ] ; rdf:rest _:l .
"""
"""The example of the SWRL submission (section 3), and others in the same spelling."""


SHAPES = '''
@prefix sh: <http://www.w3.org/ns/shacl#> .
@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix ex: <http://example.org/> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
<http://example.org/> sh:declare [ sh:prefix "ex" ; sh:namespace "http://example.org/"^^xsd:anyURI ] .
ex:Square a sh:NodeShape ; sh:targetClass ex:Rectangle ;
    sh:rule [ a sh:TripleRule ; sh:subject sh:this ; sh:predicate rdf:type ; sh:object ex:Figure ] .
ex:Area a sh:NodeShape ; sh:targetClass ex:Rectangle ;
    sh:rule [ a sh:SPARQLRule ; sh:prefixes <http://example.org/> ; sh:construct
      """CONSTRUCT { $this ex:area ?area . }
         WHERE { $this ex:width ?w . $this ex:height ?h . BIND (?w * ?h AS ?area) . FILTER (?w > 0 && ?h > 0) }""" ] .
ex:Copy a sh:NodeShape ; sh:targetSubjectsOf ex:part ;
    sh:rule [ a sh:TripleRule ; sh:subject sh:this ; sh:predicate ex:has ; sh:object [ sh:path ex:part ] ] .
ex:Bad a sh:NodeShape ; rdfs:label "optional" ; sh:targetClass ex:Rectangle ;
    sh:rule [ a sh:SPARQLRule ; sh:prefixes <http://example.org/> ; sh:construct
      "CONSTRUCT { $this ex:p ?q } WHERE { OPTIONAL { $this ex:q ?q } }" ] .
ex:Blank a sh:NodeShape ; rdfs:label "blank" ; sh:targetClass ex:Rectangle ;
    sh:rule [ a sh:SPARQLRule ; sh:prefixes <http://example.org/> ;
      sh:construct "CONSTRUCT { $this ex:p [] } WHERE { $this a ex:R }" ] .
ex:Syntax a sh:NodeShape ; rdfs:label "syntax" ; sh:targetClass ex:Rectangle ;
    sh:rule [ a sh:SPARQLRule ; sh:construct "CONSTRUCT { $this ex:p " ] .
ex:Node a sh:NodeShape ; rdfs:label "node" ; sh:targetNode ex:a ;
    sh:rule [ a sh:TripleRule ; sh:subject sh:this ; sh:predicate ex:p ; sh:object ex:b ] .
'''
"""The rectangles of the SHACL-AF note (section 8), and what rules here cannot say."""
