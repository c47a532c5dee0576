"""Bloch modes of a lead at a given frequency, without broadening.

The state of a lead between two principal layers is ``x_n = (a_{n-1}, b_n)`` with ``a_n = A^+ u_n`` and ``b_n = B^+ u_n``
(A, B: the ports of :mod:`thermal_flows.transport.blocks`). Bloch's theorem ``x_{n+1} = lambda x_n`` gives the pencil

    M0 x = lambda M1 x

of size 2r, equivalent to ``[H10 - lambda (w2 - H00) + lambda^2 H01] u = 0`` of Ong and Zhang, Phys. Rev. B 91, 174302 (2015),
also where H01 is singular. The energy flux of a state is the Hermitian form ``-2 Im(a^+ b)``: positive for a mode that
carries energy to +z. Propagating modes are told from evanescent ones by their flux, never by a tolerance on |lambda| alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from thermal_flows.transport.blocks import LeadBlocks

_SHIFT = -0.4142135
_CLUSTER = 3e-8
_NEAR_CIRCLE = 1e-6
_PARALLEL = 1e-5


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
    alpha = alpha[:, None, None]
    aa, ab, ba, bb = g[:, :r, :r], g[:, :r, r:], g[:, r:, :r], g[:, r:, r:]
    eye = np.eye(r)
    M0 = np.concatenate(
        [np.concatenate([ab, -alpha * ab], axis=2), np.concatenate([bb, -(eye + alpha * bb)], axis=2)], axis=1
    )
    M1 = np.concatenate(
        [np.concatenate([eye + alpha * aa, -aa], axis=2), np.concatenate([alpha * ba, -ba], axis=2)], axis=1
    )
    return M0, M1


def _flux(x: NDArray, r: int) -> NDArray[np.float64]:
    """Flux of the columns of x, shape (..., 2 r, k) -> (..., k)."""
    return -2 * np.einsum("...ik,...ik->...k", x[..., :r, :].conj(), x[..., r:, :]).imag


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
    r = lead.rank
    M0, M1 = pencil(lead, w2)
    regular = np.ones(len(w2), dtype=bool)
    with np.errstate(all="ignore"):
        matrix = np.linalg.solve(M0 - _SHIFT * M1, M1)
        finite = np.isfinite(matrix).all(axis=(1, 2))
        matrix[~finite] = np.eye(2 * r)
        mu, x = np.linalg.eig(matrix)
        factors = _SHIFT + 1.0 / mu
        logs = np.log(np.abs(factors))
    regular &= finite
    factors = np.where(np.isfinite(factors), factors, 0.0)
    distance = np.abs(logs)
    flux = _flux(x, r)
    propagating = np.abs(flux) > distance
    near = propagating | (distance < _NEAR_CIRCLE)
    regular &= ~_has_cluster(factors, near)

    sign = 1.0 if outgoing_up else -1.0
    is_out = np.where(propagating, sign * flux > 0, sign * logs < 0)
    regular &= is_out.sum(axis=1) == r
    # order: outgoing propagating, outgoing evanescent, incoming propagating, incoming evanescent
    rank = np.where(is_out, 0, 2) + np.where(propagating, 0, 1)
    order = np.argsort(rank, axis=1, kind="stable")
    factors = np.take_along_axis(factors, order, axis=1)
    propagating = np.take_along_axis(propagating, order, axis=1)
    flux = np.take_along_axis(flux, order, axis=1)
    x = np.take_along_axis(x, order[:, None, :], axis=2)
    norm = np.where(propagating, np.sqrt(np.abs(np.where(propagating, flux, 1.0))), 1.0)
    x = x / norm[:, None, :]
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
    size = factors.shape[1]
    apart = np.abs(factors[:, :, None] - factors[:, None, :])
    both = near[:, :, None] & near[:, None, :] & ~np.eye(size, dtype=bool)
    return np.any(both & (apart < _CLUSTER), axis=(1, 2))


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
    M0, M1 = pencil(lead, w2[at])
    with np.errstate(all="ignore"):
        matrix = np.linalg.solve(M0 - _SHIFT * M1, M1)
        singular = ~np.isfinite(matrix).all(axis=(1, 2))
        matrix[singular] = np.eye(2 * lead.rank)
        factors = _SHIFT + 1.0 / np.linalg.eigvals(matrix)
    counts[at] = np.count_nonzero(np.abs(np.abs(factors) - 1) < _NEAR_CIRCLE, axis=1) // 2
    for k in np.flatnonzero(singular):
        counts[at[k]] = states_at(lead, float(w2[at[k]]), True)[0].n_out[0]
    return counts


def states_at(lead: LeadBlocks, w2: float, outgoing_up: bool) -> tuple[LeadStates, bool]:
    """States at one squared frequency by ordered generalized Schur decompositions.

    Slower than :func:`lead_states`, and right where eigenvalues coincide: invariant subspaces are used instead of single
    eigenvectors, and the flux is diagonalised inside each group of equal Bloch factors (which may hold both directions).

    Returns
    -------
    states : LeadStates
        With one frequency; ``regular`` is False if outgoing and incoming states could not be told apart.
    edge : bool
        Whether a band edge was met: two modes of opposite direction with the same Bloch factor and the same state.
    """
    r = lead.rank
    M0, M1 = (m[0].astype(complex) for m in pencil(lead, np.array([w2])))
    sign = 1.0 if outgoing_up else -1.0

    def subspace(selected: NDArray[np.bool_], alphas: NDArray, betas: NDArray) -> NDArray:
        """Deflating subspace of the selected eigenvalues (matched to the nearest computed ones)."""
        wanted = [(alphas[k], betas[k]) for k in np.flatnonzero(selected)]

        def pick(alpha: NDArray, beta: NDArray) -> NDArray[np.bool_]:
            alpha, beta = np.atleast_1d(alpha), np.atleast_1d(beta)
            size = np.sqrt(np.abs(alpha) ** 2 + np.abs(beta) ** 2)
            gap = np.array([np.abs(alpha * b - beta * a) / (size * np.hypot(abs(a), abs(b))) for a, b in wanted])
            return gap.min(axis=0) < 1e-10

        *_, Z = scipy.linalg.ordqz(M0, M1, sort=pick, output="complex")
        return Z[:, : len(wanted)]

    *_, alphas, betas, _, _ = scipy.linalg.ordqz(M0, M1, sort="lhp", output="complex")
    with np.errstate(all="ignore"):
        factors = np.where(np.abs(betas) > 0, alphas / betas, np.inf)
        logs = np.log(np.abs(alphas)) - np.log(np.abs(betas))
    near = np.abs(logs) < _NEAR_CIRCLE
    decaying = ~near & (sign * logs < 0)
    columns, column_factors, column_flux = [], [], []
    edge = False
    remaining = near.copy()
    while remaining.any():
        group = _group(factors, remaining)
        remaining &= ~group
        basis = subspace(group, alphas, betas)
        form = 1j * (basis[:r].conj().T @ basis[r:] - basis[r:].conj().T @ basis[:r])  # -2 Im(a^+ b)
        flux, turn = np.linalg.eigh(form)
        if len(flux) == 1 and abs(flux[0]) <= abs(logs[group][0]):
            decaying |= group & (sign * logs < 0)  # evanescent, close to the circle
            continue
        if np.any(flux > 0) and np.any(flux < 0):
            edge |= _is_defective(M0, M1, complex(np.mean(factors[group])), int(group.sum()))
        columns.append(basis @ turn)
        column_flux.append(flux)
        column_factors.append(np.full(len(flux), np.mean(factors[group])))
    dtype = complex
    x = np.concatenate(columns, axis=1) if columns else np.zeros((2 * r, 0), dtype)
    flux = np.concatenate(column_flux) if columns else np.zeros(0)
    fac = np.concatenate(column_factors) if columns else np.zeros(0, dtype)
    carrying = np.abs(flux) > 1e-12
    out, inc = carrying & (sign * flux > 0), carrying & (sign * flux < 0)
    decayed = subspace(decaying, alphas, betas) if decaying.any() else np.zeros((2 * r, 0), dtype)
    n_out, n_in = int(out.sum()), int(inc.sum())
    good = n_out == n_in and n_out + int(decaying.sum()) == r and bool(carrying.all())
    outgoing, incoming = np.zeros((1, 2 * r, r), dtype), np.zeros((1, 2 * r, r), dtype)
    out_factors, in_factors = np.zeros((1, r), dtype), np.zeros((1, r), dtype)
    if good:
        outgoing[0, :, :n_out] = x[:, out] / np.sqrt(np.abs(flux[out]))
        outgoing[0, :, n_out:] = decayed
        incoming[0, :, :n_in] = x[:, inc] / np.sqrt(np.abs(flux[inc]))
        out_factors[0, :n_out], in_factors[0, :n_in] = fac[out], fac[inc]
        out_factors[0, n_out:] = factors[decaying]
    states = LeadStates(
        outgoing,
        incoming,
        out_factors,
        in_factors,
        np.array([n_out if good else 0]),
        np.array([n_in if good else 0]),
        np.array([good]),
    )
    return states, edge


def _group(factors: NDArray, remaining: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The first remaining Bloch factor and all those connected to it by small steps."""
    group = np.zeros(len(factors), dtype=bool)
    group[np.flatnonzero(remaining)[0]] = True
    while True:
        grown = remaining & (np.abs(factors[:, None] - factors[None, group]).min(axis=1) < _CLUSTER)
        if np.array_equal(grown, group):
            return group
        group = grown


def _is_defective(M0: NDArray, M1: NDArray, factor: complex, size: int) -> bool:
    """Whether a group of equal Bloch factors has fewer eigenvectors than members: a band edge."""
    singular = np.linalg.svd(M0 - factor * M1, compute_uv=False)
    return bool(np.count_nonzero(singular < _PARALLEL * singular[0]) < size)
