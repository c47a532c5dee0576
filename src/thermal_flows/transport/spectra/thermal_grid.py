"""Frequencies and wave vectors that carry heat at a low temperature: a small window around zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thermal_flows import units
from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.leads.blocks import BlockBuilder, LeadBlocks

HIGHEST = 20.0
"""h f / k_B T up to which phonons are counted: what lies above carries a few 1e-5 of the heat."""

LOWEST = 1.25
"""h f / k_B T from which wave vectors are to be resolved: what lies below carries some 2 % of the heat."""

_SMALL = 1e-3


@dataclass(frozen=True)
class ThermalWindow:
    """What a grid for one temperature has to hold.

    Attributes
    ----------
    temperature : float
        K.
    top : float
        Highest frequency, THz.
    levels : int
        How often the wave-vector mesh is to be halved around zero.
    """

    temperature: float
    top: float
    levels: int


def thermal_window(builder: BlockBuilder, temperature: float) -> ThermalWindow:
    """Window of frequencies and wave vectors that carry heat across a junction at a temperature.

    Phonons pass only where both leads have some, so the lead with the faster (stiffer) acoustic branches decides how far
    from q = 0 that is. At the frequency ``LOWEST k_B T / h`` that region shall be half as wide as the finest mesh.

    Parameters
    ----------
    builder : BlockBuilder
    temperature : float
        K.

    Returns
    -------
    ThermalWindow

    Raises
    ------
    TransportError
        If the temperature is not positive.
    """
    if not np.isfinite(temperature) or temperature <= 0:
        raise TransportError(f"temperature must be positive, in K; got {temperature!r}")
    thermal = units.thermal_frequency(temperature)
    top = min(*builder.junction.top_frequencies, HIGHEST * thermal)
    reach = LOWEST * thermal / _fastest_slope(builder)
    return ThermalWindow(temperature, top, max(0, int(np.ceil(np.log2(0.25 / reach)))))


def _fastest_slope(builder: BlockBuilder) -> float:
    """Frequency over q (THz, q as a fraction of b1, b2) of the lowest acoustic branch, in the lead and direction where most."""
    angles = np.pi * np.arange(12) / 12
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    leads = [builder.leads(_SMALL * direction) for direction in directions]
    return max(_lowest(lead) for pair in leads for lead in pair) / _SMALL


def _lowest(lead: LeadBlocks) -> float:
    """Lowest frequency of a lead at any phase per layer, THz."""
    small = 2 * np.pi * _SMALL * np.logspace(-2, np.log10(0.5 / _SMALL), 60)
    phases: NDArray[np.float64] = np.concatenate([-small, [0.0], small])
    forward = np.exp(1j * phases)[:, None, None] * lead.H01
    bands = np.linalg.eigvalsh(lead.H00 + forward + forward.conj().swapaxes(1, 2))
    return float(units.w2_to_thz(max(bands[:, 0].min(), 0.0)))
