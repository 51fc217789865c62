"""Films on which not every object is annotated: what is annotated is learned, what is not is no background."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig
from neurosym.models.open_films import IGNORED, unopened, without_background
from neurosym.models.scene import UNKNOWN, Target

KINDS = ("faster_rcnn", "cascade_rcnn", "retinanet", "mask_rcnn", "fpn_segmenter")
NAMES = ("lung", "nodule")
SMALL = {
    "image_size": 64,
    "max_size": 64,
    "proposals": 32,
    "sampled_boxes": 16,
    "head_features": 16,
    "fpn_channels": 16,
}


def model_of(kind: str, **more: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(
        DetectorConfig.model_validate({"kind": kind, "pretrained": False, **SMALL, **more}), NAMES
    ).train()


def target_of(boxes: list[list[float]], labels: list[int], open_: list[bool] | None = None) -> Target:
    target = {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.tensor(labels, dtype=torch.int64)}
    target["masks"] = torch.zeros(len(boxes), 64, 64, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(target["masks"], boxes, strict=True):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
    return target if open_ is None else target | {"open": torch.tensor(open_)}


def losses_of(model: torch.nn.Module, target: Target) -> dict[str, Tensor]:
    torch.manual_seed(1)
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(2))
    if not getattr(model, "uses_masks", False):
        target = {k: v for k, v in target.items() if k != "masks"}
    found: dict[str, Tensor] = model([image], [target])[0]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_an_open_film_without_annotations_teaches_nothing_and_its_losses_are_numbers(kind: str) -> None:
    model = model_of(kind)
    total = sum(losses_of(model, target_of([], [], [True, True])).values())
    assert math.isfinite(float(total))
    total.backward()  # type: ignore[union-attr]
    assert all(p.grad is None or float(p.grad.abs().max()) == 0 for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_film_known_to_be_empty_teaches_background(kind: str) -> None:
    model = model_of(kind)
    sum(losses_of(model, target_of([], [], [False, False])).values()).backward()  # type: ignore[union-attr]
    assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_film_that_is_nowhere_open_has_the_losses_it_would_have_without_saying_so(kind: str) -> None:
    boxes, labels = [[8.0, 8.0, 40.0, 56.0]], [1]
    plain, closed = (losses_of(model_of(kind), target_of(boxes, labels, o)) for o in (None, [False, False]))
    assert plain.keys() == closed.keys()
    assert all(torch.equal(plain[k], closed[k]) for k in plain)


@pytest.mark.parametrize("kind", KINDS)
def test_the_annotated_objects_of_an_open_film_are_learned(kind: str) -> None:
    model = model_of(kind)
    sum(losses_of(model, target_of([[8.0, 8.0, 40.0, 56.0]], [1], [False, True])).values()).backward()  # type: ignore[union-attr]
    assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in model.parameters())


@pytest.mark.parametrize("kind", ["faster_rcnn", "cascade_rcnn", "mask_rcnn"])
def test_the_scene_of_an_open_film_still_has_proposals(kind: str) -> None:
    model = model_of(kind)
    target = target_of([], [], [True, True])
    scene = model([torch.rand(3, 64, 64)], [target])[1][0]
    assert len(scene.boxes) > 0


def test_background_of_open_films_alone_is_ignored() -> None:
    labels = [torch.tensor([0, 2, 0]), torch.tensor([0, 1])]
    found = without_background(labels, [{"open": torch.tensor([False, True])}, {"open": torch.tensor([False, False])}])
    assert [f.tolist() for f in found] == [[IGNORED, 2, IGNORED], [0, 1]]


def test_pixels_outside_an_open_class_are_unknown_and_those_of_other_classes_stay_background() -> None:
    maps = torch.tensor([[[1, 0]], [[1, 0]], [[UNKNOWN, 0]]], dtype=torch.uint8)
    found = unopened(maps, {"open": torch.tensor([True, False, False])})
    assert found.tolist() == [[[1, UNKNOWN]], [[1, 0]], [[UNKNOWN, 0]]]


@pytest.mark.parametrize("kind", ["faster_rcnn", "cascade_rcnn", "retinanet"])
def test_boxes_without_certainty_teach_their_class_and_no_offsets(kind: str) -> None:
    boxes, labels = [[8.0, 8.0, 40.0, 56.0], [44.0, 44.0, 60.0, 60.0]], [1, 2]
    sure, unsure = (
        losses_of(model_of(kind), target_of(boxes, labels) | {"certainty": torch.tensor(c)})
        for c in ([1.0, 1.0], [0.0, 0.0])
    )
    plain = losses_of(model_of(kind), target_of(boxes, labels))
    of_offsets = [k for k in plain if ("box_reg" in k and "rpn" not in k) or k == "bbox_regression"]
    assert of_offsets
    for key, value in plain.items():
        assert torch.allclose(sure[key], value, rtol=1e-5)
        expected = torch.zeros(()) if key in of_offsets else value
        assert torch.allclose(unsure[key], expected, rtol=1e-5), key


@pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet", "fpn_segmenter"])
def test_pseudo_labels_leave_what_is_known_of_annotations_alone(kind: str) -> None:
    model = model_of(kind, inexact={"posterior": True, "filter": True, "start": 0})
    target = target_of([[8.0, 8.0, 40.0, 56.0]], [1])
    inexact = model.inexact if kind != "fpn_segmenter" else model.inexact_masks
    before = {k: v.clone() for k, v in inexact.state_dict().items()}
    model.annotated = False
    found = losses_of(model, target)
    assert all(torch.equal(v, before[k]) for k, v in inexact.state_dict().items())
    assert "loss_votes" not in found
    model.annotated = True
    losses_of(model, target)
    assert int(inexact.steps) == 1
