"""Each kind of model beside torchvision's own: sizes that were published, and losses of the same weights on the same batch.

torchvision's classes are built here from its public parts, with weights under its own names; nothing of ours is in them.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights, resnet18, resnet50
from torchvision.models.detection import (
    FasterRCNN,
    FasterRCNN_ResNet50_FPN_Weights,
    MaskRCNN,
    MaskRCNN_ResNet50_FPN_Weights,
    RetinaNet,
    RetinaNet_ResNet50_FPN_Weights,
    fasterrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from neurosym.models.backbones import EfficientNetLite0, build_backbone
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig
from neurosym.models.scene import SceneModel

COCO = [f"class {i}" for i in range(90)]
"""torchvision counts 91 with the background, of numbers that COCO never gave out."""
FROZEN = 2 * 26_560
"""ResNet-50's normalisations have 26,560 channels, a scale and a shift each; published counts leave them out as frozen."""
PUBLISHED = {
    "faster_rcnn": FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["num_params"],
    "mask_rcnn": MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["num_params"],
    "retinanet": RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["num_params"],
    "resnet18": ResNet18_Weights.IMAGENET1K_V1.meta["num_params"],
    "resnet50": ResNet50_Weights.IMAGENET1K_V1.meta["num_params"],
    "lite0": 4_652_008,
}
WIDTHS = {"resnet18": (64, 128, 256, 512), "resnet50": (256, 512, 1024, 2048), "lite0": (24, 40, 112, 320)}
CLASSIFIER = {
    "resnet18": 513 * 1000,
    "resnet50": 2049 * 1000,
    "lite0": 320 * 1280 + 2 * 1280 + 1281 * 1000,  # a 1×1 convolution and its normalisation before it
}


def full(kind: str, backbone: str = "resnet50", **more: object) -> DetectorConfig:
    """The widths that torchvision publishes; a trunk from random weights, whose normalisations are parameters."""
    widths = {"fpn_channels": 256, "head_features": 1024, "pretrained": False}
    return DetectorConfig(kind=kind, backbone=backbone, **widths | more)  # type: ignore[arg-type]


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def conv(inputs: int, outputs: int, kernel: int, bias: bool = True) -> int:
    return inputs * outputs * kernel**2 + bias * outputs


def of_pyramid(widths: tuple[int, ...]) -> int:
    return sum(conv(w, 256, 1) + conv(256, 256, 3) for w in widths)


@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
def test_two_stage_detectors_have_the_published_number_of_parameters(kind: str) -> None:
    assert PUBLISHED[kind] == {"faster_rcnn": 41_755_286, "mask_rcnn": 44_401_393}[kind]
    with torch.device("meta"):
        model = build_model(full(kind), COCO, load=False)
    assert size(model) == PUBLISHED[kind] + FROZEN


def test_retinanet_has_the_published_number_of_parameters_but_for_four_differences() -> None:
    assert PUBLISHED["retinanet"] == 34_014_999
    with torch.device("meta"):
        model = build_model(full("retinanet"), [*COCO, "what torchvision counts as background"], load=False)
    learned_pyramid_top = 2 * conv(256, 256, 3)  # levels 6 and 7; here the last one is pooled
    finest_of_the_pyramid = conv(256, 256, 1) + conv(256, 256, 3)  # of stride 4, which torchvision's does not build
    norms = 8 * (2 * 256 - 256)  # of the two towers: a scale and a shift in the place of a bias
    assert size(model) == PUBLISHED["retinanet"] + FROZEN - learned_pyramid_top + finest_of_the_pyramid + norms


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "lite0"])
def test_a_segmenter_is_a_published_trunk_a_pyramid_and_seven_convolutions(backbone: str) -> None:
    with torch.device("meta"):
        model = build_model(full("fpn_segmenter", backbone), ["a", "b", "c"], load=False)
    trunk = PUBLISHED[backbone] - CLASSIFIER[backbone]
    branch = 7 * (
        conv(256, 256, 3, bias=False) + 2 * 256
    )  # 1 + 1 + 2 + 3 of the four levels, each with a normalisation
    assert size(model) == trunk + of_pyramid(WIDTHS[backbone]) + branch + conv(256, 3, 1)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "lite0"])
@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn", "cascade_rcnn"])
def test_another_trunk_changes_the_published_number_by_its_own(kind: str, backbone: str) -> None:
    def trunk(name: str) -> int:
        return PUBLISHED[name] - CLASSIFIER[name] + of_pyramid(WIDTHS[name])

    with torch.device("meta"):
        model = build_model(full(kind, backbone), COCO, load=False)
    known = PUBLISHED["mask_rcnn" if kind == "mask_rcnn" else "faster_rcnn"] + FROZEN
    if kind == "cascade_rcnn":
        two_more_heads = 2 * (conv(256, 1024, 7) + conv(1024, 1024, 1) + conv(1024, 91 + 4, 1))
        known += two_more_heads - conv(1024, 4 * 90, 1)  # and the first has one box for all classes
    assert size(model) == known - trunk("resnet50") + trunk(backbone)


def renamed(model: SceneModel) -> dict[str, Tensor]:
    """The weights under the names that torchvision gives them."""
    return {k.replace("backbone.trunk.", "backbone.body."): v for k, v in model.net.state_dict().items()}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "build"), [("faster_rcnn", fasterrcnn_resnet50_fpn), ("mask_rcnn", maskrcnn_resnet50_fpn)]
)
def test_weights_are_those_of_torchvisions_detector_name_by_name(kind: str, build: Callable[..., nn.Module]) -> None:
    with torch.device("meta"):
        model = build_model(full(kind), COCO, load=False)
        own = build(weights=None, weights_backbone=None)
    assert {k: v.shape for k, v in renamed(model).items()} == {k: v.shape for k, v in own.state_dict().items()}


class Lite0Backbone(nn.Module):
    """The trunk under torchvision's pyramid network, as `BackboneWithFPN` puts a ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.body = EfficientNetLite0(nn.BatchNorm2d)
        self.fpn = FeaturePyramidNetwork(list(WIDTHS["lite0"]), 256, extra_blocks=LastLevelMaxPool())
        self.out_channels = 256

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        features: OrderedDict[str, Tensor] = self.fpn(self.body(x))
        return features


class WithoutFinest(nn.Module):
    def __init__(self, pyramid: nn.Module) -> None:
        super().__init__()
        self.pyramid, self.out_channels = pyramid, 256

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict(list(self.pyramid(x).items())[1:])


def torchvisions_backbone(backbone: str) -> nn.Module:
    if backbone == "lite0":
        return Lite0Backbone()
    layers = {f"layer{n + 1}": str(n) for n in range(4)}
    trunk = {"resnet18": resnet18, "resnet50": resnet50}[backbone](weights=None)
    return BackboneWithFPN(trunk, layers, list(WIDTHS[backbone]), 256)


SMALL = {"image_size": 96, "max_size": 128, "head_features": 64, "proposals": 60, "sampled_boxes": 32}


def torchvisions_own(kind: str, backbone: str) -> nn.Module:
    """torchvision's class for what `DetectorConfig` says by default, with the settings of `SMALL`, and three classes."""
    sides = {"min_size": 96, "max_size": 128}
    levels, shapes = [16, 32, 64, 128, 256], (0.5, 1.0, 2.0)
    if kind == "retinanet":
        anchors = AnchorGenerator(tuple((s, s * 2 ** (1 / 3), s * 2 ** (2 / 3)) for s in levels[1:]), (shapes,) * 4)
        # channels of a group of the towers' normalisations: 256 / 32
        head = RetinaNetHead(256, 9, 3, norm_layer=lambda channels: nn.GroupNorm(32, channels))
        body = WithoutFinest(torchvisions_backbone(backbone))
        return RetinaNet(body, 3, anchor_generator=anchors, head=head, **sides)
    settings = {
        "rpn_anchor_generator": AnchorGenerator(tuple((s,) for s in levels), (shapes,) * 5),
        "box_head": TwoMLPHead(256 * 49, 64),
        "box_predictor": FastRCNNPredictor(64, 4),
        "rpn_pre_nms_top_n_train": 120,
        "rpn_post_nms_top_n_train": 60,
        "box_batch_size_per_image": 32,
    }
    if kind == "faster_rcnn":
        return FasterRCNN(torchvisions_backbone(backbone), **settings, **sides)
    masks = {"mask_head": MaskRCNNHeads(256, (256,) * 4, 1), "mask_predictor": MaskRCNNPredictor(256, 256, 4)}
    return MaskRCNN(torchvisions_backbone(backbone), **settings, **masks, **sides)


def batch(masks: bool) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two images of different shapes; boxes of all three classes, and a crowded corner."""
    rng = torch.Generator().manual_seed(4)
    images = [torch.rand(3, 96, 128, generator=rng), torch.rand(3, 110, 90, generator=rng)]
    boxes = [
        torch.tensor([[6.0, 8, 60, 70], [40, 30, 120, 92], [10, 12, 40, 36]]),
        torch.tensor([[5.0, 50, 70, 104], [8, 55, 66, 100], [40, 4, 86, 40], [2, 2, 20, 30]]),
    ]
    labels = [torch.tensor([1, 2, 3]), torch.tensor([2, 3, 1, 1])]
    targets = [{"boxes": b, "labels": n} for b, n in zip(boxes, labels, strict=True)]
    if masks:
        for image, target in zip(images, targets, strict=True):
            target["masks"] = torch.zeros(len(target["boxes"]), *image.shape[1:], dtype=torch.uint8)
            for mask, (x1, y1, x2, y2) in zip(target["masks"], target["boxes"].int().tolist(), strict=True):
                mask[y1:y2, x1 : (x1 + 2 * x2) // 3] = 1  # two thirds of the box
    return images, targets


@pytest.mark.parametrize(
    ("kind", "backbone"),
    [
        ("faster_rcnn", "resnet18"),
        ("faster_rcnn", "resnet50"),
        ("faster_rcnn", "lite0"),
        ("mask_rcnn", "resnet18"),
        ("mask_rcnn", "lite0"),
        ("retinanet", "resnet50"),
        ("retinanet", "lite0"),
    ],
)
def test_losses_and_gradients_are_torchvisions_with_the_same_weights_and_seed(kind: str, backbone: str) -> None:
    torch.manual_seed(0)
    model = build_model(full(kind, backbone, **SMALL), ("a", "b", "c")).train()
    own = (
        torchvisions_own(kind, backbone).train().to(memory_format=torch.channels_last)
    )  # as ours: sums are in one order
    own.load_state_dict({re.sub(r"\btrunk\.", "body.", k): v for k, v in model.net.state_dict().items()})  # type: ignore[union-attr]
    images, targets = batch(kind == "mask_rcnn")
    torch.manual_seed(5)
    ours, scenes = model(images, targets)
    torch.manual_seed(5)
    theirs = own(images, [t | {"labels": t["labels"] - int(kind == "retinanet")} for t in targets])
    assert len(scenes) == 2
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert value > 0
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=1e-5)
    torch.stack(list(ours.values())).sum().backward()
    torch.stack(list(theirs.values())).sum().backward()
    stem = "_conv_stem" if backbone == "lite0" else "conv1"
    of_stem = [next(p.grad for n, p in m.named_parameters() if n.endswith(f"{stem}.weight")) for m in (model, own)]
    assert of_stem[1].any()
    torch.testing.assert_close(of_stem[0], of_stem[1], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnet_pyramid_gives_torchvisions_features(name: str) -> None:
    torch.manual_seed(0)
    pyramid, own = build_backbone(full("faster_rcnn", name)).eval(), torchvisions_backbone(name).eval()
    own.load_state_dict({k.replace("trunk.", "body."): v for k, v in pyramid.state_dict().items()})
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        ours, theirs = pyramid(image), own(image)
    assert list(ours) == list(theirs) == ["0", "1", "2", "3", "pool"]
    for level in theirs:
        torch.testing.assert_close(ours[level], theirs[level], atol=1e-6, rtol=1e-5)


def test_a_frozen_normalisation_is_what_the_published_counts_leave_out() -> None:
    with torch.device("meta"):
        frozen = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    assert PUBLISHED["resnet50"] - size(frozen) == FROZEN
