"""Exact and inexact annotations told apart, on films whose quality is known to the test and to nobody else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.ops import box_iou

from neurosym.models.annotation_noise import FLOOR, NoiseModel
from neurosym.models.mixed_quality import SLACK, MixedQuality, Quality
from neurosym.models.positives import weighted_offset_loss
from neurosym.models.posterior import posterior
from neurosym.models.votes import Votes

FILMS, BOXES, SIDE = 800, 4, 60.0
SPREAD = torch.tensor([0.07, 0.07, 0.07, 0.4])
"""Standard deviation of the votes for each box of a film; those for the last one scatter."""


class Biased(NoiseModel):
    """Boxes are said to be too big by an eighth of a logarithm."""

    @property
    def bias(self) -> Tensor:
        return torch.tensor(0.14)


def films(share: float, r: float, *, by_film: bool = True, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals (film, box, number), errors of the votes in them, and which boxes are exact."""
    rng = np.random.default_rng(seed)
    exact = rng.random((FILMS, 1 if by_film else BOXES)) < share
    exact = np.broadcast_to(exact, (FILMS, BOXES))
    errors = rng.normal(size=(FILMS, BOXES, 4)) * SPREAD.numpy()[:, None]
    noise = np.where(exact[..., None], 0.0, rng.uniform(-r, r, (FILMS, BOXES, 4)))
    as_tensor = (torch.tensor(np.ascontiguousarray(v)) for v in (noise - errors, -errors, exact))
    residual, said, known = as_tensor
    return residual.float(), said.float(), known


def told(residual: Tensor, share: float, r: float) -> tuple[MixedQuality, Tensor]:
    """What is said of the second half of the films, after the first."""
    mixed = MixedQuality(2)
    noise = torch.full((4,), max(FLOOR**2, (1 - share) * r**2 / 3))
    votes = SPREAD[:, None].expand(BOXES, 4).square()
    labels = torch.tensor([1, 1, 1, 2])
    said = [mixed.tell(film, votes, noise, labels, learn=True).exact for film in residual]
    return mixed, torch.stack(said[FILMS // 2 :])


@pytest.mark.parametrize("seed", [0, 1])
def test_exact_films_are_found_among_inexact_ones_and_tell_of_the_box_whose_votes_say_nothing(seed: int) -> None:
    residual, _, exact = films(0.25, 0.4, seed=seed)
    mixed, said = told(residual, 0.25, 0.4)
    known = exact[FILMS // 2 :]
    assert float(mixed.share) == pytest.approx(0.25, abs=0.08)
    assert float(mixed.alike) > 0.9
    for box in (0, BOXES - 1):
        assert float(said[known[:, box], box].mean()) > 0.9
        assert float(said[~known[:, box], box].mean()) < 0.05


def test_where_each_box_has_a_quality_of_its_own_a_film_says_nothing_of_its_other_boxes() -> None:
    residual, _, exact = films(0.5, 0.4, by_film=False)
    mixed, said = told(residual, 0.5, 0.4)
    known = exact[FILMS // 2 :]
    assert float(mixed.alike) < 0.1
    assert float(said[known[:, 0], 0].mean()) > 0.9
    assert float(said[~known[:, 0], 0].mean()) < 0.3  # some are off by little
    assert float((said[known[:, 3], 3].mean() - said[~known[:, 3], 3].mean()).abs()) < 0.1


@pytest.mark.parametrize("error", [0.07, 0.12, 0.2])
@pytest.mark.parametrize("r", [0.0, 0.1, 0.2, 0.3, 0.4])
def test_annotations_of_one_quality_are_refined_as_without_it(r: float, error: float) -> None:
    rng = np.random.default_rng(0)
    mixed, noise = MixedQuality(), NoiseModel()
    votes, sides = torch.full((BOXES, 4), max(0.07, error) ** 2), torch.full((BOXES, 2), SIDE)
    for n in range(FILMS):
        wrong, astray = (
            torch.tensor(v).float() for v in (rng.uniform(-r, r, (BOXES, 4)), rng.normal(size=(BOXES, 4)) * error)
        )
        noise.update(wrong - astray, votes, wrong[:, 2:])
        quality = mixed.tell(wrong - astray, votes, noise.variance, excess=noise.excess, learn=True)
        if n < FILMS - 20:
            continue
        centre, half = 330.0 + wrong[:, :2] * SIDE, SIDE / 2 * wrong[:, 2:].exp()
        annotated = torch.cat([centre - half, centre + half], 1)
        said = Votes(330.0 + astray[:, :2] * SIDE, np.log(SIDE) + astray[:, 2:], votes[:, :2], votes[:, 2:])
        one, two = (posterior(annotated, said, noise, sides, (640.0, 640.0), mixed=q) for q in (None, quality))
        assert float(box_iou(one.boxes, two.boxes).diagonal().min()) > 0.97


def test_an_exact_box_stays_where_it_is_though_others_are_too_big() -> None:
    box, sides = torch.tensor([[100.0, 100.0, 200.0, 200.0]]), torch.full((1, 2), 100.0)
    votes = Votes(torch.tensor([[150.0, 150.0]]), torch.full((1, 2), np.log(115.0)), *torch.full((2, 1, 2), 0.01))
    noise = Biased()
    exact, off = (
        posterior(
            box,
            votes,
            noise,
            sides,
            (640.0, 640.0),
            mixed=Quality(torch.tensor([rho]), torch.full((1, 4), 0.01), noise.variance),
        )
        for rho in (1.0, 0.0)
    )
    assert exact.boxes[0].tolist() == pytest.approx([100.0, 100.0, 200.0, 200.0], abs=0.5)
    assert float(off.boxes[0, 2] - off.boxes[0, 0]) < 98.0


def test_one_box_has_the_odds_of_bayes_rule_for_two_normal_distributions() -> None:
    residual, votes, noise = torch.tensor([[0.05, -0.1, 0.12, 0.0]]), torch.full((1, 4), 0.01), torch.full((4,), 0.05)
    mixed = MixedQuality()
    mixed.gain.fill_(1.0)
    said = mixed.tell(residual, votes, noise)
    wide = (0.05 - 0.5 * FLOOR**2) / 0.5
    densities = [stats.norm(0, v**0.5).pdf(residual[0].numpy()).prod() for v in (SLACK * 0.01, wide + SLACK * 0.01)]
    assert said.variance.tolist() == pytest.approx([wide] * 4)
    assert float(said.exact[0]) == pytest.approx(densities[0] / sum(densities), rel=1e-4)


def test_the_mixed_posterior_is_nearer_to_the_true_boxes_than_one_that_knows_one_noise() -> None:
    residual, errors, exact = films(0.25, 0.4)
    true = torch.tensor([[300.0, 300.0, 300.0 + SIDE, 300.0 + SIDE]]).expand(BOXES, 4)
    sides, spread = torch.full((BOXES, 2), SIDE), SPREAD[:, None].expand(BOXES, 2).square()
    mixed, noise, labels = MixedQuality(BOXES), NoiseModel(BOXES), torch.arange(1, BOXES + 1)
    found: dict[str, list[Tensor]] = {"one": [], "mixed": []}
    for n in range(FILMS):
        wrong = residual[n] - errors[n]
        centre, half = 330.0 + wrong[:, :2] * SIDE, SIDE / 2 * wrong[:, 2:].exp()
        annotated = torch.cat([centre - half, centre + half], 1)
        votes = Votes(330.0 - errors[n, :, :2] * SIDE, np.log(SIDE) - errors[n, :, 2:], spread, spread)
        variance = torch.cat([spread, spread], 1)
        noise.update(residual[n], variance, annotated[:, 2:], labels=labels)
        quality = mixed.tell(residual[n], variance, noise.variance, labels, noise.excess, learn=True)
        if n >= FILMS // 2:
            for name, given in (("one", None), ("mixed", quality)):
                refined = posterior(annotated, votes, noise, sides, (640.0, 640.0), labels=labels, mixed=given)
                found[name].append(box_iou(refined.boxes, true).diagonal())
    known = exact[FILMS // 2 :]
    one, both = (torch.stack(found[name]) for name in ("one", "mixed"))
    assert float(both[known].mean()) > float(one[known].mean()) + 0.05
    assert float(both[~known].mean()) > float(one[~known].mean()) - 0.01


def test_offsets_of_uncertain_boxes_count_by_one_over_their_variance_whatever_else_is_in_the_batch() -> None:
    mixed = MixedQuality(memory=1.0)
    for _ in range(20):
        mixed.weighed(torch.tensor([1.0, 0.7]), learn=True)
    told, offsets = mixed.weighed(torch.tensor([0.7])), torch.zeros(1, 4)
    assert float(told["usual_certainty"]) == pytest.approx((1.0 + 0.1) / 2)  # 1 / (1 + 3²) of a box that overlaps by .7
    alone = weighted_offset_loss(
        torch.ones(1, 8), torch.tensor([1]), offsets, told["certainty"], told["usual_certainty"]
    )
    plain = weighted_offset_loss(torch.ones(1, 8), torch.tensor([1]), offsets, told["certainty"])
    assert float(alone / plain) == pytest.approx(0.1 / 0.55)


def test_a_film_without_boxes_says_nothing_and_changes_nothing() -> None:
    mixed = MixedQuality()
    before = [b.clone() for b in mixed.buffers()]
    assert mixed.tell(torch.zeros(0, 4), torch.zeros(0, 4), torch.full((4,), 0.05), learn=True).exact.shape == (0,)
    assert all(torch.equal(a, b) for a, b in zip(before, mixed.buffers(), strict=True))
