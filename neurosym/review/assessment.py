"""What speaks for and against a candidate besides its own measures, as plain values, and as the file beside the candidates.

`neurosym.review.plausibility` finds it; the review page, the list and the reports show it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from neurosym.errors import InductionError, Problem, short_path
from neurosym.knowledge.rules import write_text_atomically

FILE = "assessments.json"
Standing = Literal["entailed", "known", "novel", "contradicted"]


@dataclass(frozen=True, slots=True)
class Counted:
    """A rule's confidence on some images: `support` of `body_size` bindings, with a 95% interval over patients.

    `confidence`, `low` and `high` are None where the body never holds.
    """

    images: int
    support: int
    body_size: int
    confidence: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Stratum:
    """The rule within the images whose `attribute` has `value`: a site, a view, a sex, an age band, a finding."""

    attribute: str
    value: str
    counted: Counted


@dataclass(frozen=True, slots=True)
class Confounder:
    """Something that the rule hangs on: within its strata the body says nothing about the head any more.

    `crude` is the difference between the head's share where the body holds and where it does not, over all images; `adjusted`
    the same within strata, weighed by Mantel and Haenszel; `message` says it in words.
    """

    attribute: str
    crude: float
    adjusted: float
    low: float
    high: float
    message: str


@dataclass(frozen=True, slots=True)
class Idle:
    """A part of the body that adds nothing to the rest.

    `crude` is the difference between the head's share where the whole body holds and where all but the part does, over all
    images, `low` and `high` its 95% interval; `attribute` is what may explain it, "" where there is nothing to explain;
    `message` says it in words.
    """

    part: str
    crude: float
    low: float
    high: float
    attribute: str
    message: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is known of one candidate.

    Attributes:
        rule: its text, without weight and metadata (`normal_text`).
        reading: it in words.
        standing: what the knowledge says of it.
        because: the proof, the clash, or the place of the known rule; "" for a novel one.
        confirmation: its confidence on images that it was not found on; None if there are none.
        resamples, held: bootstrap samples of the patients, and the share of them on which the rule keeps the learner's bounds.
        sites, subgroups: within sites; within views, sexes, ages.
        confounders: what may explain it away.
        idle: parts of its body that add nothing to the rest; none in a file of before they were looked for.
        warnings: whatever else a reviewer should know, a sentence each.
    """

    rule: str
    reading: str
    standing: Standing
    because: str = ""
    confirmation: Counted | None = None
    resamples: int = 0
    held: float | None = None
    sites: tuple[Stratum, ...] = ()
    subgroups: tuple[Stratum, ...] = ()
    confounders: tuple[Confounder, ...] = ()
    idle: tuple[Idle, ...] = ()
    warnings: tuple[str, ...] = ()


def save_assessments(
    path: Path, assessments: Sequence[Assessment], origin: Mapping[str, Any], made: Mapping[str, Any] | None = None
) -> None:
    """Write assessments as JSON.

    `origin` is that of the candidates, so that a reader sees whether they belong together; `made` is kept beside it and says
    how they were made.
    """
    value = {"origin": dict(origin), "made": dict(made or {}), "assessments": [asdict(a) for a in assessments]}
    write_text_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def load_assessments(path: Path) -> tuple[dict[str, Assessment], dict[str, Any]]:
    """Assessments by their rule's text, and the origin of the candidates that they are of.

    Raises:
        InductionError: missing, or not a file of assessments.
    """
    shown = short_path(path)
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        found = [_assessment(v) for v in value["assessments"]]
        return {a.rule: a for a in found}, dict(value["origin"])
    except OSError as error:
        cure = "write it with `neurosym review assess RUN`"
        raise InductionError(Problem(f"cannot be read: {error.strerror}", shown, cure=cure)) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InductionError(Problem(f"not a file of assessments: {error}", shown)) from error


def _assessment(v: Mapping[str, Any]) -> Assessment:
    confirmed = v["confirmation"]
    nested = {
        "confirmation": None if confirmed is None else Counted(**confirmed),
        "confounders": tuple(Confounder(**c) for c in v["confounders"]),
        "idle": tuple(Idle(**i) for i in v.get("idle", ())),
        "warnings": tuple(v["warnings"]),
    }
    strata = {k: tuple(_stratum(s) for s in v[k]) for k in ("sites", "subgroups")}
    return Assessment(**{**v, **nested, **strata})


def _stratum(v: Mapping[str, Any]) -> Stratum:
    return Stratum(v["attribute"], v["value"], Counted(**v["counted"]))
