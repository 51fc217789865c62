"""How a phantom film is painted: a chest drawn upright as attenuation, laid on the film by its pose, then exposed.

A radiograph shows the logarithm of the dose that came through, so densities add: soft tissue, minus air, plus ribs,
vessels and disease. `paint_body` gives the attenuation of a healthy chest, `add_finding` the disease, `expose` the film
curve, noise and collimation; `Look` is how the film was taken. Patients come from `neurosym.data.patient`, and why they
have what they have is `neurosym.data.phantom`.

Profiles are separable, ribs are looked up in a table by their phase, noise is drawn small and enlarged: a film of
256 x 256 pixels costs about ten milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from neurosym.data.patient import Body, Finding, Mask, Patient, Points, Pose, lung_borders, outlines

Field = NDArray[np.float32]

_MARGIN = 0.08  # the upright canvas reaches this far beyond the film, so that a turned patient leaves no empty corner
_RIBS = 1024  # entries of a rib table
_SOFT = {"ground_glass_opacity": 3.5, "consolidation": 3.0, "pleural_effusion": 1.3}  # blurred border, pixels at 256
_BLADE = np.array(  # a shoulder blade: distances from the midline, heights
    [
        [0.38, 0.345, 0.34, 0.36, 0.39, 0.41, 0.44, 0.49, 0.52, 0.45],
        [0.15, 0.21, 0.28, 0.37, 0.44, 0.44, 0.33, 0.24, 0.15, 0.12],
    ]
).T


@dataclass(frozen=True, slots=True)
class Look:
    """How the film was taken: the film curve, the noise, and what the collimator hides."""

    level: float
    contrast: float
    gamma: float
    equalise: float  # share of the low frequencies taken out, as digital units do
    grain: float
    blur: float
    collimator: tuple[float, float, float, float]  # black border at left, top, right, bottom, as fractions
    marker: str  # "", "L" or "R"


def draw_look(rng: np.random.Generator, shift: bool) -> Look:
    """A way of taking the film; `shift` is the other hospital: flat, dark, noisy, blurred, widely collimated."""
    marker = ("", "L", "R")[int(rng.integers(3))]
    if shift:
        left, top, right, bottom = rng.uniform(0.0, 0.07, 4)
        level, contrast, gamma = rng.uniform(0.40, 0.50), rng.uniform(3.2, 4.4), rng.uniform(1.2, 1.6)
        equalise, grain, blur = rng.uniform(0.3, 0.5), rng.uniform(0.03, 0.05), rng.uniform(0.6, 1.1)
    else:
        left, top, right, bottom = rng.uniform(0.0, 0.03, 4) * (rng.random(4) < 0.3)
        level, contrast, gamma = rng.uniform(0.46, 0.60), rng.uniform(3.6, 5.8), rng.uniform(0.8, 1.15)
        equalise, grain, blur = rng.uniform(0.1, 0.4) * (rng.random() < 0.5), rng.uniform(0.008, 0.02), 0.0
    return Look(level, contrast, gamma, equalise, grain, blur, (left, top, right, bottom), marker)


def paint(patient: Patient, look: Look, findings: Sequence[Finding], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The whole film, 8-bit grey (size, size); without `findings` the very same film of the healthy patient."""
    of_body, of_disease, of_film = rng.spawn(3)
    lungs = patient.masks["right_lung"] | patient.masks["left_lung"]
    t = paint_body(patient.body, patient.pose, of_body, lungs.shape[0])
    for finding in findings:
        add_finding(t, finding, lungs, of_disease)
    return expose(t, look, of_film)


# --- the healthy chest ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _axes(size: int) -> tuple[Field, Field]:
    """Body coordinates of the canvas columns (1, n) and rows (n, 1)."""
    at = ((np.arange(size) + 0.5) / size * (1 + 2 * _MARGIN) - _MARGIN).astype(np.float32)
    at.flags.writeable = False
    return at[None, :], at[:, None]


class _Canvas:
    """The upright sheet: a layer of shapes given in body coordinates, each painting over the former ones."""

    def __init__(self, size: int) -> None:
        self.unit = size / (1 + 2 * _MARGIN)
        self.image = Image.new("L", (size, size))
        self.draw = ImageDraw.Draw(self.image)

    def _pixels(self, points: Points) -> list[float]:
        flat: list[float] = ((points + _MARGIN) * self.unit - 0.5).ravel().tolist()
        return flat

    def polygon(self, points: Points, ink: int) -> None:
        self.draw.polygon(self._pixels(points), fill=ink)

    def line(self, points: Points, ink: int, width: float) -> None:
        self.draw.line(self._pixels(points), fill=ink, width=max(1, round(width * self.unit)))

    def segment(self, x1: float, y1: float, x2: float, y2: float, ink: int, width: float) -> None:
        u, m = self.unit, _MARGIN * self.unit
        self.draw.line((x1 * u + m, y1 * u + m, x2 * u + m, y2 * u + m), fill=ink, width=max(1, round(width * u)))

    def oval(self, x: float, y: float, half_width: float, half_height: float, ink: int) -> None:
        corners = np.array([(x - half_width, y - half_height), (x + half_width, y + half_height)])
        self.draw.ellipse(self._pixels(corners), fill=ink)

    def blur(self, by: float) -> None:
        self.image = self.image.filter(ImageFilter.BoxBlur(by))
        self.draw = ImageDraw.Draw(self.image)

    def layer(self, blur: float) -> Field:
        """What was drawn, 0..1, its edges softened over `blur` pixels to either side."""
        self.blur(blur)
        return np.asarray(self.image, dtype=np.float32) / np.float32(255)


def _wide(field: Field, blur: float) -> Field:
    """A wide blur, done on a grid four times as coarse."""
    size = field.shape[0]
    small = Image.fromarray(field).resize((size // 4, size // 4), Image.Resampling.BOX)
    soft = ndimage.gaussian_filter(np.asarray(small), blur / 4, truncate=2.5, mode="nearest")
    return np.asarray(Image.fromarray(soft).resize((size, size), Image.Resampling.BICUBIC))


def noise(rng: np.random.Generator, shape: tuple[int, int], pitch: float) -> Field:
    """Band-limited noise: unit variance on a grid of `pitch` pixels, enlarged smoothly."""
    rows, columns = (math.ceil(n / pitch) + 1 for n in shape)
    small = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(Image.fromarray(small).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _to_canvas(pose: Pose, size: int) -> tuple[float, float, float, float, float, float]:
    """The affine map from film pixels to pixels of the upright canvas, as Pillow wants it."""
    a, b, c, d, e, f = pose.to_body(size)
    k, edge = 1 / (1 + 2 * _MARGIN), _MARGIN * size
    return (k * a, k * b, k * (c + edge), k * d, k * e, k * (f + edge))


def paint_body(body: Body, pose: Pose, rng: np.random.Generator, size: int) -> Field:
    """Attenuation of the healthy chest, laid on the film: about 0 in air, 0.35 in lung, 1 in the mediastinum."""
    x, y = _axes(size)
    shapes = outlines(body)
    px = size / 256
    canvas, heart = _Canvas(size), _Canvas(size)
    canvas.polygon(shapes["right_lung"], 255)
    canvas.polygon(shapes["left_lung"], 255)
    canvas.polygon(shapes["heart"], 40)
    heart.polygon(shapes["heart"], 255)
    lung = canvas.layer(0.9 * px)
    depth = _wide(lung, 9 * px)
    air = lung * np.clip(0.10 + 1.05 * depth, 0, 1.05)

    t = _soft_tissue(body, x, y)
    t -= 0.50 * air
    t += 0.10 * _wide(heart.layer(1), 12 * px)
    middle = slice(*np.searchsorted(x[0], (0.3, 0.7)))
    t[:, middle] += _midline(body, x[:, middle], y)
    t += (0.35 + 0.65 * lung) * _ribs(body, rng, x, y)
    t += _shoulders(body, rng, size) * np.clip(3 * t, 0, 1)
    texture = 0.018 * noise(rng, t.shape, 5.3 * px) + 0.022 * noise(rng, t.shape, 18 * px)
    t += lung * (0.30 * _vessels(body, rng, size) + texture)
    _belly(t, body, rng, x, y)
    whole = (size, size)
    turn = _to_canvas(pose, size)
    return np.array(Image.fromarray(t).transform(whole, Image.Transform.AFFINE, turn, Image.Resampling.BILINEAR))


def _soft_tissue(body: Body, x: Field, y: Field) -> Field:
    """Muscle and fat: an ellipse in every row, cut by the line of neck and shoulders, open below the armpits."""
    s = np.abs(x - 0.5)
    width = body.torso + 0.35 / (1 + np.exp((y - 0.42) / 0.035)) + 0.02 * np.cos(7 * (y - 0.6))
    chord = np.sqrt(np.clip(1 - (s / width) ** 2, 0, 1))
    skin = body.shoulder * np.clip((s - 0.12) / 0.36, 0, 1) ** 1.3 - 0.10 * np.exp(-((s / 0.17) ** 4))
    over = np.clip((y - skin) / 0.10, 0, 1)
    t = chord * np.sqrt(over) * (0.62 + 0.30 * np.clip((y - 0.1) / 0.6, 0, 1))
    if body.breast:
        for centre in (0.5 - 0.22, 0.5 + 0.22):
            inside = 1 - ((x - centre) / body.breast) ** 2 - ((y - body.base + 0.17) / (0.85 * body.breast)) ** 2
            t += 0.10 * np.sqrt(np.clip(inside, 0, 1)) * np.clip((y - 0.45) / 0.2, 0, 1)
    return np.asarray(t, dtype=np.float32)


def _midline(body: Body, x: Field, y: Field) -> Field:
    """Mediastinum and spine (brighter, with vertebrae), trachea and main bronchi (darker)."""
    s = x - 0.5
    column = np.exp(-((s / 0.050) ** 2)) * np.clip(1.15 - 0.75 * y, 0.3, 1)
    discs = 0.5 + 0.5 * np.cos(2 * np.pi * (y - body.top) / 0.052)
    spine = column * (0.09 + 0.035 * np.clip((discs - 0.3) / 0.15, 0, 1))
    pedicles = np.exp(-(((np.abs(s) - 0.030) / 0.009) ** 2)) * np.exp(-(((discs - 1) / 0.3) ** 2)) * 0.03
    carina = body.top + 0.27
    trachea = np.exp(-((s / 0.022) ** 4)) / (1 + np.exp((y - carina) / 0.012))
    fork = np.exp(-(((np.abs(s + 0.005) - (y - carina) * 0.75) / 0.014) ** 2))
    bronchi = fork * np.clip((y - carina) / 0.02, 0, 1) * np.clip((carina + 0.10 - y) / 0.08, 0, 1)
    veil = 0.09 * np.exp(-((s / 0.085) ** 4)) * np.clip(1.5 - y, 0, 1)
    return np.asarray(veil + spine + pedicles - 0.17 * trachea - 0.09 * bronchi, np.float32)


def _ribs(body: Body, rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Posterior ribs and, fainter, anterior ones: all are arcs of one shape, so a phase and a table paint them."""
    outer = {side: lung_borders(body, y.astype(float), side)[0] + 0.012 for side in (-1, 1)}
    result = np.zeros((y.size, x.size), np.float32)
    middle = int(np.searchsorted(x[0], 0.5))
    for side, columns in ((-1, slice(0, middle)), (1, slice(middle, None))):
        wall = np.maximum(outer[side], 0.20).astype(np.float32)
        t = np.abs(x[:, columns] - 0.5) / wall
        rim = np.sqrt(np.clip(1 - t * t, 0, 1))
        slope = body.rib_slope * (0.02 + 0.13 * y)
        phase = y + 0.10 * rim - slope * t - 0.10 * t * (1 - t)
        behind = np.take(_rib_table(body, rng, 0.014, 0.13), _row(phase), mode="clip")
        phase = (y - slope) * 0.93 - (0.10 + 0.22 * y) * (1 - t) - 0.05 * rim
        before = np.take(_rib_table(body, rng, 0.019, 0.065), _row(phase), mode="clip")
        behind *= np.clip((t - 0.06) / 0.1, 0, 1) * np.clip((1.0 - t) / 0.03, 0, 1)
        before *= np.clip((t - 0.32) / 0.25, 0, 1) * np.clip((1.0 - t) / 0.03, 0, 1)
        result[:, columns] = behind + before
    result *= np.clip((body.base + 0.06 - y) / 0.12, 0, 1)
    return result


def _row(at: Field) -> NDArray[np.int32]:
    return ((at + 0.4) * (_RIBS / 1.8)).astype(np.int32)


def _rib_table(body: Body, rng: np.random.Generator, half: float, density: float) -> Field:
    """Brightness against phase: ten ribs with dense edges, the lower edge denser, each a little different."""
    at = np.arange(_RIBS) * 1.8 / _RIBS - 0.4
    k = np.arange(11)
    centre = body.top + 0.02 + body.rib_pitch * (k + 0.5 * body.rib_phase) + rng.normal(0, 0.003, 11)
    d = (at[:, None] - centre) / (half * rng.uniform(0.85, 1.15, 11))
    profile = np.clip((1.15 - np.abs(d)) / 0.3, 0, 1) * (0.50 + 0.32 * np.abs(d) ** 3 + 0.15 * d)
    table = profile @ (density * rng.uniform(0.8, 1.2, 11))
    return table.astype(np.float32)


def _shoulders(body: Body, rng: np.random.Generator, size: int) -> Field:
    """Clavicles, shoulder blades and the heads of the humeri."""
    canvas = _Canvas(size)
    shift = rng.uniform(-0.01, 0.05)
    for side in (-1, 1):
        blade = _BLADE + np.array([shift + rng.normal(0, 0.008), rng.normal(0, 0.02)])
        canvas.polygon(np.stack([0.5 + side * blade[:, 0], blade[:, 1]], 1), 50)
    canvas.blur(size / 90)
    tilt = rng.uniform(0.06, 0.15)
    low = body.top + rng.uniform(0.09, 0.15)
    for side in (-1, 1):
        s = np.linspace(0.03, 0.50, 18)
        centre = low - tilt * (s / 0.4) ** 0.7 - 0.012 * np.sin(2 * np.pi * (s - 0.04) / 0.36)
        half = 0.012 + 0.006 * np.exp(-(((s - 0.04) / 0.03) ** 2)) - 0.004 * np.clip((s - 0.3) / 0.1, 0, 1)
        xs = 0.5 + side * s
        upper, lower = np.stack([xs, centre - half], 1), np.stack([xs, centre + half], 1)
        canvas.oval(0.5 + side * 0.50, low - tilt + 0.07, 0.055, 0.055, 85)
        canvas.polygon(np.concatenate([upper, lower[::-1]]), 70)
        canvas.line(upper, 105, 0.005)
        canvas.line(lower, 115, 0.005)
    return np.float32(0.33) * canvas.layer(size / 256 * 0.9)


def _vessels(body: Body, rng: np.random.Generator, size: int) -> Field:
    """Pulmonary vessels: trees that leave the hila and thin out towards the chest wall."""
    canvas = _Canvas(size)
    height = body.base - body.top
    for side in (-1, 1):
        hx, hy = 0.5 + side * 0.075, body.top + (0.43 if side < 0 else 0.405) * height
        for _ in range(14):
            r = rng.uniform(0.008, 0.02)
            x, y = hx + side * rng.uniform(-0.01, 0.03), hy + rng.normal(0, 0.045)
            canvas.oval(x, y, r, 1.5 * r, int(rng.uniform(40, 110)))
        twigs = [
            (hx + side * rng.uniform(-0.01, 0.015), hy + 0.05 * angle, angle + rng.normal(0, 0.12), 0.0095, 0.075)
            for angle in (-1.35, -1.05, -0.75, -0.3, 0.1, 0.5, 0.8, 1.05, 1.3)
        ]
        while twigs:
            x, y, angle, width, length = twigs.pop()
            end_x, end_y = x + side * math.cos(angle) * length, y + math.sin(angle) * length
            canvas.segment(x, y, end_x, end_y, int(70 + 9000 * width), width)
            if width > 0.0030:
                twigs.append((end_x, end_y, angle + rng.normal(0, 0.2), 0.74 * width, 0.84 * length))
            if width > 0.0040:
                fork = rng.uniform(0.3, 0.8) * (1 if rng.random() < 0.5 else -1)
                twigs.append((end_x, end_y, angle + fork, 0.55 * width, 0.8 * length))
    return canvas.layer(size / 256 * 0.5)


def _belly(t: Field, body: Body, rng: np.random.Generator, x: Field, y: Field) -> None:
    """The gastric bubble under the left dome: dark, flat below when the patient stands."""
    if not body.stomach:
        return
    cx, cy = 0.5 + rng.uniform(0.12, 0.22), body.base - body.dome_left + body.stomach + 0.02
    d = ((x - cx) / (1.4 * body.stomach)) ** 2 + ((y - cy) / body.stomach) ** 2
    bubble = 1 / (1 + np.exp(np.minimum((d - 0.8) / 0.12, 40)))
    level = 1 / (1 + np.exp(np.clip((y - cy - 0.5 * body.stomach) / 0.006, -40, 40)))
    t -= 0.28 * bubble * level


# --- disease and exposure ---------------------------------------------------------------------------------------------


def add_finding(t: Field, finding: Finding, lungs: Mask, rng: np.random.Generator) -> None:
    """Add one finding to the attenuation in place; the lungs keep haze from leaking over the pleura."""
    size, px, mask, density = t.shape[0], t.shape[0] / 256, finding.mask, finding.density
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    pad = size // 20
    down = slice(max(rows[0] - pad, 0), rows[-1] + pad + 1)
    across = slice(max(columns[0] - pad, 0), columns[-1] + pad + 1)
    inside, part = mask[down, across].astype(np.float32), t[down, across]
    if finding.kind == "nodule":
        ball = np.clip(ndimage.gaussian_filter(inside, rows.size / 6), 0, 1)
        part += 1.3 * density * ndimage.gaussian_filter(inside, 0.8 * px) * np.sqrt(ball)
        return
    field = ndimage.gaussian_filter((lungs | mask)[down, across].astype(np.float32), 0.8 * px)
    alpha = field * ndimage.gaussian_filter(inside, _SOFT[finding.kind] * px, truncate=2.5)
    patchy = noise(rng, part.shape, 8 * px) + 0.6 * noise(rng, part.shape, 3.5 * px)
    if finding.kind == "ground_glass_opacity":
        part += density * alpha * np.clip(1 + 0.30 * patchy, 0.3, 1.8)
        return
    if finding.kind == "pleural_effusion":
        wall = 1 - field
        near = ndimage.gaussian_filter(wall, 6 * px, truncate=2)
        tissue = (ndimage.gaussian_filter(part * wall, 6 * px, truncate=2) + 0.03 * 0.75) / (near + 0.03)
        full = np.clip(2 * ndimage.gaussian_filter(inside, 1.6 * px, truncate=2.5), 0, 1)
        part += density * full * np.maximum(np.maximum(tissue, 0.5) + 0.05 - part, 0.05 * inside)
        return
    part += 0.5 * alpha * (ndimage.gaussian_filter(part, 5 * px) - part)
    part += density * alpha * np.clip(1 + 0.12 * patchy, 0.4, 1.6)


def expose(t: Field, look: Look, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Film curve, noise, collimator and marker: attenuation to 8-bit grey."""
    size = t.shape[0]
    if look.equalise:
        t = t - look.equalise * (_wide(t, size / 9) - 0.6)
    if look.blur:
        t = ndimage.gaussian_filter(t, look.blur * size / 256, truncate=2.5)
    t = t + look.grain * rng.standard_normal(t.shape, dtype=np.float32) * np.clip(0.5 + 0.6 * t, 0.3, 1.1)
    dose = np.linspace(-0.5, 2.0, 4096)
    grey = 1 / (1 + np.exp(-look.contrast * (dose - look.level)))
    low = 1 / (1 + math.exp(look.contrast * look.level))
    curve = (255 * np.clip((grey - low) / (1 - low), 0, 1) ** look.gamma).astype(np.uint8)
    film = np.take(curve, ((t + 0.5) * (4095 / 2.5)).astype(np.int32), mode="clip")
    left, top, right, bottom = (round(v * size) for v in look.collimator)
    if look.marker:
        _mark(film, look.marker)
    framed = np.zeros_like(film)
    inner = (slice(top, size - bottom), slice(left, size - right))
    framed[inner] = film[inner]
    return framed


def _mark(film: NDArray[np.uint8], letter: str) -> None:
    """A lead letter on the patient's right or left shoulder."""
    image = Image.new("L", (12, 12))
    draw = ImageDraw.Draw(image)
    draw.line([(2, 1), (2, 10)], fill=255, width=2)
    if letter == "L":
        draw.line([(2, 10), (8, 10)], fill=255, width=2)
    else:
        draw.arc((0, 1, 8, 6), -90, 90, fill=255, width=2)
        draw.line([(4, 6), (8, 10)], fill=255, width=2)
    size = film.shape[0]
    side = size // 18
    stamp = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
    at = size // 16 if letter == "R" else size - size // 16 - side
    part = film[size // 14 : size // 14 + side, at : at + side]
    np.maximum(part, stamp, out=part)
