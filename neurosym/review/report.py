"""`write_report`: one self-contained HTML file of a run, to share: each induced rule with the films for and against it.

Refuting films come first in each rule, because they are what an expert needs to see. The page holds no script, fetches
nothing, and escapes whatever the knowledge files say. Films are called by their number (`neurosym.review.film_names`), their
pictures are drawn anew from the pixels, so nothing of a file's name, folder or metadata is in it; what is written on the
film itself is.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape

from neurosym.data.images import read_image
from neurosym.errors import DataError
from neurosym.knowledge import Knowledge
from neurosym.knowledge.canonical import canonical
from neurosym.knowledge.reading import reading
from neurosym.knowledge.rules import write_text_atomically
from neurosym.records import Candidate, Rule, Scene
from neurosym.review.film_names import film_names
from neurosym.review.run_summary import HEIGHT, WIDTH, RunSummary
from neurosym.review.sentences import Sentence
from neurosym.scenes.draw import draw_scene


@dataclass(frozen=True, slots=True)
class Film:
    """One thumbnail; `picture` is a data URI, "" if the image is not at hand."""

    name: str
    picture: str


def write_report(
    path: Path,
    title: str,
    candidates: Sequence[Candidate],
    scenes: Sequence[Scene],
    knowledge: Knowledge,
    evaluation: Mapping[str, Any] | None = None,
    source: str = "predictions",
    threshold: float = 0.5,
    films_per_rule: int = 4,
    keep_identifiers: bool = False,
    summary: RunSummary | None = None,
    told: Sequence[tuple[Scene, Sequence[Sentence]]] = (),
) -> None:
    """Write the report.

    Args:
        path: the HTML file.
        title: what was induced from what.
        candidates: induced rules, best first.
        scenes: the scenes that the facts came from.
        knowledge: for the labels in the rules' readings.
        evaluation: what `neurosym evaluate --json` wrote, shown above the rules.
        source: where the facts came from, in words.
        threshold: detections below it were no facts and are not drawn.
        films_per_rule: thumbnails on each side.
        keep_identifiers: call films by their ids.
        summary: of the run, shown first.
        told: what is found on some of the scenes.
    """
    by_id = {s.image_id: s for s in scenes}
    written = {canonical(r): f"{_without_folder(r.file)}:{r.line}" for r in knowledge.rules}
    thumbnails = _Thumbnails(knowledge, threshold, film_names(scenes, keep_identifiers))
    described = [(thumbnails.film(scene), sentences) for scene, sentences in told]
    entries = [
        {
            "candidate": c,
            "reading": reading(replace(c.rule, weight=None), knowledge.ontology),
            "known": written.get(canonical(c.rule), ""),
            "supporting": [thumbnails.film(by_id[f], c.rule) for f in c.supporting[:films_per_rule] if f in by_id],
            "refuting": [thumbnails.film(by_id[f], c.rule) for f in c.refuting[:films_per_rule] if f in by_id],
        }
        for c in candidates
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(["html"])
    )
    page = environment.get_template("report.html").render(
        title=title, entries=entries, films=len(scenes), evaluation=evaluation, source=source, summary=summary,
        told=described, curve_size=(WIDTH, HEIGHT),
    )  # fmt: skip
    write_text_atomically(path, page)


def _without_folder(file: str) -> str:
    """A file as it is called from the project's folder; of one that lies elsewhere the name alone."""
    path = Path(file)
    return path.name if path.is_absolute() or ".." in path.parts else file


class _Thumbnails:
    def __init__(self, knowledge: Knowledge, threshold: float, names: Mapping[str, str]) -> None:
        self.ontology, self.threshold, self.names = knowledge.ontology, threshold, names
        self.images: dict[str, np.ndarray | None] = {}

    def film(self, scene: Scene, rule: Rule | None = None) -> Film:
        """A scene as a thumbnail; what a rule names is lit."""
        name, image = self.names[scene.image_id], self._image(scene)
        if image is None:
            return Film(name, "")
        named = {a.predicate for a in (*rule.head, *rule.body) if len(a.args) == 1} if rule else set()
        lit = [
            i
            for i, d in enumerate(scene.detections)
            if d.name in self.ontology.classes and named & {d.name, *self.ontology.ancestors(d.name)}
        ]
        stream = io.BytesIO()
        draw_scene(image, scene, self.threshold, 280, lit or None).save(stream, "JPEG", quality=72)
        return Film(name, "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode())

    def _image(self, scene: Scene) -> np.ndarray | None:
        if scene.image_id not in self.images:
            try:
                self.images[scene.image_id] = read_image(Path(scene.image_path)) if scene.image_path else None
            except DataError:
                self.images[scene.image_id] = None
        return self.images[scene.image_id]
