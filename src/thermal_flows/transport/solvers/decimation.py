"""Self-energies of leads by decimation, at complex squared frequencies.

Every step joins a slab of 1, 2, 4 ... layers to a copy of itself, until nothing passes through it: the doubling of
M. P. Lopez Sancho, J. M. Lopez Sancho and J. Rubio, J. Phys. F 15, 851 (1985), doi:10.1088/0305-4608/15/4/009. Their
variables, effective dynamical matrices, have poles on the real axis at the frequencies of every isolated slab. There digits
are lost and the wrong branch is reached, often without a trace in the equation for the result. Here a slab is described by
what it reflects and transmits between two absorbing ends (R. Redheffer, J. Math. Phys. 41, 1 (1962),
doi:10.1002/sapm19624111): numbers that are at most one at any squared frequency with a positive imaginary part, so that no
step can diverge and only the retarded solution can be reached. A slab in which a mode's phase advances by a multiple of 2 pi is
as good as a wire and has forgotten what its layers reflect, and so has twice that slab; early on single layers are added.
What remains: where bands of opposite velocity cross, waves that both ends of a slab reflect from one band into the other cancel
for every thickness, and only the broadening, at the price of its inverse times round-off, tells what one end does.

At an interface with ``a = A^+ u`` of the layer below and ``b = B^+ u`` of the layer above (A, B: the ports of
:mod:`thermal_flows.transport.leads.blocks`) the waves are ``a + i b`` upwards and ``a - i b`` downwards; their squared
difference is twice the flux ``-2 Im(a^+ b)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.leads.blocks import LeadBlocks

MAX_STEPS = 60
"""Doublings after which decimation is given up: 2^60 layers."""

LEAST_BROADENING = 1e-14
"""Smallest imaginary part relative to the modulus that double precision can follow."""

_PASSED = 1e-17
_ONE_MORE = (3, 6, 9, 12)


@dataclass(frozen=True)
class DecimatedLead:
    """A semi-infinite lead, seen from either end.

    Attributes
    ----------
    upper, lower : numpy.ndarray, shape (nz, r, r)
        Self-energies on the ports of the device that the lead is attached to, dimensionless: ``upper`` of a lead above the
        device (a right lead, Sigma = A upper A^+), ``lower`` of one below it (a left lead, Sigma = B lower B^+).
    residual : numpy.ndarray, shape (nz,)
        Change of the lead's reflection (at most one) when one more layer is put in front of it: what the arithmetic lost.
    steps : int
        Doublings that were needed.
    """

    upper: NDArray
    lower: NDArray
    residual: NDArray[np.float64]
    steps: int


def decimate(lead: LeadBlocks, z: NDArray) -> DecimatedLead:
    """Self-energies of a lead at many complex squared frequencies at once.

    Parameters
    ----------
    lead : LeadBlocks
    z : numpy.ndarray, shape (nz,)
        Complex squared frequencies, eV/(Angstrom^2 amu), with positive imaginary parts. As many doublings are needed as make
        the slab thicker than the decay length, about log2 of the largest squared frequency over the imaginary part.

    Returns
    -------
    DecimatedLead

    Raises
    ------
    TransportError
        If an imaginary part is not positive or below :data:`LEAST_BROADENING`, or :data:`MAX_STEPS` doublings do not suffice.
    """
    z = np.asarray(z, dtype=complex)
    if not np.all(z.imag > 0):
        raise TransportError("decimation needs squared frequencies with a positive imaginary part: give a broadening")
    if np.any(z.imag < LEAST_BROADENING * np.abs(z)):
        raise TransportError(f"the broadening is too small for double precision: use at least {LEAST_BROADENING:g}")
    one = _Slab.of_layer(lead, z)
    slab, steps = one, 0
    while slab.passes() > _PASSED:
        if steps == MAX_STEPS:
            raise TransportError(
                f"decimation did not converge in {MAX_STEPS} doublings: a mode hardly moves at this frequency; choose a larger "
                "broadening"
            )
        slab, steps = slab.below(slab), steps + 1
        if steps in _ONE_MORE:
            slab = slab.below(one)
    unity = np.eye(lead.rank)
    again, reflected = one.below(slab), slab.below(one)
    residual = np.maximum(
        np.abs(again.from_below - slab.from_below).max(axis=(1, 2), initial=0.0),
        np.abs(reflected.from_above - slab.from_above).max(axis=(1, 2), initial=0.0),
    )
    # a - i b = R (a + i b) with b = S a, and a + i b = R (a - i b) with a = S b
    upper = -1j * np.linalg.solve(unity + slab.from_below, unity - slab.from_below)
    lower = -1j * np.linalg.solve(unity - slab.from_above, unity + slab.from_above)
    return DecimatedLead(upper, lower, residual, steps)


@dataclass(frozen=True)
class _Slab:
    """Reflection of a slab from below and from above, transmission upwards and downwards; each of shape (nz, r, r)."""

    from_below: NDArray[np.complex128]
    from_above: NDArray[np.complex128]
    up: NDArray[np.complex128]
    down: NDArray[np.complex128]

    @classmethod
    def of_layer(cls, lead: LeadBlocks, z: NDArray[np.complex128]) -> _Slab:
        """One layer."""
        ports, r = lead.resolvent.ports, lead.rank
        # absorbing ends are a self-energy -i on the ports
        matrix = z[:, None, None] * np.eye(len(lead.H00)) - (lead.H00 - 1j * (ports @ ports.conj().T))
        g = ports.conj().T @ np.linalg.solve(matrix, np.broadcast_to(ports, (len(z), *ports.shape)))
        unity = np.eye(r)
        return cls(unity - 2j * g[:, r:, r:], 2j * g[:, :r, :r] - unity, 2 * g[:, :r, r:], 2 * g[:, r:, :r])

    def passes(self) -> float:
        """Bound of what passes at any of the squared frequencies, up and down again."""
        size = [np.abs(t).max(axis=(1, 2), initial=0.0) for t in (self.up, self.down)]
        return float((size[0] * size[1]).max(initial=0.0))

    def below(self, other: _Slab) -> _Slab:
        """The slab with another one on top."""
        echo = self.from_above @ other.from_below
        between = np.linalg.inv(np.eye(echo.shape[1]) - echo)  # upward waves between the slabs
        risen = between @ self.up
        sunk = other.down + other.from_below @ between @ self.from_above @ other.down
        return _Slab(
            self.from_below + self.down @ other.from_below @ risen,
            other.from_above + other.up @ self.from_above @ sunk,
            other.up @ risen,
            self.down @ sunk,
        )
