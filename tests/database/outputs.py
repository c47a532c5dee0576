"""Outputs as jobs of this package return them, reduced to what the database looks at, and jobs that return them."""

from typing import Any

import numpy as np
from jobflow import job


def interface_output(
    name: str, film: str = "Ge", substrate: str = "Si", values: dict[float, float] | None = None, **changes: Any
) -> dict[str, Any]:
    """An InterfaceDoc as plain data."""
    values = {300.0: 200.0} if values is None else values
    return {
        "doc_type": "InterfaceDoc",
        "schema_version": 1,
        "interface_id": f"interface-{name}",
        "system_id": f"system-{name}",
        "method_id": "method",
        "label": f"{substrate}|{film}",
        "film_formula": film,
        "substrate_formula": substrate,
        "conductance": [
            {
                "value": value,
                "resistance": 1e3 / value,
                "temperature": temperature,
                "definition": "landauer",
                "statistics": "quantum",
                "method": "mode_matching",
                "error": None,
            }
            for temperature, value in values.items()
        ],
        "provenance": {"job_uuids": [], "potential": {"name": "tersoff-si-ge"}},
        **changes,
    }


@job(data="spectrum")
def transmission_job(name: str, film: str = "Ge", substrate: str = "Si", value: float = 200.0) -> dict[str, Any]:
    """A job that keeps its arrays in the additional store."""
    spectrum = {"frequencies": np.linspace(0.5, 9.5, 10), "transmission": np.full((3, 10), value), "label": "T"}
    return interface_output(name, film, substrate, {300.0: value}, spectrum=spectrum)


@job
def broken_job(name: str) -> dict[str, Any]:
    """A job whose document lacks what queries need."""
    return interface_output(name, conductance=[{"value": 1.0}])


@job
def other_job(number: float) -> dict[str, Any]:
    """A job that returns something else."""
    return {"doc_type": "OtherDoc", "number": number}


def stored(uuid: str, output: Any, completed_at: str = "2026-01-01T00:00:00", index: int = 1) -> dict[str, Any]:
    """The document that a JobStore makes of an output."""
    return {"uuid": uuid, "index": index, "output": output, "completed_at": completed_at, "metadata": {}, "name": "job"}
