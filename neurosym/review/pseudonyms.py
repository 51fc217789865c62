"""Names that do not say whose film it is: keyed hashes, the same for a film, patient or UID as long as the key is the same.

    name = first 64 bits of HMAC-SHA256(key, kind : value), in hex             HMAC: RFC 2104
    UID  = 2.25. and HMAC-SHA256(key, "uid" : value) as the number of a UUID   PS3.5 B.2

Without the key nobody can try out which film or patient gives which name. Patients have the names that `neurosym data import`
gives them with the same key. With identity kept, values are their own names.
"""

from __future__ import annotations

import csv
import hmac
import io
import re
import secrets
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from neurosym.data.importing.split import pseudonym
from neurosym.knowledge.files import write_bytes_atomically

UidOf = Callable[[str], str]
"""Gives UIDs to what is made of a film, the same for the same word, as `Pseudonyms.new_uid` does."""
MAPPING: Final = (
    "file",
    "name",
    "study_uid",
    "new_study_uid",
    "series_uid",
    "new_series_uid",
    "sop_uid",
    "new_sop_uid",
)
"""The columns of a mapping file."""


@dataclass(frozen=True)
class Pseudonyms:
    """Makes names of one key; a random one, if none is given. With `keep_identity` values stay as they are."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    keep_identity: bool = False

    def patient(self, value: str) -> str:
        """What a patient is called."""
        return value if self.keep_identity else pseudonym(value, self.key)

    def name(self, kind: str, value: str) -> str:
        """What a film or study is called."""
        return value if self.keep_identity else self._digest(kind, value).hex()[:16]

    def uid(self, value: str) -> str:
        """The UID that stands for one of the source; "" for none."""
        return value if self.keep_identity or not value else self.new_uid(value)

    def new_uid(self, words: str) -> str:
        """A UID for what is made here, the same for the same words."""
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', words)[:16], version=4).int}"

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.digest(self.key, f"{kind}:{value}".encode(), "sha256")


def write_mapping(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write which film has which name (columns `MAPPING`) as CSV that nobody but its owner may read."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(MAPPING)
    writer.writerows(sorted(map(tuple, rows)))
    write_bytes_atomically(path, text.getvalue().encode(), mode=0o600)


def file_stem(name: str) -> str:
    """A film's name as the stem of a file: letters, digits, points, hyphens and underscores."""
    return re.sub(r"[^\w.-]", "_", name).lstrip(".") or "_"
