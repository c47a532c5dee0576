"""Bloch modes of real blocks in pairs lambda, 1/lambda: half the eigenproblem."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from thermal_flows.transport.leads.pencil import SHIFT, LeadStates, flux_of, real_times

# beyond these the pairs lose digits, and single eigenvectors take over
_SPENT = 1e-14
_DOUBT = 3e-3
_CANCELLED = 1e-4
_CLOSE_TO_SHIFT = 50.0


def paired_states(matrix: NDArray[np.float64], finite: NDArray[np.bool_], outgoing_up: bool) -> LeadStates:
    """States of real blocks; not ``regular`` where pairs lose digits. Arguments as of the route by single eigenvectors."""
    inner, propagating, w, doubtful = pairs(matrix)
    # (S - 1/lambda) w is a state of lambda = p/s, w being a sum of the states of lambda and of 1/lambda
    up = propagating | outgoing_up
    p, s = np.where(up, inner, 1), np.where(up, 1, inner)
    x = p[:, None, :] * w + (SHIFT * p - s)[:, None, :] * real_times(matrix, w)
    factors = np.divide(p, s, out=np.zeros_like(p), where=s != 0)
    flux = flux_of(x, len(x[0]) // 2)
    wrong = propagating & ((flux > 0) != outgoing_up)  # the other one of a propagating pair is the complex conjugate
    np.conj(x, out=x, where=wrong[:, None, :])
    np.conj(factors, out=factors, where=wrong)
    squared = np.where(propagating, np.abs(flux), (x.real**2 + x.imag**2).sum(axis=1))
    cancelled = ~(squared > np.where(propagating, 0.0, _CANCELLED**2))
    regular = finite & ~doubtful & ~cancelled.any(axis=1)
    x /= np.sqrt(np.where(squared > 0, squared, 1.0))[:, None, :]

    order = np.argsort(~propagating, axis=1, kind="stable")
    factors, propagating = np.take_along_axis(factors, order, axis=1), np.take_along_axis(propagating, order, axis=1)
    x = np.take_along_axis(x, order[:, None, :], axis=2)
    count = propagating.sum(axis=1)
    return LeadStates(
        outgoing=x,
        incoming=x.conj() * propagating[:, None, :],
        out_factors=factors,
        in_factors=factors.conj() * propagating,
        n_out=count,
        n_in=count.copy(),
        regular=regular,
    )


def pairs(matrix: NDArray[np.float64]) -> tuple[NDArray, NDArray[np.bool_], NDArray, NDArray[np.bool_]]:
    """Pairs of Bloch factors lambda, 1/lambda of real blocks.

    The translation S is symplectic, ``S^-1 = J^-1 S^T J`` with ``J = (0, 1; -1, 0)``. ``S + S^-1`` then has each eigenvalue
    twice, and an isotropic basis V (``V^T V = 1``, ``V^T J V = 0``) of half the size holds an eigenvector of each (see
    V. Mehrmann and D. Watkins, SIAM J. Sci. Comput. 22, 1905 (2001)). The error is about round-off over the distance from the
    next eigenvalue, and over the square of the distance of lambda from 1 or -1.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (nw, 2 r, 2 r)
        ``(S - shift)^-1``.

    Returns
    -------
    inner : numpy.ndarray, shape (nw, r)
        The factor inside the unit circle, or one of the two on it.
    propagating : numpy.ndarray of bool, shape (nw, r)
        Where the factors are on the unit circle: lambda + 1/lambda is real and within (-2, 2).
    vectors : numpy.ndarray, shape (nw, 2 r, r)
        Eigenvectors of ``S + S^-1``, real for propagating pairs.
    doubtful : numpy.ndarray of bool, shape (nw,)
        Where propagating pairs are too close to each other, or a pair to 1, -1 or the shift, for 1e-11 or so.
    """
    r = matrix.shape[1] // 2
    other = np.empty_like(matrix)  # (S^-1 - shift)^-1 = J^-1 matrix^T J
    transposed = matrix.swapaxes(1, 2)
    other[:, :r, :r], other[:, :r, r:] = transposed[:, r:, r:], -transposed[:, r:, :r]
    other[:, r:, :r], other[:, r:, r:] = -transposed[:, :r, r:], transposed[:, :r, :r]
    skew = other @ matrix
    basis = _isotropic_basis(skew)
    nu, y = (v.astype(complex, copy=False) for v in np.linalg.eig(basis.swapaxes(1, 2) @ skew @ basis))
    with np.errstate(all="ignore"):
        # nu = -1 / (shift (lambda + 1/lambda - shift - 1/shift)); half = 1 / (lambda + 1/lambda)
        half = SHIFT * nu / (nu * (SHIFT**2 + 1) - 1)
        root = np.sqrt(1 - 4 * half**2)
        inner = 2 * half / (1 + root)
        propagating = (nu.imag == 0) & (np.abs(half.real) > 0.5)
        doubtful = (np.abs(root) < _DOUBT * np.abs(half)).any(axis=1) | ~np.isfinite(inner).all(axis=1)
        cosines = np.sort(np.where(np.abs(inner) > 1 - _DOUBT, 0.5 / half.real, np.nan), axis=1)
        doubtful |= (np.diff(cosines, axis=1) < _DOUBT**2).any(axis=1)
        doubtful |= (np.abs(nu) > _CLOSE_TO_SHIFT).any(axis=1)
    return inner, propagating, real_times(basis, y), doubtful


def _isotropic_basis(N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Isotropic orthonormal bases (nw, 2 r, r) of invariant spaces of skew-Hamiltonian N (nw, 2 r, 2 r), by Arnoldi's method."""
    nw, size, _ = N.shape
    r = size // 2
    fresh, mixing = _random_vectors(r)
    rows = np.empty((nw, r, 2, size))  # v and J v in turn
    w = np.broadcast_to(fresh[0], (nw, size, 1))
    for k in range(r):
        known = rows[:, :k].reshape(nw, 2 * k, size)
        for _ in range(2):  # orthogonalised twice: orthogonal to round-off
            w = w - known.swapaxes(1, 2) @ (known @ w)
            length = np.sqrt((w * w).sum(axis=1, keepdims=True))
            spent = length[:, 0, 0] < _SPENT  # an invariant space is complete: go on with another vector
            w[spent], length[spent] = fresh[k], 1.0
            w /= length
        rows[:, k, 0] = w[:, :, 0]
        rows[:, k, 1, :r], rows[:, k, 1, r:] = w[:, r:, 0], -w[:, :r, 0]
        w = N @ w
    # V^T N V is now graded, and LAPACK's balancing would spoil it: mix the vectors
    return (mixing @ rows[:, :, 0]).swapaxes(1, 2)


@cache
def _random_vectors(r: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same random column vectors (r, 2 r, 1) and orthogonal matrix (r, r) for every call."""
    fresh = np.random.default_rng(0).standard_normal((r, 2 * r, 1))
    return fresh, np.linalg.qr(fresh[:, :r, 0])[0]
