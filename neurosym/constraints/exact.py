"""The exact semantics: the probability that an image breaks no rule, counted and not approximated by a t-norm.

    loss  =  −log P(every grounding holds)  =  −Σ over components  log WMC(component)

is the semantic loss (Xu et al., ICML 2018) of the ground theory of one image (`neurosym.constraints.ground_theory`): classes of
detections, truths of spatial words and which weighted rules are in force are independent variables. The theory falls into
components that share no variable; a component is compiled to a circuit once for all of its shape, and components of one shape
are counted together. One that is too large to compile counts by the product t-norm, as if its groundings were independent,
which a warning tells once.

Unlike `neurosym.constraints.loss` nothing protects a premise: where a head cannot be moved, the loss lowers the premise. The
classes of detections are independent by assumption, so probability may go to any one way of satisfying a rule (arXiv
2507.11357).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from neurosym.constraints.circuit_cache import CircuitCache
from neurosym.constraints.circuits import FLOOR, Circuit, CircuitTooLargeError
from neurosym.constraints.ground_formula import GroundFormula, WeightPool
from neurosym.constraints.ground_theory import Source, components, ground_theory
from neurosym.constraints.semantics import TNORMS
from neurosym.constraints.shapes import ConstraintSet, PairGroup
from neurosym.constraints.truth import ImageTruth, image_truth, unknown_size
from neurosym.errors import ConstraintError

logger = logging.getLogger(__name__)
_circuits = CircuitCache()
_told: list[str] = []


@dataclass(frozen=True)
class Component:
    """A part of an image's ground theory: its detections and rules (indices), its size, and whether it was counted exactly."""

    detections: tuple[int, ...]
    rules: tuple[int, ...]
    clauses: int
    variables: int
    exact: bool


@dataclass(frozen=True)
class ExactResult:
    """`log_probability` that no rule is broken, and `loss`, its negative; `fallbacks` of the components were not exact."""

    loss: Float[Tensor, ""]
    log_probability: Float[Tensor, ""]
    components: tuple[Component, ...]
    fallbacks: int


def exact_loss(
    constraints: ConstraintSet,
    probabilities: Float[Tensor, "box leaf"],
    boxes: Float[Tensor, "box 4"],
    *,
    size: tuple[float, float] | None = None,
    masks: Float[Tensor, "box height width"] | None = None,
    temperature: float = 0.1,
    threshold: float = 0.05,
    negligible: float = 1e-4,
    confidence: Float[Tensor, " rule"] | None = None,
    max_variables: int = 300,
    max_nodes: int = 20_000,
    max_seconds: float = 1.0,
) -> ExactResult:
    """−log of the probability that one image breaks no rule.

    Args:
        constraints: compiled for the classes behind `probabilities`.
        probabilities: class probabilities of each detection, background first; rows sum to 1 where classes exclude each other.
        boxes: XYXY, any unit.
        size: width and height of the image in that unit; without it rules about places and measurements say nothing.
        masks: of the detections, over the whole image; they tell spatial words better than boxes.
        temperature: softness of the geometry, in units of the boxes' sides.
        threshold: groundings whose premise is at most as likely are left out.
        negligible: so are groundings that are broken with at most this probability, and witnesses at most as likely; 0 leaves
            nothing out.
        confidence: of the rules in the place of their own, e.g. learned ones; a constant to the gradient.
        max_variables: a component with more variables than this,
        max_nodes: or whose circuit has more elements,
        max_seconds: or takes longer to compile, counts by the product t-norm: Σ log(1 − a (1 − h)) over its groundings.

    Invariants: the loss is 0 iff no grounding can be broken; each component costs at most 1000, so that impossible evidence (a
    detection whose probabilities are all 0, a contradiction) has a finite loss; gradients are finite.

    Raises:
        ConstraintError: a wrong number of classes, boxes or confidences, or a value that is not finite or no probability.
    """
    if confidence is not None:
        if confidence.shape != constraints.confidence.shape:
            raise ConstraintError(f"confidence is of {len(confidence)} rules; the set has {len(constraints.rules)}")
        constraints = replace(constraints, confidence=confidence.detach().to(constraints.confidence))
    norm = TNORMS["product"]
    truth = image_truth(constraints, probabilities, boxes, size, masks, temperature, norm)
    total = truth.probabilities.sum() * 0.0
    if truth.count == 0:
        return ExactResult(-total, total, (), 0)
    silent = unknown_size(constraints, size).tolist()
    theory = ground_theory(truth, silent, threshold, negligible)
    pool = WeightPool(truth, theory.read_from)
    counted: defaultdict[int, list[tuple[GroundFormula, tuple[int, ...]]]] = defaultdict(list)
    circuits: dict[int, Circuit] = {}
    too_large: list[list[Source]] = []
    found: list[Component] = []
    for part in components(theory.clauses):
        formula = GroundFormula(part, pool)
        exact = True
        try:
            circuit, order = _circuits.get(
                formula.clauses_of_cnf,
                formula.variables,
                max_variables=max_variables,
                max_nodes=max_nodes,
                max_seconds=max_seconds,
            )
        except CircuitTooLargeError as error:
            exact = False
            _tell(formula, error)
            too_large.append(list(dict.fromkeys(c.source for c in part)))
        else:
            circuits[id(circuit)] = circuit
            counted[id(circuit)].append((formula, order))
        found.append(Component(formula.detections, formula.rules, len(part), formula.variables, exact))
    values = pool.values()
    for key, members in counted.items():
        index = values.new_tensor([f.weight_index(order) for f, order in members], dtype=torch.long)
        weights = values[index]
        total = total + circuits[key].to(values.device).log_count(weights[..., 0], weights[..., 1]).sum()
    for sources in too_large:
        total = total + _independent(truth, sources)
    return ExactResult(-total, total, tuple(found), len(too_large))


def _tell(formula: GroundFormula, error: CircuitTooLargeError) -> None:
    """Once in a process: the next step of a training would say the same."""
    if not _told:
        _told.append(str(error))
        logger.warning(
            "rules over %d detections of an image (%d ground clauses) count by the product t-norm and not exactly: %s; "
            "further such parts are not told, ExactResult.fallbacks counts them",
            len(formula.detections),
            len(formula.clauses),
            error,
        )


def _independent(truth: ImageTruth, sources: Sequence[Source]) -> Float[Tensor, ""]:
    """Σ log(1 − P(a grounding is broken)) over groundings of one component, floored as an exact count is."""
    broken = []
    for of_pair in (False, True):
        rows = [s[1:] for s in sources if s[0] == of_pair]
        if not rows:
            continue
        row, n, m = torch.tensor(rows, device=truth.boxes.device).T
        group = truth.constraints.pairs if of_pair else truth.constraints.unary
        premise = truth.columns[n, group.first[row]]
        if isinstance(group, PairGroup):
            pairs = truth.pairs
            premise = (
                premise * truth.columns[m, group.second[row]] * pairs[group.body[row], n[:, None], m[:, None]].prod(1)
            )
            head = truth.columns[n, group.head_first[row]] * truth.columns[m, group.head_second[row]]
            head = head * pairs[group.head[row], n[:, None], m[:, None]].prod(1)
        else:
            head = truth.columns[n, group.head[row]]
        fails = torch.where(group.denied[row], head, 1.0 - head)
        broken.append(truth.constraints.confidence[group.rule[row]] * premise * fails)
    logs = (1.0 - torch.cat(broken)).clamp(min=torch.finfo(truth.probabilities.dtype).tiny).log()
    return logs.sum().clamp(min=FLOOR)
