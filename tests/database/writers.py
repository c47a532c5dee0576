"""What the writing processes of the tests do."""

import itertools
import os
from pathlib import Path

from thermal_flows.database import SQLiteStore


def write_until_killed(path: Path, name: str, log: Path) -> None:
    store = SQLiteStore(path, "docs", key="key")
    acknowledged = os.open(log, os.O_CREAT | os.O_WRONLY)
    for number in itertools.count():
        keys = [f"{name}-{number}-{part}" for part in range(number % 3 + 1)]
        store.update([{"key": key, "text": key * 100, "number": number} for key in keys])
        os.write(acknowledged, (" ".join(keys) + "\n").encode())


def write(path: Path, name: str, count: int) -> None:
    store = SQLiteStore(path, "docs", key="key")
    for number in range(count):
        store.update({"key": f"{name}-{number}", "shared": number})
        store.update({"key": "counter", "by": name})
