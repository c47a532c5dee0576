"""Documents as SQLite holds them: JSON text, and a list of the values that JSON has no type for.

A document is stored as plain JSON, readable with any SQLite or JSON tool. What JSON cannot tell
apart is listed beside it as ``[kind, *path]``:

===========  ============================  ==========================
kind         Python                        in the JSON text
===========  ============================  ==========================
``date``     :class:`datetime.datetime`    ISO 8601, UTC, milliseconds
``oid``      :class:`bson.ObjectId`        24 hexadecimal digits
``bin``      :class:`bytes`                base64
``nan``      ``float("nan")``              ``null``
``inf``      ``float("inf")``              ``null``
``-inf``     ``float("-inf")``             ``null``
===========  ============================  ==========================

As in MongoDB, datetimes are naive, in UTC, with millisecond precision, and integers have 64 bits.
"""

import base64
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

import numpy as np
import orjson
from bson import ObjectId
from monty.json import jsanitize

from thermal_flows.database.errors import DocumentError

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)

_PLAIN = frozenset({str, bool, type(None)})
_FLOATS = frozenset({float})
_INTS = frozenset({int})
_KINDS = {datetime: "date", ObjectId: "oid", bytes: "bin"}


class _Cleaner:
    """One pass over a document: checks every value, and notes those that JSON has no type for."""

    def __init__(self) -> None:
        self.path: list[str | int] = []
        self.special: list[list[str | int]] = []

    def value(self, obj: Any, key: str | int) -> Any:
        kind = type(obj)
        if kind in _PLAIN:
            return obj
        if kind is float:
            if not math.isfinite(obj):
                self.special.append(["nan" if math.isnan(obj) else "inf" if obj > 0 else "-inf", *self.path, key])
            return obj
        if kind is int:
            if not INT64_MIN <= obj <= INT64_MAX:
                self.refuse(key, "an integer of more than 64 bits; store it as a float or a string")
            return obj
        if kind is dict:
            self.path.append(key)
            out = self.mapping(obj)
            self.path.pop()
            return out
        if kind is list or kind is tuple:
            return self.sequence(obj, key)
        if kind in _KINDS:
            self.special.append([_KINDS[kind], *self.path, key])
            return _naive_utc(obj) if kind is datetime else obj
        return self.unusual(obj, key)

    def mapping(self, obj: Mapping[Any, Any]) -> dict[str, Any]:
        out = {}
        for key, value in obj.items():
            name = key if type(key) is str else str(key)
            kind = type(value)
            # the common cases here, for speed
            if kind is str or value is None or (kind is float and math.isfinite(value)):
                out[name] = value
            else:
                out[name] = self.value(value, name)
        return out

    def sequence(self, obj: list[Any] | tuple[Any, ...], key: str | int) -> list[Any]:
        kinds = set(map(type, obj))
        if (
            kinds <= _PLAIN
            or (kinds == _FLOATS and math.isfinite(sum(obj)))
            or (kinds == _INTS and min(obj) >= INT64_MIN and max(obj) <= INT64_MAX)
        ):
            return list(obj)
        self.path.append(key)
        out = [self.value(v, i) for i, v in enumerate(obj)]
        self.path.pop()
        return out

    def unusual(self, obj: Any, key: str | int) -> Any:
        """A value that is not JSON: a numpy, pydantic or MSONable object, an enum, a path ..."""
        for kind, name in _KINDS.items():
            if isinstance(obj, kind):
                self.special.append([name, *self.path, key])
                return _naive_utc(obj) if isinstance(obj, datetime) else kind(obj)
        if isinstance(obj, Mapping):
            return self.value(dict(obj), key)
        if isinstance(obj, int | float) and not hasattr(obj, "as_dict") and not hasattr(obj, "name"):
            return self.value(int(obj) if isinstance(obj, int) else float(obj), key)
        if isinstance(obj, np.ndarray) and obj.dtype.kind in "biuf":
            return self.value(obj.tolist(), key)
        if isinstance(obj, np.ndarray | complex | np.complexfloating) and np.iscomplexobj(obj):
            self.refuse(key, "complex; store its real and imaginary parts")
        try:
            clean = jsanitize(obj, strict=True, allow_bson=True)
        except (AttributeError, TypeError, ValueError) as error:
            self.refuse(key, f"of type {type(obj).__name__}; convert it to numbers, strings, lists or dicts", error)
        if type(clean) is type(obj) and not isinstance(clean, str | list | tuple):
            self.refuse(key, f"of type {type(obj).__name__}; convert it to numbers, strings, lists or dicts")
        return self.value(str(clean) if isinstance(clean, str) else clean, key)

    def refuse(self, key: str | int, what: str, cause: Exception | None = None) -> NoReturn:
        where = ".".join(str(part) for part in (*self.path, key))
        raise DocumentError(f"the value at {where!r} cannot be stored: it is {what}") from cause


def _naive_utc(value: datetime) -> datetime:
    offset = value.utcoffset()
    if offset is not None:
        value = value.replace(tzinfo=None) - offset
    return datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond // 1000 * 1000
    )


def clean_value(value: Any) -> Any:
    """Value as the store would hold it: numpy to Python, tuples to lists, datetimes to naive UTC milliseconds.

    Raises
    ------
    DocumentError
        If the value cannot be stored.
    """
    return _Cleaner().value(value, "value")


def clean_document(document: Any) -> tuple[dict[str, Any], list[list[str | int]]]:
    """Document with plain values, and the list of those that JSON has no type for.

    Parameters
    ----------
    document : mapping, pydantic model or MSONable
        What a user hands to ``update``; it is not changed.

    Returns
    -------
    dict
        Only str, bool, None, int, float, list, dict, datetime, ObjectId and bytes.
    list
        ``[kind, *path]`` per special value.

    Raises
    ------
    DocumentError
        If it is not a mapping, has a field that begins with ``$``, or holds a value that cannot be stored.
    """
    if not isinstance(document, Mapping):
        try:
            document = jsanitize(document, strict=True, allow_bson=True)
        except (AttributeError, TypeError, ValueError) as error:
            raise DocumentError(f"a document must be a dict, not {type(document).__name__}") from error
        if not isinstance(document, Mapping):
            raise DocumentError(f"a document must be a dict, not {type(document).__name__}")
    cleaner = _Cleaner()
    clean = cleaner.mapping(document)
    for key in clean:
        if key.startswith("$"):
            raise DocumentError(f"the field {key!r} begins with '$', which is reserved for operators; rename it")
    return clean, cleaner.special


def _json_default(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, ObjectId):
        return str(value)
    raise TypeError(type(value).__name__)


def encode(document: dict[str, Any], special: list[list[str | int]]) -> tuple[bytes, str | None]:
    """JSON text of a document from :func:`clean_document`, and the JSON list of its special values.

    Raises
    ------
    DocumentError
        If it is nested too deeply or holds text that is not valid Unicode.
    """
    try:
        text = orjson.dumps(document, default=_json_default, option=orjson.OPT_PASSTHROUGH_DATETIME)
        return text, orjson.dumps(special).decode() if special else None
    except (TypeError, RecursionError) as error:
        raise DocumentError(f"a document cannot be written as JSON: {error}") from error


_DECODE: dict[str, Any] = {
    "date": datetime.fromisoformat,
    "oid": ObjectId,
    "bin": base64.b64decode,
    "nan": lambda _: math.nan,
    "inf": lambda _: math.inf,
    "-inf": lambda _: -math.inf,
}


def decode(text: bytes | str, special: str | None) -> dict[str, Any]:
    """Document of :func:`encode`'s two texts."""
    document: dict[str, Any] = orjson.loads(text)
    if special is not None:
        for kind, *path in orjson.loads(special):
            parent: Any = document
            for part in path[:-1]:
                parent = parent[part]
            parent[path[-1]] = _DECODE[kind](parent[path[-1]])
    return document


def encode_id(value: Any) -> bytes | str:
    """``_id`` as its column holds it: 12 bytes for an ObjectId, otherwise JSON text.

    Raises
    ------
    DocumentError
        If it is neither an ObjectId nor a string, a number or a boolean.
    """
    if isinstance(value, ObjectId):
        return value.binary
    if isinstance(value, str | int | float | bool) and value == value:  # noqa: PLR0124 - not NaN
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)
        return orjson.dumps(value).decode()
    raise DocumentError(f"_id must be an ObjectId, a string, a number or a boolean, not {type(value).__name__}")


def decode_id(value: bytes | str) -> Any:
    """``_id`` of its column's value."""
    return ObjectId(value) if isinstance(value, bytes) else orjson.loads(value)
