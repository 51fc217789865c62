"""`predict_films`: films as they lie on a clinic's disk → detections as COCO JSON, DICOM SEG, DICOM SR and PNG, film by film.

    coco.json, coco-results.json    `neurosym.scenes.coco_results`
    seg/NAME.dcm                    `neurosym.review.segmentation`; none where nothing is found
    sr/NAME.dcm                     `neurosym.review.structured_report`
    overlay/NAME.png                the film with its detections
    film/NAME.dcm                   what SEG and SR refer to: the film without the patient, or a capture of a picture

Films are called by keyed hashes and come in the order of these, so that neither names nor order say whose they are, unless
identity is kept. A film is read, detected on and written before the next ones are; what is written of it is written together,
or not at all. One that cannot be read or written is skipped and told of.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from neurosym.data.burned_in import burned_in
from neurosym.data.dicom import DICOM_SUFFIXES
from neurosym.data.film_files import Film, FilmFile, read_film_file
from neurosym.data.images import IMAGE_SUFFIXES
from neurosym.errors import NeurosymError, Problem, ReviewError, did_you_mean, short_path
from neurosym.knowledge.files import write_bytes_atomically
from neurosym.records import Sample, Scene
from neurosym.review.deidentify import say_who_is_gone
from neurosym.review.dicom_writing import dicom_bytes, refusals_of
from neurosym.review.findings import Findings
from neurosym.review.pseudonyms import Pseudonyms, file_stem, write_mapping
from neurosym.review.source_image import source_image, with_pixels
from neurosym.scenes.coco_results import save_coco
from neurosym.scenes.draw import draw_scene

if TYPE_CHECKING:
    from pydicom import Dataset

KINDS: Final = ("coco", "seg", "sr", "overlay", "film")
BATCH: Final = 4
"""Films that are in memory at once."""
_WIDTHS: Final = (384, 1024)
"""Of an overlay: at least, so that its labels can be read, and at most."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to write, of `KINDS`, with names of `pseudonyms`; `mapping` is a file for which film has which name, or None."""

    kinds: tuple[str, ...] = ("coco",)
    pseudonyms: Pseudonyms = field(default_factory=Pseudonyms)
    mapping: Path | None = None

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ReviewError(f"--write: nothing is named; known: {', '.join(KINDS)}")
        for unknown in [k for k in self.kinds if k not in KINDS]:
            raise ReviewError(f"--write: unknown kind {unknown!r}; {did_you_mean(unknown, KINDS)}")
        if self.of_dicom and find_spec("highdicom") is None:
            cure = "pip install 'neurosym-imaging[dicom]'"
            raise ReviewError(Problem("highdicom is not installed, which writes DICOM", cure=cure))

    @property
    def of_dicom(self) -> bool:
        """Whether DICOM is to be written."""
        return not {"seg", "sr", "film"}.isdisjoint(self.kinds)


@dataclass
class FilmPredictions:
    """What was done.

    `skipped` and `text` tell of files, by their paths: why one was left out, what speaks for text in its pixels. `untold` films
    do not say whether there is text, `passed_over` files were no films; `files` counts what was written of each kind.
    """

    out: Path
    films: int = 0
    detections: int = 0
    passed_over: int = 0
    untold: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "out": str(self.out)}


def predict_films(
    out: Path,
    files: Sequence[FilmFile],
    detect: Callable[[Sequence[Sample]], list[Scene]],
    findings: Findings,
    categories: Mapping[str, str],
    wanted: Wanted,
    source: str = "",
    advance: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> FilmPredictions:
    """Detect on films and write what is wanted of each.

    Args:
        out: a folder that is not there yet, or empty.
        files: of the films, see `film_files`.
        detect: images → scenes, in the pixels of the images.
        findings: what makes a graph of a scene, for reports and the codes of classes; its threshold counts for all but results.
        categories: what each class is called in COCO files.
        wanted: what to write.
        source: where the detections come from, in words.
        advance: told of progress.

    Raises:
        ReviewError: `out` holds something or lies in a folder of films; the mapping is there already, or lies in `out`.
    """
    _check(out, files, wanted.mapping)
    done = FilmPredictions(out)
    writer = _Writer(out, findings, wanted, done)
    try:
        for start in range(0, len(files), BATCH):
            films = list(_read(files[start : start + BATCH], writer))
            found = detect([Sample(name, film.image) for name, film in films]) if films else []
            for (name, film), scene in zip(films, found, strict=True):
                try:
                    writer.write(name, film, scene)
                except NeurosymError as error:
                    done.skipped[str(film.file.path)] = _said(error, film.file.path)
            advance(min(start + BATCH, len(files)), len(files), f"{len(done.skipped)} skipped" if done.skipped else "")
    finally:  # of films that are written already nobody else could tell whose they are
        if wanted.mapping is not None:
            write_mapping(wanted.mapping, writer.mapping)
    scenes = [scene for _, scene in sorted(writer.scenes.items())]
    if "coco" in wanted.kinds:
        info = {"description": f"detections of {source}" if source else "detections"}
        done.files["coco"] = len(save_coco(out, scenes, categories, findings.threshold, writer.images, info))
    return done


def _check(out: Path, files: Sequence[FilmFile], mapping: Path | None) -> None:
    """Nothing is overwritten, mixed with older predictions, or taken for a film the next time."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        cure = "name a new folder: names of two runs would be mixed"
        raise ReviewError(Problem("there is something at --out already", short_path(out), cure=cure))
    if mapping is not None and mapping.resolve().is_relative_to(out.resolve()):
        cure = "whoever gets the predictions would learn whose they are"
        raise ReviewError(Problem("--mapping lies in --out", short_path(mapping), cure=cure))
    if mapping is not None and mapping.exists():
        cure = "name another file: the names in it may be known nowhere else"
        raise ReviewError(Problem("there is something at --mapping already", short_path(mapping), cure=cure))
    for folder in sorted({file.folder for file in files if file.folder}):
        if out.resolve().is_relative_to(folder.resolve()):
            cure = "the next call would take its pictures for films"
            raise ReviewError(
                Problem(f"--out lies in the films' folder {short_path(folder)}", short_path(out), cure=cure)
            )


def _read(files: Sequence[FilmFile], writer: _Writer) -> Iterator[tuple[str, Film]]:
    """The films that can be read, with their names."""
    for file in files:
        try:
            film = read_film_file(file)
            if film is None:
                writer.done.passed_over += 1
                continue
            yield writer.name_of(film), film
        except NeurosymError as error:
            writer.done.skipped[str(file.path)] = _said(error, file.path)


def _said(error: NeurosymError, path: Path) -> str:
    """What is wrong, without the path that it is told of."""
    return "; ".join(str(p).removeprefix(f"{short_path(path)}: ") for p in error.problems)


class _Writer:
    """Writes films one at a time, and keeps what the files of all of them need."""

    def __init__(self, out: Path, findings: Findings, wanted: Wanted, done: FilmPredictions) -> None:
        self.out, self.findings, self.wanted, self.done = out, findings, wanted, done
        self.scenes: dict[str, Scene] = {}
        self.images: dict[str, dict[str, Any]] = {}
        self.mapping: list[tuple[str, ...]] = []
        self._taken: dict[str, Path] = {}
        self._made = secrets.token_hex(16)  # what is made twice is two objects, by the same key, too

    def name_of(self, film: Film) -> str:
        """What a film is called, in files and as a file.

        Raises:
            ReviewError: another film has the name.
        """
        file = film.file
        if self.wanted.pseudonyms.keep_identity:
            known = PurePosixPath(file.name).suffix.lower() in (*IMAGE_SUFFIXES, *DICOM_SUFFIXES)
            name = file_stem(str(PurePosixPath(file.name).with_suffix("")) if known else file.name)
            problem = "is called as"
        else:
            name = self.wanted.pseudonyms.name("film", film.identity)
            problem = "is the same film as"
        if name in self._taken:
            raise ReviewError(Problem(f"{problem} {short_path(self._taken[name])}", short_path(file.path)))
        self._taken[name] = file.path
        return name

    def write(self, name: str, film: Film, scene: Scene) -> None:
        """Write what is wanted of a film; if that fails, nothing of it is left.

        Raises:
            ReviewError: its header lacks what DICOM asks for, or has what it does not allow.
        """
        parts = dict(self._parts(name, film, scene))
        try:
            for place, data in parts.items():
                write_bytes_atomically(self.out / place, data)
        except BaseException:
            for place in parts:
                (self.out / place).unlink(missing_ok=True)
            raise
        for place in parts:
            kind = PurePosixPath(place).parts[0]
            self.done.files[kind] = self.done.files.get(kind, 0) + 1
        self.done.films += 1
        self.done.detections += sum(d.score >= self.findings.threshold for d in scene.detections)
        self.scenes[name] = scene
        self._tell(name, film)

    def _tell(self, name: str, film: Film) -> None:
        """Keep what COCO files, the mapping and the warnings say of a film."""
        names = self.wanted.pseudonyms
        header = film.header
        suffix = ".dcm" if film.file.is_dicom or "film" in self.wanted.kinds else film.file.path.suffix.lower()
        self.images[name] = {"file_name": film.file.name if names.keep_identity else f"{name}{suffix}"}
        uids = ["", "", ""]
        if header is not None:
            uids = [str(header.get(f"{word}InstanceUID") or "") for word in ("Study", "Series", "SOP")]
            told = {}
            if patient := str(header.get("PatientID") or "").strip():
                told["patient"] = names.patient(patient)
            if uids[0]:
                told["study"] = names.name("study", uids[0])
            self.images[name]["attributes"] = told
        pairs = [u for uid in uids for u in (uid, names.uid(uid))]
        self.mapping.append((str(film.file.path), name, *pairs))
        if names.keep_identity:
            return
        found = burned_in(film.image, header)
        self.done.untold += not found.tag
        if str(found):
            self.done.text[str(film.file.path)] = str(found)

    def _parts(self, name: str, film: Film, scene: Scene) -> Iterator[tuple[str, bytes]]:
        """What is to be written of a film, by its place below the folder."""
        kinds = self.wanted.kinds
        if "overlay" in kinds:
            width = min(max(scene.width, _WIDTHS[0]), _WIDTHS[1])
            picture = io.BytesIO()
            draw_scene(film.image, scene, self.findings.threshold, width).save(picture, "PNG")
            yield f"overlay/{name}.png", picture.getvalue()
        if not self.wanted.of_dicom:
            return
        with refusals_of(film.file.path):
            for kind, dataset in self._dicom(name, film, scene):
                yield f"{kind}/{name}.dcm", dicom_bytes(dataset)

    def _dicom(self, name: str, film: Film, scene: Scene) -> Iterator[tuple[str, Dataset]]:
        from neurosym.review.segmentation import segmentation
        from neurosym.review.structured_report import structured_report

        names = self.wanted.pseudonyms
        image = source_image(film, name, names)
        found = self.findings.of(scene)
        ontology = self.findings.knowledge.ontology

        def uid_of(word: str) -> str:
            return names.new_uid(f"{self._made}/{film.identity}/{word}")

        if "film" in self.wanted.kinds or not film.file.is_dicom:
            whole = None if film.header is None else with_pixels(film.file.path, film.header)
            yield "film", image if whole is None else source_image(film, name, names, whole)
        made: dict[str, Dataset | None] = {}
        if "seg" in self.wanted.kinds:
            made["seg"] = segmentation(found, image, ontology, uid_of, boxes=True)
        if "sr" in self.wanted.kinds:
            made["sr"] = structured_report(found, image, ontology, uid_of, made.get("seg"))
        for kind, dataset in made.items():
            if dataset is not None:
                if not names.keep_identity:
                    say_who_is_gone(dataset)
                yield kind, dataset
