"""Where boxes go in a static picture: pure geometry, without fonts and without a browser, the same on every machine.

The hierarchy is a tree that grows to the right, each subtree in a band of its own (so no two boxes can overlap); a class with
several superclasses hangs under the first that reaches it from the top.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

ROW_GAP = 8.0


@dataclass(frozen=True, slots=True)
class Rect:
    """A box in the picture, (x, y) its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def middle(self) -> float:
        """The y of its centre."""
        return self.y + self.height / 2


def text_width(text: str, size: float) -> float:
    """A generous width of a text in a common sans-serif font, from the kinds of its characters."""
    return size * sum(_advance(char) for char in text)


def _advance(char: str) -> float:
    if unicodedata.east_asian_width(char) in "WF":
        return 1.05
    if char in "ijlI|.,:;'!()[] ft":
        return 0.36
    return 0.92 if char in "mwMW@%—…" else 0.72 if char.isupper() else 0.58


def wrapped(text: str, size: float, width: float, most: int = 3) -> list[str]:
    """The text in at most `most` lines of a width; a word that is too long is cut, what does not fit ends in an ellipsis."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if text_width(joined, size) <= width:
            line = joined
            continue
        lines += [line] if line else []
        line = word
        while text_width(line, size) > width and len(lines) < most:
            fit = next((n for n in range(len(line), 1, -1) if text_width(line[:n], size) <= width), 1)
            lines.append(line[:fit])
            line = line[fit:]
        if len(lines) >= most:
            break
    lines += [line] if line else []
    if len(lines) <= most:
        return lines or [""]
    last = lines[most - 1]
    while last and text_width(last + "…", size) > width:
        last = last[:-1]
    return [*lines[: most - 1], last + "…"]


def forest(names: Sequence[str], parents: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, str]]:
    """Every name with its depth and the parent it hangs under ("" for a root), parents before children.

    Breadth first from the names without parents; from each cycle that this does not reach, the first name becomes a root.
    """
    children: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        for parent in parents.get(name, ()):
            children[parent].append(name)
    found: dict[str, tuple[int, str]] = {}
    roots = [name for name in names if not parents.get(name)]
    for root in (*roots, *names):
        if root in found:
            continue
        found[root] = (0, "")
        level = [root]
        while level:
            below: list[str] = []
            for name in level:
                for child in children[name]:
                    if child not in found:
                        found[child] = (found[name][0] + 1, name)
                        below.append(child)
            level = below
    return found


def tree_layout(
    tree: Mapping[str, tuple[int, str]], sizes: Mapping[str, tuple[float, float]], gaps: Mapping[int, float], top: float
) -> dict[str, Rect]:
    """A box for each name of a forest, (width, height) as given, columns by depth and `gaps[depth]` before each column."""
    children: dict[str, list[str]] = {name: [] for name in tree}
    for name, (_, parent) in tree.items():
        if parent:
            children[parent].append(name)
    band: dict[str, float] = {}
    for name in reversed(list(tree)):
        below = sum(band[c] for c in children[name]) + ROW_GAP * max(len(children[name]) - 1, 0)
        band[name] = max(sizes[name][1], below)
    columns: dict[int, float] = {}
    left = 0.0
    for depth in sorted({d for d, _ in tree.values()}):
        columns[depth] = left = left + gaps[depth]
        left += max(sizes[n][0] for n, (d, _) in tree.items() if d == depth)
    start: dict[str, float] = {}
    for name, (depth, _) in tree.items():
        if depth == 0:
            start[name] = top
            top += band[name] + ROW_GAP
        below = sum(band[c] for c in children[name]) + ROW_GAP * max(len(children[name]) - 1, 0)
        y = start[name] + (band[name] - below) / 2
        for child in children[name]:
            start[child] = y
            y += band[child] + ROW_GAP
    return {
        name: Rect(columns[depth], start[name] + (band[name] - sizes[name][1]) / 2, *sizes[name])
        for name, (depth, _) in tree.items()
    }


def cliques(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Sets of names, all pairs of which are among the pairs, that together cover every pair (greedy, so not the fewest)."""
    near: dict[str, set[str]] = {}
    for a, b in pairs:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    open_pairs = {(a, b) for a in near for b in near[a] if a < b}
    found = []
    for pair in sorted(open_pairs):
        if pair in open_pairs:
            group = [*pair]
            for name in sorted(near[pair[0]] & near[pair[1]]):
                if all(name in near[other] for other in group):
                    group.append(name)
            group.sort()
            found.append(tuple(group))
            open_pairs -= {(a, b) for i, a in enumerate(group) for b in group[i + 1 :]}
    return found


def lanes(spans: Sequence[tuple[float, float]]) -> list[int]:
    """A lane for each interval, so that intervals of one lane do not touch."""
    ends: list[float] = []
    result = [0] * len(spans)
    for index in sorted(range(len(spans)), key=lambda i: (spans[i], i)):
        low, high = spans[index]
        lane = next((n for n, end in enumerate(ends) if end < low), len(ends))
        ends[lane : lane + 1] = [high]
        result[index] = lane
    return result


def spread(wanted: Sequence[float], heights: Sequence[float], gap: float, top: float) -> list[float]:
    """The upper edges of boxes in the given order, near the wanted centres, without overlap and not above `top`."""
    edges = []
    for centre, height in zip(wanted, heights, strict=True):
        top = max(top, centre - height / 2)
        edges.append(top)
        top += height + gap
    return edges
