"""What facts cost, as an SVG file: lines over two logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from curve import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, line_of, text_of

_NAMES_APART = 14.0


def cost_svg(title: str, across: str, up: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """The picture; both numbers of a point are above 0. The same lines give the same bytes."""
    points = [p for line in lines.values() for p in line]
    columns = _decades([x for x, _ in points]), _decades([y for _, y in points])
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(value: float, decades: list[int], start: int, end: int) -> float:
        return start + (math.log10(value) - decades[0]) / (decades[-1] - decades[0]) * (end - start)

    def at(x: float, y: float) -> tuple[float, float]:
        return place(x, columns[0], LEFT, right), place(y, columns[1], bottom, TOP)

    parts = [text_of(LEFT, TOP - 16, title, weight="bold"), text_of(12, TOP - 16, up)]
    parts.append(text_of((LEFT + right) / 2, HEIGHT - 12, across, anchor="middle"))
    low, high = (10.0 ** columns[k][0] for k in (0, 1))
    for decade in columns[1]:
        y = at(low, 10.0**decade)[1]
        parts += [
            line_of([(LEFT, y), (right, y)], "#dddddd", 1),
            text_of(LEFT - 8, y + 4, f"{10.0**decade:g}", anchor="end"),
        ]
    for decade in columns[0]:
        x = at(10.0**decade, high)[0]
        parts += [line_of([(x, TOP), (x, bottom)], "#dddddd", 1)]
        parts += [text_of(x, bottom + 18, f"{10.0**decade:g}", anchor="middle")]
    ends = []
    for n, (name, line) in enumerate(lines.items()):
        drawn = [at(*p) for p in sorted(line)]
        parts.append(line_of(drawn, COLOURS[n], 2, name))
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[n]}"/>' for x, y in drawn]
        ends.append((drawn[-1], name, COLOURS[n]))
    below = -math.inf
    for (x, y), name, colour in sorted(ends, key=lambda end: end[0][1]):
        below = max(y, below + _NAMES_APART)
        parts.append(text_of(x + 10, below + 4, name, colour=colour))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def _decades(values: Sequence[float]) -> list[int]:
    """The powers of ten around some values, at least two."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return list(range(low, max(high, low + 1) + 1))
