"""What each relation has of the files of a store, so that it is read, and its damage told, by itself.

Facts are sorted by direction, and a relation's two directions follow each other. So each file that grows with the facts is
partitioned: relation r has the rows from `first_row[2r]` to `first_row[2r + 2]`, with an entry each in `source` and
`direction_of`, and their facts, with an entry each in `target`, `back` and `weight`. The manifest `store.json` has the size of
every file in bytes, and of every relation its rows, its facts, and the CRC-32 of its range in each of these files.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurosym.errors import InductionError, Problem, short_path

OF_ROWS: Final = ("source", "direction_of")
OF_FACTS: Final = ("target", "back", "weight")
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
    return {"files": {f"{name}.npy": (folder / f"{name}.npy").stat().st_size for name in arrays}, "parts": parts}


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


def _sums(arrays: Arrays, relation: int) -> dict[str, int]:
    part = part_of(arrays, relation)
    names = [name for name in (*OF_ROWS, *OF_FACTS) if name in arrays]
    return {name: zlib.crc32(np.ascontiguousarray(arrays[name][part.of(name)]).data) for name in names}
