"""The Language Server Protocol, spoken over pygls: requests come in, are answered in a thread, and never take the server down.

Documents are sent whole. Their mistakes are published once typing has paused; a document is checked by one task at a time, and
what was found in a text that has changed meanwhile is thrown away. An error in a handler is a message in the client's log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from neurosym.knowledge.editor import answers
from neurosym.knowledge.editor.diagnostics import Finding, ontology_findings, rule_findings
from neurosym.knowledge.editor.document import Document
from neurosym.knowledge.editor.navigation import read_document
from neurosym.knowledge.editor.project import Project
from neurosym.knowledge.editor.rulefile import RuleFile

log = logging.getLogger(__name__)

LANGUAGE: Final = "neurosym-rules"
"""The language id of rule files."""
_PAUSE: Final = 0.2
"""Seconds without typing after which a document is checked."""
_WATCHED: Final = "**/*.{ttl,owl,rdf,nt,obo,ofn,omn,owx,xml,rules}"


class Desk:
    """What lies open in the editor, and what was found in it."""

    def __init__(self, server: LanguageServer) -> None:
        self.server = server
        self.project = Project()
        self.rules: dict[str, RuleFile] = {}
        self.ontologies: dict[str, Document] = {}
        self.found: dict[str, tuple[Document, list[Finding]]] = {}
        self._waiting: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def put(self, uri: str, text: str, language: str | None, pause: float = 0.0) -> None:
        """Take a document's new text and check it, with every document that may depend on it."""
        path = Path(to_fs_path(uri) or "untitled.rules").resolve()
        encoding = self.server.workspace.position_encoding or types.PositionEncodingKind.Utf16
        document = Document(path, text, types.PositionEncodingKind(encoding).value)
        if language == LANGUAGE or path.suffix == ".rules":
            self.rules[uri] = RuleFile(document)
            self.check(uri, pause)
        else:
            self.ontologies[uri] = document
            self.project.unsaved[path] = text
            self.check_all(pause)

    def remove(self, uri: str) -> None:
        """Forget a document that was closed."""
        self.rules.pop(uri, None)
        self.found.pop(uri, None)
        self._publish(uri, [])
        document = self.ontologies.pop(uri, None)
        if document is not None:
            self.project.unsaved.pop(document.path, None)
            self.check_all()

    def document(self, uri: str) -> Document | None:
        """An open document."""
        return self.rules[uri].document if uri in self.rules else self.ontologies.get(uri)

    def other_rules(self, file: RuleFile) -> Iterator[RuleFile]:
        """The other rule files: the open ones as they are being edited, those of the workspace as they lie on disk."""
        opened = {f.document.path: f for f in list(self.rules.values())}
        yield from (f for path, f in opened.items() if path != file.document.path)
        for path in self.project.rule_files():
            document = None if path in opened else read_document(path)
            if document is not None:
                yield RuleFile(document)

    def check_all(self, pause: float = 0.0) -> None:
        """Check every open document."""
        for uri in (*self.ontologies, *self.rules):
            self.check(uri, pause)

    def check(self, uri: str, pause: float = 0.0) -> None:
        """Check a document after a pause; if that is under way, once more."""
        self._waiting.add(uri)
        if uri not in self._tasks:
            self._tasks[uri] = asyncio.get_running_loop().create_task(self._check_until_quiet(uri, pause))

    async def _check_until_quiet(self, uri: str, pause: float) -> None:
        try:
            while uri in self._waiting:
                self._waiting.discard(uri)
                await asyncio.sleep(pause)
                pause = _PAUSE
                document = self.document(uri)
                if uri in self._waiting or document is None:
                    continue
                findings = await asyncio.to_thread(self._findings, uri, document)
                if self.document(uri) is document:
                    self.found[uri] = (document, findings)
                    self._publish(uri, [answers.diagnostic(document, f) for f in findings])
        except Exception:
            log.exception("cannot check %s", uri)
        finally:
            del self._tasks[uri]

    def _findings(self, uri: str, document: Document) -> list[Finding]:
        file = self.rules.get(uri)
        if file is None:
            return ontology_findings(document, self.project.load([document.path]).problems)
        return rule_findings(file, self.project.vocabulary_of(file))

    def _publish(self, uri: str, diagnostics: list[types.Diagnostic]) -> None:
        self.server.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, diagnostics))


class _ClientLog(logging.Handler):
    """Sends what is logged, from whatever thread, to the client's log."""

    def __init__(self, server: LanguageServer) -> None:
        super().__init__(logging.WARNING)
        self.server, self.loop = server, asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        kind = types.MessageType.Error if record.levelno >= logging.ERROR else types.MessageType.Warning
        message = types.LogMessageParams(kind, self.format(record))
        try:
            self.loop.call_soon_threadsafe(self.server.window_log_message, message)
        except RuntimeError:  # the loop has ended, and nobody reads the log any more
            return


def build() -> LanguageServer:
    """A server with every handler in place."""
    server = LanguageServer(
        "neurosym", version("neurosym-imaging"), text_document_sync_kind=types.TextDocumentSyncKind.Full
    )
    desk = Desk(server)
    _take_part(server, desk)
    _follow_documents(server, desk)
    for method, (answer, options) in answers.ANSWERS.items():
        _answer(server, desk, method, answer, options)
    return server


def _answer(server: LanguageServer, desk: Desk, method: str, answer: Callable[[Desk, Any], Any], options: Any) -> None:
    async def handle(params: Any) -> Any:
        try:
            return await asyncio.to_thread(answer, desk, params)
        except Exception:
            log.exception("%s failed", method)
            return None

    server.feature(method, options)(handle)


def _take_part(server: LanguageServer, desk: Desk) -> None:
    """What the client says of itself: its folders, its settings, which files have changed."""

    @server.feature(types.INITIALIZE)
    def initialize(params: types.InitializeParams) -> None:
        logging.getLogger("neurosym").addHandler(_ClientLog(server))
        folders = [f.uri for f in params.workspace_folders or ()] or [params.root_uri or ""]
        desk.project.roots = tuple(Path(path).resolve() for uri in folders if (path := to_fs_path(uri)))
        desk.project.configured = answers.setting(params.initialization_options)

    @server.feature(types.INITIALIZED)
    def initialized(_: types.InitializedParams) -> None:
        workspace = server.client_capabilities.workspace
        watched = workspace.did_change_watched_files if workspace else None
        if watched and watched.dynamic_registration:
            pattern = types.DidChangeWatchedFilesRegistrationOptions([types.FileSystemWatcher(_WATCHED)])
            registration = types.Registration("watch", types.WORKSPACE_DID_CHANGE_WATCHED_FILES, pattern)
            server.client_register_capability(types.RegistrationParams([registration]))

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    def configured(params: types.DidChangeConfigurationParams) -> None:
        desk.project.configured = answers.setting(params.settings) or desk.project.configured
        desk.check_all()

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def changed_on_disk(_: types.DidChangeWatchedFilesParams) -> None:
        desk.check_all()


def _follow_documents(server: LanguageServer, desk: Desk) -> None:
    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: types.DidOpenTextDocumentParams) -> None:
        desk.put(params.text_document.uri, params.text_document.text, params.text_document.language_id)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: types.DidChangeTextDocumentParams) -> None:
        document = server.workspace.get_text_document(params.text_document.uri)
        desk.put(params.text_document.uri, document.source, document.language_id, _PAUSE)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def saved(params: types.DidSaveTextDocumentParams) -> None:
        desk.check_all()

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: types.DidCloseTextDocumentParams) -> None:
        desk.remove(params.text_document.uri)
