"""From job outputs to interfaces: merged, incremental, restartable, failures kept."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maggma.core import Store
from maggma.stores import MemoryStore
from monty.json import MontyDecoder

from thermal_flows.database import BuildReport, InterfaceBuilder, SQLiteStore

from .outputs import interface_output, stored


def memory_stores(_: Path) -> tuple[Store, Store]:
    return MemoryStore("outputs", key="uuid", last_updated_field="completed_at"), MemoryStore("i", key="interface_id")


def sqlite_stores(folder: Path) -> tuple[Store, Store]:
    outputs = SQLiteStore(folder / "results.db", "outputs", key="uuid", last_updated_field="completed_at")
    return outputs, SQLiteStore(folder / "results.db", "interfaces", key="interface_id")


@pytest.fixture(params=[sqlite_stores, memory_stores], ids=["sqlite", "memory"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    outputs, interfaces = request.param(tmp_path)
    outputs.connect()
    interfaces.connect()
    yield outputs, interfaces
    outputs.close()
    interfaces.close()


def add(outputs: Store, *docs: dict[str, Any]) -> None:
    outputs.update(list(docs), key=["uuid", "index"])


def test_a_document_per_interface(stores: tuple[Store, Store]) -> None:
    outputs, interfaces = stores
    reference = {"@class": "", "@module": "", "blob_uuid": "b1", "store": "data"}
    add(
        outputs,
        stored("job-1", interface_output("x", spectrum=reference), "2026-01-01T00:00:00"),
        stored("job-2", interface_output("y")),
        stored("job-3", {"doc_type": "OtherDoc"}),
        stored("job-4", 5),
        stored("job-5", interface_output("x", values={300.0: 250.0}, spectrum=reference), "2026-01-02T00:00:00"),
    )
    assert InterfaceBuilder(outputs, interfaces).build() == BuildReport(built=2, failed=0)
    x = interfaces.query_one({"interface_id": "interface-x"})
    assert x["conductance"][0]["value"] == 250.0
    assert x["spectrum"] == reference
    assert x["state"] == "successful"
    assert x["provenance"]["job_uuids"] == ["job-1", "job-5"]
    assert x["provenance"]["potential"] == {"name": "tersoff-si-ge"}
    assert [ref["uuid"] for ref in x["built_from"]] == ["job-1", "job-5"]
    assert x["last_updated"] is not None
    assert interfaces.count() == 2


def test_incremental(stores: tuple[Store, Store]) -> None:
    outputs, interfaces = stores
    builder = InterfaceBuilder(outputs, interfaces)
    add(outputs, stored("job-1", interface_output("x")), stored("job-2", interface_output("y")))
    builder.build()
    assert builder.build() == BuildReport(0, 0)
    y = interfaces.query_one({"interface_id": "interface-y"})
    add(outputs, stored("job-3", interface_output("x", values={300.0: 1.0}), "2026-01-03T00:00:00"))
    assert builder.build() == BuildReport(1, 0)
    assert interfaces.query_one({"interface_id": "interface-y"}) == y
    x = interfaces.query_one({"interface_id": "interface-x"})
    assert (x["conductance"][0]["value"], x["provenance"]["job_uuids"]) == (1.0, ["job-1", "job-3"])


def test_an_older_output_adds_its_job_only(stores: tuple[Store, Store]) -> None:
    outputs, interfaces = stores
    builder = InterfaceBuilder(outputs, interfaces)
    add(outputs, stored("new", interface_output("x", values={300.0: 2.0}), "2026-02-01T00:00:00"))
    builder.build()
    add(outputs, stored("old", interface_output("x", values={300.0: 1.0}), "2026-01-01T00:00:00"))
    assert builder.build() == BuildReport(1, 0)
    x = interfaces.query_one({"interface_id": "interface-x"})
    assert (x["conductance"][0]["value"], x["provenance"]["job_uuids"]) == (2.0, ["new", "old"])


def test_a_job_that_ran_again(stores: tuple[Store, Store]) -> None:
    outputs, interfaces = stores
    builder = InterfaceBuilder(outputs, interfaces)
    add(outputs, stored("job", interface_output("x", values={300.0: 1.0}), "2026-01-01T00:00:00"))
    builder.build()
    add(outputs, stored("job", interface_output("x", values={300.0: 2.0}), "2026-01-02T00:00:00"))
    add(outputs, stored("job", interface_output("x", values={300.0: 3.0}), "2026-01-03T00:00:00", index=2))
    assert builder.build() == BuildReport(1, 0)
    x = interfaces.query_one()
    assert x["conductance"][0]["value"] == 3.0
    assert x["provenance"]["job_uuids"] == ["job"]
    assert [(ref["index"], ref["completed_at"][:10]) for ref in x["built_from"]] == [
        (1, "2026-01-02"),
        (2, "2026-01-03"),
    ]


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"interface_id": None}, "interface_id must be"),
    ({"interface_id": 5}, "interface_id must be"),
    ({"film_formula": ""}, "film_formula must be"),
    ({"method_id": ["m"]}, "method_id must be"),
    ({"conductance": []}, "at least one value"),
    ({"conductance": {"300": 5}}, "at least one value"),
    ({"conductance": [5]}, r"conductance[0] must be an object"),
    ({"conductance": [{"value": 5.0, "definition": "landauer"}]}, "conductance[0].temperature"),
    ({"conductance": [{"value": "5", "temperature": 300, "definition": "landauer"}]}, "conductance[0].value"),
    ({"conductance": [{"value": 5.0, "temperature": 300}]}, "conductance[0].definition"),
]


@pytest.mark.parametrize(("changes", "message"), BROKEN)
def test_failures_are_kept(stores: tuple[Store, Store], changes: dict, message: str) -> None:
    outputs, interfaces = stores
    builder = InterfaceBuilder(outputs, interfaces)
    add(
        outputs,
        stored("good", interface_output("x"), "2026-01-01T00:00:00"),
        stored("bad", interface_output("x", **changes), "2026-01-02T00:00:00"),
    )
    assert builder.build() == BuildReport(built=1, failed=1)
    failure = interfaces.query_one({"state": "failed"})
    assert message in failure["error"]
    assert failure["interface_id"] == "failed:bad:1"
    assert failure["provenance"]["job_uuids"] == ["bad"]
    good = interfaces.query_one({"interface_id": "interface-x"})
    assert (good["state"], good["conductance"][0]["value"]) == ("successful", 200.0)
    assert builder.build() == BuildReport(0, 0)
    retry = InterfaceBuilder(outputs, interfaces, retry_failed=True)
    assert retry.build() == BuildReport(0, 1)
    add(outputs, stored("bad", interface_output("x", values={300.0: 7.0}), "2026-01-03T00:00:00"))
    assert builder.build() == BuildReport(1, 0)
    assert interfaces.count({"state": "failed"}) == 0
    assert interfaces.query_one({"interface_id": "interface-x"})["conductance"][0]["value"] == 7.0


def test_infinite_conductance_is_no_failure(stores: tuple[Store, Store]) -> None:
    """A definition may give infinity, which a document holds as null."""
    outputs, interfaces = stores
    output = interface_output("x")
    output["conductance"][0]["value"] = None
    add(outputs, stored("job", output))
    assert InterfaceBuilder(outputs, interfaces).build() == BuildReport(1, 0)


def test_restart_after_an_interruption(stores: tuple[Store, Store]) -> None:
    outputs, interfaces = stores
    add(outputs, *(stored(f"job-{number}", interface_output(str(number))) for number in range(5)))

    class Interrupted(InterfaceBuilder):
        def update_targets(self, items: list) -> None:
            if self.target.count() >= 2:
                raise KeyboardInterrupt
            super().update_targets(items)

    with pytest.raises(KeyboardInterrupt):
        Interrupted(outputs, interfaces, chunk_size=2).build()
    assert interfaces.count() == 2
    assert InterfaceBuilder(outputs, interfaces, chunk_size=2).build() == BuildReport(3, 0)
    assert InterfaceBuilder(outputs, interfaces, rebuild=True).build() == BuildReport(5, 0)
    assert all(len(doc["provenance"]["job_uuids"]) == 1 for doc in interfaces.query())


@pytest.fixture
def root_logger() -> Iterator[None]:
    """maggma's Builder.run sends every log message of the process to standard output: undone, for the tests that read that."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.setLevel(level)
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)


@pytest.mark.usefixtures("root_logger")
def test_as_a_maggma_builder(tmp_path: Path) -> None:
    outputs, interfaces = sqlite_stores(tmp_path)
    add(outputs, stored("job", interface_output("x")))
    builder = MontyDecoder().process_decoded(InterfaceBuilder(outputs, interfaces).as_dict())
    builder.run()
    assert interfaces.count() == 1
    with pytest.raises(ValueError, match="must have the key 'interface_id'"):
        InterfaceBuilder(outputs, outputs)


@given(
    jobs=st.lists(
        st.tuples(st.sampled_from("xy"), st.integers(1, 28), st.floats(1, 1000)),
        min_size=1,
        max_size=6,
        unique_by=lambda j: j[1],
    ),
    split=st.integers(0, 6),
)
def test_builds_in_any_portions_agree(jobs: list[tuple[str, int, float]], split: int) -> None:
    """The newest output wins and every job is named, whatever was built when."""

    def content(portions: list[list[dict]]) -> list[Any]:
        outputs, interfaces = memory_stores(Path())
        outputs.connect()
        interfaces.connect()
        for portion in portions:
            if portion:
                add(outputs, *portion)
            InterfaceBuilder(outputs, interfaces).build()
        summary: Callable[[dict], Any] = lambda doc: (  # noqa: E731
            doc["interface_id"],
            doc["conductance"][0]["value"],
            sorted(doc["provenance"]["job_uuids"]),
        )
        return sorted(map(summary, interfaces.query()))

    docs = [
        stored(f"job-{number}", interface_output(name, values={300.0: value}), f"2026-01-{day:02d}T00:00:00")
        for number, (name, day, value) in enumerate(jobs)
    ]
    assert content([docs[:split], docs[split:]]) == content([docs])
