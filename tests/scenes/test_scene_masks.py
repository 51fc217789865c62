from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurosym.data.masks import decode_mask, encode_mask
from neurosym.errors import DataError
from neurosym.records import Box, Detection, Scene
from neurosym.scenes import load_scenes, save_scenes
from neurosym.scenes.draw import colour_of, draw_scene

MASK = np.zeros((40, 60), dtype=np.uint8)
MASK[10:30, 20:50] = 1
MASK[10:20, 20:35] = 0
BARE = Scene("film", 60, 40, (Detection("heart", Box(20, 10, 50, 30), 0.9),), {"large": 1.0})
SCENE = replace(BARE, detections=(replace(BARE.detections[0], mask=encode_mask(MASK)),))


def test_a_mask_survives_its_code() -> None:
    assert np.array_equal(decode_mask(encode_mask(MASK)), MASK)
    assert np.array_equal(decode_mask(encode_mask(MASK > 0)), MASK)
    assert json.loads(json.dumps(encode_mask(MASK))) == encode_mask(MASK)


def test_masks_survive_a_file_of_scenes(tmp_path: Path) -> None:
    scenes = [SCENE, replace(BARE, image_id="bare")]
    save_scenes(tmp_path / "s.json", scenes)
    assert load_scenes(tmp_path / "s.json")[0] == scenes


def test_a_scene_without_masks_is_written_as_before_there_were_masks(tmp_path: Path) -> None:
    save_scenes(tmp_path / "s.json", [BARE], "step-000001")
    box = {"x1": 20, "y1": 10, "x2": 50, "y2": 30}
    detection = {"name": "heart", "box": box, "score": 0.9}
    scene = {"image_id": "film", "width": 60, "height": 40, "detections": [detection]}
    value = {"origin": "step-000001", "scenes": [scene | {"labels": {"large": 1.0}, "image_path": ""}]}
    assert (tmp_path / "s.json").read_text() == json.dumps(value, indent=1) + "\n"


@pytest.mark.parametrize(
    "mask",
    [{"size": [40], "counts": "x"}, {"size": ["a", "b"], "counts": "x"}, {"size": [4, 4], "counts": [1]}, "text"]
    + [{"size": [40, 60], "counts": "garbage"}, {"size": [40, 60], "counts": ""}, {"size": [4, 4], "counts": "@"}],
)
def test_a_mask_that_is_no_run_length_code_is_refused(mask: object, tmp_path: Path) -> None:
    save_scenes(tmp_path / "s.json", [SCENE])
    value = json.loads((tmp_path / "s.json").read_text())
    value["scenes"][0]["detections"][0]["mask"] = mask
    (tmp_path / "s.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match="not a file of scenes"):
        load_scenes(tmp_path / "s.json")


def test_a_picture_shows_the_outline_of_a_mask_and_not_its_inside() -> None:
    image = np.full((40, 60), 100, dtype=np.uint8)
    colour = tuple(int(colour_of("heart")[i : i + 2], 16) for i in (1, 3, 5))
    pictures = {s: np.asarray(draw_scene(image, scene, width=240)) for s, scene in (("mask", SCENE), ("bare", BARE))}
    painted = {s: (p == colour).all(2) for s, p in pictures.items()}
    # four picture pixels to a pixel: the mask's left part begins at row 80, below what is cut out of it
    assert painted["mask"][80:82, 84:136].all()
    assert not painted["mask"][76:80, 84:136].any()
    assert not painted["mask"][90:110, 100:180].any()
    assert not painted["bare"][80:82, 84:136].any()


def test_labels_of_one_box_are_written_below_each_other_and_a_lit_one_lights_the_box() -> None:
    image = np.full((40, 60), 100, dtype=np.uint8)
    heart, lung = Detection("heart", Box(10, 2, 55, 38)), Detection("left_lung", Box(10, 2, 55, 38))
    inside, frame = (slice(12, 188), slice(52, 274)), (slice(189, 191), slice(50, 276))

    def drawn(*detections: Detection, highlight: set[int] | None = None) -> np.ndarray:
        return np.asarray(draw_scene(image, Scene("film", 60, 40, detections), width=300, highlight=highlight))

    alone, both = drawn(heart), drawn(heart, lung)
    first = np.flatnonzero((alone[inside] != 100).any((1, 2)))
    second = np.flatnonzero((both[inside] != alone[inside]).any((1, 2)))
    assert 0 < first.max() < second.min(), "the second name stands below the first, which stands where it would alone"
    for lit in (drawn(heart, lung, highlight={0}), drawn(lung, heart, highlight={1})):
        assert np.array_equal(lit[frame], alone[frame]), "the unlit label does not paint over the frame"
    assert not np.array_equal(drawn(heart, lung, highlight=set())[frame], alone[frame])
    assert (drawn(heart, lung, highlight=set())[inside] == 100).all(), "what is not lit has no name"


@pytest.mark.parametrize("box", [Box(20, 150, 90, 198), Box(240, 20, 299, 90), Box(250, 170, 299, 199)])
def test_names_at_the_lower_and_the_right_edge_are_written_whole(box: Box) -> None:
    white = np.full((200, 300), 255, dtype=np.uint8)
    names = ("pedestrian", "pushes_object", "waits_to_cross", "moves_away")

    def ink(box: Box) -> int:
        """How many pixels are black, which only the ground of names is."""
        scene = Scene("film", 300, 200, tuple(Detection(name, box, 0.75) for name in names))
        picture = np.asarray(draw_scene(white, scene, width=300)).astype(int)
        return int((picture.sum(2) == 0).sum())

    assert ink(box) == ink(Box(20, 20, 120, 90)) > 0, "as many as in the middle of the picture"
