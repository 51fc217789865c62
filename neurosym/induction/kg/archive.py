"""The rules that a measured body makes, for all heads at once."""

from __future__ import annotations

import numpy as np

from neurosym.induction.kg.bodies import Literal, X, Y, constant
from neurosym.induction.kg.evaluator import Members, Pairs
from neurosym.induction.kg.paths import Thresholds
from neurosym.induction.kg.store import TripleStore

Row = tuple[int, int, int]
"""Head, support, body size."""


def pair_rows(found: Pairs, thresholds: Thresholds) -> list[Row]:
    """The rules d(X, Y) ← body above the thresholds, d their head; not those that repeat an atom of the body."""
    heads = np.flatnonzero(found.support >= thresholds.least(found.size)).tolist()
    said = {2 * p.relation + (p.a == Y) for p in found.body if {p.a, p.b} == {X, Y} and not p.negated}
    return [(d, int(found.support[d]), found.size) for d in heads if d not in said]


def set_rows(found: Members, store: TripleStore, thresholds: Thresholds) -> list[Row]:
    """The rules d⁻¹(X, c) ← body above the thresholds, the row (d, c) their head; not those that repeat an atom of the body."""
    csr = store.csr
    rows, support = found.rows, found.support
    kept = np.flatnonzero(support >= thresholds.support)
    size = found.sizes(csr.source[rows[kept]])
    enough = support[kept] >= thresholds.leasts(size)
    kept, size = kept[enough], size[enough]
    said = {_row(store, p) for p in found.body if not p.negated and min(p.a, p.b) < 0}
    table = zip(rows[kept].tolist(), support[kept].tolist(), size.tolist(), strict=True)
    return [(g, held, n) for g, held, n in table if g not in said]


def _row(store: TripleStore, literal: Literal) -> int:
    """The row of the members of `r(v, c)`."""
    c_first = literal.a < 0
    return store.row(2 * literal.relation + (not c_first), constant(literal.a if c_first else literal.b))
