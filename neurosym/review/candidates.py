"""Candidates on disk: JSON with all measures and evidence, and a rule file a person can read and edit.

With them stands their origin: the facts that they were learned from (`neurosym.review.origin` says what it holds).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurosym.errors import InductionError, NeurosymError, Problem, short_path
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
        InductionError: missing, or not a file of candidates; the candidate or the part of the origin that is wrong is named.
    """
    shown = short_path(path)
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        found = [_candidate(v, number) for number, v in enumerate(_list(value["candidates"], "'candidates'"), 1)]
        origin = dict(value["origin"])
        _require_origin(origin)
        return found, origin
    except OSError as error:
        cure = "write it with `neurosym induce RUN`"
        raise InductionError(Problem(f"cannot be read: {error.strerror}", shown, cure=cure)) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InductionError(Problem(f"not a file of candidates: {error}", shown, cure="induce again")) from error


def figures_digest(candidate: Candidate) -> str:
    """The candidate's rule with its weight and its measures, as 16 hex digits: what a reviewer saw, in short."""
    rule = format_rule(replace(candidate.rule, meta={}))
    seen = json.dumps([rule, *(getattr(candidate, k) for k in _NUMBERS)])
    return hashlib.sha256(seen.encode()).hexdigest()[:16]


def _candidate(value: Any, number: int) -> Candidate:
    """One candidate; ValueError tells which one and what is wrong."""
    try:
        rules = parse_rules(str(value["rule"]))
        if len(rules) != 1:
            raise ValueError(f"'rule' is {value['rule']!r}, expected one rule")
        for key in _NUMBERS:
            _require_measure(key, value[key])
        evidence = {k: tuple(map(str, _list(value[k], f"{k!r}"))) for k in ("supporting", "refuting")}
        numbers = {k: value[k] for k in _NUMBERS}
        return Candidate(rules[0], **numbers, **evidence)  # type: ignore[arg-type]
    except NeurosymError as error:
        raise ValueError(f"candidate {number}: {error.problems[0].message}") from error
    except KeyError as error:
        raise ValueError(f"candidate {number}: {error} is missing") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"candidate {number}: {error}") from error


def _require_measure(key: str, value: Any) -> None:
    """Counts are whole, shares in [0, 1], and the lift may be any number from 0 on."""
    whole = key in ("support", "body_size")
    most = math.inf if whole or key == "lift" else 1.0
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not 0 <= value <= most:
        expected = (
            "a whole number from 0 on" if whole else "a number from 0 on" if key == "lift" else "a number in [0, 1]"
        )
        raise ValueError(f"{key!r} is {value!r}, expected {expected}")


def _require_origin(origin: Mapping[str, Any]) -> None:
    """What others read of an origin has the kind that they rely on; each part may be left out."""
    for key in ("facts", "run", "split", "checkpoint", "untold"):
        if not isinstance(origin.get(key, ""), str):
            raise ValueError(f"{key!r} of the origin is {origin[key]!r}, expected text")
    threshold = origin.get("threshold", 0.5)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ValueError(f"'threshold' of the origin is {threshold!r}, expected a number in [0, 1]")
    for entry in _list(origin.get("trained_with", []), "'trained_with' of the origin"):
        if not isinstance(entry, dict) or not isinstance(entry.get("rule"), str):
            raise ValueError(f"'trained_with' of the origin holds {entry!r}, expected an id and a rule")
    patients = origin.get("patients", {})
    if not isinstance(patients, dict):
        raise ValueError("'patients' of the origin are no patients with their images")
    for names in (origin.get("images", []), *patients.values()):
        if not all(isinstance(name, str) for name in _list(names, "'images' of the origin or of a patient")):
            raise ValueError("'images' of the origin or of a patient are no names")
    if not isinstance(origin.get("bounds", {}), dict):
        raise ValueError(f"'bounds' of the origin is {origin['bounds']!r}, expected measures with their bounds")


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is no list")
    return value
