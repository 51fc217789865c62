"""Triples as sorted integer arrays, memory-mapped: what rules over knowledge graphs are counted on.

Every entity and relation gets a number, in the order of names, so that the order of the input plays no part. A relation r is
read in two directions, d = 2r from subject to object and d = 2r + 1 back; `reverse(d) = d ^ 1`. The facts of a direction are
compressed sparse rows (CSR) over the entities that it *has* facts of, for a graph has far fewer such rows than relations times
entities:

    row g             an entity `source[g]` and a direction, `first_row[d] ≤ g < first_row[d + 1]`, sources ascending
    its facts         `target[start[g] : start[g + 1]]`, ascending
    rows of entity x  `row_of[entity_start[x] : entity_start[x + 1]]`, by direction
    `back[e]`         the row of the reverse direction in which the fact at place e is found again

so a row is also a *property with a value*, "has d-fact from c": the set of entities that a constant of a rule speaks of. The
arrays are files of NumPy's format in a folder, opened without being read (`TripleStore.open`); a folder is written beside its
place and then renamed, so there is never half a store. In each file the facts of a relation lie together
(`neurosym.induction.kg.parts`): of a mapped store memory holds what was looked at, and a store may be opened with some
relations alone. Another process is sent where the folder is, not what it holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from neurosym.errors import InductionError, Problem, did_you_mean, short_path
from neurosym.induction.kg.names import Names
from neurosym.induction.kg.parts import (
    ANEW,
    FOR_SOME,
    SMALL,
    check_files,
    check_parts,
    check_start,
    check_sums,
    cut,
    manifest,
    sum_of,
)
from neurosym.induction.kg.row_tables import ordered_by, reverses, rows_of

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
_VERSION: Final = 3
_HEADER: Final = "store.json"
_FOUND_FAST: Final = 64
"""A direction with a row for at least one in so many entities has a table from entity to row; others are searched."""
_MOST_PLACES: Final = 1 << 28
"""All tables together: 1 GB."""


class Csr(NamedTuple):
    """The arrays that compiled functions take; see above. `place[table[d], x]` is the row of x, −1 if it has none."""

    target: Int32
    start: Int64
    source: Int32
    first_row: Int64
    entity_start: Int64
    row_of: Int32
    direction_of: Int32
    back: Int32
    table: Int32
    place: Int32


class Origin(NamedTuple):
    """The folder that a store was opened from, the digest of its manifest, the relations that were asked for (None: all)."""

    folder: Path
    digest: str
    relations: tuple[str, ...] | None


class TripleStore:
    """A graph of weighted facts `relation(subject, object)`; equal facts are one, with the largest weight.

    Attributes:
        entities, relations: their names by number.
        csr: the facts, both ways.
        weight: of each fact of a row; None if all are 1.
        origin: where it was opened; None if it was made.
    """

    def __init__(
        self, entities: Names, relations: Names, csr: Csr, weight: Float32 | None, origin: Origin | None = None
    ) -> None:
        self.entities, self.relations, self.csr, self.weight, self.origin = entities, relations, csr, weight, origin

    def __reduce__(self) -> tuple[Any, ...]:
        if self.origin is None:
            return type(self), (self.entities, self.relations, self.csr, self.weight)
        return type(self)._opened_again, tuple(self.origin)

    @classmethod
    def of(cls, triples: Iterable[tuple[str, str, str]], weights: Sequence[float] | None = None) -> Self:
        """From (subject, relation, object) in any order.

        Raises:
            InductionError: there are none, or a weight is outside (0, 1].

        >>> store = TripleStore.of([("ann", "parent", "bob"), ("bob", "parent", "cid")])
        >>> store.objects("ann", "parent")
        ['bob']
        """
        subjects, names, objects = list(zip(*triples, strict=True)) or [(), (), ()]
        entities, relations = Names.of({*subjects, *objects}), Names.of(set(names))
        columns = entities.numbers(subjects), relations.numbers(names), entities.numbers(objects)
        return cls.of_numbers(
            entities, relations, *columns, None if weights is None else np.asarray(weights, np.float32)
        )

    @classmethod
    def of_numbers(
        cls,
        entities: Names,
        relations: Names,
        subject: Int32 | Int64,
        relation: Int32 | Int64,
        target: Int32 | Int64,
        weight: Float32 | None = None,
    ) -> Self:
        """From columns of numbers."""
        if not len(subject):
            raise InductionError("the graph has no facts: nothing can be learned from it")
        if weight is not None and not bool(((weight > 0) & (weight <= 1)).all()):
            wrong = int(np.flatnonzero(~((weight > 0) & (weight <= 1)))[0])
            raise InductionError(f"fact {wrong + 1} has weight {weight[wrong]:g}, but a weight lies in (0, 1]")
        count = len(entities)
        if weight is not None and bool((weight == 1).all()):
            weight = None
        key = _keys(subject, relation, target, count)
        if weight is None:
            key.sort()
        else:
            order = np.argsort(key, kind="stable")
            key, weight = key[order], np.tile(weight, 2)[order]
        new = np.append(True, key[1:] != key[:-1])  # `numpy.unique` takes many times as long
        if weight is not None:
            weight = np.maximum.reduceat(weight, np.flatnonzero(new))
            weight = None if bool((weight == 1).all()) else weight
        key = key if new.all() else key[new]
        return cls(entities, relations, _rows(key, count, len(relations)), weight)

    def __len__(self) -> int:
        """The number of facts."""
        return len(self.csr.target) // 2

    @property
    def directions(self) -> int:
        return 2 * len(self.relations)

    def relation(self, name: str) -> int:
        """The number of a relation that has facts here.

        Raises:
            InductionError: it has none, or is unknown; see `named`.
        """
        number = self.named(name)
        if self.csr.first_row[2 * number] == self.csr.first_row[2 * number + 2]:
            left_out = self.origin is not None and self.origin.relations is not None
            why = "; it was not asked for with --only" if left_out else ""
            raise InductionError(Problem(f"relation {name!r} has no facts here{why}"))
        return number

    def named(self, name: str) -> int:
        """The number of a relation, whether it has facts here or was left out.

        Raises:
            InductionError: there is none of that name; with the nearest name.
        """
        number = self.relations.number(name)
        if number < 0:
            raise InductionError(
                Problem(f"relation {name!r} has no facts", cure=did_you_mean(name, list(self.relations)))
            )
        return number

    def row(self, direction: int, entity: int) -> int:
        """The row of an entity in a direction, −1 if it has none."""
        low, high = self.csr.first_row[direction : direction + 2]
        place = int(low + np.searchsorted(self.csr.source[low:high], entity))
        return place if place < high and self.csr.source[place] == entity else -1

    def sources(self, direction: int) -> Int32:
        """The entities that have facts of a direction, ascending."""
        return self.csr.source[self.csr.first_row[direction] : self.csr.first_row[direction + 1]]

    def targets(self, direction: int, entity: int) -> Int32:
        """What an entity's facts of a direction lead to, ascending."""
        g = self.row(direction, entity)
        return self.csr.target[:0] if g < 0 else self.csr.target[self.csr.start[g] : self.csr.start[g + 1]]

    def objects(self, subject: str, relation: str) -> list[str]:
        """The names of the objects of a subject's facts."""
        number = self.entities.number(subject)
        return [] if number < 0 else [self.entities[int(i)] for i in self.targets(2 * self.relation(relation), number)]

    def columns(self) -> tuple[Int64, Int64, Int64]:
        """(subject, relation, object) of all facts, by relation, subject, object."""
        csr = self.csr
        sizes = np.diff(csr.start)
        forward = (csr.direction_of & 1) == 0
        rows = np.repeat(np.flatnonzero(forward), sizes[forward])
        kept = np.repeat(forward, sizes)
        return (
            csr.source[rows].astype(np.int64),
            (csr.direction_of[rows] >> 1).astype(np.int64),
            csr.target[kept].astype(np.int64),
        )

    def write(self, folder: str | Path) -> None:
        """Write the store as a folder, in one piece; an older store of that name is replaced."""
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not (folder / _HEADER).exists():
            raise InductionError(f"{folder} exists and holds no store of facts; choose another folder")
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            arrays = dict(self.csr._asdict())
            arrays |= {"entities": self.entities.text, "entity_names": self.entities.start}
            arrays |= {"relations": self.relations.text, "relation_names": self.relations.start}
            if self.weight is not None:
                arrays["weight"] = self.weight
            for name, array in arrays.items():
                np.save(made / f"{name}.npy", array, allow_pickle=False)
            header: dict[str, Any] = {"version": _VERSION, "facts": len(self), "entities": len(self.entities)}
            header |= {"relations": len(self.relations)} | manifest(made, arrays)
            header["sum"] = sum_of(header)
            (made / _HEADER).write_text(json.dumps(header), encoding="utf-8")
            if folder.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
                os.replace(folder, old / "old")
                os.replace(made, folder)
                shutil.rmtree(old)
            else:
                os.replace(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    @classmethod
    def open(cls, folder: str | Path, relations: Collection[str] | None = None, verify: bool = False) -> Self:
        """Open a folder that `write` made; arrays are mapped, not read.

        Args:
            relations: those whose facts are wanted, which are read and checked, as are the names of entities and where rows
                begin; the others have none then, but all numbers are the same. None: all, mapped.
            verify: check all that any file holds, for which it is read once; otherwise, of what is mapped, sizes, types and
                shapes are, and the small files (`neurosym.induction.kg.parts`).

        Raises:
            InductionError: it is no such folder, or one of another version; a file is missing or damaged; an unknown relation.
        """
        folder = Path(folder)
        text, header = _header(folder)
        check_files(folder, header["files"])
        check_sums(folder, header["sums"], None if verify else SMALL if relations is None else (*SMALL, *FOR_SOME))
        try:
            arrays = {Path(name).stem: _mapped(folder / name) for name in header["files"]}
            names = Names(arrays["entities"], arrays["entity_names"])
            known = Names(arrays["relations"], arrays["relation_names"])
            csr = Csr(*(arrays[name] for name in Csr._fields))
            holds = {"facts": len(csr.target) // 2, "entities": len(names), "relations": len(known)}
        except (OSError, ValueError, KeyError) as error:
            raise InductionError(f"{folder} is no store of facts, or a damaged one: {error}") from error
        if any(header.get(k) != v for k, v in holds.items()):
            expected = {k: header.get(k) for k in holds}
            raise InductionError(f"{folder} is damaged: it should hold {expected}, but holds {holds}")
        wanted = None if relations is None else tuple(sorted(set(relations)))
        origin = Origin(folder.absolute(), hashlib.blake2b(text, digest_size=16).hexdigest(), wanted)
        store = cls(names, known, csr, arrays.get("weight"), origin)
        chosen = (
            [(store.named(name), name) for name in (known if wanted is None else wanted)] if verify or wanted else []
        )
        if chosen:
            check_start(folder, csr.start, len(csr.target))
        check_parts(folder, arrays, header, chosen)
        return store if wanted is None else store._with([number for number, _ in sorted(chosen)], arrays)

    @classmethod
    def _opened_again(cls, folder: Path, digest: str, relations: tuple[str, ...] | None) -> Self:
        """In another process, the same store."""
        try:
            store = cls.open(folder, relations)
        except InductionError as error:
            raise InductionError(f"a store must be where all processes find it: {error}") from error
        if store.origin is None or store.origin.digest != digest:
            raise InductionError(f"{folder} has been written anew since it was opened; begin again")
        return store

    def _with(self, relations: Sequence[int], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """With the facts of some relations alone, in memory."""
        if not relations:
            raise InductionError("no relation is asked for: nothing can be learned from none")
        found, count = cut(arrays, relations), len(self.entities)
        csr = _csr(found["target"], found["start"], found["source"], found["direction_of"], count, len(self.relations))
        return type(self)(self.entities, self.relations, csr, found.get("weight"), self.origin)


def _header(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The manifest of a store, as bytes and as what it says."""
    try:
        text = (folder / _HEADER).read_bytes()
        header = json.loads(text)
        version = header["version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InductionError(f"{folder} is no store of facts, or a damaged one: {error}") from error
    if version != _VERSION:
        message = f"this is a store of version {version}, this program reads {_VERSION}"
        raise InductionError(Problem(message, short_path(folder / _HEADER), cure=ANEW))
    if header.get("sum") != sum_of(header):
        raise InductionError(Problem("the manifest is damaged", short_path(folder / _HEADER), cure=ANEW))
    return text, header


def _mapped(file: Path) -> NDArray[Any]:
    # not read-only, for which all loops would be compiled a second time; what is written would stay in this process
    try:
        found: NDArray[Any] = np.load(file, mmap_mode="c", allow_pickle=False)
    except (SyntaxError, TokenError) as error:
        raise ValueError(f"{file.name}: its header is damaged") from error
    return found


def _keys(subject: Int32 | Int64, relation: Int32 | Int64, target: Int32 | Int64, count: int) -> Int64:
    """(direction, source, target) of all facts both ways as one number, which sorts faster than three."""
    n = len(subject)
    key = np.empty(2 * n, dtype=np.int64)
    for half, source, reached in ((key[:n], subject, target), (key[n:], target, subject)):
        np.multiply(relation, 2, out=half, dtype=np.int64)
        half += reached is subject
        half *= count
        half += source
        half *= count
        half += reached
    return key


def _rows(key: Int64, count: int, relations: int) -> Csr:
    """The rows of sorted (direction, source, target) numbers."""
    target, start, source, direction = rows_of(key, count)
    return _csr(target, start, source, direction, count, relations)


def _csr(target: Int32, start: Int64, source: Int32, direction: Int32, count: int, relations: int) -> Csr:
    """Rows with all that follows from them."""
    first_row = np.searchsorted(direction, np.arange(2 * relations + 1)).astype(np.int64)
    entity_start, order = ordered_by(source, count)
    back = reverses(target, start, source, first_row, count)
    fast = _with_table(np.diff(first_row), count)
    table = np.full(2 * relations, -1, dtype=np.int32)
    table[fast] = np.arange(len(fast))
    place = np.full((max(1, len(fast)), count), -1, dtype=np.int32)
    for i, d in enumerate(fast):
        low, high = first_row[d : d + 2]
        place[i, source[low:high]] = np.arange(low, high)
    return Csr(target, start, source, first_row, entity_start, order, direction, back, table, place)


def _with_table(rows: Int64, count: int) -> Int64:
    """The directions with rows enough for a table, ascending; those with the most where there is no room for all."""
    fast = np.flatnonzero(rows * _FOUND_FAST >= count)
    most = max(1, _MOST_PLACES // count)
    return np.sort(fast[np.argsort(-rows[fast], kind="stable")][:most])
