from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurosym.errors import OntologyError
from neurosym.knowledge.rdf import FORMATS, read_sources
from neurosym.knowledge.triples import OWL, is_blank
from tests.knowledge import broken_imports, broken_ontologies
from tests.knowledge.broken_ontologies import PREFIXES, Broken
from tests.knowledge.small_ontology import FUNCTIONAL, OBO_TEXT, in_every_syntax, write

CASES = (*broken_ontologies.CASES, *broken_imports.CASES)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_broken_file_is_named_with_its_line_and_its_cure(case: Broken, tmp_path: Path) -> None:
    path = write(tmp_path, case.files)
    before = contents(tmp_path)
    with pytest.raises(OntologyError) as error:
        read_sources([path])
    assert str(error.value).replace(str(tmp_path.resolve()), "{dir}") == case.message
    assert contents(tmp_path) == before


def test_a_missing_file_a_folder_and_a_pipe_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.ttl").mkdir()
    os.mkfifo(tmp_path / "pipe.ttl")
    names = ["gone.ttl", "folder.ttl", "pipe.ttl"]
    with pytest.raises(OntologyError) as error:
        read_sources(tmp_path / name for name in names)
    expected = ["cannot be read: No such file or directory", "is a folder, expected a file", "is no ordinary file"]
    assert [str(p).partition(".ttl: ")[2] for p in error.value.problems] == expected


def test_a_file_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, {"x.ttl": PREFIXES})

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(OntologyError, match=r"x\.ttl: cannot be read: Permission denied"):
        read_sources([path])


def test_a_gigantic_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "x.ttl").open("wb") as file:
        file.truncate(600_000_000)  # a hole: takes no room on the disk
    with pytest.raises(OntologyError, match=r"x\.ttl: has 600 MB, the limit is 500 MB; extract a module of it"):
        read_sources([tmp_path / "x.ttl"])


def test_blank_nodes_of_two_files_never_meet(tmp_path: Path) -> None:
    text = PREFIXES + ":{} :is _:same . _:same :of :{} ."
    paths = [tmp_path / f"{name}.ttl" for name in "ab"]
    for path in paths:
        path.write_text(text.format(path.stem, path.stem))
    triples = read_sources(paths).triples
    assert len(triples) == 4
    assert len({s for s, _, _ in triples if is_blank(s)}) == 2


def test_reading_twice_gives_the_same_triples_in_the_same_order(tmp_path: Path) -> None:
    paths = [write(tmp_path, {name: text}) for name, text in in_every_syntax().items()]
    assert list(read_sources(paths).triples) == list(read_sources(paths).triples)


def test_unsaved_text_of_an_editor_is_read_instead_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, {"x.ttl": PREFIXES + ":saved a owl:Class ."})
    unsaved = PREFIXES + ":unsaved a owl:Class ."
    assert read_sources([path], {path: unsaved}).triples.instances(OWL + "Class") == ["http://x.org/#unsaved"]
    new = tmp_path / "new.ttl"
    assert len(read_sources([new], {new: unsaved}).triples) == 1


@pytest.mark.parametrize(
    "entry",
    [
        '<uri name="http://x.org/base" uri="deep/the%20base.ttl"/>',
        '<uri name="http://x.org/base" uri="file:deep/the%20base.ttl"/>',
        '<group xml:base="deep/"><uri name="http://x.org/base" uri="the%20base.ttl"/></group>',
        '<group><group xml:base="deep/x"><uri name="http://x.org/base" uri="the%20base.ttl"/></group></group>',
        '<nextCatalog catalog="catalog-v001.xml"/><nextCatalog catalog="deep/other.xml"/>',
    ],
)
def test_a_catalog_finds_the_import(entry: str, tmp_path: Path) -> None:
    catalog = '<catalog xmlns="urn:oasis:names:tc:entity:xmlns:xml:catalog">{}</catalog>'
    files: dict[str, bytes | str] = {
        "x.ttl": PREFIXES + "<http://x.org/> a owl:Ontology ; owl:imports <http://x.org/base> .",
        "deep/the base.ttl": PREFIXES + ":base a owl:Class .",
        "deep/other.xml": catalog.format('<uri name="http://x.org/base" uri="the%20base.ttl"/>'),
        "catalog-v001.xml": catalog.format(entry),
    }
    source = read_sources([write(tmp_path, files)])
    assert [f.name for f in source.files] == ["the base.ttl", "x.ttl"]
    assert all(f.is_absolute() for f in source.files)
    assert source.triples.instances(OWL + "Class") == ["http://x.org/#base"]


def test_an_import_is_found_in_the_folder_by_its_iri_or_version_whatever_its_syntax(tmp_path: Path) -> None:
    imports = ", ".join(
        f"<{iri}>" for iri in ("http://x.org/v1", "http://example.org/x", "http://purl.obolibrary.org/obo/tiny.owl")
    )
    files: dict[str, bytes | str] = {
        "x.ttl": PREFIXES + f"<http://x.org/> a owl:Ontology ; owl:imports {imports} .",
        "version.ttl": PREFIXES + "<http://x.org/base> a owl:Ontology ; owl:versionIRI <http://x.org/v1> .",
        "broken.ttl": "this mentions http://x.org/v1",
        "functional.ofn": FUNCTIONAL,
        "tiny.obo": OBO_TEXT.replace("import:", "remark:"),
    }
    files = read_sources([write(tmp_path, files)]).files
    assert {f.name for f in files[:-1]} == {"version.ttl", "functional.ofn", "tiny.obo"}
    assert files[-1].name == "x.ttl"


def test_what_two_files_import_is_read_once(tmp_path: Path) -> None:
    head = PREFIXES + "<http://x.org/{}> a owl:Ontology ; owl:imports {} ."
    for name, imported in (
        ("top", "<http://x.org/l>, <http://x.org/r>"),
        ("l", "<http://x.org/b>"),
        ("r", "<http://x.org/b>"),
    ):
        (tmp_path / f"{name}.ttl").write_text(head.format(name, imported))
    (tmp_path / "b.ttl").write_text(PREFIXES + "<http://x.org/b> a owl:Ontology .")
    paths = [tmp_path / "top.ttl", tmp_path / "b.ttl"]
    assert [f.stem for f in read_sources(paths).files] == ["b", "l", "r", "top"]


SEEDS = {
    **in_every_syntax(),
    "x.obo": OBO_TEXT.replace("import:", "remark:"),
    "y.rdf": "<!DOCTYPE x [<!ENTITY e 'f'>]>",
}


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, bytes]:
    """A small valid file with pieces taken out, doubled, swapped or overwritten."""
    name = draw(st.sampled_from(sorted(SEEDS)))
    data = SEEDS[name].encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        snippet = st.sampled_from(
            [
                b"<",
                b">",
                b'"',
                b"(",
                b"[",
                b"}",
                b".",
                b"&e;",
                b":",
                b"\xff",
                b"\0",
                b"_:a",
                b"<x>",
                b"id:",
                "“".encode(),
                b"-1",
                b"]]>",
                b"@base <x>.",
                b"%zz",
                b"\\",
                b"\\u12",
            ]
        )
        data = data[:start] + draw(st.one_of(st.just(b""), snippet, st.just(data[start:end] * 2))) + data[end:]
    return name, data


def only_an_ontology_error(folder: Path, name: str, data: bytes) -> None:
    path = write(folder, {name: data})
    with contextlib.suppress(OntologyError):
        read_sources([path]).place("http://example.org/x#nodule", "near")
    assert [p.name for p in folder.iterdir()] == [name]
    path.unlink()


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations())
def test_a_mutated_file_is_read_or_refused_and_nothing_else(tmp_path: Path, case: tuple[str, bytes]) -> None:
    only_an_ontology_error(tmp_path, *case)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(FORMATS)), st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
def test_random_bytes_are_read_or_refused_and_nothing_else(tmp_path: Path, suffix: str, data: bytes) -> None:
    only_an_ontology_error(tmp_path, "x" + suffix, data)


def test_an_iri_that_is_no_address_has_its_place_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x.owx"
    path.write_text(
        '<?xml version="1.0"?>\n<Ontology xmlns="http://www.w3.org/2002/07/owl#" xml:base="http://x.org/" '
        'ontologyIRI="http://x.org/o">\n<Declaration>\n<Class IRI="http://[x.org/a"/>\n</Declaration>\n</Ontology>\n'
    )
    assert read_sources([path]).place("http://[x.org/a")[1] == 3  # where its declaration begins
