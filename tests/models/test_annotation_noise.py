"""The bias of annotated sizes against boxes spoilt by a known process, and where there is none to be found."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from neurosym.data.degrade import degrade
from neurosym.models.annotation_noise import DOUBT, NoiseModel
from neurosym.models.posterior import posterior, residuals, whole_sides
from neurosym.models.votes import Votes
from neurosym.records import Annotation, Box, Sample

SIZE = (1200.0, 1000.0)
SIDE = 60.0


def spoilt(how: str, r: float, count: int = 4000, scale: float = 0.0) -> tuple[Tensor, Tensor]:
    """True and annotated boxes far from the image's border, elongated each in its own way; `scale`: sd of their log-scale."""
    rng = np.random.default_rng(0)
    true = []
    for (x, y, w, h), z in zip(rng.uniform(-1, 1, (count, 4)), rng.normal(0, scale, count), strict=True):
        centre = 600 + 200 * x, 500 + 200 * y
        half = SIDE / 2 * math.exp(0.2 * w + z), SIDE / 2 * math.exp(0.2 * h + z)
        true.append(Box(centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]))
    image = np.zeros((int(SIZE[1]), int(SIZE[0])), dtype=np.uint8)
    sample = Sample("film", image, tuple(Annotation("cell", b) for b in true))
    shown = sample if r == 0 else degrade(sample, how, r)
    boxes = [[a.box.xyxy for a in s.annotations] for s in (sample, shown)]
    return torch.tensor(boxes[0], dtype=torch.float32), torch.tensor(boxes[1], dtype=torch.float32)


def voted(true: Tensor, annotated: Tensor, error: float = 0.1, by_size: bool = False, known: float = 1.0) -> Votes:
    """Votes with the annotations' mean bias and an error of their own, by `by_size` the larger the larger an object is.

    They know a share `known` of what an object's log-size differs by from the class's.
    """
    rng = torch.Generator().manual_seed(3)
    sides = true[:, 2:] - true[:, :2]
    bias = ((annotated[:, 2:] - annotated[:, :2]).log() - sides.log()).mean(0)
    scale = sides if by_size else torch.full_like(sides, SIDE)
    centre = (true[:, :2] + true[:, 2:]) / 2 + error * scale * torch.randn(len(true), 2, generator=rng)
    size = (
        math.log(SIDE)
        + known * (sides.log() - math.log(SIDE))
        + bias
        + error * torch.randn(len(true), 2, generator=rng)
    )
    spread = torch.full_like(sides, error**2)
    return Votes(centre, size, spread, spread)


def learned(annotated: Tensor, votes: Votes) -> NoiseModel:
    """A noise model that has seen all annotations three times, some at a time."""
    noise, sides = NoiseModel(), torch.full_like(annotated[:, 2:], SIDE)
    noise.measure(len(annotated))
    for _ in range(3):
        for part in range(0, len(annotated), 25):
            own = slice(part, part + 25)
            of_votes = Votes(*(v[own] for v in votes))
            noise.update(*residuals(annotated[own], of_votes, sides[own]), whole_sides(annotated[own], SIZE))
    return noise


@pytest.mark.parametrize("how", ["too_big", "partial"])
def test_boxes_that_are_all_too_big_or_all_cut_are_found_out_by_their_centres(how: str) -> None:
    true, annotated = spoilt(how, 0.4)
    bias = float(((annotated[:, 2:] - annotated[:, :2]) / (true[:, 2:] - true[:, :2])).log().mean())
    noise = learned(annotated, voted(true, annotated))
    assert float(noise.bias) == pytest.approx(bias, rel=0.35)


@pytest.mark.parametrize("r", [0.0, 0.1, 0.2, 0.4])
def test_symmetric_noise_of_any_level_has_no_bias(r: float) -> None:
    true, annotated = spoilt("uniform", r)
    assert abs(float(learned(annotated, voted(true, annotated)).bias)) < 0.03


@pytest.mark.parametrize("known", [1.0, 0.5, 0.0])
def test_exact_boxes_keep_their_sizes_even_where_votes_do_not_know_them(known: float) -> None:
    true, annotated = spoilt("uniform", 0.0, scale=0.3)
    votes = voted(true, annotated, error=0.08, known=known)
    told = posterior(annotated, votes, learned(annotated, votes), torch.full_like(annotated[:, 2:], SIDE), SIZE)
    assert float(box_iou(told.boxes, true).diagonal().mean()) > 0.94


@pytest.mark.parametrize("r", [0.2, 0.4])
@pytest.mark.parametrize(("scale", "known"), [(0.2, 0.5), (0.35, 0.7), (0.35, 0.5), (0.35, 0.2)])
def test_symmetric_noise_has_no_bias_where_votes_know_sizes_in_part_only(r: float, scale: float, known: float) -> None:
    true, annotated = spoilt("uniform", r, scale=scale)
    assert float(learned(annotated, voted(true, annotated, known=known)).bias) == 0.0


def test_votes_that_err_by_more_on_larger_objects_do_not_look_like_a_bias_of_exact_boxes() -> None:
    true, annotated = spoilt("uniform", 0.0)
    assert abs(float(learned(annotated, voted(true, annotated, by_size=True)).bias)) < 0.05


def test_votes_that_err_with_the_size_of_exact_boxes_leave_these_as_they_are() -> None:
    """Large cells are voted for better than small ones here, as where boxes are partial; but their centres are not off."""
    true, annotated = spoilt("uniform", 0.0)
    rng = torch.Generator().manual_seed(5)
    sides = true[:, 2:] - true[:, :2]
    astray = 0.15 * torch.randn(sides.shape, generator=rng)
    spread = 0.1 * (1.0 - 2.0 * (-astray)).clamp(0.2, 2.0)  # of votes for a size that is too small, the centre is off
    centre = (true[:, :2] + true[:, 2:]) / 2 + spread * SIDE * torch.randn(sides.shape, generator=rng)
    variance = torch.full_like(sides, 0.11**2)
    votes = Votes(centre, sides.log() + astray, variance, variance)
    noise = learned(annotated, votes)
    z = noise.third / ((noise.third_square - noise.third.square()) / noise.seen).sqrt()
    assert abs(float(z[0])) > 2 * DOUBT
    assert abs(float(noise.bias)) < 0.01


def test_few_annotations_seen_again_and_again_are_no_evidence_of_a_bias() -> None:
    true, annotated = spoilt("too_big", 0.4, 40)
    noise = learned(annotated, voted(true, annotated))
    for _ in range(40):
        noise.update(*residuals(annotated, voted(true, annotated), torch.full_like(annotated[:, 2:], SIDE)))
    many = spoilt("too_big", 0.4)
    assert abs(float(noise.bias)) < 0.5 * float(learned(many[1], voted(*many)).bias)


def test_refined_boxes_lose_the_bias_and_quality_tells_of_it() -> None:
    true, annotated = spoilt("too_big", 0.4)
    votes = voted(true, annotated)
    noise = learned(annotated, votes)
    told = posterior(annotated, votes, noise, torch.full_like(annotated[:, 2:], SIDE), SIZE)
    ratio = ((told.boxes[:, 2:] - told.boxes[:, :2]) / (true[:, 2:] - true[:, :2])).log()
    assert abs(float(ratio.mean())) < 0.1
    actual = box_iou(annotated, true).diagonal()
    assert float(told.quality.mean()) == pytest.approx(float(actual.mean()), abs=0.08)


def test_boxes_at_the_border_of_the_image_tell_nothing_of_a_bias() -> None:
    """Clipped boxes are smaller the farther their centre is pushed, which looks like boxes that are cut."""
    boxes = torch.tensor([[0.0, 10.0, 30.0, 40.0], [20.0, 10.0, 1200.0, 1000.0], [5.0, 5.0, 9.0, 9.0]])
    assert whole_sides(boxes, SIZE).tolist() == [[False, True], [False, False], [True, True]]
    noise = NoiseModel()
    noise.update(torch.rand(3, 4), torch.ones(3, 4), torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.bool))
    assert float(noise.seen) == 0.0
    assert float(noise.bias) == 0.0


@pytest.mark.parametrize("spread", [0.05**2, 0.03])
@pytest.mark.parametrize("r", [0.0, 0.2])
def test_a_class_that_the_votes_do_not_find_is_left_as_it_is_drawn_if_another_tells_how_noisy_drawing_is(
    r: float, spread: float
) -> None:
    """Half of the boxes are of a class whose votes err by half a side, which they know in part at most; all are drawn alike."""
    true, annotated = spoilt("uniform", r)
    found, astray = voted(true, annotated, error=0.05), voted(true, annotated, error=0.5)
    labels = 1 + (torch.arange(len(true)) % 2)
    votes = Votes(*(torch.where(labels[:, None] == 1, f, a) for f, a in zip(found, astray, strict=True)))
    known_of = torch.where(labels[:, None] == 1, found.centre_variance, spread)
    votes = votes._replace(centre_variance=known_of, size_variance=known_of)
    sides, noise = torch.full_like(annotated[:, 2:], SIDE), NoiseModel(2)
    for part in range(0, len(annotated), 25):
        own = slice(part, part + 25)
        told = residuals(annotated[own], Votes(*(v[own] for v in votes)), sides[own])
        noise.update(*told, whole_sides(annotated[own], SIZE), labels[own])
    refined = posterior(annotated, votes, noise, sides, SIZE, labels=labels).boxes
    before, after = (box_iou(boxes, true).diagonal()[labels == 2].mean() for boxes in (annotated, refined))
    assert float(after) > float(before) - 0.03
    if r:
        known = labels == 1
        assert float(box_iou(refined, true).diagonal()[known].mean()) > float(before) + 0.1


def test_a_class_whose_votes_scatter_by_more_than_its_boxes_stray_does_not_make_all_boxes_look_exact() -> None:
    """A third of the boxes is of a class whose votes scatter, and say so: nothing of its residuals is left over for noise."""
    true, annotated = spoilt("uniform", 0.4)
    votes = voted(true, annotated, error=0.05)
    labels = 1 + (torch.arange(len(true)) % 3)
    scattered = (labels == 3)[:, None].expand(-1, 2)
    spread = torch.where(scattered, 0.06, votes.centre_variance)
    votes = votes._replace(centre_variance=spread, size_variance=spread)
    noise = NoiseModel(3)
    for part in range(0, len(annotated), 25):
        own = slice(part, part + 25)
        told = residuals(annotated[own], Votes(*(v[own] for v in votes)), torch.full_like(annotated[own, 2:], SIDE))
        noise.update(*told, whole_sides(annotated[own], SIZE), labels[own])
    assert noise.level == pytest.approx(0.4, abs=0.1)
