"""A long device as a chain of slices: cost and memory grow with its length, not with the cube of it.

Slices couple to their neighbours only, through ports as layers of a lead do, and each is diagonalised on its own. What joins
them are Green's functions on ports that absorb: with ``H' = H - i P P^+`` there is no pole at any real frequency (but for states
that no port feels), so that poles of slices and of partial devices need no care. Transmission through a long barrier is a
product of small numbers and keeps its relative accuracy.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from thermal_flows.transport.leads.ports import PortResolvent, factored

_ALPHA = -1j
SLICE = 24
"""Smallest number of degrees of freedom of a slice, by measurement."""


@dataclass(frozen=True, eq=False)
class ChainResolvent:
    """Green's function of an isolated long block on its ports, with the interface of :class:`PortResolvent`.

    ``(1 + alpha g) y = g s`` with alpha = -i at every frequency.

    Attributes
    ----------
    sparse_block : scipy.sparse.csr_array, shape (n, n)
    ports : numpy.ndarray, shape (n, p)
        Those of the first ``n_lower`` columns on the first slice, the others on the last one.
    n_lower : int
    order : numpy.ndarray of int, shape (n,)
        Rows of the block, slice by slice.
    slices : sequence of PortResolvent
        Each with ports to the slice (or lead) below, then to that above.
    n_below : sequence of int
        How many of a slice's ports are below.
    """

    sparse_block: scipy.sparse.csr_array
    ports: NDArray
    n_lower: int
    order: NDArray[np.intp]
    slices: Sequence[PortResolvent]
    n_below: Sequence[int]

    @classmethod
    def build(
        cls, block: scipy.sparse.csr_array, ports: NDArray, n_lower: int, first: int, last: int, size: int = SLICE
    ) -> ChainResolvent | None:
        """Cut a block into slices by its couplings; None if it does not fall into at least three.

        Parameters
        ----------
        block : scipy.sparse.csr_array, shape (n, n)
            Hermitian.
        ports : numpy.ndarray, shape (n, p)
        n_lower : int
            Ports that lie on the first rows.
        first, last : int
            Number of rows at either end that hold ports.
        size : int
            Smallest number of rows of a slice.
        """
        parts = _slices(block, first, last, size)
        if len(parts) < 3:
            return None
        below = ports[parts[0], :n_lower]
        slices, n_below = [], []
        for k, part in enumerate(parts):
            rows = block[part]
            if k + 1 < len(parts):
                above, next_below = factored(rows[:, parts[k + 1]].toarray())
            else:
                above, next_below = ports[part, n_lower:], below
            slices.append(PortResolvent(rows[:, part].toarray(), np.hstack([below, above])))
            n_below.append(below.shape[1])
            below = next_below
        return cls(block, ports, n_lower, np.concatenate(parts), tuple(slices), tuple(n_below))

    @cached_property
    def block(self) -> NDArray:
        """The whole block, shape (n, n): large."""
        return np.asarray(self.sparse_block.toarray())

    def evaluate(self, w2: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
        """Green's functions on the absorbing ports and alpha, as :meth:`PortResolvent.evaluate`; both complex.

        Returns
        -------
        g : numpy.ndarray, shape (nw, p, p)
        alpha : numpy.ndarray, shape (nw,)
        """
        return self._joins(w2)[0], np.full(len(w2), _ALPHA)

    def _joins(self, w2: NDArray[np.float64]) -> tuple[NDArray, list[NDArray]]:
        """The whole chain's g, and for every joint what acts through it, from what acts on the outer absorbing ports."""
        low = self.n_lower
        g = _absorbing(self.slices[0], w2)
        between = []
        for part, c in zip(self.slices[1:], self.n_below[1:], strict=True):
            s = _absorbing(part, w2)
            # answers (y2, y1) of the two sides of the joint; each side is driven by the other's answer
            one = np.eye(c)
            above, below = g[:, low:, low:], s[:, :c, :c]
            matrix = np.block([[one + _ALPHA * above, -above], [-below, one + _ALPHA * below]])
            n_up = s.shape[1] - c
            drive = np.zeros((len(w2), 2 * c, low + n_up), dtype=complex)
            drive[:, :c, :low], drive[:, c:, low:] = g[:, low:, :low], s[:, :c, c:]
            joint = _solved(matrix, drive)
            between.append(joint)
            y2, y1 = joint[:, :c], joint[:, c:]
            whole = np.concatenate([g[:, :low, low:] @ (y1 - _ALPHA * y2), s[:, c:, :c] @ (y2 - _ALPHA * y1)], axis=1)
            whole[:, :low, :low] += g[:, :low, :low]
            whole[:, low:, low:] += s[:, c:, c:]
            g = whole
        return g, between

    def displacements(self, w2: NDArray[np.float64], drive: NDArray, answer: NDArray) -> NDArray:
        """Displacements inside the block as :meth:`PortResolvent.displacements`: in the eigenvectors of the slices.

        Slices follow each other from below, shape (nw, n, k).
        """
        low = self.n_lower
        _, between = self._joins(w2)
        outer = drive[:, :low] - _ALPHA * answer[:, :low]
        force, reply = drive[:, low:], answer[:, low:]
        found = []
        for k in range(len(self.slices) - 1, 0, -1):
            c = self.n_below[k]
            y = between[k - 1] @ np.concatenate([outer, force - _ALPHA * reply], axis=1)
            y2, y1 = y[:, :c], y[:, c:]
            found.append(
                self.slices[k].displacements(
                    w2, np.concatenate([y2, force], axis=1), np.concatenate([y1, reply], axis=1)
                )
            )
            force, reply = y1, y2
        found.append(
            self.slices[0].displacements(
                w2, np.concatenate([drive[:, :low], force], axis=1), np.concatenate([answer[:, :low], reply], axis=1)
            )
        )
        return np.concatenate(found[::-1], axis=1)

    def norms(self, w2: NDArray[np.float64], drive: NDArray, answer: NDArray) -> NDArray[np.float64]:
        """Norms |u| of the displacements inside the block, shape (nw, k); arguments as :meth:`displacements`."""
        return np.linalg.norm(self.displacements(w2, drive, answer), axis=1)


def _absorbing(part: PortResolvent, w2: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Green's function of a slice whose ports absorb, shape (nw, p, p)."""
    g, alpha = part.evaluate(w2)
    return np.asarray(np.linalg.solve(np.eye(g.shape[1]) + (alpha[:, None, None] - _ALPHA) * g, g.astype(complex)))


def _solved(matrix: NDArray, drive: NDArray) -> NDArray:
    """Solutions of a batch of systems; the smallest one where a state that no outer port feels makes a system singular."""
    try:
        return np.linalg.solve(matrix, drive)
    except np.linalg.LinAlgError:
        return np.stack([np.linalg.lstsq(m, d, rcond=None)[0] for m, d in zip(matrix, drive, strict=True)])


def _slices(block: scipy.sparse.csr_array, first: int, last: int, smallest: int) -> list[NDArray[np.intp]]:
    """Rows, three an atom, in slices that couple to their neighbours only; first and last rows in the first and last slice."""
    n = block.shape[0] // 3
    links = block.tocoo()
    near = scipy.sparse.csr_array((np.ones(links.nnz), (links.row // 3, links.col // 3)), shape=(n, n))
    level = np.full(n, n)  # what does not hang together with the first atoms goes to the last slice
    front = np.arange(first // 3)
    depth = 0
    while len(front):
        level[front] = depth
        depth += 1
        reached = np.unique(near[front].indices)
        front = reached[level[reached] == n]
    level = np.minimum(level, level[n - last // 3 :].min())
    if level.max() == n:
        return [np.arange(3 * n)]
    by_level = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[by_level], np.arange(level.max() + 2))
    cuts, size = [0], 0
    for k, more in enumerate(np.diff(starts)[:-1]):
        size += 3 * int(more)
        if size >= smallest:
            cuts.append(int(starts[k + 1]))
            size = 0
    cuts.append(n)
    return [(3 * by_level[a:b, None] + np.arange(3)).ravel() for a, b in itertools.pairwise(cuts)]
