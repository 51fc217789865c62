"""Refining instance masks when a film is read: try changes, score each as a graph, keep what scores higher (RICE).

After Xie, Mousavian, Xiang and Fox, "RICE: Refining instance masks in cluttered environments with graph neural networks", CoRL
2021. The scene is the root of a tree. In each of K iterations every leaf is changed in some ways (split, merge, add, delete:
`instance_moves`), the results are scored (`instance_scorer`), and those that score higher than their parent become its
children, at most B of them; the best node of the tree is the answer. The search needs no gradient and no detector: it refines
the scenes of any model with masks. A scene that the scorer likes best as it is comes back unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurosym.constraints.graph.instance_moves import Instance, in_turns, moves_of
from neurosym.constraints.graph.instance_scorer import Image, InstanceScorer, instances_of
from neurosym.data.masks import encode_mask
from neurosym.errors import ConstraintError, Problem, did_you_mean
from neurosym.records import Box, Detection, Scene


@dataclass(frozen=True)
class RefineSettings:
    """`iterations` K, `branching` B, how many changes of a leaf are tried, and by how much a child must score higher.

    `classes`, if given, are those that may be changed, added or deleted; objects of the others stay as they are.
    """

    iterations: int = 3
    branching: int = 2
    tried: int = 40
    gain: float = 0.05
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class InstanceStep:
    """One accepted change: what was taken away and put there (class names), and the scores before and after it."""

    kind: str
    removed: tuple[str, ...]
    added: tuple[str, ...]
    before: float
    after: float

    def __str__(self) -> str:
        parts = [" and ".join(names) or "nothing" for names in (self.removed, self.added)]
        return f"{self.kind}: {parts[0]} → {parts[1]} ({self.before:.3f} → {self.after:.3f})"


@dataclass(frozen=True)
class InstanceRefinement:
    """The refined scene, the changes that led to it, its score (NaN without masks), a note where there is something to say."""

    scene: Scene
    steps: tuple[InstanceStep, ...] = ()
    score: float = float("nan")
    note: str = ""


@dataclass(frozen=True)
class _Node:
    instances: tuple[Instance, ...]
    score: float
    steps: tuple[InstanceStep, ...] = ()

    @property
    def key(self) -> frozenset[tuple[int, bytes]]:
        return frozenset(i.key for i in self.instances)


def refine_instances(
    scene: Scene,
    scorer: InstanceScorer,
    settings: RefineSettings | None = None,
    candidates: Sequence[Detection] = (),
    image: Image | None = None,
    seed: int = 0,
) -> InstanceRefinement:
    """The best scene that a tree of changes finds.

    Objects that are not changed stay the detections that they were. A part keeps the score of the whole, a union takes the
    higher one, an added candidate keeps its own, however low: sort out low scores before the refinement, not after it. No
    mask that comes back is empty, and all are of the scene's size.

    Args:
        scene: every object with a mask of the scene's size.
        scorer: see `train_scorer`.
        settings: see `RefineSettings`.
        candidates: what may be added: detections below the score threshold, regions that no object covers.
        image: the film's pixels, for a scorer that was trained with images.
        seed: of the choice among changes where there are more than are tried.

    Raises:
        ConstraintError: an unknown class, masks of only some objects or of another size.
    """
    settings = settings or RefineSettings()
    if scene.detections and all(d.mask is None for d in scene.detections):
        return InstanceRefinement(
            scene, note="no object of the scene has a mask; scenes of boxes have nothing to refine"
        )
    if image is not None and image.shape[:2] != (scene.height, scene.width):
        raise ConstraintError(f"the image is {image.shape}, the scene {(scene.height, scene.width)} (height, width)")
    names = scorer.constraints.names
    unknown = [c for c in settings.classes or () if c not in names]
    if unknown:
        raise ConstraintError(Problem(f"unknown class {c!r}", cure=did_you_mean(c, names)) for c in unknown)
    start = instances_of(scene, names)
    more = instances_of(replace(scene, detections=tuple(candidates)), names)
    empty = len(scene.detections) - len(start)
    note = f"{empty} of the scene's masks had no pixel and were left out" if empty else ""
    best = _search(_Search(scene, scorer, settings, more, image, np.random.default_rng([seed, 17])), start)
    found = tuple(i.source or _detection(i, names) for i in best.instances)
    return InstanceRefinement(replace(scene, detections=found), best.steps, best.score, note)


@dataclass(frozen=True)
class _Search:
    scene: Scene
    scorer: InstanceScorer
    settings: RefineSettings
    candidates: tuple[Instance, ...]
    image: Image | None
    rng: np.random.Generator

    def scores(self, hypotheses: Sequence[Sequence[Instance]]) -> list[float]:
        size = float(self.scene.width), float(self.scene.height)
        found: list[float] = self.scorer.score(hypotheses, size, self.image).tolist()
        return found


def _search(search: _Search, start: tuple[Instance, ...]) -> _Node:
    """The best node of the tree; equal ones are told by which came first."""
    root = _Node(start, search.scores([start])[0])
    nodes, leaves, seen = [root], [root], {root.key}
    for _ in range(search.settings.iterations):
        children: list[_Node] = []
        for leaf in leaves:
            children += _children(search, leaf, seen)
        if not children:
            break
        nodes, leaves = nodes + children, children
    return max(nodes, key=lambda node: node.score)


def _children(search: _Search, leaf: _Node, seen: set[frozenset[tuple[int, bytes]]]) -> list[_Node]:
    """What changes make of a leaf, if it scores higher; what is in the tree already is not tried again."""
    moves = moves_of(leaf.instances, search.candidates, search.scorer.related)
    names, allowed = search.scorer.constraints.names, search.settings.classes
    if allowed is not None:
        free = {k for k, name in enumerate(names, 1) if name in allowed}
        moves = [m for m in moves if {i.label for i in (*m.added, *(leaf.instances[k] for k in m.removed))} <= free]
    tried = []
    for move in in_turns(moves, search.rng)[: search.settings.tried]:
        child = _Node(move.apply(leaf.instances), 0.0)
        if child.key not in seen:
            seen.add(child.key)
            tried.append((move, child))
    scores = search.scores([child.instances for _, child in tried])
    order = np.argsort(-np.array(scores), kind="stable")[: search.settings.branching].tolist()
    found = []
    for k in order:
        if scores[k] >= leaf.score + search.settings.gain:
            move, child = tried[k]
            removed = tuple(names[leaf.instances[j].label - 1] for j in move.removed)
            added = tuple(names[i.label - 1] for i in move.added)
            step = InstanceStep(move.kind, removed, added, leaf.score, scores[k])
            found.append(_Node(child.instances, scores[k], (*leaf.steps, step)))
    return found


def _detection(instance: Instance, names: Sequence[str]) -> Detection:
    return Detection(names[instance.label - 1], Box(*instance.box), instance.score, encode_mask(instance.mask))
