"""Limits of the transmission that follow from the leads alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from thermal_flows.transport.junctions.junction import Junction
from thermal_flows.transport.solvers.transmission import open_channels
from thermal_flows.transport.spectra.parallel import Progress
from thermal_flows.transport.spectra.spectrum import TransmissionSpectrum


def maximum_transmission(
    junction: Junction,
    q_mesh: tuple[int, int] = (20, 20),
    n_frequencies: int = 200,
    *,
    conserve_wave_vector: bool = True,
    frequencies: ArrayLike | None = None,
    frequency_weights: ArrayLike | None = None,
    n_workers: int | None = None,
    executor: str = "auto",
    progress: Progress | None = None,
) -> TransmissionSpectrum:
    """Elastic maximum transmission: every mode of the side with fewer modes is transmitted.

    Parameters
    ----------
    junction : Junction
        Only its leads are used.
    conserve_wave_vector : bool
        True: min(M1, M2) at every wave vector and frequency, an upper bound of the junction's transmission, whatever its device.
        False: min of the zone-averaged mode numbers, an upper bound also for interfaces that scatter diffusely (one averaged
        wave vector); never below the other.
    q_mesh, n_frequencies, frequencies, frequency_weights, n_workers, executor, progress
        As :func:`thermal_flows.transport.solve_transmission`, with its errors.

    Returns
    -------
    TransmissionSpectrum

    Notes
    -----
    The scattering matrix of a harmonic junction is unitary, so that no more than min(M1, M2) of its modes can be transmitted.
    """
    spectrum = open_channels(
        junction,
        q_mesh,
        n_frequencies,
        frequencies=frequencies,
        frequency_weights=frequency_weights,
        n_workers=n_workers,
        executor=executor,
        progress=progress,
    )
    if conserve_wave_vector:
        return spectrum
    left, right = spectrum.mean_modes
    return replace(
        spectrum,
        q_points=np.full((1, 2), np.nan),
        q_weights=np.ones(1),
        transmission=np.minimum(left, right)[None],
        modes_left=left[None],
        modes_right=right[None],
    )


def radiation_limit(
    junction: Junction,
    q_mesh: tuple[int, int] = (20, 20),
    n_frequencies: int = 200,
    *,
    frequencies: ArrayLike | None = None,
    frequency_weights: ArrayLike | None = None,
    n_workers: int | None = None,
    executor: str = "auto",
    progress: Progress | None = None,
) -> TransmissionSpectrum:
    """Phonon radiation limit: every mode of the softer lead is transmitted, up to that lead's cut-off.

    It is *not* a bound for elastic transmission: where the stiffer lead has fewer modes than the softer one, it counts channels
    that do not exist. The bound is :func:`maximum_transmission`, which is never larger. Measured conductances above the
    radiation limit tell of inelastic processes.

    Parameters
    ----------
    junction : Junction
        Only its leads are used; the softer one has the lower top frequency.
    q_mesh, n_frequencies, frequencies, frequency_weights, n_workers, executor, progress
        As :func:`thermal_flows.transport.solve_transmission`, with its errors.

    Returns
    -------
    TransmissionSpectrum
        With ``method="radiation_limit"``.

    Notes
    -----
    R. J. Stoner and H. J. Maris, Phys. Rev. B 48, 16373 (1993).
    """
    spectrum = open_channels(
        junction,
        q_mesh,
        n_frequencies,
        frequencies=frequencies,
        frequency_weights=frequency_weights,
        n_workers=n_workers,
        executor=executor,
        progress=progress,
    )
    return spectrum.radiation_limit(junction.softer_side)
