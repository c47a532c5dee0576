"""Documents grouped by the values of fields, and the distinct values of a field."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from pydash import get, has, set_

from thermal_flows.database.paths import MISSING, comparison_key, look_up

Document = dict[str, Any]


def grouped(
    docs: Iterable[Document], keys: list[str], project: Callable[[Document], Document]
) -> Iterator[tuple[Document, list[Document]]]:
    """Documents grouped by the values of fields, in the order of the values; a group keeps their order.

    Parameters
    ----------
    docs : iterable of dict
        Whole documents; those that lack one of the fields are left out.
    keys : list of str
        Fields to group by, dotted if nested.
    project : callable
        Applied to every document of a group.

    Yields
    ------
    dict, list of dict
        Values of the fields, and the documents that have them.
    """

    def order(doc: Document) -> list[Any]:
        return [comparison_key(get(doc, key)) for key in keys]

    def identity(doc: Document) -> list[Any]:
        return [_hashable(get(doc, key)) for key in keys]

    complete = [doc for doc in docs if all(has(doc, key) for key in keys)]
    for _, group in groupby(sorted(complete, key=order), key=identity):
        members = list(group)
        values: Document = {}
        for key in keys:
            set_(values, key, get(members[0], key))
        yield values, [project(doc) for doc in members]


def distinct_values(docs: Iterable[Document], parts: tuple[str, ...]) -> list[Any]:
    """Values that a path leads to, arrays taken apart, each once and in MongoDB's order."""
    values: dict[Any, Any] = {}
    for doc in docs:
        for value in look_up(doc, parts).values:
            for item in value if isinstance(value, list) else [value]:
                if item is not MISSING:
                    values.setdefault(_hashable(item), item)
    return sorted(values.values(), key=comparison_key)


def _hashable(value: Any) -> Any:
    """Key that tells values apart as MongoDB does: 1 and True differ, 1 and 1.0 do not."""
    if isinstance(value, dict):
        return ("dict", tuple((key, _hashable(item)) for key, item in sorted(value.items())))
    if isinstance(value, list):
        return ("list", tuple(_hashable(item) for item in value))
    return comparison_key(value)


def with_keys(
    properties: Mapping[str, Any] | list[str] | None, keys: list[str]
) -> Mapping[str, Any] | list[str] | None:
    """Projection that keeps the keys too, unless it leaves fields out or already names them."""
    if not properties:
        return properties
    spec = dict(properties) if isinstance(properties, Mapping) else dict.fromkeys(properties, 1)
    if any(not value for field, value in spec.items() if field != "_id"):
        return spec
    missing = [key for key in keys if not any(f"{field}.".startswith(f"{key}.") for field in spec)]
    missing = [key for key in missing if not any(f"{key}.".startswith(f"{field}.") for field in spec)]
    return {**spec, **dict.fromkeys(missing, 1)}
