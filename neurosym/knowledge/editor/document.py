"""A text as an editor sees it: places are offsets here, and are translated at the border.

The Language Server Protocol (3.17, "Text Documents") counts lines from 0, ends them at CR, LF or CRLF, and counts columns in
code units of the encoding that client and server agreed on, UTF-16 unless they did; a `Problem` counts both from 1, ends lines
at LF only, and counts columns in characters.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

_CODECS: Final = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
_LINE_END = re.compile(r"\r\n|\n|\r")
_TOKEN = re.compile(
    r"""(?P<comment>%[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*"?)|(?P<quoted>'[^'\n]*'?)
    |(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<variable>[A-Z_]\w*)|(?P<name>[a-z]\w*)
    |(?P<operator>:-|::|\\\+|=:=|=\\=|\\=|!=|=<|<=|>=|[-+*/<>=(){},:.])|(?P<other>\S)""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """A word or sign of a rule file; `kind` is a group of the pattern above, `start` and `end` are offsets."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """The class or relation that a name, quoted or not, stands for."""
        return self.text.strip("'") if self.kind == "quoted" else self.text


def tokens(text: str, start: int = 0) -> list[Token]:
    """The words and signs of a piece of a rule file; `start` is added to their offsets."""
    found = _TOKEN.finditer(text)
    return [Token(str(m.lastgroup), m[0], start + m.start(), start + m.end()) for m in found]


@dataclass(frozen=True)
class Document:
    """The text of one file as it stands in the editor, saved or not."""

    path: Path
    text: str
    encoding: str = "utf-16"

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(m.end() for m in _LINE_END.finditer(self.text))]

    @cached_property
    def _problem_starts(self) -> list[int]:
        return [0, *(m.end() for m in re.finditer("\n", self.text))]

    def position(self, offset: int) -> tuple[int, int]:
        """An offset as the protocol's (line, character)."""
        line = bisect_right(self._starts, offset) - 1
        codec, size = _CODECS[self.encoding]
        return line, len(self.text[self._starts[line] : offset].encode(codec, "surrogatepass")) // size

    def offset(self, line: int, character: int) -> int:
        """The protocol's (line, character) as an offset; beyond a line's end is its end."""
        if line >= len(self._starts):
            return len(self.text)
        start = self._starts[line]
        codec, size = _CODECS[self.encoding]
        before = self.line_at(start).encode(codec, "surrogatepass")[: character * size]
        return start + len(before.decode(codec, "ignore"))

    def offset_of(self, line: int, column: int) -> int:
        """A problem's (line, column), both from 1, as an offset; a place outside the text is moved into it."""
        if line > len(self._problem_starts):
            return len(self.text)
        start = self._problem_starts[max(line, 1) - 1]
        return min(start + max(column, 1) - 1, start + len(self.line_at(start)))

    def line_number(self, offset: int) -> int:
        """The line of an offset, from 1, as problems count."""
        return bisect_right(self._problem_starts, offset)

    def line_start(self, offset: int) -> int:
        """The offset at which the line of an offset begins."""
        return self._starts[bisect_right(self._starts, offset) - 1]

    def line_at(self, offset: int) -> str:
        """The whole line that holds an offset, without its end."""
        start = self.line_start(offset)
        end = _LINE_END.search(self.text, start)
        return self.text[start : end.start() if end else len(self.text)]

    def token_at(self, offset: int) -> Token | None:
        """The word or sign at an offset; between two, the word wins."""
        start = self.line_start(offset)
        touching = [t for t in tokens(self.line_at(offset), start) if t.start <= offset <= t.end]
        words = [t for t in touching if t.kind not in ("operator", "other")]
        return words[0] if words else touching[-1] if touching else None
