"""ThermalDatabase: from run_locally to a query, and what it says when there is nothing to open."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from jobflow import Flow, run_locally

from thermal_flows.database import (
    BuildReport,
    DatabaseError,
    DatabaseFileError,
    DatabaseNotFoundError,
    QueryError,
    SQLiteStore,
    ThermalDatabase,
    job_store,
)

from .outputs import broken_job, interface_output, other_job, stored, transmission_job

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:jobflow")


def run(path: Path, *jobs: object) -> None:
    run_locally(Flow(list(jobs)), store=job_store(path), create_folders=False, log=False, raise_immediately=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


def test_what_run_locally_wrote_is_there(path: Path) -> None:
    run(path, transmission_job("a", value=150.0), transmission_job("b", value=50.0), other_job(1.0))
    with ThermalDatabase(path) as db:
        criteria = {"film_formula": "Ge", "conductance": {"$elemMatch": {"temperature": 300, "value": {"$gt": 100}}}}
        (doc,) = db.interfaces.query(criteria)
        assert doc["interface_id"] == "interface-a"
        assert "_id" not in doc
        assert doc["spectrum"]["store"] == "data"
        assert db.interfaces.count() == 2
        assert db.interfaces.count(criteria) == 1
        assert db.interfaces.distinct("conductance.value") == [50.0, 150.0]
        assert db.interfaces.query_one({"film_formula": "C"}) is None
        assert db.interfaces.query(properties=["interface_id"], sort={"conductance.value": -1}) == [
            {"interface_id": "interface-a"},
            {"interface_id": "interface-b"},
        ]
        run(path, transmission_job("c", value=500.0))
        assert db.interfaces.count() == 3
        assert db.build() == BuildReport(0, 0)
        assert str(path) in repr(db)


def test_arrays_on_demand(path: Path) -> None:
    run(path, transmission_job("a", value=150.0))
    db = ThermalDatabase(path)
    doc = db.interfaces.query_one()
    arrays = db.interfaces.arrays(doc)
    assert list(arrays) == ["spectrum"]
    np.testing.assert_array_equal(arrays["spectrum"]["frequencies"], np.linspace(0.5, 9.5, 10))
    assert arrays["spectrum"]["transmission"].shape == (3, 10)
    assert arrays["spectrum"]["label"] == "T"
    loaded = db.load(doc)
    np.testing.assert_array_equal(loaded["spectrum"]["transmission"], np.full((3, 10), 150.0))
    assert loaded["film_formula"] == "Ge"
    assert doc["spectrum"]["store"] == "data"
    db.job_store.additional_stores["data"].remove_docs({})
    with pytest.raises(DatabaseError, match=r"does not hold .*run it again"):
        db.load(doc)
    with pytest.raises(DatabaseError, match="the store 'other'; known here: data"):
        db.load({"spectrum": {"blob_uuid": "x", "store": "other"}})


@pytest.fixture
def pairs(path: Path) -> ThermalDatabase:
    store = job_store(path)
    for number, (film, substrate, temperatures) in enumerate(
        [("Ge", "Si", [100.0, 300.0]), ("Si", "Ge", [300.0]), ("C", "Si", [300.0]), ("GaAs", "AlAs", [77.0])]
    ):
        values = dict.fromkeys(temperatures, 100.0)
        store.update(stored(f"job-{number}", interface_output(str(number), film, substrate, values)))
    return ThermalDatabase(path)


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ({"film": "Ge", "substrate": "Si"}, [0, 1]),
        ({"film": "Si", "substrate": "Ge"}, [0, 1]),
        ({"film": "Si8", "substrate": "Ge2", "temperature": 100}, [0]),
        ({"film": "Ge", "substrate": "Si", "temperature": 300.0}, [0, 1]),
        ({"film": "Ge", "substrate": "Si", "temperature": 301}, []),
        ({"film": "Si"}, [0, 1, 2]),
        ({"substrate": "C"}, [2]),
        ({"film": "AlAs", "substrate": "As4Ga4"}, [3]),
        ({"temperature": 77}, [3]),
        ({}, [0, 1, 2, 3]),
        ({"film": "Si", "substrate": "Si"}, []),
    ],
)
def test_find(pairs: ThermalDatabase, arguments: dict, numbers: list[int]) -> None:
    found = pairs.interfaces.find(**arguments, properties=["interface_id"])
    assert found == [{"interface_id": f"interface-{number}"} for number in numbers]


@pytest.mark.parametrize(
    "arguments", [{"film": "not a formula"}, {"film": ""}, {"temperature": "300"}, {"temperature": -1}]
)
def test_refused_find(pairs: ThermalDatabase, arguments: dict) -> None:
    with pytest.raises(QueryError):
        pairs.interfaces.find(**arguments)


def test_refused_query(pairs: ThermalDatabase) -> None:
    for criteria in ({"film_formula": {"$near": 1}}, "Ge"):
        with pytest.raises(QueryError):
            pairs.interfaces.query(criteria)  # type: ignore[arg-type]


def test_failures(path: Path) -> None:
    run(path, transmission_job("a"), broken_job("b"))
    db = ThermalDatabase(path)
    assert db.interfaces.count() == 1
    (failure,) = db.interfaces.failures()
    assert "conductance[0].temperature must be a number" in failure["error"]
    assert db.interfaces.count({"state": "failed"}) == 1
    assert db.build(retry_failed=True) == BuildReport(0, 1)
    assert db.build(rebuild=True) == BuildReport(1, 1)


def test_a_build_is_not_repeated(path: Path) -> None:
    run(path, transmission_job("a"))
    ThermalDatabase(path).interfaces.query()
    interfaces = SQLiteStore(path, "interfaces", key="interface_id")
    writes = interfaces.change_count()
    db = ThermalDatabase(path)
    assert db.interfaces.count() == 1
    run(path, other_job(1.0))
    assert db.interfaces.count() == 1
    assert interfaces.change_count() == writes


def test_read_only(path: Path) -> None:
    run(path, transmission_job("a"))
    unbuilt = ThermalDatabase(path, read_only=True)
    with pytest.warns(UserWarning, match="not in its collections yet"):
        assert unbuilt.interfaces.query() == []
    with pytest.raises(DatabaseError, match="read_only=True"):
        unbuilt.build()
    ThermalDatabase(path).build()
    with warnings.catch_warnings(), ThermalDatabase(path, read_only=True) as db:
        warnings.simplefilter("error")
        assert db.interfaces.count() == 1


def test_nothing_to_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatabaseNotFoundError, match=r"no database file .*results\.db; run a flow with store=job_store"):
        ThermalDatabase(tmp_path / "results.db")
    with pytest.raises(FileNotFoundError):
        ThermalDatabase(tmp_path / "missing" / "results.db")
    with pytest.raises(DatabaseFileError, match="is a folder"):
        ThermalDatabase(tmp_path)
    for uri in ("mongodb://localhost/db", "mongodb+srv://host/db"):
        with pytest.raises(NotImplementedError, match="MongoDB"):
            ThermalDatabase(uri)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "notes.txt").write_text("not a database, but long enough to look like one\n" * 100)
    with pytest.raises(DatabaseFileError, match="not a SQLite database"):
        ThermalDatabase(tmp_path / "notes.txt")


def test_path_from_settings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "settings.yaml").write_text("{}\n")
    monkeypatch.setenv("THERMAL_FLOWS_CONFIG_FILE", str(path.parent / "settings.yaml"))
    monkeypatch.delenv("THERMAL_FLOWS_DATABASE", raising=False)
    with pytest.raises(ValueError, match=r"no database is given.*THERMAL_FLOWS_DATABASE"):
        ThermalDatabase()
    run(path, transmission_job("a"))
    monkeypatch.setenv("THERMAL_FLOWS_DATABASE", str(path))
    assert ThermalDatabase().interfaces.count() == 1


def test_the_room_is_light() -> None:
    """Looking at results needs neither torch nor atomate2."""
    import subprocess
    import sys

    code = (
        "from thermal_flows.database import ThermalDatabase, SQLiteStore, job_store, InterfaceBuilder\n"
        "import sys; print([name for name in ('torch', 'atomate2', 'ase', 'phonopy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
