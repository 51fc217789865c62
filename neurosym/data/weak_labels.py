"""Labels of whole films that contradict what is annotated on them, told before training meets them.

With A the classes of a film's annotations, and c ⊑ d where the ontology puts c below d, a film is contradictory if

- a class d is said to be absent, and an annotation's class c ⊑ d;
- a class d is said to be present, every class of the data below it is completely annotated, and none is in A;
- a class d is said to be absent, and a label or a tag says that some c ⊑ d is present;
- two of its labels are of the study and disjoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from neurosym.data.images import ImageEntry, ImageSet
from neurosym.data.pool import Joined
from neurosym.data.shards import ShardSet
from neurosym.data.supervision import OUTLINED, SupervisedSamples
from neurosym.errors import Problem
from neurosym.knowledge.ontology import Ontology
from neurosym.records import Sample

STUDY = "study"


def contradictions(film: Sample | ImageEntry, names: Sequence[str], ontology: Ontology) -> list[Problem]:
    """What one film's labels say against its annotations, or against each other; `names` are the classes of the data."""
    boxed = {a.name for a in film.annotations}
    complete = set(names) if film.complete is None else film.complete
    present = film.labels | {c for c, _ in film.tags}
    messages = []
    for d in sorted(film.absent):
        messages += [
            f"{d!r} is labelled absent, but a {c!r} is annotated" for c in sorted(boxed) if ontology.is_a(c, d)
        ]
        messages += [f"{d!r} is labelled absent, but {c!r} present" for c in sorted(present) if _is_a(c, d, ontology)]
    for d in sorted(present):
        below = [n for n in names if ontology.is_a(n, d)]
        if below and set(below) <= complete and not boxed & set(below):
            kinds = f"; every {', '.join(below)} of the film is said to be" if below != [d] else ""
            messages.append(f"{d!r} is labelled present, but none is annotated{kinds}")
    study = [c for c in sorted(film.labels) if _is_a(c, STUDY, ontology)]
    messages += [
        f"labels {a!r} and {b!r} are disjoint" for a, b in combinations(study, 2) if ontology.are_disjoint(a, b)
    ]
    cure = "correct the label or the annotation, or set weak.problems: report"
    return [Problem(f"image label contradicts: {m}", film.image_id, cure=cure) for m in messages]


def contradictory_films(samples: Sequence[Sample], names: Sequence[str], ontology: Ontology) -> list[Problem]:
    """The contradictions of a split that was read from files; generated films have none, nor what is drawn from a truth."""
    if isinstance(samples, Joined):
        return [problem for part in samples.parts for problem in contradictory_films(part, names, ontology)]
    if isinstance(samples, SupervisedSamples):
        samples = samples.source
    films: Iterable[ImageEntry] = samples.entries if isinstance(samples, ImageSet) else ()
    if isinstance(samples, ShardSet):
        films = map(samples.entry, range(len(samples)))
    return [problem for film in films for problem in contradictions(film, names, ontology)]


def says_weakly(film: Sample | ImageEntry) -> bool:
    """Whether something is said of a film beside boxes and masks of all its objects."""
    return film.complete is not None or any(a.drawn for a in film.annotations)


def has_weak_films(samples: Sequence[Sample]) -> bool:
    """Whether any film of a split is weakly annotated, as far as its files or its config say."""
    if isinstance(samples, Joined):
        return any(map(has_weak_films, samples.parts))
    if isinstance(samples, SupervisedSamples):
        return any(set(samples.kinds(i).values()) - OUTLINED for i in range(len(samples)))
    if isinstance(samples, ShardSet):
        return samples.shards.header.weak and any(says_weakly(samples.entry(i)) for i in range(len(samples)))
    return isinstance(samples, ImageSet) and any(map(says_weakly, samples.entries))


def _is_a(name: str, ancestor: str, ontology: Ontology) -> bool:
    return name in ontology.classes and ontology.is_a(name, ancestor)
