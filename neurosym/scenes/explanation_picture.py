"""An explanation as one picture: the film with what breaks the rules, the film after repair beside it, a caption a violation.

Each violation has a number and a colour. The boxes of its detections are drawn in that colour, one within the other where a
detection breaks several rules; an arrow leads from the first object to the second, a dashed line to the nearest object that was
looked for and is none. Detections that break nothing stay thin and grey. Captions stand below the films and never on them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from neurosym.scenes.draw import mask_outline

if TYPE_CHECKING:
    from neurosym.constraints.explanation import BrokenNote, SceneExplanation, SeenDetection
    from neurosym.records import Scene

COLOURS: Final = ("#f94144", "#4cc9f0", "#f9c74f", "#90be6d", "#ff70a6", "#b388eb", "#f8961e", "#43aa8b")
"""Of the violations, in their order."""
GREY, PAPER, INK, FAINT, GONE, NEW = "#8a8f98", "#14161a", "#e8eaed", "#9aa0a8", "#f94144", "#90be6d"
SHOWN: Final = 8
"""The violations that are drawn; a scene with more says how many there are."""
PANEL: Final = 600
"""The width of one film in pixels."""
MARGIN: Final = 16
_PLAIN = str.maketrans({"≥": ">=", "≤": "=<", "→": "->", "–": "-", "—": "-", "×": "x", "’": "'"})
"""What the font that comes with Pillow lacks."""

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]


def violation_colour(number: int) -> str:
    """The colour of a violation by its place among those that are drawn."""
    return COLOURS[number % len(COLOURS)]


def explanation_picture(image: np.ndarray, scene: Scene, explanation: SceneExplanation) -> Image.Image:
    """Draw an explanation.

    Args:
        image: 8-bit, (height, width) or (height, width, 3), on which the scene was detected.
        scene: the detections, for their masks.
        explanation: of this scene.

    Returns:
        One film, or where a repair changes something two of them side by side, above the captions.
    """
    film = Image.fromarray(image).convert("RGB")
    scale = min(PANEL / film.width, 1.4 * PANEL / film.height)
    film = film.resize(
        (max(1, round(film.width * scale)), max(1, round(film.height * scale))), Image.Resampling.LANCZOS
    )
    panels = [(f"detected, score ≥ {explanation.threshold:g}", _before(film, scene, explanation, scale))]
    if explanation.changes:
        panels.append(("after repair", _after(film, explanation, scale)))
    width = max(PANEL, len(panels) * (film.width + MARGIN) - MARGIN) + 2 * MARGIN
    text = _Text(width - 2 * MARGIN)
    captions = list(_captions(explanation))
    height = sum(text.height(c) for c in captions)
    sheet = Image.new("RGB", (width, film.height + height + 4 * MARGIN + 24), PAPER)
    pen = ImageDraw.Draw(sheet)
    left = (width - len(panels) * (film.width + MARGIN) + MARGIN) // 2
    for number, (title, panel) in enumerate(panels):
        x = left + number * (film.width + MARGIN)
        pen.text((x, MARGIN), title.translate(_PLAIN), fill=INK, font=_font(16))
        sheet.paste(panel, (x, MARGIN + 26))
    y = film.height + 2 * MARGIN + 34
    for caption in captions:
        y = text.draw(pen, MARGIN, y, caption)
    return sheet


# --- films -------------------------------------------------------------------------------------------------------------


def _before(film: Image.Image, scene: Scene, explanation: SceneExplanation, scale: float) -> Image.Image:
    """The film with every detection, those of the violations in their colours."""
    panel = _Panel(film.copy(), scale)
    drawn = _drawn(explanation)
    owners: dict[int, list[str]] = {}
    for broken, colour in drawn.values():
        for d in broken.detections or broken.related:
            owners.setdefault(d.index, []).append(colour)
    for d in explanation.detections:
        mask = scene.detections[d.index].mask
        if mask is not None:
            panel.outline(mask_outline(mask, film.size), owners.get(d.index, [GREY])[0])
        panel.box(d, owners.get(d.index, []))
    spots = {number: panel.link(broken, colour) for number, (broken, colour) in drawn.items()}
    for d in sorted(explanation.detections, key=lambda d: d.index not in owners):
        panel.label(d, str(d), owners.get(d.index, [GREY])[0])
    for number, (_, colour) in drawn.items():
        panel.number(spots[number], number, colour)
    return panel.film


def _drawn(explanation: SceneExplanation) -> dict[int, tuple[BrokenNote, str]]:
    """The violations that are drawn, by their number (from 1), with their colours: at least one of each rule comes first."""
    seen: dict[str, int] = {}
    ranks = []
    for number, broken in enumerate(explanation.violations, 1):
        rank = seen[broken.rule.id] = seen.get(broken.rule.id, 0) + 1
        ranks.append((rank > 1, number))
    chosen = sorted(number for _, number in sorted(ranks)[:SHOWN])
    return {n: (explanation.violations[n - 1], violation_colour(i)) for i, n in enumerate(chosen)}


def _after(film: Image.Image, explanation: SceneExplanation, scale: float) -> Image.Image:
    """The film with the detections that are left; what went is dashed and crossed out, what is relabelled is green."""
    panel = _Panel(film.copy(), scale)
    relabelled = {c.detection.index for c in explanation.changes if c.after}
    left = explanation.repaired or ()
    for d in left:
        panel.box(d, [NEW] if d.index in relabelled else [])
    removed = [c.detection for c in explanation.changes if not c.after]
    for d in removed:
        panel.crossed(d)
    for d in removed:
        panel.label(d, f"{d} removed", GONE)
    for d in sorted(left, key=lambda d: d.index not in relabelled):
        panel.label(d, str(d), NEW if d.index in relabelled else GREY)
    return panel.film


@dataclass
class _Panel:
    """One film and what is drawn on it; `taken` are the rectangles of the labels and numbers so far."""

    film: Image.Image
    scale: float
    taken: list[Rectangle] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pen = ImageDraw.Draw(self.film)

    def rectangle(self, d: SeenDetection) -> Rectangle:
        x1, y1, x2, y2 = (v * self.scale for v in d.box)
        width, height = self.film.size
        x1, y1 = min(max(x1, 0), width - 2), min(max(y1, 0), height - 2)
        return x1, y1, max(x1 + 1, min(x2, width - 1)), max(y1 + 1, min(y2, height - 1))

    def centre(self, d: SeenDetection) -> Point:
        x1, y1, x2, y2 = self.rectangle(d)
        return (x1 + x2) / 2, (y1 + y2) / 2

    def outline(self, outline: Image.Image, colour: str) -> None:
        self.pen.bitmap((0, 0), outline, fill=colour)

    def box(self, d: SeenDetection, colours: Sequence[str]) -> None:
        """A box for each colour, one within the other; a thin grey one without colours."""
        x1, y1, x2, y2 = self.rectangle(d)
        if not colours:
            self.pen.rectangle((x1, y1, x2, y2), outline=GREY, width=1)
        for depth, colour in enumerate(dict.fromkeys(colours)):
            inset = 4 * depth
            if x2 - x1 <= 2 * inset + 3 or y2 - y1 <= 2 * inset + 3:
                return
            self.pen.rectangle((x1 + inset, y1 + inset, x2 - inset, y2 - inset), outline=colour, width=3)

    def crossed(self, d: SeenDetection) -> None:
        x1, y1, x2, y2 = self.rectangle(d)
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        for a, b in zip(corners, [*corners[1:], corners[0]], strict=True):
            self._dashed(a, b, GONE, 2)
        self.pen.line((x1, y1, x2, y2), fill=GONE, width=1)
        self.pen.line((x1, y2, x2, y1), fill=GONE, width=1)

    def label(self, d: SeenDetection, words: str, colour: str) -> None:
        """The words at the first place at the box where no other label is."""
        font = _font(13)
        box = self.pen.textbbox((0, 0), words, font=font)
        width, height = box[2] - box[0] + 6, box[3] - box[1] + 6
        x, y = self._free_place(d, width, height)
        self.taken.append((x, y, x + width, y + height))
        self.pen.rectangle((x, y, x + width, y + height), fill="#000000")
        self.pen.text((x + 3 - box[0], y + 3 - box[1]), words, fill=colour, font=font)

    def _free_place(self, d: SeenDetection, width: float, height: float) -> Point:
        x1, y1, x2, y2 = self.rectangle(d)
        middle = (y1 + y2 - height) / 2
        places = [
            *((x1, y1 - height - 1), (x1 + 4, y1 + 4), (x1, y2 + 2), (x2 - width, y1 - height - 1)),
            *((x1 + 4, y2 - height - 4), (x2 - width, y2 + 2), (x2 + 3, y1), (x1 - width - 3, y1)),
            *((x2 + 3, middle), (x1 - width - 3, middle), (x1 + 4, middle)),
        ]
        limit = (self.film.width - width - 1, self.film.height - height - 1)
        inside = [(min(max(x, 0), limit[0]), min(max(y, 0), limit[1])) for x, y in places]
        return min(inside, key=lambda p: self._covered((*p, p[0] + width, p[1] + height)))

    def _covered(self, r: Rectangle) -> float:
        return sum(
            max(0.0, min(r[2], t[2]) - max(r[0], t[0])) * max(0.0, min(r[3], t[3]) - max(r[1], t[1]))
            for t in self.taken
        )

    def link(self, broken: BrokenNote, colour: str) -> list[Point]:
        """The arrow from the first object to the second (dashed to the nearest one that is none); where a number may stand."""
        if not (broken.detections or broken.related):
            return []
        first = self.centre((broken.detections or broken.related)[0])
        rest = broken.detections[1:] or (broken.related[:1] if broken.detections and broken.missing else ())
        spots: list[Point] = [first]
        for d in rest[:1]:
            second = self.centre(d)
            spots = [_between(first, second, share) for share in (0.5, 0.35, 0.65, 0.2, 0.8)]
            if broken.detections[1:]:
                self.pen.line((*first, *second), fill=colour, width=2)
            else:
                self._dashed(first, second, colour, 2)
            self._arrow_head(first, second, colour)
            self._disc(first, 4, colour)
        for d in broken.detections[2:]:
            self.pen.line((*first, *self.centre(d)), fill=colour, width=2)
        return spots

    def number(self, spots: Sequence[Point], number: int, colour: str) -> None:
        """The number on a disc, at the spot with the most room; none for a violation that no detection is part of."""
        if not spots:
            return
        near = [(x + dx, y + dy) for x, y in spots for dx, dy in ((0, 0), (0, -26), (0, 26), (-26, 0), (26, 0))]
        width, height = self.film.size
        inside = [(min(max(x, 12), width - 13), min(max(y, 12), height - 13)) for x, y in near]
        x, y = min(inside, key=lambda p: self._covered((p[0] - 12, p[1] - 12, p[0] + 12, p[1] + 12)))
        self.taken.append((x - 12, y - 12, x + 12, y + 12))
        _numbered_disc(self.pen, (x, y), number, colour)

    def _disc(self, at: Point, radius: float, colour: str) -> None:
        self.pen.ellipse((at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius), fill=colour)

    def _arrow_head(self, start: Point, end: Point, colour: str) -> None:
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        sides = [(end[0] - 13 * math.cos(angle + turn), end[1] - 13 * math.sin(angle + turn)) for turn in (0.4, -0.4)]
        self.pen.polygon([end, *sides], fill=colour)

    def _dashed(self, start: Point, end: Point, colour: str, width: int) -> None:
        length = math.dist(start, end)
        for dash in range(0, int(length), 12):
            a, b = (_between(start, end, min(1.0, at / length)) for at in (dash, dash + 7))
            self.pen.line((*a, *b), fill=colour, width=width)


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])


def _numbered_disc(pen: ImageDraw.ImageDraw, at: Point, number: int, colour: str) -> None:
    x, y = at
    pen.ellipse((x - 11, y - 11, x + 11, y + 11), fill=colour, outline="#000000", width=1)
    pen.text((x, y), str(number), fill="#000000", font=_font(14), anchor="mm")


# --- captions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Caption:
    """A text of several lines: the first bright, the others faint; a violation's has its number and colour."""

    lines: tuple[str, ...]
    number: int = 0
    colour: str = INK


def _captions(explanation: SceneExplanation) -> Iterator[_Caption]:
    yield _Caption((explanation.summary,))
    for number, (broken, colour) in _drawn(explanation).items():
        yield _Caption((broken.message, _origin(broken)), number, colour)
    if (rest := len(explanation.violations) - SHOWN) > 0:
        yield _Caption((f"and {rest} more places, which are not drawn",))
    for change in explanation.changes[:SHOWN]:
        what = f"becomes {change.after}" if change.after else "is removed"
        because = ", ".join(dict.fromkeys(c.rule.id for c in change.causes))
        partners = ", ".join(map(str, change.partners))
        why = f"forced by {because}{f', with {partners}' if partners else ''}"
        yield _Caption((f"Repair: {change.detection} {what}, {why}",), colour=NEW if change.after else GONE)
    if (rest := len(explanation.changes) - SHOWN) > 0:
        yield _Caption((f"and {rest} more changes",))
    for broken in explanation.unsatisfied:
        yield _Caption((f"No repair can satisfy: {broken.message}", _origin(broken)))


def _origin(broken: BrokenNote) -> str:
    return "  |  ".join(part for part in (broken.rule.id, broken.rule.place, broken.rule.trust) if part)


class _Text:
    """Wraps and draws captions in a column of a width."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def _wrapped(self, caption: _Caption) -> list[tuple[str, int, str]]:
        """Lines with their size and colour."""
        found = []
        for number, line in enumerate(caption.lines):
            size = 13 if number else 15
            colour = FAINT if number else INK if caption.number else caption.colour
            found += [(part, size, colour) for part in self._lines(line.translate(_PLAIN), size)]
        return found

    def _lines(self, text: str, size: int) -> Iterator[str]:
        line = ""
        for word in text.split(" "):
            longer = f"{line} {word}" if line else word
            if line and self.pen.textlength(longer, font=_font(size)) > self.width - 34:
                yield line
                longer = word
            line = longer
        yield line

    def height(self, caption: _Caption) -> int:
        return sum(size + 6 for _, size, _ in self._wrapped(caption)) + 8

    def draw(self, pen: ImageDraw.ImageDraw, x: int, y: int, caption: _Caption) -> int:
        """Draw a caption; returns where the next one begins."""
        indent = 34 if caption.number else 0
        if caption.number:
            _numbered_disc(pen, (x + 12, y + 9), caption.number, caption.colour)
        for line, size, colour in self._wrapped(caption):
            pen.text((x + indent, y), line, fill=colour, font=_font(size))
            y += size + 6
        return y + 8


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
