"""Green's function of the device between its leads, and the transmission by the Caroli formula.

``G(z) = [z - H_D - Sigma_L(z) - Sigma_R(z)]^-1`` with ``Sigma_L = B S_L B^+`` on the first principal layer of the device and
``Sigma_R = A S_R A^+`` on the last one (B, A: the ports of either lead). The self-energies S come from the outgoing and
evanescent Bloch states of the leads, at zero broadening, or from decimation at ``z = w2 + i eta``. The device is solved as a
whole, slice by slice (recursive Green's function); its isolated eigenstates, on which mode matching rests, are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.leads.bloch import count_modes, lead_states
from thermal_flows.transport.leads.blocks import JunctionBlocks, LeadBlocks
from thermal_flows.transport.leads.pencil import LeadStates
from thermal_flows.transport.leads.schur import states_at
from thermal_flows.transport.solvers.decimation import decimate
from thermal_flows.transport.solvers.matching import EDGE_SHIFT, conservation_bound
from thermal_flows.transport.solvers.open_device import OpenDevice

DOUBTFUL = 1e-9
"""Residual above which a self-energy from decimation is flagged."""

BOUND_SHIFT = 1e-7
"""Relative shift of the squared frequency where a mode is bound to the end of a lead or to the device."""

_BOUND = 1e-8
_BATCH_BYTES = 2**26
_ATTEMPTS = 4
T = TypeVar("T")


@dataclass(frozen=True)
class SelfEnergies:
    """Self-energies of both leads on the ports of the device.

    Attributes
    ----------
    z : numpy.ndarray, shape (nw,)
        Squared frequencies they belong to, eV/(Angstrom^2 amu): complex where there is a broadening, shifted by multiples of
        :data:`thermal_flows.transport.solvers.matching.EDGE_SHIFT` where flagged.
    left, right : numpy.ndarray, shapes (nw, r_L, r_L) and (nw, r_R, r_R)
        Dimensionless: ``Sigma_L = B left B^+`` with B of the left lead, ``Sigma_R = A right A^+`` with A of the right lead.
    modes_left, modes_right : numpy.ndarray of int, shape (nw,)
        Number of modes incident from either lead.
    flagged : numpy.ndarray of bool, shape (nw,)
        Where a band edge was met and the squared frequency shifted, or decimation lost digits (:data:`DOUBTFUL`).
    """

    z: NDArray
    left: NDArray[np.complex128]
    right: NDArray[np.complex128]
    modes_left: NDArray[np.intp]
    modes_right: NDArray[np.intp]
    flagged: NDArray[np.bool_]


def exact_self_energies(blocks: JunctionBlocks, w2: NDArray[np.float64], careful: bool = False) -> SelfEnergies:
    """Self-energies at zero broadening, from all outgoing and evanescent Bloch states.

    With u_{n+1} = F u_n for all of them, Sigma_R = H01 g H10 = H01 F (Z.-Y. Ong and G. Zhang, Phys. Rev. B 91, 174302 (2015),
    doi:10.1103/PhysRevB.91.174302, eqs. 13 and 17); on the ports S = b a^-1 with the states (a, b) as columns.

    Parameters
    ----------
    blocks : JunctionBlocks
    w2 : numpy.ndarray, shape (nw,)
        Squared frequencies, eV/(Angstrom^2 amu), positive.
    careful : bool
        Use invariant subspaces at every frequency, not only where modes coincide: slower.

    Raises
    ------
    TransportError
        If modes cannot be told apart even after a shift off a band edge.
    numpy.linalg.LinAlgError
        If a squared frequency is that of a mode bound to the end of a lead (to 1e-8 or so), where S is infinite.
    """
    left, right, z, flagged = _outgoing(blocks, w2, careful)
    # y = S f with (y, f) = (a, b) below the device and (b, a) above it
    r_l, r_r = blocks.left.rank, blocks.right.rank
    return SelfEnergies(
        z,
        _quotient(left.outgoing[:, :r_l], left.outgoing[:, r_l:]),
        _quotient(right.outgoing[:, r_r:], right.outgoing[:, :r_r]),
        left.n_in,
        right.n_in,
        flagged,
    )


def decimated_self_energies(blocks: JunctionBlocks, w2: NDArray[np.float64], eta: float) -> SelfEnergies:
    """Self-energies by decimation at ``w2 + i eta``, see :func:`thermal_flows.transport.solvers.decimation.decimate`.

    Parameters
    ----------
    blocks : JunctionBlocks
    w2 : numpy.ndarray, shape (nw,)
        Squared frequencies, eV/(Angstrom^2 amu).
    eta : float
        Broadening of the squared frequency, eV/(Angstrom^2 amu), positive.

    Raises
    ------
    TransportError
        If the broadening is not positive or decimation does not converge.
    """
    z = w2 + 1j * eta
    left, right = decimate(blocks.left, z), decimate(blocks.right, z)
    return SelfEnergies(
        z,
        left.lower,
        right.upper,
        count_modes(blocks.left, w2),
        count_modes(blocks.right, w2),
        np.maximum(left.residual, right.residual) > DOUBTFUL,
    )


def _outgoing(
    blocks: JunctionBlocks, w2: NDArray[np.float64], careful: bool
) -> tuple[LeadStates, LeadStates, NDArray[np.float64], NDArray[np.bool_]]:
    """Outgoing states of both leads, the squared frequencies they belong to, and where those were shifted."""
    left, right = _states(blocks.left, w2, False), _states(blocks.right, w2, True)
    z, flagged = w2.copy(), np.zeros(len(w2), dtype=bool)
    for k in np.flatnonzero(~(left.regular & right.regular) | careful):
        for attempt in range(_ATTEMPTS):
            value = w2[k] * (1 + attempt * EDGE_SHIFT)
            new_left, edge_left = _states_at(blocks.left, value, False)
            new_right, edge_right = _states_at(blocks.right, value, True)
            if new_left.regular[0] and new_right.regular[0] and not (edge_left or edge_right):
                break
        else:
            raise TransportError(
                f"the modes of a lead cannot be told apart at squared frequency {w2[k]:.12g} eV/(A^2 amu): choose a "
                "slightly different frequency grid, or give a broadening"
            )
        z[k], flagged[k] = value, attempt > 0
        for old, new in ((left, new_left), (right, new_right)):
            for name in ("outgoing", "out_factors", "n_out", "n_in"):
                getattr(old, name)[k] = getattr(new, name)[0]
    return left, right, z, flagged


def _states(lead: LeadBlocks, w2: NDArray[np.float64], outgoing_up: bool) -> LeadStates:
    return lead_states(lead, w2, outgoing_up) if lead.rank else _no_states(len(w2))


def _states_at(lead: LeadBlocks, w2: float, outgoing_up: bool) -> tuple[LeadStates, bool]:
    return states_at(lead, w2, outgoing_up) if lead.rank else (_no_states(1), False)


def _no_states(nw: int) -> LeadStates:
    """A lead whose layers are not coupled."""
    states, factors, none = np.zeros((nw, 0, 0), complex), np.zeros((nw, 0), complex), np.zeros(nw, dtype=np.intp)
    return LeadStates(states, states, factors, factors, none, none, np.ones(nw, dtype=bool))


def _quotient(drive: NDArray, answer: NDArray) -> NDArray:
    """``drive answer^-1``, shape (nw, r, r); states are brought to one size first: evanescent ones have any."""
    size = np.sqrt((np.abs(drive) ** 2 + np.abs(answer) ** 2).sum(axis=1))[:, None, :]
    if answer.shape[1] and np.linalg.svd(answer / size, compute_uv=False)[:, -1].min() < _BOUND:
        # the quotient would have lost all digits long before the matrix is singular to the last one
        raise np.linalg.LinAlgError("a mode is bound to the end of a lead")
    return np.linalg.solve((answer / size).swapaxes(1, 2), (drive / size).swapaxes(1, 2)).swapaxes(1, 2)


@dataclass(frozen=True)
class CaroliTransmission:
    """Transmission of a batch of squared frequencies at one wave vector, by Green's functions.

    Attributes
    ----------
    forward, backward : numpy.ndarray, shape (nw,)
        ``Tr[Gamma_R G Gamma_L G^+]`` and the same with the leads exchanged, from different columns of G.
    modes_left, modes_right : numpy.ndarray of int, shape (nw,)
        Modes incident from either lead.
    conservation : numpy.ndarray, shape (nw,)
        Largest |T + R - 1| over the incident channels (eigenvectors of Gamma_L and Gamma_R). With a broadening, what the
        broadening absorbs.
    flagged : numpy.ndarray of bool, shape (nw,)
        Where the squared frequency was shifted off a band edge or a bound mode, or decimation lost digits.
    """

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]
    modes_left: NDArray[np.intp]
    modes_right: NDArray[np.intp]
    conservation: NDArray[np.float64]
    flagged: NDArray[np.bool_]


def caroli_transmission(
    blocks: JunctionBlocks, w2: NDArray[np.float64], w2_max: float, broadening: float | None = None
) -> CaroliTransmission:
    """Transmission at one wave vector and many squared frequencies.

    C. Caroli, R. Combescot, P. Nozieres and D. Saint-James, J. Phys. C 4, 916 (1971), doi:10.1088/0022-3719/4/8/018; reflection
    of channels after D. S. Fisher and P. A. Lee, Phys. Rev. B 23, 6851 (1981), doi:10.1103/PhysRevB.23.6851.

    Parameters
    ----------
    blocks : JunctionBlocks
    w2 : numpy.ndarray, shape (nw,)
        Squared frequencies, eV/(Angstrom^2 amu), positive.
    w2_max : float
        Top of the stiffer lead, eV/(Angstrom^2 amu): the scale of round-off and of the broadening.
    broadening : float, optional
        As a fraction of ``w2_max``, with self-energies by decimation. None: no broadening, self-energies from Bloch states.

    Raises
    ------
    TransportError
        If the broadening is not positive, decimation does not converge, or modes cannot be told apart.
    """
    device = OpenDevice.build(blocks)
    if broadening is not None:
        eta = absolute_broadening(broadening, w2_max)
        parts = [_caroli(device, decimated_self_energies(blocks, some, eta)) for some in batches(device, w2)]
        return _joined(parts)

    def solve(some: NDArray[np.float64], careful: bool = False) -> list[CaroliTransmission]:
        found = off_poles(some, lambda at: _caroli(device, exact_self_energies(blocks, at, careful)))
        return [replace(part, flagged=part.flagged | shifted) for part, shifted in found]

    result = _joined([part for some in batches(device, w2) for part in solve(some)])
    again = np.flatnonzero(~(result.conservation < 0.1 * conservation_bound(w2, w2_max)))
    if len(again):
        repeated = _joined([part for some in batches(device, w2[again]) for part in solve(some, careful=True)])
        better = repeated.conservation < result.conservation[again]
        for f in fields(CaroliTransmission):
            getattr(result, f.name)[again[better]] = getattr(repeated, f.name)[better]
    return result


def absolute_broadening(broadening: float, w2_max: float) -> float:
    """Broadening of the squared frequency in eV/(Angstrom^2 amu), from its fraction of the largest one.

    Raises
    ------
    TransportError
        If it is not between 0 and 1.
    """
    if not 0 < broadening < 1:
        raise TransportError(
            f"broadening is a fraction of the largest squared frequency, between 0 and 1; got {broadening!r}. Leave it out "
            "for the limit of no broadening"
        )
    return broadening * w2_max


def batches(device: OpenDevice, w2: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """The squared frequencies in pieces that fit into a bounded memory."""
    step = max(1, _BATCH_BYTES // device.bytes_per_frequency)
    for start in range(0, len(w2), step):
        yield w2[start : start + step]


def off_poles(w2: NDArray[np.float64], solve: Callable[[NDArray[np.float64]], T]) -> list[tuple[T, bool]]:
    """Results of ``solve`` for all squared frequencies, in order and in as few pieces as possible.

    A squared frequency at which a matrix is singular, that of a mode bound to the end of a lead or to the device, is
    shifted by a multiple of :data:`BOUND_SHIFT`; the piece then has True beside it.

    Raises
    ------
    TransportError
        If shifts do not help.
    """
    try:
        return [(solve(w2), False)]
    except np.linalg.LinAlgError as error:
        if len(w2) > 1:
            half = len(w2) // 2
            return off_poles(w2[:half], solve) + off_poles(w2[half:], solve)
        reason = error
    for attempt in range(1, _ATTEMPTS):
        try:
            return [(solve(w2 * (1 + attempt * BOUND_SHIFT)), True)]
        except np.linalg.LinAlgError as error:
            reason = error
    raise TransportError(
        f"no Green's function at squared frequency {w2[0]:.12g} eV/(A^2 amu) nor close to it: choose a slightly different "
        "frequency grid, or give a broadening"
    ) from reason


def _joined(parts: list[CaroliTransmission]) -> CaroliTransmission:
    names = [f.name for f in fields(CaroliTransmission)]
    return CaroliTransmission(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _caroli(device: OpenDevice, leads: SelfEnergies) -> CaroliTransmission:
    r_l = leads.left.shape[1]
    ports = device.on_ports(device.columns(leads.z, leads.left, leads.right))
    gamma_l, gamma_r = widths(leads.left), widths(leads.right)
    up, down = ports[:, r_l:, :r_l], ports[:, :r_l, r_l:]
    into_l, into_r = _channels(gamma_l, leads.modes_left), _channels(gamma_r, leads.modes_right)
    through_l, through_r = _squared(_adjoint(into_r) @ up @ into_l), _squared(_adjoint(into_l) @ down @ into_r)
    back_l = _reflected(ports[:, :r_l, :r_l], into_l)
    back_r = _reflected(ports[:, r_l:, r_l:], into_r)
    violation = [
        np.where(np.arange(into.shape[2]) < modes[:, None], np.abs(through + back - 1.0), 0.0).max(axis=1, initial=0.0)
        for into, modes, through, back in (
            (into_l, leads.modes_left, through_l, back_l),
            (into_r, leads.modes_right, through_r, back_r),
        )
    ]
    return CaroliTransmission(
        _trace(gamma_r @ up, gamma_l @ _adjoint(up)),
        _trace(gamma_l @ down, gamma_r @ _adjoint(down)),
        leads.modes_left,
        leads.modes_right,
        np.maximum(*violation),
        leads.flagged,
    )


def widths(self_energy: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """``Gamma = i (S - S^+)`` on the ports, shape as ``self_energy``."""
    return 1j * (self_energy - _adjoint(self_energy))


def _channels(gamma: NDArray, modes: NDArray[np.intp]) -> NDArray[np.complex128]:
    """Columns w with Gamma = sum w w^+, one a propagating mode, then zeros; shape as ``gamma``."""
    values, vectors = np.linalg.eigh(gamma)
    kept = np.arange(gamma.shape[1]) < modes[:, None]
    values = np.where(kept, np.maximum(values[:, ::-1], 0.0), 0.0)
    return vectors[:, :, ::-1] * np.sqrt(values)[:, None, :]


def _reflected(g: NDArray, into: NDArray) -> NDArray[np.float64]:
    """Reflected fraction of every channel, shape (nw, r)."""
    return _squared(1j * _adjoint(into) @ g @ into - np.eye(into.shape[1]))


def _squared(amplitudes: NDArray) -> NDArray[np.float64]:
    return (amplitudes.real**2 + amplitudes.imag**2).sum(axis=1)


def _adjoint(m: NDArray) -> NDArray:
    return m.conj().swapaxes(1, 2)


def _trace(first: NDArray, second: NDArray) -> NDArray[np.float64]:
    """Tr[first second]."""
    return np.einsum("wij,wji->w", first, second).real
