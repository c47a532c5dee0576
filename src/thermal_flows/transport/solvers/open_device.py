"""The device between its leads as a chain of slices: the recursive Green's function.

Cost and memory grow with the length of the device, not with its square or cube. Nothing is diagonalised: squared frequencies
may be complex, and poles of the isolated device are ordinary points.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from thermal_flows.transport.leads.blocks import JunctionBlocks

_SLICE = 12
_REFINED = 1e-13


@dataclass(frozen=True, eq=False)
class OpenDevice:
    """The device between its leads as a chain of slices, each coupled to its two neighbours only.

    Attributes
    ----------
    order : numpy.ndarray of int, shape (n,)
        Degrees of freedom by slice.
    slices : list of numpy.ndarray, shapes (n_k, n_k)
        Blocks of the slices, eV/(Angstrom^2 amu).
    couplings : list of numpy.ndarray, shapes (n_k, n_{k+1})
        Each to the next slice.
    lower, upper : numpy.ndarray, shapes (n_0, r_L) and (n_last, r_R)
        Ports of the left lead on the first slice and of the right lead on the last one.
    """

    order: NDArray[np.intp]
    slices: list[NDArray]
    couplings: list[NDArray]
    lower: NDArray
    upper: NDArray

    @classmethod
    def build(cls, blocks: JunctionBlocks) -> OpenDevice:
        """Cut a device by how many couplings its degrees of freedom are away from the left lead's layer."""
        block, ports, r_l = blocks.device.sparse_block, blocks.device.ports, blocks.left.rank
        n = block.shape[0]
        first, last = np.arange(len(blocks.left.H00)), np.arange(n - len(blocks.right.H00), n)
        parts = _levels(block, first, last)
        order = np.concatenate(parts)
        return cls(
            order,
            [block[part][:, part].toarray() for part in parts],
            [block[one][:, two].toarray() for one, two in itertools.pairwise(parts)],
            ports[parts[0], :r_l],
            ports[parts[-1], r_l:],
        )

    @property
    def bytes_per_frequency(self) -> int:
        """Memory that one frequency takes while it is solved."""
        return 64 * sum(len(block) ** 2 for block in self.slices) + 64 * len(self.order) * self.n_ports

    @property
    def n_ports(self) -> int:
        """Ports of both leads, r_L + r_R."""
        return self.lower.shape[1] + self.upper.shape[1]

    def columns(self, z: NDArray, left: NDArray, right: NDArray) -> NDArray[np.complex128]:
        """Columns of the Green's function on the ports, ``G P`` with P the ports of the left and the right lead.

        Block elimination upwards and substitution downwards, refined once where a partial device has a pole nearby.

        Parameters
        ----------
        z : numpy.ndarray, shape (nw,)
        left, right : numpy.ndarray, shapes (nw, r_L, r_L) and (nw, r_R, r_R)
            Self-energies on the ports, see :class:`SelfEnergies`.

        Returns
        -------
        numpy.ndarray, shape (nw, n, r_L + r_R)
            In the device's own order of degrees of freedom.

        Raises
        ------
        numpy.linalg.LinAlgError
            If a squared frequency is exactly that of a mode bound to the device.
        """
        matrices = self._matrices(z, left, right)
        partial: list[NDArray] = []
        for k, matrix in enumerate(matrices):
            below = self._from_below(k, partial[k - 1]) if k else 0.0
            partial.append(np.linalg.inv(matrix - below))

        def substitute(drive: list[NDArray]) -> list[NDArray]:
            drive = list(drive)
            for k, coupling in enumerate(self.couplings):
                drive[k + 1] = drive[k + 1] + coupling.conj().T @ (partial[k] @ drive[k])
            found = [partial[-1] @ drive[-1]]
            for k in range(len(drive) - 2, -1, -1):
                found.append(partial[k] @ (drive[k] + self.couplings[k] @ found[-1]))
            return found[::-1]

        drive = self._port_drive(len(z))
        found = substitute(drive)
        left_over = self._left_over(matrices, drive, found)
        if max(float(np.abs(part).max(initial=0.0)) for part in left_over) > _REFINED * float(
            max(np.abs(self.lower).max(initial=0.0), np.abs(self.upper).max(initial=0.0))
        ):
            found = [x + more for x, more in zip(found, substitute(left_over), strict=True)]
        result = np.empty((len(z), len(self.order), self.n_ports), dtype=complex)
        result[:, self.order] = np.concatenate(found, axis=1)
        return result

    def on_ports(self, columns: NDArray) -> NDArray:
        """``P^+ x`` of columns x, shape (nw, n, k) -> (nw, r_L + r_R, k)."""
        first, last = self.order[: len(self.lower)], self.order[len(self.order) - len(self.upper) :]
        return np.concatenate([self.lower.conj().T @ columns[:, first], self.upper.conj().T @ columns[:, last]], axis=1)

    def diagonal(self, z: NDArray, left: NDArray, right: NDArray) -> NDArray[np.complex128]:
        """Diagonal of the Green's function, shape (nw, n); parameters and errors as :meth:`columns`.

        Each slice is given the self-energies of everything below and above it, so that a pole of a partial device nearby
        costs no digits.
        """
        matrices = self._matrices(z, left, right)
        below = [np.zeros((1, 1, 1), complex)]
        for k in range(1, len(matrices)):
            below.append(self._from_below(k, np.linalg.inv(matrices[k - 1] - below[k - 1])))
        found = np.empty((len(z), len(self.order)), dtype=complex)
        above: NDArray | float = 0.0
        stop = len(self.order)
        for k in range(len(matrices) - 1, -1, -1):
            start = stop - len(self.slices[k])
            whole = np.linalg.inv(matrices[k] - below[k] - above)
            found[:, self.order[start:stop]] = np.diagonal(whole, axis1=1, axis2=2)
            if k:
                coupling = self.couplings[k - 1]
                above = coupling @ np.linalg.inv(matrices[k] - above) @ coupling.conj().T
            stop = start
        return found

    def _matrices(self, z: NDArray, left: NDArray, right: NDArray) -> list[NDArray]:
        """``z - H - Sigma`` of the slices."""
        matrices = [z[:, None, None] * np.eye(len(block)) - block for block in self.slices]
        matrices[0] = matrices[0] - self.lower @ left @ self.lower.conj().T
        matrices[-1] = matrices[-1] - self.upper @ right @ self.upper.conj().T
        return matrices

    def _from_below(self, k: int, partial: NDArray) -> NDArray:
        coupling = self.couplings[k - 1]
        return coupling.conj().T @ partial @ coupling

    def _port_drive(self, nw: int) -> list[NDArray]:
        r_l = self.lower.shape[1]
        drive = [np.zeros((nw, len(block), self.n_ports), dtype=complex) for block in self.slices]
        drive[0][:, :, :r_l] = self.lower
        drive[-1][:, :, r_l:] = self.upper
        return drive

    def _left_over(self, matrices: list[NDArray], drive: list[NDArray], found: list[NDArray]) -> list[NDArray]:
        """What the equations leave over."""
        rest = [d - m @ x for d, m, x in zip(drive, matrices, found, strict=True)]
        for k, coupling in enumerate(self.couplings):
            rest[k] = rest[k] + coupling @ found[k + 1]
            rest[k + 1] = rest[k + 1] + coupling.conj().T @ found[k]
        return rest


def _levels(block: scipy.sparse.csr_array, first: NDArray[np.intp], last: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Degrees of freedom in slices that couple to their neighbours only; ``first`` lies in the first, ``last`` in the last."""
    linked = (block != 0).astype(np.int32)
    n = block.shape[0]
    level = np.full(n, n)  # what does not hang together with the left lead goes to the last slice
    front = np.zeros(n, dtype=bool)
    front[first] = True
    depth = 0
    while front.any():
        level[front] = depth
        depth += 1
        front = (linked @ front.astype(np.int32) > 0) & (level == n)
    end = int(level[last].min())
    level = np.minimum(level, end if end < n else depth)
    sizes = np.bincount(level)
    parts: list[NDArray[np.intp]] = []
    start = 0
    for stop in range(1, len(sizes) + 1):
        if sizes[start:stop].sum() >= _SLICE or stop == len(sizes):
            parts.append(np.flatnonzero((level >= start) & (level < stop)))
            start = stop
    return parts
