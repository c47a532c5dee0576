"""In-plane wave-vector meshes, reduced by the symmetry of the junction and by time reversal."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.junctions.junction import Junction

_POSITION_TOLERANCE = 1e-3
_CHUNK = 16
SYMMETRY_TOLERANCE = 1e-6
"""Force constants count as symmetric if they agree to this fraction of the strongest one."""


def in_plane_operations(junction: Junction, tolerance: float = SYMMETRY_TOLERANCE) -> list[NDArray[np.intp]]:
    """In-plane rotations and reflections that leave both leads and the device unchanged.

    Every candidate is tested on the force constants themselves: atoms are mapped (a common in-plane translation is allowed)
    and every pair must have the rotated force constants of its image.

    Parameters
    ----------
    junction : Junction
    tolerance : float
        Relative to the strongest force constant.

    Returns
    -------
    list of numpy.ndarray, shape (2, 2)
        Integer matrices W: the operation takes lattice coordinates n to ``n W``, and wave vectors q to ``q W^-T``.
    """
    lattice = junction.left.cell[:2, :2]
    metric = lattice @ lattice.T
    found = []
    for entries in itertools.product((-1, 0, 1), repeat=4):
        W = np.array(entries).reshape(2, 2)
        if abs(round(np.linalg.det(W))) != 1 or np.abs(W @ metric @ W.T - metric).max() > 1e-6 * np.abs(metric).max():
            continue
        if _is_symmetry(junction, W, tolerance):
            found.append(W)
    return found


def _is_symmetry(junction: Junction, W: NDArray[np.intp], tolerance: float) -> bool:
    lattice = junction.left.cell[:2, :2]
    rotation = np.eye(3)
    rotation[:2, :2] = (np.linalg.inv(lattice) @ W @ lattice).T  # column vectors: r' = rotation r
    device, n_l, n_r = junction.device, junction.left.n_atoms, junction.right.n_atoms
    fractional = device.positions[:, :2] @ np.linalg.inv(lattice)
    z = device.positions[:, 2]
    alike = (np.abs(device.masses[:, None] - device.masses) < 1e-6) & (np.abs(z[:, None] - z) < _POSITION_TOLERANCE)
    rare = int(alike.sum(axis=1).argmin())  # the fewest places to go to
    for target in np.flatnonzero(alike[rare]):
        shift = fractional[target] - fractional[rare] @ W
        mapped = _map_atoms(device, fractional, W, shift)
        if mapped is None:
            continue
        image, cells = mapped
        last = device.n_atoms - n_r
        if np.any(image[:n_l] >= n_l) or np.any(image[last:] < last):
            continue
        if (
            _constants_agree(device, W, rotation, image, cells, np.zeros(2), tolerance)
            and _lead_agrees(junction.left, W, rotation, image[:n_l], cells[:n_l], tolerance)
            and _lead_agrees(junction.right, W, rotation, image[last:] - last, cells[last:], tolerance)
        ):
            return True
    return False


def _map_atoms(
    device: PairForceConstants, fractional: NDArray[np.float64], W: NDArray[np.intp], shift: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Image of every atom and the in-plane cell it lands in, or None."""
    n = device.n_atoms
    image, cells = np.empty(n, dtype=np.intp), np.empty((n, 2), dtype=np.intp)
    for start in range(0, n, _CHUNK):  # most candidates fail on the first atoms
        here = slice(start, start + _CHUNK)
        difference = (fractional[here] @ W + shift)[:, None] - fractional[None]
        whole = np.rint(difference)
        fits = (
            (np.linalg.norm((difference - whole) @ device.cell[:2, :2], axis=2) < _POSITION_TOLERANCE)
            & (np.abs(device.positions[here, None, 2] - device.positions[None, :, 2]) < _POSITION_TOLERANCE)
            & (np.abs(device.masses[here, None] - device.masses[None]) < 1e-6)
        )
        if not np.all(fits.sum(axis=1) == 1):
            return None
        image[here] = fits.argmax(axis=1)
        cells[here] = whole[np.arange(len(whole)), image[here]]
    return (image, cells) if len(np.unique(image)) == n else None


def _lead_agrees(
    lead: PairForceConstants,
    W: NDArray[np.intp],
    rotation: NDArray[np.float64],
    image: NDArray[np.intp],
    cells: NDArray[np.intp],
    tolerance: float,
) -> bool:
    # an oblique layer translation must be turned into itself plus an in-plane lattice vector
    lattice = lead.cell[:2, :2]
    advance = lead.cell[2, :2] @ np.linalg.inv(lattice)
    change = advance @ W - advance
    if np.abs((change - np.rint(change)) @ lattice).max() > _POSITION_TOLERANCE:
        return False
    return _constants_agree(lead, W, rotation, image, cells, np.rint(change), tolerance)


def _constants_agree(
    part: PairForceConstants,
    W: NDArray[np.intp],
    rotation: NDArray[np.float64],
    image: NDArray[np.intp],
    cells: NDArray[np.intp],
    layer_change: NDArray[np.float64],
    tolerance: float,
) -> bool:
    merged = part.merged
    change = layer_change.astype(np.intp)
    R = merged.R[:, :2] @ W + cells[merged.j] - cells[merged.i] + merged.R[:, 2:] * change
    wanted = np.column_stack([image[merged.i], image[merged.j], R, merged.R[:, 2]])
    have = np.column_stack([merged.i, merged.j, merged.R])
    # one whole number for each, in the order of the sorted list
    low = np.minimum(have.min(axis=0), wanted.min(axis=0))
    sizes = np.maximum(have.max(axis=0), wanted.max(axis=0)) - low + 1
    keys, asked = (np.ravel_multi_index((rows - low).T, sizes) for rows in (have, wanted))
    at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    partner = np.where((keys[at] == asked)[:, None, None], merged.phi[at], 0.0)
    turned = rotation @ merged.phi @ rotation.T
    return float(np.abs(turned - partner).max()) <= tolerance * part.strongest


def half_shifted_mesh(
    q_mesh: tuple[int, int], operations: list[NDArray[np.intp]] | None = None, levels: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half-shifted mesh of in-plane wave vectors, reduced by symmetry and time reversal.

    Points are ``(k + 1/2)/N - 1/2``. Operations that do not map the mesh onto itself are not used.

    Parameters
    ----------
    q_mesh : tuple of int
        Numbers of points along b1 and b2.
    operations : list of numpy.ndarray, optional
        From :func:`in_plane_operations`; time reversal (-q) is always added.
    levels : int
        How often the inner half of the mesh, around q = 0, is replaced by one of half the spacing. At low temperature
        only wave vectors near zero carry heat.

    Returns
    -------
    q_points : numpy.ndarray, shape (nq, 2)
        Fractions of b1, b2.
    q_weights : numpy.ndarray, shape (nq,)
        Sum to 1.

    Raises
    ------
    TransportError
        If the mesh is empty or not two whole numbers.
    """
    mesh = np.asarray(q_mesh)
    if mesh.shape != (2,) or not np.array_equal(mesh, np.rint(mesh)) or np.any(mesh < 1):
        raise TransportError(f"q_mesh must be two positive whole numbers, for instance (20, 20); got {q_mesh!r}")
    n = mesh.astype(int)
    operations = [*(operations or []), -np.eye(2, dtype=int)]
    width = np.ones(2)
    points, weights = [], []
    for level in range(levels + 1):
        inner = _inner_half(n) if level < levels else np.zeros(2, dtype=int)
        # odd numbers keep the arithmetic exact: q = width odd / (2 n)
        odd = np.stack(np.meshgrid(*(2 * np.arange(k) + 1 - k for k in n), indexing="ij"), -1).reshape(-1, 2)
        odd = odd[np.any(np.abs(odd) >= inner, axis=1)]
        representatives, counts = _reduced(odd, n, width, operations, periodic=level == 0)
        points.append(width * odd[representatives] / (2.0 * n))
        weights.append(counts * np.prod(width / n))
        width = width * inner / n
        n = 2 * inner
    return np.concatenate(points), np.concatenate(weights)


def _inner_half(n: NDArray[np.intp]) -> NDArray[np.intp]:
    """About half of n, with its parity: so many cells around zero fit the mesh. One or two are refined as a whole."""
    half = (n + 1) // 2
    return half + (n - half) % 2


def _reduced(
    odd: NDArray[np.intp],
    n: NDArray[np.intp],
    width: NDArray[np.float64],
    operations: list[NDArray[np.intp]],
    periodic: bool,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Representatives of the points ``width odd / 2 n`` under the operations that map them onto each other, orbit sizes."""
    index = np.full(2 * n, -1)
    index[tuple((odd % (2 * n)).T)] = np.arange(len(odd))
    label = np.arange(len(odd))
    common = np.lcm(*n)
    scale = common // n
    for W in operations:
        turn = np.rint(np.linalg.inv(W).T).astype(int)
        if width[0] != width[1] and (turn[0, 1] or turn[1, 0]):
            continue
        moved = (odd * scale) @ turn
        if np.any(moved % scale):
            continue
        moved = moved // scale
        if not periodic and np.any(np.abs(moved) >= n):
            continue
        image = index[tuple((moved % (2 * n)).T)]
        if np.any(image < 0):
            continue
        while True:  # merge orbits until every point has its orbit's largest label (all-positive q where possible)
            merged = np.maximum(label, label[image])
            np.maximum.at(merged, image, label)
            merged = merged[merged]
            if np.array_equal(merged, label):
                break
            label = merged
    return np.unique(label, return_counts=True)
