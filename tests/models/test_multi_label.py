from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torchvision.ops import box_iou

from neurosym.models.config import DetectorConfig, InexactConfig
from neurosym.models.multi_label import class_loss, detections, independent, joined
from neurosym.models.retinanet import RetinaDetector

SMALL: dict[str, Any] = {
    "kind": "retinanet", "image_size": 64, "max_size": 64, "proposals": 50, "fpn_channels": 32, "pretrained": False
}  # fmt: skip
SEVERAL = DetectorConfig(**SMALL, multi_label=True)
BOX, OTHER = [6.0, 8.0, 30.0, 40.0], [34.0, 20.0, 60.0, 58.0]


def test_the_background_is_that_no_label_is_true() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    for row, found in zip(logits.sigmoid().tolist(), independent(logits).tolist(), strict=True):
        events = itertools.product((False, True), repeat=3)
        chances = {e: math.prod(p if on else 1 - p for p, on in zip(row, e, strict=True)) for e in events}
        each = [sum(chance for e, chance in chances.items() if e[k]) for k in range(3)]
        assert found == pytest.approx([chances[False, False, False], *each])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=8))
@settings(max_examples=30, deadline=None)
def test_annotations_with_the_same_box_are_one_object_with_all_their_labels(told: list[tuple[int, int]]) -> None:
    places = torch.tensor([[i, i, i + 5.0, i + 7.0] for i in range(4)])
    boxes = places[[i for i, _ in told]].reshape(-1, 4)
    found = joined({"boxes": boxes, "labels": torch.tensor([label for _, label in told], dtype=torch.long)}, 3)
    seen = {
        tuple(b): set(row.nonzero()[:, 0].tolist())
        for b, row in zip(found["boxes"].tolist(), found["labels"], strict=True)
    }
    assert seen == {tuple(places[i].tolist()): {label for j, label in told if j == i} for i, _ in told}
    assert len(found["boxes"]) == len(seen)


def test_with_one_label_a_box_the_losses_are_those_of_one_class_a_box() -> None:
    torch.manual_seed(0)
    images = [torch.rand(3, 64, 64) for _ in range(2)]
    targets = [
        {"boxes": torch.tensor([BOX, OTHER]), "labels": torch.tensor([1, 2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
    ]
    plain, several = (RetinaDetector(c, ("a", "b")).train() for c in (DetectorConfig(**SMALL), SEVERAL))
    several.load_state_dict(plain.state_dict())
    ours, theirs = several(images, targets)[0], plain(images, targets)[0]
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)


def test_the_class_loss_is_the_focal_loss_of_every_label_by_itself() -> None:
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = [torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])]
    matched = [torch.tensor([0, -1, -2, 0]), torch.tensor([1, 0, -1, -2])]
    totals = []
    for own, of_boxes, boxes in zip(logits.sigmoid().tolist(), labels, matched, strict=True):
        total = 0.0
        for row, box in zip(own, boxes.tolist(), strict=True):
            for k, p in enumerate(row) if box != -2 else ():
                wanted = box >= 0 and bool(of_boxes[box, k])
                right = p if wanted else 1 - p
                total -= (0.25 if wanted else 0.75) * (1 - right) ** 2 * math.log(right)
        totals.append(total / 2)
    assert float(class_loss(logits, labels, matched, -2)) == pytest.approx(sum(totals) / 2)


def test_an_object_is_detected_once_with_each_of_its_labels() -> None:
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(40, 2, generator=generator) * 50
    boxes = torch.cat([corner, corner + 10 + torch.rand(40, 2, generator=generator) * 20], 1)
    logits = torch.randn(40, 4, generator=generator)
    found = detections(logits, boxes, (64, 64), 0.6, 0.5, 9)
    objects: dict[tuple[float, ...], dict[int, float]] = {}
    for box, label, score in zip(*(found[k].tolist() for k in ("boxes", "labels", "scores")), strict=True):
        objects.setdefault(tuple(box), {})[label] = score
    inside = boxes.clamp(0, 64)
    assert 1 < len(objects) <= 9
    for box, labels in objects.items():
        [n] = (inside == torch.tensor(box)).all(1).nonzero()[:, 0].tolist()
        scores = logits[n].sigmoid()
        assert labels == pytest.approx({k: float(scores[k]) for k in range(4) if scores[k] >= 0.6})
    overlaps = box_iou(torch.tensor(list(objects)), torch.tensor(list(objects))).fill_diagonal_(0)
    assert float(overlaps.max()) <= 0.5
    best = logits.sigmoid().amax(1)
    assert max(found["scores"].tolist()) == pytest.approx(float(best.max()))


def test_a_detector_learns_both_labels_of_each_box_by_heart() -> None:
    torch.manual_seed(0)
    image = torch.full((3, 64, 64), 0.2)
    image[0, 8:40, 6:30] = 1.0
    image[1:, 20:58, 34:60] = 0.9
    target = {"boxes": torch.tensor([BOX, BOX, OTHER, OTHER]), "labels": torch.tensor([1, 3, 2, 3])}
    config = SEVERAL.model_copy(update={"pretrained": True, "score_threshold": 0.0})
    model = RetinaDetector(config, ("red", "blue", "lit", "never")).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(24):
        losses, [scene] = model([image], [target])
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    [found] = model.detect([image])
    assert model.training, "detecting leaves it in training"
    for box, wanted in ((BOX, {1, 3}), (OTHER, {2, 3})):
        near = box_iou(found["boxes"], torch.tensor([box]))[:, 0] > 0.4
        surest = found["boxes"][near][found["scores"][near].argmax()]
        own = (found["boxes"] == surest).all(1)
        scores = dict(zip(found["labels"][own].tolist(), found["scores"][own].tolist(), strict=True))
        assert min(scores[k] for k in wanted) > 1.25 * max(v for k, v in scores.items() if k not in wanted)
    surest = scene.probabilities[scene.probabilities[:, 0].argmin()].detach()
    assert float(surest[0]) == pytest.approx(float((1 - surest[1:]).prod()), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "faster_rcnn"}, "multi_label: faster_rcnn gives a box one class; set model.kind to retinanet"),
        ({"inexact": InexactConfig(posterior=True)}, "multi_label: inexact refines boxes of one class each"),
    ],
)
def test_what_cannot_give_a_box_several_labels_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DetectorConfig(**{**SMALL, "multi_label": True, **change})
