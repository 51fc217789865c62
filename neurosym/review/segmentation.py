"""The masks of a film's detections as a DICOM Segmentation, to which its structured report refers, by highdicom.

A closed polyline, the other region of TID 1410, is one ring: it has no holes and no second part. A segment is the mask itself,
pixel by pixel. Each detection with a mask is one segment and one frame of its own, numbered alike from 1 in the order of the
findings; where masks overlap, both have the pixels. A detection whose mask is empty has none. The category of a segment is the
highest class above its own (`Finding.group`), its tracking UID that of the finding in the report. Needs highdicom (the extra
`dicom`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurosym.data.masks import decode_mask
from neurosym.errors import Problem, ReviewError
from neurosym.knowledge import Ontology
from neurosym.review.codes import concept_of
from neurosym.review.dicom_images import MAKER, maker_version, say_who_is_gone, without_patient
from neurosym.review.findings import Evidence, FilmFindings, Finding

if TYPE_CHECKING:
    from highdicom.seg import Segmentation
    from pydicom import Dataset


def segmentation_of(
    film: FilmFindings, image: Dataset, ontology: Ontology, keep_identifiers: bool = False
) -> Segmentation | None:
    """The segmentation of a DICOM image of a film, None if no detection has a mask; identifiers are those of the image.

    Raises:
        ReviewError: a mask is of another size than the film.
    """
    import highdicom as hd
    from highdicom import seg, sr
    from pydicom.sr.codedict import codes

    masked = [(f, e, mask) for f in film.findings for e in f.evidence if (mask := _mask(film, f, e)) is not None]
    if not masked:
        return None
    image = image if keep_identifiers else without_patient(image)
    release = maker_version() or "unknown"
    made_by = hd.AlgorithmIdentificationSequence(MAKER, codes.DCM.ArtificialIntelligence, release)
    described = []
    for number, (finding, evidence, _) in enumerate(masked, 1):
        concepts = (concept_of(n, ontology) for n in (finding.group, finding.name))
        category, kind = (sr.CodedConcept(c.value, c.scheme, c.meaning) for c in concepts)
        name = f"{finding.name} #{evidence.detection}"
        described.append(
            seg.SegmentDescription(
                number, name[:64], category, kind, seg.SegmentAlgorithmTypeValues.AUTOMATIC, made_by,
                tracking_uid=hd.UID(), tracking_id=name,
            )
        )  # fmt: skip
    made = seg.Segmentation(
        source_images=[image],
        pixel_array=np.stack([mask for _, _, mask in masked], axis=-1)[None],
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=1001,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=release,
        device_serial_number="unknown",
        series_description=f"{MAKER}: masks",
    )
    made.PatientOrientation = None  # no more is known of it than of the film's
    if not keep_identifiers:
        say_who_is_gone(made)
    return made


def segments_of(segmentation: Dataset) -> dict[int, tuple[int, str]]:
    """The segment (which is also the frame) and the tracking UID of each detection in what `segmentation_of` made."""
    found = {}
    for segment in segmentation.SegmentSequence:
        detection = int(segment.TrackingID.rpartition("#")[2])
        found[detection] = int(segment.SegmentNumber), str(segment.TrackingUID)
    return found


def _mask(film: FilmFindings, finding: Finding, evidence: Evidence) -> np.ndarray | None:
    """The pixels of a detection, None if it has none."""
    if evidence.mask is None:
        return None
    mask = decode_mask(evidence.mask)
    if mask.shape != (film.height, film.width):
        found = f"the mask of {finding.name} #{evidence.detection} is {mask.shape[1]}×{mask.shape[0]} pixels"
        raise ReviewError(Problem(f"{film.image_id}: {found}, the film {film.width}×{film.height}"))
    return mask if mask.any() else None
