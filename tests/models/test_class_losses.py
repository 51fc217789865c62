"""Class losses of box heads: against torchvision, against sums written from the formulas, and in the detectors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import ConfigError
from neurosym.learning.batches import make_batch
from neurosym.learning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from neurosym.models.build import build_model
from neurosym.models.class_losses import (
    Boxes,
    FocalLoss,
    LabelEnhancement,
    build_class_loss,
    relate_classes,
)
from neurosym.models.config import BOX_HEADS, ClassificationConfig, DetectorConfig
from neurosym.models.detector import Detector

NAMES = ("right_lung", "heart", "left_lung")
SIZE = 96
FILMS = list(Phantom(0, 2, PhantomConfig(size=SIZE)))


def settings(loss: str, **more: object) -> ClassificationConfig:
    return ClassificationConfig(loss=loss, **more)  # type: ignore[arg-type]


def small(kind: str = "faster_rcnn", **classification: object) -> Detector:
    torch.manual_seed(0)
    config = DetectorConfig(
        kind=kind,  # type: ignore[arg-type]
        image_size=64,
        max_size=96,
        fpn_channels=16,
        head_features=16,
        proposals=40,
        sampled_boxes=32,
        pretrained=False,
        classification=ClassificationConfig(**classification),  # type: ignore[arg-type]
    )
    model = build_model(config, NAMES).train()
    assert isinstance(model, Detector)
    return model


def losses_of(model: Detector) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return model(*make_batch(FILMS, NAMES, torch.device("cpu"), None, model.uses_masks))[0]


def drawn(boxes: int = 40, seed: int = 0) -> tuple[Tensor, Boxes, Tensor]:
    """Logits, boxes of 12 objects in classes 1, 2, 3 or of the background, and embeddings near those of their class."""
    generator = torch.Generator().manual_seed(seed)
    of_object = torch.randint(1, 4, (12,), generator=generator)
    objects = torch.randint(0, 12, (boxes,), generator=generator)
    labels = of_object[objects] * (torch.rand(boxes, generator=generator) < 0.6)
    embedded = torch.eye(8)[of_object[objects]] + 0.4 * torch.randn(12, 8, generator=generator)[objects]
    return torch.randn(boxes, 4, generator=generator, requires_grad=True), Boxes(labels, objects), embedded


def test_focal_loss_without_focus_is_the_cross_entropy() -> None:
    logits, boxes, embedded = drawn()
    found = FocalLoss(settings("focal", gamma=0), 3, 8)(logits, boxes, embedded)
    assert torch.allclose(found, F.cross_entropy(logits, boxes.labels))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_of_one_class_is_torchvisions_of_the_difference_of_logits(gamma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 2, (50,), generator=generator)
    found = FocalLoss(settings("focal", gamma=gamma), 1, 8)(logits, Boxes(labels, labels), torch.zeros(50, 8))
    theirs = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], labels.double(), alpha=-1, gamma=gamma, reduction="mean")
    assert torch.allclose(found, theirs)
    (mine,) = torch.autograd.grad(found, logits, retain_graph=True)
    (other,) = torch.autograd.grad(theirs, logits)
    assert torch.allclose(mine, other)


def test_focal_loss_is_the_sum_of_its_formula() -> None:
    logits, boxes, embedded = drawn()
    total = 0.0
    for row, label in zip(logits.tolist(), boxes.labels.tolist(), strict=True):
        p = math.exp(row[label]) / sum(map(math.exp, row))
        total -= (1 - p) ** 2 * math.log(p)
    found = FocalLoss(settings("focal", gamma=2), 3, 8)(logits, boxes, embedded)
    assert float(found.detach()) == pytest.approx(total / len(logits), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
def test_focal_loss_has_a_finite_slope_where_a_class_is_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    labels = torch.tensor([0, 0])
    FocalLoss(settings("focal", gamma=gamma), 1, 8)(logits, Boxes(labels, labels), torch.zeros(2, 8)).backward()
    assert torch.isfinite(logits.grad).all()


def test_enhanced_labels_are_the_targets_of_a_soft_cross_entropy() -> None:
    loss = LabelEnhancement(settings("label_enhancement", start=0, alpha=0.8), 3, 8)
    for seed in range(3):
        loss(*drawn(seed=seed))
    logits, boxes, embedded = drawn(seed=9)
    objects = sorted({int(o) for o, label in zip(boxes.objects, boxes.labels, strict=True) if label > 0})
    own = [(boxes.objects == o) & (boxes.labels > 0) for o in objects]
    means = torch.stack([embedded[rows].mean(0) for rows in own])
    targets = F.one_hot(boxes.labels, 4).float()
    soft = loss.distributions(means, torch.stack([boxes.labels[rows][0] - 1 for rows in own]))
    for rows, distribution in zip(own, soft, strict=True):
        targets[rows] = F.pad(distribution, (1, 0))
    assert not torch.equal(targets, F.one_hot(boxes.labels, 4).float())
    found = loss(logits, boxes, embedded)
    expected = F.cross_entropy(logits, targets)
    assert torch.allclose(found, expected)
    (mine,) = torch.autograd.grad(found, logits, retain_graph=True)
    (other,) = torch.autograd.grad(expected, logits)
    assert torch.allclose(mine, other, atol=1e-7)


@pytest.mark.parametrize("still", [{"alpha": 0.0, "start": 0}, {"alpha": 0.8, "start": 5}])
def test_where_nothing_is_enhanced_the_loss_is_exactly_the_cross_entropy(still: dict[str, float]) -> None:
    loss = LabelEnhancement(settings("label_enhancement", **still), 3, 8)
    for seed in range(5):
        logits, boxes, embedded = drawn(seed=seed)
        found = loss(logits, boxes, embedded)
        plain = F.cross_entropy(logits, boxes.labels)
        assert torch.equal(found, plain)
        assert torch.equal(*(torch.autograd.grad(v, logits)[0] for v in (found, plain)))


def test_enhancement_begins_after_its_first_steps() -> None:
    loss = LabelEnhancement(settings("label_enhancement", start=2, alpha=0.8), 3, 8)
    moved = []
    for seed in range(4):
        logits, boxes, embedded = drawn(seed=seed)
        moved.append(not torch.equal(loss(logits, boxes, embedded), F.cross_entropy(logits, boxes.labels)))
    assert moved == [False, False, True, True]


def test_embeddings_of_enhanced_labels_carry_no_gradient() -> None:
    loss = LabelEnhancement(settings("label_enhancement", start=0), 3, 8)
    logits, boxes, embedded = drawn()
    embedded.requires_grad_()
    loss(logits, boxes, embedded).backward()
    assert embedded.grad is None


@pytest.mark.parametrize("name", ["focal", "label_enhancement"])
def test_boxes_that_do_not_count_do_not_and_none_at_all_cost_nothing(name: str) -> None:
    def loss_of(logits: Tensor, boxes: Boxes, embedded: Tensor) -> Tensor:
        loss = build_class_loss(settings(name, start=0), 3, 8)
        assert loss is not None
        return loss(logits, boxes, embedded)

    logits, boxes, embedded = drawn()
    left_out = torch.arange(len(logits)) % 4 == 0
    ignored = Boxes(boxes.labels.masked_fill(left_out, -100), boxes.objects)
    rest = Boxes(boxes.labels[~left_out], boxes.objects[~left_out])
    found = loss_of(logits, ignored, embedded)
    assert torch.allclose(found, loss_of(logits[~left_out], rest, embedded[~left_out]))
    none = Boxes(torch.full_like(boxes.labels, -100), boxes.objects)
    assert float(loss_of(logits, none, embedded).detach()) == 0.0
    empty = Boxes(boxes.labels[:0], boxes.objects[:0])
    assert float(loss_of(logits[:0], empty, embedded[:0]).detach()) == 0.0


def test_objects_are_told_apart_across_images() -> None:
    one, two = torch.tensor([0, 2, 0]), torch.tensor([0, 1])
    boxes = Boxes.of([torch.tensor([1, 2, 1]), one[:0], torch.tensor([3, 1])], [one, one[:0], two])
    assert len({(n, int(m)) for n, of_image in enumerate((one, two)) for m in of_image}) == 4
    assert len(set(boxes.objects.tolist())) == 4
    assert int(boxes.objects[0]) == int(boxes.objects[2])


def test_classes_that_the_ontology_makes_alike_share_their_labels() -> None:
    model = small("cascade_rcnn", loss="label_enhancement", ontology=0.3)
    relate_classes(model, [[1.0, 0.0, 0.6], [0.0, 1.0, 0.0], [0.6, 0.0, 1.0]])
    expected = torch.tensor([[0.7, 0.0, 0.3], [0.0, 1.0, 0.0], [0.3, 0.0, 0.7]])
    stages = [m for m in model.modules() if isinstance(m, LabelEnhancement)]
    assert len(stages) == 3
    assert all(torch.allclose(stage.relations, expected) for stage in stages)


@pytest.mark.parametrize("kind", BOX_HEADS)
def test_a_detector_of_enhanced_labels_starts_as_the_plain_one_and_then_learns_otherwise(kind: str) -> None:
    plain, enhanced = small(kind), small(kind, loss="label_enhancement", start=1, alpha=0.9, keep=0.51)
    first, same = losses_of(plain), losses_of(enhanced)
    assert first.keys() == same.keys()
    assert all(torch.equal(first[k], same[k]) for k in first)
    second, other = losses_of(plain), losses_of(enhanced)
    changed = {k for k in second if not torch.equal(second[k], other[k])}
    assert changed == {k for k in second if k.startswith("loss_classifier")}


@pytest.mark.parametrize("kind", BOX_HEADS)
def test_a_detector_trains_with_focal_loss(kind: str) -> None:
    plain, focal = losses_of(small(kind)), losses_of(model := small(kind, loss="focal"))
    for key, value in plain.items():
        assert bool(focal[key] < value) if key.startswith("loss_classifier") else torch.equal(focal[key], value)
    torch.stack(list(focal.values())).sum().backward()
    gradients = [p.grad for p in model.net.roi_heads.box_head.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_plain_detectors_have_nothing_more_in_their_state_than_before() -> None:
    assert not [k for k in small().state_dict() if "classification" in k]


def test_a_checkpoint_holds_what_is_remembered(tmp_path: Path) -> None:
    model = small(loss="label_enhancement", start=1)
    losses_of(model)
    losses_of(model)
    state = Checkpoint(2, model.state_dict(), {}, {"state": {}, "param_groups": []}, (torch.get_rng_state(),))
    path = save_checkpoint(tmp_path, state, {})
    other = small(loss="label_enhancement", start=1)
    other.load_state_dict(load_checkpoint(path).model)
    known, labels = model.net.roi_heads.classification.memory.recall()
    assert set(labels.tolist()) == {0, 1, 2}
    assert torch.equal(known, other.net.roi_heads.classification.memory.recall()[0])
    again, same = losses_of(model), losses_of(other)
    assert all(torch.equal(again[k], same[k]) for k in again)


@pytest.mark.parametrize(("kind", "why"), [("retinanet", "focal already"), ("fpn_segmenter", "no boxes to classify")])
def test_a_kind_without_a_box_head_refuses_a_class_loss(kind: str, why: str) -> None:
    with pytest.raises(ValidationError, match=f"classification: focal is for faster_rcnn.*not for {kind}.*{why}"):
        DetectorConfig(kind=kind, classification=settings("focal"))  # type: ignore[arg-type]


def test_an_unknown_loss_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="label_enhancement"):
        build_class_loss(ClassificationConfig.model_construct(loss="label_enhancment"), 3, 8)
    with pytest.raises(ValidationError, match="'cross_entropy', 'focal' or 'label_enhancement'"):
        settings("hinge")
