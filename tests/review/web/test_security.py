from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute

from neurosym.review.web import result_routes, rule_routes
from neurosym.review.web.security import HEADERS
from neurosym.review.web.state import ReviewState
from tests.review.web.conftest import Browser
from tests.review.web.runs import served

PAGES = ("/", "/rule/1", "/agreement", "/publish", "/reviewer", "/picture?film=phantom-000000", "/export/ledger.csv")
PAGES += ("/static/review.js", "/nothing")
ALL = (*rule_routes.router.routes, *result_routes.router.routes)
ROUTES = ("/reviewer", "/rule/1/verdict", "/rule/1/wording", "/publish")


@pytest.fixture(scope="module")
def state(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> ReviewState:
    """One for all of these: nothing they ask for may change it."""
    return ReviewState.of(made_run, tmp_path_factory.mktemp("rules") / "accepted.rules")


@pytest.fixture(scope="module")
def address(state: ReviewState) -> Iterator[str]:
    with served(state) as found:
        yield found


@pytest.fixture
def stranger(address: str) -> httpx.Client:
    return httpx.Client(base_url=address)


@pytest.mark.parametrize("page", PAGES)
def test_without_the_token_nothing_is_shown(stranger: httpx.Client, page: str) -> None:
    answer = stranger.get(page)
    assert answer.status_code == 403
    assert "the token that is missing here" in answer.text
    assert stranger.get(page, params={"token": "x"}).status_code == 403


def test_the_token_is_changed_for_a_cookie_and_leaves_the_address(stranger: httpx.Client, state: ReviewState) -> None:
    answer = stranger.get("/rule/2", params={"token": state.access.token, "q": 'a"b'})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert state.access.token not in cookie + answer.text
    onward = re.search(r'url=([^"]*)"', answer.text)
    assert onward is not None
    assert onward[1] == "/rule/2?q=a%22b"
    assert stranger.get("/agreement").status_code == 200


def test_the_token_leads_to_no_other_server(stranger: httpx.Client, state: ReviewState) -> None:
    for path in ("//evil.example/", "/%5Cevil.example/"):
        answer = stranger.get(str(stranger.base_url).rstrip("/") + path, params={"token": state.access.token})
        assert "url=/evil.example/" in answer.text


@pytest.mark.parametrize(
    "host", ["evil.example:{}", "127.0.0.1.evil.example:{}", "127.0.0.1", "127.0.0.1:9", "[::1]:{}", ""]
)
def test_another_name_for_this_server_is_refused(anna: Browser, host: str) -> None:
    assert anna.get("/agreement", headers={"Host": host.format(anna.base_url.port)}).status_code == 403
    assert anna.get("/agreement", headers={"Host": f"localhost:{anna.base_url.port}"}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_other_pages_ask_for_is_refused(anna: Browser, state: ReviewState, site: str) -> None:
    form = {"csrf": state.access.csrf, "verdict": "accept", "entry": "e"}
    foreign = {"Sec-Fetch-Site": site}
    assert anna.post("/rule/1/verdict", data=form, headers=foreign).status_code == 403
    assert anna.get("/picture?film=phantom-000000", headers=foreign).status_code == 403
    visit = foreign | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert anna.get("/agreement", headers=visit).status_code == 200
    framed = foreign | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert anna.get("/agreement", headers=framed).status_code == 403
    assert state.review.ledger.verdicts() == []


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9", "null", "https://127.0.0.1:{}"])
def test_forms_of_another_origin_are_refused(anna: Browser, state: ReviewState, origin: str) -> None:
    form = {"csrf": state.access.csrf, "verdict": "accept", "entry": "e"}
    assert (
        anna.post("/rule/1/verdict", data=form, headers={"Origin": origin.format(anna.base_url.port)}).status_code
        == 403
    )
    assert state.review.ledger.verdicts() == []


@pytest.mark.parametrize("form", [{}, {"csrf": ""}, {"csrf": "0" * 64}])
def test_every_form_needs_the_token_of_a_page(anna: Browser, state: ReviewState, form: dict[str, str]) -> None:
    accepts = {r.path for r in ALL if isinstance(r, APIRoute) and "POST" in r.methods}
    assert accepts == {r.replace("/1/", "/{number}/") for r in ROUTES}
    for route in ROUTES:
        fields = {"verdict": "accept", "entry": "e", "name": "Eve", "text": "a(X) :- b(X)."}
        answer = anna.post(route, data=form | fields)
        assert answer.status_code == 403, route
    assert state.review.ledger.verdicts() == []


def test_other_methods_kinds_and_sizes_are_refused(anna: Browser, state: ReviewState) -> None:
    assert anna.put("/rule/1").status_code == 405
    assert anna.request("OPTIONS", "/").status_code == 405
    assert anna.post("/rule/1/verdict", json={"csrf": state.access.csrf}).status_code == 415
    assert anna.submit("/rule/1/wording", text="x" * 70_000).status_code == 413


@pytest.mark.parametrize("page", [*PAGES, "/rule/0", "/rule/x"])
def test_every_answer_forbids_framing_storing_and_foreign_or_inline_scripts(anna: Browser, page: str) -> None:
    answer = anna.get(page)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    kept = {"picture": "private, max-age=600", "static": "private, max-age=86400"}
    assert answer.headers["Cache-Control"] == next((v for k, v in kept.items() if k in page), "no-store")
    if "html" in answer.headers.get("content-type", ""):
        scripts = re.findall(r"<script([^>]*)>", answer.text)
        assert all('src="/static/' in s or 'type="application/json"' in s for s in scripts)
        assert not re.search(r"\s(style|on\w+)=", answer.text)
        assert not re.search(r'(src|href)="(?!/|#)', answer.text)


@pytest.mark.parametrize(
    "film", ["../../x.rules", "/etc/passwd", "..%2f..%2fx.rules", "films/phantom-000000.png", "phantom-000000.png", ""]
)
def test_a_film_is_looked_up_and_never_a_path(anna: Browser, film: str) -> None:
    answer = anna.get("/picture", params={"film": film})
    assert answer.status_code == 400
    assert "no film" in answer.text
    assert anna.get("/rule/1/film", params={"film": film}).status_code == 400


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%5capp.py", "/export/..%2fx"]
)
def test_static_files_and_exports_stay_in_their_folder(anna: Browser, path: str) -> None:
    answer = anna.get(str(anna.base_url).rstrip("/") + path)
    assert answer.status_code in (400, 404)
    assert "create_app" not in answer.text


def test_text_from_files_and_reviewers_is_escaped(run: Path) -> None:
    bad = "<script>alert(1)<script>"  # a film's name has no slash
    for name in ("candidates.json", "scenes-test.json"):
        text = (run / name).read_text()
        (run / name).write_text(text.replace("phantom-000000", bad))
    state = ReviewState.of(run)
    with served(state) as address:
        anna = Browser(address, state, "<b>Eve</b>")
        anna.judge(1, "reject", "e", reason='"><img src=x onerror=alert(1)>')
        Browser(address, state, "Ben").judge(1, "accept", "f")
        film = anna.part("/rule/1/film", film=bad)
        wrong = anna.wording(1, f"a(X) :- b(X), '{bad}'(X).")
        pages = [anna.get(p).text for p in ("/", "/rule/1", "/agreement", f"/rule/{bad}", f"/?q={bad}")]
    for text in (film, wrong, *pages):
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "<b>Eve" not in text
    assert "&lt;script&gt;alert" in film
    assert "&lt;b&gt;Eve" in pages[0]
