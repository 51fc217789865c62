"""Candidates on disk: JSON with all measures and evidence, and a rule file a person can read and edit.

With them stands their origin: the facts that they were learned from (`neurosym.review.origin` says what it holds).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurosym.errors import InductionError, Problem, short_path
from neurosym.knowledge.rules import format_rule, parse_rules, write_rules, write_text_atomically
from neurosym.records import Candidate

_NUMBERS = ("support", "body_size", "confidence", "pca_confidence", "head_coverage", "lift")


def save_candidates(path: Path, candidates: Iterable[Candidate], origin: Mapping[str, Any] | None = None) -> None:
    """Write candidates as JSON, and their rules beside it as ``.rules``; `origin` says which facts they were learned from."""
    candidates = list(candidates)
    values = [
        {"rule": format_rule(c.rule)}
        | {k: getattr(c, k) for k in _NUMBERS}
        | {"supporting": list(c.supporting), "refuting": list(c.refuting)}
        for c in candidates
    ]
    write_text_atomically(path, json.dumps({"origin": dict(origin or {}), "candidates": values}, indent=1) + "\n")
    title = "Induced rules that nobody has reviewed yet: candidates, not knowledge."
    write_rules(path.with_suffix(".rules"), [c.rule for c in candidates], title)


def load_candidates(path: Path) -> tuple[list[Candidate], dict[str, Any]]:
    """Read candidates and their origin back.

    Raises:
        InductionError: missing, or not a file of candidates.
    """
    shown = short_path(path)
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        return [_candidate(v) for v in value["candidates"]], dict(value["origin"])
    except OSError as error:
        cure = "write it with `neurosym induce RUN`"
        raise InductionError(Problem(f"cannot be read: {error.strerror}", shown, cure=cure)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InductionError(Problem(f"not a file of candidates: {error}", shown)) from error


def figures_digest(candidate: Candidate) -> str:
    """The candidate's rule with its weight and its measures, as 16 hex digits: what a reviewer saw, in short."""
    rule = format_rule(replace(candidate.rule, meta={}))
    seen = json.dumps([rule, *(getattr(candidate, k) for k in _NUMBERS)])
    return hashlib.sha256(seen.encode()).hexdigest()[:16]


def _candidate(value: dict[str, object]) -> Candidate:
    [rule] = parse_rules(str(value["rule"]))
    numbers = {k: value[k] for k in _NUMBERS}
    evidence = {k: tuple(_strings(value[k])) for k in ("supporting", "refuting")}
    return Candidate(rule, **numbers, **evidence)  # type: ignore[arg-type]


def _strings(value: object) -> Sequence[str]:
    if not isinstance(value, list):
        raise TypeError("expected a list of scenes")
    return [str(v) for v in value]
