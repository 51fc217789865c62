"""The review page on 127.0.0.1, until it is interrupted."""

from __future__ import annotations

import html
import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import uvicorn

from neurosym.errors import ConfigError, Problem
from neurosym.review.web.app import create_app
from neurosym.review.web.state import ReviewState

HOST = "127.0.0.1"


def serve(state: ReviewState, port: int = 0, browse: bool = True, told: Callable[[str], None] = print) -> None:
    """Serve a run's review page; `told` is called with its address, which holds the token, as soon as it answers.

    Raises:
        ConfigError: the port is taken.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        cure = "choose another --port, or 0 for any that is free"
        raise ConfigError(Problem(f"cannot listen on port {port}: {error.strerror}", cure=cure)) from error
    listening.listen(128)
    address = f"http://{HOST}:{listening.getsockname()[1]}/?token={quote(state.access.token)}"
    told(address)
    settings = uvicorn.Config(create_app(state), log_level="warning", access_log=False, server_header=False)
    with listening, TemporaryDirectory(prefix="neurosym-review-") as folder:
        if browse:
            webbrowser.open(_doorway(Path(folder), address).as_uri())
        uvicorn.Server(settings).run(sockets=[listening])


def _doorway(folder: Path, address: str) -> Path:
    """A page that leads to the address: what a browser is started with can be read by other users of the machine."""
    path = folder / "review.html"
    path.touch(mode=0o600)
    path.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={html.escape(address)}">', "utf-8")
    return path
