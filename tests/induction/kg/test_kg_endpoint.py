from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurosym.errors import InductionError
from neurosym.induction.kg import endpoint as module
from neurosym.induction.kg.endpoint import read_endpoint
from neurosym.induction.kg.reading import read_graph
from tests.induction.kg.local_endpoint import Answer, Endpoint, serving

TURTLE = """@prefix : <http://example.org/> . @prefix b: <http://example.org/b#> .
:heart a :Organ ; :touches :lung , b:lung , [ a :Vessel ] ; :weighs 300 ; :label "heart" , "Herz"@de .
GRAPH""".replace("GRAPH", "\n".join(f":e{i} :next :e{i + 1} ." for i in range(20)))
FACTS = 28


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "_WAITS", [0.01, 0.02])
    with serving(Endpoint(TURTLE)) as running:
        yield running


def rows(*triples: tuple[object, object, object]) -> bytes:
    bindings = [{name: term for name, term in zip("spo", triple, strict=True) if term} for triple in triples]
    return json.dumps({"head": {"vars": list("spo")}, "results": {"bindings": bindings}}).encode()


def uri(value: str) -> dict[str, str]:
    return {"type": "uri", "value": value}


@pytest.mark.parametrize("page", [1, 7, 9, 28, 10_000])
@pytest.mark.parametrize("options", [{}, {"literals": True}, {"full_iris": True}])
def test_pages_of_any_size_give_the_facts_of_the_file(
    endpoint: Endpoint, tmp_path: Path, page: int, options: dict[str, bool]
) -> None:
    (tmp_path / "a.ttl").write_text(TURTLE)
    expected, found = read_graph(tmp_path / "a.ttl", **options), read_endpoint(endpoint.url, page=page, **options)
    assert sorted(found.facts) == sorted(expected.facts)
    assert (found.literals, found.left_out) == (expected.literals, 0)
    assert len(endpoint.queries) == 1 + -(-FACTS // page)
    assert all("ORDER BY ?s ?p ?o LIMIT" in query for query in endpoint.queries[1:])


def test_a_fact_that_fits_a_pattern_twice_comes_once(endpoint: Endpoint) -> None:
    found = read_endpoint(endpoint.url, "{ ?s ?p ?o } UNION { ?s ?p ?o }", page=3, literals=True)
    assert len(found.facts) == len(set(found.facts)) == FACTS


def test_a_pattern_chooses_facts(endpoint: Endpoint) -> None:
    found = read_endpoint(endpoint.url, "?s ?p ?o FILTER(?o = <http://example.org/e5>) # nothing else")
    assert found.facts == [("e4", "next", "e5")]
    with pytest.raises(InductionError, match="has no facts: nothing fits the pattern '\\?s <x:y> \\?o'"):
        read_endpoint(endpoint.url, "?s <x:y> ?o")


def test_nothing_but_http_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("the network was asked"))
    for url in ("file:///etc/passwd", "ftp://e.org/x", str(tmp_path), "", "http://[::1"):
        with pytest.raises(InductionError, match="known: http, https|no URL"):
            read_endpoint(url)
    with pytest.raises(InductionError, match="a page has at least one fact, not 0"):
        read_endpoint("http://e.org/sparql", page=0)


def test_an_endpoint_without_time_is_asked_again(endpoint: Endpoint) -> None:
    endpoint.spoil = lambda query, number: (503, b"busy") if number % 3 else None
    assert len(read_endpoint(endpoint.url, literals=True).facts) == FACTS
    assert len(endpoint.queries) == 6


def test_an_endpoint_that_never_has_time_is_given_up(endpoint: Endpoint) -> None:
    endpoint.spoil = lambda query, number: (503, b"busy")
    with pytest.raises(InductionError, match="the count: HTTP 503 Service Unavailable: 'busy'"):
        read_endpoint(endpoint.url)
    assert len(endpoint.queries) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_a_refusal_names_the_url_the_page_and_what_was_said(endpoint: Endpoint, status: int) -> None:
    endpoint.spoil = lambda query, number: (status, b"out of luck" + b"!" * 9999) if number == 3 else None
    with pytest.raises(InductionError) as error:
        read_endpoint(endpoint.url, page=5)
    assert str(error.value).startswith(f"{endpoint.url}: page 2 (from row 6 of 28): HTTP {status} ")
    assert "out of luck" in str(error.value)
    assert len(str(error.value)) < 400
    assert len(endpoint.queries) == 3


def test_a_redirection_is_told_and_not_followed(endpoint: Endpoint) -> None:
    endpoint.headers = {"Location": endpoint.url + "/elsewhere"}
    endpoint.spoil = lambda query, number: (302, b"")
    with pytest.raises(InductionError, match="HTTP 302 Found: 'http://127.0.0.1:.*/elsewhere'"):
        read_endpoint(endpoint.url)
    assert len(endpoint.queries) == 1


GARBAGE = [
    b"",
    b"<html>welcome</html>",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b"[]",
    b"{}",
    b'{"head": {}, "boolean": true}',
    b'{"results": {"bindings": 5}}',
    b'{"results": {"bindings": [5]}}',
    b'{"results": {"bindings": [{"s"',
]


@pytest.mark.parametrize("body", GARBAGE)
@pytest.mark.parametrize("number", [1, 2])
def test_garbage_is_refused(endpoint: Endpoint, body: bytes, number: int) -> None:
    endpoint.spoil = lambda query, n: (200, body) if n == number else None
    with pytest.raises(InductionError) as error:
        read_endpoint(endpoint.url)
    place = "the count" if number == 1 else "page 1 (from row 1 of 28)"
    assert str(error.value).startswith(f"{endpoint.url}: {place}: the answer is no result of SPARQL in JSON")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "value", [[], [{}], [{"n": {}}], [{"n": {"value": "many"}}], [{"n": {"value": None}}], [{"n": 3}]]
)
def test_a_count_that_is_none_is_refused(endpoint: Endpoint, value: object) -> None:
    endpoint.spoil = lambda query, number: (200, json.dumps({"results": {"bindings": value}}).encode())
    with pytest.raises(InductionError, match="the count: the answer is none"):
        read_endpoint(endpoint.url)


def test_an_answer_that_never_ends_is_given_up_in_time(endpoint: Endpoint) -> None:
    endpoint.slow = True
    began = time.monotonic()
    with pytest.raises(InductionError, match="the count: no answer: it has not ended after 0.3 s"):
        read_endpoint(endpoint.url, timeout=0.3)
    assert time.monotonic() - began < 5


def test_an_answer_that_never_begins_is_given_up_in_time(endpoint: Endpoint) -> None:
    def wait(query: str, number: int) -> Answer | None:
        time.sleep(1)
        return None

    endpoint.spoil = wait
    with pytest.raises(InductionError, match="the count: no answer: timed out"):
        read_endpoint(endpoint.url, timeout=0.2)


def test_an_answer_that_is_too_large_is_given_up(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 1000)
    with pytest.raises(
        InductionError, match=r"page 1 \(from row 1 of 28\): no answer: it has more than 0 MB; ask for small"
    ):
        read_endpoint(endpoint.url)


def test_an_answer_that_breaks_off_is_refused(endpoint: Endpoint) -> None:
    endpoint.headers = {"Content-Length": "9999"}
    endpoint.spoil = lambda query, number: (200, endpoint.right(query)[:-9]) if number == 2 else None
    with pytest.raises(InductionError, match=r"page 1 .*: the answer is no result of SPARQL in JSON \(JSONDecodeError"):
        read_endpoint(endpoint.url)


def test_nobody_at_the_address_is_told(endpoint: Endpoint) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/sparql"
        with pytest.raises(InductionError, match="the count: no answer: .*refused"):
            read_endpoint(url)


def test_pages_may_be_smaller_than_asked_for(endpoint: Endpoint) -> None:
    endpoint.spoil = lambda query, number: (200, endpoint.right(query.replace("LIMIT 10000", "LIMIT 4")))
    assert len(read_endpoint(endpoint.url, literals=True).facts) == FACTS
    assert len(endpoint.queries) == 1 + 7


def test_a_graph_that_shrinks_while_it_is_read_is_refused(endpoint: Endpoint) -> None:
    def shrink(query: str, number: int) -> Answer | None:
        if number == 3:
            endpoint.store.update("DELETE WHERE { ?s <http://example.org/next> ?o }")
        return None

    endpoint.spoil = shrink
    with pytest.raises(InductionError, match=r"page 2 \(from row 11 of 28\) is empty; the graph has changed"):
        read_endpoint(endpoint.url, page=10)


def test_a_graph_that_grows_while_it_is_read_is_refused(endpoint: Endpoint) -> None:
    def grow(query: str, number: int) -> Answer | None:
        if number == 3:
            endpoint.store.update("INSERT DATA { <http://a> <http://a> <http://a> }")
        return None

    endpoint.spoil = grow
    with pytest.raises(InductionError, match=r"page 2 \(from row 11 of 28\) has rows that came before"):
        read_endpoint(endpoint.url, page=10)


@pytest.mark.parametrize(
    ("ignored", "told"), [("OFFSET", "has rows that came before"), ("LIMIT", "has 28 rows, more than")]
)
def test_an_endpoint_that_keeps_to_no_pages_is_refused(endpoint: Endpoint, ignored: str, told: str) -> None:
    endpoint.spoil = lambda query, number: (200, endpoint.right(query.split(ignored)[0]))
    with pytest.raises(InductionError, match=told):
        read_endpoint(endpoint.url, page=10)


def test_rows_that_are_no_facts_are_told_or_left_out(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    a = uri("http://e.org/a")
    wrong = [
        (a, a, None),
        (uri("http://e.org/ a"), a, a),
        (a, uri('"'), a),
        ({"type": "literal", "value": "x"}, a, a),
        (a, {"type": "bnode", "value": "x"}, a),
        (a, a, {"type": "literal", "value": "\ud800"}),
        (a, a, {"type": "triple", "value": {}}),
        (a, a, 5),
    ]
    body = rows((a, a, {"type": "bnode", "value": "nodeID://1"}), *wrong)
    count = b'{"results": {"bindings": [{"n": {"value": "9"}}]}}'
    endpoint.spoil = lambda query, number: (200, count if "COUNT" in query else body)
    with pytest.raises(InductionError) as error:
        read_endpoint(endpoint.url)
    told = str(error.value).split("\n")
    assert told[0] == f"{endpoint.url}:2: ?o has no value"
    assert told[1] == f"{endpoint.url}:3: ?s is uri 'http://e.org/ a'"
    assert told[4] == f"{endpoint.url}:6: ?p is bnode 'x'"
    assert told[5] == "… and 3 more such lines"
    with caplog.at_level(logging.WARNING):
        found = read_endpoint(endpoint.url, strict=False)
    assert (found.facts, found.left_out) == ([("a", "http://e.org/a", "_:b0")], 8)
    assert len(found.store()) == 1
