"""RetinaNet's adversary against sums written out, its logits against the head's own, its gradients where they belong."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.retinanet import RetinaNetClassificationHead

from neurosym.models.adversary import MIXED, dense_adversarial_loss
from neurosym.models.config import DetectorConfig, InexactConfig
from neurosym.models.dense_adversary import RejectedAnchors, TowerView, tower_adversary
from neurosym.models.inexact import FILLERS, PositiveFilter, sample_evidence
from neurosym.models.retinanet import RetinaDetector

SHAPES = ((5, 4), (3, 2), (1, 1))


def likelihood(logits: list[float], label: int) -> float:
    """−log of K independent sigmoids' probability that only class `label` (from 1) is true."""
    chances = [1 / (1 + math.exp(-z)) for z in logits]
    return -sum(math.log(p if k == label else 1 - p) for k, p in enumerate(chances, 1))


def test_the_loss_is_the_worst_likelihood_of_mixtures_of_features() -> None:
    rng = torch.Generator().manual_seed(0)
    heads = torch.randn(2, 3, 6, generator=rng, dtype=torch.float64)  # two kinds of anchor, three classes, six features
    kept, rejected = (torch.randn(n, 6, generator=rng, dtype=torch.float64) for n in (5, 7))
    kind = [0, 1, 1, 0, 1]
    labels, others = torch.tensor([1, 2, 1, 3, 2]), torch.tensor([1, 1, 2, 2, 1, 2, 1])
    weight = torch.rand(7, generator=rng, dtype=torch.float64)
    worst = []
    for f, k, c in zip(kept, kind, labels.tolist(), strict=True):
        own = [j for j in range(7) if others[j] == c]
        if own:
            mixed = [f] + [f + MIXED * weight[j] * (rejected[j] - f) for j in own]
            worst.append(max(likelihood((heads[k] @ m).tolist(), c) for m in mixed))
    alone = torch.stack([heads[k] @ f for f, k in zip(kept, kind, strict=True)])
    judged = torch.stack([rejected @ heads[k].T for k in kind])
    found = float(dense_adversarial_loss(alone, labels, judged, others, weight))
    assert len(worst) == 4
    assert found == pytest.approx(sum(worst) / 4, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 5))
def test_no_mixture_of_several_fillers_is_worse_than_the_worst_of_one(seed: int, classes: int, fillers: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    own, others = (4 * torch.randn(n, classes, generator=rng, dtype=torch.float64) for n in (1, fillers))
    labels, names = torch.ones(1, dtype=torch.long), torch.ones(fillers, dtype=torch.long)
    worst = float(dense_adversarial_loss(own, labels, others[None], names, torch.ones(fillers, dtype=torch.float64)))
    shares = MIXED * torch.distributions.Dirichlet(torch.ones(fillers + 1)).sample((50,))[:, :fillers].double()
    for share in shares:
        mixture = own[0] + share @ (others - own)
        assert likelihood(mixture.tolist(), 1) <= worst + 1e-9


def test_an_adversary_without_fillers_of_a_class_costs_nothing() -> None:
    kept, rejected = torch.randn(3, 2, requires_grad=True), torch.randn(3, 4, 2, requires_grad=True)
    labels, others = torch.tensor([1, 1, 1]), torch.tensor([2, 2, 2, 2])
    loss = dense_adversarial_loss(kept, labels, rejected, others, torch.ones(4))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert kept.grad is not None
    assert rejected.grad is not None
    assert not kept.grad.any()
    assert not rejected.grad.any()
    assert float(dense_adversarial_loss(kept[:0], labels[:0], rejected[:0], others, torch.ones(4)).detach()) == 0.0


def head_and_levels() -> tuple[RetinaNetClassificationHead, list[Tensor]]:
    torch.manual_seed(0)
    head = RetinaNetClassificationHead(8, 3, 2)
    for p in head.parameters():
        nn.init.normal_(p, std=0.1)
    return head, [torch.randn(2, 8, *shape, requires_grad=True) for shape in SHAPES]


def test_a_patchs_logits_are_the_heads_own_at_its_anchor() -> None:
    head, levels = head_and_levels()
    with TowerView(head) as view:
        logits = head(levels)
    everything = torch.arange(logits.shape[1])
    for image in range(2):
        found = view.logits(image, everything)[everything, everything % 3]
        torch.testing.assert_close(found, logits[image])
    head(levels)
    assert len(view.levels) == len(SHAPES), "nothing is kept of what comes after the block"


def test_gradients_reach_the_kept_features_and_the_classifiers_but_not_the_rejected_features() -> None:
    head, levels = head_and_levels()
    with TowerView(head) as view:
        logits = head(levels)
    labels = [torch.zeros(logits.shape[1], dtype=torch.long) for _ in range(2)]
    labels[0][4], labels[1][7] = 2, -1
    nothing, none = torch.zeros(0, dtype=torch.long), torch.zeros(0)
    found = [
        RejectedAnchors(nothing, nothing, none),
        RejectedAnchors(torch.tensor([7]), torch.tensor([2]), torch.tensor([1.0])),
    ]
    loss = tower_adversary(view, logits, labels, found)
    own = logits[0, 4].tolist()
    other = view.logits(1, torch.tensor([7]))[0, 4 % 3].tolist()
    mixed = [0.5 * (a + b) for a, b in zip(own, other, strict=True)]
    assert likelihood(mixed, 2) > likelihood(own, 2), "the filler makes it worse, else nothing is shown here"
    assert float(loss.detach()) == pytest.approx(likelihood(mixed, 2), rel=1e-5)
    loss.backward()
    of_kept, of_rejected = (levels[0].grad[n] for n in range(2))  # type: ignore[index]
    assert of_kept.any()
    assert not of_rejected.any()
    gradient = head.cls_logits.weight.grad
    assert gradient is not None
    assert gradient.flatten(1).any(1).tolist() == [False, False, True, True, False, False], "of the kept anchor's place"


def detector(adversary: float) -> RetinaDetector:
    torch.manual_seed(0)
    config = DetectorConfig(
        kind="retinanet",
        image_size=96,
        max_size=96,
        fpn_channels=32,
        proposals=50,
        pretrained=False,
        inexact=InexactConfig(filter=True, adversary=adversary, start=2),
    )
    model = RetinaDetector(config, ("a", "b")).train()
    assert model.inexact is not None
    model.inexact.measure(
        torch.tensor([[0.0, 0, 40, 40], [0, 0, 36, 44]]), torch.tensor([1, 2]), torch.full((2,), 96.0**2), 96.0
    )
    return model


def two_films() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    torch.manual_seed(1)
    boxes = torch.tensor([[8.0, 10, 50, 48], [40, 44, 84, 90]])
    targets = [{"boxes": boxes + shift, "labels": torch.tensor([1, 2])} for shift in (0.0, 3.0)]
    return [torch.rand(3, 96, 96) for _ in range(2)], targets


def steps_of(adversary: float, count: int = 3) -> tuple[RetinaDetector, list[dict[str, Tensor]]]:
    model = detector(adversary)
    images, targets = two_films()
    return model, [model(images, targets)[0] for _ in range(count)]


def test_all_other_losses_are_the_same_with_and_without_an_adversary_and_it_starts_with_the_filter() -> None:
    (_, without), (_, once), (model, twice) = steps_of(0.0), steps_of(0.1), steps_of(0.2)
    assert ["loss_adversary" in s for s in once] == [False, True, True]
    for plain, one, two in zip(without, once, twice, strict=True):
        assert all(torch.equal(plain[k], one[k]) for k in plain)
        assert set(one) - set(plain) <= {"loss_adversary"}
        if "loss_adversary" in one:
            torch.testing.assert_close(two["loss_adversary"], 2 * one["loss_adversary"])
    assert twice[-1]["loss_adversary"] > 0
    twice[-1]["loss_adversary"].backward()
    head = model.net.head
    reached = {n for n, p in head.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert "classification_head.cls_logits.weight" in reached
    assert not any(n.startswith("regression_head") for n in reached)


def test_the_detectors_loss_is_that_of_what_its_filter_kept_and_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    own = PositiveFilter.of_image

    def watched(self: PositiveFilter, n: int, boxes: Tensor, matched: Tensor, labels: Tensor) -> Tensor:
        kept = own(self, n, boxes, matched, labels)
        asked[n] = labels, kept, sample_evidence(boxes, matched, self.maps[n], (96.0, 96.0))
        return kept

    monkeypatch.setattr(PositiveFilter, "of_image", watched)
    model = detector(1.0)
    images, targets = two_films()
    for _ in range(2):
        losses, _ = model(images, targets)
    head = model.net.head.classification_head
    levels = model.net.backbone(model.net.transform(images)[0].tensors).values()
    patches = torch.cat([F.unfold(head.conv(level), 3, padding=1) for level in levels], 2).detach().double()
    rows = head.cls_logits.weight.detach().double().reshape(9, 2, -1)  # of each anchor of a cell, its two classes
    bias = head.cls_logits.bias.detach().double().reshape(9, 2)
    fillers = []
    for n, (labels, kept, evidence) in asked.items():
        out = [(float(evidence[k]), int(labels[k]), patches[n, :, k // 9]) for k in (kept < 0).nonzero()[:, 0].tolist()]
        assert len(out) > FILLERS, "there are more than may be mixed in"
        for c in {f[1] for f in out}:
            fillers += sorted((f for f in out if f[1] == c), key=lambda f: -f[0])[:FILLERS]
    worst = []
    for n, (_, kept, _) in asked.items():
        for k in (kept > 0).nonzero()[:, 0].tolist():
            seen, label = patches[n, :, k // 9], int(kept[k])
            mixed = [seen] + [seen + MIXED * share * (g - seen) for share, c, g in fillers if c == label]
            worst.append(max(likelihood((rows[k % 9] @ m + bias[k % 9]).tolist(), label) for m in mixed))
    assert float(losses["loss_adversary"].detach()) == pytest.approx(sum(worst) / len(worst), rel=1e-4)
