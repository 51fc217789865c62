"""Samples without their pixels: everything else is the same, and no image is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import unwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurosym.data import images as images_module
from neurosym.data import phantom as phantom_module
from neurosym.data.degrade import DegradedSamples, degradation
from neurosym.data.images import ImageEntry, ImageSet
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.data.pool import Joined
from neurosym.data.supervision import SupervisedSamples, Supervision
from neurosym.data.unread import unread
from neurosym.knowledge import Knowledge
from neurosym.learning.batches import annotated_sizes, require_masks
from neurosym.learning.class_shapes import ClassShapes
from neurosym.learning.sampling import SAMPLINGS
from neurosym.records import Sample

NAMES = ("right_lung", "heart", "left_lung", "nodule")
NOISE = degradation("uniform", 0.3, 1)
MIXED = Supervision(kinds={"exact": 0.2, "box": 0.2, "inexact": 0.2, "image": 0.2, "none": 0.2})
Makers = dict[str, Callable[[ImageSet, Knowledge], Sequence[Sample]]]
MADE: Makers = {
    "images": lambda images, _: images,
    "part": lambda images, _: images[1:4],
    "degraded": lambda images, _: DegradedSamples(images, NOISE),
    "part of degraded": lambda images, _: DegradedSamples(images, NOISE)[::2],
    "fewer": lambda images, _: DegradedSamples(images, degradation("missing", 0.5)),
    "supervised": lambda images, k: SupervisedSamples(images, MIXED, NAMES, k.ontology),
    "labelled": lambda images, k: SupervisedSamples(images, MIXED, NAMES, k.ontology).labelled,
    "joined": lambda images, _: Joined([images[:2], DegradedSamples(images, NOISE), Phantom(7, 2, SMALL)]),
    "phantom": lambda _, __: DegradedSamples(Phantom(3, 3, SMALL), NOISE, NAMES),
}
SMALL = PhantomConfig(size=64)
sizes, masks_there = unwrap(annotated_sizes), unwrap(require_masks)
"""Without beartype, which would look at an item of the sequence."""


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """Five films, 64 wide and 48 high, one of them in colour and one without annotations."""
    entries = []
    for number, film in enumerate(Phantom(0, 5, SMALL)):
        path = tmp_path / f"{film.image_id}.png"
        picture = Image.fromarray(film.image[:48])
        (picture.convert("RGB") if number == 1 else picture).save(path)
        known = () if number == 2 else film.annotations
        inside = tuple(replace(a, box=replace(a.box, y2=min(a.box.y2, 48.0))) for a in known if a.box.y1 < 40)
        said = (frozenset({"normal"}), {"site": number}, frozenset({"heart"}), frozenset({"nodule"}))
        entries.append(ImageEntry(film.image_id, path, 64, 48, inside, *said, (("nodule", "left_lung/upper"),)))
    return ImageSet(entries, NAMES)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is read from disk or painted from now on."""
    found: list[object] = []
    for module, name in ((images_module, "read_image"), (phantom_module, "paint")):
        own = getattr(module, name)

        def told(*given: object, own: Callable[..., object] = own) -> object:
            found.append(given[0])
            return own(*given)

        monkeypatch.setattr(module, name, told)
    return found


@pytest.mark.parametrize("made", sorted(MADE))
def test_all_but_the_pixels_is_the_same_and_no_image_is_read(
    made: str, images: ImageSet, thorax: Knowledge, reads: list[object]
) -> None:
    samples = MADE[made](images, thorax)
    read = [samples[i] for i in range(len(samples))]
    reads.clear()
    shown = unread(MADE[made](images, thorax))
    assert len(shown) == len(read) > 0
    for i, sample in enumerate(read):
        own = shown[i]
        assert own.image.shape[:2] == sample.image.shape[:2]
        assert replace(own, image=np.zeros(0)).__repr__() == replace(sample, image=np.zeros(0)).__repr__()
    part = shown[1:]
    assert [part[i].image_id for i in range(len(part))] == [s.image_id for s in read[1:]]
    assert not reads
    with pytest.raises(IndexError):
        shown[len(read)]


@pytest.mark.parametrize("made", sorted(MADE))
def test_sizes_of_annotations_are_those_of_the_read_images_and_no_image_is_read(
    made: str, images: ImageSet, thorax: Knowledge, reads: list[object]
) -> None:
    samples = MADE[made](images, thorax)
    read = [samples[i] for i in range(len(samples))]
    known = [(a, s) for s in read for a in s.annotations if a.name in NAMES and not a.drawn]
    again = MADE[made](images, thorax)
    reads.clear()
    boxes, labels, areas = sizes(again, NAMES)
    assert not reads
    assert len(known) > 3
    assert boxes.tolist() == torch.tensor([a.box.xyxy for a, _ in known]).tolist()
    assert labels.tolist() == [NAMES.index(a.name) + 1 for a, _ in known]
    assert areas.tolist() == [s.image.shape[0] * s.image.shape[1] for _, s in known]


def test_what_else_is_asked_of_a_whole_data_set_reads_no_image_either(images: ImageSet, reads: list[object]) -> None:
    noisy = DegradedSamples(images, NOISE)
    read = [noisy[i] for i in range(len(noisy))]
    expected = ClassShapes.of(read, NAMES)
    order = SAMPLINGS["repeat_factor"](read, NAMES, 0.9, 0)
    reads.clear()
    found = ClassShapes.of(noisy, NAMES)
    assert torch.equal(found.mean.nan_to_num(), expected.mean.nan_to_num())
    assert torch.equal(found.deviation.nan_to_num(), expected.deviation.nan_to_num())
    again = SAMPLINGS["repeat_factor"](noisy, NAMES, 0.9, 0)
    assert [again(3, k) for k in range(4)] == [order(3, k) for k in range(4)]
    masks_there(noisy, NAMES)
    assert not reads


def test_samples_that_are_in_memory_already_are_given_back_as_they_are() -> None:
    films = [Sample("a", np.ones((3, 4), np.uint8))]
    assert unread(films) is films


@pytest.mark.parametrize("how", ["uniform", "missing", "wrong_label"])
def test_what_became_of_degraded_annotations_is_counted_without_reading_an_image(
    how: str, images: ImageSet, reads: list[object]
) -> None:
    told = DegradedSamples(images, degradation(how, 0.5)).counts()
    films = DegradedSamples(Phantom(0, 5, SMALL), degradation(how, 0.5), NAMES)
    part = unread(films)
    assert isinstance(part, DegradedSamples)
    assert part.counts(3) == films[:3].counts()
    reads.clear()
    assert DegradedSamples(images, degradation(how, 0.5)).counts() == told
    assert not reads
    noisy = DegradedSamples(images, degradation(how, 0.5))
    pairs = [p for i in range(len(noisy)) for p in zip(noisy.truth(i), noisy[i].annotations, strict=True)]
    dropped = sum(len(noisy.dropped(i)) for i in range(len(noisy)))
    assert told == {
        "annotations": sum(len(e.annotations) for e in images.entries),
        "changed": sum(true != shown for true, shown in pairs),
        "relabelled": sum(true.name != shown.name for true, shown in pairs),
        "dropped": dropped,
        "reverted": sum(len(noisy.reverted(i)) for i in range(len(noisy))),
    }
    assert told["changed"] + dropped > 0


def test_a_degraded_sample_is_drawn_once_for_both_views(images: ImageSet) -> None:
    noisy = DegradedSamples(images, NOISE)
    shown = unread(noisy)
    assert shown[0].annotations[0] is noisy[0].annotations[0]
