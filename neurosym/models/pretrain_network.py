"""The network that self-supervised pretraining trains: a backbone's trunk and a projection head, which is thrown away
afterwards.

The trunk's last features (stride 32), averaged over the film, go through linear – batch norm – ReLU – linear, as in SwAV,
DenseCL and BYOL. Batch normalisation is trained, in contrast to detection, whose batches are too small for it. Convolutions
compute with channels last, which makes depthwise ones about 1.5 times as fast on a CPU; weights are the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neurosym.models.backbones import build_trunk
from neurosym.models.config import Backbone

LAST = "3"
"""Pyramid level of the trunk's last features."""
_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, as of the published weights and of torchvision's detectors."""


class PretrainNetwork(nn.Module):
    """Films in [0, 1], of one channel or three → features and their projection."""

    mean: Tensor
    sd: Tensor

    def __init__(
        self,
        backbone: Backbone,
        hidden: int,
        embedding: int,
        pretrained: bool = True,
        weights: str = "",
        load: bool = True,
    ) -> None:
        """`load` reads the trunk's initial weights, which a checkpoint would replace anyway.

        Raises:
            ConfigError: weights that do not fit.
        """
        super().__init__()
        self.trunk, channels = build_trunk(backbone, nn.BatchNorm2d, pretrained, weights, load)
        self.trunk.to(memory_format=torch.channels_last)
        self.features = channels[-1]
        self.projector = projection_head(self.features, hidden, embedding)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("sd", torch.tensor(_SD)[:, None, None], persistent=False)

    def maps(self, films: Float[Tensor, "film channel height width"]) -> Float[Tensor, "film feature row column"]:
        """The trunk's last features, place by place."""
        normed = (films - self.mean) / self.sd
        found: Tensor = self.trunk(normed.contiguous(memory_format=torch.channels_last))[LAST]
        return found

    def pooled(self, films: Float[Tensor, "film channel height width"]) -> Float[Tensor, "film feature"]:
        """Features of whole films."""
        return self.maps(films).mean((2, 3))

    def forward(self, films: Float[Tensor, "film channel height width"]) -> Float[Tensor, "film embedding"]:
        """Embeddings of whole films, of length 1."""
        return F.normalize(self.projector(self.pooled(films)), dim=1)


def projection_head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear – batch norm – ReLU – linear."""
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
    )


@torch.no_grad()
def measure_norms(network: PretrainNetwork, batches: Iterable[Float[Tensor, "film channel height width"]]) -> None:
    """Set the trunk's statistics of batch normalisation to their mean over these batches (Wu & Johnson 2021, "PreciseBN").

    Detectors keep the statistics frozen and see whole films; the running ones are of crops. Without batches nothing changes.
    """
    norms = [m for m in network.trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [(m.momentum, m.running_mean.clone(), m.running_var.clone()) for m in norms]  # type: ignore[union-attr]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
    was = network.training
    network.train()
    seen = 0
    for films in batches:
        network.maps(films)
        seen += 1
    network.train(was)
    for norm, (momentum, mean, variance) in zip(norms, before, strict=True):
        norm.momentum = momentum
        if not seen:
            norm.running_mean, norm.running_var = mean, variance
