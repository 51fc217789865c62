from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from neurosym.errors import InductionError
from neurosym.induction import InductionConfig, induce
from neurosym.induction.engine import evaluate_rule
from neurosym.knowledge import Knowledge
from neurosym.records import Fact, FactStore, Rule, Term
from neurosym.review.assessment import Idle, load_assessments, save_assessments
from neurosym.review.cohort import Cohort, Film
from neurosym.review.ledger import normal_text
from neurosym.review.plausibility import Bounds, assess, bootstrap, passes
from tests.induction.made_up_films import films
from tests.review.cohorts import TUBE, cohort, found, rule, severity_explains_the_tube, the_tube_itself_matters
from tests.review.reviews import ANNOTATIONS

BOUNDS = Bounds(min_support=8, min_scenes=5, min_confidence=0.55)


def test_the_bootstrap_is_that_of_films_copied_as_often_as_their_patient_was_drawn() -> None:
    drawn = cohort(14, the_tube_itself_matters, seed=4, films_of_a_patient=2)
    texts = (TUBE, "covid(S) :- film(S).", "covid(S) :- film(S), severe_opacity(O).")
    counts = []
    for text in texts:
        per_film = [evaluate_rule(rule(text), drawn.only({f.image_id}).shown) for f in drawn.films]
        counts.append((np.array([e.support for e in per_film]), np.array([e.body_size for e in per_film])))
    shares = bootstrap(counts, drawn.patients, BOUNDS, resamples=60, seed=9)
    held = np.zeros(3)
    for row in np.random.default_rng(9).integers(14, size=(60, 14)):
        facts = [
            replace(f, scene=f"{f.scene}#{copy}", args=tuple(f"{a}#{copy}" for a in f.args))
            for copy, patient in enumerate(row)
            for f in drawn.facts.facts
            if f.scene.startswith(f"test-{patient:04}-")
        ]
        for i, text in enumerate(texts):
            measured = evaluate_rule(rule(text), FactStore(tuple(sorted(facts))))
            held[i] += (
                measured.support >= BOUNDS.min_support
                and measured.supporting_count >= BOUNDS.min_scenes
                and measured.confidence >= BOUNDS.min_confidence
            )
    assert shares == (held / 60).tolist()
    assert min(shares[0], shares[2]) > 0
    assert max(shares) < 1 or min(shares) < 1


def test_a_rule_far_from_the_bounds_is_held_always_and_one_at_the_bound_half_the_time() -> None:
    patients = np.arange(400)
    sure, at_the_bound = (patients % 10 > 0).astype(int), (patients % 5 > 0).astype(int)
    one = np.ones(400, dtype=int)
    sure_share, bound_share = bootstrap([(sure, one), (at_the_bound, one)], patients, Bounds(5, 3, 0.8), 1000)
    assert sure_share == 1.0
    assert bound_share == pytest.approx(0.5, abs=0.06)


def test_it_is_confirmed_on_the_films_of_other_patients_alone(thorax: Knowledge) -> None:
    discovery, other = (cohort(120, the_tube_itself_matters, 1, split) for split in ("test", "val"))
    shared = discovery.films[0].patient
    mixed = replace(other, films=tuple(replace(f, patient=shared) if i < 40 else f for i, f in enumerate(other.films)))
    [one] = assess([found(TUBE)], thorax, discovery, mixed, BOUNDS, resamples=10)
    kept = [f.image_id for f in other.films[40:]]
    alone = evaluate_rule(rule(TUBE), other.only(set(kept)).shown)
    assert one.confirmation is not None
    assert (one.confirmation.images, one.confirmation.support, one.confirmation.body_size) == (
        80,
        alone.support,
        alone.body_size,
    )


def test_films_of_one_place_are_the_same_and_of_one_name_in_two_folders_are_not() -> None:
    def of(folder: str) -> Cohort:
        return Cohort("x", tuple(Film(n, "", f"{folder}/{n}.png") for n in ("1", "2")), FactStore(()))

    assert len(of("a").apart_from(of("b")).films) == 2
    assert of("a").apart_from(of("a")).films == ()


def test_what_explains_a_rule_away_is_told_and_a_rule_that_stands_on_its_own_has_nothing(thorax: Knowledge) -> None:
    for draw, names in ((severity_explains_the_tube, ["severe_opacity"]), (the_tube_itself_matters, [])):
        discovery, other = (cohort(200, draw, 7, split) for split in ("test", "val"))
        [one] = assess([found(TUBE)], thorax, discovery, other, BOUNDS, resamples=10)
        assert [c.attribute for c in one.confounders] == names
        assert [(s.attribute, s.value) for s in one.subgroups] == [("sex", "F"), ("sex", "M")]
        assert sum(s.counted.images for s in one.subgroups) == 200


def by_site(rng: Random) -> dict[str, object]:
    site, tube = rng.choice(["Aachen", "Bonn"]), rng.random() < 0.6
    covid = rng.random() < (0.9 if site == "Aachen" else 0.3)
    drawn = {"study": ("covid",) * covid, "objects": ("tube",) * tube}
    return drawn | {"Institution": site, "Patient Age": f"{rng.randrange(90):03}Y", "view": "PA"}


def test_a_site_where_it_holds_less_often_is_told_of(thorax: Knowledge) -> None:
    [one] = assess([found(TUBE)], thorax, cohort(150, by_site), None, BOUNDS, resamples=10)
    assert [s.value for s in one.sites] == ["Aachen", "Bonn"]
    assert one.sites[0].counted.low > one.sites[1].counted.high  # type: ignore[operator]
    assert any(w.startswith("it holds less often where Institution is Bonn: 0.") for w in one.warnings)
    ages = [s.value for s in one.subgroups if s.attribute == "Patient Age"]
    assert ages == ["<18", "18–39", "40–64", "≥65"]
    assert one.confirmation is None


def test_a_rule_that_fails_elsewhere_is_told_of(thorax: Knowledge) -> None:
    def otherwise(rng: Random) -> dict[str, object]:
        return {"study": ("covid",) * (rng.random() < 0.1), "objects": ("tube",)}

    discovery, other = cohort(100, the_tube_itself_matters), cohort(100, otherwise, split="val")
    [one] = assess([found(TUBE, 75, 100)], thorax, discovery, other, BOUNDS, resamples=10)
    assert any(w.startswith("it holds less often where it was not found") for w in one.warnings)
    [none] = assess([found("covid(S) :- film(S), pacemaker(P).")], thorax, discovery, other, BOUNDS, resamples=10)
    assert "its body holds nowhere on the 100 images to confirm it on" in none.warnings


def spoilt_facts() -> FactStore:
    """Films on which a detector swaps lungs and takes hearts for lungs, so that what it shows breaks the knowledge."""
    rng = Random(3)
    facts: set[Fact] = set()
    for fact in films(24, seed=1).facts:
        facts.add(fact)
        if fact.relation == "heart":
            facts.add(replace(fact, relation="left_lung"))
        if fact.relation == "right_lung" and rng.random() < 0.9:
            facts.add(replace(fact, relation="left_lung"))
    return FactStore(tuple(sorted(facts)))


def test_no_contradicted_rule_passes_though_the_facts_bear_it_out(thorax: Knowledge) -> None:
    facts = spoilt_facts()
    candidates = induce(facts, InductionConfig(generations=0, top=60, min_support=10))
    names = sorted({f.scene for f in facts.facts})
    everything = Cohort("test", tuple(Film(n) for n in names), facts)
    assessed = assess(candidates, thorax, everything, None, BOUNDS, resamples=10)
    standing = {a.rule: a.standing for a in assessed}
    assert not any(passes(a) for a in assessed if a.standing == "contradicted")
    impossible = {normal_text(c.rule) for c in candidates if _shows_a_heart_that_is_a_lung(c.rule)}
    assert impossible
    assert {standing[text] for text in impossible} == {"contradicted"}


def _shows_a_heart_that_is_a_lung(of: Rule) -> bool:
    by_variable: dict[Term, set[str]] = {}
    for atom in (*of.head, *of.body):
        if len(atom.args) == 1:
            by_variable.setdefault(atom.args[0], set()).add(atom.predicate)
    return any({"heart", "left_lung"} <= names for names in by_variable.values())


def test_the_same_seed_gives_the_same_and_the_file_gives_it_back(thorax: Knowledge, tmp_path: Path) -> None:
    discovery, other = (cohort(60, severity_explains_the_tube, 7, split) for split in ("test", "val"))
    candidates = [found(TUBE), found("heart(X) :- left_lung(X).")]
    first, second = (assess(candidates, thorax, discovery, other, BOUNDS, resamples=50, seed=2) for _ in range(2))
    assert first == second
    assert [passes(a) for a in first] == [True, False]
    first[0] = replace(first[0], idle=(Idle("tube(T)", 0.1, -0.1, 0.3, "", "it adds nothing"),))
    save_assessments(tmp_path / "a.json", first, ANNOTATIONS, {"seed": 2})
    loaded, origin = load_assessments(tmp_path / "a.json")
    assert list(loaded.values()) == first
    assert origin == ANNOTATIONS


def test_a_file_of_before_parts_were_looked_at_tells_of_none(thorax: Knowledge, tmp_path: Path) -> None:
    made = assess([found(TUBE)], thorax, cohort(20, the_tube_itself_matters))
    save_assessments(tmp_path / "a.json", made, ANNOTATIONS)
    value = json.loads((tmp_path / "a.json").read_text())
    del value["assessments"][0]["idle"]
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert list(load_assessments(tmp_path / "a.json")[0].values()) == made


def test_a_rule_that_cannot_be_measured_says_why(thorax: Knowledge) -> None:
    [one] = assess([found("covid(S, T) :- film(S), tube(T).")], thorax, cohort(20, the_tube_itself_matters))
    assert one.held is None
    assert one.warnings == ("not measured: covid(S, T) has 2 arguments but the facts of 'covid' have 1",)


def test_a_file_that_holds_no_assessments_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"origin": {}}')
    with pytest.raises(InductionError, match="not a file of assessments"):
        load_assessments(tmp_path / "a.json")
