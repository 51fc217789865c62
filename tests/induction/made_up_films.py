"""Made-up chest films: boxes drawn at random, crisp geometry on every pair, and labels that follow planted rules."""

from __future__ import annotations

from random import Random

from neurosym.records import Atom, Fact, FactStore, Rule, Term

# Centres and half sides in a unit square; image x grows to the right, y downwards.
ORGANS = {
    "right_lung": (0.28, 0.5, 0.16, 0.32),
    "left_lung": (0.74, 0.5, 0.15, 0.32),
    "heart": (0.55, 0.62, 0.14, 0.13),
    "trachea": (0.51, 0.2, 0.03, 0.12),
}
Box = tuple[float, float, float, float]


def films(count: int, seed: int = 0, noise: float = 0.05) -> FactStore:
    """Films with four organs, some opacities and a film object.

    Planted: typical(S) iff an opacity in the lower zone lies inside the left lung, flipped with probability `noise`.
    """
    rng = Random(seed)
    facts: list[Fact] = []
    for number in range(count):
        scene = f"film{number:03d}"
        facts.extend(_film(scene, rng, noise))
    return FactStore(tuple(sorted(facts)))


def _film(scene: str, rng: Random, noise: float) -> list[Fact]:
    boxes: dict[str, Box] = {}
    names: dict[str, str] = {}
    for name, (x, y, w, h) in ORGANS.items():
        entity = f"{scene}_d{len(boxes)}"
        names[entity], boxes[entity] = name, _box(x, y, w, h, rng, 0.03)
    for _ in range(rng.choice([0, 1, 2, 3, 4, 5])):
        entity = f"{scene}_d{len(boxes)}"
        x, y, _, _ = ORGANS[rng.choice(["right_lung", "left_lung"])]
        names[entity] = rng.choice(["opacity", "opacity", "nodule"])
        boxes[entity] = _box(x + rng.uniform(-0.12, 0.12), y + rng.uniform(-0.28, 0.28), 0.04, 0.04, rng, 0.01)
    facts = [Fact(name, (entity,), 1.0, scene) for entity, name in names.items()]
    for entity, (_, y1, _, y2) in boxes.items():
        if names[entity] in ("opacity", "nodule"):
            centre = (y1 + y2) / 2
            zone = "lower_zone" if centre > 0.58 else "middle_zone" if centre > 0.4 else "upper_zone"
            facts.append(Fact(zone, (entity,), 1.0, scene))
    for a in boxes:
        for b in boxes:
            if a != b:
                facts.extend(Fact(r, (a, b), 1.0, scene) for r in _relations(boxes[a], boxes[b]))
    held = {(f.relation, f.args) for f in facts}
    left_lung = next(e for e, n in names.items() if n == "left_lung")
    typical = any(
        name == "opacity" and ("lower_zone", (e,)) in held and ("inside", (e, left_lung)) in held
        for e, name in names.items()
    )
    facts.append(Fact("film", (scene,), 1.0, scene))
    if typical != (rng.random() < noise):
        facts.append(Fact("typical", (scene,), 1.0, scene))
    if rng.random() < 0.5:
        facts.append(Fact("male", (scene,), 1.0, scene))
    return facts


def _box(x: float, y: float, w: float, h: float, rng: Random, spread: float) -> Box:
    x, y = x + rng.gauss(0, spread), y + rng.gauss(0, spread)
    w, h = w * rng.uniform(0.85, 1.15), h * rng.uniform(0.85, 1.15)
    return x - w, y - h, x + w, y + h


def _relations(a: Box, b: Box) -> list[str]:
    found = []
    ax, ay, bx, by = (a[0] + a[2]) / 2, (a[1] + a[3]) / 2, (b[0] + b[2]) / 2, (b[1] + b[3]) / 2
    found.append("left_of" if ax < bx else "right_of")
    found.append("above" if ay < by else "below")
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width > 0 and height > 0:
        found.append("overlaps")
        shares = width / (a[2] - a[0]), height / (a[3] - a[1])
        if min(shares) > 0.75:
            found.append("inside")
        if min(width / (b[2] - b[0]), height / (b[3] - b[1])) > 0.75:
            found.append("contains")
    elif max(-width, -height) < 0.1:
        found.append("near")
    if (a[2] - a[0]) * (a[3] - a[1]) > 2 * (b[2] - b[0]) * (b[3] - b[1]):
        found.append("larger_than")
    return found


def rule(text: str, weight: float | None = None) -> Rule:
    """`h(X, Y) :- p(X, Z), q(Z, b).` without a parser worth the name: capitals are variables."""
    head, _, body = text.rstrip(".").partition(":-")
    return Rule(_atoms(head), _atoms(body), weight)


def _atoms(text: str) -> tuple[Atom, ...]:
    atoms = []
    for part in text.replace(" ", "").split(")"):
        if part:
            name, _, args = part.lstrip(",").partition("(")
            atoms.append(Atom(name, tuple(Term(a, a[:1].isupper()) for a in args.split(","))))
    return tuple(atoms)


GEOMETRY = tuple(
    rule(text)
    for text in (
        "right_of(X, Y) :- left_of(Y, X).",
        "left_of(X, Y) :- right_of(Y, X).",
        "above(X, Y) :- below(Y, X).",
        "below(X, Y) :- above(Y, X).",
        "overlaps(X, Y) :- overlaps(Y, X).",
        "near(X, Y) :- near(Y, X).",
        "contains(X, Y) :- inside(Y, X).",
        "inside(X, Y) :- contains(Y, X).",
        "overlaps(X, Y) :- inside(X, Y).",
    )
)
"""What an ontology says of these relations."""
