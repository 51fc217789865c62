"""The application: routes behind the guard, and every expected error as a page with its message."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from neurosym.errors import NeurosymError
from neurosym.review.web import result_routes, rule_routes
from neurosym.review.web.security import Guard
from neurosym.review.web.shown import STATIC, is_partial, page
from neurosym.review.web.state import ReviewState


class _Kept(StaticFiles):
    """Static files that a browser keeps: their addresses change with them."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        answer = super().file_response(*args, **kwargs)
        answer.headers["Cache-Control"] = "private, max-age=86400"
        return answer


def create_app(state: ReviewState) -> FastAPI:
    """The review page of one run, as an ASGI application; it answers only to the port that it is served on."""
    app = FastAPI(title="neurosym review", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.review = state
    app.include_router(rule_routes.router)
    app.include_router(result_routes.router)
    app.mount("/static", _Kept(directory=STATIC))
    app.add_exception_handler(NeurosymError, _known)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(Guard, access=state.access)
    return app


def _known(request: Request, error: Exception) -> Response:
    return _told(request, str(error), 400)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _told(request, "there is no such page" if error.status_code == 404 else str(error.detail), error.status_code)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
    return _told(request, told, 400)


def _told(request: Request, message: str, status: int) -> Response:
    return page(request, "_error.html" if is_partial(request) else "error.html", status, message=message)
