"""The films of a classifier's run in memory, and what their labels leave possible.

A film is labelled with classes of the ontology. A label leaves those of the classifier's classes possible that lie in it or
that it lies in: "viral pneumonia" one of (no finding, bacterial, viral), "pneumonia" two of them. Several labels leave possible
what each of them does; a label that has nothing to do with the classes says nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from neurosym.data.image_labels import load_image_labels, split_by_patient
from neurosym.data.images import ImageSet
from neurosym.errors import ConfigError, Problem, did_you_mean
from neurosym.knowledge import Knowledge, Ontology
from neurosym.learning.image_config import ImageTrainConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Films:
    """Grey films of one size, and which classes each may be of."""

    ids: tuple[str, ...]
    pixels: UInt8[Tensor, "film height width"]
    possible: Bool[Tensor, "film class"]

    def __len__(self) -> int:
        return len(self.ids)


def possible_classes(ontology: Ontology, names: Sequence[str], labels: frozenset[str]) -> tuple[bool, ...]:
    """Which of the classes a film with these labels may be of; all are where no label says anything."""
    found = [True] * len(names)
    for label in sorted(labels):
        of_label = [ontology.is_a(n, label) or ontology.is_a(label, n) for n in names]
        if any(of_label):
            found = [a and b for a, b in zip(found, of_label, strict=True)]
    return tuple(found)


def label_loss(logits: Float[Tensor, "film class"], possible: Bool[Tensor, "film class"]) -> Float[Tensor, ""]:
    """−log Σ p_c over the possible classes, the mean over films; the cross-entropy where one class is possible."""
    return (logits.logsumexp(1) - logits.masked_fill(~possible, -torch.inf).logsumexp(1)).mean()


def as_probabilities(possible: Bool[Tensor, "film class"]) -> Float[Tensor, "film class"]:
    """Each possible class as likely as another."""
    return possible.float() / possible.sum(1, keepdim=True)


def training_films(config: ImageTrainConfig, knowledge: Knowledge) -> tuple[Films, Films]:
    """The films that keep their labels, and the others.

    Raises:
        ConfigError: classes that the ontology lacks or that lie in one another, or too few films of one.
        DataError: what is wrong with the files.
    """
    pool = _Pool.of(config, knowledge)
    labelled, unlabelled = _few(config, pool.possible, pool.parts[2])
    return pool.read(labelled), pool.read(unlabelled)


def held_out_films(config: ImageTrainConfig, knowledge: Knowledge, split: Literal["val", "test"]) -> Films:
    """The films of the patients that are kept for choosing settings, or for the result.

    Raises:
        ConfigError, DataError: as `training_films`.
    """
    pool = _Pool.of(config, knowledge)
    return pool.read(pool.parts[1 if split == "val" else 0])


@dataclass(frozen=True)
class _Pool:
    """The films that are surely of some of the classes and not of the others; `parts` are test, validation, training."""

    films: ImageSet
    possible: np.ndarray
    parts: list[list[int]]
    size: int

    @staticmethod
    def of(config: ImageTrainConfig, knowledge: Knowledge) -> _Pool:
        data, names = config.data, config.data.classes
        _check_classes(knowledge.ontology, names)
        table = load_image_labels(config.base / data.table, config.base / data.images, knowledge, data.file_column)
        told = [possible_classes(knowledge.ontology, names, e.labels) for e in table.entries]
        known = [i for i, classes in enumerate(told) if 0 < sum(classes) < len(names)]
        if len(known) < len(told):
            log.info(
                "%d of %d films are left out: of none of the classes, or of several", len(told) - len(known), len(told)
            )
        films = table.select(known)
        possible = np.array([told[i] for i in known], dtype=bool).reshape(-1, len(names))
        parts = split_by_patient(films.entries, data.patient_column, data.patient_pattern, (data.test, data.val))
        return _Pool(films, possible, parts, config.model.image_size)

    def read(self, chosen: Sequence[int]) -> Films:
        """Films in memory, scaled to squares of one size."""
        pixels = torch.zeros(len(chosen), self.size, self.size, dtype=torch.uint8)
        for place, sample in enumerate(self.films.select(chosen)):
            image = torch.from_numpy(np.array(sample.image)).float()
            image = image.mean(2) if image.ndim == 3 else image
            target = (self.size, self.size)
            shrunk = F.interpolate(image[None, None], target, mode="bilinear", antialias=True, align_corners=False)
            pixels[place] = shrunk[0, 0].round().clamp(0, 255).to(torch.uint8)
        ids = tuple(self.films.entries[i].image_id for i in chosen)
        return Films(ids, pixels, torch.from_numpy(self.possible[list(chosen)].copy()))


def _check_classes(ontology: Ontology, names: Sequence[str]) -> None:
    unknown = [n for n in names if n not in ontology.classes]
    if unknown:
        known = [did_you_mean(n, ontology.classes, ontology.where) for n in unknown]
        problems = [f"data.classes: {n!r} is no class of the ontology" for n in unknown]
        raise ConfigError([Problem(p, cure=c) for p, c in zip(problems, known, strict=True)])
    nested = [(a, b) for a in names for b in names if a != b and ontology.is_a(a, b)]
    if nested:
        raise ConfigError(
            f"data.classes: {nested[0][0]!r} lies in {nested[0][1]!r}; name classes that exclude each other"
        )


def _few(config: ImageTrainConfig, possible: np.ndarray, training: Sequence[int]) -> tuple[list[int], list[int]]:
    """The films that keep their labels, `per_class` of each class, and the others."""
    data, order = config.data, np.random.default_rng([config.seed, 7]).permutation(len(training))
    shuffled = [training[i] for i in order]
    labelled: list[int] = []
    for place, name in enumerate(data.classes):
        own = [i for i in shuffled if possible[i, place] and possible[i].sum() == 1][: data.per_class]
        if len(own) < data.per_class:
            raise ConfigError(
                f"data.per_class: only {len(own)} training films of {name!r}, {data.per_class} are asked for"
            )
        labelled += own
    taken = set(labelled)
    others = [i for i in shuffled if i not in taken][: data.unlabelled]
    if not others:
        raise ConfigError("data.per_class: every training film keeps its label; lower it")
    return labelled, others
