"""One SQLite file with document collections: opening it safely, and transactions on it."""

import os
import random
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from thermal_flows.database.errors import DatabaseFileError, DatabaseNotFoundError

APPLICATION_ID = int.from_bytes(b"TFLW", "big")
"""Marks a SQLite file as one of ours (``PRAGMA application_id``)."""

FORMAT_VERSION = 1
"""Layout of the tables (``PRAGMA user_version``)."""

COLLECTIONS = "thermal_flows_collections"
INDEXES = "thermal_flows_indexes"

_PAGE_SIZE = 8192
_SCHEMA = f"""
CREATE TABLE {COLLECTIONS} (name TEXT PRIMARY KEY COLLATE NOCASE, writes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE {INDEXES} (number INTEGER PRIMARY KEY, collection TEXT NOT NULL COLLATE NOCASE, field TEXT NOT NULL,
                        is_unique INTEGER NOT NULL, UNIQUE (collection, field));
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
"""


# SQLite keeps the state of its file locks per process and inherits it wrongly through fork. So every
# connection is closed before a fork, nobody can take one until it is done, and a file that was still
# in use by another thread is out of bounds for the child.
_gate = threading.Lock()
_files: "weakref.WeakSet[SQLiteFile]" = weakref.WeakSet()
_spoiled: set[tuple[int, int] | None] = set()
_FORK_PATIENCE = 5.0


def _before_fork() -> None:
    _gate.acquire()
    deadline = time.monotonic() + _FORK_PATIENCE
    for file in list(_files):
        while file.in_use and time.monotonic() < deadline:
            time.sleep(0.001)
        file.close()


def _after_fork_in_child() -> None:
    _spoiled.update(_identify(file.path) for file in list(_files) if file.in_use)
    _spoiled.discard(None)
    _gate.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_gate.release, after_in_child=_after_fork_in_child)


class SQLiteFile:
    """Connections to one file, safe to use from several threads, processes and after a fork.

    Idle connections wait in a pool; whoever needs one takes it for the length of a transaction. A
    process made by ``fork`` never touches the connections of its parent.

    Parameters
    ----------
    path : Path
        Absolute path of the file.
    read_only : bool
        Whether to open it for reading only; it must exist then.
    synchronous : {"NORMAL", "FULL"}
        See :class:`thermal_flows.database.SQLiteStore`.
    timeout : float
        Seconds to wait for another process that is writing.
    """

    def __init__(self, path: Path, read_only: bool, synchronous: Literal["NORMAL", "FULL"], timeout: float) -> None:
        self.path = path
        self.read_only = read_only
        self.synchronous = synchronous
        self.timeout = timeout
        self.in_use = 0
        self.identity: tuple[int, int] | None = None
        self._idle: deque[sqlite3.Connection] = deque()
        self._counting = threading.Lock()
        _files.add(self)

    def open(self) -> None:
        """Make the file if it is missing and may be made, and check that it is one of ours.

        Raises
        ------
        DatabaseNotFoundError
            If the file is missing and opened for reading only, or its folder is missing.
        DatabaseFileError
            If it cannot be read or written, or holds something else; nothing is changed then.
        """
        with self._connection():
            pass

    def close(self) -> None:
        """Close the idle connections; a later transaction opens new ones."""
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Connection inside a read transaction: everything seen through it is of one moment."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Connection inside a write transaction: committed at the end, undone after an error."""
        if self.read_only:
            raise DatabaseFileError(f"{self.path} was opened with read_only=True; open it again without to write")
        with self._connection() as connection:
            self._begin_writing(connection)
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _begin_writing(self, connection: sqlite3.Connection) -> None:
        """Wait for our turn in short steps: SQLite's own, up to 0.1 s, let busy writers starve others."""
        deadline = time.monotonic() + self.timeout
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            while True:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(random.uniform(0.0002, 0.002))
                else:
                    return
        finally:
            connection.execute(f"PRAGMA busy_timeout = {round(self.timeout * 1000)}")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with _gate, self._counting:
            self.in_use += 1
        connection = None
        reusable = False
        try:
            self._check_identity()
            connection = self._take_idle() or self._connect()
            yield connection
            reusable = True
        except sqlite3.Error as error:
            raise DatabaseFileError(self._explain(error)) from error
        except Exception:
            reusable = connection is not None and not connection.in_transaction
            raise
        finally:
            if connection is not None:
                if reusable:
                    self._idle.append(connection)
                else:
                    connection.close()
            with self._counting:
                self.in_use -= 1

    def _take_idle(self) -> sqlite3.Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _check_identity(self) -> None:
        """Writing to a file that was deleted or replaced meanwhile would lose everything silently."""
        if self.identity in _spoiled:
            raise DatabaseFileError(
                f"this process was forked while another thread was using {self.path}; start it with multiprocessing's "
                "'spawn' or 'forkserver' method"
            )
        if self.identity is not None and self.identity != _identify(self.path):
            raise DatabaseFileError(
                f"{self.path} was deleted or replaced while it was open; close the store and connect again"
            )

    def forget_identity(self) -> None:
        """Accept whatever file is at the path at the next transaction."""
        self.close()
        self.identity = None

    def _connect(self) -> sqlite3.Connection:
        exists = self._check_access()
        connection = None
        try:
            connection = self._open_connection(exists)
            self._prepare(connection)
            self.identity = self.identity or _identify(self.path)
            self._check_identity()
        except BaseException:
            if connection is not None:
                connection.close()
            if not exists:
                self._remove_if_empty()
            raise
        return connection

    def _open_connection(self, exists: bool) -> sqlite3.Connection:
        mode = "rwc"
        if exists:
            # a connection of mode "ro" could not remove SQLite's auxiliary files behind itself
            mode = "rw" if _may(self.path, os.W_OK) else "ro"
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=self.timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        if self.read_only:
            connection.execute("PRAGMA query_only = ON")
        return connection

    def _remove_if_empty(self) -> None:
        with suppress(OSError):
            if self.path.stat().st_size == 0:
                self.path.unlink()

    def _check_access(self) -> bool:
        """Whether the file exists; raise if it cannot be used."""
        path = self.path
        if path.is_dir():
            raise DatabaseFileError(f"{path} is a folder; give the path of a database file inside it")
        if not path.parent.is_dir():
            raise DatabaseNotFoundError(f"the folder {path.parent} does not exist; make it first")
        if not path.exists():
            if self.read_only:
                raise DatabaseNotFoundError(f"there is no database file {path}")
            if not _may(path.parent, os.W_OK | os.X_OK):
                raise DatabaseFileError(f"{path} cannot be made: the folder {path.parent} is not writable")
            return False
        if not _may(path, os.R_OK):
            raise DatabaseFileError(f"{path} is not readable for you; ask its owner for the permission")
        if not self.read_only and not _may(path, os.W_OK):
            raise DatabaseFileError(f"{path} is not writable; pass read_only=True to read it")
        if not _may(path.parent, os.W_OK | os.X_OK):
            raise DatabaseFileError(
                f"the folder {path.parent} is not writable, but SQLite keeps its log beside the file, also to read it; "
                "copy the file to a folder of your own"
            )
        return True

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # another process may be making the tables right now
        ours = self._is_ours(connection)
        connection.execute("ROLLBACK")
        if not ours:
            if self.read_only:
                raise DatabaseFileError(f"{self.path} is empty: nothing has been stored in it yet")
            self._initialise(connection)
        if not self.read_only:
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint = 2000")
        connection.execute("PRAGMA cache_size = -32768")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Whether the file has our tables; False if it is empty, an error if it holds something else."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == 0 and tables == 0:
            return False
        if application != APPLICATION_ID:
            raise DatabaseFileError(
                f"{self.path} is a SQLite file of another program; choose another path, nothing was changed"
            )
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != FORMAT_VERSION:
            raise DatabaseFileError(
                f"{self.path} has format {version}, this thermal_flows knows format {FORMAT_VERSION}; update thermal_flows"
            )
        return True

    def _initialise(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
        self._switch_to_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not self._is_ours(connection):  # another process may have been faster
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _switch_to_wal(self, connection: sqlite3.Connection) -> None:
        """SQLite does not wait for other processes here by itself."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                raise DatabaseFileError(
                    f"{self.path} cannot be a database: SQLite's write-ahead log does not work on this file system "
                    "(a network drive?); choose a path on a local disk"
                )
            return

    def _explain(self, error: sqlite3.Error) -> str:
        text = str(error)
        if "not a database" in text:
            return f"{self.path} is not a SQLite database; choose another path, nothing was changed"
        if "locked" in text or "busy" in text:
            return f"another process has been writing to {self.path} for {self.timeout:g} s; try again, or pass a larger timeout"
        if "full" in text:
            return f"the disk of {self.path} is full; the last write was undone: {text}"
        if "too big" in text:
            return f"a document exceeds SQLite's limit of 1 GB; nothing of its batch was written: {text}"
        if "malformed" in text:
            return f"{self.path} is damaged: {text}; restore a copy, or try the recover command of the sqlite3 program"
        return f"SQLite failed on {self.path}: {text}"


def _identify(path: Path) -> tuple[int, int] | None:
    """What tells the file at a path from another one there later; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def absolute_path(path: str | Path) -> Path:
    """Absolute path of a database file.

    Raises
    ------
    ValueError
        If it is empty, ``:memory:`` or a URI.
    """
    text = str(path)
    if not text or text == ":memory:" or "://" in text or text.startswith("file:"):
        raise ValueError(
            f"a database needs the path of a file, not {text!r}; maggma's MemoryStore keeps data in memory"
        )
    return Path(path).expanduser().resolve()
