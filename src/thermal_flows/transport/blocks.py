"""From force constants to the small matrices that the solvers work on, at one in-plane wave vector.

A lead is described by its principal-layer block H00 and its coupling H01 = A B^+, whose r columns are the *ports*
through which layers talk to each other (r is the rank of H01, often much smaller than the layer's 3 n degrees of freedom).
The device is described by its block H_D and the ports of either lead on its outer layers. One diagonalisation of each
block per wave vector then gives Green's functions on the ports at any number of frequencies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.transport.junction import Junction

RANK_TOLERANCE = 1e-12
"""Singular values of H01 below this fraction of the largest are not coupling."""

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
            products = weights[:, :, None].conj() * weights[:, None, :]
            self._spectra[k] = _Spectrum(energies, weights, products, np.trace(products, axis1=1, axis2=2).real)
        return self._spectra[k]

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
    """Eigenvalues (n,) of a block, its eigenvectors' weights on the ports (n, p), their products (n, p, p) and sizes (n,)."""

    energies: NDArray[np.float64]
    weights: NDArray
    products: NDArray
    sizes: NDArray[np.float64]


def _safe_inverse(difference: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    # states without weight on any port stay on their pole whatever the shift; they carry nothing, so that any finite value
    # serves (a state with weight is never this close, see _choice)
    tiny = 1e-13 * scale
    return np.where(np.abs(difference) < tiny, 0.0, 1.0 / np.where(np.abs(difference) < tiny, 1.0, difference))


@dataclass(frozen=True, eq=False)
class LeadBlocks:
    """One lead at one in-plane wave vector.

    Attributes
    ----------
    H00, H01 : numpy.ndarray, shape (n, n)
        Layer block and coupling to the next layer, eV/(Angstrom^2 amu).
    A, B : numpy.ndarray, shape (n, r)
        Ports: ``H01 = A B^+``.
    resolvent : PortResolvent
        Of H00 with the ports (A, B).
    """

    H00: NDArray
    H01: NDArray
    A: NDArray
    B: NDArray
    resolvent: PortResolvent
    _ranges: list[NDArray[np.float64]] = field(default_factory=list, init=False, repr=False)

    @property
    def rank(self) -> int:
        """Number of ports r."""
        return self.A.shape[1]

    @classmethod
    def build(cls, H00: NDArray, H01: NDArray) -> LeadBlocks:
        """Factor the coupling and diagonalise the layer."""
        U, s, Vh = np.linalg.svd(H01)
        r = int(np.count_nonzero(s > RANK_TOLERANCE * s[0])) if s[0] > 0 else 0
        A = U[:, :r] * np.sqrt(s[:r])
        B = Vh[:r].conj().T * np.sqrt(s[:r])
        return cls(H00, H01, A, B, PortResolvent(H00, np.hstack([A, B])))

    def band_ranges(self, n_samples: int = 32) -> NDArray[np.float64]:
        """Intervals of squared frequency outside which the lead certainly has no propagating mode.

        Bands are sampled at ``n_samples`` phases; between samples an eigenvalue moves by at most
        4 |H01| sin(dk/4) (Weyl's inequality), so that skipping what lies outside is exact.

        Returns
        -------
        numpy.ndarray, shape (n, 2)
        """
        # real blocks have the same bands at opposite phases
        n_different = n_samples // 2 + 1 if np.isrealobj(self.H01) else n_samples
        phases = np.exp(2j * np.pi * np.arange(n_different) / n_samples)[:, None, None]
        forward = phases * self.H01
        bands = np.linalg.eigvalsh(self.H00 + forward + forward.conj().swapaxes(1, 2))
        reach = 4 * float(np.linalg.norm(self.H01, 2)) * np.sin(np.pi / (2 * n_samples))
        return np.stack([bands.min(axis=0) - reach, bands.max(axis=0) + reach], axis=1)

    def may_propagate(self, w2: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Where the lead can have propagating modes; False is certain."""
        if not self._ranges:
            self._ranges.append(self.band_ranges())
        ranges = self._ranges[0]
        return np.any((w2[:, None] >= ranges[:, 0]) & (w2[:, None] <= ranges[:, 1]), axis=1)


@dataclass(frozen=True)
class JunctionBlocks:
    """Both leads and the device at one in-plane wave vector.

    ``device`` is the resolvent of the device block with ports (B of the left lead on the first layer, A of the right lead
    on the last layer).
    """

    left: LeadBlocks
    right: LeadBlocks
    device: PortResolvent


class BlockBuilder:
    """Builds the matrices of a junction at any in-plane wave vector.

    Where every atom lies on a twofold axis along z, time reversal makes all blocks real in a suitable gauge (displacements
    in x and y multiplied by i, phases at the atoms' positions); real arithmetic is then used throughout. Whether it does is
    measured at a general wave vector, not assumed.

    Parameters
    ----------
    junction : Junction
    """

    def __init__(self, junction: Junction) -> None:
        self.junction = junction
        self.real = False
        trial = np.array([0.1234567, 0.3141593])
        blocks = self._complex_blocks(trial)
        gauged, consistent = self._gauge(blocks, trial)
        worst = max(float(np.abs(b.imag).max()) / max(float(np.abs(b).max()), 1e-300) for b in gauged)
        self.real = consistent and worst < 1e-12

    def _complex_blocks(self, q: NDArray[np.float64]) -> tuple[NDArray, ...]:
        q3 = np.append(q, 0.0)[None]
        j = self.junction
        return (
            j.left.dynamical_matrices(q3, only_R3=0)[0],
            j.left.dynamical_matrices(q3, only_R3=1)[0],
            j.right.dynamical_matrices(q3, only_R3=0)[0],
            j.right.dynamical_matrices(q3, only_R3=1)[0],
            j.device.dynamical_matrices(q3)[0],
        )

    def _gauge(self, blocks: tuple[NDArray, ...], q: NDArray[np.float64]) -> tuple[tuple[NDArray, ...], bool]:
        j = self.junction
        reciprocal = np.linalg.inv(j.left.cell[:2, :2]).T  # rows b1, b2 without 2 pi
        k = 2 * np.pi * q @ reciprocal

        def unitary(part: PairForceConstants) -> NDArray:
            # the atoms' phases turn exp(i q.R) into exp(i q.d); x and y carry a factor i
            return (np.exp(1j * part.positions[:, :2] @ k)[:, None] * np.array([1j, 1j, 1.0])).ravel()

        w_l, w_r, w_d = unitary(j.left), unitary(j.right), unitary(j.device)

        def turn(block: NDArray, w: NDArray) -> NDArray:
            return w.conj()[:, None] * block * w[None, :]

        h00l, h01l, h00r, h01r, hd = blocks
        advance_l = np.exp(1j * j.left.cell[2, :2] @ k)
        advance_r = np.exp(1j * j.right.cell[2, :2] @ k)
        # the device's outer layers must sit on the leads' sites up to one common shift
        on_left = w_d[: len(w_l)] * w_l.conj()
        on_right = w_d[-len(w_r) :] * w_r.conj()
        consistent = bool(np.abs(on_left - on_left[0]).max() < 1e-6 and np.abs(on_right - on_right[0]).max() < 1e-6)
        return (
            turn(h00l, w_l),
            turn(h01l, w_l) * advance_l,
            turn(h00r, w_r),
            turn(h01r, w_r) * advance_r,
            turn(hd, w_d),
        ), consistent

    def _advance_phases(self, q: NDArray[np.float64]) -> tuple[float, float]:
        """In-plane part of the phase per principal layer, q.a3, of the left and right lead, in rad."""
        reciprocal = np.linalg.inv(self.junction.left.cell[:2, :2]).T
        k = 2 * np.pi * np.asarray(q) @ reciprocal
        return float(self.junction.left.cell[2, :2] @ k), float(self.junction.right.cell[2, :2] @ k)

    def leads(self, q: NDArray[np.float64]) -> tuple[LeadBlocks, LeadBlocks]:
        """Both leads at the in-plane wave vector ``q`` (fractions of b1, b2).

        Bloch factors belong to the wave vector's z component: the in-plane part of an oblique principal-layer translation is
        taken out here.
        """
        h00l, h01l, h00r, h01r, _ = self._blocks(np.asarray(q, dtype=float))
        return LeadBlocks.build(h00l, h01l), LeadBlocks.build(h00r, h01r)

    def __call__(self, q: NDArray[np.float64]) -> JunctionBlocks:
        """Leads and device at the in-plane wave vector ``q``, as in :meth:`leads`."""
        h00l, h01l, h00r, h01r, hd = self._blocks(np.asarray(q, dtype=float))
        left, right = LeadBlocks.build(h00l, h01l), LeadBlocks.build(h00r, h01r)
        ports = np.zeros((len(hd), left.rank + right.rank), dtype=hd.dtype)
        ports[: len(h00l), : left.rank] = left.B
        ports[len(hd) - len(h00r) :, left.rank :] = right.A
        return JunctionBlocks(left, right, PortResolvent(hd, ports))

    def _blocks(self, q: NDArray[np.float64]) -> tuple[NDArray, ...]:
        blocks = self._complex_blocks(q)
        if self.real:
            blocks = tuple(np.ascontiguousarray(b.real) for b in self._gauge(blocks, q)[0])
        else:
            phase_l, phase_r = self._advance_phases(q)
            h00l, h01l, h00r, h01r, hd = blocks
            blocks = (h00l, h01l * np.exp(1j * phase_l), h00r, h01r * np.exp(1j * phase_r), hd)
        h00l, h01l, h00r, h01r, hd = blocks
        return _hermitian(h00l), h01l, _hermitian(h00r), h01r, _hermitian(hd)


def _hermitian(block: NDArray) -> NDArray:
    return 0.5 * (block + block.conj().T)
