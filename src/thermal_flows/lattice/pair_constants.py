"""Harmonic force constants as a list of atom pairs, with the geometry they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.sparse import csr_array

from thermal_flows.structures.integers import sublattice_points


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

    @cached_property
    def merged(self) -> PairForceConstants:
        """The same force constants with one entry a pair (duplicates summed), sorted by (i, j, R1, R2, R3)."""
        keys, _ = self._keys()
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order[0]] - 1))
        phi = self.phi[order] if len(starts) == len(order) else np.add.reduceat(self.phi[order], starts, axis=0)
        first = order[starts]
        merged = PairForceConstants(
            self.cell, self.positions, self.masses, self.i[first], self.j[first], self.R[first], phi
        )
        merged.__dict__["merged"] = merged  # merging twice changes nothing
        return merged

    def _keys(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """One whole number for every entry's (i, j, R), in their order, and that of its transpose (j, i, -R)."""
        reach = np.abs(self.R).max(axis=0).astype(np.int64)
        sizes = 2 * reach + 1
        n = self.n_atoms
        if float(n) ** 2 * float(np.prod(sizes.astype(float))) > 2**62:
            raise ForceConstantsError(f"cell translations up to {reach.tolist()} are too large for {n} atoms")
        forward, backward = self.i.astype(np.int64) * n + self.j, self.j.astype(np.int64) * n + self.i
        for axis in range(3):
            forward = forward * sizes[axis] + (self.R[:, axis] + reach[axis])
            backward = backward * sizes[axis] + (reach[axis] - self.R[:, axis])
        return forward, backward

    def transposed_phi(self) -> NDArray[np.float64]:
        """For every entry of a merged list phi_ji(-R)^T, zero where there is none; shape (m, 3, 3), eV/Angstrom^2.

        Raises
        ------
        ForceConstantsError
            If the list is not merged.
        """
        if self.merged is not self:
            raise ForceConstantsError("transposed pairs are looked up in a merged list: use .merged first")
        keys, wanted = self._keys()
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        found = keys[at] == wanted
        return np.where(found[:, None, None], self.phi[at].transpose(0, 2, 1), 0.0)

    @property
    def is_self(self) -> NDArray[np.bool_]:
        """Entries of an atom with itself in the same cell, shape (m,)."""
        return np.asarray((self.i == self.j) & ~self.R.any(axis=1))

    def pairs(self) -> dict[tuple[int, int, int, int, int], NDArray[np.float64]]:
        """Force constants by (i, j, R1, R2, R3), duplicates summed."""
        merged = self.merged
        keys = np.column_stack([merged.i, merged.j, merged.R]).tolist()
        return {tuple(key): phi for key, phi in zip(keys, merged.phi, strict=True)}

    def asymmetry(self) -> float:
        """Largest violation of phi_ij(R) = phi_ji(-R)^T, eV/Angstrom^2."""
        merged = self.merged
        return float(np.abs(merged.phi - merged.transposed_phi()).max())

    def in_plane_supercell(self, matrix: ArrayLike) -> PairForceConstants:
        """The same crystal with a larger in-plane cell.

        Parameters
        ----------
        matrix : array_like of int, shape (2, 2)
            Rows: the new a1 and a2 in terms of the present ones; positive determinant.

        Returns
        -------
        PairForceConstants
            Copies of the cell one after the other, that at (0, 0) first, each with its atoms in the present order. Nothing is
            rounded: a translation by a present a1 or a2 maps force constants onto exactly equal ones.

        Raises
        ------
        ForceConstantsError
            If the matrix does not hold integers or its determinant is not positive.
        """
        raw = np.asarray(matrix, dtype=float)
        if raw.shape != (2, 2) or not np.array_equal(raw, np.rint(raw)) or np.linalg.det(raw) < 0.5:
            raise ForceConstantsError(
                f"an in-plane supercell is a (2, 2) matrix of integers with positive determinant, not {raw.tolist()}"
            )
        rows = np.rint(raw).astype(np.intp)
        points = sublattice_points(rows.tolist())
        k, n, m = len(points), self.n_atoms, len(self.i)
        adjugate = np.array([[rows[1, 1], -rows[0, 1]], [-rows[1, 0], rows[0, 0]]])
        reached = points[:, None] + self.R[None, :, :2]  # (k, m, 2)
        cells = (reached @ adjugate) // k
        remainder = reached - cells @ rows
        low = points.min(axis=0)
        index = np.full(np.ptp(points, axis=0) + 1, -1, dtype=np.intp)
        index[tuple((points - low).T)] = np.arange(k)
        copy = index[tuple((remainder - low).transpose(2, 0, 1))]
        R = np.empty((k, m, 3), dtype=np.intp)
        R[:, :, :2], R[:, :, 2] = cells, self.R[:, 2]
        cell = self.cell.copy()
        cell[:2] = rows @ self.cell[:2]
        return PairForceConstants(
            cell,
            (self.positions[None] + (points @ self.cell[:2])[:, None]).reshape(-1, 3),
            np.tile(self.masses, k),
            (np.arange(k)[:, None] * n + self.i).ravel(),
            (copy * n + self.j).ravel(),
            R.reshape(-1, 3),
            np.tile(self.phi, (k, 1, 1)),
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

    def zone_extrema(self, mesh: tuple[int, int, int] | None = None) -> tuple[float, float, NDArray[np.float64]]:
        """Extreme squared frequencies over the full Brillouin zone.

        The mesh contains the zone centre and the zone-boundary points; the maximum is refined from the best mesh points
        by a simplex search, because it need not lie at a symmetric point.

        Parameters
        ----------
        mesh : tuple of int, optional
            Points along the three reciprocal vectors; even numbers hold the zone-boundary points. By default 8 each, and 4 or 2
            for cells of more than 32 or 128 atoms, whose zones are small.

        Returns
        -------
        lowest, highest : float
            Squared frequencies in eV/(Angstrom^2 amu).
        q_lowest : numpy.ndarray, shape (3,)
            Fractions of the reciprocal vectors where the lowest one was found.
        """
        if mesh is None:
            points = 8 if self.n_atoms <= 32 else 4 if self.n_atoms <= 128 else 2
            mesh = (points, points, points)
        axes = [np.arange(n) / n for n in mesh]
        q = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        q = q[(q[:, 0] <= 0.5 + 1e-12)]  # time reversal: -q has the same frequencies
        bands = np.linalg.eigvalsh(self.dynamical_matrices(q))
        # wide cells have folded their zone onto so few points that the best one is near the top
        best = np.argsort(bands[:, -1])[::-1][: 3 if self.n_atoms <= 32 else 1]
        last = 3 * self.n_atoms - 1

        def negative_top(x: NDArray[np.float64]) -> float:
            matrix = self.dynamical_matrices(x[None])[0]
            if self.n_atoms <= 32:
                return -float(np.linalg.eigvalsh(matrix)[-1])
            return -float(eigh(matrix, eigvals_only=True, subset_by_index=[last, last])[0])

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
