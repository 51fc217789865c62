"""Kernels of classes by what lies above them, held against sets counted by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from neurosym.errors import ConfigError
from neurosym.knowledge import Knowledge
from neurosym.knowledge.similarity import KERNELS, class_similarity

FILMS = ("no_finding_study", "bacterial_pneumonia_study", "viral_pneumonia_study")
DEEP = (
    "no_finding_study",
    "streptococcus_study",
    "klebsiella_study",
    "sars_study",
    "varicella_study",
    "covid_19_ards_study",
)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("names", [FILMS, DEEP, ("heart",), ("nodule", "heart", "left_lung", "right_lung")])
def test_every_kernel_is_symmetric_between_0_and_1_and_1_on_the_diagonal(
    kernel: str, names: tuple[str, ...], thorax: Knowledge
) -> None:
    matrix = np.array(class_similarity(thorax.ontology, names, kernel))
    assert matrix.shape == (len(names), len(names))
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix) == 1).all()
    assert ((matrix >= 0) & (matrix <= 1)).all()


@pytest.mark.parametrize("kernel", ["jaccard", "gic", "lin"])
def test_siblings_are_nearer_than_strangers_and_nearer_the_deeper_their_common_superclass(
    kernel: str, thorax: Knowledge
) -> None:
    k = dict(zip(itertools.product(DEEP, DEEP), np.ravel(class_similarity(thorax.ontology, DEEP, kernel)), strict=True))
    both_viral = k["sars_study", "varicella_study"]
    both_pneumonia = k["sars_study", "streptococcus_study"]
    strangers = k["sars_study", "no_finding_study"]
    assert both_viral > both_pneumonia > strangers


def test_the_identity_makes_only_equal_classes_alike(thorax: Knowledge) -> None:
    assert (np.array(class_similarity(thorax.ontology, DEEP, "identity")) == np.eye(len(DEEP))).all()


def test_three_kinds_of_films_have_the_likeness_that_is_counted_by_hand(thorax: Knowledge) -> None:
    """Pneumonia holds two of the three classes; what holds all three tells nothing; each class tells all."""
    pneumonia = -math.log(2 / 3) / math.log(3)
    lin = np.array(class_similarity(thorax.ontology, FILMS, "lin"))
    gic = np.array(class_similarity(thorax.ontology, FILMS, "gic"))
    np.testing.assert_allclose(lin, [[1, 0, 0], [0, 1, pneumonia], [0, pneumonia, 1]])
    np.testing.assert_allclose(gic[1, 2], pneumonia / (pneumonia + 2))
    assert gic[0, 1] == 0


@pytest.mark.parametrize("kernel", ["jaccard", "gic", "lin"])
def test_kernels_agree_with_their_formulas_over_explicit_sets(kernel: str, thorax: Knowledge) -> None:
    ontology = thorax.ontology
    up = {n: {n} | {a for a in ontology.classes if a != n and ontology.is_a(n, a)} for n in DEEP}

    def content(a: str) -> float:
        return -math.log(sum(a in up[n] for n in DEEP) / len(DEEP)) / math.log(len(DEEP))

    matrix = class_similarity(ontology, DEEP, kernel)
    for (i, c), (j, d) in itertools.product(enumerate(DEEP), enumerate(DEEP)):
        shared, joined = up[c] & up[d], up[c] | up[d]
        truth = {
            "jaccard": len(shared) / len(joined),
            "gic": sum(map(content, shared)) / sum(map(content, joined)),
            "lin": 2 * max(map(content, shared), default=0.0) / (content(c) + content(d)),
        }[kernel]
        assert matrix[i][j] == pytest.approx(truth, abs=1e-12)


def test_an_unknown_kernel_or_class_is_told_with_the_nearest_known_one(thorax: Knowledge) -> None:
    with pytest.raises(ConfigError, match="unknown kernel 'jacard' of classes; did you mean 'jaccard'"):
        class_similarity(thorax.ontology, FILMS, "jacard")
    with pytest.raises(ConfigError, match="'nodul' is no class of the ontology; did you mean 'nodule'"):
        class_similarity(thorax.ontology, ("nodul", "heart"))
