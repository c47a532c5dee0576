"""job_store with jobflow itself: outputs, references between jobs, arrays in the additional store."""

from pathlib import Path

import numpy as np
import pytest
from jobflow import Flow, JobStore, OnMissing, job, run_locally

from thermal_flows.database import SQLiteStore, job_store

from .outputs import other_job, transmission_job

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@job(data="arr")
def produce(size: int) -> dict:
    return {"deep": {"arr": np.arange(size) * 0.5}, "size": size, "items": [{"arr": np.ones((2, 2))}]}


@job
def consume(arr: list, size: int) -> dict:
    return {"sum": float(np.sum(arr)), "size": size}


def test_arrays_and_references(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    store = job_store(path)
    assert not path.exists()
    first = produce(1000)
    second = consume(first.output["deep"]["arr"], first.output["size"])
    flow = Flow([first, second])
    responses = run_locally(
        flow, store=store, create_folders=False, log=False, raise_immediately=True, ensure_success=True
    )
    assert responses[second.uuid][1].output == {"sum": 249750.0, "size": 1000}

    again = job_store(path)
    output = again.get_output(first.uuid)
    assert output["deep"]["arr"]["store"] == output["items"][0]["arr"]["store"] == "data"
    loaded = again.get_output(first.uuid, load=True)
    np.testing.assert_array_equal(loaded["deep"]["arr"], np.arange(1000) * 0.5)
    assert loaded["items"][0]["arr"] == [[1.0, 1.0], [1.0, 1.0]]
    assert again.get_output(second.uuid)["sum"] == 249750.0
    assert again.count() == 2
    assert again.additional_stores["data"].count() == 2
    assert (
        again.query_one({"uuid": first.uuid}, load={"data": ["arr"]})["output"]["deep"]["arr"] == loaded["deep"]["arr"]
    )
    assert again.last_updated.year >= 2026

    again.remove_docs({"uuid": first.uuid})
    assert again.count() == 1
    assert again.additional_stores["data"].count() == 0


def test_indexes_of_a_job(tmp_path: Path) -> None:
    store = job_store(tmp_path / "results.db")
    docs = [{"uuid": "a", "index": index, "output": index * 10} for index in (1, 2, 3)]
    store.update(docs)
    store.update({"uuid": "a", "index": 2, "output": 0})
    assert store.get_output("a", "last") == 30
    assert store.get_output("a", 2) == 0
    assert store.get_output("a", "all") == [10, 0, 30]
    with pytest.raises(ValueError, match="has no outputs"):
        store.get_output("b")
    assert [values for values, _ in store.groupby("index", properties=["output"])] == [
        {"index": 1},
        {"index": 2},
        {"index": 3},
    ]


def test_missing_output_reference(tmp_path: Path) -> None:
    store = job_store(tmp_path / "results.db")
    reference = other_job(1.0).output
    store.connect()
    assert reference.resolve(store, on_missing=OnMissing.NONE) is None
    with pytest.raises(ValueError, match="Could not resolve reference"):
        reference.resolve(store)


def test_survives_serialisation(tmp_path: Path) -> None:
    store = job_store(tmp_path / "results.db")
    run_locally(transmission_job("a"), store=store, create_folders=False, log=False, ensure_success=True)
    again = JobStore.from_dict(store.as_dict())
    assert again.docs_store == store.docs_store
    assert again.additional_stores["data"] == store.additional_stores["data"]
    assert again.count() == 1
    spec = {
        "docs_store": {"type": "SQLiteStore", "path": str(tmp_path / "results.db"), "collection_name": "outputs"},
        "additional_stores": {
            "data": {"type": "SQLiteStore", "path": str(tmp_path / "results.db"), "collection_name": "data"}
        },
    }
    assert JobStore.from_dict_spec(spec).query_one(load=True)["output"]["spectrum"]["frequencies"][0] == 0.5


def test_durable_by_default(tmp_path: Path) -> None:
    store = job_store(tmp_path / "results.db")
    assert isinstance(store.docs_store, SQLiteStore)
    assert store.docs_store.synchronous == store.additional_stores["data"].synchronous == "FULL"
