"""From force constants to the small matrices that the solvers work on, at one in-plane wave vector.

A lead is described by its principal-layer block H00 and its coupling H01 = A B^+, whose r columns are the *ports*
through which layers talk to each other (r is the rank of H01, often much smaller than the layer's 3 n degrees of freedom).
The device is described by its block H_D and the ports of either lead on its outer layers. One diagonalisation of each
block per wave vector then gives Green's functions on the ports at any number of frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.transport.junctions.junction import Junction
from thermal_flows.transport.leads.folding import Folding
from thermal_flows.transport.leads.ports import RANK_TOLERANCE, PortResolvent, factored
from thermal_flows.transport.leads.slices import SLICE, ChainResolvent

__all__ = ["RANK_TOLERANCE", "BlockBuilder", "JunctionBlocks", "LeadBlocks", "PortResolvent"]

LONG_DEVICE = 300
"""Devices of more degrees of freedom, and of more than LONG_PER_PORT a port, are cut into slices; by measurement."""

LONG_PER_PORT = 20

_TIGHT = 0.8
_ROUND_OFF = 1e-14
_MANY = 30


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
    parts : tuple of LeadBlocks
        Leads of a smaller in-plane cell that this one is the direct sum of, see :mod:`thermal_flows.transport.leads.folding`; its
        ports are theirs, one after the other. Empty where it is not taken apart.
    """

    H00: NDArray
    H01: NDArray
    A: NDArray
    B: NDArray
    resolvent: PortResolvent
    parts: tuple[LeadBlocks, ...] = ()
    _ranges: list[NDArray[np.float64]] = field(default_factory=list, init=False, repr=False)

    @property
    def rank(self) -> int:
        """Number of ports r."""
        return self.A.shape[1]

    @classmethod
    def build(cls, H00: NDArray, H01: NDArray) -> LeadBlocks:
        """Factor the coupling and diagonalise the layer."""
        A, B = factored(H01)
        return cls(H00, H01, A, B, PortResolvent(H00, np.hstack([A, B])))

    @classmethod
    def folded(cls, H00: NDArray, H01: NDArray, bases: list[NDArray]) -> LeadBlocks:
        """A lead that is a direct sum in the given orthonormal bases: :class:`thermal_flows.transport.leads.folding.Folding`."""
        parts = tuple(
            cls.build(_hermitian(h00), h01)
            for h00, h01 in (
                _real_if_possible(basis.conj().T @ H00 @ basis, basis.conj().T @ H01 @ basis) for basis in bases
            )
        )
        A = np.hstack([basis @ part.A for basis, part in zip(bases, parts, strict=True)])
        B = np.hstack([basis @ part.B for basis, part in zip(bases, parts, strict=True)])
        return cls(H00, H01, A, B, PortResolvent(H00, np.hstack([A, B])), parts)

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
        bands = self._bands(2 * np.pi * np.arange(n_different) / n_samples)
        reach = 4 * float(np.linalg.norm(self.H01, 2)) * np.sin(np.pi / (2 * n_samples))
        return np.stack([bands.min(axis=0) - reach, bands.max(axis=0) + reach], axis=1)

    def _bands(self, phases: NDArray[np.float64]) -> NDArray[np.float64]:
        """Eigenvalues at some phases per layer, shape (n_phases, n)."""
        forward = np.exp(1j * phases)[:, None, None] * self.H01
        return np.linalg.eigvalsh(self.H00 + forward + forward.conj().swapaxes(1, 2))

    def floor(self, n_samples: int = 16, max_samples: int = 400) -> float:
        """Squared frequency below which the lead certainly has no propagating mode, close to the lowest there is.

        At a phase t between samples a and b, 2 h apart, ``H(t) = s1 H(a) + s2 H(b) - (s - 1) H00`` with positive s1, s2 and
        s = s1 + s2 <= 1/cos h: the lowest eigenvalue is at least ``m - (1/cos h - 1) (top of H00 - m)``, m being the
        lower one of both samples. Intervals are halved where this is far below the lowest sample: near the minimum, however
        narrow it is at long waves.
        """
        top = float(np.linalg.eigvalsh(self.H00)[-1])
        # real blocks have the same bands at opposite phases
        end = np.pi if np.isrealobj(self.H01) else 2 * np.pi
        phases = np.linspace(0, end, n_samples + 1)
        lowest = self._bands(phases)[:, 0]
        while True:
            m = np.minimum(lowest[1:], lowest[:-1])
            bound = m - (1 / np.cos(0.5 * np.diff(phases)) - 1) * np.maximum(top - m, 0)
            loose = np.flatnonzero(bound < _TIGHT * lowest.min())
            if len(loose) == 0 or len(phases) > max_samples:
                return float(bound.min()) - _ROUND_OFF * top
            middle = 0.5 * (phases[loose] + phases[loose + 1])
            phases = np.insert(phases, loose + 1, middle)
            lowest = np.insert(lowest, loose + 1, self._bands(middle)[:, 0])

    def may_propagate(self, w2: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Where the lead can have propagating modes; False is certain."""
        if self.parts:
            return np.any([part.may_propagate(w2) for part in self.parts], axis=0)
        if not self._ranges:
            ranges = self.band_ranges()
            # the lowest band's own bound is sharper, and worth its price where many frequencies are near it
            if np.count_nonzero(w2 <= ranges[0, 1]) > _MANY:
                ranges[:, 0] = np.maximum(ranges[:, 0], self.floor())
            self._ranges.append(ranges)
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
    device: PortResolvent | ChainResolvent
    _sliced: list[ChainResolvent | None] = field(default_factory=list, init=False, repr=False)

    def finely_sliced(self) -> ChainResolvent | None:
        """The device in the thinnest slices, for barriers: relative accuracy however little gets through.

        None where the device cannot be cut.
        """
        if not self._sliced:
            self._sliced.append(
                ChainResolvent.build(
                    self.device.sparse_block,
                    self.device.ports,
                    self.left.rank,
                    len(self.left.H00),
                    len(self.right.H00),
                    size=1,
                )
            )
        return self._sliced[0]


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
        self._foldings = [
            self._folding(lead, blocks[2 * k : 2 * k + 2], trial)
            for k, lead in enumerate((junction.left, junction.right))
        ]

    @staticmethod
    def _folding(lead: PairForceConstants, blocks: tuple[NDArray, ...], q: NDArray[np.float64]) -> Folding | None:
        found = Folding.find(lead)
        return found if found is not None and found.splits(blocks, found.bases(q)) else None

    def _lead(self, side: int, H00: NDArray, H01: NDArray, q: NDArray[np.float64]) -> LeadBlocks:
        folding = self._foldings[side]
        if folding is None:
            return LeadBlocks.build(H00, H01)
        lead = (self.junction.left, self.junction.right)[side]
        chosen = lead.positions[folding.representatives]
        # the parts may be real where the whole is not: a twofold axis may exchange atoms of a supercell
        bases = [
            basis * self._unitary(chosen, q + order)
            for basis, order in zip(folding.bases(q), folding.orders, strict=True)
        ]
        if self.real:
            bases = [self._unitary(lead.positions, q).conj()[:, None] * basis for basis in bases]
        return LeadBlocks.folded(H00, H01, bases)

    def _unitary(self, positions: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Diagonal of the real gauge: the atoms' phases turn exp(i q.R) into exp(i q.d); x and y carry a factor i."""
        k = 2 * np.pi * q @ np.linalg.inv(self.junction.left.cell[:2, :2]).T
        return np.asarray((np.exp(1j * positions[:, :2] @ k)[:, None] * np.array([1j, 1j, 1.0])).ravel())

    def _complex_blocks(self, q: NDArray[np.float64]) -> tuple[NDArray, ...]:
        q3 = np.append(q, 0.0)[None]
        j = self.junction
        return (
            j.left.dynamical_matrices(q3, only_R3=0)[0],
            j.left.dynamical_matrices(q3, only_R3=1)[0],
            j.right.dynamical_matrices(q3, only_R3=0)[0],
            j.right.dynamical_matrices(q3, only_R3=1)[0],
            self._device_block(q),
        )

    def _device_block(self, q: NDArray[np.float64]) -> NDArray | scipy.sparse.csr_array:
        device = self.junction.device
        n = 3 * device.n_atoms
        if n <= LONG_DEVICE:
            return device.dynamical_matrices(np.append(q, 0.0)[None])[0]
        phases = np.exp(2j * np.pi * (device.R[:, :2] @ q))
        elements = device.phi * (phases / np.sqrt(device.masses[device.i] * device.masses[device.j]))[:, None, None]
        rows = np.broadcast_to((3 * device.i)[:, None, None] + np.arange(3)[:, None], elements.shape)
        columns = np.broadcast_to((3 * device.j)[:, None, None] + np.arange(3), elements.shape)
        return scipy.sparse.csr_array((elements.ravel(), (rows.ravel(), columns.ravel())), shape=(n, n))

    def _gauge(self, blocks: tuple[NDArray, ...], q: NDArray[np.float64]) -> tuple[tuple[NDArray, ...], bool]:
        j = self.junction
        reciprocal = np.linalg.inv(j.left.cell[:2, :2]).T  # rows b1, b2 without 2 pi
        k = 2 * np.pi * q @ reciprocal

        w_l, w_r, w_d = (self._unitary(part.positions, q) for part in (j.left, j.right, j.device))

        def turn(block: NDArray, w: NDArray) -> NDArray:
            if scipy.sparse.issparse(block):
                return scipy.sparse.diags_array(w.conj()) @ block @ scipy.sparse.diags_array(w)
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
        q = np.asarray(q, dtype=float)
        return self._lead(0, h00l, h01l, q), self._lead(1, h00r, h01r, q)

    def __call__(self, q: NDArray[np.float64]) -> JunctionBlocks:
        """Leads and device at the in-plane wave vector ``q``, as in :meth:`leads`."""
        h00l, h01l, h00r, h01r, hd = self._blocks(np.asarray(q, dtype=float))
        q = np.asarray(q, dtype=float)
        left, right = self._lead(0, h00l, h01l, q), self._lead(1, h00r, h01r, q)
        n = hd.shape[0]
        ports = np.zeros((n, left.rank + right.rank), dtype=np.result_type(hd.dtype, left.B, right.A))
        ports[: len(h00l), : left.rank] = left.B
        ports[n - len(h00r) :, left.rank :] = right.A
        if scipy.sparse.issparse(hd):
            width = max(left.rank, right.rank)
            chain = None
            if n > LONG_PER_PORT * width:
                size = max(SLICE, 3 * width)
                chain = ChainResolvent.build(hd, ports, left.rank, len(h00l), len(h00r), size)
            return JunctionBlocks(left, right, chain or PortResolvent(scipy.sparse.csr_array(hd).toarray(), ports))
        return JunctionBlocks(left, right, PortResolvent(hd, ports))

    def _blocks(self, q: NDArray[np.float64]) -> tuple[NDArray, ...]:
        blocks = self._complex_blocks(q)
        if self.real:
            blocks = tuple(_real(b) for b in self._gauge(blocks, q)[0])
        else:
            phase_l, phase_r = self._advance_phases(q)
            h00l, h01l, h00r, h01r, hd = blocks
            blocks = (h00l, h01l * np.exp(1j * phase_l), h00r, h01r * np.exp(1j * phase_r), hd)
        h00l, h01l, h00r, h01r, hd = blocks
        return _hermitian(h00l), h01l, _hermitian(h00r), h01r, _hermitian(hd)


def _real_if_possible(H00: NDArray, H01: NDArray) -> tuple[NDArray, NDArray]:
    if max(float(np.abs(b.imag).max()) / max(float(np.abs(b).max()), 1e-300) for b in (H00, H01)) < 1e-12:
        return np.ascontiguousarray(H00.real), np.ascontiguousarray(H01.real)
    return H00, H01


def _real(block: NDArray) -> NDArray:
    if scipy.sparse.issparse(block):
        return scipy.sparse.csr_array(block.real)
    return np.ascontiguousarray(block.real)


def _hermitian(block: NDArray) -> NDArray:
    return 0.5 * (block + block.conj().T)
