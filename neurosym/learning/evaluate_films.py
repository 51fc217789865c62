"""How well films are told apart: accuracy, recall and ranking of the classes, and of what the ontology says lies above them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from neurosym.errors import TrainingError
from neurosym.knowledge import Ontology, load_knowledge
from neurosym.learning.film_labels import held_out_films
from neurosym.learning.image_classifier import load_classifier, open_classifier_config, predict_films


def area_under_curve(scores: Float[np.ndarray, " film"], positive: Bool[np.ndarray, " film"]) -> float:
    """The chance that a positive film scores above a negative one, ties counting half (Mann–Whitney); NaN without either."""
    ones, others = scores[positive], scores[~positive]
    if not (len(ones) and len(others)):
        return float("nan")
    ordered = np.sort(others)
    below, up_to = np.searchsorted(ordered, ones, "left"), np.searchsorted(ordered, ones, "right")
    return float((below + up_to).sum() / (2 * len(ones) * len(others)))


def score_films(
    probabilities: Float[np.ndarray, "film class"], labels: Sequence[int], names: Sequence[str], ontology: Ontology
) -> dict[str, Any]:
    """Accuracy, balanced accuracy (the mean recall of classes), macro AUC, and each superclass's AUC and accuracy.

    A superclass counts if some but not all of the classes lie in it; its probability is the sum of theirs, and it is predicted
    where that is at least one half.

    Raises:
        TrainingError: there are no films.
    """
    truth = np.asarray(labels)
    if not len(truth):
        raise TrainingError("no films to evaluate; check the split's share of the patients")
    guessed = probabilities.argmax(1)
    recall = {n: float((guessed[truth == c] == c).mean()) for c, n in enumerate(names) if (truth == c).any()}
    areas = [area_under_curve(probabilities[:, c], truth == c) for c in range(len(names))]
    above: dict[str, dict[str, float]] = {}
    for name in sorted(set().union(*(ontology.ancestors(n) for n in names))):
        inside = np.array([ontology.is_a(n, name) for n in names])
        if 1 < inside.sum() < len(names):
            p = probabilities[:, inside].sum(1)
            is_one = inside[truth]
            above[name] = {"auc": area_under_curve(p, is_one), "accuracy": float(((p >= 0.5) == is_one).mean())}
    return {
        "films": len(truth),
        "accuracy": float((guessed == truth).mean()),
        "balanced_accuracy": float(np.mean(list(recall.values()))),
        "auc": float(np.nanmean(areas)) if not np.isnan(areas).all() else float("nan"),
        "recall": recall,
        "above": above,
    }


def evaluate_classifier(path: str | Path, split: Literal["val", "test"] = "test") -> dict[str, Any]:
    """Score a run's averaged weights on its validation or test films that are surely of one class.

    Raises:
        TrainingError: the folder holds no run, or there are no such films.
    """
    config = open_classifier_config(path)
    knowledge = load_knowledge(config.base / p for p in config.knowledge)
    films = held_out_films(config, knowledge, split)
    sure = films.possible.sum(1) == 1
    probabilities = predict_films(load_classifier(path), films)[sure].numpy()
    labels = films.possible[sure].int().argmax(1).tolist()
    return score_films(probabilities, labels, config.data.classes, knowledge.ontology)
