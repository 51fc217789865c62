"""Weighted model counting by circuits: a CNF is compiled once, and counted for many weights at once, with gradients.

For a formula φ over variables v with weights w(v), w(¬v) ≥ 0, the weighted model count is

    WMC(φ) = Σ over models m of φ  Π over literals l of m  w(l)

PySDD compiles the clauses into a sentential decision diagram (Darwiche, IJCAI 2011). Its decision nodes ⋁ᵢ primeᵢ ∧ subᵢ have
exclusive elements over disjoint variables, so that a count is one pass upwards of sums and products. Evaluation is ours: nodes
of one depth are a row of an index tensor each (node, element, factor), a whole batch of weights passes a depth in one gather,
in logarithms. A variable that a branch does not mention is free there and brings the factor w(v) + w(¬v) (smoothing). The
gradient is the second pass of Darwiche's differential approach (JACM 2003), downwards, again sums and products of
non-negative numbers alone: it is exact where a weight is 0 as well, where dividing by the weight (or autograd's log 0) is not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from pysdd.sdd import SddManager, SddNode, Vtree
from scipy.sparse import coo_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor

from neurosym.errors import ConstraintError

Clauses = tuple[tuple[int, ...], ...]
"""A CNF as in DIMACS: a clause is a tuple of literals, literal v or −v for variable v ≥ 1; () is the false clause."""

MAX_VARIABLES: Final = 400
MAX_NODES: Final = 20_000
MAX_SECONDS: Final = 2.0
"""Limits of one compilation: variables, elements of decision nodes, wall time."""

FLOOR: Final = -1000.0
"""log(WMC + e^FLOOR) is what is returned, so that an impossible formula counts as e^-1000 and not as 0."""
STEEPEST: Final = 1e20
"""No derivative of a logarithm of a count exceeds this: what is steeper comes from a count of 0, and 1/0 is cut here."""

_TRUE, _FALSE, _FIRST = 0, 1, 2


class CircuitTooLargeError(ConstraintError):
    """A formula outgrew a limit of compilation; the message names the size and the limit."""


@dataclass(frozen=True)
class _Level:
    """Decision nodes of one depth: slot `start + n` is the sum over e of the product of slots `factors[n, e]`.

    For the pass downwards, each factor k of each element once: slot `child[k]` (as `rows[place[k]]`) below slot `parent[k]`,
    beside the two slots `others[k]`.
    """

    start: int
    factors: Int[Tensor, "node element 3"]
    parent: Int[Tensor, " factor"]
    others: Int[Tensor, "factor 2"]
    rows: Int[Tensor, " row"]
    place: Int[Tensor, " factor"]


@dataclass(frozen=True)
class Circuit:
    """A compiled formula over `variables` variables.

    Slots: true, false, the positive literals, the negative ones, the free variables, products of free variables (`gaps`), then
    the decision nodes depth by depth; the last slot is the root. `size` is the number of elements.
    """

    variables: int
    size: int
    slots: int
    gaps: Int[Tensor, "gap width"]
    levels: tuple[_Level, ...]

    def log_count(
        self,
        positive: Float[Tensor, "batch variable"],
        negative: Float[Tensor, "batch variable"],
        floor: float = FLOOR,
    ) -> Float[Tensor, " batch"]:
        """log(WMC + e^floor) for each row of weights: `positive[b, v - 1]` is w(v), `negative[b, v - 1]` is w(¬v).

        With positive + negative = 1 it is the log-probability that the formula holds of independent variables. Gradients are
        finite, and exact up to a steepness of `STEEPEST`.

        >>> circuit = compile_cnf(((1, 2),), 2)
        >>> p = torch.tensor([[0.5, 0.5]])
        >>> round(float(circuit.log_count(p, 1 - p).exp()), 6)
        0.75

        Raises:
            ConstraintError: a wrong number of variables, or a weight that is negative or not finite.
        """
        if positive.shape[1] != self.variables or negative.shape != positive.shape:
            found = f"{tuple(positive.shape)} and {tuple(negative.shape)}"
            raise ConstraintError(f"weights have the shapes {found}; expected (batch, {self.variables}) twice")
        both = torch.cat([positive, negative], 1)
        if not (torch.isfinite(both).all() and (both >= 0).all()):
            raise ConstraintError("a weight of a literal is negative or not finite")
        result: Tensor = _LogCount.apply(positive, negative, self, floor)
        return result

    def to(self, device: torch.device | str) -> Circuit:
        """The same circuit with its index tensors on a device."""
        levels = []
        for level in self.levels:
            names = ("factors", "parent", "others", "rows", "place")
            levels.append(_Level(level.start, **{k: getattr(level, k).to(device) for k in names}))
        return replace(self, gaps=self.gaps.to(device), levels=tuple(levels))


class _LogCount(torch.autograd.Function):
    """The two passes; `table` holds the logarithm of the count of each slot, `slope` of its partial derivative.

    Both in double precision: a difference of logarithms around -400 is a ratio with 2e-5 relative error in single precision.
    """

    @staticmethod
    def forward(ctx: Any, positive: Tensor, negative: Tensor, circuit: Circuit, floor: float) -> Tensor:
        table = positive.new_empty(circuit.slots, len(positive), dtype=torch.float64)
        table[_TRUE], table[_FALSE] = 0.0, -torch.inf
        weights = torch.cat([positive, negative], 1).T.double()
        literals = torch.cat([weights, weights[: circuit.variables] + weights[circuit.variables :]]).log()
        start = _FIRST + len(literals)
        table[_FIRST:start] = literals
        table[start : start + len(circuit.gaps)] = table[circuit.gaps].sum(1)
        for level in circuit.levels:
            stop = level.start + len(level.factors)
            table[level.start : stop] = table[level.factors].sum(2).logsumexp(1)
        total = torch.logaddexp(table[-1], table.new_tensor(floor))
        ctx.save_for_backward(table, total)
        ctx.circuit = circuit
        return total.to(positive.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (table, total), circuit = ctx.saved_tensors, ctx.circuit
        slope = torch.full_like(table, -torch.inf)
        slope[-1] = 0.0
        for level in reversed(circuit.levels):
            if len(level.parent):
                flow = slope[level.parent] + table[level.others].sum(1)
                slope[level.rows] = _log_scatter(slope[level.rows], level.place, flow)
        count = circuit.variables
        free = slice(_FIRST + 2 * count, _FIRST + 3 * count)
        if circuit.gaps.numel():
            start = _FIRST + 3 * count
            flow = slope[start : start + len(circuit.gaps), None] + _others(table[circuit.gaps])
            places = circuit.gaps.flatten()
            used = places != _TRUE
            slope[free] = _log_scatter(slope[free], places[used] - free.start, flow.flatten(0, 1)[used])
        literals = slope[_FIRST : _FIRST + 2 * count].reshape(2, count, len(upstream))
        steep = (torch.logaddexp(literals, slope[free]) - total).exp().clamp(max=STEEPEST).to(upstream.dtype) * upstream
        return steep[0].T, steep[1].T, None, None


def _others(values: Float[Tensor, "gap width batch"]) -> Float[Tensor, "gap width batch"]:
    """For each entry the sum of its row without it; by subtraction −∞ would be lost."""
    zero = torch.zeros_like(values[:, :1])
    before = torch.cat([zero, values[:, :-1]], 1).cumsum(1)
    after = torch.cat([values[:, 1:], zero], 1).flip(1).cumsum(1).flip(1)
    return before + after


def _log_scatter(
    start: Float[Tensor, "row batch"], place: Int[Tensor, " factor"], flow: Float[Tensor, "factor batch"]
) -> Float[Tensor, "row batch"]:
    """log(exp(start) + the sum of exp(flow) over the factors of each row), shifted by each row's largest term."""
    top = start.scatter_reduce(0, place[:, None].expand_as(flow), flow, "amax")
    shift = torch.where(torch.isfinite(top), top, 0.0)
    return (start - shift).exp().index_add(0, place, (flow - shift[place]).exp()).log() + shift


def compile_cnf(
    clauses: Iterable[Sequence[int]],
    variables: int,
    *,
    max_variables: int = MAX_VARIABLES,
    max_nodes: int = MAX_NODES,
    max_seconds: float = MAX_SECONDS,
) -> Circuit:
    """Compile clauses over the variables 1 … `variables` (some of which may not occur).

    The limits are looked at between two conjunctions, each of which takes time in the order of the circuit times one clause.

    Raises:
        CircuitTooLargeError: more variables, elements or seconds than allowed.
        ConstraintError: a literal that is no variable's.
    """
    kept = tidy(clauses, variables)
    if variables > max_variables:
        raise CircuitTooLargeError(f"the formula has {variables} variables; the limit is {max_variables}")
    if not variables or () in kept:
        return _Layout(variables).circuit(_FALSE if () in kept else _TRUE, frozenset())
    order = _order(kept, variables)
    vtree = Vtree(var_count=variables, var_order=order, vtree_type="balanced")
    manager = SddManager.from_vtree(vtree)
    position = {v: i for i, v in enumerate(order)}
    root = manager.true()
    root.ref()
    started = time.perf_counter()
    for clause in sorted(kept, key=lambda c: sorted((position[abs(x)] for x in c), reverse=True)):
        disjunction = manager.false()
        for literal in clause:
            disjunction = disjunction | manager.literal(literal)
        grown = root & disjunction
        grown.ref()
        root.deref()
        root = grown
        seconds = time.perf_counter() - started
        if root.size() > max_nodes:
            raise CircuitTooLargeError(f"the circuit has {root.size()} elements; the limit is {max_nodes}")
        if seconds > max_seconds:
            raise CircuitTooLargeError(f"compilation took {seconds:.1f} s so far; the limit is {max_seconds:g} s")
        if manager.dead_count() > max_nodes:
            manager.garbage_collect()
    layout = _Layout(variables)
    return layout.circuit(layout.slot(root), layout.mentioned(root))


def tidy(clauses: Iterable[Sequence[int]], variables: int) -> Clauses:
    """Each clause once, sorted, without repeated literals and tautologies; refuses a literal that is no variable's."""
    found = set()
    for clause in clauses:
        literals = tuple(sorted(set(clause), key=lambda x: (abs(x), x)))
        for literal in literals:
            if not 1 <= abs(literal) <= variables:
                raise ConstraintError(f"literal {literal} is of none of the {variables} variables")
        if not any(-x in literals for x in literals):
            found.add(literals)
    return tuple(sorted(found))


def _order(clauses: Clauses, variables: int) -> list[int]:
    """An order in which variables of a common clause lie close (reverse Cuthill–McKee), which keeps circuits small."""
    pairs = {(abs(a) - 1, abs(b) - 1) for clause in clauses for a in clause for b in clause}
    rows, columns = np.array(sorted(pairs), dtype=np.int32).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(variables, variables)).tocsr()
    return [int(v) + 1 for v in reverse_cuthill_mckee(graph, symmetric_mode=True)]


class _Layout:
    """Gives slots to the nodes of a decision diagram, bottom up; a decision node is ~n, its number, until slots are known."""

    def __init__(self, variables: int) -> None:
        self.variables = variables
        self.gaps: dict[frozenset[int], int] = {}
        self.below: dict[int, frozenset[int]] = {}
        self.nodes: list[list[tuple[int, int, int]]] = []
        self.depths: list[int] = []
        self.numbers: dict[int, int] = {}

    def under(self, vtree: Vtree) -> frozenset[int]:
        """The variables below a node of the variable tree."""
        key = vtree.position()
        if key not in self.below:
            own = (vtree.var(),) if vtree.is_leaf() else self.under(vtree.left()) | self.under(vtree.right())
            self.below[key] = frozenset(own)
        return self.below[key]

    def mentioned(self, node: SddNode) -> frozenset[int]:
        """The variables a node's count is over: all of its place in the variable tree."""
        return frozenset() if node.is_true() or node.is_false() else self.under(node.vtree())

    def gap(self, missing: frozenset[int]) -> int:
        """The slot of the product of free variables."""
        first = _FIRST + 2 * self.variables - 1
        if len(missing) < 2:
            return first + next(iter(missing)) if missing else _TRUE
        return first + 1 + self.variables + self.gaps.setdefault(missing, len(self.gaps))

    def slot(self, node: SddNode) -> int:
        """The slot of a constant or a literal, ~number of a decision node, laid out with all below it."""
        if node.is_true() or node.is_false():
            return _TRUE if node.is_true() else _FALSE
        if node.is_literal():
            literal = int(node.literal)
            return _FIRST - 1 + abs(literal) + (self.variables if literal < 0 else 0)
        if node.id not in self.numbers:
            left, right = (self.under(side) for side in (node.vtree().left(), node.vtree().right()))
            rows = []
            for prime, sub in node.elements():
                if not sub.is_false():
                    missing = (left - self.mentioned(prime)) | (right - self.mentioned(sub))
                    rows.append((self.slot(prime), self.slot(sub), self.gap(missing)))
            self.numbers[node.id] = self.add(rows)
        return self.numbers[node.id]

    def add(self, rows: list[tuple[int, int, int]]) -> int:
        self.depths.append(1 + max((self.depths[~k] for row in rows for k in row if k < 0), default=-1))
        self.nodes.append(rows)
        return ~(len(self.nodes) - 1)

    def circuit(self, root: int, mentioned: frozenset[int]) -> Circuit:
        """The finished circuit; what the root does not mention is free."""
        size = sum(map(len, self.nodes))
        missing = frozenset(range(1, self.variables + 1)) - mentioned
        self.add([(root, _TRUE, self.gap(missing))])
        self.depths[-1] = max(self.depths)
        start = _FIRST + 3 * self.variables + len(self.gaps)
        final: dict[int, int] = {}
        levels = []
        for depth in range(self.depths[-1] + 1):
            chosen = [n for n, d in enumerate(self.depths) if d == depth]
            rows = [[tuple(final.get(k, k) for k in row) for row in self.nodes[n]] for n in chosen]
            levels.append(_level(start, rows))
            final.update((~n, start + i) for i, n in enumerate(chosen))
            start += len(chosen)
        free = _FIRST + 2 * self.variables - 1
        gaps = [[free + v for v in sorted(gap)] for gap in self.gaps]
        width = max(map(len, gaps), default=0)
        padded = torch.tensor([g + [_TRUE] * (width - len(g)) for g in gaps], dtype=torch.long)
        return Circuit(self.variables, size, start, padded.reshape(len(gaps), width), tuple(levels))


def _level(start: int, nodes: Sequence[Sequence[tuple[int, ...]]]) -> _Level:
    width = max(map(len, nodes))
    flat = [
        (start + n, row[k], row[k - 2], row[k - 1])
        for n, rows in enumerate(nodes)
        for row in rows
        for k in range(3)
        if row[k] not in (_TRUE, _FALSE)
    ]
    index = torch.tensor(flat, dtype=torch.long).reshape(-1, 4)
    rows, place = torch.unique(index[:, 1], return_inverse=True)
    padding = (_FALSE, _TRUE, _TRUE)
    factors = torch.tensor([[*rows, *[padding] * (width - len(rows))] for rows in nodes], dtype=torch.long)
    return _Level(start, factors, index[:, 0], index[:, 2:], rows, place)
