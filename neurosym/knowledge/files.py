"""Text files in and out: UTF-8 with a clear error, and writing that leaves the old file or the new one, never half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from neurosym.errors import Problem, RuleError, short_path

LARGEST = 200_000_000
"""Bytes that a rule file may have."""


def read_text(path: Path) -> str:
    """A UTF-8 text file.

    Raises:
        RuleError: it is missing, too large, or not UTF-8 (with the line).
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise RuleError(Problem(f"is larger than {LARGEST // 10**6} MB", short_path(path), cure="split the file"))
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        data = path.read_bytes()
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            problem = Problem("is UTF-16 text", short_path(path), cure="save the file as UTF-8")
        else:
            line = data[: error.start].count(b"\n") + 1
            problem = Problem("not UTF-8 text", short_path(path), line, cure="save the file as UTF-8")
        raise RuleError(problem) from error
    except OSError as error:
        raise RuleError(Problem(f"cannot be read: {error.strerror}", short_path(path))) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise RuleError(Problem("holds a NUL byte: not a text file", short_path(path), line))
    return text


def write_text_atomically(path: Path, text: str) -> None:
    """Write beside the target and rename over it."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write beside the target and rename over it; `mode` says who may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def to_disk(path: Path) -> None:
    """Bring what was written to a file, or the names in a folder, to the disk: a new name is there only with its folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
