"""Compiled functions that are kept on disk and compiled anew when any file beside them has changed.

numba looks at the file of a function alone, so that one calling a function of another module would go on with what that was
when it was compiled. Here the stamp of a compiled function is made of all modules of its folder that have any.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Any:
    """The function, compiled when it is first called; other threads run meanwhile."""
    return _stamped(numba.njit(cache=True, nogil=True)(function), function)


def inlined(function: Callable[..., Any]) -> Any:
    """`compiled`, as a part of the functions that call it."""
    return _stamped(numba.njit(cache=True, nogil=True, inline="always")(function), function)


def _stamped(dispatcher: Any, function: Callable[..., Any]) -> Any:
    dispatcher._cache._cache_file._source_stamp = _stamp(Path(function.__code__.co_filename).parent)
    return dispatcher


@cache
def _stamp(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        text = file.read_bytes()
        if b"compiled" in text:
            digest.update(text)
    return digest.hexdigest()
