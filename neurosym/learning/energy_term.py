"""The energy as a term of training: refreshed by contrast at each step, then lowered by the detector where it can be trusted.

    L = weight · w · g · mean over the student's scenes of max(0, E − Ē⁺)        (`neurosym.constraints.graph.energy_loss`)

w grows linearly from 0 to 1 over the warm-up, which begins after `start_after_updates` updates. g is how far the energy can
tell scenes apart: ρ is the running mean of `EnergyStep.ranked`, the share of (labelled, other) pairs in the right order, each
batch ranked before the energy has learned from it, and

    g = min(1, max(0, (ρ − ½ − m) / (F − ½ − m))),        m = 0.1, F = 0.75

so an energy that ranks as chance does (ρ = ½, where it starts) teaches nothing, whatever its slope says, and one that forgets
falls silent again. The guard is ours, as is the choice of scenes: against labels and relabelled proposals stand the student's
scenes of the same films, judged by the labels, its scenes of unlabelled films at half the margin (they may be right), and
corrupted labelled scenes. What is hardly wrong is no counter-example and is left out.

Everything is in pixels of the image as the model scales it; image features are the pyramid's (`SceneModel.features_of`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neurosym.constraints import ConstraintSet
from neurosym.constraints.graph import (
    EnergyModel,
    EnergyScene,
    EnergySettings,
    GraphSettings,
    ObjectScene,
    OntologyGraph,
    corrupted_scene,
    energy_loss,
    judged_scene,
    labelled_scene,
    relabelled_scene,
)
from neurosym.learning.config import EnergyConfig
from neurosym.learning.distribution import ALONE, World
from neurosym.learning.sampling import Moment
from neurosym.learning.teacher import target_scene
from neurosym.models.scene import SceneModel, SceneProposals, Target, with_extent

UNJUDGED = 0.5
"""Wrongness of the student's scene of a film without labels, which may be right."""
LEAST_WRONG = 0.05
"""Scenes less wrong than this stand against nothing."""
SMOOTHING = (0.05, 0.3)
"""Of labels, drawn evenly for each scene, so that no particular sureness gives them away."""
MARGIN, FULL, MEMORY = 0.1, 0.75, 0.9
"""m and F of the guard, and how much of ρ an update keeps."""


@dataclass(frozen=True)
class Watched:
    """The student's scene of one film with gradients; on a labelled film also its objects and the image in their boxes."""

    scene: EnergyScene
    objects: ObjectScene | None = None
    true_features: Tensor | None = None


class EnergyTerm:
    """An energy beside one detector; the same seed, steps and scenes give the same energy on a CPU.

    Args:
        config: see `EnergyConfig`.
        constraints: the rules whose groundings are factors of the graphs.
        ontology: their class nodes (see `ontology_graph`).
        channels: of the model's pyramid.
        seed: of the network, and with the step of the corrupted scenes.
        device: where the detector is.
        world: the processes that learn the same energy, each from the films that it sees.
    """

    def __init__(
        self,
        config: EnergyConfig,
        constraints: ConstraintSet,
        ontology: OntologyGraph,
        channels: int,
        seed: int,
        device: torch.device,
        world: World = ALONE,
    ) -> None:
        self.config, self.seed, self.leaves, self.world = config, seed, len(constraints.names), world
        settings = EnergySettings(
            hidden=config.hidden,
            rounds=config.rounds,
            lr=config.lr,
            contrast=config.contrast,
            graph=GraphSettings(relations=config.relations),
        )
        shown = channels if config.image_features else 0
        self.energy = EnergyModel(constraints, ontology, shown, settings, seed, device, world.average_gradients)
        self.updates, self.ranked, self.active = 0, 0.5, float("nan")

    def watch(
        self,
        model: SceneModel,
        scenes: Sequence[SceneProposals],
        images: Sequence[Tensor] = (),
        targets: Sequence[Target] = (),
    ) -> list[Watched]:
        """What the energy needs of the model's last pass; call it before the next one.

        Args:
            model: it has just made `scenes`.
            scenes: of one batch.
            images: of the batch, and
            targets: what is on them in their pixels, if it is known.
        """
        if not scenes:
            return []
        features = self._features(model, [s.boxes for s in scenes])
        seen = [EnergyScene(s.probabilities, s.boxes, _size(s), f) for s, f in zip(scenes, features, strict=True)]
        if not targets:
            return [Watched(s) for s in seen]
        objects = [_objects(t, i, s.size) for t, i, s in zip(targets, images, seen, strict=True)]
        boxes = [s.boxes.new_tensor(o.boxes).reshape(-1, 4) for s, o in zip(seen, objects, strict=True)]
        parts = zip(seen, objects, self._features(model, boxes), strict=True)
        return [Watched(scene, o, shown) for scene, o, shown in parts]

    def _features(self, model: SceneModel, boxes: list[Tensor]) -> Sequence[Tensor | None]:
        return model.features_of(boxes) if self.config.image_features else [None] * len(boxes)

    def losses(
        self, moment: Moment, labelled: Sequence[Watched], unlabelled: Sequence[Watched], learns: bool = True
    ) -> dict[str, Tensor]:
        """Update the energy, if it `learns`, then `loss_energy`, if it may teach yet; `moment` is the detector's."""
        if learns:
            self._update(moment, labelled, unlabelled)
        weight = self.weight
        if weight == 0:
            self.active = float("nan")
            return {}
        found = energy_loss(self.energy, [w.scene for w in (*labelled, *unlabelled)])
        self.active = found.active
        return {"loss_energy": weight * found.loss}

    @property
    def weight(self) -> float:
        """weight · w · g: 0 while the energy is too young, or ranks scenes no better than chance."""
        begun = (self.updates - self.config.start_after_updates) / self.config.updates
        warm = min(1.0, max(0.0, begun) / max(1, self.config.warmup_steps))
        knows = (self.ranked - 0.5 - MARGIN) / (FULL - 0.5 - MARGIN)
        return self.config.weight * warm * min(1.0, max(0.0, knows))

    def figures(self) -> dict[str, float]:
        """For the log: ρ, and while the energy teaches, the share of scenes that it draws at."""
        found = {"energy_ranked": self.ranked} if self.updates else {}
        return found | ({"energy_active": self.active} if self.active == self.active else {})

    def _update(self, moment: Moment, labelled: Sequence[Watched], unlabelled: Sequence[Watched]) -> None:
        rng = moment.draws(self.seed, 6)
        positives: list[EnergyScene] = []
        negatives = [replace(w.scene.detached(), wrongness=UNJUDGED) for w in unlabelled]
        for one in labelled:
            assert one.objects is not None
            true = labelled_scene(one.objects, self.leaves, one.true_features, float(rng.uniform(*SMOOTHING)))
            true = replace(
                true, probabilities=true.probabilities.to(one.scene.boxes), boxes=true.boxes.to(one.scene.boxes)
            )
            mine = [true, relabelled_scene(one.objects, one.scene)]
            positives += mine
            negatives += [judged_scene(one.objects, one.scene), *(corrupted_scene(s, rng) for s in mine)]
        negatives = [s for s in negatives if s.wrongness >= LEAST_WRONG]
        # an update is one of all processes, or of none
        if not self.world.everyone(bool(positives and negatives), self.energy.device):
            return
        told = self.energy.update(positives, negatives)
        if self.config.updates > 1:
            self.energy.update(positives, negatives, self.config.updates - 1)
        ranked = float(self.world.mean(torch.tensor(told.ranked, device=self.energy.device)))
        self.ranked = MEMORY * self.ranked + (1.0 - MEMORY) * ranked
        self.world.agree([self.energy.network])
        self.updates += self.config.updates

    def state(self) -> dict[str, Tensor]:
        """Network, optimiser and guard as tensors."""
        found = {f"network.{k}": v for k, v in self.energy.network.state_dict().items()}
        for index, moments in self.energy.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
        found["updates"] = torch.tensor(self.updates)
        found["ranked"] = torch.tensor(self.ranked, dtype=torch.float64)
        return found

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from tensors that `state` gave."""
        weights = {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}
        self.energy.network.load_state_dict(weights)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                moments.setdefault(int(index), {})[name] = value
        groups = self.energy.optimizer.state_dict()["param_groups"]
        self.energy.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.updates, self.ranked = int(state["updates"]), float(state["ranked"])


def _size(scene: SceneProposals) -> tuple[float, float]:
    assert scene.size is not None, "models tell the size of the image they have scaled"
    return scene.size


def _objects(target: Target, image: Tensor, size: tuple[float, float]) -> ObjectScene:
    """A target's objects in pixels of the scaled image of (width, height) `size`; boxes without extent are left out."""
    whole = target_scene(with_extent([target])[0], image)
    scale = np.array([size[0] / whole.size[0], size[1] / whole.size[1]] * 2)
    return ObjectScene(whole.labels, whole.boxes * scale, size)
