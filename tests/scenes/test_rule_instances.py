from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints.broken import broken_rules
from neurosym.knowledge import Knowledge, parse_rules
from neurosym.records import Box, Detection, Scene
from neurosym.scenes.rule_instances import RuleBook
from tests.conftest import CLASSES


def scenes(names: tuple[str, ...] = CLASSES, most: int = 7) -> st.SearchStrategy[Scene]:
    """Scenes of 100 by 80 pixels with boxes of whole pixels."""
    sides = st.tuples(st.integers(0, 60), st.integers(0, 50), st.integers(2, 40), st.integers(2, 30))
    boxes = sides.map(lambda s: Box(s[0], s[1], s[0] + s[2], s[1] + s[3]))
    scores = st.integers(1, 100).map(lambda n: n / 100)
    found = st.lists(st.builds(Detection, st.sampled_from(names), boxes, scores), max_size=most)
    return found.map(lambda detections: Scene("doe-17", 100, 80, tuple(detections)))


@settings(max_examples=60)
@given(scene=scenes())
def test_the_rules_that_are_broken_are_those_of_the_definition(thorax: Knowledge, scene: Scene) -> None:
    everything = sorted(set(thorax.ontology.categories.values()))
    found = RuleBook(thorax, everything).instances(scene, 0.5)
    expected = broken_rules([r for r in thorax.rules if r.body], scene, thorax.ontology, 0.5)
    told = {(i.rule, frozenset(i.detections)) for i in found if not i.holds}
    assert told == {(b.rule, frozenset(b.detections)) for b in expected}


@settings(max_examples=60)
@given(scene=scenes())
def test_a_rule_that_holds_rests_on_facts_of_the_detections_it_names(thorax: Knowledge, scene: Scene) -> None:
    for instance in RuleBook(thorax, CLASSES).instances(scene, 0.5):
        named = (*instance.detections, *instance.witnesses)
        assert all(scene.detections[i].score >= 0.5 for i in named)
        text = " ".join(instance.premises)
        assert all(f"#{i}" in text for i in named)
        assert "doe-17" not in text


def test_numbers_counts_and_negations_are_asked_too(thorax: Knowledge) -> None:
    [wide, many, alone] = parse_rules(
        "small_object(H) :- heart(H), width_share(H, W), W > 0.3. %! id=wide\n"
        ":- lung(L), count{N : nodule(N), inside(N, L)} > 1. %! id=many\n"
        "large_object(H) :- heart(H), \\+ overlaps(H, _). %! id=alone\n"
    )
    knowledge = replace(thorax, rules=(wide, many, alone))
    found = (Detection("heart", Box(0, 0, 40, 40)), Detection("left_lung", Box(50, 0, 100, 80)))
    found += tuple(Detection("nodule", Box(x, 10, x + 5, 15)) for x in (60, 70))
    instances = RuleBook(knowledge, CLASSES).instances(Scene("a", 100, 80, found))
    assert [(i.rule.id, i.holds, i.detections) for i in instances] == [
        ("wide", False, (0,)),
        ("many", False, (1,)),
        ("alone", True, (0,)),
    ]
    assert any(p.startswith("0.4") and p.endswith(" > 0.3") for p in instances[0].premises)
    assert any("= 2" in p for p in instances[1].premises)


def test_a_rule_that_asks_for_what_nobody_looks_for_is_not_called_broken(thorax: Knowledge) -> None:
    [tube] = parse_rules("inside(T, A), airways(A) :- endotracheal_tube(T). %! id=tube")
    scene = Scene("a", 100, 80, (Detection("endotracheal_tube", Box(0, 0, 5, 5)),))
    knowledge = replace(thorax, rules=(tube,))
    assert RuleBook(knowledge, ("endotracheal_tube",)).instances(scene) == ()
    assert not RuleBook(knowledge, ("endotracheal_tube", "trachea")).instances(scene)[0].holds


def test_a_label_of_the_film_counts_from_the_threshold_on(thorax: Knowledge) -> None:
    [rule] = parse_rules("opacity(X), inside(X, L), lung(L) :- pneumonia_study(S). %! id=shows")
    knowledge = replace(thorax, rules=(rule,))
    found = (Detection("left_lung", Box(0, 0, 50, 80)), Detection("nodule", Box(10, 10, 20, 20)))
    book = RuleBook(knowledge, CLASSES)
    sure = Scene("a", 100, 80, found, {"viral_pneumonia_study": 0.8})
    [shows] = book.instances(sure)
    assert (shows.holds, shows.detections, set(shows.witnesses)) == (True, (), {0, 1})
    assert book.instances(replace(sure, labels={"viral_pneumonia_study": 0.4})) == ()
    assert not book.instances(replace(sure, detections=found[:1]))[0].holds
