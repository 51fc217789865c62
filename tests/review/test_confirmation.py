from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from neurosym.knowledge import Knowledge, parse_rules
from neurosym.knowledge.rules import read_rules
from neurosym.learning.config import TrainConfig
from neurosym.learning.runfolder import copy_of, open_run
from neurosym.learning.taught import knowledge_acts, taught_rules
from neurosym.logic import Atom, Rule, Term
from neurosym.review.confirmation import self_confirming
from neurosym.review.origin import origin_of_annotations, origin_of_predictions
from tests.review.reviews import ANNOTATIONS, TAUGHT, candidate, predictions

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("left_of(X, Y) :- heart(Y), right_lung(X).", "with this rule"),
        ("left_of(X, Y) :- heart(Y), near(X, Y), right_lung(X).", "with what it follows from"),
        ("right_of(Y, X) :- right_lung(X), heart(Y).", "with what it follows from"),
    ],
)
def test_predictions_of_a_model_that_was_taught_the_rule_are_no_evidence(
    thorax: Knowledge, text: str, what: str
) -> None:
    why = self_confirming(candidate(text), predictions(TAUGHT), thorax)
    assert why == f"its facts are predictions of runs/a, which was trained {what}: taught_1 `{TAUGHT}`"


@pytest.mark.parametrize(
    "text",
    [
        "left_of(X, Y) :- heart(X), right_lung(Y).",
        "left_of(X, Y) :- right_lung(X), left_lung(Y).",
        "left_of(X, Y) :- right_lung(X), near(X, Y).",
        "near(X, Y) :- right_lung(X), heart(Y).",
    ],
)
def test_other_rules_are_not_taught_by_it(thorax: Knowledge, text: str) -> None:
    assert self_confirming(candidate(text), predictions(TAUGHT), thorax) == ""


def test_a_rule_about_a_class_teaches_the_rules_about_the_classes_below(thorax: Knowledge) -> None:
    origin = predictions("0.999 :: large_object(L) :- lung(L).")
    assert "large_object(L) :- lung(L)" in self_confirming(
        candidate("large_object(X) :- left_lung(X)."), origin, thorax
    )
    assert self_confirming(candidate("large_object(X) :- left_lung(X)."), origin) == ""  # without the hierarchy
    assert self_confirming(candidate("large_object(X) :- opacity(X)."), origin, thorax) == ""


def test_rules_that_teach_it_only_together_are_all_named_and_no_others() -> None:
    origin = predictions("b(X) :- a(X).", "e(X) :- d(X).", "c(X) :- b(X).")
    why = self_confirming(candidate("c(X) :- a(X)."), origin)
    assert "taught_1 `b(X) :- a(X).` and taught_3 `c(X) :- b(X).`" in why
    assert "taught_2" not in why


def test_a_rule_with_a_condition_teaches_only_where_the_condition_is_met() -> None:
    origin = predictions(r"near(X, Y) :- heart(X), lung(Y), \+ small(X).")
    assert self_confirming(candidate("near(X, Y) :- heart(X), lung(Y)."), origin) == ""
    assert self_confirming(candidate(r"near(X, Y) :- heart(X), lung(Y), \+ small(X)."), origin)


def test_existential_and_equality_rules_are_known_again() -> None:
    taught = ("inside(N, L), lung(L) :- nodule(N).", "X = Y :- heart(X), heart(Y).")
    for text in ("lung(Q), inside(P, Q) :- nodule(P).", "B = A :- heart(A), heart(B)."):
        assert "with this rule" in self_confirming(candidate(text), predictions(*taught))


def test_annotations_are_evidence_whatever_a_model_was_taught(thorax: Knowledge) -> None:
    assert self_confirming(candidate(TAUGHT), ANNOTATIONS, thorax) == ""


@pytest.mark.parametrize("origin", [{}, {"facts": "", "run": "x"}, {"facts": "predictions", "split": "test"}])
def test_facts_of_unknown_origin_are_no_evidence(origin: dict[str, str]) -> None:
    assert "it is not told whether its facts are of annotations" in self_confirming(candidate(TAUGHT), origin)


def test_a_model_whose_teaching_is_not_told_in_full_is_no_evidence() -> None:
    why = self_confirming(candidate(TAUGHT), predictions(untold="runs/first: not a run folder"))
    assert why.endswith("it is not told what that was trained with: runs/first: not a run folder")


V = [Term(name) for name in "XYZ"]
ATOMS = st.one_of(
    st.builds(lambda p, v: Atom(p, (v,)), st.sampled_from("abc"), st.sampled_from(V)),
    st.builds(lambda p, v: Atom(p, tuple(v[:2])), st.sampled_from("rs"), st.permutations(V)),
)


@st.composite
def horn_rules(draw: st.DrawFn) -> Rule:
    body = tuple(draw(st.lists(ATOMS, min_size=1, max_size=2, unique=True)))
    bound = {t for atom in body for t in atom.args}
    heads = ATOMS.filter(lambda a: set(a.args) <= bound and a not in body)
    fallback = Atom("d", body[0].args[:1])
    head = draw(st.one_of(st.just(fallback), heads)) if len(bound) > 1 else fallback
    return Rule((head,), body)


def consequences(atoms: set[Atom], rules: list[Rule]) -> set[Atom]:
    """Every ground atom that follows, by trying all ways to give distinct variables distinct objects."""
    objects = sorted({t for atom in atoms for t in atom.args})
    while True:
        new: set[Atom] = set()
        for rule in rules:
            variables = sorted({t for atom in rule.body for t in atom.args})
            for chosen in permutations(objects, len(variables)):
                theta = dict(zip(variables, chosen, strict=True))
                ground = [Atom(a.predicate, tuple(theta[t] for t in a.args)) for a in (*rule.body, *rule.head)]
                if set(ground[:-1]) <= atoms:
                    new.add(ground[-1])
        if new <= atoms:
            return atoms
        atoms = atoms | new


@given(st.lists(horn_rules(), max_size=4), horn_rules())
def test_a_rule_is_taught_exactly_if_its_head_follows_from_its_body_by_the_rules(rules: list[Rule], goal: Rule) -> None:
    follows = set(goal.head) <= consequences(set(goal.body), rules)
    assert bool(self_confirming(goal, predictions(*map(str, rules)))) == follows


# --- what a run was taught ----------------------------------------------------------------------------------------


def run_folder(
    folder: Path, rules: str, constraints: float = 0.3, initial: str = "", then: str | None = None, **more: object
) -> Path:
    """A run folder as a training leaves it, without a checkpoint; `then` is what the rule file says since."""
    folder.mkdir(parents=True)
    file = folder / "x.rules"
    file.write_text(rules)
    knowledge = [str(ROOT / "ontologies/thorax.ttl"), str(file)]
    data = {"format": "phantom", "size": 64, "train": {"start": 0, "count": 2}, "test": {"start": 9, "count": 2}}
    values = {"name": "x", "knowledge": knowledge, "data": data, "constraints": {"weight": constraints}}
    config = TrainConfig.model_validate(values | {"initial": initial, "base": folder} | more)
    settings = config.model_dump(mode="json") | {"names": ["heart", "lung"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    copy_of(folder, file).parent.mkdir()
    copy_of(folder, file).write_text(rules)
    if then is not None:
        file.write_text(then)
    return folder


def taught_texts(folder: Path) -> list[str]:
    return [str(r) for r in taught_rules(open_run(folder)).rules if r.file.endswith(".rules")]


def test_a_run_was_taught_the_rules_as_they_were_when_it_was_trained(tmp_path: Path) -> None:
    now = "near(X, Y) :- heart(X), lung(Y).\n"
    assert taught_texts(run_folder(tmp_path / "a", TAUGHT, then=now)) == [TAUGHT]


def test_a_run_in_which_no_rule_acts_was_taught_none(tmp_path: Path) -> None:
    assert taught_rules(open_run(run_folder(tmp_path / "a", TAUGHT, constraints=0.0))).rules == ()


def test_candidate_and_rejected_rules_teach_nothing(tmp_path: Path) -> None:
    rules = f"{TAUGHT} %! status=rejected\nnear(X, Y) :- heart(X), lung(Y). %! status=accepted"
    assert taught_texts(run_folder(tmp_path / "a", rules)) == ["near(X, Y) :- heart(X), lung(Y)."]


@pytest.mark.parametrize(
    "more",
    [
        {"refiner": {"enabled": True}, "teacher": {"weight": 1}},
        {"energy": {"weight": 1}},
        {"compose": {"rate": 0.5}},
        {"instances": {"enabled": True}},
    ],
)
def test_rules_that_act_otherwise_than_by_a_loss_are_taught_too(tmp_path: Path, more: dict[str, object]) -> None:
    folder = run_folder(tmp_path / "a", TAUGHT, constraints=0.0, **more)
    assert knowledge_acts(open_run(folder).config)
    assert taught_texts(folder) == [TAUGHT]


def test_a_run_was_also_taught_what_the_run_was_that_it_started_from(tmp_path: Path) -> None:
    first = run_folder(tmp_path / "a", TAUGHT)
    second = run_folder(tmp_path / "b", "near(X, Y) :- heart(X), lung(Y).", 0.0, initial=str(first))
    third = run_folder(tmp_path / "c", "near(X, Y) :- lung(X), heart(Y).", initial=str(second))
    assert taught_texts(third) == ["near(X, Y) :- lung(X), heart(Y).", TAUGHT]


def test_a_run_that_started_from_one_that_is_gone_does_not_know_all_it_was_taught(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "b", TAUGHT, initial=str(tmp_path / "gone"))
    assert "gone: not a run folder" in taught_rules(open_run(folder)).untold


def test_the_origin_of_predictions_tells_the_rules_and_every_taught_rule_confirms_itself(tmp_path: Path) -> None:
    rules = (ROOT / "rules/thorax.rules").read_text()
    run = open_run(run_folder(tmp_path / "runs/a", rules))
    origin = origin_of_predictions(run, "test", 0.5, "step-1", ["f2", "f1", "f2"])
    assert (origin["facts"], origin["run"], origin["images"]) == ("predictions", "runs/a", ["f1", "f2"])
    written = read_rules(ROOT / "rules/thorax.rules")
    told = [(e["id"], str(parse_rules(e["rule"])[0])) for e in origin["trained_with"]]
    assert told[: len(written)] == [(r.id, str(r)) for r in written]
    for rule in written:
        assert f"with this rule: {rule.id} " in self_confirming(rule, origin)
        assert self_confirming(rule, origin_of_annotations(run, "test", [])) == ""
