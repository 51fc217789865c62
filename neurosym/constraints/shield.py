r"""A layer behind a detector's classifier whose labels cannot break a label constraint, whatever the network says.

Two kinds of classifier, by what their outputs are:

- *exclusive* (softmax over leaf classes): the classes that are impossible for a box get probability 0, the others are
  conditioned on that, p'(c) = p(c) a(c) / Σ p(k) a(k). Impossible is what breaks a hard rule about one object: by the classes
  above it, and by its box (`small_object(N) :- nodule(N).`).
- *multi-label* (a sigmoid for each class): the outputs are the least values above the corrected ones that satisfy hierarchy
  and Horn rules in Gödel logic, h(head) = max(h(head), min h(body)) to the fixpoint, which for a hierarchy alone is the maximum
  over descendants of C-HMCNN (Giunchiglia & Lukasiewicz, 2020, NeurIPS). Disjointness and denials come first (ours): labels
  above 1/2 are accepted from the surest down; one that, with all that follows from it, contradicts those accepted is lowered
  to 1/2, the nearest value that is not predicted. So a label gives way to surer ones only.

Guarantee: the labels above 1/2 (exclusive: every class with p' > 0, hence the argmax) break no label constraint. Proof for
multi-label: what exceeds 1/2 at the fixpoint follows from corrected outputs that exceed 1/2; these were accepted, and what
follows from them contradicts nothing. Rules that relate objects are met by `neurosym.constraints.repair`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurosym.constraints.geometry import PLACES
from neurosym.errors import ConstraintError, Problem, did_you_mean
from neurosym.knowledge import Knowledge, Ontology
from neurosym.knowledge.geometry import LARGE_SHARE, SIZES, SMALL_SHARE, area_share
from neurosym.logic import Rule

THRESHOLD = 0.5
"""Multi-label outputs above it are predicted."""


@dataclass(frozen=True)
class LabelClause:
    """A rule about one object, in names of classes and places: where all of `body` hold, `head` does; "" says they never do."""

    body: tuple[str, ...]
    head: str
    rule: Rule

    @property
    def needs_frame(self) -> bool:
        """Whether zones or sides occur, which a box alone does not tell."""
        return any(c in PLACES and c not in SIZES for c in (*self.body, self.head))


def label_clauses(
    knowledge: Knowledge, min_weight: float | None = None
) -> tuple[tuple[LabelClause, ...], tuple[tuple[Rule, str], ...]]:
    """The hard rules about classes and places of one object; and those about one object that are no clauses, with reasons."""
    clauses: list[LabelClause] = []
    unused: list[tuple[Rule, str]] = []
    for rule in knowledge.rules:
        hard = rule.weight is None or (min_weight is not None and rule.weight >= min_weight)
        atoms = (*rule.body, *rule.head)
        about = {t for a in rule.atoms for t in a.args}
        is_unary = len(about) == 1 and all(t.is_variable for t in about) and all(len(a.args) == 1 for a in atoms)
        if not (hard and is_unary and rule.body):
            continue
        if rule.conditions:
            unused.append((rule, f"its condition {rule.conditions[0]} cannot be met by raising labels"))
        elif all(a.predicate in PLACES for a in atoms):
            unused.append((rule, "it names no class that a label could be"))
        else:
            body = tuple(dict.fromkeys(a.predicate for a in rule.body))
            clauses += [LabelClause(body, head, rule) for head in [a.predicate for a in rule.head] or [""]]
    return tuple(clauses), tuple(unused)


class Shield(nn.Module):
    """Class probabilities of detections → probabilities whose labels satisfy the label constraints (see the module).

    Args:
        knowledge: its hierarchy, disjointness and hard rules about one object.
        labels: the classes behind the columns, without the background.
        exclusive: the outputs are a softmax (else independent sigmoids).
        background: of exclusive outputs the first column is the background, which is always possible.
        min_weight: weighted rules of at least this weight count as hard too.

    `clauses` are the rules in use, `unused` those about one object that are not, with reasons. There is nothing to learn.

    Raises:
        ConstraintError: an unknown class; a class that can never be predicted, with the rules at fault.
    """

    _body: Tensor
    _head: Tensor
    _placed: Tensor
    _below: Tensor
    _disjoint: Tensor

    def __init__(
        self,
        knowledge: Knowledge,
        labels: Sequence[str],
        *,
        exclusive: bool = True,
        background: bool = True,
        min_weight: float | None = None,
    ) -> None:
        super().__init__()
        ontology = knowledge.ontology
        if unknown := [n for n in labels if n not in ontology.classes]:
            cures = ((n, did_you_mean(n, ontology.classes, ontology.where)) for n in unknown)
            raise ConstraintError([Problem(f"class {n!r} is not in the ontology", cure=cure) for n, cure in cures])
        self.labels = tuple(labels)
        self.exclusive, self.background = exclusive, exclusive and background
        self.clauses, self.unused = label_clauses(knowledge, min_weight)
        named = (n for c in self.clauses for n in (*c.body, c.head) if n)
        self.columns = tuple(dict.fromkeys((*self.labels, *named, *(p for p in PLACES if p in ontology.classes))))
        self._add_tables(ontology)
        self._check_possible()

    def _add_tables(self, ontology: Ontology) -> None:
        index = {name: i for i, name in enumerate(self.columns)}
        true = len(self.columns)  # one more column, which always holds
        width = max((len(c.body) for c in self.clauses), default=0)
        rows = [[*(index[n] for n in c.body), *[true] * (width - len(c.body))] for c in self.clauses]
        self.register_buffer("_body", torch.tensor(rows, dtype=torch.long).reshape(len(rows), width), persistent=False)
        heads = [index[c.head] if c.head else -1 for c in self.clauses]
        self.register_buffer("_head", torch.tensor(heads, dtype=torch.long), persistent=False)
        placed = torch.tensor([[float(p == n) for n in self.columns] for p in PLACES], dtype=torch.bool)
        self.register_buffer("_placed", placed, persistent=False)
        below = torch.tensor([[ontology.is_a(a, b) for b in self.columns] for a in self.columns], dtype=torch.bool)
        self.register_buffer("_below", below, persistent=False)
        foes = [[ontology.are_disjoint(a, b) and not {a, b} <= set(PLACES) for b in self.columns] for a in self.columns]
        self.register_buffer("_disjoint", torch.tensor(foes, dtype=torch.bool), persistent=False)

    def _check_possible(self) -> None:
        """A class that contradicts the rules wherever its box lies is a mistake of the knowledge: none could be predicted."""
        nowhere = torch.zeros(len(PLACES), dtype=torch.bool)
        if self.exclusive:
            found = self._allowed(nowhere[None], nowhere)[0]
        else:
            alone = torch.eye(len(self.labels), len(self.columns), dtype=torch.bool)
            active = self._active(nowhere)
            found = ~self._contradicts(self._closed(alone, active), active)
        problems = []
        for label, possible in zip(self.labels, found.tolist(), strict=True):
            if not possible:
                at_fault = next(self._at_fault(label), None)
                where = (at_fault.rule.file, at_fault.rule.line) if at_fault else ("", 0)
                why = f": {at_fault.rule}" if at_fault else ", which is below disjoint classes"
                problems.append(Problem(f"the rules allow no {label!r} at all{why}", *where))
        if problems:
            raise ConstraintError(problems)

    def _at_fault(self, label: str) -> Iterator[LabelClause]:
        row = self._below[self.columns.index(label)].tolist()
        above = {name for name, holds in zip(self.columns, row, strict=True) if holds}
        return (c for c in self.clauses if set(c.body) <= above and c.head not in above)

    def forward(
        self,
        probabilities: Float[Tensor, "box label"],
        *,
        boxes: Float[Tensor, "box 4"] | None = None,
        size: tuple[float, float] | None = None,
        places: Bool[Tensor, "box place"] | None = None,
    ) -> Float[Tensor, "box label"]:
        """Shielded probabilities, differentiable almost everywhere; the same where nothing is broken.

        Args:
            probabilities: of each detection; one column a label, after the background if there is one.
            boxes: XYXY in the unit of `size`; with it, rules on sizes count.
            size: the image's width and height.
            places: instead of boxes, which of `PLACES` each detection is at; then rules on zones and sides count as well.

        Raises:
            ConstraintError: a wrong number of columns; a box for which no class is possible (without background).
        """
        expected = len(self.labels) + self.background
        if probabilities.shape[1] != expected:
            raise ConstraintError(f"probabilities have {probabilities.shape[1]} columns; expected {expected}")
        known = torch.tensor([places is not None or p in SIZES for p in PLACES], device=probabilities.device)
        if places is None:
            places = torch.zeros(len(probabilities), len(PLACES), dtype=torch.bool, device=probabilities.device)
            if boxes is None or size is None:
                known = torch.zeros_like(known)
            else:
                places[:, -len(SIZES) :] = sizes_of(boxes.detach(), *size)
        if self.exclusive:
            return self._conditioned(probabilities, self._allowed(places, known))
        return self._corrected(probabilities, places, known)

    def _active(self, known: Bool[Tensor, " place"]) -> Bool[Tensor, " clause"]:
        """The clauses whose places are all known."""
        names = {p for p, is_known in zip(PLACES, known.tolist(), strict=True) if not is_known}
        active = [names.isdisjoint((*c.body, c.head)) for c in self.clauses]
        return torch.tensor(active, dtype=torch.bool, device=known.device)

    # --- exclusive ------------------------------------------------------------------------------------------------

    def _allowed(self, places: Bool[Tensor, "box place"], known: Bool[Tensor, " place"]) -> Bool[Tensor, "box class"]:
        """Which labels a box may have: those that, with the classes above and its places, satisfy every clause."""
        count = len(self.labels)
        placed = self._reached(places.float() @ self._placed.float() > 0)
        truth = self._below[None, :count] | placed[:, None]
        truth = torch.cat([truth, torch.ones_like(truth[..., :1])], 2)
        clash = (truth[..., :-1].float() @ self._disjoint.float() > 0) & truth[..., :-1]
        allowed = ~clash.any(2)
        if len(self.clauses):
            denied = self._head < 0
            broken = truth[..., self._body].all(3) & (denied | ~truth[..., self._head]) & self._active(known)
            allowed = allowed & ~broken.any(2)
        return allowed

    def _conditioned(
        self, probabilities: Float[Tensor, "box label"], allowed: Bool[Tensor, "box class"]
    ) -> Float[Tensor, "box label"]:
        if self.background:
            allowed = torch.cat([torch.ones_like(allowed[:, :1]), allowed], 1)
        elif not allowed.any(1).all():
            raise ConstraintError(f"the rules allow no class for box {int((~allowed.any(1)).nonzero()[0])}")
        kept = probabilities * allowed
        total = kept.sum(1, keepdim=True)
        empty = total < torch.finfo(total.dtype).tiny
        fallback = allowed.to(total.dtype)
        if self.background:
            fallback = torch.zeros_like(fallback)
            fallback[:, 0] = 1.0
        fallback = fallback / fallback.sum(1, keepdim=True)
        return torch.where(empty, fallback, kept / torch.where(empty, torch.ones_like(total), total))

    # --- multi-label ----------------------------------------------------------------------------------------------

    def _reached(self, holds: Bool[Tensor, "box column"]) -> Bool[Tensor, "box column"]:
        """With everything above what holds."""
        return holds.float() @ self._below.float() > 0

    def _closed(self, holds: Bool[Tensor, "box column"], active: Bool[Tensor, " clause"]) -> Bool[Tensor, "box column"]:
        """With everything that follows."""
        while True:
            found = self._reached(holds)
            full = torch.cat([found, torch.ones_like(found[:, :1])], 1)
            for clause in (active & (self._head >= 0)).nonzero()[:, 0].tolist():
                head = self._head[clause]
                if self.columns[int(head)] not in PLACES:
                    found[:, head] |= full[:, self._body[clause]].all(1)
            if torch.equal(found, holds):
                return found
            holds = found

    def _contradicts(self, holds: Bool[Tensor, "box column"], active: Bool[Tensor, " clause"]) -> Bool[Tensor, " box"]:
        """Whether a set of classes, closed under what follows, is impossible: disjoint, denied, or at another place."""
        wrong = ((holds.float() @ self._disjoint.float() > 0) & holds).any(1)
        full = torch.cat([holds, torch.ones_like(holds[:, :1])], 1)
        for clause in active.nonzero()[:, 0].tolist():
            head = int(self._head[clause])
            if head < 0 or self.columns[head] in PLACES:
                missing = ~holds[:, head] if head >= 0 else torch.ones_like(wrong)
                wrong = wrong | (full[:, self._body[clause]].all(1) & missing)
        return wrong

    def _rejected(
        self, scores: Float[Tensor, "box label"], places: Bool[Tensor, "box column"], active: Bool[Tensor, " clause"]
    ) -> Bool[Tensor, "box label"]:
        """The labels above the threshold that contradict surer ones; of equals the earlier column is the surer."""
        accepted = self._closed(places, active)
        if self._contradicts(accepted, active).any():
            raise ConstraintError("the hard rules contradict each other for a box of this size or place")
        order = scores.argsort(dim=1, descending=True, stable=True)
        above = scores > THRESHOLD
        rejected = torch.zeros_like(above)
        rows = torch.arange(len(scores), device=scores.device)
        for rank in range(int(above.sum(1).max()) if len(scores) else 0):
            label = order[:, rank]
            wanted = above[rows, label]
            trial = accepted.clone()
            trial[rows, label] = True
            trial = self._closed(trial, active)
            wrong = self._contradicts(trial, active)
            accepted = torch.where((wanted & ~wrong)[:, None], trial, accepted)
            rejected[rows, label] = wanted & wrong
        return rejected

    def _corrected(
        self, scores: Float[Tensor, "box label"], places: Bool[Tensor, "box place"], known: Bool[Tensor, " place"]
    ) -> Float[Tensor, "box label"]:
        placed = places.float() @ self._placed.float() > 0
        active = self._active(known)
        with torch.no_grad():
            rejected = self._rejected(scores.detach(), placed, active)
        corrected = torch.where(rejected, scores.clamp(max=THRESHOLD), scores)
        others = placed[:, len(self.labels) :].to(scores.dtype)
        values = torch.cat([torch.maximum(corrected, placed[:, : len(self.labels)].to(scores.dtype)), others], 1)
        while True:
            found = torch.where(self._below.T, values[:, None, :], torch.zeros_like(values[:, :1, None])).amax(2)
            full = torch.cat([found, torch.ones_like(found[:, :1])], 1)
            columns = list(found.unbind(1))
            for clause in (active & (self._head >= 0)).nonzero()[:, 0].tolist():
                head = int(self._head[clause])
                if self.columns[head] not in PLACES:
                    columns[head] = torch.maximum(columns[head], full[:, self._body[clause]].amin(1))
            found = torch.stack(columns, 1)
            if torch.equal(found, values):
                return found[:, : len(self.labels)]
            values = found


def sizes_of(boxes: Float[Tensor, "box 4"], width: float, height: float) -> Bool[Tensor, "box 3"]:
    """Which of `SIZES` each box is: one of the three, as `neurosym.knowledge.geometry.size_of` tells it."""
    share = area_share(boxes, width, height, torch)
    small, large = share < SMALL_SHARE, share > LARGE_SHARE
    return torch.stack([small, ~(small | large), large], 1)
