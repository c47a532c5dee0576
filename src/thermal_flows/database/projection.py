"""Which fields of a document a query returns, and in which order the documents come."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from maggma.core import Sort
from mongomock_ng.filtering import filter_applies

from thermal_flows.database.criteria import Node, parse, to_mongomock
from thermal_flows.database.errors import QueryError
from thermal_flows.database.paths import sort_key, split_path

Document = dict[str, Any]
Tree = dict[str, Any]


def projector(properties: Mapping[str, Any] | Sequence[str] | None) -> Callable[[Document], Document]:
    """Function that keeps the wanted fields of a document.

    Parameters
    ----------
    properties : list of str, mapping or None
        Fields to keep (``["output.conductance"]``, ``{"output": {"conductance": 1}}``) or to leave
        out (``{"output.conductance": 0}``), not both; ``_id`` stays unless ``{"_id": 0}``.
        ``{"conductance": {"$elemMatch": {"temperature": 300}}}`` keeps the first matching element
        of an array. None or empty keeps everything.

    Returns
    -------
    callable
        From a document that it may take apart to the projected one.

    Raises
    ------
    QueryError
        If fields are both kept and left out, or overlap, or the form is not supported.
    """
    if not properties:
        return lambda document: document
    if isinstance(properties, str) or not isinstance(properties, Mapping | list | tuple | set | frozenset):
        raise QueryError(f'properties must be a list or a dict of fields such as ["film_formula"], not {properties!r}')
    spec = dict(properties) if isinstance(properties, Mapping) else dict.fromkeys(properties, 1)
    with_id = bool(spec.pop("_id", True))
    if not spec:
        return (lambda document: {"_id": document["_id"]} if "_id" in document else {}) if with_id else _without_id
    tree: Tree = {}
    elements: dict[str, Callable[[Any], Any]] = {}
    include = _read(spec, (), tree, elements)
    if elements and not include:
        raise QueryError("$elemMatch in a projection cannot be mixed with fields left out")

    def project(document: Document) -> Document:
        out = _include(document, tree) if include else _exclude(document, tree)
        for field, first in elements.items():
            match = first(document.get(field))
            if match:
                out[field] = match
        if with_id and "_id" in document:
            out["_id"] = document["_id"]
        elif not with_id:
            out.pop("_id", None)
        return out

    return project


def _without_id(document: Document) -> Document:
    document.pop("_id", None)
    return document


def _read(spec: Mapping[str, Any], prefix: tuple[str, ...], tree: Tree, elements: dict[str, Any]) -> bool:
    """Fill the tree of fields; tell whether they are kept (True) or left out (False)."""
    modes = set()
    for field, value in spec.items():
        parts = (*prefix, *split_path(field))
        if isinstance(value, Mapping):
            if set(value) == {"$elemMatch"} and len(parts) == 1:
                elements[parts[0]] = _first_match(field, value["$elemMatch"])
                modes.add(True)
            elif value and not any(str(key).startswith("$") for key in value):
                modes.add(_read(value, parts, tree, elements))
            else:
                raise QueryError(
                    f"the projection {value!r} of {field!r} is not supported; use 1, 0, fields, or $elemMatch"
                )
        elif isinstance(value, bool | int):
            _add(tree, parts)
            modes.add(bool(value))
        else:
            raise QueryError(f"the projection of {field!r} must be 1 or 0, not {value!r}")
    if len(modes) > 1:
        raise QueryError("a projection either keeps fields (1) or leaves them out (0); only _id may differ")
    return modes.pop()


def _add(tree: Tree, parts: tuple[str, ...]) -> None:
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if tree is True:
            raise QueryError(f"the projection names {'.'.join(parts)!r} and a field that holds it; name one of them")
    if tree.get(parts[-1], True) is not True:
        raise QueryError(f"the projection names {'.'.join(parts)!r} and a field inside it; name one of them")
    tree[parts[-1]] = True


def _first_match(field: str, criteria: Any) -> Callable[[Any], Any]:
    (leaf,) = parse({field: {"$elemMatch": criteria}}).children
    wanted = to_mongomock(leaf.operand if not isinstance(leaf, Node) else leaf)

    def first(value: Any) -> Any:
        if not isinstance(value, list):
            return None
        return next(([item] for item in value if filter_applies(wanted, item)), None)

    return first


def _include(document: Document, tree: Tree) -> Document:
    out = {}
    for key, value in document.items():
        branch = tree.get(key)
        if branch is True:
            out[key] = value
        elif branch is not None and isinstance(value, dict):
            out[key] = _include(value, branch)
        elif branch is not None and isinstance(value, list):
            out[key] = _include_items(value, branch)
    return out


def _include_items(values: list[Any], tree: Tree) -> list[Any]:
    return [
        _include(item, tree) if isinstance(item, dict) else _include_items(item, tree)
        for item in values
        if isinstance(item, dict | list)
    ]


def _exclude(document: Document, tree: Tree) -> Document:
    return {key: _pruned(value, tree.get(key)) for key, value in document.items() if tree.get(key) is not True}


def _pruned(value: Any, tree: Tree | None) -> Any:
    if tree is None:
        return value
    if isinstance(value, dict):
        return _exclude(value, tree)
    if isinstance(value, list):
        return [_pruned(item, tree) for item in value]
    return value


def read_sort(sort: Mapping[str, Sort | int] | None) -> list[tuple[tuple[str, ...], bool]]:
    """Path and whether it descends, for every field of a sort order.

    Raises
    ------
    QueryError
        If the order is not a mapping of fields to 1, -1 or :class:`maggma.core.Sort`.
    """
    if not sort:
        return []
    if not isinstance(sort, Mapping):
        raise QueryError(f'sort must be a dict such as {{"last_updated": -1}}, not {sort!r}')
    order = []
    for field, way in sort.items():
        value = way.value if isinstance(way, Sort) else way
        if value not in (1, -1) or isinstance(value, bool):
            raise QueryError(f"the sort order of {field!r} must be 1 or -1, not {way!r}")
        order.append((split_path(field), value == -1))
    return order


def sort_documents(documents: list[Document], order: list[tuple[tuple[str, ...], bool]]) -> None:
    """Sort in place, in MongoDB's order of types and values; documents that tie keep their order."""
    for parts, descending in reversed(order):
        documents.sort(key=lambda document: sort_key(document, parts, descending), reverse=descending)
