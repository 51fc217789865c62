"""Which rules a run's model was trained with: what its predictions obey may have been taught, and is then no evidence.

The rule files are read as they were when the run was trained, from the copies in its folder. A run that starts from another
(`initial`, as every stage of a schedule but the first does) was taught that one's rules, too. Where no setting lets knowledge
act, the model was trained without any. Rules that act but constrain nothing of this detector are counted in: too much is
suspected rather than too little.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from neurosym.errors import NeurosymError, short_path
from neurosym.knowledge.rules import read_rules
from neurosym.knowledge.statements import ACTIVE
from neurosym.learning.config import TrainConfig
from neurosym.learning.runfolder import OpenRun, copy_of, open_run
from neurosym.records import Rule


@dataclass(frozen=True, slots=True)
class Taught:
    """The rules, each once; `untold` says why it cannot be known whether these are all, "" if they are."""

    rules: tuple[Rule, ...]
    untold: str = ""


def knowledge_acts(config: TrainConfig) -> bool:
    """Whether rules have a say in the training, or in the predictions, of a run with this config."""
    acting = (config.constraints.weight, config.compose.rate, config.energy.weight)
    weakly = config.data.supervision is not None and config.weak.weight > 0
    return any(value > 0 for value in acting) or config.refiner.enabled or config.instances.enabled or weakly


def taught_rules(run: OpenRun) -> Taught:
    """The rules of a run and of those whose weights it started from."""
    rules: list[Rule] = []
    seen: set[Path] = set()
    here: OpenRun | None = run
    while here is not None:
        seen.add(here.path.resolve())
        if knowledge_acts(here.config):
            try:
                rules += _rules_then(here)
            except NeurosymError as error:
                return Taught(_once(rules), str(error))
        initial = (here.config.base / here.config.initial).resolve() if here.config.initial else None
        if initial is None or initial in seen:
            break
        try:
            here = open_run(initial)
        except NeurosymError as error:
            return Taught(_once(rules), f"the run it started from cannot be read: {error}")
    return Taught(_once(rules))


def _rules_then(run: OpenRun) -> Iterator[Rule]:
    """The active rules of the files as they were, then the ontology's axioms."""
    files = [file for file in run.knowledge.files if file.suffix == ".rules"]
    for file in files:
        copy = copy_of(run.path, file)
        for rule in read_rules(copy if copy.is_file() else file):
            if rule.meta.get("status", "") in ACTIVE:
                yield rule
    shown = {short_path(file) for file in files}
    yield from (rule for rule in run.knowledge.rules if rule.file not in shown)


def _once(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(dict.fromkeys(rules))
