"""Films as JPEG, made once and kept; and what lies over them: the outlines of objects as SVG paths.

A film is looked up among the known scenes by its id. Nothing that is asked for is ever part of a path on disk.
"""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from threading import Lock
from typing import Any, Final

import numpy as np
from PIL import Image

from neurosym.data.masks import decode_mask
from neurosym.review.evidence import Evidence

WIDTHS: Final = (160, 1400)
"""Of a thumbnail, and of a film to look at; a film is never made larger than it is."""
KEPT_BYTES: Final = 128 * 2**20
_FINEST = 320


class Pictures:
    """JPEGs of films, the latest 128 MB of them kept."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._made: OrderedDict[tuple[str, int], tuple[bytes, str]] = OrderedDict()
        self._size, self._lock = 0, Lock()

    def jpeg(self, film: str, width: int) -> tuple[bytes, str]:
        """A film at most `width` pixels wide, and its entity tag.

        Raises:
            ReviewError: no such film. DataError: its image cannot be read.
        """
        with self._lock:
            if (film, width) in self._made:
                self._made.move_to_end((film, width))
                return self._made[film, width]
        picture = Image.fromarray(self.evidence.image(film))
        picture.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=75 if width < 400 else 90)
        data = stream.getvalue()
        made = data, f'"{hashlib.sha256(data).hexdigest()[:20]}"'
        with self._lock:
            if (film, width) not in self._made:
                self._made[film, width] = made
                self._size += len(data)
            while self._size > KEPT_BYTES and len(self._made) > 1:
                _, (oldest, _) = self._made.popitem(last=False)
                self._size -= len(oldest)
        return made


def mask_path(mask: Mapping[str, Any]) -> str:
    """The outline of a mask as the data of an SVG path in the image's pixels: the edges between inside and outside.

    Masks of more than 320 pixels a side are outlined in steps of several pixels.

    >>> from neurosym.data.masks import encode_mask
    >>> mask_path(encode_mask(np.array([[0, 0, 0], [0, 1, 1], [0, 0, 0]])))
    'M1 1h2M1 2h2M1 1v1M3 1v1'
    """
    return _path_of(*mask["size"], mask["counts"])


@lru_cache(maxsize=2_000)
def _path_of(height: int, width: int, counts: str) -> str:
    inside = decode_mask({"size": [height, width], "counts": counts}) > 0
    step = max(1, -(-max(inside.shape) // _FINEST))
    padded = np.pad(inside[::step, ::step], 1)
    parts = []
    for edges, horizontal in ((padded[1:, :] != padded[:-1, :], True), ((padded[:, 1:] != padded[:, :-1]).T, False)):
        lined = np.pad(edges, ((0, 0), (1, 1)))
        change = np.diff(lined.astype(np.int8), axis=1)
        for (line, start), (_, end) in zip(np.argwhere(change == 1), np.argwhere(change == -1), strict=True):
            x, y = (start - 1, line) if horizontal else (line, start - 1)
            parts.append(f"M{x * step} {y * step}{'h' if horizontal else 'v'}{(end - start) * step}")
    return "".join(parts)
