"""Imports and catalogs that are wrong, and what is said about each (see `broken_ontologies`)."""

from __future__ import annotations

from tests.knowledge.broken_ontologies import PREFIXES, Broken, laughs

CATALOG = '<catalog xmlns="urn:oasis:names:tc:entity:xmlns:xml:catalog">\n{}\n</catalog>'
IMPORTS = PREFIXES + "<http://x.org/> a owl:Ontology ;\n  owl:imports <http://x.org/base> ."


def mapping(target: str) -> str:
    """A catalog that maps the base ontology."""
    return CATALOG.format(f'<uri name="http://x.org/base" uri="{target}"/>')


CASES = (
    Broken(
        "an import that is not there",
        {"x.ttl": IMPORTS},
        "{dir}/x.ttl:4: owl:imports <http://x.org/base> is not on this disk; "
        "put its file beside this one, or map it in {dir}/catalog-v001.xml (nothing is fetched from the network)",
    ),
    Broken(
        "two imports that are not there",
        {"x.ttl": IMPORTS[:-1] + ",\n <http://x.org/more> ."},
        (
            "{dir}/x.ttl:4: owl:imports <http://x.org/base> is not on this disk; "
            "put its file beside this one, or map it in {dir}/catalog-v001.xml (nothing is fetched from the network)\n"
            "{dir}/x.ttl:5: owl:imports <http://x.org/more> is not on this disk; "
            "put its file beside this one, or map it in {dir}/catalog-v001.xml (nothing is fetched from the network)"
        ),
    ),
    Broken(
        "an import of a broken file",
        {"x.ttl": IMPORTS, "base.ttl": "<http://x.org/base> a ex:Ontology ."},
        (
            "{dir}/x.ttl:4: owl:imports <http://x.org/base> is not on this disk; "
            "put its file beside this one, or map it in {dir}/catalog-v001.xml (nothing is fetched from the network)\n"
            "{dir}/base.ttl:1:23: Turtle syntax: The prefix ex: has not been declared, found 'ex:Ontology "
            ".'; declare the prefix at the top of the file"
        ),
    ),
    Broken(
        "a circle of imports",
        {"x.ttl": IMPORTS, "base.ttl": PREFIXES + "<http://x.org/base> a owl:Ontology ; owl:imports <http://x.org/> ."},
        "{dir}/base.ttl:1: cyclic owl:imports: x.ttl → base.ttl → x.ttl; remove one of these imports",
    ),
    Broken(
        "a file that imports itself",
        {"x.ttl": IMPORTS, "catalog-v001.xml": mapping("x.ttl")},
        "{dir}/x.ttl:4: cyclic owl:imports: x.ttl → x.ttl; remove one of these imports",
    ),
    Broken(
        "a catalog that is no XML",
        {"x.ttl": IMPORTS, "catalog-v001.xml": "<catalog>\n<uri>"},
        "{dir}/catalog-v001.xml:2:6: XML: the file ends too early; <uri> of line 2 is still open",
    ),
    Broken(
        "a catalog with growing entities",
        {"x.ttl": IMPORTS, "catalog-v001.xml": laughs("<catalog>&l9;</catalog>")},
        "{dir}/catalog-v001.xml:4:13: the XML entity 'l1' is nested or long; "
        'only short names such as <!ENTITY owl "http://www.w3.org/2002/07/owl#"> may be declared',
    ),
    Broken(
        "a catalog that is not UTF-8",
        {"x.ttl": IMPORTS, "catalog-v001.xml": b"<catalog>\xff</catalog>"},
        "{dir}/catalog-v001.xml: catalog is not UTF-8 text; save it as UTF-8",
    ),
    Broken(
        "a catalog that maps to a missing file",
        {"x.ttl": IMPORTS, "catalog-v001.xml": mapping("gone.ttl")},
        "{dir}/catalog-v001.xml:2: catalog maps <http://x.org/base> to 'gone.ttl', which does not exist",
    ),
    Broken(
        "a catalog that maps to a folder",
        {"x.ttl": IMPORTS, "folder/a.txt": "", "catalog-v001.xml": mapping("folder")},
        "{dir}/catalog-v001.xml:2: catalog maps <http://x.org/base> to 'folder', which is a folder, not a file",
    ),
    Broken(
        "a catalog that maps to the network",
        {"x.ttl": IMPORTS, "catalog-v001.xml": mapping("https://x.org/base.owl")},
        "{dir}/catalog-v001.xml:2: catalog maps <http://x.org/base> to 'https://x.org/base.owl', which "
        "is not on this disk; name a local file (nothing is fetched from the network)",
    ),
    Broken(
        "a catalog that maps to no address",
        {"x.ttl": IMPORTS, "catalog-v001.xml": mapping("http://[server/base.owl")},
        "{dir}/catalog-v001.xml:2: catalog maps <http://x.org/base> to 'http://[server/base.owl', which "
        "is no address; name a local file",
    ),
    Broken(
        "a catalog that maps to another host",
        {"x.ttl": IMPORTS, "catalog-v001.xml": mapping("file://server/base.owl")},
        "{dir}/catalog-v001.xml:2: catalog maps <http://x.org/base> to 'file://server/base.owl', which "
        "is not on this disk; name a local file (nothing is fetched from the network)",
    ),
)
