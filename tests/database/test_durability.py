"""Several writers, threads, forks and kills: what was acknowledged is there."""

import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from thermal_flows.database import DuplicateValueError, SQLiteStore

from .writers import write, write_until_killed

# children start in milliseconds from a server process that has imported everything, and has opened nothing
servers = multiprocessing.get_context("forkserver") if hasattr(os, "fork") else multiprocessing.get_context("spawn")
servers.set_forkserver_preload(["pytest", "thermal_flows.database"])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_kill_at_random_moments(tmp_path: Path) -> None:
    """20 writers, four at a time, each killed with SIGKILL while it writes."""
    path = tmp_path / "killed.db"
    dice = random.Random(20)
    acknowledged: list[str] = []
    for batch in range(5):
        logs = [tmp_path / f"log{batch}.{number}" for number in range(4)]
        writers = [servers.Process(target=write_until_killed, args=(path, log.name, log)) for log in logs]
        for writer in writers:
            writer.start()
        while not all(log.exists() and log.stat().st_size for log in logs):
            time.sleep(0.01)
        for writer in writers:
            time.sleep(dice.uniform(0.0, 0.15))
            writer.kill()
        for writer, log in zip(writers, logs, strict=True):
            writer.join()
            # the last line may have been cut off in the middle by the kill
            acknowledged += " ".join(log.read_text().split("\n")[:-1]).split()
    store = SQLiteStore(path, "docs", key="key")
    found = {doc["key"]: doc for doc in store.query()}
    assert len(acknowledged) > 100
    assert set(acknowledged) <= set(found)
    assert all(doc["text"] == key * 100 for key, doc in found.items())
    # batches are there as a whole or not at all, and the index agrees with the documents
    for key, doc in found.items():
        name, number, _ = key.rsplit("-", 2)
        assert all(f"{name}-{number}-{part}" in found for part in range(doc["number"] % 3 + 1))
    assert all(store.count({"key": key}) == 1 for key in dice.sample(sorted(found), 50))
    assert store.count({"key": {"$gte": ""}}) == len(found)


def test_two_writers_and_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    writers = [servers.Process(target=write, args=(path, name, 150)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    reader = SQLiteStore(path, "docs", key="key")
    seen = 0
    while any(writer.is_alive() for writer in writers):
        docs = list(reader.query({"shared": {"$gte": 0}}))
        assert len(docs) >= seen
        assert len({doc["key"] for doc in docs}) == len(docs)
        seen = len(docs)
        assert reader.count({"key": "counter"}) <= 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert reader.count() == 301


def test_many_make_the_file_at_once(tmp_path: Path) -> None:
    writers = [servers.Process(target=write, args=(tmp_path / "new.db", str(name), 3)) for name in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert SQLiteStore(tmp_path / "new.db", "docs").count() == 13


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "threads.db", "docs", key="key")
    errors: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for number in range(30):
                store.update({"key": f"{name}-{number}", "name": name})
                assert store.count({"name": name}) == number + 1
                assert len(list(store.query({"name": name}, limit=5))) == min(number + 1, 5)
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.count() == 180


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork(tmp_path: Path) -> None:
    """Children use the store of their parent, also after the parent has closed it."""
    store = SQLiteStore(tmp_path / "fork.db", "docs", key="key")
    store.update({"key": "parent"})
    started = store.query()
    next(started)
    context = multiprocessing.get_context("fork")
    go = context.Event()

    def work(name: int) -> None:
        store.update({"key": f"{name}-before"})
        go.wait(10)
        for number in range(20):
            store.update({"key": f"{name}-{number}"})

    children = [context.Process(target=work, args=(name,)) for name in range(3)]
    for child in children:
        child.start()
    while store.count() < 4:
        time.sleep(0.01)
    store.close()
    go.set()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert store.count() == 64
    assert store.count({"key": {"$gte": ""}}) == 64


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_while_threads_write(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "fork.db", "docs", key="key")
    store.connect()
    stop = threading.Event()

    def write(name: int) -> None:
        number = 0
        while not stop.is_set():
            store.update({"key": f"{name}-{number}"})
            number += 1

    threads = [threading.Thread(target=write, args=(name,)) for name in range(2)]
    for thread in threads:
        thread.start()
    children: list[Any] = []
    for name in range(5):
        child = multiprocessing.get_context("fork").Process(target=store.update, args=({"key": f"child-{name}"},))
        child.start()
        children.append(child)
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert store.count({"key": {"$regex": "^child"}}) == 5
    assert store.count() == store.count({"key": {"$gte": ""}})


def test_an_error_undoes_the_batch(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "undone.db", "docs", key="key")
    store.ensure_index("serial", unique=True)
    store.update({"key": "a", "serial": 1})
    with pytest.raises(DuplicateValueError, match="unique"):
        store.update([{"key": "b", "serial": 2}, {"key": "c", "serial": 1}])
    assert [doc["key"] for doc in store.query()] == ["a"]
    assert store.count({"serial": {"$gte": 0}}) == 1
