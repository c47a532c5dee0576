"""A junction from a user's own phonopy calculations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from thermal_flows.lattice.pair_constants import ForceConstantsError, PairForceConstants
from thermal_flows.lattice.phonopy_io import from_phonopy
from thermal_flows.lattice.supercell import (
    RANGE_TOLERANCE,
    force_range,
    plane_spacings,
    symmetrised,
    truncated,
    with_sum_rule,
)
from thermal_flows.transport.assembly import MISMATCH_TOLERANCE, Assembly, assemble, find_window, principal_layer
from thermal_flows.transport.errors import JunctionError

if TYPE_CHECKING:
    from phonopy import Phonopy


def junction_from_phonopy(
    left: Phonopy,
    right: Phonopy,
    junction: Phonopy,
    interface_z: float,
    *,
    cutoff: float | None = None,
    range_tolerance: float = RANGE_TOLERANCE,
    mismatch_tolerance: float = MISMATCH_TOLERANCE,
) -> Assembly:
    """Stitch a junction from three phonopy objects: two bulk crystals and a periodic junction.

    Parameters
    ----------
    left, right : phonopy.Phonopy
        Bulk crystals with force constants. Unit cells must be oriented like the junction: a1 and a2 in the xy plane and equal
        to the junction's, a3 (positive z, possibly oblique) the repeat along the transport direction.
    junction : phonopy.Phonopy
        Unit cell: left crystal below, right crystal above, periodic (so that it holds two interfaces); a supercell in the
        plane only, force constants of all its atoms.
    interface_z : float
        Height of the interface between the left (below) and the right crystal, Angstrom.
    cutoff : float, optional
        Distance at which force constants are truncated, Angstrom; by default where those of the bulk crystals fall below
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
        If cells do not fit, no whole principal layer is found, or the mismatch is too large.
    """
    from phonopy import Phonopy  # noqa: F401 - a clear ImportError before any work

    bulks = {}
    for name, phonon in (("left", left), ("right", right)):
        pairs = from_phonopy(phonon)
        apart = float(np.abs(pairs.cell[:2] - np.array(junction.unitcell.cell)[:2]).max())
        if apart > 1e-4:
            raise JunctionError(
                f"a1 and a2 of the {name} crystal differ from the junction's by {apart:.3g} A: give bulk crystals in the junction's "
                "orientation and strained to its in-plane cell"
            )
        bulks[name] = _on_plane(pairs, np.array(junction.unitcell.cell))
    ranges = [
        _range(name, bulks[name], phonon, cutoff, range_tolerance)
        for name, phonon in (("left", left), ("right", right))
    ]
    limit = (cutoff if cutoff is not None else max(ranges)) + 1e-3
    layers = [
        principal_layer(with_sum_rule(symmetrised(truncated(bulks[name], r + 1e-3)))[0])
        for name, r in zip(("left", "right"), ranges, strict=True)
    ]
    _range("junction", from_phonopy(junction), junction, limit, range_tolerance, directions=(0, 1))
    pairs = from_phonopy(junction)
    atoms = Atoms(
        numbers=junction.unitcell.numbers, positions=pairs.positions, cell=pairs.cell, masses=pairs.masses, pbc=True
    )
    window = find_window(atoms, layers[0], layers[1], interface_z, limit)
    assembly = assemble(layers[0], layers[1], pairs, window, limit)
    if max(assembly.mismatch) > mismatch_tolerance:
        raise JunctionError(
            f"the outer layers of the junction differ from the bulk crystals by {assembly.mismatch[0]:.2e} (left) and "
            f"{assembly.mismatch[1]:.2e} (right) eV/A^2, {mismatch_tolerance:g} allowed: use a longer junction, relax it tighter, "
            "or check that all three calculations used the same potential and settings"
        )
    return assembly


def _on_plane(pairs: PairForceConstants, cell: np.ndarray) -> PairForceConstants:
    """The same pairs with exactly the junction's in-plane vectors."""
    new = pairs.cell.copy()
    new[:2] = cell[:2]
    return PairForceConstants(new, pairs.positions, pairs.masses, pairs.i, pairs.j, pairs.R, pairs.phi)


def _range(
    name: str,
    pairs: PairForceConstants,
    phonon: Phonopy,
    cutoff: float | None,
    tolerance: float,
    directions: tuple[int, ...] = (0, 1, 2),
) -> float:
    reach = cutoff if cutoff is not None else force_range(pairs, tolerance)
    spacings = plane_spacings(np.array(phonon.supercell.cell))[list(directions)]
    if 2 * reach >= spacings.min() + 1e-3:
        raise ForceConstantsError(
            f"the supercell of the {name} calculation ({spacings.min():.3g} A between opposite faces) does not hold the range of the "
            f"force constants ({reach:.3g} A at {tolerance:g} eV/A^2) without overlap of images: use a larger supercell, or give a "
            "cutoff below half of that"
        )
    return reach
