import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_rules import Triple, graphs

from neurosym.errors import InductionError
from neurosym.induction.kg import store as kg_store
from neurosym.induction.kg.kernels import find_row
from neurosym.induction.kg.learner import LearnerConfig, RuleLearner
from neurosym.induction.kg.names import Names
from neurosym.induction.kg.parts import check_start
from neurosym.induction.kg.reading import read_graph
from neurosym.induction.kg.store import Csr, TripleStore


def triples_of(store: TripleStore) -> list[Triple]:
    columns = zip(*store.columns(), strict=True)
    return [(store.entities[int(s)], store.relations[int(r)], store.entities[int(o)]) for s, r, o in columns]


@given(graphs())
def test_a_store_holds_each_fact_once_and_finds_it_from_both_ends(facts: list[Triple]) -> None:
    store = TripleStore.of(facts)
    assert triples_of(store) == sorted(set(facts), key=lambda t: (t[1], t[0], t[2]))
    assert len(store) == len(set(facts))
    number = store.entities.number
    for r, relation in enumerate(store.relations):
        for e in store.entities:
            ahead = [store.entities[int(i)] for i in store.targets(2 * r, number(e))]
            back = [store.entities[int(i)] for i in store.targets(2 * r + 1, number(e))]
            assert ahead == sorted({o for s, p, o in facts if (s, p) == (e, relation)})
            assert back == sorted({s for s, p, o in facts if (p, o) == (relation, e)})


@given(graphs())
def test_every_fact_knows_the_row_of_its_reverse(facts: list[Triple]) -> None:
    csr = TripleStore.of(facts).csr
    for g in range(len(csr.source)):
        for e in range(csr.start[g], csr.start[g + 1]):
            back = csr.back[e]
            assert (csr.source[back], csr.direction_of[back]) == (csr.target[e], csr.direction_of[g] ^ 1)
            assert csr.source[g] in csr.target[csr.start[back] : csr.start[back + 1]]


def test_the_order_of_facts_does_not_matter() -> None:
    facts = [(s, r, o) for s in "abc" for r in "pq" for o in "cde"]
    shuffled = random.Random(0).sample(facts, len(facts))
    for one, other in zip(TripleStore.of(facts).csr, TripleStore.of(shuffled).csr, strict=True):
        assert np.array_equal(one, other)


def test_of_equal_facts_the_largest_weight_counts() -> None:
    store = TripleStore.of([("a", "p", "b"), ("a", "p", "b"), ("b", "p", "a")], [0.2, 0.7, 1.0])
    assert store.weight is not None
    assert sorted(store.weight.tolist()) == pytest.approx([0.7, 0.7, 1.0, 1.0])


def test_a_written_store_is_the_same_when_it_is_opened(tmp_path: Path) -> None:
    store = TripleStore.of([("a", "p", "b"), ("ä", "q", "b")], [0.5, 1.0])
    store.write(tmp_path / "graph")
    store.write(tmp_path / "graph")
    found = TripleStore.open(tmp_path / "graph")
    assert triples_of(found) == triples_of(store)
    assert isinstance(found.csr.target, np.memmap)
    assert all(np.array_equal(getattr(found.csr, k), getattr(store.csr, k)) for k in Csr._fields)
    assert found.weight is not None
    assert store.weight is not None
    assert np.array_equal(found.weight, store.weight)
    assert [p.name for p in tmp_path.iterdir()] == ["graph"]


def test_what_is_no_store_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(InductionError, match="is no store of facts"):
        TripleStore.open(tmp_path)
    (tmp_path / "thesis").mkdir()
    with pytest.raises(InductionError, match="holds no store of facts; choose another folder"):
        TripleStore.of([("a", "p", "b")]).write(tmp_path / "thesis")


@given(graphs(), st.data())
def test_a_store_opened_with_some_relations_is_that_of_their_facts_under_the_same_numbers(
    tmp_path_factory: pytest.TempPathFactory, facts: list[Triple], data: st.DataObject
) -> None:
    weights = [0.5 if s < o else 1.0 for s, _, o in facts]
    whole = TripleStore.of(facts, weights)
    folder = tmp_path_factory.mktemp("stores") / "graph"
    whole.write(folder)
    wanted = data.draw(st.sets(st.sampled_from(list(whole.relations)), min_size=1))
    some = TripleStore.open(folder, wanted)
    kept = [(s, r, o) for s, r, o in facts if r in wanted]
    columns = (np.array(column) for column in zip(*kept, strict=True))
    of = (whole.entities, whole.relations, whole.entities)
    numbers = [names.numbers(column.tolist()) for names, column in zip(of, columns, strict=True)]
    of_kept = np.array([w for w, (_, r, _) in zip(weights, facts, strict=True) if r in wanted], np.float32)
    expected = TripleStore.of_numbers(whole.entities, whole.relations, *numbers, of_kept)
    for name in Csr._fields:
        assert np.array_equal(getattr(some.csr, name), getattr(expected.csr, name)), name
    own = np.ones(len(some.csr.target), np.float32)
    found, told = (own if weight is None else weight for weight in (some.weight, expected.weight))
    assert np.array_equal(found, told)


def resident(folder: Path) -> int:
    """Bytes of the files of a folder that are in this process's memory."""
    total, here = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if not line[0].isupper():
            here = str(folder) in line
        elif here and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells")
def test_of_a_mapped_store_memory_holds_what_was_looked_at(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count, large, small = 20_000, 400_000, 2_000
    entities, relations = Names.of(f"e{i:05}" for i in range(count)), Names.of(["large", "small"])
    relation = np.repeat([0, 1], [large, small])
    folder = tmp_path / "graph"
    ends = rng.integers(count, size=(2, large + small))
    TripleStore.of_numbers(entities, relations, ends[0], relation, ends[1]).write(folder)
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    store = TripleStore.open(folder)
    before = resident(folder)

    def looked_at(direction: int) -> int:
        csr = store.csr
        rows = slice(*csr.first_row[direction : direction + 2])
        facts = slice(csr.start[rows.start], csr.start[rows.stop])
        return int(csr.source[rows].sum()) + int(csr.target[facts].sum()) + int(csr.back[facts].sum())

    looked_at(2)
    looked_at(3)
    around = 128 * 1024  # the system reads some pages around each that is asked for
    assert resident(folder) - before <= 2 * (3 * small * 4 + small * 8) + 8 * around < sizes["target.npy"] / 2
    looked_at(0)
    looked_at(1)
    assert resident(folder) > sizes["target.npy"]


def test_another_process_is_sent_where_a_store_is_and_not_what_it_holds(tmp_path: Path) -> None:
    store = TripleStore.of([(f"e{i}", r, f"e{i + 1}") for i in range(5000) for r in "pq"])
    store.write(tmp_path / "graph")
    assert len(pickle.dumps(store)) > 100_000
    whole, some = TripleStore.open(tmp_path / "graph"), TripleStore.open(tmp_path / "graph", ["q"])
    for opened in (whole, some):
        sent = pickle.dumps(opened)
        assert len(sent) < 1000
        found = pickle.loads(sent)
        assert triples_of(found) == triples_of(opened)
    assert isinstance(pickle.loads(pickle.dumps(whole)).csr.target, np.memmap)
    sent = pickle.dumps(whole)
    TripleStore.of([("a", "p", "b")]).write(tmp_path / "graph")
    with pytest.raises(InductionError, match=r"graph has been written anew since it was opened; begin again"):
        pickle.loads(sent)
    shutil.rmtree(tmp_path / "graph")
    with pytest.raises(InductionError, match=r"a store must be where all processes find it: .*graph is no store"):
        pickle.loads(sent)


def test_of_a_store_with_files_missing_or_cut_off_all_are_named_with_what_was_found_and_expected(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "graph"
    TripleStore.of([("a", "p", "b")]).write(folder)
    size = (folder / "source.npy").stat().st_size
    (folder / "target.npy").unlink()
    (folder / "source.npy").write_bytes((folder / "source.npy").read_bytes()[:-3])
    with pytest.raises(InductionError) as told:
        TripleStore.open(folder)
    assert f"target.npy: the file is missing, expected {size} bytes; write it anew: neurosym induce" in str(told.value)
    assert f"source.npy: the file has {size - 3} bytes, expected {size} bytes" in str(told.value)


def test_a_damaged_relation_is_named_when_it_is_asked_for_and_others_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "graph"
    store = TripleStore.of([(f"e{i}", r, f"e{i * 3 % 7}") for i in range(7) for r in "pqr"])
    store.write(folder)
    content = bytearray((folder / "target.npy").read_bytes())
    content[-1] ^= 1  # of r, the last
    (folder / "target.npy").write_bytes(content)
    assert TripleStore.open(folder, ["p"]).objects("e1", "p") == store.objects("e1", "p")
    wrong = r"target\.npy: the facts of relation 'r' are damaged: found CRC-32 [0-9a-f]{8}, expected [0-9a-f]{8}; write it anew"
    for asked in ({"relations": ["p", "r"]}, {"verify": True}):
        with pytest.raises(InductionError, match=wrong):
            TripleStore.open(folder, **asked)
    with pytest.raises(InductionError, match=wrong):
        read_graph(folder)  # reads all of it


def test_a_damaged_header_of_an_array_is_told(tmp_path: Path) -> None:
    TripleStore.of([("a", "p", "b")]).write(tmp_path / "graph")
    file = tmp_path / "graph/entities.npy"
    file.write_bytes(file.read_bytes().replace(b"}", b"(", 1))
    with pytest.raises(InductionError, match="damaged"):
        TripleStore.open(tmp_path / "graph")


def test_a_changed_byte_of_any_file_is_found_when_all_is_verified(tmp_path: Path) -> None:
    folder = tmp_path / "graph"
    facts = [(f"e{i}", r, f"e{i * 3 % 7}") for i in range(7) for r in "pqr"]
    TripleStore.of(facts, [(i + 1) / 32 for i in range(len(facts))]).write(folder)
    files = sorted(folder.iterdir())
    assert {file.stem for file in files} == {*Csr._fields, "weight", "store"} | {
        f"{kind}{of}"
        for kind, of in (("entities", ""), ("entity", "_names"), ("relations", ""), ("relation", "_names"))
    }
    TripleStore.open(folder, verify=True)
    for file in files:
        whole = file.read_bytes()
        for place in {*range(0, len(whole), 5), len(whole) - 8, len(whole) - 1}:
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(InductionError, match=r"damaged|is a store of version"):
                TripleStore.open(folder, verify=True)
        file.write_bytes(whole)
    TripleStore.open(folder, verify=True)


@pytest.mark.parametrize(
    ("name", "always", "for_some"),
    [("first_row", True, True), ("relations", True, True), ("start", False, True), ("entities", False, True)]
    + [("row_of", False, False), ("place", False, False)],
)
def test_small_files_are_checked_always_and_others_when_they_are_read_or_all_is_verified(
    tmp_path: Path, name: str, always: bool, for_some: bool
) -> None:
    folder = tmp_path / "graph"
    TripleStore.of([(f"e{i}", r, f"e{i * 3 % 7}") for i in range(7) for r in "pqr"]).write(folder)
    content = bytearray((folder / f"{name}.npy").read_bytes())
    content[-1] ^= 1
    (folder / f"{name}.npy").write_bytes(content)
    for found, asked in ((always, {}), (for_some, {"relations": ["p"]}), (True, {"verify": True})):
        if found:
            with pytest.raises(InductionError, match=rf"{name}\.npy: the file is damaged: found CRC-32"):
                TripleStore.open(folder, **asked)
        else:
            TripleStore.open(folder, **asked)


@pytest.mark.parametrize("start", [[1, 1, 2], [0, 2, 1], [0, 3, 2], [0, 1, 3]])
def test_rows_that_do_not_ascend_from_none_to_all_facts_are_refused(tmp_path: Path, start: list[int]) -> None:
    check_start(tmp_path, np.array([0, 0, 2]), 2)
    with pytest.raises(InductionError, match=r"start\.npy: rows should ascend from 0 to 2"):
        check_start(tmp_path, np.array(start), 2)


def test_a_store_of_an_older_version_is_refused_with_the_way_to_write_it_anew(tmp_path: Path) -> None:
    TripleStore.of([("a", "p", "b")]).write(tmp_path / "graph")
    (tmp_path / "graph" / "store.json").write_text('{"version": 1, "facts": 1, "entities": 2, "relations": 1}')
    with pytest.raises(
        InductionError, match=r"store\.json: this is a store of version 1, this program reads 3; write it anew"
    ):
        TripleStore.open(tmp_path / "graph")


def test_an_unknown_relation_of_a_folder_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    TripleStore.of([("a", "parent", "b")]).write(tmp_path / "graph")
    with pytest.raises(InductionError, match=r"relation 'parents' has no facts; did you mean 'parent'\?"):
        TripleStore.open(tmp_path / "graph", ["parents"])


def test_rules_for_a_relation_that_was_left_out_are_refused_and_its_name_is_known(tmp_path: Path) -> None:
    TripleStore.of([("a", "p", "b"), ("b", "q", "a")]).write(tmp_path / "graph")
    some = TripleStore.open(tmp_path / "graph", ["p"])
    assert (some.relation("p"), some.named("q")) == (0, 1)
    with pytest.raises(InductionError, match=r"relation 'q' has no facts here; it was not asked for with --only"):
        RuleLearner(LearnerConfig(targets=("q",), budget=None, generations=1))._fit(some, lambda _: None)
    ends, lone = Names.of("ab"), np.zeros(1, np.int64)
    unused = TripleStore.of_numbers(ends, Names.of("pq"), lone, lone, lone + 1)
    with pytest.raises(InductionError, match=r"relation 'q' has no facts here$"):
        unused.relation("q")


def test_a_graph_without_facts_or_with_a_wrong_weight_is_refused() -> None:
    with pytest.raises(InductionError, match="the graph has no facts"):
        TripleStore.of([])
    with pytest.raises(InductionError, match=r"fact 2 has weight 1\.5"):
        TripleStore.of([("a", "p", "b"), ("a", "p", "c")], [1.0, 1.5])


def test_an_unknown_relation_is_told_with_the_nearest_one() -> None:
    with pytest.raises(InductionError, match="parent"):
        TripleStore.of([("a", "parent", "b")]).relation("parents")


@given(st.sets(st.text(min_size=1)))
def test_names_are_found_by_number_and_numbers_by_name(names: set[str]) -> None:
    try:
        found = Names.of(names)
    except UnicodeEncodeError:  # lone surrogates are no text
        return
    assert list(found) == sorted(names, key=str.encode)
    assert all(found.number(name) == i for i, name in enumerate(found))
    assert found.number("".join(names) + "x") == -1


def test_without_room_for_tables_the_largest_directions_have_one_and_rows_are_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts = [(f"e{a}", r, f"e{b}") for a in range(20) for r, b in (("p", a + 1), ("q", 0), ("r", a % 3))][:-1]
    whole = TripleStore.of(facts)
    monkeypatch.setattr(kg_store, "_MOST_PLACES", 2 * len(whole.entities))
    found = TripleStore.of(facts)
    assert (whole.csr.table >= 0).all()
    assert np.flatnonzero(found.csr.table >= 0).tolist() == [0, 1]
    for d in range(found.directions):
        for x in range(len(found.entities)):
            assert find_row(found.csr, d, x) == find_row(whole.csr, d, x) == whole.row(d, x)
