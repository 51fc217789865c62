"""The language server over its real protocol: a process, two pipes, JSON-RPC.

What is expected comes from reading `thorax.ttl` with rdflib alone, from fixed texts, or from counting code units with a codec.
"""

from __future__ import annotations

import json
import queue
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rdflib import RDF, RDFS, Graph, Namespace
from rdflib.namespace import OWL, SKOS

ROOT = Path(__file__).parents[2]
THORAX = Namespace("https://w3id.org/neurosym/thorax#")
CORE = Namespace("https://w3id.org/neurosym/core#")
_SERVE = "from neurosym.knowledge.lsp import serve; serve()"


class Client:
    """The editor's side of the protocol, as small as it can be."""

    def __init__(self, roots: list[Path], options: object = None) -> None:
        command = [sys.executable, "-c", _SERVE]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        self.answers: dict[int, queue.Queue[dict]] = {}
        self.published: dict[str, queue.Queue[dict]] = {}
        self.logged: list[str] = []
        self.number = 0
        threading.Thread(target=self._listen, daemon=True).start()
        snippets = {"completion": {"completionItem": {"snippetSupport": True}}}
        folders = [{"uri": r.as_uri(), "name": r.name} for r in roots]
        asked = {"processId": None, "rootUri": None, "capabilities": {"textDocument": snippets}}
        asked |= {"workspaceFolders": folders, "initializationOptions": options}
        self.capabilities = self.ask("initialize", asked)["capabilities"]
        self.tell("initialized", {})

    def _listen(self) -> None:
        assert self.process.stdout is not None
        while header := self.process.stdout.readline():
            length = 0
            while header.strip():
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
                header = self.process.stdout.readline()
            message = json.loads(self.process.stdout.read(length))
            if "method" not in message:
                self.answers[message["id"]].put(message)
            elif message["method"] == "textDocument/publishDiagnostics":
                self._queue(message["params"]["uri"]).put(message["params"])
            elif message["method"] in ("window/logMessage", "window/showMessage"):
                self.logged.append(message["params"]["message"])

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        self.process.stdin.flush()

    def tell(self, method: str, params: object) -> None:
        self._send({"method": method, "params": params})

    def ask(self, method: str, params: object) -> Any:
        self.number += 1
        self.answers[self.number] = queue.Queue()
        self._send({"id": self.number, "method": method, "params": params})
        answer = self.answers[self.number].get(timeout=30)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path: Path, text: str) -> list[dict]:
        """Open a document; the first diagnostics of it that come."""
        language = "neurosym-rules" if path.suffix == ".rules" else "turtle"
        document = {"uri": path.as_uri(), "languageId": language, "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        return self.diagnostics(path)

    def change(self, path: Path, text: str) -> list[dict]:
        document = {"uri": path.as_uri(), "version": 2}
        self.tell("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})
        return self.diagnostics(path)

    def close(self, path: Path) -> None:
        self.tell("textDocument/didClose", {"textDocument": {"uri": path.as_uri()}})
        assert self.diagnostics(path) == []

    def diagnostics(self, path: Path) -> list[dict]:
        """The next diagnostics of a document that have not been looked at."""
        try:
            return self._queue(path.as_uri()).get(timeout=30)["diagnostics"]
        except queue.Empty:
            raise AssertionError(f"no diagnostics of {path.name}; the log: {self.logged}") from None

    def _queue(self, uri: str) -> queue.Queue[dict]:
        return self.published.setdefault(uri, queue.Queue())

    def at(self, method: str, path: Path, line: int, character: int, **more: object) -> Any:
        place = {"textDocument": {"uri": path.as_uri()}, "position": {"line": line, "character": character}}
        return self.ask(f"textDocument/{method}", place | more)

    def end(self) -> int:
        self.ask("shutdown", None)
        self.tell("exit", None)
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    client = Client([ROOT])
    yield client
    if client.process.poll() is None:
        assert client.end() == 0
    assert client.logged == []


@pytest.fixture
def rules(client: Client, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A rule file of the workspace that exists in the editor only."""
    path = ROOT / "rules" / f"{request.node.name}.rules"
    yield path
    client.close(path)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return Graph().parse(ROOT / "ontologies/thorax.ttl").parse(ROOT / "ontologies/neurosym.ttl")


def _range(line: int, start: int, end: int) -> dict:
    return {"start": {"line": line, "character": start}, "end": {"line": line, "character": end}}


def _marked(text: str, mark: dict) -> str:
    """What a range on one line marks, counted in UTF-16 code units."""
    assert mark["start"]["line"] == mark["end"]["line"]
    units = text.split("\n")[mark["start"]["line"]].encode("utf-16-le")
    return units[2 * mark["start"]["character"] : 2 * mark["end"]["character"]].decode("utf-16-le")


def test_an_unknown_class_is_marked_until_it_is_mended(client: Client, rules: Path) -> None:
    wrong = "% comment\ninside(N, L), lugn(L) :- nodule(N).  %! id=a\n"
    [found] = client.open(rules, wrong)
    assert found["range"] == _range(1, 14, 18)
    assert found["severity"] == 1
    assert "did you mean 'lung'?" in found["message"]
    assert client.change(rules, wrong.replace("lugn", "lung")) == []


def test_a_syntax_error_is_marked_where_it_is(client: Client, rules: Path) -> None:
    text = "inside(N, L) :- nodule(N), lung(L)\n"
    [found] = client.open(rules, text)
    assert "does not end" in found["message"]
    assert found["range"] == _range(0, 33, 34)


@pytest.mark.parametrize("before", ["ä", "😀", "'ä😀'(X), ", "\u2028", "\x0c"])
def test_columns_are_utf16_code_units(client: Client, rules: Path, before: str) -> None:
    text = f"% ü\n/* {before} */ lung(L) :- heart(L).\nlung(X) :- ?.\n"
    found = client.open(rules, text)
    assert "?" in {_marked(text, f["range"]) for f in found}


def test_a_word_behind_an_emoji_is_marked_in_utf16(client: Client, rules: Path) -> None:
    text = "lung(X) :- heart(X), 'ä😀'(X), hart(X).\n"
    found = client.open(rules, text)
    marked = {_marked(text, f["range"]) for f in found}
    assert {"'ä😀'", "hart"} <= marked


def test_the_quick_fix_writes_the_name_that_was_meant(client: Client, rules: Path) -> None:
    text = "'😀'(X), lugn(X) :- nodule(X).\n"
    found = next(f for f in client.open(rules, text) if "lugn" in f["message"])
    context = {"diagnostics": [found]}
    asked = {"textDocument": {"uri": rules.as_uri()}, "range": found["range"], "context": context}
    [action] = client.ask("textDocument/codeAction", asked)
    [edit] = action["edit"]["changes"][rules.as_uri()]
    assert edit["newText"] == "lung"
    assert _marked(text, edit["range"]) == "lugn"
    mended = text.replace("lugn", edit["newText"])
    assert all("lugn" not in f["message"] for f in client.change(rules, mended))


def test_hover_on_a_class_tells_what_the_ontology_says(client: Client, rules: Path, graph: Graph) -> None:
    client.open(rules, "large_object(L) :- left_lung(L).\n")
    shown = client.at("hover", rules, 0, 22)
    text = shown["contents"]["value"]
    assert shown["range"] == _range(0, 19, 28)
    assert str(graph.value(THORAX.left_lung, RDFS.label)) in text
    assert str(graph.value(THORAX.left_lung, SKOS.definition)) in text
    assert str(THORAX.left_lung) in text
    above = {str(c).split("#")[1] for c in graph.transitive_objects(THORAX.left_lung, RDFS.subClassOf) if "#" in str(c)}
    assert all(f"`{name}`" in text for name in above)
    assert f"`{graph.value(THORAX.left_lung, CORE.category)}`" in text
    assert f"thorax.ttl:{_line_of(':left_lung a owl:Class')}" in text


def test_hover_on_a_relation_tells_its_geometry(client: Client, rules: Path, graph: Graph) -> None:
    client.open(rules, "inside(N, L), lung(L) :- nodule(N).\n")
    text = client.at("hover", rules, 0, 2)["contents"]["value"]
    assert str(graph.value(CORE.inside, RDFS.label)) in text
    assert "0.75 of a's width" in text
    assert str(graph.value(CORE.inside, SKOS.definition)) in text
    assert str(CORE.inside) in text


def test_hover_on_a_rule_tells_its_statistics_and_reads_it_aloud(client: Client, rules: Path) -> None:
    text = (
        r'0.93 :: inside(N, L), lung(L) :- nodule(N), \+ consolidation(N).  %! id=x source="12 of 13" reviewer=me'
        + "\n"
    )
    client.open(rules, text)
    for word in ("N, L", "id=x"):
        shown = client.at("hover", rules, 0, text.index(word))["contents"]["value"]
        for part in (
            "**x**",
            "weight: 0.93",
            "source: 12 of 13",
            "reviewer: me",
            "L: an object that must exist (lung)",
        ):
            assert part in shown
        assert "If N is a nodule and N is not a consolidation, then in 93% of the cases there is L such that" in shown
    assert "not known to hold" in client.at("hover", rules, 0, text.index("\\"))["contents"]["value"]


def test_every_class_and_relation_is_completed(client: Client, rules: Path, graph: Graph) -> None:
    client.open(rules, "lung(L) :- ")
    items = client.at("completion", rules, 0, 11)["items"]
    known = {
        str(s).split("#")[1]
        for kind in (OWL.Class, OWL.ObjectProperty)
        for s in graph.subjects(RDF.type, kind)
        if "#" in s
    }
    assert known <= {i["label"] for i in items}
    inside = next(i for i in items if i["label"] == "inside")
    assert inside["textEdit"] == {"range": _range(0, 11, 11), "newText": "inside($1, $2)"}
    nodule = next(i for i in items if i["label"] == "nodule")
    assert str(graph.value(THORAX.nodule, SKOS.definition)) in nodule["documentation"]["value"]
    assert "L" in {i["label"] for i in items}


def test_what_is_completed_depends_on_the_place(client: Client, rules: Path) -> None:
    text = "inside(Nod, L) :- lung(L), lef.  %! id=a status=\nlung(\n"
    client.open(rules, text)

    def offered(line: int, character: int) -> set[str]:
        return {i["label"] for i in client.at("completion", rules, line, character)["items"]}

    lobes = {"upper_lobe_of_left_lung", "lower_lobe_of_left_lung"}
    places = {"left_sided", "in_left_upper_lobe", "in_left_lower_lobe"}
    assert offered(0, 30) == {"left_lung", "left_of", "patient_left_of"} | lobes | places
    assert offered(0, 12) == {"Nod", "L"}
    assert offered(0, 13) == {"L"}
    assert offered(0, 48) == {"written", "accepted", "candidate", "rejected"}
    assert {"source", "reviewer"} <= offered(0, 41)


def test_the_definition_of_a_name_is_its_line_in_the_ontology(client: Client, rules: Path) -> None:
    client.open(rules, "lung(L) :- left_lung(L), inside(L, H), heart(H).\n")
    [place] = client.at("definition", rules, 0, 13)
    assert place["uri"] == (ROOT / "ontologies/thorax.ttl").as_uri()
    assert place["range"] == _range(_line_of(":left_lung a owl:Class") - 1, 1, 10)
    [place] = client.at("definition", rules, 0, 27)
    assert place["uri"] == (ROOT / "ontologies/neurosym.ttl").as_uri()


def test_the_uses_of_a_class_are_found_in_every_rule_file(client: Client, rules: Path) -> None:
    client.open(rules, "lung(L) :- platelet(L).\n")
    places = client.at("references", rules, 0, 13, context={"includeDeclaration": False})
    text = (ROOT / "rules/blood.rules").read_text(encoding="utf-8")
    expected = sum(line.split("%")[0].count("platelet(") for line in text.splitlines())
    assert sum(p["uri"] == (ROOT / "rules/blood.rules").as_uri() for p in places) == expected
    assert sum(p["uri"] == rules.as_uri() for p in places) == 1


def test_the_symbols_of_a_file_are_its_rules(client: Client) -> None:
    path = ROOT / "rules/thorax.rules"
    text = path.read_text(encoding="utf-8")
    client.open(path, text)
    symbols = client.ask("textDocument/documentSymbol", {"textDocument": {"uri": path.as_uri()}})
    assert [s["name"] for s in symbols] == [
        line.split(" id=")[1].split()[0] for line in text.splitlines() if " id=" in line
    ]
    assert all(_marked(text, s["selectionRange"]) == s["name"] for s in symbols)
    client.close(path)


def test_formatting_changes_spaces_only_and_leaves_broken_files_alone(client: Client, rules: Path) -> None:
    options = {"textDocument": {"uri": rules.as_uri()}, "options": {"tabSize": 4, "insertSpaces": True}}
    client.open(rules, "% kept\n0.5::inside( N,L ),lung(L):-nodule(N).%! id=a\n")
    [edit] = client.ask("textDocument/formatting", options)
    assert edit["newText"] == "% kept\n0.5 :: inside(N, L), lung(L) :- nodule(N).  %! id=a\n"
    client.change(rules, edit["newText"])
    assert client.ask("textDocument/formatting", options) == []
    client.change(rules, "lung( L :- heart(L).\n")
    assert client.ask("textDocument/formatting", options) == []


def test_a_turtle_file_is_checked_as_it_is_typed(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "small.ttl"
    head = "@prefix : <urn:x#> .\n@prefix owl: <http://www.w3.org/2002/07/owl#> .\n<urn:x> a owl:Ontology .\n"
    found = client.open(path, head + ":lung a owl:Class\n:heart a owl:Class .\n")
    assert found[0]["severity"] == 1
    assert found[0]["range"]["start"]["line"] in (3, 4)
    assert client.change(path, head + ":lung a owl:Class .\n") == []
    client.close(path)


def test_rules_follow_the_ontology_that_they_name_while_it_is_edited(client: Client, tmp_path: Path) -> None:
    ontology, rules = tmp_path / "my own.ttl", tmp_path / "x.rules"
    head = "@prefix : <urn:x#> .\n@prefix owl: <http://www.w3.org/2002/07/owl#> .\n<urn:x> a owl:Ontology .\n"
    ontology.write_text(head + ":lung a owl:Class . :organ a owl:Class .\n", encoding="utf-8")
    [found] = client.open(rules, '%! ontology="my own.ttl"\norgan(X) :- kidney(X).\n')
    assert "'kidney'" in found["message"]
    client.open(ontology, head + ":lung a owl:Class . :organ a owl:Class . :kidney a owl:Class .\n")
    assert client.diagnostics(rules) == []
    client.close(ontology)  # what was typed is lost
    assert "'kidney'" in client.diagnostics(rules)[0]["message"]
    client.close(rules)


def test_an_ontology_that_is_missing_is_told_at_the_line_that_names_it(client: Client, tmp_path: Path) -> None:
    rules = tmp_path / "x.rules"
    found = client.open(rules, "% first\n%! ontology=absent.ttl\nlung(X) :- heart(X).\n")
    assert [f["range"]["start"]["line"] for f in found] == [1]
    assert "absent.ttl" in found[0]["message"]
    client.close(rules)


def test_the_setting_names_the_ontology(tmp_path: Path) -> None:
    own = Client([tmp_path], {"ontologies": [str(ROOT / "ontologies/blood.ttl")]})
    path = tmp_path / "x.rules"
    assert own.open(path, "small_object(P) :- platelet(P).\n") == []
    settings = {"settings": {"neurosym": {"ontologies": [str(ROOT / "ontologies/thorax.ttl")]}}}
    own.tell("workspace/didChangeConfiguration", settings)
    assert "'platelet'" in own.diagnostics(path)[0]["message"]
    assert own.end() == 0


def test_no_text_takes_the_server_down(client: Client, rules: Path) -> None:
    dice = random.Random(0)
    signs = [
        "lung",
        "(",
        ")",
        "X",
        ",",
        ":-",
        "::",
        ".",
        "%!",
        "id=",
        '"',
        "'",
        "\\+",
        "count{",
        ":",
        "}",
        "\n",
        "\r\n",
        "\r",
    ]
    signs += [
        "0.5",
        "is",
        "😀",
        "\ud800",
        "\0",
        "\u2028",
        "\x0c",
        "%! ontology=",
        "=",
        "../",
        " ",
        "é",
        "-" * 50,
        "((((((((((((((" * 8,
    ]
    client.open(rules, "")
    for _ in range(15):
        text = "".join(dice.choice(signs) for _ in range(dice.randrange(60)))
        client.change(rules, text)
        for method in ("hover", "completion", "definition"):
            client.at(method, rules, dice.randrange(4), dice.randrange(40))
        everything = {"start": {"line": 0, "character": 0}, "end": {"line": 99, "character": 99}}
        document = {"textDocument": {"uri": rules.as_uri()}}
        client.ask("textDocument/codeAction", document | {"range": everything, "context": {"diagnostics": []}})
        client.ask("textDocument/documentSymbol", document)
        client.ask("textDocument/formatting", document | {"options": {"tabSize": 4, "insertSpaces": True}})
        client.at("references", rules, 0, 1, context={"includeDeclaration": True})


def test_importing_the_knowledge_package_does_not_import_pygls() -> None:
    code = "import sys, neurosym.knowledge.lsp; from neurosym.knowledge import load_knowledge; sys.exit('pygls' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _line_of(text: str) -> int:
    """The line, from 1, of the thorax ontology that begins so."""
    lines = (ROOT / "ontologies/thorax.ttl").read_text(encoding="utf-8").splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.startswith(text))
