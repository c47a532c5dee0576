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
from thermal_flows.lattice.supercell import symmetrised, with_sum_rule
from thermal_flows.transport.errors import JunctionError
from thermal_flows.transport.junctions.junction import Junction, outer_mismatch

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


def check_orientation(name: str, cell: NDArray[np.float64]) -> None:
    """Refuse a cell that is not written for transport along z.

    Parameters
    ----------
    name : str
        Of the cell, for the message.
    cell : numpy.ndarray, shape (3, 3)
        Rows, Angstrom.

    Raises
    ------
    JunctionError
        If a1 and a2 do not lie in the xy plane, or a3 does not point upwards.
    """
    cell = np.asarray(cell, dtype=float)
    scale = float(np.linalg.norm(cell[:2], axis=1).max())
    tilt = float(np.abs(cell[:2, 2]).max())
    if tilt > 1e-6 * scale:
        upward = [i + 1 for i in range(3) if abs(cell[i, 2]) > 1e-6 * scale]
        now = f"(a{upward[0]} now?) " if len(upward) == 1 else ""
        raise JunctionError(
            f"a1 and a2 of the {name} cell must lie in the xy plane, the plane of the interface, because heat flows along z; "
            f"they have z components up to {tilt:.3g} A: {np.round(cell, 3).tolist()}. Write the cell with the stacking "
            f"direction {now}as a3 and turn it so that a1 x a2 points along +z; a3 itself may be oblique"
        )
    if cell[2, 2] <= 0 or np.linalg.det(cell) <= 0:
        raise JunctionError(
            f"a3 of the {name} cell must point upwards (positive z) and a1, a2, a3 be right-handed; the cell is "
            f"{np.round(cell, 3).tolist()}. Exchange a1 and a2, or turn the cell by 180 degrees about x (with its positions)"
        )


SITE_TOLERANCE = 0.3
"""How far an atom of a device's outer layers may sit from its lattice site, Angstrom."""


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
    site_tolerance: float = SITE_TOLERANCE,
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
    check_orientation("junction", np.array(junction.cell))
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
    compared, neglected = _within_lead_ranges(symmetric, left, right, lead_cutoffs or (cutoff, cutoff))
    mismatch = outer_mismatch(left, right, compared)
    last = n_d - n_r
    outer = (np.arange(n_d) < n_l) | (np.arange(n_d) >= last)
    inner = ~(outer[symmetric.i] | outer[symmetric.j]) & (np.linalg.norm(symmetric.vectors, axis=1) <= cutoff)
    blocks = [(symmetric.i[inner], symmetric.j[inner], symmetric.R[inner], symmetric.phi[inner])]
    for lead, start, forward in ((left, 0, 1), (right, last, -1)):
        step = lead.n_atoms * forward
        own, onward = lead.R[:, 2] == 0, lead.R[:, 2] == forward
        in_plane = lead.R * [1, 1, 0]
        blocks.append((start + lead.i[own], start + lead.j[own], in_plane[own], lead.phi[own]))
        # coupling of the outermost layer to the next, and back
        first, second = start + lead.i[onward], start + step + lead.j[onward]
        blocks.append((first, second, in_plane[onward], lead.phi[onward]))
        blocks.append((second, first, -in_plane[onward], lead.phi[onward].transpose(0, 2, 1)))
    stitched = PairForceConstants(
        symmetric.cell,
        symmetric.positions,
        symmetric.masses,
        *(np.concatenate(parts) for parts in zip(*blocks, strict=True)),
    )
    outside = np.zeros((n_d, 3, 3))
    down, up = left.R[:, 2] == -1, right.R[:, 2] == 1
    np.add.at(outside, left.i[down], left.phi[down])
    np.add.at(outside, last + right.i[up], right.phi[up])
    device, correction = with_sum_rule(stitched, outside, outer)
    return Assembly(Junction(left, right, device), mismatch, asymmetry, correction, neglected)


def probe_mismatch(
    left: PairForceConstants,
    right: PairForceConstants,
    supercell_pairs: PairForceConstants,
    window: Window,
    cutoff: float,
    lead_cutoffs: tuple[float, float],
) -> tuple[float, float]:
    """How far the outer layers of a device are from the leads, from their own rows alone, eV/Angstrom^2.

    Parameters are those of :func:`assemble`, but rows are needed only for the window's first and last principal layer.
    """
    n_l, n_r, n_d = left.n_atoms, right.n_atoms, len(window.atoms)
    outer = np.concatenate([np.arange(n_l), np.arange(n_d - n_r, n_d)])
    raw = _device_pairs(supercell_pairs, window, cutoff, outer)
    compared, _ = _within_lead_ranges(raw, left, right, lead_cutoffs)
    return outer_mismatch(left, right, compared)


def _within_lead_ranges(
    device: PairForceConstants,
    left: PairForceConstants,
    right: PairForceConstants,
    cutoffs: tuple[float, float],
) -> tuple[PairForceConstants, float]:
    """The device without what the rows of its outer layers have beyond the range of their lead, and the largest such constant.

    A pair is within the range if the lead has it, however the relaxation of the device has moved it across the cutoff.
    """
    length = np.linalg.norm(device.vectors, axis=1)
    n_l, n_r, n_d = left.n_atoms, right.n_atoms, device.n_atoms
    reach = max(int(np.abs(part.R[:, :2]).max(initial=0)) for part in (device, left, right))

    def code(i: NDArray[np.intp], j: NDArray[np.intp], R: NDArray[np.intp]) -> NDArray[np.int64]:
        key = i.astype(np.int64) * n_d + j
        return (key * (2 * reach + 1) + R[:, 0] + reach) * (2 * reach + 1) + R[:, 1] + reach

    own = code(device.i, device.j, device.R)
    beyond = np.zeros(len(length), dtype=bool)
    for lead, start, forward, limit in ((left, 0, 1, cutoffs[0]), (right, n_d - n_r, -1, cutoffs[1])):
        in_range = np.linalg.norm(lead.vectors, axis=1) <= limit
        listed = []
        for R3 in (0, forward):
            at = in_range & (lead.R[:, 2] == R3)
            listed.append(code(start + lead.i[at], start + R3 * lead.n_atoms + lead.j[at], lead.R[at]))
        mine = (device.i < n_l) if start == 0 else (device.i >= start)
        beyond |= mine & (length > limit - SITE_TOLERANCE) & ~np.isin(own, np.concatenate(listed))
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


def check_interface(junction: Junction, mesh: tuple[int, int] | None = None) -> None:
    """Refuse an interface that is not at a minimum of the energy.

    With the leads held fixed the device's dynamical matrix is a principal part of that of the whole system, whose lowest
    eigenvalue cannot lie above it: a negative eigenvalue is an instability of the relaxed interface (or of its force
    constants), and not an effect of the cut.

    Parameters
    ----------
    junction : Junction
    mesh : tuple of int, optional
        Wave vectors along b1 and b2, the zone centre among them; by default 4 where the in-plane vector is shorter
        than 7 Angstrom, else 2, so that the zone boundary is there too.

    Raises
    ------
    JunctionError
        With the frequency and its wave vector.
    """
    if mesh is None:
        n1, n2 = (4 if length < 7.0 else 2 for length in np.linalg.norm(junction.device.cell[:2], axis=1))
        mesh = n1, n2
    axes = [np.arange(n) / n for n in mesh]
    q = np.stack(np.meshgrid(*axes, [0.0], indexing="ij"), axis=-1).reshape(-1, 3)
    # time reversal: -q has the same frequencies
    _, first = np.unique(
        [min((tuple(x), tuple(y))) for x, y in zip(q % 1, -q % 1, strict=True)], axis=0, return_index=True
    )
    worst: tuple[float, NDArray[np.float64]] | None = None
    in_cell = False
    for point in q[np.sort(first)]:
        matrix = junction.device.dynamical_matrices(point[None])[0]
        slack = 1e-6 * float(matrix.diagonal().real.max())  # no more than the largest eigenvalue allows
        # ten times cheaper than eigenvalues, and enough where all is well
        if _is_positive(matrix + slack * np.eye(len(matrix))):
            continue
        bands = np.linalg.eigvalsh(matrix)
        if bands[0] < -1e-6 * bands[-1]:
            in_cell |= not point.any()
            if worst is None or bands[0] < worst[0]:
                worst = float(bands[0]), point
    if worst is not None:
        lowest, at = worst
        raise JunctionError(
            f"the interface is not at a minimum of the energy: frequency {units.w2_to_thz(lowest):.4g} THz (negative: "
            f"imaginary) at q = ({at[0]:.4g}, {at[1]:.4g}) with the leads held fixed. "
            + (
                "It is a saddle point, where forces vanish: relax from a start_displacement (0.05 A, say), or try another "
                "shift, gap or termination"
                if in_cell
                else "Waves that the in-plane cell does not hold lower the energy: relax again in a larger one (supercell) "
                "from a start_displacement, or try another shift, gap or termination"
            )
        )


def _is_positive(matrix: NDArray[np.complex128]) -> bool:
    """Whether a Hermitian matrix is positive definite."""
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def _device_pairs(
    pairs: PairForceConstants, window: Window, cutoff: float, rows: NDArray[np.intp] | None = None
) -> PairForceConstants:
    """The supercell's pairs inside the window, relabelled to device atoms and unwrapped cells.

    Pairs up to :data:`SITE_TOLERANCE` beyond the cutoff are there too, because atoms of the outer layers are that far from their
    lattice sites at most. Rows are needed for all atoms of the window, or for those of its atoms that ``rows`` lists.
    """
    index = np.full(pairs.n_atoms, -1, dtype=np.intp)
    index[window.atoms] = np.arange(len(window.atoms))
    shift = np.zeros((pairs.n_atoms, 3), dtype=np.intp)
    shift[window.atoms] = window.shifts
    length = np.linalg.norm(pairs.vectors, axis=1)
    keep = (index[pairs.i] >= 0) & (index[pairs.j] >= 0) & (length <= cutoff + SITE_TOLERANCE)
    i, j, length = pairs.i[keep], pairs.j[keep], length[keep]
    # the vector is unchanged: r_j + R = (r_j + s_j) + (R - s_j), seen from r_i + s_i
    R, phi = pairs.R[keep] - shift[j] + shift[i], pairs.phi[keep]
    through = R[:, 2] != 0
    if np.any(through & (length <= cutoff)):
        raise JunctionError(
            f"atoms of the device couple through the other interface of the supercell within {cutoff:.3g} A: use a longer "
            "junction"
        )
    i, j, R, phi = i[~through], j[~through], R[~through], phi[~through]
    missing = np.setdiff1d(np.arange(len(window.atoms)) if rows is None else rows, np.unique(index[i]))
    if missing.size:
        raise JunctionError(
            f"force constants of {missing.size} device atoms are missing: rows are needed for the whole window"
        )
    return PairForceConstants(pairs.cell, window.positions, pairs.masses[window.atoms], index[i], index[j], R, phi)
