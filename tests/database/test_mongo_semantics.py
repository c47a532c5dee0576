"""What MongoDB answers, written down: matching, projections, sort orders, and what must be refused."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bson import ObjectId
from bson.regex import Regex

from thermal_flows.database import QueryError, SQLiteStore

DAY = datetime(2026, 1, 2, 3, 4, 5, 678000)
OID = ObjectId("5f0000000000000000000001")

DOCS: dict[str, dict[str, Any]] = {
    "one": {"a": 1},
    "float": {"a": 1.0},
    "true": {"a": True},
    "false": {"a": False},
    "zero": {"a": 0},
    "text": {"a": "1"},
    "null": {"a": None},
    "nothing": {},
    "list": {"a": [1, 2, 3]},
    "low_high": {"a": [0, 10]},
    "empty": {"a": []},
    "nested": {"a": {"b": 5}},
    "deep": {"a": {"b": {"c": 1}}},
    "objects": {"a": [{"b": 0, "c": "x"}, {"b": 9, "c": "y"}]},
    "some_b": {"a": [{}, {"b": 1}]},
    "lists": {"a": [[1, 2], [3]]},
    "lists_of_objects": {"a": [[{"b": 1}]]},
    "date": {"a": DAY},
    "oid": {"a": OID},
    "nan": {"a": float("nan")},
    "inf": {"a": float("inf")},
    "big": {"a": 2**62 + 1},
    "bytes": {"a": b"\x00\xff"},
}

MATCHES: list[tuple[dict[str, Any], str]] = [
    # equality: numbers of any kind, but a boolean is not a number
    ({"a": 1}, "one float list"),
    ({"a": 1.0}, "one float list"),
    ({"a": np.int64(1)}, "one float list"),
    ({"a": True}, "true"),
    ({"a": False}, "false"),
    ({"a": 0}, "zero low_high"),
    ({"a": "1"}, "text"),
    ({"a": {"$eq": 1}}, "one float list"),
    ({"a": DAY}, "date"),
    ({"a": DAY.replace(microsecond=678999)}, "date"),
    ({"a": DAY.replace(tzinfo=UTC)}, "date"),
    ({"a": (DAY + timedelta(hours=2)).replace(tzinfo=timezone(timedelta(hours=2)))}, "date"),
    ({"a": OID}, "oid"),
    ({"a": str(OID)}, ""),
    ({"a": float("nan")}, "nan"),
    ({"a": float("inf")}, "inf"),
    ({"a": 2**62 + 1}, "big"),
    ({"a": float(2**62)}, ""),
    ({"a": b"\x00\xff"}, "bytes"),
    # arrays: an element, or the whole
    ({"a": [1, 2, 3]}, "list"),
    ({"a": (1, 2, 3)}, "list"),
    ({"a": [1, 2]}, "lists"),
    ({"a": []}, "empty"),
    ({"a.0": 1}, "list lists"),
    ({"a.1": 10}, "low_high"),
    ({"a.0.b": 0}, "objects"),
    # objects, and paths through them
    ({"a": {"b": 5}}, "nested"),
    ({"a.b": 5}, "nested"),
    ({"a.b.c": 1}, "deep"),
    ({"a.b": 9}, "objects"),
    # null and missing
    ({"a": None}, "null nothing"),
    ({"a": {"$exists": True}}, " ".join(name for name in DOCS if name != "nothing")),
    ({"a": {"$exists": False}}, "nothing"),
    ({"a.b": {"$exists": True}}, "nested deep objects some_b"),
    ({"a.b": {"$type": "number"}}, "nested objects some_b"),
    # comparisons stay within a type
    ({"a": {"$gt": 1}}, "list low_high inf big"),
    ({"a": {"$gte": 1}}, "one float list low_high inf big"),
    ({"a": {"$lt": 1}}, "zero low_high"),
    ({"a": {"$lte": 0}}, "zero low_high"),
    ({"a": {"$gt": 3, "$lt": 11}}, "low_high"),
    ({"a": {"$gt": 5, "$lt": 5}}, "low_high"),
    ({"a": {"$gte": ""}}, "text"),
    ({"a": {"$gt": False}}, "true"),
    ({"a": {"$lte": True}}, "true false"),
    ({"a": {"$gt": DAY - timedelta(seconds=1)}}, "date"),
    ({"a": {"$gt": ObjectId("5f0000000000000000000000")}}, "oid"),
    ({"a": {"$lt": float("nan")}}, ""),
    ({"a.b": {"$gt": 1, "$lt": 5}}, "objects"),
    ({"a": {"$elemMatch": {"b": {"$gt": 1, "$lt": 5}}}}, ""),
    ({"a": {"$elemMatch": {"b": {"$gt": 1}, "c": "y"}}}, "objects"),
    ({"a": {"$elemMatch": {"b": {"$gt": 1}, "c": "x"}}}, ""),
    ({"a": {"$elemMatch": {"$gt": 1, "$lt": 3}}}, "list"),
    ({"a": {"$elemMatch": {"b": {"$ne": 0}}}}, "objects some_b"),
    ({"a": {"$elemMatch": {"b": 1}}}, "some_b"),
    ({"a": {"$elemMatch": {"b": None}}}, "some_b"),
    ({"a": {"$elemMatch": {"$or": [{"c": "y"}, {"b": 1}]}}}, "objects some_b"),
    ({"a": {"$elemMatch": {"$not": {"$gte": 1}}}}, "low_high objects some_b lists lists_of_objects"),
    ({"a": {"$elemMatch": {"$in": [2, 10]}}}, "list low_high"),
    # sets
    ({"a": {"$in": [0, "1", True]}}, "zero text true low_high"),
    ({"a": {"$in": [None]}}, "null nothing"),
    ({"a": {"$in": []}}, ""),
    ({"a": {"$in": [re.compile("^1$"), 10]}}, "text low_high"),
    ({"a": {"$in": np.array([1, 2])}}, "one float list"),
    ({"a": {"$all": [1, 3]}}, "list"),
    ({"a": {"$all": [1]}}, "one float list"),
    ({"a": {"$all": []}}, ""),
    ({"a": {"$all": [[1, 2]]}}, "lists"),
    ({"a": {"$all": [{"$elemMatch": {"b": 0}}, {"$elemMatch": {"b": 9}}]}}, "objects"),
    ({"a": {"$size": 2}}, "low_high objects some_b lists"),
    ({"a": {"$size": 1}}, "lists_of_objects"),
    ({"a": {"$size": 0}}, "empty"),
    # negation is the complement
    ({"a": {"$ne": 1}, "$and": [{"a": {"$type": "number"}}]}, "zero low_high nan inf big"),
    ({"a": {"$nin": [1, 0]}, "$or": [{"a": {"$type": "number"}}]}, "nan inf big"),
    ({"a": {"$not": {"$gt": 0}}, "$and": [{"a": {"$gte": 0}}]}, "zero"),
    ({"$nor": [{"a": {"$exists": True}}]}, "nothing"),
    ({"a.b": {"$not": {"$exists": True}}, "$and": [{"a": {"$type": "number"}}, {"a": {"$lte": 0}}]}, "zero low_high"),
    ({"a": {"$not": re.compile("1")}, "$and": [{"a": {"$type": "string"}}]}, ""),
    # text
    ({"a": {"$regex": "^1"}}, "text"),
    ({"a": re.compile("1")}, "text"),
    ({"a": Regex("1")}, "text"),
    ({"a.c": {"$regex": "X", "$options": "i"}}, "objects"),
    # types
    ({"a": {"$type": "bool"}}, "true false"),
    ({"a": {"$type": "array"}}, "list low_high empty objects some_b lists lists_of_objects"),
    ({"a": {"$type": "date"}}, "date"),
    # logic
    ({"$or": [{"a": 0}, {"a": "1"}]}, "zero text low_high"),
    ({"$and": [{"a": {"$gt": 2}}, {"a": {"$lt": 2}}]}, "list low_high"),
    ({"$comment": "ignored", "a": "1"}, "text"),
    ({}, " ".join(DOCS)),
]

REFUSED: list[tuple[Any, str]] = [
    ({"a": {"$near": [1, 2]}}, r"\$near"),
    ({"a": {"$mod": [2, 0]}}, r"\$mod"),
    ({"a": {"$gtt": 1}}, r"\$gtt.*supported are"),
    ({"$where": "1"}, r"\$where"),
    ({"$expr": {"$gt": ["$a", 1]}}, r"\$expr"),
    ({"$text": {"$search": "x"}}, r"\$text"),
    ({"$not": {"a": 1}}, r"\$not"),
    ({"a": {"$gt": 1, "b": 2}}, "mix operators and fields"),
    ({"a": {"$in": 1}}, "needs a list"),
    ({"a": {"$in": "abc"}}, "needs a list"),
    ({"a": {"$all": 1}}, "needs a list"),
    ({"a": {"$size": -1}}, "length"),
    ({"a": {"$size": True}}, "length"),
    ({"a": {"$type": 2}}, r"\$type"),
    ({"a": {"$type": "null"}}, r"\$type"),
    ({"a": {"$regex": "("}}, "not a regular expression"),
    ({"a": {"$regex": 1}}, "needs a string"),
    ({"a": {"$regex": "a", "$options": "u"}}, "letters"),
    ({"a": {"$options": "i"}}, "needs a"),
    ({"a": {"$not": 1}}, r"\$not"),
    ({"a": {"$elemMatch": 1}}, r"\$elemMatch"),
    ({"a": {"$elemMatch": {}}}, r"\$elemMatch"),
    ({"a": {"$elemMatch": {"b": {"$foo": 1}}}}, r"\$foo"),
    ({"$or": []}, "at least one"),
    ({"$or": [1]}, "criteria dicts"),
    ({"$and": {"a": 1}}, "list"),
    ({"": 1}, "non-empty"),
    ({"a..b": 1}, "empty component"),
    ({"a.$b": 1}, "begins with"),
    ({"a.-1": 1}, "array positions"),
    ({1: 1}, "non-empty string"),
    ("a", "must be a dict"),
    ({"a": 2**70}, "64 bits"),
    ({"a": {"$gt": 1 + 2j}}, "complex"),
    ({"a": {"$in": [{1, 2}]}}, "of type set"),
]


@pytest.fixture(scope="module", params=[[], ["a"], ["a", "a.b", "a.c", "a.b.c"]], ids=["scan", "index", "indexes"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path_factory.mktemp("mongo") / "mongo.db", "docs", key="name", indexes=request.param) as store:
        store.update([{"name": name, **doc} for name, doc in DOCS.items()])
        yield store


@pytest.mark.parametrize(("criteria", "names"), MATCHES, ids=[str(criteria) for criteria, _ in MATCHES])
def test_matches(store: SQLiteStore, criteria: dict, names: str) -> None:
    assert {doc["name"] for doc in store.query(criteria)} == set(names.split())
    assert store.count(criteria) == len(names.split())


@pytest.mark.parametrize(
    ("parent", "matched"), [(None, True), (5, True), ({}, True), ({"b": None}, True), ({"b": 1}, False), ([], False)]
)
def test_null_behind_a_scalar(tmp_path: Path, parent: Any, matched: bool) -> None:
    store = SQLiteStore(tmp_path / "null.db", "docs", indexes=["a.b"])
    store.update({"task_id": 1, "a": parent})
    assert store.count({"a.b": None}) == int(matched)
    assert store.count({"a.b": {"$in": [None, 7]}}) == int(matched)
    assert store.count({"a.b": {"$ne": None}}) == int(not matched)


def test_fields_named_like_array_positions(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "digits.db", "docs", indexes=["a.0"])
    store.update([{"task_id": 1, "a": [{"x": 1}, {"0": 5}]}, {"task_id": 2, "a": [5]}, {"task_id": 3, "a": {"0": 5}}])
    assert [doc["task_id"] for doc in store.query({"a": {"$elemMatch": {"0": 5}}})] == [1]
    assert [doc["task_id"] for doc in store.query({"a.0": 5})] == [2, 3]


@pytest.mark.parametrize(("criteria", "message"), REFUSED, ids=[str(criteria) for criteria, _ in REFUSED])
def test_refused_before_anything_is_read(tmp_path: Path, criteria: Any, message: str) -> None:
    store = SQLiteStore(tmp_path / "refused.db", "docs")
    for method in (store.query, store.count, store.remove_docs):
        with pytest.raises(QueryError, match=message):
            method(criteria)
    assert not (tmp_path / "refused.db").exists()


PROJECTED: list[tuple[Any, dict[str, Any]]] = [
    (None, {"name": "d", "a": {"b": 1, "c": {"d": 2, "e": 3}}, "items": [{"x": 1, "y": 2}, 7, {"x": 3}, [{"x": 4}]]}),
    (["name"], {"name": "d"}),
    ({"name": 1}, {"name": "d"}),
    ({"name": True, "_id": 0}, {"name": "d"}),
    (["a.b"], {"a": {"b": 1}}),
    (["a.c.d", "name"], {"a": {"c": {"d": 2}}, "name": "d"}),
    ({"a": {"c": {"e": 1}}}, {"a": {"c": {"e": 3}}}),
    ({"a": {"c.e": 1}}, {"a": {"c": {"e": 3}}}),
    (["items.x"], {"items": [{"x": 1}, {"x": 3}, [{"x": 4}]]}),
    (["missing", "a.missing"], {"a": {}}),
    ({"a": 0}, {"name": "d", "items": [{"x": 1, "y": 2}, 7, {"x": 3}, [{"x": 4}]]}),
    ({"a.c": 0, "items": 0}, {"name": "d", "a": {"b": 1}}),
    ({"items.x": 0, "a": 0}, {"name": "d", "items": [{"y": 2}, 7, {}, [{}]]}),
    ({"items": {"$elemMatch": {"x": 3}}}, {"items": [{"x": 3}]}),
    ({"items": {"$elemMatch": {"x": 9}}, "name": 1}, {"name": "d"}),
]


@pytest.mark.parametrize(("properties", "expected"), PROJECTED, ids=[str(properties) for properties, _ in PROJECTED])
def test_projection(tmp_path: Path, properties: Any, expected: dict) -> None:
    store = SQLiteStore(tmp_path / "projected.db", "docs", key="name")
    store.update(PROJECTED[0][1])
    (found,) = store.query({}, properties)
    has_id = found.pop("_id", None) is not None
    assert found == expected
    assert has_id == (not (isinstance(properties, dict) and "_id" in properties))


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"a": 1, "b": 0}, "either"),
        ({"a": {"b": 1}, "c": 0}, "either"),
        (["a", "a.b"], "name one of them"),
        (["a.b", "a"], "name one of them"),
        ({"a": {"$slice": 2}}, r"\$slice"),
        ({"a": "$b"}, "must be 1 or 0"),
        ({"a.$": 1}, "begins with"),
        ("a", "list or a dict"),
        (["a", 1], "non-empty string"),
        ({"a": {}}, "not supported"),
    ],
)
def test_refused_projection(tmp_path: Path, properties: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        SQLiteStore(tmp_path / "x.db", "docs").query({}, properties)


@pytest.mark.parametrize("indexes", [[], ["v"]], ids=["scan", "index"])
def test_sort_order_of_types(tmp_path: Path, indexes: list[str]) -> None:
    """MongoDB's order: empty array, null and missing, numbers, text, objects, ids, booleans, dates."""
    values = [None, float("-inf"), -1, 0.5, 2, float("inf"), "", "A", "a", OID, False, True, DAY]
    store = SQLiteStore(tmp_path / "sort.db", "docs", key="n", indexes=indexes)
    store.update(
        [{"n": number, "v": value} for number, value in sorted(enumerate(values), key=lambda pair: pair[0] * 7 % 13)]
    )
    assert [doc["n"] for doc in store.query(sort={"v": 1})] == list(range(len(values)))
    assert [doc["n"] for doc in store.query(sort={"v": -1})] == list(range(len(values)))[::-1]
    store.update(
        [{"n": 100, "v": {"x": 1}}, {"n": 101, "v": []}, {"n": 102, "v": [3, -5]}, {"n": 103, "v": float("nan")}]
    )
    ascending = [doc["n"] for doc in store.query(sort={"v": 1})]
    assert ascending == [101, 0, 103, 1, 102, 2, 3, 4, 5, 6, 7, 8, 100, 9, 10, 11, 12]
    descending = [doc["n"] for doc in store.query(sort={"v": -1})]
    assert descending == [12, 11, 10, 9, 100, 8, 7, 6, 5, 102, 4, 3, 2, 1, 103, 0, 101]


@pytest.mark.parametrize("sort", [{"a": 0}, {"a": 2}, {"a": True}, {"a": "asc"}, [("a", 1)], {"": 1}])
def test_refused_sort(tmp_path: Path, sort: Any) -> None:
    with pytest.raises(QueryError):
        SQLiteStore(tmp_path / "x.db", "docs").query(sort=sort)


@pytest.mark.parametrize("arguments", [{"skip": -1}, {"limit": -1}, {"limit": 1.5}, {"skip": True}])
def test_refused_paging(tmp_path: Path, arguments: dict) -> None:
    with pytest.raises(QueryError, match=r"0 or a positive number"):
        SQLiteStore(tmp_path / "x.db", "docs").query(**arguments)
