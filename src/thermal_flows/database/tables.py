"""The tables of one collection: documents, index rows, and what is known about both.

All functions work inside a transaction of :class:`thermal_flows.database.sqlite_file.SQLiteFile`. Which
fields are indexed is read anew in every transaction, since another process may add an index.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from bson import ObjectId

from thermal_flows.database.criteria import Node, equals, matcher
from thermal_flows.database.errors import DatabaseFileError, DocumentError, DuplicateValueError, MissingKeyError
from thermal_flows.database.paths import MISSING, NOT_SCALAR, index_entries, look_up, split_path
from thermal_flows.database.planning import Candidates, Planner, array_test
from thermal_flows.database.sqlite_file import COLLECTIONS, INDEXES
from thermal_flows.database.values import decode, decode_id, encode, encode_id

Row = tuple[int, bytes | str, str, str | None]
Prepared = tuple[dict[str, Any], bytes, str | None]
"""A clean document, its JSON text and the list of its special values."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


def check_name(name: str) -> str:
    """Collection name, if it can be one.

    Raises
    ------
    ValueError
        If it is not made of letters, digits, ``_``, ``.`` and ``-``, or is reserved.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"a collection name consists of letters, digits, '_', '.', '-', not {name!r}")
    if name.lower().startswith(("sqlite_", "thermal_flows_")):
        raise ValueError(f"collection names that begin with 'sqlite_' or 'thermal_flows_' are reserved: {name!r}")
    return name


def prepare(clean: dict[str, Any], special: list[list[str | int]]) -> Prepared:
    """Document of :func:`~thermal_flows.database.values.clean_document`, ready to be written."""
    if "_id" in clean:
        encode_id(clean["_id"])  # raises for what cannot be an id
        body = {key: value for key, value in clean.items() if key != "_id"}
        return clean, *encode(body, [entry for entry in special if entry[1] != "_id"])
    return clean, *encode(clean, special)


def read_row(row: Row) -> dict[str, Any]:
    """Document of a row."""
    _, identifier, text, special = row
    document = decode(text, special)
    document["_id"] = decode_id(identifier)
    return document


class Tables:
    """One collection, seen through a connection that is inside a transaction.

    Parameters
    ----------
    connection : sqlite3.Connection
        Connection inside a transaction.
    name : str
        Name of the collection.
    """

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self.connection = connection
        self.name = name
        self.documents = f'"{name}"'
        self.index = f'"{name}:index"'
        row = connection.execute(f"SELECT name FROM {COLLECTIONS} WHERE name = ?", (name,)).fetchone()
        if row is not None and row[0] != name:
            raise DatabaseFileError(f"this file has a collection {row[0]!r}; {name!r} must differ in more than case")
        self.exist = row is not None
        self.fields: dict[str, int] = {}
        self.unique: set[int] = set()
        for number, field, is_unique in connection.execute(
            f"SELECT number, field, is_unique FROM {INDEXES} WHERE collection = ?", (name,)
        ):
            self.fields[field] = number
            if is_unique:
                self.unique.add(number)
        self._paths = [(number, split_path(field)) for field, number in self.fields.items()]
        self._arrays: dict[int, bool] = {}

    def create(self) -> None:
        """Make the tables if they are missing."""
        if self.exist:
            return
        for statement in (
            f"CREATE TABLE {self.documents} (id INTEGER PRIMARY KEY, _id UNIQUE NOT NULL, document TEXT, types TEXT)",
            f"CREATE TABLE {self.index} (field INTEGER, type INTEGER, value, id INTEGER, "
            "PRIMARY KEY (field, type, value, id)) WITHOUT ROWID",
            f'CREATE INDEX "{self.name}:index:id" ON {self.index} (id, field)',
        ):
            self.connection.execute(statement)
        self.connection.execute(f"INSERT INTO {COLLECTIONS} VALUES (?, 0)", (self.name,))
        self.exist = True

    def count_write(self) -> None:
        """Note that the documents changed."""
        self.connection.execute(f"UPDATE {COLLECTIONS} SET writes = writes + 1 WHERE name = ?", (self.name,))

    def writes(self) -> int:
        """How many transactions have changed documents so far."""
        row = self.connection.execute(f"SELECT writes FROM {COLLECTIONS} WHERE name = ?", (self.name,)).fetchone()
        return 0 if row is None else int(row[0])

    def planner(self) -> Planner:
        """Planner over the indexes as they are now."""
        return Planner(self.documents, self.index, self.fields, self._has_arrays)

    def _has_arrays(self, number: int) -> bool:
        if number not in self._arrays:
            self._arrays[number] = self.connection.execute(array_test(self.index), (number,)).fetchone() is not None
        return self._arrays[number]

    def plan(self, condition: Node) -> tuple[Candidates | None, bool]:
        """Candidates, None for all documents, and whether every one of them matches."""
        plan = self.planner().plan(condition)
        return plan, not condition.children if plan is None else plan.exact

    def ids(self, plan: Candidates | None, lazy: bool = False) -> Iterable[int] | None:
        """Ids of candidates, in the plan's order or else that of insertion; None for all documents.

        A lazy one must be used up inside the transaction.
        """
        if plan is None:
            return None
        sql = plan.sql if plan.ordered else f"SELECT DISTINCT id FROM ({plan.sql}) ORDER BY id"
        numbers = (number for (number,) in self.connection.execute(sql, plan.parameters))
        return numbers if lazy else list(numbers)

    def rows(self, ids: Iterable[int] | None, after: int = -1) -> Iterator[Row]:
        """Rows with these ids, those removed meanwhile left out; or all rows inserted after one."""
        select = f"SELECT id, _id, document, types FROM {self.documents}"
        if ids is None:
            yield from self.connection.execute(f"{select} WHERE id > ? ORDER BY id", (after,))
            return
        for number in ids:
            row = self.connection.execute(f"{select} WHERE id = ?", (number,)).fetchone()
            if row is not None:
                yield row

    def matching(self, condition: Node) -> Iterator[int]:
        """Ids of the documents that match, in the order of their insertion."""
        plan, exact = self.plan(condition)
        ids = self.ids(plan)
        if exact and ids is not None:
            yield from ids
            return
        matches = matcher(condition)
        yield from (row[0] for row in self.rows(ids) if exact or matches(read_row(row)))

    def upsert(self, prepared: Prepared, keys: list[str]) -> None:
        """Write a document over the first one with the same values of ``keys``, or as a new one.

        Raises
        ------
        MissingKeyError
            If the document lacks one of the keys.
        DuplicateValueError
            If it repeats the ``_id`` or a unique value of another document.
        DocumentError
            If its ``_id`` differs from that of the document it replaces.
        """
        clean, text, special = prepared
        condition = Node("and", tuple(equals(key, _key_value(clean, key)) for key in keys))
        number = next(self.matching(condition), None)
        if number is None:
            number = self._insert(clean, text, special)
        else:
            self._check_same_id(clean, number)
            self.connection.execute(
                f"UPDATE {self.documents} SET document = CAST(? AS TEXT), types = ? WHERE id = ?",
                (text, special, number),
            )
            old = set(
                self.connection.execute(f"SELECT field, type, value, id FROM {self.index} WHERE id = ?", (number,))
            )
            self._write_entries(clean, number, old)
            return
        self._write_entries(clean, number, set())

    def _insert(self, clean: dict[str, Any], text: bytes, special: str | None) -> int:
        identifier = encode_id(clean["_id"]) if "_id" in clean else ObjectId().binary
        try:
            cursor = self.connection.execute(
                f"INSERT INTO {self.documents} (_id, document, types) VALUES (?, CAST(? AS TEXT), ?)",
                (identifier, text, special),
            )
        except sqlite3.IntegrityError as error:
            raise DuplicateValueError(
                f"another document of {self.name!r} has the _id {clean.get('_id')!r}; leave _id out to get a new one"
            ) from error
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _check_same_id(self, clean: dict[str, Any], number: int) -> None:
        if "_id" not in clean:
            return
        (present,) = self.connection.execute(f"SELECT _id FROM {self.documents} WHERE id = ?", (number,)).fetchone()
        if encode_id(clean["_id"]) != present:
            raise DocumentError(
                f"the document with _id {decode_id(present)!r} cannot be replaced by one with _id {clean['_id']!r}; "
                "leave _id out"
            )

    def _write_entries(self, clean: dict[str, Any], number: int, old: set[tuple[int, int, Any, int]]) -> None:
        new = {
            (field, kind, value, number) for field, parts in self._paths for kind, value in index_entries(clean, parts)
        }
        if new == old:
            return
        if self.unique:
            self._check_unique(new - old)
        if old:
            self.connection.executemany(
                f"DELETE FROM {self.index} WHERE field = ? AND type = ? AND value = ? AND id = ?", old - new
            )
        self.connection.executemany(f"INSERT INTO {self.index} VALUES (?, ?, ?, ?)", new - old)

    def _check_unique(self, entries: set[tuple[int, int, Any, int]]) -> None:
        for field, kind, value, number in entries:
            if field not in self.unique:
                continue
            name = next(name for name, index in self.fields.items() if index == field)
            if kind == NOT_SCALAR:
                raise DocumentError(f"the field {name!r} has a unique index and must hold a string, a number or a date")
            if self.connection.execute(
                f"SELECT 1 FROM {self.index} WHERE field = ? AND type = ? AND value = ? AND id <> ?",
                (field, kind, value, number),
            ).fetchone():
                raise DuplicateValueError(
                    f"another document of {self.name!r} has {name!r} = {value!r}, and the index there is unique"
                )

    def remove(self, number: int) -> None:
        """Remove a document and its index rows."""
        self.connection.execute(f"DELETE FROM {self.index} WHERE id = ?", (number,))
        self.connection.execute(f"DELETE FROM {self.documents} WHERE id = ?", (number,))

    def add_index(self, field: str, unique: bool) -> bool:
        """Index a field, of the documents already there too; False if they repeat a unique value."""
        self.create()
        if field not in self.fields:
            cursor = self.connection.execute(
                f"INSERT INTO {INDEXES} (collection, field, is_unique) VALUES (?, ?, 0)", (self.name, field)
            )
            assert cursor.lastrowid is not None
            number = self.fields[field] = cursor.lastrowid
            parts = split_path(field)
            self._paths.append((number, parts))
            self.connection.executemany(
                f"INSERT INTO {self.index} VALUES (?, ?, ?, ?)",
                (
                    (number, kind, value, row[0])
                    for row in self.rows(None)
                    for kind, value in index_entries(read_row(row), parts)
                ),
            )
        number = self.fields[field]
        if unique and number not in self.unique:
            repeated = self.connection.execute(
                f"SELECT 1 FROM {self.index} WHERE field = ? GROUP BY type, value HAVING count(*) > 1 OR type = ?",
                (number, NOT_SCALAR),
            ).fetchone()
            if repeated:
                return False
            self.connection.execute(f"UPDATE {INDEXES} SET is_unique = 1 WHERE number = ?", (number,))
            self.unique.add(number)
        return True


def _key_value(document: dict[str, Any], key: str) -> Any:
    if key in document:
        return document[key]
    values = look_up(document, split_path(key)).values
    if len(values) != 1 or values[0] is MISSING:
        raise MissingKeyError(
            f"a document lacks the field {key!r} that identifies it; it has {sorted(document)}. Add it, or name "
            "other fields with key="
        )
    return values[0]
