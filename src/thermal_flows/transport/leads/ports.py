"""Green's functions of isolated blocks, seen through the ports by which they couple to others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

RANK_TOLERANCE = 1e-12
"""Singular values of H01 below this fraction of the largest are not coupling."""

_STORED_PRODUCTS = 2**18
_POLE_DISTANCE = 1e-4
_SHIFTS = (0.0, 1.0, -0.6180339887)


@dataclass(frozen=True, eq=False)
class PortResolvent:
    """Green's function of an isolated block, seen through its ports.

    With ``H' = H + alpha P P^+`` (P: the columns of the ports) and ``g = P^+ (w2 - H')^-1 P``, a block driven by
    ``P s`` answers ``y = P^+ u`` with ``(1 + alpha g) y = g s``, for any real alpha. Where w2 meets an eigenvalue of H
    the pair (g, alpha) of another alpha is used: exact on the pole itself. Each alpha is diagonalised when first used.

    Attributes
    ----------
    block : numpy.ndarray, shape (n, n)
    ports : numpy.ndarray, shape (n, p)
    """

    block: NDArray
    ports: NDArray
    _spectra: dict[int, _Spectrum] = field(default_factory=dict, init=False, repr=False)

    def _spectrum(self, k: int) -> _Spectrum:
        if k not in self._spectra:
            alpha = _SHIFTS[k]
            shifted = self.block if alpha == 0 else self.block + alpha * (self.ports @ self.ports.conj().T)
            energies, vectors = np.linalg.eigh(shifted)
            weights = vectors.conj().T @ self.ports
            products = None
            if weights.size * weights.shape[1] <= _STORED_PRODUCTS:
                products = weights[:, :, None].conj() * weights[:, None, :]
            self._spectra[k] = _Spectrum(energies, weights, products, (np.abs(weights) ** 2).sum(axis=1))
        return self._spectra[k]

    @property
    def sparse_block(self) -> scipy.sparse.csr_array:
        """The block without its zeros."""
        return scipy.sparse.csr_array(self.block)

    @property
    def scale(self) -> float:
        """Squared frequency that distances from poles are measured in."""
        energies = self._spectrum(0).energies
        return float(max(abs(energies[0]), abs(energies[-1])))

    def _choice(self, w2: NDArray[np.float64]) -> NDArray[np.intp]:
        """Index of the shift used at each squared frequency: the first that is far from its poles, else the farthest.

        Near means that round-off grows by more than 1 / _POLE_DISTANCE. A state without weight on the ports is never near.
        """

        def growth(k: int, at: NDArray[np.float64]) -> NDArray[np.float64]:
            spectrum = self._spectrum(k)
            distance = np.maximum(np.abs(at[:, None] - spectrum.energies), 1e-17 * self.scale)
            return (self.scale / distance * np.minimum(1.0, spectrum.sizes / distance)).max(axis=1)

        limit = 1.0 / _POLE_DISTANCE
        choice = np.zeros(len(w2), dtype=np.intp)
        apart = np.abs(w2[:, None] - self._spectrum(0).energies).min(axis=1)
        near = np.flatnonzero(apart <= self.scale / limit)
        if len(near):
            growths = np.stack([growth(k, w2[near]) for k in range(len(_SHIFTS))])
            far = growths < limit
            choice[near] = np.where(far.any(axis=0), far.argmax(axis=0), growths.argmin(axis=0))
        return choice

    def _by_shift(
        self, w2: NDArray[np.float64]
    ) -> Iterator[tuple[NDArray[np.intp], int, _Spectrum, NDArray[np.float64]]]:
        """The frequencies that share a shift: where they are, the shift's index, its spectrum and 1 / (w2 - energies)."""
        choice = self._choice(w2)
        for k in range(len(_SHIFTS)):
            at = np.flatnonzero(choice == k)
            if len(at):
                spectrum = self._spectrum(k)
                yield at, k, spectrum, _safe_inverse(w2[at, None] - spectrum.energies, self.scale)

    def evaluate(self, w2: NDArray[np.float64]) -> tuple[NDArray, NDArray[np.float64]]:
        """Green's functions on the ports and the shifts they belong to.

        Returns
        -------
        g : numpy.ndarray, shape (nw, p, p)
        alpha : numpy.ndarray, shape (nw,)
        """
        p = self.ports.shape[1]
        g = np.empty((len(w2), p, p), dtype=np.result_type(self.block, self.ports))
        alpha = np.empty(len(w2))
        for at, k, spectrum, inverse in self._by_shift(w2):
            if spectrum.products is None:
                for one, row in zip(at, inverse, strict=True):
                    g[one] = spectrum.weights.conj().T @ (row[:, None] * spectrum.weights)
            else:
                products = spectrum.products.reshape(-1, p * p)
                g[at] = (inverse @ products.view(float)).view(products.dtype).reshape(-1, p, p)
            alpha[at] = _SHIFTS[k]
        return g, alpha

    def displacements(self, w2: NDArray[np.float64], drive: NDArray, answer: NDArray) -> NDArray:
        """Displacements inside the block, in the basis of its eigenvectors, shape (nw, n, k).

        Parameters
        ----------
        w2 : numpy.ndarray, shape (nw,)
        drive, answer : numpy.ndarray, shape (nw, p, k)
            What acts on the ports, and the ports' answers ``P^+ u``.
        """
        inside = np.empty((len(w2), len(self.block), drive.shape[2]), dtype=np.result_type(self.block, drive, answer))
        for at, k, spectrum, inverse in self._by_shift(w2):
            inside[at] = inverse[:, :, None] * (spectrum.weights @ (drive[at] - _SHIFTS[k] * answer[at]))
        return inside

    def norms(self, w2: NDArray[np.float64], drive: NDArray, answer: NDArray) -> NDArray[np.float64]:
        """Norms |u| of the displacements inside the block, shape (nw, k); arguments as :meth:`displacements`."""
        inside = self.displacements(w2, drive, answer)
        return np.sqrt((inside.real**2 + inside.imag**2).sum(axis=1))


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """Eigenvalues (n,) of a block, its eigenvectors' weights on the ports (n, p) and sizes (n,).

    Products (n, p, p) of the weights are kept where they are few.
    """

    energies: NDArray[np.float64]
    weights: NDArray
    products: NDArray | None
    sizes: NDArray[np.float64]


def _safe_inverse(difference: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    # states without weight on any port stay on their pole whatever the shift; they carry nothing, so that any finite value
    # serves (a state with weight is never this close, see _choice)
    tiny = 1e-13 * scale
    return np.where(np.abs(difference) < tiny, 0.0, 1.0 / np.where(np.abs(difference) < tiny, 1.0, difference))


def factored(coupling: NDArray) -> tuple[NDArray, NDArray]:
    """Ports A (m, r), B (n, r) of a coupling (m, n) = A B^+ of rank r."""
    U, s, Vh = np.linalg.svd(coupling, full_matrices=False)
    r = int(np.count_nonzero(s > RANK_TOLERANCE * s[0])) if s[0] > 0 else 0
    return U[:, :r] * np.sqrt(s[:r]), Vh[:r].conj().T * np.sqrt(s[:r])
