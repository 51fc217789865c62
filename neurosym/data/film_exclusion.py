"""Films that pretraining must not see: those of held-out splits, by their content, whatever they are called.

A film of the pool is left out if it has the bytes of an excluded file, or its decoded pixels: a copy under another name, or
saved anew without loss, is the same film. Grey pixels count as equal to the same grey in three channels. A film that was
scaled, cropped or compressed with loss is another one: keep such copies out of the pool by hand.

Only films whose file has the size of an excluded file are hashed, and only those decoded whose height and width are those
of an excluded film, so that a pool of a hundred thousand films is checked in the time that it takes to read their headers.
Phantom films are told from one another by seed, domain, size and number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosym.data.film_sources import Film, FilmPool, PhantomFilms
from neurosym.errors import DataError, Problem, short_path


@dataclass(frozen=True)
class Checked:
    """The films that are left, how many were excluded, and those that cannot be read."""

    pool: FilmPool
    excluded: int
    unreadable: tuple[Problem, ...]


class Excluded:
    """The contents of films that must not be seen."""

    def __init__(self, films: Sequence[Film]) -> None:
        self.files: dict[int, set[str]] = {}
        self.pixels: dict[tuple[int, int], set[str]] = {}
        self.drawn: set[tuple[PhantomFilms, int]] = set()
        self.undrawn: dict[tuple[int, int], list[Film]] = {}
        for film in films:
            if film.path is None:
                self.drawn.add(_identity(film))
                self.undrawn.setdefault(film.shape(), []).append(film)
                continue
            content = _bytes(film.path)
            self.files.setdefault(len(content), set()).add(hashlib.sha256(content).hexdigest())
            image = film.read()
            self.pixels.setdefault(image.shape[:2], set()).add(pixel_hash(image))

    def has(self, film: Film) -> bool:
        """Whether it is one of them.

        Raises:
            DataError: it cannot be read.
        """
        if film.path is None and _identity(film) in self.drawn:
            return True
        if film.path is not None:
            known = self.files.get(_length(film.path))
            if known and hashlib.sha256(_bytes(film.path)).hexdigest() in known:
                return True
        shape = film.shape()
        if film.path is not None:  # a phantom that was saved as a file
            for phantom in self.undrawn.pop(shape, ()):
                self.pixels.setdefault(shape, set()).add(pixel_hash(phantom.read()))
        return shape in self.pixels and pixel_hash(film.read()) in self.pixels[shape]


def without(pool: FilmPool, held_out: Iterable[Film]) -> Checked:
    """The pool without the films of `held_out`, and without those that cannot be opened.

    Raises:
        DataError: a film of `held_out` cannot be read, so that it cannot be recognised either.
    """
    excluded = Excluded(list(held_out))
    kept, left_out, unreadable = [], 0, list[Problem]()
    for index in range(len(pool)):
        try:
            if excluded.has(pool[index]):
                left_out += 1
            else:
                kept.append(index)
        except DataError as error:
            unreadable += error.problems
    return Checked(pool.select(kept), left_out, tuple(unreadable))


def pixel_hash(image: np.ndarray) -> str:
    """SHA-256 of a film's shape and 8-bit pixels; three equal channels count as one."""
    if image.ndim == 3 and (image[..., :1] == image).all():
        image = image[..., 0]
    found = hashlib.sha256(repr(image.shape).encode())
    found.update(np.ascontiguousarray(image).tobytes())
    return found.hexdigest()


def _identity(film: Film) -> tuple[PhantomFilms, int]:
    assert film.phantom is not None
    return film.phantom.model_copy(update={"start": 0, "count": 1}), film.number


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(Problem(f"image cannot be read ({error.strerror})", short_path(path))) from error


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(Problem(f"image cannot be read ({error.strerror})", short_path(path))) from error
