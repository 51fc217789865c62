"""Cohorts made by a generating rule, so that it is known what is true of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from neurosym.knowledge import parse_rules
from neurosym.records import Candidate, Fact, FactStore, Rule
from neurosym.review.cohort import Cohort, Film
from tests.review.reviews import candidate

TUBE = "covid(S) :- film(S), tube(T)."
Draw = Callable[[Random], Mapping[str, object]]
"""What is on one film: classes of the film as a whole by `study`, of objects by `objects`, attributes by their names."""


def rule(text: str) -> Rule:
    [parsed] = parse_rules(text)
    return parsed


def found(text: str, support: int = 90, body_size: int = 100) -> Candidate:
    return candidate(text, support, body_size)


def cohort(count: int, draw: Draw, seed: int = 0, split: str = "test", films_of_a_patient: int = 1) -> Cohort:
    """Films drawn one after the other; the films of a patient show the same."""
    rng = Random(f"{split}{seed}")
    films: list[Film] = []
    facts: list[Fact] = []
    for patient in range(count):
        drawn = dict(draw(rng))
        study, objects = (tuple(drawn.pop(k, ())) for k in ("study", "objects"))  # type: ignore[arg-type]
        for number in range(films_of_a_patient):
            name = f"{split}-{patient:04}-{number}"
            films.append(Film(name, f"{split} p{patient}", "", drawn))
            facts += [Fact(c, (name,), 1.0, name) for c in ("film", *study)]
            facts += [Fact(c, (f"{name}/{i}",), 1.0, name) for i, c in enumerate(objects)]
    return Cohort(split, tuple(films), FactStore(tuple(sorted(facts))))


def severity_explains_the_tube(rng: Random) -> dict[str, object]:
    """Severe disease brings a tube and COVID-19; the tube itself says nothing."""
    severe = rng.random() < 0.4
    tube, covid = rng.random() < (0.8 if severe else 0.1), rng.random() < (0.85 if severe else 0.15)
    return {
        "study": ("covid",) * covid,
        "objects": ("tube",) * tube + ("severe_opacity",) * severe,
        "sex": rng.choice("FM"),
    }


def the_tube_itself_matters(rng: Random) -> dict[str, object]:
    """The tube makes COVID-19 likely, and goes with severe disease, which does not."""
    severe = rng.random() < 0.4
    tube = rng.random() < (0.7 if severe else 0.3)
    covid = rng.random() < (0.75 if tube else 0.25)
    return {
        "study": ("covid",) * covid,
        "objects": ("tube",) * tube + ("severe_opacity",) * severe,
        "sex": rng.choice("FM"),
    }
