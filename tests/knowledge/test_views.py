from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import networkx as nx
import pytest
import rdflib
from hypothesis import given, settings
from hypothesis import strategies as st
from rdflib import OWL, RDF, RDFS, URIRef
from rdflib.collection import Collection

from neurosym.errors import KnowledgeError
from neurosym.knowledge import Knowledge
from neurosym.knowledge.views import Graph, neighbourhood, ontology_graph, rule_graph, write_page, write_svg
from neurosym.knowledge.views.graph import ClassNode, Edge, RuleNode, rule_kind
from neurosym.knowledge.views.page import MOST_BYTES, page_text
from neurosym.knowledge.views.svg import svg_text
from neurosym.logic import Atom, Comparison, Count, Rule, Term, number

ROOT = Path(__file__).parents[2]
NS = rdflib.Namespace("https://w3id.org/neurosym/core#")
HOSTILE = "</script><img src=x onerror=document.documentElement.dataset.hacked=1>'\"&\\u003c"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
X, Y, D = Term("X"), Term("Y"), Term("D")


@pytest.fixture(scope="module")
def triples() -> rdflib.Graph:
    graph = rdflib.Graph()
    for name in ("thorax", "neurosym"):
        graph.parse(ROOT / f"ontologies/{name}.ttl")
    return graph


# --- what is drawn -----------------------------------------------------------------------------------------------------


def test_every_class_is_a_node_and_every_asserted_superclass_an_edge(thorax: Knowledge, triples: rdflib.Graph) -> None:
    graph = ontology_graph(thorax)
    iri = {c.name: URIRef(c.iri) for c in graph.classes}
    declared = {s for s in triples.subjects(RDF.type, OWL.Class) if isinstance(s, URIRef)}
    assert sorted(iri.values()) == sorted(declared)
    told = {(s, o) for s, o in triples.subject_objects(RDFS.subClassOf) if {s, o} <= declared}
    assert {(iri[e.source], iri[e.target]) for e in graph.edges if e.kind == "subclass"} == told


def test_disjointness_and_existential_axioms_are_the_ones_that_rdflib_reads(
    thorax: Knowledge, triples: rdflib.Graph
) -> None:
    graph = ontology_graph(thorax)
    iri = {c.name: URIRef(c.iri) for c in graph.classes}
    lists = [Collection(triples, head) for head in triples.objects(None, OWL.members)]
    pairs = {frozenset(pair) for members in lists for pair in combinations(members, 2)}
    pairs |= {frozenset(pair) for pair in triples.subject_objects(OWL.disjointWith)}
    assert {frozenset((iri[e.source], iri[e.target])) for e in graph.edges if e.kind == "disjoint"} == pairs
    some = {
        (
            s,
            str(triples.value(triples.value(node, OWL.onProperty), RDFS.label)),
            triples.value(node, OWL.someValuesFrom),
        )
        for s, node in triples.subject_objects(RDFS.subClassOf)
        if (node, OWL.someValuesFrom, None) in triples
    }
    assert {(iri[e.source], e.label, iri[e.target]) for e in graph.edges if e.kind == "axiom"} >= some


def test_ties_to_data_are_told_of_their_class(thorax: Knowledge, triples: rdflib.Graph) -> None:
    ties = {URIRef(c.iri): set(c.ties) for c in ontology_graph(thorax).classes}
    for node, category in triples.subject_objects(NS.category):
        assert f"category {category}" in ties[node]
    assert "zoned" in ties[URIRef("https://w3id.org/neurosym/thorax#lung")]


def test_every_rule_of_the_file_is_one_factor_with_exactly_its_classes(thorax: Knowledge) -> None:
    lines = (ROOT / "rules/thorax.rules").read_text().splitlines()
    told = {}
    for number_, line in enumerate(lines, 1):
        if line and not line.startswith("%"):
            text = line.split("%!")[0]
            told[f"rules/thorax.rules:{number_}"] = set(re.findall(r"(\w+)\(\w+\)", text))
    graph = rule_graph(thorax)
    drawn = {r.place: r for r in graph.rules if ".rules:" in r.place}
    assert {place: set(r.classes) for place, r in drawn.items()} == told
    assert sum(".rules:" in r.place for r in graph.rules) == len(told)
    for rule in graph.rules:
        assert sorted(e.target for e in graph.edges if e.source == rule.key) == list(rule.classes)
    assert {c.name for c in graph.classes} == {name for r in graph.rules for name in r.classes}


def test_the_spatial_word_stands_on_the_edge_to_its_second_argument(thorax: Knowledge) -> None:
    graph = rule_graph(thorax)
    key = {r.id: r.key for r in graph.rules}
    label = {(e.source, e.target): e.label for e in graph.edges}
    assert label[key["right_lung_left_of_heart"], "heart"] == "left of"
    assert label[key["right_lung_left_of_heart"], "right_lung"] == ""
    assert label[key["heart_not_in_lung"], "lung"] == "never inside"
    assert label[key["one_heart"], "heart"] == "only one"
    assert label[key["nodule_is_small"], "small_object"] == "is a"


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (Rule((Atom("left_of", (X, Y)),), (Atom("a", (X,)), Atom("b", (Y,)))), "ordering"),
        (Rule((Atom("inside", (X, Y)),), (Atom("a", (X,)), Atom("b", (Y,)))), "containment"),
        (Rule((Atom("small_object", (X,)),), (Atom("a", (X,)),)), "size"),
        (Rule((Atom("=", (X, Y)),), (Atom("a", (X,)), Atom("a", (Y,)))), "count"),
        (Rule((), (), conditions=(Comparison(">", Count((X,), (Atom("a", (X,)),)), number(2)),)), "count"),
        (Rule((), (Atom("a", (X,)), Atom("b", (X,)))), "denial"),
        (Rule((Atom("inside", (X, Y)), Atom("b", (Y,))), (Atom("a", (X,)),)), "existential"),
        (
            Rule((Atom("b", (X,)),), (Atom("a", (X,)), Atom("d", (X, D))), conditions=(Comparison("<", D, number(3)),)),
            "numeric",
        ),
        (Rule((Atom("b", (X,)),), (Atom("a", (X,)),)), "other"),
    ],
)
def test_a_rule_has_the_kind_that_a_reader_would_give_it(rule: Rule, kind: str) -> None:
    assert rule_kind(rule, {}) == kind


# --- a part of a graph -------------------------------------------------------------------------------------------------

NAMES = [f"n{i}" for i in range(8)]
links = st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda p: p[0] != p[1]), max_size=12)


def hierarchy(pairs: set[tuple[str, str]], labels: list[str] | None = None) -> Graph:
    labels = labels or NAMES
    classes = tuple(ClassNode(name, label) for name, label in zip(NAMES, labels, strict=True))
    kinds = ("subclass", "subclass", "disjoint", "axiom")
    edges = [Edge(a, b, kinds[(int(a[1:]) + int(b[1:])) % 4]) for a, b in sorted(pairs)]
    return Graph("ontology", classes, (), tuple(edges))


@given(links, st.sampled_from(NAMES), st.integers(1, 3))
def test_a_neighbourhood_is_the_ball_that_networkx_finds(pairs: set[tuple[str, str]], name: str, depth: int) -> None:
    full = nx.Graph(sorted(pairs))
    full.add_nodes_from(NAMES)
    part = neighbourhood(hierarchy(pairs), [name], depth)
    ball = nx.ego_graph(full, name, radius=depth)
    assert {c.name for c in part.classes} == set(ball)
    assert {frozenset((e.source, e.target)) for e in part.edges} == set(map(frozenset, ball.edges))


@given(
    st.lists(st.sets(st.sampled_from(NAMES), min_size=1, max_size=3), max_size=8),
    st.sampled_from(NAMES),
    st.integers(1, 3),
)
def test_from_class_to_class_through_a_rule_is_one_step(bodies: list[set[str]], name: str, depth: int) -> None:
    rules = tuple(
        RuleNode(f"rule {i}", f"r{i}", "", "other", None, "", "", "", tuple(sorted(b))) for i, b in enumerate(bodies)
    )
    edges = tuple(Edge(r.key, c, "body") for r in rules for c in r.classes)
    part = neighbourhood(Graph("rules", tuple(ClassNode(n, n) for n in NAMES), rules, edges), [name], depth)
    full = nx.Graph([(e.source, e.target) for e in edges])
    full.add_nodes_from(NAMES)
    ball = set(nx.ego_graph(full, name, radius=2 * depth))
    assert {c.name for c in part.classes} | {r.key for r in part.rules} == ball
    assert all(e.source in ball and e.target in ball for e in part.edges)


def test_an_unknown_class_is_named_with_the_nearest_that_is_known(thorax: Knowledge) -> None:
    with pytest.raises(KnowledgeError, match="unknown class 'hart'; did you mean 'heart'?"):
        neighbourhood(ontology_graph(thorax), ["hart"], 1)


# --- the picture -------------------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    groups = [
        g for g in ElementTree.fromstring(svg).iter(f"{SVG}g") if g.get("class", "").split()[0] in ("class", "rule")
    ]
    found = [g.find(f"{SVG}rect") for g in groups]
    return [tuple(float(r.get(k, "")) for k in ("x", "y", "width", "height")) for r in found if r is not None]  # type: ignore[misc]


def apart(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]


@settings(max_examples=60)
@given(links, st.lists(st.text(max_size=60), min_size=8, max_size=8))
def test_any_hierarchy_even_a_cyclic_one_gives_valid_svg_without_overlapping_boxes(
    pairs: set[tuple[str, str]], labels: list[str]
) -> None:
    drawn = boxes(svg_text(hierarchy(pairs, labels), labels[0]))
    assert len(drawn) == 8
    assert all(apart(a, b) for a, b in combinations(drawn, 2))


@pytest.mark.parametrize("draw", [ontology_graph, rule_graph])
def test_the_picture_of_the_thorax_has_a_box_for_each_node_and_none_overlap(thorax: Knowledge, draw) -> None:
    graph = draw(thorax)
    svg = svg_text(graph, "Chest film")
    drawn = boxes(svg)
    assert len(drawn) == len(graph.classes) + (len(graph.rules) if graph.view == "rules" else 0)
    assert all(apart(a, b) for a, b in combinations(drawn, 2))
    root = ElementTree.fromstring(svg)
    assert root.findtext(f"{SVG}title") == "Chest film"
    assert f"{len(graph.classes)} classes" in (root.findtext(f"{SVG}desc") or "")
    assert "prefers-color-scheme: dark" in svg


def test_every_word_of_a_label_is_in_the_picture(thorax: Knowledge) -> None:
    root = ElementTree.fromstring(svg_text(ontology_graph(thorax), ""))
    shown = {
        " ".join(t.text or "" for t in g.iter(f"{SVG}text") if t.get("class") == "label") for g in root.iter(f"{SVG}g")
    }
    assert {" ".join(c.label.split()) for c in ontology_graph(thorax).classes} <= shown


def test_a_hostile_label_stays_text_in_the_picture() -> None:
    root = ElementTree.fromstring(svg_text(hierarchy(set(), [HOSTILE] * 8), HOSTILE))
    assert root.findtext(f"{SVG}title") == HOSTILE
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= {
        "svg",
        "title",
        "desc",
        "style",
        "rect",
        "text",
        "g",
        "path",
    }


def test_more_boxes_than_a_person_can_look_at_are_refused_with_the_way_out() -> None:
    graph = Graph("ontology", tuple(ClassNode(f"c{i}", "") for i in range(2000)), (), ())
    with pytest.raises(KnowledgeError, match="--around"):
        svg_text(graph, "")


def test_the_same_knowledge_gives_the_same_bytes_whatever_the_order_of_sets(tmp_path: Path) -> None:
    script = (
        "import sys, hashlib; from neurosym.knowledge import load_knowledge; from neurosym.knowledge.views import *\n"
        "from neurosym.knowledge.views.page import page_text; from neurosym.knowledge.views.svg import svg_text\n"
        "k = load_knowledge(['ontologies/thorax.ttl', 'rules/thorax.rules'])\n"
        "graphs = [ontology_graph(k), rule_graph(k)]\n"
        "print(hashlib.sha256(''.join(f(g, 't') for g in graphs for f in (page_text, svg_text)).encode()).hexdigest())"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE
        )
        for seed in ("1", "2")
    ]
    digests = {run.communicate()[0] for run in runs}
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


# --- the page ----------------------------------------------------------------------------------------------------------


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):  # what follows is no part of it
            self.handle_starttag(f"/{tag}", [])

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data


def hostile_graph() -> Graph:
    classes = (ClassNode("n0", HOSTILE, "http://x#" + HOSTILE, HOSTILE, (HOSTILE,)), ClassNode("n1", "parent"))
    rule = RuleNode("rule 0", HOSTILE, HOSTILE, "other", 0.5, HOSTILE, HOSTILE, HOSTILE, ("n0", "n1"))
    return Graph("ontology", classes, (rule,), (Edge("n0", "n1", "subclass"), Edge("n0", "n1", "axiom", HOSTILE, 0.5)))


def big_graph(count: int = 19_500) -> Graph:
    """As big as the Human Phenotype Ontology, and as deep."""
    iri = "http://purl.obolibrary.org/obo/HP_{:07}".format
    classes = [
        ClassNode(f"c{i:05}", f"Abnormality number {i} of some part", iri(i), "What it is. " * 10) for i in range(count)
    ]
    edges = tuple(Edge(f"c{i:05}", f"c{i // 5:05}", "subclass") for i in range(1, count))
    return Graph("ontology", tuple(classes), (), edges)


@pytest.mark.parametrize("draw", [ontology_graph, rule_graph])
def test_the_page_may_run_its_own_scripts_alone_and_fetches_nothing(thorax: Knowledge, draw) -> None:
    page = _Tags(page_text(draw(thorax), "Chest film"))
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    for (tag, attributes), text in zip(page.tags, page.texts, strict=True):
        assert not {"src", "href", "srcset", "style", "action"} & set(attributes)
        assert not [a for a in attributes if a.startswith("on")]
        if tag == "style" or (tag == "script" and "type" not in attributes):
            assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
            assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest|importScripts|\beval\(", text)


def test_the_data_of_the_page_are_the_graph(thorax: Knowledge) -> None:
    graph = ontology_graph(thorax)
    page = _Tags(page_text(graph, ""))
    data = json.loads(next(text for (_, a), text in zip(page.tags, page.texts, strict=True) if a.get("id") == "data"))
    names = [c[0] for c in data["classes"]]
    assert [
        (n, label, data["prefixes"][p] + local, d, tuple(ties)) for n, label, p, local, d, ties in data["classes"]
    ] == [(c.name, c.label, c.iri, c.definition, c.ties) for c in graph.classes]
    assert [(names[s], names[t], data["edgeKinds"][k]) for s, t, k, *_ in data["edges"]] == [
        (e.source, e.target, e.kind) for e in graph.edges
    ]


def test_a_hostile_label_stays_text_in_the_page() -> None:
    harmless, hostile = (_Tags(page_text(g, t)) for g, t in ((hierarchy(set()), "x"), (hostile_graph(), HOSTILE)))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]


def test_an_ontology_as_big_as_the_hpo_fits_a_page_and_a_bigger_one_loses_definitions_first() -> None:
    assert len(page_text(big_graph(), "").encode()) < MOST_BYTES
    wordy = Graph("ontology", tuple(ClassNode(f"c{i}", "", "", "word " * 200) for i in range(15_000)), (), ())
    shortened = page_text(wordy, "")
    assert len(shortened.encode()) <= MOST_BYTES
    assert "…" in json.loads(re.search(r'id="data">(.*?)</script>', shortened)[1])["classes"][0][4]  # type: ignore[index]


# --- in a browser ------------------------------------------------------------------------------------------------------


def dom(page: Path, profile: Path, fragment: str = "") -> dict[str, str | None]:
    """The attributes that the page's script leaves at its root element, and the text of the panel as "panel"."""
    assert CHROMIUM is not None
    switches = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --virtual-time-budget=3000 --window-size=1366,768 --dump-dom"
    )
    command = [CHROMIUM, *switches.split(), f"--user-data-dir={profile}", f"{page.as_uri()}#{quote(fragment)}"]
    text = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()
    tags = _Tags(text)
    panel = next(i for i, (_, a) in enumerate(tags.tags) if a.get("id") == "panel")
    end = next(i for i, (tag, _) in enumerate(tags.tags) if tag == "noscript")
    return dict(tags.tags[0][1]) | {
        "panel": " ".join(tags.texts[panel:end]),
        "images": str(sum(tag == "img" for tag, _ in tags.tags)),
    }


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chromium")


in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@in_chromium
def test_the_rules_open_in_chromium_with_every_rule_and_the_picked_one_told(
    thorax: Knowledge, tmp_path: Path, profile: Path
) -> None:
    graph = rule_graph(thorax)
    write_page(tmp_path / "rules.html", graph, "Chest film")
    shown = dom(tmp_path / "rules.html", profile, "heart_not_in_lung")
    assert shown.get("data-errors") is None
    assert shown["data-ready"] == "true"
    assert shown["data-nodes"] == str(len(graph.classes) + len(graph.rules))
    assert shown["data-edges"] == str(len(graph.edges))
    rule = next(r for r in graph.rules if r.id == "heart_not_in_lung")
    assert all(text in (shown["panel"] or "") for text in (rule.text, rule.source, rule.place))


@in_chromium
def test_hostile_labels_are_text_in_chromium(tmp_path: Path, profile: Path) -> None:
    write_page(tmp_path / "hostile.html", hostile_graph(), HOSTILE)
    shown = dom(tmp_path / "hostile.html", profile, "n0")
    assert shown["data-ready"] == "true"
    assert (shown.get("data-hacked"), shown.get("data-errors"), shown["images"]) == (None, None, "0")
    assert (shown["panel"] or "").count(HOSTILE) >= 4
    assert (shown["data-nodes"], shown["data-edges"], shown["data-picked"]) == ("2", "2", "n0")


@in_chromium
def test_a_big_ontology_opens_at_its_top_levels_and_on_the_way_to_a_class(tmp_path: Path, profile: Path) -> None:
    write_page(tmp_path / "big.html", big_graph(), "Big")
    shown = dom(tmp_path / "big.html", profile, "c19499")
    assert (shown.get("data-errors"), shown["data-ready"], shown["data-picked"]) == (None, "true", "c19499")
    assert 5 < int(shown["data-nodes"] or 0) < 100
    assert "Abnormality number 19499" in (shown["panel"] or "")


def test_files_are_written(thorax: Knowledge, tmp_path: Path) -> None:
    write_svg(tmp_path / "new" / "o.svg", ontology_graph(thorax), "t")
    assert (tmp_path / "new" / "o.svg").read_text(encoding="utf-8") == svg_text(ontology_graph(thorax), "t")
