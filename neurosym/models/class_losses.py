"""The class loss of a box head, by name; torchvision's cross-entropy where none is named.

All are means over the boxes that a head is trained on, as that cross-entropy is; p are a box's probabilities and y its class:

    cross_entropy       −log p_y
    focal               −(1 − p_y)^γ log p_y           Lin et al., ICCV 2017, on a softmax; γ = 0 is cross_entropy
    label_enhancement   −Σ_c d_c log p_c                d: the distribution of the box's object (`label_enhancement`)

The background keeps its hard label: what is no object has no place among objects. The focal loss is divided by the number of
boxes, not of positives, so its share of the total is as small as its definition makes it. Boxes of label −100 do not count, as
in torchvision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from neurosym.errors import ConfigError, did_you_mean
from neurosym.models.config import ClassificationConfig
from neurosym.models.label_enhancement import ObjectMemory, label_distributions

_SURE = 1e-6
"""1 − p_y is not taken for less, where the slope of a power below 1 has no bound."""


@dataclass(frozen=True)
class Boxes:
    """The boxes of all images that a head is trained on: their classes (0 the background), and their annotated objects.

    Objects are numbered through all images; those of the background and of label −100 mean nothing.
    """

    labels: Int[Tensor, " box"]
    objects: Int[Tensor, " box"]

    @classmethod
    def of(cls, labels: Sequence[Tensor], matched: Sequence[Tensor]) -> Boxes:
        """From each image's labels and indices of annotated boxes."""
        counts = (int(m.max()) + 1 if len(m) else 0 for m in matched)
        first = accumulate(counts, initial=0)
        objects = [m + start for m, start in zip(matched, first, strict=False)]
        return cls(torch.cat(list(labels)), torch.cat(objects))


class ClassLoss(nn.Module, ABC):
    """Logits of boxes, their labels, and what the logits were read from → one loss."""

    @abstractmethod
    def forward(
        self, logits: Float[Tensor, "box leaf"], boxes: Boxes, embedded: Float[Tensor, "box channel"]
    ) -> Float[Tensor, ""]:
        """The mean over the boxes; 0 where there are none. `logits` have the background first."""


class FocalLoss(ClassLoss):
    """(1 − p_y)^γ times the cross-entropy of each box; p in both factors, with its gradient, as published."""

    def __init__(self, config: ClassificationConfig, classes: int, channels: int) -> None:
        super().__init__()
        self.gamma = config.gamma

    def forward(
        self, logits: Float[Tensor, "box leaf"], boxes: Boxes, embedded: Float[Tensor, "box channel"]
    ) -> Float[Tensor, ""]:
        counted = boxes.labels >= 0
        entropy = F.cross_entropy(logits[counted], boxes.labels[counted], reduction="none")
        unsure = (-torch.expm1(-entropy)).clamp_min(_SURE)
        return (unsure**self.gamma * entropy).sum() / max(1, len(entropy))


class LabelEnhancement(ClassLoss):
    """Soft targets for the boxes of objects; remembers objects of each class, and knows how many steps it has seen.

    Until `start` steps have been seen, and always where α = 0 and classes are not related, it is exactly the cross-entropy.
    """

    steps: Tensor
    relations: Tensor

    def __init__(self, config: ClassificationConfig, classes: int, channels: int) -> None:
        super().__init__()
        self.config = config
        self.memory = ObjectMemory(classes, config.memory, channels)
        self.register_buffer("relations", torch.eye(classes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def relate(self, similarity: Float[Tensor, "class class"]) -> None:
        """Let labels lean towards related classes: by the config's share s, in proportion to `similarity` (0 on the diagonal).

        A class that is like no other keeps its label.
        """
        total = similarity.sum(1, keepdim=True)
        share = self.config.ontology * (total > 0).to(similarity)
        own = torch.eye(len(similarity)).to(similarity)
        self.relations.copy_((1.0 - share) * own + share * similarity / total.clamp_min(1e-12))

    def forward(
        self, logits: Float[Tensor, "box leaf"], boxes: Boxes, embedded: Float[Tensor, "box channel"]
    ) -> Float[Tensor, ""]:
        ready = int(self.steps) >= self.config.start
        self.steps.add_(1)
        counted, positive = boxes.labels >= 0, boxes.labels > 0
        if not bool(counted.any()):
            return logits.sum() * 0.0
        plain = F.cross_entropy(logits[counted], boxes.labels[counted])
        if not bool(positive.any()):
            return plain
        of_object, objects = torch.unique(boxes.objects[positive], return_inverse=True)
        features = _means(embedded[positive].detach(), objects, len(of_object))
        labels = torch.zeros_like(of_object).scatter_(0, objects, boxes.labels[positive] - 1)
        soft = self.distributions(features, labels) if ready else F.one_hot(labels, len(self.relations)).to(features)
        self.memory.remember(features, labels)
        # what soft targets differ by from hard ones: nothing at all where they are the same
        moved = (F.one_hot(labels, soft.shape[1]).to(soft) - soft)[objects]
        return plain + (moved * logits[positive].log_softmax(1)[:, 1:]).sum() / counted.sum()

    @torch.no_grad()
    def distributions(
        self, features: Float[Tensor, "object channel"], labels: Int[Tensor, " object"]
    ) -> Float[Tensor, "object class"]:
        """Of a step's objects among those remembered; labels from 0. Nothing is remembered by asking."""
        known, known_labels = self.memory.recall()
        found = label_distributions(
            torch.cat([features, known.to(features)]),
            torch.cat([labels, known_labels]),
            self.relations.to(features),
            self.config.alpha,
            self.config.neighbours,
            self.config.keep,
            self.config.balance,
        )
        return found[: len(features)]


CLASS_LOSSES: dict[str, Callable[[ClassificationConfig, int, int], ClassLoss | None]] = {
    "cross_entropy": lambda _config, _classes, _channels: None,
    "focal": FocalLoss,
    "label_enhancement": LabelEnhancement,
}


def build_class_loss(config: ClassificationConfig, classes: int, channels: int) -> ClassLoss | None:
    """The loss that a config names, for `classes` without the background and embeddings of `channels`.

    None for the plain cross-entropy, which torchvision computes with the box loss.

    Raises:
        ConfigError: no loss has this name.
    """
    if config.loss not in CLASS_LOSSES:
        message = f"unknown loss {config.loss!r}; {did_you_mean(config.loss, CLASS_LOSSES)}"
        raise ConfigError(f"model.classification.loss: {message}")
    return CLASS_LOSSES[config.loss](config, classes, channels)


def relate_classes(model: nn.Module, similarity: Sequence[Sequence[float]]) -> None:
    """Tell the class losses of a model that enhance labels how alike its classes are; the diagonal does not count."""
    alike = torch.tensor(similarity)
    for part in model.modules():
        if isinstance(part, LabelEnhancement):
            part.relate(alike - torch.diag(alike.diagonal()))


def _means(features: Tensor, groups: Tensor, count: int) -> Tensor:
    """The mean of each group's rows."""
    sums = features.new_zeros(count, features.shape[1]).index_add_(0, groups, features)
    return sums / torch.bincount(groups, minlength=count)[:, None]
