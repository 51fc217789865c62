"""A film's findings as a DICOM structured report: Comprehensive SR, template TID 1500 (Measurement Report), by highdicom.

    each detection     TID 1410, planar ROI: finding, its box as a closed polyline in pixels, certainty in %, site
    absent finding     TID 1501: finding, "Presence of property" = Absent
    label of the film  TID 1501: finding, present or absent, certainty in %
    quantity           TID 1501: one measurement

The observer is a device (TID 1002): this program. The report refers to the film's own DICOM image where there is one, else to
a Secondary Capture that is made of the film. Who the patient is stands in neither, unless it is asked for; the UIDs of a DICOM
image are kept, since the report would refer to nothing without them. Rules and sentences have no place in TID 1500: they
are in the JSON and the text. Needs highdicom (the extra `dicom`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosym.errors import Problem, ReviewError, short_path
from neurosym.knowledge import Ontology
from neurosym.review.codes import coded, concept_of, private_concept
from neurosym.review.deidentify import NOBODY
from neurosym.review.findings import Evidence, FilmFindings, Finding

if TYPE_CHECKING:
    from highdicom.sr import ComprehensiveSR
    from pydicom import Dataset

_MAKER = "neurosym"
logging.getLogger("highdicom").setLevel(logging.WARNING)  # it tells of every module that it copies
REFERRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns")
"""What a report needs to know of the image that it refers to."""


UidOf = Callable[[str], str]


def random_uid(word: str) -> str:
    """A UID that nothing else has, whatever the word."""
    from highdicom import UID

    return str(UID())


def read_film(path: Path, film: FilmFindings) -> Dataset:
    """The DICOM image of a film, without pixels.

    Raises:
        ReviewError: it is no DICOM image, or not of the size that the findings were made on.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        image = pydicom.dcmread(path, stop_before_pixels=True)
    except (OSError, InvalidDicomError) as error:
        raise ReviewError(Problem(f"cannot be read as DICOM: {error}", short_path(path))) from error
    missing = [word for word in REFERRED if word not in image]
    if missing:
        raise ReviewError(Problem(f"no DICOM image: it lacks {', '.join(missing)}", short_path(path)))
    if (image.Columns, image.Rows) != (film.width, film.height):
        found, expected = f"{image.Columns}×{image.Rows}", f"{film.width}×{film.height}"
        cure = "boxes in pixels of another size would lie elsewhere; name the film that the run has seen"
        raise ReviewError(Problem(f"is {found} pixels, the findings are of {expected}", short_path(path), cure=cure))
    return image


def secondary_capture(pixels: np.ndarray, patient: str = "") -> Dataset:
    """A Secondary Capture of a film.

    Args:
        pixels: 8-bit, (height, width) or (height, width, 3).
        patient: the patient's id; "" for nobody's.
    """
    import highdicom as hd
    from highdicom.sc import SCImage

    image = SCImage(
        np.ascontiguousarray(pixels),
        photometric_interpretation="RGB" if pixels.ndim == 3 else "MONOCHROME2",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=hd.UID(),
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=_MAKER,
        patient_id=patient or NOBODY,
        patient_name=f"{patient or NOBODY}^",
        patient_orientation=("L", "F"),
    )
    for word in ("PatientOrientation", "Laterality"):
        setattr(image, word, None)  # the pixels do not say how they are turned
    if not patient:
        _say_who_is_gone(image)
    return image


def structured_report(
    film: FilmFindings,
    image: Dataset,
    ontology: Ontology,
    keep_identifiers: bool = False,
    uid_of: UidOf = random_uid,
) -> ComprehensiveSR:
    """The report of a film that refers to a DICOM image of it; identifiers are those of the image.

    `uid_of` gives a UID for a word, e.g. for "nodule #3" that which tracks the detection.
    """
    import highdicom as hd
    from highdicom import sr
    from pydicom.sr.codedict import codes

    image = image if keep_identifiers else _without_patient(image)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=hd.UID(uid_of("observer")),
        name=_MAKER,
        manufacturer_name=_MAKER,
        model_name=f"{_MAKER} {program_version()}".strip(),
    )
    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(codes.DCM.Device, observer_identifying_attributes=device)
    )
    report = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=codes.SCT.Imaging,
        imaging_measurements=list(_groups(film, image, ontology, uid_of)) or None,
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=_library(image),
    )
    document = sr.ComprehensiveSR(
        evidence=[image],
        content=report,
        series_instance_uid=uid_of("report series"),
        series_number=1000,
        sop_instance_uid=uid_of("report"),
        instance_number=1,
        manufacturer=_MAKER,
        is_complete=True,
    )
    document.SeriesDescription = f"{_MAKER}: findings"
    if not keep_identifiers:
        _say_who_is_gone(document)
    return document


def _library(image: Dataset) -> list[Dataset] | None:
    """The image for the report's image library, which it may do without: None if it lacks what highdicom tells there."""
    from highdicom.sr import ImageLibraryEntryDescriptors

    try:
        ImageLibraryEntryDescriptors(image)
    except (AttributeError, IndexError, TypeError, ValueError):  # e.g. a radiograph without PatientOrientation
        return None
    return [image]


def program_version() -> str:
    """Of the installed package, "" where the program runs from its sources."""
    try:
        return version("neurosym-imaging")
    except PackageNotFoundError:
        return ""


def _groups(film: FilmFindings, image: Dataset, ontology: Ontology, uid_of: UidOf) -> Iterator[Any]:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    source = [sr.SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)]
    for finding in film.findings:
        for evidence in finding.evidence:
            yield _region(film, finding, evidence, image, ontology, uid_of)
        if not finding.present:
            yield sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(finding.name, uid_of),
                finding_type=coded(concept_of(finding.name, ontology)),
                qualitative_evaluations=[_presence(False)],
                source_images=source,
            )
    for label in film.labels:
        yield sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(label.name, uid_of),
            finding_type=coded(concept_of(label.name, ontology)),
            measurements=[_certainty(label.probability)],
            qualitative_evaluations=[_presence(label.present)],
            source_images=source,
        )
    for quantity in film.quantities:
        name = coded(private_concept(quantity.name, quantity.label))
        yield sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(quantity.name, uid_of),
            measurements=[sr.Measurement(name, round(quantity.value, 4), codes.UCUM.Ratio)],
            source_images=source,
        )


def _region(
    film: FilmFindings, finding: Finding, evidence: Evidence, image: Dataset, ontology: Ontology, uid_of: UidOf
) -> Any:
    from highdicom import sr

    x1, y1, x2, y2 = evidence.box
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)])
    limits = np.array([film.width, film.height])
    region = sr.ImageRegion(
        sr.GraphicTypeValues.POLYLINE,
        np.clip(corners, 0, limits),
        sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID),
    )
    site = film.names[evidence.frame].name if evidence.frame is not None and evidence.within else ""
    is_placed = site and not any(f.is_frame and f.group == finding.group for f in film.findings)
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(f"{finding.name} #{evidence.detection}", uid_of),
        referenced_region=region,
        finding_type=coded(concept_of(finding.name, ontology)),
        finding_sites=[sr.FindingSite(coded(concept_of(site, ontology)))] if is_placed else None,
        measurements=[_certainty(evidence.probability)],
        qualitative_evaluations=[_presence(True)],
    )


def _tracking(name: str, uid_of: UidOf) -> Any:
    from highdicom import UID
    from highdicom.sr import TrackingIdentifier

    return TrackingIdentifier(uid=UID(uid_of(name)), identifier=name)


def _certainty(probability: float) -> Any:
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    return Measurement(codes.DCM.CertaintyOfFinding, round(100 * probability, 2), codes.UCUM.Percent)


def _presence(is_present: bool) -> Any:
    from highdicom.sr import QualitativeEvaluation
    from pydicom.sr.codedict import codes

    return QualitativeEvaluation(codes.DCM.PresenceOfProperty, codes.DCM.Present if is_present else codes.DCM.Absent)


def _without_patient(image: Dataset) -> Dataset:
    """What a report needs to know of an image, and nobody's name: whatever is not listed is left out."""
    from pydicom import Dataset

    bare = Dataset()
    for word in REFERRED:
        setattr(bare, word, image[word].value)
    bare.file_meta = image.file_meta
    bare.PatientID, bare.PatientName = NOBODY, f"{NOBODY}^"
    for word in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
        setattr(bare, word, None)
    bare.ReferringPhysicianName = None
    return bare


def _say_who_is_gone(dataset: Dataset) -> None:
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Only UIDs, size and modality of the image are kept"
