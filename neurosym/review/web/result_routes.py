"""Who reviews, how far reviewers agree, what is published, and what is exported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from neurosym.errors import NeurosymError, ReviewError
from neurosym.review.agreement import CATEGORIES
from neurosym.review.publish import Publication
from neurosym.review.web.exports import candidates_csv, candidates_with_verdicts, ledger_csv, ledger_json
from neurosym.review.web.shown import REVIEWER_COOKIE, Reviewer, Sent, State, page, reviewer_cookie
from neurosym.review.web.state import ReviewState

router = APIRouter()


@router.get("/reviewer")
def ask_name(request: Request) -> Response:
    """Who reviews."""
    return page(request, "reviewer.html", next=request.query_params.get("next", ""))


@router.post("/reviewer")
def take_name(request: Request, state: State, form: Sent) -> Response:
    """Keep the name in the browser."""
    name = " ".join(form.get("name", "").split())
    if not name or len(name) > 80 or not name.isprintable():
        message = "a name has 1 to 80 printable characters"
        return page(request, "reviewer.html", 422, next=form.get("next", ""), message=message, name=name)
    number = form.get("next", "")
    answer = RedirectResponse(f"/rule/{int(number)}" if number.isdecimal() and len(number) < 10 else "/", 303)
    answer.set_cookie(
        REVIEWER_COOKIE, reviewer_cookie(name), max_age=365 * 86400, httponly=True, samesite="strict", path="/"
    )
    return answer


@router.get("/agreement")
def agreement(request: Request, state: State) -> Response:
    """Cohen's κ of every two reviewers, and where they differ."""
    numbers: dict[str, int] = {}
    for number, of in state.verdicts().items():
        numbers |= {v.rule: number for v in of.values()}
    return page(request, "agreement.html", found=state.review.agreements(), categories=CATEGORIES, numbers=numbers)


@router.get("/publish")
def publish_page(request: Request, state: State) -> Response:
    """What publishing would write."""
    return _publish_page(request, state, request.query_params.get("disputed") == "1")


@router.post("/publish")
def publish(request: Request, state: State, form: Sent) -> Response:
    """Write the rule files, if they become what was shown."""
    if state.target is None:
        return _publish_page(request, state, False)
    disputed = form.get("disputed") == "1"
    try:
        if form.get("seen") == "file":
            state.take_file_as_it_is()
            return RedirectResponse("/publish", 303)
        verdicts = state.review.ledger.verdicts()
        if form.get("digest", "") != _digest(state.publication(disputed, verdicts=verdicts)):
            raise ReviewError("verdicts or files have changed since this was shown; look at it again")
        made = state.publication(disputed, write=True, verdicts=verdicts)
    except NeurosymError as error:
        return _publish_page(request, state, disputed, 409, message=str(error))
    return _publish_page(request, state, disputed, written=made)


def _publish_page(request: Request, state: ReviewState, disputed: bool, status: int = 200, **more: Any) -> Response:
    values: dict[str, Any] = {"made": None, "disputed": disputed, "conflict": ""}
    if state.target is not None:
        try:
            values["made"] = state.publication(disputed)
            values["digest"] = _digest(values["made"])
        except NeurosymError as error:
            values["conflict"] = str(error)
            status = max(status, 409)
    return page(request, "publish.html", status, **values | more)


def _digest(made: Publication) -> str:
    """Of what the files were and would be."""
    return hashlib.sha256(repr((made.texts, [f.digest for f in made.files])).encode()).hexdigest()


@router.get("/export/{name}")
def export(state: State, reviewer: Reviewer, name: str) -> Response:
    """The ledger, or the candidates with their verdicts."""
    makers: dict[str, tuple[str, Callable[[], str]]] = {
        "ledger.jsonl": ("application/jsonl", lambda: ledger_json(state.review.ledger.verdicts())),
        "ledger.csv": ("text/csv", lambda: ledger_csv(state.review.ledger.verdicts())),
        "candidates.csv": ("text/csv", lambda: candidates_csv(state.rows, state.verdicts())),
        "candidates.json": ("application/json", lambda: _candidates_json(state)),
    }
    if name not in makers:
        raise ReviewError(f"nothing to export is called {name!r}; known: {', '.join(makers)}")
    kind, make = makers[name]
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(make().encode(), media_type=f"{kind}; charset=utf-8", headers=headers)


def _candidates_json(state: ReviewState) -> str:
    value = {"origin": dict(state.review.origin), "candidates": candidates_with_verdicts(state.rows, state.verdicts())}
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
