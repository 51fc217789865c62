"""One number for a whole scene graph: a scene network, what else is known of each detection, and a pooled readout.

The energy of a scene and the quality of a hypothesis about its masks are both such numbers. The states of the detections after
the last round are pooled by their mean and by attention (Li et al., "Gated graph sequence neural networks", ICLR 2016: one
broken relation among thirty sound ones must not vanish in a mean), those of the factors by the truth of their premises and,
with the total, by how far they are broken. Two layers read the number off. What else is known of a detection (its image
features, its mask's shape) joins its first state, so that messages carry it, and its last.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.utils import softmax

from neurosym.constraints.graph.network import SceneNetwork
from neurosym.constraints.graph.ontology_graph import OntologyGraph
from neurosym.constraints.graph.scene_graph import GEOMETRY


class SceneReadout(nn.Module):
    """A scalar for each graph of a batch.

    `extra` is how many numbers are known of each detection beside its class and box. With `counts` the expected number of
    objects of each class is read as well.
    """

    def __init__(
        self, ontology: OntologyGraph, extra: int = 0, hidden: int = 64, rounds: int = 2, counts: bool = False
    ) -> None:
        super().__init__()
        self.extra, self.counts = extra, counts
        self.scene = SceneNetwork(ontology, hidden, rounds)
        self.scene.detection = nn.Linear(2 * (ontology.leaves + 1) + GEOMETRY + extra, hidden)
        for head in ("logits", "box", "fit"):  # nothing is refined here; idle weights would be saved with the rest
            delattr(self.scene, head)
        self.detail = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.ReLU())
        self.known = nn.Linear(hidden + extra, hidden)
        self.attention = nn.Linear(hidden, 1)
        self.factors = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.ReLU())
        width = 4 * hidden + 1 + counts * ontology.leaves
        self.head = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(
        self, graph: HeteroData, extra: Float[Tensor, "detection extra"] | None = None
    ) -> Float[Tensor, " graph"]:
        """The number of each graph of a batch made by `scene_graph.batched`; an empty graph has one, too."""
        images, index = int(graph.num_graphs), graph["detection"].batch
        if extra is not None:
            graph = copy.copy(graph)  # shallow: the caller's graph keeps its features
            graph["detection"].x = torch.cat([graph["detection"].x, extra], 1)
        states = self.scene.states(graph)
        found = self.detail(states["detection"])
        found = torch.relu(self.known(found if extra is None else torch.cat([found, extra], 1)))
        looked = softmax(self.attention(found)[:, 0], index, num_nodes=images)
        premise, _, broken = graph["factor"].x[:, :3].unbind(1)
        rules, of_rule = self.factors(states["factor"]), graph["factor"].batch
        parts = [
            pooled(found, torch.ones_like(looked), index, images),
            pooled(found, looked, index, images),
            pooled(rules, premise, of_rule, images),
            pooled(rules, broken, of_rule, images, floor=1.0),
            torch.log1p(broken.new_zeros(images).index_add(0, of_rule, broken))[:, None],
        ]
        if self.counts:
            leaves = graph["detection"].x[:, 1 : self.scene.leaves]
            parts.append(leaves.new_zeros(images, leaves.shape[1]).index_add(0, index, leaves))
        number: Tensor = self.head(torch.cat(parts, 1))[:, 0]
        return number


def pooled(
    values: Float[Tensor, "node hidden"],
    weights: Float[Tensor, " node"],
    graph: Int[Tensor, " node"],
    graphs: int,
    floor: float = 1e-6,
) -> Float[Tensor, "graph hidden"]:
    """The weighted mean of the nodes of each graph, and 0 where there is no weight; less than `floor` counts as so much."""
    total = values.new_zeros(graphs, values.shape[1]).index_add(0, graph, values * weights[:, None])
    mass = weights.new_zeros(graphs).index_add(0, graph, weights)
    return total / mass.clamp_min(floor)[:, None]
