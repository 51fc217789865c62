from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosym.data.masks import decode_mask, encode_mask
from neurosym.errors import ReviewError
from neurosym.knowledge import Knowledge
from neurosym.records import Box, Detection, Scene
from neurosym.review import segmentation as module
from neurosym.review.findings import Findings
from neurosym.review.pseudonyms import Pseudonyms

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from neurosym.review.segmentation import FILLED, filled, segmentation  # noqa: E402
from neurosym.review.source_image import secondary_capture  # noqa: E402
from neurosym.review.structured_report import structured_report  # noqa: E402
from tests.review.clinic_films import film_with_square  # noqa: E402

NAMES = ("left_lung", "heart", "nodule")
UID_OF = Pseudonyms(b"a key of a clinic").new_uid
corner = st.floats(-3, 40)


@given(st.integers(1, 20), st.integers(1, 20), corner, corner, st.floats(0.01, 30), st.floats(0.01, 30))
def test_a_box_has_the_pixels_whose_centre_it_holds_and_one_at_least(
    height: int, width: int, x: float, y: float, w: float, h: float
) -> None:
    found = filled((x, y, x + w, y + h), height, width)
    expected = np.zeros((height, width), np.uint8)
    for row in range(height):
        for column in range(width):
            expected[row, column] = x <= column + 0.5 < x + w and y <= row + 0.5 < y + h
    if expected.any():
        assert (found == expected).all()
    else:
        assert found.any()


def scene_of(seed: int, height: int, width: int) -> Scene:
    """Random masks and boxes that overlap each other."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(5):
        x, y = draw.uniform(0, width - 8), draw.uniform(0, height - 8)
        box = Box(x, y, x + draw.uniform(1, width - x), y + draw.uniform(1, height - y))
        mask = encode_mask(draw.random((height, width)) < 0.3) if number % 2 else None
        found.append(Detection(NAMES[number % 3], box, round(float(draw.uniform(0.5, 1)), 4), mask))
    return Scene("a", width, height, (*found, Detection("nodule", Box(0, 0, 5, 5), 0.3)))


@settings(max_examples=4)
@given(st.integers(0, 10**6), st.sampled_from([(37, 61), (64, 24), (16, 16)]))
def test_what_is_read_back_is_what_was_found_pixel_for_pixel(
    tmp_path_factory: pytest.TempPathFactory, thorax: Knowledge, seed: int, size: tuple[int, int]
) -> None:
    height, width = size
    scene, image = scene_of(seed, height, width), film_with_square(height, width, (1, 1, 4, 4))
    path = tmp_path_factory.mktemp("seg") / "s.dcm"
    made = segmentation(Findings(thorax, NAMES).of(scene), image, thorax.ontology, UID_OF, boxes=True)
    assert made is not None
    made.save_as(path, enforce_file_format=True)
    frames = pydicom.dcmread(path).pixel_array  # by another reader than that which wrote it
    back = highdicom.seg.segread(path).get_pixels_by_source_instance(
        [image.SOPInstanceUID], ignore_spatial_locations=True
    )
    assert frames.shape == (5, height, width)
    for number in range(5):
        found = scene.detections[number]
        expected = decode_mask(found.mask) if found.mask else filled(found.box.xyxy, height, width)
        assert (frames[number] == expected).all()
        assert (back[0, :, :, number] == expected).all()
    for number, segment in enumerate(highdicom.seg.segread(path).SegmentSequence):
        assert segment.SegmentLabel.endswith(f"#{number}")
        assert segment.SegmentDescription.startswith(FILLED) == (scene.detections[number].mask is None)


def test_a_mask_is_a_segment_of_its_own_pixels_and_not_of_its_box(thorax: Knowledge) -> None:
    mask = np.tri(20, dtype=np.uint8)
    found = (Detection("nodule", Box(0, 0, 9, 9)), Detection("heart", Box(0, 0, 20, 20), 1.0, encode_mask(mask)))
    film = Findings(thorax, NAMES).of(Scene("a", 20, 20, found))
    made = segmentation(film, film_with_square(20, 20, (1, 1, 4, 4)), thorax.ontology, UID_OF)
    assert made is not None
    assert (made.pixel_array.reshape(20, 20) == mask).all()
    assert [s.TrackingID for s in made.SegmentSequence] == ["heart #1"], "boxes are no segments unless it is asked for"


def test_an_empty_mask_is_its_box_or_nothing(thorax: Knowledge) -> None:
    empty = encode_mask(np.zeros((40, 50), np.uint8))
    film = Findings(thorax, NAMES).of(Scene("a", 50, 40, (Detection("heart", Box(2, 3, 9, 9), 1.0, empty),)))
    image = film_with_square(40, 50)
    assert segmentation(film, image, thorax.ontology, UID_OF) is None
    made = segmentation(film, image, thorax.ontology, UID_OF, boxes=True)
    assert made is not None
    assert made.SegmentSequence[0].SegmentDescription.startswith(FILLED)
    assert (made.pixel_array.reshape(40, 50) == filled((2, 3, 9, 9), 40, 50)).all()


def test_segments_have_the_codes_and_trackers_of_the_report_and_only_masks_take_the_place_of_boxes(
    thorax: Knowledge,
) -> None:
    scene, image = scene_of(3, 40, 50), film_with_square(40, 50)
    found = Findings(thorax, NAMES).of(scene)
    made = segmentation(found, image, thorax.ontology, UID_OF, boxes=True)
    assert made is not None
    segments = {s.TrackingUID: (s.TrackingID, s.segmented_property_type.value) for s in made.SegmentSequence}
    for masks in (None, made):
        report = structured_report(found, image, thorax.ontology, UID_OF, masks)
        groups = highdicom.sr.ComprehensiveSR.from_dataset(report).content.get_planar_roi_measurement_groups()
        assert {g.tracking_uid: (g.tracking_identifier, g.finding_type.value) for g in groups} == segments
        by_segment = {g.tracking_identifier for g in groups if g.roi is None}
        outlined = {f"{d.name} #{n}" for n, d in enumerate(scene.detections) if d.mask}
        assert by_segment == (outlined if masks else set())


def test_nothing_found_is_no_segmentation_and_a_foreign_film_is_refused(
    thorax: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings, image = Findings(thorax, NAMES), film_with_square(40, 50)
    empty = Scene("a", 50, 40)
    assert segmentation(findings.of(empty), image, thorax.ontology, UID_OF, boxes=True) is None
    with pytest.raises(ReviewError, match="the film is 50×40 pixels, its detections are of 40×50"):
        segmentation(findings.of(scene_of(1, 50, 40)), image, thorax.ontology, UID_OF)
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    with pytest.raises(ReviewError, match="5 segments of 50×40 pixels; raise --threshold"):
        segmentation(findings.of(scene_of(1, 40, 50)), image, thorax.ontology, UID_OF, boxes=True)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
@pytest.mark.parametrize("source", ["radiograph", "picture"])
def test_segmentations_have_what_their_class_asks_for(tmp_path: Path, thorax: Knowledge, source: str) -> None:
    scene = scene_of(2, 40, 50)
    image = film_with_square(40, 50) if source == "radiograph" else secondary_capture(np.zeros((40, 50), np.uint8))
    made = segmentation(Findings(thorax, NAMES).of(scene), image, thorax.ontology, UID_OF, boxes=True)
    assert made is not None
    made.save_as(tmp_path / "s.dcm", enforce_file_format=True)
    told = subprocess.run(["dciodvfy", tmp_path / "s.dcm"], capture_output=True, text=True, check=False).stderr
    assert [line for line in told.splitlines() if line.startswith("Error")] == []
