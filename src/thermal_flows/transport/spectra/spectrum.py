"""The result of a transmission calculation: spectra, conductances and what was checked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.spectra.landauer import check_choice, nonequilibrium_transmission, spectral_conductance


@dataclass(frozen=True)
class IncidentModes:
    """Every propagating mode that meets the interface, one entry a mode.

    Attributes
    ----------
    q_index, frequency_index : numpy.ndarray of int, shape (m,)
        Which wave vector and frequency of the spectrum.
    side : numpy.ndarray of int, shape (m,)
        0: incident from the left lead, 1: from the right lead.
    phases : numpy.ndarray, shape (m,)
        k_z times the thickness of a principal layer, rad, in (-pi, pi].
    velocities : numpy.ndarray, shape (m,)
        Group velocity along +z, m/s (negative for modes incident from the right).
    transmittances, reflectances : numpy.ndarray, shape (m,)
        Fractions of the mode's energy flux. Those of degenerate modes depend on the choice of modes; their sum does not.
    """

    q_index: NDArray[np.intp]
    frequency_index: NDArray[np.intp]
    side: NDArray[np.intp]
    phases: NDArray[np.float64]
    velocities: NDArray[np.float64]
    transmittances: NDArray[np.float64]
    reflectances: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.side)


@dataclass(frozen=True)
class Checks:
    """What the arithmetic says about itself, raw.

    Attributes
    ----------
    conservation : float
        Largest |T + R - 1| over all incident modes.
    conservation_over_bound : float
        Largest ratio of |T + R - 1| to max(1e-9, 1e-14 (omega_max/omega)^2) at the same frequency; above 1 the result is
        worse than round-off explains.
    reciprocity : float
        Largest difference between the transmissions computed from the left and from the right.
    reciprocity_over_bound : float
        The same relative to the bound.
    excess : float
        Largest transmission above min(modes left, modes right); zero or round-off.
    flagged : int
        Points at a band edge, where the two-sided limit is taken (or, where several things meet at once, a squared
        frequency shifted by 1e-9); with a broadening, also points where decimation lost digits.
    solved : int
        Points with open channels on both sides, each solved; the others transmit nothing, exactly.
    points : int
        All points.
    """

    conservation: float = 0.0
    conservation_over_bound: float = 0.0
    reciprocity: float = 0.0
    reciprocity_over_bound: float = 0.0
    excess: float = 0.0
    flagged: int = 0
    solved: int = 0
    points: int = 0


@dataclass(frozen=True)
class TransmissionSpectrum:
    """Phonon transmission of a junction on a mesh of in-plane wave vectors and frequencies.

    Attributes
    ----------
    frequencies : numpy.ndarray, shape (nf,)
        THz.
    frequency_weights : numpy.ndarray, shape (nf,)
        Quadrature weights, THz.
    q_points : numpy.ndarray, shape (nq, 2)
        Fractions of b1, b2.
    q_weights : numpy.ndarray, shape (nq,)
        Sum to 1.
    transmission : numpy.ndarray, shape (nq, nf)
        Sum over modes, per in-plane cell.
    modes_left, modes_right : numpy.ndarray, shape (nq, nf)
        Number of modes incident from either lead.
    area : float
        In-plane cell area, Angstrom^2.
    method : str
        How the transmission was obtained.
    checks : Checks
    modes : IncidentModes or None
        The modes one by one, where asked for.
    temperature : float or None
        The only temperature (K) that mesh and grid were made for, if there is one.
    """

    frequencies: NDArray[np.float64]
    frequency_weights: NDArray[np.float64]
    q_points: NDArray[np.float64]
    q_weights: NDArray[np.float64]
    transmission: NDArray[np.float64]
    modes_left: NDArray[np.float64]
    modes_right: NDArray[np.float64]
    area: float
    method: str
    checks: Checks = field(default_factory=Checks)
    modes: IncidentModes | None = None
    temperature: float | None = None

    @property
    def mean_transmission(self) -> NDArray[np.float64]:
        """Zone average of the transmission, shape (nf,), per in-plane cell."""
        return self.q_weights @ self.transmission

    @property
    def mean_modes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Zone averages of the mode numbers of the left and the right lead, each of shape (nf,), per in-plane cell."""
        return self.q_weights @ self.modes_left, self.q_weights @ self.modes_right

    def mean_transmittance(self, side: str = "left") -> NDArray[np.float64]:
        """Average transmittance per incident mode, shape (nf,); it depends on the side, the transmission does not.

        Parameters
        ----------
        side : {"left", "right"}
            Lead from which the modes come. NaN where that lead has no modes.
        """
        if side not in ("left", "right"):
            raise TransportError(f"side must be 'left' or 'right', not {side!r}")
        modes = self.mean_modes[0 if side == "left" else 1]
        return np.divide(self.mean_transmission, modes, out=np.full(len(modes), np.nan), where=modes > 0)

    def conductance(
        self, temperatures: ArrayLike, statistics: str = "quantum", definition: str = "landauer"
    ) -> NDArray[np.float64]:
        """Interfacial thermal conductance.

        Parameters
        ----------
        temperatures : array_like
            One or more temperatures in K.
        statistics : {"quantum", "classical"}
            Bose-Einstein weights, or equipartition for comparison with classical molecular dynamics.
        definition : {"landauer", "nonequilibrium"}
            Two-reservoir Landauer value, or the value for the temperatures of all phonons (frequency level); see
            :data:`thermal_flows.transport.spectra.landauer.DEFINITIONS`.

        Returns
        -------
        numpy.ndarray, shape (nT,)
            MW/(m2 K).

        Raises
        ------
        ValueError
            If a temperature is not positive or a choice is unknown.
        TransportError
            If mesh and grid were made for another temperature.
        """
        return self.spectral_conductance(temperatures, statistics, definition) @ self.frequency_weights

    def spectral_conductance(
        self, temperatures: ArrayLike, statistics: str = "quantum", definition: str = "landauer"
    ) -> NDArray[np.float64]:
        """Conductance per unit frequency.

        Parameters
        ----------
        temperatures, statistics, definition
            As in :meth:`conductance`, with its errors.

        Returns
        -------
        numpy.ndarray, shape (nT, nf)
            MW/(m2 K THz).
        """
        check_choice(definition)
        self._check_grid(temperatures, statistics)
        transmission = self.mean_transmission
        if definition == "nonequilibrium":
            transmission = nonequilibrium_transmission(transmission, *self.mean_modes)
        return spectral_conductance(self.frequencies, transmission, self.area, temperatures, statistics)

    def cumulative_conductance(
        self, temperatures: ArrayLike, statistics: str = "quantum", definition: str = "landauer"
    ) -> NDArray[np.float64]:
        """Conductance of all phonons up to the upper edge of each frequency's bin.

        Parameters
        ----------
        temperatures, statistics, definition
            As in :meth:`conductance`, with its errors.

        Returns
        -------
        numpy.ndarray, shape (nT, nf)
            MW/(m2 K).
        """
        spectral = self.spectral_conductance(temperatures, statistics, definition)
        return np.cumsum(spectral * self.frequency_weights, axis=1)

    def ballistic_conductance(self, temperatures: ArrayLike, statistics: str = "quantum") -> NDArray[np.float64]:
        """Landauer conductance of either lead on its own, up to the top of the grid.

        The frequency grid of a junction ends at the top of the softer lead: the stiffer lead's value lacks what lies above.

        Parameters
        ----------
        temperatures, statistics
            As in :meth:`conductance`, with its errors.

        Returns
        -------
        numpy.ndarray, shape (2, nT)
            Left and right lead, MW/(m2 K).
        """
        self._check_grid(temperatures, statistics)
        return np.stack(
            [
                spectral_conductance(self.frequencies, modes, self.area, temperatures, statistics)
                @ self.frequency_weights
                for modes in self.mean_modes
            ]
        )

    def maximum_transmission(self) -> TransmissionSpectrum:
        """Every mode of the side with fewer modes transmitted at every wave vector and frequency: an upper bound.

        See :func:`thermal_flows.transport.maximum_transmission`.
        """
        return self._counted(np.minimum(self.modes_left, self.modes_right), "maximum_transmission")

    def radiation_limit(self, side: str) -> TransmissionSpectrum:
        """Every mode of one side transmitted; for the softer side this is the phonon radiation limit, not a bound.

        See :func:`thermal_flows.transport.radiation_limit`.

        Parameters
        ----------
        side : {"left", "right"}

        Raises
        ------
        TransportError
            If there is no such side.
        """
        if side not in ("left", "right"):
            raise TransportError(f"side must be 'left' or 'right', not {side!r}")
        return self._counted(self.modes_left if side == "left" else self.modes_right, "radiation_limit")

    def _counted(self, transmission: NDArray[np.float64], method: str) -> TransmissionSpectrum:
        return replace(self, transmission=transmission.copy(), method=method, checks=Checks(), modes=None)

    def _check_grid(self, temperatures: ArrayLike, statistics: str) -> None:
        if self.temperature is None:
            return
        if statistics == "classical" or not np.allclose(temperatures, self.temperature, rtol=1e-9, atol=0):
            raise TransportError(
                f"mesh and grid hold what is excited at {self.temperature:g} K, by quantum statistics: solve with the "
                "temperature you want, or without one for all temperatures and statistics of a general grid"
            )

    def diffuse_mismatch(self) -> TransmissionSpectrum:
        """Diffuse mismatch model with the full dispersion of both leads, from the mode numbers of this spectrum.

        Xi = M1 M2 / (M1 + M2) of the zone-averaged mode numbers: every phonon forgets where it came from and detailed balance
        holds (P. Reddy, K. Castelino and A. Majumdar, Appl. Phys. Lett. 87, 211908 (2005)).

        Returns
        -------
        TransmissionSpectrum
            With one (averaged) wave vector.
        """
        left, right = self.mean_modes
        total = left + right
        transmission = np.divide(left * right, total, out=np.zeros_like(total), where=total > 0)
        return TransmissionSpectrum(
            self.frequencies,
            self.frequency_weights,
            np.full((1, 2), np.nan),
            np.ones(1),
            transmission[None],
            left[None],
            right[None],
            self.area,
            "diffuse_mismatch",
            temperature=self.temperature,
        )
