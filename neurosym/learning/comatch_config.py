"""Settings of CoMatch (Li, Xiong & Hoi, ICCV 2021; see `neurosym.learning.comatch`); no torch here.

Where a setting is the paper's, its docstring gives the symbol and the paper's values for CIFAR-10 and for ImageNet.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kernel = Literal["identity", "jaccard", "gic", "lin"]


class CoMatchConfig(BaseModel):
    """What films and regions have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(1.0, ge=0)
    """λ_ctr, of the graph loss (1; 10)."""
    class_weight: float = Field(1.0, ge=0)
    """λ_cls, of the cross-entropy of sure pseudo-labels (1; 10)."""
    temperature: float = Field(0.2, gt=0)
    """t, of similarities of embeddings (0.2; 0.1)."""
    keep: float = Field(0.9, ge=0, le=1)
    """α: how much of a pseudo-label is the model's own opinion; the rest is its neighbours' in the bank (0.9)."""
    edge: float = Field(0.8, ge=0, le=1)
    """T: pseudo-labels less alike than this have no edge (0.8; 0.3)."""
    confidence: float = Field(0.95, ge=0, le=1)
    """τ: pseudo-labels less sure than this do not teach the classifier; the graph uses all (0.95; 0.6)."""
    bank: int = Field(512, ge=1)
    """K: embeddings and class probabilities that are remembered (2560; 30000)."""
    kernel: Kernel = "identity"
    """How alike two classes are (see `neurosym.knowledge.similarity`); `identity` is the paper's."""


class RegionCoMatchConfig(CoMatchConfig):
    """CoMatch of a detector's regions, in runs with a teacher (see `neurosym.learning.comatch_regions`)."""

    weight: float = Field(0.0, ge=0)
    """λ_ctr, of the graph loss; 0 trains without CoMatch, whatever else is set."""
    temperature: float = Field(0.1, gt=0)
    confidence: float = Field(0.7, ge=0, le=1)
    kernel: Kernel = "lin"
    regions: int = Field(8, ge=1)
    """Of an unlabelled film at most: those that the teacher holds for objects most."""
    foreground: float = Field(0.3, ge=0, le=1)
    """Regions that are less likely to be an object at all are left out."""
