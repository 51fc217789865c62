"""Rules over plain knowledge graphs: `induce --facts` on triples, and `complete`. Both need numba, the extra `graphs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from neurosym.cli.console import AsJson, bars, console, escaped, output, print_json, show_done
from neurosym.errors import ConfigError, InductionError

_SHOWN = 15
_LISTED = 100


def register(app: typer.Typer) -> None:
    """Add `complete` to the program."""
    app.command(
        epilog="Examples: `neurosym complete --rules x.rules --train train.txt --valid valid.txt --test test.txt --json`, "
        "`neurosym complete --rules x.rules --train train.txt --subject ann --relation parent`"
    )(complete)


def induce_graph(
    graph: Path,
    ontology: Path | None,
    settings: Mapping[str, Any],
    evolution: Mapping[str, Any],
    out: Path | None,
    strict: bool,
    top: int | None,
    as_json: bool,
    how: Mapping[str, Any],
    valid: Path | None = None,
    folder: Path | None = None,
    only: Sequence[str] | None = None,
) -> None:
    """Learn rules from a graph, with the classes of an ontology if there is one, write them, and show the best.

    `settings` are those of `LearnerConfig`, `evolution` those of `EvolutionConfig`, `how` the folder, whether to resume, and
    the scheduler of `RuleLearner.fit`, `valid` the facts by which the fewest rules are chosen, `folder` where to write the
    facts as a store, which is then mapped, `only` the relations to read of one.
    """
    from neurosym.induction.kg.clock import State
    from neurosym.induction.kg.convergence import Convergence, as_dicts, picture, said
    from neurosym.induction.kg.covering import covering
    from neurosym.induction.kg.files import rules_of, write_rule_set, writing_seconds
    from neurosym.induction.kg.island import EvolutionConfig
    from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
    from neurosym.induction.kg.reading import read_graph, read_store
    from neurosym.induction.kg.store import TripleStore
    from neurosym.induction.kg.thinning import held_back

    config = LearnerConfig(**settings, evolution=EvolutionConfig(**evolution))
    out = out or graph.with_name(f"{graph.name.split('.')[0]}-candidates.rules")
    if only:
        store = TripleStore.open(graph, only)
    elif ontology is None:
        store = read_store(graph, strict)
    else:
        from neurosym.induction.kg.types import typed
        from neurosym.knowledge.ontology import load_ontology

        store = typed(read_graph(graph, strict), load_ontology([ontology]), strict).store()
    if folder is not None:
        store.write(folder)
        store = TripleStore.open(folder)
    held = None if valid is None else held_back(store, read_graph(valid, strict).facts)
    states = Convergence()
    with bars() as shown:
        advance = shown("induce")

        def told(state: State) -> None:
            if states.told(state):
                advance(int(min(state.seconds, config.budget or 0)), int(config.budget or 0), said(states))
                shown.below(picture(states, config.budget))

        after = partial(writing_seconds, store, most=top)
        learner = RuleLearner(config).fit(store, told, held=held, after=after, **how)
    order = None if top is None else covering(store, learner.rules, top).rules
    left_out = write_rule_set(out, store, learner.rules, f"learned from {graph.name}, {len(store)} facts", order)
    best = rules_of(store, learner.rules, _LISTED, order)
    written = len(learner.rules if order is None else order) - left_out
    if as_json:
        told_rules = [str(rule) for rule in best]
        value = {"out": str(out), "count": written, "seconds": round(states[-1].seconds, 1), "rules": told_rules}
        value["progress"] = as_dicts(states)
        if learner.beginnings is not None:
            sizes, mrr = learner.beginnings.sizes.tolist(), learner.beginnings.mrr.max(1).tolist()
            value["valid"] = [{"rules": n, "mrr": round(v, 4)} for n, v in zip(sizes, mrr, strict=True)]
        print_json(value)
        return
    table = Table("rule", "support", "bound", "coverage", "p", title=f"{written} rules, the first {_SHOWN}")
    for rule in best[:_SHOWN]:
        support = f"{rule.meta['support']}/{rule.meta['body_size']}"
        table.add_row(escaped(str(rule)), support, *(rule.meta[k] for k in ("bound", "coverage", "p")))
    output.print(table)
    if left_out:
        console.print(f"{left_out} rules have no place in {out.suffix} files and were left out")
    if learner.beginnings is not None:
        kept, method, mrr = learner.beginnings.smallest(config.tolerance)
        every, of_all = int(learner.beginnings.sizes[0]), float(learner.beginnings.mrr[0].max())
        console.print(
            f"MRR of {escaped(str(valid))}: {mrr:.4f} with the {kept} rules kept ({method}), {of_all:.4f} with all {every}",
            soft_wrap=True,
        )
    show_done("written", f"{out} ({written} rules, {states[-1].seconds:.0f} s)")


def complete(
    rules: Annotated[Path, typer.Option(help="A rule file: .rules, or AnyBURL's with the suffix .tsv.")],
    train: Annotated[Path, typer.Option(help="The facts that rules are applied to.")],
    valid: Annotated[Path | None, typer.Option(help="Facts by which the aggregation is chosen.")] = None,
    test: Annotated[Path | None, typer.Option(help="Facts that are asked for, in both directions.")] = None,
    aggregation: Annotated[
        str,
        typer.Option(
            help="max, max-plus, noisy-or, grouped, or auto: the one of these that is best on --valid; by-relation, learned."
        ),
    ] = "auto",
    measure: Annotated[bool, typer.Option("--measure", help="Count support and body size on --train anew.")] = False,
    subject: Annotated[str | None, typer.Option(help="Ask one question: what is RELATION of SUBJECT?")] = None,
    relation: Annotated[str | None, typer.Option(help="The relation of that question.")] = None,
    inverse: Annotated[bool, typer.Option("--inverse", help="Ask whose RELATION it is.")] = False,
    top: Annotated[int, typer.Option(min=1, help="Most answers to show.")] = 10,
    workers: Annotated[int, typer.Option(min=1, help="Threads.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Say which facts are missing: filtered MRR and Hits of held-back facts, or answers to one question with reasons."""
    if (subject is None) != (relation is None):
        raise ConfigError("a question needs both --subject and --relation")
    if (test is None) == (subject is None):
        raise ConfigError("give either --test FILE, or --subject and --relation")
    if test is not None:
        _ranked(rules, train, valid, test, aggregation, measure, workers, as_json)
    elif subject is not None and relation is not None:
        _answered(rules, train, subject, relation, inverse, aggregation, measure, top, as_json)


def _answered(
    rules: Path,
    train: Path,
    subject: str,
    relation: str,
    inverse: bool,
    method: str,
    measure: bool,
    top: int,
    as_json: bool,
) -> None:
    """The answers to one question, each with its reasons."""
    from neurosym.induction.kg.applied import arrange
    from neurosym.induction.kg.files import read_rule_set
    from neurosym.induction.kg.learner import answers_to
    from neurosym.induction.kg.reading import read_store

    if method in ("by-relation", "learned"):
        raise InductionError(f"the aggregation `{method}` needs facts held back, so it is for --test; name another")
    store = read_store(train)
    columns = read_rule_set(rules, store, measure)
    method = "noisy-or" if method == "auto" else method
    found = answers_to(store, columns, arrange(store, columns), subject, relation, inverse, top, method)
    if as_json:
        reasons = [[{"rule": str(r.rule), "facts": r.facts} for r in answer.reasons] for answer in found]
        print_json([{"entity": a.entity, "score": a.score, "reasons": r} for a, r in zip(found, reasons, strict=True)])
        return
    for answer in found:
        output.print(f"[bold]{escaped(answer.entity)}[/] {answer.score:.3f}", soft_wrap=True)
        for reason in answer.reasons:
            facts = ", ".join(f"{name}({s}, {o})" for name, s, o in reason.facts)
            output.print(f"  {escaped(str(reason.rule))}  [dim]{escaped(facts)}[/]", soft_wrap=True)


def _ranked(
    rules: Path, train: Path, valid: Path | None, test: Path, method: str, measure: bool, workers: int, as_json: bool
) -> None:
    """Ranks of the answers of held-back facts."""
    from neurosym.induction.kg.aggregation import Aggregation, ByDirection, aggregation
    from neurosym.induction.kg.applied import arrange
    from neurosym.induction.kg.completion import best_aggregation, rank_answers
    from neurosym.induction.kg.files import read_rule_set
    from neurosym.induction.kg.reading import read_splits
    from neurosym.induction.kg.tuning import tuned_aggregation
    from neurosym.induction.kg.weights import learned_aggregation

    how: Aggregation | ByDirection
    if method in ("auto", "by-relation", "learned") and valid is None:
        raise InductionError(
            f"the aggregation `{method}` needs --valid FILE; without one name another, as --aggregation noisy-or"
        )
    splits = read_splits(train, valid or test, test)
    columns = read_rule_set(rules, splits.train, measure)
    applied = arrange(splits.train, columns)
    if method == "auto":
        method, how = best_aggregation(splits.train, columns, applied, splits.valid, splits.known, workers)
    elif method == "by-relation":
        how = tuned_aggregation(splits.train, columns, applied, splits.valid, splits.known, workers)
    elif method == "learned":
        how = learned_aggregation(splits.train, columns, applied, splits.valid, splits.known, workers=workers)
    else:
        how = aggregation(splits.train, columns, method)
    found = rank_answers(splits.train, applied, how, splits.test, splits.known, workers)
    told = {"mrr": found.mrr, **{f"hits@{k}": found.hits(k) for k in (1, 3, 10)}}
    if as_json:
        print_json({**told, "aggregation": method, "questions": len(found.ranks), "rules": len(columns)})
        return
    table = Table(*told, title=f"{len(found.ranks)} questions, {len(columns)} rules, {method}")
    table.add_row(*(f"{v:.4f}" for v in told.values()))
    output.print(table)
