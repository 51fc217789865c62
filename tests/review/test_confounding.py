from __future__ import annotations

from random import Random

import pytest

from neurosym.knowledge import Knowledge
from neurosym.review.cohort import Cohort
from neurosym.review.confounding import Confounding
from tests.review.cohorts import TUBE, cohort, rule, severity_explains_the_tube, the_tube_itself_matters


def confounders(knowledge: Knowledge, text: str, *cohorts: Cohort) -> list[str]:
    return [c.attribute for c in Confounding(cohorts, knowledge.ontology).of(rule(text))[0]]


@pytest.mark.parametrize("seed", range(5))
def test_what_brings_both_the_tube_and_covid_explains_the_rule_away(thorax: Knowledge, seed: int) -> None:
    films = cohort(300, severity_explains_the_tube, seed)
    [found], _ = Confounding([films], thorax.ontology).of(rule(TUBE))
    assert found.attribute == "severe_opacity"
    assert found.crude > 0.3
    assert found.low < 0 < found.high
    assert found.message.startswith("among images with severe opacity, and among those without, the body says little")
    assert "it may be what both hang on" in found.message


@pytest.mark.parametrize("seed", range(5))
def test_an_effect_of_its_own_is_not_explained_away_by_what_goes_with_it(thorax: Knowledge, seed: int) -> None:
    assert confounders(thorax, TUBE, cohort(300, the_tube_itself_matters, seed)) == []


def test_hardly_ever_does_one_of_many_idle_variables_explain_a_true_rule(thorax: Knowledge) -> None:
    def draw(rng: Random) -> dict[str, object]:
        idle = [f"idle_{i}" for i in range(30) if rng.random() < 0.3]
        return {**(drawn := the_tube_itself_matters(rng)), "objects": (*drawn["objects"], *idle)}  # type: ignore[misc]

    flagged = [confounders(thorax, TUBE, cohort(80, draw, seed)) for seed in range(40)]
    assert sum(map(bool, flagged)) <= 2


def test_films_of_one_patient_are_no_further_evidence(thorax: Knowledge) -> None:
    """Twenty patients say too little of severity, however many films there are of each."""
    few, copied = (cohort(20, severity_explains_the_tube, 3, films_of_a_patient=n) for n in (1, 12))
    assert confounders(thorax, TUBE, few) == confounders(thorax, TUBE, copied) == []
    assert confounders(thorax, TUBE, cohort(300, severity_explains_the_tube, 3, films_of_a_patient=2)) == [
        "severe_opacity"
    ]


def at_one_site(rng: Random) -> dict[str, object]:
    site = rng.choice("AB")
    ill = rng.random() < (0.8 if site == "A" else 0.1)
    return {
        "study": ("covid",) * ill,
        "objects": ("tube",) * (rng.random() < (0.8 if site == "A" else 0.2)),
        "site": site,
    }


def test_a_site_that_has_more_of_both_is_told_of(thorax: Knowledge) -> None:
    [found], _ = Confounding([cohort(300, at_one_site)], thorax.ontology).of(rule(TUBE))
    assert (found.attribute, found.message[:28]) == ("site", "among images of the same sit")


def test_both_cohorts_are_looked_at_together(thorax: Knowledge) -> None:
    halves = [cohort(45, severity_explains_the_tube, 2, split) for split in ("test", "val")]
    assert "severe_opacity" in confounders(thorax, TUBE, *halves)


def test_a_site_where_alone_the_body_holds_cannot_be_told_from_it(thorax: Knowledge) -> None:
    def draw(rng: Random) -> dict[str, object]:
        site = rng.choice("AB")
        covid = rng.random() < (0.8 if site == "A" else 0.3)
        return {"study": ("covid",) * covid, "objects": ("tube",) * (site == "A"), "site": site}

    found, inseparable = Confounding([cohort(100, draw)], thorax.ontology).of(rule(TUBE))
    assert found == ()
    assert inseparable == (
        "site and the body cannot be told apart: where site is the same, the body holds always or never",
    )


def test_another_word_for_the_head_explains_nothing(thorax: Knowledge) -> None:
    """An attribute that the ontology ties to the head, a class above it, one disjoint with it, and a copy of it."""

    def draw(rng: Random) -> dict[str, object]:
        opacity = rng.random() < 0.5
        ill = rng.random() < (0.8 if opacity else 0.2)
        study = ("typical_appearance", "study_category") if ill else ("negative_for_pneumonia", "study_category")
        said = "typical_appearance" if ill else "negative_for_pneumonia"
        return {"study": study, "objects": ("opacity",) * opacity, "study ": said, "study_": said} | {"study": study}

    films = cohort(200, draw)
    assert confounders(thorax, "typical_appearance(S) :- film(S), opacity(O).", films) == []
