"""Random OWL axioms as tuples (the form of tests/oracles/owl.py), their Turtle, and random finite interpretations."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from tests.oracles.owl import Interpretation

DOMAIN = ("i0", "i1", "i2")
DATA = ("age", "size")


def listed(parts: Any, data: bool = False) -> str:
    return "( " + " ".join(turtle(p, data) for p in parts) + " )"


def role_turtle(role: tuple[str, bool]) -> str:
    return f"[ owl:inverseOf :{role[0]} ]" if role[1] else f":{role[0]}"


def turtle(e: tuple[Any, ...], data: bool = False) -> str:
    kind = "rdfs:Datatype" if data else "owl:Class"
    match e:
        case ("class", name):
            return f":{name}"
        case ("thing",):
            return "owl:Thing"
        case ("nothing",):
            return "owl:Nothing"
        case ("integer",):
            return "xsd:integer"
        case ("values", values):
            return f"[ a rdfs:Datatype ; owl:oneOf ( {' '.join(map(str, values))} ) ]"
        case ("facet", word, bound):
            return f"[ a rdfs:Datatype ; owl:onDatatype xsd:integer ; owl:withRestrictions ( [ xsd:{word} {bound} ] ) ]"
        case ("and", parts):
            return f"[ a {kind} ; owl:intersectionOf {listed(parts, data)} ]"
        case ("or", parts):
            return f"[ a {kind} ; owl:unionOf {listed(parts, data)} ]"
        case ("not", part):
            return f"[ a {kind} ; owl:{'datatypeComplementOf' if data else 'complementOf'} {turtle(part, data)} ]"
        case ("one of", members):
            return f"[ a owl:Class ; owl:oneOf ( {' '.join(f':{m}' for m in members)} ) ]"
        case ("self", role):
            return f"[ a owl:Restriction ; owl:onProperty {role_turtle(role)} ; owl:hasSelf true ]"
        case ("value", role, value):
            shown = value if isinstance(value, int) else f":{value}"
            return f"[ a owl:Restriction ; owl:onProperty {role_turtle(role)} ; owl:hasValue {shown} ]"
    word, number, role, filler = e if len(e) == 4 else (e[0], 0, *e[1:])
    is_data = role[0] in DATA
    head = f"[ a owl:Restriction ; owl:onProperty {role_turtle(role)} ; "
    if word in ("some", "only"):
        return head + f"owl:{'some' if word == 'some' else 'all'}ValuesFrom {turtle(filler, is_data)} ]"
    spelled = {"min": "minCardinality", "max": "maxCardinality", "exactly": "cardinality"}[word]
    if filler == ("thing",):
        return head + f'owl:{spelled} "{number}"^^xsd:nonNegativeInteger ]'
    qualified = spelled.replace("Cardinality", "QualifiedCardinality").replace("card", "qualifiedCard")
    on = "onDataRange" if is_data else "onClass"
    return head + f'owl:{qualified} "{number}"^^xsd:nonNegativeInteger ; owl:{on} {turtle(filler, is_data)} ]'


def axiom_turtle(axiom: tuple[Any, ...]) -> str:
    match axiom:
        case ("SubClassOf", a, b):
            return f"{turtle(a)} rdfs:subClassOf {turtle(b)} ."
        case ("EquivalentClasses", a, b):
            return f"{turtle(a)} owl:equivalentClass {turtle(b)} ."
        case ("DisjointClasses", parts):
            return f"[] a owl:AllDisjointClasses ; owl:members {listed(parts)} ."
        case ("DisjointUnion", name, parts):
            return f":{name} owl:disjointUnionOf {listed(parts)} ."
        case ("Domain" | "Range" as word, role, e):
            return f":{role[0]} rdfs:{word.lower()} {turtle(e, word == 'Range' and role[0] in DATA)} ."
        case ("SubProperty" | "EquivalentProperties" | "InverseProperties" | "DisjointProperties" as word, a, b):
            predicate = {
                "SubProperty": "rdfs:subPropertyOf",
                "EquivalentProperties": "owl:equivalentProperty",
                "InverseProperties": "owl:inverseOf",
                "DisjointProperties": "owl:propertyDisjointWith",
            }[word]
            return f"{role_turtle(a)} {predicate} {role_turtle(b)} ."
        case ("Chain", links, whole):
            return f"{role_turtle(whole)} owl:propertyChainAxiom ( {' '.join(map(role_turtle, links))} ) ."
        case ("HasKey", e, roles):
            return f"{turtle(e)} owl:hasKey ( {' '.join(map(role_turtle, roles))} ) ."
        case ("ClassAssertion", who, e):
            return f":{who} a {turtle(e)} ."
        case ("PropertyAssertion", role, a, b):
            return f":{a} :{role[0]} {b if isinstance(b, int) else f':{b}'} ."
        case ("NegativeAssertion", role, a, b):
            target = f"owl:targetValue {b}" if isinstance(b, int) else f"owl:targetIndividual :{b}"
            source = f"owl:sourceIndividual :{a} ; owl:assertionProperty :{role[0]}"
            return f"[] a owl:NegativePropertyAssertion ; {source} ; {target} ."
    return f"{role_turtle(axiom[1])} a owl:{axiom[0]}Property ."


# --- random axioms and interpretations ----------------------------------------------------------------------------------

NAMED = st.sampled_from("abc").map(lambda n: ("class", n))
OBJECT_ROLES = st.tuples(st.sampled_from("rs"), st.booleans())
PLAIN_ROLES = st.tuples(st.sampled_from("rs"), st.just(False))
DATA_ROLES = st.sampled_from(DATA).map(lambda n: (n, False))
VALUES = st.integers(-1, 2)
INDIVIDUALS = st.sampled_from(DOMAIN[:2])
COUNTS = st.sampled_from(["min", "max", "exactly"])
RANGES = st.recursive(
    st.one_of(
        st.just(("integer",)),
        st.lists(VALUES, min_size=1, max_size=2).map(lambda v: ("values", tuple(v))),
        st.tuples(
            st.just("facet"),
            st.sampled_from(["minInclusive", "maxInclusive", "minExclusive", "maxExclusive"]),
            VALUES,
        ),
    ),
    lambda e: st.one_of(st.tuples(st.sampled_from(["and", "or"]), st.tuples(e, e)), st.tuples(st.just("not"), e)),
    max_leaves=2,
)
SIMPLE = st.one_of(
    NAMED,
    NAMED,
    NAMED,
    st.just(("thing",)),
    st.just(("nothing",)),
    st.lists(INDIVIDUALS, min_size=1, max_size=2, unique=True).map(lambda m: ("one of", tuple(m))),
    st.tuples(st.just("self"), OBJECT_ROLES),
    st.tuples(st.just("value"), OBJECT_ROLES, INDIVIDUALS),
    st.tuples(st.just("value"), DATA_ROLES, VALUES),
    st.tuples(st.sampled_from(["some", "only"]), DATA_ROLES, RANGES),
    st.tuples(COUNTS, st.integers(0, 2), DATA_ROLES, RANGES),
)
EXPRESSIONS = st.recursive(
    SIMPLE,
    lambda e: st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), st.tuples(e, e)),
        st.tuples(st.just("not"), e),
        st.tuples(st.sampled_from(["some", "only"]), OBJECT_ROLES, e),
        st.tuples(COUNTS, st.integers(0, 3), OBJECT_ROLES, e),
    ),
    max_leaves=4,
)
AXIOMS = st.one_of(
    st.tuples(st.just("SubClassOf"), EXPRESSIONS, EXPRESSIONS),
    st.tuples(st.just("SubClassOf"), NAMED, EXPRESSIONS),
    st.tuples(st.just("SubClassOf"), NAMED, EXPRESSIONS),
    st.tuples(st.just("EquivalentClasses"), NAMED, EXPRESSIONS),
    st.tuples(st.just("DisjointClasses"), st.tuples(NAMED, EXPRESSIONS, EXPRESSIONS)),
    st.tuples(st.just("DisjointUnion"), st.just("a"), st.tuples(EXPRESSIONS, EXPRESSIONS)),
    st.tuples(st.sampled_from(["Domain", "Range"]), PLAIN_ROLES, EXPRESSIONS),
    st.tuples(st.just("Domain"), DATA_ROLES, EXPRESSIONS),
    st.tuples(st.just("Range"), DATA_ROLES, RANGES),
    st.tuples(st.sampled_from(["SubProperty", "DisjointProperties"]), DATA_ROLES, DATA_ROLES),
    st.tuples(
        st.sampled_from(["SubProperty", "EquivalentProperties", "DisjointProperties"]), OBJECT_ROLES, OBJECT_ROLES
    ),
    st.tuples(st.just("InverseProperties"), PLAIN_ROLES, PLAIN_ROLES),
    st.tuples(st.just("Chain"), st.lists(OBJECT_ROLES, min_size=2, max_size=3).map(tuple), PLAIN_ROLES),
    st.tuples(st.just("HasKey"), EXPRESSIONS, st.lists(PLAIN_ROLES | DATA_ROLES, min_size=1, max_size=2).map(tuple)),
    st.tuples(st.just("ClassAssertion"), INDIVIDUALS, EXPRESSIONS),
    st.tuples(st.sampled_from(["PropertyAssertion", "NegativeAssertion"]), PLAIN_ROLES, INDIVIDUALS, INDIVIDUALS),
    st.tuples(st.sampled_from(["PropertyAssertion", "NegativeAssertion"]), DATA_ROLES, INDIVIDUALS, VALUES),
    st.tuples(
        st.sampled_from(
            ["Functional", "InverseFunctional", "Symmetric", "Asymmetric", "Transitive", "Irreflexive", "Reflexive"]
        ),
        PLAIN_ROLES,
    ),
    st.tuples(st.just("Functional"), DATA_ROLES),
)


def interpretation(seed: int) -> Interpretation:
    rng = random.Random(seed)
    density = rng.choice([0.05, 0.2, 0.5, 0.8, 1.0])
    pick = lambda pool: frozenset(x for x in pool if rng.random() < density)  # noqa: E731
    squares = [(x, y) for x in DOMAIN for y in DOMAIN]
    return Interpretation(
        DOMAIN,
        {n: pick(DOMAIN) for n in "abc"},
        {n: pick(squares) for n in "rs"},
        {n: pick([(x, v) for x in DOMAIN for v in (-1, 0, 1, 2)]) for n in DATA},
    )
