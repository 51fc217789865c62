"""Each request of the protocol, its answer put into the protocol's types; the thinking is done in the other modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from lsprotocol import types

from neurosym.errors import RuleError
from neurosym.knowledge.editor import completion, hover, navigation
from neurosym.knowledge.editor.diagnostics import Finding
from neurosym.knowledge.editor.document import Document
from neurosym.knowledge.rules import format_text

if TYPE_CHECKING:
    from neurosym.knowledge.editor.server import Desk

_SEVERITIES: Final = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "note": types.DiagnosticSeverity.Information,
}
_KINDS: Final = {
    "class": types.CompletionItemKind.Class,
    "relation": types.CompletionItemKind.Function,
    "variable": types.CompletionItemKind.Variable,
    "keyword": types.CompletionItemKind.Keyword,
    "key": types.CompletionItemKind.Property,
    "value": types.CompletionItemKind.EnumMember,
}


def setting(value: object) -> tuple[str, ...]:
    """The ontologies that a setting names: `{"ontologies": […]}`, with or without `{"neurosym": …}` around it."""
    if isinstance(value, Mapping) and isinstance(value.get("neurosym"), Mapping):
        value = value["neurosym"]
    named = value.get("ontologies") if isinstance(value, Mapping) else None
    named = [named] if isinstance(named, str) else named
    return tuple(n for n in named if isinstance(n, str)) if isinstance(named, list | tuple) else ()


def span(document: Document, start: int, end: int) -> types.Range:
    """Two offsets as a range."""
    return types.Range(types.Position(*document.position(start)), types.Position(*document.position(end)))


def diagnostic(document: Document, finding: Finding) -> types.Diagnostic:
    """A finding as the client shows it."""
    where = span(document, finding.start, finding.end)
    return types.Diagnostic(where, finding.message, severity=_SEVERITIES[finding.severity], source="neurosym")


def _offset(document: Document, position: types.Position) -> int:
    return document.offset(position.line, position.character)


def _location(desk: Desk, place: navigation.Place) -> types.Location:
    """The place, under the address by which the client knows its document."""
    opened = [(u, f.document) for u, f in desk.rules.items()] + list(desk.ontologies.items())
    uri = next((u for u, d in opened if d.path == place.document.path), place.document.path.as_uri())
    return types.Location(uri, span(place.document, place.start, place.end))


def _hover(desk: Desk, params: types.HoverParams) -> types.Hover | None:
    file = desk.rules.get(params.text_document.uri)
    if file is None:
        return None
    ontology = desk.project.vocabulary_of(file).ontology
    found = hover.hover(file, ontology, _offset(file.document, params.position))
    if found is None:
        return None
    text, start, end = found
    return types.Hover(types.MarkupContent(types.MarkupKind.Markdown, text), span(file.document, start, end))


def _completion(desk: Desk, params: types.CompletionParams) -> types.CompletionList | None:
    file = desk.rules.get(params.text_document.uri)
    if file is None:
        return None
    offset = _offset(file.document, params.position)
    ontology = desk.project.vocabulary_of(file).ontology
    named = desk.project.candidates(file.document.path.parent)
    found, more = completion.complete(file, ontology, offset, named)
    with_snippets = _knows_snippets(desk)
    items = []
    for index, s in enumerate(found):
        snippet = s.snippet if with_snippets else ""
        new = snippet or (s.snippet.split("$1")[0].rstrip("({") if s.kind == "key" else s.text)
        item = types.CompletionItem(
            s.text,
            kind=_KINDS[s.kind],
            detail=s.detail or None,
            sort_text=f"{index:04}",
            filter_text=s.text,
            text_edit=types.TextEdit(span(file.document, s.start, offset), new),
            insert_text_format=types.InsertTextFormat.Snippet if snippet else types.InsertTextFormat.PlainText,
        )
        if s.documentation:
            item.documentation = types.MarkupContent(types.MarkupKind.Markdown, s.documentation)
        items.append(item)
    return types.CompletionList(more, items)


def _knows_snippets(desk: Desk) -> bool:
    text = desk.server.client_capabilities.text_document
    item = text.completion.completion_item if text and text.completion else None
    return bool(item and item.snippet_support)


def _definition(desk: Desk, params: types.DefinitionParams) -> list[types.Location]:
    file = desk.rules.get(params.text_document.uri)
    if file is None:
        return []
    offset = _offset(file.document, params.position)
    found = navigation.definition(file, desk.project.vocabulary_of(file), offset, desk.other_rules(file))
    return [_location(desk, place) for place in found]


def _references(desk: Desk, params: types.ReferenceParams) -> list[types.Location]:
    file = desk.rules.get(params.text_document.uri)
    if file is None:
        return []
    offset, declared = _offset(file.document, params.position), params.context.include_declaration
    found = navigation.references(file, desk.project.vocabulary_of(file), offset, desk.other_rules(file), declared)
    return [_location(desk, place) for place in found]


def _symbols(desk: Desk, params: types.DocumentSymbolParams) -> list[types.DocumentSymbol]:
    file = desk.rules.get(params.text_document.uri)
    if file is None:
        return []
    return [
        types.DocumentSymbol(
            s.name,
            types.SymbolKind.Function,
            span(file.document, s.start, s.end),
            span(file.document, s.name_start, s.name_end),
            detail=s.text,
        )
        for s in navigation.symbols(file)
    ]


def _formatting(desk: Desk, params: types.DocumentFormattingParams) -> list[types.TextEdit]:
    file = desk.rules.get(params.text_document.uri)
    if file is None:
        return []
    text = file.document.text
    try:
        formatted = format_text(text, file.file)
    except RuleError:  # its mistakes are shown as diagnostics; a text that is not understood is left alone
        return []
    return [] if formatted == text else [types.TextEdit(span(file.document, 0, len(text)), formatted)]


def _actions(desk: Desk, params: types.CodeActionParams) -> list[types.CodeAction]:
    uri = params.text_document.uri
    document, findings = desk.found.get(uri, (None, []))
    if document is None or document is not desk.document(uri):
        return []
    start, end = _offset(document, params.range.start), _offset(document, params.range.end)
    return [
        types.CodeAction(
            f"Write {f.replacement} instead",
            kind=types.CodeActionKind.QuickFix,
            diagnostics=[diagnostic(document, f)],
            is_preferred=True,
            edit=types.WorkspaceEdit({uri: [types.TextEdit(span(document, f.start, f.end), f.replacement)]}),
        )
        for f in findings
        if f.replacement and f.start <= end and start <= f.end
    ]


ANSWERS: Final[Mapping[str, tuple[Callable[[Desk, Any], Any], Any]]] = {
    types.TEXT_DOCUMENT_HOVER: (_hover, None),
    types.TEXT_DOCUMENT_COMPLETION: (_completion, types.CompletionOptions(trigger_characters=["(", "{", "!", "="])),
    types.TEXT_DOCUMENT_DEFINITION: (_definition, None),
    types.TEXT_DOCUMENT_REFERENCES: (_references, None),
    types.TEXT_DOCUMENT_DOCUMENT_SYMBOL: (_symbols, None),
    types.TEXT_DOCUMENT_FORMATTING: (_formatting, None),
    types.TEXT_DOCUMENT_CODE_ACTION: (_actions, types.CodeActionOptions([types.CodeActionKind.QuickFix])),
}
