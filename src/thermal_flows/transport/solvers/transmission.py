"""Transmission of a junction on a mesh of wave vectors and frequencies."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermal_flows import units
from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.junctions.junction import Junction
from thermal_flows.transport.leads.bloch import count_modes
from thermal_flows.transport.leads.blocks import BlockBuilder, JunctionBlocks
from thermal_flows.transport.solvers.green_function import absolute_broadening, caroli_transmission
from thermal_flows.transport.solvers.incident import concatenated, incident_modes, no_modes
from thermal_flows.transport.solvers.matching import conservation_bound, scatter
from thermal_flows.transport.spectra.frequencies import frequency_grid, midpoints
from thermal_flows.transport.spectra.mesh import half_shifted_mesh, in_plane_operations
from thermal_flows.transport.spectra.parallel import Progress, share_out
from thermal_flows.transport.spectra.spectrum import Checks, IncidentModes, TransmissionSpectrum
from thermal_flows.transport.spectra.thermal_grid import thermal_window

METHODS = ("mode_matching", "green_function")

BATCH_BYTES = 2**27
"""Memory for the frequencies that one worker solves at once."""


def solve_transmission(
    junction: Junction,
    q_mesh: tuple[int, int] = (20, 20),
    n_frequencies: int = 200,
    method: str = "mode_matching",
    *,
    frequencies: ArrayLike | None = None,
    frequency_weights: ArrayLike | None = None,
    temperature: float | None = None,
    broadening: float | None = None,
    resolve_modes: bool = False,
    n_workers: int | None = None,
    executor: str = "auto",
    progress: Progress | None = None,
) -> TransmissionSpectrum:
    """Phonon transmission of a junction by mode matching or by Green's functions.

    Parameters
    ----------
    junction : Junction
    q_mesh : tuple of int
        Half-shifted mesh of in-plane wave vectors, reduced by symmetry and time reversal.
    n_frequencies : int
        Number of equal bins of [0, top of the softer lead]; frequencies are their midpoints.
    method : {"mode_matching", "green_function"}
        Mode matching solves for the scattering states; ``green_function`` for the Green's function of the whole device and the
        Caroli trace. Same junction, mesh, grid and mode numbers; the two agree to round-off and check each other.
    frequencies : array_like, optional
        Another grid, THz, positive. If it is not one of equal-bin midpoints, ``frequency_weights`` must be given.
    frequency_weights : array_like, optional
        Quadrature weights, THz.
    temperature : float, optional
        Make mesh and grid for this (low) temperature, K: frequencies end where phonons cease to be excited, and the mesh is
        halved around q = 0 as often as needed; see :func:`thermal_flows.transport.spectra.thermal_grid.thermal_window`.
        The result then has no conductance at other temperatures.
    broadening : float, optional
        For ``green_function`` only. None: no broadening, lead self-energies from Bloch states. A number, say 1e-11: imaginary
        part of the squared frequency as a fraction of the largest one of both leads, self-energies by decimation. The
        transmission then changes in proportion to it, most near band edges and at low frequencies, and
        ``checks.conservation`` is what it absorbs.
    resolve_modes : bool
        Keep phase, velocity, transmittance and reflectance of every incident mode.
    n_workers : int, optional
        Workers that share the wave vectors; all cores by default. The result does not depend on it, to the last bit.
    executor : {"auto", "threads", "processes"}
        What the workers are; ``auto`` takes threads for short runs and processes for long ones, see
        :func:`thermal_flows.transport.spectra.parallel.share_out`.
    progress : callable, optional
        Called with (wave vectors done, wave vectors in all).

    Returns
    -------
    TransmissionSpectrum

    Raises
    ------
    TransportError
        If the mesh or the grid is empty, frequencies are not positive, or weights are missing.
    UnstableLeadError
        If a lead has imaginary frequencies.

    Notes
    -----
    Z.-Y. Ong and G. Zhang, Phys. Rev. B 91, 174302 (2015) for the Bloch matrices; here the scattering state is solved
    directly at zero broadening. Points where either lead certainly has no propagating mode are not solved.
    """
    if method not in METHODS:
        raise TransportError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if method == "green_function" and resolve_modes:
        raise TransportError(
            "Green's functions give the sum over modes only: resolve_modes needs method='mode_matching'"
        )
    if method != "green_function" and broadening is not None:
        raise TransportError(f"{method} works without broadening: leave it out, or use method='green_function'")
    builder = BlockBuilder(junction)
    levels = 0
    if temperature is None:
        grid = frequency_grid(junction, n_frequencies, frequencies, frequency_weights)
    elif frequencies is not None or frequency_weights is not None:
        raise TransportError("give either frequencies or a temperature to choose them for, not both")
    else:
        window = thermal_window(builder, temperature)
        grid, levels = midpoints(window.top, n_frequencies), window.levels
    q_points, q_weights = half_shifted_mesh(q_mesh, in_plane_operations(junction), levels)
    w2 = units.thz_to_w2(grid.frequencies)
    w2_max = float(units.thz_to_w2(max(junction.top_frequencies)))
    if broadening is not None:
        absolute_broadening(broadening, w2_max)  # refused before the work starts

    work = partial(_row, builder, q_points, w2, w2_max, _Route(method, broadening, resolve_modes))
    rows = list(share_out(work, len(q_points), n_workers, executor, progress))
    checks = _summary(rows)
    return TransmissionSpectrum(
        frequencies=grid.frequencies,
        frequency_weights=grid.weights,
        q_points=q_points,
        q_weights=q_weights,
        transmission=np.array([row.transmission for row in rows]),
        modes_left=np.array([row.modes_left for row in rows], dtype=float),
        modes_right=np.array([row.modes_right for row in rows], dtype=float),
        area=junction.area,
        method=method,
        checks=checks,
        modes=_join_modes(rows) if resolve_modes else None,
        temperature=temperature,
    )


@dataclass(frozen=True)
class _Route:
    """How every wave vector is solved."""

    method: str
    broadening: float | None
    resolve_modes: bool


@dataclass
class _Row:
    """Everything found at one wave vector."""

    transmission: NDArray[np.float64]
    modes_left: NDArray[np.intp]
    modes_right: NDArray[np.intp]
    checks: Checks
    modes: IncidentModes | None = None


def _row(
    builder: BlockBuilder,
    q_points: NDArray[np.float64],
    w2: NDArray[np.float64],
    w2_max: float,
    route: _Route,
    k: int,
) -> _Row:
    return _solve_row(builder, q_points[k], w2, w2_max, route)


def _solve_row(
    builder: BlockBuilder, q: NDArray[np.float64], w2: NDArray[np.float64], w2_max: float, route: _Route
) -> _Row:
    blocks = builder(q)
    nf = len(w2)
    row = _Row(np.zeros(nf), np.zeros(nf, dtype=np.intp), np.zeros(nf, dtype=np.intp), Checks(points=nf))
    if blocks.left.rank == 0 or blocks.right.rank == 0:
        row.modes_left, row.modes_right = count_modes(blocks.left, w2), count_modes(blocks.right, w2)
        return row
    may_left, may_right = blocks.left.may_propagate(w2), blocks.right.may_propagate(w2)
    both = np.flatnonzero(may_left & may_right)
    for counts, lead, may in (
        (row.modes_left, blocks.left, may_left),
        (row.modes_right, blocks.right, may_right),
    ):
        alone = np.flatnonzero(may & ~(may_left & may_right))
        counts[alone] = count_modes(lead, w2[alone])
    if len(both) == 0:
        if route.resolve_modes:
            row.modes = no_modes()
        return row
    size = _batch_size(blocks)
    batches = [
        _solve_batch(builder, blocks, w2, both[start : start + size], w2_max, route)
        for start in range(0, len(both), size)
    ]
    forward, backward, conservation, flagged, modes_left, modes_right = (
        np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("forward", "backward", "conservation", "flagged", "modes_left", "modes_right")
    )
    if route.resolve_modes:
        row.modes = concatenated([batch.modes for batch in batches if batch.modes is not None])
    row.transmission[both] = forward
    row.modes_left[both], row.modes_right[both] = modes_left, modes_right
    bound, reciprocity = conservation_bound(w2[both], w2_max), np.abs(forward - backward)
    row.checks = Checks(
        conservation=float(conservation.max()),
        conservation_over_bound=float((conservation / bound).max()),
        reciprocity=float(reciprocity.max()),
        reciprocity_over_bound=float((reciprocity / bound).max()),
        excess=float(np.maximum(forward - np.minimum(modes_left, modes_right), 0).max()),
        flagged=int(flagged.sum()),
        solved=len(both),
        points=nf,
    )
    return row


@dataclass(frozen=True)
class _Batch:
    """What was found at some frequencies, arrays of shape (nw,)."""

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]
    conservation: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    modes_left: NDArray[np.intp]
    modes_right: NDArray[np.intp]
    modes: IncidentModes | None = None


def _batch_size(blocks: JunctionBlocks) -> int:
    """Frequencies to solve at once: many, for speed, in bounded memory; the same whoever solves them."""
    left, right = blocks.left, blocks.right
    ports, states = left.rank + right.rank, 2 * max(left.rank, right.rank)
    inside = max(len(left.H00) * left.rank, len(right.H00) * right.rank)
    return max(1, BATCH_BYTES // (16 * (14 * states**2 + 6 * ports**2 + 3 * inside)))


def _solve_batch(
    builder: BlockBuilder,
    blocks: JunctionBlocks,
    w2: NDArray[np.float64],
    at: NDArray[np.intp],
    w2_max: float,
    route: _Route,
) -> _Batch:
    if route.method == "green_function":
        found = caroli_transmission(blocks, w2[at], w2_max, route.broadening)
        return _Batch(
            found.forward, found.backward, found.conservation, found.flagged, found.modes_left, found.modes_right
        )
    result = scatter(blocks, w2[at], w2_max)
    return _Batch(
        *result.transmission(),
        result.conservation_error(),
        result.flagged,
        result.left.n_in,
        result.right.n_in,
        incident_modes(builder, blocks, w2[at], result, at) if route.resolve_modes else None,
    )


def _summary(rows: list[_Row]) -> Checks:
    largest = ("conservation", "conservation_over_bound", "reciprocity", "reciprocity_over_bound", "excess")
    return Checks(
        **{name: max(getattr(row.checks, name) for row in rows) for name in largest},
        **{name: sum(getattr(row.checks, name) for row in rows) for name in ("flagged", "solved", "points")},
    )


def _join_modes(rows: list[_Row]) -> IncidentModes:
    joined = concatenated([row.modes if row.modes is not None else no_modes() for row in rows])
    lengths = [len(row.modes) if row.modes is not None else 0 for row in rows]
    return IncidentModes(
        np.repeat(np.arange(len(rows), dtype=np.intp), lengths),
        *(getattr(joined, f.name) for f in fields(IncidentModes)[1:]),
    )
