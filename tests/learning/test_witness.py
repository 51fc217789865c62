"""The rules as a witness of where boxes are: what a broken rule costs, and which way it moves a box."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from neurosym.constraints import compile_constraints
from neurosym.data.config import open_split
from neurosym.knowledge import load_knowledge
from neurosym.knowledge.rules import parse_rules
from neurosym.learning.config import load_config
from neurosym.learning.train import Trainer
from neurosym.learning.witness import SUREST, RuleWitness
from neurosym.models.annotation_noise import NoiseModel
from neurosym.models.posterior import posterior
from neurosym.models.votes import Votes
from tests.constraints.scenes_and_rules import LEAVES, ROOT, compiled

SIZE = (200.0, 200.0)
INSIDE = "0.9 :: inside(X, L) :- nodule(X), left_lung(L)."
LUNG, NODULE = LEAVES.index("left_lung") + 1, LEAVES.index("nodule") + 1


def witness(*rules: str) -> RuleWitness:
    return RuleWitness(compiled(*parse_rules("\n".join(rules))), temperature=0.01)


def scene(*boxes: tuple[float, float, float, float]) -> torch.Tensor:
    return torch.tensor(boxes, dtype=torch.float64)


def test_a_broken_rule_costs_its_log_odds_and_one_that_holds_nothing() -> None:
    labels = torch.tensor([LUNG, NODULE])
    within, beyond = scene((20, 20, 100, 180), (50, 50, 60, 60)), scene((20, 20, 100, 180), (130, 50, 140, 60))
    for weight, cost in ((0.9, math.log(9.0)), (0.6, math.log(1.5)), (1.0, math.log(SUREST / (1 - SUREST)))):
        asked = witness(INSIDE.replace("0.9", f"{weight}"))
        assert float(asked(within, labels, SIZE)) == pytest.approx(0.0, abs=1e-3)
        assert float(asked(beyond, labels, SIZE)) == pytest.approx(cost, rel=1e-3)


def test_a_rule_that_is_no_surer_than_not_is_silent() -> None:
    labels = torch.tensor([LUNG, NODULE])
    beyond = scene((20, 20, 100, 180), (130, 50, 140, 60))
    assert float(witness(INSIDE.replace("0.9", "0.5"))(beyond, labels, SIZE)) == 0.0


def test_an_annotation_across_the_border_of_its_organ_is_drawn_into_it_and_others_stay() -> None:
    asked = RuleWitness(compiled(*parse_rules(INSIDE)), temperature=0.1)
    labels = torch.tensor([LUNG, NODULE, NODULE])
    boxes = torch.tensor([[20.0, 20, 100, 180], [92, 80, 112, 100], [50, 50, 70, 70]])
    sides = torch.tensor([[80.0, 160], [20, 20], [20, 20]])
    centre, log = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).log()
    votes = Votes(centre, log, torch.full((3, 2), 0.01), torch.full((3, 2), 0.01))
    plain = posterior(boxes, votes, NoiseModel(), sides, SIZE).boxes
    drawn = posterior(boxes, votes, NoiseModel(), sides, SIZE, lambda b: asked(b, labels, SIZE)).boxes
    assert float(drawn[1, [0, 2]].mean()) < float(plain[1, [0, 2]].mean()) - 0.3
    assert torch.allclose(drawn[2], plain[2], atol=0.2)


def test_no_objects_and_an_empty_rule_set_cost_nothing() -> None:
    asked = witness(INSIDE)
    assert float(asked(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), SIZE)) == 0.0
    knowledge = load_knowledge([ROOT / "ontologies/thorax.ttl"])
    empty = RuleWitness(compile_constraints(knowledge, LEAVES, required=False))
    boxes = torch.rand(2, 2).repeat(1, 2) + torch.tensor([0.0, 0, 1, 1])
    assert math.isfinite(float(empty(boxes, torch.tensor([LUNG, NODULE]), SIZE)))


CONFIG = f"""
name: tiny
threads: 1
knowledge: [{ROOT}/ontologies/thorax.ttl, {ROOT}/rules/thorax.rules]
data:
  format: phantom
  size: 96
  categories: [left_lung, right_lung, heart]
  train: {{start: 0, count: 2}}
model:
  image_size: 64
  max_size: 64
  fpn_channels: 16
  head_features: 16
  proposals: 20
  pretrained: false
  inexact: {{posterior: true}}
constraints: {{weight: 0.1}}
"""


@pytest.mark.parametrize(
    ("override", "asked"),
    [("constraints.weight=0.1", True), ("constraints.weight=0", False), ("model.inexact.rules=false", False)],
)
def test_the_rules_are_asked_where_they_have_a_weight_and_nobody_forbids_it(
    tmp_path: Path, override: str, asked: bool
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    config = load_config(path, [override])
    knowledge = load_knowledge(config.knowledge)
    images = open_split(config.data, "train", config.base, knowledge)
    names = ("left_lung", "right_lung", "heart")
    model = Trainer(config, names, knowledge, images, (), tmp_path / "run").model
    assert model.inexact is not None
    assert (model.inexact.witness is not None) == asked
