"""Matching of two in-plane lattices by one common cell, and the strain that it costs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

LENGTH_TIE = 1e-6
"""Relative difference below which two squared lengths count as equal."""

LARGEST_INDEX = 3
"""Largest integer in the changes of basis that are tried; both bases are Gauss-reduced beforehand."""

STRAIN_TIE = 1e-4
"""Matches whose strains differ by less than this are ties, decided by the smaller rotation."""


@dataclass(frozen=True, eq=False)
class InPlaneStrain:
    """Homogeneous in-plane deformation of one side: rotation about z, then pure stretch.

    Attributes
    ----------
    rotation_deg : float
        Rotation of the unstrained side about +z in degrees, counter-clockwise.
    stretch : numpy.ndarray
        Symmetric (2, 2) left stretch tensor V in the Cartesian frame of the common cell: a vector r
        of the rotated unstrained side becomes V r.
    """

    rotation_deg: float
    stretch: Float

    @property
    def engineering(self) -> Float:
        """Engineering (Biot) strain V - I, (2, 2)."""
        return self.stretch - np.eye(2)

    @property
    def green_lagrange(self) -> Float:
        """Green-Lagrange strain (V^2 - I) / 2 of the rotated unstrained side, (2, 2)."""
        return 0.5 * (self.stretch @ self.stretch - np.eye(2))

    @property
    def principal(self) -> Float:
        """Principal engineering strains (2,), ascending; positive is tensile."""
        return np.asarray(np.linalg.eigvalsh(self.stretch) - 1.0, dtype=np.float64)

    @property
    def largest(self) -> float:
        """Largest magnitude of the principal strains."""
        return float(np.abs(self.principal).max())

    def as_dict(self) -> dict[str, object]:
        """Plain numbers of the deformation, for documents."""
        return {
            "rotation_deg": self.rotation_deg,
            "engineering": self.engineering.tolist(),
            "green_lagrange": self.green_lagrange.tolist(),
            "principal": self.principal.tolist(),
        }


def deformation(unstrained: Float, strained: Float) -> InPlaneStrain:
    """Polar decomposition of the map from one 2D basis to another.

    Parameters
    ----------
    unstrained, strained : numpy.ndarray
        (2, 2) rows a1, a2 in Angstrom, both right-handed.

    Returns
    -------
    InPlaneStrain
    """
    gradient = strained.T @ np.linalg.inv(unstrained.T)
    left, stretches, right = np.linalg.svd(gradient)
    rotation = left @ right
    angle = float(np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0])))
    return InPlaneStrain(angle if abs(angle) > 1e-9 else 0.0, (left * stretches) @ left.T)


def basis_from_metric(metric: Float) -> Float:
    """Rows a1 (along +x) and a2 (positive y) of a 2D metric tensor in Angstrom^2."""
    a1 = np.sqrt(metric[0, 0])
    x = metric[0, 1] / a1
    return np.array([[a1, 0.0], [x, np.sqrt(metric[1, 1] - x**2)]])


def match_bases(substrate: Float, film: Float) -> tuple[NDArray[np.intp], InPlaneStrain]:
    """Change of the film basis that fits the substrate basis with the least strain.

    Parameters
    ----------
    substrate, film : numpy.ndarray
        (2, 2) Gauss-reduced, right-handed rows a1, a2 in Angstrom.

    Returns
    -------
    matrix : numpy.ndarray
        Integer (2, 2) matrix of determinant +1: the rows of ``matrix @ film`` are to coincide with
        those of ``substrate``.
    strain : InPlaneStrain
        Deformation that takes ``matrix @ film`` to ``substrate``.

    Notes
    -----
    Every unimodular matrix of determinant +1 (the film is rotated about its normal, never
    reflected) with entries up to ``LARGEST_INDEX`` is tried. The measure is the root of the summed
    squares of the logarithmic principal strains, the same whichever side is strained. Ties within
    ``STRAIN_TIE`` go to the smallest rotation, so that equal lattices keep their alignment, then
    to the counter-clockwise one.
    """
    entries = range(-LARGEST_INDEX, LARGEST_INDEX + 1)
    found = []
    for a, b, c, d in product(entries, repeat=4):
        if a * d - b * c != 1:
            continue
        matrix = np.array([[a, b], [c, d]])
        metric = substrate.T @ np.linalg.inv((matrix @ film).T)
        measure = float(np.linalg.norm(np.log(np.linalg.svd(metric, compute_uv=False))))
        found.append((measure, matrix))
    least = min(measure for measure, _ in found)
    ties = [(deformation(m @ film, substrate), m) for measure, m in found if measure <= least + STRAIN_TIE]
    strain, matrix = min(ties, key=lambda t: (round(abs(t[0].rotation_deg), 6), t[0].rotation_deg < 0))
    return matrix, strain


def gauss_reduced(basis: Float) -> NDArray[np.intp]:
    """Change to a reduced, right-handed basis of a 2D lattice.

    Parameters
    ----------
    basis : numpy.ndarray
        (2, 2) right-handed rows in Angstrom.

    Returns
    -------
    numpy.ndarray
        Integer (2, 2) matrix of determinant +1. The rows of ``matrix @ basis`` are a shortest vector and the shortest one that
        completes the basis, at 90 to 120 degrees where there is a choice; of several such bases the one whose first vector is
        nearest to +x, counter-clockwise of two.
    """
    matrix = np.eye(2, dtype=np.intp)
    while True:
        a, b = matrix @ basis
        step = round(float(a @ b / (a @ a)))
        if step and abs(a @ b) > (0.5 + LENGTH_TIE) * (a @ a):
            matrix = np.array([matrix[0], matrix[1] - step * matrix[0]])
        elif b @ b < (a @ a) * (1 - LENGTH_TIE):
            matrix = np.array([matrix[1], -matrix[0]])
        else:
            break
    best: tuple[tuple[float, ...], NDArray[np.intp]] | None = None
    reduced = matrix @ basis
    lengths = (reduced**2).sum(axis=1)
    for entries in product((-1, 0, 1), repeat=4):
        change = np.array(entries).reshape(2, 2)
        if entries[0] * entries[3] - entries[1] * entries[2] != 1:
            continue
        a, b = change @ reduced
        if a @ a > lengths[0] * (1 + LENGTH_TIE) or b @ b > lengths[1] * (1 + LENGTH_TIE):
            continue
        angle = float(np.degrees(np.arctan2(a[1], a[0])))
        acute = float(a @ b > LENGTH_TIE * lengths[0])
        key = (acute, round(abs(angle), 6), float(angle < 0))
        if best is None or key < best[0]:
            best = key, change @ matrix
    if best is None:
        raise ValueError(f"no basis of the lattice {np.asarray(basis).tolist()} is reduced")
    return best[1]
