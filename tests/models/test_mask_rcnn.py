from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.roi_heads import RoIHeads

from neurosym.models.config import DetectorConfig
from neurosym.models.mask_rcnn import MaskDetector
from neurosym.models.scene import UNKNOWN
from tests.models.overfit import overfit

SMALL = DetectorConfig(
    kind="mask_rcnn", image_size=96, max_size=96, proposals=50, sampled_boxes=32, head_features=64, fpn_channels=32
)


def example(known: bool = True) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 10.0, 60.0, 90.0], [50.0, 30.0, 120.0, 110.0]])
    masks = torch.zeros(2, 128, 128, dtype=torch.uint8)
    masks[0, 10:90, 10:60] = 1
    masks[1, 30:110, 60:110] = 1
    if not known:
        masks[1] *= UNKNOWN
    return [torch.rand(3, 128, 128) for _ in range(2)], [
        {"boxes": boxes, "labels": torch.tensor([1, 2]), "masks": masks}
    ] * 2


def test_training_losses_are_torchvisions_own() -> None:
    model = MaskDetector(SMALL, ("a", "b")).train()
    images, targets = example()
    torch.manual_seed(1)
    ours, _ = model(images, targets)
    model.net.roi_heads.__class__ = RoIHeads
    torch.manual_seed(1)
    theirs = model.net(images, targets)
    assert set(ours) == set(theirs) >= {"loss_mask", "loss_box_reg"}
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)


def test_detections_are_torchvisions_own() -> None:
    model = MaskDetector(SMALL.model_copy(update={"score_threshold": 0.0}), ("a", "b"))
    images, _ = example()
    ours = model.detect(images)
    model.eval()
    model.net.roi_heads.__class__ = RoIHeads
    with torch.no_grad():
        theirs = model.net(images)
    assert len(ours[0]["boxes"]) > 0
    for mine, other in zip(ours, theirs, strict=True):
        for key in ("boxes", "labels", "scores"):
            torch.testing.assert_close(mine[key], other[key])
        assert torch.equal(mine["masks"], other["masks"][:, 0] > 0.5)


def test_a_mask_that_is_not_known_teaches_the_box_alone() -> None:
    model = MaskDetector(SMALL, ("a", "b")).train()

    def mask_gradient(known: bool) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(1)
        losses, _ = model(*example(known))
        losses["loss_mask"].backward()
        gradient = model.net.roi_heads.mask_predictor.mask_fcn_logits.weight.grad
        return losses, gradient.abs().flatten(1).sum(1)

    with_both, of_both = mask_gradient(True)
    with_one, of_one = mask_gradient(False)
    torch.testing.assert_close(with_one["loss_box_reg"], with_both["loss_box_reg"])
    torch.testing.assert_close(with_one["loss_classifier"], with_both["loss_classifier"])
    assert (of_both > 0).tolist() == [False, True, True]
    assert (of_one > 0).tolist() == [False, True, False], "class 2 has only an unknown mask"


def test_a_scenes_masks_are_zero_outside_their_boxes_and_of_the_likeliest_class() -> None:
    model = MaskDetector(SMALL, ("a", "b")).train()
    images, _ = example()
    with torch.no_grad():
        model.net.roi_heads.mask_predictor.mask_fcn_logits.weight.zero_()
        model.net.roi_heads.mask_predictor.mask_fcn_logits.bias.copy_(torch.tensor([0.0, 9.0, -9.0]))
        [scene, _] = model.propose(images)
    assert scene.masks is not None
    likeliest = scene.probabilities[:, 1:].argmax(1)
    cell = 96 / 56
    x, y = torch.meshgrid(*[torch.arange(56) * cell] * 2, indexing="xy")
    for mask, (x1, y1, x2, y2), label in zip(scene.masks, scene.boxes.tolist(), likeliest.tolist(), strict=True):
        outside = (x + cell < x1) | (x > x2) | (y + cell < y1) | (y > y2)
        within = (x > x1) & (x + cell < x2) & (y > y1) & (y + cell < y2)
        assert mask[outside].sum() == 0
        value = 1.0 if label == 0 else 0.0
        assert mask[within].numpy() == pytest.approx(value, abs=1e-3)


def test_a_scene_without_proposals_is_empty() -> None:
    model = MaskDetector(SMALL, ("a", "b")).train()
    model.net.rpn.min_size = 1e9
    for scene in model.propose(example()[0]):
        assert scene.probabilities.shape == (0, 3)
        assert scene.masks is not None
        assert scene.masks.shape == (0, 56, 56)


def test_four_films_are_learned_by_heart_with_their_shapes() -> None:
    _, _, _, before = overfit("mask_rcnn", steps=1, lr=1e-9)
    _, _, _, after = overfit("mask_rcnn", steps=60, lr=1e-3, films=4)
    assert before.mask_ap50 is not None
    assert after.mask_ap50 is not None
    assert after.ap50 > 0.95
    assert after.mask_ap50 > 0.95
    assert before.mask_ap50 < 0.5
