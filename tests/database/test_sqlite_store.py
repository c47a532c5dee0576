"""SQLiteStore as a maggma Store: what goes in comes out, upserts, indexes, grouping, serialisation."""

import copy
import json
import math
import pickle
import sqlite3
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from bson import DBRef, ObjectId
from jsonschema import ValidationError
from maggma.core import DateTimeFormat, Sort, StoreError
from maggma.stores import MemoryStore
from maggma.validators import JSONSchemaValidator
from monty.json import MontyDecoder
from pydantic import BaseModel

from thermal_flows.database import (
    DocumentError,
    DuplicateValueError,
    MissingKeyError,
    QueryError,
    SQLiteStore,
)


@pytest.fixture
def store(tmp_path: Path) -> SQLiteStore:
    return SQLiteStore(tmp_path / "store.db", "docs", key="name")


class Colour(Enum):
    RED = "red"


class Point(BaseModel):
    x: float = 1.0
    when: datetime = datetime(2026, 1, 1)


VALUES: list[tuple[Any, Any]] = [
    (1, 1),
    (1.0, 1.0),
    (-0.0, -0.0),
    (1e-300, 1e-300),
    (0.1 + 0.2, 0.1 + 0.2),
    (True, True),
    (None, None),
    ("text \u00e9\n\x00 \U0001f600", "text \u00e9\n\x00 \U0001f600"),
    (2**63 - 1, 2**63 - 1),
    (-(2**63), -(2**63)),
    (float("inf"), float("inf")),
    (float("-inf"), float("-inf")),
    (datetime(2026, 1, 2, 3, 4, 5, 678901), datetime(2026, 1, 2, 3, 4, 5, 678000)),
    (datetime(1901, 1, 2, tzinfo=UTC), datetime(1901, 1, 2)),
    (datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=3))), datetime(2026, 1, 2)),
    (ObjectId("5f0000000000000000000001"), ObjectId("5f0000000000000000000001")),
    (b"\x00\xff", b"\x00\xff"),
    ((1, 2), [1, 2]),
    (np.float64(2.5), 2.5),
    (np.int32(3), 3),
    (np.bool_(True), True),
    (np.arange(3), [0, 1, 2]),
    (np.array([[1.5, float("inf")]]), [[1.5, float("inf")]]),
    (np.array(["a", "b"]), ["a", "b"]),
    (Path("/a/b"), "/a/b"),
    (UUID(int=5), str(UUID(int=5))),
    ({1: {"b": (np.float32(0.5),)}}, {"1": {"b": [0.5]}}),
    ([{"d": datetime(2026, 1, 1)}, [b"x"]], [{"d": datetime(2026, 1, 1)}, [b"x"]]),
    ({"$date": 5, "@module": "x"}, {"$date": 5, "@module": "x"}),
    ({"a.b": 1}, {"a.b": 1}),
    ({}, {}),
    ([], []),
    ([[], [[1]]], [[], [[1]]]),
    ([1e308, 1e308], [1e308, 1e308]),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=[repr(value)[:40] for value, _ in VALUES])
def test_round_trip(store: SQLiteStore, value: Any, expected: Any) -> None:
    original = {"name": "x", "value": value, "inner": [{"value": value}]}
    before = copy.deepcopy(original)
    store.update(original)
    found = store.query_one({"name": "x"})
    for result in (found["value"], found["inner"][0]["value"]):
        assert result == expected
        assert type(result) is type(expected)
    assert repr(original) == repr(before)


def test_nan_and_friends(store: SQLiteStore) -> None:
    store.update({"name": "x", "list": [1.0, math.nan, -math.inf, None], "array": np.array([[math.nan, 2.0]])})
    found = store.query_one()
    assert math.isnan(found["list"][1])
    assert found["list"][2:] == [-math.inf, None]
    assert math.isnan(found["array"][0][0])
    assert found["array"][0][1] == 2.0


def test_objects_become_plain(store: SQLiteStore) -> None:
    store.update({"name": "x", "point": Point(), "colour": Colour.RED})
    found = store.query_one()
    assert found["point"]["x"] == 1.0
    assert found["point"]["@class"] == "Point"
    assert found["colour"]["value"] == "red"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**63, "64 bits"),
        (np.uint64(2**63), "64 bits"),
        (1 + 2j, "complex"),
        (np.array([1j]), "complex"),
        ({1, 2}, "type set"),
        (date(2026, 1, 1), "type date"),
        (object(), "type object"),
        (DBRef("a", 1), "type DBRef"),
        ("\ud800", "written as JSON"),
    ],
)
def test_refused_values(store: SQLiteStore, value: Any, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        store.update([{"name": "good"}, {"name": "bad", "deep": [{"value": value}]}])
    assert store.count() == 0


def test_refused_value_is_located(store: SQLiteStore) -> None:
    with pytest.raises(DocumentError, match=r"'a\.b\.1\.c'"):
        store.update({"name": "x", "a": {"b": [0, {"c": {1, 2}}]}})


@pytest.mark.parametrize("document", [5, "text", None, [{"name": "x"}]])
def test_documents_are_dicts(store: SQLiteStore, document: Any) -> None:
    with pytest.raises(DocumentError, match="must be a dict"):
        store.update([document])


def test_reserved_field_names(store: SQLiteStore) -> None:
    with pytest.raises(DocumentError, match="reserved"):
        store.update({"name": "x", "$set": 1})


def test_upsert_keeps_id_and_place(store: SQLiteStore) -> None:
    store.update([{"name": "a", "v": 1}, {"name": "b", "v": 2}])
    ids = [doc["_id"] for doc in store.query()]
    store.update({"name": "a", "w": 3})
    docs = list(store.query())
    assert [doc["_id"] for doc in docs] == ids
    assert docs[0] == {"name": "a", "w": 3, "_id": ids[0]}
    store.update(docs[1])
    assert store.count() == 2


def test_upsert_by_several_fields_and_none(store: SQLiteStore) -> None:
    store.update([{"name": "a", "index": 1, "v": 1}, {"name": "a", "index": 2, "v": 2}], key=["name", "index"])
    store.update([{"name": "a", "index": 2, "v": 3}, {"name": "a", "index": None, "v": 4}], key=["name", "index"])
    store.update({"name": "a", "index": None, "v": 5}, key=["name", "index"])
    assert [(doc["index"], doc["v"]) for doc in store.query()] == [(1, 1), (2, 3), (None, 5)]


def test_upsert_by_nested_field_and_id(store: SQLiteStore) -> None:
    store.update({"name": "a", "output": {"id": "x"}}, key="output.id")
    store.update({"name": "b", "output": {"id": "x"}}, key="output.id")
    (found,) = store.query()
    assert found["name"] == "b"
    store.update({**found, "name": "c"}, key="_id")
    assert store.query_one()["name"] == "c"
    assert store.count({"_id": found["_id"]}) == 1
    assert store.count({"_id": {"$in": [found["_id"], "other"]}}) == 1


def test_same_key_twice_in_a_batch(store: SQLiteStore) -> None:
    store.update([{"name": "a", "v": 1}, {"name": "a", "v": 2}])
    assert [doc["v"] for doc in store.query()] == [2]


def test_missing_key_writes_nothing(store: SQLiteStore) -> None:
    with pytest.raises(MissingKeyError, match=r"lacks the field 'name'.*\['v'\]"):
        store.update([{"name": "a"}, {"v": 1}])
    assert store.count() == 0
    with pytest.raises(KeyError):
        store.update({"name": "a", "deep": {}}, key="deep.id")


def test_ids(store: SQLiteStore) -> None:
    store.update([{"_id": "text", "name": "a"}, {"_id": 5, "name": "b"}, {"_id": True, "name": "c"}])
    assert [doc["_id"] for doc in store.query({"_id": {"$in": ["text", 5.0, True]}})] == ["text", 5, True]
    assert store.count({"_id": 1}) == 0
    with pytest.raises(DuplicateValueError, match="_id 5"):
        store.update({"_id": 5, "name": "d"})
    with pytest.raises(DocumentError, match="cannot be replaced"):
        store.update({"_id": 6, "name": "b"})
    with pytest.raises(DocumentError, match="_id must be"):
        store.update({"_id": [1], "name": "e"})
    assert store.count() == 3


def test_empty_and_missing_collections(store: SQLiteStore) -> None:
    store.update([])
    assert list(store.query()) == []
    assert store.count() == store.count({"a": 1}) == 0
    assert store.query_one() is None
    assert store.distinct("a") == []
    assert list(store.groupby("a")) == []
    store.remove_docs({})
    assert store.last_updated == datetime.min


def test_collections_are_separate(store: SQLiteStore) -> None:
    other = SQLiteStore(store.path, "other", key="name")
    store.update({"name": "a"})
    other.update([{"name": "a"}, {"name": "b"}])
    store.remove_docs({})
    assert (store.count(), other.count()) == (0, 2)
    with pytest.raises(StoreError, match="differ in more than case"):
        SQLiteStore(store.path, "OTHER").update({"task_id": 1})


def test_indexes(store: SQLiteStore) -> None:
    store.update([{"name": number, "a": {"b": number % 3}} for number in range(30)])
    assert store.ensure_index("a.b")
    assert store.ensure_index("a.b")
    assert store.ensure_index("_id")
    assert store.count({"a.b": 1}) == 10
    assert not store.ensure_index("a.b", unique=True)
    assert store.ensure_index("name", unique=True)
    with pytest.raises(DuplicateValueError, match="unique"):
        store.update({"name": 5, "a": 1}, key="a")
    assert store.count() == 30
    with pytest.raises(DocumentError, match="unique index and must hold"):
        store.update({"name": {"x": 1}})
    with pytest.raises(QueryError):
        store.ensure_index("a..b")


def test_index_is_used(store: SQLiteStore) -> None:
    """A query on an indexed field opens only the documents it returns."""
    store.update([{"name": number, "v": number} for number in range(1000)])
    store.ensure_index("v")
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE docs SET document = 'not JSON' WHERE id > 20")
    assert [doc["v"] for doc in store.query({"v": {"$gt": 10, "$lt": 15}}, sort={"v": -1})] == [14, 13, 12, 11]
    assert [doc["v"] for doc in store.query({"v": {"$gt": 10}}, sort={"v": 1}, limit=2)] == [11, 12]
    assert store.count({"v": {"$gt": 10}}) == 989
    assert store.query_one({"name": 3})["v"] == 3


def test_very_long_criteria(store: SQLiteStore) -> None:
    store.update([{"name": number} for number in range(100)])
    many = list(range(50, 50_000))
    assert store.count({"name": {"$in": many}}) == 50
    assert store.count({"name": {"$in": many[:19_000]}}) == 50
    assert store.count({"$and": [{"name": {"$in": many[:15_000]}}, {"name": {"$in": list(range(-14_000, 60))}}]}) == 10
    assert store.count({"$or": [{"name": number} for number in range(90, 1_500)]}) == 10
    assert store.count({"$and": [{"name": {"$ne": number}} for number in range(600)]}) == 0


def test_query_streams_while_the_store_changes(store: SQLiteStore) -> None:
    store.update([{"name": number, "v": 0} for number in range(2500)])
    seen = []
    for doc in store.query({"v": 0}):
        seen.append(doc["name"])
        if doc["name"] % 10 == 0:
            store.update({"name": doc["name"], "v": 1})
        if doc["name"] == 100:
            store.remove_docs({"name": {"$gte": 2400}})
    assert seen == list(range(2400))
    assert [doc["name"] for doc in store.query(skip=2398)] == [2398, 2399]


def test_sort_with_maggma_enum(store: SQLiteStore) -> None:
    store.update([{"name": name} for name in "bca"])
    assert [doc["name"] for doc in store.query(sort={"name": Sort.Descending})] == ["c", "b", "a"]


def test_groupby(store: SQLiteStore) -> None:
    store.update(
        [
            {"name": 1, "a": {"b": "x"}, "v": 1},
            {"name": 2, "a": {"b": True}, "v": 2},
            {"name": 3, "a": {"b": 1}, "v": 3},
            {"name": 4, "a": {"b": "x"}, "v": 4},
            {"name": 5, "a": {}, "v": 5},
        ]
    )
    groups = [(values, [doc["name"] for doc in docs]) for values, docs in store.groupby("a.b")]
    assert groups == [({"a": {"b": 1}}, [3]), ({"a": {"b": "x"}}, [1, 4]), ({"a": {"b": True}}, [2])]
    ((values, docs),) = store.groupby(["a.b", "v"], criteria={"name": 4}, properties=["name"])
    assert values == {"a": {"b": "x"}, "v": 4}
    assert {key: value for key, value in docs[0].items() if key != "_id"} == {"name": 4, "a": {"b": "x"}, "v": 4}
    groups = [docs for _, docs in store.groupby("a.b", properties={"v": 0, "_id": 0}, sort={"v": -1}, limit=2)]
    assert groups == [[{"name": 4, "a": {"b": "x"}}]]


def test_distinct(store: SQLiteStore) -> None:
    store.update([{"name": n, "v": v} for n, v in enumerate([2, 1, True, None, "x", [3, 1, 2.0], {"a": 1}, {"a": 1}])])
    store.update({"name": "without"})
    assert store.distinct("v") == [None, 1, 2, 3, "x", {"a": 1}, True]
    assert store.distinct("v", {"name": {"$lt": 2}}) == [1, 2]
    assert store.distinct("v.a") == [1]


def test_last_updated_and_newer_in(tmp_path: Path) -> None:
    """As with MemoryStore, for both formats of the time."""
    for kind in DateTimeFormat:
        source = SQLiteStore(tmp_path / f"{kind.value}.db", "source", key="k", last_updated_type=kind)
        target = SQLiteStore(tmp_path / f"{kind.value}.db", "target", key="k", last_updated_type=kind)
        memory = MemoryStore(key="k", last_updated_type=kind)
        memory.connect()

        def stamp(second: int, kind: DateTimeFormat = kind) -> Any:
            time = datetime(2026, 1, 1, 0, 0, second)
            return time if kind is DateTimeFormat.DateTime else time.isoformat()

        source.update([{"k": n, "last_updated": stamp(n)} for n in range(6)])
        old = [{"k": n, "last_updated": stamp(n if n < 3 else 0)} for n in range(4)]
        target.update(old)
        memory.update(old)
        assert target.last_updated == memory.last_updated == datetime(2026, 1, 1, 0, 0, 2)
        for exhaustive in (False, True):
            newer = target.newer_in(source, exhaustive=exhaustive)
            assert sorted(newer) == sorted(memory.newer_in(source, exhaustive=exhaustive)) == [3, 4, 5]


def test_validator(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"v": {"type": "number"}}, "required": ["v"]}
    lax = SQLiteStore(tmp_path / "v.db", "docs", key="name", validator=JSONSchemaValidator(schema))
    lax.update([{"name": "a", "v": 1}, {"name": "b", "v": "text"}])
    assert [doc["name"] for doc in lax.query()] == ["a"]
    strict = SQLiteStore(tmp_path / "v.db", "docs", key="name", validator=JSONSchemaValidator(schema, strict=True))
    with pytest.raises(ValidationError, match="not of type 'number'"):
        strict.update({"name": "b", "v": "text"})


def test_serialisation(store: SQLiteStore) -> None:
    store = SQLiteStore(store.path, "docs", "name", "when", DateTimeFormat.IsoFormat, None, False, "FULL", 5.0, ["a.b"])
    store.update({"name": "x"})
    for again in (
        MontyDecoder().process_decoded(json.loads(store.to_json())),
        SQLiteStore.from_dict(store.as_dict()),
        pickle.loads(pickle.dumps(store)),
        copy.deepcopy(store),
    ):
        assert again == store
        assert hash(again) == hash(store)
        assert again.as_dict() == store.as_dict()
        assert again.count() == 1
    assert store != SQLiteStore(store.path, "other", "name", "when")
    assert store != "store"


def test_path_is_absolute_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("relative.db", "docs")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.update({"task_id": 1})
    assert (tmp_path / "relative.db").exists()
    assert store.name == f"sqlite://{tmp_path / 'relative.db'}/docs"


def test_handle_needs_connect(store: SQLiteStore) -> None:
    with pytest.raises(StoreError, match="connect"):
        _ = store._collection
    with store:
        assert store._collection is not None
    with pytest.raises(StoreError, match="connect"):
        _ = store._collection


def test_plain_json_for_other_tools(store: SQLiteStore) -> None:
    store.update({"name": "x", "when": datetime(2026, 1, 1), "value": 2.5})
    with sqlite3.connect(store.path) as connection:
        row = connection.execute(
            "SELECT json_extract(document, '$.value'), json_extract(document, '$.when') FROM docs"
        ).fetchone()
    assert row == (2.5, "2026-01-01T00:00:00.000")


def test_change_count(store: SQLiteStore) -> None:
    before = store.change_count()
    store.update([{"name": "a"}, {"name": "b"}])
    assert store.change_count() == before + 1
    store.remove_docs({"name": "c"})
    store.ensure_index("x")
    assert store.change_count() == before + 1
    store.remove_docs({"name": "a"})
    assert store.change_count() == before + 2


@pytest.mark.parametrize("name", ["", "a b", "1a", "sqlite_x", "thermal_flows_x", 'a"b', None])
def test_collection_names(tmp_path: Path, name: Any) -> None:
    with pytest.raises(ValueError, match="collection name"):
        SQLiteStore(tmp_path / "x.db", name)


@pytest.mark.parametrize("arguments", [{"synchronous": "OFF"}, {"timeout": -1}, {"timeout": math.nan}])
def test_refused_options(tmp_path: Path, arguments: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        SQLiteStore(tmp_path / "x.db", "docs", **arguments)
