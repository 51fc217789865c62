"""Whose a film is, without saying who; and the split that all films of a patient go to.

A patient's place is drawn from a hash of seed and pseudonym, so that it does not change when films are added, and shares are
kept on average only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise


def pseudonym(patient: str, key: bytes = b"") -> str:
    """A name that is the same for the same patient and key.

    Without a key whoever guesses an id can compute its pseudonym: hospitals' numbers are short enough to try them all.

    >>> pseudonym("4711") == pseudonym("4711"), pseudonym("4711") == pseudonym("4711", b"secret")
    (True, False)
    """
    secret = hashlib.blake2b(key, digest_size=32).digest() if key else b""
    return hashlib.blake2b(patient.encode(), key=secret, digest_size=8).hexdigest()


def whose(films: Sequence[tuple[str, str]]) -> list[str]:
    """The patient of each film, of the pseudonyms of its patient and of its study ("" where it does not say).

    A study is of one patient. So films that share a patient or a study are of one patient, also by way of other films, and bear
    the first of their patients' pseudonyms, else the first of their studies'; "" where a film says neither.

    >>> whose([("b", "1"), ("a", "1"), ("b", "2"), ("", "2"), ("", "3"), ("", "")])
    ['a', 'a', 'a', 'a', '3', '']
    """
    above: dict[tuple[bool, str], tuple[bool, str]] = {}

    def first(node: tuple[bool, str]) -> tuple[bool, str]:
        while above.setdefault(node, node) != node:
            above[node] = above[above[node]]
            node = above[node]
        return node

    told = [[(is_study, name) for is_study, name in zip((False, True), film, strict=True) if name] for film in films]
    for own in told:
        for low, high in pairwise(sorted(map(first, own))):
            above[high] = low
    return [first(own[0])[1] if own else "" for own in told]


def part_of(patient: str, seed: int, val: float, test: float) -> str:
    """train, val or test.

    >>> {part_of(str(k), 0, 0.0, 0.0) for k in range(99)}
    {'train'}
    """
    place = int.from_bytes(hashlib.sha256(f"{seed}:{patient}".encode()).digest()[:8], "big") / 2**64
    return "test" if place < test else "val" if place < test + val else "train"
