"""Shapes in annotations are checked while the tests run; shared knowledge and small data sets live here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook
from PIL import Image

settings.register_profile("neurosym", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("neurosym")

_LEARNING = [
    f"neurosym.learning.{m}"
    for m in ("batches", "comatch", "pretrain_methods", "pretrain_monitor", "pretrain_probe", "pretrain_views")
]
install_import_hook(["neurosym.constraints", "neurosym.models", *_LEARNING], "beartype.beartype")

from neurosym.data.phantom import Phantom, PhantomConfig  # noqa: E402
from neurosym.knowledge import Knowledge, load_knowledge  # noqa: E402

ROOT = Path(__file__).parents[1]
CLASSES = ("left_lung", "right_lung", "heart", "ground_glass_opacity", "consolidation", "nodule", "pleural_effusion")


@pytest.fixture(scope="session")
def thorax() -> Knowledge:
    return load_knowledge([ROOT / "ontologies/thorax.ttl", ROOT / "rules/thorax.rules"])


@pytest.fixture(scope="session")
def blood() -> Knowledge:
    return load_knowledge([ROOT / "ontologies/blood.ttl", ROOT / "rules/blood.rules"])


@pytest.fixture
def coco_folder(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes phantom films as a COCO file; `change` may spoil the data before it is written."""

    def write(count: int = 3, change: Callable[[dict], None] | None = None) -> tuple[Path, Path]:
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        category = {name: i for i, name in enumerate(CLASSES, 1)}
        data: dict = {
            "images": [],
            "annotations": [],
            "categories": [{"id": i, "name": n} for n, i in category.items()],
        }
        for number, film in enumerate(Phantom(0, count, PhantomConfig(size=128)), 1):
            Image.fromarray(film.image).save(folder / f"{film.image_id}.png")
            study = min(film.labels - {"cardiomegaly"})
            image = {"id": number, "file_name": f"{film.image_id}.png", "width": 128, "height": 128}
            data["images"].append(image | {"attributes": {"study": study}})
            for a in film.annotations:
                box = [a.box.x1, a.box.y1, a.box.width, a.box.height]
                entry = {
                    "id": len(data["annotations"]) + 1,
                    "image_id": number,
                    "category_id": category[a.name],
                    "bbox": box,
                }
                data["annotations"].append(entry)
        if change is not None:
            change(data)
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(data), encoding="utf-8")
        return path, folder

    return write
