"""A SPARQL endpoint on this machine: a small graph in pyoxigraph behind a real server, which a test can spoil."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs

import pyoxigraph as ox

Answer = tuple[int, bytes]


class Endpoint:
    """Answers queries about Turtle; `queries` are those it got, `spoil` may give another answer than the right one."""

    def __init__(self, turtle: str) -> None:
        self.store = ox.Store()
        self.store.load(turtle.encode(), ox.RdfFormat.TURTLE)
        self.queries: list[str] = []
        self.headers: dict[str, str] = {}
        self.spoil: Callable[[str, int], Answer | None] = lambda query, number: None
        self.slow = False
        self.url = ""

    def answer(self, query: str) -> Answer:
        self.queries.append(query)
        spoilt = self.spoil(query, len(self.queries))
        return spoilt if spoilt is not None else (200, self.right(query))

    def right(self, query: str) -> bytes:
        found = self.store.query(query)
        assert isinstance(found, ox.QuerySolutions)
        return found.serialize(format=ox.QueryResultsFormat.JSON) or b""


@contextmanager
def serving(endpoint: Endpoint) -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            status, body = endpoint.answer(form["query"][0])
            self.send_response(status)
            for name, value in endpoint.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                if endpoint.slow:
                    while True:
                        self.wfile.write(b" ")
                        time.sleep(0.02)
                self.wfile.write(body)
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/sparql"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
