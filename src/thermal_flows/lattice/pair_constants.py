"""Harmonic force constants as a list of atom pairs, with the geometry they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array


class ForceConstantsError(ValueError):
    """Force constants that no harmonic crystal can have, or that do not fit their geometry."""


@dataclass(frozen=True, eq=False)
class PairForceConstants:
    """Second-order force constants of a periodic set of atoms.

    ``phi[k]`` couples atom ``i[k]`` of cell 0 with atom ``j[k]`` of the cell displaced by the integer
    combination ``R[k]`` of the cell vectors: phi = d2E / du_i du_j. Self terms are included.

    Parameters
    ----------
    cell : numpy.ndarray, shape (3, 3)
        Cell vectors as rows, Angstrom.
    positions : numpy.ndarray, shape (n, 3)
        Equilibrium positions, Angstrom; not necessarily inside the cell.
    masses : numpy.ndarray, shape (n,)
        Masses, amu.
    i, j : numpy.ndarray, shape (m,)
        Atom indices.
    R : numpy.ndarray, shape (m, 3)
        Integer cell translations.
    phi : numpy.ndarray, shape (m, 3, 3)
        Force constants, eV/Angstrom^2.

    Raises
    ------
    ForceConstantsError
        If shapes disagree, an index is out of range, a mass is not positive or a number not finite.
    """

    cell: NDArray[np.float64]
    positions: NDArray[np.float64]
    masses: NDArray[np.float64]
    i: NDArray[np.intp]
    j: NDArray[np.intp]
    R: NDArray[np.intp]
    phi: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name, dtype in (("cell", float), ("positions", float), ("masses", float), ("phi", float)):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=dtype))
        for name in ("i", "j", "R"):
            raw = np.asarray(getattr(self, name))
            whole = np.rint(raw).astype(np.intp)
            if raw.size and not np.array_equal(whole, raw):
                raise ForceConstantsError(f"{name} must hold integers")
            object.__setattr__(self, name, whole)
        n, m = len(self.masses), len(self.i)
        expected = {"cell": (3, 3), "positions": (n, 3), "masses": (n,), "j": (m,), "R": (m, 3), "phi": (m, 3, 3)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ForceConstantsError(f"{name} has shape {getattr(self, name).shape}, expected {shape}")
        for name in ("cell", "positions", "masses", "phi"):
            if not np.all(np.isfinite(getattr(self, name))):
                raise ForceConstantsError(f"{name} holds a number that is not finite")
        if n == 0 or m == 0:
            raise ForceConstantsError("no atoms or no force constants")
        if min(self.i.min(), self.j.min()) < 0 or max(self.i.max(), self.j.max()) >= n:
            raise ForceConstantsError(f"an atom index lies outside 0 .. {n - 1}")
        if np.any(self.masses <= 0):
            raise ForceConstantsError("masses must be positive, in amu")

    @property
    def n_atoms(self) -> int:
        """Number of atoms of one cell."""
        return len(self.masses)

    @cached_property
    def vectors(self) -> NDArray[np.float64]:
        """Vectors from atom i to atom j, shape (m, 3), Angstrom."""
        return self.positions[self.j] + self.R @ self.cell - self.positions[self.i]

    @property
    def strongest(self) -> float:
        """Largest absolute force constant, eV/Angstrom^2."""
        return float(np.abs(self.phi).max())

    def pairs(self) -> dict[tuple[int, int, int, int, int], NDArray[np.float64]]:
        """Force constants by (i, j, R1, R2, R3), duplicates summed."""
        table: dict[tuple[int, int, int, int, int], NDArray[np.float64]] = {}
        for i, j, R, phi in zip(self.i, self.j, self.R, self.phi, strict=True):
            key = (int(i), int(j), int(R[0]), int(R[1]), int(R[2]))
            table[key] = table[key] + phi if key in table else phi
        return table

    def asymmetry(self) -> float:
        """Largest violation of phi_ij(R) = phi_ji(-R)^T, eV/Angstrom^2."""
        table = self.pairs()
        zero = np.zeros((3, 3))
        return max(
            float(np.abs(phi - table.get((j, i, -a, -b, -c), zero).T).max()) for (i, j, a, b, c), phi in table.items()
        )

    def sum_rule_error(self) -> float:
        """Largest violation of the acoustic sum rule, |sum_j phi_ij|, eV/Angstrom^2."""
        total = np.zeros((self.n_atoms, 3, 3))
        np.add.at(total, self.i, self.phi)
        return float(np.abs(total).max())

    def dynamical_matrices(self, q_frac: ArrayLike, *, only_R3: int | None = None) -> NDArray[np.complex128]:
        """Mass-weighted dynamical matrices with phases exp(+2 pi i q.R) of cell translations.

        Parameters
        ----------
        q_frac : array_like, shape (nq, 3)
            Wave vectors as fractions of the reciprocal vectors.
        only_R3 : int, optional
            Keep only couplings to that cell along the third vector (a block of a layered system).

        Returns
        -------
        numpy.ndarray, shape (nq, 3 n, 3 n)
            In eV/(Angstrom^2 amu).
        """
        q = np.atleast_2d(np.asarray(q_frac, dtype=float))
        cells, elements = self._elements(only_R3)
        angles = 2 * np.pi * (cells @ q.T)
        # cosine and sine parts of one real product: the elements are real
        parts = elements @ np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        matrices = parts[:, : len(q)] + 1j * parts[:, len(q) :]
        return np.ascontiguousarray(matrices.T).reshape(len(q), 3 * self.n_atoms, 3 * self.n_atoms)

    def _elements(self, only_R3: int | None) -> tuple[NDArray[np.intp], csr_array]:
        """Cell translations (nR, 3), and the mass-weighted elements of the matrix of each as columns, (9 n^2, nR)."""
        cache = self._element_cache
        if only_R3 not in cache:
            keep = slice(None) if only_R3 is None else self.R[:, 2] == only_R3
            i, j, phi = self.i[keep], self.j[keep], self.phi[keep]
            cells, column = np.unique(self.R[keep], axis=0, return_inverse=True)
            weighted = phi / np.sqrt(self.masses[i] * self.masses[j])[:, None, None]
            xyz = np.arange(3)
            n = 3 * self.n_atoms
            row = (3 * i[:, None, None] + xyz[:, None]) * n + 3 * j[:, None, None] + xyz
            columns = np.broadcast_to(column.reshape(-1, 1, 1), row.shape)
            elements = csr_array((weighted.ravel(), (row.ravel(), columns.ravel())), shape=(n * n, len(cells)))
            cache[only_R3] = cells, elements
        return cache[only_R3]

    @cached_property
    def _element_cache(self) -> dict[int | None, tuple[NDArray[np.intp], csr_array]]:
        return {}

    def zone_extrema(self, mesh: tuple[int, int, int] = (8, 8, 8)) -> tuple[float, float, NDArray[np.float64]]:
        """Extreme squared frequencies over the full Brillouin zone.

        The mesh contains the zone centre and the zone-boundary points; the maximum is refined from the best mesh points
        by a simplex search, because it need not lie at a symmetric point.

        Parameters
        ----------
        mesh : tuple of int
            Points along the three reciprocal vectors; even numbers hold the zone-boundary points.

        Returns
        -------
        lowest, highest : float
            Squared frequencies in eV/(Angstrom^2 amu).
        q_lowest : numpy.ndarray, shape (3,)
            Fractions of the reciprocal vectors where the lowest one was found.
        """
        axes = [np.arange(n) / n for n in mesh]
        q = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        q = q[(q[:, 0] <= 0.5 + 1e-12)]  # time reversal: -q has the same frequencies
        bands = np.linalg.eigvalsh(self.dynamical_matrices(q))
        best = np.argsort(bands[:, -1])[::-1][:3]

        def negative_top(x: NDArray[np.float64]) -> float:
            return -float(np.linalg.eigvalsh(self.dynamical_matrices(x[None]))[0, -1])

        highest = float(bands[:, -1].max())
        for start in q[best]:
            simplex = start + np.vstack([np.zeros(3), np.eye(3) / (2 * max(mesh))])
            found = minimize(
                negative_top,
                start,
                method="Nelder-Mead",
                options={"initial_simplex": simplex, "xatol": 1e-9, "fatol": 1e-13 * highest, "maxiter": 400},
            )
            highest = max(highest, -float(found.fun))
        lowest = int(np.argmin(bands[:, 0]))
        return float(bands[lowest, 0]), highest, q[lowest]
