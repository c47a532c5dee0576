"""Every constant and unit conversion of the package, once.

The public surface uses eV, Angstrom, amu, THz (ordinary frequency), K, GPa, W/(m K) and m/s. A
dynamical matrix is in eV/(Angstrom^2 amu); its eigenvalues are called *squared frequencies in
matrix units* (symbol ``w2``).

Source: CODATA 2018 (E. Tiesinga et al., Rev. Mod. Phys. 93, 025010 (2021)), written out here: near a band edge a
transmission moves 200 times faster than the frequency unit, so that results must not follow the tables of whichever
scipy is installed.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

ELEMENTARY_CHARGE: float = 1.602176634e-19
"""Elementary charge in C; also one eV in J."""

ATOMIC_MASS: float = 1.66053906660e-27
"""Atomic mass constant in kg; one amu."""

BOLTZMANN: float = 1.380649e-23
"""Boltzmann constant in J/K."""

BOLTZMANN_EV: float = BOLTZMANN / ELEMENTARY_CHARGE
"""Boltzmann constant in eV/K."""

HBAR: float = 6.62607015e-34 / (2 * np.pi)
"""Reduced Planck constant in J s."""

RAD_PS_PER_SQRT_W2: float = float(np.sqrt(ELEMENTARY_CHARGE / (1e-20 * ATOMIC_MASS)) * 1e-12)
"""Angular frequency in rad/ps of a squared frequency of 1 eV/(Angstrom^2 amu): 98.2269."""

THZ_PER_SQRT_W2: float = RAD_PS_PER_SQRT_W2 / (2 * np.pi)
"""Ordinary frequency in THz of a squared frequency of 1 eV/(Angstrom^2 amu): 15.6333."""

METRES_PER_SECOND_PER_ANGSTROM_PS: float = 100.0
"""Velocity in m/s of 1 Angstrom/ps."""

MW_PER_WATT: float = 1e-6
"""Megawatt in one watt."""

COULOMB_EV_A: float = ELEMENTARY_CHARGE / (4 * np.pi * 8.8541878128e-12) * 1e10
"""Coulomb energy e^2 / (4 pi epsilon_0 r) in eV of two elementary charges at 1 Angstrom: 14.3996."""

GPA_PER_EV_A3: float = ELEMENTARY_CHARGE * 1e30 * 1e-9
"""Pressure in GPa of 1 eV/Angstrom^3."""


def thz_to_w2(frequency: ArrayLike) -> NDArray[np.float64]:
    """Squared frequency in eV/(Angstrom^2 amu) of an ordinary frequency in THz.

    Parameters
    ----------
    frequency : array_like
        Ordinary frequencies in THz, any shape.

    Returns
    -------
    numpy.ndarray
        Squared frequencies in eV/(Angstrom^2 amu), same shape; the sign of the frequency is kept,
        so that an imaginary frequency written as a negative number stays negative.
    """
    f = np.asarray(frequency, dtype=float) / THZ_PER_SQRT_W2
    return np.sign(f) * f**2


def w2_to_thz(w2: ArrayLike) -> NDArray[np.float64]:
    """Ordinary frequency in THz of a squared frequency in eV/(Angstrom^2 amu).

    Parameters
    ----------
    w2 : array_like
        Squared frequencies (eigenvalues of dynamical matrices) in eV/(Angstrom^2 amu), any shape.

    Returns
    -------
    numpy.ndarray
        Frequencies in THz, same shape; imaginary frequencies are negative numbers.
    """
    w2 = np.asarray(w2, dtype=float)
    return np.sign(w2) * np.sqrt(np.abs(w2)) * THZ_PER_SQRT_W2


def thz_to_rad_ps(frequency: ArrayLike) -> NDArray[np.float64]:
    """Angular frequency in rad/ps of an ordinary frequency in THz."""
    return 2 * np.pi * np.asarray(frequency, dtype=float)


def resistance_from_conductance(conductance: ArrayLike) -> NDArray[np.float64]:
    """Interfacial resistance in 1e-9 m2K/W of a conductance in MW/m2K (and the other way round)."""
    return 1e3 / np.asarray(conductance, dtype=float)


def thermal_frequency(temperature: float) -> float:
    """Frequency k_B T / h in THz at a temperature in K."""
    return BOLTZMANN * temperature / (2 * np.pi * HBAR) * 1e-12


def mode_heat_capacity(
    frequency: ArrayLike, temperature: ArrayLike, statistics: str = "quantum"
) -> NDArray[np.float64]:
    """Heat capacity of one phonon mode, hbar omega dn/dT, in J/K.

    Parameters
    ----------
    frequency : array_like
        Ordinary frequencies in THz, broadcast against ``temperature``; zero gives the limit k_B.
    temperature : array_like
        Temperatures in K, positive.
    statistics : {"quantum", "classical"}
        Bose-Einstein statistics, or equipartition (k_B for every mode).

    Returns
    -------
    numpy.ndarray
        Heat capacities in J/K.

    Raises
    ------
    ValueError
        If a temperature is not positive and finite, or the statistics is unknown.

    Notes
    -----
    k_B (x/2)^2 / sinh^2(x/2) with x = hbar omega / (k_B T); see e.g. N. W. Ashcroft and N. D. Mermin,
    Solid State Physics, eq. 23.26.
    """
    frequency = np.asarray(frequency, dtype=float)
    temperature = np.asarray(temperature, dtype=float)
    if not np.all(np.isfinite(temperature)) or np.any(temperature <= 0):
        raise ValueError(f"temperatures must be positive, in K; got {temperature.tolist()}")
    if statistics == "classical":
        return np.full(np.broadcast_shapes(frequency.shape, temperature.shape), BOLTZMANN)
    if statistics != "quantum":
        raise ValueError(f"statistics must be 'quantum' or 'classical', not {statistics!r}")
    half_x = HBAR * np.pi * frequency * 1e12 / (BOLTZMANN * temperature)
    # beyond 350 the weight underflows; clipping keeps sinh finite
    half_x = np.clip(np.abs(half_x), 1e-8, 350.0)
    return BOLTZMANN * (half_x / np.sinh(half_x)) ** 2
