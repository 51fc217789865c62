from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch

from neurosym.data.masks import decode_mask
from neurosym.models.config import DetectorConfig
from neurosym.models.scene import UNKNOWN
from neurosym.models.segmenter import FpnSegmenter, class_maps, components, regions, segmentation_losses
from tests.models.overfit import NAMES, overfit


def flood(mask: np.ndarray) -> list[frozenset[tuple[int, int]]]:
    """Connected components (by sides) by walking."""
    todo, found = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    while todo:
        queue = deque([todo.pop()])
        part = set(queue)
        while queue:
            y, x = queue.popleft()
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in todo:
                    todo.remove(near)
                    part.add(near)
                    queue.append(near)
        found.append(frozenset(part))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_detections_are_the_connected_components_of_the_maps(seed: int) -> None:
    maps = torch.rand(2, 14, 11, generator=torch.Generator().manual_seed(seed))
    found = components(maps, min_area=3, score_threshold=0.0, limit=100)
    expected = {
        (label, part): np.mean([float(m[c]) for c in part])
        for label, m in enumerate(maps, 1)
        for part in flood(m.numpy() > 0.5)
        if len(part) >= 3
    }
    assert len(expected) == len(found["boxes"]) > 0
    for box, label, score, mask in zip(*(found[k] for k in ("boxes", "labels", "scores", "masks")), strict=True):
        part = frozenset((int(y), int(x)) for y, x in mask.nonzero())
        assert float(score) == pytest.approx(expected.pop((int(label), part)), abs=1e-5)
        ys, xs = zip(*part, strict=True)
        assert box.tolist() == [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
    assert (found["scores"].diff() <= 0).all()
    assert len(components(maps, 3, 0.0, limit=2)["boxes"]) == 2
    assert len(components(maps, 10**6, 0.0, limit=2)["boxes"]) == 0


def test_regions_share_the_image_and_each_cell_goes_to_the_nearest() -> None:
    maps = torch.zeros(2, 9, 9)
    maps[0, 1:3, 1:3] = 0.9
    maps[0, 6:8, 6:8] = 0.9
    two, none = regions(maps)
    assert torch.equal(two.sum(0), torch.ones(9, 9))
    assert two[:, 0, 0].tolist() == [1.0, 0.0]
    assert two[:, 8, 8].tolist() == [0.0, 1.0]
    assert torch.equal(none, torch.ones(1, 9, 9)), "a class that shows nothing is one faint object"


def test_the_losses_are_cross_entropy_and_dice_over_known_pixels() -> None:
    rng = np.random.default_rng(0)
    logits = [torch.tensor(rng.normal(size=(3, 4, 5))) for _ in range(2)]
    truth = [torch.tensor(rng.choice([0, 1, UNKNOWN], size=(3, 4, 5)), dtype=torch.uint8) for _ in range(2)]
    for t in truth:
        t[2] = 0  # nothing of the last class in this batch
    entropy, dice = [], []
    for c in range(3):
        p = np.concatenate([1 / (1 + np.exp(-x[c].numpy().ravel())) for x in logits])
        y = np.concatenate([t[c].numpy().ravel() for t in truth])
        p, y = p[y != UNKNOWN], y[y != UNKNOWN].astype(float)
        entropy += [-np.log(q if t else 1 - q) for q, t in zip(p, y, strict=True)]
        if y.sum():
            dice.append(1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1))
    found = segmentation_losses(logits, truth)
    assert float(found["loss_mask"]) == pytest.approx(np.mean(entropy))
    assert float(found["loss_dice"]) == pytest.approx(np.mean(dice))
    assert len(dice) == 2


def test_a_pixel_belongs_to_a_class_if_any_of_its_objects_does_and_is_unknown_if_one_may() -> None:
    masks = torch.tensor([[[1, 0, 0, 0]], [[UNKNOWN, UNKNOWN, 0, 0]], [[0, 0, 1, 0]]], dtype=torch.uint8)
    for order in ([0, 1, 2], [1, 0, 2]):
        maps = class_maps(masks[order], torch.tensor([1, 1, 2]), 2)
        assert maps.tolist() == [[[1, UNKNOWN, 0, 0]], [[0, 0, 1, 0]]]


def test_an_object_is_a_region_with_its_presence_its_box_and_its_mask() -> None:
    model = FpnSegmenter(DetectorConfig(kind="fpn_segmenter", fpn_channels=16, pretrained=False), ("lung", "nodule"))
    maps = torch.full((2, 64, 96), 0.01)
    maps[0, 8:40, 16:32] = 0.95
    maps[0, 16:48, 64:80] = 0.8
    scene = model._scene(maps, 10)
    assert scene.size == (96, 64)
    first, second, absent = scene.boxes.tolist()
    assert first == pytest.approx([16, 8, 32, 40], abs=2.0)
    assert second == pytest.approx([64, 16, 80, 48], abs=2.0)
    assert scene.probabilities[:, 1].tolist() == pytest.approx([0.95, 0.8, 0.0], abs=0.01)
    assert scene.probabilities[:, 2].tolist() == pytest.approx([0.0, 0.0, 0.01], abs=0.001)
    assert absent == pytest.approx([0, 0, 96, 64], abs=4.0)
    assert scene.masks is not None
    assert scene.masks.shape == (3, 16, 24)
    assert scene.masks[0, 4:8, 18].max() < 0.02, "the other region's cells are not its own"


def test_four_films_are_learned_by_heart() -> None:
    model, films, images, result = overfit("fpn_segmenter", steps=24, lr=2e-3, films=4)
    assert result.ap50 > 0.95
    assert result.mask_ap50 is not None
    assert result.mask_ap50 > 0.95
    for film, found, scene in zip(films, model.detect(images), model.propose(images), strict=True):
        for label, name in enumerate(NAMES, 1):
            true = next(decode_mask(a.mask) for a in film.annotations if a.name == name and a.mask is not None) > 0
            mine = found["masks"][found["labels"] == label].any(0).numpy()
            assert 2 * (mine & true).sum() / (mine.sum() + true.sum()) > 0.85
            box = next(a.box.xyxy for a in film.annotations if a.name == name)
            best = int(scene.probabilities[:, label].argmax())
            assert scene.boxes[best].tolist() == pytest.approx(box, abs=7.0)
