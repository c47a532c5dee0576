"""The incident modes of a scattering problem, one by one."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from thermal_flows import units
from thermal_flows.transport.leads.blocks import BlockBuilder, JunctionBlocks, LeadBlocks
from thermal_flows.transport.solvers.matching import Scattering
from thermal_flows.transport.spectra.spectrum import IncidentModes


def incident_modes(
    builder: BlockBuilder,
    blocks: JunctionBlocks,
    w2: NDArray[np.float64],
    result: Scattering,
    frequency_index: NDArray[np.intp],
) -> IncidentModes:
    """The incident modes of a scattering result, one by one (``q_index`` is left at zero)."""
    probabilities = result.probabilities()
    r_l = blocks.left.rank
    parts = []
    for side, lead, states, thickness, columns in (
        (0, blocks.left, result.left, builder.junction.left.cell[2, 2], slice(None, r_l)),
        (1, blocks.right, result.right, builder.junction.right.cell[2, 2], slice(r_l, None)),
    ):
        to_left, to_right = probabilities[:, :r_l, columns].sum(axis=1), probabilities[:, r_l:, columns].sum(axis=1)
        through, back = (to_right, to_left) if side == 0 else (to_left, to_right)
        velocity = group_velocities(lead, w2, states.incoming, states.in_factors, thickness)
        at, mode = np.nonzero(np.arange(lead.rank) < states.n_in[:, None])
        parts.append(
            IncidentModes(
                np.zeros(len(at), dtype=np.intp),
                frequency_index[at],
                np.full(len(at), side, dtype=np.intp),
                np.angle(states.in_factors[at, mode]),
                velocity[at, mode],
                through[at, mode],
                back[at, mode],
            )
        )
    return concatenated(parts)


def group_velocities(
    lead: LeadBlocks, w2: NDArray[np.float64], states: NDArray, factors: NDArray, thickness: float
) -> NDArray[np.float64]:
    """Group velocities along +z of propagating states, m/s, shape (nw, k); zero where there is none.

    Parameters
    ----------
    lead : LeadBlocks
    w2 : numpy.ndarray, shape (nw,)
    states, factors : numpy.ndarray, shapes (nw, 2 r, k) and (nw, k)
        Columns ``(a_{n-1}, b_n)`` and their Bloch factors.
    thickness : float
        Of a principal layer, Angstrom.
    """
    r = lead.rank
    factors = factors[:, None, :]
    a_before, b = states[:, :r], states[:, r:]
    drive = np.concatenate([factors * b, a_before], axis=1)  # on the ports A and B
    answer = np.concatenate([factors * a_before, b], axis=1)
    norms = lead.resolvent.norms(w2, drive, answer)
    flux = -2 * np.einsum("wik,wik->wk", a_before.conj(), b).imag
    # v = L d omega / d(k_z L) = L flux / (2 omega) for a state of unit norm
    speed = thickness * units.RAD_PS_PER_SQRT_W2 * units.METRES_PER_SECOND_PER_ANGSTROM_PS
    return np.divide(flux, norms**2, out=np.zeros_like(flux), where=norms > 0) * speed / (2 * np.sqrt(w2))[:, None]


def no_modes() -> IncidentModes:
    """An empty list."""
    whole, real = np.zeros(0, dtype=np.intp), np.zeros(0)
    return IncidentModes(whole, whole, whole, real, real, real, real)


def concatenated(parts: list[IncidentModes]) -> IncidentModes:
    """One list of several."""
    return IncidentModes(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(IncidentModes)))
