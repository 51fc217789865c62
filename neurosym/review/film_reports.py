"""`write_film_reports`: the findings of a split's films as JSON, as text and as DICOM structured reports.

    findings.json      every film: the graph (`FilmFindings.as_dict`) and its sentences, each with its evidence
    findings.txt       the sentences under their headings
    sr/film-7.dcm      the structured report of the seventh film; what it refers to is beside it, the capture
                       (film-7.image.dcm) and, if detections have masks, the segmentation (film-7.seg.dcm)

Films are called by their number in the split unless identifiers are kept (`neurosym.review.film_names`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from neurosym.data.images import read_image
from neurosym.errors import DataError, Problem, ReviewError, did_you_mean, short_path
from neurosym.knowledge.files import write_bytes_atomically
from neurosym.knowledge.rules import write_text_atomically
from neurosym.records import Scene
from neurosym.review.deidentify import say_who_is_gone
from neurosym.review.dicom_writing import dicom_bytes, refusals_of
from neurosym.review.film_names import film_names
from neurosym.review.findings import FilmFindings, Findings
from neurosym.review.pseudonyms import Pseudonyms
from neurosym.review.sentences import Sentence, Templates, sentences_of

if TYPE_CHECKING:
    from pydicom import Dataset

FORMATS: Final = ("json", "text", "sr")
VERSION: Final = 1
"""Of the JSON; it grows when a key changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to write.

    `images` are ids of films (none: all of them), `dicom` a folder with ``ID.dcm`` for each film, that structured reports shall
    refer to.
    """

    formats: tuple[str, ...] = ("json", "text")
    images: tuple[str, ...] = ()
    dicom: Path | None = None
    keep_identifiers: bool = False

    def __post_init__(self) -> None:
        for unknown in [f for f in self.formats if f not in FORMATS]:
            raise ReviewError(f"unknown format {unknown!r}; {did_you_mean(unknown, FORMATS)}")
        if self.dicom is not None and "sr" not in self.formats:
            raise ReviewError("--dicom: only structured reports refer to DICOM images; add sr to --format")
        if "sr" in self.formats and find_spec("highdicom") is None:
            cure = "pip install 'neurosym-imaging[dicom]'"
            raise ReviewError(Problem("highdicom is not installed, which writes structured reports", cure=cure))


def write_film_reports(
    out: Path,
    scenes: Sequence[Scene],
    findings: Findings,
    templates: Templates,
    wanted: Wanted,
    source: str,
    advance: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> list[Path]:
    """Write the reports of scenes; returns the files.

    Args:
        out: the folder.
        scenes: all films of the split, in its order, which numbers them.
        findings: what makes a graph of each.
        templates: its words.
        wanted: which films and formats.
        source: where the detections come from, in words.
        advance: told of progress.

    Raises:
        ReviewError: no such film, or its DICOM image is missing or of another size. DataError: its image cannot be read.
    """
    chosen = _chosen(scenes, wanted)
    names = film_names(scenes, wanted.keep_identifiers)
    films: list[tuple[FilmFindings, tuple[Sentence, ...]]] = []
    files: list[Path] = []
    for number, scene in enumerate(chosen, 1):
        film = replace(findings.of(scene), image_id=names[scene.image_id])
        films.append((film, sentences_of(film, templates)))
        if "sr" in wanted.formats:
            files += _write_report(out / "sr", scene, film, findings, wanted)
        advance(number, len(chosen), film.image_id)
    head = {"source": source, "threshold": findings.threshold, "language": templates.language}
    if "text" in wanted.formats:
        files.insert(0, out / "findings.txt")
        write_text_atomically(files[0], text_of(films, source))
    if "json" in wanted.formats:
        files.insert(0, out / "findings.json")
        write_text_atomically(files[0], json.dumps(json_of(films, head), indent=1, ensure_ascii=False) + "\n")
    return files


def json_of(
    films: Iterable[tuple[FilmFindings, Sequence[Sentence]]], head: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What ``findings.json`` holds, see docs/reports.md."""
    told = [film.as_dict() | {"sentences": [asdict(s) for s in said]} for film, said in films]
    return {"format": "neurosym findings", "version": VERSION} | dict(head or {}) | {"films": told}


def text_of(films: Iterable[tuple[FilmFindings, Sequence[Sentence]]], source: str = "") -> str:
    """The sentences of films, under a heading for each group."""
    return "\n".join((*([f"From {source}.\n"] if source else []), *("\n".join(_lines(f, said)) for f, said in films)))


def _lines(film: FilmFindings, said: Sequence[Sentence]) -> Iterator[str]:
    yield film.image_id[:1].upper() + film.image_id[1:]
    yield "=" * len(film.image_id)
    for group, sentences in groupby(said, lambda s: s.group):
        yield ""
        if group:
            yield group.capitalize()
        yield from (f"  {s.text}" for s in sentences)
    yield ""


def _chosen(scenes: Sequence[Scene], wanted: Wanted) -> list[Scene]:
    by_id = {s.image_id: s for s in scenes}
    problems = [
        Problem(f"the split has no image {image!r}", cure=did_you_mean(image, by_id))
        for image in wanted.images
        if image not in by_id
    ]
    if problems:
        raise ReviewError(problems)
    return [by_id[image] for image in dict.fromkeys(wanted.images)] if wanted.images else list(scenes)


def _write_report(folder: Path, scene: Scene, film: FilmFindings, findings: Findings, wanted: Wanted) -> Iterator[Path]:
    from neurosym.review.segmentation import segmentation
    from neurosym.review.source_image import read_source, secondary_capture
    from neurosym.review.structured_report import structured_report

    stem = re.sub(r"[^\w.-]+", "-", film.image_id)
    ontology, keep, uid_of = findings.knowledge.ontology, wanted.keep_identifiers, Pseudonyms().new_uid
    made: dict[str, Dataset | None] = {}
    if wanted.dicom is not None:
        path = _dicom_of(scene, wanted.dicom)
    elif scene.image_path:
        path = Path(scene.image_path)
    else:
        cure = "predict again, or give the films' DICOM images with --dicom"
        raise DataError(Problem(f"the image of {film.image_id} is not at hand to refer to", cure=cure))
    with refusals_of(path):
        if wanted.dicom is not None:
            image = read_source(path, film, keep)
        else:
            image = made[".image"] = secondary_capture(read_image(path), scene.image_id if keep else "", uid_of)
        made[".seg"] = masks = segmentation(film, image, ontology, uid_of)
        made[""] = report = structured_report(film, image, ontology, uid_of, masks)
        for dataset in (masks, report):
            if dataset is not None and not keep:
                say_who_is_gone(dataset, keeps_uids=wanted.dicom is not None)
        files = {folder / f"{stem}{kind}.dcm": dicom_bytes(d) for kind, d in made.items() if d is not None}
    for file, data in files.items():
        write_bytes_atomically(file, data)
    yield from files


def _dicom_of(scene: Scene, folder: Path) -> Path:
    path = folder / f"{scene.image_id}.dcm"
    if not path.is_file():
        cure = did_you_mean(path.name, (p.name for p in folder.glob("*.dcm")))
        raise ReviewError(Problem("the DICOM image of a film is missing", short_path(path), cure=cure))
    return path
