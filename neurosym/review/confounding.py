"""What may explain a rule away: an attribute of the images, or a finding on them, in whose strata the body says nothing more.

For each such variable the rule's risk difference P(head | body) - P(head | no body) over all units (`neurosym.induction.units`)
is compared with the same within strata (`neurosym.review.stratified`). Tubes go with severe disease, and severe disease with
COVID-19: among the severe, and among the others, a tube says nothing. A variable is told of if

1. the crude difference is above 0 by its 95% interval;
2. the adjusted interval holds 0, or the adjusted difference is a quarter of the crude one at most;
3. adjusting takes away half of the crude difference at least, and that is no chance: the crude value lies above the adjusted
   one by a one-sided test (z = (crude - adjusted) / error), by Holm's procedure (1979) at 5% over all variables looked at;
4. the strata can tell: those with something to compare have at least 10 units with and 10 without the body.

2 without 3 would blame each variable that makes strata too small to see anything. Not looked at are what the rule itself
speaks of, classes above and below or disjoint with these, attributes that are another word for them (``ns:studyLabel``), and
variables in whose strata the head is always or never there, because those say what the head says. A mediator (what the body
causes, and what causes the head) looks the same as a confounder; which it is only a person can know.

`neurosym.review.idle` asks the same of the parts of a body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from neurosym.induction.index import FactIndex, FloatArray, IntArray
from neurosym.induction.units import Units, units_of
from neurosym.knowledge.ontology import Ontology
from neurosym.records import Rule
from neurosym.review.assessment import Confounder
from neurosym.review.cohort import Cohort, attributes_of
from neurosym.review.stratified import Difference, Tables, risk_difference, tables_of

MOST_VALUES: Final = 10
"""An attribute with more values makes no strata."""
FEWEST_UNITS: Final = 10
"""With and without the body, in strata where both are."""
_LEVEL: Final = 0.05
_QUARTER: Final = 0.25
_HALF: Final = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """Something that parts the films of all cohorts: the number of the stratum of each film, -1 where it is not known."""

    name: str
    stratum: IntArray
    of_class: bool


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """May something explain what `what` says of the head? Its units on each film, and their difference over all."""

    what: str
    tables: Tables
    crude: Difference


class Confounding:
    """Looks for confounders of rules over cohorts whose films are not the same; the variables are made once."""

    def __init__(self, cohorts: Sequence[Cohort], ontology: Ontology) -> None:
        self.cohorts, self.ontology = [c for c in cohorts if c.films], ontology
        self.variables = [*self._attributes(), *self._classes()]
        before = np.cumsum([0, *(len(c.films) for c in self.cohorts)])
        parts = [c.patients + start for c, start in zip(self.cohorts, before, strict=False)]
        self._patients = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def of(self, rule: Rule) -> tuple[tuple[Confounder, ...], tuple[str, ...]]:
        """What may explain a rule away, and the attributes that cannot be told from its body, in words.

        Raises:
            InductionError: the rule cannot be measured.
        """
        question = self.question("the body", lambda index: units_of(rule, index))
        if question is None or question.crude.low <= 0:
            return (), ()
        [found], inseparable = self.explained(rule, [question])
        told = [
            Confounder(
                variable.name, question.crude.value, adjusted.value, adjusted.low, adjusted.high,
                self.sentence(variable, "the body says little of the head", question.crude, adjusted),
            )
            for variable, adjusted in found
        ]  # fmt: skip
        return tuple(told), inseparable

    def question(self, what: str, units_on: Callable[[FactIndex], Units | None]) -> Question | None:
        """What there is to ask of `what`: None if there are no units with, or none without it.

        Args:
            what: of what it is asked, in words.
            units_on: the units on the facts of a cohort; None: they are more than can be counted, and count for nothing.
        """
        parts = []
        for cohort in self.cohorts:
            units = None if cohort.index is None else units_on(cohort.index)
            if units is None:
                parts.append(np.zeros((len(cohort.films), 4)))
            else:
                film = cohort.film_of_scene[units.scene]
                parts.append(tables_of(units.body, units.head, film, len(cohort.films)))
        tables = np.concatenate(parts) if parts else np.zeros((0, 4))
        crude = risk_difference(tables, np.zeros(len(tables), dtype=np.int64), self._patients)
        return None if crude is None else Question(what, tables, crude)

    def explained(
        self, rule: Rule, questions: Sequence[Question]
    ) -> tuple[list[list[tuple[Variable, Difference]]], tuple[str, ...]]:
        """For each question the variables that explain it, with the difference left within their strata, least first.

        The questions are of one rule, and what is looked at for all of them is one family of tests. Also the attributes that
        cannot be told from what is asked of, in words.
        """
        looked_at: list[tuple[int, Variable, Difference, float]] = []
        inseparable = []
        variables = [v for v in self.variables if not self._is_of(v, rule)]
        for number, question in enumerate(questions):
            what, crude = question.what, question.crude
            for variable in variables:
                known = variable.stratum >= 0
                stratum, its = variable.stratum[known], question.tables[known]
                with_head, without = its[:, 0] + its[:, 2], (its[:, 1] + its[:, 3]) - (its[:, 0] + its[:, 2])
                if _settles(stratum, with_head, without):
                    continue
                if not variable.of_class and _settles(stratum, its[:, 1], its[:, 3]):
                    same = f"where {variable.name} is the same, {what} holds always or never"
                    inseparable.append(f"{variable.name} and {what} cannot be told apart: {same}")
                adjusted = risk_difference(its, stratum, self._patients[known])
                if adjusted is not None and min(adjusted.exposed, adjusted.unexposed) >= FEWEST_UNITS:
                    test = (crude.value - adjusted.value) / max(adjusted.error, 1e-12)
                    looked_at.append((number, variable, adjusted, float(stats.norm.sf(test))))
        rejected = holm([p for *_, p in looked_at])
        found: list[list[tuple[Variable, Difference]]] = [[] for _ in questions]
        for (number, variable, adjusted, _), certain in zip(looked_at, rejected, strict=True):
            if certain and _vanishes(questions[number].crude, adjusted):
                found[number].append((variable, adjusted))
        return [sorted(of, key=lambda f: (f[1].value, f[0].name)) for of in found], tuple(inseparable)

    def sentence(self, variable: Variable, claim: str, crude: Difference, adjusted: Difference) -> str:
        """That something is so within the strata of a variable, which may be the reason for what is seen over all."""
        if variable.of_class:
            known = self.ontology.classes.get(variable.name)
            label = known.label if known is not None and known.label.strip() else variable.name.replace("_", " ")
            where = f"among images with {label}, and among those without,"
        else:
            where = f"among images of the same {variable.name}"
        return (
            f"{where} {claim}: a difference of {adjusted.value:.2f} ({adjusted.low:.2f} to {adjusted.high:.2f}), "
            f"{crude.value:.2f} over all; it may be what both hang on"
        )

    def _attributes(self) -> Iterator[Variable]:
        for name in attributes_of(self.cohorts):
            values = [v for cohort in self.cohorts for v in cohort.values(name)]
            known = sorted(set(values) - {""})
            if 2 <= len(known) <= MOST_VALUES:
                number = {value: i for i, value in enumerate(known)}
                yield Variable(name, np.array([number.get(v, -1) for v in values], dtype=np.int64), False)

    def _classes(self) -> Iterator[Variable]:
        """Of each class whether something on the film is of it; of those on the very same films the first by name."""
        indices = [(c, c.index) for c in self.cohorts]
        names = {r.name for _, index in indices if index is not None for r in index.relations if r.arity == 1}
        seen: set[bytes] = set()
        for name in sorted(names):
            parts = [_present(name, cohort, index) for cohort, index in indices]
            present = np.concatenate(parts)
            if 0 < present.sum() < len(present) and present.tobytes() not in seen:
                seen.add(present.tobytes())
                yield Variable(name, present, True)

    def _is_of(self, variable: Variable, rule: Rule) -> bool:
        """Whether a variable says what the rule itself speaks of."""
        own = {a.predicate for a in rule.atoms if len(a.args) == 1}
        if not variable.of_class:
            ties = {of for tie, of in self.ontology.study_labels.items() if tie.split("=")[0] == variable.name}
            return any(self._related(a, b) for a in ties for b in own)
        return any(self._related(variable.name, name) for name in own)

    def _related(self, a: str, b: str) -> bool:
        if a == b:
            return True
        if a not in self.ontology.classes or b not in self.ontology.classes:
            return False
        return self.ontology.is_a(a, b) or self.ontology.is_a(b, a) or self.ontology.are_disjoint(a, b)


def holm(p_values: Sequence[float], level: float = _LEVEL) -> list[bool]:
    """Which hypotheses are rejected, by Holm's step-down procedure: wrongly any of them with probability `level` at most.

    >>> holm([0.01, 0.04, 0.03])
    [True, False, False]
    """
    rejected = [False] * len(p_values)
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] > level / (len(p_values) - rank):
            break
        rejected[i] = True
    return rejected


def _vanishes(crude: Difference, adjusted: Difference) -> bool:
    shrinks = adjusted.value <= _HALF * crude.value
    return shrinks and (adjusted.low <= 0 or adjusted.value <= _QUARTER * crude.value)


def _settles(stratum: IntArray, having: FloatArray, lacking: FloatArray) -> bool:
    """Whether in each stratum something holds always or never; so it is if there is but one."""
    have, lack = (np.bincount(stratum, weights=w) for w in (having, lacking))
    return bool(np.all((have == 0) | (lack == 0)) or np.count_nonzero(have + lack) < 2)


def _present(name: str, cohort: Cohort, index: FactIndex | None) -> IntArray:
    found = np.zeros(len(cohort.films), dtype=np.int64)
    number = None if index is None else index.number(name)
    if index is not None and number is not None and index.relations[number].arity == 1:
        found[cohort.film_of_scene[index.scene_of[index.relations[number].first]]] = 1
    return found
