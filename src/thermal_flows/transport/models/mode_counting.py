"""Models and limits that follow from the mode numbers of the two leads: diffuse mismatch, maximum transmission, radiation."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermal_flows import units
from thermal_flows.transport.junctions.junction import Junction
from thermal_flows.transport.leads.bloch import count_modes
from thermal_flows.transport.leads.blocks import BlockBuilder
from thermal_flows.transport.spectra.frequencies import frequency_grid
from thermal_flows.transport.spectra.mesh import half_shifted_mesh, in_plane_operations
from thermal_flows.transport.spectra.parallel import Progress, share_out
from thermal_flows.transport.spectra.spectrum import TransmissionSpectrum


def open_channels(
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
    """Mode numbers of both leads at every point, and the smaller of them as the transmission.

    Only the leads of the junction are used. Parameters and errors as :func:`solve_transmission`.

    Returns
    -------
    TransmissionSpectrum
        With ``method="maximum_transmission"``: min(M1, M2) at every point. The other models of this module start from it.
    """
    grid = frequency_grid(junction, n_frequencies, frequencies, frequency_weights)
    q_points, q_weights = half_shifted_mesh(q_mesh, in_plane_operations(junction))
    w2 = units.thz_to_w2(grid.frequencies)
    builder = BlockBuilder(junction)

    work = partial(_count_row, builder, q_points, w2)
    counts = np.array(list(share_out(work, len(q_points), n_workers, executor, progress)))
    return TransmissionSpectrum(
        grid.frequencies,
        grid.weights,
        q_points,
        q_weights,
        np.minimum(counts[:, 0], counts[:, 1]),
        counts[:, 0],
        counts[:, 1],
        junction.area,
        "maximum_transmission",
    )


def _count_row(
    builder: BlockBuilder, q_points: NDArray[np.float64], w2: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    left, right = builder.leads(q_points[k])
    return np.stack([count_modes(left, w2), count_modes(right, w2)]).astype(float)


def diffuse_mismatch(
    junction: Junction, q_mesh: tuple[int, int] = (20, 20), n_frequencies: int = 200, **options: Any
) -> TransmissionSpectrum:
    """Diffuse mismatch model with the full dispersion of both leads.

    Parameters
    ----------
    junction : Junction
        Only its leads are used.
    q_mesh, n_frequencies, **options
        As :func:`open_channels`, with its errors.

    Returns
    -------
    TransmissionSpectrum
        With one (zone-averaged) wave vector; see :meth:`TransmissionSpectrum.diffuse_mismatch`.
    """
    return open_channels(junction, q_mesh, n_frequencies, **options).diffuse_mismatch()


def maximum_transmission(
    junction: Junction,
    q_mesh: tuple[int, int] = (20, 20),
    n_frequencies: int = 200,
    *,
    conserve_wave_vector: bool = True,
    **options: Any,
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
    q_mesh, n_frequencies, **options
        As :func:`open_channels`, with its errors.

    Returns
    -------
    TransmissionSpectrum

    Notes
    -----
    The scattering matrix of a harmonic junction is unitary, so that no more than min(M1, M2) of its modes can be transmitted.
    """
    spectrum = open_channels(junction, q_mesh, n_frequencies, **options)
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
    junction: Junction, q_mesh: tuple[int, int] = (20, 20), n_frequencies: int = 200, **options: Any
) -> TransmissionSpectrum:
    """Phonon radiation limit: every mode of the softer lead is transmitted, up to that lead's cut-off.

    It is *not* a bound for elastic transmission: where the stiffer lead has fewer modes than the softer one, it counts channels
    that do not exist. The bound is :func:`maximum_transmission`, which is never larger. Measured conductances above the
    radiation limit tell of inelastic processes.

    Parameters
    ----------
    junction : Junction
        Only its leads are used; the softer one has the lower top frequency.
    q_mesh, n_frequencies, **options
        As :func:`open_channels`, with its errors.

    Returns
    -------
    TransmissionSpectrum
        With ``method="radiation_limit"``.

    Notes
    -----
    R. J. Stoner and H. J. Maris, Phys. Rev. B 48, 16373 (1993).
    """
    return open_channels(junction, q_mesh, n_frequencies, **options).radiation_limit(junction.softer_side)
