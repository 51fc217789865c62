"""CoMatch on a detector's regions: those of labelled and of unlabelled films in one graph (see `neurosym.learning.comatch`).

A sample is a region. On a labelled film it is an annotated box and its label is what was annotated. On an unlabelled film it is
what the teacher holds for an object there; its pseudo-label is the teacher's class distribution (after the refiner, where there
is one), smoothed by the bank. Classes are the background, alike to nothing else, and the ontology's.

The two views are the student's, on the augmented film, and the teacher's: the network is the weight average, which is the form
that the paper gives its method for large data. What the teacher sees of an unlabelled film is the plain one. The graph's
columns are the teacher's embeddings of this step's regions and those in the bank, which remembers what the teacher saw and said
(before it was smoothed) and what was annotated. Regions are not aligned to equal classes: those of a film never are equally
frequent. Rows of labelled regions are ours; the paper's rows are unlabelled samples.

A step costs a pass of the teacher over the labelled films, without gradients, more than without CoMatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from neurosym.knowledge import Ontology
from neurosym.knowledge.similarity import class_similarity
from neurosym.learning.comatch import MemoryBank, class_loss, graph_loss, label_graph, smoothed
from neurosym.learning.comatch_config import RegionCoMatchConfig
from neurosym.learning.config import TrainConfig
from neurosym.learning.teacher import Lesson, Teacher
from neurosym.models.detector import Detector
from neurosym.models.scene import SceneModel, Target

_PREFIX = "comatch."


@dataclass(frozen=True)
class LabelledRegions:
    """The annotated boxes of a step's labelled films, as the student has embedded them."""

    images: list[Tensor]
    boxes: list[Tensor]
    embeddings: Tensor
    labels: Tensor


def region_comatch(
    config: TrainConfig, names: Sequence[str], ontology: Ontology, device: torch.device
) -> RegionCoMatch | None:
    """The term that a config asks for, if it does.

    Raises:
        ConfigError: the ontology lacks a class.
    """
    if config.comatch.weight == 0:
        return None
    return RegionCoMatch(config.comatch, names, ontology, config.model.embedding, device)


def region_kernel(ontology: Ontology, names: Sequence[str], kernel: str) -> Tensor:
    """K over the background and the classes (leaf, leaf)."""
    matrix = torch.eye(len(names) + 1)
    matrix[1:, 1:] = torch.tensor(class_similarity(ontology, names, kernel))
    return matrix


class RegionCoMatch:
    """The graph of one run's regions; its state, for a checkpoint, is the bank's."""

    def __init__(
        self, config: RegionCoMatchConfig, names: Sequence[str], ontology: Ontology, channels: int, device: torch.device
    ) -> None:
        self.config = config
        self.kernel = region_kernel(ontology, names, config.kernel).to(device)
        self.bank = MemoryBank(config.bank, channels, len(names) + 1).to(device)

    def labelled(self, model: SceneModel, images: list[Tensor], targets: Sequence[Target]) -> LabelledRegions:
        """The annotated regions, to be called after the student's pass over the labelled films."""
        assert isinstance(model, Detector)
        boxes = [t["boxes"] for t in targets]
        embeddings, _ = model.embed(images, boxes)
        return LabelledRegions(images, boxes, embeddings, torch.cat([t["labels"] for t in targets]))

    def losses(
        self, model: SceneModel, teacher: Teacher, labelled: LabelledRegions, lessons: Sequence[Lesson]
    ) -> dict[str, Tensor]:
        """`loss_graph` and `loss_graph_class`, to be called after the student's pass over the lessons.

        The teacher must have looked last at the plain films of the lessons.
        """
        assert isinstance(model, Detector)
        assert isinstance(teacher.model, Detector)
        chosen = [self._chosen(lesson) for lesson in lessons]
        taken = list(zip(lessons, chosen, strict=True))
        student, logits = model.embed([lesson.image for lesson in lessons], [lesson.boxes[c] for lesson, c in taken])
        with torch.no_grad():
            plain, _ = teacher.model.embed(*_plain(taken))
            teacher.model.propose(labelled.images)
            others = torch.cat([teacher.model.embed(labelled.images, labelled.boxes)[0], plain])
            past = self.bank.filled()
            told = torch.cat([lesson.probabilities[c].to(plain) for lesson, c in taken])
            sure = F.one_hot(labelled.labels, told.shape[1]).to(told)
            guessed = smoothed(told, plain, past, self.config.keep, self.config.temperature)
            graph = label_graph(torch.cat([sure, guessed]), self.config.edge, self.kernel, past[1])
            self.bank.add(others, torch.cat([sure, told]))
        rows = torch.cat([labelled.embeddings, student])
        apart = graph_loss(graph, rows, torch.cat([others, past[0]]), self.config.temperature)
        wrong = class_loss(logits, guessed, self.config.confidence)
        return {"loss_graph": self.config.weight * apart, "loss_graph_class": self.config.class_weight * wrong}

    def _chosen(self, lesson: Lesson) -> Tensor:
        """Which of a lesson's boxes are regions: those that are likely to be an object, the likeliest first."""
        likely = 1.0 - lesson.probabilities[:, 0]
        order = likely.argsort(descending=True, stable=True)[: self.config.regions]
        return order[likely[order] >= self.config.foreground]

    def state(self) -> dict[str, Tensor]:
        """Tensors to go on from."""
        return {f"{_PREFIX}{k}": v for k, v in self.bank.state_dict().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up tensors that `state` gave."""
        own = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
        if own:
            self.bank.load_state_dict(own)


def _plain(taken: Sequence[tuple[Lesson, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Stand-ins of the plain films, which give their size alone, and the regions in their pixels."""
    boxes = [lesson.plain[chosen] for lesson, chosen in taken]
    sizes = [lesson.seen.size or (1.0, 1.0) for lesson, _ in taken]
    return [b.new_empty(0, int(height), int(width)) for b, (width, height) in zip(boxes, sizes, strict=True)], boxes
