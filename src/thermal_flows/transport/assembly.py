"""From the force constants of two bulk crystals and of a junction supercell to a :class:`Junction`.

The leads come from the bulk calculations. The device is cut out of the periodic junction supercell (which holds two
interfaces) around one interface; its outermost principal layers, and their coupling to the next, are replaced by the
leads' own after the difference has been measured. The sum rule is then imposed on the stitched system.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from thermal_flows import units
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

    Notes
    -----
    Atoms are moved along the third vector, where necessary, so that a unit lies between two planes: the layer is then all there
    is between two heights.
    """
    unit = _as_slab(unit)
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


def _as_slab(unit: PairForceConstants) -> PairForceConstants:
    """The same crystal with all atoms of a cell within one period of the height, cut at the largest gap between planes."""
    height = unit.cell[2, 2]
    z = unit.positions[:, 2]
    if height <= 0:
        raise JunctionError("the third cell vector of a stacking unit must point along +z")
    if np.ptp(z) < height - 1e-3:
        return unit
    level = np.mod(z, height)
    order = np.sort(level)
    gaps = np.diff(np.append(order, order[0] + height))
    top = int(gaps.argmax())
    cut = order[top] + 0.5 * gaps[top]
    jumps = -np.floor((z - cut) / height).astype(np.intp)
    R = unit.R.copy()
    R[:, 2] += jumps[unit.i] - jumps[unit.j]
    return PairForceConstants(
        unit.cell, unit.positions + jumps[:, None] * unit.cell[2], unit.masses, unit.i, unit.j, R, unit.phi
    )


@dataclass(frozen=True)
class Window:
    """The part of a junction supercell that becomes the device.

    Attributes
    ----------
    atoms : numpy.ndarray of int, shape (n,)
        Supercell atoms in device order: two principal layers of the left lead, the rest by height, two layers of the right lead,
        all layers in the order of the lead's atoms.
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
    farther than ``cutoff`` from the other interface and, with the next layer towards the interface, on the lead's lattice. Atoms
    may come in any order and be translated by a1 and a2.

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
    heights, masses = junction.get_positions()[:, 2], junction.get_masses()
    top = float(junction.cell[2, 2])
    bottom_atom, top_atom = heights.min(), heights.max()
    if not bottom_atom < interface_z < top_atom or top_atom - bottom_atom > top:
        raise JunctionError(
            f"the interface at z = {interface_z:.3f} A must lie between the junction's atoms (z from {bottom_atom:.3f} to "
            f"{top_atom:.3f} A), and those within one cell height ({top:.3f} A)"
        )
    z_from = bottom_atom + max(cutoff, 0.5 * (interface_z - bottom_atom) - left.cell[2, 2])
    z_to = top_atom - max(cutoff, 0.5 * (top_atom - interface_z) - right.cell[2, 2])
    lower = _outer_layers(junction, left, heights < interface_z, (z_from, interface_z), site_tolerance, "left", masses)
    upper = _outer_layers(junction, right, heights > interface_z, (interface_z, z_to), site_tolerance, "right", masses)
    between = np.flatnonzero((heights > heights[lower[0]].min() - 1e-3) & (heights < heights[upper[0]].max() + 1e-3))
    inner = np.setdiff1d(between, np.concatenate([lower[0], upper[0]]))
    if len(inner) and (
        heights[inner].min() < heights[lower[0][: left.n_atoms]].max() - site_tolerance
        or heights[inner].max() > heights[upper[0][-right.n_atoms :]].min() + site_tolerance
    ):
        raise JunctionError(
            "atoms that do not belong to it lie inside an outer principal layer: check that all atoms of the junction are "
            "on one of the two lattices there"
        )
    inner = inner[np.lexsort((inner, np.round(heights[inner], 3)))]
    positions = junction.get_positions()
    return Window(
        np.concatenate([lower[0], inner, upper[0]]),
        np.concatenate([lower[1], positions[inner], upper[1]]),
        np.concatenate([lower[2], np.zeros((len(inner), 3), dtype=np.intp), upper[2]]),
    )


def _outer_layers(
    junction: Atoms,
    layer: PairForceConstants,
    mine: NDArray[np.bool_],
    limits: tuple[float, float],
    tolerance: float,
    side: str,
    masses: NDArray[np.float64],
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp]]:
    """Atoms, unwrapped positions and shifts of the two outermost principal layers between two heights, upwards.

    Each layer is in the order of ``layer``.
    """
    positions = junction.get_positions()
    cell = np.array(junction.cell)
    inverse = np.linalg.inv(cell[:2, :2])
    usable = np.flatnonzero(mine & (positions[:, 2] > limits[0] - 1e-3) & (positions[:, 2] < limits[1] + 1e-3))
    # anchors from the outside in: the outermost atom that is the layer's first (left) or last (right) plane
    outward = usable[np.argsort(positions[usable, 2] * (1 if side == "left" else -1), kind="stable")]
    edge = layer.positions[:, 2].argmin() if side == "left" else layer.positions[:, 2].argmax()
    next_layer = layer.positions + layer.cell[2] * (1 if side == "left" else -1)
    sites = np.vstack([layer.positions, next_layer] if side == "left" else [next_layer, layer.positions])
    differing = np.abs(masses[usable] - np.tile(layer.masses, 2)[:, None]) > 1e-6 * layer.masses.max()
    best: tuple[float, NDArray[np.intp], NDArray[np.intp]] | None = None
    first = 0.0
    for anchor in outward:
        if best is not None and abs(positions[anchor, 2] - first) > tolerance:
            break
        apart = positions[usable] - (sites - layer.positions[edge] + positions[anchor])[:, None]
        jumps = np.rint(apart[:, :, :2] @ inverse)
        apart[:, :, :2] -= jumps @ cell[:2, :2]
        distance = np.linalg.norm(apart, axis=2) + 1e3 * differing
        nearest = distance.argmin(axis=1)
        worst = float(distance.min(axis=1).max())
        if worst > tolerance or len(np.unique(nearest)) != len(nearest):
            continue
        if best is None:
            first = float(positions[anchor, 2])
        if best is None or worst < best[0] - 1e-6:
            best = worst, usable[nearest], -jumps[np.arange(len(nearest)), nearest].astype(np.intp)
    if best is None:
        if np.any(masses != layer.masses[0]):
            blind = np.full(len(junction), layer.masses[0])
            alike = replace(layer, masses=np.full(layer.n_atoms, layer.masses[0]))
            atoms, _, _ = _outer_layers(junction, alike, mine, limits, tolerance, side, blind)
            found, wanted = np.unique(masses[atoms]).tolist(), np.unique(layer.masses).tolist()
            if found != wanted:
                raise JunctionError(
                    f"the junction's atoms on sites of the {side} lead have masses {found} amu, the lead's {wanted} amu: give "
                    "all calculations the same masses"
                )
        raise JunctionError(
            f"no two whole principal layers of the {side} lead (thickness {layer.cell[2, 2]:.3g} A each) lie between z = "
            f"{limits[0]:.3g} and {limits[1]:.3g} A of the junction within {tolerance:g} A of their lattice sites: use a longer "
            f"junction, or check that the {side} bulk crystal has the junction's orientation and in-plane cell"
        )
    _, atoms, in_plane = best
    shifts = np.zeros((len(atoms), 3), dtype=np.intp)
    shifts[:, :2] = in_plane
    return atoms, positions[atoms] + shifts @ cell, shifts


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
        Largest change of a force constant of the device by the sum rule of the stitched system, eV/Angstrom^2.
    neglected : float
        Largest force constant of an outer layer beyond the range of its lead, eV/Angstrom^2.
    """

    junction: Junction
    mismatch: tuple[float, float]
    asymmetry: float
    sum_rule_correction: float
    neglected: float = 0.0


def assemble(
    left: PairForceConstants,
    right: PairForceConstants,
    supercell_pairs: PairForceConstants,
    window: Window,
    cutoff: float,
    lead_cutoffs: tuple[float, float] | None = None,
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
    lead_cutoffs : tuple of float, optional
        Distances at which the force constants of the leads were truncated, Angstrom. What an outer layer of the device has
        beyond them is neglected and not a mismatch; ``cutoff`` by default.

    Returns
    -------
    Assembly
        The mismatch is reported, not judged.

    Raises
    ------
    JunctionError
        If the supercell is so short that atoms of the device couple through its other interface.
    """
    raw = _device_pairs(supercell_pairs, window, cutoff)
    asymmetry = raw.asymmetry()
    symmetric = symmetrised(raw)
    n_l, n_r, n_d = left.n_atoms, right.n_atoms, symmetric.n_atoms
    if n_d < 2 * (n_l + n_r):
        raise JunctionError(
            f"the device ({n_d} atoms) must hold at least two principal layers of either lead (2 x {n_l} + 2 x {n_r} atoms), so "
            "that its outer layers can be compared with the leads: use a longer junction supercell"
        )
    compared, neglected = _within_lead_ranges(symmetric, n_l, n_r, lead_cutoffs or (cutoff, cutoff))
    mismatch = Junction(left, right, compared).block_mismatch()
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
    outer = (np.arange(n_d) < n_l) | (np.arange(n_d) >= last)
    device, correction = with_sum_rule(stitched, outside, outer)
    return Assembly(Junction(left, right, device), mismatch, asymmetry, correction, neglected)


def _within_lead_ranges(
    device: PairForceConstants, n_left: int, n_right: int, cutoffs: tuple[float, float]
) -> tuple[PairForceConstants, float]:
    """The device without what its outer layers have beyond the range of their lead, and the largest such force constant."""
    length = np.linalg.norm(device.vectors, axis=1)
    last = device.n_atoms - n_right
    in_left = (device.i < n_left) | (device.j < n_left)
    in_right = (device.i >= last) | (device.j >= last)
    beyond = (in_left & (length > cutoffs[0])) | (in_right & (length > cutoffs[1]))
    kept = PairForceConstants(
        device.cell,
        device.positions,
        device.masses,
        device.i[~beyond],
        device.j[~beyond],
        device.R[~beyond],
        device.phi[~beyond],
    )
    return kept, float(np.abs(device.phi[beyond]).max(initial=0.0))


def check_interface(junction: Junction, mesh: tuple[int, int] = (4, 4)) -> None:
    """Refuse an interface that is not at a minimum of the energy.

    With the leads held fixed the device's dynamical matrix is a principal part of that of the whole system, whose lowest
    eigenvalue cannot lie above it: a negative eigenvalue is an instability of the relaxed interface (or of its force
    constants), and not an effect of the cut.

    Raises
    ------
    JunctionError
        With the frequency and its wave vector.
    """
    axes = [np.arange(n) / n for n in mesh]
    q = np.stack(np.meshgrid(*axes, [0.0], indexing="ij"), axis=-1).reshape(-1, 3)
    bands = np.linalg.eigvalsh(junction.device.dynamical_matrices(q[q[:, 0] <= 0.5]))
    at = int(bands[:, 0].argmin())
    if bands[at, 0] < -1e-6 * bands.max():
        raise JunctionError(
            f"the interface is not at a minimum of the energy: frequency {units.w2_to_thz(bands[at, 0]):.4g} THz (negative: "
            f"imaginary) at q = ({q[at, 0]:.4g}, {q[at, 1]:.4g}) with the leads held fixed. Try another shift, gap or "
            "termination, or displace atoms and relax again in a larger in-plane cell"
        )


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
            f"atoms of the device couple through the other interface of the supercell within {cutoff:.3g} A: use a longer "
            "junction"
        )
    missing = np.setdiff1d(np.arange(len(window.atoms)), np.unique(index[i]))
    if missing.size:
        raise JunctionError(
            f"force constants of {missing.size} device atoms are missing: rows are needed for the whole window"
        )
    return PairForceConstants(
        pairs.cell, window.positions, pairs.masses[window.atoms], index[i], index[j], R, pairs.phi[keep]
    )
