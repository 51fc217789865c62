from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from neurosym.constraints import ConstraintSet, compile_constraints
from neurosym.constraints.graph import (
    ErrorModel,
    GraphSettings,
    ObjectScene,
    OntologyGraph,
    ontology_graph,
    scene_graph,
)
from neurosym.constraints.graph.energy import EnergyModel, EnergySettings, energy_loss, live_graph
from neurosym.constraints.graph.energy_scenes import (
    CORRUPTIONS,
    EnergyScene,
    corrupted_scene,
    judged_scene,
    labelled_scene,
    relabelled_scene,
    spoilt_scene,
)
from neurosym.errors import ConstraintError
from neurosym.knowledge import Knowledge

NAMES = ("left_lung", "right_lung", "heart")
LEFT, RIGHT, HEART = 1, 2, 3
CHANNELS = 6
SMALL = EnergySettings(hidden=32, rounds=1, lr=5e-3)


@pytest.fixture(scope="module")
def rules(thorax: Knowledge) -> ConstraintSet:
    return compile_constraints(thorax, NAMES)


@pytest.fixture(scope="module")
def graph(rules: ConstraintSet, thorax: Knowledge) -> OntologyGraph:
    return ontology_graph(rules, thorax.ontology)


def chest(rng: np.random.Generator) -> ObjectScene:
    """Lungs and heart where the rules want them, in any order, on a film of 100 × 100."""
    boxes = np.array([[55.0, 10, 90, 80], [10.0, 8, 45, 80], [35.0, 45, 68, 75]]) + rng.normal(0, 2.5, (3, 4))
    order = rng.permutation(3)
    return ObjectScene(np.array([LEFT, RIGHT, HEART])[order], boxes[order], (100.0, 100.0))


def appearance(objects: ObjectScene, rng: np.random.Generator) -> torch.Tensor:
    """Image features from which the true class can be told."""
    table = np.random.default_rng(99).normal(size=(len(NAMES) + 1, CHANNELS))
    return torch.from_numpy((table[objects.labels] + rng.normal(0, 0.3, (len(objects), CHANNELS))).astype(np.float32))


def films(seed: int, count: int) -> list[EnergyScene]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        objects = chest(rng)
        found.append(labelled_scene(objects, len(NAMES), appearance(objects, rng), float(rng.uniform(0.05, 0.3))))
    return found


def lungs_exchanged(scene: EnergyScene) -> EnergyScene:
    p = scene.probabilities.clone()
    return replace(scene, probabilities=p[:, [0, RIGHT, LEFT, HEART]])


def trained(rules: ConstraintSet, graph: OntologyGraph, channels: int, rounds: int = 7, steps: int = 5) -> EnergyModel:
    """Refreshed as beside a detector: other films each round, a few steps on each."""
    model, rng = EnergyModel(rules, graph, channels, SMALL, seed=3), np.random.default_rng(5)
    for k in range(rounds):
        good = films(100 + k, 8)
        bad = [corrupted_scene(s, rng, kind) for s in good for kind in ("exchange", "relabel", "features")]
        model.update(good, bad, steps)
    return model


@pytest.fixture(scope="module")
def seeing(rules: ConstraintSet, graph: OntologyGraph) -> EnergyModel:
    return trained(rules, graph, CHANNELS)


@pytest.fixture(scope="module")
def blind(rules: ConstraintSet, graph: OntologyGraph) -> EnergyModel:
    return trained(rules, graph, 0)


@pytest.mark.parametrize("kind", ["seeing", "blind"])
def test_a_new_scene_that_breaks_a_rule_lies_above_the_same_scene_that_obeys_it(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model: EnergyModel = request.getfixturevalue(kind)
    held_out = films(9, 24)
    low, high = model.energy(held_out), model.energy([lungs_exchanged(s) for s in held_out])
    assert float((low < high).float().mean()) >= 0.95
    assert float(high.mean() - low.mean()) > 1.0
    assert float(torch.cat([low, high]).abs().max()) <= SMALL.bound


@pytest.mark.parametrize("contrast", ["infonce", "margin"])
def test_both_contrasts_learn_the_order(rules: ConstraintSet, graph: OntologyGraph, contrast: str) -> None:
    model = EnergyModel(rules, graph, 0, replace(SMALL, contrast=contrast))
    good = films(1, 8)
    bad = [lungs_exchanged(s) for s in good]
    first = model.update(good, bad)
    last = model.update(good, bad, steps=25)
    assert last.loss < first.loss
    assert last.ranked > 0.9
    assert last.positive < last.negative


def test_without_relations_between_objects_places_alone_must_do(rules: ConstraintSet, graph: OntologyGraph) -> None:
    model = EnergyModel(rules, graph, 0, replace(SMALL, graph=GraphSettings(relations=False)))
    good = films(1, 8)
    assert model.update(good, [lungs_exchanged(s) for s in good], steps=25).ranked > 0.9


def test_more_of_a_wrong_class_means_more_energy_and_more_of_the_right_one_less(seeing: EnergyModel) -> None:
    wrong_way, right_way = [], []
    for scene in films(11, 6):
        for n, true in enumerate(scene.probabilities.argmax(1).tolist()):
            for wrong in {LEFT, RIGHT, HEART} - {true}:
                p = scene.probabilities.clone()
                p[n, [true, wrong]] = torch.tensor([0.35, 0.5]) * p[n, [true, wrong]].sum()
                logits = p.log().requires_grad_()
                found = energy_loss(seeing, [replace(scene, probabilities=logits.softmax(1))], slack=-2 * SMALL.bound)
                (gradient,) = torch.autograd.grad(found.loss, logits)
                wrong_way.append(float(gradient[n, wrong]))
                right_way.append(float(gradient[n, true]))
    assert np.mean(np.array(wrong_way) > 0) > 0.9
    assert np.mean(np.array(right_way) < 0) > 0.9


def test_a_detector_that_follows_the_energy_corrects_its_labels(seeing: EnergyModel) -> None:
    scenes = films(12, 5)
    wrong = [lungs_exchanged(s) for s in scenes]
    logits = [(0.6 * w.probabilities + 0.4 * s.probabilities).log() for w, s in zip(wrong, scenes, strict=True)]
    for values in logits:
        values.requires_grad_()
    optimizer = torch.optim.Adam(logits, lr=0.1)
    for _ in range(20):
        found = energy_loss(
            seeing, [replace(s, probabilities=v.softmax(1)) for s, v in zip(scenes, logits, strict=True)]
        )
        optimizer.zero_grad()
        found.loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    right = [v.argmax(1) == s.probabilities.argmax(1) for v, s in zip(logits, scenes, strict=True)]
    before = [w.probabilities.argmax(1) == s.probabilities.argmax(1) for w, s in zip(wrong, scenes, strict=True)]
    assert float(torch.cat(before).float().mean()) == pytest.approx(1 / 3)
    assert float(torch.cat(right).float().mean()) > 0.8


def test_the_same_scene_on_another_film_has_another_energy_only_if_the_energy_sees_the_image(
    seeing: EnergyModel, blind: EnergyModel
) -> None:
    rng = np.random.default_rng(8)
    scenes = films(13, 12)
    elsewhere = [corrupted_scene(s, rng, "features") for s in scenes]
    for scene, other in zip(scenes, elsewhere, strict=True):
        assert torch.equal(scene.probabilities, other.probabilities)
        assert torch.equal(scene.boxes, other.boxes)
    torch.testing.assert_close(blind.energy(scenes), blind.energy(elsewhere), atol=0.0, rtol=0.0)
    rise = seeing.energy(elsewhere) - seeing.energy(scenes)
    assert float((rise > 0).float().mean()) > 0.8  # the wrong image for this scene


def test_what_fits_as_well_as_labelled_scenes_do_is_pulled_no_further(seeing: EnergyModel) -> None:
    scenes = films(14, 6)
    energies = seeing.energy(scenes)
    settled = energy_loss(seeing, scenes, slack=float(energies.max()) - seeing.reference + 1e-3)
    assert float(settled.loss) == 0.0
    assert settled.active == 0.0
    broken = [lungs_exchanged(s) for s in scenes]
    found = energy_loss(seeing, [*scenes, *broken])
    expected = (seeing.energy([*scenes, *broken]) - seeing.reference).clamp_min(0)
    torch.testing.assert_close(found.loss, expected.mean())
    assert found.active == pytest.approx(float((expected > 0).float().mean()))


def test_the_detector_learns_and_the_energy_does_not(seeing: EnergyModel) -> None:
    scene = lungs_exchanged(films(15, 1)[0])
    p, boxes, features = (v.clone().requires_grad_() for v in (scene.probabilities, scene.boxes, scene.features))
    seeing.optimizer.zero_grad()
    energy_loss(seeing, [EnergyScene(p, boxes, scene.size, features)]).loss.backward()  # type: ignore[no-untyped-call]
    assert all(q.grad is None for q in seeing.network.parameters())
    assert p.grad is not None
    assert boxes.grad is not None
    assert float(p.grad.abs().sum()) > 0
    assert float(boxes.grad.abs().sum()) > 0
    assert features.grad is None
    p.grad, boxes.grad = None, None
    given = EnergyScene(p, boxes, scene.size, features)
    energy_loss(seeing, [given], through_boxes=False).loss.backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None
    assert boxes.grad is None


def test_the_gradient_is_that_of_the_energy(seeing: EnergyModel) -> None:
    scene = lungs_exchanged(films(16, 1)[0])
    boxes = scene.boxes.clone().requires_grad_()
    energy_loss(seeing, [replace(scene, boxes=boxes)]).loss.backward()  # type: ignore[no-untyped-call]
    assert boxes.grad is not None
    direction = boxes.grad / boxes.grad.norm()
    step = 0.02
    high, low = (float(seeing.energy([replace(scene, boxes=scene.boxes + s * direction)])) for s in (step, -step))
    assert (high - low) / (2 * step) == pytest.approx(float(boxes.grad.norm()), rel=0.05)


def test_the_graph_with_gradients_has_the_numbers_of_the_one_without(
    rules: ConstraintSet, graph: OntologyGraph
) -> None:
    generator = torch.Generator().manual_seed(2)
    p = torch.rand(6, 4, generator=generator).mul(3).softmax(1)
    corner = 60 * torch.rand(6, 2, generator=generator)
    boxes = torch.cat([corner, corner + 5 + 30 * torch.rand(6, 2, generator=generator)], 1)
    dead = scene_graph(rules, graph, p, boxes, (100.0, 100.0))
    live = live_graph(rules, graph, p.clone().requires_grad_(), boxes.clone().requires_grad_(), (100.0, 100.0))
    assert live["factor"].x.requires_grad
    assert live["atom"].x.requires_grad
    for kind in ("detection", "atom", "factor"):
        torch.testing.assert_close(live[kind].x.detach(), dead[kind].x, msg=kind)
    torch.testing.assert_close(
        live["detection", "beside", "detection"].edge_attr.detach(), dead["detection", "beside", "detection"].edge_attr
    )


def test_the_same_seed_and_the_same_scenes_give_the_same_energies(rules: ConstraintSet, graph: OntologyGraph) -> None:
    held_out = films(17, 4)
    once, again = (trained(rules, graph, CHANNELS, rounds=1, steps=3).energy(held_out) for _ in range(2))
    assert torch.equal(once, again)


def test_an_energy_is_the_same_alone_and_beside_others_and_an_empty_scene_has_one(seeing: EnergyModel) -> None:
    scenes = films(18, 3)
    empty = EnergyScene(torch.zeros(0, 4), torch.zeros(0, 4), (100.0, 100.0), torch.zeros(0, CHANNELS))
    together = seeing.energy([scenes[0], empty, *scenes[1:]])
    alone = torch.cat([seeing.energy([s]) for s in (scenes[0], empty, *scenes[1:])])
    torch.testing.assert_close(together, alone)
    assert bool(torch.isfinite(energy_loss(seeing, [empty]).loss))
    assert len(seeing.energy([])) == 0
    assert float(energy_loss(seeing, []).loss) == 0.0


def test_what_is_not_finite_or_missing_is_told(seeing: EnergyModel, rules: ConstraintSet, graph: OntologyGraph) -> None:
    scene = films(19, 1)[0]
    nan = float("nan")
    for spoilt in (
        replace(scene, probabilities=scene.probabilities * nan),
        replace(scene, boxes=scene.boxes * nan),
        replace(scene, features=scene.features * nan),
    ):
        for use in (
            lambda s: energy_loss(seeing, [s]),
            lambda s: seeing.energy([s]),
            lambda s: seeing.update([scene], [s]),
        ):
            with pytest.raises(ConstraintError, match="not finite; lower the learning rate"):
                use(spoilt)
    with pytest.raises(ConstraintError, match=r"image features of 3 × 6 are needed, given: none.*image-blind"):
        seeing.energy([replace(scene, features=None)])
    with pytest.raises(ConstraintError, match="unknown contrast 'infonse'; did you mean 'infonce'?"):
        EnergyModel(rules, graph, 0, replace(SMALL, contrast="infonse"))
    untrained = EnergyModel(rules, graph, 0, SMALL)
    with pytest.raises(ConstraintError, match="has seen no labelled scene; call update"):
        energy_loss(untrained, [scene])
    with pytest.raises(ConstraintError, match="given: 0 labelled and 1 other scenes"):
        untrained.update([], [scene])
    broken = EnergyModel(rules, graph, 0, SMALL)
    with torch.no_grad():
        broken.network.readout.head[2].bias.fill_(nan)
    with pytest.raises(ConstraintError, match="energy of a scene is not finite"):
        broken.energy([scene])


def test_saved_weights_carry_the_reference(seeing: EnergyModel, rules: ConstraintSet, graph: OntologyGraph) -> None:
    other = EnergyModel(rules, graph, CHANNELS, SMALL, seed=4)
    other.network.load_state_dict(seeing.network.state_dict())
    assert other.reference == seeing.reference
    held_out = films(20, 2)
    assert torch.equal(other.energy(held_out), seeing.energy(held_out))


@pytest.mark.parametrize("kind", sorted(CORRUPTIONS))
def test_a_corruption_changes_one_thing_and_keeps_distributions(kind: str) -> None:
    rng = np.random.default_rng(1)
    for scene in films(21, 10):
        spoilt = corrupted_scene(scene, rng, kind, least=1.0)
        changed = {
            "p": not torch.equal(spoilt.probabilities, scene.probabilities),
            "boxes": not torch.equal(spoilt.boxes, scene.boxes),
            "features": not torch.equal(spoilt.features, scene.features),
        }
        assert [k for k, v in changed.items() if v] == [{"move": "boxes", "features": "features"}.get(kind, "p")]
        torch.testing.assert_close(spoilt.probabilities.sum(1), torch.ones(3))
        assert torch.equal(
            spoilt.probabilities.sort(1).values.sort(0).values, scene.probabilities.sort(1).values.sort(0).values
        )
        assert float(spoilt.boxes.min()) >= 0 or torch.equal(spoilt.boxes, scene.boxes)
    with pytest.raises(ConstraintError, match="unknown corruption 'mve'; did you mean 'move'?"):
        corrupted_scene(scene, rng, "mve")


def test_relabelled_proposals_are_right_where_they_lie_on_an_object_and_background_elsewhere() -> None:
    objects = ObjectScene(np.array([HEART]), np.array([[10.0, 10, 30, 30]]), (100.0, 100.0))
    boxes = torch.tensor([[11.0, 10, 30, 31], [60.0, 60, 80, 80]])
    seen = EnergyScene(torch.tensor([[0.1, 0.7, 0.1, 0.1], [0.2, 0.2, 0.5, 0.1]]), boxes, (100.0, 100.0))
    found = relabelled_scene(objects, seen, keep=0.25)
    assert found.probabilities.argmax(1).tolist() == [HEART, 0]
    torch.testing.assert_close(found.probabilities[0], torch.tensor([0.025, 0.175, 0.025, 0.775]))
    assert torch.equal(found.boxes, boxes)
    assert judged_scene(objects, seen).wrongness == pytest.approx(0.9)  # the heart's box has 0.1 of a heart
    assert judged_scene(objects, replace(seen, probabilities=found.probabilities)).wrongness == pytest.approx(0.225)


def test_a_spoilt_scene_takes_the_image_where_its_boxes_lie(thorax: Knowledge) -> None:
    rng = np.random.default_rng(0)
    errors = ErrorModel(NAMES, thorax.ontology, frozenset({LEFT, RIGHT, HEART}))
    for _ in range(4):
        objects = chest(rng)
        errors.observe(objects, rng.dirichlet(np.ones(4), len(objects)), objects.boxes)
    spoilt = spoilt_scene(objects, errors, rng, pool=lambda boxes: boxes[:, :2] / 100)
    assert len(spoilt.boxes)
    assert spoilt.features is not None
    assert torch.equal(spoilt.features, spoilt.boxes[:, :2] / 100)
