"""What every training loop does alike: where it runs, how its rate falls, and the average of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from neurosym.errors import ConfigError
from neurosym.learning.config import TrainConfig
from neurosym.learning.pretrain_config import PretrainConfig
from neurosym.models.backbones import Pyramid

PRECISIONS: Mapping[str, torch.dtype | None] = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}


def set_precision(model: nn.Module, name: str) -> None:
    """Let backbone and pyramid of a model compute with the bits of one of `PRECISIONS`."""
    for part in model.modules():
        if isinstance(part, Pyramid):
            part.precision = PRECISIONS[name]


def pick_device(config: TrainConfig | PretrainConfig, local_rank: int = 0) -> torch.device:
    """The config's device; "auto" is the GPU if there is one. Also sets the number of CPU threads.

    Of several GPUs it is the one of this number, which of several processes on a machine each has its own.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda was asked for, but torch sees no GPU; use device: auto or cpu")
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def cosine_rate(peak: float, step: int, steps: int, warmup: int) -> float:
    """The learning rate of a step, from 0: a linear warm-up, then a cosine down to 1% of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


@torch.no_grad()
def update_average(average: Mapping[str, Tensor], weights: Mapping[str, Tensor], step: int, decay: float) -> None:
    """Take the weights of a step into their running average, of which they are a larger part at first.

    What is not in the average is left out; what is no floating point number is copied.
    """
    decay = min(decay, (1 + step) / (10 + step))
    for key, value in weights.items():
        if key in average:
            if value.is_floating_point():
                average[key].lerp_(value, 1 - decay)
            else:
                average[key].copy_(value)
