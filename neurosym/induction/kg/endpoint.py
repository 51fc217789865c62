"""Graphs from a SPARQL endpoint, a page at a time; nothing is fetched unless `read_endpoint` is called.

The endpoint counts the facts first and then gives them in an order, `page` of them after those that came before:

    SELECT DISTINCT ?s ?p ?o WHERE { … } ORDER BY ?s ?p ?o LIMIT page OFFSET so many

It may give fewer at a time than it is asked for, as many do. But if a fact comes twice or the count is not reached the
graph has changed meanwhile, or the endpoint does not keep to what it was asked, and that is an error. Only the address
that is given is asked: http or https, and no redirection is followed. Names are those of `neurosym.induction.kg.rdf`;
two blank nodes are one if the endpoint gives them one label.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from typing import Any, Final, cast
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from neurosym.errors import InductionError, Problem
from neurosym.induction.kg.facts import Found, Triples, gather
from neurosym.induction.kg.rdf import Terms, named

_WAITS: Final = [1.0, 4.0, 16.0]
"""Seconds to wait before an endpoint is asked again that has no time (503)."""
_LARGEST: Final = 500_000_000
"""Bytes that an answer may have."""
_IRI: Final = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*:[^\x00-\x20<>"{}|^`\\\ud800-\udfff]*\Z')
_HALF: Final = re.compile("[\ud800-\udfff]")
"""Half a character, which JSON can write but no text can hold."""
_VARIABLES: Final = ("s", "p", "o")


def read_endpoint(
    url: str,
    where: str = "?s ?p ?o",
    page: int = 10_000,
    strict: bool = True,
    literals: bool = False,
    full_iris: bool = False,
    timeout: float = 60,
) -> Triples:
    """Ask an endpoint for facts.

    Args:
        where: which facts, as a pattern of SPARQL over ?s, ?p and ?o: ``GRAPH <http://example.org/g> { ?s ?p ?o }``.
        page: how many at a time.
        strict: a row that is no fact is an error; else it is left out.
        literals, full_iris: see `read_rdf`.
        timeout: seconds that an answer may take.

    Raises:
        InductionError: the URL is none of http or https; there is no answer, or one that is no page of facts;
            pages do not add up; there are no facts, or, if `strict`, other rows.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise InductionError(Problem(f"no URL: {error}", file=url)) from error
    if scheme not in ("http", "https"):
        raise InductionError(Problem("no endpoint is asked at such a URL", file=url, cure="known: http, https"))
    if page < 1:
        raise InductionError(f"a page has at least one fact, not {page}")
    terms = Terms(literals)
    facts = ((number, _fact(row, terms)) for number, row in enumerate(_pages(url, where, page, timeout), 1))
    return named(gather(url, facts, strict, f"nothing fits the pattern {where!r}"), full_iris)


def _pages(url: str, where: str, page: int, timeout: float) -> Iterator[dict[str, Any]]:
    """All rows, page after page."""
    facts = f"SELECT DISTINCT ?s ?p ?o WHERE {{\n{where}\n}}"
    counted = _ask(url, f"SELECT (COUNT(*) AS ?n) WHERE {{ {facts} }}", "the count", timeout)
    try:
        total = int(counted[0]["n"]["value"])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InductionError(Problem(f"the count: the answer is none: {str(counted)[:80]}", file=url)) from error
    offset, number, before = 0, 0, set[str]()
    while offset < total:
        number += 1
        about = f"page {number} (from row {offset + 1} of {total})"
        query = f"{facts} ORDER BY ?s ?p ?o LIMIT {page} OFFSET {offset}"
        rows = _ask(url, query, about, timeout)
        now = {json.dumps(row, sort_keys=True) for row in rows}
        wrong = ""
        if not rows:
            wrong = "is empty"
        elif len(rows) > page or offset + len(rows) > total:
            wrong = f"has {len(rows)} rows, more than there can be"
        elif len(now) < len(rows) or not now.isdisjoint(before):
            wrong = "has rows that came before"
        if wrong:
            cure = "the graph has changed, or the endpoint does not keep to LIMIT and OFFSET"
            raise InductionError(Problem(f"{about} {wrong}", file=url, cure=cure))
        yield from rows
        offset, before = offset + len(rows), now


def _fact(row: dict[str, Any], terms: Terms) -> Found:
    keys = []
    for name in _VARIABLES:
        term = row.get(name)
        kind, value = (term.get("type"), term.get("value")) if isinstance(term, dict) else ("", None)
        if not isinstance(value, str):
            return f"?{name} has no value"
        if kind == "uri" and _IRI.match(value):
            keys.append(terms.iri(value))
        elif kind == "bnode" and name != "p":
            keys.append(terms.blank(value))
        elif kind in ("literal", "typed-literal") and name == "o" and not _HALF.search(value):
            text = terms.literal(value)
            if text is None:
                return None
            keys.append(text)
        else:
            return f"?{name} is {kind or 'nothing'} {value[:60]!r}"
    return (keys[0], keys[1], keys[2]), 1.0


def _ask(url: str, query: str, about: str, timeout: float) -> list[dict[str, Any]]:
    """The rows of an answer."""
    body = _answer(url, query, about, timeout)
    try:
        rows = json.loads(body)["results"]["bindings"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise TypeError("results.bindings is no list of rows")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        shown = body[:80].decode(errors="replace")
        message = f"{about}: the answer is no result of SPARQL in JSON ({type(error).__name__}: {error}): {shown!r}"
        raise InductionError(Problem(message, file=url)) from error
    return rows


def _answer(url: str, query: str, about: str, timeout: float) -> bytes:
    """The body of an answer; an endpoint that has no time is asked again."""
    headers = {"Accept": "application/sparql-results+json", "User-Agent": "neurosym"}
    opener = build_opener(_NoRedirection)
    waits = iter(_WAITS)
    while True:
        try:
            request = Request(url, urlencode({"query": query}).encode(), headers)  # noqa: S310
            return _body(opener, request, timeout)
        except HTTPError as error:
            with error:
                wait = next(waits, None) if error.code == 503 else None
                if wait is None:
                    message = f"{about}: HTTP {error.code} {error.reason}: {_said(error)!r}"
                    raise InductionError(Problem(message, file=url)) from error
            time.sleep(wait)
        except (OSError, HTTPException) as error:
            raise InductionError(Problem(f"{about}: no answer: {error or type(error).__name__}", file=url)) from error


def _said(error: HTTPError) -> str:
    """Where a refusal points to, or how its explanation begins."""
    try:
        return error.headers.get("Location") or cast(HTTPResponse, error.fp).read1(200).decode(errors="replace")
    except (OSError, HTTPException):
        return ""


def _body(opener: OpenerDirector, request: Request, timeout: float) -> bytes:
    """All of an answer. A socket's timeout begins anew with each byte, so the time is kept here too."""
    ends = time.monotonic() + timeout
    parts, size = [], 0
    response: HTTPResponse
    with opener.open(request, timeout=timeout) as response:
        while part := response.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if time.monotonic() > ends:
                raise TimeoutError(f"it has not ended after {timeout:g} s")
            if size > _LARGEST:
                raise OSError(f"it has more than {_LARGEST // 10**6} MB; ask for smaller pages")
    return b"".join(parts)


class _NoRedirection(HTTPRedirectHandler):
    """An answer that points elsewhere is an error as any other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
