"""Whose a film is, without saying who; and the split that all films of a patient go to.

A patient's place is drawn from a hash of seed and pseudonym, so that it does not change when films are added, and shares are
kept on average only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from neurosym.errors import DataError, Problem, short_path

LEAST_KEY: Final = 16
"""Bytes of a key."""
_PATIENT: Final = ("patient", "patientid")
_OF_A_GROUP: Final = ("patientsex", "patientgender", "patientage")
"""What begins with "patient" and tells no more than subgroups are made of."""


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


def patient_of(attributes: Mapping[str, Any]) -> str:
    """Whose a film is by its attributes, "" if they do not say: the first `patient` or `patient_id`, however spelled.

    >>> patient_of({"Patient": None, "Patient-ID": " 4711 "}), patient_of({"patient": "", "site": "x"})
    ('4711', '')
    """
    said = (_text(value) for name, value in attributes.items() if _plain(name) in _PATIENT)
    return next(filter(None, said), "")


def may_tell_the_patient(name: str) -> bool:
    """Whether an attribute is called like one that says who the patient is.

    >>> [may_tell_the_patient(n) for n in ("Patient-ID", "PatientName", "patient_birth_date", "PatientSex", "inpatient")]
    [True, True, True, False, False]
    """
    return _plain(name).startswith("patient") and _plain(name) not in _OF_A_GROUP


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _text(value: Any) -> str:
    """A plain value as text; not a number that is none, which tables write where nothing is said."""
    return str(value).strip() if isinstance(value, str | int | float) and value == value else ""


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
