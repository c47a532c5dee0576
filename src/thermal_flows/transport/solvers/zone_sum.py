"""Conductance as a sum over the modes of one lead's Brillouin zone, each with its own transmittance.

The same integral as that of :func:`thermal_flows.transport.solve_transmission` over frequencies and in-plane wave vectors, by
another quadrature: at each in-plane wave vector, the modes of a mesh of k_z that move towards the interface, at the frequencies
they happen to have. The sums from the two leads agree only for fine meshes; their difference is an error estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermal_flows import units
from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.junctions.junction import Junction
from thermal_flows.transport.leads.blocks import BlockBuilder, JunctionBlocks, LeadBlocks
from thermal_flows.transport.solvers.incident import group_velocities
from thermal_flows.transport.solvers.matching import scatter
from thermal_flows.transport.spectra.mesh import half_shifted_mesh, in_plane_operations
from thermal_flows.transport.spectra.parallel import Progress, share_out

_SAME_FREQUENCY = 1e-9
"""Modes of one wave vector this close (relative, squared frequencies) are treated as degenerate."""

_STANDING = 1e-7
"""Modes slower than this fraction of the lead's fastest mode carry nothing and are not matched."""

_CHUNK = 512
"""Squared frequencies solved at a time."""


@dataclass(frozen=True, eq=False)
class ZoneModes:
    """Modes of one lead's Brillouin zone that move towards the interface, one entry a mode.

    Attributes
    ----------
    wave_vectors : numpy.ndarray, shape (m, 3)
        In-plane fractions of b1, b2, and k_z times the thickness of a principal layer over 2 pi, in [-1/2, 1/2).
    weights : numpy.ndarray, shape (m,)
        Share of the zone; the weights of one branch sum to 1.
    frequencies : numpy.ndarray, shape (m,)
        THz.
    velocities : numpy.ndarray, shape (m,)
        Group velocity along +z, m/s (negative for modes of the right lead).
    transmittances : numpy.ndarray, shape (m,)
        Share of the mode's energy flux that is transmitted; the average over its group for degenerate modes.
    volume : float
        Of the principal layer whose zone is sampled, m3.
    """

    wave_vectors: NDArray[np.float64]
    weights: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    velocities: NDArray[np.float64]
    transmittances: NDArray[np.float64]
    volume: float

    def __len__(self) -> int:
        return len(self.weights)

    def modal_conductance(self, temperatures: ArrayLike, statistics: str = "quantum") -> NDArray[np.float64]:
        """Contribution of every mode, MW/(m2 K), shape (nT, m); the sum over modes is the conductance.

        Parameters
        ----------
        temperatures : array_like
            K.
        statistics : {"quantum", "classical"}

        Raises
        ------
        ValueError
            If a temperature is not positive or the statistics is unknown.
        """
        temperatures = np.atleast_1d(np.asarray(temperatures, dtype=float))
        heat = units.mode_heat_capacity(self.frequencies, temperatures[:, None], statistics)
        flux = np.abs(self.velocities) * self.transmittances * self.weights / self.volume
        return heat * flux * units.MW_PER_WATT


@dataclass(frozen=True, eq=False)
class ZoneSum:
    """Conductance by sums over the zones of both leads.

    Attributes
    ----------
    temperatures : numpy.ndarray, shape (nT,)
        K.
    left, right : numpy.ndarray, shape (nT,)
        Sums over the modes of either lead, MW/(m2 K).
    modes_left, modes_right : ZoneModes
        What was summed.
    mesh : tuple of int
        Points along b1, b2 and k_z.
    unmatched : int
        Modes for which the solver found no partner of the same k_z and velocity (a band edge within round-off); they are
        counted as not transmitted.
    unmatched_bound : float
        What they could add at most to the high-temperature (classical) sum of their side, MW/(m2 K).
    """

    temperatures: NDArray[np.float64]
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    modes_left: ZoneModes
    modes_right: ZoneModes
    mesh: tuple[int, int, int]
    unmatched: int
    unmatched_bound: float

    @property
    def conductance(self) -> NDArray[np.float64]:
        """Mean of both sums, MW/(m2 K), shape (nT,)."""
        return 0.5 * (self.left + self.right)

    @property
    def error(self) -> NDArray[np.float64]:
        """Difference of both sums, MW/(m2 K), shape (nT,): an estimate of the mesh's error, not a bound."""
        return np.abs(self.left - self.right)


def zone_sum_conductance(
    junction: Junction,
    mesh: tuple[int, int, int] = (20, 20, 20),
    temperatures: ArrayLike = (300.0,),
    *,
    statistics: str = "quantum",
    n_workers: int | None = None,
    executor: str = "auto",
    progress: Progress | None = None,
) -> ZoneSum:
    """Landauer conductance by a three-dimensional Brillouin-zone sum over the modes of either lead.

    Parameters
    ----------
    junction : Junction
    mesh : tuple of int
        Points along b1 and b2 and along k_z, half-shifted; the last number is even. The zone is that of the principal layer:
        layers of several primitive cells need fewer points along k_z.
    temperatures : array_like
        K.
    statistics : {"quantum", "classical"}
    n_workers : int, optional
    executor : {"auto", "threads", "processes"}
    progress : callable, optional
        As :func:`thermal_flows.transport.solve_transmission`.

    Returns
    -------
    ZoneSum

    Raises
    ------
    TransportError
        If the mesh is not three positive whole numbers with an even last one.
    UnstableLeadError
        If a lead has imaginary frequencies.
    ValueError
        If a temperature is not positive or the statistics is unknown.

    Notes
    -----
    h = 1/V sum over the mesh of hbar omega v_z t dn/dT / N for v_z towards the interface, with V the volume of a principal
    layer. Modes are found again among the solver's incident ones by k_z and velocity, at their own frequency.
    """
    numbers = np.asarray(mesh)
    if numbers.shape != (3,) or not np.array_equal(numbers, np.rint(numbers)) or np.any(numbers < 1):
        raise TransportError(f"mesh must be three positive whole numbers, for instance (20, 20, 20); got {mesh!r}")
    n1, n2, n3 = (int(n) for n in numbers)
    if n3 % 2:
        raise TransportError(
            f"the number of points along k_z must be even, got {n3}: an odd half-shifted mesh holds k_z = 0, where "
            "modes stand still"
        )
    temperatures = np.atleast_1d(np.asarray(temperatures, dtype=float))
    units.mode_heat_capacity(1.0, temperatures, statistics)  # refuse before the work
    w2_max = float(units.thz_to_w2(max(junction.top_frequencies)))
    q_points, q_weights = _mesh(junction, (n1, n2))
    work = partial(_at_wave_vector, BlockBuilder(junction), q_points, n3, w2_max)
    found = list(share_out(work, len(q_points), n_workers, executor, progress))
    sides = []
    for side, lead in ((0, junction.left), (1, junction.right)):
        rows = [row[side] for row in found]
        sizes = [len(row.w2) for row in rows]
        q = np.repeat(q_points, sizes, axis=0)
        sides.append(
            ZoneModes(
                np.column_stack([q, np.concatenate([row.phases for row in rows]) / (2 * np.pi)]),
                np.repeat(q_weights, sizes) / n3,
                units.w2_to_thz(np.concatenate([row.w2 for row in rows])),
                np.concatenate([row.velocities for row in rows]),
                np.concatenate([row.transmittances for row in rows]),
                junction.area * float(lead.cell[2, 2]) * 1e-30,
            )
        )
    lost = [np.isnan(modes.transmittances) for modes in sides]
    bound = 0.0
    for modes, at in zip(sides, lost, strict=True):
        flux = float((np.abs(modes.velocities) * modes.weights)[at].sum()) / modes.volume
        bound = max(bound, units.BOLTZMANN * flux * units.MW_PER_WATT)
        modes.transmittances[at] = 0.0
    left, right = (modes.modal_conductance(temperatures, statistics).sum(axis=1) for modes in sides)
    return ZoneSum(
        temperatures, left, right, sides[0], sides[1], (n1, n2, n3), int(sum(at.sum() for at in lost)), bound
    )


def _mesh(junction: Junction, q_mesh: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """In-plane mesh reduced by the junction's symmetry.

    Time reversal turns modes that come into modes that go: where no twofold axis makes q and -q alike, both are kept.
    """
    operations = in_plane_operations(junction)
    q, weights = half_shifted_mesh(q_mesh, operations)
    if any(np.array_equal(W, -np.eye(2)) for W in operations):
        return q, weights
    return np.concatenate([q, -q]), np.concatenate([weights, weights]) / 2


@dataclass(frozen=True, eq=False)
class _Branch:
    """Modes of one lead at one in-plane wave vector that move towards the interface."""

    phases: NDArray[np.float64]
    w2: NDArray[np.float64]
    velocities: NDArray[np.float64]
    transmittances: NDArray[np.float64]


def _at_wave_vector(
    builder: BlockBuilder, q_points: NDArray[np.float64], n3: int, w2_max: float, index: int
) -> tuple[_Branch, _Branch]:
    blocks = builder(q_points[index])
    leads = (blocks.left, builder.junction.left), (blocks.right, builder.junction.right)
    modes = [
        _approaching(lead, n3, float(crystal.cell[2, 2]), direction)
        for (lead, crystal), direction in zip(leads, (1.0, -1.0), strict=True)
    ]
    if blocks.left.rank == 0 or blocks.right.rank == 0:
        return modes[0], modes[1]
    others = blocks.right, blocks.left
    # frequencies without modes on the other side transmit nothing
    solved = [np.flatnonzero(other.may_propagate(mode.w2)) for mode, other in zip(modes, others, strict=True)]
    w2 = np.concatenate([mode.w2[at] for mode, at in zip(modes, solved, strict=True)])
    wanted = np.concatenate([np.full(len(at), side) for side, at in enumerate(solved)])
    phases = np.concatenate([mode.phases[at] for mode, at in zip(modes, solved, strict=True)])
    velocities = np.concatenate([mode.velocities[at] for mode, at in zip(modes, solved, strict=True)])
    transmittances = np.empty(len(w2))
    thicknesses = float(leads[0][1].cell[2, 2]), float(leads[1][1].cell[2, 2])
    for start in range(0, len(w2), _CHUNK):
        part = slice(start, start + _CHUNK)
        transmittances[part] = _transmittances(
            blocks, w2[part], w2_max, wanted[part], phases[part], velocities[part], thicknesses
        )
    for side, at in enumerate(solved):
        modes[side].transmittances[at] = transmittances[wanted == side]
    return modes[0], modes[1]


def _approaching(lead: LeadBlocks, n3: int, thickness: float, direction: float) -> _Branch:
    """Modes on the mesh of k_z with velocities of the sign of ``direction``; transmittances zero."""
    phases = 2 * np.pi * ((np.arange(n3) + 0.5) / n3 - 0.5)
    forward = np.exp(1j * phases)[:, None, None] * lead.H01
    w2, vectors = np.linalg.eigh(lead.H00 + forward + forward.conj().swapaxes(1, 2))
    slope = 1j * (forward - forward.conj().swapaxes(1, 2))  # (d D / d phase)
    scale = float(np.abs(w2).max())
    velocities = np.einsum("kia,kij,kja->ka", vectors.conj(), slope, vectors).real
    for k in np.flatnonzero((np.diff(w2, axis=1) < _SAME_FREQUENCY * scale).any(axis=1)):
        edges = np.flatnonzero(np.diff(w2[k]) >= _SAME_FREQUENCY * scale) + 1
        for group in np.split(np.arange(w2.shape[1]), edges):
            if len(group) > 1:
                u = vectors[k][:, group]
                velocities[k, group] = np.linalg.eigvalsh(u.conj().T @ slope[k] @ u)
    speed = thickness * units.RAD_PS_PER_SQRT_W2 * units.METRES_PER_SECOND_PER_ANGSTROM_PS
    positive = w2 > 0
    velocities = speed * velocities / (2 * np.sqrt(np.where(positive, w2, 1.0)))
    moving = positive & (direction * velocities > _STANDING * np.abs(velocities).max())
    own = np.broadcast_to(phases[:, None], w2.shape)[moving]
    return _Branch(own, w2[moving], velocities[moving], np.zeros(len(own)))


def _transmittances(
    blocks: JunctionBlocks,
    w2: NDArray[np.float64],
    w2_max: float,
    side: NDArray[np.intp],
    phases: NDArray[np.float64],
    velocities: NDArray[np.float64],
    thicknesses: tuple[float, float],
) -> NDArray[np.float64]:
    """Transmittance of one given mode at each squared frequency; NaN where the solver has no such mode."""
    result = scatter(blocks, w2, w2_max)
    probabilities, r_l = result.probabilities(), blocks.left.rank
    answer = np.full(len(w2), np.nan)
    for this, lead, states, through in (
        (0, blocks.left, result.left, probabilities[:, r_l:, :r_l]),
        (1, blocks.right, result.right, probabilities[:, :r_l, r_l:]),
    ):
        mine: NDArray[np.intp] = np.flatnonzero(side == this)
        if len(mine) == 0:
            continue
        factors = states.in_factors[mine]
        speeds = group_velocities(lead, w2[mine], states.incoming[mine], factors, thicknesses[this])
        incident = np.arange(lead.rank) < states.n_in[mine, None]
        wanted = velocities[mine, None]
        distance = np.abs(factors - np.exp(1j * phases[mine])[:, None])
        # of several modes with the same k_z the ones with the wanted velocity: their average is that of the degenerate group
        same = incident & (distance < 1e-5) & (np.abs(speeds - wanted) < 1e-3 * np.abs(wanted))
        nearest = np.where(same, distance, np.inf).min(axis=1, initial=np.inf)
        same &= distance <= nearest[:, None] + 1e-7
        share = through[mine].sum(axis=1)
        count = same.sum(axis=1)
        answer[mine] = np.divide(
            np.where(same, share, 0.0).sum(axis=1), count, out=np.full(len(mine), np.nan), where=count > 0
        )
    return answer
