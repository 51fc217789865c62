"""Films and what is said of them → a folder of shards with an index (see `neurosym.data.shard_index`), all or nothing.

A shard is written under another name and renamed when it is complete, then the rows of its films; the index and, last,
``shards.json`` follow when all shards are there. Who is killed goes on after the last complete shard, if the films, told by a
digest, and the size are the same; the files are the same bytes as without a stop. Image files are copied, not coded anew, so
that a film keeps its pixels and the hash by which it is recognised in other splits.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from neurosym.data.shard_index import (
    BLOCK,
    FILM,
    FILMS,
    HEADER,
    IDS,
    ShardIndex,
    ShardsHeader,
    member_key,
    padded,
    read_header,
    shard_name,
)
from neurosym.errors import ConfigError, DataError, Problem, short_path
from neurosym.knowledge.files import write_text_atomically

_PARTS: Final = "parts"
"""Folder of the rows of each shard, until the index is written; and of what is being packed."""
_PLAN: Final = "plan.json"
SIZE: Final = 256_000_000
"""Bytes of a shard by default: large enough for a disk or a network to read at its best, small enough to be copied again."""


@dataclass(frozen=True)
class PackedFilm:
    """A film to pack: its id, the suffix and the bytes of its image file, and a COCO file of it alone."""

    image_id: str
    suffix: str
    image: bytes
    record: dict[str, Any]


@dataclass(frozen=True)
class FilmsToPack:
    """Films in their order; one is read when it is asked for, the first of a shard twice."""

    count: int
    film: Callable[[int], PackedFilm]
    categories: tuple[str, ...]
    digest: str
    """Of what is said of the films and of the state of their files; by it a packing that goes on knows that they are these."""


def pack(
    films: FilmsToPack, out: Path, size: int = SIZE, progress: Callable[[int, int], None] | None = None
) -> ShardsHeader:
    """Write films as shards of about `size` bytes; `progress` hears of films done and films in all.

    A shard is closed before the film that would make it larger; a film that is larger by itself has one of its own. A folder
    that holds these films already is left as it is.

    Raises:
        ConfigError: the folder holds something else.
        DataError: the folder holds these films, but a shard is missing or the index damaged; a film cannot be read, or nothing
            be written (the disk is full); what is complete stays to go on from.
    """
    header = read_header(out)
    if header is not None:
        if (header.source, header.size) == (films.digest, size):
            shutil.rmtree(out / _PARTS, ignore_errors=True)
            if missing := ShardIndex.open(out).missing():
                raise DataError(missing[:20])
            return header
        raise _occupied(out, "shards of other films, or of another size")
    try:
        done, shard = _begun(films, out, size)
        while done < films.count:
            done = _write_shard(films, out, shard, done, size, progress)
            shard += 1
        header = _write_index(films, out, shard, size)
    except OSError as error:
        cure = "the same command goes on from the last complete shard"
        raise DataError(Problem(f"cannot be written ({error.strerror})", short_path(out), cure=cure)) from error
    shutil.rmtree(out / _PARTS)
    return header


def _begun(films: FilmsToPack, out: Path, size: int) -> tuple[int, int]:
    """How many films and shards are complete from a packing that was stopped."""
    if not films.count:
        raise ConfigError(Problem("there is no film to pack", short_path(out)))
    plan = {"source": films.digest, "size": size}
    path = out / _PARTS / _PLAN
    if not path.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise _occupied(out, "something else")
        write_text_atomically(path, json.dumps(plan) + "\n")
    elif json.loads(path.read_text(encoding="utf-8")) != plan:
        raise _occupied(out, "a part of other films, or shards of another size")
    done = shard = 0
    while (part := _part(out, shard)).is_file():
        rows, _ = _read_part(part)
        last = rows[-1]
        end = int(last["offset"]) + 2 * BLOCK + padded(int(last["image"])) + padded(int(last["record"]))
        file = out / shard_name(shard)
        if not file.is_file() or file.stat().st_size < end:
            break
        done, shard = done + len(rows), shard + 1
    return done, shard


def _write_shard(
    films: FilmsToPack, out: Path, shard: int, first: int, size: int, progress: Callable[[int, int], None] | None
) -> int:
    """Write the shard that starts with film `first`; returns the number of the first film after it."""
    rows: list[tuple[int | bytes, ...]] = []
    ids, number = bytearray(), first
    annotated: Counter[str] = Counter()
    weak = False
    path = out / shard_name(shard)
    unfinished = path.with_suffix(".tar.part")
    with unfinished.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        while number < films.count:
            film = films.film(number)
            record = json.dumps(film.record, ensure_ascii=False, separators=(",", ":")).encode()
            length = 2 * BLOCK + padded(len(film.image)) + padded(len(record))
            if rows and tar.offset + length > size:
                break
            ids += film.image_id.encode()
            place = (shard, tar.offset, len(film.image), len(record), len(ids))
            rows.append((*place, sha256(film.image).digest(), sha256(record).digest()))
            for suffix, content in ((film.suffix, film.image), (".json", record)):
                info = tarfile.TarInfo(member_key(number) + suffix)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            annotated.update(_annotated(film.record))
            weak = weak or _says_weakly(film.record)
            number += 1
            if progress is not None:
                progress(number, films.count)
    _complete(unfinished, path)
    part = _part(out, shard)
    write_text_atomically(part.with_suffix(".json"), json.dumps({"annotated": annotated, "weak": weak}) + "\n")
    with part.with_suffix(".part").open("wb") as file:
        np.lib.format.write_array(file, np.array(rows, dtype=FILM), allow_pickle=False)
        file.write(ids)
    _complete(part.with_suffix(".part"), part)
    return number


def _annotated(record: Mapping[str, Any]) -> Iterator[str]:
    """The category of each annotation of a record; of some that cannot be used, too, of which there are hardly any."""
    names = {c["id"]: c["name"] for c in record["categories"]}
    return (names[a["category_id"]] for a in record["annotations"])


def _says_weakly(record: Mapping[str, Any]) -> bool:
    """Whether a record says something beside boxes and masks of all objects."""
    said = record["images"][0].get("supervision") or {}
    return said.get("complete") is not None or any(a.get("drawn") for a in record["annotations"])


def _write_index(films: FilmsToPack, out: Path, shards: int, size: int) -> ShardsHeader:
    """Join the rows of all shards, of which only those of one are held at a time, and write the header."""
    annotated: Counter[str] = Counter()
    weak, before = False, 0
    with (out / f"{FILMS}.part").open("wb") as index, (out / f"{IDS}.part").open("wb") as ids:
        _write_npy_header(index, films.count)
        for shard in range(shards):
            part = _part(out, shard)
            rows, own = _read_part(part)
            said = json.loads(part.with_suffix(".json").read_text(encoding="utf-8"))
            annotated.update(said["annotated"])
            weak = weak or said["weak"]
            rows["id_end"] += before
            before += len(own)
            index.write(rows.tobytes())
            ids.write(own)
    for name in (FILMS, IDS):
        _complete(out / f"{name}.part", out / name)
    header = ShardsHeader(
        films=films.count,
        shards=shards,
        categories=films.categories,
        annotated={name: annotated[name] for name in films.categories},
        weak=weak,
        source=films.digest,
        size=size,
    )
    write_text_atomically(out / HEADER, header.model_dump_json(indent=1) + "\n")
    return header


def _write_npy_header(file: BinaryIO, count: int) -> None:
    shape = {"descr": np.lib.format.dtype_to_descr(FILM), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, shape)


def _read_part(part: Path) -> tuple[np.ndarray, bytes]:
    with part.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False), file.read()


def _part(out: Path, shard: int) -> Path:
    return out / _PARTS / f"{shard:05d}.rows"


def _complete(unfinished: Path, path: Path) -> None:
    """Make sure that a file is on disk, then give it its name."""
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def _occupied(out: Path, what: str) -> ConfigError:
    return ConfigError(Problem(f"the folder holds {what}", short_path(out), cure="name another folder, or remove it"))
