"""A learning curve as an SVG file: lines with intervals over a logarithmic axis, drawn without a plotting library.

Values are on the vertical axis from 0 to 1, what they cost on the horizontal one; each line is named at its last point.
The same lines give the same bytes, so that a picture in the repository changes only with its records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 60, 170, 40, 50
"""Pixels of the picture and of its margins; the right one holds the names."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe & Ito's, which the colour-blind can tell apart."""
_STEPS = (1.0, 2.0, 5.0)
_NAMES_APART = 14.0


@dataclass(frozen=True)
class Point:
    """A value in [0, 1] with its interval, and what it cost (above 0)."""

    cost: float
    value: float
    low: float
    high: float


def curve_svg(title: str, across: str, up: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """The picture; `across` and `up` say what the axes are.

    Raises:
        ValueError: there is no point, or one that has no place on a logarithmic axis.
    """
    points = [p for line in lines.values() for p in line]
    if not points:
        raise ValueError(f"{title}: there is no point to draw")
    if min(p.cost for p in points) <= 0:
        raise ValueError(f"{title}: costs must be above 0 to have a place on a logarithmic axis")
    ticks = _ticks(min(p.cost for p in points), max(p.cost for p in points))
    low, high = math.log(ticks[0]), math.log(ticks[-1])

    def x(cost: float) -> float:
        return LEFT + (math.log(cost) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (1 - min(max(value, 0.0), 1.0)) * (HEIGHT - TOP - BOTTOM)

    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [text_of(LEFT, TOP - 16, title, weight="bold"), text_of(12, TOP - 16, up)]
    parts.append(text_of((LEFT + right) / 2, HEIGHT - 12, across, anchor="middle"))
    for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts.append(line_of([(LEFT, y(value)), (right, y(value))], "#dddddd", 1))
        parts.append(text_of(LEFT - 8, y(value) + 4, f"{value:g}", anchor="end"))
    for tick in ticks:
        parts.append(line_of([(x(tick), TOP), (x(tick), bottom)], "#dddddd", 1))
        parts.append(text_of(x(tick), bottom + 18, f"{tick:g}", anchor="middle"))
    ends: list[tuple[float, str, str]] = []
    for n, (name, line) in enumerate(lines.items()):
        colour, ordered = COLOURS[n % len(COLOURS)], sorted(line, key=lambda p: p.cost)
        if not ordered:
            continue
        parts.append(line_of([(x(p.cost), y(p.value)) for p in ordered], colour, 2, name))
        for p in ordered:
            parts.append(line_of([(x(p.cost), y(p.low)), (x(p.cost), y(p.high))], colour, 1))
            parts.append(f'<circle cx="{x(p.cost):.1f}" cy="{y(p.value):.1f}" r="4" fill="{colour}"/>')
        ends.append((y(ordered[-1].value), name, colour))
    at = -math.inf
    for place, name, colour in sorted(ends):
        at = max(place, at + _NAMES_APART)
        parts.append(text_of(right + 10, at + 4, name, colour=colour))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">'
    style = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, style, *parts, "</svg>"]) + "\n"


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … from the last at or below `low` to the first at or above `high`; at least two."""
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    steps = [float(f"{s * 10.0**e:.6g}") for e in range(first, last + 1) for s in _STEPS]
    below = max(i for i, s in enumerate(steps) if s <= low * (1 + 1e-9))
    above = min(i for i, s in enumerate(steps) if s >= high * (1 - 1e-9))
    return steps[below : max(above, below + 1) + 1]


def line_of(points: Sequence[tuple[float, float]], colour: str, width: int, name: str = "") -> str:
    places = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    title = f"<title>{escape(name)}</title>" if name else ""
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}">{title}</polyline>'


def text_of(
    px: float, py: float, text: str, anchor: str = "start", weight: str = "normal", colour: str = "black"
) -> str:
    style = f'font-family="sans-serif" font-size="12" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}"'
    return f'<text x="{px:.1f}" y="{py:.1f}" {style}>{escape(text)}</text>'
