"""What has been imported, one film a line, so that an import that was stopped goes on where it was.

A line that was cut when the import was killed is left out, as are lines of another version of this file. An import that came to
its end leaves the lines of its own films: what an earlier one said of others, or under another key, is gone.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

_VERSION = 2


class Journal:
    """Lines of a file, added to its end; the last line of a film counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, dict[str, Any]] = {}
        self.names: set[str] = set()
        """Of all films that an import to this place has written, also those of other versions of this file."""
        self._file: IO[str] | None = None

    def __enter__(self) -> Journal:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        cut = False
        if self.path.is_file():
            text = self.path.read_text(encoding="utf-8", errors="replace")
            cut = bool(text) and not text.endswith("\n")
            for line in text.splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
                    continue
                self.names.add(entry["name"])
                if entry.get("version") == _VERSION:
                    self._lines[entry["name"]] = entry
        self._file = self.path.open("a", encoding="utf-8")
        if cut:
            self._file.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def get(self, name: str, mark: str) -> dict[str, Any] | None:
        """What a film became, if it was made of the same then."""
        entry = self._lines.get(name)
        return entry["record"] if entry is not None and entry["mark"] == mark else None

    def add(self, name: str, mark: str, record: dict[str, Any]) -> None:
        """Note what a film has become."""
        assert self._file is not None
        line = {"version": _VERSION, "name": name, "mark": mark, "record": record}
        self._lines[name] = line
        self.names.add(name)
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def keep(self, names: Iterable[str]) -> None:
        """End the journal with one line for each of these films, and none for others."""
        assert self._file is not None
        self._file.close()
        lines = [json.dumps(self._lines[name]) + "\n" for name in names]
        write_bytes_atomically(self.path, "".join(lines).encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write beside the target and rename over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
