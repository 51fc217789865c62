"""Premise-normalised violation: how much of what the rules speak of, breaks them.

For a rule b → h with premise truth aᵢ and head truth hᵢ over the groundings i of a batch,

    vᵣ = Σᵢ v(aᵢ, hᵢ) / (Σᵢ v(aᵢ, 0) + ε),        xᵣ = max(0, vᵣ − (1 − wᵣ)),        loss = Σᵣ wᵣ π(xᵣ) / Σᵣ wᵣ

where v is what a grounding violates and π what a rule's excess costs (`neurosym.constraints.semantics`); by default v is the
product a (1 − h) and π(x) = −log(1 − x). A plain fuzzy implication is satisfied by silencing its premises; dividing by the
premises takes that way out. A rule of confidence w may be broken in a share 1 − w of its groundings before it costs anything,
and objects that are ε-few in a batch weigh little. The loss is 0 iff no rule has vᵣ > 1 − wᵣ.

Sums over pairs are matrix products. With t₁, t₂ the body's columns of a rule, F the matrix of its body's words (0 on the
diagonal) and V = F ∘ (1 − H) with its head's,

    Σ a  =  t₁ᵀ F t₂,        Σ a (1 − h)  =  t₁ᵀ V t₂

and rules that share the words share the matrix. With columns h₁, h₂ in the head, too,
1 − h₁ h₂ H = (1 − h₁) + h₁ (1 − h₂) + h₁ h₂ (1 − H) makes three of such terms, none of them negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurosym.constraints.grounding import WholeRows, split_truth
from neurosym.constraints.semantics import Semantics, semantics_of
from neurosym.constraints.shapes import Blocks, ConstraintSet, Grid
from neurosym.constraints.truth import ImageTruth, Size, image_truth, unknown_size
from neurosym.errors import ConstraintError


@dataclass(frozen=True)
class Violation:
    """Per rule of the set: what its groundings could violate at most (the premises' total truth), and what they do."""

    fired: Float[Tensor, " rule"]
    violated: Float[Tensor, " rule"]

    def rate(self, epsilon: float = 1.0) -> Float[Tensor, " rule"]:
        """The premise-normalised violation vᵣ."""
        return self.violated / (self.fired + epsilon)


def violation(
    constraints: ConstraintSet,
    probabilities: Float[Tensor, "object leaf"],
    boxes: Float[Tensor, "box 4"],
    temperature: float = 0.1,
    *,
    size: Size | None = None,
    masks: Float[Tensor, "mask height width"] | None = None,
    semantics: str = "product",
    threshold: float = 0.0,
) -> Violation:
    """Soft violation of every rule on one image.

    Args:
        constraints: compiled for the classes behind `probabilities`.
        probabilities: class probabilities of each object, background first; rows sum to 1 if the classes are exclusive.
        boxes: XYXY, any unit.
        temperature: softness of the geometry, in units of the boxes' sides.
        size: width and height of the image, in the boxes' unit; without it rules on places, sizes and measures are silent.
        masks: soft masks of the objects over the whole image, for the words that masks say better than boxes.
        semantics: a name in `SEMANTICS`.
        threshold: leave out groundings whose premise is not truer than this (`neurosym.constraints.grounding`); 0 takes all.

    Raises:
        ConstraintError: unknown semantics, a wrong number of classes, boxes or masks, or a value that is not finite.

    Invariant: 0 ≤ violated ≤ fired, up to rounding; both are 0 without objects.
    """
    chosen = semantics_of(semantics)
    truth = image_truth(constraints, probabilities, boxes, size, masks, temperature, chosen.norm)
    nothing = truth.probabilities.sum() * 0.0 + boxes.sum().to(truth.probabilities.dtype) * 0.0
    fired = nothing.expand(len(constraints.rules))
    violated = fired
    if truth.count and len(constraints.rules):
        if threshold > 0.0 or not chosen.bilinear:
            found, whole = split_truth(truth, threshold, chosen.bilinear)
            if whole is not None and len(whole.row):
                fired, violated = _with_whole(truth, whole, fired, violated)
            fired = fired.index_add(0, found.rule, chosen.fired(found.premise))
            violated = violated.index_add(0, found.rule, chosen.broken(found.premise, found.head))
        else:
            fired, violated = _with_unary(truth, chosen, fired, violated)
            if len(constraints.pairs.rule):
                fired, violated = _with_pairs(truth, fired, violated)
        if size is None and constraints.facts.needs_size:
            known = ~unknown_size(constraints, size)
            fired, violated = fired * known, violated * known
    return Violation(fired, violated)


def _with_unary(truth: ImageTruth, chosen: Semantics, fired: Tensor, violated: Tensor) -> tuple[Tensor, Tensor]:
    group = truth.constraints.unary
    if not len(group.rule):
        return fired, violated
    premise, head = truth.columns.index_select(1, group.first), truth.columns.index_select(1, group.head)
    facts = truth.constraints.facts
    if facts.denied:
        head = torch.where(group.denied, 1.0 - head, head)
    if facts.of_image:
        once = torch.zeros_like(premise[:, :1])
        once[0] = 1.0
        premise = torch.where(group.of_image, premise * once, premise)
    most, lost = chosen.fired(premise).sum(0), chosen.broken(premise, head).sum(0)
    if facts.unary_is_all:
        return fired + most, violated + lost
    return fired.index_add(0, group.rule, most), violated.index_add(0, group.rule, lost)


def _with_pairs(truth: ImageTruth, fired: Tensor, violated: Tensor) -> tuple[Tensor, Tensor]:
    constraints, columns = truth.constraints, truth.columns
    group, facts = constraints.pairs, constraints.facts
    assert facts.fired is not None
    assert facts.broken is not None
    if not facts.head_columns and all(_is_small(truth, grid) for grid in (facts.fired, facts.broken)):
        fired = fired.index_add(0, group.rule, on_grid(truth, facts.fired, columns))
        return fired, violated.index_add(0, group.rule, on_grid(truth, facts.broken, columns))
    first, second = columns.index_select(1, group.first), columns.index_select(1, group.second)
    fired = fired.index_add(0, group.rule, _bilinear(truth, constraints.fired_blocks, first, second))
    u, v = first, second
    if bool((group.head_first != 0).any()):
        kept = columns.index_select(1, group.head_first)
        u = first * kept
        lost = torch.where(group.denied, torch.zeros_like(first), first * (1.0 - kept))
        violated = violated.index_add(0, group.rule, _bilinear(truth, constraints.fired_blocks, lost, second))
    if bool((group.head_second != 0).any()):
        kept = columns.index_select(1, group.head_second)
        v = second * kept
        lost = torch.where(group.denied, torch.zeros_like(second), second * (1.0 - kept))
        violated = violated.index_add(0, group.rule, _bilinear(truth, constraints.fired_blocks, u, lost))
    violated = violated.index_add(0, group.rule, _bilinear(truth, constraints.broken_blocks, u, v))
    return fired, violated


def _with_whole(truth: ImageTruth, whole: WholeRows, fired: Tensor, violated: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of which all groundings above the threshold are those of their columns above it."""
    facts = truth.constraints.facts
    assert facts.fired is not None
    assert facts.broken is not None
    rule = truth.constraints.pairs.rule[whole.row]
    most, lost = (on_grid(truth, grid, whole.columns)[whole.row] for grid in (facts.fired, facts.broken))
    return fired.index_add(0, rule, most), violated.index_add(0, rule, lost)


def _is_small(truth: ImageTruth, grid: Grid) -> bool:
    """Whether the grid costs less than the rules one by one: its products are cheap, theirs are moved about in memory."""
    count = truth.count
    return len(grid.plus) * len(grid.second) * (count + len(grid.first)) <= _GRID * len(grid.place) * count


def on_grid(truth: ImageTruth, grid: Grid, columns: Float[Tensor, "box column"]) -> Float[Tensor, " row"]:
    """firstᵀ M second of every row, from the products of all columns that occur."""
    if grid.span is not None:
        start, stop = grid.span
        if start > 0 and stop <= 1 + len(truth.words):
            holds = truth.words if stop - start == len(truth.words) else truth.words[start - 1 : stop - 1]
        else:
            holds = truth.rows[start:stop]
        matrix = (1.0 - holds).mul_(truth.distinct)
    else:
        matrix = truth.between(grid.plus) if grid.has_plus else truth.distinct[None].expand(len(grid.plus), -1, -1)
        if grid.has_minus:
            lacking = 1.0 - truth.between(grid.minus)
            matrix = matrix * torch.where(grid.is_minus[:, None, None], lacking, torch.ones_like(lacking))
    left, right = columns.index_select(1, grid.first), columns.index_select(1, grid.second)
    related = (matrix.reshape(-1, truth.count) @ right).reshape(len(matrix), truth.count, -1)
    return (left.T @ related).reshape(-1).index_select(0, grid.place)


def _bilinear(
    truth: ImageTruth, blocks: Blocks, first: Float[Tensor, "box row"], second: Float[Tensor, "box row"]
) -> Float[Tensor, " row"]:
    """firstᵀ M second of every row, M the matrix of the row's block."""
    matrix = truth.between(blocks.plus)
    if bool(blocks.is_minus.any()):
        lacking = 1.0 - truth.between(blocks.minus)
        matrix = matrix * torch.where(blocks.is_minus[:, None, None], lacking, torch.ones_like(lacking))
    left, right = (_in_blocks(side, blocks.rows) for side in (first, second))
    found = (left * torch.bmm(matrix, right)).sum(1)
    keep = blocks.rows >= 0
    return first.new_zeros(first.shape[1]).index_add(0, blocks.rows[keep], found[keep])


def _in_blocks(side: Float[Tensor, "box row"], rows: Int[Tensor, "block place"]) -> Float[Tensor, "block box place"]:
    """The columns of each block side by side; a place that is only filling repeats some column."""
    found = side.index_select(1, rows.clamp_min(0).reshape(-1))
    return found.reshape(len(side), *rows.shape).transpose(0, 1)


def constraint_loss(
    constraints: ConstraintSet,
    images: Sequence[Any],
    temperature: float = 0.1,
    epsilon: float = 1.0,
    *,
    semantics: str = "product-log",
    confidence: Float[Tensor, " rule"] | None = None,
    threshold: float = 0.0,
) -> tuple[Float[Tensor, ""], Violation]:
    """The loss of a batch, and the violation summed over it.

    Args:
        constraints: compiled for the classes behind the probabilities.
        images: for each image (probabilities, boxes), or an object with `probabilities`, `boxes`, `masks` and `size`.
        temperature: softness of the geometry.
        epsilon: in units of premise truth; rules that are less spoken of in the batch weigh little.
        semantics: a name in `SEMANTICS`.
        confidence: wᵣ in the place of the rules' own, e.g. learned ones.
        threshold: see `violation`.

    Raises:
        ConstraintError: see `violation`.
    """
    chosen = semantics_of(semantics)
    parts = [_of_image(constraints, image, temperature, semantics, threshold) for image in images]
    weights = constraints.confidence if confidence is None else confidence
    if weights.shape != constraints.confidence.shape:
        raise ConstraintError(f"confidence is of {len(weights)} rules; the set has {len(constraints.rules)}")
    if not parts:
        none = constraints.confidence * 0.0
        return none.sum(), Violation(none, none)
    total = Violation(torch.stack([p.fired for p in parts]).sum(0), torch.stack([p.violated for p in parts]).sum(0))
    weights = weights.to(total.fired.dtype)
    excess = torch.relu(total.rate(epsilon) - (1.0 - weights))
    loss = (weights * chosen.penalty(excess)).sum() / weights.sum().clamp_min(_TINY)
    return loss, total


def _of_image(
    constraints: ConstraintSet, image: Any, temperature: float, semantics: str, threshold: float
) -> Violation:
    if isinstance(image, tuple):
        probabilities, boxes = image
        masks = size = None
    else:
        probabilities, boxes = image.probabilities, image.boxes
        masks, size = getattr(image, "masks", None), getattr(image, "size", None)
    return violation(
        constraints,
        probabilities,
        boxes,
        temperature,
        size=size,
        masks=masks,
        semantics=semantics,
        threshold=threshold,
    )


_TINY = 1e-12
_GRID = 8
"""How many multiplications of a matrix product cost what one takes whose operand is looked up."""
