"""Shapes in annotations are checked while the tests run; shared knowledge and small data sets live here."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from functools import cache
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

from neurosym.data.phantom import PhantomConfig, phantom_film  # noqa: E402
from neurosym.knowledge import Knowledge, load_knowledge  # noqa: E402
from neurosym.records import Sample  # noqa: E402

ROOT = Path(__file__).parents[1]
CLASSES = ("left_lung", "right_lung", "heart", "ground_glass_opacity", "consolidation", "nodule", "pleural_effusion")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The command line goes first: what numba compiles for it lies on disk once the tests of `induction.kg` begin."""
    items.sort(key=lambda item: item.path != ROOT / "tests/test_cli.py")


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """What tests write need not outlive a failing machine; a handle that is none still raises."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(scope="session")
def thorax() -> Knowledge:
    return load_knowledge([ROOT / "ontologies/thorax.ttl", ROOT / "rules/thorax.rules"])


@pytest.fixture(scope="session")
def blood() -> Knowledge:
    return load_knowledge([ROOT / "ontologies/blood.ttl", ROOT / "rules/blood.rules"])


@cache
def _film(index: int) -> tuple[Sample, bytes]:
    film, file = phantom_film(index, PhantomConfig(size=128)), io.BytesIO()
    Image.fromarray(film.image).save(file, "png")
    return film, file.getvalue()


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
        for number in range(1, count + 1):
            film, png = _film(number - 1)
            (folder / f"{film.image_id}.png").write_bytes(png)
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
