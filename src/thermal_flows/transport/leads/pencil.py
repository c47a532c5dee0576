"""The Bloch problem of a lead at a given frequency, without broadening.

The state of a lead between two principal layers is ``x_n = (a_{n-1}, b_n)`` with ``a_n = A^+ u_n`` and ``b_n = B^+ u_n``
(A, B: the ports of :mod:`thermal_flows.transport.leads.blocks`). Bloch's theorem ``x_{n+1} = lambda x_n`` gives the pencil

    M0 x = lambda M1 x

of size 2r, equivalent to ``[H10 - lambda (w2 - H00) + lambda^2 H01] u = 0`` of Ong and Zhang, Phys. Rev. B 91, 174302 (2015),
also where H01 is singular. The energy flux of a state is the Hermitian form ``-2 Im(a^+ b)``: positive for a mode that
carries energy to +z. Propagating modes are told from evanescent ones by their flux, never by a tolerance on |lambda| alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thermal_flows.transport.leads.blocks import LeadBlocks

SHIFT = -0.4142135
"""Off the unit circle, where the pencil is inverted."""

CLUSTER = 3e-8
"""Bloch factors this close to each other are treated together."""

ALMOST = 3e-6
"""Modes with Bloch factors this close to each other lose digits, single eigenvector by single eigenvector."""

NEAR_CIRCLE = 1e-6
"""Only Bloch factors this close to the unit circle can belong to propagating modes."""


@dataclass(frozen=True)
class LeadStates:
    """Modes of a lead at ``nw`` squared frequencies, seen from one side.

    Attributes
    ----------
    outgoing, incoming : numpy.ndarray, shape (nw, 2 r, r)
        Columns are states ``(a_{n-1}, b_n)``; propagating ones come first, normalised to unit flux. Outgoing columns after
        them are evanescent; incoming columns after them are zero.
    out_factors, in_factors : numpy.ndarray, shape (nw, r)
        Bloch factors lambda of the columns (zero where there is none).
    n_out, n_in : numpy.ndarray, shape (nw,)
        Number of propagating modes; equal to each other in an infinite lead.
    regular : numpy.ndarray of bool, shape (nw,)
        False where eigenvalues coincide, the count does not fit or an edge is met: to be solved again by
        :func:`thermal_flows.transport.leads.schur.states_at`.
    """

    outgoing: NDArray
    incoming: NDArray
    out_factors: NDArray
    in_factors: NDArray
    n_out: NDArray[np.intp]
    n_in: NDArray[np.intp]
    regular: NDArray[np.bool_]


def side_by_side(parts: list[LeadStates]) -> LeadStates:
    """States of a direct sum of leads from those of its parts, propagating ones first."""
    ranks = [p.outgoing.shape[2] for p in parts]
    r, nw = sum(ranks), len(parts[0].n_out)
    outgoing, incoming = (np.zeros((nw, 2 * r, r), dtype=complex) for _ in range(2))
    start = 0
    for p, size in zip(parts, ranks, strict=True):
        here = slice(start, start + size)
        for whole, own in ((outgoing, p.outgoing), (incoming, p.incoming)):
            whole[:, here, here] = own[:, :size]
            whole[:, r + start : r + start + size, here] = own[:, size:]
        start += size

    def ordered(counts: list[NDArray[np.intp]]) -> NDArray[np.intp]:
        first = np.concatenate([np.arange(n) < c[:, None] for n, c in zip(ranks, counts, strict=True)], axis=1)
        return np.argsort(~first, axis=1, kind="stable")

    out, inc = ordered([p.n_out for p in parts]), ordered([p.n_in for p in parts])
    return LeadStates(
        outgoing=np.take_along_axis(outgoing, out[:, None, :], axis=2),
        incoming=np.take_along_axis(incoming, inc[:, None, :], axis=2),
        out_factors=np.take_along_axis(np.concatenate([p.out_factors for p in parts], axis=1), out, axis=1),
        in_factors=np.take_along_axis(np.concatenate([p.in_factors for p in parts], axis=1), inc, axis=1),
        n_out=np.sum([p.n_out for p in parts], axis=0),
        n_in=np.sum([p.n_in for p in parts], axis=0),
        regular=np.all([p.regular for p in parts], axis=0),
    )


def pencil(lead: LeadBlocks, w2: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """The matrices M0, M1 of the Bloch problem, each of shape (nw, 2 r, 2 r)."""
    r = lead.rank
    g, alpha = lead.resolvent.evaluate(w2)
    aa, ab, ba, bb = g[:, :r, :r], g[:, :r, r:], g[:, r:, :r], g[:, r:, r:]
    alpha = alpha[:, None, None]
    M0, M1 = np.empty_like(g), np.empty_like(g)
    M0[:, :r, :r], M0[:, :r, r:] = ab, -alpha * ab
    M0[:, r:, :r], M0[:, r:, r:] = bb, -alpha * bb
    M1[:, :r, :r], M1[:, :r, r:] = alpha * aa, -aa
    M1[:, r:, :r], M1[:, r:, r:] = alpha * ba, -ba
    k = np.arange(r)
    M0[:, r + k, r + k] -= 1
    M1[:, k, k] += 1
    return M0, M1


def flux_of(x: NDArray, r: int) -> NDArray[np.float64]:
    """Flux of the columns of x, shape (..., 2 r, k) -> (..., k)."""
    a, b = x[..., :r, :], x[..., r:, :]
    return 2 * (a.imag * b.real - a.real * b.imag).sum(axis=-2)


def shift_inverted(lead: LeadBlocks, w2: NDArray[np.float64]) -> tuple[NDArray, NDArray[np.bool_]]:
    """The matrices (M0 - shift M1)^-1 M1, with eigenvalues 1 / (lambda - shift), and where they exist."""
    M0, M1 = pencil(lead, w2)
    with np.errstate(all="ignore"):
        matrix = np.linalg.solve(M0 - SHIFT * M1, M1)
    finite = np.asarray(np.isfinite(matrix).all(axis=(1, 2)))
    matrix[~finite] = np.eye(2 * lead.rank)
    return matrix, finite


def real_times(operator: NDArray, states: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """``operator @ states`` in real arithmetic where the operator is real."""
    if np.isrealobj(operator):
        return (operator @ states.view(float)).view(complex)
    return operator @ states
