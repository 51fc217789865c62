"""Names by number and numbers by name, as two arrays, so that millions of names are opened in no time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Names:
    """Distinct names in the order of their UTF-8 bytes; the number of a name is its place.

    >>> names = Names.of(["heart", "aorta"])
    >>> names[0], names.number("heart"), names.number("lung")
    ('aorta', 1, -1)
    """

    def __init__(self, text: NDArray[np.uint8], start: NDArray[np.int64]) -> None:
        """`text` holds all names one after another, name i from start[i] to start[i + 1]."""
        self.text, self.start = text, start
        self._bytes: memoryview = memoryview(text)  # type: ignore[arg-type]
        self._asked: dict[str, int] = {}

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        """Of distinct names, in any order."""
        coded = sorted(name.encode() for name in names)
        start = np.zeros(len(coded) + 1, dtype=np.int64)
        np.cumsum([len(c) for c in coded], out=start[1:])
        return cls(np.frombuffer(b"".join(coded), dtype=np.uint8), start)

    def __reduce__(self) -> tuple[type[Self], tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        return type(self), (self.text, self.start)

    def __len__(self) -> int:
        return len(self.start) - 1

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return bytes(self._bytes[self.start[number] : self.start[number + 1]]).decode()

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def number(self, name: str) -> int:
        """The number of a name, −1 if there is none such; names that were asked for before are known."""
        number = self._asked.get(name)
        if number is None:
            number = self._asked[name] = self._search(name)
        return number

    def _search(self, name: str) -> int:
        wanted, low, high = name.encode(), 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if bytes(self._bytes[self.start[middle] : self.start[middle + 1]]) < wanted:
                low = middle + 1
            else:
                high = middle
        found = low < len(self) and bytes(self._bytes[self.start[low] : self.start[low + 1]]) == wanted
        return low if found else -1

    def numbers(self, names: Sequence[str]) -> NDArray[np.int64]:
        """The numbers of many names, all of which must be here."""
        place = {name: i for i, name in enumerate(self)}
        return np.fromiter((place[name] for name in names), np.int64, len(names))
