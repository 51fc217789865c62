"""The graph as one HTML file that needs nothing else: cytoscape.js, the style and the data are inside, and a content security
policy (Content Security Policy Level 3) lets run those scripts alone, by their hashes, and fetches nothing.

The data are JSON in a script element of their own, in which `<` is escaped, and reach the page as text only, so that no label
of an ontology can become markup. A definition is cut short where the page would else exceed `MOST_BYTES`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

from neurosym.errors import KnowledgeError, Problem
from neurosym.knowledge.files import write_text_atomically
from neurosym.knowledge.views.graph import KINDS, ClassNode, Graph

MOST_BYTES: Final = 8_000_000
"""The greatest size of a page."""

_EDGE_KINDS: Final = ("subclass", "disjoint", "axiom", "body", "head", "negated")


def write_page(path: Path, graph: Graph, title: str) -> None:
    """Write the graph as a self-contained HTML page.

    Raises:
        KnowledgeError: the graph is too big for a page of `MOST_BYTES`.
    """
    write_text_atomically(Path(path), page_text(graph, title))


def page_text(graph: Graph, title: str) -> str:
    """The page (see `write_page`)."""
    for longest in (100_000, 400, 120, 0):
        text = _page(_data(graph, longest), graph.view, title)
        if len(text.encode()) <= MOST_BYTES:
            return text
    message = f"{len(graph.classes)} classes and {len(graph.rules)} rules are too many for one page"
    raise KnowledgeError(Problem(message, cure="show a part: --around CLASS --depth 2"))


def _page(data: dict[str, Any], view: str, title: str) -> str:
    scripts = [_static("cytoscape.min.js"), _static("page.js"), _static(f"{view}.js")]
    style = _static("page.css")
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; style-src {_hash(style)}; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "title": html.escape(title),
        "policy": html.escape(policy, quote=False),
        "style": style,
        "view": view,
        "data": _json(data),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _static("page.html"))


@cache
def _static(name: str) -> str:
    return (Path(__file__).parent / "static" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _data(graph: Graph, longest: int) -> dict[str, Any]:
    """The graph with numbers for names, as short as JSON allows; page.js reads it."""
    classes = {c.name: i for i, c in enumerate(graph.classes)}
    ends = classes if graph.view == "ontology" else {r.key: i for i, r in enumerate(graph.rules)}
    prefixes = {p: i for i, p in enumerate(sorted({_split(c.iri)[0] for c in graph.classes}))}
    return {
        "view": graph.view,
        "kinds": KINDS,
        "edgeKinds": _EDGE_KINDS,
        "prefixes": list(prefixes),
        "classes": [_class(c, prefixes, longest) for c in graph.classes],
        "edges": [
            [ends[e.source], classes[e.target], _EDGE_KINDS.index(e.kind), e.label, _number(e.weight)]
            if e.label or e.weight is not None
            else [ends[e.source], classes[e.target], _EDGE_KINDS.index(e.kind)]
            for e in graph.edges
        ],
        "rules": [
            [r.id, r.text, r.kind, _number(r.weight), r.status, r.source, r.place]
            + [[classes[name] for name in r.classes if name in classes]]
            for r in graph.rules
        ],
        "relations": [[r.name, r.label, r.facts] for r in graph.relations],
    }


def _class(node: ClassNode, prefixes: dict[str, int], longest: int) -> list[Any]:
    prefix, local = _split(node.iri)
    text = node.definition if len(node.definition) <= longest else node.definition[:longest] + "…"
    return [node.name, node.label, prefixes[prefix], local, text, list(node.ties)]


def _split(iri: str) -> tuple[str, str]:
    """An IRI as a prefix that many share, and the rest."""
    cut = max(iri.rfind(mark) for mark in "#/_:") + 1
    return iri[:cut], iri[cut:]


def _number(weight: float | None) -> float | None:
    return None if weight is None else round(weight, 6)
