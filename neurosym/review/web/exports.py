"""The ledger, and the candidates with the verdicts that stand, as files for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from neurosym.review.ledger import Verdict
from neurosym.review.web.listing import Row

_MEASURES = ("support", "body_size", "confidence", "pca_confidence", "head_coverage", "lift")


def ledger_json(verdicts: Iterable[Verdict]) -> str:
    """Every entry, one JSON object a line, as in ``reviews.jsonl``."""
    return "".join(json.dumps(asdict(v), ensure_ascii=False) + "\n" for v in verdicts)


def ledger_csv(verdicts: Iterable[Verdict]) -> str:
    """Every entry, one a row."""
    return _csv({**asdict(v), "films": " ".join(v.films)} for v in verdicts)


def candidates_with_verdicts(rows: Sequence[Row], said: Mapping[int, Mapping[str, Verdict]]) -> list[dict[str, Any]]:
    """Each candidate with its measures and the verdicts that stand."""
    found = []
    for row in rows:
        verdicts = {
            name: {k: getattr(v, k) for k in ("verdict", "reason", "edited", "time")}
            | {"stale": v.figures not in ("", row.digest)}
            for name, v in sorted(said.get(row.number, {}).items())
        }
        what = {"number": row.number, "id": row.candidate.rule.meta.get("id", ""), "rule": row.text}
        measures = {k: getattr(row.candidate, k) for k in _MEASURES}
        found.append(what | measures | {"standing": row.standing, "verdicts": verdicts})
    return found


def candidates_csv(rows: Sequence[Row], said: Mapping[int, Mapping[str, Verdict]]) -> str:
    """One row for each candidate and reviewer; a candidate without a verdict has one row."""
    found = []
    for entry in candidates_with_verdicts(rows, said):
        verdicts = entry.pop("verdicts") or {"": dict.fromkeys(("verdict", "reason", "edited", "time", "stale"), "")}
        found += [entry | {"reviewer": name} | v for name, v in verdicts.items()]
    return _csv(found)


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(stream, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow({k: _cell(v) for k, v in row.items()})
    return stream.getvalue()


def _cell(value: Any) -> Any:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
