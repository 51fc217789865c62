from __future__ import annotations

from pathlib import Path

import pytest
from rdflib import RDFS, SKOS, URIRef

from neurosym.data.images import annotated_scene
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import OntologyError
from neurosym.knowledge import load_knowledge
from neurosym.knowledge.geometry import ZONES
from neurosym.knowledge.ontology import Ontology, load_ontology
from neurosym.knowledge.scene_words import CountOf, Mirrored, Stated
from neurosym.scenes import facts_from

ROOT = Path(__file__).parents[2]
FILES = ("neurosym.ttl", "scene-facts.ttl", "catalog-v001.xml")
HEADER = """@prefix : <http://x.org/> . @prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> . @prefix ns: <https://w3id.org/neurosym/core#> .
<http://x.org/o> a owl:Ontology ; owl:imports <https://w3id.org/neurosym/scene-facts> .
:lung a owl:Class ; ns:zoned true . :nodule a owl:Class . :word a owl:Class ; rdfs:subClassOf ns:study .
:twin a owl:ObjectProperty .
"""


def own(tmp_path: Path, text: str) -> Ontology:
    """A small ontology of its own; `text` begins on line 6."""
    for name in FILES:
        (tmp_path / name).write_bytes((ROOT / "ontologies" / name).read_bytes())
    (tmp_path / "o.ttl").write_text(HEADER + text + "\n")
    return load_ontology([tmp_path / "o.ttl"])


def test_the_chest_words_are_documented_and_the_core_has_none() -> None:
    knowledge = load_knowledge([ROOT / "ontologies/chest-facts.ttl"])
    ontology, graph = knowledge.ontology, knowledge.ontology.graph
    terms = {
        **{c.name: c.iri for c in ontology.classes.values()},
        **{r.name: r.iri for r in ontology.relations.values()},
    }
    assert len(ontology.scene_words.names) == 24
    for name in ontology.scene_words.names:
        assert graph.value(URIRef(terms[name]), RDFS.label), name
        assert graph.value(URIRef(terms[name]), SKOS.definition), name
    assert not load_knowledge([ROOT / "ontologies/thorax.ttl"]).ontology.scene_words.names


def test_bounds_that_are_left_out_have_a_meaning(tmp_path: Path) -> None:
    text = """:some a owl:Class ; ns:seen :nodule . :none a owl:Class ; ns:seen :nodule ; ns:atMost 0 .
    :old a owl:Class ; ns:attribute "age" ; ns:atLeast 65 . :tall a owl:Class ; ns:attribute "height=tall=yes" .
    :twin ns:mirrored 0.2 ."""
    words = own(tmp_path, text).scene_words
    assert words.counts == (CountOf("none", "nodule", 0, 0), CountOf("some", "nodule", 1, None))
    assert words.stated == (
        Stated("old", frozenset(), "age", 65.0),
        Stated("tall", frozenset({("height", "tall=yes")})),
    )
    assert words.mirrored == (Mirrored("twin", 0.2),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            ":word ns:seen :nodul .",
            "ns:seen of 'word' names 'http://x.org/nodul', which is no class; did you mean 'nodule'?",
        ),
        (":word ns:seen :nodule , :lung .", "ns:seen of 'word' names 2 classes; name one"),
        (":word ns:seen :nodule ; ns:atLeast 1.5 .", "ns:atLeast 1.5 of 'word' is no number of objects"),
        (":word ns:seen :nodule ; ns:atLeast 'two' .", "ns:atLeast two of 'word' is not one number; write one number"),
        (":word ns:seen :nodule ; ns:atLeast 1 , 2 .", "ns:atLeast 1, 2 of 'word' is not one number"),
        (":word ns:seen :nodule ; ns:atLeast 3 ; ns:atMost 2 .", "'word' is of at least 3 and at most 2 objects"),
        (":word ns:seen :nodule ; ns:inEach :lung ; ns:atLeast 2 .", "'word' has both ns:inEach and ns:atLeast"),
        (":word ns:seen :nodule ; ns:inEach :nodule .", "ns:inEach of 'word' names 'nodule', which is no region"),
        (":word ns:region :nodule .", "ns:region of 'word' names 'nodule', which is no region; known: lung"),
        (":word ns:widthOf :nodule ; ns:moreThan 0.5 .", "ns:widthOf on 'word' without ns:acrossWidthOf"),
        (":word ns:widthOf :nodule ; ns:acrossWidthOf :lung .", "ns:widthOf on 'word' without ns:moreThan"),
        (
            ":word ns:widthOf :nodule ; ns:acrossWidthOf :lung ; ns:moreThan 0 .",
            "ns:moreThan 0 of 'word' is not above 0",
        ),
        (":word ns:attribute 'age' .", "ns:attribute 'age' of 'word' has no value; write key=value, or add"),
        (
            ":word ns:attribute 'age=3' ; ns:atLeast 2 .",
            "'word' has a bound for 'age=3'; name one key, without a value",
        ),
        (":word ns:attribute 'age' ; ns:atLeast 5 ; ns:lessThan 5 .", "no number is at least 5 and less than 5"),
        (":word ns:atMost 2 .", "ns:atMost on 'word' says nothing alone; add ns:seen"),
        (":word ns:seen :nodule ; ns:attribute 'a=b' .", "'word' has ns:seen and ns:attribute; keep one of them"),
        (":twin ns:mirrored 2 .", "ns:mirrored 2 of 'twin' is not in (0, 1)"),
        (":word ns:mirrored 0.1 .", "ns:mirrored on 'word', which is no relation; declare the relation"),
        (":twin ns:seen :nodule .", "ns:seen on 'twin', which is no class; declare the class"),
    ],
)
def test_a_word_that_cannot_be_read_is_told_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OntologyError) as error:
        own(tmp_path, text)
    [problem] = error.value.problems
    assert f"{tmp_path / 'o.ttl'}:6: {message}" in str(problem)


def test_what_is_entailed_of_regions_is_true_of_every_film() -> None:
    """Nothing that a rule learner would find anew: checked on films, where each such rule also has something to say."""
    chest = load_knowledge([ROOT / "ontologies/chest-facts.ttl"])
    films = [annotated_scene(f) for f in Phantom(0, 40, PhantomConfig(size=64))]
    of: dict[str, set[str]] = {}
    for fact in facts_from(films, chest).facts:
        of.setdefault(fact.args[0], set()).add(fact.relation)
    placed = {word.name for word in chest.ontology.scene_words.placed}
    rules = [r for r in chest.ontology.entailments() if len(r.body) == 2 and {a.predicate for a in r.body} & {*ZONES}]
    assert len(rules) == 12
    for rule in rules:
        body, head = {a.predicate for a in rule.body}, rule.head[0].predicate
        assert head in placed
        holds = [head in names for names in of.values() if body <= names]
        assert holds, rule
        assert all(holds), rule
