"""Frequency grids and their quadrature weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermal_flows.transport.errors import TransportError
from thermal_flows.transport.junctions.junction import Junction


@dataclass(frozen=True)
class FrequencyGrid:
    """Frequencies and quadrature weights, both in THz, shape (nf,)."""

    frequencies: NDArray[np.float64]
    weights: NDArray[np.float64]


def midpoints(top: float, n_frequencies: int) -> FrequencyGrid:
    """Midpoints of equal bins of [0, top], in THz.

    Raises
    ------
    TransportError
        If the number of bins is not a positive whole number.
    """
    if n_frequencies != int(n_frequencies) or n_frequencies < 1:
        raise TransportError(f"n_frequencies must be a positive whole number, got {n_frequencies!r}")
    step = top / int(n_frequencies)
    return FrequencyGrid(np.arange(0.5, int(n_frequencies)) * step, np.full(int(n_frequencies), step))


def frequency_grid(
    junction: Junction,
    n_frequencies: int = 200,
    frequencies: ArrayLike | None = None,
    frequency_weights: ArrayLike | None = None,
) -> FrequencyGrid:
    """Midpoints of equal bins of [0, top of the softer lead], or a checked grid of the user's.

    Raises
    ------
    TransportError
        If the grid is empty, not positive, or not uniform midpoints and without weights.
    """
    if frequencies is None:
        if frequency_weights is not None:
            raise TransportError("frequency_weights were given without frequencies")
        return midpoints(min(junction.top_frequencies), n_frequencies)
    grid = np.atleast_1d(np.asarray(frequencies, dtype=float))
    if grid.ndim != 1 or len(grid) == 0 or not np.all(np.isfinite(grid)) or np.any(grid <= 0):
        raise TransportError("frequencies must be a list of positive numbers, in THz")
    junction.top_frequencies  # noqa: B018 - an unstable lead is refused whatever the grid
    if frequency_weights is not None:
        weights = np.atleast_1d(np.asarray(frequency_weights, dtype=float))
        if weights.shape != grid.shape or not np.all(np.isfinite(weights)):
            raise TransportError(f"frequency_weights must be {len(grid)} numbers in THz, one a frequency")
        return FrequencyGrid(grid, weights)
    step = 2 * grid[0]
    if not np.allclose(grid, (np.arange(len(grid)) + 0.5) * step, rtol=1e-6):
        raise TransportError(
            "frequencies are not the midpoints of equal bins from zero: give frequency_weights (THz), one a frequency"
        )
    return FrequencyGrid(grid, np.full(len(grid), step))
