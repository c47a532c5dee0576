"""In-plane supercells of leads taken apart: a lead of n1 x n2 equal cells is a direct sum of small leads at folded wave vectors.

A translation t that maps the lead onto itself commutes with its blocks. Bloch waves of the small cell, at the wave vectors
``q + G`` that differ on these translations, split both blocks exactly; each part is a Bloch problem of its own, and ports and
states of the whole are theirs, side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thermal_flows.lattice.pair_constants import PairForceConstants

_POSITION_TOLERANCE = 1e-3
_TOLERANCE = 1e-9
"""Blocks count as split if what couples the parts is below this fraction of the largest element."""


@dataclass(frozen=True, eq=False)
class Folding:
    """The translations of a smaller in-plane cell inside a lead's.

    Attributes
    ----------
    representatives : numpy.ndarray of int, shape (m,)
        Atoms of one small cell.
    images : numpy.ndarray of int, shape (N, m)
        Atom that each translation takes them to.
    cells : numpy.ndarray of int, shape (N, m, 2)
        In-plane cells that the images are counted in.
    translations : numpy.ndarray, shape (N, 2)
        In cell vectors.
    orders : numpy.ndarray of int, shape (N, 2)
        Reciprocal vectors G (whole numbers of b1, b2) that the translations tell apart.
    """

    representatives: NDArray[np.intp]
    images: NDArray[np.intp]
    cells: NDArray[np.intp]
    translations: NDArray[np.float64]
    orders: NDArray[np.intp]

    @classmethod
    def find(cls, lead: PairForceConstants) -> Folding | None:
        """The finest folding of a lead; None if its cell is not a supercell."""
        found = _translations(lead)
        n = len(found)
        if n < 2:
            return None
        translations = np.array([t for t, _, _ in found])
        images = np.array([image for _, image, _ in found])
        cells = np.array([cell for _, _, cell in found])
        representatives = np.flatnonzero(images.min(axis=0) == np.arange(lead.n_atoms))
        if len(representatives) * n != lead.n_atoms:
            return None
        orders: list[tuple[int, int]] = []
        characters: list[NDArray] = []
        for g1 in range(n):
            for g2 in range(n):
                character = np.exp(2j * np.pi * translations @ [g1, g2])
                if all(abs(np.vdot(other, character)) < 0.5 for other in characters):
                    orders.append((g1, g2))
                    characters.append(character)
        if len(orders) != n:
            return None
        return cls(
            representatives, images[:, representatives], cells[:, representatives], translations, np.array(orders)
        )

    def bases(self, q: NDArray[np.float64]) -> list[NDArray[np.complex128]]:
        """Orthonormal bases of the parts at the in-plane wave vector ``q``, each of shape (3 n, 3 m)."""
        n, m = self.images.shape
        rows, columns = 3 * self.images[:, :, None] + np.arange(3), 3 * np.arange(m)[None, :, None] + np.arange(3)
        bases = []
        for order in self.orders:
            phases = np.exp(2j * np.pi * ((self.translations @ (q + order))[:, None] - self.cells @ q)) / np.sqrt(n)
            basis = np.zeros((3 * n * m, 3 * m), dtype=complex)
            basis[rows, columns] = phases[:, :, None]
            bases.append(basis)
        return bases

    def splits(self, blocks: tuple[NDArray, ...], bases: list[NDArray]) -> bool:
        """Whether the blocks couple no part to another."""
        for block in blocks:
            limit = _TOLERANCE * float(np.abs(block).max())
            for basis in bases:
                moved = block @ basis
                if float(np.abs(moved - basis @ (basis.conj().T @ moved)).max()) > limit:
                    return False
        return True


def _translations(lead: PairForceConstants) -> list[tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]]:
    """In-plane translations that map every atom onto one of its kind, the images, and the in-plane cells they land in."""
    lattice = lead.cell[:2, :2]
    fractional, z = lead.positions[:, :2] @ np.linalg.inv(lattice), lead.positions[:, 2]
    alike = np.abs(lead.masses[:, None] - lead.masses) < 1e-6 * lead.masses
    alike &= np.abs(z[:, None] - z) < _POSITION_TOLERANCE
    kinds = alike.sum(axis=1)
    rare = int(kinds.argmin())
    found = []
    for target in np.flatnonzero(alike[rare]):
        t = fractional[target] - fractional[rare]
        t -= np.rint(t)
        difference = (fractional + t)[:, None] - fractional
        cells = np.rint(difference)
        fits = alike & (np.linalg.norm((difference - cells) @ lattice, axis=2) < _POSITION_TOLERANCE)
        if np.all(fits.sum(axis=1) == 1):
            image = fits.argmax(axis=1)
            found.append((t, image, cells[np.arange(len(image)), image].astype(np.intp)))
    # measured positions are not exact fractions; the group's are, and phases need them
    n = len(found)
    exact = [(np.rint(t * n) / n, image, cell) for t, image, cell in found]
    if any(
        np.abs((t - e) @ lattice).max() > _POSITION_TOLERANCE for (t, _, _), (e, _, _) in zip(found, exact, strict=True)
    ):
        return []
    return exact
