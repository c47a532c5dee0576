"""Mode matching: the scattering matrix of a device between two leads, without broadening.

This is the scattering-boundary method of lattice dynamics with the linear system solved directly: an incident mode, all
outgoing and evanescent modes of both leads and the device's exact answer on its ports. No energy is lost by construction;
what the arithmetic loses is reported as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.leads.bloch import lead_states
from thermal_flows.transport.leads.blocks import JunctionBlocks, LeadBlocks
from thermal_flows.transport.leads.crossing import almost_cross, crossing_states
from thermal_flows.transport.leads.pencil import LeadStates, real_times, side_by_side
from thermal_flows.transport.leads.schur import states_at

EDGE_SHIFT = 1e-9
"""Relative shift of the squared frequency where modes cannot be told apart."""


TUNNELLING = 1e-8
"""Transmissions below this are found slice by slice."""


@dataclass(frozen=True)
class Scattering:
    """Scattering matrices of a batch of squared frequencies at one wave vector.

    Attributes
    ----------
    left, right : LeadStates
        The states that were matched.
    amplitudes : numpy.ndarray, shape (nw, r_L + r_R, r_L + r_R)
        [outgoing, incoming] in unit-flux normalisation; rows and columns of the left lead first. Rows of evanescent states
        hold their amplitudes; columns beyond the incoming propagating modes are zero.
    flagged : numpy.ndarray of bool, shape (nw,)
        Where a band edge was met: the modes that merge there count as evanescent, which is the limit from either side; where
        they could not be told apart, the squared frequency was shifted by :data:`EDGE_SHIFT`.
    """

    left: LeadStates
    right: LeadStates
    amplitudes: NDArray
    flagged: NDArray[np.bool_]

    @property
    def _r_left(self) -> int:
        return self.left.outgoing.shape[2]

    def probabilities(self) -> NDArray[np.float64]:
        """Squared flux amplitudes between propagating modes, zero elsewhere; shape as ``amplitudes``."""
        r_l, r_r = self._r_left, self.right.outgoing.shape[2]
        rows = np.concatenate(
            [np.arange(r_l) < self.left.n_out[:, None], np.arange(r_r) < self.right.n_out[:, None]], axis=1
        )
        # not a product: amplitudes of evanescent states may be infinite at a bound state
        return np.where(rows[:, :, None], self.amplitudes.real**2 + self.amplitudes.imag**2, 0.0)

    def transmission(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sum over modes of the transmittance, from the left and from the right; each of shape (nw,)."""
        p, r_l = self.probabilities(), self._r_left
        return p[:, r_l:, :r_l].sum(axis=(1, 2)), p[:, :r_l, r_l:].sum(axis=(1, 2))

    def conservation_error(self) -> NDArray[np.float64]:
        """Largest |T + R - 1| over the incident modes at each frequency, shape (nw,)."""
        r_l, r_r = self._r_left, self.right.outgoing.shape[2]
        incident = np.concatenate(
            [np.arange(r_l) < self.left.n_in[:, None], np.arange(r_r) < self.right.n_in[:, None]], axis=1
        )
        total = self.probabilities().sum(axis=1)
        return np.where(incident, np.abs(total - 1.0), 0.0).max(axis=1, initial=0.0)


def conservation_bound(w2: NDArray[np.float64], w2_max: float) -> NDArray[np.float64]:
    """Round-off expected in |T + R - 1|: max(1e-9, 1e-14 (omega_max/omega)^2)."""
    return np.maximum(1e-9, 1e-14 * w2_max / w2)


def scatter(blocks: JunctionBlocks, w2: NDArray[np.float64], w2_max: float) -> Scattering:
    """Scattering at one wave vector and many squared frequencies.

    Parameters
    ----------
    blocks : JunctionBlocks
    w2 : numpy.ndarray, shape (nw,)
        Squared frequencies in eV/(Angstrom^2 amu), positive.
    w2_max : float
        Squared frequency that sets the scale of round-off (the top of the stiffer lead).

    Raises
    ------
    TransportError
        If modes cannot be told apart even after a shift off a band edge.
    """
    left = lead_states(blocks.left, w2, outgoing_up=False)
    right = lead_states(blocks.right, w2, outgoing_up=True)
    amplitudes = match(blocks, w2, left, right)
    result = Scattering(left, right, amplitudes, np.zeros(len(w2), dtype=bool))
    bound = 0.1 * conservation_bound(w2, w2_max)
    again = ~(left.regular & right.regular) | ~(result.conservation_error() < bound)
    for k in np.flatnonzero(again):
        result = _replace(result, int(k), *_careful(blocks, float(w2[k]), float(bound[k])))
    _resolve_tunnelling(blocks, w2, result)
    return result


def _resolve_tunnelling(blocks: JunctionBlocks, w2: NDArray[np.float64], result: Scattering) -> None:
    """Solve again, slice by slice, where hardly anything gets through: a sum over modes of the device cancels there."""
    little = result.transmission()[0] < TUNNELLING
    at = np.flatnonzero(little & (result.left.n_in > 0) & (result.right.n_in > 0) & ~result.flagged)
    device = blocks.finely_sliced() if len(at) else None
    if device is not None:
        left, right = (
            LeadStates(*(getattr(states, f.name)[at] for f in fields(LeadStates)))
            for states in (result.left, result.right)
        )
        result.amplitudes[at] = match(replace(blocks, device=device), w2[at], left, right)


def _careful(blocks: JunctionBlocks, w2: float, bound: float) -> tuple[LeadStates, LeadStates, NDArray, bool]:
    """One frequency by invariant subspaces; shifted minimally if modes are not told apart or energy is not conserved."""
    best, best_error = None, np.inf
    for attempt in range(4):
        value = np.array([w2 * (1 + attempt * EDGE_SHIFT)])
        left, edge_left = _states_of(blocks.left, float(value[0]), outgoing_up=False)
        right, edge_right = _states_of(blocks.right, float(value[0]), outgoing_up=True)
        if not (left.regular[0] and right.regular[0]):
            continue
        amplitudes = match(blocks, value, left, right)
        error = float(Scattering(left, right, amplitudes, np.zeros(1, dtype=bool)).conservation_error()[0])
        if error < 0.1 * best_error:  # a shift must be worth it
            best, best_error = (left, right, amplitudes[0], attempt > 0 or edge_left or edge_right), error
        if error < 10 * bound:
            break
    if best is None:
        raise TransportError(
            f"the modes of a lead cannot be told apart at squared frequency {w2:.12g} eV/(A^2 amu): choose a slightly "
            "different frequency grid"
        )
    return best


def _states_of(lead: LeadBlocks, w2: float, outgoing_up: bool) -> tuple[LeadStates, bool]:
    """States at one squared frequency, interpolated across a crossing of bands where there is one; whether an edge is met."""
    if lead.parts:
        found = [_states_of(part, w2, outgoing_up) for part in lead.parts if part.rank]
        return side_by_side([states for states, _ in found]), any(edge for _, edge in found)
    states, edge = states_at(lead, w2, outgoing_up)
    if states.regular[0] and not edge and almost_cross(states):
        states = crossing_states(lead, w2, outgoing_up) or states
    return states, edge


def _replace(
    result: Scattering, k: int, left: LeadStates, right: LeadStates, amplitudes: NDArray, flagged: bool
) -> Scattering:
    for old, new in ((result.left, left), (result.right, right)):
        for name in ("outgoing", "incoming", "out_factors", "in_factors", "n_out", "n_in"):
            getattr(old, name)[k] = getattr(new, name)[0]
    result.amplitudes[k] = amplitudes
    result.flagged[k] = flagged
    return result


def match(blocks: JunctionBlocks, w2: NDArray[np.float64], left: LeadStates, right: LeadStates) -> NDArray:
    """Amplitudes of all outgoing states for unit incident flux in each incoming mode.

    Solves ``(1 + alpha g) y = g f`` on the device's ports, where y = (b of the left lead, a of the right lead) and
    f = (a of the left lead, b of the right lead) are each a sum over outgoing and incoming states.

    Returns
    -------
    numpy.ndarray, shape (nw, r_L + r_R, r_L + r_R)
    """
    r_l = blocks.left.rank
    g, alpha = blocks.device.evaluate(w2)
    one = np.eye(g.shape[1]) + alpha[:, None, None] * g
    # (1 + alpha g) y - g f as an operator on the states (a, b) of either lead
    from_left = np.concatenate([-g[:, :, :r_l], one[:, :, :r_l]], axis=2)
    from_right = np.concatenate([one[:, :, r_l:], -g[:, :, r_l:]], axis=2)
    matrix = np.concatenate([real_times(from_left, left.outgoing), real_times(from_right, right.outgoing)], axis=2)
    drive = -np.concatenate([real_times(from_left, left.incoming), real_times(from_right, right.incoming)], axis=2)
    try:
        return np.linalg.solve(matrix, drive)
    except np.linalg.LinAlgError:
        # one singular member spoils a batch: solve one by one and leave NaN, which the caller solves again with care
        amplitudes = np.full(matrix.shape, np.nan, dtype=complex)
        for k in range(len(w2)):
            if np.linalg.matrix_rank(matrix[k]) == len(matrix[k]):
                amplitudes[k] = np.linalg.solve(matrix[k], drive[k])
        return amplitudes
