from __future__ import annotations

import random
from pathlib import Path

import pytest
from rdflib import Graph, Literal, URIRef
from rdflib.collection import Collection
from rdflib.namespace import SH

from neurosym.errors import OntologyError, Problem
from neurosym.knowledge.geometry import MEASURES, PREDICATES, SIDES, SIZES, ZONES
from neurosym.knowledge.ontology import load_ontology
from neurosym.knowledge.shapes import check_shapes, profile

ONTOLOGIES = Path(__file__).parents[2] / "ontologies"
PREFIXES = """@prefix ns: <https://w3id.org/neurosym/core#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix dcterms: <http://purl.org/dc/terms/> .
@prefix sh: <http://www.w3.org/ns/shacl#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix : <http://example.org/x#> .
"""
HEADER = """<http://example.org/x> a owl:Ontology ;
    owl:imports <https://w3id.org/neurosym/core> ;
    dcterms:title "x" ; dcterms:license "CC0" ; owl:versionInfo "1" .
"""
SPOT = """:spot a owl:Class ; rdfs:subClassOf ns:scene_object ; rdfs:label "spot"@en ;
    skos:definition "A spot." ; ns:category "spot" .
"""
DOT = SPOT.replace("spot", "dot").replace("Spot", "Dot")
OPEN = SPOT + DOT
APART = OPEN + ":spot owl:disjointWith :dot ."


def findings(tmp_path: Path, body: str, header: str = HEADER, shapes: tuple[Path, ...] = ()) -> list[Problem]:
    (tmp_path / "neurosym.ttl").write_bytes((ONTOLOGIES / "neurosym.ttl").read_bytes())
    path = tmp_path / "x.ttl"
    path.write_text(PREFIXES + header + body, encoding="utf-8")
    return check_shapes(load_ontology([path]), shapes)


def line_of(tmp_path: Path, text: str) -> int:
    lines = (tmp_path / "x.ttl").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize("name", ["thorax", "blood", "neurosym"])
def test_the_shipped_ontologies_meet_the_profile(name: str) -> None:
    found = check_shapes(load_ontology([ONTOLOGIES / f"{name}.ttl"]))
    assert [p for p in found if p.severity != "note"] == []


def test_the_profile_is_valid_by_the_shapes_that_the_w3c_has_for_shapes() -> None:
    from pyshacl import validate
    from pyshacl.entrypoints import meta_validate

    conforms, _, text = meta_validate(Graph().parse(profile()), max_validation_depth=100)
    assert conforms, text
    assert not meta_validate(
        Graph().parse(data=PREFIXES + ":s a sh:NodeShape ; sh:minCount 1 ."), max_validation_depth=100
    )[0]
    assert validate(Graph(), shacl_graph=Graph().parse(profile()), advanced=True)[0]


def test_the_profile_knows_the_words_of_geometry() -> None:
    shapes = Graph().parse(profile())
    shape = URIRef("https://w3id.org/neurosym/shapes#PredicateWord")
    head = shapes.value(shape, SH["in"])
    assert head is not None
    listed = Collection(shapes, head)
    words = {*PREDICATES, *MEASURES, *ZONES, *SIDES, *SIZES}
    assert {str(word) for word in listed if isinstance(word, Literal)} == words


def test_every_shape_of_the_profile_says_what_is_wrong_and_how_to_cure_it() -> None:
    shapes = Graph().parse(profile())
    messages = [str(m) for m in shapes.objects(None, SH.message)]
    assert len(messages) > 15
    assert [m for m in messages if m.count("; ") != 1] == []


@pytest.mark.parametrize("body", [SPOT, APART, OPEN + ":dot ns:mayOverlap :spot ."])
def test_an_ontology_that_states_all_it_should_has_no_finding(body: str, tmp_path: Path) -> None:
    assert findings(tmp_path, body) == []


AXIOM = SPOT + (
    ":spot rdfs:subClassOf _:r . _:r a owl:Restriction ; owl:onProperty ns:inside ; owl:someValuesFrom :spot .\n"
    "[] a owl:Axiom ; owl:annotatedSource :spot ; owl:annotatedProperty rdfs:subClassOf ; owl:annotatedTarget _:r ;\n"
    "    ns:confidence 0.5 {}.\n"
)


@pytest.mark.parametrize(
    ("body", "severity", "message", "at"),
    [
        (
            SPOT.replace('rdfs:label "spot"@en ;', ""),
            "error",
            "'spot': the class has no label; add rdfs:label",
            ":spot a",
        ),
        (
            SPOT.replace('"spot"@en', '"Fleck"@de'),
            "error",
            "'spot': the class has labels, none of them English or without a language; add",
            ":spot a",
        ),
        (
            SPOT.replace('skos:definition "A spot." ;', ""),
            "warning",
            "'spot': the class has no definition; add",
            ":spot a",
        ),
        (
            SPOT
            + ":thing a owl:Class ; rdfs:label 'thing' ; skos:definition 'A thing.' .\n:spot rdfs:subClassOf :thing .",
            "error",
            "'thing': the class is at the top of the hierarchy, so nothing on an image",
            ":thing a",
        ),
        (
            SPOT + ":thing a owl:Class ; rdfs:subClassOf owl:Thing ; rdfs:label 'thing' ; skos:definition 'A thing.' .",
            "error",
            "'thing': the class is at the top of the hierarchy, so nothing on an image",
            ":thing a",
        ),
        (
            SPOT.replace('; ns:category "spot"', ""),
            "error",
            "'x': no class has an ns:category, so",
            "x> a owl:Ontology",
        ),
        (
            SPOT.replace('"spot" .', '"spot"@en .'),
            "error",
            "'spot': the ns:category is not a plain string; write",
            ":spot a",
        ),
        (
            SPOT + ':dim a owl:Class ; rdfs:subClassOf ns:study ; rdfs:label "dim" ; skos:definition "Dim." ;\n'
            '    ns:studyLabel "dim" .',
            "error",
            "'dim': the ns:studyLabel is not a plain string of the form key=value; write",
            ":dim a",
        ),
        (OPEN, "warning", "'dot': not said whether one object can also be 'spot'; state owl:disjointWith or", ":dot a"),
        (
            SPOT + DOT.replace('; ns:category "dot"', ""),
            "note",
            "'dot': no data set annotates the class, while classes beside it are annotated; add",
            ":dot a",
        ),
        (
            SPOT + ":on a owl:ObjectProperty ; rdfs:range :spot ; rdfs:label 'on' .",
            "warning",
            "'on': the relation says not what it leads from; add rdfs:domain",
            ":on a",
        ),
        (
            SPOT + ":on a owl:ObjectProperty ; rdfs:domain :spot ; rdfs:label 'on' .",
            "warning",
            "'on': the relation says not what it leads to; add rdfs:range",
            ":on a",
        ),
        (
            AXIOM.format(""),
            "warning",
            "'spot': the axiom with an ns:confidence says not where it was measured; add",
            ":spot a",
        ),
    ],
)
def test_what_is_missing_is_told_with_its_place_and_its_cure(
    body: str, severity: str, message: str, at: str, tmp_path: Path
) -> None:
    [problem] = findings(tmp_path, body)
    assert problem.severity == severity
    assert f"{problem.message}; {problem.cure}".startswith(message)
    assert (Path(problem.file).name, problem.line) == ("x.ttl", line_of(tmp_path, at))


def test_an_axiom_with_confidence_and_source_is_in_order(tmp_path: Path) -> None:
    assert findings(tmp_path, AXIOM.format('; dcterms:source "train: 1 of 2" ')) == []


def test_a_header_without_title_licence_and_version_is_a_warning_for_each(tmp_path: Path) -> None:
    header = "<http://example.org/x> a owl:Ontology ; owl:imports <https://w3id.org/neurosym/core> .\n"
    found = findings(tmp_path, SPOT, header)
    assert {p.severity for p in found} == {"warning"}
    assert sorted(p.cure for p in found) == ["add dcterms:license", "add dcterms:title", "add owl:versionInfo"]


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (APART + '\n:dot ns:category "spot" .', "CategoryOnce"),
        (SPOT + ':a ns:studyLabel "k=v" . :b ns:studyLabel "k=v" .', "StudyLabelOnce"),
        (SPOT + ':spot ns:predicate "tiny_object" .', "PredicateWord"),
        (AXIOM.replace("0.5 {}", "1.5 ; dcterms:source 'x' "), "ConfidenceValue"),
        (AXIOM.replace("0.5 {}", "0.0 ; dcterms:source 'x' "), "ConfidenceValue"),
        (AXIOM.replace("0.5 {}", "'much' ; dcterms:source 'x' "), "ConfidenceValue"),
        (SPOT + "<http://example.org/y> owl:imports <http://example.org/x> .", "ImporterIsOntology"),
        (SPOT + '[] a owl:Ontology ; dcterms:title "x" ; dcterms:license "x" ; owl:versionInfo "1" .', "Header"),
    ],
)
def test_other_shacl_tools_find_with_the_profile_what_reading_refuses_here(body: str, shape: str) -> None:
    from pyshacl import validate

    graph = Graph().parse(data=PREFIXES + HEADER + body, format="turtle").parse(ONTOLOGIES / "neurosym.ttl")
    conforms, report, _ = validate(graph, shacl_graph=Graph().parse(profile()), advanced=True)
    assert not conforms
    assert isinstance(report, Graph)
    assert {str(s).split("#")[-1] for s in report.objects(None, SH.sourceShape)} == {shape}


def test_classes_whose_parents_are_disjoint_need_no_statement_of_their_own(tmp_path: Path) -> None:
    body = OPEN + (
        ':hot a owl:Class ; rdfs:subClassOf ns:scene_object ; rdfs:label "hot" ; skos:definition "Hot." .\n'
        ':cold a owl:Class ; rdfs:subClassOf ns:scene_object ; rdfs:label "cold" ; skos:definition "Cold." .\n'
        ":spot rdfs:subClassOf :hot . :dot rdfs:subClassOf :cold .\n"
    )
    listed = body + "[] a owl:AllDisjointClasses ; owl:members ( :hot :cold ) ."
    assert [p.severity for p in findings(tmp_path, body)] == ["warning"]
    assert findings(tmp_path, listed) == []


def test_open_pairs_are_those_that_the_profile_s_own_query_finds(tmp_path: Path) -> None:
    from pyshacl import validate

    chance = random.Random(3)
    names = "stuvwxyz"
    core = Graph().parse(ONTOLOGIES / "neurosym.ttl")
    found_any = 0
    for _ in range(6):
        body = "".join(SPOT.replace("spot", name) for name in names)
        for a, b, c in (chance.sample(names, 3) for _ in range(4)):
            small, large = sorted((a, b))
            body += f":{large} rdfs:subClassOf :{small} .\n"
            body += f":{b} owl:disjointWith :{c} .\n" if chance.random() < 0.5 else f":{b} ns:mayOverlap :{c} .\n"
        body += (
            f"[] a owl:AllDisjointClasses ; owl:members ( {' '.join(':' + n for n in chance.sample(names, 4))} ) .\n"
        )
        ours = {p.message for p in findings(tmp_path, body) if "not said whether" in p.message}
        graph = Graph().parse(data=PREFIXES + HEADER + body, format="turtle") + core
        _, report, _ = validate(graph, shacl_graph=Graph().parse(profile()), advanced=True)
        assert isinstance(report, Graph)
        theirs = {
            (str(report.value(r, SH.focusNode))[-1], str(report.value(r, SH.value))[-1])
            for r in report.subjects(SH.sourceConstraint, None)
            if report.value(r, SH.value)
        }
        found_any += len(theirs)
        assert ours == {f"'{a}': not said whether one object can also be '{b}'" for a, b in theirs}
    assert found_any > 20


def test_anonymous_and_deprecated_classes_are_not_held_against_the_profile(tmp_path: Path) -> None:
    body = SPOT + (
        ":spot rdfs:subClassOf [ a owl:Class ; owl:unionOf ( :spot ns:placed_object ) ] .\n"
        ":old a owl:Class ; owl:deprecated true .\n"
    )
    assert findings(tmp_path, body) == []


def test_of_many_findings_of_one_shape_twenty_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    many = "".join(f':kind{n} a owl:Class ; rdfs:subClassOf :spot ; rdfs:label "kind {n}" .\n' for n in range(33))
    found = findings(tmp_path, SPOT + many)
    assert len(found) == 20
    assert [p.message for p in found if "(and so for 13 more)" in p.message]


def shapes_file(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "own.ttl"
    path.write_text(PREFIXES + body, encoding="utf-8")
    return path


def test_users_own_shapes_are_checked_besides(tmp_path: Path) -> None:
    own = shapes_file(
        tmp_path,
        ":Coded a sh:NodeShape ; sh:targetSubjectsOf ns:category ; sh:property [ sh:path skos:exactMatch ; sh:minCount 1 ;\n"
        '    sh:severity sh:Warning ; sh:message "has no code; add skos:exactMatch" ] .',
    )
    [problem] = findings(tmp_path, SPOT, shapes=(own,))
    assert str(problem).endswith(":12: 'spot': has no code; add skos:exactMatch")
    assert problem.severity == "warning"


def test_the_shapes_that_pyshacl_alone_finds_broken_are_the_ones_found(tmp_path: Path) -> None:
    from pyshacl import validate

    (tmp_path / "neurosym.ttl").write_bytes((ONTOLOGIES / "neurosym.ttl").read_bytes())
    body = OPEN + ":thing a owl:Class ; rdfs:label 'thing' ."
    graph = Graph().parse(data=PREFIXES + HEADER + body, format="turtle").parse(ONTOLOGIES / "neurosym.ttl")
    _, report, _ = validate(graph, shacl_graph=Graph().parse(profile()), advanced=True)
    assert isinstance(report, Graph)
    alone = sorted(str(m) for m in report.objects(None, SH.resultMessage))
    ours = sorted(f"{p.message.split(': ', 1)[1]}; {p.cure}" for p in findings(tmp_path, body))
    assert ours == [m.replace("http://example.org/x#spot", "'spot'") for m in alone]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (":s a sh:NodeShape ;\n :t .", r"own\.ttl:10:5: Turtle syntax"),
        (
            ":s a sh:NodeShape ;\n sh:targetClas owl:Class .",
            r"own\.ttl:10: SHACL has no term sh:targetClas; did you mean 'targetC",
        ),
        (
            ":s a sh:NodeShape ; sh:targetClass owl:Class ; sh:property [ sh:minCount 1 ] .",
            "the shapes cannot be used: ",
        ),
        (
            ':s a sh:NodeShape ; sh:targetClass owl:Class ;\n sh:js [ a sh:JSConstraint ; sh:jsFunctionName "f" ] .',
            r"own\.ttl:10: sh:js: scripts in shapes are not run",
        ),
        (
            ":s a sh:NodeShape ; sh:targetClass owl:Class ; sh:sparql [\n"
            '  sh:select "SELECT $this { SERVICE <http://example.org/> { $this ?p ?o } }" ] .',
            r"own\.ttl:\d+: the query asks another machine \(SERVICE\)",
        ),
        ("<http://example.org/own> a owl:Ontology ; owl:imports <http://example.org/far> .", "is not on this disk"),
    ],
)
def test_a_broken_shapes_file_is_an_error_with_its_place(body: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OntologyError, match=message):
        findings(tmp_path, SPOT, shapes=(shapes_file(tmp_path, body),))
