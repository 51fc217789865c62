"""DICOM without the patient, after the Basic Application Level Confidentiality Profile (PS3.15 E.2).

The profile lists what to remove or replace; here what may stay is listed (`KEPT`: how pixels are stored, shown and laid out),
and whatever is not on the list is gone: private tags, curves, overlays and what later editions add. UIDs are replaced by those
of `Pseudonyms`, or kept where an archive shall find the film by them (the profile's Retain UIDs Option). Dates and times are
replaced by `NO_DATE` and `NO_TIME` where they have to be there; also those of today, which may be the day of the study.
PixelData keeps nothing beside the pixels (`neurosym.review.pixel_data`), which are left as they are; of text in them see
`neurosym.data.burned_in`. A film that says that text is burned in is not said to be without identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from neurosym.review.pixel_data import pixels_alone
from neurosym.review.pseudonyms import Pseudonyms

if TYPE_CHECKING:
    from pydicom import Dataset

NOBODY: Final = "ANONYMOUS"
"""The id of the patient where no identifiers are kept; the name is the same with a caret, as DICOM writes family names."""
NO_DATE, NO_TIME = "19000101", "000000"
_SHOWN: Final = (
    "ModalityLUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
    "PresentationLUTShape",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "BurnedInAnnotation",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_STORED: Final = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "PixelAspectRatio",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_LAID_OUT: Final = (
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "PixelSpacingCalibrationType",
    "PatientOrientation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "Laterality",
    "ImageLaterality",
    "ViewPosition",
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "ViewCodeSequence",
    "DetectorType",
)
KEPT: Final = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "ImageType",
    "Modality",
    "PresentationIntentType",
    "ConversionType",
    *_SHOWN,
    *_STORED,
    *_LAID_OUT,
)
"""Attributes of a film that say nothing of the patient; none of them is in the profile's table."""
_KEPT_IN_ITEMS: Final = (
    *("LUTDescriptor", "LUTData", "ModalityLUTType"),
    *("CodeValue", "CodingSchemeDesignator", "CodeMeaning"),
)
_MAPPED: Final = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_EMPTY: Final = (
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("ReferringPhysicianName", "SeriesNumber", "InstanceNumber", "Manufacturer"),
)
"""What has to be there by the standard, and may be empty."""
_PROFILE: Final = ("113100", "Basic Application Confidentiality Profile")
_UIDS_STAY: Final = ("113110", "Retain UIDs Option")


def deidentified(header: Dataset, pseudonyms: Pseudonyms | None) -> Dataset:
    """A film's header, with or without pixels, that says nothing of the patient; the pixels themselves are not changed.

    `pseudonyms` give the UIDs; without any, UIDs are kept.

    Raises:
        ReviewError: compressed pixels that cannot be told from what else their stream holds.
    """
    from pydicom import Dataset, Sequence
    from pydicom.dataset import FileMetaDataset

    bare = Dataset()
    for word in KEPT:
        if word not in header:
            continue
        element = header[word]
        if element.VR == "SQ":
            items = [_only(item, _KEPT_IN_ITEMS) for item in element.value]
            setattr(bare, word, Sequence(items))
        else:
            bare[word] = element
    if "PixelData" in header:
        bare["PixelData"] = pixels_alone(header)["PixelData"]
    for word in _MAPPED:
        if header.get(word):
            uid = str(header[word].value)
            setattr(bare, word, uid if pseudonyms is None else pseudonyms.uid(uid))
    for word in _EMPTY:
        setattr(bare, word, None)
    if "AcquisitionContextSequence" in header:
        bare.AcquisitionContextSequence = Sequence()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = bare.SOPClassUID, bare.SOPInstanceUID
    meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    bare.file_meta = meta
    say_who_is_gone(bare, keeps_uids=pseudonyms is None)
    return bare


def say_who_is_gone(dataset: Dataset, keeps_uids: bool = False) -> None:
    """State what was removed, by the profile, and how; and empty the dates of what was made today.

    The identity is not said to be removed where the pixels have text (BurnedInAnnotation YES).
    """
    from pydicom import Dataset, Sequence

    dataset.PatientID, dataset.PatientName = NOBODY, f"{NOBODY}^"
    without_dates(dataset)
    codes = []
    for value, meaning in (_PROFILE, _UIDS_STAY)[: 1 + keeps_uids]:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        codes.append(code)
    has_text = str(dataset.get("BurnedInAnnotation") or "").upper() == "YES"
    dataset.PatientIdentityRemoved = "NO" if has_text else "YES"
    dataset.DeidentificationMethod = (
        f"Pixels and geometry kept, UIDs {'kept' if keeps_uids else 'replaced'}, all else removed"
    )
    dataset.DeidentificationMethodCodeSequence = Sequence(codes)
    dataset.LongitudinalTemporalInformationModified = "REMOVED"


def without_dates(dataset: Dataset) -> None:
    """Replace every date and time, also within sequences, that is not empty."""
    for word in ("InstanceCreationDate", "InstanceCreationTime"):  # need not be there
        if word in dataset:
            del dataset[word]
    instead = {"DA": NO_DATE, "TM": NO_TIME, "DT": NO_DATE + NO_TIME}

    def replace(_: Any, element: Any) -> None:
        if element.VR in instead and element.value:
            element.value = instead[element.VR]

    dataset.walk(replace)


def _only(item: Dataset, words: tuple[str, ...]) -> Dataset:
    from pydicom import Dataset

    bare = Dataset()
    for word in words:
        if word in item:
            bare[word] = item[word]
    return bare
