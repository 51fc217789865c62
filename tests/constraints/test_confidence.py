"""Learned confidences against numerical integration of the prior, and on phantom films against the rules that made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.constraints import ConstraintSet, compile_constraints, constraint_loss
from neurosym.constraints.confidence import RuleConfidences, shown
from neurosym.data.phantom import PhantomConfig, phantom_layout
from neurosym.errors import ConstraintError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.knowledge.rules import parse_rules
from neurosym.records import Detection, Scene
from tests.conftest import CLASSES, ROOT

THORAX = load_knowledge([ROOT / "ontologies/thorax.ttl", ROOT / "rules/thorax.rules"])
WRONG = (
    "left_of(L, R) :- left_lung(L), right_lung(R).  %! id=lungs_exchanged\n"
    "larger_than(H, L) :- heart(H), lung(L).  %! id=heart_larger_than_lung\n"
    "0.95 :: inside(G, H), heart(H) :- ground_glass_opacity(G).  %! id=ground_glass_in_heart\n"
)


def compiled(text: str, names: tuple[str, ...] = ("heart", "left_lung", "right_lung")) -> ConstraintSet:
    return compile_constraints(Knowledge(THORAX.ontology, tuple(parse_rules(text, "x.rules"))), names, required=False)


def films(count: int) -> list[Scene]:
    layouts = (phantom_layout(i, PhantomConfig()) for i in range(count))
    return [Scene(x.image_id, 256, 256, tuple(Detection(a.name, a.box) for a in x.annotations)) for x in layouts]


def first(constraints: ConstraintSet, fired: float, violated: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts of the first rule, none of the others."""
    counts = torch.zeros(2, len(constraints.rules))
    counts[0, 0], counts[1, 0] = fired, violated
    return counts[0], counts[1]


HARD = "left_of(H, L) :- heart(H), left_lung(L).  %! id=hard\n0.8 :: above(H, L) :- heart(H), left_lung(L).  %! id=weighted"
SET = compiled(HARD)


@given(st.floats(0.01, 60), st.floats(0, 1), st.booleans())
@settings(max_examples=60)
def test_the_learned_confidence_is_the_mean_of_the_posterior(fired: float, share: float, weighted: bool) -> None:
    at = 1 if weighted else 0
    counts = torch.zeros(2, len(SET.rules))
    counts[:, at] = torch.tensor([fired, fired * share])
    rules = RuleConfidences(SET, doubt=0.05)
    rules.observe(counts[0], counts[1])
    held, broken = (counts[0, at] - counts[1, at]).item(), counts[1, at].item()
    alpha, beta = (16.0, 4.0) if weighted else (100.0, 0.5)
    root = (np.arange(20_000) + 0.5) / 20_000  # θ = 1 − root², so that the density has no pole at 1
    theta, width = 1 - root**2, 2 * root / 20_000
    stated = theta ** (alpha - 1) * root ** (2 * beta - 2)
    prior = 0.95 * stated / (stated * width).sum() + 0.05
    posterior = prior * theta**held * (1 - theta) ** broken * width
    expected = (posterior * theta).sum() / posterior.sum()
    assert float(rules.confidences()[at]) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 1.0])
def test_with_a_constant_rate_of_violations_it_tends_to_one_minus_that_rate(rate: float) -> None:
    rules = RuleConfidences(SET)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        broken = float((torch.rand(20, generator=generator) < rate).sum())
        rules.observe(*first(SET, 20.0, broken))
    assert float(rules.confidences()[0]) == pytest.approx(1 - rate, abs=0.02)


def test_wrong_axioms_lose_their_confidence_on_16_films_and_true_rules_keep_theirs() -> None:
    knowledge = Knowledge(THORAX.ontology, (*THORAX.rules, *parse_rules(WRONG, "x.rules")))
    rules = RuleConfidences(compile_constraints(knowledge, CLASSES, required=False))
    rules.observe_annotations(films(16))
    entries = {e.rule: e for e in rules.report()}
    for wrong in ("lungs_exchanged", "heart_larger_than_lung", "ground_glass_in_heart"):
        assert entries[wrong].learned < 0.15
        assert entries[wrong].is_down_weighted
    assert entries["lungs_exchanged"].verdict == "down-weighted: broken in 16 of 16 annotated groundings"
    true = [
        e
        for e in entries.values()
        if e.rule not in ("lungs_exchanged", "heart_larger_than_lung", "ground_glass_in_heart")
    ]
    assert len(true) >= 20
    for entry in true:
        assert entry.verdict.startswith("kept")
        assert entry.learned > 0.95


def test_a_hard_rule_survives_one_slip_of_an_annotator() -> None:
    rules = RuleConfidences(SET)
    rules.observe(*first(SET, 60.0, 1.0))
    assert float(rules.confidences()[0]) > 0.97
    assert rules.report()[0].verdict == "kept"


def test_what_a_model_says_confirms_nothing_without_annotations() -> None:
    rules = RuleConfidences(SET)
    for _ in range(100):
        rules.observe(*first(SET, 50.0, 25.0), "predictions")
    torch.testing.assert_close(rules.confidences(), SET.confidence)
    rules.observe(*first(SET, 8.0, 8.0))
    assert float(rules.confidences()[0]) < 0.3


def test_predictions_weigh_at_most_a_share_of_the_annotations() -> None:
    rules = RuleConfidences(SET, prediction_share=0.25, keep=0.5)
    rules.observe(*first(SET, 40.0, 4.0))
    rules.observe(*first(SET, 4.0, 2.0), "predictions")
    assert rules.evidence()[:, 0].tolist() == pytest.approx([44.0, 6.0])
    for _ in range(50):
        rules.observe(*first(SET, 1000.0, 1000.0), "predictions")
    assert rules.evidence()[:, 0].tolist() == pytest.approx([50.0, 14.0], rel=1e-3)


def test_frozen_rules_keep_what_is_stated_and_rules_without_evidence_too() -> None:
    rules = RuleConfidences(SET, frozen=["hard"])
    rules.observe(*first(SET, 50.0, 50.0))
    torch.testing.assert_close(rules.confidences(), SET.confidence)
    assert [e.verdict for e in rules.report()][:2] == ["kept: frozen", "kept: it fired on no annotated film"]
    with pytest.raises(ConstraintError, match="no rule 'hart' to freeze; did you mean 'hard'"):
        RuleConfidences(SET, frozen=["hart"])


def test_a_rule_that_turns_out_wrong_stops_costing() -> None:
    rules = RuleConfidences(SET)
    kinds = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    boxes = torch.tensor([[60.0, 0.0, 80.0, 20.0], [10.0, 40.0, 30.0, 60.0]])
    images = [(kinds, boxes)] * 4
    before, found = constraint_loss(SET, images, epsilon=1e-6, confidence=rules.confidences())
    rules.observe(*first(SET, 40.0, 40.0))
    after, _ = constraint_loss(SET, images, epsilon=1e-6, confidence=rules.confidences())
    assert float(found.violated[0]) == pytest.approx(4.0, abs=0.01)
    assert float(after) < 0.1 * float(before)
    assert not rules.confidences().requires_grad


def test_what_was_seen_survives_a_checkpoint() -> None:
    rules = RuleConfidences(SET)
    rules.observe(*first(SET, 30.0, 20.0))
    rules.observe(*first(SET, 5.0, 5.0), "predictions")
    again = RuleConfidences(SET)
    again.load_state_dict(rules.state_dict())
    torch.testing.assert_close(again.confidences(), rules.confidences())
    assert again.report() == rules.report()
    assert set(rules.state_dict()) == {"annotated", "predicted"}


def test_the_report_names_file_line_and_axiom(tmp_path: Path) -> None:
    rules = RuleConfidences(compile_constraints(THORAX, CLASSES))
    rules.observe_annotations(films(2))
    rules.save_report(tmp_path / "confidence.json")
    told = {e["rule"]: e for e in json.loads((tmp_path / "confidence.json").read_text())}
    entry = told["right_lung_left_of_heart"]
    assert (entry["file"], entry["fired"], entry["violated"]) == ("rules/thorax.rules", 2.0, 0.0)
    assert THORAX.rules[[r.id for r in THORAX.rules].index(entry["rule"])].line == entry["line"]
    axioms = load_knowledge([ROOT / "ontologies/thorax.ttl"])
    entries = RuleConfidences(compile_constraints(axioms, CLASSES)).report()
    assert "https://w3id.org/neurosym/thorax#nodule" in {e.axiom for e in entries}
    assert "ontologies/thorax.ttl:" in shown(entries)


def test_evidence_that_cannot_be_is_refused() -> None:
    rules = RuleConfidences(SET)
    with pytest.raises(ConstraintError, match="0 ≤ violated ≤ fired"):
        rules.observe(*first(SET, 1.0, 2.0))
    with pytest.raises(ConstraintError, match="finite counts"):
        rules.observe(*first(SET, float("nan"), 0.0))
    with pytest.raises(ConstraintError, match="counts of 1 rules"):
        rules.observe(torch.ones(1), torch.zeros(1))
