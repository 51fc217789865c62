"""What other programs make of exported rules: they accept the texts, and infer what the rules say."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurosym.knowledge.exchange import FORMATS, export_rules
from neurosym.knowledge.inference import GroundAtom, infer
from neurosym.knowledge.rules import parse_rules
from neurosym.logic import Rule
from tests.knowledge.exchange_rules import BASE, CONTEXT, DATA, rule, rules
from tests.oracles.datalog import closure


@given(rules("clingo"))
@settings(max_examples=60)
def test_clingo_accepts_what_is_exported(one: Rule) -> None:
    from clingo.ast import parse_string

    parse_string(FORMATS["clingo"].export((one,), CONTEXT).text, lambda _: None)


@given(rules("problog"))
@settings(max_examples=60)
def test_problog_accepts_what_is_exported(one: Rule) -> None:
    from problog.program import PrologString

    assert len(list(PrologString(FORMATS["problog"].export((one,), CONTEXT).text))) == 1


FACTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["nodule", "lung", "artefact"]), st.tuples(st.sampled_from("abc"))),
        st.tuples(
            st.sampled_from(["near", "inside", "touches"]), st.tuples(st.sampled_from("abc"), st.sampled_from("abc"))
        ),
        st.tuples(st.just("diameter"), st.tuples(st.sampled_from("abc"), st.integers(-3, 3))),
    ),
    unique=True,
    max_size=12,
)


def positive(one: Rule) -> bool:
    """Whether a rule derives facts, about objects that the facts have."""
    texts = str(one)
    return bool(one.head) and one.head[0].predicate != "=" and not one.existential and "Left" not in texts


@given(st.lists(rules("clingo").filter(positive), min_size=1, max_size=3), FACTS)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_clingo_derives_what_the_rules_say(some: list[Rule], facts: list[GroundAtom]) -> None:
    import clingo

    chained = rule("beside(Y, X) :- beside(X, Y), big(X).")
    strata = [[replace(r, weight=None) for r in some], [chained]]
    exported = FORMATS["clingo"].export((*strata[0], chained), CONTEXT)
    assert not exported.left_out
    control = clingo.Control(["--warn=none"])
    given_facts = "".join(f"{p}({','.join(map(str, args))}).\n" for p, args in facts)
    control.add("base", [], given_facts + exported.text)
    control.ground([("base", [])])
    models: list[list[clingo.Symbol]] = []
    control.solve(on_model=lambda model: models.append(list(model.symbols(atoms=True))))
    found = {
        (s.name, tuple(a.number if a.type == clingo.SymbolType.Number else a.name for a in s.arguments))
        for s in models[0]
    }
    assert found == closure(facts, strata, DATA)


@pytest.mark.parametrize(
    ("text", "facts", "is_broken"),
    [
        (":- nodule(X), lung(Y), near(X, Y).", "nodule(a). lung(b). near(a,b).", True),
        (":- nodule(X), lung(Y), near(X, Y).", "nodule(a). lung(a). near(a,a).", False),
        ("X = Y :- heart(X), heart(Y).", "heart(a). heart(b).", True),
        ("X = Y :- heart(X), heart(Y).", "heart(a).", False),
    ],
)
def test_clingo_finds_no_model_where_a_denial_or_an_equality_is_broken(text: str, facts: str, is_broken: bool) -> None:
    import clingo

    control = clingo.Control(["--warn=none"])
    control.add("base", [], facts + export_rules([rule(text)], "clingo").text)
    control.ground([("base", [])])
    assert bool(control.solve().unsatisfiable) == is_broken


def test_problog_gives_the_probability_that_is_computed_by_hand() -> None:
    from problog import get_evaluatable
    from problog.program import PrologString

    text = export_rules(
        parse_rules(r"""
            0.9 :: suspect(X) :- nodule(X), \+ artefact(X).
            0.5 :: suspect(X) :- nodule(X), diameter(X, D), R is D / 2, R >= 1.5.
            0.4 :: pair(X, Y) :- nodule(X), nodule(Y).
            big(X), seen(X) :- suspect(X).
        """),
        "problog",
    )
    assert text.left_out == ()
    facts = "nodule(a). nodule(b). artefact(b). diameter(a, 3). diameter(b, 2).\n"
    queries = "query(big(_)). query(seen(a)). query(pair(a, _))."
    found = get_evaluatable().create_from(PrologString(facts + text.text + queries)).evaluate()
    assert {str(k): v for k, v in found.items() if v} == {
        "big(a)": pytest.approx(1 - 0.1 * 0.5),
        "seen(a)": pytest.approx(1 - 0.1 * 0.5),
        "pair(a,b)": pytest.approx(0.4),
    }


def nt(turtle: str) -> bytes:
    from rdflib import Graph

    return Graph().parse(data=turtle, format="turtle").serialize(format="nt").encode()


def test_hermit_infers_from_swrl_what_the_rules_say() -> None:
    from owlready2 import OwlReadyInconsistentOntologyError, World, sync_reasoner_hermit

    some = parse_rules("""
        in_lung(N) :- nodule(N), inside(N, L), lung(L).  %! id=in_lung
        0.9 :: beside(X, Y), big(Y) :- near(X, Y), nodule(X), nodule(Y).
        huge(X) :- big(X), near(X, X).  %! distinct=no
    """)
    facts = [
        ("nodule", ("a",)), ("nodule", ("b",)), ("lung", ("c",)), ("inside", ("a", "c")), ("inside", ("b", "b")),
        ("near", ("a", "b")), ("near", ("b", "b")),
    ]  # fmt: skip
    denial = rule(":- huge(X), lung(X).")
    exported = export_rules((*some, denial), "swrl")
    assert exported.left_out == ()
    abox = "".join(
        f"<{BASE}{args[0]}> a <{BASE}{p}> .\n"
        if len(args) == 1
        else f"<{BASE}{args[0]}> <{BASE}{p}> <{BASE}{args[1]}> .\n"
        for p, args in facts
    )
    people = "".join(f"<{BASE}{n}> a <http://www.w3.org/2002/07/owl#NamedIndividual> .\n" for n in "abc")
    different = "".join(
        f"<{BASE}{x}> <http://www.w3.org/2002/07/owl#differentFrom> <{BASE}{y}> .\n" for x, y in ("ab", "ac", "bc")
    )

    def reasoned(more: str) -> World:
        world = World()
        text = exported.text + abox + people + different + more
        ontology = world.get_ontology("urn:neurosym:rules").load(fileobj=io.BytesIO(nt(text)))
        with ontology:
            sync_reasoner_hermit(world, infer_property_values=True, debug=0)
        return world

    world = reasoned("")
    assert len(list(world.rules())) == 4
    expected = closure(facts, [some, some])
    classes = {
        (p, (n,)) for p in ("in_lung", "big", "huge") for n in "abc" if world[BASE + p] in world[BASE + n].INDIRECT_is_a
    }
    assert classes == {f for f in expected if f[0] in ("in_lung", "big", "huge")}
    beside = {("beside", (n, o.iri.removeprefix(BASE))) for n in "abc" for o in world[BASE + "beside"][world[BASE + n]]}
    assert beside == {f for f in expected if f[0] == "beside"}
    with pytest.raises(OwlReadyInconsistentOntologyError):
        reasoned(f"<{BASE}b> a <{BASE}lung> .\n")


def test_horned_owl_finds_every_swrl_rule() -> None:
    import pyhornedowl
    from rdflib import Graph

    text = export_rules(parse_rules("a(X) :- b(X). c(X) :- a(X), near(X, Y).\n:- a(X), c(X)."), "swrl").text
    xml = Graph().parse(data=text, format="turtle").serialize(format="pretty-xml")
    found = pyhornedowl.open_ontology_from_string(xml, "rdf").get_components()
    assert sum(type(c.component).__name__ == "Rule" for c in found) == 3


def data_graph(facts: Sequence[GroundAtom], more: str = "") -> Any:
    from rdflib import RDF, Graph, Literal, URIRef

    graph = Graph().parse(data=more, format="turtle")
    for predicate, (first, *last) in facts:
        if not last:
            graph.add((URIRef(BASE + first), RDF.type, URIRef(BASE + predicate)))
        else:
            other = URIRef(BASE + last[0]) if isinstance(last[0], str) else Literal(last[0])
            graph.add((URIRef(BASE + first), URIRef(BASE + predicate), other))
    return graph


def facts_of(graph: Any) -> set[GroundAtom]:
    from rdflib import RDF, Literal, URIRef

    found = set()
    for s, p, o in graph:
        subject = str(s).removeprefix(BASE) if isinstance(s, URIRef) else "_"
        if p == RDF.type:
            found.add((str(o).removeprefix(BASE), (subject,)))
        else:
            last = (
                o.toPython() if isinstance(o, Literal) else str(o).removeprefix(BASE) if isinstance(o, URIRef) else "_"
            )
            found.add((str(p).removeprefix(BASE), (subject, last)))
    return found


def apply_shapes(graph: Any, text: str) -> tuple[Any, set[str]]:
    """The graph with what pySHACL infers in it, run until nothing is new; and the nodes that break a constraint."""
    import pyshacl
    from rdflib import SH, Graph

    shapes = Graph().parse(data=text, format="turtle")
    size = -1
    while size != len(graph):
        size = len(graph)
        _, report, _ = pyshacl.validate(graph, shacl_graph=shapes, advanced=True, inplace=True, iterate_rules=True)
    return graph, {str(node).removeprefix(BASE) for node in report.objects(None, SH.focusNode)}


@given(st.lists(rules("shacl").filter(lambda r: positive(r) or not r.head), min_size=2, max_size=3), FACTS)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_shacl_infers_and_reports_what_the_rules_say(some: list[Rule], facts: list[GroundAtom]) -> None:
    some = [replace(r, weight=None) for r in some]
    chained = rule("beside(Y, X) :- beside(X, Y), big(X).")
    exported = FORMATS["shacl"].export((*some, chained), CONTEXT)
    assert exported.left_out == ()
    graph, broken = apply_shapes(data_graph(facts), exported.text)
    expected = closure(facts, [[r for r in some if r.head], [chained]], DATA)
    assert facts_of(graph) == expected
    found = infer(facts, [*some, chained], DATA)
    assert bool(broken) == bool(found.clashes)


def test_shacl_makes_a_witness_only_where_there_is_none() -> None:
    text = export_rules(parse_rules("inside(N, L), lung(L) :- nodule(N)."), "shacl").text
    facts = [("nodule", ("a",)), ("nodule", ("b",)), ("inside", ("b", "c")), ("lung", ("c",)), ("nodule", ("d",)),
             ("inside", ("d", "d")), ("lung", ("d",))]  # fmt: skip
    graph, _ = apply_shapes(data_graph(facts), text)
    assert facts_of(graph) - set(facts) == {("inside", ("a", "_")), ("inside", ("d", "_")), ("lung", ("_",))}
    assert len(graph) == len(facts) + 4


def test_shacl_sees_the_hierarchy_of_the_data() -> None:
    more = f"<{BASE}left_lung> <http://www.w3.org/2000/01/rdf-schema#subClassOf> <{BASE}lung> ."
    text = export_rules(parse_rules(r"organ(X) :- lung(X). strange(X) :- nodule(X), \+ lung(X)."), "shacl").text
    graph, _ = apply_shapes(data_graph([("left_lung", ("a",)), ("nodule", ("a",)), ("nodule", ("b",))], more), text)
    assert {("organ", ("a",)), ("strange", ("b",))} <= facts_of(graph)
    assert ("strange", ("a",)) not in facts_of(graph)


def test_shacl_reports_a_broken_equality_and_warns_of_a_weighted_one() -> None:
    text = export_rules(parse_rules("0.9 :: X = Y :- heart(X), heart(Y).  %! id=one_heart"), "shacl").text
    assert "sh:severity sh:Warning" in text
    assert apply_shapes(data_graph([("heart", ("a",)), ("heart", ("b",))]), text)[1] == {"a", "b"}
    assert apply_shapes(data_graph([("heart", ("a",))]), text)[1] == set()
