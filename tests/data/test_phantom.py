"""The phantom keeps its promises: known rules at known rates, exact masks, and the same film every time.

The truth here is independent of the module: relations are recomputed from the boxes, rules are matched by trying every
assignment, masks are decoded by pycocotools.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.ndimage import distance_transform_edt
from scipy.stats import binom

from neurosym.data.film import paint
from neurosym.data.phantom import (
    CATEGORIES,
    GENERATING_RULES,
    SCENARIOS,
    GeneratingRule,
    Layout,
    Phantom,
    PhantomConfig,
    main,
    phantom_film,
    phantom_layout,
    relations_of,
)
from neurosym.errors import ConfigError
from neurosym.records import Annotation, Box, Sample

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools

FILMS = 1500
SIZE = 160
SUPERCLASSES = {
    "left_lung": {"lung"},
    "right_lung": {"lung"},
    "ground_glass_opacity": {"opacity"},
    "consolidation": {"opacity"},
}
STUDY = -1

# --- an independent reading of a film: facts from boxes, rules by brute force -----------------------------------------


def facts_of(annotations: tuple[Annotation, ...], labels: frozenset[str]) -> set[tuple[str | int, ...]]:
    facts: set[tuple[str | int, ...]] = {("study", STUDY)} | {(label, STUDY) for label in labels}
    lungs = {a.name: a.box for a in annotations if a.name.endswith("_lung")}
    for i, a in enumerate(annotations):
        facts |= {(name, i) for name in {a.name} | SUPERCLASSES.get(a.name, set())}
        x1, y1, x2, y2 = a.box.xyxy
        for j, b in enumerate(annotations):
            u1, v1, u2, v2 = b.box.xyxy
            if i == j:
                continue
            if x1 + x2 < u1 + u2:
                facts.add(("left_of", i, j))
            if y1 + y2 < v1 + v2:
                facts.add(("above", i, j))
            if (x2 - x1) * (y2 - y1) > (u2 - u1) * (v2 - v1):
                facts.add(("larger_than", i, j))
            if 4 * (min(x2, u2) - max(x1, u1)) >= 3 * (x2 - x1) and 4 * (min(y2, v2) - max(y1, v1)) >= 3 * (y2 - y1):
                facts.add(("inside", i, j))
        if a.name not in ("heart", *lungs):
            facts |= {(zone, i) for zone in place_of((x1 + x2) / 2, (y1 + y2) / 2, lungs)}
    return facts


def place_of(x: float, y: float, lungs: dict[str, Box]) -> tuple[str, str]:
    def away(box: Box) -> float:
        return np.hypot(x - np.clip(x, box.x1, box.x2), y - np.clip(y, box.y1, box.y2))

    name = min(lungs, key=lambda n: away(lungs[n]))
    box = lungs[name]
    depth = (x - box.x1) / box.width if name == "right_lung" else (box.x2 - x) / box.width
    row = (y - box.y1) / box.height
    zone = "upper_zone" if row < 1 / 3 else "middle_zone" if row < 2 / 3 else "lower_zone"
    return zone, "peripheral" if depth < 0.4 else "central"


@cache
def parse(text: str) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """Head and body as atoms ("name", "X", …); equality is the atom ("=", "X", "Y")."""

    def atoms(part: str) -> tuple[tuple[str, ...], ...]:
        if match := re.fullmatch(r"(\w) = (\w)", part.strip()):
            return (("=", *match.groups()),)
        return tuple((name, *re.findall(r"\w+", args)) for name, args in re.findall(r"(\w+)\(([^)]*)\)", part))

    head, body = text.rstrip(".").split(":-")
    return atoms(head), atoms(body)


def matches(atoms: tuple[tuple[str, ...], ...], facts: set, bound: dict[str, int]) -> Iterator[dict[str, int]]:
    """Every assignment of distinct objects to the variables that makes all atoms true, by trying every fact."""
    if not atoms:
        yield bound
        return
    (name, *variables), rest = atoms[0], atoms[1:]
    if name == "=":
        if bound[variables[0]] == bound[variables[1]]:
            yield from matches(rest, facts, bound)
        return
    for fact in facts:
        if fact[0] == name and len(fact) == len(atoms[0]):
            trial = bound | {v: o for v, o in zip(variables, fact[1:], strict=True) if v not in bound}
            agrees = all(trial[v] == o for v, o in zip(variables, fact[1:], strict=True))
            if agrees and len(set(trial.values())) == len(trial):
                yield from matches(rest, facts, trial)


def tally(rule: GeneratingRule, facts: set) -> tuple[int, int]:
    """How often the rule held on one film, out of how often it applied; see `GeneratingRule`."""
    head, body = parse(rule.text)
    found = list(matches(body, facts, {}))
    if not head:
        return int(not found), 1
    variables = {v for _, *args in head for v in args}
    cases = {tuple(sorted((v, o) for v, o in m.items() if v in variables)) for m in found}
    return sum(any(True for _ in matches(head, facts, dict(case))) for case in cases), len(cases)


@cache
def layouts(shift: bool) -> tuple[Layout, ...]:
    config = PhantomConfig(size=SIZE, seed=7, shift=shift)
    return tuple(phantom_layout(i, config) for i in range(FILMS if not shift else FILMS // 3))


@cache
def all_facts(shift: bool) -> list[set]:
    return [facts_of(film.annotations, film.labels) for film in layouts(shift)]


@cache
def films(shift: bool) -> list[Sample]:
    return list(Phantom(0, 60, PhantomConfig(seed=7, shift=shift)))


# --- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [False, True], ids=["source", "shifted"])
@pytest.mark.parametrize("rule", GENERATING_RULES, ids=lambda r: r.id)
def test_every_rule_holds_at_its_stated_rate(rule: GeneratingRule, shift: bool) -> None:
    counts = np.array([tally(rule, facts) for facts in all_facts(shift)])
    held, applied = counts.sum(axis=0)
    if "=" not in rule.text:
        assert applied > 10, "the rule is never tested"
    low, high = binom.interval(0.999, max(applied, 1), rule.probability) if applied else (0, 0)
    assert low <= held <= high, f"{held} of {applied} = {held / applied:.4f}"


def test_the_matcher_itself() -> None:
    facts = {("nodule", 1), ("nodule", 2), ("lung", 0), ("inside", 1, 0)}
    assert tally(GeneratingRule("", "inside(X, L), lung(L) :- nodule(X).", 1), facts) == (1, 2)
    assert tally(GeneratingRule("", "X = Y :- nodule(X), nodule(Y).", 1), facts) == (0, 2)
    assert tally(GeneratingRule("", ":- nodule(X), lung(X).", 1), facts) == (1, 1)


def test_a_rule_of_the_wrong_rate_would_be_noticed() -> None:
    counts = np.array(
        [tally(GeneratingRule("", "inside(X, L), lung(L) :- nodule(X).", 0), f) for f in all_facts(False)]
    )
    held, applied = counts.sum(axis=0)
    low, high = binom.interval(0.999, applied, 0.999)
    assert not low <= held <= high


@pytest.mark.parametrize("shift", [False, True], ids=["source", "shifted"])
def test_relations_agree_with_an_independent_reading(shift: bool) -> None:
    names = {"left_of", "above", "inside", "larger_than", "upper_zone", "middle_zone", "lower_zone"}
    names |= {"peripheral", "central"}
    for film, facts in zip(layouts(shift), all_facts(shift), strict=True):
        relations = {(name, i) if j is None else (name, i, j) for name, i, j in relations_of(film.annotations)}
        assert relations == {f for f in facts if f[0] in names}
        assert film.attributes["relations"] == relations_of(film.annotations)


def test_categories_follow_from_the_findings() -> None:
    ggo = "ground_glass_opacity"
    for film, facts in zip(layouts(False), all_facts(False), strict=True):
        names = [a.name for a in film.annotations[3:]]
        good = [i for i, a in enumerate(film.annotations) if {(ggo, i), ("peripheral", i), ("lower_zone", i)} <= facts]
        both = all(any(("inside", i, lung) in facts for i in good) for lung in (0, 2))
        opacities = [n for n in names if n in (ggo, "consolidation")]
        expected = (
            "negative_for_pneumonia"
            if not opacities
            else "typical_appearance"
            if both
            else "atypical_appearance"
            if names == ["consolidation"]
            else "indeterminate_appearance"
        )
        assert film.attributes["true_label"] == expected


def test_label_noise_flips_at_its_rate_and_nothing_else() -> None:
    noisy = [phantom_layout(i, PhantomConfig(size=64, seed=3, label_noise=0.3)) for i in range(300)]
    clean = [phantom_layout(i, PhantomConfig(size=64, seed=3, label_noise=0.0)) for i in range(300)]
    flips = {"category": 0, "cardiomegaly": 0}
    for a, b in zip(noisy, clean, strict=True):
        assert a.annotations == b.annotations
        assert len(a.labels & set(CATEGORIES)) == 1
        assert b.attributes["true_label"] in b.labels
        assert ("cardiomegaly" in b.labels) == (b.attributes["cardiothoracic_ratio"] > 0.5)
        flips["category"] += a.attributes["true_label"] not in a.labels
        flips["cardiomegaly"] += ("cardiomegaly" in a.labels) != ("cardiomegaly" in b.labels)
    low, high = binom.interval(0.999, 300, 0.3)
    assert all(low <= n <= high for n in flips.values()), flips


def test_scenario_priors_sum_to_one_and_keep_the_mix_of_pneumonias() -> None:
    assert sum(s.prior for s in SCENARIOS.values()) == pytest.approx(1)
    assert sum(s.shifted for s in SCENARIOS.values()) == pytest.approx(1)
    pneumonias = [s for name, s in SCENARIOS.items() if name not in ("clear", "nodule", "effusion")]
    assert [s.shifted / s.prior for s in pneumonias] == pytest.approx([1.15] * len(pneumonias))


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [False, True], ids=["source", "shifted"])
def test_masks_are_tight_in_boxes_within_the_film(shift: bool) -> None:
    for film in layouts(shift)[:300]:
        for a in film.annotations:
            pixels = coco_mask.decode(dict(a.mask)).astype(bool)
            rows, columns = np.nonzero(pixels)
            assert pixels.shape == (SIZE, SIZE)
            assert a.box.xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.isfinite(a.box.xyxy).all()
            assert a.box.width >= 2
            assert a.box.height >= 2


def test_anatomy_lies_as_on_real_films() -> None:
    centres = []
    for film in layouts(False):
        names = [a.name for a in film.annotations]
        assert names[:3] == ["right_lung", "heart", "left_lung"]
        right, heart, left = (a.box for a in film.annotations[:3])
        assert right.x1 + right.x2 < heart.x1 + heart.x2 < left.x1 + left.x2
        assert film.attributes["cardiothoracic_ratio"] == heart.width / (left.x2 - right.x1)
        centres.append((heart.x1 + heart.x2) / (2 * SIZE))
    assert 0.53 < np.mean(centres) < 0.60  # JSRT: 0.57
    for film in layouts(False)[:100]:
        right, heart, left = (coco_mask.decode(dict(a.mask)).astype(bool) for a in film.annotations[:3])
        assert ((left | right) & heart).sum() <= 0.03 * heart.sum()


def test_nodules_are_three_to_eight_percent_of_the_width() -> None:
    widths = [a.box.width / SIZE for film in layouts(False) for a in film.annotations if a.name == "nodule"]
    assert min(widths) > 0.025
    assert max(widths) < 0.095


@pytest.mark.parametrize("size", [64, 100, 512])
def test_other_sizes(size: int) -> None:
    for shift in (False, True):
        for i in range(4):
            film = phantom_film(i, PhantomConfig(size=size, shift=shift))
            assert film.image.shape == (size, size)
            assert all(0 <= v <= size for a in film.annotations for v in a.box.xyxy)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_the_same_film_whatever_was_drawn_before() -> None:
    config = PhantomConfig(seed=11)
    forward = [phantom_film(i, config) for i in range(6)]
    backward = [phantom_film(i, config) for i in reversed(range(6))][::-1]
    for a, b, c in zip(forward, backward, Phantom(0, 6, config), strict=True):
        assert a.image.tobytes() == b.image.tobytes() == c.image.tobytes()
        assert (a.image_id, a.annotations, a.labels, a.attributes) == (
            b.image_id,
            b.annotations,
            b.labels,
            b.attributes,
        )
    assert forward[0].image.tobytes() != phantom_film(0, PhantomConfig(seed=12)).image.tobytes()
    assert len({f.image.tobytes() for f in forward}) == 6


def test_a_film_is_its_layout_painted() -> None:
    config = PhantomConfig(seed=11)
    film, layout = phantom_film(3, config), phantom_layout(3, config)
    assert film.annotations == layout.annotations
    assert film.labels == layout.labels
    assert film.image_id == layout.image_id == "phantom-000003"


def test_sequence() -> None:
    phantom = Phantom(5, 3, PhantomConfig(size=64))
    assert len(phantom) == 3
    assert [s.image_id for s in phantom] == ["phantom-000005", "phantom-000006", "phantom-000007"]
    assert phantom[-1].image_id == "phantom-000007"
    assert [s.image_id for s in phantom[1:]] == ["phantom-000006", "phantom-000007"]
    with pytest.raises(IndexError):
        phantom[3]


def test_lungs_are_dark_and_the_heart_is_bright() -> None:
    for film in films(False):
        assert film.image.dtype == np.uint8
        right, heart, left = (coco_mask.decode(dict(a.mask)).astype(bool) for a in film.annotations[:3])
        assert film.image[heart].mean() > film.image[left].mean() + 30
        assert film.image[heart].mean() > film.image[right].mean() + 30
        assert film.image.std() > 30


@pytest.mark.parametrize("shift", [False, True], ids=["source", "shifted"])
def test_every_finding_brightens_its_own_pixels(shift: bool) -> None:
    gains: dict[str, list[float]] = {}
    for layout in layouts(shift)[:120]:
        if not layout.findings:
            continue
        sick, healthy = (
            paint(layout.patient, layout.look, findings, np.random.default_rng(0)).astype(float)
            for findings in (layout.findings, ())
        )
        gain = sick - healthy
        disease = np.logical_or.reduce([f.mask for f in layout.findings])
        assert (np.abs(gain[~disease]) > 10).mean() < 0.03, "disease outside the masks"
        if not layout.look.equalise:
            assert not gain[distance_transform_edt(~disease) > 20].any()
        for finding in layout.findings:
            gains.setdefault(finding.kind, []).append(gain[finding.mask].mean())
    assert set(gains) == {"ground_glass_opacity", "consolidation", "nodule", "pleural_effusion"}
    for kind, values in gains.items():
        assert min(values) > 1, kind
        assert np.mean(values) > 10, kind
    assert np.mean(gains["consolidation"]) > 1.3 * np.mean(gains["ground_glass_opacity"])


def test_findings_in_a_lung_are_brighter_than_their_mirror_image() -> None:
    differences = []
    for film in films(False):
        middle = sum(film.annotations[k].box.x1 + film.annotations[k].box.x2 for k in (0, 2)) / 4
        lungs = np.logical_or.reduce([coco_mask.decode(dict(film.annotations[k].mask)) for k in (0, 2)])
        sick = np.logical_or.reduce([coco_mask.decode(dict(a.mask)) for a in film.annotations[3:]] or [0 * lungs])
        rows, columns = np.nonzero(sick & lungs)
        mirrored = np.clip(np.round(2 * middle - columns - 1), 0, 255).astype(int)
        clean = (lungs & ~sick)[rows, mirrored]
        if clean.sum() > 50:
            here, there = film.image[rows, columns], film.image[rows, mirrored]
            differences.append(here[clean].mean() - there[clean].mean())
    assert len(differences) > 20
    assert np.mean(differences) > 15
    assert np.mean(np.array(differences) > 0) > 0.8


def test_the_shift_changes_the_histogram() -> None:
    source, shifted = (
        np.mean([np.bincount(f.image.ravel(), minlength=256) / f.image.size for f in films(shift)], axis=0)
        for shift in (False, True)
    )
    assert 0.5 * np.abs(source - shifted).sum() > 0.15
    assert {f.attributes["domain"] for f in films(True)} == {"shifted"}


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_bad_config_names_every_field() -> None:
    with pytest.raises(ConfigError) as error:
        PhantomConfig(size=32, seed=-1, label_noise=1.5)
    assert str(error.value).splitlines() == [
        "phantom: size: expected a whole number of pixels from 64 to 1024, found 32",
        "phantom: seed: expected a whole number not below 0, found -1",
        "phantom: label_noise: expected a probability from 0 to 1, found 1.5",
    ]


@pytest.mark.parametrize("bad", [{"size": 1025}, {"size": 256.0}, {"label_noise": -0.1}, {"label_noise": float("nan")}])
def test_single_bad_values(bad: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        PhantomConfig(**bad)


def test_the_sheet_of_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["phantom", "--out", str(tmp_path / "sheet.png"), "--size", "64"])
    main()
    assert Image.open(tmp_path / "sheet.png").size == (256, 192)
