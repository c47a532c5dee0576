"""From an interface of two crystals and a calculator to a :class:`Junction`: relaxation, force constants, stitching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from thermal_flows import units
from thermal_flows.lattice.hessian import hessian_rows
from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.lattice.supercell import (
    MAX_SUPERCELL_ATOMS,
    RANGE_TOLERANCE,
    BulkConstants,
    Supercell,
    bulk_force_constants,
    force_range,
    pairs_from_supercell,
    plane_spacings,
    repeats_for,
)
from thermal_flows.potentials.relaxation import Relaxation, relax
from thermal_flows.structures import Interface
from thermal_flows.transport.assembly import (
    MISMATCH_TOLERANCE,
    Assembly,
    assemble,
    check_interface,
    find_window,
    principal_layer,
)
from thermal_flows.transport.errors import JunctionError, UnstableLeadError

Report = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ConstructionSettings:
    """How a junction is relaxed and its force constants are computed.

    Attributes
    ----------
    fmax : float
        Largest force left by relaxations, eV/Angstrom.
    max_relaxation_steps : int
    range_tolerance : float
        Force constants below this beyond some distance are neglected, eV/Angstrom^2.
    cutoff : float or None
        Truncate force constants at this distance instead, Angstrom.
    mismatch_tolerance : float
        Largest accepted difference between the device's outer layers and the leads, eV/Angstrom^2.
    hessian : {"auto", "analytic", "finite_differences"}
    step : float or None
        Displacement of finite differences, Angstrom; None: chosen by the step check.
    extra_layers : int
        Principal layers added to either side of the device beyond the shortest that can be compared with the leads.
    max_lengthenings : int
        How often the junction may be made longer, by two principal layers a side (the device grows by one).
    max_atoms : int
        Largest supercell of force constants.
    """

    fmax: float = 1e-7
    max_relaxation_steps: int = 3000
    range_tolerance: float = RANGE_TOLERANCE
    cutoff: float | None = None
    mismatch_tolerance: float = MISMATCH_TOLERANCE
    hessian: str = "auto"
    step: float | None = None
    extra_layers: int = 0
    max_lengthenings: int = 6
    max_atoms: int = MAX_SUPERCELL_ATOMS


@dataclass(frozen=True)
class Construction:
    """A finished junction with everything that led to it.

    Attributes
    ----------
    assembly : Assembly
    interface : Interface
        With relaxed stacking units.
    substrate, film : BulkConstants
    relaxations : dict of str to Relaxation
        ``substrate`` and ``film`` at the common in-plane cell, ``junction``.
    supercell_repeats : tuple of int
        Of the junction cell, for its force constants.
    units : tuple of int
        Stacking units of substrate and film in the junction cell.
    cutoff : float
        Range of the device's force constants, Angstrom.
    neglected : float
        Largest force constant beyond it, eV/Angstrom^2.
    hessian_method : str
    step, step_error : float or None
        Of finite differences (Angstrom, eV/Angstrom^2).
    history : list of tuple
        (units of substrate, units of film, mismatch left, mismatch right) of every length tried.
    """

    assembly: Assembly
    interface: Interface
    substrate: BulkConstants
    film: BulkConstants
    relaxations: dict[str, Relaxation]
    supercell_repeats: tuple[int, int, int]
    units: tuple[int, int]
    cutoff: float
    neglected: float
    hessian_method: str
    step: float | None
    step_error: float | None
    history: list[tuple[int, int, float, float]]


def _silent(_message: str) -> None:
    pass


def check_stability(name: str, pairs: PairForceConstants) -> None:
    """Refuse a crystal with imaginary frequencies.

    Raises
    ------
    UnstableLeadError
        With the frequency and its wave vector.
    """
    lowest, highest, q = pairs.zone_extrema()
    if lowest < -1e-6 * highest:
        raise UnstableLeadError(
            f"{name} is unstable in this potential and at this in-plane cell: frequency {units.w2_to_thz(lowest):.4g} THz "
            f"(negative: imaginary) at q = ({q[0]:.4g}, {q[1]:.4g}, {q[2]:.4g}) of its stacking unit. Use another potential, "
            "another phase of the crystal, or less strain"
        )


def construct_junction(
    interface: Interface,
    calculator: Calculator,
    settings: ConstructionSettings | None = None,
    *,
    report: Report | None = None,
    progress: Progress | None = None,
) -> Construction:
    """Relax an interface and compute the force constants of its junction.

    Both crystals are relaxed at the common in-plane cell (positions and third vector), then the junction. Leads come from bulk
    supercells, device rows from the junction supercell. The junction is lengthened until its outer layers agree with the
    leads.

    Parameters
    ----------
    interface : Interface
    calculator : ase.calculators.calculator.Calculator
    settings : ConstructionSettings, optional
    report : callable, optional
        Receives one line a stage.
    progress : callable, optional
        Receives (done, total) of the long loops.

    Returns
    -------
    Construction

    Raises
    ------
    RelaxationError
        If a relaxation does not converge.
    UnstableLeadError
        If a crystal has imaginary frequencies.
    ForceConstantsError
        If force constants have no usable range or finite-difference step.
    JunctionError
        If the outer layers of the longest junction still differ from the leads, or the relaxed interface is not stable.
    """
    settings = settings or ConstructionSettings()
    report = report or _silent
    relaxations, bulks = {}, {}
    for name, unit in (("substrate", interface.substrate), ("film", interface.film)):
        report(f"relaxing the {name} at the common in-plane cell")
        relaxations[name] = relax(
            unit, calculator, "normal", fmax=settings.fmax, max_steps=settings.max_relaxation_steps
        )
        report(f"force constants of the {name}")
        bulks[name] = lead_force_constants(relaxations[name].atoms, calculator, settings, progress)
        check_stability(f"the {name} ({unit.get_chemical_formula()})", bulks[name].pairs)
    interface = interface.with_units(relaxations["substrate"].atoms, relaxations["film"].atoms)
    layers = (principal_layer(bulks["substrate"].pairs), principal_layer(bulks["film"].pairs))
    cutoff = max(bulks["substrate"].cutoff, bulks["film"].cutoff)
    n_units = first_length(interface, layers, cutoff, settings.extra_layers)
    history: list[tuple[int, int, float, float]] = []
    while True:
        report(f"relaxing the junction of {n_units[0]} + {n_units[1]} stacking units")
        relaxed = relax(
            interface.junction(*n_units),
            calculator,
            "normal",
            fmax=settings.fmax,
            max_steps=settings.max_relaxation_steps,
        )
        report("force constants of the junction")
        ranges = (bulks["substrate"].cutoff, bulks["film"].cutoff)
        device = _device(relaxed.atoms, layers, ranges, calculator, settings, progress)
        left, right = device.assembly.mismatch
        history.append((*n_units, left, right))
        if max(left, right) <= settings.mismatch_tolerance:
            break
        # exponential where it is relaxation; constant where it is noise, folding or a neglected tail
        stalled = len(history) >= 3 and max(left, right) > 0.8 * max(history[-3][2:])
        if stalled or len(history) > settings.max_lengthenings:
            raise JunctionError(_difference_message(settings, history, device, stalled))
        n_units = (
            n_units[0]
            + (2 * _units_per_layer(interface.substrate, layers[0]) if left > settings.mismatch_tolerance else 0),
            n_units[1]
            + (2 * _units_per_layer(interface.film, layers[1]) if right > settings.mismatch_tolerance else 0),
        )
    check_interface(device.assembly.junction)
    relaxations["junction"] = relaxed
    return Construction(
        assembly=device.assembly,
        interface=interface,
        substrate=bulks["substrate"],
        film=bulks["film"],
        relaxations=relaxations,
        supercell_repeats=device.repeats,
        units=n_units,
        cutoff=device.cutoff,
        neglected=device.neglected,
        hessian_method=device.method,
        step=device.step,
        step_error=device.step_error,
        history=history,
    )


def lead_force_constants(
    unit: Atoms, calculator: Calculator, settings: ConstructionSettings, progress: Progress | None = None
) -> BulkConstants:
    """Force constants of a stacking unit with these settings; see :func:`bulk_force_constants`."""
    return bulk_force_constants(
        unit,
        calculator,
        range_tolerance=settings.range_tolerance,
        cutoff=settings.cutoff,
        method=settings.hessian,
        step=settings.step,
        max_atoms=settings.max_atoms,
        progress=progress,
    )


def _difference_message(
    settings: ConstructionSettings, history: list[tuple[int, int, float, float]], device: _Device, stalled: bool
) -> str:
    """By how much the device's outer layers fail to be the leads', and what may help."""
    tried = "; ".join(f"{a} + {b} units: {x:.2e}, {y:.2e}" for a, b, x, y in history)
    cures = [f"tighten fmax (now {settings.fmax:g} eV/A)"]
    if not stalled:
        cures.append("allow more max_lengthenings")
    if settings.cutoff is not None:
        cures.append(f"take a larger cutoff (up to {device.neglected:.2e} eV/A^2 lie beyond {settings.cutoff:g} A)")
    elif settings.range_tolerance > settings.mismatch_tolerance:
        cures.append(f"take a smaller range_tolerance (now {settings.range_tolerance:g} eV/A^2)")
    if (device.step_error or 0.0) > settings.mismatch_tolerance:
        cures.append(
            f"find less noisy forces (finite differences change by {device.step_error:.2e} eV/A^2 with the step)"
        )
    left, right = history[-1][2:]
    return (
        f"the outer layers of the junction differ from the leads by {left:.2e} (left) and {right:.2e} (right) eV/A^2 after "
        f"{len(history)} lengths, {settings.mismatch_tolerance:g} allowed ({tried})"
        + (" and do not come closer any more" if stalled else "")
        + f". You can {', '.join(cures)}, or check the potential's range and smoothness"
    )


def _units_per_layer(unit: Atoms, layer: PairForceConstants) -> int:
    return layer.n_atoms // len(unit)


def first_length(
    interface: Interface, layers: tuple[PairForceConstants, PairForceConstants], cutoff: float, extra: int
) -> tuple[int, int]:
    """Units a side, so that half a crystal holds two principal layers to compare and the range up to the interface."""
    lengths = []
    for unit, layer in zip((interface.substrate, interface.film), layers, strict=True):
        half = (1 + extra) * layer.cell[2, 2] + cutoff
        lengths.append(2 * int(np.ceil(half / unit.cell[2, 2])) + 1)
    return lengths[0], lengths[1]


@dataclass(frozen=True)
class _Device:
    assembly: Assembly
    repeats: tuple[int, int, int]
    cutoff: float
    neglected: float
    method: str
    step: float | None
    step_error: float | None


def interface_height(junction: Atoms) -> float:
    """Height of the interface of a junction made by :meth:`Interface.junction`, after relaxation, Angstrom."""
    heights, side = junction.positions[:, 2], junction.arrays["side"]
    return float(0.5 * (heights[side == 0].max() + heights[side == 1].min()))


def _device(
    junction: Atoms,
    layers: tuple[PairForceConstants, PairForceConstants],
    ranges: tuple[float, float],
    calculator: Calculator,
    settings: ConstructionSettings,
    progress: Progress | None,
) -> _Device:
    cutoff = max(ranges)
    radius = 1.05 * cutoff
    while True:
        window = find_window(junction, *layers, interface_height(junction), cutoff)
        repeats = repeats_for(junction, radius)
        if repeats[2] != 1:
            height = plane_spacings(np.array(junction.cell))[2]
            raise JunctionError(
                f"the junction cell ({height:.3g} A) is shorter than twice the range of the force constants ({radius:.3g} A)"
            )
        size = len(junction) * int(np.prod(repeats))
        if size > settings.max_atoms:
            raise JunctionError(
                f"the force constants of the junction need a supercell of {size} atoms (range {radius:.3g} A), more than "
                f"max_atoms = {settings.max_atoms}: raise it, or give a cutoff"
            )
        supercell = Supercell.build(junction, repeats)
        hessian = hessian_rows(
            supercell.atoms, calculator, window.atoms, method=settings.hessian, step=settings.step, progress=progress
        )
        pairs = pairs_from_supercell(supercell, hessian)
        # bonds across the interface may reach farther than those of either crystal
        reach = (
            cutoff if settings.cutoff is not None else max(cutoff, force_range(pairs, settings.range_tolerance) + 1e-3)
        )
        if settings.cutoff is not None or reach < supercell.inner_radius:
            break
        radius = 1.25 * max(radius, supercell.inner_radius)
    beyond = np.linalg.norm(pairs.vectors, axis=1) > reach
    assembly = assemble(*layers, pairs, window, reach, ranges)
    return _Device(
        assembly,
        repeats,
        reach,
        max(assembly.neglected, float(np.abs(pairs.phi[beyond]).max(initial=0.0))),
        hessian.method,
        hessian.step,
        hessian.step_error,
    )
