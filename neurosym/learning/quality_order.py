"""Films that seem well annotated are shown more often, once the model has an opinion of them.

Where a few films are exact and many are not, an even order shows the exact ones seldom, and in a short training a detector
learns less of where objects end from all films than it would from the exact ones alone. So from step `train.quality_start` on,
every `train.quality_every` steps, every labelled film is judged (the model judges better for what it was shown by then): the
quality q of a film is the mean over its boxes of their expected overlap with the true ones (`neurosym.models.posterior`), and

    wᵢ = 1 / (1 + ((1 − qᵢ) / ε)²),     rᵢ = 1 + (R − 1) min(1, wᵢ / w̄)

with w̄ the 90th percentile of w over the films with boxes, ε `ERROR` and R `train.quality_repeat`: film i is shown about rᵢ
times in each epoch (`RepeatFactorOrder`). Of a film that is said to show nothing all is known: its q is 1. A film without boxes
that is not known to be empty has r = 1. Where all films are alike, so is how often they are shown.
Nothing is left out, and no quality is given. This is ours; that a schedule should follow its data is the idea of curricula
(Bengio et al., ICML 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurosym.data.weak_labels import says_weakly
from neurosym.learning.annotation_quality import qualities
from neurosym.learning.config import OptimConfig
from neurosym.learning.distribution import World
from neurosym.learning.sampling import Order, RepeatFactorOrder
from neurosym.models.scene import SceneModel
from neurosym.records import Sample

ERROR: Final = 0.1
_TOP: Final = 0.9
_NAME, _WHEN = "film_quality", "film_quality_step"
_BATCH: Final = 4
_UNKNOWN: Final = -1.0


class QualityOrder:
    """An order of films that changes when their quality is told; `tensors` is all that a resumed run needs.

    Args:
        before: the order until then.
        start: the step from which the films' quality counts.
        every: steps until it is told again.
        repeat: R, at least 1.
        seed: of the order from then on.
    """

    def __init__(self, before: Order, start: int, every: int, repeat: float, seed: int) -> None:
        self.before, self.start, self.every, self.repeat, self.seed = before, start, every, repeat, seed
        self.quality: Tensor | None = None
        self._due = start
        self._after: RepeatFactorOrder | None = None

    @classmethod
    def of(cls, before: Order, settings: OptimConfig, seed: int) -> QualityOrder:
        """As a config asks for it."""
        return cls(before, settings.quality_start, settings.quality_every, settings.quality_repeat, seed)

    def __call__(self, batch: int, step: int) -> list[int]:
        """The films of a step."""
        chosen = self.before if self._after is None or step < self.start else self._after
        return chosen(batch, step)

    def is_due(self, step: int) -> bool:
        """Whether the films have to be judged before this step."""
        return step >= self._due

    def judge(self, model: SceneModel, films: Sequence[Sample], world: World, step: int) -> None:
        """Judge every film by a model that refines boxes; each process judges its share, and all hear of all."""
        training, device = model.training, next(model.parameters()).device
        model.eval()
        quality = torch.zeros(len(films))
        own = list(range(world.rank, len(films), world.size))
        for n in range(0, len(own), _BATCH):
            shown = [films[i] for i in own[n : n + _BATCH]]
            for i, film, told in zip(own[n : n + _BATCH], shown, qualities(model, shown), strict=True):
                quality[i] = told.mean() if len(told) else _UNKNOWN if says_weakly(film) else 1.0
        model.train(training)
        total = world.total(quality.to(device)).cpu()
        self.tell(total.masked_fill(total == _UNKNOWN, float("nan")), step)

    def tell(self, quality: Float[Tensor, " film"], step: int) -> None:
        """Take the films' qualities from a step on, NaN for those of which no box tells one."""
        self.quality, self._due = quality, step + self.every
        self._after = RepeatFactorOrder(factors(quality, self.repeat).tolist(), self.seed)

    def tensors(self) -> dict[str, Tensor]:
        """The state, by name."""
        return {} if self.quality is None else {_NAME: self.quality, _WHEN: torch.tensor(self._due - self.every)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take up a state."""
        if _NAME in tensors:
            self.tell(tensors[_NAME].cpu(), int(tensors[_WHEN]))


def factors(quality: Float[Tensor, " film"], repeat: float) -> np.ndarray:
    """r of each film; NaN is the quality of one of which no box tells it.

    Invariant: from 1 to `repeat`, and never less for a better film.
    """
    q = quality.double().numpy()
    weight = 1.0 / (1.0 + ((1.0 - q) / ERROR) ** 2)
    known = ~np.isnan(q)
    top = float(np.quantile(weight[known], _TOP)) if known.any() else 1.0
    found: np.ndarray = np.where(known, 1.0 + (repeat - 1.0) * np.minimum(1.0, weight / max(top, 1e-9)), 1.0)
    return found
