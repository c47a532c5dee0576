"""A maggma Store in one SQLite file, for results that must outlive the process that made them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from maggma.core import DateTimeFormat, Sort, Store, StoreError, Validator

from thermal_flows.database.criteria import parse
from thermal_flows.database.errors import QueryError
from thermal_flows.database.grouping import distinct_values, grouped, with_keys
from thermal_flows.database.paths import split_path
from thermal_flows.database.projection import projector, read_sort
from thermal_flows.database.reading import Reader
from thermal_flows.database.sqlite_file import SQLiteFile, absolute_path
from thermal_flows.database.tables import Tables, check_name, prepare
from thermal_flows.database.values import clean_document

Document = dict[str, Any]


class SQLiteStore(Store):
    """Documents in one SQLite file, queried like MongoDB.

    Several collections, stores, threads and processes may use one file at once: readers never wait,
    writers take turns. An ``update`` is written as a whole or not at all, and once it has returned, a
    killed process (``kill -9``) loses nothing. Methods connect by themselves when necessary.

    Parameters
    ----------
    path : str or Path
        The file, made absolute at once; it is made by :meth:`connect` or the first use.
    collection_name : str
        Which documents in the file.
    key : str
        Field that identifies a document; indexed.
    last_updated_field, last_updated_type, validator
        As in :class:`maggma.core.Store`.
    read_only : bool
        Never write; the file must exist.
    synchronous : {"NORMAL", "FULL"}
        ``NORMAL`` hands every update to the operating system: it survives the death of the process.
        ``FULL`` also waits for the disk, so that it survives a power failure; an update then takes
        as long as the disk needs (0.2 to 10 ms).
    timeout : float
        Seconds to wait while another process writes.
    indexes : list of str, optional
        Further fields to index from the first write on; :meth:`ensure_index` does so at any time.

    Raises
    ------
    ValueError
        If the path is not one of a file, or the collection name or an option is not allowed.

    Notes
    -----
    Queries behave as in :class:`maggma.stores.MemoryStore`, with the exceptions listed in
    :mod:`thermal_flows.database.criteria`. Further differences:

    - an array sorts by its least (ascending) or greatest (descending) element, as in MongoDB;
    - ``groupby`` handles values of any types, honours ``sort``, ``skip`` and ``limit``, and returns
      whole documents unless ``properties`` are given, as a MongoStore does;
    - values that MemoryStore would store as their ``str()`` (sets, complex numbers) are refused.

    The file has to be on a local disk: SQLite's write-ahead log does not work across a network.
    """

    def __init__(
        self,
        path: str | Path,
        collection_name: str,
        key: str = "task_id",
        last_updated_field: str = "last_updated",
        last_updated_type: DateTimeFormat | str = DateTimeFormat.DateTime,
        validator: Validator | None = None,
        read_only: bool = False,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        timeout: float = 60.0,
        indexes: list[str] | None = None,
    ) -> None:
        if synchronous not in ("NORMAL", "FULL"):
            raise ValueError(f"synchronous must be 'NORMAL' or 'FULL', not {synchronous!r}")
        if not timeout >= 0:
            raise ValueError(f"timeout must be a number of seconds, not {timeout!r}")
        self.path = str(absolute_path(path))
        self.collection_name = check_name(collection_name)
        self.read_only = read_only
        self.synchronous = synchronous
        self.timeout = timeout
        self.indexes = list(indexes or [])
        self._file = SQLiteFile(Path(self.path), read_only, synchronous, timeout)
        self._connected = False
        super().__init__(key, last_updated_field, DateTimeFormat(last_updated_type), validator)

    @property
    def name(self) -> str:
        """Where the documents are: ``sqlite:///path/collection``."""
        return f"sqlite://{self.path}/{self.collection_name}"

    @property
    def _collection(self) -> SQLiteFile:
        if not self._connected:
            raise StoreError(f"connect {self.name} first: call connect(), or use it in a with statement")
        return self._file

    def connect(self, force_reset: bool = False) -> None:
        """Open the file, making it if necessary.

        Parameters
        ----------
        force_reset : bool
            Whether to close connections that are already open, and accept another file at the path.

        Raises
        ------
        DatabaseNotFoundError
            If the file is missing and the store is read-only, or its folder is missing.
        DatabaseFileError
            If it cannot be used: another program's SQLite file, something else, no permission ...
        """
        if force_reset:
            self._file.forget_identity()
        self._file.open()
        self._connected = True

    def close(self) -> None:
        """Close the connections; the store may be used again."""
        self._file.forget_identity()
        self._connected = False

    def count(self, criteria: Mapping[str, Any] | None = None) -> int:
        """Number of documents that match.

        Raises
        ------
        QueryError
            If the criteria are malformed or not supported.
        """
        condition = parse(criteria)
        with self._file.read() as connection:
            tables = Tables(connection, self.collection_name)
            if not tables.exist:
                return 0
            if not condition.children:
                (count,) = connection.execute(f"SELECT count(*) FROM {tables.documents}").fetchone()
                return int(count)
            return sum(1 for _ in tables.matching(condition))

    def query(
        self,
        criteria: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | list[str] | None = None,
        sort: Mapping[str, Sort | int] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> Iterator[Document]:
        """Documents that match.

        Parameters
        ----------
        criteria : mapping, optional
            Mongo criteria; see :mod:`thermal_flows.database.criteria`. Everything by default.
        properties : list or mapping, optional
            Fields to return; see :func:`thermal_flows.database.projection.projector`.
        sort : mapping, optional
            Fields and 1 (ascending) or -1 (descending); order of insertion by default.
        skip, limit : int
            How many documents to leave out first, and to return at most (0: all).

        Returns
        -------
        iterator of dict

        Raises
        ------
        QueryError
            If an argument is malformed or not supported; at once, not at the first document.
        """
        for name, number in (("skip", skip), ("limit", limit)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise QueryError(f"{name} must be 0 or a positive number, not {number!r}")
        reader = Reader(self._file, self.collection_name, parse(criteria), read_sort(sort))
        project = projector(properties)
        return map(project, reader.documents(skip, limit))

    def query_one(
        self,
        criteria: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | list[str] | None = None,
        sort: Mapping[str, Sort | int] | None = None,
    ) -> Document | None:
        """First document that matches, or None; arguments and errors as in :meth:`query`."""
        return next(self.query(criteria, properties, sort, limit=1), None)

    def update(self, docs: list[Document] | Document, key: list[str] | str | None = None) -> None:
        """Write documents, each over the one with the same key or as a new one; all of them or none.

        Parameters
        ----------
        docs : dict or list of dict
            Documents; numpy, pydantic and MSONable objects in them are made plain.
        key : str or list of str, optional
            Field or fields that identify a document; the store's key by default. Indexed hereby.

        Raises
        ------
        MissingKeyError
            If a document lacks the key.
        DocumentError
            If a document cannot be stored or repeats a unique value.
        DatabaseFileError
            If the file cannot be written.
        ValueError
            If a strict validator refuses a document, unless it raises an error of its own.
        """
        keys = [key or self.key] if not isinstance(key, list) else key or [self.key]
        prepared = []
        for doc in docs if isinstance(docs, list) else [docs]:
            clean, special = clean_document(doc)
            if self._is_valid(clean):
                prepared.append(prepare(clean, special))
        if not prepared:
            return
        with self._file.write() as connection:
            tables = Tables(connection, self.collection_name)
            for field in dict.fromkeys([*keys, self.key, *self.indexes]):
                if field != "_id" and field not in tables.fields:
                    split_path(field)
                    tables.add_index(field, unique=False)
            tables.create()
            for document in prepared:
                tables.upsert(document, keys)
            tables.count_write()

    def _is_valid(self, document: Document) -> bool:
        if self.validator is None or self.validator.is_valid(document):
            return True
        errors = self.validator.validation_errors(document)
        if getattr(self.validator, "strict", False):
            raise ValueError(f"the validator refuses a document: {errors}")
        self.logger.error(errors)
        return False

    def ensure_index(self, key: str, unique: bool = False) -> bool:
        """Index a field, so that equality, ranges, ``$in`` and sorting on it are fast.

        Parameters
        ----------
        key : str
            Field, dotted if nested; arrays may lie on the path.
        unique : bool
            Whether two documents may not have the same value.

        Returns
        -------
        bool
            Whether the index exists now; False if the store is read-only, or values repeat.
        """
        if key == "_id":
            return True
        split_path(key)
        with self._file.read() as connection:
            tables = Tables(connection, self.collection_name)
            number = tables.fields.get(key)
            if number is not None and (not unique or number in tables.unique):
                return True
        if self.read_only:
            return False
        with self._file.write() as connection:
            return Tables(connection, self.collection_name).add_index(key, unique)

    def groupby(
        self,
        keys: list[str] | str,
        criteria: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | list[str] | None = None,
        sort: Mapping[str, Sort | int] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> Iterator[tuple[Document, list[Document]]]:
        """Documents grouped by the values of fields; those that lack one of the fields are left out.

        Parameters
        ----------
        keys : str or list of str
            Fields to group by.
        criteria, properties, sort, skip, limit
            Which documents to group, and which of their fields to return, as in :meth:`query`.

        Returns
        -------
        iterator of (dict, list of dict)
            Values of the fields, and the documents that have them; in the order of the values.

        Raises
        ------
        QueryError
            If an argument is malformed or not supported.
        """
        keys = [keys] if isinstance(keys, str) else list(keys)
        for key in keys:
            split_path(key)
        project = projector(with_keys(properties, keys))
        return grouped(self.query(criteria, None, sort, skip, limit), keys, project)

    def distinct(
        self,
        field: str,
        criteria: Mapping[str, Any] | None = None,
        all_exist: bool = False,  # noqa: ARG002 - part of maggma's interface, without effect there too
    ) -> list[Any]:
        """Values that a field has in the documents that match, arrays taken apart, in MongoDB's order.

        Parameters
        ----------
        field : str
            Field, dotted if nested.
        criteria : mapping, optional
            Which documents; see :meth:`query`.
        all_exist : bool
            Without effect; part of maggma's interface.

        Raises
        ------
        QueryError
            If the field or the criteria are malformed or not supported.
        """
        parts = split_path(field)
        return distinct_values(self.query(criteria, [parts[0]]), parts)

    def remove_docs(self, criteria: Mapping[str, Any]) -> None:
        """Remove the documents that match; ``{}`` removes all.

        Raises
        ------
        QueryError
            If the criteria are malformed or not supported.
        """
        if criteria is None:
            raise QueryError("remove_docs needs criteria; {} removes every document")
        condition = parse(criteria)
        with self._file.write() as connection:
            tables = Tables(connection, self.collection_name)
            numbers = list(tables.matching(condition)) if tables.exist else []
            for number in numbers:
                tables.remove(number)
            if numbers:
                tables.count_write()

    def change_count(self) -> int:
        """Number of transactions that have changed this collection: equal numbers, equal documents."""
        with self._file.read() as connection:
            return Tables(connection, self.collection_name).writes()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SQLiteStore):
            return False
        fields = ("path", "collection_name", "key", "last_updated_field")
        return all(getattr(self, name) == getattr(other, name) for name in fields)

    def __hash__(self) -> int:
        # not the key: a JobStore changes it
        return hash((self.path, self.collection_name, self.last_updated_field))
