"""The splits to check, with boxes exactly as the files have them: of a run's config (COCO, VOC), or of COCO files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import TypeAdapter, ValidationError

from neurosym.data.coco import other_mistakes, read_coco, require_categories
from neurosym.data.config import CocoData, CocoSplit, DataConfig, PhantomData, ShardData, VocData, VocSplit
from neurosym.data.images import IMAGE_SUFFIXES, require_file, require_within
from neurosym.data.importing.coco import split_of
from neurosym.data.importing.split import patient_of
from neurosym.data.importing.voc import read_annotation
from neurosym.data.yaml_text import parse_yaml
from neurosym.errors import ConfigError, DataError, Problem, short_path
from neurosym.records import Box

_SPLITS: Final = ("train", "val", "test", "unlabelled")


@dataclass(frozen=True)
class Boxed:
    """One box of a file, not checked yet; `what` names it in messages."""

    category: str
    box: Box
    what: str


@dataclass(frozen=True)
class CheckedFilm:
    """One film of a split; the size is what its annotation says, None if it says none."""

    split: str
    name: str
    path: Path
    size: tuple[int, int] | None
    patient: str = ""
    boxes: tuple[Boxed, ...] = ()


@dataclass(frozen=True)
class Splits:
    """All films, and per split the file, the categories that it declares and, as films and words, what reading refuses in
    its annotations besides boxes."""

    films: tuple[CheckedFilm, ...]
    files: dict[str, str]
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mistakes: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)


def read_splits(paths: Sequence[Path], images: Path | None = None) -> Splits:
    """What to check.

    Args:
        paths: one run config (.yaml), or COCO files, each a split: train, val, test or unlabelled if its name says so.
        images: the films' folder; None: `images/` beside a COCO file, or its own folder.

    Raises:
        ConfigError: not one of these. DataError: a file is missing or damaged, names films elsewhere, or lacks a category
            of the config, so that there is nothing to check.
    """
    configs = [p for p in paths if p.suffix.lower() in (".yaml", ".yml")]
    if configs:
        if len(paths) > 1 or images is not None:
            raise ConfigError("a config names its own files; give it alone, without --images")
        return _of_config(configs[0])
    said = {path: split_of(Path(path.name)) or path.stem for path in paths}
    names = Counter(said.values())
    places = []
    for path, split in said.items():
        name = split if names[split] == 1 else short_path(path)
        beside = path.parent / "images"
        places.append((name, path, images or (beside if beside.is_dir() else path.parent), None, None))
    return _of_coco(places)


def _of_config(path: Path) -> Splits:
    shown = short_path(require_file(path, "config"))
    try:
        values: Any = parse_yaml(path.read_text(encoding="utf-8"))
        data = TypeAdapter(DataConfig).validate_python(values["data"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ConfigError(
            Problem("has no data that can be read", shown, cure="expected data: {format: coco, …}")
        ) from error
    except ValidationError as error:
        found = error.errors()
        raise ConfigError(
            [Problem(f"data.{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}", shown) for e in found]
        ) from error
    if isinstance(data, PhantomData):
        raise ConfigError(Problem("its films are generated: there is nothing to check", shown))
    if isinstance(data, ShardData):
        raise ConfigError(Problem("its films are packed", shown, cure="check the files that the shards were made from"))
    splits = {name: getattr(data, name) for name in _SPLITS if getattr(data, name) is not None}
    base = path.parent
    if isinstance(data, CocoData):
        return _of_coco([(n, *_coco_place(s, base), data.categories, s.limit) for n, s in splits.items()])
    return _of_voc(data, splits, base)


def _coco_place(split: CocoSplit, base: Path) -> tuple[Path, Path]:
    return base / split.annotations, base / split.images


def _of_coco(places: Sequence[tuple[str, Path, Path, Sequence[str] | None, int | None]]) -> Splits:
    films: list[CheckedFilm] = []
    files, categories, mistakes = {}, {}, {}
    for split, path, images, wanted, limit in places:
        shown = short_path(require_file(path, "annotation file"))
        data = read_coco(path, shown)[1]
        require_categories(wanted or (), {c.name for c in data.categories}, shown)
        names = {c.id: c.name for c in data.categories if wanted is None or c.name in wanted}
        boxes: dict[int, list[Boxed]] = defaultdict(list)
        for a in data.annotations:
            if a.category_id in names:
                x, y, w, h = a.bbox
                boxes[a.image_id].append(Boxed(names[a.category_id], Box(x, y, x + w, y + h), f"annotation {a.id}"))
        for image in data.images[:limit]:
            size = (image.width, image.height)
            own = tuple(boxes[image.id])
            require_within(image.file_name, shown)
            place = images / image.file_name
            films.append(CheckedFilm(split, image.file_name, place, size, patient_of(image.attributes or {}), own))
        files[split], categories[split] = shown, tuple(dict.fromkeys(names.values()))
        mistakes[split] = tuple(other_mistakes(data, {n: n for n in names.values()}, shown))
    return Splits(tuple(films), files, categories, mistakes)


def _of_voc(data: VocData, splits: dict[str, VocSplit], base: Path) -> Splits:
    films: list[CheckedFilm] = []
    files = {}
    for name, split in splits.items():
        lines = (
            require_file(base / split.split, "split file").read_text(encoding="utf-8", errors="replace").splitlines()
        )
        images = base / split.images
        there = {p.stem: p for p in sorted(images.glob("*")) if p.suffix.lower() in IMAGE_SUFFIXES}
        for stem in [line.split()[0] for line in lines if line.strip()][: split.limit]:
            try:
                objects, size = read_annotation(base / split.annotations / f"{stem}.xml")
            except DataError:
                if name != "unlabelled":
                    raise
                objects, size = (), None
            used = [o for o in objects if data.categories is None or o.category in data.categories]
            boxes = tuple(Boxed(o.category, o.box, f"object {k}") for k, o in enumerate(used, 1))
            films.append(CheckedFilm(name, stem, there.get(stem, images / stem), size, boxes=boxes))
        files[name] = short_path(base / split.split)
    found = tuple(sorted({b.category for f in films for b in f.boxes}))
    return Splits(tuple(films), files, dict.fromkeys(files, data.categories or found))
