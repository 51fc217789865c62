"""Where the films of a folder of shards are; no film is read for it, and its rows stay on disk until they are looked at.

    shard-00000.tar …   films in the webdataset convention: 000000012.png beside 000000012.json, a COCO file of this image alone
    films.npy           a row a film: shard, place, lengths, SHA-256 of image and record        (memory-mapped)
    ids.bin             the films' ids, one after the other, in UTF-8                           (memory-mapped)
    shards.json         how many there are, and of which categories; written last, so that a folder without it is not complete

A film is found by its row alone. Nothing is unpacked, and no name in a tar or in the index becomes a path; what a row and a tar
say of each other is checked when the film is read, because either may be damaged, or a stranger's. A member that is a link, a
device or a folder, or has another name than its film, is refused.
"""

from __future__ import annotations

import os
import re
import tarfile
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neurosym.errors import DataError, Problem, short_path

HEADER: Final = "shards.json"
FILMS: Final = "films.npy"
IDS: Final = "ids.bin"
BLOCK: Final = tarfile.BLOCKSIZE
FILM: Final = np.dtype(
    [
        ("shard", "<u4"),
        ("offset", "<u8"),  # of the image's tar header; the record's follows the image
        ("image", "<u8"),
        ("record", "<u8"),
        ("id_end", "<u8"),
        ("image_hash", "V32"),
        ("record_hash", "V32"),
    ]
)
"""A row of the index, 100 bytes; `image` and `record` are lengths."""
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")


class ShardsHeader(BaseModel):
    """What ``shards.json`` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    films: int = Field(ge=1)
    shards: int = Field(ge=1)
    categories: tuple[str, ...]
    annotated: dict[str, int]
    """How many annotations each category has."""
    weak: bool
    """Whether anything is said of a film beside boxes and masks (see `neurosym.data.coco_weak`)."""
    source: str
    """A digest of what was packed."""
    size: int = Field(ge=1)
    """Bytes that a shard was to have."""


class DamagedFilm(DataError):
    """A film that its shard no longer holds as it was packed."""


@dataclass(frozen=True)
class ShardIndex:
    """The films of a folder by number; `open` reads it."""

    folder: Path
    header: ShardsHeader
    films: np.ndarray
    ids: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> ShardIndex:
        """Open a folder that `neurosym.data.shard_pack.pack` has written.

        Raises:
            DataError: no such folder, not complete, or its index is damaged.
        """
        shown, missing = short_path(folder), "write it with `neurosym data shards`"
        if not folder.is_dir():
            raise DataError(Problem("folder of shards not found", shown, cure=missing))
        header = read_header(folder)
        if header is None:
            cure = "run the `neurosym data shards` that was writing it again, it goes on"
            raise DataError(Problem(f"no {HEADER} there: these are no shards, or not all of them", shown, cure=cure))
        try:
            films = np.load(folder / FILMS, mmap_mode="r", allow_pickle=False)
            ids = np.memmap(folder / IDS, np.uint8, "r")
            sound = films.dtype == FILM and films.shape == (header.films,) and films[-1]["id_end"] == len(ids)
            sound = sound and header.shards <= header.films
        except Exception as error:  # NumPy lets whatever a damaged header causes pass through
            raise DataError(
                Problem(f"the index cannot be read ({error})", shown, cure="pack the films anew")
            ) from error
        if not sound:
            raise DataError(Problem(f"{FILMS} and {HEADER} do not belong together", shown, cure="pack the films anew"))
        return cls(folder, header, films, ids)

    def shard(self, number: int) -> Path:
        """The file of a shard."""
        return self.folder / shard_name(number)

    def image_id(self, n: int) -> str:
        """What a film is called in messages and lists, without reading it."""
        start = int(self.films[n - 1]["id_end"]) if n else 0
        return self.ids[start : int(self.films[n]["id_end"])].tobytes().decode("utf-8", "replace")

    def image_hash(self, n: int) -> str:
        """The SHA-256 of a film's image file."""
        return str(self.films[n]["image_hash"].tobytes().hex())

    def missing(self) -> list[Problem]:
        """A problem for each shard that is not there."""
        names = {entry.name for entry in os.scandir(self.folder)}
        lost = [s for s in range(self.header.shards) if shard_name(s) not in names]
        cure = "copy it there again, or remove the folder and pack anew"
        return [Problem("the shard is missing", short_path(self.shard(s)), cure=cure) for s in lost]

    def image(self, n: int) -> bytes:
        """A film's image file.

        Raises:
            DamagedFilm: the shard does not hold it, or other bytes.
        """
        row = self.films[n]
        return self._member(n, row, int(row["offset"]), int(row["image"]), row["image_hash"].tobytes())

    def record(self, n: int) -> bytes:
        """What is said of a film: a COCO file of one image.

        Raises:
            DamagedFilm: the shard does not hold it, or other bytes.
        """
        row = self.films[n]
        place = int(row["offset"]) + BLOCK + padded(int(row["image"]))
        return self._member(n, row, place, int(row["record"]), row["record_hash"].tobytes(), ".json")

    def _member(self, n: int, row: Any, place: int, length: int, digest: bytes, suffix: str = "") -> bytes:
        path = self.folder / shard_name(int(row["shard"]))
        damaged = partial(_damaged, self.image_id(n), path)
        try:
            with path.open("rb", buffering=0) as file:
                whole = os.fstat(file.fileno()).st_size
                if place + BLOCK + length > whole:  # asked first: a false length is not to take the memory
                    raise damaged(f"the shard ends at byte {whole}, before the film does")
                file.seek(place)
                block = file.read(BLOCK + length)
        except OSError as error:
            raise damaged(error.strerror or str(error)) from error
        try:
            info = tarfile.TarInfo.frombuf(block[:BLOCK], "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise damaged(f"no member of a tar at byte {place} ({error})") from error
        if info.type != tarfile.REGTYPE:
            raise damaged(f"member {info.name[:60]!r} is no plain file")
        key = member_key(n)
        own = info.name.removeprefix(key)
        if own == info.name or not (own == suffix if suffix else _SUFFIX.fullmatch(own)):
            raise damaged(f"member {info.name[:60]!r} is not one of film {key}")
        content = block[BLOCK:]
        if info.size != length or sha256(content).digest() != digest:
            raise damaged(f"member {info.name!r} is not what was packed (SHA-256)")
        return content


def read_header(folder: Path) -> ShardsHeader | None:
    """What ``shards.json`` of a folder holds; None if there is none.

    Raises:
        DataError: it is damaged.
    """
    path = folder / HEADER
    if not path.is_file():
        return None
    try:
        return ShardsHeader.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(Problem(f"cannot be read ({error.strerror})", short_path(path))) from error
    except ValidationError as error:
        found = [": ".join([*map(str, e["loc"]), e["msg"]]) for e in error.errors()]
        raise DataError(
            [Problem(f"not a file of `neurosym data shards`: {f}", short_path(path)) for f in found]
        ) from error


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.tar"


def member_key(n: int) -> str:
    """What a film's members are called in its shard, before the suffix; ids may hold dots, where webdataset cuts names."""
    return f"{n:09d}"


def padded(length: int) -> int:
    """Bytes that a member of this length takes in a tar, without its header."""
    return -(-length // BLOCK) * BLOCK


def _damaged(image_id: str, path: Path, message: str) -> DamagedFilm:
    return DamagedFilm(Problem(f"film {image_id!r}: {message}", short_path(path), cure="copy the shard there again"))
