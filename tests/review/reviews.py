"""Candidates, origins and ledgers to review, made by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from neurosym.knowledge import parse_rules
from neurosym.records import Candidate
from neurosym.review.candidates import figures_digest
from neurosym.review.ledger import Decision, Ledger

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ANNOTATIONS = {"facts": "annotations", "run": "runs/a", "split": "train"}
TAUGHT = "left_of(R, H) :- right_lung(R), heart(H)."


def predictions(*rules: str, run: str = "runs/a", untold: str = "") -> dict[str, object]:
    """The origin of facts that a model predicted which was trained with these rules."""
    told = [{"id": f"taught_{i}", "rule": rule} for i, rule in enumerate(rules, 1)]
    where = {"facts": "predictions", "run": run, "split": "test", "threshold": 0.5, "checkpoint": "step-1"}
    return where | {"trained_with": told, "untold": untold}


def candidate(text: str, support: int = 9, body_size: int = 10) -> Candidate:
    share = support / body_size
    [rule] = parse_rules(f"{share:.3g} :: {text}  %! id=induced_x status=candidate")
    return Candidate(rule, support, body_size, share, share, 0.5, 2.0, ("film-1",), ("film-2",))


def ledger(folder: Path) -> Ledger:
    return Ledger(folder / "reviews.jsonl", clock=lambda: NOON)


def judge(
    book: Ledger, what: Candidate, verdict: Decision, reviewer: str = "Anna", reason: str = "", edited: str = ""
) -> None:
    """Record a verdict on a candidate by the figures it has."""
    entry = f"{len(book.verdicts())}"
    book.record(entry, reviewer, what.rule, verdict, reason, edited, figures_digest(what))
