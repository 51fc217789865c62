"""Films that are in a data set twice: by their pixels, and nearly, by a perceptual hash.

Equal means the same decoded pixels, whatever file they are in. Near means that two of 64-bit difference hashes (dHash: is each
pixel of a 9×8 picture of the film darker than its right neighbour?) differ in at most `NEAR` bits, and, because chest films are
alike as a whole, that 32×32 pictures of the two correlate by `ALIKE` or more. A copy that was scaled, compressed or brightened
is near; one that was cropped or turned is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neurosym.data.checking.faults import Fault
from neurosym.data.checking.films import CheckedFilm
from neurosym.data.film_exclusion import pixel_hash

NEAR = 4
ALIKE = 0.99


@dataclass(frozen=True)
class Print:
    """What a film is recognised by."""

    pixels: str
    difference: int
    small: NDArray[np.float32]


def print_of(image: np.ndarray) -> Print:
    """The print of an 8-bit film."""
    grey = Image.fromarray(image).convert("L")
    small = np.asarray(grey.resize((32, 32), Image.Resampling.BOX), dtype=np.float32).ravel()
    small = small - small.mean()
    return Print(pixel_hash(image), difference_hash(grey), small / max(float(np.linalg.norm(small)), 1e-6))


def difference_hash(film: Image.Image) -> int:
    """dHash of 64 bits, the first row first."""
    rows = np.asarray(film.convert("L").resize((9, 8), Image.Resampling.LANCZOS), dtype=np.int16)
    return int.from_bytes(np.packbits(rows[:, :-1] < rows[:, 1:]).tobytes(), "big")


def duplicates(films: Sequence[CheckedFilm], prints: Sequence[Print]) -> Iterator[Fault]:
    """Faults of equal films, and warnings of near ones in different splits.

    Films that train and unlabelled share, or that one split has twice, are warnings: no score is wrong for them.
    """
    known: dict[str, list[int]] = defaultdict(list)
    for k, found in enumerate(prints):
        known[found.pixels].append(k)
    for group in known.values():
        splits = {films[k].split for k in group}
        if len(group) > 1:
            leaks = len(splits) > 1 and splits != {"train", "unlabelled"}
            others = ", ".join(f"{films[k].name} of {films[k].split}" for k in group[1:])
            what = f"the same pixels as {others}"
            first = films[group[0]]
            yield Fault("duplicate", what, first.split, first.name, "error" if leaks else "warning")
    yield from _near(films, prints)


def _near(films: Sequence[CheckedFilm], prints: Sequence[Print]) -> Iterator[Fault]:
    hashes = np.array([p.difference for p in prints], dtype=np.uint64)
    splits = np.unique([f.split for f in films], return_inverse=True)[1]
    for k, found in enumerate(prints):
        away = np.bitwise_count(hashes[k + 1 :] ^ hashes[k])
        for other in (np.flatnonzero((away <= NEAR) & (splits[k + 1 :] != splits[k])) + k + 1).tolist():
            alike = float(found.small @ prints[other].small)
            if found.pixels != prints[other].pixels and alike >= ALIKE:
                bits = int(away[other - k - 1])
                message = f"near {films[other].name} of {films[other].split}: {bits} of 64 bits differ, correlation {alike:.3f}"
                yield Fault("near duplicate", message, films[k].split, films[k].name, "warning")
