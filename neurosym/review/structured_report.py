"""A film's findings as a DICOM structured report: Comprehensive SR, template TID 1500 (Measurement Report), by highdicom.

    each detection     TID 1410, planar ROI: finding, certainty in %, site; a reference to the segment that is its mask
                       (`neurosym.review.segmentation`), else its box as a closed polyline in pixels
    absent finding     TID 1501: finding, "Presence of property" = Absent
    label of the film  TID 1501: finding, present or absent, certainty in %
    quantity           TID 1501: one measurement

A closed polyline is one ring: it has no holes and no second part, as masks have. The observer is a device (TID 1002): this
program. Rules and sentences have no place in TID 1500: they are in the JSON and the text. Needs highdicom (the extra `dicom`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosym.knowledge import Ontology
from neurosym.review.codes import coded, concept_of, private_concept
from neurosym.review.dicom_writing import MAKER, program_version
from neurosym.review.findings import Evidence, FilmFindings, Finding
from neurosym.review.pseudonyms import UidOf
from neurosym.review.segmentation import outlines_of

if TYPE_CHECKING:
    from highdicom.sr import ComprehensiveSR
    from pydicom import Dataset


def structured_report(
    film: FilmFindings, image: Dataset, ontology: Ontology, uid_of: UidOf, segmentation: Dataset | None = None
) -> ComprehensiveSR:
    """The report of a film.

    Args:
        film: the findings.
        image: the header of the film; who its patient is becomes that of the report.
        ontology: gives the codes of classes.
        uid_of: a UID for a word, e.g. for "nodule #3" that which tracks the detection.
        segmentation: what `neurosym.review.segmentation` made of the same findings with the same `uid_of`; without it every
            detection is its box.
    """
    import highdicom as hd
    from highdicom import sr
    from pydicom.sr.codedict import codes

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=hd.UID(uid_of("observer")),
        name=MAKER,
        manufacturer_name=MAKER,
        model_name=f"{MAKER} {program_version()}".strip(),
    )
    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(codes.DCM.Device, observer_identifying_attributes=device)
    )
    report = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=codes.SCT.Imaging,
        imaging_measurements=list(_groups(film, image, ontology, uid_of, segmentation)) or None,
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=_library(image),
    )
    document = sr.ComprehensiveSR(
        evidence=[image, *([segmentation] if segmentation is not None and outlines_of(segmentation) else [])],
        content=report,
        series_instance_uid=uid_of("report series"),
        series_number=1000,
        sop_instance_uid=uid_of("report"),
        instance_number=1,
        manufacturer=MAKER,
        is_complete=True,
    )
    document.SeriesDescription = f"{MAKER}: findings"
    return document


def _library(image: Dataset) -> list[Dataset] | None:
    """The image for the report's image library, which it may do without: None if it lacks what highdicom tells there."""
    from highdicom.sr import ImageLibraryEntryDescriptors

    try:
        ImageLibraryEntryDescriptors(image)
    except (AttributeError, IndexError, TypeError, ValueError):  # e.g. a radiograph without PatientOrientation
        return None
    return [image]


def _groups(
    film: FilmFindings, image: Dataset, ontology: Ontology, uid_of: UidOf, segmentation: Dataset | None
) -> Iterator[Any]:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    source = [sr.SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)]
    outlines = outlines_of(segmentation)
    for finding in film.findings:
        for evidence in finding.evidence:
            number = outlines.get(evidence.detection)
            region = (
                {"referenced_region": _box(film, evidence, image)}
                if segmentation is None or number is None
                else {"referenced_segment": _segment(number, segmentation, image)}
            )
            sites = [sr.FindingSite(coded(concept_of(name, ontology))) for name in _sites(film, finding, evidence)]
            yield sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(f"{finding.name} #{evidence.detection}", uid_of),
                finding_type=coded(concept_of(finding.name, ontology)),
                finding_sites=sites or None,
                measurements=[_certainty(evidence.probability)],
                qualitative_evaluations=[_presence(True)],
                **region,
            )
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


def _box(film: FilmFindings, evidence: Evidence, image: Dataset) -> Any:
    """The box of a detection as the region of a planar ROI."""
    from highdicom import sr

    x1, y1, x2, y2 = evidence.box
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)])
    limits = np.array([film.width, film.height])
    source = sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID)
    return sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, np.clip(corners, 0, limits), source)


def _segment(number: int, segmentation: Dataset, image: Dataset) -> Any:
    """A segment, which is a frame of its own, as the region of a planar ROI."""
    from highdicom import sr

    source = sr.SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID)
    uids = (segmentation.SOPClassUID, segmentation.SOPInstanceUID)
    made = sr.ReferencedSegmentationFrame(*uids, number, number, source)
    # DICOM has it only where no frame is named (PS3.3 C.18.4)
    del made[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    return made


def _sites(film: FilmFindings, finding: Finding, evidence: Evidence) -> list[str]:
    """The frame that holds a finding, and the one region of it that it can lie in; organs have no site."""
    if evidence.frame is None or not evidence.within:
        return []
    if any(f.is_frame and f.group == finding.group for f in film.findings):
        return []
    regions = evidence.regions if len(evidence.regions) == 1 else ()
    return [film.names[evidence.frame].name, *regions]


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
