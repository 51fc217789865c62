"""The ledger of verdicts: what reviewers said of induced rules, one JSON object a line in ``reviews.jsonl``, appended only.

    {"id": "…", "time": "2026-03-01T09:12:00+00:00", "reviewer": "A. Meyer", "rule": "0.97 :: left_of(X, Y) :- …",
     "verdict": "reject", "reason": "true of this projection alone", "edited": "", "figures": "9f0c…", "films": ["film-17"]}

A verdict is on disk when `record` returns, wholly or not at all. Writers take turns by a lock on the file, threads and
processes alike; whoever records names the entry, so that a verdict sent twice stands there once. A writer that was killed
leaves at most a cut last line: it is moved to ``reviews.jsonl.cut``, and everything before it stays. No entry is changed or
deleted: a reviewer's later verdict on a rule replaces the earlier one, and `undo` brings the earlier one back.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, get_args

from neurosym.errors import NeurosymError, Problem, ReviewError, did_you_mean, short_path
from neurosym.knowledge.canonical import Form, canonical
from neurosym.knowledge.files import to_disk
from neurosym.knowledge.rules import format_rule, parse_rules
from neurosym.records import Rule

log = logging.getLogger(__name__)
Decision = Literal["accept", "reject", "later", "undo"]
DECISIONS: Final = get_args(Decision)
FILE: Final = "reviews.jsonl"
_KEPT: Final = 65_536
"""Lines and rules that are kept as they were read, because a ledger is read whole at each verdict."""
Key = tuple[bool, Form]
"""What a rule says: equal for two rules that differ in weight, metadata, names of variables and order of atoms only."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One entry: `rule` is the text that was judged, `edited` the reviewer's own wording of it, "" if it was left as it was.

    `figures` is the digest of the measures that were shown (`neurosym.review.candidates.figures_digest`), "" if none were;
    `films` are the films that were shown.
    """

    id: str
    time: str
    reviewer: str
    rule: str
    verdict: Decision
    reason: str = ""
    edited: str = ""
    figures: str = ""
    films: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return _key_of(self.rule)


def rule_key(rule: Rule) -> Key:
    """What a rule says, weight aside."""
    return rule.distinct, canonical(rule)


def normal_text(rule: Rule) -> str:
    """A rule as the ledger spells it: the normal form of rule files, without metadata."""
    return format_rule(replace(rule, meta={}))


@lru_cache(maxsize=_KEPT)
def the_rule(text: str) -> Rule:
    """The one rule of a text.

    Raises:
        ReviewError: the text is not one rule.
    """
    try:
        found = parse_rules(text)
    except NeurosymError as error:
        raise ReviewError([replace(p, message=f"{text!r} is no rule: {p.message}") for p in error.problems]) from error
    if len(found) != 1:
        raise ReviewError(Problem(f"expected one rule, found {len(found)} in {text!r}"))
    return found[0]


@lru_cache(maxsize=_KEPT)
def _key_of(text: str) -> Key:
    return rule_key(the_rule(text))


def standing(verdicts: Iterable[Verdict]) -> dict[Key, dict[str, Verdict]]:
    """The verdict of each reviewer on each rule that holds now, in the order of the rules' first verdicts.

    >>> said = [Verdict(str(i), "", "A", "a(X) :- b(X).", v) for i, v in enumerate(("later", "accept", "undo"))]
    >>> [v.verdict for by_reviewer in standing(said).values() for v in by_reviewer.values()]
    ['later']
    """
    stacks: dict[Key, dict[str, list[Verdict]]] = {}
    for verdict in verdicts:
        stack = stacks.setdefault(verdict.key, {}).setdefault(verdict.reviewer, [])
        if verdict.verdict != "undo":
            stack.append(verdict)
        elif stack:
            stack.pop()
    found = {key: {name: stack[-1] for name, stack in of.items() if stack} for key, of in stacks.items()}
    return {key: by_reviewer for key, by_reviewer in found.items() if by_reviewer}


class Ledger:
    """The verdicts of one run folder. Opening mends a ledger that was cut; `cut` is what was moved away, "" if nothing was.

    Raises:
        ReviewError: it cannot be read or written; of a line that is no entry, its number and the cure.
    """

    def __init__(self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path, self.clock = Path(path), clock
        self.cut = ""
        self.verdicts()

    def verdicts(self) -> list[Verdict]:
        """Every entry, in the order in which they were recorded."""
        if not self.path.exists():
            return []
        with self._locked(os.O_RDWR) as handle:
            return self._mended(handle)

    def standing(self) -> dict[Key, dict[str, Verdict]]:
        """See `standing`."""
        return standing(self.verdicts())

    def record(
        self,
        entry_id: str,
        reviewer: str,
        rule: Rule | str,
        verdict: Decision,
        reason: str = "",
        edited: Rule | str = "",
        figures: str = "",
        films: Iterable[str] = (),
    ) -> Verdict:
        """Append a verdict and return it; the one that is there already if this entry was sent before.

        Raises:
            ReviewError: a rejection without a reason, nothing to undo, an id that another verdict has, a disk that is full.
        """
        made = Verdict(
            entry_id,
            self.clock().astimezone(UTC).isoformat(timespec="seconds"),
            " ".join(reviewer.split()),
            _normal(rule),
            verdict,
            reason.strip(),
            _normal(edited) if edited else "",
            figures,
            tuple(films),
        )
        _check(made)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(os.O_RDWR | os.O_CREAT) as handle:
            before = self._mended(handle)
            known = next((v for v in before if v.id == made.id), None)
            if known is not None:
                if replace(known, time=made.time) != made:
                    cure = "give each verdict an id of its own"
                    raise self._error(f"the id {made.id!r} belongs to another verdict", cure=cure)
                return known
            if made.verdict == "undo" and made.reviewer not in standing(before).get(made.key, {}):
                raise self._error(f"{made.reviewer} has no verdict on {made.rule!r} to undo")
            self._append(handle, made)
        return made

    def _append(self, handle: int, entry: Verdict) -> None:
        line = (json.dumps(asdict(entry), ensure_ascii=False) + "\n").encode()
        end = os.lseek(handle, 0, os.SEEK_END)
        try:
            written = 0
            while written < len(line):
                written += os.write(handle, line[written:])
            os.fsync(handle)
        except OSError as error:
            os.ftruncate(handle, end)
            raise self._error(f"the verdict was not recorded: {error.strerror}") from error
        if end == 0:
            to_disk(self.path.parent)

    def _mended(self, handle: int) -> list[Verdict]:
        """The entries; what was cut is moved away first. The lock is held."""
        size = os.lseek(handle, 0, os.SEEK_END)
        data = os.pread(handle, size, 0) if size else b""
        whole, _, rest = data.rpartition(b"\n")
        lines = whole.split(b"\n") if data[: len(data) - len(rest)] else []
        entries = [self._entry(line, number) for number, line in enumerate(lines, 1)]
        if rest:
            last = _entry_or_none(rest)
            if last is not None:  # cut between the entry and the end of its line
                os.pwrite(handle, b"\n", size)
                entries.append(last)
            else:
                self._move_away(handle, rest, size - len(rest))
            os.fsync(handle)
        return entries

    def _move_away(self, handle: int, piece: bytes, end: int) -> None:
        aside = self.path.with_name(self.path.name + ".cut")
        with aside.open("ab") as file:
            file.write(piece + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.ftruncate(handle, end)
        self.cut = piece.decode("utf-8", "replace")
        log.warning(
            "%s: the last entry was cut off in writing; it is now in %s. Give that verdict again: %s",
            short_path(self.path),
            short_path(aside),
            self.cut[:200],
        )

    def _entry(self, line: bytes, number: int) -> Verdict:
        try:
            return _parsed(line)
        except (ValueError, TypeError, RecursionError, NeurosymError) as error:
            cure = "restore the line from a backup, or move it to another file; nothing is recorded until then"
            raise self._error(f"not an entry of a ledger: {error}", number, cure) from error

    def _error(self, message: str, line: int = 0, cure: str = "") -> ReviewError:
        return ReviewError(Problem(message, short_path(self.path), line, cure=cure))

    @contextmanager
    def _locked(self, flags: int) -> Iterator[int]:
        import fcntl  # not on Windows, where the other parts of the review still work

        try:
            handle = os.open(self.path, flags | os.O_APPEND, 0o644)
        except OSError as error:
            raise self._error(f"cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)  # which gives the lock back


def _normal(rule: Rule | str) -> str:
    return normal_text(the_rule(rule) if isinstance(rule, str) else rule)


def _check(entry: Verdict) -> None:
    """Raise for what no entry may say; where it stands is for the caller to tell."""
    if entry.verdict not in DECISIONS:
        raise ReviewError(f"unknown verdict {entry.verdict!r}; {did_you_mean(entry.verdict, DECISIONS)}")
    if not entry.id:
        raise ReviewError("a verdict needs an id")
    if not entry.reviewer:
        raise ReviewError("a verdict needs a reviewer; name who judges")
    if entry.verdict == "reject" and not entry.reason:
        raise ReviewError(f"{entry.rule!r} cannot be rejected without a reason; say why")
    for said in (*asdict(entry).values(), *entry.films):
        if isinstance(said, str) and not _is_text(said):
            raise ReviewError(f"{said!r} has characters that are no text; write it in UTF-8")
    if entry.edited and entry.verdict != "accept":
        raise ReviewError(f"only an accepted rule can be edited, found {entry.verdict!r} with {entry.edited!r}")
    datetime.fromisoformat(entry.time)
    for text in filter(None, (entry.rule, entry.edited)):
        the_rule(text)


def _is_text(said: str) -> bool:
    """Whether a file can hold it; a terminal of another encoding gives halves of characters."""
    try:
        said.encode()
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=_KEPT)
def _parsed(line: bytes) -> Verdict:
    """The entry of a line; ValueError, TypeError or ReviewError if it is none."""
    value: Any = json.loads(line.decode("utf-8"))
    if not isinstance(value, Mapping):
        raise TypeError("expected a JSON object")
    films = value.get("films")
    if not isinstance(films, list) or not all(isinstance(f, str) for f in films):
        raise TypeError("'films' is no list of names")
    texts = {k: v for k, v in value.items() if k != "films"}
    if wrong := sorted(k for k, v in texts.items() if not isinstance(v, str)):
        raise TypeError(f"{wrong[0]!r} is no text")
    entry = Verdict(films=tuple(films), **texts)
    _check(entry)
    return entry


def _entry_or_none(line: bytes) -> Verdict | None:
    try:
        return _parsed(line)
    except (ValueError, TypeError, RecursionError, NeurosymError):
        return None
