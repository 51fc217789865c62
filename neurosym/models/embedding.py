"""The projection head of contrastive learning: features → a point on the unit sphere.

Two layers with a ReLU between them, as of SimCLR (Chen et al., ICML 2020) and CoMatch (Li et al., ICCV 2021, g in Fig. 2).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class EmbeddingHead(nn.Module):
    """Features (row, feature) → embeddings of length 1 (row, channel)."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, features)
        self.out = nn.Linear(features, channels)

    def forward(self, features: Float[Tensor, "row feature"]) -> Float[Tensor, "row channel"]:
        """The embedding of each row."""
        return F.normalize(self.out(F.relu(self.hidden(features))), dim=1)
