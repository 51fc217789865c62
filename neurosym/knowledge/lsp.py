"""`serve`: the language server for rule files and ontologies, on standard input and output (docs/editors.md)."""

from __future__ import annotations

import sys


def serve() -> None:
    """Speak the Language Server Protocol until the editor says exit.

    Standard output carries nothing but the protocol: what any library prints goes to standard error.
    """
    from neurosym.knowledge.editor.server import build

    protocol = sys.stdout.buffer
    sys.stdout = sys.stderr
    build().start_io(sys.stdin.buffer, protocol)
