"""From transmission to conductance: the Landauer formula and the nonequilibrium value beside it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermal_flows import units
from thermal_flows.transport.errors import TransportError

DEFINITIONS = ("landauer", "nonequilibrium")
"""``landauer``: heat flux over the temperature difference of the two reservoirs that *emit* the phonons.
``nonequilibrium``: over the difference of the temperatures of *all* phonons on either side, as extrapolated to the interface
in nonequilibrium molecular dynamics and thermoreflectance, corrected at each frequency."""


def spectral_conductance(
    frequencies: NDArray[np.float64],
    transmission: NDArray[np.float64],
    area: float,
    temperatures: ArrayLike,
    statistics: str = "quantum",
) -> NDArray[np.float64]:
    """Conductance per unit frequency of a zone-averaged transmission.

    Parameters
    ----------
    frequencies : numpy.ndarray, shape (nf,)
        THz.
    transmission : numpy.ndarray, shape (nf,)
        Sum over modes per in-plane cell, averaged over wave vectors.
    area : float
        In-plane cell area, Angstrom^2.
    temperatures : array_like
        K.
    statistics : {"quantum", "classical"}

    Returns
    -------
    numpy.ndarray, shape (nT, nf)
        MW/(m2 K THz). With df = d omega / 2 pi this is hbar omega dn/dT Xi / A.
    """
    temperatures = np.atleast_1d(np.asarray(temperatures, dtype=float))
    heat = units.mode_heat_capacity(frequencies[None, :], temperatures[:, None], statistics)
    return heat * transmission[None, :] / (area * 1e-20) * 1e12 * units.MW_PER_WATT


def nonequilibrium_transmission(
    transmission: NDArray[np.float64], modes_left: NDArray[np.float64], modes_right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Xi / [1 - (Xi/M1 + Xi/M2)/2] of zone averages at each frequency.

    Corrects the temperature of the emitted phonons to that of all phonons, at the frequency level: S. Simons,
    J. Phys. C 7, 4048 (1974); E. S. Landry and A. J. H. McGaughey, Phys. Rev. B 80, 165304 (2009). A homogeneous crystal gives
    infinity, as it must: it has no interface resistance.

    Parameters
    ----------
    transmission, modes_left, modes_right : numpy.ndarray, shape (nf,)
        Zone averages per in-plane cell.
    """
    open_ = (transmission > 0) & (modes_left > 0) & (modes_right > 0)
    result = np.zeros_like(transmission)
    x, m1, m2 = transmission[open_], modes_left[open_], modes_right[open_]
    denominator = 1.0 - 0.5 * (x / m1 + x / m2)
    with np.errstate(divide="ignore"):
        result[open_] = np.where(denominator > 1e-12, x / np.where(denominator > 1e-12, denominator, 1.0), np.inf)
    return result


def check_choice(definition: str) -> None:
    """Raise a :class:`TransportError` unless ``definition`` is known."""
    if definition not in DEFINITIONS:
        raise TransportError(f"definition must be one of {', '.join(DEFINITIONS)}; got {definition!r}")
