"""A reviewer at work in a real Chromium; skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from neurosym.review.web.state import ReviewState

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH (apt-get install chromium)")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, address: str, state: ReviewState) -> Iterator[Page]:
    """Signed in as Anna, at the list; whatever the console complains of fails the test."""
    context = chromium.new_context(viewport={"width": 1366, "height": 768})
    page = context.new_page()
    page.set_default_timeout(15_000)
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    foreign: list[str] = []
    page.on("request", lambda r: None if r.url.startswith(address) else foreign.append(r.url))
    page.goto(f"{address}/?token={state.access.token}")
    page.wait_for_url("**/reviewer")
    page.fill("#name", "Anna")
    page.keyboard.press("Enter")
    page.wait_for_selector("a.row")
    yield page
    context.close()
    assert foreign == []
    assert complaints == []


def open_first(page: Page) -> None:
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("#film svg")


def lit(page: Page) -> list[str]:
    return sorted(page.locator("#film .object.lit text").all_text_contents())


def test_a_reviewer_gets_through_the_rules_with_the_keyboard_alone(page: Page, state: ReviewState) -> None:
    assert "token" not in page.url
    open_first(page)
    page.keyboard.press("a")
    page.wait_for_url("**/rule/2?*")
    assert "Rule 1 accepted" in page.locator(".done").inner_text()
    page.keyboard.press("r")
    page.keyboard.type("follows from the anatomy")
    page.keyboard.press("Enter")
    page.wait_for_url("**/rule/3?*")
    page.keyboard.press("l")
    page.wait_for_url("**/rule/4?*")
    page.keyboard.press("u")  # takes back what was just done
    page.wait_for_url("**/rule/3?*")
    page.keyboard.press("k")
    page.wait_for_url("**/rule/2?*")
    page.keyboard.press("j")
    page.wait_for_url("**/rule/3?*")
    page.keyboard.press("/")
    page.wait_for_selector("#q:focus")
    page.keyboard.type("nodule")
    expect(page.locator("a.row")).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/rule/6?q=nodule")
    entries = [(v.verdict, v.reason) for v in state.review.ledger.verdicts()]
    assert entries == [("accept", ""), ("reject", "follows from the anatomy"), ("later", ""), ("undo", "")]


def test_letters_in_a_field_are_letters_and_the_shortcuts_can_be_turned_off(page: Page, state: ReviewState) -> None:
    open_first(page)
    page.focus("#reason")
    page.keyboard.type("all real")
    assert page.input_value("#reason") == "all real"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.uncheck("#keys-on")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.wait_for_timeout(200)
    assert state.review.ledger.verdicts() == []


def test_the_objects_of_an_atom_are_lit_up_by_pointer_and_by_focus(page: Page) -> None:
    open_first(page)
    page.hover(".atom >> text=right_lung(X)")
    assert lit(page) == ["X right lung"]
    page.hover(".atom >> text=left_of(X, Y)")
    assert lit(page) == ["X right lung", "Y heart"]
    page.hover("h1")
    assert lit(page) == []
    page.focus(".atom >> text=heart(Y)")
    assert lit(page) == ["Y heart"]
    page.keyboard.press("Escape")
    page.hover("#film .object.v1 rect", force=True)
    assert page.locator(".atom.lit").all_text_contents() == ["left_of(X, Y)", "heart(Y)"]


def test_films_cases_and_the_plain_film_are_one_key_away(page: Page) -> None:
    page.click("a.row >> text=heart and Y is a lung")
    page.wait_for_selector("#film svg")
    first = page.inner_text("#film h2")
    page.keyboard.press("c")
    page.wait_for_selector("text=case 2 of 2")
    page.keyboard.press("n")
    expect(page.locator("#film h2")).not_to_have_text(first)
    page.keyboard.press("p")
    expect(page.locator("#film h2")).to_have_text(first)
    page.keyboard.press("o")
    assert page.locator("#film .object:visible").count() == 0
    assert page.get_attribute("#objects", "aria-pressed") == "false"
    page.keyboard.press("n")
    expect(page.locator("#film h2")).not_to_have_text(first)
    assert page.get_attribute("#objects", "aria-pressed") == "false"  # the next film is plain, too
    page.keyboard.press("z")
    box = page.locator(".films").bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (1366, 768)
    page.keyboard.press("Escape")
    assert page.get_attribute("#zoom", "aria-pressed") == "false"


def test_an_edit_is_measured_while_it_is_typed_and_accepted_by_key(page: Page, state: ReviewState) -> None:
    open_first(page)
    page.keyboard.press("e")
    page.keyboard.press("Control+A")
    page.keyboard.type("left_of(X, Y) :- lng(X), heart(Y).")
    page.wait_for_selector("#wording .error >> text=did you mean 'lung'")
    page.fill("#wording-text", "left_of(X, Y) :- lung(X), heart(Y).")
    page.wait_for_selector("#wording .compare")
    assert page.locator("#film .tag").inner_text() == "your wording"
    page.hover("#wording .atom >> text=lung(X)")
    assert lit(page) == ["X right lung"]
    page.hover(".atom >> text=right_lung(X)")  # the induced rule's films are not the ones that are shown
    assert lit(page) == []
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/rule/2?*")
    assert [v.edited for v in state.review.ledger.verdicts()] == ["0.5 :: left_of(X, Y) :- lung(X), heart(Y)."]


def test_a_double_click_counts_once(page: Page, state: ReviewState) -> None:
    open_first(page)
    page.dblclick("#accept button")
    page.wait_for_url("**/rule/2?*")
    page.go_back()
    page.wait_for_selector(".verdict .tag.accept")
    assert len(state.review.ledger.verdicts()) == 1


EVERY = ("/", "/rule/1", "/rule/1?edit", "/rule/1?help", "/agreement", "/publish", "/reviewer")


@pytest.mark.parametrize(("scheme", "paths"), [("light", EVERY), ("dark", ("/", "/rule/1?edit", "/publish"))])
def test_no_page_has_a_serious_accessibility_finding(
    page: Page, address: str, scheme: Literal["light", "dark"], paths: tuple[str, ...]
) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    open_first(page)
    page.keyboard.press("a")
    page.wait_for_selector(".done")
    for path in paths:
        page.goto(address + path)
        if path.endswith("edit"):
            page.keyboard.press("e")
            page.fill("#wording-text", "left_of(X, Y) :- lung(X), heart(Y), lng(X).")
            page.wait_for_selector("#wording .error")
        if path.endswith("help"):
            page.keyboard.press("?")
        found = Axe().run(page).response["violations"]
        serious = [(v["id"], [n["html"] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")]
        assert serious == [], path


def test_the_theme_is_the_systems_until_it_is_chosen(page: Page) -> None:
    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.emulate_media(color_scheme="light")
    light = ground()
    page.emulate_media(color_scheme="dark")
    dark = ground()
    assert light != dark
    page.click("#theme")
    assert ground() == light
    page.reload()
    assert ground() == light


def test_the_essentials_of_a_rule_fit_on_a_screen_of_1366_by_768(page: Page, address: str) -> None:
    for path in ("/", "/rule/1", "/agreement", "/publish"):
        page.goto(address + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1366, path
    page.goto(address + "/rule/1")
    assert page.evaluate("document.documentElement.scrollHeight") <= 768
    for what in ("h1", ".atoms", ".figures", "#accept button", "#reject button", "#film svg", ".strip"):
        box = page.locator(what).first.bounding_box()
        assert box is not None
        assert box["y"] >= 0, what
        assert box["y"] + box["height"] <= 768, what
    film = page.locator("#film svg").bounding_box()
    assert film is not None
    assert film["height"] >= 500


def test_the_rule_stands_in_the_picture_of_the_ontology(page: Page) -> None:
    open_first(page)
    page.wait_for_selector("#graph canvas", state="attached")
    nodes = page.evaluate("document.getElementById('graph').cy.nodes('.named').map(n => n.data('label'))")
    assert sorted(nodes) == ["heart", "right lung"]
    colours = page.evaluate(
        """() => { const c = document.querySelector('#graph canvas[data-id="layer2-node"]');
        return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size; }"""
    )
    assert colours > 10  # it is painted
