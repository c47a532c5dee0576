"""Arrays that jobs keep out of their documents: finding the references, and loading what they refer to."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
from maggma.core import Store
from monty.json import MontyDecoder

from thermal_flows.database.errors import DatabaseError

Path = tuple[str | int, ...]


def references(content: Any, path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Path and reference of everything in a document that lies in an additional store."""
    if isinstance(content, Mapping):
        if isinstance(content.get("blob_uuid"), str) and isinstance(content.get("store"), str):
            yield path, content
            return
        for key, value in content.items():
            yield from references(value, (*path, key))
    elif isinstance(content, list):
        for position, value in enumerate(content):
            yield from references(value, (*path, position))


def load_arrays(document: Mapping[str, Any], stores: Mapping[str, Store]) -> dict[Path, Any]:
    """What the references in a document refer to, with lists of numbers as numpy arrays.

    Parameters
    ----------
    document : mapping
        A document, or part of one.
    stores : mapping
        Additional stores by name.

    Returns
    -------
    dict
        Content by path.

    Raises
    ------
    DatabaseError
        If a store is not known, or does not hold what a reference refers to.
    """
    found = dict(references(document))
    contents: dict[str, Any] = {}
    for name in sorted({reference["store"] for reference in found.values()}):
        if name not in stores:
            raise DatabaseError(f"the document refers to the store {name!r}; known here: {', '.join(sorted(stores))}")
        wanted = [reference["blob_uuid"] for reference in found.values() if reference["store"] == name]
        for blob in stores[name].query({"blob_uuid": {"$in": wanted}}, ["blob_uuid", "data"]):
            contents[blob["blob_uuid"]] = as_arrays(blob["data"])
        missing = sorted(set(wanted) - set(contents))
        if missing:
            raise DatabaseError(
                f"the store {name!r} does not hold {', '.join(missing)}; the job that wrote the document may have been "
                "interrupted, or its data removed: run it again"
            )
    return {path: contents[reference["blob_uuid"]] for path, reference in found.items()}


def load_document(document: Mapping[str, Any], stores: Mapping[str, Store]) -> dict[str, Any]:
    """Copy of a document with the arrays in place of the references; raises as :func:`load_arrays`."""
    loaded = deepcopy(dict(document))
    for path, content in load_arrays(document, stores).items():
        parent: Any = loaded
        for part in path[:-1]:
            parent = parent[part]
        parent[path[-1]] = content
    return loaded


def as_arrays(content: Any) -> Any:
    """Content with every list of numbers of regular shape as an array, and MSONable objects restored."""
    if isinstance(content, Mapping):
        if "@module" in content and "@class" in content:
            return MontyDecoder().process_decoded(dict(content))
        return {key: as_arrays(value) for key, value in content.items()}
    if not isinstance(content, list):
        return content
    array = _regular(content)
    return [as_arrays(item) for item in content] if array is None else array


def _regular(values: list[Any]) -> np.ndarray | None:
    try:
        array = np.asarray(values)
    except ValueError:  # numpy's word for lists of unequal lengths
        return None
    return array if array.dtype.kind in "biuf" else None
