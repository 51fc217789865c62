import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_rules import Triple, graphs

from neurosym.errors import InductionError
from neurosym.induction.kg import store as kg_store
from neurosym.induction.kg.kernels import find_row
from neurosym.induction.kg.names import Names
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


def test_a_store_that_lacks_a_file_is_damaged(tmp_path: Path) -> None:
    TripleStore.of([("a", "p", "b")]).write(tmp_path / "graph")
    (tmp_path / "graph" / "target.npy").unlink()
    with pytest.raises(InductionError, match="damaged"):
        TripleStore.open(tmp_path / "graph")


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
