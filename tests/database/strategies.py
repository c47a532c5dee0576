"""Random documents and criteria, rich in what makes Mongo queries hard: arrays, mixed types, missing fields."""

from datetime import datetime
from typing import Any

from bson import ObjectId
from hypothesis import strategies as st

DATES = [datetime(2020, 1, 1), datetime(2024, 5, 17, 12, 30, 0, 123000), datetime(1969, 7, 20)]
IDS = [ObjectId("5f0000000000000000000001"), ObjectId("5f0000000000000000000002")]

numbers = st.sampled_from([-1, 0, 1, 2, 3, 0.0, 0.5, 1.0, 2.5, 2**53 + 1, float(2**53), float("inf")])
texts = st.sampled_from(["", "a", "b", "ab", "Z", "\u00e9", "1"])
ordered = st.one_of(numbers, texts, st.sampled_from(DATES), st.sampled_from(IDS), st.booleans())
scalars = st.one_of(numbers, numbers, texts, ordered, st.none())
rare = st.one_of(st.just(float("nan")), st.just(b"bytes"))
names = st.sampled_from(["a", "b", "c"])


def _values(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(children, max_size=3), st.dictionaries(names, children, max_size=3))


values = st.one_of(scalars, st.recursive(st.one_of(scalars, scalars, scalars, rare), _values, max_leaves=6))
documents = st.builds(
    lambda fields, rank: {**fields, "rank": rank}, st.dictionaries(names, values, max_size=3), st.one_of(scalars)
)
collections = st.lists(documents, min_size=1, max_size=8)
paths = st.sampled_from(["a", "a", "b", "c", "a.b", "a.a", "b.a", "a.b.c", "a.0", "a.0.b", "rank"])

operands = st.one_of(scalars, scalars, values)
comparisons = st.one_of(
    st.builds(lambda op, v: {op: v}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered),
    st.builds(lambda low, high: {"$gte": low, "$lt": high}, numbers, numbers),
    st.builds(lambda v: {"$eq": v}, operands),
    st.builds(lambda v: {"$ne": v}, operands),
    st.builds(lambda v: {"$in": v}, st.lists(operands, max_size=3)),
    st.builds(lambda v: {"$in": v}, st.lists(numbers, min_size=9, max_size=12)),
    st.builds(lambda v: {"$nin": v}, st.lists(scalars, max_size=3)),
    st.builds(lambda v: {"$exists": v}, st.booleans()),
    st.builds(lambda v: {"$all": v}, st.lists(scalars, max_size=2)),
    st.builds(lambda v: {"$size": v}, st.integers(0, 3)),
    st.builds(lambda v: {"$type": v}, st.sampled_from(["string", "number", "bool", "array", "object", "date"])),
    st.builds(lambda v: {"$regex": v}, st.sampled_from(["a", "^b", "^$"])),
)
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(lambda c: {"$not": c}, inner),
        st.builds(lambda c: {"$elemMatch": c}, inner),
        st.builds(lambda path, c: {"$elemMatch": {path: c}}, st.sampled_from(["a", "b", "b.a"]), inner),
        st.builds(lambda path, v: {"$elemMatch": {path: v}}, st.sampled_from(["a", "b"]), scalars),
    ),
    max_leaves=3,
)
clauses = st.one_of(
    st.builds(lambda path, c: {path: c}, paths, conditions),
    st.builds(lambda path, v: {path: v}, paths, operands),
    st.dictionaries(paths, st.one_of(conditions, operands), max_size=3),
)
criteria = st.recursive(
    clauses,
    lambda inner: st.builds(
        lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=4,
)

# what mongomock alone answers as MongoDB does: scalars of one type at each path, no arrays of arrays, one operator at a time
plain_documents = st.fixed_dictionaries(
    {"n": st.integers(0, 5)},
    optional={
        "x": st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 1.5])),
        "s": st.sampled_from(["a", "b", "ab", ""]),
        "t": st.booleans(),
        "d": st.sampled_from(DATES),
        "list": st.lists(st.integers(-3, 3), max_size=4),
        "inner": st.fixed_dictionaries({}, optional={"x": st.integers(-3, 3), "s": st.sampled_from(["a", "b"])}),
        "items": st.lists(
            st.fixed_dictionaries({"x": st.integers(-3, 3)}, optional={"y": st.integers(-3, 3)}), max_size=3
        ),
    },
)
_number = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 1.5]))
_compared = st.one_of(
    _number,
    st.builds(lambda op, v: {op: v}, st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"]), _number),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["$in", "$nin"]), st.lists(_number, max_size=3)),
)
_on_numbers = st.one_of(_compared, st.builds(lambda v: {"$exists": v}, st.booleans()))
plain_clauses = st.one_of(
    st.builds(lambda path, c: {path: c}, st.sampled_from(["n", "x", "list", "inner.x"]), _on_numbers),
    st.builds(lambda path, c: {path: c}, st.sampled_from(["items.x", "items.y"]), _compared),
    st.builds(
        lambda v: {"s": v},
        st.one_of(st.sampled_from(["a", "b"]), st.builds(lambda r: {"$regex": r}, st.sampled_from(["^a", "b"]))),
    ),
    st.builds(lambda v: {"inner.s": v}, st.sampled_from(["a", "b"])),
    st.builds(lambda v: {"t": v}, st.booleans()),
    st.builds(lambda op, v: {"d": {op: v}}, st.sampled_from(["$gt", "$lte", "$eq"]), st.sampled_from(DATES)),
    st.builds(lambda v: {"list": {"$size": v}}, st.integers(0, 4)),
    st.builds(lambda v: {"list": {"$all": v}}, st.lists(st.integers(-3, 3), min_size=1, max_size=2)),
    st.builds(lambda c: {"list": {"$elemMatch": c}}, st.builds(lambda a, b: {"$gt": a, "$lt": b}, _number, _number)),
    st.builds(lambda a, b: {"items": {"$elemMatch": {"x": a, "y": b}}}, _on_numbers, _on_numbers),
    st.builds(lambda c: {"n": {"$not": c}}, st.builds(lambda v: {"$gt": v}, _number)),
)
plain_criteria = st.recursive(
    plain_clauses,
    lambda inner: st.builds(
        lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=4,
)

# nested fields, arrays and mixed types, in criteria that mongomock alone answers as MongoDB does: what is left out are the
# cases of the table in thermal_flows.database.criteria, each with a test of its own
_scalars = st.one_of(numbers, texts, st.sampled_from(DATES), st.sampled_from(IDS))
_flat = st.one_of(_scalars, _scalars, st.none(), st.lists(_scalars, max_size=3))
_records = st.dictionaries(names, st.one_of(_scalars, st.dictionaries(names, _scalars, max_size=2)), max_size=3)
mixed_documents = st.fixed_dictionaries(
    {"rank": _scalars},
    optional={"a": _flat, "b": _flat, "c": _records, "items": st.lists(_records, max_size=3)},
)
_range = st.builds(lambda op, v: {op: v}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), _scalars)
_single = st.one_of(
    _scalars,
    _range,
    st.builds(lambda v: {"$eq": v}, _scalars),
    st.builds(lambda v: {"$in": v}, st.lists(_scalars, max_size=4)),
    st.builds(lambda v: {"$regex": v}, st.sampled_from(["a", "^b", "^$"])),
    st.builds(lambda v: {"$type": v}, st.sampled_from(["string", "object", "date"])),
)
_top = st.one_of(
    _single,
    st.just({"$exists": True}),
    st.just({"$exists": False}),
    st.none(),
    st.builds(lambda v: {"$ne": v}, _scalars),
    st.builds(lambda v: {"$nin": v}, st.lists(_scalars, max_size=3)),
    st.builds(lambda c: {"$not": c}, _range),
    st.builds(lambda v: {"$all": v}, st.lists(_scalars, min_size=1, max_size=2)),
)
_mixed_clauses = st.one_of(
    st.builds(lambda path, c: {path: c}, st.sampled_from(["a", "b", "rank"]), _top),
    st.builds(
        lambda path, c: {path: c},
        st.sampled_from(["c.a", "c.b", "c.a.b", "items.a", "items.b.a", "items.0.a"]),
        _single,
    ),
    st.builds(
        lambda path, other, c, d: {"items": {"$elemMatch": {path: c, other: d}}},
        st.sampled_from(["a", "b"]),
        st.sampled_from(["c", "b.a"]),
        _single,
        _single,
    ),
    st.builds(lambda low, high: {"a": {"$elemMatch": {"$gte": low, "$lt": high}}}, numbers, numbers),
)
mixed_criteria = st.recursive(
    _mixed_clauses,
    lambda inner: st.builds(
        lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=4,
)
