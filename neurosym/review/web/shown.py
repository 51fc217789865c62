"""What every page has in common: who asks, the forms' token, and how templates become answers."""

from __future__ import annotations

import hashlib
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, quote, unquote

from fastapi import Depends, HTTPException, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape

from neurosym.review.web.listing import Query
from neurosym.review.web.security import CSRF_FIELD, CSRF_HEADER, same
from neurosym.review.web.state import ReviewState

REVIEWER_COOKIE: Final = "neurosym_reviewer"
THEMES: Final = ("dark", "light")
"""What a browser may have chosen; without a choice it follows its system."""
STATIC: Final = Path(__file__).parent / "static"
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
)


@lru_cache
def static(name: str) -> str:
    """The address of a static file; it changes with the file, so that a browser may keep what it has."""
    return f"/static/{name}?v={hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


_TEMPLATES.globals["static"] = static


class Form(dict[str, str]):
    """The fields of a form, each with its last value; `films` are all values of that field."""

    films: tuple[str, ...] = ()


async def read_form(request: Request) -> Form:
    """The form of a request that brings the token of this server's own pages."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "expected a form")
    try:
        fields = parse_qs((await request.body()).decode(), keep_blank_values=True, max_num_fields=500)
    except ValueError as error:
        raise HTTPException(400, "the form cannot be read") from error
    found = Form((k, v[-1]) for k, v in fields.items())
    found.films = tuple(fields.get("films", ()))
    given = request.headers.get(CSRF_HEADER) or found.pop(CSRF_FIELD, "")
    if not same(given, state_of(request).access.csrf):
        raise HTTPException(403, "the form is not of a page of this server; reload the page and send it again")
    return found


def state_of(request: Request) -> ReviewState:
    """The run that this server is of."""
    found: ReviewState = request.app.state.review
    return found


def reviewer_of(request: Request) -> str:
    """Who asks: as the browser was told, else as the server was; "" if neither was."""
    told = " ".join(unquote(request.cookies.get(REVIEWER_COOKIE, "")).split())
    return told or state_of(request).reviewer


def reviewer_cookie(name: str) -> str:
    """A name as a cookie can hold it."""
    return quote(" ".join(name.split()))


def query_of(request: Request) -> Query:
    """The list's query, as the address carries it."""
    return Query.of(request.query_params)


State = Annotated[ReviewState, Depends(state_of)]
Sent = Annotated[Form, Depends(read_form)]
Reviewer = Annotated[str, Depends(reviewer_of)]
Asked = Annotated[Query, Depends(query_of)]


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A template as an answer."""
    state = state_of(request)
    known = {
        "state": state,
        "reviewer": reviewer_of(request),
        "csrf": state.access.csrf,
        "new_id": lambda: uuid.uuid4().hex,
        "path": request.url.path,
        "theme": next((t for t in THEMES if t == request.cookies.get("neurosym_theme")), ""),
    }
    return HTMLResponse(_TEMPLATES.get_template(template).render(known | values), status)


def is_partial(request: Request) -> bool:
    """Whether htmx asks for a part of a page."""
    return request.headers.get("hx-request") == "true"
