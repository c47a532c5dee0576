"""In-plane wave-vector meshes, reduced by the symmetry of the junction and by time reversal."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.junction import Junction

_POSITION_TOLERANCE = 1e-3
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
    same_kind = (np.abs(device.masses - device.masses[0]) < 1e-6) & (
        np.abs(device.positions[:, 2] - device.positions[0, 2]) < _POSITION_TOLERANCE
    )
    for target in np.flatnonzero(same_kind):
        shift = fractional[target] - fractional[0] @ W
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
    moved = fractional @ W + shift
    difference = moved[:, None] - fractional[None]
    cells = np.rint(difference)
    apart = np.linalg.norm((difference - cells) @ device.cell[:2, :2], axis=2)
    fits = (
        (apart < _POSITION_TOLERANCE)
        & (np.abs(device.positions[:, None, 2] - device.positions[None, :, 2]) < _POSITION_TOLERANCE)
        & (np.abs(device.masses[:, None] - device.masses[None]) < 1e-6)
    )
    if not np.all(fits.sum(axis=1) == 1):
        return None
    image = fits.argmax(axis=1)
    if len(np.unique(image)) != len(image):
        return None
    return image, cells[np.arange(len(image)), image].astype(np.intp)


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
    table = part.pairs()
    zero = np.zeros((3, 3))
    limit = tolerance * part.strongest
    for (i, j, a, b, c), phi in table.items():
        R = np.array([a, b]) @ W + cells[j] - cells[i] + c * layer_change.astype(np.intp)
        partner = table.get((int(image[i]), int(image[j]), int(R[0]), int(R[1]), c), zero)
        if np.abs(rotation @ phi @ rotation.T - partner).max() > limit:
            return False
    return True


def half_shifted_mesh(
    q_mesh: tuple[int, int], operations: list[NDArray[np.intp]] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half-shifted mesh of in-plane wave vectors, reduced by symmetry and time reversal.

    Points are ``(k + 1/2)/N - 1/2``. Operations that do not map the mesh onto itself are not used.

    Parameters
    ----------
    q_mesh : tuple of int
        Numbers of points along b1 and b2.
    operations : list of numpy.ndarray, optional
        From :func:`in_plane_operations`; time reversal (-q) is always added.

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
    n1, n2 = (int(n) for n in mesh)
    # twice-shifted integers keep the arithmetic exact: q = odd / (2 N) - 1/2
    odd = np.stack(np.meshgrid(2 * np.arange(n1) + 1 - n1, 2 * np.arange(n2) + 1 - n2, indexing="ij"), -1).reshape(
        -1, 2
    )
    index = np.arange(n1 * n2)
    label = index.copy()
    common = np.lcm(n1, n2)
    scale = np.array([common // n1, common // n2])
    for W in [*(operations or []), -np.eye(2, dtype=int)]:
        turn = np.rint(np.linalg.inv(W).T).astype(int)
        moved = (odd * scale) @ turn
        if np.any(moved % scale):
            continue
        k = (moved // scale + np.array([n1, n2]) - 1) / 2
        if np.any(k != np.rint(k)):
            continue
        k = np.rint(k).astype(int) % np.array([n1, n2])
        image = k[:, 0] * n2 + k[:, 1]
        while True:  # merge orbits until every point has its orbit's largest label (all-positive q where possible)
            merged = np.maximum(label, label[image])
            np.maximum.at(merged, image, label)
            merged = merged[merged]
            if np.array_equal(merged, label):
                break
            label = merged
    representatives, counts = np.unique(label, return_counts=True)
    q = odd[representatives] / (2.0 * np.array([n1, n2]))
    return q, counts / (n1 * n2)
