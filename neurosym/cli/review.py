"""The review page, `review RUN`, and the verbs `review list`, `assess`, `verdict`, `agreement`, `publish`.

None of them needs torch, but that `assess` predicts a split that was not predicted yet.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from neurosym.cli.console import AsJson, bars, console, escaped, output, print_json, show_done, show_problems
from neurosym.errors import ConfigError

if TYPE_CHECKING:
    from neurosym.review.agreement import Agreement
    from neurosym.review.assessment import Assessment, Counted
    from neurosym.review.ledger import Decision
    from neurosym.review.publish import Publication
    from neurosym.review.run import RunReview


class _PageFirst(TyperGroup):
    """A group whose first command is meant where none is named: `review RUN` is `review page RUN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            meant = [] if Path(args[0]).exists() else get_close_matches(args[0], self.commands)
            args = args if meant else ["page", *args]
        return super().parse_args(ctx, args)


review_app = typer.Typer(
    cls=_PageFirst,
    no_args_is_help=True,
    help="Judge induced rules, and publish what was accepted. `neurosym review RUN` opens the review page.",
    epilog='Examples: `neurosym review runs/jsrt-anatomy --to rules/accepted.rules --reviewer "A. Meyer"`, '
    "`neurosym review list runs/jsrt-anatomy`, `neurosym review RUN --no-browser --port 8100`",
)
Reviewed = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that `neurosym induce` has written to.")]
_PAGE_EXAMPLES = (
    'Examples: `neurosym review runs/jsrt-anatomy --to rules/accepted.rules --reviewer "A. Meyer"`, '
    "`neurosym review RUN --no-browser --port 8100`"
)
_VERDICT_EXAMPLES = (
    'Examples: `neurosym review verdict runs/jsrt-anatomy --rule 3 --accept --reviewer "A. Meyer"`, '
    '`neurosym review verdict RUN --rule induced_near_1 --reject --reason "true of this projection alone" --reviewer anna`, '
    '`neurosym review verdict RUN --rule "near(X, Y) :- heart(X), large_object(Y)." --undo --reviewer anna`'
)
_ASSESS_EXAMPLES = (
    "Examples: `neurosym review assess runs/jsrt-anatomy`, `neurosym review assess RUN --confirm val --top 10`, "
    "`neurosym review assess RUN --truth --json`"
)
_PUBLISH_EXAMPLES = (
    "Examples: `neurosym review publish runs/jsrt-anatomy --to rules/accepted.rules --dry-run`, "
    "`neurosym review publish RUN --to rules/accepted.rules --also RUN/true-candidates.json`"
)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    review_app.command("page", epilog=_PAGE_EXAMPLES)(page)
    review_app.command("list", epilog="Example: `neurosym review list runs/jsrt-anatomy`")(list_)
    review_app.command("assess", epilog=_ASSESS_EXAMPLES)(assess)
    review_app.command("verdict", epilog=_VERDICT_EXAMPLES)(verdict)
    review_app.command("agreement", epilog="Example: `neurosym review agreement runs/jsrt-anatomy --json`")(agreement)
    review_app.command("publish", epilog=_PUBLISH_EXAMPLES)(publish)
    app.add_typer(review_app, name="review")


def page(
    run: Reviewed,
    reviewer: Annotated[str, typer.Option(help="Who reviews; else the page asks.")] = "",
    to: Annotated[
        Path | None, typer.Option("--to", help="The rule file that the page may publish to, e.g. rules/accepted.rules.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes any that is free.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Open the review page of a run: rules with their films, counter-examples first. It ends with Ctrl+C.

    The address holds a token that lets in whoever has it: do not pass it on.
    """
    from neurosym.review.web.serve import serve
    from neurosym.review.web.state import ReviewState

    def told(address: str) -> None:
        console.print(f"{len(state.rows)} rules to review. The page ends with Ctrl+C.", highlight=False)
        output.print(address, soft_wrap=True, highlight=False)

    state = ReviewState.of(run, to, reviewer)
    serve(state, port, browser, told)


def list_(run: Reviewed, as_json: AsJson = False) -> None:
    """List a run's candidates with their measures, what the knowledge says, and the verdicts that stand on them."""
    from neurosym.review.run import RunReview

    entries = _entries(RunReview.of(run))
    if as_json:
        print_json(entries)
        return
    is_assessed = any(e["standing"] for e in entries)
    table = Table("", "rule", "support", "confidence", *(["standing"] if is_assessed else []), "verdicts")
    for e in entries:
        said = [
            f"{name}: {v['verdict']}{' (other figures)' if v['stale'] else ''}" for name, v in e["verdicts"].items()
        ]
        cells = [str(e["number"]), escaped(e["rule"]), f"{e['support']}/{e['body_size']}", f"{e['confidence']:.3f}"]
        if is_assessed:
            cells.append(e["standing"] or "–")
        table.add_row(*cells, escaped("\n".join(said)))
    output.print(table)


def _entries(review: RunReview) -> list[dict[str, Any]]:
    from neurosym.review.candidates import figures_digest
    from neurosym.review.ledger import normal_text, rule_key
    from neurosym.review.run_assessment import assessments_of

    held = review.standing()
    assessed = assessments_of(review.path, review.origin)
    entries = []
    for number, c in enumerate(review.candidates, 1):
        digest = figures_digest(c)
        verdicts = {
            name: {"verdict": v.verdict, "reason": v.reason, "edited": v.edited, "time": v.time}
            | {"stale": v.figures not in ("", digest)}
            for name, v in sorted(held.get(rule_key(c.rule), {}).items())
        }
        measures = {k: getattr(c, k) for k in ("support", "body_size", "confidence")}
        text = normal_text(c.rule)
        what = {"number": number, "id": c.rule.meta.get("id", ""), "rule": text}
        standing = assessed[text].standing if text in assessed else ""
        entries.append(what | measures | {"figures": digest, "standing": standing, "verdicts": verdicts})
    return entries


def assess(
    run: Reviewed,
    confirm: Annotated[
        str,
        typer.Option(
            metavar="SPLIT", help="The split to confirm on: test, else val, else train, but not where they were found."
        ),
    ] = "",
    truth: Annotated[
        bool, typer.Option("--truth", help="The candidates of annotations, on annotations (true-candidates.json).")
    ] = False,
    top: Annotated[int | None, typer.Option(min=1, help="So many of the first candidates; all by default.")] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap samples of the patients.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Say of each candidate whether it is new, holds on other images and again, and what may explain it away."""
    from dataclasses import asdict

    from neurosym.loop import Stages
    from neurosym.review.plausibility import passes

    with bars() as stage:
        stages = Stages.of(run, advance=stage("assess"))
        made = stages.assess(confirm=confirm, truth=truth, top=top, resamples=resamples, seed=seed)
    if as_json:
        told = [asdict(a) | {"passes": passes(a)} for a in made.assessments]
        what = {"file": str(made.file), "confirmed_on": made.confirmed_on, "notes": list(made.notes)}
        print_json(what | {"assessments": told})
        return
    table = Table("", "rule", "standing", "confirmed", "held", "to consider")
    for number, a in enumerate(made.assessments, 1):
        held = "–" if a.held is None else f"{a.held:.2f}"
        table.add_row(str(number), escaped(a.rule), a.standing, _interval(a.confirmation), held, escaped(_remarks(a)))
    output.print(table)
    for note in made.notes:
        console.print(escaped(note), soft_wrap=True, highlight=False)
    new = sum(map(passes, made.assessments))
    show_done("written", f"{made.file}: {new} of {len(made.assessments)} say something new")


def _interval(found: Counted | None) -> str:
    if found is None or found.confidence is None:
        return "–"
    return f"{found.confidence:.2f} ({found.low:.2f}–{found.high:.2f}) of {found.body_size}"


def _remarks(found: Assessment) -> str:
    """Why it stands as it does, and whatever else there is to consider, a line each."""
    because = [found.because] if found.because else []
    told = [*(c.message for c in found.confounders), *(i.message for i in found.idle)]
    return "\n".join([*because, *told, *found.warnings])


def verdict(
    run: Reviewed,
    rule: Annotated[str, typer.Option(metavar="N|ID|TEXT", help="A candidate: its number, its id, or its text.")],
    reviewer: Annotated[str, typer.Option(help="Who judges.")],
    accept: Annotated[bool, typer.Option("--accept", help="It is true, and shall become knowledge.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="It shall not; give a --reason.")] = False,
    later: Annotated[bool, typer.Option("--later", help="Put it off.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back your last verdict on it.")] = False,
    reason: Annotated[str, typer.Option(help="Why; a rejection needs one.")] = "",
    edited: Annotated[str, typer.Option(help="With --accept: the rule in your own wording.")] = "",
    entry: Annotated[str, typer.Option("--id", help="A name for this verdict: sent twice, it counts once.")] = "",
    as_json: AsJson = False,
) -> None:
    """Record what a reviewer says of a candidate in the run's ledger, reviews.jsonl."""
    from dataclasses import asdict

    from neurosym.review.run import RunReview

    chosen: dict[Decision, bool] = {"accept": accept, "reject": reject, "later": later, "undo": undo}
    decisions = [name for name, wanted in chosen.items() if wanted]
    if len(decisions) != 1:
        raise ConfigError("give exactly one of --accept, --reject, --later and --undo")
    review = RunReview.of(run)
    if edited:
        from neurosym.learning.runfolder import open_run
        from neurosym.review.edits import require_known_words

        require_known_words(edited, open_run(run).knowledge.ontology, "--edited")
    made = review.judge(rule, reviewer, decisions[0], reason, edited, entry_id=entry)
    if as_json:
        print_json(asdict(made))
    else:
        output.print(f"{escaped(made.reviewer)}: {made.verdict} {escaped(made.rule)}", soft_wrap=True, highlight=False)


def agreement(run: Reviewed, as_json: AsJson = False) -> None:
    """How far every two reviewers of a run agree (Cohen's kappa), and where they do not."""
    from neurosym.review.run import RunReview

    found = RunReview.of(run).agreements()
    if as_json:
        print_json([a.as_dict() for a in found])
        return
    if not found:
        console.print("fewer than two reviewers have judged")
        return
    table = Table("reviewers", "rules", "agree", "by chance", "kappa")
    for a in found:
        numbers = ("–" if v is None else f"{v:.3f}" for v in (a.observed, a.expected, a.kappa))
        table.add_row(escaped(f"{a.first}, {a.second}"), str(a.rules), *numbers)
    output.print(table)
    for a in found:
        _show_disputes(a)


def _show_disputes(found: Agreement) -> None:
    for d in found.disputes:
        output.print(escaped(d.rule), soft_wrap=True, highlight=False)
        for v in (d.first, d.second):
            why = f": {v.reason}" if v.reason else ""
            output.print(f"    {escaped(f'{v.reviewer} {v.verdict}{why}')}", soft_wrap=True, highlight=False)


def publish(
    run: Reviewed,
    to: Annotated[Path, typer.Option("--to", help="The rule file for accepted rules; rejected ones go beside it.")],
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Candidates of other facts (JSON) that may speak for a rule that these facts do not."),
    ] = None,
    disputed: Annotated[bool, typer.Option("--disputed", help="Also accept rules that a reviewer rejected.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing, show the diff.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write accepted rules into a rule file, rejected ones beside it; exit code 1 if a rule is refused."""
    from neurosym.learning.runfolder import open_run
    from neurosym.review.run import RunReview

    knowledge = open_run(run).knowledge
    made = RunReview.of(run).publish(to, knowledge=knowledge, also=also or (), disputed=disputed, write=not dry_run)
    if as_json:
        print_json(_as_dict(made, dry_run))
    else:
        if dry_run:
            sys.stdout.write(made.diff())
        show_problems([*made.warnings, *made.refused])
        counts = f"{len(made.accepted)} accepted, {len(made.rejected)} rejected, {len(made.present)} there already"
        rest = f"{len(made.waiting)} without a verdict, {len(made.refused)} refused"
        show_done("would write" if dry_run else "written", f"{to}: {counts}; {rest}")
    raise typer.Exit(1 if made.refused else 0)


def _as_dict(made: Publication, dry_run: bool) -> dict[str, Any]:
    from neurosym.knowledge.rules import format_rule

    rules = {k: [format_rule(r) for r in getattr(made, k)] for k in ("accepted", "rejected", "present")}
    problems = {k: [str(p) for p in getattr(made, k)] for k in ("refused", "warnings")}
    waiting = [str(c.rule) for c in made.waiting]
    files = [str(f.path) for f in made.files]
    return {"dry_run": dry_run, "files": files, **rules, "waiting": waiting, **problems, "diff": made.diff()}
