"""What is on a phantom film and why: patients, findings and study labels drawn from rules of known probability.

A phantom film is a procedural frontal chest radiograph (painted by `neurosym.data.film`). A scenario is drawn from
`SCENARIOS`, its findings are placed on the patient's lungs (`neurosym.data.patient`), the study labels are derived from
what was placed, and then spoilt by label noise. Each step obeys `GENERATING_RULES`, so that constraints, rule learners
and reports can be checked against the truth.

Objects of a film: one `right_lung`, `heart` and `left_lung` (the patient's left, image right), any number of
`ground_glass_opacity`, `consolidation`, `nodule`, `pleural_effusion`, and the `study`, which has no box and carries the
labels. `opacity` is the superclass of the first two findings, `lung` of the two lungs.

Relations are crisp and read off boxes: `left_of(a, b)` (towards image left) and `above(a, b)` compare centres;
`inside(a, b)`: at least three quarters of a's width and of its height lie within b; `larger_than(a, b)` compares areas.
A finding belongs to the lung box around its centre (else the nearest) and is in its `upper_zone`, `middle_zone` or
`lower_zone` by thirds of the height, `peripheral` in the lateral 40 % of the width, else `central`.

Study labels, after the RSNA consensus on COVID-19 (Simpson et al. 2020, doi:10.1148/ryct.2020200152, there for CT);
exactly one category holds, the first of
  1. `negative_for_pneumonia`: no opacity (a nodule or an effusion alone is no pneumonia);
  2. `typical_appearance`: in each lung a ground-glass opacity that is inside it, peripheral and in the lower zone;
  3. `atypical_appearance`: a single consolidation and no other finding;
  4. `indeterminate_appearance`: every other film with an opacity.
With probability `label_noise` it is replaced by one of the other three. `cardiomegaly` holds beside it when the heart
box is wider than half of both lung boxes together, and is flipped with the same probability. Where a category needs
negation, which rules lack, the positive part is listed with the probability measured over 100,000 films.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from faster_coco_eval.core import mask as run_length
from PIL import Image

from neurosym.data.film import Look, draw_look, paint
from neurosym.data.masks import box_of
from neurosym.data.patient import (
    ANATOMY,
    LUNGS,
    Finding,
    Mask,
    Patient,
    Relations,
    Wish,
    draw_patient,
    place,
    relations_of,
)
from neurosym.errors import ConfigError, Problem
from neurosym.records import Annotation, Sample

__all__ = [
    "CATEGORIES",
    "GENERATING_RULES",
    "SCENARIOS",
    "GeneratingRule",
    "Layout",
    "Phantom",
    "PhantomConfig",
    "category_of",
    "phantom_film",
    "phantom_layout",
    "relations_of",
]

CATEGORIES = ("atypical_appearance", "indeterminate_appearance", "negative_for_pneumonia", "typical_appearance")
_INCIDENTAL_NODULE = 0.08


# --- what is true of every film ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GeneratingRule:
    """A rule the films obey, in the project's rule language.

    Variables range over the objects of one film, distinct variables are distinct objects. `probability` is the share of
    the distinct bindings of the head's bound variables (of the films, for a head without any) that satisfy the head,
    among those for which the body holds; for a denial it is the share of films on which the body has no match. Those of
    label rules are for the default label noise.
    """

    id: str
    text: str
    probability: float


GENERATING_RULES: tuple[GeneratingRule, ...] = (
    GeneratingRule("one-heart", "X = Y :- heart(X), heart(Y).", 1.0),
    GeneratingRule("one-left-lung", "X = Y :- left_lung(X), left_lung(Y).", 1.0),
    GeneratingRule("one-right-lung", "X = Y :- right_lung(X), right_lung(Y).", 1.0),
    GeneratingRule("chest", "right_lung(R), heart(H), left_lung(L) :- study(S).", 1.0),
    GeneratingRule("right-lung-heart", "left_of(R, H) :- right_lung(R), heart(H).", 1.0),
    GeneratingRule("heart-left-lung", "left_of(H, L) :- heart(H), left_lung(L).", 1.0),
    GeneratingRule("lung-heart-size", "larger_than(L, H) :- lung(L), heart(H).", 1.0),
    GeneratingRule("lung-nodule-size", "larger_than(L, X) :- lung(L), nodule(X).", 1.0),
    GeneratingRule("opacity-lung", "inside(X, L), lung(L) :- opacity(X).", 0.97),
    GeneratingRule("nodule-lung", "inside(X, L), lung(L) :- nodule(X).", 0.92),
    GeneratingRule("effusion-lung", "inside(X, L), lung(L) :- pleural_effusion(X).", 1.0),
    GeneratingRule("effusion-lower", "lower_zone(X) :- pleural_effusion(X).", 1.0),
    GeneratingRule("effusion-peripheral", "peripheral(X) :- pleural_effusion(X).", 1.0),
    GeneratingRule("no-upper-effusion", ":- pleural_effusion(X), upper_zone(X).", 1.0),
    GeneratingRule("exclusive-labels", ":- typical_appearance(S), negative_for_pneumonia(S).", 1.0),
    GeneratingRule(
        "typical",
        "typical_appearance(S) :- study(S), ground_glass_opacity(X), ground_glass_opacity(Y), right_lung(R), "
        "left_lung(L), inside(X, R), inside(Y, L), peripheral(X), peripheral(Y), lower_zone(X), lower_zone(Y).",
        0.98,
    ),
    GeneratingRule(
        "upper-ground-glass",
        "indeterminate_appearance(S) :- study(S), ground_glass_opacity(X), upper_zone(X).",
        0.98,
    ),
    GeneratingRule(
        "parapneumonic", "indeterminate_appearance(S) :- study(S), consolidation(X), pleural_effusion(Y).", 0.98
    ),
    GeneratingRule("upper-lobe", "atypical_appearance(S) :- study(S), consolidation(X), upper_zone(X).", 0.98),
    GeneratingRule("cardiomegaly", "cardiomegaly(S) :- study(S).", 0.2312),
    GeneratingRule("consolidation", "atypical_appearance(S) :- study(S), consolidation(X).", 0.48),
    GeneratingRule(
        "typical-right", "ground_glass_opacity(X), inside(X, R), right_lung(R) :- typical_appearance(S).", 0.979
    ),
    GeneratingRule(
        "typical-left", "ground_glass_opacity(X), inside(X, L), left_lung(L) :- typical_appearance(S).", 0.979
    ),
    GeneratingRule("lobar", "consolidation(X) :- atypical_appearance(S).", 0.96),
    GeneratingRule("indeterminate", "opacity(X) :- indeterminate_appearance(S).", 0.987),
    GeneratingRule("negative", ":- negative_for_pneumonia(S), opacity(X).", 0.996),
)


@dataclass(frozen=True)
class Scenario:
    """A reason for a film: how often it is drawn, and how often on a film of the shifted domain.

    All pneumonias grow by the same factor under the shift, so that the rules keep their probabilities; only those that
    start from a spoilt label move, by less than 0.01.
    """

    prior: float
    shifted: float


SCENARIOS = {
    "clear": Scenario(0.24, 0.13),
    "nodule": Scenario(0.14, 0.146),
    "effusion": Scenario(0.06, 0.08),
    "typical": Scenario(0.22, 0.253),  # ground glass in both lower zones, perhaps more of it, perhaps consolidation
    "lobar": Scenario(0.12, 0.138),  # one consolidation
    "unilateral": Scenario(0.07, 0.0805),  # ground glass in one lung
    "upper": Scenario(0.05, 0.0575),  # ground glass in the upper zones
    "perihilar": Scenario(0.05, 0.0575),  # ground glass around both hila
    "parapneumonic": Scenario(0.05, 0.0575),  # consolidation and effusion
}


@dataclass(frozen=True)
class PhantomConfig:
    """Which films: `size` in pixels (square), `seed`, the share of spoilt study labels, and the domain.

    `shift` is another hospital: other exposure, noise, collimation, blur and posture, other priors of the scenarios;
    the rules stay.
    """

    size: int = 256
    seed: int = 0
    label_noise: float = 0.02
    shift: bool = False

    def __post_init__(self) -> None:
        wrong: list[tuple[str, str, object]] = []
        if not (isinstance(self.size, int) and 64 <= self.size <= 1024):
            wrong.append(("size", "a whole number of pixels from 64 to 1024", self.size))
        if not (isinstance(self.seed, int) and self.seed >= 0):
            wrong.append(("seed", "a whole number not below 0", self.seed))
        if not 0 <= self.label_noise <= 1:
            wrong.append(("label_noise", "a probability from 0 to 1", self.label_noise))
        if wrong:
            raise ConfigError(
                Problem(f"phantom: {name}: expected {what}, found {value!r}") for name, what, value in wrong
            )


@dataclass(frozen=True)
class Layout:
    """Everything about a film but its pixels; `patient`, `look` and `findings` are what the painter needs."""

    image_id: str
    annotations: tuple[Annotation, ...]
    labels: frozenset[str]
    attributes: dict[str, Any]
    patient: Patient
    look: Look
    findings: tuple[Finding, ...]


# --- from findings to labels ------------------------------------------------------------------------------------------


def category_of(annotations: Sequence[Annotation], relations: Relations) -> str:
    """The study category that follows from what is on the film; see the head of this module."""
    holds = set(relations)
    names = [a.name for a in annotations if a.name not in ANATOMY]
    if not {"ground_glass_opacity", "consolidation"} & set(names):
        return "negative_for_pneumonia"
    affected = {
        annotations[j].name
        for i, a in enumerate(annotations)
        for j in range(len(annotations))
        if a.name == "ground_glass_opacity"
        and ("inside", i, j) in holds
        and ("peripheral", i, None) in holds
        and ("lower_zone", i, None) in holds
    }
    if affected >= set(LUNGS):
        return "typical_appearance"
    return "atypical_appearance" if names == ["consolidation"] else "indeterminate_appearance"


# --- drawing a film ---------------------------------------------------------------------------------------------------


def _wishes(scenario: str, rng: np.random.Generator) -> list[Wish]:
    """What a scenario puts on a film, before any finding strays."""

    def any_lung() -> str:
        return LUNGS[int(rng.integers(2))]

    side, ggo, middle, low = any_lung(), "ground_glass_opacity", "middle_zone", "lower_zone"
    second = bool(rng.random() < 0.35)
    wishes: list[Wish] = []
    if scenario == "nodule":
        wishes = [Wish("nodule", any_lung()) for _ in range(1 + second)]
    elif scenario == "effusion":
        wishes = [Wish("pleural_effusion", lung) for lung in LUNGS if lung == side or second]
    elif scenario == "typical":
        wishes = [Wish(ggo, lung, low, "peripheral", (0.2, 0.36)) for lung in LUNGS]
        wishes += [Wish(ggo, any_lung(), middle, reach=(0.18, 0.34)) for _ in range(int(rng.integers(3)))]
        if second:
            wishes.append(Wish("consolidation", side, (middle, low)[int(rng.integers(2))], reach=(0.16, 0.3)))
    elif scenario == "lobar":
        zone = ("upper_zone", middle, low)[int(rng.integers(3))]
        wishes = [Wish("consolidation", side, zone, reach=(0.3, 0.5), lobar=bool(rng.random() < 0.6))]
    elif scenario == "unilateral":
        wishes = [Wish(ggo, side, zone) for zone in (low, middle) if zone == low or second]
    elif scenario == "upper":
        wishes = [Wish(ggo, lung, "upper_zone") for lung in LUNGS if lung == side or second]
    elif scenario == "perihilar":
        wishes = [Wish(ggo, lung, middle, "central", (0.25, 0.4)) for lung in LUNGS]
    elif scenario == "parapneumonic":
        wishes = [Wish("consolidation", side, middle, reach=(0.22, 0.4)), Wish("pleural_effusion", side)]
    if scenario not in ("clear", "nodule", "lobar") and rng.random() < _INCIDENTAL_NODULE:
        wishes.append(Wish("nodule", any_lung()))
    return wishes


def _annotate(name: str, mask: Mask) -> Annotation:
    code = run_length.encode(np.asfortranarray(mask, dtype=np.uint8))
    return Annotation(name, box_of(mask), {"size": list(code["size"]), "counts": code["counts"].decode("ascii")})


def _labels(category: str, large: bool, label_noise: float, rng: np.random.Generator) -> frozenset[str]:
    """The study labels after noise: another category, and the opposite of cardiomegaly, each with that probability."""
    flips = rng.random(2) < label_noise
    if flips[0]:
        category = [c for c in CATEGORIES if c != category][int(rng.integers(3))]
    return frozenset({category} | ({"cardiomegaly"} if large != bool(flips[1]) else set()))


def phantom_layout(index: int, config: PhantomConfig | None = None) -> Layout:
    """Film number `index` without its pixels, about six times faster than `phantom_film`."""
    config = config or PhantomConfig()
    of_layout, of_labels, of_look, _ = _streams(index, config)
    patient = draw_patient(of_layout, config.size, turn=0.05 if config.shift else 0.02)
    priors = np.array([s.shifted if config.shift else s.prior for s in SCENARIOS.values()])
    scenario = list(SCENARIOS)[int(of_layout.choice(len(priors), p=priors / priors.sum()))]
    findings: list[Finding] = []
    taken = np.zeros((config.size, config.size), dtype=bool)
    for wish in _wishes(scenario, of_layout):
        findings.append(place(wish, patient, taken, of_layout))
        taken = taken | findings[-1].mask
    annotations = tuple(_annotate(name, patient.masks[name]) for name in ANATOMY)
    annotations += tuple(_annotate(f.kind, f.mask) for f in findings)
    relations = relations_of(annotations)
    category = category_of(annotations, relations)
    return Layout(
        image_id=f"phantom-{index:06d}",
        annotations=annotations,
        labels=_labels(category, patient.cardiothoracic_ratio > 0.5, config.label_noise, of_labels),
        attributes={
            "relations": relations,
            "scenario": scenario,
            "true_label": category,
            "cardiothoracic_ratio": patient.cardiothoracic_ratio,
            "sex": "female" if patient.body.breast else "male",
            "domain": "shifted" if config.shift else "source",
        },
        patient=patient,
        look=draw_look(of_look, config.shift),
        findings=tuple(findings),
    )


def _streams(index: int, config: PhantomConfig) -> list[np.random.Generator]:
    return [np.random.default_rng(s) for s in np.random.SeedSequence([config.seed, index]).spawn(4)]


def phantom_film(index: int, config: PhantomConfig | None = None) -> Sample:
    """Film number `index`, the same whatever was drawn before.

    >>> film_ = phantom_film(12, PhantomConfig(size=64))
    >>> film_.image_id, film_.image.shape, film_.annotations[1].name
    ('phantom-000012', (64, 64), 'heart')
    """
    config = config or PhantomConfig()
    plan = phantom_layout(index, config)
    image = paint(plan.patient, plan.look, plan.findings, _streams(index, config)[3])
    return Sample(plan.image_id, image, plan.annotations, plan.labels, plan.attributes)


class Phantom(Sequence[Sample]):
    """Films `start` … `start + count - 1` as a sequence; nothing is kept, every access draws the film anew."""

    def __init__(self, start: int, count: int, config: PhantomConfig | None = None) -> None:
        self.indices = range(start, start + count)
        self.config = config or PhantomConfig()

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        at = self.indices[index]
        return [phantom_film(i, self.config) for i in at] if isinstance(at, range) else phantom_film(at, self.config)


def main() -> None:
    """Write a sheet of twelve films."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="PNG or JPEG to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--shift", action="store_true")
    options = parser.parse_args()
    config = PhantomConfig(size=options.size, seed=options.seed, shift=options.shift)
    sheet = Image.new("L", (4 * config.size, 3 * config.size))
    for k, sample in enumerate(Phantom(0, 12, config)):
        sheet.paste(Image.fromarray(sample.image), (k % 4 * config.size, k // 4 * config.size))
    sheet.save(options.out)


if __name__ == "__main__":
    main()
