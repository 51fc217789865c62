import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from plain_rules import Triple, constant_rules, graphs, measures, path_rules, same

from neurosym.induction.kg.evaluator import Evaluator, RuleCounts
from neurosym.induction.kg.paths import PathMiner, Thresholds, backwards, canonical_path
from neurosym.induction.kg.rules import ConstantRules, PathRules, RuleColumns
from neurosym.induction.kg.short import short_rules
from neurosym.induction.kg.store import TripleStore
from neurosym.logic import Atom, Rule, Term

ANY = Thresholds(support=1, smoothed=0.0)
NO_PATHS = PathRules(*(np.zeros(shape, np.int32) for shape in (0, (0, 1), 0, 0)))
NO_CONSTANTS = ConstantRules(*(np.zeros(0, np.int32) for _ in range(4)))


def told(store: TripleStore, rules: RuleColumns) -> dict[str, tuple[int, int]]:
    """Spelling → (support, body size); no rule may be told twice."""
    found = {same(rules.rule(store, i)): (int(rules.support[i]), int(rules.size[i])) for i in range(len(rules))}
    assert len(found) == len(rules)
    return found


def expected(facts: list[Triple], candidates: list) -> dict[str, tuple[int, int]]:
    every = {same(rule): measures(rule, set(facts)) for rule in candidates}
    return {spelling: found for spelling, found in every.items() if found[0]}


def all_paths(store: TripleStore, longest: int) -> list[tuple[int, ...]]:
    lengths = range(1, longest + 1)
    paths = (p for length in lengths for p in product(range(store.directions), repeat=length))
    return sorted({canonical_path(p) for p in paths})


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_all_rules_of_two_path_atoms_are_found_with_the_counts_of_trying_all_assignments(facts: list[Triple]) -> None:
    store = TripleStore.of(facts)
    found = told(store, RuleColumns(short_rules(store, ANY).paths, NO_CONSTANTS))
    assert found == expected(facts, path_rules(2))


@given(graphs("abcd"))
@settings(max_examples=25, deadline=None)
def test_longer_paths_are_counted_exactly_too(facts: list[Triple]) -> None:
    store = TripleStore.of(facts)
    found = told(store, RuleColumns(PathMiner(store, ANY).rules(all_paths(store, 4)), NO_CONSTANTS))
    assert found == expected(facts, path_rules(4))


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_all_rules_with_constants_are_found_with_the_counts_of_trying_all_assignments(facts: list[Triple]) -> None:
    store = TripleStore.of(facts)
    found = told(store, RuleColumns(NO_PATHS, short_rules(store, ANY).constants))
    assert found == expected(facts, constant_rules("abcde"))


def test_rules_below_the_thresholds_are_left_out() -> None:
    facts = [(f"x{i}", "p", f"y{i}") for i in range(10)] + [(f"x{i}", "q", f"y{i}") for i in range(4)]
    store = TripleStore.of(facts)
    paths = all_paths(store, 1)

    def rules(support: int, smoothed: float) -> list[str]:
        miner = PathMiner(store, Thresholds(support, smoothed))
        found = RuleColumns(miner.rules(paths), NO_CONSTANTS)
        return [str(found.rule(store, i)) for i in range(len(found))]

    assert rules(1, 0.0) == ["1 :: p(X, Y) :- q(X, Y).", "0.4 :: q(X, Y) :- p(X, Y)."]
    assert rules(5, 0.0) == []
    assert rules(4, 4 / 15) == ["1 :: p(X, Y) :- q(X, Y).", "0.4 :: q(X, Y) :- p(X, Y)."]
    assert rules(4, 0.3) == ["1 :: p(X, Y) :- q(X, Y)."]


def test_known_counts_the_pairs_whose_subject_has_any_fact_of_the_head() -> None:
    # PCA (Galárraga et al., WWW 2013): nothing is known of c's nationality, so c speaks neither for nor against
    facts = [("a", "born", "x"), ("b", "born", "x"), ("c", "born", "x"), ("a", "from", "x"), ("b", "from", "y")]
    store = TripleStore.of(facts)
    rule = Rule((Atom("from", (Term("X"), Term("Y"))),), (Atom("born", (Term("X"), Term("Y"))),))
    assert Evaluator(store).counts(rule) == RuleCounts(support=1, size=3, subjects=2, objects=3)


def test_a_body_that_needs_too_much_work_is_given_up_and_counted() -> None:
    store = TripleStore.of([(f"x{i}", "p", f"y{j}") for i in range(30) for j in range(30)])
    miner = PathMiner(store, ANY, cap=1000)
    assert len(miner.rules([(0, 1), (0,)]).head) == 0
    assert (miner.measured, miner.too_expensive) == (2, 1)


def test_the_number_of_workers_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    facts = [
        (f"e{a}", f"r{r}", f"e{b}") for a, r, b in zip(*(rng.integers(n, size=400) for n in (30, 5, 30)), strict=True)
    ]
    store = TripleStore.of(facts)
    one, three = (PathMiner(store, ANY, workers=n).rules(all_paths(store, 2)) for n in (1, 3))
    assert len(one.head) > 100
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))


@pytest.mark.parametrize("path", [(0,), (0, 3), (2, 1, 0)])
def test_a_path_read_backwards_twice_is_itself(path: tuple[int, ...]) -> None:
    assert backwards(backwards(path)) == path
    assert canonical_path(path) == canonical_path(backwards(path))


def test_a_compiled_function_follows_a_change_of_another_file(tmp_path: Path) -> None:
    package = tmp_path / "made_up"
    package.mkdir()
    (package / "__init__.py").touch()
    header = "from neurosym.induction.kg.compiled import compiled\n"
    (package / "outer.py").write_text(
        header + "from made_up.inner import inner\n@compiled\ndef outer(): return inner() + 1\n"
    )

    def run(value: int) -> str:
        (package / "inner.py").write_text(header + f"@compiled\ndef inner(): return {value}\n")
        code = "from made_up.outer import outer; print(outer())"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert [run(1), run(5), run(5)] == ["2", "6", "6"]


def test_nothing_is_compiled_while_the_clock_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {(f"e{x}", f"r{r}", f"e{y}") for x, r, y in zip(*rng.integers(0, (60, 6, 60), (900, 3)).T, strict=True)}
    for name, some in (("train.txt", sorted(rows)[30:]), ("valid.txt", sorted(rows)[:30])):
        (tmp_path / name).write_text("".join("\t".join(row) + "\n" for row in some))
    script = tmp_path / "compiled.py"
    script.write_text("""
import sys
from neurosym.cli import app
from neurosym.induction.kg import learner
from numba.core.dispatcher import Dispatcher
from typer.testing import CliRunner

def signatures():
    modules = [m for name, m in sys.modules.items() if name.startswith("neurosym.induction.kg")]
    return {f"{d.__name__}{s}" for m in modules for d in vars(m).values() if isinstance(d, Dispatcher) for s in d.signatures}

before = set()
compile_all = learner._compile
learner._compile = lambda: (compile_all(), before.update(signatures()))  # files are read before, and the clock starts after it
words = "induce --facts train.txt --valid valid.txt --budget 4 --out found.rules --json"
shown = CliRunner().invoke(app, words.split(), catch_exceptions=False)
assert shown.exit_code == 0, shown.stderr
assert len(before) > 20
print(*sorted(signatures() - before), sep="\\n")
""")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
