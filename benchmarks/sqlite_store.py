"""SQLiteStore at 10,000 documents of 5 kB, beside maggma's MemoryStore and JSONStore.

    python benchmarks/sqlite_store.py [--documents 10000] [--folder DIR]

Prints a table; the exit code is 1 if SQLiteStore with default settings misses a target:

- upserts of existing documents, in batches of 1,000:        3,000 documents/s
- upserts of existing documents, one by one:                   700 documents/s
- indexed range query with sort, first 50 of half of all:       20 ms
- the same for a range with 1 % of all documents, all of them:  20 ms

Four fields are indexed besides the key (a number, a string, two numbers within an array: 21 index rows each). Query times
are medians of 9 runs and include decoding all documents returned; rates are the best of 3 runs, since
a loaded machine only makes them lower. "FULL" waits for the disk at every update, so its rate one by
one is that of the disk; targets do not apply to it. The peers keep everything in memory, and are
given fewer upserts because each of theirs takes tens of milliseconds.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from maggma.core import Store
from maggma.stores import JSONStore, MemoryStore

from thermal_flows.database import SQLiteStore

BATCH = 1000
TARGETS = {
    "upsert, batches of 1,000 (documents/s)": 3000.0,
    "upsert, one by one (documents/s)": 700.0,
    "range + sort, first 50 of 50 % (ms)": 20.0,
    "range + sort, all of 1 % (ms)": 20.0,
}


def make_document(number: int, dice: random.Random) -> dict[str, Any]:
    """A document of 5 kB with what an interface document has: values, spectrum, provenance."""
    return {
        "task_id": f"interface-{number:06d}",
        "film_formula": dice.choice(["Si", "Ge", "C", "AlAs", "GaAs"]),
        "substrate_formula": dice.choice(["Si", "Ge", "C", "AlAs", "GaAs"]),
        "value": dice.uniform(0, 400),
        "last_updated": datetime(2026, 1, 1) + timedelta(seconds=number),
        "conductance": [
            {
                "temperature": float(temperature),
                "value": dice.uniform(0, 400),
                "resistance": dice.uniform(2, 50),
                "definition": "landauer",
                "statistics": "quantum",
                "method": "mode_matching",
                "error": None,
            }
            for temperature in range(100, 1000, 100)
        ],
        "mean_spectrum": [dice.random() for _ in range(160)],
        "provenance": {"job_uuids": ["0" * 36], "parameters": {"q_mesh": [20, 20], "n_frequencies": 200}},
    }


def rate(docs: list[dict[str, Any]], action: Callable[[list[dict[str, Any]]], Any], repeats: int) -> float:
    """Best number of documents per second; documents and their index entries change between the runs."""
    best = float("inf")
    for _ in range(repeats):
        for doc in docs:
            doc["value"] += random.uniform(-0.1, 0.1)
            doc["last_updated"] += timedelta(days=1)
        start = time.perf_counter()
        action(docs)
        best = min(best, time.perf_counter() - start)
    return len(docs) / best


def milliseconds(action: Callable[[], Any], repeats: int) -> float:
    """Median duration of an action in ms."""
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations) * 1e3


def update_in_batches(store: Store, docs: list[dict[str, Any]]) -> None:
    for start in range(0, len(docs), BATCH):
        store.update(docs[start : start + BATCH])


def update_one_by_one(store: Store, docs: list[dict[str, Any]]) -> None:
    for doc in docs:
        store.update(doc)


def measure(store: Store, docs: list[dict[str, Any]], batched: int, single: int, repeats: int) -> dict[str, float]:
    """All figures of a store that holds the documents already."""
    ranges = {
        "range + sort, first 50 of 50 % (ms)": ({"value": {"$gt": 100, "$lt": 300}}, 50),
        "range + sort, all of 1 % (ms)": ({"value": {"$gt": 100, "$lt": 104}}, 0),
        "range + sort, all of 5 % (ms)": ({"value": {"$gt": 100, "$lt": 120}}, 0),
    }
    element = {"temperature": 300, "value": {"$gt": 395}}
    # queries first: they are to find everything in its place after the documents were written once
    figures = {
        name: milliseconds(lambda c=criteria, n=limit: list(store.query(c, sort={"value": -1}, limit=n)), repeats)
        for name, (criteria, limit) in ranges.items()
    }
    figures["$elemMatch and formula (ms)"] = milliseconds(
        lambda: list(store.query({"film_formula": "Ge", "conductance": {"$elemMatch": element}})), repeats
    )
    figures["by key (ms)"] = milliseconds(
        lambda: store.query_one({"task_id": docs[len(docs) // 2]["task_id"]}), repeats
    )
    figures["count of a range (ms)"] = milliseconds(lambda: store.count({"value": {"$lt": 100}}), repeats)
    figures["not indexed (ms)"] = milliseconds(lambda: list(store.query({"provenance.x": 1})), min(repeats, 3))
    runs = max(1, repeats // 3)
    figures["upsert, batches of 1,000 (documents/s)"] = rate(
        docs[:batched], lambda d: update_in_batches(store, d), runs
    )
    figures["upsert, one by one (documents/s)"] = rate(docs[:single], lambda d: update_one_by_one(store, d), runs)
    return figures


def measure_sqlite(path: Path, docs: list[dict[str, Any]], synchronous: Any) -> dict[str, float]:
    with SQLiteStore(path, "docs", synchronous=synchronous) as store:
        for field in ("value", "film_formula", "conductance.temperature", "conductance.value"):
            store.ensure_index(field)
        inserted = rate(docs, lambda d: update_in_batches(store, d), 1)
        return {"insert, batches of 1,000 (documents/s)": inserted, **measure(store, docs, len(docs), 2000, 9)}


def measure_peer(store: MemoryStore, docs: list[dict[str, Any]], batched: int, single: int) -> dict[str, float]:
    store.connect()
    # filled directly: by update() it would take minutes
    store._collection.insert_many([dict(doc) for doc in docs])
    return measure(store, docs, batched, single, 3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where to put the files; a temporary folder by default")
    arguments = parser.parse_args()
    dice = random.Random(1)
    docs = [make_document(number, dice) for number in range(arguments.documents)]
    size = len(orjson.dumps(docs[0]))
    print(f"{len(docs):,} documents of {size:,} bytes")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        columns = {
            "SQLiteStore": measure_sqlite(folder / "normal.db", docs, "NORMAL"),
            "SQLiteStore FULL": measure_sqlite(folder / "full.db", docs, "FULL"),
            "MemoryStore": measure_peer(MemoryStore(), docs, 100, 30),
            "JSONStore": measure_peer(JSONStore(str(folder / "store.json"), read_only=False), docs, 100, 5),
        }
    print(f"{'':42s}{'target':>9s}" + "".join(f"{name:>18s}" for name in columns))
    missed = []
    for row, value in columns["SQLiteStore"].items():
        target = TARGETS.get(row)
        cells = "".join(f"{column[row]:18,.2f}" if row in column else f"{'':18s}" for column in columns.values())
        print(f"{row:42s}{'' if target is None else f'{target:,.0f}':>9s}{cells}")
        if target is not None and (value > target if "(ms)" in row else value < target):
            missed.append(row)
    print(f"missed: {'; '.join(missed)}" if missed else "all targets met")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
