"""Stored DICOM pixels → grey as it is to be seen, 0 black to 1 white (PS3.3 C.11: modality, then values of interest).

    stored value ─ Modality LUT | slope · x + intercept ─▶ ─ VOI LUT | window ─▶ 0..1 ─ MONOCHROME1: 1 − x ─▶ grey

Each stored value has one shade, so the shades are worked out once for each value that occurs, not for each pixel. The first
window or VOI LUT of several counts; a VOI LUT goes before a window. A film with neither is shown in full if it has 8 bits,
else its 0.5th to 99.5th percentile becomes 0 to 1, as for other deep images. Padding is black and has no part in percentiles.

Tables are applied here and not by pydicom's `apply_voi`, whose index wraps around where a table of 8-bit entries has more
than 256 of them; elsewhere the two agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neurosym.errors import DataError, Problem, did_you_mean

if TYPE_CHECKING:
    from pydicom import Dataset

Values = NDArray[np.float64]
WINDOWS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def grey_of(pixels: np.ndarray, header: Dataset, shown: str) -> NDArray[np.float32]:
    """The (height, width) shades, 0..1, of one frame's stored values; `shown` names the file in messages.

    Raises:
        DataError: a table or window is damaged.
    """
    lowest, highest = int(pixels.min()), int(pixels.max())
    index = pixels.astype(np.int32) - lowest
    stored = np.arange(lowest, highest + 1, dtype=np.float64)
    padding = _padding(stored, header)
    values = _modality(stored, header, shown)
    shades = _of_interest(values, header, shown)
    if shades is None:
        counts = np.where(padding, 0, np.bincount(index.ravel(), minlength=len(stored)))
        low, high = _range(values, counts, header, shown)
        shades = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    if header.PhotometricInterpretation == "MONOCHROME1":
        shades = 1 - shades
    table = np.where(padding, 0.0, shades).astype(np.float32)
    return table[index]


def _modality(stored: Values, header: Dataset, shown: str) -> Values:
    """Stored values in the modality's own unit."""
    if header.get("ModalityLUTSequence"):
        return _looked_up(stored, header.ModalityLUTSequence[0], "(0028,3000) ModalityLUTSequence", shown)[0]
    slope = _number(header, "RescaleSlope", "(0028,1053)", 1.0, shown)
    return stored * slope + _number(header, "RescaleIntercept", "(0028,1052)", 0.0, shown)


def _of_interest(values: Values, header: Dataset, shown: str) -> Values | None:
    """Shades by the first VOI LUT, else by the first window; None where the film has neither."""
    if header.get("VOILUTSequence"):
        entries, bits = _looked_up(values, header.VOILUTSequence[0], "(0028,3010) VOILUTSequence", shown)
        return np.asarray(np.clip(entries / (2**bits - 1), 0, 1))
    if header.get("WindowCenter") is None or header.get("WindowWidth") is None:
        return None
    centre = _number(header, "WindowCenter", "(0028,1050)", 0.0, shown)
    width = _number(header, "WindowWidth", "(0028,1051)", 1.0, shown)
    return windowed(values, centre, width, str(header.get("VOILUTFunction") or "LINEAR").upper(), shown)


def windowed(values: np.ndarray, centre: float, width: float, function: str = "LINEAR", shown: str = "") -> Values:
    """Shades 0..1 of values in a window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Raises:
        DataError: an unknown function, or a width that it is not defined for.

    >>> windowed(np.array([0.0, 49.5, 99.0]), 50, 100).tolist()
    [0.0, 0.5, 1.0]
    """
    if function not in WINDOWS:
        cure = did_you_mean(function, WINDOWS)
        raise DataError(Problem(f"(0028,1056) VOILUTFunction is {function!r:.60}", shown, cure=cure))
    least = 1 if function == "LINEAR" else 0
    if width < least or width == 0:
        cure = "expected 1 or more" if least else "expected more than 0"
        raise DataError(Problem(f"(0028,1051) WindowWidth is {width:g}", shown, cure=cure))
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return np.asarray(values > centre, dtype=np.float64)
    return np.asarray(np.clip((values - centre) / width + 0.5, 0, 1))


def _looked_up(values: Values, item: Dataset, tag: str, shown: str) -> tuple[Values, int]:
    """What a table (PS3.3 C.11.1.1) makes of values, and how many bits its entries have."""
    try:
        count, first, bits = (int(v) for v in item.LUTDescriptor)
        data = item.LUTData
        count = count % 2**16 or 2**16
        if isinstance(data, bytes):  # two entries of 8 bits may share a word
            data = np.frombuffer(data, dtype=np.uint8 if len(data) < 2 * count else "<u2")
        entries = np.asarray(data, dtype=np.float64)[:count]
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(Problem(f"{tag} is damaged ({error})", shown)) from error
    if len(entries) < count or not 1 <= bits <= 16:
        found = f"{len(entries)} entries of {bits} bits"
        raise DataError(Problem(f"{tag} has {found}", shown, cure=f"expected {count} entries of 8 to 16 bits"))
    return entries[np.clip(values - first, 0, count - 1).astype(np.intp)], bits


def _range(values: Values, counts: NDArray[np.intp], header: Dataset, shown: str) -> tuple[float, float]:
    """What becomes 0 and 1 where the film does not say what is of interest."""
    bits, signed = int(header.BitsStored), bool(header.PixelRepresentation)
    if bits <= 8:
        whole = np.array([0.0, 2**bits - 1]) - (2 ** (bits - 1) if signed else 0)
        ends = _modality(whole, header, shown)
        return float(ends.min()), float(ends.max())
    order = np.argsort(values, kind="stable")
    below = np.cumsum(counts[order])
    if below[-1] == 0:
        return 0.0, 0.0
    at = np.searchsorted(below, np.array([0.005, 0.995]) * below[-1])
    low, high = values[order[at]]
    return float(low), float(high)


def _padding(stored: Values, header: Dataset) -> NDArray[np.bool_]:
    """Which stored values stand for no image (PS3.3 C.7.5.1.1.2)."""
    one = header.get("PixelPaddingValue")
    if not isinstance(one, int):
        return np.zeros(len(stored), dtype=np.bool_)
    other = header.get("PixelPaddingRangeLimit")
    ends = sorted((one, other if isinstance(other, int) else one))
    return np.asarray((stored >= ends[0]) & (stored <= ends[1]))


def _number(header: Dataset, word: str, tag: str, default: float, shown: str) -> float:
    """A decimal of the header, the first one of several."""
    value: Any = header.get(word)
    if value is None:
        return default
    try:
        number = float(value if isinstance(value, (str, int, float)) else value[0])
    except (TypeError, ValueError, IndexError):
        number = np.nan
    if not np.isfinite(number):
        raise DataError(Problem(f"{tag} {word} is {str(value)!r:.60}", shown, cure="expected a number"))
    return number
