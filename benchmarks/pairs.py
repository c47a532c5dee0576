"""Five pairs end to end, each with its checks, error estimate and time, and both solvers on the junction that comes out.

    python benchmarks/pairs.py [--only NAME ...] [--output FILE.json]

Substitutes, not references: the MACE file is trained here on a few dozen cells labelled by Tersoff, and CHGNet, a universal
potential, is softer than its DFT. What is shown is that any potential goes all the way, with what it costs.

"mismatch" is by how much the outer layers of the device differed from the leads before those took their place, "neglected" the
largest force constant beyond the cutoff. Al|Cu is cut at 5.75 A: chains Al-Cu-Al across the interface couple aluminium atoms
5.42 A apart by 0.14 eV/A^2, which nothing in the bulk metals tells of, and all beyond 5.75 A stays below 2e-3. CHGNet's force
constants reach beyond 8 A in silicon and are cut at 5.5 A: in the junction up to 0.11 eV/A^2 lie beyond, 0.03 and 0.04 in its
crystals; and it makes germanium on silicon's plane (5 % strain, 9 % longer across) far too soft. Of the other crystals tried
with it Cu, Ni and Mo are unstable, and the interface Ag|Au, cut at 5.5 A, is too (0.1i THz).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore

from thermal_flows.flows import InterfaceTransmissionMaker
from thermal_flows.schemas import InterfaceDoc
from thermal_flows.structures import crystal
from thermal_flows.transport import solve_transmission

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def named(name: str) -> Callable[[], str]:
    """A potential that needs no preparation."""
    return lambda: name


def trained_mace() -> str:
    """A small MACE of silicon and germanium, trained now on cells labelled by Tersoff."""
    from mace_training import save, trained

    return str(save(trained(), Path(tempfile.mkdtemp()) / "si_ge.model"))


@dataclass(frozen=True)
class Pair:
    """One interface and how it is computed."""

    substrate: str
    film: str
    potential: Callable[[], str]
    interface: dict[str, Any] = field(default_factory=dict)
    junction: dict[str, Any] = field(default_factory=dict)
    transmission: dict[str, Any] = field(default_factory=lambda: {"q_mesh": (10, 10), "n_frequencies": 100})
    compare: tuple[str, ...] = ("device_length", "hessian")


PAIRS = {
    "Si|Ge (001) Tersoff": Pair("Si", "Ge", named("tersoff-si-ge")),
    "Si|Ge (111) Tersoff": Pair(
        "Si", "Ge", named("tersoff-si-ge"), {"substrate_miller": (1, 1, 1), "film_miller": (1, 1, 1)}
    ),
    "Al|Cu (001) EMT": Pair(
        "Al",
        "Cu",
        named("emt"),
        {"max_area": 100.0, "max_strain": 0.05},
        {"cutoff": 5.75, "mismatch_tolerance": 1e-3},
        {"q_mesh": (6, 6), "n_frequencies": 60, "max_refinements": 0},
        (),
    ),
    "Si|Ge (001) CHGNet": Pair(
        "Si",
        "Ge",
        named("CHGNet"),
        {"max_strain": 0.06},
        {"cutoff": 5.5, "mismatch_tolerance": 0.01},
        {"q_mesh": (8, 8), "n_frequencies": 60},
        (),
    ),
    "Si|Ge (001) small MACE": Pair(
        "Si",
        "Ge",
        trained_mace,
        {},
        {"cutoff": 6.0},
        {"q_mesh": (8, 8), "n_frequencies": 60},
        (),
    ),
}


def compute(pair: Pair) -> tuple[InterfaceDoc, float, float]:
    """The finished document, the wall time of the flow and its processor time, in seconds."""
    potential = pair.potential()
    began, busy = time.perf_counter(), time.process_time()
    maker = InterfaceTransmissionMaker.from_potential(potential, **pair.transmission)
    maker.junction_maker.settings = replace(maker.junction_maker.settings, **pair.junction)
    maker.junction_maker.compare = pair.compare
    flow = maker.make(crystal(pair.film), crystal(pair.substrate), **pair.interface)
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="jobflow")
        run_locally(flow, store=store, log=False, raise_immediately=True)
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    output = store.get_output(flow.jobs[-1].uuid, load=True)
    return InterfaceDoc.model_validate(output), seconds, cpu


def compare_solvers(doc: InterfaceDoc) -> dict[str, float]:
    """Largest differences of Green's functions from mode matching on one small mesh.

    With the leads' Bloch states everywhere; with leads decimated at a broadening of 1e-11, which share no step with mode
    matching, away from band edges.
    """
    junction = doc.junction()
    grid = (np.arange(30) + 0.5) * min(junction.top_frequencies) / 30
    options: dict[str, Any] = {"q_mesh": (3, 3), "frequency_weights": np.full(30, grid[1] - grid[0])}
    one = solve_transmission(junction, frequencies=grid, **options)
    exact = solve_transmission(junction, frequencies=grid, method="green_function", **options)
    decimated = solve_transmission(junction, frequencies=grid, method="green_function", broadening=1e-11, **options)
    # at an edge the number of modes changes
    clear = np.ones(one.transmission.shape, dtype=bool)
    for factor in (0.998, 0.999, 1.001, 1.002):
        beside = solve_transmission(junction, frequencies=factor * grid, **options)
        clear &= (beside.modes_left == one.modes_left) & (beside.modes_right == one.modes_right)
    return {
        "largest_difference": float(np.abs(one.transmission - exact.transmission).max()),
        "largest_difference_decimated": float(np.abs(one.transmission - decimated.transmission)[clear].max()),
        "points": int(clear.size),
        "points_away_from_edges": int(clear.sum()),
        "flagged": int(one.checks.flagged + exact.checks.flagged),
    }


def main() -> None:
    """Compute the pairs and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(PAIRS), default=list(PAIRS), metavar="NAME")
    parser.add_argument("--output", type=Path, help="also write the table as JSON")
    options = parser.parse_args()
    table = []
    print(
        f"{'pair':<26}{'G(300 K)':>10}{'error':>8}{'R':>8}{'|T+R-1|':>10}{'mismatch':>10}{'neglected':>11}"
        f"{'device':>8}{'solvers':>10}{'decimated':>10}{'time':>8}{'CPU':>8}\n{'':<26}{'MW/m2K':>10}{'':>8}{'m2K/GW':>8}{'':>10}{'eV/A^2':>10}"
        f"{'eV/A^2':>11}{'atoms':>8}{'differ':>10}{'differs':>10}{'s':>8}{'s':>8}"
    )
    for name in options.only:
        doc, seconds, cpu = compute(PAIRS[name])
        value = doc.value(300.0)
        solvers = compare_solvers(doc)
        row = {
            "pair": name,
            "label": doc.label,
            "conductance": value.value,
            "error": value.error,
            "resistance": value.resistance,
            "conservation": doc.transmission_checks.conservation,
            "mismatch": max(doc.junction_checks.mismatch_left, doc.junction_checks.mismatch_right),
            "neglected": doc.junction_checks.neglected,
            "strain": doc.strain,
            "cells": doc.match,
            "range": doc.force_constants["range"],
            "device_atoms": doc.junction().device.n_atoms,
            "solvers": solvers,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "timings": doc.timings,
            "warnings": doc.warnings,
        }
        table.append(row)
        print(
            f"{name:<26}{row['conductance']:>10.1f}{row['error']:>8.2g}{row['resistance']:>8.2f}"
            f"{row['conservation']:>10.1e}{row['mismatch']:>10.1e}{row['neglected']:>11.1e}{row['device_atoms']:>8}"
            f"{solvers['largest_difference']:>10.1e}{solvers['largest_difference_decimated']:>10.1e}{seconds:>8.0f}{cpu:>8.0f}",
            flush=True,
        )
        for warning in doc.warnings:
            print(f"    {warning}")
    if options.output:
        options.output.write_text(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
