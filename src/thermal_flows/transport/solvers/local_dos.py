"""Local density of states of the device's atoms, from Green's functions or from scattering states."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermal_flows import units
from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.junctions.junction import Junction
from thermal_flows.transport.leads.blocks import BlockBuilder, JunctionBlocks
from thermal_flows.transport.solvers.green_function import (
    absolute_broadening,
    batches,
    decimated_self_energies,
    exact_self_energies,
    off_poles,
    widths,
)
from thermal_flows.transport.solvers.matching import scatter
from thermal_flows.transport.solvers.open_device import OpenDevice
from thermal_flows.transport.spectra.frequencies import frequency_grid, midpoints
from thermal_flows.transport.spectra.mesh import half_shifted_mesh
from thermal_flows.transport.spectra.parallel import Progress, share_out

ROUTES = ("green_function", "scattering_states")
INCIDENT = ("both", "left", "right")


def local_dos(
    junction: Junction,
    q_frac: ArrayLike,
    frequency: ArrayLike,
    route: str = "green_function",
    *,
    incident: str = "both",
    broadening: float | None = None,
    resolve_directions: bool = False,
) -> NDArray[np.float64]:
    """Local density of states of every device atom at one in-plane wave vector.

    Parameters
    ----------
    junction : Junction
    q_frac : array_like, shape (2,)
        In-plane wave vector as fractions of b1, b2.
    frequency : float or array_like, shape (nf,)
        THz, positive.
    route : {"green_function", "scattering_states"}
        From the imaginary part of the device's Green's function, or from the displacements in the scattering states of mode
        matching. They agree inside the bands. *Localised modes* at frequencies where neither lead has modes are in no
        scattering state, and lines without width in the Green's function: give it a ``broadening`` to see them.
    incident : {"both", "left", "right"}
        Phonons that come from both leads, or the partial density of states of those that come from one of them (what plots of
        squared displacements show).
    broadening : float, optional
        For ``green_function`` only: imaginary part of the squared frequency as a fraction of the largest one of both leads. A
        line at frequency f is then a Lorentzian of half width broadening f_max^2 / (2 f).
    resolve_directions : bool
        Keep the displacements along x, y and z apart.

    Returns
    -------
    numpy.ndarray, shape (n_atoms,) or (nf, n_atoms), with one more axis of 3 if directions are resolved
        States per THz. Over all frequencies, localised modes included, every atom has 3. Infinite at a band edge: within a
        relative 1e-9 of one the value is that at a shifted frequency.

    Raises
    ------
    TransportError
        If the wave vector, a frequency or the broadening is not usable, a choice is unknown, or scattering states are asked of
        a lead whose layers are not coupled.

    Notes
    -----
    ``-(1/pi) Im G_ii dw2/df = (1/2 pi) sum_n |u_i^(n)|^2 dw2/df`` with mass-weighted displacements u of incident modes of unit
    flux -2 Im(a^+ b), and ``dw2/df = 2 w2/f`` in eV/(Angstrom^2 amu THz).
    """
    q = np.asarray(q_frac, dtype=float)
    if q.shape != (2,) or not np.all(np.isfinite(q)):
        raise TransportError(f"q_frac must be two fractions of the in-plane reciprocal vectors, got {q_frac!r}")
    f = np.asarray(frequency, dtype=float)
    if f.ndim > 1 or f.size == 0 or not np.all(np.isfinite(f)) or np.any(f <= 0):
        raise TransportError(f"frequency must be positive, one number or a list of them in THz; got {frequency!r}")
    task = _Task.checked(junction, route, broadening)
    if incident not in INCIDENT:
        raise TransportError(f"incident must be one of {', '.join(INCIDENT)}; got {incident!r}")
    total, from_left, from_right = task.solve(BlockBuilder(junction)(q), np.atleast_1d(f))
    found = {"both": total, "left": from_left, "right": from_right}[incident]
    if not resolve_directions:
        found = found.sum(axis=2)
    return found[0] if f.ndim == 0 else found


@dataclass(frozen=True)
class LocalDensityOfStates:
    """Local densities of states, averaged over in-plane wave vectors.

    Attributes
    ----------
    frequencies : numpy.ndarray, shape (nf,)
        THz.
    frequency_weights : numpy.ndarray, shape (nf,)
        Quadrature weights, THz.
    total : numpy.ndarray, shape (nf, n_atoms)
        States per THz of every device atom.
    from_left, from_right : numpy.ndarray, shape (nf, n_atoms)
        Partial densities of states, of phonons that come from the left and from the right lead. They sum to ``total`` but for
        localised modes, which come from nowhere, and for what a broadening absorbs.
    route : str
    broadening : float or None
    """

    frequencies: NDArray[np.float64]
    frequency_weights: NDArray[np.float64]
    total: NDArray[np.float64]
    from_left: NDArray[np.float64]
    from_right: NDArray[np.float64]
    route: str
    broadening: float | None

    @property
    def states(self) -> NDArray[np.float64]:
        """States of every atom on the frequency grid, shape (n_atoms,).

        What lacks to 3 is above the grid, in localised modes, or the error of the mesh and the grid.
        """
        return self.frequency_weights @ self.total


def local_dos_spectrum(
    junction: Junction,
    q_mesh: tuple[int, int] = (10, 10),
    n_frequencies: int = 200,
    route: str = "green_function",
    *,
    frequencies: ArrayLike | None = None,
    frequency_weights: ArrayLike | None = None,
    broadening: float | None = None,
    n_workers: int | None = None,
    executor: str = "auto",
    progress: Progress | None = None,
) -> LocalDensityOfStates:
    """Local densities of states of all device atoms, averaged over the in-plane Brillouin zone.

    At a fixed wave vector they diverge at every band edge, so that sums over a grid converge slowly: for figures give a
    ``broadening``. With about 0.5 / n_frequencies lines are as wide as bins, and every atom has its 3 states within 2 to 8 %
    (measured on two junctions, 6 x 6 wave vectors and 100 to 400 bins).

    Parameters
    ----------
    junction : Junction
    q_mesh : tuple of int
        Half-shifted mesh of in-plane wave vectors. Symmetry does not reduce it: it exchanges atoms, and time reversal
        exchanges the phonons that come from a lead with those that leave into it.
    n_frequencies : int
        Number of equal bins of [0, top of the stiffer lead]; frequencies are their midpoints.
    route, broadening
        As of :func:`local_dos`.
    frequencies, frequency_weights, n_workers, executor, progress
        As of :func:`thermal_flows.transport.solve_transmission`.

    Returns
    -------
    LocalDensityOfStates

    Raises
    ------
    TransportError
        As :func:`local_dos` and :func:`thermal_flows.transport.solve_transmission`.
    """
    task = _Task.checked(junction, route, broadening)
    if frequencies is None and frequency_weights is None:
        grid = midpoints(max(junction.top_frequencies), n_frequencies)
    else:
        grid = frequency_grid(junction, n_frequencies, frequencies, frequency_weights)
    builder = BlockBuilder(junction)
    q_points, q_weights = half_shifted_mesh(q_mesh)
    if not builder.real:  # with real blocks q and -q are the same
        q_points, q_weights = np.concatenate([q_points, -q_points]), np.tile(q_weights / 2, 2)
    work = partial(_row, builder, q_points, task, grid.frequencies)
    mean = np.zeros((3, len(grid.frequencies), junction.device.n_atoms))
    for weight, found in zip(q_weights, share_out(work, len(q_points), n_workers, executor, progress), strict=True):
        mean += weight * found
    return LocalDensityOfStates(grid.frequencies, grid.weights, mean[0], mean[1], mean[2], route, broadening)


def overlap_factor(first: ArrayLike, second: ArrayLike, frequency_weights: ArrayLike) -> float:
    """Overlap of two densities of states, each normalised to one state on the grid.

    ``S = int D1 D2 df / (int D1 df int D2 df)``. It depends on the unit of frequency and on any smoothing: compare values of
    one set only.

    Parameters
    ----------
    first, second : array_like, shape (nf,)
        Densities of states in any common unit.
    frequency_weights : array_like, shape (nf,)
        Quadrature weights, THz.

    Returns
    -------
    float
        1/THz.

    Raises
    ------
    TransportError
        If shapes differ or a density of states is negative, not finite or zero everywhere.
    """
    D1, D2, weights = (np.asarray(v, dtype=float) for v in (first, second, frequency_weights))
    if not D1.ndim == D2.ndim == weights.ndim == 1 or not len(D1) == len(D2) == len(weights):
        raise TransportError("two densities of states and the weights of their grid must be lists of the same length")
    if not all(np.all(np.isfinite(v)) and v.min(initial=0.0) >= 0 for v in (D1, D2)):
        raise TransportError("densities of states must be finite and not negative")
    states = (D1 @ weights) * (D2 @ weights)
    if not states > 0:
        raise TransportError("a density of states without states on this grid has no overlap with anything")
    return float((D1 * D2) @ weights / states)


@dataclass(frozen=True)
class _Task:
    """What is computed at every wave vector."""

    route: str
    w2_max: float
    eta: float | None

    @classmethod
    def checked(cls, junction: Junction, route: str, broadening: float | None) -> _Task:
        if route not in ROUTES:
            raise TransportError(f"route must be one of {', '.join(ROUTES)}; got {route!r}")
        w2_max = float(units.thz_to_w2(max(junction.top_frequencies)))
        if broadening is None:
            return cls(route, w2_max, None)
        if route != "green_function":
            raise TransportError("scattering states know no broadening: leave it out, or use route='green_function'")
        return cls(route, w2_max, absolute_broadening(broadening, w2_max))

    def solve(self, blocks: JunctionBlocks, frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Total and partial densities of states, shape (3, nf, n_atoms, 3), per THz."""
        w2 = units.thz_to_w2(frequencies)
        device = OpenDevice.build(blocks)
        at = np.arange(len(w2))
        if self.eta is None:
            at = np.flatnonzero(blocks.left.may_propagate(w2) | blocks.right.may_propagate(w2))
        found = np.zeros((3, len(w2), len(device.order)))
        if len(at):
            found[:, at] = np.concatenate(
                [part for some in batches(device, w2[at]) for part in self._batch(blocks, device, some)], axis=1
            )
        per_thz = 2 * w2 / frequencies  # dw2/df
        return (found * per_thz[:, None]).reshape(3, len(w2), -1, 3)

    def _batch(self, blocks: JunctionBlocks, device: OpenDevice, w2: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """States per squared frequency, in pieces of shape (3, nw, n)."""

        def solve(at: NDArray[np.float64]) -> NDArray[np.float64]:
            if self.route == "scattering_states":
                return _from_scattering_states(blocks, device, at, self.w2_max)
            return _from_green_function(blocks, device, at, self.eta)

        return [part for part, _ in off_poles(w2, solve)]


def _row(
    builder: BlockBuilder, q_points: NDArray[np.float64], task: _Task, frequencies: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    return task.solve(builder(q_points[k]), frequencies).sum(axis=3)


def _from_green_function(
    blocks: JunctionBlocks, device: OpenDevice, w2: NDArray[np.float64], eta: float | None
) -> NDArray[np.float64]:
    leads = exact_self_energies(blocks, w2) if eta is None else decimated_self_energies(blocks, w2, eta)
    columns, r_l = device.columns(leads.z, leads.left, leads.right), blocks.left.rank
    # the spectral function G Gamma G^+ of either lead
    from_left, from_right = (
        np.einsum("wip,wpq,wiq->wi", part, widths(self_energy), part.conj(), optimize=True).real / (2 * np.pi)
        for part, self_energy in ((columns[:, :, :r_l], leads.left), (columns[:, :, r_l:], leads.right))
    )
    total = -device.diagonal(leads.z, leads.left, leads.right).imag / np.pi
    if eta is None:  # nothing comes from a lead without modes, and round-off would say otherwise
        has_left, has_right = leads.modes_left[:, None] > 0, leads.modes_right[:, None] > 0
        from_left, from_right = np.where(has_left, from_left, 0.0), np.where(has_right, from_right, 0.0)
        total = np.where(has_left | has_right, total, 0.0)
    return np.stack([total, from_left, from_right])


def _from_scattering_states(
    blocks: JunctionBlocks, device: OpenDevice, w2: NDArray[np.float64], w2_max: float
) -> NDArray[np.float64]:
    r_l, r_r = blocks.left.rank, blocks.right.rank
    if r_l == 0 or r_r == 0:
        raise TransportError(
            "a lead whose principal layers are not coupled has no scattering states: use route='green_function'"
        )
    result = scatter(blocks, w2, w2_max)
    left = result.left.outgoing @ result.amplitudes[:, :r_l]
    right = result.right.outgoing @ result.amplitudes[:, r_l:]
    left[:, :, :r_l] += result.left.incoming
    right[:, :, r_l:] += result.right.incoming
    drive = np.concatenate([left[:, :r_l], right[:, r_r:]], axis=1)
    answer = np.concatenate([left[:, r_l:], right[:, :r_r]], axis=1)
    # (w2 - H + i P P^+) u = P (drive + i answer) since answer = P^+ u: no pole of the isolated device
    absorbing = [np.broadcast_to(-1j * np.eye(r), (len(w2), r, r)) for r in (r_l, r_r)]
    inside = device.columns(w2, *absorbing) @ (drive + 1j * answer)
    states = (inside.real**2 + inside.imag**2) / (2 * np.pi)
    parts = states[:, :, :r_l].sum(axis=2), states[:, :, r_l:].sum(axis=2)
    return np.stack([parts[0] + parts[1], *parts])
