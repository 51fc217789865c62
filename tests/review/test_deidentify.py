"""Against the table of PS3.15 E.1-1 as dicom-anonymizer has it: a film that has every attribute of it is de-identified."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neurosym.data.film_files import FilmFile, read_film_file
from neurosym.data.masks import encode_mask
from neurosym.errors import ReviewError
from neurosym.knowledge import Knowledge
from neurosym.records import Box, Detection, Scene
from neurosym.review.deidentify import NO_DATE, NO_TIME, NOBODY, deidentified
from neurosym.review.findings import Findings
from neurosym.review.pseudonyms import Pseudonyms

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
table = pytest.importorskip("dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c")

from pydicom import DataElement, Dataset  # noqa: E402
from pydicom.datadict import dictionary_VR, keyword_for_tag  # noqa: E402

from neurosym.review.film_predictions import Wanted, predict_films  # noqa: E402
from neurosym.review.segmentation import FILLED  # noqa: E402
from tests.review.clinic_films import film_with_square  # noqa: E402

CANARY = "ZQXJKW"
DATED = {"DA": "19991231", "TM": "235957", "DT": "19991231235957"}
UID = "1.2.826.0.1.99999.4711"
PROFILE = {(t[0] << 16 | t[1]) for t in table.ALL_TAGS if len(t) == 2}
OURS = {"ContentSequence", "ContributingEquipmentSequence"}
"""What the profile would take away, and what is made here: the findings, and the name of the library that writes them."""


def value_of(vr: str) -> object:
    if vr in DATED:
        return DATED[vr]
    if vr == "UI":
        return UID
    if vr == "SQ":
        item = Dataset()
        item.PatientName, item.PatientBirthDate = CANARY, DATED["DA"]
        return [item]
    if vr in ("OB", "OW", "UN", "OB or OW"):
        return CANARY.encode()
    if vr == "AS":
        return "099Y"
    if vr in ("DS", "IS"):
        return "4711"
    if vr in ("US", "SS", "UL", "SL", "FD", "FL", "AT"):
        return 4711
    return CANARY


def film_of_everything() -> Dataset:
    """A film with every attribute that the profile names, private ones, and more in the sequences that are kept."""
    film = film_with_square(60, 90)
    for tag in sorted(PROFILE):
        vr = dictionary_VR(tag) if keyword_for_tag(tag) else ""
        if tag >> 16 > 2 and vr and tag not in film and vr != "OX":
            film.add(DataElement(tag, "OB" if vr == "OB or OW" else vr, value_of(vr)))
    film.FrameOfReferenceUID = UID
    block = film.private_block(0x0099, "A MAKER", create=True)
    block.add_new(1, "LO", CANARY)
    table_item = Dataset()
    table_item.LUTDescriptor, table_item.LUTData, table_item.LUTExplanation = (
        [4, 0, 16],
        bytes([0, 0, 0, 40, 0, 80, 0, 120]),
        CANARY,
    )
    table_item.ModalityLUTType = "US"
    film.ModalityLUTSequence = [table_item]
    return film


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, thorax: Knowledge) -> tuple[Dataset, dict[str, Dataset]]:
    """The film, and what is made of it."""
    folder = tmp_path_factory.mktemp("films")
    source = film_of_everything()
    source.save_as(folder / "a.dcm", enforce_file_format=True)
    mask = np.zeros((60, 90), np.uint8)
    mask[3:9, 5:50] = 1
    found = (
        Detection("nodule", Box(5, 3, 50, 9), 0.9, encode_mask(mask)),
        Detection("left_lung", Box(1, 1, 9, 9), 0.8),
    )

    def detect(samples: object) -> list[Scene]:
        return [Scene(s.image_id, 90, 60, found) for s in samples]  # type: ignore[attr-defined]

    findings = Findings(thorax, ("nodule", "left_lung"))
    wanted = Wanted(("film", "seg", "sr"), Pseudonyms(b"a key of a clinic"))
    file = FilmFile(folder / "a.dcm", "a.dcm", True)
    assert read_film_file(file) is not None
    done = predict_films(folder / "out", [file], detect, findings, {}, wanted)
    assert done.skipped == {}
    return source, {kind: pydicom.dcmread(next((folder / "out" / kind).iterdir())) for kind in wanted.kinds}


def elements(dataset: Dataset, within: str = "") -> Iterator[tuple[str, DataElement]]:
    for element in dataset:
        yield within, element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item, within or element.keyword)


def test_the_source_has_most_of_what_the_profile_names(made: tuple[Dataset, dict[str, Dataset]]) -> None:
    assert sum(tag in made[0] for tag in PROFILE) > 500


@pytest.mark.parametrize(
    ("kind", "written_here"),
    [
        ("film", {}),
        ("seg", {"SeriesDescription": "neurosym: detections", "DeviceSerialNumber": "0"}),
        ("sr", {"SeriesDescription": "neurosym: findings"}),
    ],
)
def test_what_the_profile_names_is_gone_empty_or_of_no_meaning(
    made: tuple[Dataset, dict[str, Dataset]], kind: str, written_here: dict[str, str]
) -> None:
    instead = {"", "None", NOBODY, f"{NOBODY}^", NO_DATE, NO_TIME, NO_DATE + NO_TIME}
    named = [e for within, e in elements(made[1][kind]) if e.tag in PROFILE and not {within, e.keyword} & OURS]
    values = {e.keyword: str(e.value) for e in named if e.VR not in ("SQ", "UI")}
    assert {word: value for word, value in values.items() if value not in instead} == written_here


@pytest.mark.parametrize("kind", ["film", "seg", "sr"])
def test_nothing_of_the_source_is_left_but_pixels_and_geometry(
    made: tuple[Dataset, dict[str, Dataset]], kind: str
) -> None:
    source, result = made[0], made[1][kind]
    stored = io.BytesIO()
    result.save_as(stored)
    text = stored.getvalue()
    uids = {str(e.value) for _, e in elements(source) if e.VR == "UI" and e.keyword != "SOPClassUID"}
    for trace in (CANARY, "A MAKER", *DATED.values(), "P-4711", "Doe", *uids):
        assert trace.encode() not in text, trace
    today = {e.value for _, e in elements(result) if e.VR in DATED and e.value}
    assert today <= {NO_DATE, NO_TIME, NO_DATE + NO_TIME}
    assert (result.PatientIdentityRemoved, result.DeidentificationMethodCodeSequence[0].CodeValue) == ("YES", "113100")


def test_the_film_has_the_same_pixels_shown_in_the_same_way(made: tuple[Dataset, dict[str, Dataset]]) -> None:
    source, film = made[0], made[1]["film"]
    assert (film.pixel_array == source.pixel_array).all()
    for word in ("Rows", "Columns", "WindowCenter", "WindowWidth", "ImagerPixelSpacing", "PatientOrientation"):
        assert film[word].value == source[word].value
    assert film.ModalityLUTSequence[0].LUTData == source.ModalityLUTSequence[0].LUTData
    assert film.FrameOfReferenceUID not in (UID, "")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
def test_the_film_lacks_nothing_that_its_class_asks_for_and_the_source_has(tmp_path: Path) -> None:
    chest = Dataset()
    chest.CodeValue, chest.CodingSchemeDesignator, chest.CodeMeaning = "51185008", "SCT", "Chest"
    said = {
        **{"PresentationIntentType": "FOR PRESENTATION", "ImageType": ["ORIGINAL", "PRIMARY", ""]},
        **{
            "PixelIntensityRelationship": "LOG",
            "PixelIntensityRelationshipSign": -1,
            "PresentationLUTShape": "IDENTITY",
        },
        **{"RescaleIntercept": 0, "RescaleSlope": 1, "RescaleType": "US", "LossyImageCompression": "00"},
        **{"BurnedInAnnotation": "NO", "ImageLaterality": "U", "DetectorType": "DIRECT", "Manufacturer": "A MAKER"},
        **{"AcquisitionContextSequence": [], "AnatomicRegionSequence": [chest], "SeriesNumber": 1, "InstanceNumber": 1},
    }
    source = film_with_square(60, 90, **said)
    wrong = []
    for name, film in (("source", source), ("film", deidentified(source, Pseudonyms()))):
        film.save_as(tmp_path / name, enforce_file_format=True)
        told = subprocess.run(["dciodvfy", tmp_path / name], capture_output=True, text=True, check=False).stderr
        wrong.append({line for line in told.splitlines() if line.startswith("Error")})
    assert wrong == [set(), set()]


def test_the_segment_without_a_mask_says_that_it_is_a_rectangle(made: tuple[Dataset, dict[str, Dataset]]) -> None:
    first, second = made[1]["seg"].SegmentSequence
    assert second.SegmentDescription == f"{FILLED} Score 0.8."
    assert FILLED not in first.SegmentDescription


def test_a_compressed_film_keeps_its_stream(tmp_path: Path, thorax: Knowledge) -> None:
    from pydicom.uid import RLELossless

    source = film_with_square(60, 90)
    source.compress(RLELossless, generate_instance_uid=False, encoding_plugin="pydicom")
    source.save_as(tmp_path / "a.dcm", enforce_file_format=True)

    def detect(samples: object) -> list[Scene]:
        return [Scene(s.image_id, 90, 60) for s in samples]  # type: ignore[attr-defined]

    file = FilmFile(tmp_path / "a.dcm", "a.dcm", True)
    predict_films(tmp_path / "out", [file], detect, Findings(thorax, ()), {}, Wanted(("film",)))
    film = pydicom.dcmread(next((tmp_path / "out/film").iterdir()))
    assert film.file_meta.TransferSyntaxUID == RLELossless
    assert (film.PixelData, film.pixel_array.tolist()) == (source.PixelData, source.pixel_array.tolist())


HIDDEN = b"JANE DOE 1960"


def written(source: Dataset) -> Dataset:
    """The film without the patient, as it is read from a file."""
    file = io.BytesIO()
    deidentified(source, Pseudonyms()).save_as(file, enforce_file_format=True)
    assert HIDDEN not in file.getvalue()
    return pydicom.dcmread(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_those_stored_and_bytes_after_the_pixels_are_gone(signed: bool, compressed: bool) -> None:
    source = film_with_square(7, 9, (2, 1, 5, 4), PixelRepresentation=int(signed))
    pixels = source.pixel_array & 0x0FFF
    overlay = np.arange(63, dtype=np.uint16).reshape(7, 9) % 16 << 12
    source.PixelData = (pixels.astype(np.uint16) | overlay).tobytes()
    if compressed:
        source.compress(pydicom.uid.RLELossless, generate_instance_uid=False, encoding_plugin="pydicom")
    else:
        source.PixelData += HIDDEN + b"\0"
    before = source.PixelData
    # what two's complement says of 12 bits
    wanted = np.where(pixels >= 2048, pixels.astype(int) - 4096, pixels) if signed else pixels
    assert (written(source).pixel_array == wanted).all()
    assert source.PixelData == before


@pytest.mark.parametrize("format", ["JPEG", "JPEG2000"])
def test_comments_of_compressed_pixels_are_gone_and_the_film_looks_the_same(format: str) -> None:
    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

    source = film_with_square(40, 60)
    picture, stream = Image.fromarray((source.pixel_array // 16).astype(np.uint8)), io.BytesIO()
    source.BitsAllocated, source.BitsStored, source.HighBit = 8, 8, 7
    if format == "JPEG":
        picture.save(stream, "JPEG", comment=HIDDEN, exif=b"Exif\0\0" + HIDDEN, restart_marker_rows=1)
    else:
        picture.save(stream, "JPEG2000", comment=HIDDEN, no_jp2=True)
    assert HIDDEN in stream.getvalue()
    source.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if format == "JPEG" else JPEG2000Lossless
    source.PixelData = encapsulate([stream.getvalue() + HIDDEN + b"\0"])
    source["PixelData"].VR, source["PixelData"].is_undefined_length = "OB", True
    found = written(source)
    frame = next(pydicom.encaps.generate_frames(found.PixelData, number_of_frames=1))
    own = np.asarray(Image.open(stream))
    assert (np.asarray(Image.open(io.BytesIO(frame))) == own).all()
    source.PixelData = encapsulate([stream.getvalue()[:200] + b"\0" * 200])
    with pytest.raises(ReviewError, match="cannot be told from what else their stream holds"):
        deidentified(source, Pseudonyms())


@pytest.mark.parametrize(("burned_in", "removed"), [("YES", "NO"), ("NO", "YES"), (None, "YES")])
def test_a_film_with_text_in_it_does_not_say_that_its_identity_is_removed(burned_in: str | None, removed: str) -> None:
    film = written(film_with_square(BurnedInAnnotation=burned_in))
    assert film.PatientIdentityRemoved == removed
