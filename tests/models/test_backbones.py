"""Convolutions that spare work: folded norms and padding without a copy give what the plain layers give."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from neurosym.models.backbones import EfficientNetLite0, SamePadConv2d


def with_random_norms(trunk: nn.Module) -> nn.Module:
    """Norms that scale and shift, as loaded ones do; those of a new trunk change nothing."""
    for name, value in trunk.state_dict().items():
        if "_bn" in name and value.ndim:
            low = -0.5 if name.endswith(("bias", "running_mean")) else 0.5
            value.copy_(torch.rand(len(value)) + low)
    return trunk


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, nn.BatchNorm2d])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_features_are_the_same_whether_or_not_gradients_are_wanted(
    norm: type[nn.Module], form: torch.memory_format
) -> None:
    torch.manual_seed(0)
    trunk = with_random_norms(EfficientNetLite0(norm)).eval().to(memory_format=form)
    image = torch.rand(2, 3, 63, 90)
    seen = image.clone()
    wanted = trunk(image)
    with torch.no_grad():
        found = trunk(seen)
    assert torch.equal(seen, image)
    for level, features in wanted.items():
        torch.testing.assert_close(found[level], features.detach(), rtol=1e-3, atol=1e-3 * float(features.abs().max()))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("size", [(12, 12), (13, 12), (7, 9)])
def test_a_convolution_padded_as_tensorflow_does_covers_the_image_and_pads_more_on_the_right_and_below(
    kernel: int, stride: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    conv = SamePadConv2d(4, 4, kernel, stride, groups=4, bias=False)
    image = torch.rand(1, 4, *size)
    found = conv(image)
    assert found.shape[2:] == tuple(-(-s // stride) for s in size)
    wide = F.pad(image, [kernel] * 4)  # each window is cut out by hand
    for row, column in ((0, 0), (found.shape[2] - 1, found.shape[3] - 1)):
        before = [max((n - 1) * stride + kernel - s, 0) // 2 for n, s in zip(found.shape[2:], size, strict=True)]
        top, left = (kernel + i * stride - b for i, b in zip((row, column), before, strict=True))
        window = wide[0, :, top : top + kernel, left : left + kernel]
        expected = (window * conv.weight[:, 0]).sum((1, 2))
        torch.testing.assert_close(found[0, :, row, column], expected)
