"""Who may ask: one browser that was given the token of this server, from pages of this server.

- The token stands in the address that is printed; the first visit changes it for a cookie (HttpOnly, SameSite=Strict) and
  leaves an address without it.
- The Host header must name this server, so that no foreign name can be pointed at it (DNS rebinding).
- What a page of another origin asks for is refused, also of another port of this machine, which is the same *site*
  (Sec-Fetch-Site, Origin); a form has to bring the token that only a page of this server can read.
- Answers may not be framed, nor stored, and load nothing but from here (Content-Security-Policy).

What this does not keep out: other programs of the same user; and a server on another port of this machine that the same browser
visits is sent the cookie, too, because cookies do not tell ports apart.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_FORM: Final = 64 * 1024
CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


_ONWARD: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>neurosym review</title>'
    '<link rel="icon" href="/static/icon.svg"><meta http-equiv="refresh" content="0;url={0}"></head>'
    '<body><p><a href="{0}">Go on to the rules</a></p></body></html>'
)
"""A page and no redirect: a browser that comes from elsewhere sends a strict cookie only where a page of ours leads it."""


@dataclass(frozen=True)
class Access:
    """The secrets of one server: `token` lets a browser in, `session` is what its cookie holds, `csrf` what its forms bring."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def csrf(self) -> str:
        return hmac.new(self.session.encode(), b"form", hashlib.sha256).hexdigest()

    @property
    def cookie(self) -> str:
        """The cookie's name, another one for each server: cookies do not tell ports apart."""
        return "neurosym_" + hashlib.sha256(self.token.encode()).hexdigest()[:8]


def same(a: str, b: str) -> bool:
    """Equality in a time that does not depend on where they differ."""
    return hmac.compare_digest(a.encode(), b.encode())


class Guard:
    """Lets through what `Access` allows, before anything else is done with a request."""

    def __init__(self, app: ASGIApp, access: Access, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")) -> None:
        self.app, self.access, self.hosts = app, access, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no other protocol is spoken
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope) or self._exchange(scope)
        await (answer or self.app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, _, port = headers.get("host", "").rpartition(":")
        if host not in self.hosts or not port.isdecimal() or len(port) > 5 or int(port) != scope["server"][1]:
            return _refused("this server is not called that; open the address that it printed")
        reads = scope["method"] in ("GET", "HEAD")
        if not reads and scope["method"] != "POST":
            return PlainTextResponse("method not allowed", 405)
        from_page = headers.get("sec-fetch-site", "none" if reads else "same-origin")
        visits = reads and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if from_page != "same-origin" and not (reads and from_page == "none") and not visits:
            return _refused("asked for by a page of another origin")
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}:{port}":
            return _refused("asked for by a page of another origin")
        length = headers.get("content-length", "" if not reads else "0")
        if not length.isdecimal() or len(length) > 20 or int(length) > LARGEST_FORM:
            return PlainTextResponse("the form is too large, or does not say how large it is", 413)
        return None

    def _exchange(self, scope: Scope) -> Response | None:
        """The cookie for the token; a refusal where neither is there; None for who has the cookie."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        token = dict(query).get("token", "")
        if token and scope["method"] == "GET" and same(token, self.access.token):
            rest = urlencode([(k, v) for k, v in query if k != "token"])
            answer = HTMLResponse(_ONWARD.format(html.escape(_path_of(scope) + (f"?{rest}" if rest else ""))))
            answer.set_cookie(self.access.cookie, self.access.session, httponly=True, samesite="strict", path="/")
            return answer
        if same(_cookies(scope).get(self.access.cookie, ""), self.access.session):
            return None
        return _refused("open the address that `neurosym review` printed: it holds the token that is missing here")


def _path_of(scope: Scope) -> str:
    """The path as a path of this server: `//elsewhere` would be another server's."""
    return "/" + str(scope["path"]).lstrip("/\\")


def _cookies(scope: Scope) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part in Headers(scope=scope).get("cookie", "").split(";"):
        try:
            found |= {name: morsel.value for name, morsel in SimpleCookie(part.strip()).items()}
        except CookieError:
            continue  # another server's
    return found


def _refused(why: str) -> Response:
    return PlainTextResponse(f"refused: {why}\n", 403)
