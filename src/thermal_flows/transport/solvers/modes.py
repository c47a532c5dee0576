"""The modes that meet an interface at one wave vector and frequency, and how they scatter into each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermal_flows import units
from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.junctions.junction import Junction
from thermal_flows.transport.leads.blocks import BlockBuilder
from thermal_flows.transport.solvers.incident import group_velocities, incident_modes
from thermal_flows.transport.solvers.matching import scatter


@dataclass(frozen=True)
class LeadModes:
    """Modes incident from one lead, sorted by velocity (slowest first).

    Attributes
    ----------
    velocities : numpy.ndarray, shape (m,)
        Group velocity along +z, m/s; negative for modes incident from the right.
    phases : numpy.ndarray, shape (m,)
        k_z times the thickness of a principal layer, rad, in (-pi, pi].
    transmittance, reflectance : numpy.ndarray, shape (m,)
        Fractions of the mode's energy flux; only sums over degenerate modes are unique.
    """

    velocities: NDArray[np.float64]
    phases: NDArray[np.float64]
    transmittance: NDArray[np.float64]
    reflectance: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.velocities)


@dataclass(frozen=True)
class ModeScattering:
    """All modes incident at one wave vector and frequency, and the scattering matrix between them.

    Attributes
    ----------
    left, right : LeadModes
        Incident from either lead.
    amplitudes : numpy.ndarray, shape (m_L + m_R, m_L + m_R)
        [out, in], normalised to unit flux: unitary. Columns: modes incident from the left, then from the right, in the order
        of ``left`` and ``right``. Rows: modes leaving into the left lead, then into the right lead, by increasing speed.
    flagged : bool
        A band edge was met. The modes that merge there carry nothing and are left out: the others scatter as in the limit from
        either side. (Where several things meet at once, the squared frequency was shifted by a relative 1e-9.)
    q_frac : numpy.ndarray, shape (2,)
    frequency : float
        THz.
    """

    left: LeadModes
    right: LeadModes
    amplitudes: NDArray[np.complex128]
    flagged: bool
    q_frac: NDArray[np.float64]
    frequency: float

    @property
    def transmission(self) -> float:
        """Sum of the transmittances of the modes incident from the left."""
        return float(self.left.transmittance.sum())

    @property
    def conservation_error(self) -> float:
        """Largest |T + R - 1| over the incident modes."""
        return max(
            (float(np.abs(m.transmittance + m.reflectance - 1).max()) for m in (self.left, self.right) if len(m)),
            default=0.0,
        )


def solve_modes(junction: Junction, q_frac: ArrayLike, frequency: float) -> ModeScattering:
    """Modes incident from either lead at one point, by mode matching.

    Parameters
    ----------
    junction : Junction
    q_frac : array_like, shape (2,)
        In-plane wave vector as fractions of b1, b2.
    frequency : float
        THz, positive.

    Returns
    -------
    ModeScattering

    Raises
    ------
    TransportError
        If the wave vector or the frequency is not usable.
    """
    q = np.asarray(q_frac, dtype=float)
    if q.shape != (2,) or not np.all(np.isfinite(q)):
        raise TransportError(f"q_frac must be two fractions of the in-plane reciprocal vectors, got {q_frac!r}")
    if not np.isfinite(frequency) or frequency <= 0:
        raise TransportError(f"frequency must be positive, in THz; got {frequency!r}")
    w2 = units.thz_to_w2(np.array([float(frequency)]))
    w2_max = float(units.thz_to_w2(max(junction.top_frequencies)))
    builder = BlockBuilder(junction)
    blocks = builder(q)
    if blocks.left.rank == 0 or blocks.right.rank == 0:
        raise TransportError("a lead whose principal layers are not coupled carries no modes along z")
    result = scatter(blocks, w2, w2_max)
    listed = incident_modes(builder, blocks, w2, result, np.zeros(1, dtype=np.intp))
    r_l = blocks.left.rank
    leads, order, leaving = [], [], []
    for side, offset, lead, states in ((0, 0, blocks.left, result.left), (1, r_l, blocks.right, result.right)):
        mine = np.flatnonzero(listed.side == side)
        by_speed = np.argsort(np.abs(listed.velocities[mine]), kind="stable")
        order.append(offset + by_speed)
        mine = mine[by_speed]
        leads.append(
            LeadModes(
                listed.velocities[mine],
                listed.phases[mine],
                listed.transmittances[mine],
                listed.reflectances[mine],
            )
        )
        n_out = int(states.n_out[0])
        speeds = np.abs(group_velocities(lead, w2, states.outgoing[:, :, :n_out], states.out_factors[:, :n_out], 1.0))
        leaving.append(offset + np.argsort(speeds[0], kind="stable"))
    columns, rows = np.concatenate(order), np.concatenate(leaving)
    amplitudes = result.amplitudes[0][np.ix_(rows, columns)]
    return ModeScattering(leads[0], leads[1], amplitudes, bool(result.flagged[0]), q, float(frequency))
