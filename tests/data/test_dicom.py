"""DICOM films: what is seen, against pydicom's own functions and by hand; and what cannot be read, in one message each."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from neurosym.data import dicom_decoding
from neurosym.data.dicom import read_dicom
from neurosym.data.dicom_decoding import decode_apart
from neurosym.errors import DataError
from tests.data.dicom_files import dicom_dataset, stored, table, write_dicom, written_films


def as_pydicom(path: Path) -> np.ndarray:
    """The film by pydicom's functions, scaled from the range they map to."""
    film = dcmread(path)
    shown = apply_voi_lut(apply_modality_lut(film.pixel_array, film), film).astype(float)
    if film.get("VOILUTSequence"):
        low, high = 0.0, 2.0 ** film.VOILUTSequence[0].LUTDescriptor[2] - 1
    else:
        low, high = (-(2.0 ** (film.BitsStored - 1)), 2.0 ** (film.BitsStored - 1) - 1) if film.PixelRepresentation else (
            0.0, 2.0**film.BitsStored - 1,
        )  # fmt: skip
        slope, intercept = float(film.get("RescaleSlope", 1)), float(film.get("RescaleIntercept", 0))
        low, high = low * slope + intercept, high * slope + intercept
    grey = (shown - low) / (high - low)
    return 1 - grey if film.PhotometricInterpretation == "MONOCHROME1" else grey


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": 1800, "WindowWidth": 900},
        {"WindowCenter": [1800, 10], "WindowWidth": [900, 10]},
        {"WindowCenter": 1800, "WindowWidth": 900, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 1800, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 1800, "WindowWidth": 1},
        {"WindowCenter": -100, "WindowWidth": 1500, "RescaleSlope": 0.5, "RescaleIntercept": -1024},
        {"WindowCenter": 1800, "WindowWidth": 900, "VOILUTSequence": [table(np.arange(3000) % 1024, 500, 10)]},
    ],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_film_looks_as_pydicom_shows_it(tags: dict[str, Any], photometric: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", stored(), PhotometricInterpretation=photometric, **tags)
    film = read_dicom(path)
    assert film.grey == pytest.approx(as_pydicom(path), abs=1e-6)
    assert film.image.dtype == np.uint8
    assert np.abs(film.image / 255 - film.grey).max() <= 0.5 / 255 + 1e-6


@settings(max_examples=25)
@given(
    bits=st.integers(9, 16),
    signed=st.booleans(),
    centre=st.floats(-3e4, 3e4),
    width=st.floats(1.5, 3e4),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_any_window_of_any_depth_agrees_with_pydicom(
    bits: int, signed: bool, centre: float, width: float, function: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tags = {"WindowCenter": f"{centre:.6g}", "WindowWidth": f"{width:.6g}", "VOILUTFunction": function}
    pixels = stored(bits, bits=bits, signed=signed)
    path = write_dicom(tmp_path_factory.mktemp("w") / "a.dcm", pixels, bits, **tags)
    with np.errstate(over="ignore"):
        expected = as_pydicom(path)
    assert read_dicom(path).grey == pytest.approx(expected, abs=1e-5)


def test_the_films_that_fuzzing_starts_from_are_films(tmp_path: Path) -> None:
    read = [read_dicom(path) for path in written_films(tmp_path)]
    assert {film.grey.shape for film in read} == {(8, 10)}
    assert len({film.image.tobytes() for film in read}) == len(read), "each is shown in a way of its own"
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 4096, "fuzzed inputs are not longer"


def test_a_modality_table_comes_before_the_window(tmp_path: Path) -> None:
    pixels = stored()
    entries = (np.arange(4096) ** 2) // 300 % 65536
    tags = {"ModalityLUTSequence": [table(entries, 0, 16)], "WindowCenter": 20000, "WindowWidth": 30001}
    film = read_dicom(write_dicom(tmp_path / "a.dcm", pixels, **tags))
    assert film.grey == pytest.approx(np.clip((entries[pixels] - 19999.5) / 30000 + 0.5, 0, 1), abs=1e-6)


def test_a_table_of_8_bit_entries_may_have_more_than_256_of_them(tmp_path: Path) -> None:
    pixels = stored()
    entries = 255 - np.arange(4096) // 16
    film = read_dicom(write_dicom(tmp_path / "a.dcm", pixels, VOILUTSequence=[table(entries, 0, 8)]))
    assert (film.image == entries[pixels]).all()


def test_without_window_8_bits_stay_and_deeper_films_show_their_percentiles(tmp_path: Path) -> None:
    shallow, deep = stored(bits=8), stored(bits=14)
    assert (read_dicom(write_dicom(tmp_path / "8.dcm", shallow, 8)).image == shallow).all()
    low, high = np.percentile(deep, (0.5, 99.5), method="inverted_cdf")
    grey = read_dicom(write_dicom(tmp_path / "14.dcm", deep, 14)).grey
    assert grey == pytest.approx(np.clip((deep.astype(float) - low) / (high - low), 0, 1), abs=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_changes_nothing_else(photometric: str, tmp_path: Path) -> None:
    pixels = stored(bits=11) + 100
    padded = pixels.copy()
    padded[:5] = 4095
    tags = {"PhotometricInterpretation": photometric, "PixelPaddingValue": 4095}
    grey = read_dicom(write_dicom(tmp_path / "a.dcm", padded, **tags)).grey
    alone = read_dicom(write_dicom(tmp_path / "b.dcm", pixels[5:], PhotometricInterpretation=photometric)).grey
    assert (grey[:5] == 0).all()
    assert grey[5:] == pytest.approx(alone)


def test_an_interrupted_film_is_not_taken_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write_dicom(tmp_path / f"{n}.dcm", stored(n), syntax=JPEG2000Lossless) for n in range(2)]
    expected = decode_apart(paths[1])

    def interrupt(text: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dicom_decoding.json, "loads", interrupt)
        with pytest.raises(KeyboardInterrupt):
            decode_apart(paths[0])
    assert (decode_apart(paths[1]) == expected).all()


SYNTAXES = [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda u: u.name)
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (10, False), (12, True), (16, False), (16, True)])
def test_lossless_syntaxes_show_the_same_film(syntax: str, bits: int, signed: bool, tmp_path: Path) -> None:
    pixels = stored(bits=bits, signed=signed)
    tags = {"WindowCenter": 2 ** (bits - 2), "WindowWidth": 2 ** (bits - 1)}
    plain = read_dicom(write_dicom(tmp_path / "plain.dcm", pixels, bits, **tags))
    packed = read_dicom(write_dicom(tmp_path / "packed.dcm", pixels, bits, syntax, **tags))
    assert (plain.grey == packed.grey).all()


def lossless_jpeg(plain: Path, packed: Path) -> Path:
    """The film in lossless JPEG (process 14), which GDCM alone writes."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(packed))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return packed


def test_lossless_jpeg_of_16_bits_is_read(tmp_path: Path) -> None:
    plain = write_dicom(tmp_path / "plain.dcm", stored(bits=16), 16)
    packed = read_dicom(lossless_jpeg(plain, tmp_path / "packed.dcm"))
    assert "Process 14" in packed.header.file_meta.TransferSyntaxUID.name
    assert (packed.grey == read_dicom(plain).grey).all()


def test_a_decoder_that_dies_of_a_film_costs_that_film_alone(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", stored(), syntax=JPEG2000Lossless)
    first = decode_apart(path)
    process = dicom_decoding._running
    assert process is not None
    os.kill(process[1].pid, signal.SIGSTOP)  # so that it is in the middle of the film when it dies
    threading.Timer(0.2, lambda: os.kill(process[1].pid, signal.SIGABRT)).start()
    threading.Timer(0.3, lambda: os.kill(process[1].pid, signal.SIGCONT)).start()
    with pytest.raises(DataError, match=r"a.dcm: .*the decoder died of it, exit code -6"):
        read_dicom(path)
    assert (decode_apart(path) == first).all()


def test_baseline_jpeg_is_read_within_its_loss(tmp_path: Path) -> None:
    pixels = stored(bits=8)
    film = read_dicom(write_dicom(tmp_path / "a.dcm", pixels, 8, JPEGBaseline8Bit))
    assert np.abs(film.image.astype(int) - pixels).max() <= 4


def test_big_endian_is_read(tmp_path: Path) -> None:
    pixels = stored()
    film = dicom_dataset(pixels, WindowCenter=2048, WindowWidth=4096)
    film.PixelData = pixels.astype(">u2").tobytes()
    film.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    film.save_as(tmp_path / "big.dcm", implicit_vr=False, little_endian=False, enforce_file_format=True)
    little = read_dicom(write_dicom(tmp_path / "little.dcm", pixels, WindowCenter=2048, WindowWidth=4096))
    assert (read_dicom(tmp_path / "big.dcm").grey == little.grey).all()


def test_the_calibrated_spacing_goes_before_the_detector_s(tmp_path: Path) -> None:
    tags = {"ImagerPixelSpacing": [0.2, 0.3], "PixelSpacing": [0.1, 0.15]}
    film = read_dicom(write_dicom(tmp_path / "a.dcm", stored(), **tags))
    assert (film.pixel_spacing, film.spacing_tag) == ((0.1, 0.15), "PixelSpacing")
    film = read_dicom(write_dicom(tmp_path / "b.dcm", stored(), ImagerPixelSpacing=[0.2, 0.3]))
    assert (film.pixel_spacing, film.spacing_tag) == ((0.2, 0.3), "ImagerPixelSpacing")
    film = read_dicom(write_dicom(tmp_path / "c.dcm", stored(), PixelSpacing=[0, 0]))
    assert (film.pixel_spacing, film.spacing_tag) == (None, "")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Rows": None, "BitsStored": None}, "no (0028,0010) Rows; expected a DICOM image"),
        ({"Rows": None, "BitsStored": None}, "no (0028,0101) BitsStored"),
        ({"PixelData": None}, "no (7FE0,0010) PixelData"),
        ({"NumberOfFrames": 3}, "(0028,0008) NumberOfFrames is 3; expected 1"),
        (
            {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 15},
            "(0028,0102) HighBit is 15; expected 11, BitsStored - 1",
        ),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "is PALETTE COLOR; expected MONOCHROME1 or MONOCHROME2"),
        ({"Rows": 60000, "Columns": 60000}, "(0028,0010) Rows is 60000; expected at most 134 million pixels"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "(0028,1051) WindowWidth is 0; expected 1 or more"),
        ({"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "SIGMOIDAL"}, "did you mean 'SIGMOID'?"),
        ({"VOILUTSequence": [table(np.arange(9), 0, 17)]}, "(0028,3010) VOILUTSequence has 9 entries of 17 bits"),
    ],
)
def test_a_film_that_cannot_be_read_names_the_tag(tags: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", stored(), **tags)
    with pytest.raises(DataError) as error:
        read_dicom(path)
    assert message in str(error.value)
    assert all(p.file == str(path) for p in error.value.problems)


def test_a_film_in_colour_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((8, 8, 3), np.uint8), 8)
    with pytest.raises(DataError, match=r"\(0028,0002\) SamplesPerPixel is 3; expected 1: films in colour"):
        read_dicom(path)


def test_what_is_no_dicom_file_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"P5 1 1 255 " * 30)
    for name, message in (("a.dcm", "is no DICOM file"), ("b.dcm", "film not found")):
        with pytest.raises(DataError, match=message):
            read_dicom(tmp_path / name)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda u: u.name)
def test_a_file_cut_anywhere_is_one_message_or_the_whole_film(syntax: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", stored(), syntax=syntax)
    whole, content = read_dicom(path).grey, path.read_bytes()
    for length in range(0, len(content), 67):
        path.write_bytes(content[:length])
        found = film_or_message(path)
        if isinstance(found, str):
            assert str(path) in found
        else:
            assert found.shape == whole.shape
            assert length > len(content) - 128


def film_or_message(path: Path) -> np.ndarray | str:
    """The film, or why it cannot be read."""
    try:
        return read_dicom(path).grey
    except DataError as error:
        return str(error)


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_file_never_crashes(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write_dicom(tmp_path_factory.mktemp("f") / "a.dcm", stored(shape=(9, 8)), WindowCenter=5, WindowWidth=9)
    content = bytearray(path.read_bytes())
    for at, byte in data.draw(st.lists(st.tuples(st.integers(132, len(content) - 1), st.integers(0, 255)), max_size=4)):
        content[at] = byte
    path.write_bytes(bytes(content))
    found = film_or_message(path)
    assert found.size if isinstance(found, np.ndarray) else str(path) in found
