"""What the page of one rule shows: its atoms, its films, counter-examples first, and the objects its variables are bound to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from neurosym.errors import NeurosymError
from neurosym.induction.bindings import Case
from neurosym.knowledge.ontology import Ontology
from neurosym.logic import Term
from neurosym.records import Rule
from neurosym.review.evidence import Evidence, position
from neurosym.review.web.overlay import mask_path
from neurosym.scenes.facts import objects_among

FILMS: Final = 24
"""Films on each side."""
Side = Literal["against", "for"]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a rule's text; `variables` are the numbers of those it speaks of, by which objects are lit up."""

    text: str
    variables: tuple[int, ...] = ()
    atom: bool = False


@dataclass(frozen=True, slots=True)
class Films:
    """The films for and against a rule, and how many there are in all."""

    against: tuple[str, ...]
    for_it: tuple[str, ...]
    against_count: int
    for_count: int

    @property
    def shown(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.against, *self.for_it)))


@dataclass(frozen=True, slots=True)
class Drawn:
    """An object on a film: its box, its outline if it has a mask, and the variable that is bound to it, -1 for none.

    `caption` is all that it is said to be, with scores; `label` what the rule's body calls it, else all, in words.
    """

    number: int
    label: str
    caption: str
    x: float
    y: float
    width: float
    height: float
    outline: str
    variable: int
    letter: str


@dataclass(frozen=True, slots=True)
class FilmView:
    """One film with one case of the rule on it; `case` is its number from 0, -1 if there is none."""

    film: str
    side: Side
    width: int
    height: int
    objects: tuple[Drawn, ...]
    cases: tuple[Case, ...]
    case: int
    sentence: str
    labels: tuple[str, ...]
    before: str
    after: str

    @property
    def holds(self) -> bool | None:
        return self.cases[self.case].holds if self.case >= 0 else None


def variables_of(rule: Rule) -> list[str]:
    """The variables in the order of the text: the body's, then the head's own."""
    return list(dict.fromkeys(v.name for part in (*rule.body, *rule.head, *rule.conditions) for v in part.variables))


def parts_of(rule: Rule, weighted: bool = False) -> list[Part]:
    """The rule's text in pieces, with its weight or without."""
    numbers = {name: i for i, name in enumerate(variables_of(rule))}
    pieces = [Part(f"{rule.weight:g} :: ")] if weighted and rule.weight is not None else []
    for parts, lead in ((rule.head, ""), ((*rule.body, *rule.conditions), " :- ")):
        for i, part in enumerate(parts):
            gap = lead if i == 0 else ", "
            if gap:
                pieces.append(Part(gap))
            pieces.append(Part(str(part), tuple(numbers[v.name] for v in part.variables if v.name in numbers), True))
    return [*pieces, Part(".")]


def films_of(supporting: Sequence[str], refuting: Sequence[str], counts: tuple[int, int] | None = None) -> Films:
    """Films to show; `counts` are those against and for, where more are known of than are listed."""
    against, for_count = counts or (len(refuting), len(supporting))
    return Films(tuple(refuting[:FILMS]), tuple(supporting[:FILMS]), against, for_count)


def film_view(rule: Rule, evidence: Evidence, films: Films, film: str, side: Side, case: int | None) -> FilmView:
    """One film with a case on it: the one that is asked for, else the first of the side.

    Raises:
        ReviewError: no such film.
    """
    scene = evidence.scene(film)
    try:
        cases = tuple(evidence.cases(rule, film))
    except NeurosymError:
        cases = ()  # a rule that cannot be measured, of which the page says so
    if case is None or not 0 <= case < len(cases):
        case = next((i for i, c in enumerate(cases) if c.holds == (side == "for")), 0 if cases else -1)
    variables = variables_of(rule)
    binding = cases[case].binding if case >= 0 else {}
    bound = {position(entity, film): variables.index(name) for name, entity in binding.items()}
    ontology = evidence.knowledge.ontology
    drawn = []
    seen = evidence.objects(film)
    for group in objects_among(seen, evidence.multi_label):
        labels, number = [seen[i] for i in group], group[0]
        variable = bound.get(number, -1)
        outline = next((mask_path(d.mask) for d in labels if d.mask is not None), "")
        box = labels[0].box
        place = (box.x1, box.y1, max(box.width, 0.0), max(box.height, 0.0))
        letter = variables[variable] if variable >= 0 else ""
        named = _named([d.name for d in labels], rule, letter, ontology)
        label = ", ".join(_label(name, ontology) for name in named)
        caption = ", ".join(_label(d.name, ontology) + (f" {d.score:.2f}" if d.score < 1 else "") for d in labels)
        drawn.append(Drawn(number, label, caption, *place, outline, variable, letter))
    order = list(films.against if side == "against" else films.for_it)
    here = order.index(film) if film in order else -1
    return FilmView(
        film,
        side,
        scene.width,
        scene.height,
        tuple(sorted(drawn, key=lambda o: (o.variable >= 0, -o.width * o.height))),
        cases,
        case,
        _sentence(rule, cases, case, {o.number: o for o in drawn}, film),
        tuple(_label(name, ontology) for name in scene.labels),
        order[here - 1] if here > 0 else "",
        order[here + 1] if 0 <= here < len(order) - 1 else "",
    )


def _named(names: Sequence[str], rule: Rule, variable: str, ontology: Ontology) -> Sequence[str]:
    """Of an object's classes those that the rule's body asks of a variable, or all if it asks for none."""
    asked = [a.predicate for a in rule.body if a.args == (Term(variable),)]
    return [name for name in names if any(ontology.is_a(name, c) for c in asked)] or names


def _sentence(rule: Rule, cases: Sequence[Case], case: int, objects: dict[int, Drawn], film: str) -> str:
    if case < 0:
        return "The body of the rule holds nowhere on this film."
    found = cases[case]
    bound = []
    for name, entity in found.binding.items():
        number = position(entity, film)
        bound.append(f"{name} is the film" if number is None else f"{name} is the {objects[number].label}")
    what = ", ".join(bound) or "the film as a whole"
    head = " and ".join(map(str, rule.head))
    many = len(rule.head) > 1
    if found.holds:
        return f"{what}: {head} {'hold' if many else 'holds'}."
    if rule.existential:
        return f"{what}, but there is no {', '.join(map(str, rule.existential))} such that {head}."
    return f"{what}, but {head} {'do' if many else 'does'} not hold."


def _label(name: str, ontology: Ontology) -> str:
    known = ontology.classes.get(name)
    return known.label if known is not None and known.label.strip() else name.replace("_", " ")
