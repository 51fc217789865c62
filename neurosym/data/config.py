"""Where images come from, as written in a config file, and the function that opens a split of them.

Paths are relative to the config file; ``${NEUROSYM_DATA}`` stands for the folder of data sets (default ``../shared/data``,
seen from the working folder).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from neurosym.data.coco import load_coco
from neurosym.data.degrade import Degradation, DegradedSamples
from neurosym.data.images import BadBoxes, ImageSet
from neurosym.data.patient import ANATOMY, IN_LUNG
from neurosym.data.phantom import CATEGORIES, Phantom, PhantomConfig
from neurosym.data.pool import Joined
from neurosym.data.shards import OnUnreadable, ShardSet, open_shards
from neurosym.data.supervision import OnProblem, SupervisedSamples, Supervision
from neurosym.data.voc import load_voc
from neurosym.errors import ConfigError, did_you_mean
from neurosym.knowledge import Knowledge
from neurosym.records import Sample

log = logging.getLogger(__name__)
DATA_FOLDER = "NEUROSYM_DATA"
Split = Literal["train", "val", "test", "unlabelled"]


def data_folder() -> Path:
    """The folder of data sets: the environment's NEUROSYM_DATA, else ``../shared/data``, both seen from the working folder."""
    return Path(os.environ.get(DATA_FOLDER) or "../shared/data").expanduser().resolve()


def _expand(path: str) -> str:
    return path.replace("${" + DATA_FOLDER + "}", str(data_folder()))


DataPath = Annotated[str, AfterValidator(_expand)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CocoSplit(_Strict):
    """One COCO JSON file; `limit` takes the first images only."""

    annotations: DataPath
    images: DataPath
    limit: int | None = Field(None, ge=1)


class VocSplit(_Strict):
    """One Pascal VOC split file with its annotation and image folders."""

    split: DataPath
    annotations: DataPath
    images: DataPath
    limit: int | None = Field(None, ge=1)


class ShardSplit(_Strict):
    """A folder that `neurosym data shards` has written."""

    shards: DataPath
    limit: int | None = Field(None, ge=1)


class PhantomSplit(_Strict):
    """A range of generated films; `shift` draws them from the shifted domain."""

    start: int = Field(ge=0)
    count: int = Field(ge=1)
    shift: bool = False


class FewLabels(_Strict):
    """Of the train split, `count` images drawn by `seed` keep their labels; the rest are the unlabelled split."""

    count: int = Field(ge=1)
    seed: int = Field(0, ge=0)


class _Data(_Strict):
    categories: tuple[str, ...] | None = None
    bad_boxes: BadBoxes = "error"
    degrade: Degradation | None = None
    """Makes the annotations of the train split worse; no other split is touched."""
    supervision: Supervision | None = None
    """Gives each annotation of the train split a kind of supervision; films of which a teacher could say more join the
    unlabelled split."""

    @model_validator(mode="after")
    def _one_way_to_spoil(self) -> _Data:
        if self.degrade is not None and self.supervision is not None:
            raise ValueError("degrade: with supervision, annotations of kind exact would not be; use its kind inexact")
        return self


class _OnDisk(_Data):
    few: FewLabels | None = None


class CocoData(_OnDisk):
    format: Literal["coco"]
    train: CocoSplit
    val: CocoSplit | None = None
    test: CocoSplit | None = None
    unlabelled: CocoSplit | None = None


class VocData(_OnDisk):
    format: Literal["voc"]
    train: VocSplit
    val: VocSplit | None = None
    test: VocSplit | None = None
    unlabelled: VocSplit | None = None


class PhantomData(_Data):
    format: Literal["phantom"]
    size: int = 256
    seed: int = 0
    train: PhantomSplit
    val: PhantomSplit | None = None
    test: PhantomSplit | None = None
    unlabelled: PhantomSplit | None = None


class ShardData(_OnDisk):
    format: Literal["shards"]
    on_unreadable: OnUnreadable = "stop"
    """A damaged film or shard stops the run; or it is told, listed in the run's ``skipped.txt``, and other films are shown."""
    readers: int = Field(2, ge=0, le=64)
    """Threads that read the films of the next steps of a training while this one is computed; 0 reads when it is its turn."""
    train: ShardSplit
    val: ShardSplit | None = None
    test: ShardSplit | None = None
    unlabelled: ShardSplit | None = None


AnyData = CocoData | VocData | PhantomData | ShardData
DataConfig = Annotated[AnyData, Field(discriminator="format")]


def open_split(
    data: AnyData,
    name: Split,
    base: Path,
    knowledge: Knowledge,
    on_problem: OnProblem = "stop",
) -> Sequence[Sample]:
    """The images of one split, those of the train split with worse or other annotations if the config asks for it.

    Paths are relative to `base`; `on_problem` is what happens where an annotation cannot have the kind it should.

    Raises:
        ConfigError: the config has no such split. DataError: what is wrong with the files.
    """
    if data.supervision is not None and name in ("train", "unlabelled"):
        return _supervised(data, data.supervision, name, base, knowledge, on_problem)
    images = _open_split(data, name, base, knowledge)
    if name != "train" or data.degrade is None:
        return images
    names: Sequence[str] | None = None
    if data.categories is not None:
        names = class_names(data, images, knowledge)
    elif isinstance(data, PhantomData):
        names = (*ANATOMY, *IN_LUNG)
    log.info("annotations of the train split are degraded: %s", data.degrade.record())
    return DegradedSamples(images, data.degrade, names)


def _supervised(
    data: AnyData,
    settings: Supervision,
    name: Split,
    base: Path,
    knowledge: Knowledge,
    on_problem: OnProblem,
) -> Sequence[Sample]:
    """Of the train split the films that say something; as the unlabelled split those of which a teacher could say more."""
    source = _open_split(data, "train", base, knowledge)
    if isinstance(data, PhantomData) and data.categories is None:
        names: tuple[str, ...] = (*ANATOMY, *IN_LUNG)
    else:
        names = class_names(data, source, knowledge)
    films = SupervisedSamples(source, settings, names, knowledge.ontology, on_problem)
    if name == "train":
        log.info("films of the train split by class and kind: %s", films.counts())
        if not len(films.labelled):
            if settings.labels_in == "pool":
                cure = "set labels_in: batch, or give some films such a kind"
                raise ConfigError(f"data.supervision: no film shows every object by a box or mark; {cure}")
            raise ConfigError("data.supervision: nothing is said of any film; give some films another kind than none")
        return films.labelled
    more = not isinstance(data, PhantomData) and data.few is not None
    others = [_open_split(data, name, base, knowledge)] if data.unlabelled is not None or more else []
    pool = Joined([films.pool, *others])
    if not len(pool):
        if settings.pool < 1:
            what, cure = "pool leaves no film to the unlabelled split", "raise it, or set data.unlabelled"
            raise ConfigError(f"data.supervision.{what}; {cure}")
        raise ConfigError("data.supervision: every film is annotated in full, so there is no unlabelled split")
    return pool


def _open_split(data: AnyData, name: Split, base: Path, knowledge: Knowledge) -> Sequence[Sample]:
    few = None if isinstance(data, PhantomData) else data.few
    rest = few is not None and name == "unlabelled" and data.unlabelled is None
    split = own_split(data, "train" if rest else name)
    if isinstance(split, PhantomSplit):
        assert isinstance(data, PhantomData)
        _check_phantom(knowledge)
        config = PhantomConfig(size=data.size, seed=data.seed, shift=split.shift)
        return Phantom(split.start, split.count, config)
    images: ImageSet | ShardSet
    labelled = name != "unlabelled"
    if isinstance(split, CocoSplit):
        files = (base / split.annotations, base / split.images)
        images = load_coco(*files, knowledge, data.categories, data.bad_boxes, labelled)
    elif isinstance(split, ShardSplit):
        assert isinstance(data, ShardData)
        reading = (data.bad_boxes, labelled, data.on_unreadable)
        images = open_shards(base / split.shards, knowledge, data.categories, *reading)
    else:
        places = (base / split.split, base / split.annotations, base / split.images)
        images = load_voc(*places, knowledge, data.categories, data.bad_boxes, labelled)
    images = images[: split.limit] if split.limit else images
    return _part(images, few, rest) if few is not None and (rest or name == "train") else images


def own_split(data: AnyData, name: Split) -> CocoSplit | VocSplit | PhantomSplit | ShardSplit:
    """Where a split's images are.

    Raises:
        ConfigError: the config has no such split.
    """
    split: CocoSplit | VocSplit | PhantomSplit | ShardSplit | None = getattr(data, name)
    if split is None:
        there = [k for k in ("train", "val", "test", "unlabelled") if getattr(data, k) is not None]
        raise ConfigError(f"data has no split {name!r}; {did_you_mean(name, there)}")
    return split


def _part(images: ImageSet | ShardSet, few: FewLabels, rest: bool) -> ImageSet | ShardSet:
    """The images that keep their labels, or the others, each in the order of the file."""
    if few.count >= len(images):
        raise ConfigError(f"data.few.count: {few.count} of {len(images)} training images leave none without labels")
    chosen = np.zeros(len(images), dtype=bool)
    chosen[np.random.default_rng(few.seed).choice(len(images), few.count, replace=False)] = True
    return images.select(np.flatnonzero(chosen != rest).tolist())


def _check_phantom(knowledge: Knowledge) -> None:
    """The phantom speaks of chest films: refuse an ontology that does not."""
    ontology = knowledge.ontology
    unknown = sorted({*CATEGORIES, *ANATOMY} - set(ontology.classes))
    if unknown:
        found = f"{ontology.where} does not declare {', '.join(unknown[:3])}"
        raise ConfigError(f"the phantom draws chest films, but {found}; use ontologies/thorax.ttl")


def class_names(data: AnyData, images: Sequence[Sample], knowledge: Knowledge) -> tuple[str, ...]:
    """The detector's classes: those the data's categories are tied to, in the config's order."""
    if data.categories is not None:
        return tuple(dict.fromkeys(knowledge.class_of_category(c) for c in data.categories))
    if isinstance(images, (DegradedSamples, SupervisedSamples)):
        images = images.source  # a class is in the data even if all that shows it was dropped
    if isinstance(images, (ImageSet, ShardSet)):
        return images.names
    return tuple(sorted({a.name for sample in images for a in sample.annotations}))
