"""The list of rules, the page of one, its films, its wording, and the verdicts."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, HTTPException, Request
from fastapi import Query as Parameter
from fastapi.responses import RedirectResponse, Response

from neurosym.errors import NeurosymError, ReviewError
from neurosym.records import Rule
from neurosym.review.edits import Wording
from neurosym.review.ledger import DECISIONS, Decision, the_rule
from neurosym.review.web.listing import SORTS, STATUSES, Listing, Query, Row, status_of
from neurosym.review.web.overlay import WIDTHS
from neurosym.review.web.place import place_of
from neurosym.review.web.rule_page import Films, FilmView, Side, film_view, films_of, parts_of, variables_of
from neurosym.review.web.shown import Asked, Form, Reviewer, Sent, State, is_partial, page
from neurosym.review.web.state import ReviewState

router = APIRouter()
DONE: Final = {"accept": "accepted", "reject": "rejected", "later": "put off", "undo": "taken back"}


@router.get("/")
def rules(request: Request, state: State, query: Asked, reviewer: Reviewer) -> Response:
    """The list under filters and sort."""
    if not reviewer:
        return RedirectResponse("/reviewer", 303)
    listing = state.listing(query, reviewer)
    said = state.verdicts()
    template = "_rows.html" if is_partial(request) else "list.html"
    return page(
        request,
        template,
        listing=listing,
        query=query,
        said=said,
        judged=_judged(state, reviewer),
        statuses=STATUSES,
        sorts={k: label for k, (label, _) in SORTS.items()},
        heads=sorted({r.head for r in state.rows}),
        standings=sorted({r.standing for r in state.rows} - {""}),
        status_of=status_of,
        **_done(request, state),
    )


def _judged(state: ReviewState, reviewer: str) -> int:
    return sum(reviewer in of for of in state.verdicts().values())


def _done(request: Request, state: ReviewState) -> dict[str, Any]:
    """What was just done, so that it can be told and taken back."""
    number, did = request.query_params.get("done", ""), request.query_params.get("did", "")
    if did in DONE and number.isdecimal() and len(number) < 10 and 1 <= int(number) <= len(state.rows):
        return {"done": int(number), "did": did, "did_what": DONE[did]}
    return {}


def _row(state: ReviewState, number: int) -> Row:
    if not 1 <= number <= len(state.rows):
        raise ReviewError(f"no rule {number}; the run has {len(state.rows)}")
    return state.rows[number - 1]


@router.get("/rule/{number}")
def rule(request: Request, state: State, query: Asked, reviewer: Reviewer, number: int) -> Response:
    """One rule."""
    row = _row(state, number)
    if not reviewer:
        return RedirectResponse(f"/reviewer?next={number}", 303)
    return _rule_page(request, state, row, query, reviewer)


def _rule_page(
    request: Request, state: ReviewState, row: Row, query: Query, reviewer: str, status: int = 200, **more: Any
) -> Response:
    listing = state.listing(query, reviewer)
    before, after = listing.beside(row.number)
    said = state.verdicts()
    mine = said.get(row.number, {}).get(reviewer)
    films = _films(row)
    values = {
        "row": row,
        "candidate": row.candidate,
        "parts": parts_of(row.candidate.rule),
        "variables": variables_of(row.candidate.rule),
        "query": query,
        "before": before,
        "after": after,
        "place_in_list": _place_in(listing, row),
        "mine": mine,
        "others": {n: v for n, v in sorted(said.get(row.number, {}).items()) if n != reviewer},
        "stale": mine is not None and mine.figures not in ("", row.digest),
        "judged": _judged(state, reviewer),
        "reasons": _reasons(state, reviewer),
        "films": films,
        "view": _first_film(state, row.candidate.rule, films),
        "place": place_of(row.candidate.rule, state.evidence.knowledge.ontology),
        "edited": "",
        "wording": None,
        "written": state.written_at(row),
        "unproven": state.unproven(row),
        "done_label": DONE,
    }
    return page(request, "rule.html", status, **values | _done(request, state) | more)


def _place_in(listing: Listing, row: Row) -> int | None:
    return next((i for i, r in enumerate(listing.found, 1) if r.number == row.number), None)


def _reasons(state: ReviewState, reviewer: str) -> list[str]:
    """The reviewer's own reasons so far, the latest first."""
    held = (of[reviewer] for of in state.verdicts().values() if reviewer in of)
    said = sorted((v for v in held if v.reason), key=lambda v: v.time, reverse=True)
    return list(dict.fromkeys(v.reason for v in said))[:20]


def _films(row: Row) -> Films:
    return films_of(row.candidate.supporting, row.candidate.refuting)


def _first_film(state: ReviewState, rule: Rule, films: Films) -> FilmView | None:
    """The first counter-example; without one the first film that supports the rule."""
    sides: tuple[tuple[Side, tuple[str, ...]], ...] = (("against", films.against), ("for", films.for_it))
    for side, names in sides:
        for film in names:
            if film in state.evidence.scenes:
                return film_view(rule, state.evidence, films, film, side, None)
    return None


@router.get("/rule/{number}/film")
def film(
    request: Request,
    state: State,
    query: Asked,
    number: int,
    film: str,
    side: Annotated[str, Parameter(pattern="^(against|for)$")] = "against",
    case: int | None = None,
    edited: Annotated[str, Parameter(max_length=4000)] = "",
) -> Response:
    """One film of a rule, as it was induced or as it is being edited."""
    row = _row(state, number)
    shown, films, text = row.candidate.rule, _films(row), ""
    if edited:
        shown = the_rule(edited)
        checked = state.wording(edited, row)
        if checked.measured is not None:
            films, text = _films_of_wording(checked), edited
    view = film_view(shown, state.evidence, films, film, cast(Side, side), case)
    if not is_partial(request):
        return RedirectResponse(f"/rule/{number}", 303)
    return page(request, "_film.html", row=row, query=query, films=films, view=view, edited=text)


def _films_of_wording(checked: Wording) -> Films:
    found = checked.measured
    assert found is not None
    return films_of(found.supporting, found.refuting, (found.refuting_count, found.supporting_count))


@router.post("/rule/{number}/wording")
def edit(request: Request, state: State, query: Asked, reviewer: Reviewer, form: Sent, number: int) -> Response:
    """An edited wording: what is wrong with it, or what the films say of it."""
    row = _row(state, number)
    checked = state.wording(form.get("text", ""), row)
    films, view, text = _films(row), None, ""
    if checked.rule is not None and checked.measured is not None and not checked.same:
        films, text = _films_of_wording(checked), checked.accepted
        view = _first_film(state, checked.rule, films)
    view = view or _first_film(state, row.candidate.rule, films)
    parts = parts_of(the_rule(checked.accepted), weighted=True) if checked.accepted else []
    values: dict[str, Any] = {"wording": checked, "wording_parts": parts, "films": films, "view": view, "edited": text}
    values["base"] = _measured(state, row)
    if is_partial(request):
        return page(request, "_wording.html", row=row, query=query, oob=True, **values)
    return _rule_page(request, state, row, query, reviewer, **values)


def _measured(state: ReviewState, row: Row) -> dict[str, Any] | None:
    """The candidate's own figures on the films as they are now: unlike those it came with, if the films have changed."""
    try:
        found = state.evidence.measure(row.candidate.rule, cases=0)
    except NeurosymError:
        return None
    same = (found.support, found.body_size) == (row.candidate.support, row.candidate.body_size)
    return {"found": found, "same": same}


@router.post("/rule/{number}/verdict")
def verdict(request: Request, state: State, query: Asked, reviewer: Reviewer, form: Sent, number: int) -> Response:
    """Record a verdict, and go on to the next rule of the list."""
    row = _row(state, number)
    if not reviewer:
        return RedirectResponse(f"/reviewer?next={number}", 303)
    decision = form.get("verdict", "")
    if decision not in DECISIONS:
        raise ReviewError(f"unknown verdict {decision!r}")
    try:
        _judge(state, row, reviewer, cast(Decision, decision), form)
    except NeurosymError as error:
        told = {"message": str(error), "reason": form.get("reason", "")}
        return _rule_page(request, state, row, query, reviewer, 422, **told)
    _, after = state.listing(query, reviewer).beside(number)
    to = f"/rule/{number}" if decision == "undo" else f"/rule/{after}" if after else "/"
    said = f"done={number}&did={decision}"
    return RedirectResponse(f"{to}?{'&'.join(filter(None, (query.address(), said)))}", 303)


def _judge(state: ReviewState, row: Row, reviewer: str, decision: Decision, form: Form) -> None:
    edited = form.get("edited", "")
    if edited:
        checked = state.wording(edited, row)
        if not checked.accepted:
            raise ReviewError(checked.problems)
        edited = checked.accepted
    films = [f for f in form.films if f in state.evidence.scenes]
    reason = form.get("reason", "") if decision == "reject" else ""
    made = state.review.judge(
        str(row.number), reviewer, decision, reason, edited, films, form.get("entry", "") or _no_entry()
    )
    if decision == "undo":
        return
    held = state.verdicts().get(row.number, {}).get(made.reviewer)
    if held is None or (held.verdict, held.reason, held.edited) != (made.verdict, made.reason, made.edited):
        message = "this form was sent before, and another verdict of yours stands since; give the verdict again"
        raise ReviewError(message)


def _no_entry() -> str:
    raise ReviewError("the form has no name of its own, so that it could be counted twice; reload the page")


@router.get("/picture")
def picture(request: Request, state: State, film: str, width: int = WIDTHS[-1]) -> Response:
    """A film as JPEG."""
    if width not in WIDTHS:
        raise HTTPException(400, f"a film is {' or '.join(map(str, WIDTHS))} pixels wide")
    data, tag = state.pictures.jpeg(film, width)
    headers = {"ETag": tag, "Cache-Control": "private, max-age=600"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)
