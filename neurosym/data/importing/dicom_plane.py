"""How a grid of pixels lies in the patient: which way its rows and columns run, where it begins, how large a pixel is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Numbers = tuple[float, ...] | None


@dataclass(frozen=True)
class Plane:
    """What a film's header or a frame's functional groups say, each None where they do not (PS3.3 C.7.6.2)."""

    orientation: Numbers = None
    position: Numbers = None
    spacing: Numbers = None

    def differs(self, film: Plane) -> str:
        """How this frame lies otherwise than a film, "" where they agree as far as both say.

        Numbers are decimal texts: cosines and shares of the spacing may differ by .001, places by a tenth of a pixel.

        >>> Plane((1, 0, 0, 0, 1, 0)).differs(Plane((-1, 0, 0, 0, -1, 0), (0, 0, 0)))
        '(0020,0037) ImageOrientationPatient is 1, 0, 0, 0, 1, 0, that of its film -1, 0, 0, 0, -1, 0'
        """
        pixel = min(film.spacing) if film.spacing else 1.0
        for said, own, others, near in (
            ("(0020,0037) ImageOrientationPatient", self.orientation, film.orientation, 1e-3),
            ("(0020,0032) ImagePositionPatient", self.position, film.position, 0.1 * pixel),
            ("(0028,0030) PixelSpacing", self.spacing, film.spacing, 1e-3 * pixel),
        ):
            if own is not None and others is not None and not np.allclose(own, others, rtol=0, atol=near):
                found, expected = (", ".join(f"{v:g}" for v in numbers) for numbers in (own, others))
                return f"{said} is {found}, that of its film {expected}"
        return ""


def plane_of_film(header: Any) -> Plane:
    """Of the header of a single frame."""
    return Plane(
        _numbers(header, "ImageOrientationPatient", 6),
        _numbers(header, "ImagePositionPatient", 3),
        _numbers(header, "PixelSpacing", 2),
    )


def plane_of_frame(groups: Any, shared: Any) -> Plane:
    """Of the functional groups of a frame and those that all frames share."""

    def said(sequence: str, word: str, count: int) -> Numbers:
        items = groups.get(sequence) or shared.get(sequence)
        return _numbers(items[0], word, count) if items else None

    return Plane(
        said("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        said("PlanePositionSequence", "ImagePositionPatient", 3),
        said("PixelMeasuresSequence", "PixelSpacing", 2),
    )


def _numbers(item: Any, word: str, count: int) -> Numbers:
    try:
        found = tuple(float(v) for v in item.get(word) or ())
    except (TypeError, ValueError):
        return None
    return found if len(found) == count else None
