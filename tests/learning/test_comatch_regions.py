"""CoMatch on a detector's regions: what is embedded, what the term does to the weights, and runs that are resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.errors import ConfigError
from neurosym.knowledge import Knowledge
from neurosym.learning.batches import make_batch, to_tensor
from neurosym.learning.checkpoint import latest_checkpoint
from neurosym.learning.comatch import graph_loss, label_graph, smoothed
from neurosym.learning.comatch_config import RegionCoMatchConfig
from neurosym.learning.comatch_regions import RegionCoMatch, region_comatch, region_kernel
from neurosym.learning.config import TrainConfig
from neurosym.learning.predict import predict
from neurosym.learning.runfolder import open_run
from neurosym.learning.teacher import Teacher, lessons
from neurosym.learning.train import train
from neurosym.models.build import build_model
from neurosym.models.config import DetectorConfig
from neurosym.models.detector import Detector
from tests.learning.test_teacher import TAUGHT
from tests.learning.test_train import Killed, config_of, weights

NAMES = ("left_lung", "right_lung", "heart", "ground_glass_opacity")
CPU = torch.device("cpu")
TAUGHT_ALONE = (*TAUGHT, "constraints.weight=0")
COMATCH = (
    *TAUGHT_ALONE,
    "model.embedding=8",
    "comatch.weight=0.5",
    "comatch.foreground=0.01",
    "comatch.confidence=0.2",
    "comatch.edge=0.2",
    "comatch.bank=16",
)


def detector(tmp_path: Path, *overrides: str) -> Detector:
    torch.manual_seed(0)
    model = build_model(config_of(tmp_path, "model.embedding=8", *overrides).model, NAMES)
    assert isinstance(model, Detector)
    return model


@pytest.mark.parametrize("kind", ["faster_rcnn", "cascade_rcnn", "mask_rcnn"])
def test_a_region_is_embedded_at_its_place_whatever_the_images_size_and_its_neighbours(
    kind: str, tmp_path: Path
) -> None:
    """Boxes are in pixels of the image; of proposals the logits are those that the box head gave them."""
    model = detector(tmp_path, f"model.kind={kind}").eval()
    films = [to_tensor(f.image) for f in Phantom(0, 2, PhantomConfig(size=192))]
    with torch.no_grad():
        model.propose(films, limit=5)
        last = model.net.roi_heads.last
        boxes = [p * 2 for p in last.proposals]  # 192 pixels are scaled to 96
        embedded, logits = model.embed(films, boxes)
        alone, _ = model.embed(films, [boxes[0][:1], boxes[1][:0]])
    assert embedded.shape == (10, 8)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(10))
    torch.testing.assert_close(alone, embedded[:1])
    if kind != "cascade_rcnn":  # whose logits are the mean of its stages'
        torch.testing.assert_close(logits, last.logits, atol=1e-4, rtol=1e-4)


def test_a_model_without_an_embedding_has_no_parameter_of_it(tmp_path: Path) -> None:
    with_it = set(detector(tmp_path).state_dict())
    without = set(build_model(config_of(tmp_path).model, NAMES).state_dict())
    assert {k.split(".")[0] for k in with_it - without} == {"embedding"}
    assert without < with_it


def test_the_background_is_like_nothing_else_and_the_classes_are_as_the_ontology_says(thorax: Knowledge) -> None:
    names = ("nodule", "consolidation", "heart")
    kernel = region_kernel(thorax.ontology, names, "lin")
    assert kernel[0].tolist() == [1, 0, 0, 0]
    assert kernel[1, 2] > kernel[1, 3]
    assert torch.equal(kernel, kernel.T)
    assert torch.equal(region_kernel(thorax.ontology, names, "identity"), torch.eye(4))


def _step(
    tmp_path: Path, thorax: Knowledge, config: RegionCoMatchConfig
) -> tuple[Detector, Teacher, RegionCoMatch, tuple]:
    """The parts of one training step, as the trainer puts them together."""
    model = detector(tmp_path).train()
    teacher = Teacher(model.config, NAMES, CPU)
    teacher.follow(model.state_dict())
    films = list(Phantom(0, 4, PhantomConfig(size=128)))
    images, targets = make_batch(films[:2], NAMES, CPU, np.random.default_rng(0))
    term = RegionCoMatch(config, NAMES, thorax.ontology, 8, CPU)
    model(images, targets)
    labelled = term.labelled(model, images, targets)
    taught = lessons(films[2:], teacher, None, 0.5, np.random.default_rng(1), regions=True)
    model([t.image for t in taught], [t.target for t in taught])
    return model, teacher, term, (labelled, taught)


def test_the_terms_have_a_gradient_in_embedding_head_box_head_and_trunk(tmp_path: Path, thorax: Knowledge) -> None:
    config = RegionCoMatchConfig(weight=1.0, foreground=0.0, confidence=0.0, edge=0.2)
    model, teacher, term, parts = _step(tmp_path, thorax, config)
    losses = term.losses(model, teacher, *parts)
    assert set(losses) == {"loss_graph", "loss_graph_class"}
    for name, reached in (
        (
            "loss_graph",
            {"embedding.out.weight", "net.roi_heads.box_head.fc6.weight", "net.backbone.trunk._conv_stem.weight"},
        ),
        ("loss_graph_class", {"net.roi_heads.box_predictor.cls_score.weight", "net.roi_heads.box_head.fc6.weight"}),
    ):
        model.zero_grad()
        losses[name].backward(retain_graph=True)
        moved = {k for k, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        assert reached <= moved
    assert all(p.grad is None for p in teacher.model.parameters())


def test_the_graph_term_is_made_of_the_annotated_and_the_seen_regions_of_both_views(
    tmp_path: Path, thorax: Knowledge
) -> None:
    """The same loss, put together from the parts' own embeddings; the bank then holds what was annotated and told."""
    config = RegionCoMatchConfig(weight=1.0, foreground=0.0, regions=3, edge=0.1, keep=0.6, bank=64)
    model, teacher, term, (labelled, taught) = _step(tmp_path, thorax, config)
    g = torch.Generator().manual_seed(3)
    past = torch.nn.functional.normalize(torch.randn(4, 8, generator=g), dim=1), torch.rand(4, 5, generator=g)
    term.bank.add(*past)
    loss = term.losses(model, teacher, labelled, taught)["loss_graph"].detach()
    chosen = [(1 - t.probabilities[:, 0]).argsort(descending=True, stable=True)[:3] for t in taught]
    films = [to_tensor(f.image) for f in Phantom(2, 2, PhantomConfig(size=128))]
    with torch.no_grad():
        own, _ = model.embed([t.image for t in taught], [t.boxes[c] for t, c in zip(taught, chosen, strict=True)])
        teacher.model.propose(films)
        seen, _ = teacher.model.embed(films, [t.plain[c] for t, c in zip(taught, chosen, strict=True)])  # type: ignore[operator]
        teacher.model.propose(labelled.images)
        known, _ = teacher.model.embed(labelled.images, labelled.boxes)  # type: ignore[operator]
    told = torch.cat([t.probabilities[c] for t, c in zip(taught, chosen, strict=True)])
    sure = torch.nn.functional.one_hot(labelled.labels, 5).float()
    q = torch.cat([sure, smoothed(told, seen, past, 0.6, 0.1)])
    graph = label_graph(q, 0.1, region_kernel(thorax.ontology, NAMES, "lin"), past[1])
    truth = graph_loss(graph, torch.cat([labelled.embeddings.detach(), own]), torch.cat([known, seen, past[0]]), 0.1)
    torch.testing.assert_close(loss, truth, atol=1e-4, rtol=1e-4)
    embeddings, probabilities = term.bank.filled()
    assert len(embeddings) == 4 + len(sure) + len(told)
    torch.testing.assert_close(probabilities[4:], torch.cat([sure, told]))


def test_regions_are_what_is_likely_an_object_and_no_more_than_asked_for(tmp_path: Path, thorax: Knowledge) -> None:
    model, teacher, term, (labelled, taught) = _step(tmp_path, thorax, RegionCoMatchConfig(weight=1.0, foreground=1.0))
    assert all(t.probabilities[:, 0].max() > 0 for t in taught)
    losses = term.losses(model, teacher, labelled, taught)
    assert float(losses["loss_graph_class"].detach()) == 0  # nothing is that surely an object
    assert len(term.bank.filled()[0]) == len(labelled.labels)


def test_it_is_off_by_default_and_then_leaves_no_trace_in_a_run(tmp_path: Path, thorax: Knowledge) -> None:
    assert TrainConfig.model_fields["comatch"].default.weight == 0
    assert DetectorConfig().embedding == 0
    assert region_comatch(config_of(tmp_path, *TAUGHT_ALONE), NAMES, thorax.ontology, CPU) is None
    run = train(config_of(tmp_path, *TAUGHT_ALONE, "teacher.start=0", "train.steps=1"), tmp_path / "run")
    assert "pseudo_loss_classifier" in run.metrics
    assert not {k for k in run.metrics if "graph" in k}
    assert not list(run.path.glob("checkpoints/*/guidance.safetensors"))


def test_a_killed_run_resumes_to_the_same_weights_with_its_bank(tmp_path: Path) -> None:
    config = config_of(tmp_path, *COMATCH, "train.steps=5", "train.checkpoint_every=3")

    def kill(step: int, steps: int, terms: dict[str, float]) -> None:
        if step == 4:
            raise Killed

    whole = train(config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, tmp_path / "parts", progress=kill)
    train(config, tmp_path / "parts", resume=True)
    assert whole.metrics["loss_graph"] > 0
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[k], other[k]) for k in one)
    banks = [
        load_file(latest_checkpoint(tmp_path / n / "checkpoints") / "guidance.safetensors")  # type: ignore[operator]
        for n in ("whole", "parts")
    ]
    assert set(banks[0]) == {"comatch.embeddings", "comatch.probabilities", "comatch.written"}
    assert banks[0]["comatch.written"] > 0
    assert all(torch.equal(banks[0][k], banks[1][k]) for k in banks[0])
    opened = open_run(whole)
    assert len(predict(opened, opened.images("test"))) == 3


def test_what_comatch_needs_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"comatch\.weight: its pseudo-labels are a teacher's; set teacher\.weight above 0"
    ):
        config_of(tmp_path, "comatch.weight=1", "model.embedding=8")
    with pytest.raises(
        ConfigError, match=r"comatch\.weight: regions need an embedding; set model\.embedding, e\.g\. to 64"
    ):
        config_of(tmp_path, *TAUGHT_ALONE, "comatch.weight=1")
    with pytest.raises(
        ConfigError, match="embedding: retinanet has no box head to embed regions; set it to 0, or take"
    ):
        config_of(tmp_path, "model.kind=retinanet", "model.embedding=8")
    with pytest.raises(ConfigError, match=r"comatch\.kernel: .*'identity', 'jaccard', 'gic' or 'lin'"):
        config_of(tmp_path, "comatch.kernel=wu-palmer")
