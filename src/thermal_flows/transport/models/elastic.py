"""Long waves of a crystal: density, Christoffel coefficients, elastic constants and isotropic averages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thermal_flows import units
from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.transport.errors import TransportError

SUM_RULE_TOLERANCE = 1e-5
"""Largest violation of the acoustic sum rule, relative to the strongest force constant, at which long waves are defined."""

HUANG_TOLERANCE = 0.1
"""Largest relative violation of Huang's conditions at which a crystal is described by elastic constants."""

_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True, eq=False)
class LongWaves:
    """A crystal in the limit of long waves: ``density omega^2 u = christoffel_ab k_a k_b u``.

    Attributes
    ----------
    density : float
        kg/m3.
    christoffel : numpy.ndarray, shape (3, 3, 3, 3)
        ``christoffel[a, b]`` is a symmetric matrix between polarisations, symmetric in a and b; GPa. It contains the
        relaxation of the atoms inside the cell, and the stress where the crystal is strained.
    relaxation : numpy.ndarray, shape (3, n, 3, 3)
        ``relaxation[b, i]`` is the extra displacement of atom i, Angstrom, per unit derivative of the displacement along b.
    """

    density: float
    christoffel: NDArray[np.float64]
    relaxation: NDArray[np.float64]

    @classmethod
    def from_force_constants(cls, crystal: PairForceConstants) -> LongWaves:
        """Second-order perturbation of the three uniform translations in the wave vector.

        Parameters
        ----------
        crystal : PairForceConstants
            Periodic in three directions, for instance a lead.

        Raises
        ------
        TransportError
            If the acoustic sum rule is violated, or if there are other modes of zero frequency at q = 0 or directions
            without restoring force: such a crystal has no sound velocities.

        Notes
        -----
        M. Born and K. Huang, Dynamical Theory of Crystal Lattices (1954), section 26.
        """
        n, mass = crystal.n_atoms, crystal.masses
        if crystal.sum_rule_error() > SUM_RULE_TOLERANCE * crystal.strongest:
            raise TransportError(
                f"the acoustic sum rule is violated by {crystal.sum_rule_error():.3g} eV/A^2: the crystal is tied to its sites "
                "and has no long waves. Enforce the sum rule on the force constants"
            )
        weighted = crystal.phi / np.sqrt(mass[crystal.i] * mass[crystal.j])[:, None, None]

        def matrix(factor: NDArray[np.float64]) -> NDArray[np.float64]:
            blocks = np.zeros((n, n, 3, 3))
            np.add.at(blocks, (crystal.i, crystal.j), weighted * factor[:, None, None])
            return blocks.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)

        x = crystal.vectors
        D0 = matrix(np.ones(len(x)))
        D1 = np.stack([matrix(x[:, b]) for b in range(3)])  # D(k) = D0 + i k_b D1_b - k_a k_b D2_ab / 2
        uniform = np.kron(np.sqrt(mass / mass.sum())[:, None], np.eye(3))
        inside = np.eye(3 * n) - uniform @ uniform.T
        energies, vectors = np.linalg.eigh(inside @ (0.5 * (D0 + D0.T)) @ inside)
        top = np.abs(energies).max(initial=0.0)
        internal = np.sort(np.argsort(np.abs(energies))[3:])  # all but the three uniform translations
        if n > 1 and np.min(energies[internal]) <= 1e-8 * top:
            raise TransportError(
                "the crystal has modes of zero or imaginary frequency at q = 0 besides the three uniform translations: parts of "
                "it are not held, and it has no sound velocities"
            )
        inverse = (vectors[:, internal] / energies[internal]) @ vectors[:, internal].T
        forces = D1 @ uniform
        stiffness = np.empty((3, 3, 3, 3))
        for a in range(3):
            for b in range(3):
                direct = -0.5 * np.einsum("k,kij->ij", x[:, a] * x[:, b], crystal.phi) / mass.sum()
                stiffness[a, b] = direct - forces[a].T @ inverse @ forces[b]
        stiffness = 0.5 * (stiffness + stiffness.swapaxes(0, 1))
        stiffness = 0.5 * (stiffness + stiffness.swapaxes(2, 3))
        relaxation = -(inverse @ D1 @ np.kron(np.sqrt(mass)[:, None], np.eye(3)))
        relaxation = relaxation.reshape(3, n, 3, 3) / np.sqrt(mass)[:, None, None]
        per_volume = mass.sum() / abs(np.linalg.det(crystal.cell))
        result = cls(
            float(per_volume * units.ATOMIC_MASS * 1e30), stiffness * per_volume * units.GPA_PER_EV_A3, relaxation
        )
        directions = _directions()
        speeds = np.linalg.eigvalsh(np.einsum("abij,na,nb->nij", result.christoffel, directions, directions))
        if speeds.min() <= 1e-6 * speeds.max():
            raise TransportError(
                "some long waves have no restoring force: the crystal is not rigid in three dimensions (a chain, loose layers) "
                "or unstable"
            )
        return result

    @property
    def huang_error(self) -> float:
        """Violation of Huang's conditions, [ij,ab] = [ab,ij], relative to the largest coefficient.

        Zero for a crystal without stress whose force constants do not change under rotations.
        """
        swapped = self.christoffel.transpose(2, 3, 0, 1)
        return float(np.abs(self.christoffel - swapped).max() / np.abs(self.christoffel).max())

    def elastic_tensor(self) -> NDArray[np.float64]:
        """Elastic constants C[i, a, j, b], GPa, shape (3, 3, 3, 3).

        Raises
        ------
        TransportError
            If Huang's conditions are violated by more than :data:`HUANG_TOLERANCE`.

        Notes
        -----
        C_iajb = [ij,ab] + [ja,ib] - [jb,ia], Born and Huang (1954), eq. 27.21; the small violations of a strained crystal are
        averaged out.
        """
        if self.huang_error > HUANG_TOLERANCE:
            raise TransportError(
                f"no elastic constants: Huang's conditions are violated by {self.huang_error:.2g} of the largest coefficient, so "
                "that the crystal is under large stress or its force constants are not invariant under rotations"
            )
        bracket = 0.5 * (self.christoffel + self.christoffel.transpose(2, 3, 0, 1)).transpose(
            2, 3, 0, 1
        )  # [i, j, a, b]
        return bracket.transpose(0, 2, 1, 3) + np.einsum("jaib->iajb", bracket) - np.einsum("jbia->iajb", bracket)


def christoffel_of(elastic: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of :attr:`LongWaves.christoffel` from an elastic tensor C[i, a, j, b], same units."""
    half = elastic.transpose(1, 3, 0, 2)
    return 0.5 * (half + half.transpose(1, 0, 2, 3))


def full_tensor(elastic: NDArray[np.float64]) -> NDArray[np.float64]:
    """Elastic tensor of shape (3, 3, 3, 3) from a Voigt matrix (6, 6), or checked as it is.

    Raises
    ------
    TransportError
        If the shape is another, a number is not finite, or the tensor lacks the symmetries of elastic constants.
    """
    elastic = np.asarray(elastic, dtype=float)
    if elastic.shape == (6, 6):
        index = np.empty((3, 3), dtype=int)
        for k, (a, b) in enumerate(_VOIGT):
            index[a, b] = index[b, a] = k
        elastic = elastic[index[:, :, None, None], index[None, None]]
    if elastic.shape != (3, 3, 3, 3) or not np.all(np.isfinite(elastic)):
        raise TransportError("an elastic tensor has shape (6, 6), Voigt, or (3, 3, 3, 3), and finite numbers")
    largest = np.abs(elastic).max()
    for axes in ((1, 0, 2, 3), (0, 1, 3, 2), (2, 3, 0, 1)):
        if np.abs(elastic - elastic.transpose(axes)).max() > 1e-6 * largest:
            raise TransportError("elastic constants must satisfy C_ijkl = C_jikl = C_ijlk = C_klij")
    return elastic


def voigt_matrix(elastic: NDArray[np.float64]) -> NDArray[np.float64]:
    """Voigt matrix (6, 6) of an elastic tensor (3, 3, 3, 3), same units; order xx, yy, zz, yz, xz, xy."""
    first, second = np.array(_VOIGT).T
    return elastic[first[:, None], second[:, None], first[None], second[None]]


def hill_moduli(elastic: NDArray[np.float64]) -> tuple[float, float]:
    """Bulk and shear modulus of a polycrystal, Voigt-Reuss-Hill averages, in the unit of ``elastic``.

    Parameters
    ----------
    elastic : numpy.ndarray, shape (6, 6) or (3, 3, 3, 3)

    Raises
    ------
    TransportError
        If the elastic constants are not those of a stable crystal.

    Notes
    -----
    R. Hill, Proc. Phys. Soc. A 65, 349 (1952).
    """
    C = voigt_matrix(full_tensor(elastic))
    if np.linalg.eigvalsh(C)[0] <= 0:
        raise TransportError("the elastic constants are not positive definite: not a stable crystal")
    S = np.linalg.inv(C)

    def sums(X: NDArray) -> tuple[float, float, float]:
        return float(np.trace(X[:3, :3])), float(X[0, 1] + X[0, 2] + X[1, 2]), float(np.trace(X[3:, 3:]))

    (c, d, e), (s, t, u) = sums(C), sums(S)
    bulk_voigt, shear_voigt = (c + 2 * d) / 9, (c - d + 3 * e) / 15
    bulk_reuss, shear_reuss = 1 / (s + 2 * t), 15 / (4 * s - 4 * t + 3 * u)
    return 0.5 * (bulk_voigt + bulk_reuss), 0.5 * (shear_voigt + shear_reuss)


def _directions(n: int = 400) -> NDArray[np.float64]:
    """Unit vectors spread evenly over half a sphere (Fibonacci lattice), and the three axes."""
    k = np.arange(n) + 0.5
    z, phi = k / n, np.pi * (1 + 5**0.5) * k
    across = np.sqrt(1 - z**2)
    return np.vstack([np.column_stack([across * np.cos(phi), across * np.sin(phi), z]), np.eye(3)])
