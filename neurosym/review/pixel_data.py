"""PixelData with nothing but pixels: what a film's stream holds beside them may say whose film it is.

    uncompressed, RLE           bits above BitsStored (retired overlays lie there), bytes after rows × columns
    JPEG, JPEG-LS               comments and application segments (ISO/IEC 10918-1 B.2.4), bytes after the end of the image
    JPEG 2000, HTJ2K            comments of the main header are emptied (ISO/IEC 15444-1 A.9.2); bytes after the end

The pixels that a decoder sees stay as they are. Of JPEG and its kin bits above BitsStored are not looked for, since lossy
streams cannot be changed without loss, nor are comments within the tiles of JPEG 2000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from neurosym.errors import ReviewError

if TYPE_CHECKING:
    from pydicom import Dataset

_RLE: Final = "1.2.840.10008.1.2.5"
_JPEG: Final = ("1.2.840.10008.1.2.4.5", "1.2.840.10008.1.2.4.7", "1.2.840.10008.1.2.4.8")
"""How the syntaxes of JPEG and JPEG-LS begin."""
_JPEG_2000: Final = ("1.2.840.10008.1.2.4.9", "1.2.840.10008.1.2.4.20")
_COMMENT, _START_OF_SCAN, _END = 0xFE, 0xDA, 0xD9
_RESTARTS: Final = range(0xD0, 0xD8)
_DAMAGED: Final = "its compressed pixels cannot be told from what else their stream holds"


def pixels_alone(film: Dataset) -> Dataset:
    """How a film of one grey frame stores its pixels, and PixelData with nothing beside them.

    Raises:
        ReviewError: a stream that cannot be taken apart.
    """
    from pydicom import DataElement, Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate, generate_frames

    syntax = film.file_meta.TransferSyntaxUID
    bare = Dataset()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = syntax
    for word in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        if word in film:
            bare[word] = film[word]
    bare.PhotometricInterpretation = film.PhotometricInterpretation
    pixels = film["PixelData"]
    bare["PixelData"] = DataElement(pixels.tag, pixels.VR, pixels.value)  # the film's own is not to change
    if syntax == _RLE or not syntax.is_encapsulated:
        return _within_bits(bare)
    try:
        frame = b"".join(generate_frames(film.PixelData, number_of_frames=1))
        if syntax.startswith(_JPEG):
            frame = without_segments(frame)
        elif syntax.startswith(_JPEG_2000):
            frame = without_comments(frame)
        else:
            raise ValueError(syntax.name)
    except (ValueError, IndexError) as error:
        raise ReviewError(_DAMAGED) from error
    bare.PixelData = encapsulate([frame])
    bare["PixelData"].VR = "OB"
    bare["PixelData"].is_undefined_length = True
    return bare


def _within_bits(bare: Dataset) -> Dataset:
    """The same with bits above BitsStored as the standard has them: 0, or copies of the sign."""
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import ExplicitVRLittleEndian

    syntax = bare.file_meta.TransferSyntaxUID
    if syntax == _RLE:
        pixels = pixel_array(bare, decoding_plugin="pydicom")
    else:
        order = "<" if syntax.is_little_endian else ">"
        kind = np.dtype(f"{order}{'i' if bare.PixelRepresentation else 'u'}{bare.BitsAllocated // 8}")
        count = bare.Rows * bare.Columns
        if len(bare.PixelData) < count * kind.itemsize:
            raise ReviewError("PixelData is shorter than rows × columns")
        swapped = order == ">" and kind.itemsize == 1 and bare["PixelData"].VR == "OW"  # bytes in words
        content = _swapped(bare.PixelData) if swapped else bare.PixelData
        pixels = np.frombuffer(content, kind, count)
    unused = 8 * pixels.dtype.itemsize - bare.BitsStored
    content = ((pixels << unused) >> unused).astype(pixels.dtype).tobytes()
    content += b"\0" * (len(content) % 2)
    if syntax != _RLE:
        bare.PixelData = _swapped(content) if swapped else content
        return bare
    bare.PixelData = content
    bare["PixelData"].VR = "OB" if bare.BitsAllocated == 8 else "OW"
    bare.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    bare.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
    return bare


def _swapped(words: bytes) -> bytes:
    return np.frombuffer(words, "<u2", len(words) // 2).byteswap().tobytes()


def without_segments(stream: bytes) -> bytes:
    """A JPEG or JPEG-LS stream without comments, application segments, and what follows its end.

    Raises:
        ValueError: no such stream, or one without an end. IndexError: it is cut.

    >>> without_segments(bytes.fromhex("ffd8 fffe 0004 4a44 ffda 0002 01ff00 02 ffd9 4a44")).hex(" ", 2)
    'ffd8 ffda 0002 01ff 0002 ffd9'
    """
    if stream[:2] != b"\xff\xd8":
        raise ValueError("no JPEG")
    kept, at = [stream[:2]], 2
    while True:
        if stream[at] != 0xFF:
            raise ValueError("no marker where one is expected")
        while stream[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = stream[at + 1]
        if marker == _END:
            found = b"".join([*kept, b"\xff\xd9"])
            return found + b"\0" * (len(found) % 2)
        length = int.from_bytes(stream[at + 2 : at + 4], "big")
        if length < 2:
            raise ValueError("a segment without a length")
        end = at + 2 + length
        if marker == _START_OF_SCAN:
            end = _end_of_scan(stream, end)
        if marker != _COMMENT and not 0xE0 <= marker <= 0xEF:
            kept.append(stream[at:end])
        at = end


def _end_of_scan(stream: bytes, at: int) -> int:
    """Where the next marker but a restart begins; after FF a byte below 80 is data (00 alone in JPEG, any in JPEG-LS)."""
    while True:
        at = stream.find(b"\xff", at)
        if at < 0:
            raise ValueError("no end of the image")
        if stream[at + 1] >= 0x80 and stream[at + 1] not in _RESTARTS:
            return at
        at += 2


def without_comments(stream: bytes) -> bytes:
    """A JPEG 2000 codestream whose main header has empty comments, without what follows its end; no length changes.

    Raises:
        ValueError: no such codestream (the file format JP2 is none), or one without an end. IndexError: it is cut.
    """
    if stream[:4] != b"\xff\x4f\xff\x51":
        raise ValueError("no codestream")
    found, at = bytearray(stream), 2
    while stream[at : at + 2] != b"\xff\x90":
        length = int.from_bytes(stream[at + 2 : at + 4], "big")
        if stream[at] != 0xFF or length < 2:
            raise ValueError("no marker where one is expected")
        if stream[at + 1] == 0x64:
            found[at + 6 : at + 2 + length] = b"\0" * (length - 4)
        at += 2 + length
    while stream[at : at + 2] == b"\xff\x90":  # a part of a tile says how long it is
        length = int.from_bytes(stream[at + 6 : at + 10], "big")
        at = at + length if length else stream.rindex(b"\xff\xd9")
    if stream[at : at + 2] != b"\xff\xd9":
        raise ValueError("no end of the image")
    return bytes(found[: at + 2]) + b"\0" * (at % 2)
