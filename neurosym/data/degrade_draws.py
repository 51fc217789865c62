"""Annotations made worse on purpose, by a seed, so that what is robust to bad annotations can be measured.

`uniform` is the protocol of OA-MIL (Liu et al. 2022, arXiv:2207.09697): for a box with centre c and sides (w, h)

    c' = c + U(−r, r)·(w, h),    (w', h') = (w, h)·(1 + U(−r, r)),    clipped to the image,

four draws a box, made once for a data set. `too_big` follows the finding of Famouri et al. (2021) that boxes up to 6 times too
large harm a mammography detector. The others are ours: `partial`, `annotator` (each image is drawn by one of K annotators, who
are off in their own way), `missing`, `wrong_label`, `point`, `coarse_mask` (see `neurosym.data.degrade_masks`).

A draw depends on the seed, the image's id and the true box alone: neither the order of annotations nor what else is annotated,
changes it, and which classes are read only changes what a wrong label may be. A box that is emptied (below one pixel) reverts
to the true one, and is counted. Masks go with their boxes, for an exact mask would tell where the true box is. Crowds are left
alone. What becomes of whole samples and files is in `neurosym.data.degrade` and `neurosym.data.degrade_files`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neurosym.data.degrade_masks import coarse_mask, cut_mask, mask_box, move_mask, nearest_pixel
from neurosym.errors import ConfigError, Problem, did_you_mean
from neurosym.records import Annotation, Box

How = Literal["uniform", "too_big", "partial", "annotator", "missing", "wrong_label", "point", "coarse_mask"]
POINT_SIDE = 2.0
"""Pixels; a point travels as a box of this side around it, so that every format and detector takes it (see `point_of`)."""
_MIN_SIDE = 1.0
_OWN_NOISE = 0.25
"""Of an annotator: how far a single box strays from the own habit, as a share of r."""


class Degradation(BaseModel):
    """What is done to the annotations, as written in a config's ``data.degrade``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    how: How = "uniform"
    r: float = Field(ge=0, le=1, allow_inf_nan=False)
    """How much; 0 is nothing. `uniform`, `annotator`: share of the sides. `too_big`: share of the way to `factor`. `partial`:
    share of each side that may be cut off. `missing`, `wrong_label`: probability. `point`: how far from the centre, 1 anywhere
    in the box. `coarse_mask`: see `shape`."""
    seed: int = Field(0, ge=0)
    factor: float = Field(6.0, gt=1, le=100)
    """`too_big`: the largest area, in areas of the true box."""
    annotators: int = Field(4, ge=1)
    shape: Literal["dilate", "polygon", "scribble"] = "dilate"
    """`coarse_mask`: wider by r √area; a polygon that strays by up to r √area; a stroke without a share r of its length."""
    rates: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """`missing`, `wrong_label`: a probability of its own for a class, by name."""

    def record(self) -> dict[str, Any]:
        """The settings that matter to this `how`."""
        relevant = {
            "too_big": ("factor",),
            "annotator": ("annotators",),
            "coarse_mask": ("shape",),
            **dict.fromkeys(("missing", "wrong_label"), ("rates",)),
        }
        return self.model_dump(mode="json", include={"how", "r", "seed", *relevant.get(self.how, ())})


def degradation(how: str, r: float, seed: int = 0, **options: Any) -> Degradation:
    """The checked settings.

    Raises:
        ConfigError: unknown `how` (lists the choices), a value out of range, an unknown option.

    >>> degradation("uniform", 0.4).factor
    6.0
    """
    if how not in get_args(How):
        raise ConfigError(f"how: unknown degradation {how!r}; {did_you_mean(how, get_args(How))}")
    try:
        return Degradation.model_validate({"how": how, "r": r, "seed": seed, **options})
    except ValidationError as error:
        raise ConfigError(
            Problem(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, found {e['input']!r}") for e in error.errors()
        ) from error


@dataclass(frozen=True, slots=True)
class Degraded:
    """One annotation before and after; `shown` is None if it is missing, `reverted` if its box was emptied."""

    truth: Annotation
    shown: Annotation | None
    reverted: bool = False


def count_changes(done: Iterable[Degraded]) -> dict[str, int]:
    """How many annotations there were, and how many of them were changed, relabelled (which is a change), dropped, reverted."""
    found = list(done)
    return {
        "annotations": len(found),
        "changed": sum(d.shown is not None and d.shown != d.truth for d in found),
        "relabelled": sum(d.shown is not None and d.shown.name != d.truth.name for d in found),
        "dropped": sum(d.shown is None for d in found),
        "reverted": sum(d.reverted for d in found),
    }


# --- the draws --------------------------------------------------------------------------------------------------------


def _generator(*key: object) -> np.random.Generator:
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def annotator_of(image_id: str, noise: Degradation) -> int:
    """Who annotates an image, from 0."""
    return int(_generator(noise.seed, "annotator", image_id).integers(noise.annotators))


def bias_of(annotator: int, noise: Degradation) -> tuple[float, float, float, float]:
    """An annotator's habit: shift and stretch in x and y, as shares of the box's sides, each U(−r, r)."""
    dx, dy, sx, sy = _generator(noise.seed, "bias", annotator).uniform(-noise.r, noise.r, 4).tolist()
    return dx, dy, sx, sy


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What a new box is drawn from."""

    truth: Annotation
    noise: Degradation
    rng: np.random.Generator
    image_id: str


def _moved(box: Box, dx: float, dy: float, sx: float, sy: float) -> Box:
    """Centre shifted by (dx w, dy h), sides times (1 + sx, 1 + sy); all 0 gives the very same numbers."""
    w, h = box.width, box.height
    x1, y1 = box.x1 + w * (dx - sx / 2), box.y1 + h * (dy - sy / 2)
    return Box(x1, y1, box.x2 + w * (dx + sx / 2), box.y2 + h * (dy + sy / 2))


def _uniform(d: _Drawing) -> Box:
    dx, dy, sx, sy = d.rng.uniform(-d.noise.r, d.noise.r, 4).tolist()
    return _moved(d.truth.box, dx, dy, sx, sy)


def _annotator(d: _Drawing) -> Box:
    own = d.rng.uniform(-1, 1, 4) * _OWN_NOISE * d.noise.r
    dx, dy, sx, sy = (own + bias_of(annotator_of(d.image_id, d.noise), d.noise)).tolist()
    return _moved(d.truth.box, dx, dy, sx, sy)


def _too_big(d: _Drawing) -> Box:
    """Area times 1 + U(0, 1) r (factor − 1), the aspect kept, the true box anywhere within."""
    size, left, top = d.rng.random(3).tolist()
    grown = (1 + size * d.noise.r * (d.noise.factor - 1)) ** 0.5 - 1
    box, more_x, more_y = d.truth.box, d.truth.box.width * grown, d.truth.box.height * grown
    return Box(box.x1 - left * more_x, box.y1 - top * more_y, box.x2 + (1 - left) * more_x, box.y2 + (1 - top) * more_y)


def _partial(d: _Drawing) -> Box:
    """Each side loses a share U(0, r) of its length, at either end."""
    cut_x, cut_y, left, top = d.rng.random(4).tolist()
    box = d.truth.box
    less_x, less_y = box.width * cut_x * d.noise.r, box.height * cut_y * d.noise.r
    return Box(box.x1 + left * less_x, box.y1 + top * less_y, box.x2 - (1 - left) * less_x, box.y2 - (1 - top) * less_y)


def _point(d: _Drawing) -> Box:
    """A point U(−r/2, r/2) sides off the centre; with a mask, the mask's nearest pixel."""
    dx, dy = (d.rng.uniform(-0.5, 0.5, 2) * d.noise.r).tolist()
    box, half = d.truth.box, POINT_SIDE / 2
    x, y = (box.x1 + box.x2) / 2 + dx * box.width, (box.y1 + box.y2) / 2 + dy * box.height
    if d.truth.mask is not None and mask_box(d.truth.mask).width > 0:
        x, y = nearest_pixel(d.truth.mask, x, y)
    return Box(x - half, y - half, x + half, y + half)


BOXES: dict[str, Callable[[_Drawing], Box]] = {
    "uniform": _uniform,
    "too_big": _too_big,
    "partial": _partial,
    "annotator": _annotator,
    "point": _point,
}
"""How a new box is drawn, before it is clipped."""


def point_of(box: Box) -> tuple[float, float] | None:
    """The point that a box stands for, or None if it is a box: a point's sides are `POINT_SIDE`.

    >>> point_of(Box(4, 5, 6, 7)), point_of(Box(4, 5, 9, 7))
    ((5.0, 6.0), None)
    """
    if abs(box.width - POINT_SIDE) > 1e-6 or abs(box.height - POINT_SIDE) > 1e-6:
        return None
    return (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2


def _fit(box: Box, how: str, width: int, height: int) -> Box:
    """Clipped to the image; a point is pushed inside instead, whole."""
    if how == "point":
        dx = max(0.0, -box.x1) - max(0.0, box.x2 - width)
        dy = max(0.0, -box.y1) - max(0.0, box.y2 - height)
        box = Box(box.x1 + dx, box.y1 + dy, box.x2 + dx, box.y2 + dy)
    x1, y1, x2, y2 = (min(max(v, 0.0), float(m)) for v, m in zip(box.xyxy, (width, height) * 2, strict=True))
    return Box(x1, y1, x2, y2)


def _mask_of(truth: Annotation, box: Box, how: str) -> Mapping[str, Any] | None:
    """The mask that goes with a new box: a part of the old one, or all of it, moved along; a point has none."""
    if truth.mask is None or how == "point":
        return None
    return cut_mask(truth.mask, box) if how == "partial" else move_mask(truth.mask, truth.box, box)


def _drawn(d: _Drawing, width: int, height: int, names: Sequence[str]) -> Degraded:
    truth, noise = d.truth, d.noise
    if noise.how in ("missing", "wrong_label"):
        if d.rng.random() >= noise.rates.get(truth.name, noise.r):
            return Degraded(truth, truth)
        if noise.how == "missing":
            return Degraded(truth, None)
        others = sorted({*names} - {truth.name})
        if truth.name not in names or not others:
            return Degraded(truth, truth)
        return Degraded(truth, replace(truth, name=others[int(d.rng.integers(len(others)))]))
    if noise.how == "coarse_mask":
        if truth.mask is None or not mask_box(truth.mask).width:
            return Degraded(truth, truth)
        coarse = coarse_mask(truth.mask, noise.shape, noise.r, d.rng)
        return Degraded(truth, truth if coarse == truth.mask else replace(truth, mask=coarse, box=mask_box(coarse)))
    box = _fit(BOXES[noise.how](d), noise.how, width, height)
    if box == truth.box:
        return Degraded(truth, truth)
    if box.width < _MIN_SIDE or box.height < _MIN_SIDE:
        return Degraded(truth, truth, reverted=True)
    return Degraded(truth, replace(truth, box=box, mask=_mask_of(truth, box, noise.how)))


def degrade_annotations(
    annotations: Sequence[Annotation],
    image_id: str,
    width: int,
    height: int,
    noise: Degradation,
    names: Sequence[str] = (),
) -> tuple[Degraded, ...]:
    """One image's annotations in their order, each with what becomes of it; `names` are the classes of the data set.

    Every shown box lies within the image and has sides of at least a pixel, unless it is the true one.
    """
    ranks: dict[int, int] = {}
    same: dict[Box, int] = {}
    for i in sorted(range(len(annotations)), key=lambda i: annotations[i].name):  # to tell boxes drawn twice apart
        ranks[i] = same.get(annotations[i].box, 0)
        same[annotations[i].box] = ranks[i] + 1
    found = []
    for i, truth in enumerate(annotations):
        if truth.iscrowd:
            found.append(Degraded(truth, truth))
            continue
        corners = " ".join(float(v).hex() for v in truth.box.xyxy)
        rng = _generator(noise.seed, noise.how, image_id, corners, ranks[i])
        found.append(_drawn(_Drawing(truth, noise, rng, image_id), width, height, names))
    return tuple(found)
