"""What the server knows: the run under review, its films, and the ledger as it stands on disk at this moment.

The ledger is the truth, whoever writes it: other tabs, other reviewers, the command line. It is read again when it has grown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock

from neurosym.errors import NeurosymError
from neurosym.learning.runfolder import open_run
from neurosym.records import Rule
from neurosym.review.assessment import FILE as ASSESSMENTS
from neurosym.review.assessment import Assessment, load_assessments
from neurosym.review.confirmation import self_confirming
from neurosym.review.edits import Wording, wording
from neurosym.review.evidence import Evidence
from neurosym.review.ledger import Key, Verdict, rule_key, the_rule
from neurosym.review.origin import run_name
from neurosym.review.publish import Publication
from neurosym.review.rule_file import RuleFile, read_rule_file
from neurosym.review.run import RunReview
from neurosym.review.web.listing import Listing, Query, Row, rows_of
from neurosym.review.web.overlay import Pictures
from neurosym.review.web.security import Access

_KEPT = 64
Said = Mapping[int, Mapping[str, Verdict]]
"""The verdicts that stand, by row number and reviewer."""


@dataclass
class ReviewState:
    """One run under review; `target` is the rule file that accepted rules go to, `since` what it was when review began."""

    review: RunReview
    evidence: Evidence
    rows: tuple[Row, ...]
    target: Path | None = None
    since: RuleFile | None = None
    reviewer: str = ""
    access: Access = field(default_factory=Access)
    notices: tuple[str, ...] = ()
    _lock: Lock = field(default_factory=Lock, repr=False)
    _read: tuple[tuple[int, int, int], Said] | None = field(default=None, repr=False)
    _stamp: tuple[int, int] = field(default=(0, 0), repr=False)

    @classmethod
    def of(cls, path: Path, target: Path | None = None, reviewer: str = "") -> ReviewState:
        """Open a run folder for review.

        Raises:
            TrainingError: it holds no run. InductionError: it holds no candidates. ReviewError: its ledger cannot be read.
            RuleError: the target cannot.
        """
        run = open_run(path)
        review = RunReview.of(path)
        evidence = Evidence.of(run, review.origin)
        notices = []
        assessments: dict[str, Assessment] = {}
        if (path / ASSESSMENTS).is_file():
            try:
                assessments, origin = load_assessments(path / ASSESSMENTS)
            except NeurosymError as error:
                notices.append(str(error))
            else:
                if origin != review.origin:
                    assessments = {}
                    notices.append(f"{ASSESSMENTS} is of other candidates and is not shown; assess again")
        if evidence.missing:
            notices.append(f"No films: {evidence.missing}")
        rows = rows_of(review.candidates, run.knowledge.ontology, assessments)
        since = None if target is None else read_rule_file(target)
        made = cls(review, evidence, rows, target, since, " ".join(reviewer.split()), notices=tuple(notices))
        made._stamp = made._candidates_stamp()
        return made

    @property
    def name(self) -> str:
        return run_name(self.review.path)

    @cached_property
    def pictures(self) -> Pictures:
        return Pictures(self.evidence)

    @property
    def notes(self) -> list[str]:
        """What a reviewer should know on every page."""
        found = list(self.notices)
        if self.review.ledger.cut:
            found.append(
                "The last entry of the ledger was cut off in writing and was moved to reviews.jsonl.cut. "
                f"Give that verdict again: {self.review.ledger.cut[:200]}"
            )
        if self._candidates_stamp() != self._stamp:
            found.append(
                "candidates.json has changed since this page was started; start it again to review what it says now"
            )
        return found

    def _candidates_stamp(self) -> tuple[int, int]:
        try:
            said = (self.review.path / "candidates.json").stat()
        except OSError:
            return (0, 0)
        return said.st_mtime_ns, said.st_size

    def verdicts(self) -> Said:
        """The verdicts that stand, as the ledger says now."""
        path = self.review.ledger.path
        with self._lock:
            try:
                said = path.stat()
            except FileNotFoundError:
                return {}
            stamp = (said.st_ino, said.st_mtime_ns, said.st_size)
            if self._read is None or self._read[0] != stamp:
                standing = self.review.standing()
                found: dict[int, Mapping[str, Verdict]] = {}
                for key, by_reviewer in standing.items():
                    text = next(iter(by_reviewer.values())).rule
                    found |= dict.fromkeys(self._rows_of(key, text), by_reviewer)
                self._read = (stamp, found)
            return self._read[1]

    def _rows_of(self, key: Key, text: str) -> list[int]:
        """The rows that say what a judged rule says; only those of the same words are looked at closely."""
        if (text, key) not in self._matches:
            alike = self._by_words.get(_words_of(the_rule(text)), [])
            self._matches[text, key] = [n for n in alike if rule_key(self.rows[n - 1].candidate.rule) == key]
        return self._matches[text, key]

    @cached_property
    def _matches(self) -> dict[tuple[str, Key], list[int]]:
        return {}

    @cached_property
    def _by_words(self) -> dict[tuple[str, ...], list[int]]:
        found: dict[tuple[str, ...], list[int]] = {}
        for row in self.rows:
            found.setdefault(_words_of(row.candidate.rule), []).append(row.number)
        return found

    def listing(self, query: Query, reviewer: str) -> Listing:
        return Listing(self.rows, self.verdicts(), query, reviewer)

    def wording(self, text: str, row: Row) -> Wording:
        """An edited text, read, checked and measured; asked for again with each film that is looked at, so some are kept."""
        found = self._wordings.get((row.number, text))
        if found is None:
            found = wording(text, row.candidate.rule, self.evidence)
            if len(self._wordings) > _KEPT:
                self._wordings.clear()
            self._wordings[row.number, text] = found
        return found

    @cached_property
    def _wordings(self) -> dict[tuple[int, str], Wording]:
        return {}

    def written_at(self, row: Row) -> str:
        """Where somebody has written the rule already, "" if nobody has."""
        return self._written.get(rule_key(row.candidate.rule), "")

    @cached_property
    def _written(self) -> dict[Key, str]:
        knowledge = self.evidence.knowledge
        return {rule_key(r): f"{r.file}:{r.line}" for r in (*knowledge.inactive, *knowledge.rules)}

    def unproven(self, row: Row) -> str:
        """Why the run's facts do not speak for a rule, "" if they do (`neurosym.review.confirmation`)."""
        if row.number not in self._unproven:
            self._unproven[row.number] = self_confirming(row.candidate, self.review.origin, self.evidence.knowledge)
        return self._unproven[row.number]

    @cached_property
    def _unproven(self) -> dict[int, str]:
        return {}

    def publication(
        self, disputed: bool = False, write: bool = False, verdicts: Sequence[Verdict] | None = None
    ) -> Publication:
        """What publishing changes; the knowledge is read anew, for its rule files may have changed.

        `verdicts` are those that were looked at, by default the ledger's now.

        Raises:
            what `publish` raises, and KnowledgeError if the knowledge is not sound any more.
        """
        assert self.target is not None
        knowledge = open_run(self.review.path).knowledge
        made = self.review.publish(
            self.target, knowledge=knowledge, since=self.since, disputed=disputed, write=write, verdicts=verdicts
        )
        if write:
            self.since = read_rule_file(self.target)
        return made

    def take_file_as_it_is(self) -> None:
        """Whoever reviews has seen what others changed in the rule file meanwhile."""
        assert self.target is not None
        self.since = read_rule_file(self.target)


def _words_of(rule: Rule) -> tuple[str, ...]:
    """The predicates of a rule's atoms: rules that say the same have the same."""
    return tuple(sorted({a.predicate for a in (*rule.head, *rule.body)}))
