"""A kind of supervision for each annotation: what is drawn, what is kept, and what is told of films that are wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neurosym.data.coco import load_coco
from neurosym.data.config import PhantomData, PhantomSplit, open_split
from neurosym.data.degrade_draws import point_of
from neurosym.data.images import ImageSet
from neurosym.data.masks import decode_mask
from neurosym.data.patient import ANATOMY, IN_LUNG
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.data.pool import Joined, shared_films
from neurosym.data.supervision import KINDS, SupervisedSamples, Supervision, dealt
from neurosym.data.weak_labels import contradictions
from neurosym.errors import ConfigError, DataError
from neurosym.knowledge import Knowledge
from neurosym.learning.config import load_config
from neurosym.records import Sample

NAMES = (*ANATOMY, *IN_LUNG)
FILMS = Phantom(0, 24, PhantomConfig(size=96))
FINDINGS = frozenset(NAMES) - {"left_lung", "right_lung", "heart"}


def supervised(thorax: Knowledge, **settings: Any) -> SupervisedSamples:
    return SupervisedSamples(FILMS, Supervision.model_validate(settings), NAMES, thorax.ontology)


def iou(a: Sample, b: Sample) -> list[float]:
    found = []
    for one, other in zip(a.annotations, b.annotations, strict=True):
        x = min(one.box.x2, other.box.x2) - max(one.box.x1, other.box.x1)
        y = min(one.box.y2, other.box.y2) - max(one.box.y1, other.box.y1)
        common = max(x, 0) * max(y, 0)
        found.append(common / (one.box.width * one.box.height + other.box.width * other.box.height - common))
    return found


@given(
    st.dictionaries(st.sampled_from(KINDS), st.integers(1, 9), min_size=1, max_size=5),
    st.integers(0, 40),
    st.text(max_size=3),
)
def test_shares_hold_to_within_one_film_and_the_key_alone_decides_the_order(
    parts: dict[str, int], count: int, key: str
) -> None:
    whole = sum(parts.values())
    shares = {kind: n / whole for kind, n in parts.items()}
    kinds = dealt(shares, count, key)
    assert len(kinds) == count
    assert all(abs(Counter(kinds)[kind] - share * count) < 1 for kind, share in shares.items())
    assert kinds == dealt(dict(reversed(shares.items())), count, key)


def test_films_are_the_same_in_whatever_order_they_are_asked_for(thorax: Knowledge) -> None:
    settings = {"kinds": dict.fromkeys(KINDS[:-1], 1 / 9) | {"none": 1 / 9}, "seed": 3}
    forward, backward = supervised(thorax, **settings), supervised(thorax, **settings)
    later = {i: backward[i] for i in reversed(range(len(backward)))}
    for i in range(len(forward)):
        assert forward[i].annotations == later[i].annotations
        assert (forward[i].labels, forward[i].tags, forward[i].absent) == (
            later[i].labels,
            later[i].tags,
            later[i].absent,
        )
    other = supervised(thorax, **settings | {"seed": 4})
    assert [forward.kinds(i) for i in range(24)] != [other.kinds(i) for i in range(24)]


def test_each_kind_keeps_what_it_says_and_nothing_else(thorax: Knowledge) -> None:
    films = {kind: supervised(thorax, kinds={kind: 1}, r=0.3) for kind in KINDS}
    for i in range(8):
        true, shown = FILMS[i], {kind: films[kind][i] for kind in KINDS}
        order = sorted(range(len(true.annotations)), key=lambda k: true.annotations[k].box.xyxy)
        assert shown["exact"].annotations == true.annotations
        assert shown["box"].annotations == tuple(replace(a, mask=None) for a in true.annotations)
        assert len(order) == len(shown["inexact"].annotations)
        assert 0.2 < np.mean(iou(shown["inexact"], true)) < 0.9
        for point, a in zip(shown["point"].annotations, true.annotations, strict=True):
            at = point_of(point.box)
            assert point.drawn == "point"
            assert at is not None
            assert point.mask is None
            assert decode_mask(a.mask)[int(at[1]), int(at[0])]  # type: ignore[arg-type]
        for stroke, a in zip(shown["scribble"].annotations, true.annotations, strict=True):
            line, whole = decode_mask(stroke.mask), decode_mask(a.mask)  # type: ignore[arg-type]
            assert stroke.drawn == "scribble"
            assert line.any()
            assert not (line & ~whole & 1).any()
        there = {a.name for a in true.annotations}
        for kind in ("image", "location"):
            assert shown[kind].annotations == ()
            assert there <= shown[kind].labels
            assert shown[kind].absent == frozenset(NAMES) - there
            assert {"anatomical_structure"} <= shown[kind].labels
        assert ("opacity" in shown["image"].labels) == bool(there & {"ground_glass_opacity", "consolidation", "nodule"})
        assert shown["none"].labels == shown["none"].absent == frozenset()
        assert shown["none"].complete == frozenset()
        assert all(shown[k].complete is None for k in ("exact", "box", "inexact", "coarse_mask", "point", "scribble"))
        assert all("relations" not in s.attributes for s in shown.values())
        assert films["none"].truth(i) == true.annotations


def test_a_location_names_the_lung_and_third_that_the_generator_put_the_finding_in(thorax: Knowledge) -> None:
    films = supervised(thorax, kinds={"exact": 1}, classes={"finding": {"location": 1}})
    checked = 0
    for i in range(len(films)):
        true = FILMS[i]
        lungs = {a.name: a.box for a in true.annotations if a.name.endswith("lung")}
        zones = {n: zone for zone, n, _ in true.attributes["relations"] if zone.endswith("_zone")}
        findings = [n for n, a in enumerate(true.annotations) if a.name in FINDINGS]
        for (name, region), n in zip(films[i].tags, findings, strict=True):
            side, zone = region.split("/")
            centre = (true.annotations[n].box.x1 + true.annotations[n].box.x2) / 2
            assert name == true.annotations[n].name
            assert zone == zones[n]
            if lungs[side].x1 <= centre <= lungs[side].x2:
                checked += 1
    assert checked > 10


def test_classes_may_have_kinds_of_their_own_and_the_nearest_statement_counts(thorax: Knowledge) -> None:
    classes = {"finding": {"image": 1}, "nodule": {"point": 1}}
    films = supervised(thorax, kinds={"exact": 1}, classes=classes)
    for i in range(len(films)):
        kinds, film = films.kinds(i), films[i]
        assert kinds["heart"] == "exact"
        assert kinds["consolidation"] == "image"
        assert kinds["nodule"] == "point"
        assert film.complete == frozenset({"left_lung", "right_lung", "heart", "nodule"})
        assert {a.name for a in film.annotations if not a.drawn} == {"left_lung", "right_lung", "heart"}
        assert all(a.name == "nodule" for a in film.annotations if a.drawn)


def test_films_that_say_something_and_films_of_which_a_teacher_could_say_more(thorax: Knowledge) -> None:
    films = supervised(thorax, kinds={"exact": 0.25, "inexact": 0.25, "image": 0.25, "none": 0.25})
    labelled, pool = films.labelled, films.pool
    assert (len(labelled), len(pool)) == (18, 12)
    assert all(set(pool.kinds(i).values()) <= {"image", "none"} for i in range(len(pool)))
    assert {s.image_id for s in labelled} | {s.image_id for s in pool} == {s.image_id for s in FILMS}
    assert [s.image_id for s in films[3:9:2]] == [FILMS[i].image_id for i in (3, 5, 7)]


def test_films_with_labels_in_the_place_of_boxes_can_be_left_to_a_teacher(thorax: Knowledge) -> None:
    kinds = {"exact": 0.25, "point": 0.25, "image": 0.25, "none": 0.25}
    both, apart = (supervised(thorax, kinds=kinds, labels_in=where) for where in ("batch", "pool"))
    assert (len(both.labelled), len(apart.labelled)) == (18, 12)
    kept = [i for i in range(len(apart.labelled)) if {*apart.labelled.kinds(i).values()} <= {"exact", "point"}]
    assert len(kept) == 12
    assert [s.image_id for s in both.pool] == [s.image_id for s in apart.pool]
    assert any(s.labels for s in apart.pool)
    lungs = supervised(thorax, kinds={"exact": 0.25, "image": 0.75}, classes={"lung": {"exact": 1}}, labels_in="pool")
    assert len(lungs.labelled) == 6
    assert {n for s in lungs.pool for n in (a.name for a in s.annotations)} == {"left_lung", "right_lung"}
    silent = supervised(thorax, kinds={"none": 1}, classes={"lung": {"exact": 1}}, labels_in="pool")
    assert len(silent.labelled) == len(FILMS)


def test_films_with_labels_alone_are_not_left_to_a_teacher_that_is_not_there(thorax: Knowledge, tmp_path: Path) -> None:
    data = PhantomData(
        format="phantom",
        size=64,
        train=PhantomSplit(start=0, count=4),
        supervision={"kinds": {"image": 1}, "labels_in": "pool"},  # type: ignore[arg-type]
    )
    with pytest.raises(ConfigError, match="no film shows every object by a box or mark; set labels_in: batch"):
        open_split(data, "train", Path(), thorax)
    path = tmp_path / "config.yaml"
    written = "name: x\nknowledge: [x.ttl]\ndata: {format: phantom, train: {start: 0, count: 4},\n"
    path.write_text(written + "  supervision: {kinds: {exact: 0.5, image: 0.5}, labels_in: pool}}\n")
    with pytest.raises(ConfigError, match=r"data\.supervision\.labels_in: .* set teacher\.weight above 0"):
        load_config(path)
    assert load_config(path, ["teacher.weight=0.5"]).data.supervision is not None


def test_a_smaller_pool_is_of_the_greater_ones_films_and_leaves_what_is_labelled_as_it_is(thorax: Knowledge) -> None:
    kinds = {"exact": 0.5, "none": 0.5}
    of = {share: supervised(thorax, kinds=kinds, pool=share) for share in (0.0, 0.25, 0.75, 1.0)}
    pools = {share: [s.image_id for s in films.pool] for share, films in of.items()}
    assert [len(ids) for ids in pools.values()] == [0, 3, 9, 12]
    assert set(pools[0.25]) < set(pools[0.75]) < set(pools[1.0])
    assert all(ids == sorted(ids) for ids in pools.values())
    assert {tuple(s.image_id for s in films.labelled) for films in of.values()} == {
        tuple(s.image_id for s in of[1.0].labelled)
    }


def test_a_pool_that_is_left_out_can_be_replaced_and_else_is_an_error(thorax: Knowledge) -> None:
    data = PhantomData(
        format="phantom",
        size=64,
        train=PhantomSplit(start=0, count=4),
        unlabelled=PhantomSplit(start=50, count=2, shift=True),
        supervision={"kinds": {"exact": 0.5, "none": 0.5}, "pool": 0},  # type: ignore[arg-type]
    )
    others = open_split(data, "unlabelled", Path(), thorax)
    assert [s.attributes["domain"] for s in others] == ["shifted", "shifted"]
    with pytest.raises(ConfigError, match=r"data\.supervision\.pool leaves no film to the unlabelled split"):
        open_split(data.model_copy(update={"unlabelled": None}), "unlabelled", Path(), thorax)


def test_mistakes_of_the_section_are_named() -> None:
    with pytest.raises(
        ValidationError, match=r"no loss covers the kind of supervision 'scrible'; did you mean 'scribble'"
    ):
        Supervision.model_validate({"kinds": {"scrible": 1}})
    with pytest.raises(ValidationError, match=r"kinds: the shares sum to 0\.9; they must sum to 1"):
        Supervision.model_validate({"kinds": {"exact": 0.5, "none": 0.4}})
    with pytest.raises(ValidationError, match="with supervision, annotations of kind exact would not be"):
        PhantomData(
            format="phantom",
            train=PhantomSplit(start=0, count=2),
            degrade={"r": 0.1},  # type: ignore[arg-type]
            supervision={"kinds": {"exact": 1}},  # type: ignore[arg-type]
        )


def test_classes_that_are_unknown_or_not_in_the_data_are_refused(thorax: Knowledge) -> None:
    with pytest.raises(ConfigError, match="unknown class 'nodul'; did you mean 'nodule'"):
        supervised(thorax, kinds={"exact": 1}, classes={"nodul": {"image": 1}})
    with pytest.raises(ConfigError, match="no class of the data takes the kinds of 'clavicle'"):
        supervised(thorax, kinds={"exact": 1}, classes={"clavicle": {"image": 1}})


def test_a_scribble_needs_a_mask_and_is_a_box_where_problems_are_only_reported(
    thorax: Knowledge, caplog: pytest.LogCaptureFixture
) -> None:
    boxes = [replace(s, annotations=tuple(replace(a, mask=None) for a in s.annotations)) for s in FILMS[:3]]
    settings = Supervision.model_validate({"kinds": {"scribble": 1}})
    with pytest.raises(DataError, match=r"phantom-000000: kind scribble: an object of \w+ has no mask to draw it from"):
        SupervisedSamples(boxes, settings, NAMES, thorax.ontology)[0]
    lenient = SupervisedSamples(boxes, settings, NAMES, thorax.ontology, "report")
    assert lenient[0].annotations == boxes[0].annotations
    assert "has no mask to draw it from" in caplog.text


def test_the_unlabelled_split_is_the_pool_and_what_the_config_adds(thorax: Knowledge) -> None:
    data = PhantomData(
        format="phantom",
        size=96,
        train=PhantomSplit(start=0, count=10),
        unlabelled=PhantomSplit(start=50, count=3),
        supervision={"kinds": {"exact": 0.5, "none": 0.5}},  # type: ignore[arg-type]
    )
    train, pool = (open_split(data, split, Path(), thorax) for split in ("train", "unlabelled"))  # type: ignore[arg-type]
    assert (len(train), len(pool)) == (5, 8)
    ids = [pool[i].image_id for i in range(8)]
    assert ids[5:] == ["phantom-000050", "phantom-000051", "phantom-000052"]
    assert not set(ids[:5]) & {s.image_id for s in train}
    with pytest.raises(ConfigError, match="nothing is said of any film"):
        open_split(data.model_copy(update={"supervision": Supervision(kinds={"none": 1})}), "train", Path(), thorax)


# --- what contradicts itself, and what is not held out ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"absent": {"opacity"}}, "'opacity' is labelled absent, but a 'nodule' is annotated"),
        ({"labels": {"pleural_effusion"}}, "'pleural_effusion' is labelled present, but none is annotated"),
        (
            {"absent": {"consolidation"}, "labels": {"consolidation"}, "complete": set()},
            "absent, but 'consolidation' present",
        ),
        (
            {"labels": {"no_finding_study", "covid_19_study"}},
            "labels 'covid_19_study' and 'no_finding_study' are disjoint",
        ),
    ],
)
def test_a_label_that_contradicts_the_film_is_told(
    thorax: Knowledge, changes: dict[str, set[str]], message: str
) -> None:
    film = next(s for s in Phantom(0, 60, PhantomConfig(size=64)) if "nodule" in {a.name for a in s.annotations})
    film = replace(film, labels=frozenset(), annotations=tuple(a for a in film.annotations if a.name == "nodule"))
    assert contradictions(film, NAMES, thorax.ontology) == []
    spoilt = replace(film, **{k: frozenset(v) for k, v in changes.items()})  # type: ignore[arg-type]
    assert any(message in str(p) for p in contradictions(spoilt, NAMES, thorax.ontology))


def test_labels_of_what_is_not_completely_annotated_contradict_nothing(thorax: Knowledge) -> None:
    film = replace(FILMS[0], labels=frozenset({"opacity", "nodule"}), annotations=(), complete=frozenset({"heart"}))
    assert contradictions(film, NAMES, thorax.ontology) == []


def test_generated_films_that_are_held_out_are_found_in_a_pool_by_their_number(thorax: Knowledge) -> None:
    pool = Joined([Phantom(10, 5, PhantomConfig(size=64)), supervised(thorax, kinds={"none": 1}).select([3, 7])])
    found = shared_films(pool, Phantom(13, 4, PhantomConfig(size=256)), "test")
    assert [str(p).split(";")[0] for p in found] == [
        f"unlabelled film 'phantom-{n:06d}' is also in the test split" for n in (13, 14)
    ]
    assert not shared_films(pool, Phantom(13, 4, PhantomConfig(seed=1)), "test")
    assert len(shared_films(pool, Phantom(3, 1), "val")) == 1


def test_films_on_disk_are_found_by_their_content_whatever_they_are_called(
    coco_folder: Callable[..., tuple[Path, Path]], thorax: Knowledge, tmp_path: Path
) -> None:
    annotations, images = coco_folder(3)
    held_out = load_coco(annotations, images, thorax)
    other = tmp_path / "renamed.png"
    other.write_bytes((images / "phantom-000001.png").read_bytes())
    pool = ImageSet([replace(held_out.entries[1], path=other, image_id="anything")], held_out.names)
    assert [str(p).split(";")[0] for p in shared_films(pool, held_out, "test")] == [
        "unlabelled film 'anything', there called 'phantom-000001', is also in the test split"
    ]


# --- what a COCO file may say -----------------------------------------------------------------------------------------


def test_a_coco_file_may_say_points_strokes_labels_and_tags(
    coco_folder: Callable[..., tuple[Path, Path]], thorax: Knowledge
) -> None:
    def change(data: dict) -> None:
        data["annotations"][0]["drawn"] = "point"
        data["images"][0]["supervision"] = {
            "complete": ["left_lung", "right_lung", "heart"],
            "present": ["opacity"],
            "absent": ["nodule"],
            "tags": [["opacity", "right_lung/upper_zone"]],
        }

    film, plain, _ = load_coco(*coco_folder(3, change), thorax).entries
    assert film.annotations[0].drawn == "point"
    assert film.complete == {"left_lung", "right_lung", "heart"}
    assert "opacity" in film.labels
    assert film.absent == {"nodule"}
    assert film.tags == (("opacity", "right_lung/upper_zone"),)
    assert (plain.complete, plain.absent, plain.tags) == (None, frozenset(), ())


def test_a_drawing_that_no_loss_covers_is_reported_and_its_class_not_complete_if_the_run_goes_on(
    coco_folder: Callable[..., tuple[Path, Path]], thorax: Knowledge, caplog: pytest.LogCaptureFixture
) -> None:
    def change(data: dict) -> None:
        data["annotations"][0]["drawn"] = "circle"

    files = coco_folder(2, change)
    with pytest.raises(
        DataError, match=r"annotation 1: no loss covers what is drawn as 'circle'; known: point, scribble"
    ):
        load_coco(*files, thorax)
    entries = load_coco(*files, thorax, bad_boxes="drop").entries
    name = json.loads(files[0].read_text())["categories"][
        json.loads(files[0].read_text())["annotations"][0]["category_id"] - 1
    ]
    assert entries[0].complete is not None
    assert name["name"] not in entries[0].complete
    assert entries[1].complete is None
    assert "no loss covers what is drawn as 'circle'" in caplog.text


def test_unknown_classes_and_places_of_a_coco_file_are_reported_together(
    coco_folder: Callable[..., tuple[Path, Path]], thorax: Knowledge
) -> None:
    def change(data: dict) -> None:
        data["images"][0]["supervision"] = {"present": ["opasity"], "tags": [["nodule", "left_lunk"]]}

    with pytest.raises(DataError) as caught:
        load_coco(*coco_folder(1, change), thorax)
    message = str(caught.value)
    assert "unknown class 'opasity'; did you mean 'opacity'" in message
    assert "location 'left_lunk' is no region that the ontology knows; did you mean 'left_lung'" in message


def test_a_part_of_joined_films_is_the_same_films_and_reads_none_of_them() -> None:
    class Counted(list[str]):
        read = 0

        def __getitem__(self, index: Any) -> Any:
            if not isinstance(index, slice):
                Counted.read += 1
            found = super().__getitem__(index)
            return Counted(found) if isinstance(index, slice) else found

    films = Joined([Counted("abc"), Counted("de"), Counted("fghi")])
    parts = {(a, b): films[a:b] for a in (0, 1, 3, 4, 8) for b in (0, 2, 4, 6, 9, None)}
    assert Counted.read == 0
    for (a, b), part in parts.items():
        assert list(part) == list("abcdefghi"[a:b])
    assert list(films[::-2]) == list("abcdefghi"[::-2])
