from __future__ import annotations

from pathlib import Path

import pytest

from neurosym.knowledge import Ontology, load_ontology, parse_rules
from neurosym.knowledge.reading import reading


@pytest.fixture(scope="module")
def thorax() -> Ontology:
    return load_ontology([Path(__file__).parents[2] / "ontologies/thorax.ttl"])


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("opacity(X) :- consolidation(X).", "If X is a consolidation, then X is an opacity."),
        (
            "inside(X, L), lung(L) :- nodule(X).",
            "If X is a nodule, then there is L such that X is inside L and L is a lung.",
        ),
        ("X = Y :- heart(X), heart(Y).", "If X is a heart and Y is a heart, then X and Y are the same object."),
        (":- heart(X), lung(Y), inside(X, Y).", "Never: X is a heart, Y is a lung and X is inside Y."),
        (
            r"0.9 :: peripheral(X) :- opacity(X), \+ consolidation(X), count{Y : nodule(Y)} > 2.",
            "If X is an opacity, X is not a consolidation and the number of Y such that Y is a nodule > 2, "
            "then in 90% of the cases X is a peripheral object.",
        ),
    ],
)
def test_a_rule_reads_as_a_sentence_of_the_ontologys_labels(rule: str, sentence: str, thorax: Ontology) -> None:
    assert reading(parse_rules(rule)[0], thorax) == sentence
