"""The truths of one image, layer by layer: literals of each object, columns, and what holds between two objects.

    early literals   classes, places, measurements        what an object decides by itself
    pair literals    words, comparisons of two objects
    late literals    witnesses  maxₘ T(words(n, m), column(m)),   counts  P(so many m have words(n, m) and column(m))
    columns          T over the literals of a conjunction

Everything is a few tensor operations over all objects at once. `neurosym.constraints.grounding` computes the same for those
objects and pairs only that can matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurosym.constraints.counting import count_distribution
from neurosym.constraints.geometry import TRUE, WORDS, box_margins, soft_measures, soft_places, soft_words
from neurosym.constraints.numeric import InequalityGroup, margin
from neurosym.constraints.semantics import Norm
from neurosym.constraints.shapes import ConstraintSet
from neurosym.errors import ConstraintError

Size: TypeAlias = tuple[float | int, float | int]
"""Width and height of an image, in the unit of the boxes."""
_TINY = 1e-12
_ROUNDING = 1e-3


def join(norm: Norm, truths: Tensor, dim: int) -> Tensor:
    """The conjunction along a dimension, without work where there is one entry."""
    return truths.squeeze(dim) if truths.shape[dim] == 1 else norm.all(truths, dim)


@dataclass(frozen=True)
class ImageTruth:
    """One image under one rule set; see `image_truth`."""

    constraints: ConstraintSet
    probabilities: Float[Tensor, "box leaf"]
    boxes: Float[Tensor, "box 4"]
    size: tuple[float, float]
    masks: Float[Tensor, "box height width"] | None
    temperature: float
    norm: Norm

    @property
    def count(self) -> int:
        """How many objects there are."""
        return len(self.boxes)

    @cached_property
    def distinct(self) -> Float[Tensor, "box box"]:
        """1 for two objects, 0 for an object and itself."""
        like = self.probabilities
        return 1.0 - torch.eye(self.count, dtype=like.dtype, device=like.device)

    @cached_property
    def measures(self) -> Float[Tensor, "measure box"]:
        return soft_measures(self.boxes, *self.size).to(self.probabilities.dtype)

    @cached_property
    def early(self) -> Float[Tensor, "box literal"]:
        """The literals that an object decides by itself, true and false first."""
        table = self.constraints.literals
        classes = self._classes()
        one = torch.ones_like(self.probabilities[:, :1])
        parts = [one, torch.zeros_like(one), classes]
        if len(table.given):
            joint, among = classes[:, table.given[:, 0]], classes[:, table.given[:, 1]]
            parts.append((joint / among.clamp_min(_TINY)).clamp(max=1.0))
        if len(table.places):
            parts.append(self._places(classes))
        for group in table.inequalities:
            parts.append(self._inequalities(group).T)
        return torch.cat(parts, 1)

    def _classes(self) -> Tensor:
        table, p = self.constraints.literals, self.probabilities
        if table.exclusive:
            return p @ table.classes.to(p.dtype)
        if not len(table.members):
            return p[:, :0]
        leaves = torch.cat([torch.zeros_like(p[:, :1]), p[:, 1:]], 1)
        if table.members.shape[1] == 1:
            found = leaves.index_select(1, table.members[:, 0])
        else:
            found = 1.0 - (1.0 - leaves[:, table.members]).prod(2)
        if not table.negated_classes:
            return found
        first = len(table.members) - table.negated_classes
        return torch.cat([found[:, :first], 1.0 - found[:, first:]], 1)

    def _places(self, classes: Tensor) -> Tensor:
        table = self.constraints.literals
        of_frames = classes[:, table.frames].T.to(self.boxes.dtype)
        frames, each = (of_frames[0], of_frames[1:]) if len(of_frames) else (torch.zeros_like(self.boxes[:, 0]), None)
        truth = soft_places(self.boxes, frames, *self.size, self.temperature, classes=each).to(classes.dtype)
        return torch.cat([truth, 1.0 - truth])[table.places].T

    def _inequalities(self, group: InequalityGroup) -> Tensor:
        """Comparisons of one object: [comparison, box]."""
        numbers = group.numbers.to(self.measures.dtype)
        found = margin(
            group.form, lambda slot, _: self.measures[group.leaves[:, slot]], lambda slot: numbers[:, slot, None], torch
        )
        return torch.sigmoid(found / self.temperature)

    @cached_property
    def words(self) -> Float[Tensor, "word box box"]:
        """The words that rules speak of, whatever they say of an object and itself: rows 1 … of `rows` there."""
        return self._words().to(self.probabilities.dtype)

    @cached_property
    def rows(self) -> Float[Tensor, "row box box"]:
        """What rules say of two objects, false of an object and itself; the rows are those of `PairLiterals.row`."""
        literals = self.constraints.pair_literals
        words = self.words * self.distinct
        plain = [self.distinct[None], words]
        if literals.swapped:
            some = words if len(literals.swapped) == len(words) else words[list(literals.swapped)]
            plain.append(some.transpose(1, 2))
        table = torch.cat(plain)
        parts = [table]
        if len(literals.negated):
            parts.append((1.0 - table[literals.row[literals.negated]]) * self.distinct)
        for group in literals.inequalities:
            numbers = group.numbers.to(self.measures.dtype)

            def leaf(slot: int, who: int, group: InequalityGroup = group) -> Tensor:
                of_all = self.measures[group.leaves[:, slot]]
                return of_all[:, None, :] if who else of_all[:, :, None]

            def number(slot: int, numbers: Tensor = numbers) -> Tensor:
                return numbers[:, slot, None, None]

            truth = torch.sigmoid(margin(group.form, leaf, number, torch) / self.temperature)
            parts.append(truth * self.distinct)
        return torch.cat(parts) if len(parts) > 1 else table

    @cached_property
    def pairs(self) -> Float[Tensor, "pair_literal box box"]:
        """The same by the number of the pair literal; words that no rule speaks of are not computed, and count as true."""
        return self.rows.index_select(0, self.constraints.pair_literals.row)

    def _words(self) -> Float[Tensor, "word box box"]:
        """The truth of the words that rules speak of."""
        words = self.constraints.pair_literals.words
        if self.masks is not None:
            return soft_words(self.boxes, self.temperature, self.masks)[list(words)]
        if not words:
            return self.boxes.new_zeros(0, self.count, self.count)
        # in place: what a step allocates anew, the system has to clear
        return box_margins(self.boxes, [WORDS[w] for w in words]).div_(self.temperature).sigmoid_()

    def between(self, literals: Int[Tensor, "row literal"]) -> Float[Tensor, "row box box"]:
        """The conjunction of each row's pair literals for every two objects."""
        row = self.constraints.pair_literals.row[literals]
        found = self.rows.index_select(0, row.reshape(-1))
        return join(self.norm, found.reshape(*row.shape, self.count, self.count), 1)

    @cached_property
    def literals(self) -> Float[Tensor, "box literal"]:
        """All literals: early ones, witnesses and their negations, counts."""
        table = self.constraints.literals
        found = self.early
        if len(table.witnesses.column):
            witnesses = self._related(table.witnesses, found).amax(2).T
            found = torch.cat([found, witnesses, 1.0 - witnesses], 1)
        if len(table.counts.column):
            chances = self._related(table.counts, found)
            width = table.counts.weights.shape[1]
            numbers = count_distribution(chances, max(0, width - 1))[..., :width]
            offset, weights = table.counts.offset.to(found.dtype), table.counts.weights.to(found.dtype)
            found = torch.cat([found, (offset[:, None] + (numbers * weights[:, None]).sum(2)).T], 1)
        return found

    def _related(self, table: Any, literals: Tensor) -> Tensor:
        """Truth of "m has the column and the words to n": [row, n, m]."""
        bodies = columns_of(self.constraints, literals, self.norm, self.constraints.bodies)
        columns = bodies[:, table.column].T[:, None, :]
        if bool((table.words == TRUE).all()):
            related = self.norm.two(self.distinct, columns)
        else:
            related = self.norm.two(self.between(table.words), columns)
        if bool(table.reflexive.any()):
            related = torch.where(table.reflexive[:, None, None], columns, related)
        return related

    @cached_property
    def columns(self) -> Float[Tensor, "box column"]:
        """The truth of every column of the rule set for every object."""
        return columns_of(self.constraints, self.literals, self.norm)


def columns_of(constraints: ConstraintSet, literals: Tensor, norm: Norm, first: int | None = None) -> Tensor:
    """The (first) columns; literals that are not known yet count as true, so that the result is an upper bound."""
    index = constraints.columns[:first]
    wide, parts = constraints.wide
    if first is not None:
        within = wide < first
        wide, parts = wide[within], parts[within]
    if literals.shape[1] < constraints.literals.total:
        index = torch.where(index < literals.shape[1], index, 0)
        parts = torch.where(parts < literals.shape[1], parts, 0)
    found = literals.index_select(1, index[:, 0])
    if len(wide):
        each = [literals.index_select(1, part) for part in parts.unbind(1)]
        joined = norm.two(*each) if len(each) == 2 else norm.all(torch.stack(each, 2), 2)
        found = joined if len(wide) == found.shape[1] else found.index_copy(1, wide, joined)
    return found


def image_truth(
    constraints: ConstraintSet,
    probabilities: Tensor,
    boxes: Tensor,
    size: Size | None,
    masks: Tensor | None,
    temperature: float,
    norm: Norm,
) -> ImageTruth:
    """The truths of one image, once its values are known to be usable.

    Where the size of the image is unknown the boxes' extent stands for it, and rules that need it count nothing.

    Raises:
        ConstraintError: a wrong number of classes, boxes or masks, or a value that is not finite or no probability.
    """
    _check(constraints, probabilities, boxes, masks)
    if probabilities.dtype in (torch.float16, torch.bfloat16):
        probabilities = probabilities.float()
    if size is None and not constraints.facts.needs_size:
        size = (1.0, 1.0)
    if size is None:
        edges = boxes.detach()[:, 2:].amax(0).clamp_min(1.0) if len(boxes) else boxes.new_ones(2)
        size = (float(edges[0]), float(edges[1]))
    exact = (float(size[0]), float(size[1]))
    return ImageTruth(constraints, probabilities, boxes, exact, masks, temperature, norm)


def _check(constraints: ConstraintSet, probabilities: Tensor, boxes: Tensor, masks: Tensor | None) -> None:
    if probabilities.shape[1] != len(constraints.names) + 1:
        expected = f"{len(constraints.names) + 1} classes (background first)"
        raise ConstraintError(f"probabilities have {probabilities.shape[1]} columns; expected {expected}")
    for found, what in ((boxes, "boxes"), (masks, "masks")):
        if found is not None and len(found) != len(probabilities):
            raise ConstraintError(f"there are {len(probabilities)} objects, but {len(found)} {what}")
    if not len(probabilities):
        return
    parts = [probabilities, boxes] if masks is None else [probabilities, boxes, masks]
    ranges = [[float(v) for v in torch.aminmax(part.detach())] for part in parts if part.numel()]
    if not all(math.isfinite(v) for bounds in ranges for v in bounds):  # the least and the most of NaN are NaN
        raise ConstraintError("the detector's probabilities, boxes or masks are not finite; lower the learning rate")
    least, most = ranges[0]
    if least < -_ROUNDING or most > 1.0 + _ROUNDING:
        raise ConstraintError(
            f"probabilities lie between {least:g} and {most:g}; expected [0, 1]: take the softmax (or sigmoid) of logits"
        )


def unknown_size(constraints: ConstraintSet, size: Size | None) -> Bool[Tensor, " rule"]:
    """The rules that nothing is said of because they need the size of an image that has none."""
    return constraints.needs_size if size is None else torch.zeros_like(constraints.needs_size)


__all__ = ["WORDS", "ImageTruth", "Size", "columns_of", "image_truth", "join", "unknown_size"]
