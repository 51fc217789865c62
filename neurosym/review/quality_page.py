"""`write_quality_page`: one self-contained HTML file with the annotations to re-draw, worst first, each with its picture.

The page holds no script, fetches nothing, and escapes whatever the data and knowledge files say.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape

from neurosym.knowledge.rules import write_text_atomically
from neurosym.learning.annotation_estimate import AnnotationQuality
from neurosym.learning.annotation_truth import QualityScores
from neurosym.records import Sample, Scene
from neurosym.scenes.quality_picture import ANNOTATED, PREDICTED, SUGGESTED, quality_picture


def write_quality_page(
    path: Path,
    title: str,
    ranked: Sequence[AnnotationQuality],
    image_of: Callable[[str], Sample],
    scenes: Mapping[str, Scene],
    count: int,
    scores: QualityScores | None = None,
    threshold: float = 0.5,
) -> None:
    """Write the page, all or nothing.

    Args:
        path: the HTML file.
        title: whose annotations they are.
        ranked: those to show, worst first.
        image_of: the image of an id.
        scenes: the predictions on it.
        count: how many annotations were judged in all.
        scores: how the estimates fare against the truth, where it is known.
        threshold: predictions below it are not drawn, except the one that agrees best.
    """
    pictures: dict[tuple[str, int], str] = {}
    for image_id in dict.fromkeys(q.image_id for q in ranked):
        image = image_of(image_id).image  # one image at a time: each is read once, none is kept
        for q in (q for q in ranked if q.image_id == image_id):
            stream = io.BytesIO()
            quality_picture(image, q, scenes[image_id].detections, threshold).save(stream, "JPEG", quality=80)
            data = base64.b64encode(stream.getvalue()).decode()
            pictures[q.image_id, q.index] = f"data:image/jpeg;base64,{data}"
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(["html"])
    )
    colours = {"annotated": ANNOTATED, "suggested": SUGGESTED, "predicted": PREDICTED}
    page = environment.get_template("quality.html").render(
        title=title, ranked=ranked, pictures=pictures, count=count, scores=scores, colours=colours
    )
    write_text_atomically(path, page)
