"""An abnormality graph in words: templates of a YAML file, filled in; each sentence keeps what it rests on.

The second half of KERP (Li et al., AAAI 2019) retrieves templates by the graph and lets a network paraphrase them. Here they
are filled in and nothing else, so that the same graph gives the same text, and a sentence says no more than the graph holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from string import Formatter
from typing import Any, Final, Literal

import yaml

from neurosym.data.yaml_text import parse_yaml
from neurosym.errors import ConfigError, Problem, did_you_mean, short_path
from neurosym.knowledge.geometry import SIDES, SIZES, ZONES
from neurosym.review.findings import CONTACTS, Edge, Evidence, FilmFindings, Finding, Ratio, RuleEvidence

Kind = Literal[
    "present", "counted", "absent", "study_present", "study_absent", "related", "quantity", "supported", "broken"
]
DEFAULT: Final = Path(__file__).parent / "templates" / "findings.en.yaml"
FIELDS: Final[dict[str, dict[str, frozenset[str]]]] = {
    "sentences": {
        "present": frozenset({"Label", "label", "number", "certainty", "score", "place"}),
        "counted": frozenset({"Label", "label", "count", "low", "high", "sizes"}),
        "absent": frozenset({"Label", "label", "best"}),
        "study_present": frozenset({"Label", "label", "certainty", "score"}),
        "study_absent": frozenset({"Label", "label", "certainty", "score"}),
        "related": frozenset({"Label", "label", "number", "relation", "other", "other_number"}),
        "quantity": frozenset({"Label", "label", "value"}),
        "supported": frozenset({"rule", "weight", "times", "reading"}),
        "broken": frozenset({"rule", "weight", "objects", "reading"}),
    },
    "phrases": {
        "best": frozenset({"score"}),
        "place": frozenset({"parts"}),
        "zone_of_frame": frozenset({"zone", "frame"}),
        "seen_there": frozenset({"regions"}),
        "or": frozenset(),
        "in_frame": frozenset({"frame"}),
        "outside_frame": frozenset({"frame"}),
        "sizes": frozenset({"parts"}),
        "size_count": frozenset({"count", "size"}),
        "object": frozenset({"label", "number"}),
        "film": frozenset(),
        "times": frozenset({"count"}),
        "hard": frozenset(),
        "nothing": frozenset(),
    },
    "headings": dict.fromkeys(("film", "quantities", "rules"), frozenset()),
    "relations": dict.fromkeys(CONTACTS, frozenset()),
    "places": dict.fromkeys((*ZONES, *SIDES, *SIZES), frozenset()),
}
"""Every template, and what may stand in its braces."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence and what it rests on: detections by index, rules by id with their weights (None: hard).

    The rules of a finding that is present are those about it that hold; broken ones have sentences of their own. `about` are
    the classes, labels or quantities that it speaks of; `group` is the heading that it belongs under.
    """

    kind: Kind
    text: str
    group: str
    about: tuple[str, ...]
    detections: tuple[int, ...] = ()
    rules: tuple[str, ...] = ()
    weights: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Templates:
    """The words of one language; `certainty` are (least probability, word), the highest first."""

    language: str
    certainty: tuple[tuple[float, str], ...]
    list_at_most: int
    words: Mapping[str, Mapping[str, str]]
    ratios: tuple[Ratio, ...] = ()

    def fill(self, section: str, name: str, **fields: object) -> str:
        """A template with its braces filled in."""
        return self.words[section][name].format(**fields)

    def certain(self, probability: float) -> str:
        """The word for a probability."""
        return next(word for least, word in self.certainty if probability >= least)


def load_templates(path: Path = DEFAULT) -> Templates:
    """Read a file of templates.

    Raises:
        ConfigError: every mistake in it: what is missing, unknown, or stands in braces where it cannot be filled in.
    """
    shown = short_path(path)
    try:
        value = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(Problem(f"cannot be read: {error}", shown)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise ConfigError(Problem("not YAML", shown, *place)) from error
    problems = list(_problems(value, shown))
    if problems:
        raise ConfigError(problems)
    bands = sorted(((float(b["least"]), b["word"]) for b in value["certainty"]), reverse=True)
    quantities = (value.get("quantities") or {}).items()
    ratios = (Ratio(name, r["label"], r["part"], tuple(r["whole"])) for name, r in quantities)
    words = {section: dict(value[section]) for section in FIELDS}
    return Templates(str(value["language"]), tuple(bands), value["list_at_most"], words, tuple(ratios))


def _problems(value: Any, file: str) -> Iterator[Problem]:
    known = {"language", "certainty", "list_at_most", "quantities", *FIELDS}
    if not isinstance(value, dict):
        yield Problem(f"expected the keys {', '.join(sorted(known))}", file)
        return
    for key in sorted(map(str, value.keys() - known)):
        yield Problem(f"unknown key {key!r}", file, cure=did_you_mean(key, known))
    for key in sorted(known - {"quantities"} - value.keys()):
        yield Problem(f"{key!r} is missing", file)
    for section in FIELDS.keys() & value.keys():
        yield from _section_problems(section, value[section], file)
    most = value.get("list_at_most", 0)
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        yield Problem(f"list_at_most: expected a whole number from 0, found {most!r}", file)
    bands = value.get("certainty", [])
    if not (isinstance(bands, list) and all(_is_band(b) for b in bands)):
        yield Problem("certainty: expected a list of {least: number from 0 to 1, word: text}", file)
    elif "certainty" in value and 0.0 not in [b["least"] for b in bands]:
        yield Problem("certainty: no word for a probability of 0", file, cure="add a line with `least: 0`")
    for name, ratio in _items(value.get("quantities")):
        if not (isinstance(ratio, dict) and ratio.keys() == {"label", "part", "whole"} and ratio["whole"]):
            yield Problem(f"quantities.{name}: expected label, part (a class) and whole (a list of classes)", file)


def _section_problems(section: str, found: Any, file: str) -> Iterator[Problem]:
    templates = FIELDS[section]
    if not isinstance(found, dict):
        yield Problem(f"{section}: expected one line for each of {', '.join(templates)}", file)
        return
    for name in sorted(map(str, found.keys() - templates.keys())):
        yield Problem(f"{section}.{name}: unknown template", file, cure=did_you_mean(name, templates))
    for name, fields in templates.items():
        text = found.get(name)
        if not isinstance(text, str):
            yield Problem(f"{section}.{name}: expected text, found {text!r}", file)
            continue
        try:
            asked = [field for _, field, _, _ in Formatter().parse(text) if field is not None]
        except ValueError as error:
            yield Problem(f"{section}.{name}: {error}", file)
            continue
        for field in asked:
            if field not in fields:
                cure = did_you_mean(field, fields) if fields else "nothing is filled in here"
                yield Problem(f"{section}.{name}: {{{field}}} is not known", file, cure=cure)


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _is_band(band: Any) -> bool:
    return (
        isinstance(band, dict)
        and band.keys() == {"least", "word"}
        and isinstance(band["least"], int | float)
        and 0 <= band["least"] <= 1
        and isinstance(band["word"], str)
    )


def sentences_of(film: FilmFindings, templates: Templates) -> tuple[Sentence, ...]:
    """What a graph says, group by group: findings with their relations, then the film as a whole, quantities, and rules."""
    return tuple(_Writer(film, templates).write())


class _Writer:
    def __init__(self, film: FilmFindings, templates: Templates) -> None:
        self.film, self.templates, self.names = film, templates, film.names
        self.organs = {f.group for f in film.findings if f.is_frame}

    def write(self) -> Iterator[Sentence]:
        t = self.templates
        if not self.film.findings and not self.film.labels:
            yield Sentence("absent", t.fill("phrases", "nothing"), "", ())
        for finding in self.film.findings:
            yield from self._finding(finding)
        for label in self.film.labels:
            fields = {"certainty": t.certain(label.probability), "score": _number(label.probability)}
            kind: Kind = "study_present" if label.present else "study_absent"
            text = t.fill("sentences", kind, label=label.label, Label=_capital(label.label), **fields)
            yield Sentence(kind, text, t.words["headings"]["film"], (label.name,))
        for q in self.film.quantities:
            text = t.fill("sentences", "quantity", label=q.label, Label=_capital(q.label), value=_number(q.value))
            yield Sentence("quantity", text, t.words["headings"]["quantities"], (q.name,), q.detections)
        yield from self._rules()

    def _finding(self, finding: Finding) -> Iterator[Sentence]:
        t, group = self.templates, finding.group_label
        names = {"label": finding.label, "Label": _capital(finding.label)}
        scores = [e.probability for e in finding.evidence]
        if not finding.present:
            score = _number(floor(100 * finding.probability) / 100)  # never rounded up to the threshold
            best = t.fill("phrases", "best", score=score) if finding.probability > 0 else ""
            yield Sentence("absent", t.fill("sentences", "absent", best=best, **names), group, (finding.name,))
            return
        if finding.count > t.list_at_most:
            counts = Counter(t.words["places"][e.size] for e in finding.evidence if e.size)
            parts = [t.fill("phrases", "size_count", count=n, size=size) for size, n in counts.most_common()]
            sizes = t.fill("phrases", "sizes", parts=", ".join(parts)) if parts else ""
            numbers = {"count": finding.count, "low": _number(min(scores)), "high": _number(max(scores))}
            text = t.fill("sentences", "counted", sizes=sizes, **numbers, **names)
            yield Sentence("counted", text, group, (finding.name,), tuple(e.detection for e in finding.evidence))
            return
        for e in finding.evidence:
            fields = {"certainty": t.certain(e.probability), "score": _number(e.probability), "number": e.detection}
            place, frame = self._place(finding, e)
            text = t.fill("sentences", "present", place=place, **fields, **names)
            ids, weights = self._support(e.detection)
            yield Sentence("present", text, group, (finding.name,), (e.detection, *frame), ids, weights)
            for edge in self.film.edges:
                if edge.subject == e.detection and self._is_told(edge, e):
                    yield self._related(finding, edge)

    def _support(self, detection: int) -> tuple[tuple[str, ...], tuple[float | None, ...]]:
        """The rules about a detection that hold, wherever they fired for it, and their weights."""
        mine = [r for r in self.film.rules if detection in r.detections]
        broken = {r.id for r in mine if not r.holds}
        held = {r.id: r.weight for r in mine if r.id not in broken}
        return tuple(held), tuple(held.values())

    def _is_told(self, edge: Edge, evidence: Evidence) -> bool:
        """An edge is said of findings: not between organs, and not again where its place says it."""
        subject, other = self.names[edge.subject], self.names[edge.object]
        if subject.group in self.organs and other.group in self.organs:
            return False
        return not (evidence.within and edge.object == evidence.frame)

    def _related(self, finding: Finding, edge: Edge) -> Sentence:
        t, other = self.templates, self.names[edge.object]
        relation = t.words["relations"].get(edge.relation, edge.label)
        names = {"label": finding.label, "Label": _capital(finding.label), "other": other.label}
        numbers = {"number": edge.subject, "other_number": edge.object}
        text = t.fill("sentences", "related", relation=relation, **names, **numbers)
        return Sentence("related", text, finding.group_label, (finding.name, other.name), (edge.subject, edge.object))

    def _place(self, finding: Finding, e: Evidence) -> tuple[str, tuple[int, ...]]:
        """Where a detection lies, and the frame that says so; organs are not placed within one another."""
        t, words = self.templates, self.templates.words["places"]
        parts = [words[e.size]] if e.size else []
        is_placed = e.frame is not None and finding.group not in self.organs
        if is_placed and e.frame is not None:
            frame = self.names[e.frame].label
            if not e.within:
                parts.append(t.fill("phrases", "outside_frame", frame=frame))
            elif e.zone:
                parts.append(t.fill("phrases", "zone_of_frame", zone=words[e.zone], frame=frame))
            else:
                parts.append(t.fill("phrases", "in_frame", frame=frame))
            if e.regions:
                parts.append(t.fill("phrases", "seen_there", regions=t.fill("phrases", "or").join(e.region_labels)))
            if e.within and e.side:
                parts.append(words[e.side])
        place = t.fill("phrases", "place", parts=", ".join(parts)) if parts else ""
        return place, (e.frame,) if is_placed and e.frame is not None else ()

    def _rules(self) -> Iterator[Sentence]:
        """A sentence for each place where a rule is broken, then one for each rule that holds wherever it fired."""
        t = self.templates
        broken = [r for r in self.film.rules if not r.holds]
        for r in broken:
            objects = ", ".join(
                t.fill("phrases", "object", label=self.names[i].label, number=i)
                for i in r.detections
                if i in self.names
            )
            text = self._fill_rule("broken", r, objects=objects or t.fill("phrases", "film"))
            yield self._of_rules("broken", text, [r])
        by_id: dict[str, list[RuleEvidence]] = {}
        for r in self.film.rules:
            by_id.setdefault(r.id, []).append(r)
        for several in by_id.values():
            if all(r.holds for r in several):
                times = t.fill("phrases", "times", count=len(several)) if len(several) > 1 else ""
                yield self._of_rules("supported", self._fill_rule("supported", several[0], times=times), several)

    def _fill_rule(self, kind: Kind, rule: RuleEvidence, **fields: str) -> str:
        weight = self.templates.fill("phrases", "hard") if rule.weight is None else f"{rule.weight:.3g}"
        return self.templates.fill("sentences", kind, rule=rule.id, weight=weight, reading=rule.reading, **fields)

    def _of_rules(self, kind: Kind, text: str, rules: Sequence[RuleEvidence]) -> Sentence:
        seen = dict.fromkeys(i for r in rules for i in (*r.detections, *r.witnesses))
        about = tuple(dict.fromkeys(self.names[i].name for i in seen if i in self.names))
        group = self.templates.words["headings"]["rules"]
        return Sentence(kind, text, group, about, tuple(seen), (rules[0].id,), (rules[0].weight,))


def _number(value: float) -> str:
    return f"{value:.2f}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
