from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from neurosym.data.images import annotated_scene
from neurosym.data.masks import encode_mask
from neurosym.data.phantom import PhantomConfig, phantom_film
from neurosym.errors import DataError, ReviewError
from neurosym.knowledge import Knowledge, load_knowledge
from neurosym.records import Box, Detection, Scene
from neurosym.review.codes import concept_of
from neurosym.review.findings import FilmFindings, Findings
from neurosym.review.pseudonyms import Pseudonyms
from neurosym.review.sentences import load_templates
from tests.conftest import CLASSES, ROOT

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from neurosym.review.segmentation import segmentation  # noqa: E402
from neurosym.review.source_image import read_source, secondary_capture  # noqa: E402
from neurosym.review.structured_report import structured_report  # noqa: E402

SIZE = 96
UID_OF = Pseudonyms(b"a key of a clinic").new_uid
IDENTITY = ("Doe", "Jane", "P-4711", "19600102", "ACC-99", "Dr^House")


def film_of(index: int, knowledge: Knowledge) -> tuple[FilmFindings, np.ndarray]:
    sample = phantom_film(index, PhantomConfig(size=SIZE))
    findings = Findings(knowledge, CLASSES, 0.5, load_templates().ratios)
    return findings.of(annotated_scene(sample)), sample.image


def source_film(path: Path, pixels: np.ndarray) -> Path:
    """A DICOM film that says who the patient is."""
    image = secondary_capture(pixels, "P-4711")
    image.PatientName, image.PatientBirthDate, image.AccessionNumber = "Doe^Jane", "19600102", "ACC-99"
    image.ReferringPhysicianName, image.StudyDate = "Dr^House", "20200301"
    image.save_as(path, enforce_file_format=True)
    return path


def code_of(item: object) -> tuple[str, str]:
    return item.value, item.scheme_designator  # type: ignore[attr-defined]


@pytest.mark.parametrize("index", [3, 6, 9])
def test_what_is_read_back_is_what_was_found(tmp_path: Path, thorax: Knowledge, index: int) -> None:
    film, pixels = film_of(index, thorax)
    structured_report(film, secondary_capture(pixels), thorax.ontology, UID_OF).save_as(tmp_path / "r.dcm")
    content = highdicom.sr.srread(tmp_path / "r.dcm").content
    names = {concept_of(n, thorax.ontology)[:2]: n for n in (*CLASSES, *(x.name for x in film.labels))}
    boxes = {}
    for group in content.get_planar_roi_measurement_groups():
        [certainty] = group.get_measurements()
        corners = group.roi.value
        box = (*corners.min(0).tolist(), *corners.max(0).tolist())
        boxes[group.tracking_identifier] = names[code_of(group.finding_type)], box, certainty.value / 100
    assert boxes == {
        f"{f.name} #{e.detection}": (f.name, e.box, e.probability) for f in film.findings for e in f.evidence
    }
    said = {}
    for group in content.get_image_measurement_groups():
        found = [q.value.meaning for q in group.get_qualitative_evaluations()]
        if found:
            said[names[code_of(group.finding_type)]] = found == ["Present"]
        else:
            [ratio] = group.get_measurements()
            assert (ratio.name.value, ratio.value) == ("cardiothoracic_ratio", round(film.quantities[0].value, 4))
    absent = {f.name: False for f in film.findings if not f.present}
    assert said == absent | {label.name: label.present for label in film.labels}


def test_a_finding_has_the_lung_that_holds_it_as_its_site(tmp_path: Path, thorax: Knowledge) -> None:
    scene = Scene("a", 100, 80, (Detection("left_lung", Box(50, 0, 90, 60)), Detection("nodule", Box(60, 20, 65, 25))))
    film = Findings(thorax, CLASSES).of(scene)
    report = structured_report(film, secondary_capture(np.zeros((80, 100), np.uint8)), thorax.ontology, UID_OF)
    report.save_as(tmp_path / "r.dcm")
    groups = highdicom.sr.srread(tmp_path / "r.dcm").content.get_planar_roi_measurement_groups()
    sites = {g.tracking_identifier: [code_of(s.value) for s in g.finding_sites] for g in groups}
    assert sites == {"nodule #1": [("RID1326", "RADLEX")], "left_lung #0": []}


def test_a_region_of_the_frame_is_a_site_only_if_it_is_the_only_one_that_the_zone_leaves(tmp_path: Path) -> None:
    chest = load_knowledge([ROOT / "ontologies" / "lung-lobes.ttl"])
    lung, high, low = Box(10, 0, 50, 90), Box(20, 5, 30, 15), Box(20, 75, 30, 85)
    found = (Detection("right_lung", lung), Detection("nodule", high), Detection("nodule", low))
    film = Findings(chest, ("right_lung", "nodule")).of(Scene("a", 100, 100, found))
    report = structured_report(film, secondary_capture(np.zeros((100, 100), np.uint8)), chest.ontology, UID_OF)
    report.save_as(tmp_path / "r.dcm")
    groups = highdicom.sr.srread(tmp_path / "r.dcm").content.get_planar_roi_measurement_groups()
    sites = {g.tracking_identifier: [s.value.meaning for s in g.finding_sites] for g in groups}
    assert sites["nodule #1"] == ["right lung", "upper lobe of right lung"]
    assert sites["nodule #2"] == ["right lung"], "the middle or the lower lobe"


def masked(*masks: np.ndarray | None) -> Scene:
    """A film with a nodule of each mask."""
    whole = Box(0, 0, 12, 10)
    codes = [None if m is None else encode_mask(m) for m in masks]
    return Scene("a", 12, 10, tuple(Detection("nodule", whole, 0.9, code) for code in codes))


def test_a_mask_is_a_segment_pixel_by_pixel_with_its_holes_and_parts(tmp_path: Path, thorax: Knowledge) -> None:
    ring, parts = np.zeros((10, 12), np.uint8), np.zeros((10, 12), np.uint8)
    ring[1:8, 1:8], ring[3:5, 3:5], parts[0, 0], parts[6:9, 5:11] = 1, 0, 1, 1
    given = (ring, None, parts, np.zeros_like(ring))
    film = Findings(thorax, ("nodule",)).of(masked(*given))
    image = secondary_capture(np.zeros((10, 12), np.uint8))
    masks = segmentation(film, image, thorax.ontology, UID_OF)
    assert masks is not None
    masks.save_as(tmp_path / "s.dcm")
    structured_report(film, image, thorax.ontology, UID_OF, masks).save_as(tmp_path / "r.dcm")
    stored = pydicom.dcmread(tmp_path / "s.dcm")
    groups = highdicom.sr.srread(tmp_path / "r.dcm").content.get_planar_roi_measurement_groups()
    assert [g.tracking_identifier for g in groups] == [f"nodule #{n}" for n in range(4)]
    for group, mask in zip(groups, given, strict=True):
        if mask is None or not mask.any():
            assert group.roi.graphic_type.value == "POLYLINE"
            continue
        reference = group.referenced_segmentation_frame
        assert reference.referenced_sop_instance_uid == stored.SOPInstanceUID
        [frame] = reference.referenced_frame_numbers
        assert (stored.pixel_array[frame - 1] == mask).all()
        [shown] = stored.PerFrameFunctionalGroupsSequence[frame - 1].SegmentIdentificationSequence
        segment = stored.SegmentSequence[shown.ReferencedSegmentNumber - 1]
        assert reference.source_image_for_segmentation.referenced_sop_instance_uid == image.SOPInstanceUID
        assert segment.TrackingUID == group.tracking_uid
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == group.finding_type.value


def test_a_film_without_masks_has_no_segmentation_and_a_mask_of_another_size_is_refused(thorax: Knowledge) -> None:
    image = secondary_capture(np.zeros((10, 12), np.uint8))
    findings = Findings(thorax, ("nodule",))
    without = findings.of(masked(None, np.zeros((10, 12), np.uint8)))
    assert segmentation(without, image, thorax.ontology, UID_OF) is None
    with pytest.raises(ReviewError, match="a: the mask of nodule #0 is 6×5 pixels, the film 12×10"):
        segmentation(findings.of(masked(np.ones((5, 6), np.uint8))), image, thorax.ontology, UID_OF)


def test_codes_are_those_that_the_ontology_states_to_be_the_same_thing(thorax: Knowledge, blood: Knowledge) -> None:
    assert concept_of("heart", thorax.ontology) == ("RID1385", "RADLEX", "heart")
    assert concept_of("cardiomediastinum", thorax.ontology)[:2] == ("cardiomediastinum", "99NEUROSYM")  # a close match
    assert concept_of("platelet", blood.ontology) == ("platelet", "99NEUROSYM", "platelet")
    assert concept_of("no_class", blood.ontology) == ("no_class", "99NEUROSYM", "no class")


def test_report_and_segmentation_are_of_the_patient_and_study_of_their_image(tmp_path: Path, thorax: Knowledge) -> None:
    film, pixels = film_of(6, thorax)
    path = source_film(tmp_path / "film.dcm", pixels)
    for keep in (False, True):
        image = read_source(path, film, keep)
        masks = segmentation(film, image, thorax.ontology, UID_OF)
        assert masks is not None
        report = structured_report(film, image, thorax.ontology, UID_OF, masks)
        for name, made in (("r.dcm", report), ("s.dcm", masks)):
            made.save_as(tmp_path / name)
            stored = (tmp_path / name).read_bytes()
            assert [word for word in IDENTITY if word.encode() in stored] == (list(IDENTITY) if keep else [])
        [study] = report.CurrentRequestedProcedureEvidenceSequence
        named = {
            i.ReferencedSOPInstanceUID
            for series in study.ReferencedSeriesSequence
            for i in series.ReferencedSOPSequence
        }
        assert named == {image.SOPInstanceUID, masks.SOPInstanceUID}
        assert study.StudyInstanceUID == pydicom.dcmread(path).StudyInstanceUID


def test_a_capture_holds_the_films_pixels_and_nobodys_name(tmp_path: Path) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    secondary_capture(grey).save_as(tmp_path / "a.dcm")
    back = pydicom.dcmread(tmp_path / "a.dcm")
    assert (back.pixel_array == grey).all()
    assert (back.PatientID, str(back.PatientName), back.PatientIdentityRemoved) == ("ANONYMOUS", "ANONYMOUS^", "YES")
    colours = np.stack([grey, grey + 1, grey + 2], axis=-1)
    assert (secondary_capture(colours).pixel_array == colours).all()


def test_a_film_of_another_size_or_none_at_all_is_refused(tmp_path: Path, thorax: Knowledge) -> None:
    film, _ = film_of(6, thorax)
    path = source_film(tmp_path / "film.dcm", np.zeros((10, 20), np.uint8))
    with pytest.raises(ReviewError, match="is 20×10 pixels, the findings are of 96×96; boxes in pixels of another"):
        read_source(path, film)
    (tmp_path / "x.dcm").write_bytes(b"no film")
    with pytest.raises(DataError, match=r"x\.dcm: is no DICOM file"):
        read_source(tmp_path / "x.dcm", film)
    bare = secondary_capture(np.zeros((10, 20), np.uint8))
    del bare.Rows, bare.SeriesInstanceUID
    bare.save_as(path, enforce_file_format=True)
    with pytest.raises(
        ReviewError, match=r"film\.dcm: nothing can refer to it: its header lacks SeriesInstanceUID, Rows"
    ):
        read_source(path, film)


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="dcmtk is not installed")
def test_dcmtk_reads_the_report(tmp_path: Path, thorax: Knowledge) -> None:
    film, pixels = film_of(6, thorax)
    structured_report(film, secondary_capture(pixels), thorax.ontology, UID_OF).save_as(tmp_path / "r.dcm")
    shown = subprocess.run(["dsrdump", tmp_path / "r.dcm"], capture_output=True, text=True, check=True)
    assert shown.stdout.count('"Image Region")=(POLYLINE') == sum(f.count for f in film.findings)
    assert shown.stdout.count('DCM,"Absent"') == sum(not f.present for f in film.findings)
    assert "E:" not in shown.stderr


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
def test_report_and_capture_have_what_their_classes_ask_for(tmp_path: Path, thorax: Knowledge) -> None:
    film, pixels = film_of(6, thorax)
    image = secondary_capture(pixels)
    image.save_as(tmp_path / "i.dcm")
    masks = segmentation(film, image, thorax.ontology, UID_OF)
    assert masks is not None
    masks.save_as(tmp_path / "s.dcm")
    structured_report(film, image, thorax.ontology, UID_OF, masks).save_as(tmp_path / "r.dcm")
    for name in ("i.dcm", "r.dcm", "s.dcm"):
        told = subprocess.run(["dciodvfy", tmp_path / name], capture_output=True, text=True, check=False).stderr
        assert [line for line in told.splitlines() if line.startswith("Error")] == []
