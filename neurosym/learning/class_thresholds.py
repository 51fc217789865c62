"""A threshold of pseudo-labels for each class, which follows how sure the teacher is of the class.

One threshold for all classes asks the same of a lung and of a nodule: the teacher reaches it for lungs at once and for nodules
never. FreeMatch (Wang et al., ICLR 2023, eq. 6 to 9) scales a common threshold by how sure the model is of a class, relative to
the class that it is surest of; its quantities are of images, ours of detections:

    p̃_t(c) = λ p̃_{t−1}(c) + (1 − λ) mean score of the step's detections of class c
    τ_t(c) = τ · p̃_t(c) / max_k p̃_t(k),   but not below `floor`

Detections of c are the teacher's objects that are likelier c than any other class, with a probability of at least `floor`; a
class without one in a step keeps its p̃. τ is the config's `teacher.threshold` (FreeMatch learns it as well; we keep what the
user asked for as the bound). A class that was not seen yet has τ.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosym.learning.config import TrainConfig
from neurosym.learning.distribution import World
from neurosym.models.scene import SceneProposals

_PREFIX = "class_thresholds."


class ClassThresholds:
    """p̃ of each class; `tensors` is all that a resumed run needs."""

    def __init__(self, classes: int, threshold: float, floor: float, decay: float) -> None:
        self.threshold, self.floor, self.decay = threshold, floor, decay
        self.mean, self.seen = torch.zeros(classes), torch.zeros(classes)

    @classmethod
    def of(cls, config: TrainConfig, classes: int) -> ClassThresholds | None:
        """Those of a run; None if it has one threshold for all classes."""
        settings, refiner = config.teacher, config.refiner
        if not settings.adaptive or settings.weight == 0:
            return None
        bound = refiner.threshold if refiner.enabled else settings.threshold
        return cls(classes, bound, settings.adaptive_floor, settings.adaptive_decay)

    @torch.no_grad()
    def watch(self, scenes: Sequence[SceneProposals]) -> None:
        """Take in what the teacher sees at a step."""
        rows = torch.cat([s.probabilities[:, 1:].cpu() for s in scenes])
        if not len(rows):
            return
        score, which = rows.max(1)
        for c in range(len(self.mean)):
            own = score[(which == c) & (score >= self.floor)]
            if len(own):
                before = self.mean[c] if self.seen[c] > 0 else own.mean()
                self.mean[c] = self.decay * before + (1.0 - self.decay) * own.mean()
                self.seen[c] = 1.0

    def agree(self, world: World) -> None:
        """Take up the mean of the processes that have seen a class."""
        weight, total = world.total(self.seen), world.total(self.mean * self.seen)
        self.mean = total / weight.clamp_min(1.0)
        self.seen = (weight > 0).to(self.seen)

    def thresholds(self) -> list[float]:
        """τ(c) of each class."""
        most = float(self.mean.max()) if bool(self.seen.any()) else 0.0
        scaled = [self.threshold * float(m) / most if s > 0 else self.threshold for m, s in self._each()]
        return [max(min(self.floor, self.threshold), t) for t in scaled]

    def _each(self) -> list[tuple[float, float]]:
        return list(zip(self.mean.tolist(), self.seen.tolist(), strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """The state, by name."""
        return {f"{_PREFIX}mean": self.mean, f"{_PREFIX}seen": self.seen}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take up a state; what is not there stays as it is."""
        self.mean = tensors.get(f"{_PREFIX}mean", self.mean).clone()
        self.seen = tensors.get(f"{_PREFIX}seen", self.seen).clone()
