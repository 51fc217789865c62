"""A film's detections as a DICOM segmentation (SEG, binary), by highdicom: one segment for each, in the film's own pixels.

A detection without a mask is its box filled with ones, and the description of the segment (0062,0006) says that its outline was
not segmented. A pixel belongs to a box if its centre does. Segments may overlap. They are tracked by the UIDs that the
structured report of the same film gives its regions. Needs highdicom (the extra `dicom`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from neurosym.data.masks import decode_mask
from neurosym.errors import Problem, ReviewError
from neurosym.knowledge import Ontology
from neurosym.records import Box, Scene
from neurosym.review.codes import coded, concept_of
from neurosym.review.findings import Evidence, FilmFindings, Finding
from neurosym.review.structured_report import program_version

if TYPE_CHECKING:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import Dataset

MOST_BYTES: Final = 2**31
"""Of the segments of one film while they are written, a byte a pixel."""
FILLED: Final = "Filled rectangle of the box that was detected; its outline was not segmented."
OUTLINED: Final = "Segmented by the model."
logging.getLogger("highdicom").setLevel(logging.WARNING)


def segmentation(
    film: FilmFindings, scene: Scene, image: Dataset, ontology: Ontology, uid_of: Callable[[str], str]
) -> Segmentation | None:
    """The segmentation of a film, None where nothing was found on it.

    Args:
        film: the findings, whose evidence becomes segments in the order of the scene's detections.
        scene: whose detections have the masks.
        image: the header of the film; who its patient is becomes that of the segmentation.
        ontology: gives the codes of classes.
        uid_of: a UID for a word, e.g. for "nodule #3" that which tracks the detection.

    Raises:
        ReviewError: masks or film are of another size, or there are too many segments for the memory.
    """
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation
    from pydicom.sr.codedict import codes

    segments = sorted(((e, f) for f in film.findings for e in f.evidence), key=lambda pair: pair[0].detection)
    if not segments:
        return None
    size = (scene.height, scene.width)
    if (image.Rows, image.Columns) != size:
        found, expected = f"{image.Columns}×{image.Rows}", f"{scene.width}×{scene.height}"
        raise ReviewError(f"the film is {found} pixels, its detections are of {expected}")
    if len(segments) * scene.height * scene.width > MOST_BYTES:
        cure = "raise --threshold, or leave seg out of --write"
        raise ReviewError(Problem(f"{len(segments)} segments of {scene.width}×{scene.height} pixels", cure=cure))
    version = program_version() or "unknown"
    algorithm = AlgorithmIdentificationSequence(
        "neurosym", codes.cid7162.ArtificialIntelligence, version, source="neurosym"
    )
    pixels = np.zeros((1, *size, len(segments)), dtype=np.uint8)
    described = []
    for number, (evidence, finding) in enumerate(segments):
        pixels[0, :, :, number] = pixels_of(scene, evidence.detection)
        described.append(_description(number + 1, finding, evidence, scene, ontology, algorithm, uid_of))
    made = Segmentation(
        [image],
        pixels,
        "BINARY",
        described,
        series_instance_uid=uid_of("segmentation series"),
        series_number=1001,
        sop_instance_uid=uid_of("segmentation"),
        instance_number=1,
        manufacturer="neurosym",
        manufacturer_model_name="neurosym",
        software_versions=version,
        device_serial_number="0",
        content_label="NEUROSYM",
        content_description="Detections of a neurosym model",
        omit_empty_frames=False,
    )
    made.SeriesDescription = "neurosym: detections"
    made.PatientOrientation = image.get("PatientOrientation")  # asked for where nothing lies in space; may be empty
    return made


def pixels_of(scene: Scene, detection: int) -> NDArray[np.uint8]:
    """The (height, width) pixels of a detection, 1 inside: its mask, or else its box filled; of a box at least one pixel.

    Raises:
        ReviewError: the mask is not of the film's size.
    """
    found = scene.detections[detection]
    if found.mask is None:
        return _filled(found.box, scene.height, scene.width)
    mask = decode_mask(found.mask)
    if mask.shape != (scene.height, scene.width):
        sizes = f"{mask.shape[1]}×{mask.shape[0]} pixels, the film has {scene.width}×{scene.height}"
        raise ReviewError(f"the mask of detection {detection} has {sizes}")
    return mask


def _filled(box: Box, height: int, width: int) -> NDArray[np.uint8]:
    def centres(low: float, high: float, count: int) -> NDArray[np.bool_]:
        middles = np.arange(count) + 0.5
        inside = np.asarray((low <= middles) & (middles < high))
        if not inside.any():
            inside[min(max(int((low + high) / 2), 0), count - 1)] = True
        return inside

    return np.outer(centres(box.y1, box.y2, height), centres(box.x1, box.x2, width)).astype(np.uint8)


def _description(
    number: int,
    finding: Finding,
    evidence: Evidence,
    scene: Scene,
    ontology: Ontology,
    algorithm: AlgorithmIdentificationSequence,
    uid_of: Callable[[str], str],
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
    how = FILLED if scene.detections[evidence.detection].mask is None else OUTLINED
    described.SegmentDescription = f"{how} Score {evidence.probability:.4g}."
    return described
