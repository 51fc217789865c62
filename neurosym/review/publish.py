"""Verdicts → rule files: accepted rules become knowledge with their provenance, rejected ones are kept with the reason.

``rules/NAME.rules`` takes what was accepted (``status=accepted``), ``rules/NAME.rejected.rules`` what was rejected. The latter
are rules with ``status=rejected`` and not comments: the loader reads them, holds their names against the ontology and never
uses them, editors and `neurosym rules format` know them, and if the ontology renames a class, they are told of, too.

A rule is published only if nothing speaks against it; each refusal is a `Problem` and the other rules go on:

- reviewers contradict each other (unless disputed rules are asked for), or accepted it in different wordings;
- it was accepted by figures that are no longer the candidate's;
- the knowledge contradicts it (`neurosym.review.standing`);
- the facts that speak for it are a model's that was taught it (`neurosym.review.confirmation`), and none besides;
- it stands in one of the files with another verdict: a line that somebody reads is not deleted by a program.

Publishing is refused as a whole if a file has a mistake, if somebody changed the very rules meanwhile, or if the result is not
sound. Publishing twice changes nothing: dates are those of the verdicts, ids are made of what the rule says.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from neurosym.errors import Problem, ReviewError, RuleError, short_path
from neurosym.knowledge import Knowledge
from neurosym.knowledge.check import check_rules
from neurosym.knowledge.rules import format_rule, write_text_atomically
from neurosym.knowledge.statements import ACTIVE
from neurosym.records import Candidate, Rule
from neurosym.review.candidates import figures_digest, load_candidates
from neurosym.review.confirmation import self_confirming
from neurosym.review.ledger import Key, Verdict, normal_text, rule_key, standing, the_rule
from neurosym.review.origin import in_words
from neurosym.review.rule_file import RuleFile, changed_rules, lines_of, parsed, read_rule_file, with_rules
from neurosym.review.standing import Standings

ACCEPTED: Final = "% --- induced, and accepted by review ---"
REJECTED: Final = "% --- induced, and rejected by review ---"
_MORE_EVIDENCE = "give candidates of annotations, or of a run that was trained without it, as further evidence"
_TITLE = "Rules that were induced and rejected, each with the reason. None of them is used: status=rejected."


@dataclass(frozen=True)
class Publication:
    """What publishing changes, or would change: the files before and after, and what became of each judged rule."""

    files: tuple[RuleFile, RuleFile]
    """Of accepted and of rejected rules, as they were."""
    texts: tuple[str, str]
    """Their texts afterwards."""
    accepted: tuple[Rule, ...] = ()
    rejected: tuple[Rule, ...] = ()
    present: tuple[Rule, ...] = ()
    """Accepted or rejected rules that stood there already, as they stand."""
    waiting: tuple[Candidate, ...] = ()
    """Candidates without a verdict, or put off."""
    refused: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def diff(self) -> str:
        """Both files' changes as a unified diff, "" if nothing changes."""
        found = []
        for file, text in zip(self.files, self.texts, strict=True):
            shown = short_path(file.path).lstrip("/")
            for line in difflib.unified_diff(lines_of(file.text), lines_of(text), f"a/{shown}", f"b/{shown}"):
                found.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
        return "".join(found)


@dataclass(frozen=True)
class _Judged:
    """One candidate with the verdicts that stand on it; `evidence` has the measures that count, `origin` says whence."""

    candidate: Candidate
    accepts: tuple[Verdict, ...]
    rejects: tuple[Verdict, ...]
    evidence: Candidate
    origin: Mapping[str, Any]

    @property
    def rule(self) -> Rule:
        """As accepted: in the wording of an expert if there is one; without a weight of its own it has the measured one."""
        return next((w for w in self.wordings if w != self.measured), self.measured)

    @property
    def measured(self) -> Rule:
        """The candidate with the confidence that counts as its weight, rounded as induction rounds it."""
        weight = max(0.001, round(self.evidence.confidence, 3))
        return replace(self.candidate.rule, weight=weight, meta={}, file="", line=0)

    @property
    def wordings(self) -> tuple[Rule, ...]:
        """What each reviewer who accepts it makes of it."""
        edited = (the_rule(v.edited) if v.edited else self.measured for v in self.accepts)
        return tuple(replace(r, weight=r.weight or self.measured.weight, line=0) for r in edited)

    @property
    def edited(self) -> bool:
        return rule_key(self.rule) != rule_key(self.candidate.rule)


def publish(
    candidates: Sequence[Candidate],
    verdicts: Iterable[Verdict],
    rules_file: Path,
    *,
    origin: Mapping[str, Any],
    knowledge: Knowledge | None = None,
    also: Sequence[Path] = (),
    since: RuleFile | None = None,
    disputed: bool = False,
    write: bool = True,
) -> Publication:
    """Write what was accepted and what was rejected into rule files, each all or nothing, the rejected ones first.

    Args:
        candidates: the rules that were judged.
        verdicts: the ledger's entries.
        rules_file: takes the accepted rules; the file of rejected ones lies beside it.
        origin: of the candidates (`neurosym.review.origin`).
        knowledge: what the rules are held against, and the files that may hold them already.
        also: further candidate files, whose facts may speak for a rule that these facts do not; its measures are then theirs.
        since: the rule file as it was when the review began (`read_rule_file`); None takes it as it is now.
        disputed: also accept rules that a reviewer rejected; it is written beside them.
        write: False only says what would be written.

    Raises:
        ReviewError: somebody changed the same rules meanwhile. RuleError: a file, before or afterwards, is not sound.
        InductionError: a file of `also` cannot be read.
    """
    path = Path(rules_file).resolve()
    if path.suffix != ".rules" or path.name.endswith(".rejected.rules"):
        raise ReviewError(f"{rules_file}: expected a rule file, e.g. rules/accepted.rules")
    with _turn(path.parent) if write else _no_turn():
        files = (read_rule_file(path), read_rule_file(path.with_suffix(".rejected.rules")))
        plan = _Plan(files, origin, knowledge, [load_candidates(p) for p in also], disputed)
        made = plan.publication(candidates, list(verdicts), since)
        if write:
            for file, text in reversed(list(zip(made.files, made.texts, strict=True))):
                if text != file.text:
                    write_text_atomically(file.path, text)
    return made


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One publication at a time in a folder."""
    import fcntl  # not on Windows, where the other parts of the review still work

    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _no_turn() -> Iterator[None]:
    yield


@dataclass
class _Plan:
    files: tuple[RuleFile, RuleFile]
    origin: Mapping[str, Any]
    knowledge: Knowledge | None
    also: Sequence[tuple[Sequence[Candidate], Mapping[str, Any]]]
    disputed: bool
    refused: list[Problem] = field(default_factory=list)
    present: list[Rule] = field(default_factory=list)
    wanted: dict[Key, Rule] = field(default_factory=dict)
    """Every rule that should stand in one of the files, as it should."""

    def publication(
        self, candidates: Sequence[Candidate], verdicts: Sequence[Verdict], since: RuleFile | None
    ) -> Publication:
        held = standing(verdicts)
        judged = [self._judged(c, held.get(rule_key(c.rule), {})) for c in candidates]
        warnings = _strays(held, candidates)
        waiting = tuple(j.candidate for j in judged if not (j.accepts or j.rejects))
        accepted, rejected = self._sorted_out(judged)
        if since is not None:
            self._require_untouched(since)
        titles = ("Rules that were induced and accepted by review.", _TITLE)
        parts = zip(self.files, (accepted, rejected), (ACCEPTED, REJECTED), titles, strict=True)
        texts = tuple(with_rules(file, rules, heading, title) for file, rules, heading, title in parts)
        warnings += self._checked(texts)
        return Publication(
            self.files, (texts[0], texts[1]), tuple(accepted), tuple(rejected), tuple(self.present), waiting,
            tuple(self.refused), tuple(warnings),
        )  # fmt: skip

    def _judged(self, candidate: Candidate, by_reviewer: Mapping[str, Verdict]) -> _Judged:
        held = sorted(by_reviewer.values(), key=lambda v: v.reviewer)
        accepts, rejects = (tuple(v for v in held if v.verdict == kind) for kind in ("accept", "reject"))
        return _Judged(candidate, accepts, rejects, candidate, self.origin)

    def _sorted_out(self, judged: Sequence[_Judged]) -> tuple[list[Rule], list[Rule]]:
        """The rules to add to each file, in an order that depends on what they say alone."""
        found: tuple[list[Rule], list[Rule]] = ([], [])
        for j in sorted(judged, key=lambda j: _in_order(j.candidate.rule)):
            if not (j.accepts or j.rejects):
                continue
            if reason := self._against(j):
                self._refuse(j.candidate.rule, *reason)
                continue
            taken = bool(j.accepts)
            if taken:
                evidence = self._evidence(j)
                if isinstance(evidence, str):
                    self._refuse(j.candidate.rule, evidence, _MORE_EVIDENCE)
                    continue
                j = replace(j, evidence=evidence[0], origin=evidence[1])
            rule = self._accepted(j) if taken else self._rejected(j)
            if self.wanted.setdefault(rule_key(rule), rule) is rule and not self._stands(rule, taken):
                found[0 if taken else 1].append(rule)
        return sorted(found[0], key=_in_order), sorted(found[1], key=_in_order)

    def _against(self, j: _Judged) -> tuple[str, str] | None:
        """What speaks against publishing the verdicts on a candidate, and the cure."""
        if j.accepts and j.rejects and not self.disputed:
            said = [f"{v.reviewer} accepts it" for v in j.accepts]
            said += [f"{v.reviewer} rejects it: {v.reason}" for v in j.rejects]
            return f"reviewers disagree: {'; '.join(said)}", "let them settle it, or ask for disputed rules"
        if not j.accepts:
            return None
        if len({(rule_key(r), r.weight) for r in j.wordings}) > 1:
            said = sorted(dict.fromkeys(map(normal_text, j.wordings)))
            return f"accepted in different wordings: {' / '.join(said)}", "agree on one"
        stale = [v.reviewer for v in j.accepts if v.figures not in ("", figures_digest(j.candidate))]
        if stale:
            return f"{', '.join(stale)} accepted it by other figures than it has now", "judge it again"
        if self._standings is not None and (found := self._standings.of(j.rule)).standing == "contradicted":
            return f"the knowledge contradicts it: {found.because}", "correct the one or the other"
        return None

    @cached_property
    def _standings(self) -> Standings | None:
        return None if self.knowledge is None else Standings(self.knowledge)

    def _evidence(self, j: _Judged) -> tuple[Candidate, Mapping[str, Any]] | str:
        """The measures that speak for a rule, and what they are of; if there are none that count, why."""
        forms = {rule_key(r): r for r in (j.candidate.rule, j.rule)}  # as it was found, and as an expert edited it

        def against(origin: Mapping[str, Any]) -> str:
            said = (self_confirming(rule, origin, self.knowledge) for rule in forms.values())
            return next(filter(None, said), "")

        if not (why := against(self.origin)):
            return j.candidate, self.origin
        for candidates, origin in self.also:
            found = next((c for c in candidates if rule_key(c.rule) in forms), None)
            if found is not None and not against(origin):
                return found, origin
        return why

    def _stands(self, rule: Rule, taken: bool) -> bool:
        """Whether the rule stands somewhere already, so that it need not be added, or cannot be."""
        key, own = rule_key(rule), tuple(r for file in self.files for r in file.rules)
        there = next((r for r in (*own, *self._other_rules()) if rule_key(r) == key), None)
        there = there or next((r for r in own if r.meta.get("id") == rule.id), None)  # published, and edited since
        if there is None:
            return False
        status = there.meta.get("status", "written")
        if (status in ACTIVE) if taken else (status == "rejected"):
            self.present.append(there)
        else:
            message = f"it is {rule.meta['status']} now, and stands in {there.file}:{there.line} as {status}"
            self._refuse(rule, message, "remove that line, or change its status, and publish again")
        return True

    def _refuse(self, rule: Rule, message: str, cure: str) -> None:
        self.refused.append(Problem(f"`{normal_text(rule)}`: {message}", cure=cure))

    def _other_rules(self) -> list[Rule]:
        """What the knowledge says besides the two files: of its rule files, active or not."""
        if self.knowledge is None:
            return []
        own = {short_path(f.path) for f in self.files}
        known = (*self.knowledge.rules, *self.knowledge.inactive)
        return [r for r in known if r.file.endswith(".rules") and r.file not in own]

    def _require_untouched(self, since: RuleFile) -> None:
        """Raise if somebody else changed a rule that is to be written; what reads as it would be written is no change."""
        now = self.files[0]
        if now.digest == since.digest:
            return
        there = now.by_key()
        problems = []
        for key, changed in changed_rules(since, now).items():
            wanted = self.wanted.get(key)
            if wanted is None or (key in there and format_rule(there[key]) == format_rule(wanted)):
                continue
            what = "changed" if key in there else "removed"
            message = f"was {what} in {short_path(now.path)} while it was under review: {normal_text(changed)}"
            place = (changed.file, changed.line) if key in there else ("", 0)
            problems.append(Problem(message, *place, cure="read the file as it is now and judge the rule again"))
        if problems:
            raise ReviewError(problems)

    def _accepted(self, j: _Judged) -> Rule:
        names = ", ".join(v.reviewer for v in j.accepts)
        meta = {"id": _id(j.rule), "status": "accepted", "reviewer": names, "date": _date(j.accepts)}
        meta |= _provenance(j)
        if j.edited:  # the counts are those of the rule before
            counts = f"{meta.pop('support')} of {meta.pop('body_size')}"
            meta["source"] += f", {counts} before editing"
        if j.rule != j.measured:
            meta["edited_from"] = normal_text(j.candidate.rule)
        if j.rejects:
            meta["disputed"] = _reasons(j.rejects)
        return replace(j.rule, meta=_clean(meta))

    def _rejected(self, j: _Judged) -> Rule:
        names = ", ".join(v.reviewer for v in j.rejects)
        meta = {"id": _id(j.candidate.rule), "status": "rejected", "reviewer": names, "date": _date(j.rejects)}
        meta |= {"reason": _reasons(j.rejects)} | _provenance(j)
        return replace(j.measured, meta=_clean(meta))

    def _checked(self, texts: Iterable[str]) -> list[Problem]:
        """The warnings of the files as they will be.

        Raises:
            RuleError: with every mistake that they did not have before.
        """
        ontology = None if self.knowledge is None else self.knowledge.ontology
        others = self._other_rules()
        before = check_rules([*others, *(r for f in self.files for r in f.rules)], ontology)
        after: list[Rule] = []
        for file, text in zip(self.files, texts, strict=True):
            after += parsed(text, file.path)
        told = {(p.message, p.cure) for p in before}
        new = [p for p in check_rules([*others, *after], ontology) if (p.message, p.cure) not in told]
        if errors := [p for p in new if p.severity == "error"]:
            raise RuleError(errors)
        return new


def _strays(held: Mapping[Key, Mapping[str, Verdict]], candidates: Sequence[Candidate]) -> list[Problem]:
    known = {rule_key(c.rule) for c in candidates}
    gone = [next(iter(of.values())).rule for key, of in held.items() if key not in known]
    return [Problem(f"{rule} was judged and is no candidate any more", severity="warning") for rule in sorted(gone)]


def _provenance(j: _Judged) -> dict[str, str]:
    source = ", ".join(filter(None, (in_words(j.origin), j.evidence.rule.meta.get("id", ""))))
    return {"source": source, "support": str(j.evidence.support), "body_size": str(j.evidence.body_size)}


def _id(rule: Rule) -> str:
    """The head's predicate and a digest of what the rule says: the same from every run."""
    digest = hashlib.sha256(repr(rule_key(rule)).encode()).hexdigest()[:8]
    head = "_".join(a.predicate for a in rule.head if a.predicate != "=") or ("same" if rule.head else "never")
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', head)}_{digest}"


def _date(verdicts: Sequence[Verdict]) -> str:
    return max(v.time for v in verdicts)[:10]


def _reasons(verdicts: Sequence[Verdict]) -> str:
    if len(verdicts) == 1:
        return verdicts[0].reason
    return "; ".join(f"{v.reviewer}: {v.reason}" for v in verdicts)


def _clean(meta: Mapping[str, str]) -> dict[str, str]:
    """Values that a metadata comment can hold: one line, without double quotes of any kind."""
    printable = {k: "".join(c if c.isprintable() else " " for c in v) for k, v in meta.items()}
    return {k: " ".join(re.sub('["“”„‟]', "'", v).split()) for k, v in printable.items()}


def _in_order(rule: Rule) -> str:
    return str(replace(rule, weight=None))
