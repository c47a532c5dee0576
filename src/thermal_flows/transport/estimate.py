"""What a conductance will cost, measured on a small piece before the long run."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ase.calculators.calculator import Calculator

from thermal_flows.lattice.hessian import has_analytic_hessian
from thermal_flows.lattice.supercell import Supercell, repeats_for
from thermal_flows.structures import Interface
from thermal_flows.transport.assembly import principal_layer
from thermal_flows.transport.construction import ConstructionSettings, first_length, lead_force_constants

_HESSIAN_FORCE_CALLS = 100
"""An analytic Hessian of the built-in many-body potentials costs about as much as this many force calls."""

_POINT_SECONDS = 1.0e-4
"""Mode matching per (wave vector, frequency) and thread for 12 degrees of freedom a layer; grows with their cube."""


@dataclass(frozen=True)
class CostEstimate:
    """Size and cost of one conductance; times are good to about a factor of two.

    Attributes
    ----------
    principal_layers : tuple of int
        Atoms of a principal layer of substrate and film.
    junction_atoms, device_atoms, supercell_atoms : int
        Atoms of the relaxed junction cell, of the device, and of the supercell of its force constants.
    force_calls : int
        Force evaluations of that supercell (an analytic Hessian counted as its equivalent).
    force_seconds : float
        Measured time of one of them.
    force_constant_seconds, transmission_seconds : float
        Expected wall times.
    memory_bytes : int
        Expected largest arrays.
    """

    principal_layers: tuple[int, int]
    junction_atoms: int
    device_atoms: int
    supercell_atoms: int
    force_calls: int
    force_seconds: float
    force_constant_seconds: float
    transmission_seconds: float
    memory_bytes: int


def estimate_cost(
    interface: Interface,
    calculator: Calculator,
    settings: ConstructionSettings,
    q_mesh: tuple[int, int],
    n_frequencies: int,
    n_workers: int,
) -> CostEstimate:
    """Estimate size, time and memory of a conductance.

    The range of both bulk crystals' force constants is computed (unrelaxed), and one force call of the junction's supercell
    is timed; nothing is relaxed.

    Parameters
    ----------
    interface : Interface
    calculator : ase.calculators.calculator.Calculator
    settings : ConstructionSettings
    q_mesh : tuple of int
    n_frequencies : int
    n_workers : int
        Threads of the solver.
    """
    bulks = [lead_force_constants(unit, calculator, settings) for unit in (interface.substrate, interface.film)]
    layers = principal_layer(bulks[0].pairs), principal_layer(bulks[1].pairs)
    cutoff = max(bulk.cutoff for bulk in bulks)
    n_units = first_length(interface, layers, cutoff, settings.extra_layers)
    junction = interface.junction(*n_units)
    device = len(junction) // 2 + layers[0].n_atoms + layers[1].n_atoms
    supercell = Supercell.build(junction, repeats_for(junction, 1.05 * cutoff)).atoms
    supercell.calc = calculator
    began = time.perf_counter()
    supercell.get_forces()
    seconds = time.perf_counter() - began
    analytic = settings.hessian != "finite_differences" and has_analytic_hessian(calculator)
    calls = _HESSIAN_FORCE_CALLS if analytic else 12 * device
    degrees = 1.5 * (layers[0].n_atoms + layers[1].n_atoms)
    points = q_mesh[0] * q_mesh[1] * n_frequencies / 2  # time reversal at least
    # refinement to twice the mesh and the comparisons together cost about five times the first mesh
    transmission = 5 * points * _POINT_SECONDS * float(max(1.0, (degrees / 12) ** 3)) / n_workers
    rows = len(supercell) * device * 9 * 8
    return CostEstimate(
        principal_layers=(layers[0].n_atoms, layers[1].n_atoms),
        junction_atoms=len(junction),
        device_atoms=device,
        supercell_atoms=len(supercell),
        force_calls=calls,
        force_seconds=seconds,
        force_constant_seconds=calls * seconds,
        transmission_seconds=float(transmission),
        memory_bytes=int(3 * rows + 16 * n_frequencies * 40 * degrees**2 * n_workers),
    )
