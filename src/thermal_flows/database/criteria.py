"""Mongo criteria: checked before anything is read, brought to a small core, matched by mongomock-ng.

:func:`parse` turns criteria into a tree of ``and``, ``or``, ``nor`` over single conditions, so that

- an operator that is not supported raises :class:`QueryError` at once, also on an empty collection;
- several operators on one field may be met by different elements of an array, as in MongoDB;
- a boolean is not a number: ``{"a": 1}`` does not match ``True``.

:func:`matcher` evaluates the tree with ``mongomock_ng.filtering.filter_applies``. The differences
from :class:`maggma.stores.MemoryStore` (mongomock alone), in each of which MongoDB is followed:

=============================================  =====================  ======================
criteria                                       MemoryStore            here and in MongoDB
=============================================  =====================  ======================
``{"a": 1}`` on ``{"a": True}``                matches                does not
``{"a.b": {"$gt": 1, "$lt": 5}}`` on            does not match         matches
``{"a": [{"b": 0}, {"b": 9}]}``
``{"a.b": {"$exists": False}}`` on             matches                does not
``{"a": [{}, {"b": 1}]}``
``{"a": {"$size": 1}}`` on ``{"a": 7}``        matches                does not
``{"a": {"$all": []}}``                        matches everything     matches nothing
``{"a.b": None}`` on ``{"a": None}``           does not match         matches
``{"a.b": {"$not": {"$gt": 1}}}`` on           does not match         matches
``{"a": 5}``
``{"a": {"$elemMatch": {"b": {"$ne": 1}}}}``   matches                does not (not objects)
on ``{"a": [5]}``
``{"a": {"$elemMatch": {"$gt": 1}}}``          matches                does not
on ``{"a": [[5]]}``
an operator that is not known                  may find nothing       raises
=============================================  =====================  ======================

Where mongomock itself is not exact the results are those of MemoryStore: objects are compared
without regard to the order of their fields, regular expressions are Python's, and an array of
scalars ``{"a": [1]}`` counts as lacking ``a.b``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from bson import ObjectId
from bson.regex import Regex
from mongomock_ng.filtering import TYPE_MAP, filter_applies

from thermal_flows.database.errors import DocumentError, QueryError
from thermal_flows.database.paths import index_entries, scalar_entry, split_path
from thermal_flows.database.values import clean_value

RANGES = frozenset({"$gt", "$gte", "$lt", "$lte"})
LOGICAL = frozenset({"$and", "$or", "$nor"})
OPERATORS = RANGES | {"$eq", "$ne", "$in", "$nin", "$exists", "$type", "$regex", "$not", "$all", "$elemMatch", "$size"}
"""Operators on a field; ``$options`` goes with ``$regex``, and ``$and``, ``$or``, ``$nor``, ``$comment`` stand alone."""

ELEMENT = ""
"""The field name that stands for an array element itself: mongomock's empty path."""

_LONG_LIST = 8
_TYPES = frozenset(name for name, test in TYPE_MAP.items() if test is not None)
_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}


@dataclass(frozen=True)
class Leaf:
    """One condition on one field."""

    field: str
    operator: Literal["eq", "in", "$gt", "$gte", "$lt", "$lte", "exists", "type", "size", "regex", "element"]
    operand: Any
    """Plain value; list for ``in``, compiled pattern for ``regex``, for ``element`` a :class:`Node` of
    conditions on the element's fields or, under the name :data:`ELEMENT`, on the element itself."""


@dataclass(frozen=True)
class Node:
    """All, any, or none of some conditions."""

    kind: Literal["and", "or", "nor"]
    children: tuple["Node | Leaf", ...]


Condition = Node | Leaf


_NO_ARRAY = Node("nor", (Leaf(ELEMENT, "type", "array"),))


def parse(criteria: Mapping[str, Any] | None) -> Node:
    """Tree of Mongo criteria.

    Parameters
    ----------
    criteria : mapping or None
        As in pymongo; None and ``{}`` match everything.

    Returns
    -------
    Node
        An ``and`` of conditions, empty if everything matches.

    Raises
    ------
    QueryError
        If the criteria are malformed, or an operator is not supported.
    """
    if criteria is None:
        return Node("and", ())
    if not isinstance(criteria, Mapping):
        raise QueryError(f'criteria must be a dict such as {{"film_formula": "Ge"}}, not {type(criteria).__name__}')
    children: list[Condition] = []
    for key, value in criteria.items():
        if key == "$comment":
            continue
        if key in LOGICAL:
            if not isinstance(value, list | tuple) or not value:
                raise QueryError(f"{key} needs a list of at least one criteria dict, not {value!r}")
            clauses = tuple(parse(_mapping(clause, key)) for clause in value)
            children.extend(clauses) if key == "$and" else children.append(Node(_kind(key), clauses))
        elif isinstance(key, str) and key.startswith("$"):
            raise QueryError(f"the operator {key} is not supported here; supported are {_names(LOGICAL)} and fields")
        else:
            split_path(key)
            children.extend(_conditions(key, value))
    return Node("and", tuple(children))


def _kind(key: str) -> Literal["or", "nor"]:
    return "or" if key == "$or" else "nor"


def _mapping(value: Any, operator: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise QueryError(f"{operator} needs criteria dicts, not {value!r}")
    return value


def _names(operators: frozenset[str]) -> str:
    return ", ".join(sorted(operators))


def _conditions(field: str, spec: Any) -> list[Condition]:
    """What ``{field: spec}`` asks for."""
    if not _has_operators(field, spec):
        return [equals(field, spec)]
    return [
        _condition(field, operator, operand, spec.get("$options"))
        for operator, operand in spec.items()
        if operator != "$options"
    ]


def _has_operators(field: str, spec: Any) -> bool:
    if not isinstance(spec, Mapping) or not spec:
        return False
    dollars = [isinstance(key, str) and key.startswith("$") for key in spec]
    if not any(dollars):
        return False
    if not all(dollars):
        raise QueryError(f"the criteria on {field!r} mix operators and fields: {sorted(map(str, spec))}")
    unknown = set(spec) - OPERATORS - {"$options"}
    if unknown:
        raise QueryError(
            f"the operator {sorted(unknown)[0]} on {field!r} is not supported; supported are {_names(OPERATORS)}"
        )
    if "$options" in spec and "$regex" not in spec:
        raise QueryError(f"$options on {field!r} needs a $regex beside it")
    return True


def _condition(field: str, operator: str, operand: Any, options: Any) -> Condition:
    if operator == "$eq":
        return equals(field, operand)
    if operator in RANGES:
        return Leaf(field, operator, _plain(field, operator, operand))  # type: ignore[arg-type]
    if operator == "$in":
        return _any_of(field, operator, operand)
    if operator == "$ne":
        return Node("nor", (equals(field, operand),))
    if operator == "$nin":
        return Node("nor", (_any_of(field, operator, operand),))
    if operator == "$exists":
        exists = Leaf(field, "exists", True)
        return exists if operand else Node("nor", (exists,))
    if operator == "$regex":
        return Leaf(field, "regex", _pattern(field, operand, options))
    if operator == "$size":
        size = _plain(field, operator, operand)
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise QueryError(f"$size on {field!r} needs a length of 0 or more, not {operand!r}")
        return Node("and", (Leaf(field, "type", "array"), Leaf(field, "size", size)))
    if operator == "$type":
        if not isinstance(operand, str) or operand not in _TYPES:
            raise QueryError(f"$type on {field!r} needs one of {_names(_TYPES)}, not {operand!r}")
        return Leaf(field, "type", operand)
    if operator == "$all":
        return _all_of(field, operand)
    if operator == "$not":
        if isinstance(operand, re.Pattern | Regex):
            return Node("nor", (Leaf(field, "regex", _pattern(field, operand, None)),))
        if not _has_operators(field, operand):
            raise QueryError(f'$not on {field!r} needs an operator such as {{"$gt": 1}}, not {operand!r}')
        return Node("nor", (Node("and", tuple(_conditions(field, operand))),))
    return _element(field, operand)


def _plain(field: str, operator: str, value: Any) -> Any:
    try:
        return clean_value(value)
    except DocumentError as error:
        raise QueryError(f"{operator} on {field!r}: {error}") from error


def equals(field: str, value: Any) -> Condition:
    """Condition that a field has a value, or that one element of the array there has it.

    Raises
    ------
    QueryError
        If no document can hold such a value.
    """
    if isinstance(value, re.Pattern | Regex):
        return Leaf(field, "regex", _pattern(field, value, None))
    value = _plain(field, "$eq", value)
    equal = Leaf(field, "eq", value)
    return _or_dead_end(field, equal) if value is None else equal


def _any_of(field: str, operator: str, values: Any) -> Condition:
    if isinstance(values, np.ndarray | set | frozenset):
        values = list(values)
    if not isinstance(values, list | tuple):
        raise QueryError(f"{operator} on {field!r} needs a list of values, not {values!r}")
    patterns = [equals(field, value) for value in values if isinstance(value, re.Pattern | Regex)]
    plain = [_plain(field, operator, value) for value in values if not isinstance(value, re.Pattern | Regex)]
    among = Leaf(field, "in", plain)
    condition = _or_dead_end(field, among) if any(value is None for value in plain) else among
    return Node("or", (*patterns, condition)) if patterns else condition


def _all_of(field: str, values: Any) -> Condition:
    if not isinstance(values, list | tuple):
        raise QueryError(f"$all on {field!r} needs a list of values, not {values!r}")
    if not values:
        return Leaf(field, "in", [])
    elements = [isinstance(value, Mapping) and "$elemMatch" in value for value in values]
    if any(elements) and not all(elements):
        raise QueryError(f"$all on {field!r} cannot mix $elemMatch with values")
    return Node("and", tuple(condition for value in values for condition in _conditions(field, value)))


def _or_dead_end(field: str, null: Leaf) -> Condition:
    """A null also where the path ends early at a scalar: ``a.b`` is null in ``{"a": None}``."""
    if "." not in field:
        return null
    parts = field.split(".")
    dead_ends = []
    for depth in range(1, len(parts)):
        prefix = ".".join(parts[:depth])
        goes_on = (Leaf(prefix, "type", "object"), Leaf(prefix, "type", "array"))
        dead_ends.append(Node("and", (Leaf(prefix, "exists", True), Node("nor", goes_on))))
    return Node("or", (null, *dead_ends))


def _element(field: str, operand: Any) -> Leaf:
    if not isinstance(operand, Mapping) or not operand:
        raise QueryError(f'$elemMatch on {field!r} needs criteria such as {{"temperature": 300}}, not {operand!r}')
    if any(str(key) in LOGICAL or not str(key).startswith("$") for key in operand):
        return Leaf(
            field, "element", Node("and", (Leaf(ELEMENT, "type", "object"), _NO_ARRAY, *parse(operand).children))
        )
    _has_operators(field, operand)
    return Leaf(field, "element", _without_descent(Node("and", tuple(_conditions(ELEMENT, operand)))))


def _without_descent(condition: Node) -> Node:
    """The same conditions on an array element; an element that is an array itself is not looked into."""
    children: list[Condition] = []
    for child in condition.children:
        if isinstance(child, Node):
            children.append(_without_descent(child))
        elif child.operator == "in":
            arrays = [value for value in child.operand if isinstance(value, list)]
            scalars = [value for value in child.operand if not isinstance(value, list)]
            among: Condition = Node("and", (Leaf(ELEMENT, "in", scalars), _NO_ARRAY))
            children.append(Node("or", (among, Leaf(ELEMENT, "in", arrays))) if arrays else among)
        elif child.operator in RANGES | {"regex"} or (child.operator == "eq" and not isinstance(child.operand, list)):
            children.append(Node("and", (child, _NO_ARRAY)))
        else:
            children.append(child)
    return Node(condition.kind, tuple(children))


def _pattern(field: str, pattern: Any, options: Any) -> re.Pattern[str]:
    flags = 0
    if options is not None:
        if not isinstance(options, str) or set(options) - set(_FLAGS):
            raise QueryError(f"$options on {field!r} may hold the letters i, m, s, x, not {options!r}")
        for letter in options:
            flags |= _FLAGS[letter]
    try:
        if isinstance(pattern, Regex):
            pattern = pattern.try_compile()
        if isinstance(pattern, re.Pattern):
            if not isinstance(pattern.pattern, str):
                raise QueryError(f"$regex on {field!r} needs text, not bytes")
            return re.compile(pattern.pattern, pattern.flags | flags)
        if isinstance(pattern, str):
            return re.compile(pattern, flags)
    except re.error as error:
        raise QueryError(f"$regex on {field!r} is not a regular expression: {error}") from error
    raise QueryError(f"$regex on {field!r} needs a string or a compiled pattern, not {pattern!r}")


class _Exact:
    """A number, a boolean or an ObjectId that equals only its own kind."""

    __slots__ = ("is_bool", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.is_bool = isinstance(value, bool)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bool) == self.is_bool and bool(self.value == other)

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return repr(self.value)


def _exact(value: Any) -> Any:
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, int | ObjectId) or (isinstance(value, float) and value == value):  # noqa: PLR0124 - not NaN
        return _Exact(value)
    return value


def to_mongomock(condition: Condition) -> dict[str, Any]:
    """Criteria for mongomock that mean what the tree means."""
    if isinstance(condition, Node):
        clauses = [to_mongomock(child) for child in condition.children]
        return _joined(clauses) if condition.kind == "and" else {f"${condition.kind}": clauses}
    field, operator, operand = condition.field, condition.operator, condition.operand
    if operator == "eq":
        return {field: _exact(operand)}
    if operator == "element":
        return {field: {"$elemMatch": to_mongomock(operand)}}
    if operator in RANGES:
        return {field: {operator: operand}}
    return {field: {f"${operator}": _exact(operand) if operator == "in" else operand}}


def _joined(clauses: list[dict[str, Any]]) -> dict[str, Any]:
    """All clauses as one dict where their fields differ, since mongomock is slow at nested ``$and``."""
    joined: dict[str, Any] = {}
    others = []
    for clause in clauses:
        if joined.keys().isdisjoint(clause):
            joined.update(clause)
        else:
            others.append(clause)
    return {"$and": [joined, *others]} if others else joined


def matcher(condition: Node) -> Callable[[dict[str, Any]], bool]:
    """Function that tells whether a document meets the conditions."""
    tests = [_membership(child) for child in condition.children if _is_long_list(child)]
    rest = Node(condition.kind, tuple(child for child in condition.children if not _is_long_list(child)))
    criteria = to_mongomock(rest)
    if criteria:
        tests.append(lambda document: bool(filter_applies(criteria, document)))
    return lambda document: all(test(document) for test in tests)


def _is_long_list(condition: Condition) -> bool:
    """Whether this is a ``$in`` of so many scalars that comparing them one by one would be slow."""
    return (
        isinstance(condition, Leaf)
        and condition.operator == "in"
        and len(condition.operand) > _LONG_LIST
        and all(value is not None and scalar_entry(value) is not None for value in condition.operand)
    )


def _membership(condition: Condition) -> Callable[[dict[str, Any]], bool]:
    assert isinstance(condition, Leaf)
    entries = {scalar_entry(value) for value in condition.operand}
    parts = split_path(condition.field)
    return lambda document: not entries.isdisjoint(index_entries(document, parts))
