"""Bloch modes of a lead at a given frequency, without broadening.

The state of a lead between two principal layers is ``x_n = (a_{n-1}, b_n)`` with ``a_n = A^+ u_n`` and ``b_n = B^+ u_n``
(A, B: the ports of :mod:`thermal_flows.transport.blocks`). Bloch's theorem ``x_{n+1} = lambda x_n`` gives the pencil

    M0 x = lambda M1 x

of size 2r, equivalent to ``[H10 - lambda (w2 - H00) + lambda^2 H01] u = 0`` of Ong and Zhang, Phys. Rev. B 91, 174302 (2015),
also where H01 is singular. The energy flux of a state is the Hermitian form ``-2 Im(a^+ b)``: positive for a mode that
carries energy to +z. Propagating modes are told from evanescent ones by their flux, never by a tolerance on |lambda| alone.

Three routes, each for what the one before leaves: pairs lambda, 1/lambda of real blocks (half the eigenproblem), eigenvectors
one by one, and ordered Schur forms for modes that coincide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from thermal_flows.transport.blocks import LeadBlocks

_SHIFT = -0.4142135
_CLUSTER = 3e-8
_NEAR_CIRCLE = 1e-6
_PARALLEL = 1e-5

# the paired route of real blocks hands over to single eigenvectors beyond these
_SPENT = 1e-14
_DOUBT = 3e-3
_CANCELLED = 1e-4
_CLOSE_TO_SHIFT = 50.0


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
        False where eigenvalues coincide, the count does not fit or an edge is met: to be solved again by :func:`states_at`.
    """

    outgoing: NDArray
    incoming: NDArray
    out_factors: NDArray
    in_factors: NDArray
    n_out: NDArray[np.intp]
    n_in: NDArray[np.intp]
    regular: NDArray[np.bool_]


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


def _flux(x: NDArray, r: int) -> NDArray[np.float64]:
    """Flux of the columns of x, shape (..., 2 r, k) -> (..., k)."""
    a, b = x[..., :r, :], x[..., r:, :]
    return 2 * (a.imag * b.real - a.real * b.imag).sum(axis=-2)


def _shift_inverted(lead: LeadBlocks, w2: NDArray[np.float64]) -> tuple[NDArray, NDArray[np.bool_]]:
    """The matrices (M0 - shift M1)^-1 M1, with eigenvalues 1 / (lambda - shift), and where they exist."""
    M0, M1 = pencil(lead, w2)
    with np.errstate(all="ignore"):
        matrix = np.linalg.solve(M0 - _SHIFT * M1, M1)
    finite = np.asarray(np.isfinite(matrix).all(axis=(1, 2)))
    matrix[~finite] = np.eye(2 * lead.rank)
    return matrix, finite


def real_times(operator: NDArray, states: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """``operator @ states`` in real arithmetic where the operator is real."""
    if np.isrealobj(operator):
        return (operator @ states.view(float)).view(complex)
    return operator @ states


def lead_states(lead: LeadBlocks, w2: NDArray[np.float64], outgoing_up: bool) -> LeadStates:
    """Outgoing and incoming states of a lead at many squared frequencies at once.

    Parameters
    ----------
    lead : LeadBlocks
        With at least one port.
    w2 : numpy.ndarray, shape (nw,)
        Squared frequencies in eV/(Angstrom^2 amu).
    outgoing_up : bool
        True for the right lead (outgoing means towards +z), False for the left lead.
    """
    matrix, finite = _shift_inverted(lead, w2)
    if not np.isrealobj(matrix):
        return _single_states(matrix, finite, outgoing_up)
    states = _paired_states(matrix, finite, outgoing_up)
    doubtful = np.flatnonzero(~states.regular)
    if len(doubtful):
        again = _single_states(matrix[doubtful], finite[doubtful], outgoing_up)
        for name in (f.name for f in fields(LeadStates)):
            getattr(states, name)[doubtful] = getattr(again, name)
    return states


def _single_states(matrix: NDArray, finite: NDArray[np.bool_], outgoing_up: bool) -> LeadStates:
    """States of :func:`lead_states` from the eigenvectors of ``matrix``, of :func:`_shift_inverted`."""
    r = matrix.shape[1] // 2
    with np.errstate(all="ignore"):
        # a real batch without propagating modes comes out real
        mu, x = (v.astype(complex, copy=False) for v in np.linalg.eig(matrix))
        factors = _SHIFT + 1.0 / mu
        logs = np.log(np.abs(factors))
    factors = np.where(np.isfinite(factors), factors, 0.0)
    distance = np.abs(logs)
    flux = _flux(x, r)
    propagating = np.abs(flux) > distance
    near = propagating | (distance < _NEAR_CIRCLE)
    regular = finite & ~_has_cluster(factors, near)

    sign = 1.0 if outgoing_up else -1.0
    is_out = np.where(propagating, sign * flux > 0, sign * logs < 0)
    regular &= is_out.sum(axis=1) == r
    # order: outgoing propagating, outgoing evanescent, incoming propagating, incoming evanescent
    order = np.argsort(np.where(is_out, 0, 2) + ~propagating, axis=1, kind="stable")
    factors, propagating, flux = (np.take_along_axis(v, order, axis=1) for v in (factors, propagating, flux))
    x = np.take_along_axis(x, order[:, None, :], axis=2)
    x *= np.where(propagating, 1 / np.sqrt(np.where(propagating, np.abs(flux), 1.0)), 1.0)[:, None, :]
    keep_in = propagating[:, r:]
    return LeadStates(
        outgoing=x[:, :, :r],
        incoming=x[:, :, r:] * keep_in[:, None, :],
        out_factors=factors[:, :r],
        in_factors=factors[:, r:] * keep_in,
        n_out=propagating[:, :r].sum(axis=1),
        n_in=keep_in.sum(axis=1),
        regular=regular,
    )


def _has_cluster(factors: NDArray, near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether two of the chosen Bloch factors, all on the unit circle, have almost the same phase."""
    size = factors.shape[1]
    elsewhere = 10.0 + np.arange(size)  # not a phase, and no two alike
    phases = np.sort(np.where(near, np.angle(factors), elsewhere), axis=1)
    around = 2 * np.pi - (np.angle(factors).max(axis=1, where=near, initial=-np.pi) - phases[:, 0])
    return (np.diff(phases, axis=1).min(axis=1, initial=np.inf) < _CLUSTER) | (around < _CLUSTER)


def _paired_states(matrix: NDArray[np.float64], finite: NDArray[np.bool_], outgoing_up: bool) -> LeadStates:
    """States of :func:`lead_states` for real blocks, from half the eigenproblem; not ``regular`` where that loses digits."""
    inner, propagating, w, doubtful = _pairs(matrix)
    # (S - 1/lambda) w is a state of lambda = p/s, w being a sum of the states of lambda and of 1/lambda
    up = propagating | outgoing_up
    p, s = np.where(up, inner, 1), np.where(up, 1, inner)
    x = p[:, None, :] * w + (_SHIFT * p - s)[:, None, :] * real_times(matrix, w)
    factors = np.divide(p, s, out=np.zeros_like(p), where=s != 0)
    flux = _flux(x, len(x[0]) // 2)
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


def _pairs(matrix: NDArray[np.float64]) -> tuple[NDArray, NDArray[np.bool_], NDArray, NDArray[np.bool_]]:
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
        half = _SHIFT * nu / (nu * (_SHIFT**2 + 1) - 1)
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


def count_modes(lead: LeadBlocks, w2: NDArray[np.float64]) -> NDArray[np.intp]:
    """Number of modes propagating one way at each squared frequency, shape (nw,).

    Counted from the Bloch factors on the unit circle; within about 1e-12 (relative, of the squared frequency) of a band edge
    the count may belong to either side of it.
    """
    if lead.rank == 0 or len(w2) == 0:
        return np.zeros(len(w2), dtype=np.intp)
    counts = np.zeros(len(w2), dtype=np.intp)
    at = np.flatnonzero(lead.may_propagate(w2))
    if len(at) == 0:
        return counts
    matrix, finite = _shift_inverted(lead, w2[at])
    single = np.arange(len(at))
    if np.isrealobj(matrix):
        _, propagating, _, doubtful = _pairs(matrix)
        counts[at] = propagating.sum(axis=1)
        single = np.flatnonzero(doubtful)
    with np.errstate(all="ignore"):
        factors = _SHIFT + 1.0 / np.linalg.eigvals(matrix[single])
    counts[at[single]] = np.count_nonzero(np.abs(np.abs(factors) - 1) < _NEAR_CIRCLE, axis=1) // 2
    for k in np.flatnonzero(~finite):
        counts[at[k]] = states_at(lead, float(w2[at[k]]), True)[0].n_out[0]
    return counts


def states_at(lead: LeadBlocks, w2: float, outgoing_up: bool) -> tuple[LeadStates, bool]:
    """States at one squared frequency by ordered generalized Schur decompositions.

    Slower than :func:`lead_states`, and right where eigenvalues coincide: invariant subspaces are used instead of single
    eigenvectors. A group of equal Bloch factors may hold modes of both directions (where bands cross, as folded bands do at
    the zone boundary); they are told apart as in degenerate perturbation theory, by diagonalising the flux with respect to
    the norm of the displacements.

    Returns
    -------
    states : LeadStates
        With one frequency; ``regular`` is False if outgoing and incoming states could not be told apart.
    edge : bool
        Whether a band edge was met: two modes of opposite direction with the same Bloch factor and the same state.
    """
    r = lead.rank
    at = np.array([w2])
    M0, M1 = (m[0].astype(complex) for m in pencil(lead, at))
    sign = 1.0 if outgoing_up else -1.0
    schur = _Schur(M0, M1)
    factors, logs = schur.factors, schur.logs
    near = np.abs(logs) < _NEAR_CIRCLE
    decaying = ~near & (sign * logs < 0)
    columns, column_factors, column_flux = [], [], []
    edge = False
    try:
        for group in _groups(factors, near):
            basis, step = schur.subspace(group)
            a_before, b = basis[:r], basis[r:]
            flux = 1j * (a_before.conj().T @ b - b.conj().T @ a_before)  # -2 Im(a^+ b)
            edge |= len(flux) > 1 and _is_defective(M0, M1, complex(np.mean(factors[group])), len(flux))
            inside = lead.resolvent.displacements(at, *_layer(a_before, b, step))[0]
            strength, turn = _simultaneous(flux, inside.conj().T @ inside)
            basis = basis @ turn
            if np.all(np.abs(strength) <= (np.abs(basis) ** 2).sum(axis=0) * np.abs(logs[group]).max()):
                decaying |= group & (sign * logs < 0)  # evanescent, close to the circle
                continue
            columns.append(basis)
            column_flux.append(strength)
            column_factors.append(np.full(len(flux), np.mean(factors[group])))
        decayed, _ = schur.subspace(decaying)
    except scipy.linalg.LinAlgError:
        return _irregular(r), edge
    x = np.concatenate([np.zeros((2 * r, 0), complex), *columns], axis=1)
    flux = np.concatenate([np.zeros(0), *column_flux])
    fac = np.concatenate([np.zeros(0, complex), *column_factors])
    carrying = np.abs(flux) > 1e-12 * (np.abs(x) ** 2).sum(axis=0)
    out, inc = carrying & (sign * flux > 0), carrying & (sign * flux < 0)
    n_out, n_in = int(out.sum()), int(inc.sum())
    if n_out != n_in or n_out + int(decaying.sum()) != r or not carrying.all():
        return _irregular(r), edge
    x, decayed = _flux_orthogonal(x / np.sqrt(np.abs(flux)), np.sign(flux), decayed)
    states = _irregular(r)
    states.outgoing[0, :, :n_out], states.outgoing[0, :, n_out:] = x[:, out], decayed
    states.incoming[0, :, :n_in] = x[:, inc]
    states.out_factors[0, :n_out], states.out_factors[0, n_out:] = fac[out], factors[decaying]
    states.in_factors[0, :n_in] = fac[inc]
    states.n_out[0], states.n_in[0], states.regular[0] = n_out, n_in, True
    return states, edge


def _irregular(r: int) -> LeadStates:
    def zeros(*shape: int) -> NDArray:
        return np.zeros((1, *shape), dtype=complex)

    none = np.zeros(1, dtype=np.intp)
    return LeadStates(zeros(2 * r, r), zeros(2 * r, r), zeros(r), zeros(r), none, none.copy(), np.zeros(1, dtype=bool))


class _Schur:
    """Generalized Schur form of a pencil, reordered on demand.

    Attributes
    ----------
    factors : numpy.ndarray, shape (n,)
        Eigenvalues lambda of ``M0 x = lambda M1 x``; infinite ones as inf.
    logs : numpy.ndarray, shape (n,)
        log |lambda|.
    """

    def __init__(self, M0: NDArray, M1: NDArray) -> None:
        self._form = scipy.linalg.qz(M0, M1, output="complex")
        alphas, betas = np.diag(self._form[0]), np.diag(self._form[1])
        with np.errstate(all="ignore"):
            self.factors = np.where(np.abs(betas) > 0, alphas / betas, np.inf)
            self.logs = np.log(np.abs(alphas)) - np.log(np.abs(betas))

    def subspace(self, selected: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
        """Orthonormal basis V (n, m) of the deflating subspace of the selected eigenvalues, and S with M0 V = M1 V S."""
        m = int(selected.sum())
        if m == 0:
            return np.zeros((len(selected), 0), complex), np.zeros((0, 0), complex)
        S, T, Q, Z = self._form
        S, T, _, _, _, Z, *_, info = scipy.linalg.lapack.ztgsen(selected, S, T, Q, Z, ijob=0, lwork=1, liwork=1)
        if info != 0:
            raise scipy.linalg.LinAlgError("eigenvalues too close to be reordered")
        with np.errstate(all="ignore"):
            step = S[:m, :m]
            if np.all(np.abs(np.diag(T)[:m]) > 0):
                step = scipy.linalg.solve_triangular(T[:m, :m], step)
        return Z[:, :m], step


def _layer(a_before: NDArray, b: NDArray, step: NDArray) -> tuple[NDArray, NDArray]:
    """What acts on the ports (A, B) of a layer, and their answers, for states that the translation takes to x S."""
    drive = np.concatenate([b @ step, a_before])
    answer = np.concatenate([a_before @ step, b])
    return drive[None], answer[None]


def _simultaneous(flux: NDArray, norm: NDArray) -> tuple[NDArray[np.float64], NDArray]:
    """Combinations of states that diagonalise the flux and the norm at once, and their fluxes (for unit norm)."""
    return scipy.linalg.eigh(flux, 0.5 * (norm + norm.conj().T))


def _flux_orthogonal(x: NDArray, direction: NDArray[np.float64], decayed: NDArray) -> tuple[NDArray, NDArray]:
    """Remove what round-off has mixed: exact modes of different Bloch factors have no common flux.

    Where two factors are a small distance apart the mixing is round-off over distance, and energy is lost in first order.

    Parameters
    ----------
    x : numpy.ndarray, shape (2 r, k)
        Propagating states of unit flux.
    direction : numpy.ndarray, shape (k,)
        Signs of their fluxes.
    decayed : numpy.ndarray, shape (2 r, m)
        Basis of the evanescent states.
    """
    r = len(x) // 2

    def common(y: NDArray) -> NDArray:
        return 1j * (x[:r].conj().T @ y[r:] - x[r:].conj().T @ y[:r]) * direction[:, None]

    for _ in range(2):
        x = x - 0.5 * x @ (common(x) - np.eye(len(direction)))
    return x, decayed - x @ common(decayed)


def _groups(factors: NDArray, near: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Groups of the ``near`` Bloch factors connected by small steps."""
    remaining = near.copy()
    while remaining.any():
        group = np.zeros(len(factors), dtype=bool)
        group[np.flatnonzero(remaining)[0]] = True
        while True:
            apart = np.abs(factors[remaining][:, None] - factors[None, group]).min(axis=1)
            grown = remaining.copy()
            grown[remaining] = apart < _CLUSTER
            if np.array_equal(grown, group):
                break
            group = grown
        remaining &= ~group
        yield group


def _is_defective(M0: NDArray, M1: NDArray, factor: complex, size: int) -> bool:
    """Whether a group of equal Bloch factors has fewer eigenvectors than members: a band edge."""
    scale = np.linalg.norm(M0, 2) + np.linalg.norm(M1, 2)
    singular = np.linalg.svd(M0 - factor * M1, compute_uv=False)
    return bool(np.count_nonzero(singular < _PARALLEL * scale) < size)
