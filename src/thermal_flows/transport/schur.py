"""Bloch modes at one frequency by ordered Schur forms: right where modes coincide."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from thermal_flows.transport.blocks import LeadBlocks
from thermal_flows.transport.pencil import CLUSTER, NEAR_CIRCLE, LeadStates, pencil

_PARALLEL = 1e-5


def states_at(lead: LeadBlocks, w2: float, outgoing_up: bool) -> tuple[LeadStates, bool]:
    """States at one squared frequency by ordered generalized Schur decompositions.

    Slower than :func:`thermal_flows.transport.bloch.lead_states`, and right where eigenvalues coincide: invariant subspaces are
    used instead of single eigenvectors. A group of equal Bloch factors may hold modes of both directions (where bands cross, as
    folded bands do at the zone boundary); they are told apart as in degenerate perturbation theory, by diagonalising the flux
    with respect to the norm of the displacements.

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
    near = np.abs(logs) < NEAR_CIRCLE
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
            grown[remaining] = apart < CLUSTER
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
