from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from neurosym.data.importing.split import pseudonym
from neurosym.review.pseudonyms import Pseudonyms, file_stem

KEY = b"0123456789abcdef"
VALUES = st.text("1.aZ^é医", max_size=40)


def hmac_by_its_definition(key: bytes, message: bytes) -> bytes:
    """RFC 2104, for keys of up to a block."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in padded) + inner).digest()


@given(VALUES)
def test_a_name_is_the_hmac_of_what_it_stands_for(value: str) -> None:
    expected = hmac_by_its_definition(KEY, b"study:" + value.encode()).hex()[:16]
    assert Pseudonyms(KEY).name("study", value) == expected


@given(VALUES)
def test_a_new_uid_is_that_of_a_uuid_as_dicom_allows(value: str) -> None:
    uid = Pseudonyms(KEY).new_uid(value)
    assert uid.startswith("2.25.")
    assert len(uid) <= 64
    assert uuid.UUID(int=int(uid[5:])).version == 4
    assert str(int(uid[5:])) == uid[5:]


def test_the_key_decides_and_a_random_one_is_another_each_time() -> None:
    assert Pseudonyms(KEY).uid("1.2.3") == Pseudonyms(KEY).uid("1.2.3") != "1.2.3"
    assert len({Pseudonyms().name("film", "x") for _ in range(20)} | {Pseudonyms(KEY).name("film", "x")}) == 21
    assert Pseudonyms(KEY).name("film", "x") != Pseudonyms(KEY).name("study", "x")
    assert KEY.decode() not in repr(Pseudonyms(KEY))


def test_identity_that_is_kept_is_its_own_name_but_what_is_made_gets_a_uid() -> None:
    names = Pseudonyms(KEY, keep_identity=True)
    assert (names.patient("Doe"), names.name("film", "a"), names.uid("1.2.3")) == ("Doe", "a", "1.2.3")
    assert names.new_uid("1.2.3") == Pseudonyms(KEY).uid("1.2.3")
    assert Pseudonyms(KEY).uid("") == ""


def test_patients_are_called_as_an_import_with_the_same_key_calls_them() -> None:
    assert Pseudonyms(KEY).patient("P-4711") == pseudonym("P-4711", KEY)


@given(st.text("./\\ \0:~aé医", min_size=1, max_size=20))
def test_a_stem_leads_nowhere_else(name: str) -> None:
    stem = file_stem(name)
    assert (Path("out") / f"{stem}.dcm").resolve().parent == Path("out").resolve()
    assert not stem.startswith(".")
