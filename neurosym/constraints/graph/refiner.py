"""The refiner: a graph network that takes a spoilt scene back to one that the rules allow, and its loss on the detector.

Trained on pairs (sampled scene, the same scene as the detector might see it): cross-entropy of every proposal's
class, a smooth L1 of its borders where it falls to an object, and the overlap it reaches. Used, its output on a film
is a *target*: confident, without gradient, for the detector itself to agree with (denoising, Vincent et al. 2008;
targets without gradient as in mean teachers, Tarvainen & Valpola 2017),

    L = Σₙ 1[max qₘ₍ₙ₎ ≥ τ] · CE(qₘ₍ₙ₎, pₙ) / Σₙ 1[max qₘ₍ₙ₎ ≥ τ],      m(n): the refined object that n overlaps most,

The detector's confusions are the noise, the rules and the ontology are what makes the clean scene likely. From a few
films the noise is only roughly known; so the network's opinion q is pooled with the detector's own p (logarithmic
pool, Genest & Zidek 1986).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import HeteroData
from torchvision.ops import box_iou

from neurosym.constraints.graph.error_model import ErrorModel
from neurosym.constraints.graph.network import SceneNetwork, fit, seeded_apart
from neurosym.constraints.graph.ontology_graph import OntologyGraph
from neurosym.constraints.graph.sampler import ObjectScene, SceneSampler
from neurosym.constraints.graph.scene_graph import GraphSettings, batched, scene_graph
from neurosym.constraints.shapes import ConstraintSet
from neurosym.errors import ConstraintError

CLASS_OVERLAP, BOX_OVERLAP = 0.5, 0.3
"""Intersections over union from which on a proposal is of its object's class, and is drawn to its borders."""
SAME_OBJECT = 0.5


@dataclass(frozen=True)
class RefinerSettings:
    """Size and training of the network; `scenes` are sampled anew for each training."""

    scenes: int = 1200
    steps: int = 300
    batch: int = 24
    lr: float = 2e-3
    hidden: int = 64
    rounds: int = 3
    trust: float = 0.5
    """α: refined probabilities are ∝ p^(1−α) q^α, of the detector's p and the network's q (a logarithmic opinion pool);
    boxes are moved by a share α of the way that the network says."""
    graph: GraphSettings = field(default_factory=GraphSettings)


@dataclass(frozen=True)
class RefinedScene:
    """What the refiner makes of one image's proposals; no gradients. `fit` estimates each box's overlap with an object."""

    probabilities: Float[Tensor, "box leaf"]
    boxes: Float[Tensor, "box 4"]
    fit: Float[Tensor, " box"]
    size: tuple[float, float]


class SceneRefiner:
    """A trained network with the constraints and the ontology that its graphs are made from."""

    def __init__(
        self,
        constraints: ConstraintSet,
        ontology: OntologyGraph,
        settings: RefinerSettings,
        device: torch.device | str = "cpu",
    ) -> None:
        self.constraints, self.ontology = constraints.to(device), ontology.to(device)
        self.settings, self.device = settings, torch.device(device)
        self.network = SceneNetwork(self.ontology, settings.hidden, settings.rounds).to(device).eval()

    def graph(self, probabilities: Tensor, boxes: Tensor, size: tuple[float, float]) -> HeteroData:
        """The scene graph of one image as this refiner sees it."""
        return scene_graph(self.constraints, self.ontology, probabilities, boxes, size, self.settings.graph)

    @torch.no_grad()
    def refine(self, images: Sequence[tuple[Tensor, Tensor, tuple[float, float]]]) -> list[RefinedScene]:
        """Refine (probabilities, boxes, (width, height)) of each image; an image without proposals stays without."""
        if not images:
            return []
        out = self.network(batched([self.graph(*image) for image in images]))
        counts = [len(p) for p, _, _ in images]
        pooled = self.settings.trust * out.log_probabilities
        pooled = pooled + (1 - self.settings.trust) * torch.cat([(p + 1e-4).log() for p, _, _ in images])
        moved = torch.cat([boxes for _, boxes, _ in images])
        moved = moved + self.settings.trust * (out.boxes - moved)
        parts = zip(
            pooled.log_softmax(1).split(counts), moved.split(counts), out.fit.split(counts), images, strict=True
        )
        return [
            RefinedScene(log.exp(), _within(boxes, size), torch.sigmoid(fit), size)
            for log, boxes, fit, (_, _, size) in parts
        ]


def _within(boxes: Tensor, size: tuple[float, float]) -> Tensor:
    """Boxes cut off at the image's borders; a box that has lost its extent keeps one pixel."""
    limit = boxes.new_tensor([*size, *size])
    low, high = torch.minimum(boxes, limit).clamp_min(0).chunk(2, 1)
    return torch.cat([torch.minimum(low, high), torch.maximum(high, low + 1.0)], 1)


def train_refiner(
    constraints: ConstraintSet,
    ontology: OntologyGraph,
    scenes: Sequence[ObjectScene],
    errors: ErrorModel,
    settings: RefinerSettings | None = None,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
    device: torch.device | str = "cpu",
) -> SceneRefiner:
    """Sample scenes, spoil them, and learn the way back.

    Args:
        constraints: what bends the samples, and makes the factors of the graphs.
        ontology: the class nodes (see `ontology_graph`).
        scenes: the labelled ones.
        errors: how the detector sees objects; it must have observed something.
        settings: see `RefinerSettings`.
        seed: same seed, same refiner on a CPU.
        progress: called with (step, steps, loss).
        device: where the network is trained.

    Raises:
        ConstraintError: nothing was observed, or no scene has an object.
    """
    settings = settings or RefinerSettings()
    if not errors.alarms:
        raise ConstraintError("the error model has seen no film, so no scene can be spoilt as the detector would")
    rng = np.random.default_rng([seed, 7])
    sampler = SceneSampler(scenes, constraints.to("cpu"))
    with seeded_apart(seed):
        refiner = SceneRefiner(constraints, ontology, settings, device)
        examples = [
            e for e in (_example(refiner, sampler, errors, rng) for _ in range(settings.scenes)) if e is not None
        ]
        if not examples:
            raise ConstraintError("no sampled scene shows the detector an object; label more films")
        _fit(refiner, examples, rng, progress)
    return refiner


def _example(
    refiner: SceneRefiner, sampler: SceneSampler, errors: ErrorModel, rng: np.random.Generator
) -> HeteroData | None:
    """The graph of one spoilt scene, with what each proposal should have been."""
    scene = sampler.sample(rng)
    probabilities, boxes = (torch.from_numpy(v.astype(np.float32)).to(refiner.device) for v in errors.spoil(scene, rng))
    if not len(boxes):
        return None
    graph = refiner.graph(probabilities, boxes, scene.size)
    node = graph["detection"]
    node.label = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
    node.overlap, node.target = boxes.new_zeros(len(boxes)), boxes.clone()
    if len(scene):
        true = torch.from_numpy(scene.boxes.astype(np.float32)).to(boxes.device)
        overlap, which = box_iou(boxes, true).max(1)
        labels = torch.from_numpy(scene.labels).to(boxes.device)[which]
        node.label = torch.where(overlap >= CLASS_OVERLAP, labels, node.label)
        node.overlap, node.target = overlap, true[which]
    return graph


def _fit(
    refiner: SceneRefiner,
    examples: Sequence[HeteroData],
    rng: np.random.Generator,
    progress: Callable[[int, int, float], None] | None,
) -> None:
    settings, network = refiner.settings, refiner.network

    def loss_of_step() -> Tensor:
        chosen = rng.integers(len(examples), size=min(settings.batch, len(examples)))
        return denoising_loss(network, batched([examples[int(i)] for i in chosen]))

    fit(network, loss_of_step, settings.steps, settings.lr, 0.05, progress)


def denoising_loss(network: SceneNetwork, graph: HeteroData) -> Float[Tensor, ""]:
    """Class, borders and overlap of every proposal of a batch of spoilt scenes."""
    out, node = network(graph), graph["detection"]
    loss = F.nll_loss(out.log_probabilities, node.label)
    near = node.overlap >= BOX_OVERLAP
    if bool(near.any()):
        sides = (node.boxes[:, 2:] - node.boxes[:, :2]).clamp_min(1.0)
        wanted = (node.target - node.boxes) / torch.cat([sides, sides], 1)
        loss = loss + F.smooth_l1_loss(out.shift[near], wanted[near], beta=0.1)
    return loss + 0.2 * F.binary_cross_entropy_with_logits(out.fit, node.overlap)


def consistency_loss(
    student: Sequence[tuple[Tensor, Tensor]],
    refined: Sequence[tuple[Tensor, Tensor]],
    threshold: float = 0.6,
) -> Float[Tensor, ""]:
    """How far the detector's (probabilities, boxes), (n, leaf) and (n, 4), are from the confident refined ones of these images.

    Both are in the same pixels; a film's two lists need not be of one length.

    0 iff every confident refined object that the student also proposes has the refined distribution concentrated on one class
    and the student agrees with it entirely; 0 with a gradient of 0 where nothing is confident or nothing overlaps.
    """
    terms = []
    for (p, boxes), (q, refined_boxes) in zip(student, refined, strict=True):
        sure = q.max(1).values >= threshold if len(q) else torch.zeros(0, dtype=torch.bool, device=q.device)
        if not len(p) or not bool(sure.any()):
            terms.append(p.sum().reshape(1)[:0])
            continue
        overlap, which = box_iou(boxes.detach(), refined_boxes[sure]).max(1)
        same = overlap >= SAME_OBJECT
        target = q[sure][which[same]].detach()
        terms.append(-(target * p[same].clamp_min(1e-6).log()).sum(1))
    together = torch.cat(terms)
    return together.mean() if len(together) else together.sum()
