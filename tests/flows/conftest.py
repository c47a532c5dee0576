"""One finished flow from two crystals to a document, in a real store, for all tests that look at it."""

from __future__ import annotations

from typing import Any

import pytest
from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore

from thermal_flows.database import job_store
from thermal_flows.flows import InterfaceTransmissionMaker
from thermal_flows.schemas import InterfaceDoc
from thermal_flows.structures import crystal

COARSE: dict[str, Any] = {
    "q_mesh": (6, 6),
    "n_frequencies": 40,
    "max_refinements": 0,
    "n_workers": 1,
    "temperatures": (300.0,),
}
"""Solver settings of the tests: not converged, and said to be so. Lower temperatures would each need a grid of their own."""

TEMPERATURES = (50, 100, 200, 300, 400, 500)


def coarse(potential: str, **transmission: Any) -> InterfaceTransmissionMaker:
    """A maker for tests: coarse mesh, no comparisons, no densities of states."""
    maker = InterfaceTransmissionMaker.from_potential(potential, **{**COARSE, **transmission})
    maker.junction_maker.compare = ()
    maker.junction_maker.density_of_states_mesh = 0
    return maker


def run(flow: Flow, store: JobStore, **options: Any) -> dict:
    return run_locally(flow, store=store, log=False, **{"ensure_success": True, **options})


def document(flow: Flow, store: JobStore) -> InterfaceDoc:
    return InterfaceDoc.model_validate(store.get_output(flow.output.uuid, load=True))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> JobStore:
    store = job_store(tmp_path_factory.mktemp("flows") / "results.db", synchronous="NORMAL")
    store.connect()
    return store


@pytest.fixture(scope="session")
def finished(store: JobStore) -> Flow:
    """Si|Ge (001), Tersoff, with both comparisons."""
    maker = InterfaceTransmissionMaker.from_potential("tersoff-si-ge", **{**COARSE, "temperatures": TEMPERATURES})
    maker.junction_maker.density_of_states_mesh = 8
    flow = maker.make(crystal("Ge"), crystal("Si"))
    run(flow, store)
    return flow


@pytest.fixture(scope="session")
def doc(finished: Flow, store: JobStore) -> InterfaceDoc:
    return document(finished, store)


@pytest.fixture
def fresh() -> JobStore:
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    return store
