"""The energy of a scene given its image, kept up to date with the detector: low where the scene fits, high where it does not.

    E_θ(p, boxes | image) = f / (1 + |f| / B) ∈ (−B, B),     f = f_θ(graph(p, boxes), image features of each box)

f is a scene network with a pooled readout; the slope of the bound never vanishes, however wrong a scene is. θ learns by
contrast: labelled scenes should lie below what the detector *now* says of films and below spoilt scenes. By how much is in
proportion to how wrong the other scene is (a margin with a cost, Taskar et al. 2003; or InfoNCE, van den Oord et al. 2018, with
a cost, Gimpel & Smith 2010): with one margin for all, the energy is a cliff around the labelled scenes, flat beyond, and its
slope says little. λ(E⁺² + E⁻²) keeps energies near 0 (Du & Mordatch, NeurIPS 2019). The detector in turn lowers the energy of
its own soft scene while θ is held (Suhail et al., "Energy-based learning for scene graph generation", CVPR 2021, whose energy
is conditioned on the image). An energy that does not see the image can only say which scenes are likely at large, and a
detector that follows it forgets the film: it makes sense as an ablation only (`image_features=0`).

Ours: the contrast is refreshed by `update` as the detector changes; the detector is pulled down to the running mean of the
labelled scenes and no further, so that a hole in the energy below all real scenes attracts nothing; and image features are
constants to the detector's gradient, so that it cannot answer by changing what the energy sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch_geometric.data import HeteroData

from neurosym.constraints.geometry import TRUE, soft_words
from neurosym.constraints.graph.energy_scenes import EnergyScene
from neurosym.constraints.graph.network import seeded_apart
from neurosym.constraints.graph.ontology_graph import OntologyGraph
from neurosym.constraints.graph.readout import SceneReadout
from neurosym.constraints.graph.scene_graph import (
    GraphSettings,
    batched,
    detection_features,
    relative_boxes,
    scene_graph,
)
from neurosym.constraints.grounding import ground
from neurosym.constraints.shapes import ConstraintSet
from neurosym.errors import ConstraintError, Problem, did_you_mean

_FLOOR = 1e-3
"""As in the atoms of `scene_graph`."""


@dataclass(frozen=True)
class EnergySettings:
    """Size and training of an energy.

    `bound` is B, `regularisation` λ, `margin` by how much a scene that is entirely wrong should lie above a labelled one,
    `memory` how much of the reference an update keeps.
    """

    hidden: int = 48
    rounds: int = 2
    lr: float = 1e-3
    contrast: str = "margin"
    margin: float = 3.0
    regularisation: float = 0.05
    bound: float = 10.0
    memory: float = 0.8
    graph: GraphSettings = field(default_factory=GraphSettings)


class EnergyStep(NamedTuple):
    """What one `update` did: its loss, the mean energies, and the share of (labelled, other) pairs in the right order.

    `ranked` near ½ says that the energy cannot tell them apart: what it teaches the detector is then noise.
    """

    loss: float
    positive: float
    negative: float
    ranked: float


class EnergyLoss(NamedTuple):
    """The detector's loss, with the energy of each image, the reference they are drawn to, and the share of images above it."""

    loss: Float[Tensor, ""]
    energies: Float[Tensor, " image"]
    reference: float
    active: float


class EnergyNetwork(nn.Module):
    """E_θ of a batch of graphs; `reference` is the running mean energy of labelled scenes, NaN before the first update."""

    reference: Tensor

    def __init__(self, ontology: OntologyGraph, image_features: int, settings: EnergySettings) -> None:
        super().__init__()
        self.bound = settings.bound
        known = settings.hidden if image_features else 0
        self.image = nn.Sequential(nn.Linear(image_features, known), nn.ReLU()) if image_features else None
        self.readout = SceneReadout(ontology, known, settings.hidden, settings.rounds)
        self.register_buffer("reference", torch.tensor(float("nan")))

    def forward(self, graph: HeteroData) -> Float[Tensor, " graph"]:
        seen = None
        if self.image is not None:
            shown = graph["detection"].image
            seen = self.image(shown * (shown.square().mean(1, keepdim=True) + 1e-6).rsqrt())
        raw = self.readout(graph, seen)
        energy: Tensor = raw / (1.0 + raw.abs() / self.bound)
        return energy


class EnergyModel:
    """An energy that is trained beside a detector: `update` it with current output, then use `energy_loss`.

    Args:
        constraints: the rules whose groundings are the factors of the graphs.
        ontology: their class nodes (see `ontology_graph`).
        image_features: how many numbers the caller gives of the image in each box (such as the box head's); 0: image-blind.
        settings: see `EnergySettings`.
        seed: same seed and same updates, same energy on a CPU.
        device: where it lives.
        share: called with the parameters once they have gradients, before a step: where several processes learn the same
            energy, it averages the gradients of all.

    Raises:
        ConstraintError: unknown contrast, or a bound that is not positive.
    """

    def __init__(
        self,
        constraints: ConstraintSet,
        ontology: OntologyGraph,
        image_features: int = 0,
        settings: EnergySettings | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        share: Callable[[Iterable[nn.Parameter]], None] | None = None,
    ) -> None:
        self.settings, self.share = settings or EnergySettings(), share
        if self.settings.contrast not in CONTRASTS:
            cure = did_you_mean(self.settings.contrast, CONTRASTS)
            raise ConstraintError(Problem(f"unknown contrast {self.settings.contrast!r}", cure=cure))
        if not self.settings.bound > 0:
            raise ConstraintError(f"energies bounded by {self.settings.bound} cannot differ")
        self.constraints, self.ontology = constraints.to(device), ontology.to(device)
        self.image_features, self.device = image_features, torch.device(device)
        with seeded_apart(seed):
            self.network = EnergyNetwork(self.ontology, image_features, self.settings).to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.settings.lr, weight_decay=1e-3)

    @property
    def reference(self) -> float:
        """The running mean energy of labelled scenes; NaN before the first update."""
        return float(self.network.reference)

    @torch.no_grad()
    def energy(self, scenes: Sequence[EnergyScene]) -> Float[Tensor, " image"]:
        """The energy of each scene, without gradient.

        Raises:
            ConstraintError: a value that is not finite, image features that are missing or of another number.
        """
        if not scenes:
            return torch.zeros(0, device=self.device)
        return _finite(self.network(batched([self.graph(s.detached()) for s in scenes])))

    def update(self, positives: Sequence[EnergyScene], negatives: Sequence[EnergyScene], steps: int = 1) -> EnergyStep:
        """One or a few steps of contrast between labelled scenes and others: the detector's current output, spoilt scenes.

        Returns the state *before* the last of the steps.

        Raises:
            ConstraintError: nothing on one of the sides, or as for `energy`.
        """
        if not positives or not negatives or steps < 1:
            found = f"{len(positives)} labelled and {len(negatives)} other scenes, {steps} steps"
            raise ConstraintError(f"an energy learns by contrast, at least one of each is needed; given: {found}")
        graph = batched([self.graph(s.detached()) for s in (*positives, *negatives)])
        weight = self.settings.regularisation
        cost = torch.tensor([self.settings.margin * s.wrongness for s in negatives], device=self.device)
        for _ in range(steps):
            energies = _finite(self.network(graph))
            low, high = energies[: len(positives)], energies[len(positives) :]
            loss = CONTRASTS[self.settings.contrast](low, high, cost)
            loss = loss + weight * (low.square().mean() + high.square().mean())
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if self.share is not None:
                self.share(self.network.parameters())
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
            self.optimizer.step()
        low, high = low.detach(), high.detach()
        self._remember(low.mean())
        ranked = float((low[:, None] < high[None]).float().mean())
        return EnergyStep(float(loss.detach()), float(low.mean()), float(high.mean()), ranked)

    def _remember(self, mean: Tensor) -> None:
        before, memory = self.network.reference, self.settings.memory
        self.network.reference.copy_(mean if bool(before.isnan()) else memory * before + (1.0 - memory) * mean)

    def graph(self, scene: EnergyScene) -> HeteroData:
        """The scene's graph with its image features; gradients reach the scene's probabilities and boxes."""
        graph = live_graph(
            self.constraints, self.ontology, scene.probabilities, scene.boxes, scene.size, self.settings.graph
        )
        if self.image_features:
            graph["detection"].image = self._shown(scene)
        return graph

    def _shown(self, scene: EnergyScene) -> Tensor:
        given, wanted = scene.features, (len(scene.boxes), self.image_features)
        if given is None or given.shape != wanted:
            found = "none" if given is None else " × ".join(map(str, given.shape))
            cure = "give the detector's features of every box; an energy with image_features=0 is image-blind"
            raise ConstraintError(
                Problem(f"image features of {wanted[0]} × {wanted[1]} are needed, given: {found}", cure=cure)
            )
        if not bool(torch.isfinite(given).all()):
            raise ConstraintError("the detector's image features are not finite; lower the learning rate")
        return given.detach().to(self.device)


def energy_loss(
    model: EnergyModel, scenes: Sequence[EnergyScene], slack: float = 0.0, through_boxes: bool = True
) -> EnergyLoss:
    """How far the energies of the detector's own scenes exceed that of labelled scenes; θ gets no gradient.

        L = mean over images of max(0, E_θ(p, boxes | image) − Ē⁺ − slack),    Ē⁺: the running mean of labelled scenes

    0 iff every scene fits as well as labelled ones do on average. Gradients reach the probabilities and, where `through_boxes`,
    the boxes; which atoms and groundings there are is a constant to them.

    Raises:
        ConstraintError: the energy was never updated, or as for `EnergyModel.energy`.
    """
    if model.reference != model.reference:
        raise ConstraintError("the energy has seen no labelled scene; call update before it teaches the detector")
    if not scenes:
        none = torch.zeros(0, device=model.device)
        return EnergyLoss(none.sum(), none, model.reference, 0.0)
    shown = scenes if through_boxes else [s.with_fixed_boxes() for s in scenes]
    frozen = {name: value.detach() for name, value in model.network.named_parameters()}
    graph = batched([model.graph(s) for s in shown])
    energies: Tensor = _finite(functional_call(model.network, frozen, (graph,)))
    above = F.relu(energies - model.network.reference - slack)
    active = float((above.detach() > 0).float().mean())
    return EnergyLoss(above.mean(), energies.detach(), model.reference, active)


def live_graph(
    constraints: ConstraintSet,
    ontology: OntologyGraph,
    probabilities: Float[Tensor, "box leaf"],
    boxes: Float[Tensor, "box 4"],
    size: tuple[float, float],
    settings: GraphSettings = GraphSettings(),  # noqa: B008  (frozen)
) -> HeteroData:
    """`scene_graph` whose numbers carry gradients; its nodes and edges, and so its numbers, are the same.

    Raises:
        ConstraintError: as `scene_graph`.
    """
    graph = scene_graph(constraints, ontology, probabilities, boxes, size, settings)
    if not (probabilities.requires_grad or boxes.requires_grad):
        return graph
    graph["detection"].x = detection_features(probabilities, boxes, size)
    n, k = graph["atom", "of", "detection"].edge_index[1], graph["class", "names", "atom"].edge_index[0]
    value = (probabilities @ ontology.membership)[n, k, None]
    graph["atom"].x = torch.cat([value, (value + _FLOOR).log()], 1)
    if not settings.relations or not len(boxes):
        return graph
    second, first = graph["detection", "beside", "detection"].edge_index
    words = soft_words(boxes, settings.temperature)[:TRUE, first, second].T
    graph["detection", "beside", "detection"].edge_attr = torch.cat([words, relative_boxes(boxes)[first, second]], 1)
    found = ground(
        constraints, probabilities, boxes, size=size, temperature=settings.temperature, threshold=settings.threshold
    )
    truths = torch.stack([found.premise, found.head, found.premise * (1.0 - found.head)], 1)
    graph["factor"].x = torch.cat([truths, graph["factor"].x[:, truths.shape[1] :]], 1)
    return graph


def _infonce(low: Tensor, high: Tensor, cost: Tensor) -> Tensor:
    """−log e^{−E⁺} / (e^{−E⁺} + Σ e^{cost − E⁻}), averaged over the labelled scenes."""
    others = torch.logsumexp(cost - high, 0).expand_as(low)
    return (torch.logaddexp(-low, others) + low).mean()


def _margin(low: Tensor, high: Tensor, cost: Tensor) -> Tensor:
    """max(0, cost + E⁺ − E⁻), averaged over all pairs."""
    return F.relu(cost + low[:, None] - high[None]).mean()


CONTRASTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"infonce": _infonce, "margin": _margin}
"""Losses of (energies of labelled scenes, energies of others, by how much each of the others should lie above)."""


def _finite(energies: Tensor) -> Tensor:
    if not bool(torch.isfinite(energies).all()):
        raise ConstraintError("the energy of a scene is not finite; lower its learning rate, or make it anew")
    return energies
