"""The list of candidates: one row each, made once; filters and sort over them; and which row comes next.

A reviewer sees what others said of a rule only after judging it: agreement (Cohen's κ) measures nothing if the second reads the
first. So `status` and the other verdicts of a row depend on who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode

from neurosym.knowledge.ontology import Ontology
from neurosym.knowledge.reading import reading
from neurosym.records import Candidate
from neurosym.review.assessment import Assessment
from neurosym.review.candidates import figures_digest
from neurosym.review.ledger import Verdict, normal_text

PAGE: Final = 100
"""Rows on a page of the list."""
STATUSES: Final = {
    "": "all",
    "open": "without your verdict",
    "accept": "accepted by you",
    "reject": "rejected by you",
    "later": "put off by you",
    "disputed": "where another reviewer differs",
    "stale": "judged by other figures",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate as the list shows it; `number` is its place among the run's candidates, from 1."""

    number: int
    candidate: Candidate
    text: str
    reading: str
    head: str
    digest: str
    assessment: Assessment | None
    haystack: str

    @property
    def against(self) -> int:
        return self.candidate.body_size - self.candidate.support

    @property
    def standing(self) -> str:
        return "" if self.assessment is None else self.assessment.standing


def rows_of(
    candidates: Sequence[Candidate], ontology: Ontology, assessments: Mapping[str, Assessment]
) -> tuple[Row, ...]:
    """The rows of a run's candidates, in their order."""
    rows = []
    for number, candidate in enumerate(candidates, 1):
        text, bare = normal_text(candidate.rule), normal_text(replace(candidate.rule, weight=None))
        sentence = reading(replace(candidate.rule, weight=None), ontology)
        head = ", ".join(dict.fromkeys(a.predicate for a in candidate.rule.head)) or "never"
        assessment = assessments.get(bare) or assessments.get(text)
        haystack = f"{bare}\n{sentence}\n{candidate.rule.meta.get('id', '')}".casefold()
        rows.append(Row(number, candidate, bare, sentence, head, figures_digest(candidate), assessment, haystack))
    return tuple(rows)


SORTS: Final[Mapping[str, tuple[str, Callable[[Row], Any]]]] = {
    "number": ("as induced", lambda r: r.number),
    "confidence": ("confidence", lambda r: r.candidate.confidence),
    "support": ("support", lambda r: r.candidate.support),
    "against": ("counter-examples", lambda r: r.against),
    "coverage": ("head coverage", lambda r: r.candidate.head_coverage),
    "lift": ("lift", lambda r: r.candidate.lift),
    "rule": ("rule", lambda r: r.text),
}


@dataclass(frozen=True, slots=True)
class Query:
    """What a reviewer wants to see of the list, as the address says it; unknown values are taken for none."""

    q: str = ""
    status: str = ""
    head: str = ""
    standing: str = ""
    confidence: float = 0.0
    support: int = 0
    sort: str = "number"
    down: bool = False
    page: int = 1

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Query:
        """Read an address's query, or the part of it that a page carries along."""
        return cls(
            values.get("q", "").strip()[:200],
            values.get("status", "") if values.get("status") in STATUSES else "",
            values.get("head", ""),
            values.get("standing", ""),
            _number(values.get("confidence", ""), 1.0),
            int(_number(values.get("support", ""), 1e9)),
            values.get("sort", "") if values.get("sort") in SORTS else "number",
            values.get("down", "") == "1",
            max(1, int(_number(values.get("page", ""), 1e6))),
        )

    def address(self, **changes: Any) -> str:
        """The query as text, without what is as usual."""
        changed = replace(self, **changes)
        values = {name: getattr(changed, name) for name in self.__slots__}
        usual = Query()
        kept = {k: int(v) if v is True else v for k, v in values.items() if v != getattr(usual, k)}
        return urlencode(kept)


def _number(text: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return min(value, most) if value > 0 else 0.0


def status_of(row: Row, said: Mapping[str, Verdict], reviewer: str) -> set[str]:
    """Every status of a row for a reviewer."""
    mine = said.get(reviewer)
    if mine is None:
        return {"open"}
    found = {str(mine.verdict)}
    if any(v.verdict != mine.verdict for v in said.values()):
        found.add("disputed")
    if mine.figures not in ("", row.digest):
        found.add("stale")
    return found


class Listing:
    """The rows of a run under a query, for a reviewer; `verdicts` are those that stand now, by row number."""

    def __init__(
        self, rows: Sequence[Row], verdicts: Mapping[int, Mapping[str, Verdict]], query: Query, reviewer: str
    ) -> None:
        self.query = query
        key = SORTS[query.sort][1]
        self.ordered = sorted(rows, key=key, reverse=query.down)
        words = query.q.casefold().split()
        self.found = [
            r
            for r in self.ordered
            if r.candidate.confidence >= query.confidence
            and r.candidate.support >= query.support
            and (not query.head or r.head == query.head)
            and (not query.standing or r.standing == query.standing)
            and all(w in r.haystack for w in words)
            and (not query.status or query.status in status_of(r, verdicts.get(r.number, {}), reviewer))
        ]

    @property
    def pages(self) -> int:
        return max(1, -(-len(self.found) // PAGE))

    @property
    def page(self) -> int:
        return min(self.query.page, self.pages)

    @property
    def shown(self) -> list[Row]:
        return self.found[(self.page - 1) * PAGE : self.page * PAGE]

    def beside(self, number: int) -> tuple[int | None, int | None]:
        """The rows before and after one in the order of the list, also when it is not in the list any more."""
        place = {row.number: i for i, row in enumerate(self.ordered)}
        here = place.get(number, -1)
        before = [r.number for r in self.found if place[r.number] < here]
        after = next((r.number for r in self.found if place[r.number] > here), None)
        return (before[-1] if before else None), after
