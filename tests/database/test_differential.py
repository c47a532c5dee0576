"""SQLiteStore against maggma's MemoryStore on random documents and criteria.

More examples: THERMAL_FLOWS_TEST_EXAMPLES=5000 pytest tests/database/test_differential.py
"""

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st
from maggma.stores import MemoryStore
from mongomock_ng.filtering import NOTHING, filter_applies, iter_key_candidates

from thermal_flows.database import SQLiteStore
from thermal_flows.database.criteria import parse, to_mongomock
from thermal_flows.database.paths import MISSING, look_up, split_path

from . import strategies

EXAMPLES = int(os.environ.get("THERMAL_FLOWS_TEST_EXAMPLES", "300"))
INDEXES = ["a", "a.b", "b", "b.a", "rank", "n", "x", "list", "inner.x", "items.x", "items.y", "d", "t"]
_numbers = count()
_kept_open: dict[Path, SQLiteStore] = {}
indexed = st.lists(st.sampled_from(INDEXES), unique=True)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
    _kept_open.clear()


@contextmanager
def filled_stores(
    folder: Path, docs: list[dict[str, Any]], indexes: list[str]
) -> Iterator[tuple[SQLiteStore, MemoryStore]]:
    """Both stores with the same documents; half of the indexes exist before, half come after."""
    docs = [{**doc, "task_id": number, "_id": ObjectId(f"{number:024x}")} for number, doc in enumerate(docs)]
    number = next(_numbers)
    path = folder / f"stores{number // 50}.db"  # neither a new file each time nor thousands of tables in one is fast
    if path not in _kept_open:
        _kept_open[path] = SQLiteStore(path, "kept_open")
        _kept_open[path].connect()
    sqlite = SQLiteStore(path, f"docs{number}")
    memory = MemoryStore()
    memory.connect()
    for field in indexes[::2]:
        sqlite.ensure_index(field)
    for store in (sqlite, memory):
        store.update(docs)
    for field in indexes[1::2]:
        sqlite.ensure_index(field)
    yield sqlite, memory
    sqlite.close()


def same(left: Any, right: Any) -> bool:
    """Equality in which NaN equals NaN, and 1, 1.0 and True are different."""
    if isinstance(left, dict) and isinstance(right, dict):
        return set(left) == set(right) and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and left == right


@settings(max_examples=EXAMPLES)
@given(docs=strategies.collections, criteria=strategies.criteria, indexes=indexed)
def test_any_criteria_on_any_documents(folder: Path, docs: list, criteria: dict, indexes: list[str]) -> None:
    with filled_stores(folder, docs, indexes) as (sqlite, memory):
        expected = list(memory.query(to_mongomock(parse(criteria))))
        found = list(sqlite.query(criteria))
        assert same(found, expected)
        assert sqlite.count(criteria) == len(expected)
        sqlite.remove_docs(criteria)
        assert sqlite.count() == len(docs) - len(expected)


@settings(max_examples=EXAMPLES)
@given(
    docs=st.lists(strategies.plain_documents, min_size=1, max_size=8),
    criteria=strategies.plain_criteria,
    indexes=indexed,
)
def test_criteria_as_memory_store_understands_them(
    folder: Path, docs: list, criteria: dict, indexes: list[str]
) -> None:
    """Where mongomock alone is exact, nothing that is done to the criteria changes the result."""
    with filled_stores(folder, docs, indexes) as (sqlite, memory):
        assert same(list(sqlite.query(criteria)), list(memory.query(criteria)))


@settings(max_examples=EXAMPLES)
@given(
    docs=st.lists(strategies.mixed_documents, min_size=1, max_size=8),
    criteria=strategies.mixed_criteria,
    indexes=indexed,
)
def test_mixed_types_as_memory_store_understands_them(
    folder: Path, docs: list, criteria: dict, indexes: list[str]
) -> None:
    """MemoryStore gets the criteria as the user writes them: its answer does not depend on anything of this package."""
    with filled_stores(folder, docs, indexes) as (sqlite, memory):
        expected = list(memory.query(criteria))
        assert same(list(sqlite.query(criteria)), expected)
        assert sqlite.count(criteria) == len(expected)


@settings(max_examples=EXAMPLES // 2)
@given(
    docs=st.lists(strategies.documents, min_size=1, max_size=12),
    criteria=strategies.criteria,
    descending=st.booleans(),
    skip=st.integers(0, 4),
    limit=st.integers(0, 4),
    indexes=indexed,
)
def test_sort_skip_limit(
    folder: Path, docs: list, criteria: dict, descending: bool, skip: int, limit: int, indexes: list[str]
) -> None:
    arguments: dict[str, Any] = {"sort": {"rank": -1 if descending else 1}, "skip": skip, "limit": limit}
    with filled_stores(folder, docs, indexes) as (sqlite, memory):
        expected = list(memory.query(to_mongomock(parse(criteria)), **arguments))
        assert same(list(sqlite.query(criteria, **arguments)), expected)


@settings(max_examples=EXAMPLES // 2)
@given(docs=st.lists(strategies.documents, min_size=1, max_size=8), indexes=indexed, data=st.data())
def test_sort_by_two_fields(folder: Path, docs: list, indexes: list[str], data: st.DataObject) -> None:
    ranks = data.draw(st.lists(st.integers(0, 2), min_size=len(docs), max_size=len(docs)))
    docs = [{**doc, "second": rank} for doc, rank in zip(docs, ranks, strict=True)]
    sort = {"second": data.draw(st.sampled_from([1, -1])), "rank": data.draw(st.sampled_from([1, -1]))}
    with filled_stores(folder, docs, indexes) as (sqlite, memory):
        assert same(list(sqlite.query(sort=sort)), list(memory.query(sort=sort)))


@settings(max_examples=EXAMPLES // 2)
@given(
    first=st.lists(strategies.plain_documents, max_size=6),
    batches=st.lists(st.lists(strategies.plain_documents, min_size=1, max_size=4), max_size=3),
    keys=st.sampled_from(["n", "s", ["n", "s"], ["n", "x"], "list", "inner"]),
    indexes=indexed,
)
def test_upserts(folder: Path, first: list, batches: list, keys: str | list[str], indexes: list[str]) -> None:
    defaults = {"s": "a", "x": 0, "list": [1, 2], "inner": {"x": 1}}
    with filled_stores(folder, first, indexes) as (sqlite, memory):
        for batch in batches:
            docs = [{**defaults, **doc} for doc in batch]
            sqlite.update(docs, key=keys)
            memory.update(docs, key=keys)
        everything = {"_id": 0}
        assert same(list(sqlite.query(properties=everything)), list(memory.query(properties=everything)))
        for field in indexes:
            for value in (0, 1, 1.5, True, strategies.DATES[0]):
                exact = to_mongomock(parse({field: value}))
                assert same(list(sqlite.query({field: value}, everything)), list(memory.query(exact, everything)))


@settings(max_examples=EXAMPLES)
@given(document=strategies.documents, path=strategies.paths)
def test_paths_lead_where_mongomock_goes(document: dict, path: str) -> None:
    expected = [MISSING if value is NOTHING else value for value in iter_key_candidates(path, document)]
    found = look_up(document, split_path(path)).values
    assert len(found) == len(expected)
    assert all(a is b or same(a, b) for a, b in zip(found, expected, strict=True))


@settings(max_examples=EXAMPLES)
@given(document=strategies.documents, criteria=strategies.criteria)
def test_negation_is_complement(document: dict, criteria: dict) -> None:
    """Nothing in the core that mongomock sees treats a condition and its negation alike."""
    positive = bool(filter_applies(to_mongomock(parse(criteria)), document))
    negative = bool(filter_applies(to_mongomock(parse({"$nor": [criteria]})), document))
    assert positive != negative
