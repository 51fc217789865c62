"""What features are worth while pretraining goes on: labelled films, classified by their neighbours and by a linear model.

    knn      the label that weighs most among the k nearest training films, each weighing exp(cos / 0.07) (Wu et al., CVPR 2018)
    linear   multinomial logistic regression on standardised features, with a ridge penalty, by L-BFGS from zero

Both are trained on films of some patients and tested on those of others, which the pretraining never sees: `open_probe`
says which films these are. Patients are split as in `neurosym.data.image_labels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from neurosym.data.film_sources import Film, read_table
from neurosym.data.image_labels import split_by_patient
from neurosym.data.images import ImageEntry, require_folder
from neurosym.errors import DataError, Problem, short_path
from neurosym.learning.pretrain_config import ProbeConfig

_TEMPERATURE = 0.07
_RIDGE = 1e-3
"""Of the penalty on squared weights, beside the mean cross-entropy."""
_ROUNDS = 50


@dataclass(frozen=True)
class Probe:
    """Labelled films to learn from and to test on; `held_out` are all films of the patients of the test."""

    names: tuple[str, ...]
    train: tuple[tuple[Film, int], ...]
    test: tuple[tuple[Film, int], ...]
    held_out: tuple[Film, ...]


def open_probe(settings: ProbeConfig, base: Path, seed: int) -> Probe:
    """Read the table and split it by patient.

    Raises:
        DataError: the table is missing or wrong, or a part has films of less than two labels.
    """
    table, folder = base / settings.table, require_folder(base / settings.images, "image")
    patient = settings.patient_column or settings.file_column
    rows = read_table(table, settings.file_column, settings.label_column, patient)
    names = tuple(sorted({row[settings.label_column] for row in rows}))
    entries = [
        ImageEntry(row[settings.file_column], folder / row[settings.file_column], 0, 0, attributes=row) for row in rows
    ]
    test, train = split_by_patient(entries, patient, settings.patient_pattern, (settings.test,))
    order = np.random.default_rng([seed, 11])

    def part(indices: Sequence[int], what: str) -> tuple[tuple[Film, int], ...]:
        chosen = [indices[i] for i in order.permutation(len(indices))[: settings.films]]
        found = tuple((Film(entries[i].path), names.index(rows[i][settings.label_column])) for i in chosen)
        if len({label for _, label in found}) < 2:
            message = f"probe: the {what} films have less than two labels of column {settings.label_column!r}"
            raise DataError(Problem(message, short_path(table), cure="raise probe.films, or change probe.test"))
        return found

    return Probe(names, part(train, "training"), part(test, "test"), tuple(Film(entries[i].path) for i in test))


def accuracies(
    train: tuple[Float[Tensor, "film feature"], Int64[Tensor, " film"]],
    test: tuple[Float[Tensor, "other feature"], Int64[Tensor, " other"]],
    classes: int,
    neighbours: int,
) -> dict[str, float]:
    """Shares of the test films that are classified rightly, by either classifier."""
    told = {
        "knn": by_neighbours(train[0], train[1], test[0], classes, neighbours),
        "linear": by_linear_model(train[0], train[1], test[0], classes),
    }
    return {f"probe_{k}": float((v == test[1]).float().mean()) for k, v in told.items()}


def by_neighbours(
    features: Float[Tensor, "film feature"],
    labels: Int64[Tensor, " film"],
    asked: Float[Tensor, "other feature"],
    classes: int,
    neighbours: int,
) -> Int64[Tensor, " other"]:
    """Labels by weighted vote of the nearest films, by the cosine of their features."""
    likeness = F.normalize(asked, dim=1) @ F.normalize(features, dim=1).T
    near, which = likeness.topk(min(neighbours, len(features)), dim=1)
    votes = torch.zeros(len(asked), classes).scatter_add_(1, labels[which], (near / _TEMPERATURE).exp())
    return votes.argmax(1)


def by_linear_model(
    features: Float[Tensor, "film feature"],
    labels: Int64[Tensor, " film"],
    asked: Float[Tensor, "other feature"],
    classes: int,
) -> Int64[Tensor, " other"]:
    """Labels by logistic regression."""
    mean, deviation = features.mean(0), features.std(0).clamp(min=1e-6)
    known, asked = (features - mean) / deviation, (asked - mean) / deviation
    weight = torch.zeros(classes, known.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=_ROUNDS, line_search_fn="strong_wolfe")

    def logits(of: Tensor) -> Tensor:
        return of @ weight[:, 1:].T + weight[:, 0]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits(known), labels) + _RIDGE * weight[:, 1:].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return logits(asked).argmax(1).detach()
