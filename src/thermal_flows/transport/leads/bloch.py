"""Bloch modes of a lead at many frequencies at once.

Three routes, each for what the one before leaves: pairs lambda, 1/lambda of real blocks
(:mod:`thermal_flows.transport.leads.pairs`), eigenvectors one by one (here), and ordered Schur forms for modes that coincide
(:mod:`thermal_flows.transport.leads.schur`). The problem they solve is that of :mod:`thermal_flows.transport.leads.pencil`.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from thermal_flows.transport.leads.blocks import LeadBlocks
from thermal_flows.transport.leads.pairs import paired_states, pairs
from thermal_flows.transport.leads.pencil import (
    ALMOST,
    NEAR_CIRCLE,
    SHIFT,
    LeadStates,
    flux_of,
    shift_inverted,
    side_by_side,
)
from thermal_flows.transport.leads.schur import states_at


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
    if lead.parts:
        return side_by_side([lead_states(part, w2, outgoing_up) for part in lead.parts if part.rank])
    matrix, finite = shift_inverted(lead, w2)
    if not np.isrealobj(matrix):
        return _single_states(matrix, finite, outgoing_up)
    states = paired_states(matrix, finite, outgoing_up)
    doubtful = np.flatnonzero(~states.regular)
    if len(doubtful):
        again = _single_states(matrix[doubtful], finite[doubtful], outgoing_up)
        for name in (f.name for f in fields(LeadStates)):
            getattr(states, name)[doubtful] = getattr(again, name)
    return states


def _single_states(matrix: NDArray, finite: NDArray[np.bool_], outgoing_up: bool) -> LeadStates:
    """States of :func:`lead_states` from the eigenvectors of ``matrix``, of :func:`shift_inverted`."""
    r = matrix.shape[1] // 2
    with np.errstate(all="ignore"):
        # a real batch without propagating modes comes out real
        mu, x = (v.astype(complex, copy=False) for v in np.linalg.eig(matrix))
        factors = SHIFT + 1.0 / mu
        logs = np.log(np.abs(factors))
    factors = np.where(np.isfinite(factors), factors, 0.0)
    distance = np.abs(logs)
    flux = flux_of(x, r)
    propagating = np.abs(flux) > distance
    near = propagating | (distance < NEAR_CIRCLE)
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
    return (np.diff(phases, axis=1).min(axis=1, initial=np.inf) < ALMOST) | (around < ALMOST)


def count_modes(lead: LeadBlocks, w2: NDArray[np.float64]) -> NDArray[np.intp]:
    """Number of modes propagating one way at each squared frequency, shape (nw,).

    Counted from the Bloch factors on the unit circle; within about 1e-12 (relative, of the squared frequency) of a band edge
    the count may belong to either side of it.
    """
    if lead.rank == 0 or len(w2) == 0:
        return np.zeros(len(w2), dtype=np.intp)
    if lead.parts:
        return np.asarray(np.sum([count_modes(part, w2) for part in lead.parts], axis=0))
    counts = np.zeros(len(w2), dtype=np.intp)
    at = np.flatnonzero(lead.may_propagate(w2))
    if len(at) == 0:
        return counts
    matrix, finite = shift_inverted(lead, w2[at])
    single = np.arange(len(at))
    if np.isrealobj(matrix):
        _, propagating, _, doubtful = pairs(matrix)
        counts[at] = propagating.sum(axis=1)
        single = np.flatnonzero(doubtful)
    with np.errstate(all="ignore"):
        factors = SHIFT + 1.0 / np.linalg.eigvals(matrix[single])
    counts[at[single]] = np.count_nonzero(np.abs(np.abs(factors) - 1) < NEAR_CIRCLE, axis=1) // 2
    for k in np.flatnonzero(~finite):
        counts[at[k]] = states_at(lead, float(w2[at[k]]), True)[0].n_out[0]
    return counts
