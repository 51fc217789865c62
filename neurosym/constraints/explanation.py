"""An explanation of one scene as plain values: what is broken, by what, why, and what a repair changes; it travels as JSON.

Detections are told by their index in the scene, rules by id, text and place (file and line, and the axiom's IRI where the rule
is an axiom of an ontology). `neurosym.constraints.explain` fills these in, `neurosym.scenes.explanation_picture` draws them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SeenDetection:
    """A detection of the scene; `box` is x1, y1, x2, y2 in pixels."""

    index: int
    name: str
    score: float
    box: tuple[float, float, float, float]

    def __str__(self) -> str:
        return self.name if self.score >= 1 else f"{self.name} {self.score:.2f}"


@dataclass(frozen=True, slots=True)
class RuleNote:
    """A rule, where it is written, and how far it is trusted.

    `axiom` is the IRI of the class or property whose axiom it is, "" for a rule of a file. `stated` is 1 for a hard rule;
    `learned` is what the run learned of it (None: nothing), with the `verdict` of `RuleConfidences`.
    """

    id: str
    text: str
    file: str
    line: int
    axiom: str
    hard: bool
    stated: float
    learned: float | None = None
    verdict: str = ""

    @property
    def place(self) -> str:
        """``file:line``, with the axiom's IRI behind it."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        return " ".join(part for part in (where, f"<{self.axiom}>" if self.axiom else "") if part)

    @property
    def trust(self) -> str:
        """The confidence in words: "hard", "confidence 0.97", "confidence 0.97, learned 0.41"."""
        stated = "hard" if self.hard else f"confidence {self.stated:.3g}"
        return stated if self.learned is None else f"{stated}, learned {self.learned:.2f}"

    @property
    def weight(self) -> float:
        """The learned confidence, else the stated one."""
        return self.stated if self.learned is None else self.learned


@dataclass(frozen=True, slots=True)
class BrokenNote:
    """One place where a rule is broken.

    `detections` are those of the rule's body, in its order; `related` are others that the words speak of (what is counted, the
    nearest witness). `missing` is the witness that is not there, "" if the rule asks for none. `message` is the sentence of it
    all.
    """

    rule: RuleNote
    detections: tuple[SeenDetection, ...]
    expected: str
    found: str
    message: str
    missing: str = ""
    related: tuple[SeenDetection, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeNote:
    """What a repair does to one detection: it becomes `after`, or goes (`after` is None).

    `causes` are the rules that would be broken if this change alone were taken back. `cost` is the loss of log-probability.
    """

    detection: SeenDetection
    after: str | None
    cost: float
    causes: tuple[BrokenNote, ...]

    @property
    def partners(self) -> tuple[SeenDetection, ...]:
        """The other detections that force the change."""
        found = {d.index: d for c in self.causes for d in c.detections if d.index != self.detection.index}
        return tuple(found[i] for i in sorted(found))

    @property
    def message(self) -> str:
        """What changes and what forces it."""
        what = f"becomes {self.after}" if self.after else "is removed"
        why = "; ".join(f"{c.rule.id}: {c.message}" for c in self.causes)
        return f"{self.detection} (#{self.detection.index}) {what}, because otherwise {why}"


@dataclass(frozen=True, slots=True)
class RuleUse:
    """How often a rule fired on the scene and was broken; `silent` says why it did not fire."""

    rule: RuleNote
    fired: int
    violated: int
    silent: str = ""


@dataclass(frozen=True, slots=True)
class SceneExplanation:
    """Everything that the rules say of one scene, at a score threshold.

    A symmetric rule that is broken by a pair is told once, though `RuleUse.violated` counts both orders, as `evaluate` does.
    `repaired` are the detections after the repair (`index` as before), None if none was asked for; `unsatisfied` are the hard
    rules that no repair can meet, `unused` the rules that say nothing about this detector, with the reason.
    """

    image_id: str
    width: int
    height: int
    threshold: float
    detections: tuple[SeenDetection, ...]
    violations: tuple[BrokenNote, ...]
    uses: tuple[RuleUse, ...]
    changes: tuple[ChangeNote, ...] = ()
    unsatisfied: tuple[BrokenNote, ...] = ()
    repaired: tuple[SeenDetection, ...] | None = None
    unused: tuple[tuple[str, str], ...] = ()

    @property
    def fired(self) -> int:
        """How many rules fired."""
        return sum(use.fired > 0 for use in self.uses)

    @property
    def summary(self) -> str:
        """One line: how many rules fired and are broken; a scene without a detection or a rule that fired is said to be so."""
        if not self.detections:
            return f"no detection scores ≥ {self.threshold:g} on {self.image_id}; no rule fires"
        total = len(self.uses)
        if not self.fired:
            return f"none of {total} rules fired on {self.image_id}: nothing is confirmed, nothing is broken"
        broken = sum(use.violated > 0 for use in self.uses)
        where = f", {broken} broken in {len(self.violations)} place{'s' if len(self.violations) != 1 else ''}"
        return f"{self.fired} of {total} rules fired on {self.image_id}{where if broken else ', none is broken'}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the derived ones that a reader wants; `from_dict` reads it back."""
        value = asdict(self)
        value["unused"] = [{"rule": rule, "reason": reason} for rule, reason in self.unused]
        for plain, change in zip(value["changes"], self.changes, strict=True):
            plain["message"] = change.message
        return {"summary": self.summary, "rules_fired": self.fired, "rules": len(self.uses)} | value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> SceneExplanation:
        """An explanation that `as_dict` made, also after a way through JSON."""
        repaired = value["repaired"]
        return cls(
            value["image_id"],
            value["width"],
            value["height"],
            value["threshold"],
            _detections(value["detections"]),
            tuple(map(_broken, value["violations"])),
            tuple(RuleUse(RuleNote(**u["rule"]), u["fired"], u["violated"], u["silent"]) for u in value["uses"]),
            tuple(map(_change, value["changes"])),
            tuple(map(_broken, value["unsatisfied"])),
            None if repaired is None else _detections(repaired),
            tuple((u["rule"], u["reason"]) for u in value["unused"]),
        )


def _detections(values: Any) -> tuple[SeenDetection, ...]:
    return tuple(_detection(v) for v in values)


def _detection(v: Mapping[str, Any]) -> SeenDetection:
    return SeenDetection(v["index"], v["name"], v["score"], tuple(v["box"]))


def _broken(v: Mapping[str, Any]) -> BrokenNote:
    seen, related = _detections(v["detections"]), _detections(v["related"])
    return BrokenNote(RuleNote(**v["rule"]), seen, v["expected"], v["found"], v["message"], v["missing"], related)


def _change(v: Mapping[str, Any]) -> ChangeNote:
    return ChangeNote(_detection(v["detection"]), v["after"], v["cost"], tuple(map(_broken, v["causes"])))
