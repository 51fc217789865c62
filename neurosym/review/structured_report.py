"""A film's findings as a DICOM structured report: Comprehensive SR, template TID 1500 (Measurement Report), by highdicom.

    each detection     TID 1410, planar ROI: finding, certainty in %, site; where it has a mask a reference to its segment
                       (`neurosym.review.segmentation`), else its box as a closed polyline in pixels
    absent finding     TID 1501: finding, "Presence of property" = Absent
    label of the film  TID 1501: finding, present or absent, certainty in %
    quantity           TID 1501: one measurement

The observer is a device (TID 1002): this program. The report refers to the film's own DICOM image where there is one, else to
a Secondary Capture that is made of the film. Who the patient is stands in neither, unless it is asked for; the UIDs of a DICOM
image are kept, since the report would refer to nothing without them. Rules and sentences have no place in TID 1500: they
are in the JSON and the text. Needs highdicom (the extra `dicom`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosym.knowledge import Ontology
from neurosym.review.codes import Concept, concept_of, private_concept
from neurosym.review.dicom_images import MAKER, maker_version, say_who_is_gone, without_patient
from neurosym.review.findings import Evidence, FilmFindings, Finding
from neurosym.review.segmentation import segments_of

if TYPE_CHECKING:
    from highdicom.sr import ComprehensiveSR
    from pydicom import Dataset


def structured_report(
    film: FilmFindings,
    image: Dataset,
    ontology: Ontology,
    keep_identifiers: bool = False,
    segmentation: Dataset | None = None,
) -> ComprehensiveSR:
    """The report of a film that refers to a DICOM image of it; identifiers are those of the image.

    `segmentation` has the masks of detections (`neurosym.review.segmentation.segmentation_of`); without it all have boxes.
    """
    import highdicom as hd
    from highdicom import sr
    from pydicom.sr.codedict import codes

    image = image if keep_identifiers else without_patient(image)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=hd.UID(), name=MAKER, manufacturer_name=MAKER, model_name=f"{MAKER} {maker_version()}".strip()
    )
    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(codes.DCM.Device, observer_identifying_attributes=device)
    )
    report = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=codes.SCT.Imaging,
        imaging_measurements=list(_groups(film, image, ontology, segmentation)) or None,
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=[image],
    )
    document = sr.ComprehensiveSR(
        evidence=[image, *([] if segmentation is None else [segmentation])],
        content=report,
        series_instance_uid=hd.UID(),
        series_number=1000,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MAKER,
        is_complete=True,
    )
    document.SeriesDescription = f"{MAKER}: findings"
    if not keep_identifiers:
        say_who_is_gone(document)
    return document


def _groups(film: FilmFindings, image: Dataset, ontology: Ontology, segmentation: Dataset | None) -> Iterator[Any]:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    source = [sr.SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)]
    segments = {} if segmentation is None else segments_of(segmentation)
    for finding in film.findings:
        for evidence in finding.evidence:
            number, uid = segments.get(evidence.detection, (0, None))
            where = _segment(number, segmentation, image) if number else _box(film, evidence, image)
            name = f"{finding.name} #{evidence.detection}"
            yield sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(name, uid),
                finding_type=_code(concept_of(finding.name, ontology)),
                finding_sites=[sr.FindingSite(_code(concept_of(n, ontology))) for n in _sites(film, finding, evidence)]
                or None,
                measurements=[_certainty(evidence.probability)],
                qualitative_evaluations=[_presence(True)],
                **where,
            )
        if not finding.present:
            yield sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(finding.name),
                finding_type=_code(concept_of(finding.name, ontology)),
                qualitative_evaluations=[_presence(False)],
                source_images=source,
            )
    for label in film.labels:
        yield sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(label.name),
            finding_type=_code(concept_of(label.name, ontology)),
            measurements=[_certainty(label.probability)],
            qualitative_evaluations=[_presence(label.present)],
            source_images=source,
        )
    for quantity in film.quantities:
        name = _code(private_concept(quantity.name, quantity.label))
        yield sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(quantity.name),
            measurements=[sr.Measurement(name, round(quantity.value, 4), codes.UCUM.Ratio)],
            source_images=source,
        )


def _box(film: FilmFindings, evidence: Evidence, image: Dataset) -> Mapping[str, Any]:
    """The box of a detection as the region of a planar ROI."""
    from highdicom import sr

    x1, y1, x2, y2 = evidence.box
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)])
    limits = np.array([film.width, film.height])
    source = sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID)
    return {"referenced_region": sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, np.clip(corners, 0, limits), source)}


def _segment(number: int, segmentation: Dataset | None, image: Dataset) -> Mapping[str, Any]:
    """A segment, which is a frame of its own, as the region of a planar ROI."""
    from highdicom import sr

    assert segmentation is not None
    source = sr.SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID)
    uids = (segmentation.SOPClassUID, segmentation.SOPInstanceUID)
    made = sr.ReferencedSegmentationFrame(*uids, number, number, source)
    del (
        made[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    )  # DICOM has it only where no frame is named (PS3.3 C.18.4)
    return {"referenced_segment": made}


def _sites(film: FilmFindings, finding: Finding, evidence: Evidence) -> list[str]:
    """The frame that holds a finding, and the one region of it that it can lie in; organs have no site."""
    if evidence.frame is None or not evidence.within:
        return []
    if any(f.is_frame and f.group == finding.group for f in film.findings):
        return []
    regions = evidence.regions if len(evidence.regions) == 1 else ()
    return [film.names[evidence.frame].name, *regions]


def _code(concept: Concept) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(concept.value, concept.scheme, concept.meaning)


def _tracking(name: str, uid: str | None = None) -> Any:
    import highdicom as hd
    from highdicom.sr import TrackingIdentifier

    return TrackingIdentifier(uid=uid or hd.UID(), identifier=name)


def _certainty(probability: float) -> Any:
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    return Measurement(codes.DCM.CertaintyOfFinding, round(100 * probability, 2), codes.UCUM.Percent)


def _presence(is_present: bool) -> Any:
    from highdicom.sr import QualitativeEvaluation
    from pydicom.sr.codedict import codes

    return QualitativeEvaluation(codes.DCM.PresenceOfProperty, codes.DCM.Present if is_present else codes.DCM.Absent)
