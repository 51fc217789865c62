"""``owl:imports`` → a file of this disk, through ``catalog-v001.xml`` as Protégé writes it (OASIS XML Catalogs 1.1: ``uri``,
``group`` and ``xml:base``, ``nextCatalog``). What a catalog maps to the network counts as not on this disk.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import ParseResult, unquote, urlparse

from neurosym.errors import OntologyError, Problem, short_path
from neurosym.knowledge.safe_xml import check_xml

CATALOG = "catalog-v001.xml"
_NS = "{urn:oasis:names:tc:entity:xmlns:xml:catalog}"
_BASE = "{http://www.w3.org/XML/1998/namespace}base"


def catalog_file(iri: str, folder: Path) -> Path | None:
    """The file that a folder's catalog maps an ontology IRI to; None if it is silent about it.

    Raises:
        OntologyError: a broken catalog, or one that maps the IRI to what is no file of this disk.
    """
    return _look_up(iri, folder / CATALOG, set()) if (folder / CATALOG).exists() else None


def _look_up(iri: str, catalog: Path, seen: set[Path]) -> Path | None:
    if catalog.resolve() in seen:
        return None
    seen.add(catalog.resolve())
    text = _read(catalog)
    check_xml(text, short_path(catalog))
    further: list[str] = []
    found = _find(iri, ET.fromstring(text), "", further)  # noqa: S314  (checked the line before)  # nosec B314
    if found is not None:
        return _on_this_disk(found, catalog, f"maps <{iri}> to", text)
    for each in further:
        target = _look_up(iri, _on_this_disk(each, catalog, "goes on in", text), seen)
        if target is not None:
            return target
    return None


def _read(catalog: Path) -> str:
    try:
        return catalog.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise OntologyError(Problem(f"catalog cannot be read: {error.strerror}", short_path(catalog))) from error
    except UnicodeDecodeError as error:
        raise OntologyError(
            Problem("catalog is not UTF-8 text", short_path(catalog), cure="save it as UTF-8")
        ) from error


def _find(iri: str, element: ET.Element, base: str, further: list[str]) -> str | None:
    """The address of the first entry for the IRI; `further` takes the catalogs that are named on the way."""
    base = _joined(base, element.get(_BASE, ""))
    for child in element:
        if child.tag == f"{_NS}uri" and child.get("name") == iri:
            return _joined(_joined(base, child.get(_BASE, "")), child.get("uri", ""))
        if child.tag == f"{_NS}nextCatalog":
            further.append(_joined(base, child.get("catalog", "")))
        if child.tag == f"{_NS}group":
            found = _find(iri, child, base, further)
            if found is not None:
                return found
    return None


def _parts(address: str) -> ParseResult | None:
    try:
        return urlparse(address)
    except ValueError:  # a bracket that stays open, say
        return None


def _joined(base: str, address: str) -> str:
    parts = _parts(address)
    if not base or parts is None or parts.scheme or address.startswith("/"):
        return address
    return f"{base.rpartition('/')[0]}/{address}" if "/" in base else address


def _on_this_disk(address: str, catalog: Path, verb: str, text: str) -> Path:
    parts = _parts(address)
    name = address.rpartition("/")[2]
    at = text.find(name) if name else -1
    line = text.count("\n", 0, at) + 1 if at >= 0 else 0
    if parts is None:
        reason, cure = "is no address", "name a local file"
    elif parts.scheme not in {"", "file"} or parts.netloc not in {"", "localhost"}:
        reason, cure = "is not on this disk", "name a local file (nothing is fetched from the network)"
    else:
        target = catalog.parent / unquote(parts.path)
        if target.is_file():
            return target
        reason, cure = ("is a folder, not a file" if target.is_dir() else "does not exist"), ""
    raise OntologyError(Problem(f"catalog {verb} {address!r}, which {reason}", short_path(catalog), line, cure=cure))
