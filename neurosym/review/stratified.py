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
from neurosym.review.intervals import NORMAL_975

Tables = NDArray[np.float64]
"""A row (a, n_1, c, n_0) for each stratum, film or unit."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A risk difference, its standard error, and how many units with and without the body could be compared."""

    value: float
    error: float
    exposed: int
    unexposed: int

    @property
    def low(self) -> float:
        """The lower end of the 95% interval."""
        return self.value - NORMAL_975 * self.error

    @property
    def high(self) -> float:
        return self.value + NORMAL_975 * self.error


def tables_of(body: BoolArray, head: BoolArray, group: IntArray, groups: int) -> Tables:
    """How many units of each group have body and head, the body, the head without the body, and no body."""
    columns = (body & head, body, head & ~body, ~body)
    return np.stack([np.bincount(group, weights=c, minlength=groups) for c in columns], axis=1).astype(np.float64)


def risk_difference(tables: Tables, stratum: IntArray, patient: IntArray | None = None) -> Difference | None:
    """The difference within strata; None if no stratum has units with and without the body.

    Args:
        tables: of each film, or of whatever lies within one stratum and shows one patient.
        stratum: the number of the film's stratum; 0 for all gives the crude difference.
        patient: the number of the film's patient; None: every unit is independent.
    """
    of_stratum = np.zeros((int(stratum.max(initial=-1)) + 1, 4))
    np.add.at(of_stratum, stratum, tables)
    above, weight = _parts(of_stratum)
    if weight.sum() == 0:
        return None
    value = float(above.sum() / weight.sum())
    variance = _sato(of_stratum[weight > 0], value)
    if patient is not None:
        has = tables[:, 1] + tables[:, 3] > 0
        if tables[:, (1, 3)].sum() > len(np.unique(patient[has])):
            variance = max(variance, _jackknife(of_stratum, tables[has], stratum[has], patient[has]))
    _, exposed, _, unexposed = of_stratum[weight > 0].sum(axis=0)
    return Difference(value, math.sqrt(max(0.0, variance)), int(exposed), int(unexposed))


def _parts(tables: Tables) -> tuple[FloatArray, FloatArray]:
    """What each stratum adds above and below the line of δ."""
    a, n1, c, n0 = tables.T
    total = np.where(n1 + n0 > 0, n1 + n0, 1)
    return (a * n0 - c * n1) / total, n1 * n0 / total


def _sato(tables: Tables, value: float) -> float:
    a, n1, c, n0 = tables.T
    total = n1 + n0
    p = ((n1**2 * c - n0**2 * a + n1 * n0 * (n0 - n1) / 2) / total**2).sum()
    q = ((a * (n0 - c) + c * (n1 - a)) / (2 * total)).sum()
    return float((value * p + q) / _parts(tables)[1].sum() ** 2)


def _jackknife(of_stratum: Tables, tables: Tables, stratum: IntArray, patient: IntArray) -> float:
    """The variance by leaving out one patient at a time; only the strata that the patient is in change."""
    pairs, which = np.unique(np.stack([patient, stratum], axis=1), axis=0, return_inverse=True)
    mine = np.zeros((len(pairs), 4))
    np.add.at(mine, which.reshape(-1), tables)
    above, weight = _parts(of_stratum)
    left_above, left_weight = _parts(of_stratum[pairs[:, 1]] - mine)
    patients, number = np.unique(pairs[:, 0], return_inverse=True)
    m = len(patients)
    over = above.sum() + np.bincount(number, weights=left_above - above[pairs[:, 1]], minlength=m)
    under = weight.sum() + np.bincount(number, weights=left_weight - weight[pairs[:, 1]], minlength=m)
    known = under > 1e-9
    left = over[known] / under[known]
    m = len(left)
    return float((m - 1) / m * ((left - left.mean()) ** 2).sum()) if m > 1 else 0.0
