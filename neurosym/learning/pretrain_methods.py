"""What pretraining asks of the network: three methods by name, each a module with the network inside and one loss a step.

    swav     the cluster of one view of a film is predicted from its other views; clusters are assigned anew in each step,
             equally many films to each (Caron et al., NeurIPS 2020, eq. 1-5; for medical images Ghesu et al., 2022). With codes
             q of a large crop s by Sinkhorn-Knopp and p the softmax of a crop's similarities to the prototypes over τ:

                 L = mean over s and over other crops t of  − Σ_k q_k(s) log p_k(t)

    densecl  the view of an averaged network is told from other films', for whole films and for places (Wang et al., CVPR 2021)
    byol     the view of an averaged network is predicted, without negatives (Grill et al., NeurIPS 2020)

Losses are lightly's (SwaVLoss, NTXentLoss, NegativeCosineSimilarity). Ours are the queue of SwAV, which as in the authors'
code is used once it is full and its time has come (lightly's begins with noise), prototypes of length 1 without a bias, and
a state that holds queues and memory banks, so that a resumed run goes on with them.
"""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from jaxtyping import Float
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.loss.swav_loss import sinkhorn
from lightly.models.utils import select_most_similar
from torch import Tensor, nn
from torch.nn import functional as F

from neurosym.learning.pretrain_config import PretrainConfig
from neurosym.models.pretrain_network import PretrainNetwork, projection_head

Views = list[Float[Tensor, "film channel side side"]]
"""Two large crops, then the small ones."""


class SslMethod(nn.Module):
    """A network and the loss that teaches it; `after_step` is called when its parameters have moved."""

    def __init__(self, config: PretrainConfig, network: PretrainNetwork) -> None:
        super().__init__()
        self.config, self.network = config, network

    def loss(self, views: Views, step: int) -> Float[Tensor, ""]:
        """The loss of one step's views."""
        raise NotImplementedError

    def scores(self, embeddings: Float[Tensor, "film embedding"]) -> Float[Tensor, "film prototype"] | None:
        """Similarities to the prototypes; None for methods without any."""
        return None

    def after_step(self, step: int) -> None:
        """Whatever follows the optimiser's step."""


class Swav(SslMethod):
    """Swapped prediction of cluster assignments."""

    queue: Tensor
    filled: Tensor

    def __init__(self, config: PretrainConfig, network: PretrainNetwork) -> None:
        super().__init__(config, network)
        own = config.swav
        self.prototypes = nn.Linear(config.embedding, own.prototypes, bias=False)
        self.criterion = SwaVLoss(own.temperature, own.iterations, own.epsilon)
        self.register_buffer("queue", torch.zeros(2, own.queue, config.embedding))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self._normalise()

    def loss(self, views: Views, step: int) -> Float[Tensor, ""]:
        size = len(views[0])
        # small crops together have about the pixels of a large one; two large ones at once would need more memory
        large = [self.network(v) for v in views[:2]]
        small = [self.network(torch.cat(views[2:]))] if len(views) > 2 else []
        of_large = [self.scores(z) for z in large]
        of_small = [s for part in small for s in torch.split(self.scores(part), size)]
        own, late = self.config.swav, None
        if own.queue and step >= own.queue_start and int(self.filled) >= own.queue:
            late = [self.scores(kept).detach() for kept in self.queue]
        if own.queue:
            self._remember(torch.stack([z.detach() for z in large]))
        found: Tensor = self.criterion(of_large, of_small, late)
        return found.reshape(())

    def scores(self, embeddings: Float[Tensor, "film embedding"]) -> Float[Tensor, "film prototype"]:
        found: Tensor = self.prototypes(embeddings)
        return found

    def codes(self, embeddings: Float[Tensor, "film embedding"]) -> Float[Tensor, "film prototype"]:
        """Sinkhorn-Knopp's assignments of these films: rows sum to 1, columns about to films / prototypes."""
        own = self.config.swav
        found: Tensor = sinkhorn(self.scores(embeddings), own.iterations, own.epsilon)
        return found

    def after_step(self, step: int) -> None:
        self._normalise()

    @property
    def frozen(self) -> list[nn.Parameter]:
        """Parameters that do not move in the first steps."""
        return list(self.prototypes.parameters())

    @torch.no_grad()
    def _normalise(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))

    def _remember(self, large: Tensor) -> None:
        """The newest embeddings in front, the oldest fall off."""
        kept = self.queue.shape[1]
        self.queue = torch.cat([large, self.queue], 1)[:, :kept].clone()
        self.filled += large.shape[1]


class _WithTarget(SslMethod):
    """A method with an averaged copy of the network: θ' ← m θ' + (1 − m) θ after each step."""

    def __init__(self, config: PretrainConfig, network: PretrainNetwork) -> None:
        super().__init__(config, network)
        self.target = deepcopy(network).requires_grad_(False)

    def _momentum(self, step: int) -> float:
        raise NotImplementedError

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.network, self.target)]

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        momentum = self._momentum(step)
        for own, averaged in self._pairs():
            for new, old in zip(own.parameters(), averaged.parameters(), strict=True):
                old.lerp_(new, 1 - momentum)


class DenseCl(_WithTarget):
    """Contrast of whole films, and of each place with the one most like it in the other view."""

    def __init__(self, config: PretrainConfig, network: PretrainNetwork) -> None:
        super().__init__(config, network)
        own, wide = config.densecl, config.embedding
        self.dense = projection_head(network.features, config.hidden, wide)
        self.dense_target = deepcopy(self.dense).requires_grad_(False)
        self.whole = NTXentLoss(own.temperature, (own.queue, wide))
        self.places = NTXentLoss(own.temperature, (own.queue, wide))
        for bank in (self.whole.memory_bank, self.places.memory_bank):  # a resumed run goes on with the same negatives
            bank.register_buffer("bank", bank.bank)
            bank.register_buffer("bank_ptr", bank.bank_ptr)

    def loss(self, views: Views, step: int) -> Float[Tensor, ""]:
        query, one = self._embed(views[0], self.network, self.dense)
        with torch.no_grad():
            key, other = self._embed(views[1], self.target, self.dense_target)
            matched = select_most_similar(query.detach(), key, other[1])
        share = self.config.densecl.dense_weight
        of_whole: Tensor = self.whole(one[0], other[0])
        of_places: Tensor = self.places(one[1].flatten(0, 1), matched.flatten(0, 1))
        return (1 - share) * of_whole + share * of_places

    @staticmethod
    def _embed(films: Tensor, network: PretrainNetwork, dense: nn.Module) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Features (film, place, feature), and embeddings of films and of places."""
        maps = network.maps(films)
        places = maps.flatten(2).transpose(1, 2)
        of_places = dense(places.flatten(0, 1)).unflatten(0, places.shape[:2])
        return places, (network.projector(maps.mean((2, 3))), of_places)

    def _momentum(self, step: int) -> float:
        return self.config.densecl.momentum

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.network, self.target), (self.dense, self.dense_target)]


class Byol(_WithTarget):
    """Each view predicts what the averaged network says of the other."""

    def __init__(self, config: PretrainConfig, network: PretrainNetwork) -> None:
        super().__init__(config, network)
        self.predictor = projection_head(config.embedding, config.byol.hidden, config.embedding)
        self.criterion = NegativeCosineSimilarity()

    def loss(self, views: Views, step: int) -> Float[Tensor, ""]:
        size = len(views[0])
        both = torch.cat(views[:2])
        one, two = torch.split(self.predictor(self.network(both)), size)
        with torch.no_grad():
            first, second = torch.split(self.target(both), size)
        found: Tensor = self.criterion(one, second) + self.criterion(two, first)
        return found

    def _momentum(self, step: int) -> float:
        left = (1 + math.cos(math.pi * step / self.config.train.steps)) / 2
        return 1 - (1 - self.config.byol.momentum) * left


METHODS: dict[str, type[SslMethod]] = {"swav": Swav, "densecl": DenseCl, "byol": Byol}


def build_method(config: PretrainConfig, load: bool = True) -> SslMethod:
    """The method that a config names, around a fresh network; `load` reads the trunk's initial weights.

    Raises:
        ConfigError: weights that do not fit.
    """
    weights = str(config.base / config.weights) if config.weights else ""
    network = PretrainNetwork(config.backbone, config.hidden, config.embedding, config.pretrained, weights, load)
    return METHODS[config.method](config, network)
