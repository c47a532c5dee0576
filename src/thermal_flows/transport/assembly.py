"""From the force constants of two bulk crystals and of a junction supercell to a :class:`Junction`.

The leads come from the bulk calculations. The device is cut out of the periodic junction supercell (which holds two
interfaces) around one interface; its outermost principal layers, and their coupling to the next, are replaced by the
leads' own after the difference has been measured. The sum rule is then imposed on the stitched system.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.lattice.supercell import from_table, symmetrised, with_sum_rule
from thermal_flows.transport.errors import JunctionError
from thermal_flows.transport.junction import Junction

MISMATCH_TOLERANCE = 1e-5
"""Largest accepted difference between the device's outer layers and the leads, eV/Angstrom^2."""


def principal_layer(unit: PairForceConstants, n_units: int | None = None) -> PairForceConstants:
    """Stack units of a crystal along their third vector until they couple to their nearest neighbours only.

    Parameters
    ----------
    unit : PairForceConstants
        Couplings to any |R3|.
    n_units : int, optional
        Units per layer; at least, and by default, as many as the force constants reach.

    Raises
    ------
    JunctionError
        If ``n_units`` is shorter than the force range.
    """
    reach = max(1, int(np.abs(unit.R[:, 2]).max()))
    m = reach if n_units is None else n_units
    if m < reach:
        raise JunctionError(
            f"a principal layer of {m} units is shorter than the force range: atoms couple to unit {reach}; use at least {reach}"
        )
    n = unit.n_atoms
    start = np.arange(m)
    end = start[:, None] + unit.R[None, :, 2]
    cell = unit.cell * np.array([1, 1, m])[:, None]
    R = np.repeat(unit.R[None], m, axis=0)
    R[:, :, 2] = end // m
    return PairForceConstants(
        cell,
        (unit.positions[None] + start[:, None, None] * unit.cell[2]).reshape(-1, 3),
        np.tile(unit.masses, m),
        (start[:, None] * n + unit.i[None]).ravel(),
        ((end % m) * n + unit.j[None]).ravel(),
        R.reshape(-1, 3),
        np.tile(unit.phi, (m, 1, 1)),
    )


@dataclass(frozen=True)
class Window:
    """The part of a junction supercell that becomes the device.

    Attributes
    ----------
    atoms : numpy.ndarray of int, shape (n,)
        Supercell atoms in device order: a principal layer of the left lead, the rest by height, a layer of the right lead.
    positions : numpy.ndarray, shape (n, 3)
        Unwrapped positions, Angstrom.
    shifts : numpy.ndarray of int, shape (n, 3)
        Cell translations that were added to unwrap.
    """

    atoms: NDArray[np.intp]
    positions: NDArray[np.float64]
    shifts: NDArray[np.intp]


def find_window(
    junction: Atoms,
    left: PairForceConstants,
    right: PairForceConstants,
    interface_z: float,
    cutoff: float,
    site_tolerance: float = 0.3,
) -> Window:
    """Find the device in a junction supercell: what lies between a principal layer in the middle of either crystal.

    The middle is where a crystal is least disturbed by the supercell's two interfaces. All atoms of such a layer must lie
    farther than ``cutoff`` from the other interface and on the lead's lattice.

    Parameters
    ----------
    junction : ase.Atoms
        Periodic supercell, left crystal below right crystal, a1 and a2 in the xy plane. The film's top meets the
        substrate's bottom across the cell boundary.
    left, right : PairForceConstants
        Principal layers.
    interface_z : float
        Height of the interface between them, Angstrom.
    cutoff : float
        Range of the force constants, Angstrom.
    site_tolerance : float
        How far an atom of an outer layer may sit from its lattice site, Angstrom.

    Raises
    ------
    JunctionError
        If no layer can be found, with the side and what to do.
    """
    heights = junction.get_positions()[:, 2]
    top = float(junction.cell[2, 2])
    bottom_atom, top_atom = heights.min(), heights.max()
    if not bottom_atom < interface_z < top_atom or top_atom - bottom_atom > top:
        raise JunctionError(
            f"the interface at z = {interface_z:.3f} A must lie between the junction's atoms (z from {bottom_atom:.3f} to "
            f"{top_atom:.3f} A), and those within one cell height ({top:.3f} A)"
        )
    z_from = bottom_atom + max(cutoff, 0.5 * (interface_z - bottom_atom) - left.cell[2, 2])
    z_to = top_atom - max(cutoff, 0.5 * (top_atom - interface_z) - right.cell[2, 2])
    lower = _outer_layer(junction, left, heights < interface_z, z_from, interface_z, site_tolerance, "left")
    upper = _outer_layer(junction, right, heights > interface_z, interface_z, z_to, site_tolerance, "right")
    z_lower = (heights[lower[0]]).min()
    z_upper = (heights[upper[0]]).max()
    between = np.flatnonzero((heights > z_lower - 1e-3) & (heights < z_upper + 1e-3))
    inner = np.setdiff1d(between, np.concatenate([lower[0], upper[0]]))
    if len(inner) + len(lower[0]) + len(upper[0]) != len(between) or np.intersect1d(lower[0], upper[0]).size:
        raise JunctionError("the outer principal layers of the two leads overlap: the junction supercell is too short")
    inner = inner[np.lexsort((inner, np.round(heights[inner], 3)))]
    positions = junction.get_positions()
    return Window(
        np.concatenate([lower[0], inner, upper[0]]),
        np.concatenate([lower[1], positions[inner], upper[1]]),
        np.concatenate([lower[2], np.zeros((len(inner), 3), dtype=np.intp), upper[2]]),
    )


def _outer_layer(
    junction: Atoms,
    layer: PairForceConstants,
    mine: NDArray[np.bool_],
    z_from: float,
    z_to: float,
    tolerance: float,
    side: str,
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp]]:
    """Atoms (in the layer's order), unwrapped positions and shifts of the outermost principal layer between two heights."""
    positions = junction.get_positions()
    masses = junction.get_masses()
    cell = np.array(junction.cell)
    inverse = np.linalg.inv(cell[:2, :2])
    usable = np.flatnonzero(mine & (positions[:, 2] > z_from - 1e-3) & (positions[:, 2] < z_to + 1e-3))
    # anchors from the outside in: the outermost atom that is the layer's first (left) or last (right) plane
    outward = usable[np.argsort(positions[usable, 2] * (1 if side == "left" else -1), kind="stable")]
    edge = layer.positions[:, 2].argmin() if side == "left" else layer.positions[:, 2].argmax()
    for anchor in outward:
        if abs(masses[anchor] - layer.masses[edge]) > 1e-3:
            continue
        sites = layer.positions - layer.positions[edge] + positions[anchor]
        apart = positions[usable][None] - sites[:, None]
        jumps = np.rint(apart[:, :, :2] @ inverse)
        apart[:, :, :2] -= jumps @ cell[:2, :2]
        distance = np.linalg.norm(apart, axis=2) + 1e3 * (np.abs(masses[usable][None] - layer.masses[:, None]) > 1e-3)
        nearest = distance.argmin(axis=1)
        if distance.min(axis=1).max() > tolerance or len(np.unique(nearest)) != len(nearest):
            continue
        atoms = usable[nearest]
        shifts = np.zeros((len(atoms), 3), dtype=np.intp)
        shifts[:, :2] = -np.rint(jumps[np.arange(len(atoms)), nearest])
        return atoms, positions[atoms] + shifts @ cell, shifts
    raise JunctionError(
        f"no whole principal layer of the {side} lead (thickness {layer.cell[2, 2]:.3g} A) lies between z = {z_from:.3g} and "
        f"{z_to:.3g} A of the junction within {tolerance:g} A of its lattice sites: use a longer junction, or check that the "
        f"{side} bulk crystal has the junction's orientation, in-plane cell and masses"
    )


@dataclass(frozen=True)
class Assembly:
    """A junction with what was measured while it was put together.

    Attributes
    ----------
    junction : Junction
    mismatch : tuple of float
        Largest difference of the device's outer layers from the left and right lead before they were replaced,
        eV/Angstrom^2.
    asymmetry : float
        Largest phi_ij - phi_ji^T of the device before symmetrisation, eV/Angstrom^2.
    sum_rule_correction : float
        Largest change of a device self term by the sum rule of the stitched system, eV/Angstrom^2.
    """

    junction: Junction
    mismatch: tuple[float, float]
    asymmetry: float
    sum_rule_correction: float


def assemble(
    left: PairForceConstants,
    right: PairForceConstants,
    supercell_pairs: PairForceConstants,
    window: Window,
    cutoff: float,
) -> Assembly:
    """Stitch leads and device.

    Parameters
    ----------
    left, right : PairForceConstants
        Principal layers: symmetric, with the sum rule.
    supercell_pairs : PairForceConstants
        Force constants of the junction supercell, with rows for all atoms of the window.
    window : Window
    cutoff : float
        Pairs beyond this distance are left out, Angstrom.

    Returns
    -------
    Assembly
        The mismatch is reported, not judged.

    Raises
    ------
    JunctionError
        If the supercell is so short that atoms of the device couple through its other interface.
    """
    raw = symmetric = _device_pairs(supercell_pairs, window, cutoff)
    asymmetry = raw.asymmetry()
    symmetric = symmetrised(raw)
    n_l, n_r, n_d = left.n_atoms, right.n_atoms, symmetric.n_atoms
    if n_d < 2 * (n_l + n_r):
        raise JunctionError(
            f"the device ({n_d} atoms) must hold at least two principal layers of either lead (2 x {n_l} + 2 x {n_r} atoms), so "
            "that its outer layers can be compared with the leads: use a longer junction supercell"
        )
    mismatch = Junction(left, right, symmetric).block_mismatch()
    table = symmetric.pairs()
    last = n_d - n_r
    kept = {
        key: phi for key, phi in table.items() if not (key[0] < n_l or key[1] < n_l or key[0] >= last or key[1] >= last)
    }
    for lead, start, forward in ((left, 0, 1), (right, last, -1)):
        step = lead.n_atoms * forward
        for (i, j, a, b, c), phi in lead.pairs().items():
            if c == 0:
                kept[(start + i, start + j, a, b, 0)] = phi
            elif c == forward:  # coupling of the outermost layer to the next, and back
                kept[(start + i, start + step + j, a, b, 0)] = phi
                kept[(start + step + j, start + i, -a, -b, 0)] = phi.T
    stitched = from_table(symmetric, kept)
    outside = np.zeros((n_d, 3, 3))
    down, up = left.R[:, 2] == -1, right.R[:, 2] == 1
    np.add.at(outside, left.i[down], left.phi[down])
    np.add.at(outside, last + right.i[up], right.phi[up])
    device, correction = with_sum_rule(stitched, outside)
    return Assembly(Junction(left, right, device), mismatch, asymmetry, correction)


def _device_pairs(pairs: PairForceConstants, window: Window, cutoff: float) -> PairForceConstants:
    """The supercell's pairs inside the window, relabelled to device atoms and unwrapped cells."""
    index = np.full(pairs.n_atoms, -1, dtype=np.intp)
    index[window.atoms] = np.arange(len(window.atoms))
    shift = np.zeros((pairs.n_atoms, 3), dtype=np.intp)
    shift[window.atoms] = window.shifts
    keep = (index[pairs.i] >= 0) & (index[pairs.j] >= 0) & (np.linalg.norm(pairs.vectors, axis=1) <= cutoff)
    i, j = pairs.i[keep], pairs.j[keep]
    # the vector is unchanged: r_j + R = (r_j + s_j) + (R - s_j), seen from r_i + s_i
    R = pairs.R[keep] - shift[j] + shift[i]
    if np.any(R[:, 2] != 0):
        raise JunctionError(
            f"atoms of the device couple through the other interface of the supercell within {cutoff:.3g} A: use a longer junction"
        )
    missing = np.setdiff1d(np.arange(len(window.atoms)), np.unique(index[i]))
    if missing.size:
        raise JunctionError(
            f"force constants of {missing.size} device atoms are missing: rows are needed for the whole window"
        )
    return PairForceConstants(
        pairs.cell, window.positions, pairs.masses[window.atoms], index[i], index[j], R, pairs.phi[keep]
    )
