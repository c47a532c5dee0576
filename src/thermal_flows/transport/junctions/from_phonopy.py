"""A junction from a user's own phonopy calculations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from thermal_flows.lattice.pair_constants import ForceConstantsError, PairForceConstants
from thermal_flows.lattice.phonopy_io import from_phonopy
from thermal_flows.lattice.supercell import (
    RANGE_TOLERANCE,
    force_range,
    shortest_translation,
    symmetrised,
    truncated,
    with_sum_rule,
)
from thermal_flows.transport.errors import JunctionError
from thermal_flows.transport.junctions.assembly import (
    Assembly,
    assemble,
    check_interface,
    check_orientation,
    find_window,
    principal_layer,
)

if TYPE_CHECKING:
    from phonopy import Phonopy


MISMATCH_TOLERANCE_PHONOPY = 1e-3
"""Largest accepted difference between the device's outer layers and the leads, eV/Angstrom^2. Two-point differences with
phonopy's displacement of 0.01 Angstrom leave some 1e-4 even where both calculations are perfect."""


def junction_from_phonopy(
    left: Phonopy,
    right: Phonopy,
    junction: Phonopy,
    interface_z: float,
    *,
    cutoff: float | None = None,
    range_tolerance: float = RANGE_TOLERANCE,
    mismatch_tolerance: float = MISMATCH_TOLERANCE_PHONOPY,
) -> Assembly:
    """Stitch a junction from three phonopy objects: two bulk crystals and a periodic junction.

    Parameters
    ----------
    left, right : phonopy.Phonopy
        Bulk crystals with force constants. Unit cells must be oriented like the junction: a1 and a2 in the xy plane, a3
        (positive z, possibly oblique) the repeat along the transport direction. The junction's a1 and a2 must be those of the
        crystal or whole multiples and sums of them: a crystal is then repeated in the plane, so that its primitive cell will do.
    junction : phonopy.Phonopy
        Unit cell: left crystal below, right crystal above, periodic (so that it holds two interfaces); a supercell in the
        plane only, force constants of all its atoms.
    interface_z : float
        Height of the interface between the left (below) and the right crystal, Angstrom.
    cutoff : float, optional
        Distance at which force constants are truncated, Angstrom; by default where each calculation's fall below
        ``range_tolerance``.
    range_tolerance : float
        eV/Angstrom^2.
    mismatch_tolerance : float
        Largest accepted difference between the device's outer layers and the leads, eV/Angstrom^2.

    Returns
    -------
    Assembly
        ``assembly.junction`` goes to :func:`thermal_flows.transport.solve_transmission`.

    Raises
    ------
    ForceConstantsError
        If a phonopy object has no force constants, or their range exceeds its supercell.
    JunctionError
        If cells do not fit, no whole principal layer is found, the mismatch is too large, or the interface is not stable.
    """
    from phonopy import Phonopy  # noqa: F401 - a clear ImportError before any work

    cell = np.array(junction.unitcell.cell)
    check_orientation("junction", cell)
    bulks, multiples = {}, {}
    for name, phonon in (("left", left), ("right", right)):
        bulks[name] = from_phonopy(phonon)
        check_orientation(f"{name} crystal's", bulks[name].cell)
        multiples[name] = _multiple(name, bulks[name].cell, cell)
    ranges = [
        _range(name, bulks[name], phonon, cutoff, range_tolerance)
        for name, phonon in (("left", left), ("right", right))
    ]
    layers = [
        _on_plane(principal_layer(with_sum_rule(symmetrised(truncated(bulks[name], r)))[0]), multiples[name], cell)
        for name, r in zip(("left", "right"), ranges, strict=True)
    ]
    pairs = from_phonopy(junction)
    atoms = Atoms(
        numbers=junction.unitcell.numbers, positions=pairs.positions, cell=pairs.cell, masses=pairs.masses, pbc=True
    )
    # bonds across the interface may reach farther than those of either crystal
    limit = max(*ranges, _range("junction", pairs, junction, cutoff, range_tolerance))
    window = find_window(atoms, layers[0], layers[1], interface_z, limit)
    assembly = assemble(layers[0], layers[1], pairs, window, limit, (ranges[0], ranges[1]))
    if max(assembly.mismatch) > mismatch_tolerance:
        raise JunctionError(
            f"the outer layers of the junction differ from the bulk crystals by {assembly.mismatch[0]:.2e} (left) and "
            f"{assembly.mismatch[1]:.2e} (right) eV/A^2, {mismatch_tolerance:g} allowed: use a longer junction, relax it "
            "tighter, or check that all three calculations used the same potential and settings"
        )
    check_interface(assembly.junction)
    return assembly


def _multiple(name: str, own: NDArray[np.float64], cell: NDArray[np.float64]) -> NDArray[np.intp]:
    """The junction's in-plane vectors as whole multiples of a crystal's own."""
    matrix = np.rint(cell[:2, :2] @ np.linalg.inv(own[:2, :2])).astype(np.intp)
    apart = float(np.abs(matrix @ own[:2] - cell[:2]).max())
    if apart > 1e-4:
        raise JunctionError(
            f"a1 and a2 of the {name} crystal differ from the junction's by {apart:.3g} A, and no whole multiples of them come "
            "closer: give bulk crystals in the junction's orientation and strained to its in-plane cell, or to a whole part of it"
        )
    return matrix


def _on_plane(layer: PairForceConstants, multiple: NDArray[np.intp], cell: NDArray[np.float64]) -> PairForceConstants:
    """The layer repeated in the plane to exactly the junction's in-plane vectors."""
    wide = layer.in_plane_supercell(multiple)
    new = wide.cell.copy()
    new[:2] = cell[:2]
    return replace(wide, cell=new)


def _range(name: str, pairs: PairForceConstants, phonon: Phonopy, cutoff: float | None, tolerance: float) -> float:
    """Distance that holds all force constants to keep, Angstrom; the supercell must hold it without overlap of images."""
    reach = cutoff if cutoff is not None else force_range(pairs, tolerance)
    width = shortest_translation(np.array(phonon.supercell.cell))
    if 2 * reach >= width + 1e-3:
        raise ForceConstantsError(
            f"the supercell of the {name} calculation (shortest translation {width:.3g} A) does not hold the range of the "
            f"force constants ({reach:.3g} A at {tolerance:g} eV/A^2) without overlap of images: use a larger supercell, or "
            f"give a cutoff below {0.5 * width:.3g} A"
        )
    return reach + 1e-3
