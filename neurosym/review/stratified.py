r"""The risk difference of Mantel and Haenszel, with its standard error: what is left of an association within strata.

Stratum k has n_1k units where the body holds, a_k of them with the head, n_0k where it does not, c_k of them with the head, and
N_k = n_1k + n_0k. With weights w_k = n_1k n_0k / N_k, zero where there is nothing to compare,

    δ = Σ (a_k n_0k - c_k n_1k) / N_k / Σ w_k

(Mantel & Haenszel 1959; Greenland & Robins, Biometrics 1985), and by Sato (Biometrics 1989), for few large strata and for many
small ones,

    Var δ = (δ Σ P_k + Σ Q_k) / (Σ w_k)²
    P_k = (n_1k² c_k - n_0k² a_k + n_1k n_0k (n_0k - n_1k) / 2) / N_k²
    Q_k = (a_k (n_0k - c_k) + c_k (n_1k - a_k)) / 2 N_k

One stratum gives the plain risk difference. Where a patient has several units they are not independent: the variance is then
that of a jackknife that leaves out one patient at a time, (m - 1) / m · Σ (δ_(i) - mean)², and never less than Sato's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosym.induction.index import BoolArray, FloatArray, IntArray

Tables = NDArray[np.float64]
"""For each stratum (last but one axis): a, n_1, c, n_0."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A risk difference, its standard error, and how many units with and without the body could be compared."""

    value: float
    error: float
    exposed: int
    unexposed: int


def risk_difference(
    body: BoolArray, head: BoolArray, stratum: IntArray, patient: IntArray | None = None
) -> Difference | None:
    """The difference within strata, from one entry a unit; None if no stratum has units with and without the body.

    Args:
        body: whether the body holds of the unit.
        head: whether the head does.
        stratum: the number of its stratum; 0 for all is the crude difference.
        patient: the number of its patient; None: each unit is independent.
    """
    entries = np.stack([body & head, body, ~body & head, ~body], axis=1).astype(np.float64)
    tables = np.zeros((int(stratum.max(initial=-1)) + 1, 4))
    np.add.at(tables, stratum, entries)
    weight = _weight(tables)
    if weight.sum() == 0:
        return None
    value, variance = float(_difference(tables)), _sato(tables)
    if patient is not None and len(np.unique(patient)) < len(patient):
        variance = max(variance, _jackknife(tables, entries, stratum, patient))
    _, exposed, _, unexposed = tables[weight > 0].sum(axis=0)
    return Difference(value, math.sqrt(max(0.0, variance)), int(exposed), int(unexposed))


def _weight(tables: Tables) -> FloatArray:
    total = tables[..., 1] + tables[..., 3]
    return np.asarray(tables[..., 1] * tables[..., 3] / np.where(total > 0, total, 1))


def _difference(tables: Tables) -> FloatArray:
    """δ; NaN where nothing can be compared."""
    a, n1, c, n0 = np.moveaxis(tables, -1, 0)
    total = np.where(n1 + n0 > 0, n1 + n0, 1)
    weight = _weight(tables).sum(axis=-1)
    return np.asarray(((a * n0 - c * n1) / total).sum(axis=-1) / np.where(weight > 0, weight, np.nan))


def _sato(tables: Tables) -> float:
    a, n1, c, n0 = tables[_weight(tables) > 0].T
    total = n1 + n0
    p = ((n1**2 * c - n0**2 * a + n1 * n0 * (n0 - n1) / 2) / total**2).sum()
    q = ((a * (n0 - c) + c * (n1 - a)) / (2 * total)).sum()
    return float((_difference(tables) * p + q) / _weight(tables).sum() ** 2)


def _jackknife(tables: Tables, entries: Tables, stratum: IntArray, patient: IntArray) -> float:
    """The variance by leaving out one patient at a time; patients with the same units are tried once."""
    of_patient: dict[int, dict[int, FloatArray]] = {}
    for i in range(len(entries)):
        mine = of_patient.setdefault(int(patient[i]), {})
        mine[int(stratum[i])] = mine.get(int(stratum[i]), np.zeros(4)) + entries[i]
    alike: dict[tuple[tuple[int, bytes], ...], int] = {}
    for mine in of_patient.values():
        key = tuple(sorted((k, v.tobytes()) for k, v in mine.items()))
        alike[key] = alike.get(key, 0) + 1
    values = []
    for key in alike:
        rest = tables.copy()
        for k, v in key:
            rest[k] -= np.frombuffer(v)
        values.append(float(_difference(rest)))
    left, count = np.array(values), np.array(list(alike.values()), dtype=np.float64)
    known = np.isfinite(left)
    left, count = left[known], count[known]
    m = count.sum()
    if m < 2:
        return 0.0
    mean = (left * count).sum() / m
    return float((m - 1) / m * (count * (left - mean) ** 2).sum())
