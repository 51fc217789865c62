"""Whose a film is, without saying who; and the split that all films of a patient go to.

A patient's place is drawn from a hash of seed and pseudonym, so that it does not change when films are added, and shares are
kept on average only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from neurosym.errors import DataError, Problem, short_path

LEAST_KEY: Final = 16
"""Bytes of a key."""


def load_key(path: Path) -> bytes:
    """Read a key: all bytes of a file.

    Raises:
        DataError: it cannot be read, or is too short to be secret.
    """
    cure = "make one with `openssl rand -hex 32 > FILE`, and keep it where what is written with it does not go"
    try:
        key = path.read_bytes()
    except OSError as error:
        raise DataError(Problem(f"the key cannot be read: {error.strerror}", short_path(path), cure=cure)) from error
    if len(key) < LEAST_KEY:
        message = f"the key has {len(key)} bytes; expected {LEAST_KEY} or more"
        raise DataError(Problem(message, short_path(path), cure=cure))
    return key


def pseudonym(patient: str, key: bytes = b"") -> str:
    """A name that is the same for the same patient and key.

    Without a key whoever guesses an id can compute its pseudonym: hospitals' numbers are short enough to try them all.

    >>> pseudonym("4711") == pseudonym("4711"), pseudonym("4711") == pseudonym("4711", b"secret")
    (True, False)
    """
    secret = hashlib.blake2b(key, digest_size=32).digest() if key else b""
    return hashlib.blake2b(patient.encode(), key=secret, digest_size=8).hexdigest()


def part_of(patient: str, seed: int, val: float, test: float) -> str:
    """train, val or test.

    >>> {part_of(str(k), 0, 0.0, 0.0) for k in range(99)}
    {'train'}
    """
    place = int.from_bytes(hashlib.sha256(f"{seed}:{patient}".encode()).digest()[:8], "big") / 2**64
    return "test" if place < test else "val" if place < test + val else "train"
