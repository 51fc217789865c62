"""How good a hypothesis about a scene's masks is: a graph network's estimate of its agreement with the truth.

Trained on labelled films (Xie et al., RICE, CoRL 2021, where a network scores segmentation graphs): truth is spoilt by the
moves that refinement makes, one more move is made in several ways, and the network learns the quality of every result,

    q(found, true) = 2 Σ F(matched pair) / (|found| + |true|),      F = Dice, pairs of one class matched best (Kuhn–Munkres)

by cross-entropy, and the order of those that come from one scene. RICE scores pixels (an F-measure over all objects); q, the
panoptic quality of Kirillov et al. 2019 with Dice in the place of intersection over union, also counts a small false object.
What the network sees are the classes, boxes, relations and rules of the scene graph, the masks' shapes, what covers them and,
if an image is given, how bright they are. It does not see detection scores: those of training would not be those of use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import HeteroData

from neurosym.constraints.graph.instance_moves import SHAPE, Instance, in_turns, moves_of, overlap, siblings
from neurosym.constraints.graph.network import fit, seeded_apart
from neurosym.constraints.graph.ontology_graph import OntologyGraph
from neurosym.constraints.graph.readout import SceneReadout
from neurosym.constraints.graph.scene_graph import GraphSettings, batched, scene_graph
from neurosym.constraints.shapes import ConstraintSet
from neurosym.data.masks import decode_mask
from neurosym.errors import ConstraintError, Problem, did_you_mean
from neurosym.records import Scene

Image = np.ndarray
"""(height, width), any unit."""
_FEATURES = len(SHAPE) + 2 + 4
"""Shape, the shares that objects of its own class and others cover, and: is there an image, its mean, contrast and spread."""
_CHUNK = 64


@dataclass(frozen=True)
class ScorerSettings:
    """Size and training of a scorer; `groups` spoilt scenes of each film, `group` hypotheses each.

    Films are scaled down to at most `cells` pixels a side for training; what the network sees does not depend on it.
    """

    groups: int = 6
    group: int = 8
    spoils: int = 3
    steps: int = 240
    batch: int = 6
    lr: float = 4e-3
    hidden: int = 32
    rounds: int = 2
    cells: int = 96
    graph: GraphSettings = field(default_factory=GraphSettings)


class InstanceScorer:
    """A network with the constraints and the ontology that its graphs are made from."""

    def __init__(self, constraints: ConstraintSet, ontology: OntologyGraph, settings: ScorerSettings) -> None:
        self.constraints, self.ontology, self.settings = constraints, ontology, settings
        self.related = siblings(ontology)
        self.network = SceneReadout(ontology, _FEATURES, settings.hidden, settings.rounds, counts=True).eval()

    @torch.no_grad()
    def score(
        self, hypotheses: Sequence[Sequence[Instance]], size: tuple[float, float], image: Image | None = None
    ) -> Float[np.ndarray, " hypothesis"]:
        """The estimated quality, in (0, 1), of each hypothesis about one image of this (width, height)."""
        bright = Brightness(image)
        found = [np.zeros(0)]
        for start in range(0, len(hypotheses), _CHUNK):
            graphs = [self.graph(h, size, bright) for h in hypotheses[start : start + _CHUNK]]
            found.append(torch.sigmoid(self.logits(graphs)).double().numpy())
        return np.concatenate(found)

    def graph(self, instances: Sequence[Instance], size: tuple[float, float], bright: Brightness) -> HeteroData:
        """The scene graph of a hypothesis; each detection is sure of its class and has the features of its mask."""
        p = torch.zeros(len(instances), len(self.constraints.names) + 1)
        p[torch.arange(len(instances)), torch.tensor([i.label for i in instances], dtype=torch.long)] = 1.0
        boxes = torch.tensor([i.box for i in instances]).reshape(-1, 4)
        graph = scene_graph(self.constraints, self.ontology, p, boxes, size, self.settings.graph)
        graph["detection"].known = torch.from_numpy(_features(instances, bright).astype(np.float32))
        return graph

    def logits(self, graphs: Sequence[HeteroData]) -> Float[Tensor, " graph"]:
        """The scores before the sigmoid."""
        batch = batched(list(graphs))
        scores: Tensor = self.network(batch, batch["detection"].known)
        return scores


class Brightness:
    """What an image shows in and around masks: mean inside, the ring around minus that, the spread inside; in its own range."""

    def __init__(self, image: Image | None) -> None:
        self.image: Image | None = None
        if image is not None:
            if image.ndim != 2 or not np.isfinite(image).all():
                raise ConstraintError("the image is not a (height, width) grid of finite values")
            low, high = np.percentile(image, (1, 99))
            self.image = np.clip((image - low) / max(float(high - low), 1e-9), 0.0, 1.0)
        self.known: dict[Instance, np.ndarray] = {}

    def of(self, instance: Instance) -> np.ndarray:
        """(there is an image, mean, contrast, spread); zeros without an image."""
        if self.image is None:
            return np.zeros(4)
        if instance not in self.known:
            self.known[instance] = self._measure(instance, self.image)
        return self.known[instance]

    def _measure(self, instance: Instance, image: Image) -> np.ndarray:
        if image.shape != instance.mask.shape:
            raise ConstraintError(f"the image is {image.shape}, its masks are {instance.mask.shape} (height, width)")
        reach = max(2, round(0.1 * math.sqrt(instance.area)))
        rows, columns = instance.window
        around = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in (rows, columns))
        mask, shown = instance.mask[around], image[around]
        ring = ndimage.binary_dilation(mask, iterations=reach) & ~mask
        inside = shown[mask]
        beyond = shown[ring].mean() if ring.any() else inside.mean()
        return np.array([1.0, inside.mean(), beyond - inside.mean(), inside.std()])


def _features(instances: Sequence[Instance], bright: Brightness) -> Float[np.ndarray, "instance feature"]:
    found = np.zeros((len(instances), _FEATURES))
    for k, one in enumerate(instances):
        found[k, : len(SHAPE)] = one.shape
        found[k, -4:] = bright.of(one)
        for other in instances:
            if other is not one:
                common = overlap(one, other) * (one.area + other.area) / 2 / one.area
                found[k, len(SHAPE) + (other.label != one.label)] += common
    found[:, len(SHAPE) : len(SHAPE) + 2] = found[:, len(SHAPE) : len(SHAPE) + 2].clip(0.0, 1.0)
    return found


def mask_quality(found: Sequence[Instance], true: Sequence[Instance]) -> float:
    """q in [0, 1]: the mean mask F-score of all objects, found or missed; 1 iff classes and pixels are the same."""
    if not found and not true:
        return 1.0
    dice = np.array([[overlap(a, b) if a.label == b.label else 0.0 for b in true] for a in found])
    dice = dice.reshape(len(found), len(true))
    rows, columns = linear_sum_assignment(dice, maximize=True)
    return float(2.0 * dice[rows, columns].sum() / (len(found) + len(true)))


def instances_of(scene: Scene, names: Sequence[str], cells: int | None = None) -> tuple[Instance, ...]:
    """The scene's detections as instances, at most `cells` pixels a side; those without a pixel are left out.

    Raises:
        ConstraintError: an unknown class, a detection without a mask, a mask of another size than the scene.
    """
    problems, found = [], []
    for k, d in enumerate(scene.detections, 1):
        if d.name not in names:
            problems.append(Problem(f"{scene.image_id}: unknown class {d.name!r}", cure=did_you_mean(d.name, names)))
        elif d.mask is None:
            cure = "masks are refined of scenes in which every object has one; boxes alone show no pixels"
            problems.append(Problem(f"{scene.image_id}: detection {k} ({d.name}) has no mask", cure=cure))
        elif list(d.mask["size"]) != [scene.height, scene.width]:
            size = f"{d.mask['size']} (height, width), the scene {[scene.height, scene.width]}"
            problems.append(Problem(f"{scene.image_id}: the mask of detection {k} ({d.name}) is {size}"))
        else:
            step = 1 if cells is None else math.ceil(max(scene.height, scene.width) / cells)
            mask = decode_mask(d.mask)[::step, ::step] > 0
            if mask.any():
                found.append(Instance(names.index(d.name) + 1, mask, float(d.score), d))
    if problems:
        raise ConstraintError(problems)
    return tuple(found)


def train_scorer(
    scenes: Sequence[Scene],
    constraints: ConstraintSet,
    ontology: OntologyGraph,
    settings: ScorerSettings | None = None,
    seed: int = 0,
    images: Sequence[Image] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> InstanceScorer:
    """Learn to tell good hypotheses about masks from bad ones.

    Args:
        scenes: labelled films, every object with a mask.
        constraints: the rules whose groundings are factors of the graphs.
        ontology: their class nodes (see `ontology_graph`).
        settings: see `ScorerSettings`.
        seed: same seed, same scorer.
        images: the films' pixels, if the scorer is to see them; then give them to `refine_instances`, too.
        progress: called with (step, steps, loss).

    Raises:
        ConstraintError: no object at all, an object without a mask, not one image a film.
    """
    settings = settings or ScorerSettings()
    if images is not None and len(images) != len(scenes):
        raise ConstraintError(f"{len(images)} images for {len(scenes)} labelled films")
    truths = [instances_of(s, constraints.names, settings.cells) for s in scenes]
    if not any(truths):
        raise ConstraintError("no labelled film shows an object; a scorer of masks has nothing to learn from")
    rng = np.random.default_rng([seed, 13])
    with seeded_apart(seed):
        scorer = InstanceScorer(constraints.to("cpu"), ontology.to("cpu"), settings)
        groups = []
        for k, (scene, truth) in enumerate(zip(scenes, truths, strict=True)):
            if not truth:
                continue
            height, width = truth[0].mask.shape
            step = math.ceil(max(scene.height, scene.width) / settings.cells)
            bright = Brightness(None if images is None else images[k][::step, ::step])
            for _ in range(settings.groups):
                hypotheses, quality = _group(truth, truths, scorer, rng)
                graphs = [scorer.graph(h, (float(width), float(height)), bright) for h in hypotheses]
                groups.append((graphs, torch.tensor(quality)))
        _fit(scorer, groups, rng, progress)
    return scorer


def _group(
    truth: Sequence[Instance], truths: Sequence[Sequence[Instance]], scorer: InstanceScorer, rng: np.random.Generator
) -> tuple[list[Sequence[Instance]], list[float]]:
    """A spoilt scene, what moves make of it (the best ones and any), and the truth itself, with their qualities."""
    spoilt, gone = _spoilt(truth, truths, scorer, rng)
    candidates = [*gone, *([_stranger(truth, truths, rng)] if rng.random() < 0.7 else [])]
    moves = moves_of(spoilt, candidates, scorer.related)
    results = [m.apply(spoilt) for m in moves]
    quality = np.array([mask_quality(r, truth) for r in results])
    best = np.argsort(-quality, kind="stable")[: scorer.settings.group // 2].tolist()
    place = {id(m): k for k, m in enumerate(moves)}
    rest = [k for k in (place[id(m)] for m in in_turns(moves, rng)) if k not in best]
    chosen = [*best, *rest][: max(1, scorer.settings.group - 2)]
    hypotheses = [spoilt, truth, *(results[k] for k in chosen)]
    return hypotheses, [mask_quality(spoilt, truth), 1.0, *(float(quality[k]) for k in chosen)]


def _spoilt(
    truth: Sequence[Instance], truths: Sequence[Sequence[Instance]], scorer: InstanceScorer, rng: np.random.Generator
) -> tuple[Sequence[Instance], list[Instance]]:
    """The truth after a few random moves and with frayed borders, and what was deleted on the way."""
    now: Sequence[Instance] = tuple(_frayed(i, rng) if rng.random() < 0.5 else i for i in truth)
    gone: list[Instance] = []
    for _ in range(int(rng.integers(scorer.settings.spoils + 1))):
        stranger = _stranger(truth, truths, rng)
        moves = moves_of(now, [stranger], scorer.related, reach=math.inf)
        if not moves:
            break
        move = in_turns(moves, rng)[0]
        gone += [now[k] for k in move.removed if move.kind == "delete"]
        now = move.apply(now)
    return now, gone


def _frayed(instance: Instance, rng: np.random.Generator) -> Instance:
    """The mask a little larger, smaller or elsewhere, if something is left of it."""
    how = int(rng.integers(3))
    if how == 0:
        mask = ndimage.binary_dilation(instance.mask)
    elif how == 1:
        mask = ndimage.binary_erosion(instance.mask)
    else:
        mask = ndimage.shift(instance.mask, rng.integers(-2, 3, size=2), order=0, cval=False)
    return Instance(instance.label, mask) if mask.any() else instance


def _stranger(truth: Sequence[Instance], truths: Sequence[Sequence[Instance]], rng: np.random.Generator) -> Instance:
    """What is not there: a blob, of a class as often as it occurs, or an object of another film of the same size."""
    shape = truth[0].mask.shape
    elsewhere = [i for t in truths if t is not truth for i in t if i.mask.shape == shape]
    labels = [i.label for t in truths for i in t]
    if elsewhere and rng.random() < 0.3:
        return elsewhere[int(rng.integers(len(elsewhere)))]
    centre = rng.uniform(0.1, 0.9, 2) * shape
    radii = np.exp(rng.uniform(np.log(0.03), np.log(0.2), 2)) * max(shape)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    mask = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1.0
    mask[int(centre[0]), int(centre[1])] = True
    return Instance(labels[int(rng.integers(len(labels)))], mask)


def _fit(
    scorer: InstanceScorer,
    groups: Sequence[tuple[list[HeteroData], Tensor]],
    rng: np.random.Generator,
    progress: Callable[[int, int, float], None] | None,
) -> None:
    settings = scorer.settings

    def loss_of_step() -> Tensor:
        chosen = [groups[int(k)] for k in rng.integers(len(groups), size=min(settings.batch, len(groups)))]
        scores = scorer.logits([g for graphs, _ in chosen for g in graphs])
        return scoring_loss(scores, [quality.to(scores) for _, quality in chosen])

    fit(scorer.network, loss_of_step, settings.steps, settings.lr, 0.02, progress)


def scoring_loss(logits: Float[Tensor, " hypothesis"], quality: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Cross-entropy of the qualities, and ln(1 + e^{−(sᵢ − sⱼ)}) for pairs i better than j of one group."""
    loss = F.binary_cross_entropy_with_logits(logits, torch.cat(list(quality)))
    order = []
    for scores, q in zip(torch.split(logits, [len(q) for q in quality]), quality, strict=True):
        better = q[:, None] - q[None] > 0.01
        order.append(F.softplus(scores[None] - scores[:, None])[better])
    pairs = torch.cat(order)
    return loss + pairs.mean() if len(pairs) else loss
