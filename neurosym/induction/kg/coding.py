"""Dictionary encoding of millions of names: each gets a number when it is first seen, and all of them are sorted at the end.

Names are bytes in a block of text, so that none of them becomes a Python object: a hash table with open addressing whose slots
hold 31 bits of the hash beside the number, so that a name is compared with another only if these are equal.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neurosym.induction.kg.compiled import compiled, inlined
from neurosym.induction.kg.names import Names

Bytes = NDArray[np.uint8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
_BITS: Final = 32
_FIRST_ROOM: Final = 1 << 12
_PRIME, _BASIS = 0x100000001B3, 0xCBF29CE484222325
"""FNV-1a of 64 bits (Fowler, Noll and Vo)."""


class Coder:
    """Names → numbers in the order in which they are first seen.

    >>> coder, block = Coder(), np.frombuffer(b"lung heart lung", dtype=np.uint8)
    >>> coder.numbers(block, np.array([0, 5, 11]), np.array([4, 10, 15])).tolist()
    [0, 1, 0]
    >>> names, place = coder.sorted()
    >>> list(names), place.tolist()
    (['heart', 'lung'], [1, 0])
    """

    def __init__(self) -> None:
        self._text = np.empty(8 * _FIRST_ROOM, dtype=np.uint8)
        self._start = np.zeros(_FIRST_ROOM + 1, dtype=np.int64)
        self._slots = np.zeros(2 * _FIRST_ROOM, dtype=np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def numbers(self, block: Bytes, begin: Int64, end: Int64) -> Int32:
        """The numbers of the names block[begin[i] : end[i]]; new ones are added."""
        found = np.empty(len(begin), dtype=np.int32)
        done = 0
        while done < len(begin):
            done, self._size = _encode(block, begin, end, self._text, self._start, self._slots, self._size, found, done)
            if done < len(begin):
                self._grow(int(end[done] - begin[done]))
        return found

    def sorted(self) -> tuple[Names, Int32]:
        """All names in the order of their bytes, and the place of each number there."""
        start = self._start[: self._size + 1]
        order = order_of(self._text, start)
        place = np.empty(len(order), dtype=np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        sorted_start = np.zeros_like(start)
        np.cumsum(np.diff(start)[order], out=sorted_start[1:])
        return Names(_copied(self._text, start, order, sorted_start), sorted_start), place

    def _grow(self, needed: int) -> None:
        if 2 * (self._size + 1) > len(self._slots):
            self._slots = _spread(self._slots)
            self._start = np.append(self._start, np.zeros(len(self._start) - 1, dtype=np.int64))
        used = int(self._start[self._size])
        if used + needed > len(self._text):
            text = np.empty(2 * (used + needed), dtype=np.uint8)
            text[:used] = self._text[:used]
            self._text = text


def order_of(text: Bytes, start: Int64) -> Int64:
    """The order of distinct names by their bytes.

    Eight bytes at a time, as one number, of the names alone that are equal so far; what all begin with is skipped.
    """
    order, tied = np.arange(len(start) - 1), np.arange(len(start) - 1)
    group = np.zeros_like(order)
    at = int(_common(text, start))
    longest = int(np.diff(start).max(initial=0))
    while len(tied):
        own = order[tied]
        # beyond the longest only names that others go on from with zeros are equal: the shorter comes first
        key = _words(text, start, own, at) if at < longest else np.diff(start)[own].astype(np.uint64)
        by = np.lexsort((key, group)) if group.any() else np.argsort(key, kind="stable")
        own, key, group = own[by], key[by], group[by]
        order[tied] = own
        equal = (key[1:] == key[:-1]) & (group[1:] == group[:-1])
        kept = np.append(False, equal) | np.append(equal, False)
        group = np.cumsum(~np.append(False, equal))[kept]
        tied = tied[kept]
        at += 8
    return order


@compiled
def _encode(
    block: Bytes, begin: Int64, end: Int64, text: Bytes, start: Int64, slots: Int64, size: int, found: Int32, done: int
) -> tuple[int, int]:
    """Number the names from `done` on: (how many are done, how many there are); stops where there is no room for one more."""
    mask = len(slots) - 1
    for i in range(done, len(begin)):
        low, high = begin[i], end[i]
        code = _hash(block, low, high)
        at = code & mask
        while True:
            slot = slots[at]
            if slot == 0:
                used = start[size]
                if 2 * (size + 1) > len(slots) or used + high - low > len(text):
                    return i, size
                for k in range(low, high):
                    text[used + k - low] = block[k]
                start[size + 1] = used + high - low
                slots[at] = (code << _BITS) | (size + 1)
                found[i] = size
                size += 1
                break
            number = (slot & 0xFFFFFFFF) - 1
            if (slot >> _BITS) == code and _same(block, low, high, text, start[number], start[number + 1]):
                found[i] = number
                break
            at = (at + 1) & mask
    return len(begin), size


@inlined
def _hash(block: Bytes, low: int, high: int) -> int:
    """31 bits, so that a slot is never negative."""
    code = np.uint64(_BASIS)
    for k in range(low, high):
        code = (code ^ np.uint64(block[k])) * np.uint64(_PRIME)
    code ^= code >> np.uint64(32)
    return np.int64(code & np.uint64(0x7FFFFFFF))  # type: ignore[return-value]


@inlined
def _same(block: Bytes, low: int, high: int, text: Bytes, first: int, last: int) -> bool:
    same: bool = high - low == last - first
    k = 0
    while same and k < high - low:
        same = block[low + k] == text[first + k]
        k += 1
    return same


@compiled
def _spread(slots: Int64) -> Int64:
    """The slots of a table twice as large."""
    wider = np.zeros(2 * len(slots), dtype=np.int64)
    mask = len(wider) - 1
    for slot in slots:
        if slot:
            at = (slot >> _BITS) & mask
            while wider[at]:
                at = (at + 1) & mask
            wider[at] = slot
    return wider


@compiled
def _common(text: Bytes, start: Int64) -> int:
    """How many bytes all names begin with."""
    common = start[1] - start[0] if len(start) > 1 else 0
    for i in range(1, len(start) - 1):
        common = min(common, start[i + 1] - start[i])
        for k in range(common):
            if text[start[i] + k] != text[start[0] + k]:
                common = k
                break
    return common


@compiled
def _words(text: Bytes, start: Int64, own: Int64, at: int) -> NDArray[np.uint64]:
    """Eight bytes of each name from `at` on as one number, zeros after its end."""
    words = np.zeros(len(own), dtype=np.uint64)
    for j in range(len(own)):
        low, high = start[own[j]] + at, start[own[j] + 1]
        word = np.uint64(0)
        for k in range(8):
            word <<= np.uint64(8)
            if low + k < high:
                word |= np.uint64(text[low + k])
        words[j] = word
    return words


@compiled
def _copied(text: Bytes, start: Int64, order: Int64, sorted_start: Int64) -> Bytes:
    """The text of names in another order."""
    copied = np.empty(sorted_start[-1], dtype=np.uint8)
    for i in range(len(order)):
        low, to = start[order[i]], sorted_start[i]
        for k in range(sorted_start[i + 1] - to):
            copied[to + k] = text[low + k]
    return copied
