r"""What a scene shows, in words: what a literal of a rule asks of some detections, and what was measured instead.

    expected   "right_lung 0.98 should lie left of heart 0.93"
    found      "its centre is 14 px to the right"

Numbers are those that the words are defined by (`neurosym.knowledge.geometry`, `mask_geometry`): centres in pixels, shares of
sides or of masks, ratios of areas, so that a reader can check them with a ruler. Whether a literal holds is asked of
`neurosym.constraints.broken.SceneFacts`, never of the rounded number that is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np

from neurosym.constraints.broken import SceneFacts, Theta
from neurosym.constraints.crisp import masks_of
from neurosym.knowledge import Ontology
from neurosym.knowledge.geometry import (
    INSIDE_SHARE,
    LARGE_SHARE,
    NEAR_GAP,
    PERIPHERAL_SHARE,
    PREDICATES,
    SAME_IOU,
    SIDES,
    SIZES,
    SMALL_SHARE,
    ZONES,
    area_share,
    frame_of,
    left_frame_margin,
    midline_of,
)
from neurosym.knowledge.mask_geometry import EMPTY, pair_margins
from neurosym.logic import Atom, Comparison, Condition, Negation, Operand, Term
from neurosym.records import Scene

WORDS: Final = tuple(PREDICATES)
PLACES: Final = (*ZONES, *SIDES, *SIZES)
PHRASES: Final[dict[str, tuple[str, str]]] = {
    "left_of": ("lie left of {}", "lies left of {}"),
    "right_of": ("lie right of {}", "lies right of {}"),
    "above": ("lie above {}", "lies above {}"),
    "below": ("lie below {}", "lies below {}"),
    "inside": ("lie inside {}", "lies inside {}"),
    "encloses": ("enclose {}", "encloses {}"),
    "overlaps": ("overlap {}", "overlaps {}"),
    "larger_than": ("be larger than {}", "is larger than {}"),
    "smaller_than": ("be smaller than {}", "is smaller than {}"),
    "near": ("lie near {}", "lies near {}"),
    "same": ("be one object with {}", "is one object with {}"),
    "adjacent": ("lie beside {}", "lies beside {}"),
    "patient_left_of": ("lie on the patient's left of {}", "lies on the patient's left of {}"),
    "patient_right_of": ("lie on the patient's right of {}", "lies on the patient's right of {}"),
}
"""Each word between two objects as an infinitive and as a statement; the other object stands in the braces."""
PLACE_PHRASES: Final[dict[str, tuple[str, str]]] = {
    **{zone: (f"lie in the {zone.replace('_', ' ')}", f"lies in the {zone.replace('_', ' ')}") for zone in ZONES},
    **{side: (f"lie {side}ly", f"lies {side}ly") for side in SIDES},
    **{size: (f"be a {size.replace('_', ' ')}", f"is a {size.replace('_', ' ')}") for size in SIZES},
}


def with_article(name: str) -> str:
    """A noun with "a" or "an"."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def joined(parts: Sequence[str], last: str = "and") -> str:
    """A list in prose.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    return " ".join((", ".join(parts[:-1]), last, parts[-1])) if len(parts) > 1 else "".join(parts)


def percent(value: float, bound: float | None = None) -> str:
    """A share as a percentage, with as many digits as tell it from the bound that it is compared to."""
    for digits in range(4):
        shown = f"{100 * value:.{digits}f}%"
        if bound is None or shown != f"{100 * bound:.{digits}f}%":
            return shown
    return f"{100 * value:.4f}%"


def pixels(value: float) -> str:
    """A length, with a digit after the point where it is short."""
    return f"{value:.1f} px" if value < 3 else f"{value:.0f} px"


def plural(number: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "rule"), plural(2, "box")
    ('1 rule', '2 boxes')
    """
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}es" if noun.endswith("x") else f"{noun}s"
    return f"{number} {noun if number == 1 else many}"


class Wording:
    """Words for one scene; variables stand for detections by their number among `facts.seen`.

    Args:
        scene: all detections; those below the threshold are only named where one of them would mend a violation.
        ontology: what the names in rules mean.
        threshold: the score from which a detection counts.
    """

    def __init__(self, scene: Scene, ontology: Ontology, threshold: float) -> None:
        self.scene, self.ontology, self.threshold = scene, ontology, threshold
        self.facts = SceneFacts(scene, ontology, threshold)
        self.seen = self.facts.seen
        names = [self._plain_label(i) for i in range(len(scene.detections))]
        shown = [names[i] for i in self.seen]
        self._labels = [f"{n} (#{i})" if shown.count(n) > 1 else n for i, n in enumerate(names)]

    def _plain_label(self, index: int) -> str:
        d = self.scene.detections[index]
        return d.name if d.score >= 1 else f"{d.name} {d.score:.2f}"

    def label(self, number: Any) -> str:
        """A detection by class and score, and by index where that is not enough."""
        return self._labels[self.seen[number]] if isinstance(number, int) else str(number)

    # --- literals -----------------------------------------------------------------------------------------------------

    def holds(self, atom: Atom, theta: Theta) -> bool:
        """Whether an atom of bound variables holds."""
        if atom.predicate == "=":
            a, b = (theta[t.name] for t in atom.args)
            return bool(a == b or self.facts.relation("same")[a][b])
        return any(True for _ in self.facts.matches((atom,), theta))

    def demand(self, atom: Atom, theta: Theta) -> str:
        """What an atom asks of its first object: an infinitive."""
        if atom.predicate == "=":
            return PHRASES["same"][0].format(self.label(theta[atom.args[1].name]))
        return self._phrase(atom, theta, "something")[0]

    def statement(self, condition: Atom | Condition, theta: Theta, measured: bool = True) -> str:
        """A literal that holds, as a clause, with what was measured in brackets (of a comparison always)."""
        if isinstance(condition, Comparison):
            values = self.measured(condition, theta)
            return f"{condition}{f' ({values})' if values else ''}"
        denied = isinstance(condition, Negation)
        atom = condition.atom if isinstance(condition, Negation) else condition
        bound = [t.name in theta for t in atom.args]
        infinitive, stated = self._phrase(atom, theta, "anything" if denied and bound[0] else "something")
        if denied and bound[0]:
            stated = f"is not {infinitive[3:]}" if infinitive.startswith("be ") else f"does not {infinitive}"
        subject = self.label(theta[atom.args[0].name]) if bound[0] else "nothing" if denied else "something"
        told = measured and all(bound) and not self.is_class(atom)
        return f"{subject} {stated}{f' ({self.found(atom, theta)})' if told else ''}"

    def _phrase(self, atom: Atom, theta: Theta, other: str) -> tuple[str, str]:
        """An atom as an infinitive and as a statement; `other` stands for a second object that is not bound."""
        word, place = self.word(atom), self._place(atom.predicate)
        if word in PHRASES:
            name = self.label(theta[atom.args[1].name]) if atom.args[1].name in theta else other
            infinitive, stated = PHRASES[word]
            return infinitive.format(name), stated.format(name)
        if place:
            return PLACE_PHRASES[place]
        return f"be {with_article(atom.predicate)}", f"is {with_article(atom.predicate)}"

    def found(self, atom: Atom, theta: Theta) -> str:
        """What is measured where an atom of bound variables was looked at, of its first object ("its …")."""
        first = theta[atom.args[0].name]
        word = "same" if atom.predicate == "=" else self.word(atom)
        if word in PHRASES:
            return self.relation_found(word, self.seen[first], self.seen[theta[atom.args[1].name]])
        place = self._place(atom.predicate)
        if place:
            return self._place_found(place, first)
        return f"it is detected as {with_article(self.scene.detections[self.seen[first]].name)}"

    def word(self, atom: Atom) -> str:
        """The word of geometry that an atom of two objects means, "" for a class."""
        return self.facts.word(atom) if len(atom.args) == 2 and atom.predicate != "=" else ""

    def is_class(self, atom: Atom) -> bool:
        """Whether an atom says of what class an object is (and not where it lies)."""
        places = (p for p in PLACES if p in self.ontology.classes)
        return len(atom.args) == 1 and not any(self.ontology.is_a(p, atom.predicate) for p in places)

    def _place(self, predicate: str) -> str:
        return predicate if predicate in PLACES else ""

    # --- two objects --------------------------------------------------------------------------------------------------

    @cached_property
    def _masks(self) -> Any:
        """(detection, height, width) or None."""
        return masks_of(self.scene.detections, self.scene)

    @cached_property
    def margins(self) -> dict[str, Any]:
        """The margin of every word between all detections of the scene, also those below the threshold."""
        boxes = np.array([d.box.xyxy for d in self.scene.detections], dtype=np.float64).reshape(-1, 4)
        return dict(zip(WORDS, pair_margins(boxes, self._masks, np), strict=True))

    def _by_mask(self, *indices: int) -> bool:
        return self._masks is not None and all(float(self._masks[i].sum()) >= EMPTY for i in indices)

    def centre(self, index: int, by_mask: bool = False) -> tuple[float, float]:
        """Of a box, or the centroid of a mask, in pixels of the image."""
        x1, y1, x2, y2 = self.scene.detections[index].box.xyxy
        if not by_mask:
            return (x1 + x2) / 2, (y1 + y2) / 2
        mask = self._masks[index]
        y, x = (float((mask.sum(1 - a) * (np.arange(mask.shape[a]) + 0.5)).sum() / mask.sum()) for a in (0, 1))
        return x * self.scene.width / mask.shape[1], y * self.scene.height / mask.shape[0]

    def relation_found(self, word: str, a: int, b: int) -> str:
        """What is measured between two detections (indices of the scene), said of the first."""
        by_mask = self._by_mask(a, b)
        margin = float(self.margins[word][a, b])
        if word in ("left_of", "right_of", "patient_left_of", "patient_right_of"):
            return self._offset(a, b, 0, ("to the left", "to the right"), by_mask)
        if word in ("above", "below"):
            return self._offset(a, b, 1, ("higher", "lower"), by_mask)
        if word in ("inside", "encloses"):
            inner, outer = (a, b) if word == "inside" else (b, a)
            return self._share_inside(inner, outer, "its" if word == "inside" else f"{self._labels[inner]}'s", by_mask)
        if word in ("larger_than", "smaller_than"):
            ratio = float(np.exp(margin if word == "larger_than" else -margin))
            return f"its area is {percent(ratio, 1.0)} of that of {self._labels[b]}"
        if word == "same":
            share = percent(margin + SAME_IOU, SAME_IOU)
            return f"they share {share} of their union, where one object shares more than {SAME_IOU:.0%}"
        if word == "overlaps":
            return self._overlap(a, b, by_mask)
        if word == "adjacent" and max(self.margins["inside"][a, b], self.margins["encloses"][a, b]) > 0:
            return "one of them lies inside the other"
        return self._gap(a, b, by_mask)

    def _offset(self, a: int, b: int, axis: int, sides: tuple[str, str], by_mask: bool) -> str:
        difference = self.centre(a, by_mask)[axis] - self.centre(b, by_mask)[axis]
        if difference == 0:
            return f"their centres are at the same {'x' if axis == 0 else 'height'}"
        return f"its centre is {pixels(abs(difference))} {sides[int(difference > 0)]}"

    def _share_inside(self, inner: int, outer: int, whose: str, by_mask: bool) -> str:
        needed = f"inside means at least {INSIDE_SHARE:.0%}"
        if by_mask:
            share = float(self.margins["inside"][inner, outer]) + INSIDE_SHARE
            return f"{percent(share, INSIDE_SHARE)} of {whose} area lies within, {needed}"
        x, y = (max(0.0, self._common(inner, outer, axis)) / self._side(inner, axis) for axis in (0, 1))
        shares = f"{percent(x, INSIDE_SHARE)} of {whose} width and {percent(y, INSIDE_SHARE)} of the height"
        return f"{shares} lie within, {needed} of both"

    def _overlap(self, a: int, b: int, by_mask: bool) -> str:
        if by_mask:
            both = self._masks[a] * self._masks[b]
            return f"{percent(float(both.sum() / min(self._masks[a].sum(), self._masks[b].sum())))} of the smaller is shared"
        apart = -min(self._common(a, b, 0), self._common(a, b, 1))
        if apart >= 0:
            return f"they are {pixels(apart)} apart"
        x, y = (pixels(self._common(a, b, axis)) for axis in (0, 1))
        return f"{x} of their widths and {y} of their heights are shared"

    def _gap(self, a: int, b: int, by_mask: bool) -> str:
        reach = NEAR_GAP * sum(self._side(i, axis) for i in (a, b) for axis in (0, 1)) / 4
        if by_mask:
            closer = "within" if self.margins["near"][a, b] > 0 else "beyond"
            return f"their outlines are {closer} {pixels(reach)} of each other, {NEAR_GAP:.0%} of their mean side"
        apart = max(0.0, -min(self._common(a, b, 0), self._common(a, b, 1)))
        return f"the gap between them is {pixels(apart)}, near is less than {pixels(reach)}"

    def _common(self, a: int, b: int, axis: int) -> float:
        p, q = self.scene.detections[a].box.xyxy, self.scene.detections[b].box.xyxy
        return min(p[axis + 2], q[axis + 2]) - max(p[axis], q[axis])

    def _side(self, index: int, axis: int) -> float:
        box = self.scene.detections[index].box.xyxy
        return max(1e-6, box[axis + 2] - box[axis])

    # --- one object ---------------------------------------------------------------------------------------------------

    @cached_property
    def _frames(self) -> dict[int, str]:
        """The detections that are frames, by their number, with their class."""
        zoned = self.ontology.zoned
        names = (self.scene.detections[i].name for i in self.seen)
        return {k: n for k, n in enumerate(names) if any(self.ontology.is_a(n, z) for z in zoned)}

    def _place_found(self, place: str, number: int) -> str:
        box = self.facts.boxes[number]
        if place in SIZES:
            share = float(area_share(box, self.facts.width, self.facts.height, np))
            bounds = {
                "small_object": f"small is less than {SMALL_SHARE:.0%}",
                "large_object": f"large is more than {LARGE_SHARE:.0%}",
            }
            between = f"medium is {SMALL_SHARE:.0%} to {LARGE_SHARE:.0%}"
            nearest = min((SMALL_SHARE, LARGE_SHARE), key=lambda bound: abs(share - bound))
            return f"its box covers {percent(share, nearest)} of the image, {bounds.get(place, between)}"
        if number in self._frames:
            return f"{with_article(self._frames[number])} is what others are placed in and has no place itself"
        if not self._frames:
            return f"no {joined(sorted(self.ontology.zoned), 'or')} is detected that it could be placed in"
        boxes = {k: self.facts.boxes[k] for k in self._frames}
        chosen = frame_of(box, list(boxes.values()), np)
        frame = next(k for k, b in boxes.items() if b is chosen)
        return (self._height_in if place in ZONES else self._depth_in)(box, frame)

    def _height_in(self, box: Any, frame: int) -> str:
        _, top, _, bottom = self.facts.boxes[frame]
        share = (float(box[1] + box[3]) / 2 - top) / max(1e-6, bottom - top)
        if not 0 <= share <= 1:
            return f"its centre lies {'above' if share < 0 else 'below'} {self.label(frame)}"
        bound = min((1 / 3, 2 / 3), key=lambda b: abs(share - b))
        return f"its centre is at {percent(share, bound)} of the height of {self.label(frame)} from above, a zone is a third"

    def _depth_in(self, box: Any, frame: int) -> str:
        by_class: dict[str, list[Any]] = {}
        for k, name in self._frames.items():
            by_class.setdefault(name, []).append(self.facts.boxes[k])
        midline = midline_of(by_class, self.facts.width)
        left, _, right, _ = self.facts.boxes[frame]
        share = (float(box[0] + box[2]) / 2 - left) / max(1e-6, right - left)
        if left_frame_margin(self.facts.boxes[frame], midline) > 0:
            share = 1 - share
        if not 0 <= share <= 1:
            return f"its centre lies {'towards the midline' if share < 0 else 'outwards'} of {self.label(frame)}"
        outer = f"the peripheral part begins at {1 - PERIPHERAL_SHARE:.0%}"
        return f"its centre is at {percent(share, 1 - PERIPHERAL_SHARE)} of the way out through {self.label(frame)}, {outer}"

    # --- numbers ------------------------------------------------------------------------------------------------------

    def measured(self, comparison: Comparison, theta: Theta) -> str:
        """The values on both sides of a comparison, unless they are written there already."""
        sides = (comparison.left, comparison.right)
        return joined([f"{s} is {self._number(s, theta)}" for s in sides if not isinstance(s, Term) or s.is_variable])

    def _number(self, operand: Operand, theta: Theta) -> str:
        value = self.facts.value(operand, theta)
        return "without a result" if value is None else f"{value:.3g}"

    def counted(self, comparison: Comparison, theta: Theta) -> tuple[int, ...]:
        """The detections (numbers) that the counts of a comparison count."""
        found: dict[int, None] = {}
        for count in comparison.counts:
            for t in self.facts.matches(count.body, theta):
                if self.facts.satisfied(count.conditions, t) is not None:
                    found.update(dict.fromkeys(t[v.name] for v in count.terms if isinstance(t.get(v.name), int)))
        return tuple(found)

    # --- witnesses ----------------------------------------------------------------------------------------------------

    def witness_noun(self, witness: Term, atoms: Sequence[Atom]) -> str:
        """What kind of object is asked for: "a lung", "something"."""
        names = [a for a in atoms if a.args == (witness,)]
        classes = [with_article(a.predicate) for a in names if self.is_class(a)]
        others = [self._phrase(a, {}, "")[1] for a in names if not self.is_class(a)]
        return (joined(classes) or "something") + (f" that {joined(others)}" if others else "")

    def witness_candidates(self, witness: Term, atoms: Sequence[Atom], theta: Theta) -> list[tuple[float, int]]:
        """Detections of the scene (indices) of the right class, with the least margin of the words asked: best first.

        Places of the witness are not looked at, so a margin above 0 says that its words hold.
        """
        found = []
        for index, d in enumerate(self.scene.detections):
            kinds = [a.predicate for a in atoms if a.args == (witness,) and self.is_class(a)]
            if d.score < 0 or d.name not in self.ontology.classes:
                continue
            if all(self.ontology.is_a(d.name, k) for k in kinds):
                found.append((self._least_margin(witness, index, atoms, theta), index))
        return sorted(found, key=lambda pair: (-pair[0], pair[1]))

    def _least_margin(self, witness: Term, index: int, atoms: Sequence[Atom], theta: Theta) -> float:
        values = [1.0]
        for word, a, b in self.witness_relations(witness, index, atoms, theta):
            values.append(float(self.margins[word][a, b]))
        return min(values)

    def witness_relations(
        self, witness: Term, index: int, atoms: Sequence[Atom], theta: Theta
    ) -> list[tuple[str, int, int]]:
        """The words asked between a candidate (an index of the scene) and the objects that are bound."""
        found = []
        for atom in atoms:
            ends = [index if t == witness else self.seen[theta[t.name]] if t.name in theta else -1 for t in atom.args]
            if len(atom.args) == 2 and witness in atom.args and -1 not in ends:
                found.append((self.word(atom), ends[0], ends[1]))
        return found
