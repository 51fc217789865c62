"""Watching a pretraining for collapse, without labels.

Of the unit embeddings Z (film, channel) of the same films each time:

    rank     exp(− Σ p_k log p_k) with p_k = σ_k / Σ σ + ε over the singular values of Z: RankMe (Garrido et al., ICML 2023);
             1 if all embeddings are alike, at most the number of channels or films
    std      √channels · mean over channels of the standard deviation over films: 0 if collapsed, 1 if spread evenly on the
             sphere (Chen & He, CVPR 2021, fig. 2)
    used     share of the prototypes that are nearest to some film, of as many as there could be (films may be fewer)
    entropy  of how films are spread over their nearest prototypes, as a share of the greatest possible

Nearest prototypes are counted, not Sinkhorn's assignments, which are spread evenly even if all films are alike.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from neurosym.learning.pretrain_config import MonitorConfig

log = logging.getLogger(__name__)
_EPSILON = 1e-7


def effective_rank(embeddings: Float[Tensor, "film channel"]) -> float:
    """RankMe; in [1, min(films, channels)]."""
    values = torch.linalg.svdvals(embeddings.double())
    shares = values / values.sum().clamp(min=_EPSILON) + _EPSILON
    return math.exp(float(-(shares * shares.log()).sum()))


def spread(embeddings: Float[Tensor, "film channel"]) -> float:
    """√channels × the mean standard deviation of a channel over films."""
    return float(embeddings.std(0, correction=0).mean()) * math.sqrt(embeddings.shape[1])


def prototype_use(scores: Float[Tensor, "film prototype"]) -> tuple[float, float]:
    """(`used`, `entropy`) of films' similarities to prototypes; both in [0, 1]."""
    most = min(scores.shape)
    counts = torch.bincount(scores.argmax(1), minlength=scores.shape[1]).double()
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * shares.log()).sum())
    return float((counts > 0).sum()) / most, entropy / math.log(most) if most > 1 else 1.0


def figures(
    embeddings: Float[Tensor, "film channel"],
    features: Float[Tensor, "film feature"],
    scores: Float[Tensor, "film prototype"] | None,
) -> dict[str, float]:
    """All that is watched, by name; `features_rank` is of the features that are kept."""
    found = {"rank": effective_rank(embeddings), "std": spread(embeddings), "features_rank": effective_rank(features)}
    if scores is not None:
        found["used"], found["entropy"] = prototype_use(scores)
    return found


class CollapseAlarm:
    """Warns once when a figure falls below its limit, and again only after all have been above theirs."""

    def __init__(self, settings: MonitorConfig, method: str) -> None:
        self.settings, self.method, self.told = settings, method, False

    def check(self, step: int, found: Mapping[str, float]) -> str:
        """The warning, which is also logged; "" if there is nothing to warn of."""
        limits = {"rank": self.settings.min_rank, "std": self.settings.min_std, "used": self.settings.min_used}
        low = [f"{k} {found[k]:.3g} is below {v:g}" for k, v in limits.items() if k in found and found[k] < v]
        if not low or step < self.settings.start:
            self.told = False
            return ""
        if self.told:
            return ""
        self.told = True
        cure = _CURES[self.method]
        message = (
            f"step {step}: the embeddings are collapsing ({'; '.join(low)}), so films are hardly told apart; {cure}"
        )
        log.warning(message)
        return message


_CURES = {
    "swav": "lower train.lr, freeze the prototypes for longer (swav.frozen_steps), or use fewer of them",
    "densecl": "lower train.lr, or raise densecl.queue or densecl.temperature",
    "byol": "lower train.lr, raise byol.momentum, or use larger batches",
}
