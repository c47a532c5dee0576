"""From an interface of two crystals and a calculator to a :class:`Junction`: relaxation, force constants, stitching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from thermal_flows import units
from thermal_flows.lattice.hessian import HessianRows, has_analytic_hessian, hessian_rows
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
from thermal_flows.potentials.protocols import RowHessian
from thermal_flows.potentials.relaxation import Relaxation, relax
from thermal_flows.structures import Interface
from thermal_flows.transport.errors import JunctionError, UnstableLeadError
from thermal_flows.transport.junctions.assembly import (
    MISMATCH_TOLERANCE,
    Assembly,
    assemble,
    check_interface,
    find_window,
    principal_layer,
    probe_mismatch,
)

Report = Callable[[str], None]
Progress = Callable[[int, int], None]

MIN_UNITS = 3
"""Stacking units a side of the shortest junction there can be; see :func:`first_length`."""

PROBE_MARGIN = 1.5
"""The outer layers' own rows, not symmetrised, must differ from the leads by this much more than allowed before the rest of the
force constants is not computed."""

START_DISPLACEMENT = 0.05
"""Standard deviation of the displacements from which mismatched interfaces are relaxed, Angstrom."""


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
    start_displacement : float or None
        Standard deviation of the random displacements, the same in every run, that the units at the interfaces get before
        they are relaxed, Angstrom: a symmetric start may lead to a saddle point, which forces alone never leave. None:
        :data:`START_DISPLACEMENT` where the two cells are different multiples of their crystals' own, so that no lattice goes
        on across the interface; else 0.
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
    start_displacement: float | None = None

    def __post_init__(self) -> None:
        """Refuse a displacement that is none."""
        if self.start_displacement is not None and not 0 <= self.start_displacement < np.inf:
            raise ValueError(
                f"start_displacement must be a length in Angstrom, 0 or more, or None; got {self.start_displacement}"
            )


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
    start: Atoms | None = None,
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
    start : ase.Atoms, optional
        Relaxed junction of the same interface, with which this one begins, lengthened where that is necessary: its
        interfaces then relax to the same minimum.
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
    # of the primitive units; leads are their exact copies in the common cell
    layers = (principal_layer(bulks["substrate"].pairs), principal_layer(bulks["film"].pairs))
    leads = (
        layers[0].in_plane_supercell(interface.substrate_supercell),
        layers[1].in_plane_supercell(interface.film_supercell),
    )
    cutoff = max(bulks["substrate"].cutoff, bulks["film"].cutoff)
    n_units = first_length(interface, layers, cutoff, settings.extra_layers)
    history: list[tuple[int, int, float, float]] = []
    ranges = (bulks["substrate"].cutoff, bulks["film"].cutoff)
    if start is None:
        start = displaced(interface.junction(*n_units), interface, settings)
    else:
        n_units = _at_least(n_units, start)
        start = lengthened(start, interface, n_units)
    while True:
        size = junction_size(interface, n_units)
        if size > settings.max_atoms:
            raise JunctionError(_size_message(interface, n_units, settings))
        report(f"relaxing the junction of {n_units[0]} + {n_units[1]} stacking units, {size} atoms")
        relaxed = relax(start, calculator, "normal", fmax=settings.fmax, max_steps=settings.max_relaxation_steps)
        report("force constants of the junction")
        device = _device(relaxed.atoms, leads, ranges, calculator, settings, progress)
        left, right = device.mismatch
        history.append((*n_units, left, right))
        if device.assembly is not None and max(left, right) <= settings.mismatch_tolerance:
            break
        # exponential where it is relaxation; constant where it is noise, folding or a neglected tail
        stalled = len(history) >= 3 and max(left, right) > 0.8 * max(history[-3][2:])
        if stalled or len(history) > settings.max_lengthenings:
            raise JunctionError(_difference_message(settings, history, device, stalled))
        n_units = _longer(history, settings, (interface.substrate, interface.film), layers)
        start = lengthened(relaxed.atoms, interface, n_units)
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


def _longer(
    history: list[tuple[int, int, float, float]],
    settings: ConstructionSettings,
    units_: tuple[Atoms, Atoms],
    layers: tuple[PairForceConstants, PairForceConstants],
) -> tuple[int, int]:
    """The next length: two principal layers more a side, or as many as the decay seen so far asks for (up to eight)."""
    longer: list[int] = []
    for side in (0, 1):
        n, mismatch = int(history[-1][side]), history[-1][2 + side]
        step = 2 * _units_per_layer(units_[side], layers[side])
        if mismatch > settings.mismatch_tolerance:
            steps = 1
            if len(history) > 1 and history[-2][side] < n and mismatch < 0.8 * history[-2][2 + side]:
                decay = np.log(history[-2][2 + side] / mismatch) / (n - history[-2][side])
                missing = np.log(mismatch / settings.mismatch_tolerance) / decay
                steps = int(np.clip(np.ceil(missing / step), 1, 4))
            n += steps * step
        longer.append(n)
    return longer[0], longer[1]


def displaced(junction: Atoms, interface: Interface, settings: ConstructionSettings) -> Atoms:
    """A junction whose units next to the interfaces are displaced at random, alike for every length.

    Parameters
    ----------
    junction : ase.Atoms
        Made by :meth:`Interface.junction`.
    interface : Interface
    settings : ConstructionSettings
        ``start_displacement`` tells by how much.

    Returns
    -------
    ase.Atoms
        A copy.
    """
    size = settings.start_displacement
    if size is None:
        size = START_DISPLACEMENT if interface.substrate_supercell != interface.film_supercell else 0.0
    moved = junction.copy()
    side, unit = junction.arrays["side"], junction.arrays["unit"]
    generator = np.random.default_rng(0)
    for which in (0, 1):
        for level in (0, unit[side == which].max()):
            chosen = (side == which) & (unit == level)
            moved.positions[chosen] += size * generator.standard_normal((int(chosen.sum()), 3))
    return moved


def _at_least(n_units: tuple[int, int], start: Atoms) -> tuple[int, int]:
    """Not fewer units than a junction has."""
    side, unit = start.arrays["side"], start.arrays["unit"]
    first, second = (max(n, int(unit[side == which].max()) + 1) for which, n in enumerate(n_units))
    return first, second


def lengthened(relaxed: Atoms, interface: Interface, n_units: tuple[int, int]) -> Atoms:
    """A relaxed junction with stacking units put into the middle of either crystal.

    Parameters
    ----------
    relaxed : ase.Atoms
        Made by :meth:`Interface.junction` and relaxed.
    interface : Interface
        With the bulk units.
    n_units : tuple of int
        Units of substrate and film of the result, not fewer than there are.

    Returns
    -------
    ase.Atoms
        Ordered like ``interface.junction(*n_units)``. Both interfaces keep what has relaxed around them.
    """
    longer = interface.junction(*n_units)
    side, unit = relaxed.arrays["side"], relaxed.arrays["unit"]
    positions = np.zeros_like(longer.positions)
    lift = np.zeros(3)
    for which, atoms in ((0, interface.substrate), (1, interface.film)):
        old = int(unit[side == which].max()) + 1
        added, middle = n_units[which] - old, old // 2
        per_unit = interface.atoms_per_unit[which]
        own = relaxed.positions[side == which].reshape(old, per_unit, 3) + lift
        a3 = np.array(atoms.cell)[2]
        inserted = own[middle] + np.arange(added)[:, None, None] * a3
        positions[longer.arrays["side"] == which] = np.concatenate(
            [own[:middle], inserted, own[middle:] + added * a3]
        ).reshape(-1, 3)
        lift = lift + added * a3
    cell = np.array(relaxed.cell)
    cell[2] += lift
    longer.set_cell(cell, scale_atoms=False)
    longer.positions = positions
    return longer


def junction_size(interface: Interface, n_units: tuple[int, int]) -> int:
    """Atoms of a junction of so many stacking units a side."""
    substrate, film = interface.atoms_per_unit
    return n_units[0] * substrate + n_units[1] * film


def _size_message(interface: Interface, n_units: tuple[int, int], settings: ConstructionSettings) -> str:
    substrate, film = interface.atoms_per_unit
    return (
        f"the junction {interface.label} would hold {junction_size(interface, n_units)} atoms ({n_units[0]} substrate units of "
        f"{substrate} and {n_units[1]} film units of {film} atoms in {interface.area:.1f} A^2), more than max_atoms = "
        f"{settings.max_atoms}: choose a smaller common cell (max_area, or find_matches), give a shorter cutoff, or raise "
        "max_atoms"
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
    """Units a side, so that half a crystal holds two principal layers to compare and the range up to the interface.

    ``layers`` are those of the primitive stacking units.
    """
    lengths = []
    for unit, layer in zip((interface.substrate, interface.film), layers, strict=True):
        half = (1 + extra) * layer.cell[2, 2] + cutoff
        lengths.append(2 * int(np.ceil(half / unit.cell[2, 2])) + 1)
    return lengths[0], lengths[1]


@dataclass(frozen=True)
class _Device:
    """What a junction's force constants gave; no assembly if the outer layers alone told that it is too short."""

    mismatch: tuple[float, float]
    cutoff: float
    repeats: tuple[int, int, int]
    neglected: float
    method: str
    step: float | None
    step_error: float | None
    assembly: Assembly | None


def interface_height(junction: Atoms) -> float:
    """Height of the interface of a junction made by :meth:`Interface.junction`, after relaxation, Angstrom."""
    heights, side = junction.positions[:, 2], junction.arrays["side"]
    return float(0.5 * (heights[side == 0].max() + heights[side == 1].min()))


def _device(
    junction: Atoms,
    leads: tuple[PairForceConstants, PairForceConstants],
    ranges: tuple[float, float],
    calculator: Calculator,
    settings: ConstructionSettings,
    progress: Progress | None,
) -> _Device:
    cutoff = max(ranges)
    radius = 1.05 * cutoff
    # calculators with a Hessian, but not by rows, give all of it or nothing
    whole = (
        settings.hessian != "finite_differences"
        and has_analytic_hessian(calculator)
        and not isinstance(calculator, RowHessian)
    )
    while True:
        window = find_window(junction, *leads, interface_height(junction), cutoff)
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

        def rows_of(
            atoms: NDArray[np.intp],
            method: str = settings.hessian,
            step: float | None = settings.step,
            supercell: Supercell = supercell,
        ) -> HessianRows:
            return hessian_rows(supercell.atoms, calculator, atoms, method=method, step=step, progress=progress)

        if whole:
            hessian = rows_of(window.atoms)
        else:
            # rows are dear: the outer layers alone may tell that the junction is too short
            n_l, n_r = (lead.n_atoms for lead in leads)
            outer, inner = np.concatenate([window.atoms[:n_l], window.atoms[-n_r:]]), window.atoms[n_l:-n_r]
            hessian = rows_of(outer)
            pairs = pairs_from_supercell(supercell, hessian)
            mismatch = probe_mismatch(*leads, pairs, window, cutoff, ranges)
            if max(mismatch) > PROBE_MARGIN * settings.mismatch_tolerance:
                beyond = _beyond(pairs, cutoff)
                return _Device(
                    mismatch, cutoff, repeats, beyond, hessian.method, hessian.step, hessian.step_error, None
                )
            rest = rows_of(inner)
            if (rest.method, rest.step) != (hessian.method, hessian.step):  # those of the interface count
                hessian = rows_of(outer, rest.method, rest.step)
            hessian = replace(
                rest,
                rows=np.concatenate([hessian.rows, rest.rows]),
                values=np.concatenate([hessian.values, rest.values]),
            )
        pairs = pairs_from_supercell(supercell, hessian)
        # bonds across the interface may reach farther than those of either crystal
        reach = (
            cutoff if settings.cutoff is not None else max(cutoff, force_range(pairs, settings.range_tolerance) + 1e-3)
        )
        if settings.cutoff is not None or reach < supercell.inner_radius:
            break
        radius = 1.25 * max(radius, supercell.inner_radius)
    assembly = assemble(*leads, pairs, window, reach, ranges)
    return _Device(
        assembly.mismatch,
        reach,
        repeats,
        max(assembly.neglected, _beyond(pairs, reach)),
        hessian.method,
        hessian.step,
        hessian.step_error,
        assembly,
    )


def _beyond(pairs: PairForceConstants, reach: float) -> float:
    """Largest force constant beyond a distance, eV/Angstrom^2."""
    beyond = np.linalg.norm(pairs.vectors, axis=1) > reach
    return float(np.abs(pairs.phi[beyond]).max(initial=0.0))
