"""DICOM films for tests, written by pydicom and compressed by other libraries."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless, generate_uid

CR = "1.2.840.10008.5.1.4.1.1.1"


def stored(seed: int = 0, shape: tuple[int, int] = (41, 36), bits: int = 12, signed: bool = False) -> np.ndarray:
    """Smooth values of all sizes that the bits hold."""
    rows, columns = np.indices(shape)
    wave = np.sin(rows / 5 + seed) + np.cos(columns / 7)
    spread = (wave - wave.min()) / (wave.max() - wave.min()) * (2**bits - 1)
    return (np.round(spread) - (2 ** (bits - 1) if signed else 0)).astype(
        {(True, True): np.int8, (True, False): np.uint8, (False, True): np.int16}.get((bits <= 8, signed), np.uint16)
    )


def _uid(pixels: np.ndarray, what: str) -> str:
    """The same for the same pixels, so that a film has always the same bytes."""
    return str(generate_uid(entropy_srcs=[what, hashlib.sha256(pixels.tobytes()).hexdigest()]))


def dicom_dataset(pixels: np.ndarray, bits: int = 12, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Dataset:
    """A CR image; `tags` are set last, None takes one away."""
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = CR
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = str(
        tags.get("SOPInstanceUID") or _uid(pixels, "film")
    )
    film.StudyInstanceUID, film.SeriesInstanceUID = _uid(pixels, "study"), _uid(pixels, "series")
    film.PatientID, film.PatientName, film.Modality = "4711", "Doe^Jane", "CR"
    film.Rows, film.Columns = pixels.shape[:2]
    film.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    film.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        film.PlanarConfiguration = 0
    film.BitsAllocated = 8 * pixels.dtype.itemsize
    film.BitsStored, film.HighBit = bits, bits - 1
    film.PixelRepresentation = int(pixels.dtype.kind == "i")
    film.file_meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian)
    if syntax == JPEGBaseline8Bit:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=95)
        film.PixelData = encapsulate([stream.getvalue()])
        film["PixelData"].VR = "OB"
        film["PixelData"].is_undefined_length = True
        film.file_meta.TransferSyntaxUID = UID(syntax)
    else:
        film.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
        film["PixelData"].VR = "OB" if film.BitsAllocated == 8 else "OW"
        if syntax != ExplicitVRLittleEndian:
            # GDCM, which pydicom would take first, aborts the process on some films
            plugin = "pydicom" if syntax == RLELossless else ""
            film.compress(UID(syntax), encoding_plugin=plugin, generate_instance_uid=False)
    for word, value in tags.items():
        if value is None:
            delattr(film, word)
        else:
            setattr(film, word, value)
    return film


def write_dicom(
    path: Path, pixels: np.ndarray, bits: int = 12, syntax: str = ExplicitVRLittleEndian, **tags: Any
) -> Path:
    """The same as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dicom_dataset(pixels, bits, syntax, **tags).save_as(path, enforce_file_format=True)
    return path


def table(entries: np.ndarray, first: int, bits: int) -> Dataset:
    """A look-up table of the entries for the stored values from `first` on."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def written_films(folder: Path) -> list[Path]:
    """A small film of each way in which uncompressed grey values are stored and shown."""
    shape, ramp = (8, 10), np.arange(64)
    ways: list[dict[str, Any]] = [
        {},
        {"bits": 8},
        {"bits": 16, "PhotometricInterpretation": "MONOCHROME1"},
        {"signed": True, "RescaleSlope": 0.5, "RescaleIntercept": -1024, "WindowCenter": -100, "WindowWidth": 1500},
        {"WindowCenter": [1800, 10], "WindowWidth": [900, 10], "VOILUTFunction": "SIGMOID", "PixelSpacing": [0.1, 0.2]},
        {"VOILUTFunction": "LINEAR_EXACT", "WindowCenter": 1800, "WindowWidth": 900},
        {"VOILUTSequence": [table(ramp, 500, 10)]},
        {"ModalityLUTSequence": [table(ramp, -3, 16)]},
    ]
    return [
        write_dicom(folder / f"{n}.dcm", stored(n, shape, way.get("bits", 12), way.pop("signed", False)), **way)
        for n, way in enumerate(ways)
    ]
