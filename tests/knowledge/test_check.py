from __future__ import annotations

from pathlib import Path

import pytest

from neurosym.errors import KnowledgeError
from neurosym.knowledge import check_files, load_knowledge

ROOT = Path(__file__).parents[2]


def problems_of(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "x.rules"
    path.write_text(text)
    _, problems = check_files([ROOT / "ontologies/thorax.ttl", path])
    return [str(p).removeprefix(f"{tmp_path}/") for p in problems]


def test_the_shipped_rules_are_free_of_problems() -> None:
    for name in ("thorax", "blood"):
        assert load_knowledge([ROOT / f"ontologies/{name}.ttl", ROOT / f"rules/{name}.rules"]).rules


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("insde(X, L), lung(L) :- nodule(X).", "x.rules:1: unknown relation 'insde'; did you mean 'inside'?"),
        ("left_of(X, Y) :- hart(X), lung(Y).", "x.rules:1: unknown class 'hart'; did you mean 'heart'?"),
        ("heart(X, Y) :- lung(X), lung(Y).", "x.rules:1: 'heart' is a class: expected 1 argument(s), found 2"),
        ("left_of(X) :- lung(X).", "x.rules:1: 'left_of' is a relation: expected 2 argument(s), found 1"),
        ("left_of(X, Y, Z) :- lung(X), lung(Y), lung(Z).", "left_of(X, Y, Z) has 3 arguments; expected 1 (class) or 2"),
        ("heart(Y) :- lung(X).", "x.rules:1: unsafe rule: the body does not bind Y"),
        ("X = Z :- heart(X).", "x.rules:1: unsafe rule: the body does not bind Z"),
        ("heart(X).", "x.rules:1: a fact must not have variables"),
        (
            "left_of(X, Y) :- heart(X), lung(Y).\nleft_of(A, B) :- lung(B), heart(A).",
            "x.rules:2: the rule says the same as",
        ),
        (
            "left_of(X, Y) :- heart(X), lung(Y). %! id=a\nabove(X, Y) :- heart(X), lung(Y). %! id=a",
            "x.rules:2: id 'a' is used before in",
        ),
        (
            "left_of(X, Y) :- heart(X), nodule(Y).\n:- heart(X), nodule(Y), left_of(X, Y).",
            "x.rules:1: contradicts the denial in",
        ),
        (
            "left_of(X, Y) :- heart(X), nodule(Y).\nleft_of(Y, X) :- heart(X), nodule(Y).",
            "x.rules:2: orders the same objects the other way round than",
        ),
    ],
)
def test_a_mistake_in_a_rule_is_found_before_training(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in p for p in problems_of(tmp_path, text)), problems_of(tmp_path, text)


def test_rules_that_no_scene_can_keep_or_fire_are_found(tmp_path: Path) -> None:
    inverse = "left_of(X, Y) :- heart(X), nodule(Y).\nright_of(X, Y) :- heart(X), nodule(Y)."
    assert "x.rules:2: orders the same objects the other way round than" in problems_of(tmp_path, inverse)[0]
    agreeing = "left_of(X, Y) :- heart(X), nodule(Y).\nright_of(Y, X) :- heart(X), nodule(Y)."
    assert problems_of(tmp_path, agreeing) == []
    [disjoint] = problems_of(tmp_path, "near(X, Y) :- left_lung(X), right_lung(X), heart(Y).")
    assert "the rule can never fire: X cannot be both 'left_lung' and 'right_lung', which are disjoint" in disjoint
    [both] = problems_of(tmp_path, "left_of(X, Y) :- nodule(X), nodule(Y).")
    assert "orders the same objects the other way round than it does itself" in both
    [head] = problems_of(tmp_path, "left_of(X, X) :- heart(X).")
    assert "left_of(X, X) relates an object to itself" in head
    [itself] = problems_of(tmp_path, "near(X, Y) :- heart(X), nodule(Y), left_of(X, X).")
    assert "left_of(X, X) relates an object to itself" in itself


def test_a_weighted_rule_may_contradict_another(tmp_path: Path) -> None:
    text = "0.9 :: left_of(X, Y) :- heart(X), nodule(Y).\n0.3 :: left_of(Y, X) :- heart(X), nodule(Y)."
    assert problems_of(tmp_path, text) == []


def test_problems_of_several_rules_are_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "left_of(X, Y :- heart(X).\nlung(X) :- hart(X).\nnear(X, Y) :- lungs(X), heart(Y)."
    assert [p.split(":")[1] for p in problems_of(tmp_path, text)] == ["1", "2", "3"]


def test_a_rule_of_a_file_replaces_the_same_axiom_of_the_ontology(tmp_path: Path) -> None:
    path = tmp_path / "x.rules"
    path.write_text("0.5 :: inside(N, L), lung(L) :- nodule(N).")
    rules = load_knowledge([ROOT / "ontologies/thorax.ttl", path]).rules
    about = [r for r in rules if r.body[0].predicate == "nodule" and r.existential]
    assert [r.weight for r in about] == [0.5]


def test_a_file_of_another_kind_and_a_missing_ontology_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(KnowledgeError) as error:
        load_knowledge([tmp_path / "x.docx"])
    assert "unknown kind of knowledge file '.docx'" in str(error.value)
    assert "no ontology given" in str(error.value)
