"""`neurosym review RUN` as a program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from neurosym.cli import app
from neurosym.errors import ConfigError
from neurosym.review.web.serve import _doorway, serve
from neurosym.review.web.state import ReviewState

ROOT = Path(__file__).parents[3]


def test_the_page_is_served_at_the_address_that_is_printed_until_it_is_interrupted(run: Path) -> None:
    command = [sys.executable, "-m", "neurosym", "review", str(run), "--no-browser", "--reviewer", "Anna"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with httpx.Client(follow_redirects=True) as browser:
            browser.get(address)
            assert "6 of 6 rules" in browser.get(address.split("?")[0]).text
        server.send_signal(signal.SIGINT)
        _, told = server.communicate(timeout=20)
    assert "6 rules to review" in told
    assert "Traceback" not in told


def test_a_port_that_is_taken_is_told(state: ReviewState, address: str) -> None:
    port = int(address.rsplit(":", 1)[1])
    with pytest.raises(
        ConfigError, match=f"cannot listen on port {port}: Address already in use; choose another --port"
    ):
        serve(state, port, browse=False)


def test_the_page_that_opens_a_browser_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    path = _doorway(tmp_path, "http://127.0.0.1:1/?token=a&b")
    assert path.stat().st_mode & 0o077 == 0
    assert "url=http://127.0.0.1:1/?token=a&amp;b" in path.read_text()


@pytest.mark.parametrize("words", [["list", "--help"], ["page", "--help"], ["--help"], ["runs/x", "--help"]])
def test_a_folder_stands_where_a_subcommand_may(words: list[str]) -> None:
    result = CliRunner().invoke(app, ["review", *words], catch_exceptions=False)
    assert result.exit_code == 0
    assert ("Open the review page of a run" in result.stdout) == (words != ["list", "--help"])


def test_a_misspelt_subcommand_is_no_folder() -> None:
    result = CliRunner().invoke(app, ["review", "lits", "runs/x"])
    assert result.exit_code == 2
    assert "No such command 'lits'" in result.stderr


def test_without_the_extra_the_page_says_what_to_install(run: Path) -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None; from neurosym.cli import main; "
        f"sys.argv = ['neurosym', 'review', {str(run)!r}]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "uvicorn is not installed; pip install 'neurosym-imaging[review]'" in done.stderr
