"""The teacher's targets on a weakly annotated film, made to agree with what is said of it.

Where labels, tags or marks say that an object is there, the teacher is asked for the best one; where they say that none is, its
finds are dropped (the pattern of UFO², Ren et al., ECCV 2020, and Omni-DETR, Wang et al., CVPR 2022, whose one matching for all
kinds of labels we follow). Of the teacher's proposals n with probabilities p_n and boxes b_n:

    demands    each mark, each tag, each label that is present: a set of classes L_d, and q_d(b) in [0, 1]: how well a box fits
               (mark: the share of it that the box holds; tag: in its region; label: 1), times its size (`class_shapes`)
    matching   each demand gets one proposal, none two: the assignment of least Σ −log (q_d(b_n) max_{k ∈ L_d} p_n(k))
               (Kuhn 1955; `scipy.optimize.linear_sum_assignment`), without pairs whose product is below `floor`
    others     what the teacher is sure of, of classes that may have more objects: open ones of which not every object is marked
    annotated  boxes of the film itself, in the place of anything that the teacher says of their classes

A matched proposal need not reach the threshold of pseudo-labels: that an object is there is known, only where it is is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_iou

from neurosym.learning.batches import to_target
from neurosym.learning.class_shapes import ClassShapes
from neurosym.learning.hints import Hinter, Hints, Marks
from neurosym.learning.objects import SUPPRESS, Objects, sure_objects
from neurosym.learning.weak_places import frames_on, held_share, in_region
from neurosym.models.scene import SceneProposals, Target
from neurosym.records import Sample

_NEVER = 1e3
"""Cost of a pair that is not allowed: more than any allowed one, finite for the solver."""


class WeakTargets:
    """Objects of a film that agree with what is said of it; films of which nothing is said are left as they are."""

    def __init__(self, hinter: Hinter, floor: float, temperature: float, shapes: ClassShapes | None = None) -> None:
        self.hinter, self.floor, self.temperature, self.shapes = hinter, floor, temperature, shapes

    def refined(
        self,
        sample: Sample,
        scene: SceneProposals,
        threshold: float | Sequence[float],
        scores: Float[Tensor, "box leaf"] | None = None,
    ) -> Objects:
        """The objects of one film, from what the teacher proposes on it, in pixels of the film.

        Args:
            sample: with its annotations and labels.
            scene: the teacher's proposals.
            threshold: of what it is sure of, for all classes or for each.
            scores: in the place of the probabilities, as in `sure_objects`.
        """
        hints = self.hinter.of(sample)
        found = scene.probabilities if scores is None else scores
        if hints is None:
            return sure_objects(scene.probabilities, scene.boxes, threshold, scores)
        target = to_target(sample, self.hinter.names)
        target = {k: v.to(scene.boxes.device) for k, v in target.items()}
        demands = self._demands(hints, self.hinter.marks(sample), scene, target, found)
        sized = found
        if self.shapes is not None and scene.size is not None:
            fit = self.shapes.fit(scene.boxes, scene.size)
            sized = torch.cat([found[:, :1], found[:, 1:] * fit], 1)
        matched = assigned(demands, sized, self.floor)
        more = self._others(hints, target, scene, found, threshold, matched)
        return Objects(*(torch.cat(part) for part in zip(_of(matched, scene.boxes, found), more, strict=True)))

    def annotated(self, sample: Sample, masks: bool) -> Target | None:
        """The boxes of a weakly annotated film, which join the teacher's; None where there is nothing to join."""
        if self.hinter.of(sample) is None:
            return None
        return to_target(sample, self.hinter.names, masks)

    def _demands(
        self, hints: Hints, marks: Marks, scene: SceneProposals, target: Target, found: Tensor
    ) -> list[tuple[frozenset[int], Tensor]]:
        """The classes of each demand, and how well each proposal fits it."""
        boxes, known = scene.boxes, self.hinter.names
        demands = []
        for number, label in enumerate(marks.labels.tolist()):
            demands.append((frozenset({label}), held_share(boxes, marks.of(number).to(boxes))))
        for labels, region in hints.tags:
            seen = SceneProposals(found, boxes, None, scene.size)
            frames = frames_on(seen, target, [known.index(n) + 1 for n in region.frames if n in known])
            demands.append((labels, in_region(boxes, frames, region.zones, self.temperature)))
        return demands + [(labels, torch.ones_like(boxes[:, 0])) for labels in hints.present]

    def _others(
        self,
        hints: Hints,
        target: Target,
        scene: SceneProposals,
        found: Tensor,
        threshold: float | Sequence[float],
        matched: list[tuple[int, int]],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the teacher is sure of besides, none of it the same as what was matched or annotated."""
        free = (hints.open & ~hints.marked).to(found.device)
        allowed = torch.cat([free.new_ones(1), free]) * found
        own = sure_objects(scene.probabilities, scene.boxes, threshold, allowed)
        places, labels, _, rows = _of(matched, scene.boxes, found)
        there = torch.cat([places, target["boxes"]])
        same = own.labels[:, None] == torch.cat([labels, target["labels"]])[None]
        taken = ((box_iou(own.boxes, there) > SUPPRESS) & same).any(1) | torch.isin(own.proposal, rows)
        kept = ~taken
        return own.boxes[kept], own.labels[kept], own.scores[kept], own.proposal[kept]


def assigned(
    demands: Sequence[tuple[frozenset[int], Float[Tensor, " box"]]],
    probabilities: Float[Tensor, "box leaf"],
    floor: float,
) -> list[tuple[int, int]]:
    """(proposal, label) of each demand that can be met, by the assignment of least cost."""
    if not demands or not len(probabilities):
        return []
    costs, which = (
        np.full((len(demands), len(probabilities)), _NEVER),
        np.zeros((len(demands), len(probabilities)), int),
    )
    for row, (labels, fit) in enumerate(demands):
        choice = sorted(labels)
        best, at = probabilities[:, choice].max(1)
        value = (best * fit).double().cpu().numpy()
        costs[row] = np.where(value >= floor, -np.log(np.maximum(value, 1e-12)), _NEVER)
        which[row] = np.array(choice)[at.cpu().numpy()]
    rows, columns = linear_sum_assignment(costs)
    return [(int(n), int(which[d, n])) for d, n in zip(rows, columns, strict=True) if costs[d, n] < _NEVER]


def _of(matched: list[tuple[int, int]], boxes: Tensor, found: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes, labels, scores and rows of matched proposals."""
    rows = torch.tensor([n for n, _ in matched], dtype=torch.int64, device=boxes.device)
    labels = torch.tensor([k for _, k in matched], dtype=torch.int64, device=boxes.device)
    return boxes[rows], labels, found[rows, labels], rows
