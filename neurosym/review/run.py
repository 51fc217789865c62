"""The review of one run folder: its candidates, the ledger beside them, and the verbs that commands and pages share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from neurosym.errors import NeurosymError, Problem, ReviewError, did_you_mean, short_path
from neurosym.knowledge import Knowledge
from neurosym.records import Candidate
from neurosym.review.agreement import Agreement, agreements
from neurosym.review.candidates import figures_digest, load_candidates
from neurosym.review.ledger import FILE, Decision, Key, Ledger, Verdict, normal_text, rule_key, the_rule
from neurosym.review.publish import Publication, publish
from neurosym.review.rule_file import RuleFile


@dataclass(frozen=True)
class RunReview:
    """Candidates, their origin, and the ledger of a run folder."""

    path: Path
    candidates: tuple[Candidate, ...]
    origin: Mapping[str, Any]
    ledger: Ledger

    @classmethod
    def of(cls, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> RunReview:
        """Open a run folder; a ledger that was cut is mended.

        Raises:
            InductionError: it holds no candidates. ReviewError: its ledger cannot be read.
        """
        candidates, origin = load_candidates(path / "candidates.json")
        return cls(path, tuple(candidates), origin, Ledger(path / FILE, clock))

    def candidate(self, which: str) -> Candidate:
        """The candidate of a number (from 1, as listed), of an id, or that says the same as a rule's text.

        Raises:
            ReviewError: there is none; the nearest is named.
        """
        if which.isdecimal() and len(which) < 10 and 1 <= int(which) <= len(self.candidates):
            return self.candidates[int(which) - 1]
        by_id = {c.rule.id: c for c in self.candidates}
        if which in by_id:
            return by_id[which]
        try:
            key = rule_key(the_rule(which))
        except NeurosymError:
            cure = did_you_mean(which, by_id)
        else:
            found = next((c for c in self.candidates if rule_key(c.rule) == key), None)
            if found is not None:
                return found
            cure = did_you_mean(which, (normal_text(c.rule) for c in self.candidates))
        where = short_path(self.path / "candidates.json")
        raise ReviewError(Problem(f"no candidate {which!r} among {len(self.candidates)}", where, cure=cure))

    def judge(
        self,
        which: str,
        reviewer: str,
        verdict: Decision,
        reason: str = "",
        edited: str = "",
        films: Iterable[str] = (),
        entry_id: str = "",
    ) -> Verdict:
        """Record a verdict on a candidate, with the digest of the figures it has now; see `Ledger.record`."""
        candidate = self.candidate(which)
        seen = figures_digest(candidate)
        entry_id = entry_id or uuid.uuid4().hex
        return self.ledger.record(entry_id, reviewer, candidate.rule, verdict, reason, edited, seen, films)

    def standing(self) -> dict[Key, dict[str, Verdict]]:
        """The verdicts that hold now, by rule and reviewer."""
        return self.ledger.standing()

    def agreements(self) -> list[Agreement]:
        """How far every two reviewers agree."""
        return agreements(self.ledger.verdicts())

    def publish(
        self,
        rules_file: Path,
        *,
        knowledge: Knowledge | None = None,
        also: Sequence[Path] = (),
        since: RuleFile | None = None,
        disputed: bool = False,
        write: bool = True,
        verdicts: Sequence[Verdict] | None = None,
    ) -> Publication:
        """Write the verdicts, by default the ledger's, into rule files; see `publish`."""
        said = self.ledger.verdicts() if verdicts is None else verdicts
        return publish(
            self.candidates, said, rules_file, origin=self.origin, knowledge=knowledge, also=also,
            since=since, disputed=disputed, write=write,
        )  # fmt: skip
