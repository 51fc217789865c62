"""Where things are on a phantom film: one patient's anatomy and disease as masks and boxes, and how boxes are related.

Body coordinates are fractions of the film: x from image left to right, y downwards, the patient's midline near x = 0.5.
The patient's left is image right. Measures are drawn around the averages of the JSRT films; `Pose` lays the patient on
the film. `place` puts a wished finding at a random spot that satisfies the wish, with the known probability of lying
outside the lungs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from neurosym.data.masks import box_of
from neurosym.records import Annotation, Box

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
Relations = tuple[tuple[str, int, int | None], ...]  # name, index of an annotation, index of another or None

ANATOMY = ("right_lung", "heart", "left_lung")
LUNGS = ("right_lung", "left_lung")
ZONES = ("upper_zone", "middle_zone", "lower_zone")
PERIPHERY = 0.4  # share of a lung's width, from the side
CARDIOMEGALY = 0.22
IN_LUNG = {"ground_glass_opacity": 0.97, "consolidation": 0.97, "nodule": 0.92, "pleural_effusion": 1.0}
_DENSITY = {  # attenuation added, subtle to obvious; for an effusion how far it approaches soft tissue
    "ground_glass_opacity": (0.05, 0.17),
    "consolidation": (0.16, 0.32),
    "nodule": (0.07, 0.22),
    "pleural_effusion": (0.70, 0.95),
}


@dataclass(frozen=True, slots=True)
class Body:
    """One patient: measures as fractions of the film's width, before the pose is applied."""

    top: float  # apex of the lungs
    base: float  # costophrenic angles
    half_width: float  # midline to the outer border of a lung
    dome_right: float  # height of the diaphragm domes above the costophrenic angles
    dome_left: float
    heart_width: float
    heart_top: float
    heart_bottom: float
    heart_shift: float  # share of the heart that lies right of the midline
    knob: float  # how far the aortic knob stands out
    torso: float  # half width of the chest at the armpits
    shoulder: float  # height of the skin line at the film's edge
    breast: float  # 0 for none
    stomach: float  # size of the gastric bubble, 0 for none
    rib_pitch: float
    rib_phase: float
    rib_slope: float


@dataclass(frozen=True, slots=True)
class Pose:
    """How the patient lies on the film: turned by `angle` (radians), enlarged by `scale`, shifted by (dx, dy)."""

    angle: float
    scale: float
    dx: float
    dy: float

    def to_film(self, points: Points, size: int) -> Points:
        """Body coordinates, (n, 2), to pixels."""
        c, s = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        x, y = points[:, 0] - 0.5, points[:, 1] - 0.5
        return np.stack([c * x - s * y + 0.5 + self.dx, s * x + c * y + 0.5 + self.dy], axis=1) * size

    def to_body(self, size: int) -> tuple[float, float, float, float, float, float]:
        """The inverse (a, b, c, d, e, f), pixels to body coordinates times `size`: x' = ax + by + c and so on."""
        c, s = math.cos(self.angle) / self.scale, math.sin(self.angle) / self.scale
        x, y = (0.5 + self.dx) * size, (0.5 + self.dy) * size
        return (c, s, size / 2 - c * x - s * y, -s, c, size / 2 - c * y + s * x)


@dataclass(frozen=True, slots=True)
class Finding:
    """Disease on one film: `kind` is the class, `mask` its pixels, `density` the attenuation it adds."""

    kind: str
    mask: Mask
    density: float


# --- the anatomy ------------------------------------------------------------------------------------------------------


def draw_body(rng: np.random.Generator, cardiothoracic_ratio: float) -> Body:
    """A patient drawn around the JSRT averages, with the wanted ratio of heart width to thorax width."""
    top = float(np.clip(rng.normal(0.085, 0.02), 0.045, 0.13))
    base = float(np.clip(rng.normal(0.835, 0.05), 0.72, 0.91))
    half_width = float(np.clip(rng.normal(0.392, 0.022), 0.345, 0.435))
    heart_width = cardiothoracic_ratio * 2 * half_width
    dome_right = rng.uniform(0.08, 0.13)
    dome_left = dome_right - rng.uniform(0.012, 0.04)
    heart_bottom = base - 0.70 * dome_left + rng.uniform(-0.005, 0.012)
    return Body(
        top=top,
        base=base,
        half_width=half_width,
        dome_right=dome_right,
        dome_left=dome_left,
        heart_width=heart_width,
        heart_top=heart_bottom - heart_width * rng.uniform(0.66, 0.76) - 0.06,
        heart_bottom=heart_bottom,
        heart_shift=rng.uniform(0.28, 0.34),
        knob=rng.uniform(0.012, 0.04),
        torso=half_width + rng.uniform(0.045, 0.13),
        shoulder=rng.uniform(-0.04, 0.16),
        breast=rng.uniform(0.12, 0.19) if rng.random() < 0.4 else 0.0,
        stomach=rng.uniform(0.035, 0.07) if rng.random() < 0.55 else 0.0,
        rib_pitch=rng.uniform(0.070, 0.080),
        rib_phase=rng.uniform(0, 1),
        rib_slope=rng.uniform(0.7, 1.3),
    )


def outlines(body: Body) -> dict[str, Points]:
    """Closed outlines of lungs and heart in body coordinates, (n, 2); the lungs reach under the heart."""
    result = {}
    for name, side, dome in (("right_lung", -1, body.dome_right), ("left_lung", 1, body.dome_left)):
        q = np.linspace(0, 1, 48) ** 2
        y = body.top + q * (body.base - body.top)
        outer, inner = lung_borders(body, y, side)
        t = np.linspace(0, 1, 24)
        bottom_x = outer[-1] + t * (inner[-1] - outer[-1])
        bottom_y = body.base - dome * _dome(1 - t)
        keep = y < bottom_y[-1]
        xs = np.concatenate([outer, bottom_x[1:], inner[keep][::-1]])
        ys = np.concatenate([y, bottom_y[1:], y[keep][::-1]])
        result[name] = np.stack([0.5 + side * xs, ys], axis=1)
    result["heart"] = _heart(body)
    return result


def lung_borders(body: Body, y: Points, side: int) -> tuple[Points, Points]:
    """Distances of the outer and the inner lung border from the midline at heights y."""
    q = np.clip((y - body.top) / (body.base - body.top), 0, 1)
    apex = 0.32 * body.half_width
    outer = apex + (body.half_width - apex) * (1 - (1 - q) ** 2.4) ** 0.50 - 0.02 * np.clip((q - 0.8) / 0.2, 0, 1) ** 2
    inner = 0.050 + (apex - 0.050) * np.exp(-np.sqrt(q / 0.012))
    if side > 0:
        inner = inner + body.knob * np.exp(-(((q - 0.27) / 0.055) ** 2)) + 0.022 * np.exp(-(((q - 0.42) / 0.07) ** 2))
    else:
        inner = inner + 0.010 * np.exp(-(((q - 0.34) / 0.13) ** 2))
    return outer, inner


def _dome(t: Points) -> Points:
    """Height of the diaphragm, 0..1, from its heart end (t = 0) to the costophrenic angle (t = 1)."""
    return np.where(t < 0.42, 1 - 0.28 * ((0.42 - t) / 0.42) ** 2, 1 - (np.clip(t - 0.42, 0, 1) / 0.58) ** 2.2)


def _heart(body: Body) -> Points:
    """A closed curve through points given in heart widths from the midline and heart heights from the top."""
    right, left = -body.heart_shift, 1 - body.heart_shift
    points = [(0.42 * right, 0.00), (0.66 * right, 0.16), (0.97 * right, 0.48), (0.99 * right, 0.72)]
    points += [(0.72 * right, 0.97), (0.20, 1.01), (0.86 * left, 0.99), (0.995 * left, 0.85)]
    points += [(0.93 * left, 0.66), (0.72 * left, 0.38), (0.42 * left, 0.13), (0.22 * left, 0.00)]
    smooth = _spline(np.array(points), 8)
    height = body.heart_bottom - body.heart_top
    return np.stack([0.5 + smooth[:, 0] * body.heart_width, body.heart_top + smooth[:, 1] * height], axis=1)


def _spline(control: Points, steps: int) -> Points:
    """A closed Catmull-Rom curve through the control points."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    a, b, c, d = (np.roll(control, k, axis=0)[None] for k in (1, 0, -1, -2))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(curve.transpose(1, 0, 2).reshape(-1, 2))


def fill(points: Points, size: int) -> Mask:
    """The pixels inside a closed outline given in pixels."""
    image = Image.new("L", (size, size))
    ImageDraw.Draw(image).polygon([(x - 0.5, y - 0.5) for x, y in points.tolist()], fill=1)
    return np.asarray(image).astype(bool)


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient on the film: measures, pose, masks of the anatomy, heart over thorax width as read off boxes."""

    body: Body
    pose: Pose
    masks: Mapping[str, Mask]
    cardiothoracic_ratio: float


def draw_patient(rng: np.random.Generator, size: int, turn: float) -> Patient:
    """A patient, turned by about `turn` radians, whose ratio exceeds one half with probability `CARDIOMEGALY`."""
    large = rng.random() < CARDIOMEGALY
    wanted = 0.512 + abs(rng.normal(0, 0.03)) if large else min(rng.normal(0.45, 0.03), 0.488)
    while True:  # a turned patient's boxes are wider than the patient
        body = draw_body(rng, float(np.clip(wanted, 0.36, 0.6)))
        angle, dx, dy = np.clip(rng.standard_normal(3), -2.5, 2.5) * (turn, 0.012, 0.01)
        pose = Pose(float(angle), rng.uniform(0.93, 1.03), float(dx), float(dy))
        masks = {name: fill(pose.to_film(points, size), size) for name, points in outlines(body).items()}
        for lung in LUNGS:
            masks[lung] = masks[lung] & ~masks["heart"]
        heart, left, right = (box_of(masks[name]) for name in ("heart", "left_lung", "right_lung"))
        ratio = heart.width / (left.x2 - right.x1)
        if (ratio > 0.5) == large:
            return Patient(body, pose, masks, ratio)
        wanted += 0.01 if large else -0.01


# --- relations between boxes ------------------------------------------------------------------------------------------


def relations_of(annotations: Sequence[Annotation]) -> Relations:
    """The relations that hold between annotations, by index; None where a relation is unary. Sorted.

    >>> pair = [Annotation("right_lung", Box(0, 0, 9, 20)), Annotation("nodule", Box(1, 15, 3, 17))]
    >>> [name for name, i, _ in relations_of(pair) if i == 1]
    ['inside', 'left_of', 'lower_zone', 'peripheral']
    """
    found: list[tuple[str, int, int | None]] = []
    boxes = [a.box for a in annotations]
    for i, a in enumerate(boxes):
        for j, b in enumerate(boxes):
            if i != j:
                (ax, ay), (bx, by) = _centre(a), _centre(b)
                holds = {
                    "left_of": ax < bx,
                    "above": ay < by,
                    "inside": inside(a, b),
                    "larger_than": a.width * a.height > b.width * b.height,
                }
                found += [(name, i, j) for name, true in holds.items() if true]
        if annotations[i].name not in ANATOMY:
            found += [(name, i, None) for name in zones(a, annotations)]
    return tuple(sorted(found, key=lambda r: (r[0], r[1], -1 if r[2] is None else r[2])))


def _centre(box: Box) -> tuple[float, float]:
    return ((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2)


def inside(a: Box, b: Box) -> bool:
    """Whether three quarters of a's width and of its height lie within b."""
    across = min(a.x2, b.x2) - max(a.x1, b.x1)
    down = min(a.y2, b.y2) - max(a.y1, b.y1)
    return across >= 0.75 * a.width and down >= 0.75 * a.height


def zones(box: Box, annotations: Sequence[Annotation]) -> tuple[str, ...]:
    """Zone by height and depth by width of the lung box around the centre, else of the nearest; () without lungs."""
    x, y = _centre(box)

    def distance(lung: Annotation) -> tuple[float, float]:
        b = lung.box
        gap = math.hypot(max(b.x1 - x, 0, x - b.x2), max(b.y1 - y, 0, y - b.y2))
        return gap, math.dist(_centre(b), (x, y))

    lungs = [a for a in annotations if a.name in LUNGS]
    if not lungs:
        return ()
    home = min(lungs, key=distance)
    third = int(np.clip(3 * (y - home.box.y1) / home.box.height, 0, 2))
    from_side = x - home.box.x1 if home.name == "right_lung" else home.box.x2 - x
    return (ZONES[third], "peripheral" if from_side < PERIPHERY * home.box.width else "central")


# --- disease ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wish:
    """A finding to be placed: its lung, zone and depth (None: any), and its reach as a share of the lung's width.

    A lobar one is cut straight on one side, as by a fissure.
    """

    kind: str
    lung: str
    zone: str | None = None
    depth: str | None = None
    reach: tuple[float, float] = (0.22, 0.42)
    lobar: bool = False


def place(wish: Wish, patient: Patient, taken: Mask, rng: np.random.Generator) -> Finding:
    """One finding as wished, off the `taken` pixels where it can; ever smaller ones are tried until one suits.

    With probability 1 - `IN_LUNG[kind]` it strays: it keeps its zone but lies inside neither lung.
    """
    size = taken.shape[0]
    anatomy = [Annotation(name, box_of(patient.masks[name])) for name in ANATOMY]
    right, _, left = (a.box for a in anatomy)
    lung, box = patient.masks[wish.lung], right if wish.lung == "right_lung" else left
    density = rng.uniform(*_DENSITY[wish.kind])
    if wish.kind == "pleural_effusion":
        return Finding(wish.kind, _effusion(patient, box, wish.lung, rng), density)
    nodule = wish.kind == "nodule"
    strays = rng.random() >= IN_LUNG[wish.kind]
    reach = rng.uniform(0.016, 0.039) * size if nodule else rng.uniform(*wish.reach) * box.width
    part = _part_of(box, wish)
    for attempt in range(1000):
        x, y = rng.uniform(part.x1, part.x2), rng.uniform(part.y1, part.y2)
        if strays:  # over the mediastinum; a nodule may also lie below the diaphragm
            x = rng.uniform(right.x2, left.x1)
            if nodule and rng.random() < 0.4:
                x, y = rng.uniform(right.x1, left.x2), rng.uniform(box.y2, max(box.y2, size - reach - 1))
        reach = max(0.993 * reach, 0.016 * size)
        whole = fill(_blob(rng, wish, x, y, reach), size)
        mask = whole if strays or nodule else whole & lung
        pixels = np.count_nonzero(mask)
        if not pixels or (attempt < 100 and 3 * np.count_nonzero(mask & taken) > pixels):
            continue
        if not strays and np.count_nonzero(whole & lung) < 0.6 * np.count_nonzero(whole):
            continue
        found = box_of(mask)
        zone, depth = zones(found, anatomy)
        home = [name for name, lung_box in (("right_lung", right), ("left_lung", left)) if inside(found, lung_box)]
        as_wished = wish.zone in (None, zone) and (strays or wish.depth in (None, depth))
        if as_wished and home == ([] if strays else [wish.lung]):
            return Finding(wish.kind, mask, 0.6 * density if strays and nodule else density)
    raise RuntimeError(f"phantom: no place for {wish}")


def _part_of(box: Box, wish: Wish) -> Box:
    """The part of a lung box that the wish's zone and depth name."""
    x1, y1, x2, y2 = box.xyxy
    if wish.zone:
        row, third = ZONES.index(wish.zone), box.height / 3
        y1, y2 = y1 + row * third, y1 + (row + 1) * third
    if wish.depth:
        border = x1 + PERIPHERY * box.width if wish.lung == "right_lung" else x2 - PERIPHERY * box.width
        image_left = (wish.lung == "right_lung") == (wish.depth == "peripheral")
        x1, x2 = (x1, border) if image_left else (border, x2)
    return Box(x1, y1, x2, y2)


def _blob(rng: np.random.Generator, wish: Wish, x: float, y: float, reach: float) -> Points:
    """A closed outline around (x, y), in pixels: nearly a circle, or an irregular oval, cut straight if lobar."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = np.full(48, reach)
    rough = 0.03 if wish.kind == "nodule" else 0.28
    for k in (2, 3, 4, 5, 7, 9):
        radius *= 1 + rough / k * rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    tall = 1.0 if wish.kind == "nodule" else rng.uniform(0.8, 1.5)
    xs, ys = radius * np.cos(angle), tall * radius * np.sin(angle)
    if wish.lobar:
        cut = rng.uniform(0.1, 0.4) * reach + rng.uniform(-0.25, 0.25) * xs
        ys = np.minimum(ys, cut) if wish.zone == "upper_zone" else np.maximum(ys, -cut)
        xs = 1.25 * xs
    return np.stack([x + xs, y + ys], axis=1)


def _effusion(patient: Patient, box: Box, name: str, rng: np.random.Generator) -> Mask:
    """The lung below a meniscus that climbs from dome to chest wall; its box keeps to lower zone and periphery."""
    lung, right = patient.masks[name], name == "right_lung"
    rise, width = rng.uniform(0.06, 0.42) * box.height, rng.uniform(0.55, 0.72) * box.width
    x, y = np.arange(lung.shape[1]) + 0.5, np.arange(lung.shape[0])[:, None] + 0.5
    across = np.clip((x - box.x1 if right else box.x2 - x) / width, 0, 1)
    dome = (patient.body.dome_right if right else patient.body.dome_left) * patient.pose.scale * lung.shape[0]
    level = box.y2 - dome - rise * (np.exp(-across / 0.35) - np.exp(-1 / 0.35))
    return np.asarray(lung & (y > level) & (across < 1))
