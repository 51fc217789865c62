from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings

from neurosym.constraints import ConstraintSet, compile_constraints, groundings, violation
from neurosym.constraints.shapes import moved
from neurosym.errors import ConstraintError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.knowledge.rules import parse_rules
from neurosym.records import Rule, Scene
from tests.constraints.scenes_and_rules import (
    CHECKED,
    EVERY_SHAPE,
    LEAVES,
    ROOT,
    THORAX,
    compiled,
    scenes,
)
from tests.oracles.rules import evaluate

OVERLAPPING = ("lung", *LEAVES)
HEADER = """@prefix : <http://x.org/> . @prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix ns: <https://w3id.org/neurosym/core#> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
<http://x.org/o> a owl:Ontology ; owl:imports <https://w3id.org/neurosym/core> .
"""


def reason(text: str, names: tuple[str, ...] = LEAVES, exclusive: bool = True) -> str:
    knowledge = Knowledge(THORAX.ontology, parse_rules(text), CHECKED)
    constraints = compile_constraints(knowledge, names, required=False, exclusive=exclusive)
    [(_, why)] = constraints.unused
    return why


def own(tmp_path: Path, text: str, *rules: str) -> Knowledge:
    """Knowledge of a small ontology of its own."""
    for name in ("neurosym.ttl", "catalog-v001.xml"):
        (tmp_path / name).write_bytes((ROOT / "ontologies" / name).read_bytes())
    (tmp_path / "o.ttl").write_text(HEADER + text)
    (tmp_path / "r.rules").write_text("\n".join(rules))
    return load_knowledge([tmp_path / "o.ttl", tmp_path / "r.rules"])


def test_each_rule_that_constrains_nothing_says_why(thorax: Knowledge) -> None:
    unused = {rule.id: why for rule, why in compile_constraints(thorax, ("left_lung", "heart")).unused}
    assert unused["one_right_lung"] == "no category of this data set is tied to 'right_lung'"
    assert "lung_is_large" not in unused


EXCLUDED = "it is about a single object's classes, which exclude each other in the detector anyway"
FOLLOWS = "its head follows from its body by the class hierarchy already"
UNEQUAL = "measurements are never exactly equal; compare them with a range"
UNTIED = "has no category, so no data can show it; add ns:category to it in the ontology"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("heart(h1).", "it is a fact, about no object of an image"),
        ("left_of(X, h1) :- heart(X).", "it names a constant; objects of an image have no names"),
        (":- heart(X), width_share(h1, W), W > 0.5.", "it names a constant; objects of an image have no names"),
        ("left_of(X, Z) :- heart(X), heart(Y), heart(Z).", "it relates 3 objects; constraints relate at most 2"),
        ("left_of(X, Z), inside(Z, Y) :- heart(X), heart(Y).", "it relates 3 objects; constraints relate at most 2"),
        ("larger_than(H, M) :- heart(H), mass(M).", f"class 'mass' {UNTIED}"),
        (
            "larger_than(H, T) :- heart(H), typical_appearance(T).",
            "class 'typical_appearance' is said of whole images; it constrains no detector",
        ),
        ("left_of(A, H) :- airways(A), heart(H).", "no category of this data set is tied to 'airways'"),
        (":- heart(X), lung(X).", EXCLUDED),
        ("lung(X) :- left_lung(X).", FOLLOWS),
        ("opacity(X), finding(X) :- nodule(X), small_object(X).", FOLLOWS),
        (":- heart(X), width_share(X, W), W =:= 0.5.", f"W =:= 0.5: {UNEQUAL}"),
        (":- heart(X), width_share(X, 0.5).", f"width_share(X, 0.5): {UNEQUAL}"),
        (":- heart(X), count{N : nodule(N)} > 100.", "count{N : nodule(N)} > 100 counts beyond 64"),
        (
            ":- heart(X), width_share(X, W), count{N : nodule(N)} > W.",
            "count{N : nodule(N)} > W: a count may only be compared with a number",
        ),
        (
            ":- heart(X), count{N, M : nodule(N), inside(N, M)} > 1.",
            "count{N, M : nodule(N), inside(N, M)} does not count one kind of object",
        ),
        (
            "width_share(X, 0.5) :- heart(X).",
            "width_share(X, 0.5) in its head sets a measurement, which the boxes decide",
        ),
        (r":- heart(X), \+ inside(_, _).", r"\+ inside(_, _) speaks of no object of the rule"),
        (":- heart(X), width_share(X, W), V is W * 2, V > Q.", "Q is no measurement that an image can show"),
        (":- heart(X), width_share(X, W), W > 1 - 1, 2 > 1.", "2 > 1 measures no object"),
    ],
)
def test_the_reason_is_plain(text: str, why: str) -> None:
    assert reason(text) == why


def test_a_relation_without_a_geometric_word_cannot_be_shown(tmp_path: Path) -> None:
    text = """:a a owl:Class ; ns:category "a" . :touches a owl:ObjectProperty .
    :dose a owl:DatatypeProperty ; rdfs:range xsd:decimal ."""
    knowledge = own(tmp_path, text, "touches(X, Y) :- a(X), a(Y).", ":- a(X), dose(X, D), D > 3.")
    found = compile_constraints(knowledge, ("a",), required=False)
    assert {why for _, why in found.unused} == {"a relation in it has no ns:predicate, so an image cannot show it"}


def test_a_class_without_any_category_says_what_to_add(thorax: Knowledge, tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text("left_of(H, L) :- heart(H), left_lung(L).\nlarger_than(H, M) :- heart(H), mass(M).")
    knowledge = load_knowledge([ROOT / "ontologies/thorax.ttl", path])
    [(rule, why)] = [(r, w) for r, w in compile_constraints(knowledge, ("heart", "left_lung")).unused if r.line == 2]
    assert str(rule) == "larger_than(H, M) :- heart(H), mass(M)."
    assert why == "class 'mass' has no category, so no data can show it; add ns:category to it in the ontology"


def test_a_rule_set_that_constrains_nothing_is_an_error(blood: Knowledge) -> None:
    with pytest.raises(ConstraintError, match="no rule constrains this detector"):
        compile_constraints(Knowledge(blood.ontology, ()), ("platelet",))


def test_a_class_that_the_ontology_does_not_have_is_an_error(thorax: Knowledge) -> None:
    with pytest.raises(ConstraintError, match=r"the detector's class 'spleen' is not in .*thorax.ttl"):
        compile_constraints(thorax, ("spleen",))


def test_hard_rules_that_contradict_each_other_are_named() -> None:
    rules = parse_rules(
        "inside(N, L) :- nodule(N), lung(L).  %! id=in\n:- nodule(N), lung(L), inside(N, L).  %! id=out", "x.rules"
    )
    with pytest.raises(ConstraintError, match=r"x.rules:1: the rule contradicts 'out' \(x.rules:2\)"):
        compile_constraints(Knowledge(THORAX.ontology, rules), LEAVES)
    assert len(compile_constraints(Knowledge(THORAX.ontology, rules), LEAVES, required=False).rules) == 2
    soft = parse_rules("0.9 :: inside(N, L) :- nodule(N), lung(L).\n:- nodule(N), lung(L), inside(N, L).")
    assert len(compile_constraints(Knowledge(THORAX.ontology, soft), LEAVES).rules) == 2


@pytest.mark.parametrize("text", ["consolidation(X) :- nodule(X).", "inside(N, Z), lung(Z), heart(Z) :- nodule(N)."])
def test_a_hard_rule_that_no_detection_can_satisfy_is_an_error(text: str) -> None:
    rules = parse_rules(f"small_object(N) :- nodule(N).\n{text}  %! id=both", "x.rules")
    with pytest.raises(ConstraintError, match=r"x.rules:2: both: .*exclude each other in the detector"):
        compile_constraints(Knowledge(THORAX.ontology, rules, CHECKED), LEAVES)
    weighted = parse_rules(f"small_object(N) :- nodule(N).\n0.9 :: {text}")
    constraints = compile_constraints(Knowledge(THORAX.ontology, weighted, CHECKED), LEAVES)
    assert "exclude each other" in constraints.unused[0][1]


def test_rules_keep_their_id_place_and_source() -> None:
    constraints = compile_constraints(THORAX, LEAVES)
    by_id = {rule.id: rule for rule in constraints.rules}
    rule = by_id["right_lung_left_of_heart"]
    assert rule.file.endswith("rules/thorax.rules")
    assert rule.line > 0
    assert rule.meta["source"] == "jsrt train: 155 of 155 pairs"


def test_what_an_axiom_says_of_geometry_becomes_a_rule_with_the_axioms_iri(tmp_path: Path) -> None:
    text = """:a a owl:Class ; rdfs:subClassOf ns:small_object ; ns:category "a" .
    :b a owl:Class ; rdfs:subClassOf :a ; ns:category "b" .
    :c a owl:Class ; owl:disjointWith ns:lower_zone ; ns:category "c" ; ns:zoned true .
    :held_by a owl:ObjectProperty ; ns:predicate "inside" ; rdfs:range :c .
    :d a owl:Class ; ns:category "d" ;
        rdfs:subClassOf [ a owl:Restriction ; owl:onProperty :held_by ; owl:someValuesFrom :c ] ."""
    constraints = compile_constraints(own(tmp_path, text), ("a", "b", "c", "d"))
    spelled = {str(rule): rule for rule in constraints.rules}
    assert set(spelled) == {
        "small_object(X) :- a(X).",
        ":- c(X), lower_zone(X).",
        "c(Y) :- held_by(X, Y).",
        "held_by(X, Y), c(Y) :- d(X).",
    }
    small = spelled["small_object(X) :- a(X)."]
    assert (small.meta["axiom"], small.file.endswith("o.ttl"), small.line) == (
        "http://x.org/a",
        True,
        HEADER.count("\n") + 1,
    )
    kinds = torch.eye(5)[1:]
    boxes = torch.tensor([[0.0, 0, 50, 50], [0, 0, 50, 50], [0, 0, 90, 90], [0, 0, 5, 5]])
    index = [str(r) for r in constraints.rules].index("small_object(X) :- a(X).")
    found = violation(constraints, kinds, boxes, 1e-4, size=(100, 100))
    assert (float(found.fired[index]), float(found.violated[index])) == pytest.approx((2.0, 2.0), abs=1e-4)


def test_classes_that_may_overlap_make_hierarchy_and_disjointness_rules_with_violations() -> None:
    constraints = compiled(names=OVERLAPPING, exclusive=False)
    spelled = [str(rule) for rule in constraints.rules]
    assert "lung(X) :- left_lung(X)." in spelled
    assert ":- left_lung(X), right_lung(X)." in spelled
    assert "opacity(X) :- nodule(X)." not in spelled  # the detector knows no opacity but these
    assert ":- ground_glass_opacity(X), consolidation(X)." not in spelled
    p = torch.rand(4, len(OVERLAPPING) + 1, generator=torch.Generator().manual_seed(0))
    found = violation(constraints, p, torch.rand(4, 4))
    lung, left, right = (p[:, OVERLAPPING.index(name) + 1] for name in ("lung", "left_lung", "right_lung"))
    upward, apart = spelled.index("lung(X) :- left_lung(X)."), spelled.index(":- left_lung(X), right_lung(X).")
    torch.testing.assert_close(found.fired[upward], left.sum())
    torch.testing.assert_close(found.violated[upward], (left * (1 - lung)).sum())
    torch.testing.assert_close(found.violated[apart], (left * right).sum())
    assert not compiled(*parse_rules("small_object(N) :- nodule(N)."), names=LEAVES).rules[1:]


def test_a_class_above_overlapping_ones_is_their_probabilistic_or() -> None:
    names = ("ground_glass_opacity", "consolidation", "nodule", "heart")
    constraints = compiled(*parse_rules("small_object(X) :- opacity(X), \\+ nodule(X)."), names=names, exclusive=False)
    p = torch.tensor([[0.0, 0.6, 0.5, 0.3, 0.1]], dtype=torch.float64)
    found = violation(constraints, p, torch.tensor([[0.0, 0, 50, 50]], dtype=torch.float64), 1e-4, size=(100, 100))
    index = [str(r) for r in constraints.rules].index("small_object(X) :- opacity(X), \\+ nodule(X).")
    assert float(found.fired[index]) == pytest.approx((1 - 0.4 * 0.5 * 0.7) * 0.7)
    assert float(found.violated[index]) == pytest.approx((1 - 0.4 * 0.5 * 0.7) * 0.7)


@given(scenes())
@settings(max_examples=30)
def test_overlapping_classes_are_crisply_what_the_name_of_a_detection_says(scene: Scene) -> None:
    constraints = compiled(*EVERY_SHAPE, names=OVERLAPPING, exclusive=False)
    found = groundings(constraints, scene)
    for index, rule in enumerate(constraints.rules):
        mine = [g for g in found if g.rule == index]
        assert (len(mine), sum(not g.holds for g in mine)) == evaluate(rule, scene, THORAX.ontology), str(rule)


def test_words_that_say_the_same_share_a_number() -> None:
    texts = ("left_of(X, Y)", "right_of(Y, X)", "patient_right_of(X, Y)", "patient_left_of(Y, X)")
    constraints = compiled(*parse_rules("\n".join(f"{t} :- heart(X), nodule(Y)." for t in texts)))
    assert len(constraints.pairs.head.unique()) == 1
    assert len(constraints.broken_blocks.plus) == 1


def test_a_thousand_rules_are_a_handful_of_matrices() -> None:
    words = ("left_of", "above", "inside", "near")
    pairs = [(a, b) for a in LEAVES for b in LEAVES for _ in range(5)]
    text = "\n".join(f"0.9 :: {w}(X, Y) :- {a}(X), {b}(Y)." for a, b in pairs for w in words)
    constraints = compiled(*parse_rules(text))
    assert len(constraints.rules) == 980
    assert constraints.broken_blocks.plus.shape[0] == len(words)
    assert constraints.columns.shape[0] == 1 + len(LEAVES)


def test_existential_rules_can_be_read_by_themselves() -> None:
    constraints = compiled(*EVERY_SHAPE)
    group = constraints.existentials
    spelled = {constraints.rules[i].id for i in group.rule.tolist()}
    assert spelled == {"existential", "existential_of_anything"}
    lungs = {LEAVES.index(name) + 1 for name in ("left_lung", "right_lung")}
    row = [constraints.rules[i].id for i in group.rule.tolist()].index("existential")
    assert set(constraints.closure[:, group.second[row]].nonzero().flatten().tolist()) == lungs


def test_moving_a_constraint_set_moves_every_tensor() -> None:
    def devices(value: object) -> set[str]:
        if isinstance(value, torch.Tensor):
            return {value.device.type}
        if isinstance(value, tuple):
            return set().union(*map(devices, value)) if value else set()
        if not is_dataclass(value) or isinstance(value, Rule):  # rules hold no tensor
            return set()
        return set().union(*(devices(getattr(value, f.name)) for f in fields(value)))

    constraints: ConstraintSet = compiled(*EVERY_SHAPE)
    assert devices(constraints) == {"cpu"}
    assert devices(moved(constraints, "meta")) == {"meta"}
    p, boxes = torch.zeros(1, len(LEAVES) + 1), torch.zeros(1, 4)
    there = constraints.to("cpu")
    torch.testing.assert_close(violation(there, p, boxes).fired, violation(constraints, p, boxes).fired)


def test_compiling_is_deterministic() -> None:
    one, other = compiled(*EVERY_SHAPE), compiled(*EVERY_SHAPE)
    assert torch.equal(one.columns, other.columns)
    assert torch.equal(one.pairs.head, other.pairs.head)


def test_words_of_whole_scenes_constrain_no_detector_and_say_so(thorax: Knowledge, tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text(
        "left_of(H, L) :- heart(H), left_lung(L).\n"
        "0.9 :: left_sided(X) :- nodule(X).\n"
        "0.9 :: mirrors(X, Y) :- nodule(X), nodule(Y).\n"
        "0.9 :: :- nodule(X), nodule(Y), single_nodule(S).\n"
    )
    chest = ROOT / "ontologies/chest-facts.ttl"
    found = compile_constraints(load_knowledge([chest, path]), LEAVES)
    text = "read off a whole scene, for facts and induction; it constrains no detector"
    assert {rule.line: why for rule, why in found.unused if rule.file.endswith("x.rules")} == {
        2: f"class 'left_sided' is {text}",
        3: f"relation 'mirrors' is {text}",
        4: "it relates 3 objects; constraints relate at most 2",
    }
    more, plain = (
        compile_constraints(load_knowledge([o, ROOT / "rules/thorax.rules"]), LEAVES)
        for o in (chest, ROOT / "ontologies/thorax.ttl")
    )
    assert [str(r) for r in more.rules] == [str(r) for r in plain.rules], "declaring them trains nothing else"
