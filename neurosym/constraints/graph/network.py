"""A graph network over scene graphs: from what a detector says of each object to what it says of it in this company.

Three rounds of typed messages (torch_geometric `HeteroConv`) after Battaglia et al. 2018: classes among themselves, detections
to atoms to factors and back, detections to detections along soft spatial words with gated edges (Bresson & Laurent 2017).
The output starts as the identity: zero residual on the log-probabilities, zero shift of the box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import HeteroData
from torch_geometric.nn import HeteroConv, MessagePassing, SAGEConv

from neurosym.constraints.graph.ontology_graph import RULE_FEATURES, OntologyGraph
from neurosym.constraints.graph.scene_graph import FACTOR_FEATURES, GEOMETRY, PAIR_FEATURES

_FLOOR = 1e-4


@contextmanager
def seeded_apart(seed: int) -> Iterator[None]:
    """Draws on the CPU by a seed of their own, which leaves all generators as they were.

    `torch.manual_seed` would seed a GPU's, too, which is not restored, so that processes of one run would draw alike.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


class Refined(NamedTuple):
    """What the network makes of each detection: log-probabilities (rows are normalised), boxes, and a score of the graph.

    `fit` is the network's own estimate of the intersection over union of the refined box with a true object, as a logit.
    """

    log_probabilities: Float[Tensor, "box leaf"]
    boxes: Float[Tensor, "box 4"]
    shift: Float[Tensor, "box 4"]
    fit: Float[Tensor, " box"]


class GatedEdges(MessagePassing):  # type: ignore[misc]
    """Messages along edges with features, each scaled by a gate of both ends and the edge; summed, then normalised."""

    def __init__(self, hidden: int, edge_features: int) -> None:
        super().__init__(aggr="sum")
        self.source = nn.Linear(hidden, 2 * hidden)
        self.target = nn.Linear(hidden, 2 * hidden, bias=False)
        self.edge = nn.Linear(edge_features, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor | tuple[Tensor, Tensor], edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        source, target = x if isinstance(x, tuple) else (x, x)
        found: Tensor = self.propagate(
            edge_index,
            s=self.source(source),
            t=self.target(target),
            e=self.edge(edge_attr),
            size=(len(source), len(target)),
        )
        out: Tensor = self.out(found)
        return out

    def message(self, s_j: Tensor, t_i: Tensor, e: Tensor) -> Tensor:
        value, gate = (s_j + t_i + e).chunk(2, 1)
        return F.relu(value) * torch.sigmoid(gate)


_TYPES = ("detection", "atom", "factor", "class")
_PLAIN = (
    ("atom", "of", "detection"),
    ("detection", "has", "atom"),
    ("class", "names", "atom"),
    ("detection", "first", "factor"),
    ("detection", "second", "factor"),
    ("factor", "to_first", "detection"),
    ("factor", "to_second", "detection"),
    ("atom", "in", "factor"),
    ("class", "subclass", "class"),
    ("class", "superclass", "class"),
    ("class", "disjoint", "class"),
)
_FEATURED = {("detection", "beside", "detection"): PAIR_FEATURES, ("class", "related", "class"): RULE_FEATURES}


class _Round(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        plain = {edge: SAGEConv((hidden, hidden), hidden, aggr="mean", root_weight=False) for edge in _PLAIN}
        featured = {edge: GatedEdges(hidden, width) for edge, width in _FEATURED.items()}
        self.messages = HeteroConv(plain | featured, aggr="sum")
        self.norm = nn.ModuleDict({t: nn.LayerNorm(hidden) for t in _TYPES})
        self.update = nn.ModuleDict(
            {t: nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden)) for t in _TYPES}
        )

    def forward(self, nodes: dict[str, Tensor], graph: HeteroData) -> dict[str, Tensor]:
        calm = {t: self.norm[t](x) for t, x in nodes.items()}
        attributes = {edge: graph[edge].edge_attr for edge in _FEATURED}
        found = self.messages(calm, graph.edge_index_dict, edge_attr_dict=attributes)
        return {t: x + self.update[t](torch.cat([calm[t], found[t]], 1)) if t in found else x for t, x in nodes.items()}


class SceneNetwork(nn.Module):
    """Refines the detections of scene graphs made for one ontology graph."""

    def __init__(self, ontology: OntologyGraph, hidden: int = 64, rounds: int = 3) -> None:
        super().__init__()
        leaves = ontology.leaves + 1
        self.leaves = leaves
        self.classes = nn.Embedding(len(ontology.classes), hidden)
        self.membership: Tensor
        self.register_buffer("membership", ontology.membership, persistent=False)
        self.detection = nn.Linear(2 * leaves + GEOMETRY, hidden)
        self.atom = nn.Linear(2, hidden)
        self.factor = nn.Linear(FACTOR_FEATURES, hidden)
        self.rounds = nn.ModuleList(_Round(hidden) for _ in range(rounds))
        self.logits = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, leaves))
        self.box = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, 4))
        self.fit = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, 1))
        for head in (self.logits[1], self.box[1]):
            for parameter in head.parameters():
                nn.init.zeros_(parameter)

    def states(self, graph: HeteroData) -> dict[str, Tensor]:
        """The node states after the last round."""
        features = graph["detection"].x
        nodes = {
            "detection": self.detection(features) + self._expected_class(features),
            "atom": self.atom(graph["atom"].x),
            "factor": self.factor(graph["factor"].x),
            "class": self.classes(graph["class"].index),
        }
        for messages in self.rounds:
            nodes = messages(nodes, graph)
        return nodes

    def _expected_class(self, features: Tensor) -> Tensor:
        """A detection's own mixture of class embeddings: what it is said to be, in the ontology's terms."""
        truth = features[:, : self.leaves] @ self.membership
        mixed: Tensor = truth @ self.classes.weight
        return mixed

    def forward(self, graph: HeteroData) -> Refined:
        """Refine every detection of a (batched) graph."""
        state = self.states(graph)["detection"]
        probabilities, boxes = graph["detection"].probabilities, graph["detection"].boxes
        log_probabilities = ((probabilities + _FLOOR).log() + self.logits(state)).log_softmax(1)
        shift = self.box(state)
        sides = (boxes[:, 2:] - boxes[:, :2]).clamp_min(1.0)
        return Refined(log_probabilities, boxes + shift * torch.cat([sides, sides], 1), shift, self.fit(state)[:, 0])


def fit(
    network: nn.Module,
    loss_of_step: Callable[[], Float[Tensor, ""]],
    steps: int,
    lr: float,
    weight_decay: float,
    progress: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train a small network: AdamW, one-cycle rate (Smith & Topin 2019), clipped gradients; `progress` is told of steps."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    network.train()
    for step in range(steps):
        loss = loss_of_step()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps, float(loss.detach()))
    network.eval()
