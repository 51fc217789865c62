"""A film's detections as a DICOM segmentation (SEG, binary), by highdicom: a segment for each, in the film's own pixels.

A segment is the mask, pixel by pixel, with its holes and parts. A detection without a mask, or with an empty one, is left out
or, where that is wanted, is its box filled with ones: the segment's description (0062,0006) says then that its outline was not
segmented. A pixel belongs to a box if its centre does. Segments are in the order of the scene's detections, may overlap, and
each is one frame of the same number. They are tracked by the UIDs that the structured report of the film gives its regions.
Needs highdicom (the extra `dicom`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from neurosym.data.masks import decode_mask
from neurosym.errors import Problem, ReviewError
from neurosym.knowledge import Ontology
from neurosym.review.codes import coded, concept_of
from neurosym.review.dicom_writing import MAKER, program_version
from neurosym.review.findings import Evidence, FilmFindings, Finding
from neurosym.review.pseudonyms import UidOf

if TYPE_CHECKING:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import Dataset

MOST_BYTES: Final = 2**31
"""Of the segments of one film while they are written, a byte a pixel."""
FILLED: Final = "Filled rectangle of the box that was detected; its outline was not segmented."
OUTLINED: Final = "Segmented by the model."


def segmentation(
    film: FilmFindings, image: Dataset, ontology: Ontology, uid_of: UidOf, boxes: bool = False
) -> Segmentation | None:
    """The segmentation of a film, None where it would have no segment.

    Args:
        film: the findings, whose evidence becomes segments.
        image: the header of the film; who its patient is becomes that of the segmentation.
        ontology: gives the codes of classes.
        uid_of: a UID for a word, e.g. for "nodule #3" that which tracks the detection.
        boxes: whether a detection without a mask is its box, filled.

    Raises:
        ReviewError: masks or film are of another size, or there are too many segments for the memory.
    """
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation
    from pydicom.sr.codedict import codes

    if (image.Rows, image.Columns) != (film.height, film.width):
        found, expected = f"{image.Columns}×{image.Rows}", f"{film.width}×{film.height}"
        raise ReviewError(f"the film is {found} pixels, its detections are of {expected}")
    shown = sorted(((e, f) for f in film.findings for e in f.evidence), key=lambda pair: pair[0].detection)
    wanted = [(e, f) for e, f in shown if boxes or e.mask is not None]
    if len(wanted) * film.height * film.width > MOST_BYTES:
        cure = "raise --threshold, or write no segmentation"
        raise ReviewError(Problem(f"{len(wanted)} segments of {film.width}×{film.height} pixels", cure=cure))
    version = program_version() or "unknown"
    algorithm = AlgorithmIdentificationSequence(MAKER, codes.cid7162.ArtificialIntelligence, version, source=MAKER)
    frames, described = [], []
    for evidence, finding in wanted:
        mask = _outline(film, finding, evidence)
        if mask is None and not boxes:
            continue
        frames.append(filled(evidence.box, film.height, film.width) if mask is None else mask)
        how = FILLED if mask is None else OUTLINED
        described.append(_description(len(frames), finding, evidence, how, ontology, algorithm, uid_of))
    if not frames:
        return None
    made = Segmentation(
        [image],
        np.stack(frames, axis=-1)[None],
        "BINARY",
        described,
        series_instance_uid=uid_of("segmentation series"),
        series_number=1001,
        sop_instance_uid=uid_of("segmentation"),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=version,
        device_serial_number="0",
        content_label="NEUROSYM",
        content_description="Detections of a neurosym model",
        omit_empty_frames=False,
    )
    made.SeriesDescription = f"{MAKER}: detections"
    made.PatientOrientation = image.get("PatientOrientation")  # asked for where nothing lies in space; may be empty
    return made


def outlines_of(segmentation: Dataset | None) -> dict[int, int]:
    """The segment (which is also the frame) of each detection whose mask is in what `segmentation` made."""
    segments = () if segmentation is None else segmentation.SegmentSequence
    outlined = [s for s in segments if str(s.SegmentDescription).startswith(OUTLINED)]
    return {int(s.TrackingID.rpartition("#")[2]): int(s.SegmentNumber) for s in outlined}


def filled(box: tuple[float, float, float, float], height: int, width: int) -> NDArray[np.uint8]:
    """The (height, width) pixels of a box x1, y1, x2, y2: 1 where it holds the centre, of one pixel at least."""

    def centres(low: float, high: float, count: int) -> NDArray[np.bool_]:
        middles = np.arange(count) + 0.5
        inside = np.asarray((low <= middles) & (middles < high))
        if not inside.any():
            inside[min(max(int((low + high) / 2), 0), count - 1)] = True
        return inside

    x1, y1, x2, y2 = box
    return np.outer(centres(y1, y2, height), centres(x1, x2, width)).astype(np.uint8)


def _outline(film: FilmFindings, finding: Finding, evidence: Evidence) -> NDArray[np.uint8] | None:
    """The pixels of a detection's mask, None if it has none."""
    if evidence.mask is None:
        return None
    mask = decode_mask(evidence.mask)
    if mask.shape != (film.height, film.width):
        found = f"the mask of {finding.name} #{evidence.detection} is {mask.shape[1]}×{mask.shape[0]} pixels"
        raise ReviewError(Problem(f"{found}, the film {film.width}×{film.height}", film.image_id))
    return mask if mask.any() else None


def _description(
    number: int,
    finding: Finding,
    evidence: Evidence,
    how: str,
    ontology: Ontology,
    algorithm: AlgorithmIdentificationSequence,
    uid_of: UidOf,
) -> SegmentDescription:
    from highdicom.seg import SegmentDescription

    name = f"{finding.name} #{evidence.detection}"
    described = SegmentDescription(
        segment_number=number,
        segment_label=f"{finding.label} #{evidence.detection}"[-64:],
        segmented_property_category=coded(concept_of(finding.group, ontology)),
        segmented_property_type=coded(concept_of(finding.name, ontology)),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=uid_of(name),
        tracking_id=name,
    )
    described.SegmentDescription = f"{how} Score {evidence.probability:.4g}."
    return described
