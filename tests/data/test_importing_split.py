from __future__ import annotations

import base64
from pathlib import Path

import pytest

from neurosym.data.importing.split import load_key
from neurosym.errors import DataError

KEY = b"0123456789abcdef"


def test_a_key_is_every_byte_of_its_file_and_has_to_be_long_enough_to_be_secret(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(base64.b64encode(KEY * 2) + b"\n")
    assert load_key(path) == base64.b64encode(KEY * 2) + b"\n"
    path.write_bytes(b"secret\n")
    with pytest.raises(DataError, match=r"key: the key has 7 bytes; expected 16 or more; make one with `openssl rand"):
        load_key(path)
    with pytest.raises(DataError, match="gone: the key cannot be read: No such file"):
        load_key(tmp_path / "gone")
