"""States of a lead where bands of opposite direction cross, as folded bands do at the zone boundary.

Nothing happens there, but the Bloch factors coincide and eigenvectors mix by round-off over their distance. The spaces of all
outgoing, all decaying and all incoming states are smooth in the frequency: they are interpolated from a little way off.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from thermal_flows.transport.leads.blocks import LeadBlocks
from thermal_flows.transport.leads.pencil import ALMOST, LeadStates, pencil
from thermal_flows.transport.leads.schur import flux_matrix, states_at

_STEP = 3e-5
_NODES = np.array([-2.0, -1.0, 1.0, 2.0])
_WEIGHTS = np.array([-1.0, 4.0, 4.0, -1.0]) / 6  # cubic through the nodes, at zero
_RESIDUAL = 1e-8


def almost_cross(states: LeadStates) -> bool:
    """Whether two modes of opposite direction have almost the same Bloch factor, at the one frequency of ``states``."""
    n_out, n_in = int(states.n_out[0]), int(states.n_in[0])
    apart = np.abs(states.out_factors[0, :n_out, None] - states.in_factors[0, None, :n_in])
    return bool(apart.min(initial=np.inf) < ALMOST)


def crossing_states(lead: LeadBlocks, w2: float, outgoing_up: bool) -> LeadStates | None:
    """States as of :func:`thermal_flows.transport.leads.schur.states_at`, interpolated; None where they are not smooth."""
    nodes: list[LeadStates] = []
    for node in w2 * (1 + _STEP * _NODES):
        states, edge = states_at(lead, float(node), outgoing_up)
        if not states.regular[0] or edge or states.n_out[0] != (nodes[0] if nodes else states).n_out[0]:
            return None
        nodes.append(states)
    n = int(nodes[0].n_out[0])
    out = _interpolated([s.outgoing[0, :, :n] for s in nodes])
    decaying = _interpolated([s.outgoing[0, :, n:] for s in nodes])
    coming = _interpolated([s.incoming[0, :, :n] for s in nodes])
    M0, M1 = (m[0].astype(complex) for m in pencil(lead, np.array([w2])))
    resolved = [_modes(lead, w2, M0, M1, space) for space in (out, coming)]
    if resolved[0] is None or resolved[1] is None:
        return None
    states = nodes[0]
    (states.outgoing[0, :, :n], states.out_factors[0, :n]) = resolved[0]
    (states.incoming[0, :, :n], states.in_factors[0, :n]) = resolved[1]
    states.outgoing[0, :, n:] = decaying
    return states


def _interpolated(spaces: list[NDArray]) -> NDArray:
    """The space between spaces, shape (2 r, k): bases are made to vary smoothly first."""
    reference = np.linalg.qr(spaces[1])[0]
    smooth = [np.linalg.solve((reference.conj().T @ space).T, space.T).T for space in spaces]
    return np.asarray(np.tensordot(_WEIGHTS, np.stack(smooth), axes=1))


def _modes(
    lead: LeadBlocks, w2: float, M0: NDArray, M1: NDArray, space: NDArray
) -> tuple[NDArray, NDArray[np.complex128]] | None:
    """Modes of unit flux in a space of propagating modes of one direction, and their Bloch factors."""
    flux = flux_matrix(space)
    sign = np.sign(np.trace(flux).real)
    strength, turn = np.linalg.eigh(sign * flux)
    if strength.min() <= 0:
        return None
    space = space @ (turn / np.sqrt(strength))
    step = np.linalg.lstsq(M1 @ space, M0 @ space, rcond=None)[0]
    rest = np.abs(M0 @ space - M1 @ space @ step).max()
    if rest > _RESIDUAL * np.abs(M0 @ space).max():
        return None
    factors, turn = scipy.linalg.schur(step, output="complex")
    factors = np.diag(factors) / np.abs(np.diag(factors))
    order = np.argsort(np.angle(factors), kind="stable")
    factors, turn = factors[order], turn[:, order]
    # modes that share their factor: those of definite velocity
    a_before, b = (space @ turn)[: lead.rank], (space @ turn)[lead.rank :]
    drive, answer = np.concatenate([factors * b, a_before]), np.concatenate([factors * a_before, b])
    inside = lead.resolvent.displacements(np.array([w2]), drive[None], answer[None])[0]
    runs = np.split(np.arange(len(factors)), np.flatnonzero(np.abs(np.diff(factors)) > ALMOST) + 1)
    for run in runs:
        if len(run) > 1:
            gram = inside[:, run].conj().T @ inside[:, run]
            turn[:, run] = turn[:, run] @ np.linalg.eigh(gram)[1]
            factors[run] = factors[run].mean() / np.abs(factors[run].mean())
    return space @ turn, np.asarray(factors, dtype=complex)
