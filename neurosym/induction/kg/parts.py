"""What each relation has of the files of a store, so that it is read, and its damage told, by itself.

Facts are sorted by direction, and a relation's two directions follow each other. So each file that grows with the facts is
partitioned: relation r has the rows from `first_row[2r]` to `first_row[2r + 2]`, with an entry each in `source` and
`direction_of`, and their facts, with an entry each in `target`, `back` and `weight`. The manifest `store.json` has

    of every file       its size in bytes
    of every relation   its rows, its facts, and the CRC-32 of its range in each of these files
    of every file       the CRC-32 of what precedes its array, if it is partitioned, and of all of it, if it is not
    of itself           a CRC-32

Whenever a folder is opened all sizes are checked, the manifest, what precedes the partitioned arrays, and the small files
(`SMALL`). What else is read of some relations alone (`FOR_SOME`) is checked when they are asked for; the others, and the ranges
of all relations, with `verify`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurosym.errors import InductionError, Problem, short_path

OF_ROWS: Final = ("source", "direction_of")
OF_FACTS: Final = ("target", "back", "weight")
SMALL: Final = ("relations", "relation_names", "first_row", "table")
"""Files that grow with the relations alone, or hold their names."""
FOR_SOME: Final = ("start", "entities", "entity_names")
"""Files that are needed whole where some relations are read; all else that is not partitioned follows from them."""
_BLOCK: Final = 1 << 20
ANEW: Final = "write it anew: neurosym induce --facts FILE --store FOLDER, or TripleStore.write"

Arrays = Mapping[str, NDArray[Any]]


class Part(NamedTuple):
    """The rows of a relation, and their facts, as ranges of the files."""

    rows: slice
    facts: slice

    def of(self, name: str) -> slice:
        """Its range of a file."""
        return self.rows if name in OF_ROWS else self.facts


def part_of(arrays: Arrays, relation: int) -> Part:
    """The part of a relation."""
    low, high = (int(arrays["first_row"][2 * relation + end]) for end in (0, 2))
    return Part(slice(low, high), slice(int(arrays["start"][low]), int(arrays["start"][high])))


def manifest(folder: Path, arrays: Arrays) -> dict[str, Any]:
    """Sizes of the files in a folder, and what each relation has of them."""
    parts = []
    for relation in range((len(arrays["first_row"]) - 1) // 2):
        rows, facts = part_of(arrays, relation)
        parts.append(
            {"rows": rows.stop - rows.start, "facts": (facts.stop - facts.start) // 2, **_sums(arrays, relation)}
        )
    sizes = {f"{name}.npy": (folder / f"{name}.npy").stat().st_size for name in arrays}
    sums = {}
    for name, array in arrays.items():
        file = f"{name}.npy"
        length = sizes[file] - (array.nbytes if name in (*OF_ROWS, *OF_FACTS) else 0)
        sums[file] = [length, _sum_of_file(folder / file, length)]
    return {"files": sizes, "sums": sums, "parts": parts}


def sum_of(manifest: Mapping[str, Any]) -> int:
    """The CRC-32 of a manifest, but for its own."""
    return zlib.crc32(json.dumps({k: v for k, v in manifest.items() if k != "sum"}, sort_keys=True).encode())


def check_files(folder: Path, sizes: Mapping[str, int]) -> None:
    """That all files are there, in the size that they were written.

    Raises:
        InductionError: one is not; all of them are told.
    """
    problems = []
    for name, expected in sizes.items():
        file = folder / name
        found = file.stat().st_size if file.is_file() else None
        if found != expected:
            told = "the file is missing" if found is None else f"the file has {found} bytes"
            problems.append(Problem(f"{told}, expected {expected} bytes", short_path(file), cure=ANEW))
    if problems:
        raise InductionError(problems)


def check_sums(folder: Path, sums: Mapping[str, Sequence[int]], names: Collection[str] | None = None) -> None:
    """That files which are not partitioned hold what was written, and what precedes the arrays of those that are.

    Args:
        names: of the former, those that are asked about; None: all.

    Raises:
        InductionError: one does not; all of them are told.
    """
    problems = []
    for file, (length, expected) in sums.items():
        name = Path(file).stem
        if names is None or name in names or name in (*OF_ROWS, *OF_FACTS):
            found = _sum_of_file(folder / file, length)
            if found != expected:
                told = f"the file is damaged: found CRC-32 {found:08x}, expected {expected:08x}"
                problems.append(Problem(told, short_path(folder / file), cure=ANEW))
    if problems:
        raise InductionError(problems)


def check_start(folder: Path, start: NDArray[np.int64], facts: int) -> None:
    """That rows begin at 0, follow each other, and end with the facts.

    Args:
        facts: how many there are, both ways.

    Raises:
        InductionError: they do not.
    """
    if start[0] != 0 or start[-1] != facts or bool((start[1:] < start[:-1]).any()):
        told = f"rows should ascend from 0 to {facts}, but go from {start[0]} to {start[-1]}, or do not ascend"
        raise InductionError(Problem(told, short_path(folder / "start.npy"), cure=ANEW))


def check_parts(folder: Path, arrays: Arrays, header: Mapping[str, Any], names: Iterable[tuple[int, str]]) -> None:
    """That the ranges of some relations hold what was written.

    Args:
        names: numbers and names of the relations.

    Raises:
        InductionError: one does not; all of them are told, with the file.
    """
    problems = []
    for relation, name in names:
        expected, found = header["parts"][relation], _sums(arrays, relation)
        for key, value in found.items():
            if expected.get(key) != value:
                told = f"the facts of relation {name!r} are damaged: found CRC-32 {value:08x}"
                was = expected.get(key)
                wanted = f"{was:08x}" if isinstance(was, int) else "none"
                problems.append(Problem(f"{told}, expected {wanted}", short_path(folder / f"{key}.npy"), cure=ANEW))
    if problems:
        raise InductionError(problems)


def cut(arrays: Arrays, relations: Iterable[int]) -> dict[str, NDArray[Any]]:
    """Targets, sources, directions and weights of some relations, and where rows begin, read into memory; relations ascend."""
    parts = [part_of(arrays, relation) for relation in relations]
    lengths = [np.diff(arrays["start"][part.rows.start : part.rows.stop + 1]) for part in parts]
    names = [name for name in ("source", "direction_of", "target", "weight") if name in arrays]
    found = {name: np.concatenate([np.array(arrays[name][part.of(name)]) for part in parts]) for name in names}
    return found | {"start": np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)}


def _sum_of_file(file: Path, length: int) -> int:
    """The CRC-32 of the first bytes of a file."""
    found = 0
    with file.open("rb") as content:
        while length > 0 and (block := content.read(min(length, _BLOCK))):
            found, length = zlib.crc32(block, found), length - len(block)
    return found


def _sums(arrays: Arrays, relation: int) -> dict[str, int]:
    part = part_of(arrays, relation)
    names = [name for name in (*OF_ROWS, *OF_FACTS) if name in arrays]
    return {name: zlib.crc32(np.ascontiguousarray(arrays[name][part.of(name)]).data) for name in names}
