"""Rounds of the loop: train, induce, review, publish, and train again with what was accepted; and what each round gained.

    OUT/round-0/      a run: trained with the config's knowledge, scored; its candidates, assessed and judged
    OUT/round-1/      the same with what was accepted of round 0 besides, and so on; of the last one there are scores alone
    OUT/rounds.json   what each round had and reached

Accepted rules go into one rule file, with which, once it is there, every further round is trained. A round ends in the review:
while a candidate that is offered has no verdict, the loop stops, and the same call goes on when it has. What was done is not
done twice, and a training that was killed goes on from its last checkpoint. All rounds make their facts the same way. Where
nobody reviews, a `Policy` accepts candidates by their figures alone, under a name that says so.

That a model was taught a rule is no evidence for the rule: publishing refuses it (`neurosym.review.confirmation`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from neurosym.errors import ConfigError
from neurosym.induction import InductionConfig
from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.config import TrainConfig
from neurosym.learning.forecast import steps_done
from neurosym.learning.runfolder import SPLITS, copy_of, open_run
from neurosym.loop import Advance, Stages
from neurosym.records import Candidate, Rule
from neurosym.review.assessment import Assessment
from neurosym.review.candidates import load_candidates
from neurosym.review.ledger import normal_text, rule_key
from neurosym.review.plausibility import passes
from neurosym.review.rule_file import parsed
from neurosym.review.run import RunReview
from neurosym.review.run_assessment import assessments_of

FILE: Final = "rounds.json"
AUTOMATIC: Final = "neurosym (automatic)"
"""The name under which a policy judges."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Accepts candidates by their figures; for experiments: it does not see what a clinician sees.

    A candidate is accepted if it says something new, keeps the learner's bounds on a share `held` of bootstrap samples, has the
    lower bound of its confidence on other images at `low` or above, nothing else may explain it, and no part of its body is
    seen to add nothing. The others are put off.
    """

    held: float = 0.9
    low: float = 0.8

    def objection(self, found: Assessment | None) -> str:
        """Why a candidate is not accepted, "" if it is."""
        if found is None:
            return "it was not assessed"
        if not passes(found):
            return f"it is {found.standing}"
        if found.held is None or found.held < self.held:
            return f"it keeps the learner's bounds on {0.0 if found.held is None else found.held:.2f} of the samples"
        confirmed = found.confirmation
        if confirmed is None or confirmed.low is None or confirmed.low < self.low:
            return f"its confidence on other images may be below {self.low:g}"
        return "; ".join([*(c.message for c in found.confounders), *(i.message for i in found.idle)])


@dataclass(frozen=True, slots=True)
class FactsUsed:
    """Which facts candidates are induced from and assessed by: of predictions on a split, made as `Stages.facts` does."""

    split: str
    masks: bool = False
    calibrated: bool = False

    @classmethod
    def told(cls, origin: Mapping[str, Any]) -> FactsUsed:
        """Those that the origin of candidates tells of."""
        return cls(str(origin.get("split", "")), bool(origin.get("masks")), bool(origin.get("calibrated")))

    def __str__(self) -> str:
        """As options of `neurosym loop`."""
        return " ".join([f"--on {self.split}", *["--masks"] * self.masks, *["--calibrated"] * self.calibrated])


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        run: its folder.
        taught: accepted rules that it was trained with, beside the config's.
        ap, ap50: on the split that rounds are compared on.
        violated, fired: of its own rules, in sum, on that split; a round that was taught more rules has more of both.
        candidates: rules induced from its predictions; of them `accepted`, `rejected` and `refused` (see `publish`).
        facts: those that they were induced from; None where nothing was induced.
    """

    run: str
    taught: int
    ap: float
    ap50: float
    violated: int
    fired: int
    candidates: int = 0
    accepted: int = 0
    rejected: int = 0
    refused: tuple[str, ...] = ()
    facts: FactsUsed | None = None


@dataclass(frozen=True)
class Rounds:
    """The rounds so far; `waiting` are the candidates of the last one that nobody has judged."""

    done: tuple[Round, ...]
    waiting: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Loop:
    """A loop in a folder.

    Attributes:
        config: of the first round.
        out: the loop's folder.
        rules: the file for accepted rules; rejected ones go beside it.
        found_on: the split whose predictions rules are induced from.
        score: the split that rounds are compared on.
        masks, calibrated: how the facts of all rounds are made (see `Stages.facts`).
        induction: how rules are induced.
        offered: so many of the first candidates are to be judged.
        policy: judges where nobody reviews; None: reviewers do.
        stage: called with a title when a stage starts; returns what to tell its progress to.
    """

    config: TrainConfig
    out: Path
    rules: Path
    found_on: str = "val"
    score: str = "test"
    masks: bool = False
    calibrated: bool = False
    induction: InductionConfig = field(default_factory=InductionConfig)
    offered: int = 20
    policy: Policy | None = None
    stage: Callable[[str], Advance] = lambda title: lambda done, total, note: None

    def run(self, rounds: int = 1) -> Rounds:
        """Go on until rules were accepted `rounds` times and learned, none is accepted, or a review is waited for.

        Raises:
            What training, induction and publishing raise; ConfigError: the data has no such split, a round was trained with
                other settings, or its candidates are of other facts.
        """
        needed = (self.found_on, self.score, *(["val"] if self.calibrated else []))
        for split in needed:  # before a training, not after it
            if getattr(self.config.data, split, None) is None:
                there = [known for known in SPLITS if getattr(self.config.data, known, None) is not None]
                raise ConfigError(f"the data of {self.config.name} has no split {split!r}; it has {', '.join(there)}")
        self._require_same_facts(rounds)
        done: list[Round] = []
        for number in range(rounds + 1):
            folder = self.out / f"round-{number}"
            self._train(folder)
            reached = self._scored(folder)
            if number == rounds:
                return self._told([*done, reached])
            review = self._review(folder)
            facts = FactsUsed.told(review.origin)
            reached = replace(reached, candidates=len(review.candidates), facts=facts)
            if waiting := self._waiting(review):
                return self._told([*done, reached], waiting)
            made = review.publish(self.rules, knowledge=open_run(folder).knowledge)
            accepted = len(made.accepted) + len(_accepted(made.present))
            refused = tuple(str(p) for p in made.refused)
            done.append(replace(reached, accepted=accepted, rejected=len(made.rejected), refused=refused))
            if not accepted:
                break
        return self._told(done)

    def _require_same_facts(self, rounds: int) -> None:
        asked = FactsUsed(self.found_on, self.masks, self.calibrated)
        for number in range(rounds):
            path = self.out / f"round-{number}" / "candidates.json"
            used = FactsUsed.told(load_candidates(path)[1]) if path.is_file() else asked
            if used != asked:
                cure = "give the same again, or use another --out"
                raise ConfigError(f"{path.parent}: its rules were induced with {used}, not with {asked}; {cure}")

    def _told(self, done: Sequence[Round], waiting: Sequence[Candidate] = ()) -> Rounds:
        text = json.dumps([asdict(r) for r in done], indent=1, ensure_ascii=False) + "\n"
        write_text_atomically(self.out / FILE, text)
        return Rounds(tuple(done), tuple(waiting))

    def _train(self, folder: Path) -> None:
        settings = self.config
        begun = open_run(folder).config if (folder / "config.yaml").is_file() else None
        if begun is not None:  # with the rules of that time, whatever was accepted since
            settings = settings.model_copy(update={"knowledge": begun.knowledge})
        elif self.rules.is_file() and self.rules.resolve() not in {
            (settings.base / p).resolve() for p in settings.knowledge
        }:
            settings = settings.model_copy(update={"knowledge": (*settings.knowledge, str(self.rules.resolve()))})
        if steps_done(folder) >= settings.train.steps:
            if begun is None or settings.model_dump(mode="json") != begun.model_dump(mode="json"):
                raise ConfigError(f"{folder} was trained with other settings; restore them, or use another --out")
            return
        from neurosym.learning.train import train

        advance = self.stage(f"train {folder.name}")
        train(settings, folder, resume=True, progress=lambda i, n, terms: advance(i, n, f"loss {terms['loss']:.3f}"))

    def _scored(self, folder: Path) -> Round:
        stages = Stages.of(folder, self.score, advance=self.stage(f"score {folder.name}"))
        found = stages.evaluation() or stages.evaluate(overlays=0)
        copy = copy_of(folder, self.rules.resolve())
        taught = len(_accepted(parsed(copy.read_text(encoding="utf-8"), copy))) if copy.is_file() else 0
        sums = [sum(r[k] for r in found["rules"]) for k in ("violated", "fired")]
        return Round(str(folder), taught, found["ap"], found["ap50"], *sums)

    def _review(self, folder: Path) -> RunReview:
        """The review of a round's candidates, which are induced and assessed if they are not yet."""
        stages = Stages.of(folder, self.found_on, advance=self.stage(f"induce {folder.name}"))
        if not (folder / "candidates.json").is_file():
            stages.induce(self.induction, masks=self.masks, calibrated=self.calibrated)
        review = RunReview.of(folder)
        if not assessments_of(folder, review.origin):
            replace(stages, advance=self.stage(f"assess {folder.name}")).assess(top=self.offered)
        return review

    def _waiting(self, review: RunReview) -> list[Candidate]:
        """Those of the offered candidates that nobody has judged; none with a policy, which judges them."""
        found, held = assessments_of(review.path, review.origin), review.standing()
        waiting = []
        for candidate in review.candidates[: self.offered]:
            assessed = found.get(normal_text(candidate.rule))
            if rule_key(candidate.rule) in held or (assessed is not None and not passes(assessed)):
                continue
            if self.policy is None:
                waiting.append(candidate)
            else:
                objection = self.policy.objection(assessed)
                which = normal_text(candidate.rule)
                review.judge(which, AUTOMATIC, "later" if objection else "accept", objection)
        return waiting


def _accepted(rules: Sequence[Rule]) -> list[Rule]:
    return [rule for rule in rules if rule.meta.get("status") == "accepted"]
