"""A detector's output on one image as a heterogeneous graph (torch_geometric `HeteroData`).

Nodes

    detection   log-probabilities of the leaves, box in shares of the image
    atom        "detection n is a k" for each ontology class k with a truth worth mentioning
    factor      a grounding of a rule: truth of its premise and of its head, with the rule's own features
    class       the ontology's classes (the same in every graph)

Edges

    detection –beside→ detection     soft spatial words of the pair and the relative box
    atom –of→ detection, atom –kind→ class
    factor –first/second→ detection and atom –in→ factor
    class –subclass/disjoint/related→ class

Every reverse edge is there too, so that messages go both ways. The layout follows factor graphs (Kschischang et al. 2001), with
detections in the place of variables; that classes are nodes, and so the ontology part of the network's input, is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch_geometric.data import Batch, HeteroData

from neurosym.constraints.geometry import TRUE, soft_words
from neurosym.constraints.graph.ontology_graph import RULE_FEATURES, OntologyGraph
from neurosym.constraints.grounding import Groundings, ground
from neurosym.constraints.shapes import ConstraintSet
from neurosym.errors import ConstraintError

GEOMETRY = 7
"""Of a detection: centre, log width, log height, log area, and the distances of its centre to the image's two borders."""
RELATIVE = 10
"""Of a pair: the second box in units of the first, log ratios of the sides, the shares of each that the other covers."""
PAIR_FEATURES = TRUE + RELATIVE
FACTOR_FEATURES = 3 + RULE_FEATURES
_ATOM_TRUTH = 0.05


@dataclass(frozen=True)
class GraphSettings:
    """How a scene becomes a graph; `relations` off leaves out whatever connects two detections (an ablation)."""

    temperature: float = 0.1
    threshold: float = 0.05
    relations: bool = True


def scene_graph(
    constraints: ConstraintSet,
    ontology: OntologyGraph,
    probabilities: Float[Tensor, "box leaf"],
    boxes: Float[Tensor, "box 4"],
    size: tuple[float, float],
    settings: GraphSettings = GraphSettings(),
) -> HeteroData:
    """The graph of one image; no gradient flows through it.

    Raises:
        ConstraintError: a value that is not finite, or an image without area.
    """
    probabilities, boxes = probabilities.detach(), boxes.detach()
    if not (size[0] > 0 and size[1] > 0):
        raise ConstraintError(f"an image of {size[0]} × {size[1]} has no area")
    if not (torch.isfinite(probabilities).all() and torch.isfinite(boxes).all()):
        raise ConstraintError("the detector's probabilities or boxes are not finite; lower the learning rate")
    graph = HeteroData()
    graph["detection"].x = detection_features(probabilities, boxes, size)
    graph["detection"].probabilities = probabilities
    graph["detection"].boxes = boxes
    _add_classes(graph, ontology, boxes)
    atom_of = _add_atoms(graph, ontology, probabilities)
    _add_pairs(graph, boxes, settings)
    if settings.relations and len(boxes):
        found = ground(
            constraints, probabilities, boxes, size=size, temperature=settings.temperature, threshold=settings.threshold
        )
    else:
        none = boxes.new_zeros(0, dtype=torch.long)
        found = Groundings(none, none, none, probabilities.new_zeros(0), probabilities.new_zeros(0))
    _add_factors(graph, ontology, found, atom_of)
    return graph


def batched(graphs: list[HeteroData]) -> HeteroData:
    """Graphs side by side; `graph["detection"].batch` tells which image a detection is of."""
    batch: HeteroData = Batch.from_data_list(graphs)
    return batch


def detection_features(
    probabilities: Float[Tensor, "box leaf"], boxes: Float[Tensor, "box 4"], size: tuple[float, float]
) -> Float[Tensor, "box feature"]:
    """Probabilities, their logarithms, and the box in shares of the image."""
    scale = boxes.new_tensor([*size, *size])
    shares = boxes / scale
    centre = (shares[:, :2] + shares[:, 2:]) / 2
    sides = (shares[:, 2:] - shares[:, :2]).clamp_min(1e-3)
    geometry = torch.cat([centre, sides.log(), sides.prod(1, keepdim=True).log(), 1.0 - centre], 1)
    return torch.cat([probabilities, (probabilities + 1e-3).log(), geometry], 1)


def relative_boxes(boxes: Float[Tensor, "box 4"]) -> Float[Tensor, "box box relative"]:
    """How the second box of each pair lies, in units of the first: borders, log sides, the shares that they cover."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp_min(1e-3)
    unit = torch.cat([sides, sides], 1)
    borders = ((boxes[None] - boxes[:, None]) / unit[:, None]).clamp(-4, 4)
    ratio = (sides[None].log() - sides[:, None].log()).clamp(-5, 5)
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    common = (torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - low).clamp_min(0)
    shares = torch.cat([common / sides[:, None], common / sides[None]], 2)
    return torch.cat([borders, ratio, shares], 2)


def _add_classes(graph: HeteroData, ontology: OntologyGraph, like: Tensor) -> None:
    graph["class"].index = torch.arange(len(ontology.classes), device=like.device)
    graph["class"].num_nodes = len(ontology.classes)
    graph["class", "subclass", "class"].edge_index = ontology.subclass
    graph["class", "superclass", "class"].edge_index = ontology.subclass.flip(0)
    graph["class", "disjoint", "class"].edge_index = ontology.disjoint
    graph["class", "related", "class"].edge_index = ontology.rule_class.T
    graph["class", "related", "class"].edge_attr = ontology.rule_features


def _add_atoms(graph: HeteroData, ontology: OntologyGraph, probabilities: Tensor) -> Tensor:
    """Atoms and their two edges; returns the number of the atom (n, class), -1 where there is none."""
    truth = probabilities @ ontology.membership
    n, k = (truth > _ATOM_TRUTH).nonzero().unbind(1)
    number = torch.full(truth.shape, -1, dtype=torch.long, device=truth.device)
    number[n, k] = torch.arange(len(n), device=truth.device)
    value = truth[n, k, None]
    atoms = torch.arange(len(n), device=truth.device)
    graph["atom"].x = torch.cat([value, (value + 1e-3).log()], 1)
    graph["atom", "of", "detection"].edge_index = torch.stack([atoms, n])
    graph["detection", "has", "atom"].edge_index = torch.stack([n, atoms])
    graph["class", "names", "atom"].edge_index = torch.stack([k, atoms])
    return number


def _add_pairs(graph: HeteroData, boxes: Tensor, settings: GraphSettings) -> None:
    """Every ordered pair of distinct detections; message from the second to the first."""
    count = len(boxes)
    first, second = (~torch.eye(count, dtype=torch.bool, device=boxes.device)).nonzero().unbind(1)
    if not settings.relations:
        first, second = first[:0], second[:0]
    graph["detection", "beside", "detection"].edge_index = torch.stack([second, first])
    if not len(first):
        graph["detection", "beside", "detection"].edge_attr = boxes.new_zeros(0, PAIR_FEATURES)
        return
    words = soft_words(boxes, settings.temperature)[:TRUE, first, second].T
    graph["detection", "beside", "detection"].edge_attr = torch.cat([words, relative_boxes(boxes)[first, second]], 1)


def _add_factors(graph: HeteroData, ontology: OntologyGraph, found: Groundings, atom_of: Tensor) -> None:
    """One factor a grounding, tied to its objects and to the atoms that make its premise."""
    value = torch.stack([found.premise, found.head, found.premise * (1.0 - found.head)], 1).detach()
    graph["factor"].x = torch.cat([value, ontology.rule_features[found.rule]], 1)
    graph["factor"].rule = found.rule
    factors = torch.arange(len(found), device=found.rule.device)
    atoms, into = [], []
    for role, objects in enumerate((found.first, found.second)):
        there = (objects >= 0).nonzero()[:, 0]
        name = ("first", "second")[role]
        graph["detection", name, "factor"].edge_index = torch.stack([objects[there], factors[there]])
        graph["factor", f"to_{name}", "detection"].edge_index = torch.stack([factors[there], objects[there]])
        atom = atom_of[objects[there], ontology.rule_class[found.rule[there], role]]
        known = atom >= 0
        atoms.append(atom[known])
        into.append(factors[there][known])
    graph["atom", "in", "factor"].edge_index = torch.stack([torch.cat(atoms), torch.cat(into)])
