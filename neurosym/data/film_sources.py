"""Films without annotations, from wherever they lie: the pool that self-supervised pretraining draws from.

A source is a folder, a COCO file, a VOC split, a CSV table, or a range of phantom films. A pool knows where its films are
and reads one when it is asked for it; none is kept, so that memory does not grow with the pool. What an annotation file
says beside the films' names is not looked at, so no ontology is needed.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from neurosym.data.coco import read_coco
from neurosym.data.config import DataPath
from neurosym.data.images import IMAGE_SUFFIXES, opened_image, read_image, require_file, require_folder, require_within
from neurosym.data.phantom import PhantomConfig, phantom_film
from neurosym.errors import DataError, Problem, did_you_mean, short_path

_KINDS = "folder; annotations and images (COCO); split and images (VOC); table and images (CSV); phantom"


class PhantomFilms(BaseModel):
    """A range of generated films."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=1)
    start: int = Field(0, ge=0)
    size: int = Field(256, ge=64, le=1024)
    seed: int = Field(0, ge=0)
    shift: bool = False

    def config(self) -> PhantomConfig:
        """What draws them."""
        return PhantomConfig(size=self.size, seed=self.seed, shift=self.shift)


class FilmSource(BaseModel):
    """One place where films are; `limit` takes the first ones only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: DataPath = ""
    """Every image below it."""
    annotations: DataPath = ""
    """A COCO file; of a VOC split the folder of XML files, which is not needed."""
    split: DataPath = ""
    """A VOC split file."""
    table: DataPath = ""
    """A CSV file with a column of file names."""
    images: DataPath = ""
    """The folder that names of the three above are relative to."""
    file_column: str = "file_name"
    phantom: PhantomFilms | None = None
    limit: int | None = Field(None, ge=1)

    @property
    def kind(self) -> str:
        """folder, phantom, voc, table or coco."""
        if self.folder or self.phantom:
            return "folder" if self.folder else "phantom"
        return "voc" if self.split else "table" if self.table else "coco"

    @model_validator(mode="after")
    def _is_one_place(self) -> FilmSource:
        whole = [k for k in ("folder", "phantom") if getattr(self, k)]
        listed = [k for k in ("annotations", "split", "table", "images") if getattr(self, k)]
        if listed == ["annotations", "split", "images"]:
            listed = ["split", "images"]
        fits = (len(whole) == 1 and not listed) or (not whole and len(listed) == 2 and listed[1] == "images")
        if not fits:
            raise ValueError(f"a source names one of: {_KINDS}; found {', '.join([*whole, *listed]) or 'none of them'}")
        return self


@dataclass(frozen=True)
class Film:
    """Where one film is: a file, or a phantom's number."""

    path: Path | None = None
    phantom: PhantomFilms | None = None
    number: int = 0

    @property
    def name(self) -> str:
        """What lists and messages call it."""
        if self.path is not None:
            return short_path(self.path)
        return f"phantom-{self.number:06d} of {self.phantom.config()}" if self.phantom else ""

    def read(self) -> np.ndarray:
        """Its pixels, (height, width) if grey, else (height, width, 3).

        Raises:
            DataError: missing, truncated or not an image.
        """
        if self.path is not None:
            return read_image(self.path)
        assert self.phantom is not None
        return phantom_film(self.number, self.phantom.config()).image

    def shape(self) -> tuple[int, int]:
        """Height and width, of which a file's header is enough.

        Raises:
            DataError: it cannot be read.
        """
        if self.path is None:
            assert self.phantom is not None
            return self.phantom.size, self.phantom.size
        with opened_image(self.path, short_path(self.path)) as image:
            return image.height, image.width


class FilmPool(Sequence[Film]):
    """Films of several sources, one after the other, each file once; some may be left out."""

    def __init__(self, paths: Sequence[str], phantoms: Sequence[PhantomFilms], kept: np.ndarray | None = None) -> None:
        self.paths, self.phantoms = tuple(paths), tuple(phantoms)
        count = len(self.paths) + sum(p.count for p in self.phantoms)
        self.kept = np.arange(count) if kept is None else kept

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return FilmPool(self.paths, self.phantoms, self.kept[index])
        at = int(self.kept[index])
        if at < len(self.paths):
            return Film(Path(self.paths[at]))
        at -= len(self.paths)
        for phantom in self.phantoms:
            if at < phantom.count:
                return Film(phantom=phantom, number=phantom.start + at)
            at -= phantom.count
        raise IndexError(index)

    def select(self, indices: Iterable[int]) -> FilmPool:
        """Some of the films, in this order."""
        return FilmPool(self.paths, self.phantoms, self.kept[np.fromiter(indices, dtype=np.int64)])

    def digest(self) -> str:
        """A hash of which films these are, by which a resumed run knows that the pool is as it was."""
        found = hashlib.sha256(np.ascontiguousarray(self.kept, dtype="<i8").tobytes())
        for path in self.paths:  # by the end of its name, so that the data may be moved
            found.update("/".join(Path(path).parts[-2:]).encode() + b"\0")
        for phantom in self.phantoms:
            found.update(repr(phantom).encode())
        return found.hexdigest()


def open_sources(sources: Iterable[FilmSource], base: Path) -> FilmPool:
    """Find the films of sources whose paths are relative to `base`.

    Raises:
        DataError: a folder or list is missing, damaged or empty, or a COCO file names films elsewhere. Films are not opened.
    """
    paths: dict[str, None] = {}
    phantoms: dict[PhantomFilms, None] = {}
    for source in sources:
        if source.phantom is not None:
            limit = min(source.phantom.count, source.limit or source.phantom.count)
            phantoms[source.phantom.model_copy(update={"count": limit})] = None
            continue
        found = _READERS[source.kind](source, base)
        if not found:
            place = source.folder or source.split or source.table or source.annotations
            raise DataError(Problem("no image there", short_path(base / place), cure=f"looked for a {source.kind}"))
        paths |= dict.fromkeys(str(p) for p in found[: source.limit])
    return FilmPool(list(paths), list(phantoms))


def _of_folder(source: FilmSource, base: Path) -> list[Path]:
    folder = require_folder(base / source.folder, "image")
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def _of_coco(source: FilmSource, base: Path) -> list[Path]:
    file = require_file(base / source.annotations, "annotation file")
    folder = require_folder(base / source.images, "image")
    shown = short_path(file)
    names = [i.file_name for i in read_coco(file, shown)[1].images]
    for name in names:
        require_within(name, shown)
    return [folder / name for name in names]


def _of_voc(source: FilmSource, base: Path) -> list[Path]:
    file = require_file(base / source.split, "split file")
    folder = require_folder(base / source.images, "image")
    there = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES}
    stems = [line.split()[0] for line in _text(file).splitlines() if line.strip()]
    absent = [s for s in stems if s not in there]
    if absent:
        raise DataError(Problem(f"image {absent[0]!r} is not in {short_path(folder)}", short_path(file)))
    return [there[s] for s in stems]


def _of_table(source: FilmSource, base: Path) -> list[Path]:
    folder = require_folder(base / source.images, "image")
    return [folder / row[source.file_column] for row in read_table(base / source.table, source.file_column)]


_READERS = {"folder": _of_folder, "coco": _of_coco, "voc": _of_voc, "table": _of_table}


def read_table(path: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, in UTF-8.

    Raises:
        DataError: missing, not CSV, or without one of these columns (in the header or in a row).
    """
    shown = short_path(require_file(path, "table"))
    try:
        rows = csv.DictReader(io.StringIO(_text(path)))
        there, lines = rows.fieldnames or [], list(rows)
    except csv.Error as error:
        raise DataError(Problem(f"not a CSV file ({error})", shown)) from error
    for column in columns:
        if column not in there:
            raise DataError(Problem(f"no column {column!r}", shown, 1, cure=did_you_mean(column, there)))
    short = [number for number, row in enumerate(lines, 2) if any(row[c] is None for c in columns)]
    if short:
        raise DataError(Problem("the row has too few columns", shown, short[0]))
    return lines


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(Problem("not UTF-8 text", short_path(path))) from error
