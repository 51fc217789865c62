"""Is a candidate plausible? What the knowledge says of it, whether it holds elsewhere and again, and what may explain it away.

- *Standing*: entailed, known, novel or contradicted, with the proof, the place or the clash (`neurosym.review.standing`).
- *Confirmation*: its confidence on images of another split, without the patients that it was found on, with a 95% interval over
  patients (`neurosym.review.intervals`).
- *Stability*: the share of bootstrap samples of the discovery patients on which it keeps the bounds that it was found with, and
  its confidence within sites, views, sexes and ages of the confirmation images (of the discovery images where there are none).
- *Confounders*: what may explain it away, over all images, as it is the association that is asked for and not the confidence
  (`neurosym.review.confounding`).
- *Idle parts* of its body, which add nothing to the rest (`neurosym.review.idle`), over all images likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neurosym.errors import InductionError
from neurosym.induction.index import IntArray
from neurosym.induction.units import counts_by_scene
from neurosym.knowledge import Knowledge
from neurosym.knowledge.reading import reading
from neurosym.records import Candidate, Rule
from neurosym.review.assessment import Assessment, Counted, Stratum
from neurosym.review.cohort import Cohort, attributes_of, in_order, site_attribute, subgroup_attributes
from neurosym.review.confounding import MOST_VALUES, Confounding
from neurosym.review.idle import idle_parts
from neurosym.review.intervals import by_patient, counted
from neurosym.review.ledger import normal_text
from neurosym.review.standing import Standings

_AT_ONCE: Final = 4_000_000
"""Entries of a block of bootstrap samples."""
Counts = tuple[IntArray, IntArray]
"""Support and body size on each film of a cohort."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the learner asked of a rule: support, scenes of support, confidence."""

    min_support: int
    min_scenes: int
    min_confidence: float

    @classmethod
    def told(cls, origin: Mapping[str, Any]) -> Bounds | None:
        """Those in the origin of candidates, None if they are not told.

        Of a learner by partial completeness the confidence is of another kind, and is not asked for again.
        """
        try:
            told = origin["bounds"]
            least = float(told["min_confidence"]) if told.get("measure", "standard") == "standard" else 0.0
            return cls(int(told["min_support"]), int(told["min_scenes"]), least)
        except (KeyError, TypeError, ValueError):
            return None


def assess(
    candidates: Sequence[Candidate],
    knowledge: Knowledge,
    discovery: Cohort,
    confirmation: Cohort | None = None,
    bounds: Bounds | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    advance: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> list[Assessment]:
    """Assess candidates, in their order; the same input and seed give the same.

    Args:
        candidates: induced rules.
        knowledge: what they are held against.
        discovery: the films that they were found on.
        confirmation: other films; those of patients of `discovery` are left out here.
        bounds: what the learner asked for; None: `held` is not told.
        resamples: bootstrap samples of the discovery patients; 0 for none.
        seed: of the bootstrap.
        advance: told of progress.
    """
    confirmation = None if confirmation is None else confirmation.apart_from(discovery)
    asked = _Assessor(knowledge, discovery, confirmation)
    found = []
    counts = [_counts(c.rule, discovery) for c in candidates]
    measured = [c for c in counts if c is not None]
    held: list[float] = []
    if bounds is not None and resamples and discovery.films:
        held = bootstrap(measured, discovery.patients, bounds, resamples, seed)
    shares = iter(held)
    for number, (candidate, count) in enumerate(zip(candidates, counts, strict=True), 1):
        one = asked.assessment(candidate)
        if held and count is not None:
            one = replace(one, resamples=resamples, held=next(shares))
        found.append(one)
        advance(number, len(candidates), "assessed")
    return found


def passes(assessment: Assessment) -> bool:
    """Whether a candidate may be offered as something new: neither contradicted, nor known, nor entailed."""
    return assessment.standing == "novel"


def bootstrap(
    counts: Sequence[Counts], patients: IntArray, bounds: Bounds, resamples: int, seed: int = 0
) -> list[float]:
    """For each rule the share of samples of patients, drawn with replacement, on which it keeps the bounds.

    Each rule is counted once an image; a sample is how often each patient was drawn, the same for all rules, and a patient
    drawn twice counts twice (Efron & Tibshirani 1993, clusters as units).
    """
    number = int(patients.max()) + 1
    columns = [
        by_patient(part, patients) for s, b in counts for part in (s, b, (s > 0).astype(np.int64))
    ]  # support, body size, scenes of support
    table = np.stack(columns, axis=1).astype(np.float64) if columns else np.zeros((number, 0))
    kept = np.zeros(len(counts))
    draws = np.random.default_rng(seed)
    block = max(1, _AT_ONCE // number)
    for start in range(0, resamples, block):
        sums = _samples(draws, number, min(block, resamples - start)) @ table
        support, size, scenes = (sums[:, i::3] for i in range(3))
        confident = support >= bounds.min_confidence * size - 1e-9
        enough = (support >= bounds.min_support) & (scenes >= bounds.min_scenes) & (size > 0)
        kept += (confident & enough).sum(axis=0)
    return [float(k) for k in kept / resamples]


def _samples(draws: np.random.Generator, number: int, count: int) -> NDArray[np.float64]:
    """How often each patient is drawn in each sample."""
    drawn = draws.integers(number, size=(count, number))
    return np.stack([np.bincount(row, minlength=number) for row in drawn]).astype(np.float64)


class _Assessor:
    """What candidates are held against, made once."""

    def __init__(self, knowledge: Knowledge, discovery: Cohort, confirmation: Cohort | None) -> None:
        self.ontology, self.discovery, self.confirmation = knowledge.ontology, discovery, confirmation
        self.standings = Standings(knowledge)
        cohorts = [discovery] if confirmation is None else [discovery, confirmation]
        self.confounding = Confounding(cohorts, knowledge.ontology)
        self.parted = confirmation if confirmation is not None and confirmation.films else discovery
        names = attributes_of([self.parted])
        self.site, self.groups = site_attribute(names), tuple(subgroup_attributes(names))

    def assessment(self, candidate: Candidate) -> Assessment:
        rule = candidate.rule
        judged = self.standings.of(rule)
        text, said = normal_text(rule), reading(replace(rule, weight=None), self.ontology)
        one = Assessment(text, said, judged.standing, judged.because)
        warnings = list(judged.warnings)
        confirmed = None
        if self.confirmation is not None and (count := _counts(rule, self.confirmation)) is not None:
            confirmed = counted(*count, self.confirmation.patients)
            warnings += _doubts(candidate, confirmed)
        try:
            confounders, inseparable = self.confounding.of(rule)
            idle, parts_inseparable = idle_parts(rule, self.confounding)
        except InductionError as error:  # too much work, or a relation of another arity than its facts
            return replace(
                one, confirmation=confirmed, warnings=(*warnings, f"not measured: {error.problems[0].message}")
            )
        sites = tuple(self._strata(rule, self.site)) if self.site else ()
        subgroups = tuple(s for name in self.groups for s in self._strata(rule, name))
        warnings += [*inseparable, *parts_inseparable, *_worse([*sites, *subgroups])]
        return replace(
            one, confirmation=confirmed, sites=sites, subgroups=subgroups, confounders=confounders, idle=idle,
            warnings=tuple(warnings),
        )  # fmt: skip

    def _strata(self, rule: Rule, attribute: str) -> Iterator[Stratum]:
        count = _counts(rule, self.parted)
        values = np.array(self.parted.values(attribute))
        known = in_order(values.tolist())
        if count is None or len(known) > MOST_VALUES:
            return
        for value in known:
            its = values == value
            yield Stratum(attribute, value, counted(count[0][its], count[1][its], self.parted.patients[its]))


def _counts(rule: Rule, cohort: Cohort) -> Counts | None:
    """Support and body size on each film; 0 on films without facts, None if the rule cannot be measured."""
    support, size = (np.zeros(len(cohort.films), dtype=np.int64) for _ in range(2))
    if cohort.index is not None:
        try:
            support[cohort.film_of_scene], size[cohort.film_of_scene] = counts_by_scene(rule, cohort.index)
        except InductionError:
            return None
    return support, size


def _doubts(candidate: Candidate, confirmed: Counted) -> Iterator[str]:
    if confirmed.confidence is None or confirmed.high is None:
        yield f"its body holds nowhere on the {confirmed.images} images to confirm it on"
    elif confirmed.high < candidate.confidence:
        yield f"it holds less often where it was not found: {confirmed.confidence:.2f}, was {candidate.confidence:.2f}"


def _worse(strata: Sequence[Stratum]) -> Iterator[str]:
    """The strata whose interval lies below that of another one of the same attribute."""
    for s in strata:
        mates = [m.counted.low for m in strata if m.attribute == s.attribute and m.counted.low is not None]
        c = s.counted
        if c.high is not None and c.confidence is not None and c.high < max(mates):
            yield f"it holds less often where {s.attribute} is {s.value}: {c.confidence:.2f} of {c.body_size}"
