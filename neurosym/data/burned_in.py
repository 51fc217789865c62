"""Text that may be burned into a film's pixels: what the header says of it (0028,0301), and a simple look at the borders.

No tag can be removed from pixels. Names and dates that a scanner or an export writes into a film stand at its borders, in
letters of one shade with sharp edges, in lines. So strokes are taken that are narrow (a top-hat, Meyer 1979; bright ones and
dark ones) and differ from what is around them by `CONTRAST`; connected ones the size of letters are chained to lines; and
`LETTERS` letters in a line of the outer `BORDER` of a film are called text. This is a heuristic. It misses handwriting,
faint or slanted text, cursive scripts whose letters touch, and whatever stands further inside; a film it is silent about may
name its patient. Side markers of one or two letters are too short to be found, as they should be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import black_tophat, find_objects, label, white_tophat

if TYPE_CHECKING:
    from pydicom import Dataset

BORDER: Final = 0.15
"""Of a side; where text is looked for."""
CONTRAST: Final = 60
"""Of 255; by how much a stroke differs from what is around it."""
LETTERS: Final = 5
"""In a line, to be called text."""
_HEIGHTS: Final = (5, 0.06)
"""Of a letter: pixels at least, and of the film's shorter side at most."""
_MOST_PIECES: Final = 5000
"""Of a border; more are grain or an edge pattern, of which letters cannot be told apart."""


@dataclass(frozen=True, slots=True)
class BurnedIn:
    """What speaks for text in the pixels: `tag` is BurnedInAnnotation ("" where it is absent), `borders` those with text."""

    tag: str
    borders: tuple[str, ...]

    def __str__(self) -> str:
        """In words; "" where nothing speaks for it."""
        said = ["its header says so (BurnedInAnnotation YES)"] if self.tag == "YES" else []
        seen = [f"something like text at the {' and '.join(self.borders)}"] if self.borders else []
        return "; ".join((*said, *seen))


def burned_in(image: NDArray[np.uint8], header: Dataset | None = None) -> BurnedIn:
    """Look for text in a film, (height, width) or (height, width, 3)."""
    tag = "" if header is None else str(header.get("BurnedInAnnotation") or "").upper()
    grey = image if image.ndim == 2 else image.mean(-1).astype(np.uint8)
    height, width = grey.shape
    rows, columns = max(1, round(BORDER * height)), max(1, round(BORDER * width))
    parts = {
        "top": grey[:rows],
        "bottom": grey[-rows:],
        "left": grey[:, :columns],
        "right": grey[:, -columns:],
    }
    return BurnedIn(tag, tuple(name for name, part in parts.items() if _has_text(part, min(height, width))))


def _has_text(part: NDArray[np.uint8], side: int) -> bool:
    """Whether a part of a film, whose shorter side has `side` pixels, has a line of letters."""
    least, most = _HEIGHTS[0], max(_HEIGHTS[1] * side, 12.0)
    stroke = max(5, round(most / 4)) | 1
    for tophat in (white_tophat, black_tophat):
        pieces, count = label(tophat(part, size=(stroke, stroke)) > CONTRAST)
        if not 0 < count <= _MOST_PIECES:
            continue
        letters = []
        for number, (rows, columns) in enumerate(find_objects(pieces), 1):
            height, width = rows.stop - rows.start, columns.stop - columns.start
            filled = np.count_nonzero(pieces[rows, columns] == number)
            is_letter = least <= height <= most and width <= 1.5 * height and filled < 0.95 * height * width
            is_bar = least <= height <= most and width <= 0.4 * height  # I, l, 1
            if is_letter or is_bar:
                letters.append((columns.start, columns.stop, rows.start, rows.stop))
        if _longest_line(letters) >= LETTERS:
            return True
    return False


def _longest_line(letters: list[tuple[int, int, int, int]]) -> int:
    """The most letters (x1, x2, y1, y2) that follow each other, of like height, with gaps that are no wider than a letter."""
    longest: list[int] = []
    letters = sorted(letters)
    for i, (x1, _, y1, y2) in enumerate(letters):
        best = 1
        for j in range(i - 1, max(-1, i - 60), -1):
            _, before, top, bottom = letters[j]
            low, high = sorted((y2 - y1, bottom - top))
            near = before - 0.3 * low <= x1 <= before + 1.2 * high
            if near and high <= 1.6 * low and abs((y1 + y2) - (top + bottom)) <= low:
                best = max(best, longest[j] + 1)
        longest.append(best)
    return max(longest, default=0)
