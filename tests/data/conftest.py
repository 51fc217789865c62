"""Films as a COCO file and as the shards that it was packed to."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurosym.data.shard_films import coco_films
from neurosym.data.shard_pack import pack
from tests.data.shard_films import FILMS, SIZE, Folder, rich


@pytest.fixture
def rich_files(coco_folder: Folder) -> tuple[Path, Path]:
    return coco_folder(FILMS, rich)


@pytest.fixture
def packed(rich_files: tuple[Path, Path], tmp_path: Path) -> Path:
    pack(coco_films(*rich_files), tmp_path / "shards", SIZE)
    return tmp_path / "shards"
