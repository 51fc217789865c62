"""How alike two classes are by what lies above them: kernels that a label graph weighs its edges with.

A label c is taken with all its superclasses, U(c) = {c} ∪ ancestors(c); two labels are alike as far as these sets are. What a
shared superclass a tells is its information content among the n classes that a model tells apart (Resnik, IJCAI 1995, with
each class as frequent as any other):

    I(a) = −log(share of the n classes that lie in a) / log n      0: all of them do; 1: a is one of them and has no other below

    identity   [c = d]
    jaccard    |U(c) ∩ U(d)| / |U(c) ∪ U(d)|
    gic        Σ I over U(c) ∩ U(d) / Σ I over U(c) ∪ U(d)           (simGIC, Pesquita et al., BMC Bioinformatics 2008)
    lin        2 max I over U(c) ∩ U(d) / (I(c) + I(d))              (Lin, ICML 1998)

Counting over the model's own classes is ours: what the ontology says of other things does not change the kernel, and a class
above all of them, which tells nothing, makes nothing alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from neurosym.errors import ConfigError, Problem, did_you_mean
from neurosym.knowledge.ontology import Ontology

Content = Callable[[str], float]


def class_similarity(ontology: Ontology, names: Sequence[str], kernel: str = "lin") -> tuple[tuple[float, ...], ...]:
    """The matrix K of a kernel over classes: symmetric, in [0, 1], 1 on the diagonal.

    Args:
        ontology: says what lies above what, told or entailed.
        names: the classes, in the order of rows and columns.
        kernel: one of `KERNELS`.

    Raises:
        ConfigError: an unknown kernel, or a name that is no class of the ontology.
    """
    if kernel not in KERNELS:
        raise ConfigError(f"unknown kernel {kernel!r} of classes; {did_you_mean(kernel, KERNELS)}")
    unknown = [n for n in names if n not in ontology.classes]
    if unknown:
        known = (did_you_mean(n, ontology.classes, ontology.where) for n in unknown)
        raise ConfigError(
            [Problem(f"{n!r} is no class of the ontology", cure=c) for n, c in zip(unknown, known, strict=True)]
        )
    above = {name: ontology.ancestors(name) | {name} for name in names}
    content = _content(above)
    alike = KERNELS[kernel]
    return tuple(tuple(1.0 if c == d else alike(above[c], above[d], c, d, content) for d in names) for c in names)


def _content(above: dict[str, frozenset[str]]) -> Content:
    """I(a) by counting in which of the classes' ancestors a is."""
    below: dict[str, int] = {}
    for classes in above.values():
        for a in classes:
            below[a] = below.get(a, 0) + 1
    most = math.log(max(2, len(above)))
    return lambda a: math.log(len(above) / below[a]) / most


def _identity(one: frozenset[str], other: frozenset[str], c: str, d: str, content: Content) -> float:
    return 0.0


def _jaccard(one: frozenset[str], other: frozenset[str], c: str, d: str, content: Content) -> float:
    return len(one & other) / len(one | other)


def _gic(one: frozenset[str], other: frozenset[str], c: str, d: str, content: Content) -> float:
    # in a fixed order, so that both triangles of the matrix round alike
    total = math.fsum(map(content, sorted(one | other)))
    return math.fsum(map(content, sorted(one & other))) / total if total > 0 else 0.0


def _lin(one: frozenset[str], other: frozenset[str], c: str, d: str, content: Content) -> float:
    total = content(c) + content(d)
    return min(1.0, 2.0 * max(map(content, one & other), default=0.0) / total) if total > 0 else 0.0


KERNELS: dict[str, Callable[[frozenset[str], frozenset[str], str, str, Content], float]] = {
    "identity": _identity,
    "jaccard": _jaccard,
    "gic": _gic,
    "lin": _lin,
}
