r"""A 95% interval for a rule's confidence, with patients as clusters.

Bindings on films of one patient are alike, so they are worth fewer independent ones. With s_i of b_i bindings supporting the
rule in patient i, m patients that have any, B = Σ b_i and p = Σ s_i / B, the ratio's linearised variance over that of
independent bindings is the design effect (Rao & Scott, "A simple method for the analysis of clustered binary data",
Biometrics 1992):

    d = max(1, m / (m - 1) · Σ (s_i - p b_i)² / (B p (1 - p)))

and B / d bindings count. Where p is 0 or 1 nothing can be estimated: then the bindings of one patient count as copies of each
other (an intraclass correlation of 1, Kish 1965), d = Σ b_i² / B. The interval is Wilson's of as many bindings as count, with
Student's quantile t at m - 1 degrees of freedom (modified Wilson intervals are compared with others by Franco, Little, Louis &
Slud, J. Surv. Stat. Methodol. 2019):

    (p + t²/2n ± t √(p (1 - p) / n + t²/4n²)) / (1 + t²/n),    n = B / d

If no patient has two bindings there is nothing to be alike: it is Wilson's interval with the normal quantile (d = 1).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from neurosym.review.assessment import Counted

NORMAL_975: Final = 1.959963984540054


def counted(support: NDArray[np.int64], body_size: NDArray[np.int64], patients: NDArray[np.int64]) -> Counted:
    """A rule's confidence from its counts on each image; `patients` numbers whose image it is."""
    s, b = by_patient(support, patients), by_patient(body_size, patients)
    images, total, held = len(support), int(body_size.sum()), int(support.sum())
    if total == 0:
        return Counted(images, held, total, None, None, None)
    low, high = clustered_interval(s, b)
    return Counted(images, held, total, held / total, low, high)


def by_patient(counts: NDArray[np.int64], patients: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of what each image counts over the images of each patient."""
    found = np.zeros(int(patients.max(initial=-1)) + 1, dtype=np.int64)
    np.add.at(found, patients, counts)
    return found


def clustered_interval(support: NDArray[np.int64], body_size: NDArray[np.int64]) -> tuple[float, float]:
    """The interval from the counts of each patient, of which one at least has a binding.

    >>> low, high = clustered_interval(np.ones(5, dtype=int), np.ones(5, dtype=int))
    >>> round(low, 3), high
    (0.566, 1.0)
    """
    has = body_size > 0
    s, b = support[has].astype(np.float64), body_size[has].astype(np.float64)
    m, total = len(b), float(b.sum())
    p = float(s.sum()) / total
    if b.max() == 1:
        return wilson(p, total, NORMAL_975)
    if m == 1:
        return wilson(p, 1.0, NORMAL_975)
    if 0 < p < 1:
        effect = max(1.0, m / (m - 1) * float(((s - p * b) ** 2).sum()) / (total * p * (1 - p)))
    else:
        effect = float((b**2).sum()) / total
    return wilson(p, total / effect, float(stats.t.ppf(0.975, m - 1)))


def wilson(p: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's interval (1927) of a share p of n, which need not be whole."""
    z2 = quantile**2
    centre = p + z2 / (2 * n)
    spread = quantile * math.sqrt(max(0.0, p * (1 - p) / n + z2 / (4 * n * n)))
    low, high = (centre - spread) / (1 + z2 / n), (centre + spread) / (1 + z2 / n)
    return 0.0 if p == 0 else max(0.0, low), 1.0 if p == 1 else min(1.0, high)
