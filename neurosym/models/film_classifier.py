"""A classifier of whole films with two representations: class logits and a unit embedding (CoMatch, Li et al., ICCV 2021).

The trunk of a backbone (`neurosym.models.backbones`), its features of strides 16 and 32 averaged over the film and joined, a
linear classifier and a projection head. A trunk with loaded weights keeps its batch normalisation frozen, as in detection, so
that weak and strong views, of which batches hold different shares, are normalised alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from neurosym.models.backbones import build_trunk
from neurosym.models.config import Backbone
from neurosym.models.embedding import EmbeddingHead

_LEVELS = ("2", "3")
"""Of strides 16 and 32."""
_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, as of the published weights and of torchvision's detectors."""


class FilmClassifier(nn.Module):
    """Films → logits of `names` and embeddings of length 1."""

    mean: Tensor
    sd: Tensor

    def __init__(
        self,
        names: Sequence[str],
        backbone: Backbone = "lite0",
        pretrained: bool = True,
        weights: str = "",
        embedding: int = 64,
        load: bool = True,
    ) -> None:
        """`load` reads the backbone's initial weights, which a checkpoint would replace anyway.

        Raises:
            ConfigError: weights that do not fit.
        """
        super().__init__()
        self.names = tuple(names)
        loaded = bool(weights) or (backbone == "lite0" and pretrained)
        norm = FrozenBatchNorm2d if loaded else nn.BatchNorm2d
        self.trunk, channels = build_trunk(backbone, norm, pretrained, weights, load)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("sd", torch.tensor(_SD)[:, None, None], persistent=False)
        features = sum(channels[-len(_LEVELS) :])
        self.classifier = nn.Linear(features, len(names))
        self.embedding = EmbeddingHead(features, embedding)

    def _pooled(self, images: Tensor) -> Tensor:
        levels = self.trunk(images)
        return torch.cat([levels[name].mean((2, 3)) for name in _LEVELS], 1)

    def forward(
        self, images: Float[Tensor, "film 3 height width"]
    ) -> tuple[Float[Tensor, "film class"], Float[Tensor, "film channel"]]:
        """Logits and embeddings of films in [0, 1]."""
        pooled = self._pooled((images - self.mean) / self.sd)
        return self.classifier(pooled), self.embedding(pooled)
