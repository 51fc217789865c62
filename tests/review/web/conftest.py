"""A run under review, and a browser's side of it: signed in, with a name, forms filled in."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from neurosym.review.web.state import ReviewState
from tests.review.web.runs import make_run, served


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("review") / "run", masks=True)


@pytest.fixture
def run(made_run: Path, tmp_path: Path) -> Path:
    """A copy that a test may write to; its films stay where they are."""
    return Path(shutil.copytree(made_run, tmp_path / "run", ignore=shutil.ignore_patterns("films")))


@pytest.fixture
def state(run: Path, tmp_path: Path) -> ReviewState:
    return ReviewState.of(run, tmp_path / "rules/accepted.rules")


@pytest.fixture
def address(state: ReviewState) -> Iterator[str]:
    with served(state) as found:
        yield found


class Browser(httpx.Client):
    """Signed in as a reviewer; `submit` fills in a form of a page as a browser would."""

    def __init__(self, address: str, state: ReviewState, reviewer: str = "Anna") -> None:
        super().__init__(base_url=address, follow_redirects=True, timeout=60)
        self.csrf = state.access.csrf
        self.get("/", params={"token": state.access.token})
        self.submit("/reviewer", name=reviewer)

    def submit(self, path: str, partial: bool = False, **fields: object) -> httpx.Response:
        headers = {"HX-Request": "true"} if partial else {}
        return self.post(path, data={"csrf": self.csrf} | fields, headers=headers)

    def judge(self, number: int, verdict: str, entry: str, **fields: object) -> httpx.Response:
        return self.submit(f"/rule/{number}/verdict", verdict=verdict, entry=entry, **fields)

    def part(self, path: str, **parameters: object) -> str:
        """What htmx would put into the page."""
        answer = self.get(path, params=parameters, headers={"HX-Request": "true"})  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        return answer.text

    def wording(self, number: int, text: str) -> str:
        answer = self.submit(f"/rule/{number}/wording", partial=True, text=text)
        assert answer.status_code == 200, answer.text
        return answer.text


@pytest.fixture
def anna(address: str, state: ReviewState) -> Browser:
    return Browser(address, state)


@pytest.fixture
def ben(address: str, state: ReviewState) -> Browser:
    return Browser(address, state, "Ben")


def field(text: str, name: str) -> str:
    """The value of a form's first field of a name."""
    found = re.search(rf'name="{name}" value="([^"]*)"', text)
    assert found is not None, text
    return found[1]
