"""Figure of the local density of states across a device."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thermal_flows.figures.base import BLUE, GREEN, ORANGE, DataFigure
from thermal_flows.transport import Junction
from thermal_flows.transport.solvers.local_dos import LocalDensityOfStates

_PLANE = 0.25
"""Atoms closer in height than this, in Angstrom, make one plane."""


def plot_local_dos(
    density: LocalDensityOfStates, junction: Junction, left: str = "left", right: str = "right"
) -> DataFigure:
    """Local density of states plane by plane, and of the device's middle by where the phonons come from.

    Parameters
    ----------
    density : LocalDensityOfStates
        Of ``junction``, from :func:`thermal_flows.transport.local_dos_spectrum`.
    junction : Junction
    left, right : str
        Names of the leads.

    Returns
    -------
    DataFigure
        ``figure.data`` holds ``frequency_THz`` (nf,), ``height_A`` (np,), ``states_per_THz_atom`` (np, nf) and the partial
        ones ``from_left_per_THz_atom`` and ``from_right_per_THz_atom`` (np, nf), means over the atoms of a plane.

    Raises
    ------
    ValueError
        If the density belongs to another device.
    """
    heights = junction.device.positions[:, 2]
    if density.total.shape[1] != len(heights):
        raise ValueError(
            f"the density has {density.total.shape[1]} atoms, the device {len(heights)}: give the junction it was computed for"
        )
    members = _planes(heights)
    data: dict[str, NDArray] = {
        "frequency_THz": density.frequencies,
        "height_A": np.array([heights[atoms].mean() for atoms in members]),
    }
    for name, values in (
        ("states_per_THz_atom", density.total),
        ("from_left_per_THz_atom", density.from_left),
        ("from_right_per_THz_atom", density.from_right),
    ):
        data[name] = np.array([values[:, atoms].mean(axis=1) for atoms in members])

    figure = DataFigure(figsize=(7.0, 6.4))
    across, middle = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    image = across.pcolormesh(
        _edges(data["frequency_THz"]),
        _edges(data["height_A"]),
        data["states_per_THz_atom"],
        cmap="viridis",
        rasterized=True,
    )
    figure.colorbar(image, ax=across, label="states (THz$^{-1}$ atom$^{-1}$)")
    across.set_ylabel("height ($\\mathrm{\\AA}$)")
    across.text(0.01, 0.02, left, transform=across.transAxes, color="white", va="bottom")
    across.text(0.01, 0.98, right, transform=across.transAxes, color="white", va="top")
    at = int(np.abs(data["height_A"] - 0.5 * (heights.min() + heights.max())).argmin())
    across.axhline(data["height_A"][at], color="white", lw=0.6, ls=":")
    middle.plot(data["frequency_THz"], data["states_per_THz_atom"][at], color=GREEN, label="all")
    middle.plot(data["frequency_THz"], data["from_left_per_THz_atom"][at], color=BLUE, lw=1, label=f"from {left}")
    middle.plot(data["frequency_THz"], data["from_right_per_THz_atom"][at], color=ORANGE, lw=1, label=f"from {right}")
    middle.set_ylabel("states (THz$^{-1}$ atom$^{-1}$)")
    middle.set_xlabel("frequency (THz)")
    middle.set_ylim(bottom=0)
    middle.legend(frameon=False, title=f"plane at {data['height_A'][at]:.2f} $\\mathrm{{\\AA}}$")
    for letter, axis in zip("ab", (across, middle), strict=True):
        axis.set_title(f"({letter})", loc="left", fontsize=10)
    figure.suptitle(f"{left}|{right}: local density of states", fontsize=11)
    figure.data = data
    return figure


def _planes(heights: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    order = np.argsort(heights, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(heights[order]) > _PLANE) + 1)


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boundaries halfway between values."""
    if len(centres) == 1:
        return centres[0] + np.array([-0.5, 0.5])
    half = 0.5 * (centres[1:] + centres[:-1])
    return np.concatenate([[2 * centres[0] - half[0]], half, [2 * centres[-1] - half[-1]]])
