"""A folder of DICOM films and DICOM SEG objects → films with the masks that segments draw on them.

A segment belongs to the films that its frames name by SOPInstanceUID (or to the one film that the whole object refers to). Its
category is its SegmentLabel. A film that no frame names is a negative where a SEG refers to its series, since empty frames are
commonly left out; else it is not annotated and says so. Films are named by digests: paths and UIDs often tell the patient.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from neurosym.data.dicom import read_dicom_header, stored_values
from neurosym.data.images import require_folder
from neurosym.data.importing.dicom_film import load_dicom
from neurosym.data.importing.dicom_plane import Plane, plane_of_film, plane_of_frame
from neurosym.data.importing.source import Drawn, Loaded, Source, ToImport
from neurosym.data.importing.split import pseudonym
from neurosym.data.masks import box_of, encode_mask
from neurosym.errors import DataError, Problem, short_path

if TYPE_CHECKING:
    from pydicom import Dataset

_SEG: Final = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation, label map segmentation."""
MOST_PIXELS: Final = 2**30
"""Of all frames of a SEG object."""


@dataclass(frozen=True)
class _Film:
    """What the header of a film says of it."""

    path: Path
    series: str
    study: str
    plane: Plane


@dataclass
class _Segments:
    """What a SEG object says: of each film its frames, each with the segment that it draws (0: a label map of all)."""

    path: Path
    names: dict[int, str]
    labelmap: bool
    threshold: float
    frames: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    planes: list[Plane] = field(default_factory=list)
    """Of each frame."""
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
    films: dict[str, _Film] = {}
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
                message = f"the same (0008,0018) SOPInstanceUID as {short_path(films[uid].path)}"
                problems.append(Problem(message, short_path(path), cure="remove one of them"))
            series, study = (str(header.get(f"{of}InstanceUID") or "") for of in ("Series", "Study"))
            films[uid] = _Film(path, series, study, plane_of_film(header))
    for what, there in (("film", films), ("SEG object", segments)):
        if not there and not problems:
            problems.append(Problem(f"no DICOM {what}", short_path(folder)))
    if problems:
        raise DataError(problems)
    return _source(films, segments, missing, key)


def _source(films: dict[str, _Film], segments: list[_Segments], missing: list[Problem], key: bytes) -> Source:
    found, unsaid = [], 0
    for uid, film in films.items():
        own = [s for s in segments if uid in s.frames]
        weak = not own and not any(film.series in s.series for s in segments)
        unsaid += weak
        files = (film.path, *dict.fromkeys(s.path for s in own))
        load = partial(_load, film, uid, own, weak)
        found.append(ToImport(pseudonym(uid, key), files, load, f"{uid} {weak}", study=film.study))
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
        found.planes.append(plane_of_frame(groups, shared))
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


def _load(of: _Film, uid: str, segments: list[_Segments], weak: bool) -> Loaded:
    film = load_dicom(of.path)
    masks: dict[tuple[Path, int], np.ndarray] = {}
    names: dict[tuple[Path, int], str] = {}
    for seg in segments:
        for number, segment in seg.frames[uid]:
            frame = _frame(seg, number, film.image.shape, of.plane)
            for value in seg.names if seg.labelmap else (segment,):
                drawn = frame == value if seg.labelmap else frame > seg.threshold
                key = (seg.path, value)
                names[key] = seg.names[value]
                masks[key] = masks[key] | drawn if key in masks else drawn
    objects = tuple(Drawn(names[k], box_of(m), encode_mask(m)) for k, m in masks.items() if m.any())
    return replace(film, objects=objects, supervision={"complete": []} if weak else None)


def _frame(seg: _Segments, number: int, shape: tuple[int, ...], plane: Plane) -> np.ndarray:
    """A frame, if it lies on its film pixel for pixel."""
    frames, shown = _frames(seg.path), short_path(seg.path)
    if number >= len(frames):
        message = f"frame {number + 1} has no pixels: (7FE0,0010) PixelData has {len(frames)} frames"
        raise DataError(Problem(message, shown, cure="is the file truncated?"))
    frame: np.ndarray = frames[number]
    cure = "SEG on a grid of its own is not read"
    if frame.shape != shape:
        found, said = ("×".join(map(str, s[::-1])) for s in (frame.shape, shape))
        raise DataError(Problem(f"frame {number + 1} is {found} pixels, its film {said}", shown, cure=cure))
    if different := seg.planes[number].differs(plane):
        raise DataError(Problem(f"frame {number + 1}: {different}", shown, cure=cure))
    return frame


@lru_cache(maxsize=2)
def _frames(path: Path) -> np.ndarray:
    """The frames of a SEG object, (frame, height, width)."""
    header = read_dicom_header(path)
    words = ("Rows", "Columns", "NumberOfFrames")
    try:
        count = math.prod(int(header.get(word) or 1) for word in words)
    except (TypeError, ValueError):
        count = 0
    if not 0 < count <= MOST_PIXELS:
        found = " × ".join(str(header.get(word))[:20] for word in words)
        cure = f"expected at most {MOST_PIXELS // 10**6} million pixels"
        raise DataError(Problem(f"{' × '.join(words)} is {found}", short_path(path), cure=cure))
    frames = stored_values(path, header)
    return frames[None] if frames.ndim == 2 else frames
