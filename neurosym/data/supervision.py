"""A kind of supervision for each annotation: of one exactly annotated split, films with boxes, films with labels, and so on.

    kinds: {exact: 0.1, inexact: 0.3, image: 0.3, none: 0.3}        shares of the films
    classes: {finding: {image: 0.5, location: 0.5}}                 what is below `finding` has kinds of its own

Which film has which kind is drawn by the seed and the film's place in the split: shares hold to within one film, and neither
the order in which films are asked for nor anything drawn before changes it. What an annotation of each kind keeps:

    exact        box and mask as they are             point      a point in the object (`degrade_draws.point_of`)
    box          the box alone                        scribble   a stroke through the mask (`degrade_masks.scribble`)
    inexact      a box off by `r`, its mask moved     image      the film has one: the class and its superclasses are labels
    coarse_mask  a mask drawn coarsely                location   that, and where: (class, region)
    none         nothing

Labels and tags are exhaustive if `exhaustive`: a class without any is known to be absent. A location is the text of the film's
own attribute where `location_attributes` names one for the class, else the lung and the third of it that hold the true box's
centre. The truth is kept out of the samples, for scoring alone (`SupervisedSamples.truth`). The losses of each kind are in
docs/supervision.md.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, get_args, overload

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from neurosym.data.degrade_draws import Degradation, degrade_annotations
from neurosym.data.degrade_masks import mask_box
from neurosym.errors import ConfigError, DataError, Problem, did_you_mean
from neurosym.knowledge.geometry import frame_of, zone_of
from neurosym.knowledge.ontology import Ontology
from neurosym.knowledge.regions import Regions
from neurosym.records import Annotation, Sample

log = logging.getLogger(__name__)
Kind = Literal["exact", "box", "coarse_mask", "inexact", "point", "scribble", "image", "location", "none"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
OUTLINED: Final = frozenset({"exact", "box", "coarse_mask", "inexact"})
"""Kinds that give an object its extent."""
ANNOTATED: Final = OUTLINED | {"point", "scribble"}
"""Kinds of which every object has an annotation of its own."""
LABELLED: Final = frozenset({"image", "location"})
OnProblem = Literal["stop", "report"]


def _known_kinds(value: Any) -> Any:
    for kind in value if isinstance(value, Mapping) else ():
        if kind not in KINDS:
            raise ValueError(f"no loss covers the kind of supervision {kind!r}; {did_you_mean(str(kind), KINDS)}")
    return value


Shares = Annotated[dict[Kind, Annotated[float, Field(ge=0, le=1)]], BeforeValidator(_known_kinds)]


class Supervision(BaseModel):
    """Kinds of the annotations of the train split, as written in a config's ``data.supervision``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: Shares
    """Shares of films by kind; they sum to 1."""
    classes: dict[str, Shares] = Field(default_factory=dict)
    """Shares of its own for a class and what is below it in the ontology; the nearest statement above a class counts."""
    seed: int = Field(0, ge=0)
    r: float = Field(0.3, ge=0, le=1)
    """Of `inexact`: how far boxes are off (see `neurosym.data.degrade_draws`)."""
    how: Literal["uniform", "too_big", "partial", "annotator"] = "uniform"
    """Of `inexact`: in which way."""
    off_centre: float = Field(0.5, ge=0, le=1)
    """Of `point`: how far from the centre, 1 anywhere in the box."""
    coarseness: float = Field(0.1, ge=0, le=1)
    shape: Literal["dilate", "polygon"] = "dilate"
    """Of `coarse_mask` (see `neurosym.data.degrade_masks`)."""
    cut: float = Field(0.2, ge=0, le=1)
    """Of `scribble`: the share of the stroke that is left out."""
    exhaustive: bool = True
    """Of `image` and `location`: a class that is not named is absent; else nothing is known of it."""
    pool: float = Field(1.0, ge=0, le=1)
    """Share of the films of which a teacher could say more that join the unlabelled split; less leaves the others out."""
    labels_in: Literal["batch", "pool"] = "batch"
    """Films that have labels or tags in the place of some class's boxes: in the labelled batch and in the unlabelled split, or
    in the latter only, where they take no place of films that show every object; what they say, boxes of other classes too,
    then enters a teacher's targets, and no loss of its own."""
    location_attributes: dict[str, str] = Field(default_factory=dict)
    """Of `location`: the image attribute whose text says where a class is."""

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Supervision:
        for where, shares in {"kinds": self.kinds, **{f"classes.{c}": s for c, s in self.classes.items()}}.items():
            if abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(f"{where}: the shares sum to {sum(shares.values()):g}; they must sum to 1")
        return self

    def degradation(self, kind: str) -> Degradation | None:
        """How annotations of a kind are drawn; None for those that stay as they are or are not shown."""
        match kind:
            case "inexact":
                return Degradation(how=self.how, r=self.r, seed=self.seed)
            case "point":
                return Degradation(how="point", r=self.off_centre, seed=self.seed)
            case "coarse_mask":
                return Degradation(how="coarse_mask", r=self.coarseness, seed=self.seed, shape=self.shape)
            case "scribble":
                return Degradation(how="coarse_mask", r=self.cut, seed=self.seed, shape="scribble")
        return None


def dealt(shares: Mapping[str, float], count: int, key: str) -> list[str]:
    """A kind for each of `count` films: shares by largest remainders, dealt out in an order that `key` alone decides."""
    parts = {kind: share * count for kind, share in sorted(shares.items()) if share > 0}
    whole = {kind: int(part + 1e-9) for kind, part in parts.items()}
    for kind in sorted(parts, key=lambda k: (whole[k] - parts[k], k))[: count - sum(whole.values())]:
        whole[kind] += 1
    pack = [kind for kind, n in whole.items() for _ in range(n)]
    kinds = [""] * count
    for kind, place in zip(pack, _shuffled(count, key), strict=True):
        kinds[place] = kind
    return kinds


def _shuffled(count: int, key: str) -> list[int]:
    """The numbers below `count` in an order that `key` alone decides."""
    digest = hashlib.sha256(key.encode()).digest()
    found: list[int] = np.random.default_rng(int.from_bytes(digest[:16], "big")).permutation(count).tolist()
    return found


class SupervisedSamples(Sequence[Sample]):
    """A sequence whose annotations were replaced by what their kind keeps of them, when asked for."""

    def __init__(
        self,
        source: Sequence[Sample],
        settings: Supervision,
        names: Sequence[str],
        ontology: Ontology,
        on_problem: OnProblem = "stop",
    ) -> None:
        """`names` are the classes that count; annotations of other classes are left out.

        Raises:
            ConfigError: kinds of a class that is unknown, or that no class of the data is or lies below.
        """
        self.source, self.settings, self.names = source, settings, tuple(names)
        self.ontology, self.regions, self.on_problem = ontology, Regions(ontology), on_problem
        self.indices = list(range(len(source)))
        self._told: set[str] = set()
        statement = {name: self._statement(name) for name in self.names}
        self._check_statements(set(statement.values()))
        shares: dict[str, Mapping[Any, float]] = {"": settings.kinds, **settings.classes}
        deals = {s: dealt({**shares[s]}, len(source), f"{settings.seed}\x1f{s}") for s in sorted({*statement.values()})}
        self._kinds = [{name: deals[statement[name]][i] for name in self.names} for i in range(len(source))]

    def _statement(self, name: str) -> str:
        """The nearest class, the class itself or one above it, that has shares of its own; "" for none."""
        above = [c for c in self.settings.classes if c in self.ontology.classes and self.ontology.is_a(name, c)]
        return min(above, key=lambda c: (-len(self.ontology.ancestors(c)), c), default="")

    def _check_statements(self, used: set[str]) -> None:
        problems = []
        for name in (*self.settings.classes, *self.settings.location_attributes):
            if name not in self.ontology.classes:
                cure = did_you_mean(name, self.ontology.classes, self.ontology.where)
                problems.append(Problem(f"data.supervision: unknown class {name!r}", cure=cure))
        for name in self.settings.classes:
            if not problems and name not in used:
                problems.append(Problem(f"data.supervision.classes: no class of the data takes the kinds of {name!r}"))
        if problems:
            raise ConfigError(problems)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> SupervisedSamples: ...
    def __getitem__(self, index: int | slice) -> Sample | SupervisedSamples:
        if isinstance(index, slice):
            return self.select(range(len(self))[index])
        at = self.indices[index]
        return self._weakened(self.source[at], self._kinds[at])

    def select(self, places: Sequence[int]) -> SupervisedSamples:
        """Some of the films, in this order, each with the kinds that it has here."""
        part = object.__new__(SupervisedSamples)
        part.__dict__.update(self.__dict__)
        part.indices = [self.indices[i] for i in places]
        return part

    def over(self, source: Sequence[Sample]) -> SupervisedSamples:
        """The same films and kinds over the same source read in another way, e.g. without pixels."""
        other = self.select(range(len(self)))
        other.source = source
        return other

    def kinds(self, index: int) -> Mapping[str, str]:
        """The kind of each class on a film."""
        return self._kinds[self.indices[index]]

    def truth(self, index: int) -> tuple[Annotation, ...]:
        """For scoring only: what is annotated on the film in the source."""
        return self.source[self.indices[index]].annotations

    @property
    def labelled(self) -> SupervisedSamples:
        """The films of the labelled batch: something is said of them, with `labels_in: pool` of no class by labels alone."""
        batch = self.settings.labels_in == "batch"
        kinds = [{*self.kinds(i).values()} for i in range(len(self))]
        return self.select([i for i, k in enumerate(kinds) if k != {"none"} and (batch or not k & LABELLED)])

    @property
    def pool(self) -> SupervisedSamples:
        """The films of which a teacher could say more, some class having neither boxes nor masks; the share that was asked for.

        Of the same seed the films of a smaller share are among those of a greater one.
        """
        found = [i for i in range(len(self)) if not {*self.kinds(i).values()} <= OUTLINED]
        order = _shuffled(len(found), f"{self.settings.seed}\x1fpool")[: round(self.settings.pool * len(found))]
        return self.select([found[i] for i in sorted(order)])

    def counts(self) -> dict[str, dict[str, int]]:
        """How many films have each kind, class by class."""
        found: dict[str, dict[str, int]] = {name: {} for name in self.names}
        for i in range(len(self)):
            for name, kind in self.kinds(i).items():
                found[name][kind] = found[name].get(kind, 0) + 1
        return found

    def _weakened(self, sample: Sample, kinds: Mapping[str, str]) -> Sample:
        height, width = sample.image.shape[:2]
        known = [a for a in sample.annotations if a.name in kinds]
        shown: list[Annotation] = []
        for kind in sorted({*kinds.values()} & ANNOTATED):
            own = [a for a in known if kinds[a.name] == kind]
            shown += self._drawn(own, kind, sample.image_id, width, height)
        told = [a for a in known if kinds[a.name] in LABELLED and not a.iscrowd]
        there = {a.name for a in told}
        above = {c for name in there for c in self.ontology.ancestors(name)}
        absent: set[str] = set()
        if self.settings.exhaustive:
            absent = {n for n, kind in kinds.items() if kind in LABELLED} - {a.name for a in known}
        complete = frozenset(n for n, kind in kinds.items() if kind in ANNOTATED)
        silent = {*kinds.values()} == {"none"}
        return replace(
            sample,
            annotations=tuple(shown),
            labels=frozenset() if silent else sample.labels | there | above,
            attributes={k: v for k, v in sample.attributes.items() if k != "relations"},  # read off the true boxes
            complete=None if len(complete) == len(kinds) else complete,
            absent=frozenset(absent),
            tags=tuple(t for a in told if kinds[a.name] == "location" and (t := self._tag(a, sample))[1]),
        )

    def _drawn(self, own: Sequence[Annotation], kind: str, image_id: str, width: int, height: int) -> list[Annotation]:
        noise = self.settings.degradation(kind)
        if noise is None:
            return [replace(a, mask=None) if kind == "box" else a for a in own]
        found = []
        for each in degrade_annotations(own, image_id, width, height, noise, self.names):
            a = each.shown or each.truth
            if kind in ("scribble", "coarse_mask") and (a.mask is None or not mask_box(a.mask).width):
                self._problem(f"kind {kind}: an object of {a.name} has no mask to draw it from", image_id)
                a = each.truth
            elif kind == "scribble" and not a.iscrowd:
                assert a.mask is not None
                a = replace(a, drawn="scribble", box=mask_box(a.mask))
            elif kind == "point" and not a.iscrowd:
                a = replace(a, drawn="point", mask=None)
            found.append(a)
        return found

    def _tag(self, truth: Annotation, sample: Sample) -> tuple[str, str]:
        """Where an object is: what the film's attributes say of it, else which third of which lung its true box is in."""
        key = self.settings.location_attributes.get(truth.name)
        text = str(sample.attributes.get(key) or "") if key else ""
        if text:
            if self.regions.find(text) is not None:
                return truth.name, text
            self._problem(f"location {text!r} is no region that the ontology knows", sample.image_id)
        return truth.name, self.place_of(truth, sample.annotations)

    def place_of(self, truth: Annotation, annotations: Sequence[Annotation]) -> str:
        """The region of a box, as a tag says it; "" where no frame is annotated."""
        frames = [a for a in annotations if a.name in self.regions.frames]
        if not frames:
            return ""
        boxes = [np.array(f.box.xyxy) for f in frames]
        box = np.array(truth.box.xyxy)
        frame = frame_of(box, boxes, np)
        name = next(f.name for f, b in zip(frames, boxes, strict=True) if b is frame)
        return f"{name}/{zone_of(box, frame)}"

    def _problem(self, message: str, image_id: str) -> None:
        """Stop at what cannot be done, or say it once and go on without."""
        problem = Problem(message, image_id, cure="give it another kind, or set weak.problems: report")
        if self.on_problem == "stop":
            raise DataError(problem)
        if message not in self._told:
            self._told.add(message)
            log.warning("%s", problem)
