"""One DICOM film: a grey picture as it is to be seen, its header, and how large a pixel is.

Read are single frames of grey, 8 to 16 bits, signed or not, in every transfer syntax that pydicom has a decoder for: with the
extra `dicom` these are uncompressed, RLE, JPEG (baseline, 12 bits, lossless), JPEG-LS and JPEG 2000. What cannot be read is one
message a mistake, naming the tag. Overlays and what a viewer draws beside the film are not part of it.
"""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from neurosym.data.dicom_decoding import DecodingError, decode_apart
from neurosym.data.dicom_grey import grey_of
from neurosym.errors import DataError, Problem, short_path

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM_SUFFIXES: Final = (".dcm", ".dicom", ".dic")
MOST_PIXELS: Final = 2**27
"""Of a film; a header that claims more is damaged, or meant to exhaust the memory."""
_NEEDED: Final = {
    "Rows": "(0028,0010)",
    "Columns": "(0028,0011)",
    "SamplesPerPixel": "(0028,0002)",
    "PhotometricInterpretation": "(0028,0004)",
    "BitsAllocated": "(0028,0100)",
    "BitsStored": "(0028,0101)",
    "PixelRepresentation": "(0028,0103)",
}
_SPACINGS: Final = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
logging.getLogger("pydicom").setLevel(logging.ERROR)  # it tells of each value that strays from the standard


@dataclass(frozen=True)
class DicomFilm:
    """A film: `grey` (height, width) from 0 black to 1 white, and its header without pixels.

    `pixel_spacing` is (between rows, between columns) in millimetres, None where the file does not say; `spacing_tag` says by
    which attribute: PixelSpacing, else ImagerPixelSpacing (at the detector, not corrected for magnification), else
    NominalScannedPixelSpacing.
    """

    path: Path
    grey: NDArray[np.float32]
    header: Dataset
    pixel_spacing: tuple[float, float] | None = None
    spacing_tag: str = ""

    @property
    def image(self) -> NDArray[np.uint8]:
        """The film in 8 bits, as a model sees it."""
        return np.asarray(self.grey * 255 + 0.5, dtype=np.uint8)


def read_dicom(path: Path) -> DicomFilm:
    """Read one film.

    Raises:
        DataError: missing, no DICOM, truncated, without pixels, in colour, of several frames, or in a syntax that no
            installed package decodes; all that is wrong with a header is told at once.
    """
    header = read_dicom_header(path)
    shown = short_path(path)
    problems = [Problem(message, shown, cure=cure) for message, cure in _unfit(header)]
    if problems:
        raise DataError(problems)
    grey = grey_of(_stored(path, header, shown), header, shown)
    return DicomFilm(path, grey, header, *_spacing(header))


def read_dicom_header(path: Path) -> Dataset:
    """A DICOM file without its pixels.

    Raises:
        DataError: missing, no DICOM, truncated, or deflated.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    shown = short_path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # asked before the rest, which pydicom would inflate without a limit
            deflated = read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED
            header = None if deflated else pydicom.dcmread(path, stop_before_pixels=True)
            if header is not None:
                for part in (header.file_meta, header):
                    part.walk(lambda *_: None)  # elements are parsed when they are asked for: damage shows now
    except FileNotFoundError as error:
        raise DataError(Problem("film not found", shown)) from error
    except InvalidDicomError as error:
        cure = "expected the letters DICM after 128 bytes"
        raise DataError(Problem("is no DICOM file", shown, cure=cure)) from error
    except Exception as error:  # pydicom lets whatever a damaged file causes pass through
        raise DataError(Problem(f"cannot be read as DICOM ({_said(error)})", shown)) from error
    if header is None:
        cure = "save it uncompressed, e.g. by dcmconv +te"
        raise DataError(Problem("(0002,0010) TransferSyntaxUID: deflated files are not read", shown, cure=cure))
    return header


def _unfit(header: Dataset) -> list[tuple[str, str]]:
    """Why the pixels of a header cannot be a film, each with what was expected."""
    missing = [word for word in _NEEDED if header.get(word) is None]
    if missing:
        return [(f"no {_NEEDED[word]} {word}", "expected a DICOM image") for word in missing]
    found = {word: header.get(word) for word in _NEEDED}
    whole = [w for w in _NEEDED if w != "PhotometricInterpretation" and not isinstance(found[w], int)]
    if whole:
        return [(f"{_NEEDED[w]} {w} is {found[w]!r:.60}", "expected a whole number") for w in whole]
    wrong = []

    def expect(word: str, right: bool, what: str) -> None:
        if not right:
            wrong.append((f"{_NEEDED[word]} {word} is {found[word]!s:.60}", f"expected {what}"))

    grey = found["SamplesPerPixel"] == 1
    expect("SamplesPerPixel", grey, "1: films in colour are not read")
    shade = found["PhotometricInterpretation"] in ("MONOCHROME1", "MONOCHROME2")
    expect("PhotometricInterpretation", shade or not grey, "MONOCHROME1 or MONOCHROME2")
    expect("BitsAllocated", found["BitsAllocated"] in (8, 16), "8 or 16")
    expect("BitsStored", 1 <= found["BitsStored"] <= max(found["BitsAllocated"], 1), "1 to BitsAllocated")
    high, last = header.get("HighBit"), found["BitsStored"] - 1
    if high is not None and high != last:
        wrong.append((f"(0028,0102) HighBit is {high!s:.60}", f"expected {last}, BitsStored - 1"))
    expect("PixelRepresentation", found["PixelRepresentation"] in (0, 1), "0 or 1")
    rows, columns = found["Rows"], found["Columns"]
    expect("Rows", rows > 0, "1 or more")
    expect("Columns", columns > 0, "1 or more")
    expect("Rows", rows * columns <= MOST_PIXELS, f"at most {MOST_PIXELS // 10**6} million pixels")
    frames = header.get("NumberOfFrames") or 1
    if frames != 1:
        wrong.append((f"(0028,0008) NumberOfFrames is {frames!s:.60}", "expected 1: split it into single frames"))
    return wrong


def stored_values(path: Path, header: Dataset) -> np.ndarray:
    """The stored values of a file as they are laid out in it; compressed ones are decoded in a process of their own.

    Raises:
        DataError: there are none, they are damaged, or no installed package decodes them.
    """
    from pydicom.pixels.utils import pixel_array

    shown = short_path(path)
    try:
        if _is_compressed(header, shown):
            return decode_apart(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(pixel_array(path))
    except DataError:
        raise
    except Exception as error:  # pydicom lets whatever a damaged file causes pass through
        said = str(error) if isinstance(error, DecodingError) else _said(error)
        if "no pixel data to decode" in str(error):
            raise DataError(Problem("no (7FE0,0010) PixelData", shown, cure="expected a DICOM image")) from error
        message = f"(7FE0,0010) PixelData cannot be decoded ({said})"
        raise DataError(Problem(message, shown, cure="is the file truncated?")) from error


def _stored(path: Path, header: Dataset, shown: str) -> np.ndarray:
    """The (height, width) stored values."""
    pixels = stored_values(path, header)
    if pixels.dtype.kind not in "iu":
        raise DataError(Problem("no (7FE0,0010) PixelData", shown, cure="films of floating-point pixels are not read"))
    if pixels.shape != (header.Rows, header.Columns):
        found, said = "×".join(map(str, pixels.shape)), f"{header.Rows}×{header.Columns}"
        raise DataError(Problem(f"(7FE0,0010) PixelData has {found} pixels; its header says {said}", shown))
    return pixels


def _is_compressed(header: Dataset, shown: str) -> bool:
    """Whether the pixels need a decoder, which is there."""
    from pydicom.pixels.decoders.base import get_decoder

    syntax = getattr(header, "file_meta", {}).get("TransferSyntaxUID")
    if syntax is None:
        raise DataError(Problem("no (0002,0010) TransferSyntaxUID", shown, cure="it says how the pixels are stored"))
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        message = f"(0002,0010) TransferSyntaxUID is {syntax.name!s:.60}"
        raise DataError(Problem(message, shown, cure="its pixels cannot be decoded")) from error
    if not decoder.is_available:
        what = "; ".join(decoder.missing_dependencies)
        cure = "pip install 'neurosym-imaging[dicom]'; pylibjpeg-libjpeg would do it too, but is under the GPL"
        raise DataError(Problem(f"no decoder of {syntax.name} ({what})", shown, cure=cure))
    return bool(syntax.is_compressed)


def _spacing(header: Dataset) -> tuple[tuple[float, float] | None, str]:
    """Millimetres between rows and between columns, and the attribute that says so."""
    for word in _SPACINGS:
        try:
            rows, columns = (float(v) for v in header.get(word) or ())
        except (TypeError, ValueError):
            continue
        if all(math.isfinite(v) and v > 0 for v in (rows, columns)):
            return (rows, columns), word
    return None, ""


def _said(error: Exception) -> str:
    """The first line of another library's message, cut to what a line holds."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]:.160}" if lines[0] else type(error).__name__
