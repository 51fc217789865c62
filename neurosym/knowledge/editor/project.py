"""Which ontology belongs to a rule file, loaded once, and again when one of its files changes on disk or in the editor.

A line `%! ontology=../ontologies/thorax.ttl` in the rule file decides; else the editor's setting `neurosym.ontologies`; else
the ontology of the workspace whose vocabulary covers most of the file's predicates. While an ontology is being edited and
cannot be loaded, the last state that could be is used, and that is said.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from neurosym.errors import NeurosymError, Problem, short_path
from neurosym.knowledge.editor.rulefile import RuleFile
from neurosym.knowledge.ontology import Ontology, load_ontology

log = logging.getLogger(__name__)

_FOLDER = "ontologies"
_SKIPPED = frozenset({"node_modules", "site", "dist", "build", "__pycache__"})
_MOST_RULE_FILES = 500
Stamp = tuple[tuple[Path, int], ...]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The ontology that a rule file is checked against, None if there is none, and the problems of its files."""

    ontology: Ontology | None
    paths: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Every class and relation."""
        return frozenset((*self.ontology.classes, *self.ontology.relations)) if self.ontology else frozenset()


@dataclass(slots=True)
class Project:
    """The folders of the workspace, the editor's setting, the ontologies that are open, and what was loaded of them."""

    roots: tuple[Path, ...] = ()
    configured: tuple[str, ...] = ()
    unsaved: dict[Path, str] = field(default_factory=dict)
    _loaded: dict[tuple[Path, ...], tuple[Stamp, tuple[Path, ...], Vocabulary]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def vocabulary_of(self, file: RuleFile) -> Vocabulary:
        """The vocabulary of a rule file, by the three ways in their order."""
        folder = file.document.path.parent
        if file.ontologies:
            return self.load(folder / name for name in file.ontologies)
        if self.configured:
            return self.load(self._configured_path(name, folder) for name in self.configured)
        used = {t.name for t in file.predicates}
        stem = file.document.path.stem
        loaded = [self.load([path]) for path in self.candidates(folder)]
        known = [v for v in loaded if v.ontology is not None] or loaded or [Vocabulary(None)]
        return max(known, key=lambda v: (len(used & v.names), stem in {p.stem for p in v.paths}, len(v.names)))

    def _configured_path(self, name: str, folder: Path) -> Path:
        places = [root / name for root in self.roots]
        return next((p for p in places if p.exists()), places[0] if places else folder / name)

    def candidates(self, folder: Path) -> list[Path]:
        """The Turtle files in `ontologies/` of the workspace and in the rule file's own folder."""
        roots = self.roots or (folder.parent,)
        folders = dict.fromkeys(p.resolve() for p in (*(root / _FOLDER for root in roots), folder))
        return [path for place in folders if place.is_dir() for path in sorted(place.glob("*.ttl"))]

    def load(self, paths: Iterable[Path]) -> Vocabulary:
        """The ontology of these files with what they import, anew only if one of them has changed."""
        try:
            wanted = tuple(dict.fromkeys(p.resolve() for p in paths))
        except (ValueError, OSError) as error:  # a NUL, or a circle of links
            return Vocabulary(None, (), (Problem(f"not a file: {error}"),))
        with self._lock:
            stamp, files, vocabulary = self._loaded.get(wanted, ((), (), Vocabulary(None)))
            if not files or stamp != self._stamp(files):
                vocabulary = self._read(wanted, vocabulary.ontology)
                files = tuple(dict.fromkeys((*wanted, *_files_of(vocabulary))))
                self._loaded[wanted] = (self._stamp(files), files, vocabulary)
            return vocabulary

    def _read(self, wanted: tuple[Path, ...], last: Ontology | None) -> Vocabulary:
        try:
            return Vocabulary(load_ontology(wanted, dict(self.unsaved)), wanted)
        except NeurosymError as error:
            return Vocabulary(last, wanted, error.problems)
        except (
            Exception
        ) as error:  # a text that is being typed may be anything; the reader must not take the editor down
            log.exception("cannot load %s", ", ".join(map(str, wanted)))
            problem = Problem(f"cannot be loaded: {type(error).__name__}: {error}", short_path(wanted[-1]))
            return Vocabulary(last, wanted, (problem,))

    def _stamp(self, files: Iterable[Path]) -> Stamp:
        return tuple((file, self._state(file)) for file in files)

    def _state(self, file: Path) -> int:
        if file in self.unsaved:
            return hash(self.unsaved[file])
        try:
            return file.stat().st_mtime_ns
        except OSError:
            return 0

    def rule_files(self) -> list[Path]:
        """The rule files of the workspace's folders, at most 500."""
        found: dict[Path, None] = {}
        for path in (p for root in self.roots for p in _rule_files_below(root)):
            found[path.resolve()] = None
            if len(found) >= _MOST_RULE_FILES:
                break
        return list(found)


def _files_of(vocabulary: Vocabulary) -> Iterator[Path]:
    """The files that a vocabulary depends on; where loading failed, any file beside those asked for may be the cure."""
    if vocabulary.ontology is not None:
        yield from vocabulary.ontology.files
    if vocabulary.problems:
        for folder in {p.parent for p in vocabulary.paths if p.parent.is_dir()}:
            yield from sorted(p for p in folder.iterdir() if p.is_file())


def _rule_files_below(folder: Path) -> Iterator[Path]:
    try:
        children = sorted(folder.iterdir())
    except OSError:
        return
    for child in children:
        if child.name.startswith(".") or child.name in _SKIPPED:
            continue
        if child.is_dir() and not child.is_symlink():
            yield from _rule_files_below(child)
        elif child.suffix == ".rules":
            yield child
