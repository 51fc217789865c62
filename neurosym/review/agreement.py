"""How far two reviewers agree beyond chance: Cohen's κ (Cohen, "A coefficient of agreement for nominal scales", 1960).

    κ = (p_o − p_e) / (1 − p_e),    p_o = Σ_c n_cc / n,    p_e = Σ_c n_c· n_·c / n²

over the n rules that both judged, with the categories accept, reject and later. Where it is not defined (no rule in common, or
both always gave one and the same verdict, so that p_e = 1) κ is None: agreement by habit is no evidence of anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from neurosym.review.ledger import Key, Verdict, standing

CATEGORIES: Final = ("accept", "reject", "later")


@dataclass(frozen=True, slots=True)
class Dispute:
    """A rule that two reviewers judged differently: their verdicts, each with its reason."""

    rule: str
    first: Verdict
    second: Verdict


@dataclass(frozen=True, slots=True)
class Agreement:
    """`table` counts rules by (verdict of the first, verdict of the second); the numbers are None where they are undefined."""

    first: str
    second: str
    rules: int
    observed: float | None
    expected: float | None
    kappa: float | None
    table: Mapping[tuple[str, str], int]
    disputes: tuple[Dispute, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        numbers = {k: getattr(self, k) for k in ("first", "second", "rules", "observed", "expected", "kappa")}
        table = {a: {b: self.table.get((a, b), 0) for b in CATEGORIES} for a in CATEGORIES}
        disputes = [
            {"rule": d.rule} | {v.reviewer: {"verdict": v.verdict, "reason": v.reason} for v in (d.first, d.second)}
            for d in self.disputes
        ]
        return numbers | {"table": table, "disputes": disputes}


def cohens_kappa(table: Mapping[tuple[str, str], int]) -> tuple[float | None, float | None, float | None]:
    """Observed agreement, expected agreement and κ of a table of counts; None where undefined.

    >>> cohens_kappa({("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15})
    (0.7, 0.5, 0.4)
    """
    n = sum(table.values())
    if n == 0:
        return None, None, None
    rows: Counter[str] = Counter()
    columns: Counter[str] = Counter()
    for (a, b), count in table.items():
        rows[a] += count
        columns[b] += count
    same = sum(count for (a, b), count in table.items() if a == b)
    by_chance = sum(rows[c] * columns[c] for c in rows)  # times n²: whole numbers, so that the undefined case is exact
    kappa = None if by_chance == n * n else (same * n - by_chance) / (n * n - by_chance)
    return same / n, by_chance / (n * n), kappa


def agreement(verdicts: Iterable[Verdict], first: str, second: str) -> Agreement:
    """The agreement of two reviewers on the rules that both have a standing verdict on."""
    return _agreement(standing(verdicts), first, second)


def agreements(verdicts: Iterable[Verdict]) -> list[Agreement]:
    """That of every two reviewers, by name."""
    held = standing(verdicts)
    names = sorted({name for by_reviewer in held.values() for name in by_reviewer})
    return [_agreement(held, a, b) for a, b in combinations(names, 2)]


def _agreement(held: Mapping[Key, Mapping[str, Verdict]], first: str, second: str) -> Agreement:
    pairs = [(of[first], of[second]) for of in held.values() if first in of and second in of]
    table: Counter[tuple[str, str]] = Counter((a.verdict, b.verdict) for a, b in pairs)
    disputes = (Dispute(a.rule, a, b) for a, b in pairs if a.verdict != b.verdict)
    found = tuple(sorted(disputes, key=lambda d: d.rule))
    return Agreement(first, second, len(pairs), *cohens_kappa(table), dict(table), found)
