from __future__ import annotations

import io
import random
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosym.errors import OntologyError
from neurosym.knowledge import hermit
from neurosym.knowledge.logical import declarations, logical_axioms, module, to_ntriples
from neurosym.knowledge.ontology import load_ontology
from neurosym.knowledge.rdf import read_sources
from neurosym.knowledge.reasoner import Engine, classify
from neurosym.knowledge.told import Told
from neurosym.knowledge.triples import Literal

ONTOLOGIES = Path(__file__).parents[2] / "ontologies"
PREFIXES = """@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix : <http://example.org/x#> .
<http://example.org/x> a owl:Ontology .
"""
X = "http://example.org/x#"
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="HermiT needs Java")


def some(relation: str, filler: str) -> str:
    return f"[ a owl:Restriction ; owl:onProperty :{relation} ; owl:someValuesFrom :{filler} ]"


def count(relation: str, word: str, number: int) -> str:
    return f'[ a owl:Restriction ; owl:onProperty :{relation} ; owl:{word} "{number}"^^xsd:nonNegativeInteger ]'


def write(path: Path, *axioms: str, classes: str = "a b c d e", relations: str = "r s") -> Path:
    """An ontology with one axiom a line, so that the line names the axiom."""
    declared = [f":{c} a owl:Class ." for c in classes.split()] + [
        f":{r} a owl:ObjectProperty ." for r in relations.split()
    ]
    path.write_text(PREFIXES + "\n".join((*declared, *axioms)) + "\n", encoding="utf-8")
    return path


def owlready(text: str) -> tuple[set[str], dict[str, set[str]]] | None:
    """(empty classes, superclasses of each class) as owlready2 and HermiT see Turtle; None if it is inconsistent."""
    import owlready2
    from rdflib import Graph

    world = owlready2.World()
    triples = Graph().parse(data=text, format="turtle").serialize(format="nt", encoding="utf-8")
    world.get_ontology("urn:test").load(fileobj=io.BytesIO(triples))
    try:
        with world.get_ontology("urn:inferred"):
            owlready2.sync_reasoner_hermit(world, debug=0)
    except owlready2.OwlReadyInconsistentOntologyError:
        return None
    empty = {c.name for c in world.inconsistent_classes() if c is not owlready2.Nothing}
    return empty, {c.name: {a.name for a in c.ancestors()} - {c.name, "Thing"} for c in world.classes()}


def named_axioms(message: str) -> list[str]:
    return re.findall(r"'([^']+)' \(x\.ttl:\d+\)", message)


DISJOINT_ABOVE = {
    "a SubClassOf b": ":a rdfs:subClassOf :b .",
    "b SubClassOf c": ":b rdfs:subClassOf :c .",
    "a SubClassOf d": ":a rdfs:subClassOf :d .",
    "d SubClassOf e": ":d rdfs:subClassOf :e .",
    "a SubClassOf b or d": ":a rdfs:subClassOf [ a owl:Class ; owl:unionOf ( :b :d ) ] .",
    "c DisjointWith e": "[] a owl:AllDisjointClasses ; owl:members ( :c :e ) .",
}
RANGE_OF_FILLER = {
    "a SubClassOf r some b": f":a rdfs:subClassOf {some('r', 'b')} .",
    "r SubPropertyOf s": ":r rdfs:subPropertyOf :s .",
    "s Range c": ":s rdfs:range :c .",
    "s Domain d": ":s rdfs:domain :d .",
    "b DisjointWith c": ":b owl:disjointWith :c .",
}
UNION = {
    "a SubClassOf b or c": ":a rdfs:subClassOf [ a owl:Class ; owl:unionOf ( :b :c ) ] .",
    "b DisjointWith a": ":b owl:disjointWith :a .",
    "a SubClassOf d": ":a rdfs:subClassOf :d .",
    "c DisjointWith a": ":c owl:disjointWith :a .",
}
CARDINALITY = {
    "a SubClassOf r min 3": f":a rdfs:subClassOf {count('r', 'minCardinality', 3)} .",
    "a SubClassOf r some b": f":a rdfs:subClassOf {some('r', 'b')} .",
    "a SubClassOf r max 2": f":a rdfs:subClassOf {count('r', 'maxCardinality', 2)} .",
}


@needs_java
def test_without_any_one_of_the_axioms_named_as_the_reason_the_class_can_have_an_instance(tmp_path: Path) -> None:
    texts, expected = [], set()
    for case, axioms in enumerate((DISJOINT_ABOVE, RANGE_OF_FILLER, UNION, CARDINALITY)):
        [problem] = list(classify(load_ontology([write(tmp_path / "x.ttl", *axioms.values())])).problems)
        assert problem.message.startswith("class 'a' can have no instance: '")
        assert problem.cure == "weaken or remove one of them"
        reason = named_axioms(problem.message)
        for left_out in ("", *reason):  # each variant with names of its own, so that owlready2 has to run only once
            kept = [axioms[text] for text in reason if text != left_out]
            text = write(tmp_path / "variant.ttl", *kept).read_text(encoding="utf-8")
            name = f"a_{case}_{reason.index(left_out) if left_out else 'all'}"
            texts.append(re.sub(r"(?<!\w):([a-ers])\b", rf":\g<1>{name[1:]}", text))
            expected |= set() if left_out else {name}
    oracle = owlready("\n".join(texts))
    assert oracle is not None
    assert oracle[0] == expected


@needs_java
def test_a_class_that_is_empty_because_of_another_is_told_in_one_line(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.ttl",
        ":a rdfs:subClassOf :b , :c .",
        ":b owl:disjointWith :c .",
        ":d rdfs:subClassOf :a .",
        f":e rdfs:subClassOf {some('r', 'd')} .",
    )
    classified = classify(load_ontology([path]))
    assert classified.unsatisfiable == ("a", "d", "e")
    assert [p.message.split(":")[0] for p in classified.problems] == [
        "class 'a' can have no instance",
        "classes 'd', 'e' can have no instance because 'a' can have none",
    ]


@needs_java
@pytest.mark.parametrize("engine", ["hermit", "reasonable"])
def test_an_inconsistent_ontology_is_reported_with_the_facts_that_clash(engine: Engine, tmp_path: Path) -> None:
    axioms = (":i a :a .", ":j a :c .", ":i :r :j .", ":r rdfs:range :b .", ":b owl:disjointWith :c .")
    path = write(tmp_path / "x.ttl", *axioms)
    assert owlready(path.read_text(encoding="utf-8")) is None
    classified = classify(load_ontology([path]), engine=engine)
    assert not classified.consistent
    [problem] = classified.problems
    assert "the ontology is inconsistent" in problem.message
    assert sorted(named_axioms(problem.message)) == ["b DisjointWith c", "i r j", "j Type c", "r Range b"]


@needs_java
def test_a_contradiction_among_facts_that_cannot_be_read_off_is_found_too(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.ttl",
        ":r a owl:FunctionalProperty .",
        ":i :r :j , :k .",
        ":j owl:differentFrom :k .",
        ":i a owl:NamedIndividual , :a . :j a owl:NamedIndividual . :k a owl:NamedIndividual .",
    )
    [problem] = list(classify(load_ontology([path])).problems)
    assert len(named_axioms(problem.message)) == 4


DEFINED = (
    f":a owl:equivalentClass [ a owl:Class ; owl:intersectionOf ( :b {some('r', 'c')} ) ] .",
    f":d rdfs:subClassOf :b , {some('r', 'e')} .",
    ":e rdfs:subClassOf :c .",
)


@needs_java
def test_entailed_subclasses_are_those_that_owlready_infers_and_complete_the_hierarchy(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ttl", *DEFINED)
    ontology = load_ontology([path])
    assert not ontology.is_a("d", "a")
    found = classify(ontology).subsumptions
    assert found == (("d", "a"),)
    complete = ontology.with_subsumptions(found)
    oracle = owlready(path.read_text(encoding="utf-8"))
    assert oracle is not None
    assert {name: set(complete.ancestors(name)) for name in complete.classes} == oracle[1]


@needs_java
def test_an_ontology_classified_twice_yields_nothing_new(tmp_path: Path) -> None:
    ontology = load_ontology([write(tmp_path / "x.ttl", *DEFINED, ":c owl:equivalentClass :e .")])
    complete = ontology.with_subsumptions(classify(ontology).subsumptions)
    assert classify(complete).subsumptions == ()


def test_reasonable_finds_what_the_rules_of_owl_2_rl_entail(tmp_path: Path) -> None:
    axioms = (
        ":a owl:equivalentClass [ a owl:Class ; owl:intersectionOf ( :b :c ) ] .",
        ":d rdfs:subClassOf :b , :c .",
        ":e rdfs:subClassOf :a .",
        ":e owl:disjointWith :d .",
    )
    ontology = load_ontology([write(tmp_path / "x.ttl", *axioms)])
    classified = classify(ontology, engine="reasonable")
    assert classified.engine == "reasonable"
    assert ("d", "a") in classified.subsumptions


def test_without_java_the_engine_is_recorded_and_said_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    ontology = load_ontology([write(tmp_path / "x.ttl", *DISJOINT_ABOVE.values())])
    classified = classify(ontology)
    assert classified.engine == "reasonable"
    assert classified.unsatisfiable == ("a",)
    assert len(named_axioms(classified.problems[0].message)) == 5
    assert "Java is not installed, HermiT did NOT run" in caplog.text
    with pytest.raises(OntologyError, match="Java cannot be started"):
        classify(ontology, engine="hermit")


@needs_java
@pytest.mark.parametrize(
    ("axioms", "reason"),
    [
        (
            (":r a owl:TransitiveProperty .", f":a rdfs:subClassOf {count('r', 'maxCardinality', 1)} ."),
            r"x#r>.*not counted",
        ),
        (
            (":p a owl:DatatypeProperty ; rdfs:range xsd:date .",),
            "datatype http://www.w3.org/2001/XMLSchema#date; take",
        ),
    ],
)
def test_what_hermit_refuses_is_named(axioms: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    with pytest.raises(OntologyError, match=reason):
        classify(load_ontology([write(tmp_path / "x.ttl", *axioms)]))


@needs_java
def test_a_reasoner_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(OntologyError, match="HermiT gave no answer in 0"):
        classify(load_ontology([write(tmp_path / "x.ttl", *UNION.values())]), timeout=0.01)


@needs_java
def test_swrl_rules_with_builtins_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rule = (
        "@prefix swrl: <http://www.w3.org/2003/11/swrl#> . @prefix swrlb: <http://www.w3.org/2003/11/swrlb#> ."
        "@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> . :age a owl:DatatypeProperty ; rdfs:range xsd:integer ."
        "<urn:v#x> a swrl:Variable . <urn:v#y> a swrl:Variable . [] a swrl:Imp ; swrl:body [ a swrl:AtomList ;"
        "rdf:first [ a swrl:DatavaluedPropertyAtom ; swrl:propertyPredicate :age ; swrl:argument1 <urn:v#x> ;"
        "swrl:argument2 <urn:v#y> ] ; rdf:rest [ a swrl:AtomList ; rdf:first [ a swrl:BuiltinAtom ;"
        "swrl:builtin swrlb:greaterThan ; swrl:arguments ( <urn:v#y> 3 ) ] ; rdf:rest () ] ] ; swrl:head [ a swrl:AtomList ;"
        "rdf:first [ a swrl:ClassAtom ; swrl:classPredicate :a ; swrl:argument1 <urn:v#x> ] ; rdf:rest () ] ."
    )
    path = write(tmp_path / "x.ttl", ":a rdfs:subClassOf :b .", rule)
    assert classify(load_ontology([path])).problems == ()
    assert "1 SWRL rules with built-ins were left out" in caplog.text


@needs_java
@pytest.mark.parametrize("name", ["thorax", "blood", "road"])
def test_every_class_of_the_shipped_ontologies_can_have_an_instance(name: str) -> None:
    classified = classify(load_ontology([ONTOLOGIES / f"{name}.ttl"]))
    assert classified.consistent
    assert classified.problems == ()
    assert classified.subsumptions == ()


def random_axioms(chance: random.Random) -> list[str]:
    """Axioms over five classes and two relations, in the forms that contradictions come from."""
    names = "abcde"

    def one() -> str:
        x, y, z = chance.sample(names, 3)
        r, s = chance.choice("rs"), chance.choice("rs")
        forms = [
            f":{x} rdfs:subClassOf :{y} .",
            f":{x} owl:disjointWith :{y} .",
            f":{x} rdfs:subClassOf {some(r, y)} .",
            f":{r} rdfs:{chance.choice(['domain', 'range'])} :{y} .",
            f":{r} owl:inverseOf :{s} .",
            f":{r} rdfs:subPropertyOf :{s} .",
            f":{x} rdfs:subClassOf [ a owl:Restriction ; owl:onProperty :{r} ; owl:allValuesFrom :{y} ] .",
            f":{x} rdfs:subClassOf [ a owl:Class ; owl:complementOf :{y} ] .",
            f":{x} owl:equivalentClass [ a owl:Class ; owl:intersectionOf ( :{y} :{z} ) ] .",
        ]
        return chance.choice(forms)

    return [one() for _ in range(9)]


@needs_java
def test_whatever_is_read_off_as_a_clash_is_one_for_hermit_and_the_module_decides_alike(tmp_path: Path) -> None:
    chance = random.Random(7)
    texts, read_off, whole = [], [], []
    for _ in range(60):
        triples = read_sources([write(tmp_path / "x.ttl", *random_axioms(chance))]).triples
        axioms = list(logical_axioms(triples))
        declared = [t for kinds in declarations(triples).values() for t in kinds]
        told = Told(axioms)

        def text(indices: list[int] | range, axioms=axioms, declared=declared) -> str:  # type: ignore[no-untyped-def]
            spelled = [t for i in indices for t in axioms[i].triples]
            return to_ntriples([*hermit.probing(X + "a"), *declared, *spelled])

        texts += [text(range(len(axioms))), text(module(axioms, [X + "a"]))]
        support = told.clash([X + "a"])
        read_off.append(support is not None)
        if support is not None:
            whole.append(text(sorted(support)))
    answers = hermit.clashes(texts, 60)
    assert answers[::2] == answers[1::2]
    assert all(hermit.clashes(whole, 60))
    assert 10 < sum(read_off) <= sum(answers[::2]) < 60


@given(st.text(), st.sampled_from(["", "en"]))
def test_literals_are_written_as_n_triples_that_others_read(text: str, language: str) -> None:
    from rdflib import Graph

    kind = "http://www.w3.org/2001/XMLSchema#string"
    line = to_ntriples([(X + "a", X + "p", Literal(text, kind, language))])
    [(_, _, found)] = Graph().parse(data=line, format="nt")
    assert str(found) == text
