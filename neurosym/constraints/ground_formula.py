"""One component of a ground theory as a CNF with weights, and the weights of all components of an image as one tensor.

A detection of k values (classes that the component tells apart) is k variables of which exactly one holds, of two values one
variable. What is nested becomes gates that are equivalent to what they stand for (`neurosym.constraints.cnf`), so that every
assignment of the random variables extends to exactly one model. Truths that occur only once are merged with those beside them,
true together with 1 − Π (1 − p) in a disjunction and Π p in a conjunction: fewer variables, the same probability.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neurosym.constraints.circuits import Clauses
from neurosym.constraints.cnf import TRUE, Cnf
from neurosym.constraints.ground_theory import Atom, GroundClause, Holds, IsOf, Literal, occurrences
from neurosym.constraints.truth import ImageTruth


class WeightPool:
    """The numbers that literals of one image weigh, each once; they are computed together when all are known (`values`).

    An entry is told by a number ≥ 0; ~2k is product k of entries, ~(2k + 1) its complement. `index` makes them places.
    """

    def __init__(self, truth: ImageTruth, read_from: Mapping[Holds, tuple[Holds, bool]]) -> None:
        self.truth, self.read_from = truth, read_from
        self.detections, self.leaves = truth.probabilities.shape
        self.constant: list[float] = []
        self.terms: list[tuple[int, int, float]] = []
        self.products: list[tuple[int, ...]] = []
        self._known: dict[object, int] = {}
        self.one, self.zero = self.number(1.0), self.number(0.0)

    def _entry(self, key: object, constant: float, places: Iterable[int] = (), sign: float = 1.0) -> int:
        if key not in self._known:
            entry = self._known[key] = len(self.constant)
            self.constant.append(constant)
            self.terms += [(entry, place, sign) for place in places]
        return self._known[key]

    def number(self, value: float) -> int:
        return self._entry(("number", value), value)

    def mass(self, detection: int, leaves: Iterable[int], positive: bool = True) -> int:
        """The probability that a detection is of one of the leaf classes, or 1 minus it."""
        places = tuple(detection * self.leaves + leaf for leaf in sorted(leaves))
        return self._entry(("mass", places, positive), 0.0 if positive else 1.0, places, 1.0 if positive else -1.0)

    def holds(self, atom: Holds, positive: bool) -> int:
        """A soft truth of the image, or 1 minus it."""
        atom, same = self.read_from.get(atom, (atom, True))
        positive = positive == same
        place = self.detections * self.leaves
        if atom.second < 0:
            place += atom.first * self.truth.early.shape[1] + atom.number
        else:
            place += (
                self.truth.early.numel() + (atom.number * self.detections + atom.first) * self.detections + atom.second
            )
        return self._entry((atom, positive), 0.0 if positive else 1.0, (place,), 1.0 if positive else -1.0)

    def product(self, entries: Iterable[int]) -> int:
        self.products.append(tuple(entries))
        return ~(2 * len(self.products) - 2)

    def index(self, entry: int) -> int:
        """The place in `values`, once all entries are known."""
        if entry >= 0:
            return entry
        number, complement = divmod(~entry, 2)
        return len(self.constant) + complement * len(self.products) + number

    def values(self) -> Float[Tensor, " entry"]:
        """Every entry, with gradients to the class probabilities and the boxes."""
        truth = self.truth
        source = torch.cat([truth.probabilities.flatten(), truth.early.flatten(), truth.pairs.flatten()])
        entries, places, signs = zip(*self.terms, strict=True) if self.terms else ((), (), ())
        terms = source[source.new_tensor(places, dtype=torch.long)] * source.new_tensor(signs)
        base = source.new_tensor(self.constant).index_add(0, source.new_tensor(entries, dtype=torch.long), terms)
        # Rounding takes 1 − Σ p below 0 by 1e-8 at times.
        base = base.clamp(min=0.0)
        width = max(map(len, self.products), default=0)
        padded = [[*p, *[self.one] * (width - len(p))] for p in self.products]
        products = base[source.new_tensor(padded, dtype=torch.long).reshape(len(padded), width)].prod(1)
        return torch.cat([base, products, (1.0 - products).clamp(min=0.0)])


class GroundFormula:
    """The clauses of one component as a CNF; `weights[v]` are the pool's entries for v and ¬v, both 1 for a gate."""

    def __init__(self, clauses: Sequence[GroundClause], pool: WeightPool) -> None:
        self.clauses, self.pool = clauses, pool
        self.confidence = pool.truth.constraints.confidence.tolist()
        self.exclusive = pool.truth.constraints.exclusive
        self.weights: dict[int, tuple[int, int]] = {TRUE: (pool.one, pool.zero)}
        self._cnf = Cnf()
        self._values: dict[int, list[tuple[frozenset[int], int]]] = {}
        self._variables: dict[object, int] = {}
        self._often = occurrences(clauses)
        self.detections = tuple(sorted({n for c in clauses for n in _detections(c)}))
        self.rules = tuple(sorted({c.rule for c in clauses}))
        for detection in {a.detection: None for c in clauses for a in c.atoms() if isinstance(a, IsOf)}:
            self._classes(detection)
        for clause in clauses:
            self._cnf.add(self._clause(clause))

    @property
    def variables(self) -> int:
        return self._cnf.top

    @property
    def clauses_of_cnf(self) -> Clauses:
        return tuple(map(tuple, self._cnf.clauses))

    def weight_index(self, order: Sequence[int]) -> list[tuple[int, int]]:
        """Places of the weights of v and ¬v in the pool's values, for the variables v in `order`."""
        both = (self.weights.get(v, (self.pool.one, self.pool.one)) for v in order)
        return [(self.pool.index(a), self.pool.index(b)) for a, b in both]

    def _variable(self, positive: int, negative: int) -> int:
        v = self._cnf.new()
        self.weights[v] = (positive, negative)
        return v

    # --- classes --------------------------------------------------------------------------------------------------

    def _classes(self, detection: int) -> None:
        """Variables for the classes of a detection; those that no clause of the component tells apart are one."""
        atoms = {a for c in self.clauses for a in c.atoms() if isinstance(a, IsOf) and a.detection == detection}
        named = sorted((a.leaves for a in atoms), key=sorted)
        if not self.exclusive:
            leaves = sorted(frozenset().union(*named))
            mass = self.pool.mass
            pairs = ((leaf, mass(detection, (leaf,)), mass(detection, (leaf,), False)) for leaf in leaves)
            self._values[detection] = [(frozenset({leaf}), self._variable(yes, no)) for leaf, yes, no in pairs]
            return
        alike: dict[tuple[bool, ...], set[int]] = {}
        for leaf in range(self.pool.leaves):
            alike.setdefault(tuple(leaf in s for s in named), set()).add(leaf)
        values = [frozenset(v) for v in alike.values()]
        if len(values) == 2:
            v = self._variable(*(self.pool.mass(detection, s) for s in values))
            self._values[detection] = [(values[0], v), (values[1], -v)]
            return
        found = [(s, self._variable(self.pool.mass(detection, s), self.pool.one)) for s in values]
        self._values[detection] = found
        self._cnf.exactly_one([v for _, v in found])

    def _any_class(self, atom: IsOf, positive: bool) -> list[int]:
        """Literals one of which holds iff the detection is of one of the leaf classes (is not)."""
        values = self._values[atom.detection]
        if self.exclusive:
            return [v for s, v in values if (s <= atom.leaves) == positive]
        inside = [v for s, v in values if s <= atom.leaves]
        return inside if positive else [-self._cnf.any_of(inside)]

    # --- literals -------------------------------------------------------------------------------------------------

    def _one(self, atom: Atom, positive: bool) -> int:
        """A literal of the CNF for one of the theory."""
        if isinstance(atom, IsOf):
            return self._cnf.any_of(self._any_class(atom, positive))
        if isinstance(atom, Holds):
            if atom not in self._variables:
                self._variables[atom] = self._variable(self.pool.holds(atom, True), self.pool.holds(atom, False))
            return self._variables[atom] * (1 if positive else -1)
        items = [self._item(item) for item in atom.items]
        if atom.allowed[:2] == (False, True) and all(atom.allowed[1:]):
            found = self._cnf.any_of(items)
        else:
            least = [*self._cnf.at_least(items), -TRUE]
            exact = ((least[k], -least[k + 1]) for k, may in enumerate(atom.allowed) if may)
            found = self._cnf.any_of([self._cnf.all_of(both) for both in exact])
        return found if positive else -found

    def _item(self, item: Sequence[Literal]) -> int:
        """The literal of a conjunction."""
        own, others = self._own(item)
        needed = [self._one(*x) for x in others]
        if own:
            together = self.pool.product(self.pool.holds(atom, positive) for atom, positive in own)
            needed.append(self._variable(together, together - 1))
        return self._cnf.all_of(needed)

    def _own(self, literals: Iterable[Literal]) -> tuple[list[tuple[Holds, bool]], list[Literal]]:
        """The truths that occur nowhere else, and the other literals."""
        own: list[tuple[Holds, bool]] = []
        others: list[Literal] = []
        for atom, positive in literals:
            if isinstance(atom, Holds) and self._often[atom] == 1:
                own.append((atom, positive))
            else:
                others.append((atom, positive))
        return own, others

    def _clause(self, clause: GroundClause) -> list[int]:
        own, others = self._own(clause.literals)
        line: list[int] = []
        for atom, positive in others:
            line += self._any_class(atom, positive) if isinstance(atom, IsOf) else [self._one(atom, positive)]
        false = [self.pool.holds(atom, not positive) for atom, positive in own]
        if clause.force >= 0:
            in_force = self.pool.number(self.confidence[clause.rule])
            if self._often[clause.force] == 1:
                false.append(in_force)
            else:
                if clause.force not in self._variables:
                    not_in_force = self.pool.number(1.0 - self.confidence[clause.rule])
                    self._variables[clause.force] = self._variable(not_in_force, in_force)
                line.append(self._variables[clause.force])
        if false:
            none = self.pool.product(false)
            line.append(self._variable(none - 1, none))
        return line


def _detections(clause: GroundClause) -> Iterable[int]:
    for atom in clause.atoms():
        yield from [atom.detection] if isinstance(atom, IsOf) else [n for n in atom[1:] if n >= 0]
