"""Files that cannot be a database: a clear error, and nothing made or changed."""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from thermal_flows.database import DatabaseFileError, DatabaseNotFoundError, SQLiteStore, ThermalDatabase, job_store

NOBODY = 65534


def contents(folder: Path) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() if path.is_file() else None for path in sorted(folder.iterdir())}


@contextmanager
def unprivileged() -> Iterator[None]:
    """Permissions mean nothing to root: act as somebody else meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def not_a_database(path: Path) -> None:
    path.write_text("results of my thesis\n" * 1000)


def other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (x)")


def newer_format(path: Path) -> None:
    with SQLiteStore(path, "docs"):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (not_a_database, "is not a SQLite database; choose another path, nothing was changed"),
        (other_program, "SQLite file of another program; choose another path, nothing was changed"),
        (newer_format, "format 99.*update thermal_flows"),
        (Path.mkdir, "is a folder"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_unusable_files(tmp_path: Path, make: Callable[[Path], None], message: str, read_only: bool) -> None:
    path = tmp_path / "results.db"
    make(path)
    before = contents(tmp_path)
    store = SQLiteStore(path, "docs", read_only=read_only)
    for use in (store.connect, store.count, lambda: next(store.query())):
        with pytest.raises(DatabaseFileError, match=message):
            use()
    if not read_only:
        with pytest.raises(DatabaseFileError, match=message):
            store.update({"task_id": 1})
    assert contents(tmp_path) == before


def test_missing_folder(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "missing" / "results.db", "docs")
    with pytest.raises(DatabaseNotFoundError, match=r"folder .*missing does not exist; make it first"):
        store.update({"task_id": 1})
    assert contents(tmp_path) == {}


def test_read_only_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(DatabaseNotFoundError, match="there is no database file"):
        SQLiteStore(tmp_path / "results.db", "docs", read_only=True).connect()
    with pytest.raises(FileNotFoundError):
        job_store(tmp_path / "results.db", read_only=True).connect()
    (tmp_path / "empty.db").touch()
    with pytest.raises(DatabaseFileError, match="nothing has been stored"):
        SQLiteStore(tmp_path / "empty.db", "docs", read_only=True).connect()
    assert contents(tmp_path) == {"empty.db": b""}


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    store = SQLiteStore(tmp_path / "empty.db", "docs")
    store.update({"task_id": 1})
    assert store.count() == 1


def test_read_only_store(tmp_path: Path) -> None:
    writer = SQLiteStore(tmp_path / "results.db", "docs")
    writer.update({"task_id": 1})
    reader = SQLiteStore(tmp_path / "results.db", "docs", read_only=True)
    assert reader.query_one()["task_id"] == 1
    for change in (lambda: reader.update({"task_id": 2}), lambda: reader.remove_docs({})):
        with pytest.raises(DatabaseFileError, match="read_only=True"):
            change()
    assert reader.ensure_index("task_id")
    assert not reader.ensure_index("other")
    writer.update({"task_id": 2})
    assert reader.count() == 2
    assert SQLiteStore(tmp_path / "results.db", "no_such_collection", read_only=True).count() == 0


def test_permissions(open_folder: Path) -> None:
    path = open_folder / "results.db"
    with SQLiteStore(path, "docs") as store:
        store.update({"task_id": 1})
    path.chmod(0o444)
    open_folder.chmod(0o777)
    with unprivileged():
        with pytest.raises(DatabaseFileError, match="not writable; pass read_only=True"):
            SQLiteStore(path, "docs").update({"task_id": 2})
        with pytest.raises(DatabaseFileError, match="not writable; pass read_only=True"):
            ThermalDatabase(path)
        with SQLiteStore(path, "docs", read_only=True) as reader:
            assert reader.count() == 1
    open_folder.chmod(0o555)
    with unprivileged():
        with pytest.raises(DatabaseFileError, match=r"folder .* is not writable.*copy the file"):
            SQLiteStore(path, "docs", read_only=True).connect()
        with pytest.raises(DatabaseFileError, match=r"cannot be made: the folder .* is not writable"):
            SQLiteStore(open_folder / "new.db", "docs").connect()
    open_folder.chmod(0o755)
    path.chmod(0o000)
    with unprivileged(), pytest.raises(DatabaseFileError, match="not readable"):
        SQLiteStore(path, "docs", read_only=True).connect()
    assert "new.db" not in contents(open_folder)


def test_deleted_while_open(tmp_path: Path) -> None:
    """Writing on into a deleted file would lose everything without a word."""
    store = SQLiteStore(tmp_path / "results.db", "docs")
    store.update({"task_id": 1})
    for name in contents(tmp_path):
        (tmp_path / name).unlink()
    with pytest.raises(DatabaseFileError, match=r"deleted or replaced.*connect again"):
        store.update({"task_id": 2})
    assert contents(tmp_path) == {}
    store.connect(force_reset=True)
    store.update({"task_id": 2})
    assert store.count() == 1


@pytest.mark.parametrize("path", ["", ":memory:", "mongodb://host/db", "file:results.db?mode=ro"])
def test_not_a_path(path: str) -> None:
    with pytest.raises(ValueError, match="needs the path of a file"):
        SQLiteStore(path, "docs")


def test_odd_but_valid_paths(tmp_path: Path) -> None:
    for name in ("a b.db", "100%.db", "what?.db", "a#b.db", "\u00e9.db", "no_extension"):
        store = SQLiteStore(str(tmp_path / name), "docs")
        store.update({"task_id": name})
        assert store.query_one()["task_id"] == name
        store.close()
        assert (tmp_path / name).exists()
    (tmp_path / "link.db").symlink_to(tmp_path / "a b.db")
    assert SQLiteStore(tmp_path / "link.db", "docs") == SQLiteStore(tmp_path / "a b.db", "docs")


def test_another_writer_takes_too_long(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "results.db", "docs", timeout=0.1)
    store.update({"task_id": 1})
    other = sqlite3.connect(tmp_path / "results.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseFileError, match=r"another process has been writing to .* for 0\.1 s"):
        store.update({"task_id": 2})
    assert store.count() == 1
    other.execute("ROLLBACK")
    store.update({"task_id": 2})
    assert store.count() == 2


def test_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with SQLiteStore(path, "docs") as store:
        store.update([{"task_id": n, "x": "y" * 1000} for n in range(200)])
    data = bytearray(path.read_bytes())
    data[8192 * 3 :] = os.urandom(len(data) - 8192 * 3)
    path.write_bytes(data)
    with pytest.raises(DatabaseFileError, match=r"damaged|failed"):
        list(SQLiteStore(path, "docs").query())
