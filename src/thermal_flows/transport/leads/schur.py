"""Bloch modes at one frequency by ordered Schur forms: right where modes coincide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from thermal_flows.transport.leads.blocks import LeadBlocks
from thermal_flows.transport.leads.pencil import CLUSTER, NEAR_CIRCLE, LeadStates, flux_of, pencil, side_by_side

GROUPS = (1e-3, 3e-5, 1e-6, CLUSTER)
"""Bloch factors this close to each other, near the unit circle, are resolved together if they can be, else the next value."""

_PARALLEL = 1e-5
_ROUND_OFF = 1e-14
_SMALL = 100.0


def states_at(lead: LeadBlocks, w2: float, outgoing_up: bool) -> tuple[LeadStates, bool]:
    """States at one squared frequency by ordered generalized Schur decompositions.

    Slower than :func:`thermal_flows.transport.leads.bloch.lead_states`, and right where eigenvalues coincide: invariant
    subspaces are used instead of single eigenvectors. A group of equal Bloch factors may hold modes of both directions (where
    bands cross, as folded bands do at the zone boundary); they are told apart as in degenerate perturbation theory, by
    diagonalising the flux with respect to the norm of the displacements.

    Returns
    -------
    states : LeadStates
        With one frequency; ``regular`` is False if outgoing and incoming states could not be told apart.
    edge : bool
        Whether a band edge was met: two modes of opposite direction with the same Bloch factor and the same state. That
        state carries no flux; it counts as an evanescent one, which is the limit from either side.
    """
    if lead.parts:
        found = [states_at(part, w2, outgoing_up) for part in lead.parts if part.rank]
        return side_by_side([states for states, _ in found]), any(edge for _, edge in found)
    r = lead.rank
    at = np.array([w2])
    M0, M1 = (m[0].astype(complex) for m in pencil(lead, at))
    sign = 1.0 if outgoing_up else -1.0
    schur = _Schur(M0, M1)
    factors, logs = schur.factors, schur.logs
    near = np.abs(logs) < NEAR_CIRCLE
    decaying = ~near & (sign * logs < 0)
    parts = []
    try:
        waiting = [(group, GROUPS[0]) for group in _groups(factors, near, GROUPS[0])]
        while waiting:
            group, width = waiting.pop()
            part = _resolved(lead, at, schur, group, sign)
            if part is not None:
                parts.append(part)
                continue
            narrower = [w for w in GROUPS if w < width]  # several things meet: take it apart as far as eigenvalues tell
            if not narrower:
                return _irregular(r), True
            waiting += [(smaller, narrower[0]) for smaller in _groups(factors, group, narrower[0])]
        decayed, _ = schur.subspace(decaying)
    except scipy.linalg.LinAlgError:
        return _irregular(r), False
    edge = any(part.edge for part in parts)
    x = np.concatenate([np.zeros((2 * r, 0), complex), *(part.carrying for part in parts)], axis=1)
    fac = np.concatenate([np.zeros(0, complex), *(part.factors for part in parts)])
    decayed = np.concatenate([decayed, *(part.decaying for part in parts)], axis=1)
    decay_factors = np.concatenate([factors[decaying], *(part.decay_factors for part in parts)])
    flux = flux_of(x, r)
    carrying = np.abs(flux) > 1e-12 * (np.abs(x) ** 2).sum(axis=0)
    out, inc = carrying & (sign * flux > 0), carrying & (sign * flux < 0)
    n_out, n_in = int(out.sum()), int(inc.sum())
    if n_out != n_in or n_out + len(decay_factors) != r or not carrying.all():
        return _irregular(r), edge
    x, decayed = _flux_orthogonal(x / np.sqrt(np.abs(flux)), np.sign(flux), decayed)
    states = _irregular(r)
    states.outgoing[0, :, :n_out], states.outgoing[0, :, n_out:] = x[:, out], decayed
    states.incoming[0, :, :n_in] = x[:, inc]
    states.out_factors[0, :n_out], states.out_factors[0, n_out:] = fac[out], decay_factors
    states.in_factors[0, :n_in] = fac[inc]
    states.n_out[0], states.n_in[0], states.regular[0] = n_out, n_in, True
    return states, edge


@dataclass(frozen=True)
class _Resolved:
    """Modes of one group of Bloch factors: states (2 r, k) that carry flux and states (2 r, m) that decay outwards.

    ``edge``: the latter are modes that have merged at a band edge.
    """

    carrying: NDArray
    factors: NDArray
    decaying: NDArray
    decay_factors: NDArray
    edge: bool = False


def _resolved(
    lead: LeadBlocks, at: NDArray[np.float64], schur: _Schur, group: NDArray[np.bool_], sign: float
) -> _Resolved | None:
    """The modes of a group of Bloch factors on or near the unit circle; None if they cannot be told apart.

    In the space of the group the translation is ``S = lambda0 (1 + i K/2) / (1 - i K/2)``, with K self-adjoint in the flux F:
    G = F K is Hermitian. What is read from G is exact to round-off, where eigenvalues of S at a band edge would be to the
    square root of it.
    """
    basis, step = schur.subspace(group)
    r, g = lead.rank, basis.shape[1]
    a_before, b = basis[:r], basis[r:]
    inside = lead.resolvent.displacements(at, *_layer(a_before, b, step))[0]
    flux = flux_matrix(basis)
    inside = np.concatenate([inside, inside @ step])  # of two layers: the states of a pair may share those of one
    # as in degenerate perturbation theory
    strength, turn = scipy.linalg.eigh(flux, _hermitian(inside.conj().T @ inside))
    x = basis @ turn
    none = basis[:, :0]
    logs, factors = schur.logs[group], schur.factors[group]
    weak = np.abs(strength) <= (np.abs(x) ** 2).sum(axis=0) * np.abs(logs).max()
    if weak.all():  # evanescent, close to the circle
        here = group & (sign * schur.logs < 0)
        return _Resolved(none, factors[:0], schur.subspace(here)[0], schur.factors[here])
    if weak.any():
        return None
    turn = turn / np.sqrt(np.abs(strength))
    x, direction = basis @ turn, np.sign(strength)
    mean = np.trace(step) / g
    mean /= abs(mean)
    K = -2j * np.linalg.solve((step + mean * np.eye(g)).T, (step - mean * np.eye(g)).T).T
    G = _hermitian(turn.conj().T @ flux @ K @ turn)
    noise = _ROUND_OFF * float((np.abs(x) ** 2).sum(axis=0).max())
    up, down = direction > 0, direction < 0
    across = float(np.abs(G[np.ix_(up, down)]).max(initial=0.0))
    # one direction, or bands that cross: at an edge G is not small as a whole
    if across <= noise or float(np.abs(G).max()) <= _SMALL * noise:
        for way in (up, down):
            block = G[np.ix_(way, way)]
            if np.abs(block - np.diag(np.diag(block))).max(initial=0.0) > noise:
                x[:, way] = x[:, way] @ np.linalg.eigh(block)[1]
                G[np.ix_(way, way)] = np.diag(np.linalg.eigvalsh(block))
        k = direction * np.diag(G).real
        return _Resolved(x, _moved(mean, k), none, factors[:0])
    if g == 2:
        return _pair(x[:, [1, 0]], G[::-1, ::-1], mean, noise, sign)
    # several pairs at an edge: what merged modes share is the null space of G
    centre = float((direction * np.diag(G).real).mean())
    energies, vectors = np.linalg.eigh(G - centre * np.diag(direction))
    null = vectors[:, np.argsort(np.abs(energies), kind="stable")[: g // 2]]
    small = np.sort(np.abs(energies))[: g // 2].max() <= noise
    if g % 2 == 0 and small and np.abs(null.conj().T @ (direction[:, None] * null)).max() < _PARALLEL:
        return _Resolved(none, factors[:0], x @ null, np.full(g // 2, mean), edge=True)
    return None


def _pair(x: NDArray, G: NDArray, mean: complex, noise: float, sign: float) -> _Resolved:
    """Two modes of opposite direction near a band edge; x of flux 1 and -1, G Hermitian of shape (2, 2)."""
    p, q, c = G[0, 0].real, -G[1, 1].real, complex(G[0, 1])
    middle, d = (p + q) / 2, (p - q) / 2
    squared = (abs(d) - abs(c)) * (abs(d) + abs(c))  # of the distance of the two in k
    none, nothing = x[:, :0], np.zeros(0, complex)
    if abs(squared) <= noise * max(abs(d), abs(c)):
        merged = x @ np.array([[1.0], [-d / c]])
        return _Resolved(none, nothing, merged, _moved(mean, np.array([middle])), edge=True)
    if squared < 0:
        root = 1j * sign * np.sqrt(-squared)
        return _Resolved(
            none, nothing, x @ np.array([[1.0], [(root - d) / c]]), _moved(mean, np.array([middle + root]))
        )
    root = np.copysign(np.sqrt(squared), d)
    t = -np.conj(c) / (d + root)
    columns = x @ np.array([[1.0, np.conj(t)], [t, 1.0]])
    return _Resolved(columns, _moved(mean, np.array([middle + root, middle - root])), none, nothing)


def _moved(mean: complex, k: NDArray) -> NDArray:
    """Bloch factors a distance k from ``mean``."""
    return np.asarray(mean * (1 + 0.5j * k) / (1 - 0.5j * k))


def flux_matrix(x: NDArray) -> NDArray[np.complex128]:
    """The flux ``-2 Im(a^+ b)`` as a Hermitian form on the columns of x, shape (2 r, k) -> (k, k)."""
    a, b = np.split(x, 2)
    return np.asarray(1j * (a.conj().T @ b - b.conj().T @ a))


def _hermitian(matrix: NDArray) -> NDArray:
    return 0.5 * (matrix + matrix.conj().T)


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


def _groups(factors: NDArray, near: NDArray[np.bool_], step: float) -> Iterator[NDArray[np.bool_]]:
    """Groups of the ``near`` Bloch factors connected by steps below ``step``."""
    remaining = near.copy()
    while remaining.any():
        group = np.zeros(len(factors), dtype=bool)
        group[np.flatnonzero(remaining)[0]] = True
        while True:
            apart = np.abs(factors[remaining][:, None] - factors[None, group]).min(axis=1)
            grown = remaining.copy()
            grown[remaining] = apart < step
            if np.array_equal(grown, group):
                break
            group = grown
        remaining &= ~group
        yield group
