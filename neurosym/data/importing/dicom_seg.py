"""A folder of DICOM films and DICOM SEG objects → films with the masks that segments draw on them.

A segment belongs to the films that its frames name by SOPInstanceUID (or to the one film that the whole object refers to). Its
category is its SegmentLabel. A film that no frame names is a negative where a SEG refers to its series, since empty frames are
commonly left out; else it is not annotated and says so. Films are named by digests: paths and UIDs often tell the patient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from neurosym.data.dicom import read_dicom_header
from neurosym.data.images import require_folder
from neurosym.data.importing.dicom_film import load_dicom
from neurosym.data.importing.source import Drawn, Loaded, Source, ToImport
from neurosym.data.importing.split import pseudonym
from neurosym.data.masks import box_of, encode_mask
from neurosym.errors import DataError, Problem, short_path

if TYPE_CHECKING:
    from pydicom import Dataset

_SEG: Final = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation, label map segmentation."""


@dataclass
class _Segments:
    """What a SEG object says: of each film its frames, each with the segment that it draws (0: a label map of all)."""

    path: Path
    names: dict[int, str]
    labelmap: bool
    threshold: float
    frames: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    series: set[str] = field(default_factory=set)


def dicom_seg_source(folder: Path, key: bytes = b"") -> Source:
    """Every DICOM film below a folder that is no SEG.

    Args:
        folder: see above.
        key: makes names that nobody without it can compute from a film's UID.

    Raises:
        DataError: there is no film or no SEG, or SEG objects are wrong; all mistakes at once.
    """
    require_folder(folder, "DICOM")
    films: dict[str, tuple[Path, str, str]] = {}
    segments: list[_Segments] = []
    problems: list[Problem] = []
    missing: list[Problem] = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        if not _is_dicom(path):
            continue
        try:
            header = read_dicom_header(path)
        except DataError as error:
            missing += error.problems
            continue
        if str(header.get("SOPClassUID")) in _SEG:
            try:
                segments.append(_segments(path, header))
            except (AttributeError, IndexError, TypeError, ValueError, KeyError) as error:
                problems.append(Problem(f"is no DICOM SEG that can be read ({error})", short_path(path)))
        elif header.get("Rows") is not None:
            uid = str(header.get("SOPInstanceUID"))
            if uid in films:
                message = f"the same (0008,0018) SOPInstanceUID as {short_path(films[uid][0])}"
                problems.append(Problem(message, short_path(path), cure="remove one of them"))
            films[uid] = path, str(header.get("SeriesInstanceUID")), str(header.get("StudyInstanceUID") or "")
    for what, there in (("film", films), ("SEG object", segments)):
        if not there and not problems:
            problems.append(Problem(f"no DICOM {what}", short_path(folder)))
    if problems:
        raise DataError(problems)
    return _source(films, segments, missing, key)


def _source(
    films: dict[str, tuple[Path, str, str]], segments: list[_Segments], missing: list[Problem], key: bytes
) -> Source:
    found, unsaid = [], 0
    for uid, (path, series, study) in films.items():
        own = [s for s in segments if uid in s.frames]
        weak = not own and not any(series in s.series for s in segments)
        unsaid += weak
        files = (path, *dict.fromkeys(s.path for s in own))
        load = partial(_load, path, uid, own, weak)
        found.append(ToImport(pseudonym(uid, key), files, load, f"{uid} {weak}", study=study))
    strangers = {uid for s in segments for uid in s.frames} - films.keys()
    notes = [f"{unsaid} films are of series that no SEG refers to: kept as not annotated"] if unsaid else []
    notes += [f"SEG objects draw on {len(strangers)} films that are not there"] if strangers else []
    categories = sorted({name for s in segments for name in s.names.values()})
    return Source(tuple(found), tuple(categories), tuple(notes), tuple(missing))


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _segments(path: Path, header: Dataset) -> _Segments:
    names = {int(s.SegmentNumber): str(s.SegmentLabel).strip() for s in header.SegmentSequence}
    names.pop(0, None)  # a label map may list its background
    kind = str(header.SegmentationType)
    threshold = 0.5 * int(header.MaximumFractionalValue) if kind == "FRACTIONAL" else 0.5
    found = _Segments(path, names, kind == "LABELMAP", threshold)
    referred = []
    for series in header.get("ReferencedSeriesSequence") or ():
        found.series.add(str(series.SeriesInstanceUID))
        referred += [str(i.ReferencedSOPInstanceUID) for i in series.get("ReferencedInstanceSequence") or ()]
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    for number, groups in enumerate(header.PerFrameFunctionalGroupsSequence):
        segment = 0 if found.labelmap else _segment(groups, shared)
        if segment and segment not in names:
            raise ValueError(f"frame {number + 1} draws segment {segment}, which SegmentSequence does not name")
        sources = list(_sources(groups)) or list(_sources(shared)) or (referred if len(referred) == 1 else [])
        if not sources:
            raise ValueError(f"frame {number + 1} names no film")
        for uid in sources:
            found.frames[uid].append((number, segment))
    return found


def _segment(groups: Any, shared: Any) -> int:
    item = groups.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
    return int(item[0].ReferencedSegmentNumber)


def _sources(groups: Any) -> Iterator[str]:
    for derivation in groups.get("DerivationImageSequence") or ():
        for image in derivation.get("SourceImageSequence") or ():
            yield str(image.ReferencedSOPInstanceUID)


def _load(path: Path, uid: str, segments: list[_Segments], weak: bool) -> Loaded:
    film = load_dicom(path)
    masks: dict[tuple[Path, int], np.ndarray] = {}
    names: dict[tuple[Path, int], str] = {}
    for of in segments:
        frames = _frames(of.path)
        for number, segment in of.frames[uid]:
            frame = frames[number]
            if frame.shape != film.image.shape:
                found, said = ("×".join(map(str, f.shape[::-1])) for f in (frame, film.image))
                message = f"frame {number + 1} is {found} pixels, its film {said}"
                raise DataError(Problem(message, short_path(of.path), cure="SEG on a grid of its own is not read"))
            for value in of.names if of.labelmap else (segment,):
                drawn = frame == value if of.labelmap else frame > of.threshold
                key = (of.path, value)
                names[key] = of.names[value]
                masks[key] = masks[key] | drawn if key in masks else drawn
    objects = tuple(Drawn(names[k], box_of(m), encode_mask(m)) for k, m in masks.items() if m.any())
    supervision: dict[str, Any] | None = {"complete": []} if weak else None
    return replace(film, objects=objects, supervision=supervision)


@lru_cache(maxsize=2)
def _frames(path: Path) -> np.ndarray:
    """The frames of a SEG object, (frame, height, width)."""
    from pydicom.pixels.utils import pixel_array

    try:
        frames = np.asarray(pixel_array(path))
    except Exception as error:  # pydicom lets whatever a damaged file causes pass through
        raise DataError(Problem(f"(7FE0,0010) PixelData cannot be decoded ({error})", short_path(path))) from error
    return frames[None] if frames.ndim == 2 else frames
