"""Dotted paths into documents, arrays included, and the index entries that follow from them.

A path such as ``conductance.value`` leads to several values when ``conductance`` is a list: a
query matches a document if *one* of them does. The rules are mongomock's
(``mongomock_ng.filtering.iter_key_candidates``), checked against it in the tests.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from mongomock_ng.filtering import BsonComparable

from thermal_flows.database.errors import QueryError
from thermal_flows.database.values import INT64_MAX, INT64_MIN

MISSING = object()
"""Stands for a field that a document does not have."""

# Order of types when values of several types are compared or sorted (MongoDB's), and as codes in index tables.
NULL, NOT_A_NUMBER, NUMBER, STRING, OBJECT, ARRAY, BINARY, OBJECT_ID, BOOLEAN, DATE = (
    5,
    8,
    10,
    15,
    20,
    25,
    30,
    35,
    40,
    45,
)
IN_ARRAY = 98
"""Index code: the path of this document goes through an array, so it may have several entries."""
NOT_SCALAR = 99
"""Index code: the path leads to something that no index value stands for (object, nested array, bytes, NaN)."""

Entry = tuple[int, Any]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)


def split_path(path: Any) -> tuple[str, ...]:
    """Components of a dotted path.

    Raises
    ------
    QueryError
        If the path is not a string, has an empty component, or one that begins with ``$`` or that
        could be taken for an array position without being one (``-1``).
    """
    if not isinstance(path, str) or not path:
        raise QueryError(f"a field must be a non-empty string such as 'output.film_formula', not {path!r}")
    parts = tuple(path.split("."))
    for part in parts:
        if not part or part.startswith("$"):
            raise QueryError(f"the field {path!r} has an empty component or one that begins with '$'")
        if not part.isdigit() and _is_integer(part):
            raise QueryError(f"the field {path!r} has the component {part!r}: array positions are 0, 1, 2 ...")
    return parts


def _is_integer(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


@dataclass
class Found:
    """What a path leads to in one document."""

    values: list[Any] = field(default_factory=list)
    """The values, :data:`MISSING` among them; arrays at the end of the path are one value."""
    through_array: bool = False
    """Whether an array lies on the path or at its end."""


def look_up(document: Any, parts: tuple[str, ...]) -> Found:
    """Everything that a path leads to in a document."""
    found = Found()
    _walk(document, parts, 0, found)
    return found


def _walk(node: Any, parts: tuple[str, ...], depth: int, found: Found) -> None:
    if depth == len(parts):
        found.values.append(node)
        return
    part = parts[depth]
    if isinstance(node, dict):
        if depth == len(parts) - 1:
            found.values.append(node.get(part, MISSING))
        else:
            _walk(node.get(part, {}), parts, depth + 1, found)
    elif isinstance(node, list):
        found.through_array = True
        if part.isdigit():
            if int(part) < len(node):
                _walk(node[int(part)], parts, depth + 1, found)
            return
        for item in node:
            if isinstance(item, dict) and part in item:
                _walk(item[part], parts, depth + 1, found)
            else:
                found.values.append(MISSING)


def scalar_entry(value: Any) -> Entry | None:
    """Type code and comparable value of a scalar, or None for what an index does not hold."""
    kind = type(value)
    if kind is str:
        return (STRING, value) if _is_unicode(value) else None
    if kind is float:
        return (NUMBER, value) if value == value else None  # noqa: PLR0124 - not NaN
    if kind is int:
        return (NUMBER, value) if INT64_MIN <= value <= INT64_MAX else None
    if kind is bool:
        return (BOOLEAN, int(value))
    if value is None or value is MISSING:
        return (NULL, 0)
    if kind is datetime:
        delta = value - _EPOCH
        return (DATE, (delta.days * 86400 + delta.seconds) * 1000 + delta.microseconds // 1000)
    if kind is ObjectId:
        return (OBJECT_ID, value.binary)
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        return False
    return True


def index_entries(document: dict[str, Any], parts: tuple[str, ...]) -> set[Entry]:
    """Rows that an index over this path holds for a document; never empty."""
    if len(parts) == 1:
        value = document.get(parts[0], MISSING)
        entry = scalar_entry(value)
        if entry is not None:
            return {entry}
        found = Found([value], through_array=isinstance(value, list))
    else:
        found = look_up(document, parts)
    entries: set[Entry] = set()
    for value in found.values:
        if isinstance(value, list):
            found.through_array = True
            entries.update(scalar_entry(item) or (NOT_SCALAR, 0) for item in value)
        else:
            entries.add(scalar_entry(value) or (NOT_SCALAR, 0))
    if found.through_array:
        entries.add((IN_ARRAY, 0))
    return entries or {(NULL, 0)}


def comparison_key(value: Any) -> tuple[int, Any]:
    """Key that sorts values of any types in MongoDB's order."""
    entry = scalar_entry(value)
    if entry is not None:
        return entry
    if isinstance(value, float):
        return (NOT_A_NUMBER, 0)
    if isinstance(value, str):
        return (STRING, value)
    if isinstance(value, dict):
        return (OBJECT, BsonComparable(value))
    if isinstance(value, list):
        return (ARRAY, BsonComparable(value))
    return (BINARY, (len(value), value))


def sort_key(document: dict[str, Any], parts: tuple[str, ...], descending: bool) -> tuple[int, Any]:
    """Key of a document in a sort over one path: of an array, the least or the greatest element."""
    values = look_up(document, parts).values
    keys = [key for value in values for key in _element_keys(value)]
    if not keys:
        return (NULL, 0)
    return max(keys) if descending else min(keys)


def _element_keys(value: Any) -> Iterable[tuple[int, Any]]:
    if isinstance(value, list):
        # MongoDB sorts an empty array before null
        return [comparison_key(item) for item in value] or [(NULL - 1, 0)]
    return [comparison_key(value)]
