from __future__ import annotations

import gzip
import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import rdflib
from hypothesis import given
from hypothesis import strategies as st
from rdflib.compare import isomorphic

from neurosym.errors import InductionError
from neurosym.induction.kg import rdf
from neurosym.induction.kg.facts import TYPE
from neurosym.induction.kg.rdf import read_rdf
from neurosym.induction.kg.reading import read_graph

TURTLE = """@prefix ex: <http://example.org/a#> . @prefix other: <http://example.org/b/> .
@prefix owl: <http://www.w3.org/2002/07/owl#> . @prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
ex:Heart a owl:Class ; rdfs:subClassOf ex:Organ ; rdfs:label "Herz"@de , "heart" .
ex:h1 a ex:Heart ; ex:touches [ a ex:Lung ; ex:touches ex:h1 ] , ex:l2 , other:l2 ; ex:weighs 300 , "300" .
"""
LINE = "<http://e.org/{}> <http://e.org/p> {} .\n"


def by_rdflib(file: Path, syntax: str) -> set[tuple[str, str, str]]:
    """The facts between IRIs, as rdflib reads them."""
    graph = rdflib.Graph().parse(file, format=syntax)
    return {
        (str(s), str(p), str(o)) for s, p, o in graph if isinstance(s, rdflib.URIRef) and isinstance(o, rdflib.URIRef)
    }


def test_turtle_and_n_triples_packed_or_not_hold_what_rdflib_finds(tmp_path: Path) -> None:
    (tmp_path / "a.ttl").write_text(TURTLE)
    whole = rdflib.Graph().parse(tmp_path / "a.ttl")
    whole.serialize(tmp_path / "a.nt", format="nt", encoding="utf-8")
    for name in ("a.ttl", "a.nt"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    expected = rdflib.Graph()
    for s, p, o in whole:
        if not isinstance(o, rdflib.Literal):
            expected.add((s, p, o))
    full = {"owl:": str(rdflib.OWL), "rdfs:": str(rdflib.RDFS)}

    def node(name: str) -> rdflib.URIRef | rdflib.BNode:
        if name.startswith("_:"):
            return rdflib.BNode(name[2:])
        prefix = next((p for p in full if name.startswith(p)), "")
        return rdflib.URIRef(full[prefix] + name[len(prefix) :] if prefix else name)

    for name in ("a.ttl", "a.nt", "a.ttl.gz", "a.nt.gz"):
        found = read_graph(tmp_path / name, full_iris=True)
        graph = rdflib.Graph()
        for s, p, o in found.facts:
            graph.add((node(s), rdflib.RDF.type if p == TYPE else node(p), node(o)))
        assert isomorphic(graph, expected)
        assert found.literals == len(whole) - len(expected) == 4


def test_names_are_short_where_no_other_iri_has_them(tmp_path: Path) -> None:
    (tmp_path / "a.ttl").write_text(TURTLE)
    found = read_graph(tmp_path / "a.ttl").facts
    assert ("Heart", "rdfs:subClassOf", "Organ") in found
    assert ("Heart", TYPE, "owl:Class") in found
    assert ("h1", TYPE, "Heart") in found
    assert ("h1", "touches", "_:b0") in found
    assert ("h1", "touches", "http://example.org/a#l2") in found
    assert ("h1", "touches", "http://example.org/b/l2") in found


def test_no_relation_but_rdf_type_is_called_a(tmp_path: Path) -> None:
    (tmp_path / "a.nt").write_text("<http://e.org/a> <http://e.org/a> <http://e.org/b> .\n")
    assert read_graph(tmp_path / "a.nt").facts == [("a", "http://e.org/a", "b")]


def test_an_iri_without_a_local_name_or_spelled_like_a_prefix_stays_whole(tmp_path: Path) -> None:
    owl = "<http://www.w3.org/2002/07/owl#Class>"
    start = "<http://e.org/> <http://e.org/p>"
    (tmp_path / "a.nt").write_text(f"{start} {owl} .\r\n{start} <owl:Class> .\r\n{owl} <owl:is> <x:y> .\r\n")
    found = read_graph(tmp_path / "a.nt").facts
    assert found[0] == ("http://e.org/", "p", "http://www.w3.org/2002/07/owl#Class")
    assert found[1] == ("http://e.org/", "p", "Class")
    assert found[2] == ("http://www.w3.org/2002/07/owl#Class", "is", "y")


def test_literals_are_entities_by_their_text_if_asked_for(tmp_path: Path) -> None:
    texts = ["300", "300@de", "", "x", "_:b0", '\\"', "two\\nlines", "\\u0000"]
    lines = ["<http://e.org/x> <http://e.org/p> _:n .\n"]
    lines += [LINE.format("x", f'"{text}"') for text in texts]
    lines.append(LINE.format("x", '"300"^^<http://www.w3.org/2001/XMLSchema#integer>'))
    (tmp_path / "a.nt").write_text("".join(lines))
    assert read_graph(tmp_path / "a.nt").literals == 9
    found = read_graph(tmp_path / "a.nt", literals=True)
    assert [o for _, _, o in found.facts] == [
        "_:b0", "300", "300@de", '""', '"x"', '"_:b0"', '"""', "two\nlines", "\0", "300"
    ]  # fmt: skip
    assert len(found.store()) == 9


@pytest.mark.parametrize("together", [1, 3, 1 << 14])
def test_lines_that_are_no_facts_are_told_with_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rdf, "_TOGETHER", together)
    good = LINE.format("a", "<http://e.org/b>")
    about = LINE.format("a", "<<( <http://e.org/a> <http://e.org/p> _:x )>>")
    wrong = ["nonsense\n", LINE.format("a", '"open')[:-3] + "\n", LINE.format("a", "<rel>"), about, good[:-3] + "\n"]
    lines = [good, "# a comment\n", "\n", *wrong[:2], good, *wrong[2:], LINE.format("a b", "_:x"), good]
    (tmp_path / "a.nt").write_text("".join(lines))
    with pytest.raises(InductionError) as error:
        read_graph(tmp_path / "a.nt")
    told = str(error.value).split("\n")
    assert [line.split(":")[1] for line in told[:5]] == ["4", "5", "7", "8", "9"]
    assert told[5] == "… and 1 more such lines"
    assert "The subject of a triple must be" in told[0]
    assert "No scheme found" in told[2]
    assert "a fact about a fact" in told[3]
    with caplog.at_level(logging.WARNING):
        found = read_graph(tmp_path / "a.nt", strict=False)
    assert (found.facts, found.left_out) == ([("a", "p", "b")] * 3, 6)
    assert "6 lines are no facts and were left out, the first is line 4" in caplog.text


def test_a_line_that_is_no_text_is_one_wrong_line(tmp_path: Path) -> None:
    good = LINE.format("a", "<http://e.org/b>").encode()
    (tmp_path / "a.nt").write_bytes(good + good.replace(b"org/a", b"org/\xff") + good)
    with pytest.raises(InductionError, match=r"a\.nt:2: Invalid UTF-8"):
        read_graph(tmp_path / "a.nt")
    assert len(read_graph(tmp_path / "a.nt", strict=False).facts) == 2


def test_a_text_that_is_too_long_is_one_wrong_line(tmp_path: Path) -> None:
    good = LINE.format("a", "<http://e.org/b>")
    (tmp_path / "a.nt").write_text(good + LINE.format("a", f'"{"x" * 17_000_000}"') + good)
    with pytest.raises(InductionError, match=r"a\.nt:2: a text of more than 16 MB"):
        read_graph(tmp_path / "a.nt")


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ex:a ex:b ex:c .\n", ":1:1: Turtle syntax: The prefix ex: has not been declared"),
        ("@prefix : <http://e.org/> .\n:a :b :c .\n:a :b 'open .\n", ":3:7: Turtle syntax: "),
        ("@prefix : <http://e.org/> .\n:a :b :c .\n:a :b ;; ] .\n", ":3:"),
        ("<a> <b> <c> .\n", ":1:1: Turtle syntax: No scheme found"),
    ],
)
def test_broken_turtle_is_refused_with_its_line(tmp_path: Path, text: str, told: str, strict: bool) -> None:
    (tmp_path / "a.ttl").write_text(text)
    with pytest.raises(InductionError) as error:
        read_graph(tmp_path / "a.ttl", strict)
    assert f"a.ttl{told}" in str(error.value)


def test_a_fact_about_a_fact_in_turtle_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.ttl").write_text("@prefix : <http://e.org/> .\n:a :b <<( :a :b :c )>> .\n:a :b :c .\n")
    with pytest.raises(InductionError, match="a fact about a fact"):
        read_graph(tmp_path / "a.ttl")
    found = read_graph(tmp_path / "a.ttl", strict=False)
    assert (found.facts, found.left_out) == ([("a", "b", "c")], 1)


@pytest.mark.parametrize("name", ["a.ttl.gz", "a.nt.gz"])
def test_a_truncated_packed_file_is_refused(tmp_path: Path, name: str) -> None:
    text = "".join(LINE.format(i, f"<http://e.org/{i * i}>") for i in range(1000))
    (tmp_path / name).write_bytes(gzip.compress(text.encode())[:-1000])
    with pytest.raises(InductionError, match=r"gz cannot be read"):
        read_graph(tmp_path / name)


@pytest.mark.parametrize("name", ["a.ttl", "a.nt"])
@pytest.mark.parametrize(
    ("text", "told"),
    [("", "expected"), ("# nothing\n\n", "expected"), (LINE.format("a", '"x"'), "all 1 lead to literals")],
)
def test_a_file_without_facts_is_refused(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InductionError, match=f"has no facts: {told}"):
        read_graph(tmp_path / name)


IRIS = [rdflib.URIRef(base + word) for base in ("http://a/", "http://b#", "urn:x:") for word in ("a", "b", "_:b0", "")]
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["a", "b", "http://a/a", '"a"', "_:b0", '"']
)
NODES = st.sampled_from([*IRIS, rdflib.BNode("b0"), rdflib.BNode("n")])
OBJECTS = NODES | st.builds(rdflib.Literal, TEXTS)


@given(st.lists(st.tuples(NODES, st.sampled_from([*IRIS, rdflib.RDF.type]), OBJECTS), min_size=1))
def test_different_nodes_have_different_names_whatever_they_are(facts: list[tuple]) -> None:
    graph = rdflib.Graph()
    for fact in facts:
        graph.add(fact)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "a.nt"
        graph.serialize(file, format="nt", encoding="utf-8")
        found = read_rdf(file, literals=True)
        if any(isinstance(o, rdflib.URIRef) and isinstance(s, rdflib.URIRef) for s, _, o in graph):
            plain = read_rdf(file, full_iris=True).facts
            between_iris = {f for f in plain if not f[0].startswith("_:") and not f[2].startswith("_:")}
            typed = {(s, TYPE if p == str(rdflib.RDF.type) else p, o) for s, p, o in by_rdflib(file, "nt")}
            assert between_iris == typed
    assert len(found.facts) == len(set(found.facts)) == len(graph)
    assert len({e for s, _, o in found.facts for e in (s, o)}) == len({e for s, _, o in graph for e in (s, o)})
    assert len({r for _, r, _ in found.facts}) == len(set(graph.predicates()))
