"""What a conductance will cost, measured on a small piece before the long run."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from ase.calculators.calculator import Calculator
from threadpoolctl import threadpool_limits

from thermal_flows import units
from thermal_flows.lattice.hessian import expected_calls
from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.lattice.supercell import Supercell, repeats_for
from thermal_flows.structures import Interface
from thermal_flows.transport.junctions.assembly import principal_layer
from thermal_flows.transport.junctions.construction import ConstructionSettings, first_length, lead_force_constants
from thermal_flows.transport.junctions.junction import Junction
from thermal_flows.transport.leads.blocks import BlockBuilder
from thermal_flows.transport.solvers.matching import scatter
from thermal_flows.transport.solvers.transmission import BATCH_BYTES

_HESSIAN_FORCE_CALLS = 100
"""An analytic Hessian of the built-in many-body potentials costs about as much as this many force calls."""

_SAMPLE = 12
"""Frequencies that are solved to time mode matching, where all would take long."""

_LONG = 0.5
"""Seconds for these frequencies from which that is so."""

_WITH_CHANNELS = 0.5
"""Part of the points at which both leads may have modes (a fifth to a half for the pairs tried)."""

_MESHES = 5
"""Refinement to twice the mesh and the comparisons together cost about as much as this many first meshes."""


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
        Expected largest arrays of this package; what the potential takes beside them is not known.
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
    copies = interface.copies
    lead_atoms = layers[0].n_atoms * copies[0], layers[1].n_atoms * copies[1]
    cutoff = max(bulk.cutoff for bulk in bulks)
    n_units = first_length(interface, layers, cutoff, settings.extra_layers)
    junction = interface.junction(*n_units)
    device = len(junction) // 2 + sum(lead_atoms)
    supercell = Supercell.build(junction, repeats_for(junction, 1.05 * cutoff)).atoms
    supercell.calc = calculator
    began = time.perf_counter()
    supercell.get_forces()
    seconds = time.perf_counter() - began
    rows_of_device = np.arange(min(device, len(supercell)))
    expected = expected_calls(supercell, calculator, rows_of_device, settings.hessian, settings.step)
    calls = _HESSIAN_FORCE_CALLS if expected is None else int(np.ceil(expected))
    expanded = tuple(
        layer.in_plane_supercell(matrix)
        for layer, matrix in zip(layers, (interface.substrate_supercell, interface.film_supercell), strict=True)
    )
    row = _row_seconds(expanded[0], expanded[1], n_frequencies)
    transmission = _MESHES * q_mesh[0] * q_mesh[1] / 2 * row / n_workers  # time reversal at least
    rows = len(supercell) * device * 9 * 8
    return CostEstimate(
        principal_layers=lead_atoms,
        junction_atoms=len(junction),
        device_atoms=device,
        supercell_atoms=len(supercell),
        force_calls=calls,
        force_seconds=seconds,
        force_constant_seconds=calls * seconds,
        transmission_seconds=float(transmission),
        memory_bytes=int(max(3 * rows, n_workers * (BATCH_BYTES + 4 * 16 * (3 * device) ** 2))),
    )


def _row_seconds(left: PairForceConstants, right: PairForceConstants, n_frequencies: int) -> float:
    """Time of one wave vector on one core, from a few frequencies of both leads with next to nothing between them."""
    n = left.n_atoms
    inside = [lead.R[:, 2] == 0 for lead in (left, right)]
    shift = np.array([0.0, 0.0, left.cell[2, 2]])
    device = PairForceConstants(
        left.cell,
        np.vstack([left.positions, right.positions + shift]),
        np.concatenate([left.masses, right.masses]),
        np.concatenate([left.i[inside[0]], n + right.i[inside[1]]]),
        np.concatenate([left.j[inside[0]], n + right.j[inside[1]]]),
        np.concatenate([left.R[inside[0]], right.R[inside[1]]]),
        np.concatenate([left.phi[inside[0]], right.phi[inside[1]]]),
    )
    # the same in-plane vectors to the last digit, as a junction demands
    junction = Junction(left, replace(right, cell=np.vstack([left.cell[:2], right.cell[2:]])), device)
    q = np.array([0.137, 0.211])
    top = float(min(units.thz_to_w2(f) for f in junction.top_frequencies))

    def seconds(n: int) -> float:
        w2 = top * np.linspace(0.1, 0.8, n) ** 2
        began = time.perf_counter()
        scatter(blocks, w2, top)
        return time.perf_counter() - began

    with threadpool_limits(limits=1):
        builder = BlockBuilder(junction)
        began = time.perf_counter()
        blocks = builder(q)
        seconds(1)  # whatever is computed once a wave vector
        once = time.perf_counter() - began
        sample = seconds(_SAMPLE)
        every = sample * n_frequencies / _SAMPLE if sample > _LONG else seconds(n_frequencies)
        return once + _WITH_CHANNELS * every
