"""Losses, views, monitors and probes of pretraining against brute force and invariants."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from torch import Tensor

from neurosym.errors import ConfigError
from neurosym.learning.pretrain_config import MonitorConfig, PretrainConfig, ViewsConfig, load_pretrain_config
from neurosym.learning.pretrain_methods import METHODS, Byol, DenseCl, SslMethod, Swav, build_method
from neurosym.learning.pretrain_monitor import CollapseAlarm, effective_rank, figures, prototype_use, spread
from neurosym.learning.pretrain_probe import by_linear_model, by_neighbours
from neurosym.learning.pretrain_views import as_picture, changed, crops_of, whole

ROOT = Path(__file__).parents[2]
STILL: dict[str, Any] = {"gamma": 1, "contrast": 1, "brightness": 0, "noise": 0, "blur": 0, "rotation": 0}


def config(**settings: Any) -> PretrainConfig:
    values: dict[str, Any] = {"name": "t", "images": [{"folder": "films"}], "pretrained": False}
    values |= {"hidden": 16, "embedding": 8, "swav": {"prototypes": 6, "queue": 0}, "densecl": {"queue": 16}}
    return PretrainConfig.model_validate(values | settings)


def method_of(name: str) -> SslMethod:
    torch.manual_seed(1)
    return build_method(config(method=name)).eval()  # eval: a film's embedding does not depend on its batch


def random_views(count: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.rand(5, 1, 32, 32, generator=rng) for _ in range(count)]


# --- losses -----------------------------------------------------------------------------------------------------------


def test_assignments_scale_rows_and_columns_so_that_each_prototype_gets_the_same_share() -> None:
    torch.manual_seed(0)
    settings = config(swav={"prototypes": 6, "queue": 0, "iterations": 500, "epsilon": 0.1})
    method = build_method(settings).double()
    assert isinstance(method, Swav)
    embeddings = torch.nn.functional.normalize(torch.randn(12, 8, dtype=torch.float64), dim=1)
    codes = method.codes(embeddings)
    torch.testing.assert_close(codes.sum(1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(0), torch.full((6,), 12 / 6, dtype=torch.float64))
    # the only matrix with these sums that is exp(scores / epsilon) with rows and columns scaled: cross ratios stay
    log, scaled = codes.log(), method.scores(embeddings) / 0.1
    for found in (log, scaled):
        found -= found[:1] + found[:, :1] - found[0, 0]
    torch.testing.assert_close(log, scaled)


def swapped_loss(scores: list[np.ndarray], late: list[np.ndarray] | None = None) -> float:
    """The definition, in loops: two large crops, then small ones; `late` are scores that are assigned with the large ones."""
    terms = []
    for s in range(2):
        together = scores[s] if late is None else np.concatenate([scores[s], late[s]])
        q = np.exp(together / 0.05)
        for _ in range(3):
            q = q / q.sum(0, keepdims=True)
            q = q / q.sum(1, keepdims=True)
        for t in range(len(scores)):
            if t != s:
                log_p = scores[t] / 0.1 - np.log(np.exp(scores[t] / 0.1).sum(1, keepdims=True))
                terms.append(-(q[: len(log_p)] * log_p).sum(1).mean())
    return float(np.mean(terms))


def scores_of(method: Swav, embeddings: Tensor) -> np.ndarray:
    found: np.ndarray = method.scores(embeddings).detach().double().numpy()
    return found


def test_the_loss_of_swapped_assignments_equals_its_definition() -> None:
    method = method_of("swav")
    assert isinstance(method, Swav)
    views = random_views(4)
    with torch.no_grad():
        scores = [scores_of(method, method.network(v)) for v in views]
        assert float(method.loss(views, 0)) == pytest.approx(swapped_loss(scores), rel=1e-4)


def test_films_in_the_queue_are_assigned_with_the_batch_from_their_step_on() -> None:
    torch.manual_seed(0)
    method = build_method(config(swav={"prototypes": 6, "queue": 10, "queue_start": 1})).eval()
    assert isinstance(method, Swav)
    queue = torch.nn.functional.normalize(torch.randn(2, 10, 8), dim=2)
    views = random_views(3)
    with torch.no_grad():
        embedded = [method.network(v) for v in views]
        scores, late = [scores_of(method, e) for e in embedded], [scores_of(method, k) for k in queue]
        for filled, step, expected in ((10, 0, None), (9, 1, None), (10, 1, late)):
            method.queue, method.filled = queue.clone(), torch.tensor(filled)
            assert float(method.loss(views, step)) == pytest.approx(swapped_loss(scores, expected), rel=1e-4)
            torch.testing.assert_close(method.queue, torch.cat([torch.stack(embedded[:2]), queue[:, :5]], 1))
    assert abs(swapped_loss(scores) - swapped_loss(scores, late)) > 1e-2


def test_the_contrast_of_films_and_places_equals_its_definition() -> None:
    method = method_of("densecl")
    assert isinstance(method, DenseCl)
    views = random_views(2)
    negatives = [method.whole.memory_bank.bank.clone(), method.places.memory_bank.bank.clone()]

    def unit(x: Tensor) -> Tensor:
        return torch.nn.functional.normalize(x, dim=-1)

    with torch.no_grad():
        maps = [n.maps(v) for n, v in ((method.network, views[0]), (method.target, views[1]))]
        heads = [(method.network.projector, method.dense), (method.target.projector, method.dense_target)]
        found = float(method.loss(views, 0))
        query, key = (unit(head[0](m.mean((2, 3)))) for m, head in zip(maps, heads, strict=True))
        terms = [[_contrast(q, k, negatives[0]) for q, k in zip(query, key, strict=True)], []]
        for film in range(5):
            one, other = (m[film].flatten(1).T for m in maps)
            for place in one:
                best = int((unit(other) @ unit(place)).argmax())
                pair = unit(method.dense(place[None]))[0], unit(method.dense_target(other[best][None]))[0]
                terms[1].append(_contrast(*pair, negatives[1]))
    assert found == pytest.approx(0.5 * np.mean(terms[0]) + 0.5 * np.mean(terms[1]), rel=1e-4)


def _contrast(query: Tensor, key: Tensor, negatives: Tensor) -> float:
    like = torch.cat([(query @ key)[None], negatives @ query]).double() / 0.2
    return float(like.logsumexp(0) - like[0])


def test_byol_is_least_where_predictions_equal_the_averaged_networks_view() -> None:
    method = method_of("byol")
    assert isinstance(method, Byol)
    views = random_views(2)
    with torch.no_grad():
        predicted = [method.predictor(method.network(v)) for v in views]
        said = [method.target(v) for v in views]
        pairs = ((predicted[0], said[1]), (predicted[1], said[0]))
        expected = -sum(float(torch.cosine_similarity(p, z).mean()) for p, z in pairs)
        assert float(method.loss(views, 0)) == pytest.approx(expected, rel=1e-4)
    assert expected > -2.0


@pytest.mark.parametrize("name", ["densecl", "byol"])
def test_the_averaged_network_follows_and_has_no_gradient(name: str) -> None:
    method = method_of(name).train()
    before = [p.clone() for p in method.target.parameters()]  # type: ignore[union-attr]
    method.loss(random_views(2), 0).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in method.target.parameters())  # type: ignore[union-attr]
    with torch.no_grad():
        for p in method.network.parameters():
            p.add_(1.0)
    method.after_step(0)
    for old, new in zip(before, method.target.parameters(), strict=True):  # type: ignore[union-attr]
        torch.testing.assert_close(new, old + 0.01, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_tensor_that_a_step_changes_is_in_the_state(name: str) -> None:
    """Queues and memory banks as well: a state that is loaded elsewhere gives the same loss."""
    settings = config(method=name, swav={"prototypes": 6, "queue": 5, "queue_start": 0})
    torch.manual_seed(0)
    one = build_method(settings).eval()
    torch.manual_seed(1)
    other = build_method(settings).eval()
    with torch.no_grad():
        one.loss(random_views(2), 0)
        other.load_state_dict(one.state_dict())
        views = random_views(3)[1:]
        assert float(one.loss(views, 1)) == float(other.loss(views, 1))


# --- views ------------------------------------------------------------------------------------------------------------


def test_left_stays_left_in_every_view_of_a_radiograph() -> None:
    film = np.zeros((60, 80), dtype=np.uint8)
    film[:, :40] = 200
    views = ViewsConfig(size=32, local_size=32, scale=(0.9, 1.0), blur=0.0)
    rng = np.random.default_rng(0)
    for crops in crops_of([as_picture(film, "grey")] * 20, views, 0, rng):
        assert (crops[..., :14].mean((1, 2, 3)) > crops[..., 18:].mean((1, 2, 3))).all()
    mirrored = ViewsConfig(size=32, scale=(0.9, 1.0), mirror=1.0)
    for crops in crops_of([as_picture(film, "grey")] * 20, mirrored, 0, rng):
        assert (crops[..., :14].mean((1, 2, 3)) < crops[..., 18:].mean((1, 2, 3))).all()


def test_views_with_nothing_to_change_are_the_films_themselves() -> None:
    films = torch.rand(3, 1, 40, 40).clamp(1e-3, 1.0)
    torch.testing.assert_close(changed(films, ViewsConfig(**STILL), np.random.default_rng(0)), films)


def test_a_crop_of_the_whole_film_is_the_film_scaled() -> None:
    film = np.random.default_rng(0).integers(1, 256, (64, 64), dtype=np.uint8)
    picture = as_picture(film, "grey")
    views = ViewsConfig(size=32, scale=(1.0, 1.0), **STILL)
    for crop in crops_of([picture], views, 0, _Square()):  # type: ignore[arg-type]
        torch.testing.assert_close(crop, whole([picture], 32))


class _Square(np.random.Generator):
    """Draws the middle of each range: an aspect of 1:1."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return (low + high) / 2 if size is None else np.full(size, (low + high) / 2)


def test_a_blurred_view_is_a_gaussian_filter_of_the_film() -> None:
    films = torch.rand(40, 1, 48, 48) * 0.5 + 0.25
    views = ViewsConfig(**STILL | {"blur": 0.05})
    found = changed(films, views, np.random.default_rng(3))
    moved = [k for k in range(40) if not torch.allclose(found[k], films[k], atol=1e-5)]
    assert 10 < len(moved) < 30
    for k in moved:
        near = []
        for sigma in np.linspace(0.7, 2.4, 35):
            blurred = ndimage.gaussian_filter(films[k, 0].numpy(), sigma, mode="nearest", radius=5)
            near.append(float(np.abs(blurred - found[k, 0].numpy()).max()))
        assert min(near) < 0.02


def test_small_crops_come_after_two_large_ones_and_colours_only_where_asked_for() -> None:
    film = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    grey = crops_of([as_picture(film, "grey")] * 2, ViewsConfig(size=40, local_size=32), 3, np.random.default_rng(0))
    assert [tuple(c.shape) for c in grey] == [(2, 1, 40, 40)] * 2 + [(2, 1, 32, 32)] * 3
    smear = ViewsConfig(size=40, channels="rgb", colour=0.2, mirror=0.5, flip=0.5, rotation=180)
    colours = crops_of([as_picture(film, "rgb")] * 2, smear, 0, np.random.default_rng(0))
    assert [tuple(c.shape) for c in colours] == [(2, 3, 40, 40)] * 2
    assert all(float(c.min()) >= 0 and float(c.max()) <= 1 for c in grey + colours)


# --- monitors ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 8), st.integers(0, 1000))
def test_the_effective_rank_of_equal_singular_values_is_their_number(rank: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(20, rank, generator=rng, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(10, rank, generator=rng, dtype=torch.float64))[0]
    assert effective_rank((left @ right.T).float()) == pytest.approx(rank, rel=1e-3)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 1000))
def test_the_effective_rank_lies_between_one_and_the_matrix_rank(films: int, channels: int, seed: int) -> None:
    matrix = torch.randn(films, channels, generator=torch.Generator().manual_seed(seed))
    assert 1 - 1e-6 <= effective_rank(matrix) <= min(films, channels) + 1e-3


def test_spread_is_none_for_a_collapsed_and_one_for_an_even_cloud() -> None:
    assert spread(torch.ones(50, 16) / 4) == pytest.approx(0.0, abs=1e-6)
    even = torch.nn.functional.normalize(torch.randn(4000, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    assert spread(even) == pytest.approx(1.0, abs=0.02)


def test_prototype_use_counts_the_nearest_ones() -> None:
    assert prototype_use(torch.eye(6)) == (1.0, pytest.approx(1.0))
    assert prototype_use(torch.tensor([[1.0, 0, 0, 0]] * 8)) == (0.25, pytest.approx(0.0))
    half = torch.eye(4)[[0, 0, 1, 1]]
    assert prototype_use(half) == (0.5, pytest.approx(math.log(2) / math.log(4)))


def test_a_collapse_is_told_once_and_names_figures_and_cure(caplog: pytest.LogCaptureFixture) -> None:
    rng = torch.Generator().manual_seed(0)
    healthy = torch.nn.functional.normalize(torch.randn(64, 16, generator=rng), dim=1)
    collapsed = torch.nn.functional.normalize(torch.ones(64, 16) + 1e-3 * torch.randn(64, 16, generator=rng), dim=1)
    scores = healthy @ torch.linalg.qr(torch.randn(16, 8, generator=rng))[0]
    alarm = CollapseAlarm(MonitorConfig(start=100), "swav")
    with caplog.at_level(logging.WARNING):
        assert alarm.check(50, figures(collapsed, collapsed, scores[:1].expand(64, -1))) == ""
        assert alarm.check(100, figures(healthy, healthy, scores)) == ""
        told = alarm.check(200, figures(collapsed, collapsed, scores[:1].expand(64, -1)))
        assert alarm.check(300, figures(collapsed, collapsed, None)) == ""
        assert alarm.check(400, figures(healthy, healthy, scores)) == ""
        assert "step 500" in alarm.check(500, figures(collapsed, collapsed, None))
    assert told.startswith("step 200: the embeddings are collapsing (rank 1.0")
    assert "std" in told
    assert "lower train.lr" in told
    assert len(caplog.records) == 2


# --- probes -----------------------------------------------------------------------------------------------------------


def test_the_vote_of_neighbours_equals_a_loop_over_all_of_them() -> None:
    rng = np.random.default_rng(0)
    known, asked, labels = rng.normal(size=(30, 5)), rng.normal(size=(10, 5)), rng.integers(0, 3, 30)
    found = by_neighbours(torch.tensor(known).float(), torch.tensor(labels), torch.tensor(asked).float(), 3, 7)
    for own, told in zip(asked, found.tolist(), strict=True):
        cosine = known @ own / np.linalg.norm(known, axis=1) / np.linalg.norm(own)
        votes = np.zeros(3)
        for k in np.argsort(-cosine)[:7]:
            votes[labels[k]] += math.exp(cosine[k] / 0.07)
        assert told == int(votes.argmax())


def test_a_linear_model_separates_what_a_plane_separates() -> None:
    rng = torch.Generator().manual_seed(0)
    features, asked = torch.randn(200, 6, generator=rng), torch.randn(100, 6, generator=rng)

    def side(x: Tensor) -> Tensor:
        return (x[:, 0] + 0.5 * x[:, 1] > 0.2).long()

    told = by_linear_model(features * 100 + 3, side(features), asked * 100 + 3, 2)
    assert float((told == side(asked)).float().mean()) > 0.95


# --- config -----------------------------------------------------------------------------------------------------------


def test_every_mistake_of_a_config_is_told_with_its_line(tmp_path: Any) -> None:
    path = tmp_path / "ssl.yaml"
    path.write_text(
        "name: x\nimages:\n  - {folder: a, table: b}\n  - {foldr: c}\n"
        "views: {scale: [0.5, 0.2]}\ntrain:\n  stepz: 3\nmethod: simclr\n"
    )
    with pytest.raises(ConfigError) as raised:
        load_pretrain_config(path)
    told = str(raised.value)
    assert "a source names one of: folder; annotations and images (COCO)" in told
    assert "images.1.foldr: unknown setting; did you mean 'folder'?" in told
    assert "expected two shares, 0 < low <= high <= 1, found [0.5, 0.2]" in told
    assert ":7: train.stepz: unknown setting; did you mean 'steps'?" in told
    assert "method:" in told


def test_the_config_of_the_experiment_is_valid_and_names_held_out_films() -> None:
    found = load_pretrain_config(ROOT / "experiments/pretrain/kermany.yaml")
    assert {Path(s.annotations).name for s in found.exclude} >= {"test.json", "lungs_test.json", "lesions_test.json"}
    assert found.probe is not None


def test_settings_can_be_overridden_and_paths_start_from_the_files_folder(tmp_path: Any) -> None:
    path = tmp_path / "ssl.yaml"
    path.write_text("name: x\nimages: [{folder: films}]\n")
    found = load_pretrain_config(path, ["train.lr=3e-4", "views.mirror=0.5"])
    assert (found.train.lr, found.views.mirror, found.base) == (3e-4, 0.5, tmp_path)


def test_pictures_are_grey_or_coloured_as_asked_for() -> None:
    assert as_picture(np.zeros((4, 4, 3), np.uint8), "grey").mode == "L"
    assert as_picture(np.zeros((4, 4), np.uint8), "rgb").mode == "RGB"
    assert isinstance(as_picture(np.zeros((4, 4), np.uint8), "grey"), Image.Image)
