"""An axiom that is read but not yet translated, and what the readers of each kind of axiom share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from neurosym.knowledge.annotations import subject_of
from neurosym.knowledge.expressions import ExpressionReader, Role
from neurosym.knowledge.horn import Clause
from neurosym.knowledge.triples import Node, Triple, is_blank
from neurosym.knowledge.vocabulary import Unreadable, Vocabulary, local_name


class Draft(NamedTuple):
    """`kind`, `text`, `triple`, `structural` and `unused` are those of the `Axiom`.

    `clauses` are its translation, or make it; `id` names its rules, "" if that is to be made from the text.
    """

    kind: str
    text: str
    triple: Triple
    clauses: Callable[[], Iterable[Clause]] | tuple[Clause, ...]
    structural: bool = False
    unused: str = ""
    id: str = ""


class DraftReader:
    """Reads the axioms of one ontology; a reader of some kinds of axioms extends it."""

    def __init__(self, vocabulary: Vocabulary, expressions: ExpressionReader) -> None:
        self.v, self.t, self.expressions = vocabulary, vocabulary.triples, expressions

    def draft(self, kind: str, triple: Triple, read: Callable[[Triple], Draft]) -> Draft:
        """What `read` returns; where it cannot, an unused draft with the reason."""
        try:
            return read(triple)
        except (Unreadable, ValueError) as error:
            if isinstance(error, ValueError):  # only a broken RDF list raises it
                self.v.problem(str(error), "write the list anew", subject_of(self.t, triple), local_name(triple[1]))
            subject = self.v.names.get(triple[0]) or ("_" if is_blank(triple[0]) else local_name(triple[0]))
            return Draft(kind, f"{subject} {kind}", triple, (), unused=str(error))

    def role(self, node: Node, triple: Triple) -> Role:
        """The property at a node of an axiom."""
        return self.expressions.role(node, subject_of(self.t, triple))
