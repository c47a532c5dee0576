"""Figures of an interface: where its conductance comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from thermal_flows.figures.base import BLUE, GREEN, GREY, ORANGE, DataFigure
from thermal_flows.schemas import InterfaceDoc
from thermal_flows.schemas.interface import MeanSpectrum
from thermal_flows.transport.spectra.landauer import spectral_conductance


def plot_interface(doc: InterfaceDoc | dict[str, Any], temperature: float = 300.0) -> DataFigure:
    """Transmission, cumulative conductance and both bulk densities of states over frequency.

    Parameters
    ----------
    doc : InterfaceDoc or dict
        A document, also as it comes from a query.
    temperature : float
        Temperature of the cumulative conductance, K (quantum statistics, two-reservoir Landauer).

    Returns
    -------
    DataFigure
        ``figure.data`` holds ``frequency_THz``, ``transmission`` (per in-plane cell), ``modes_left``, ``modes_right``,
        ``transmittance_left`` and ``transmittance_right`` (means per incident mode), ``cumulative_landauer_MW_m2K``,
        ``cumulative_diffuse_mismatch_MW_m2K`` and, where known, ``left_frequency_THz``, ``left_states_per_THz_atom`` and the
        same of the right lead.
    """
    if isinstance(doc, InterfaceDoc):
        label, area, spectrum, states = doc.label, doc.area, doc.mean_spectrum, doc.density_of_states
    else:
        label, area, states = doc["label"], doc["area"], doc.get("density_of_states")
        plain = {key: value for key, value in doc["mean_spectrum"].items() if not key.startswith("@")}
        spectrum = MeanSpectrum.model_validate(plain)
    left_name, _, right_name = label.partition("|")
    data = _spectral_data(spectrum, area, temperature)
    figure = DataFigure(figsize=(7.0, 8.2 if states else 5.8))
    axes: list[Axes] = list(np.atleast_1d(figure.subplots(3 if states else 2, 1, sharex=True)))
    f = data["frequency_THz"]
    _transmission_panel(axes[0], data, left_name, right_name)
    cumulative = axes[1]
    cumulative.plot(f, data["cumulative_landauer_MW_m2K"], color=GREEN, label="mode matching")
    cumulative.plot(f, data["cumulative_diffuse_mismatch_MW_m2K"], color=GREY, ls="--", label="diffuse mismatch model")
    total = data["cumulative_landauer_MW_m2K"][-1]
    cumulative.annotate(
        f"{total:.4g}", (f[-1], total), xytext=(4, 0), textcoords="offset points", color=GREEN, va="center", fontsize=9
    )
    cumulative.set_ylabel("cumulative $G$\n(MW m$^{-2}$ K$^{-1}$)")
    cumulative.set_ylim(bottom=0)
    cumulative.legend(frameon=False, loc="upper left", title=f"two-reservoir Landauer, {temperature:g} K")
    if states:
        for side, name, colour in (("left", left_name, BLUE), ("right", right_name, ORANGE)):
            x, y = np.asarray(states[f"{side}_frequencies"]), np.asarray(states[f"{side}_states"])
            axes[2].plot(x, y, color=colour, label=name)
            axes[2].fill_between(x, y, color=colour, alpha=0.15, lw=0)
            data[f"{side}_frequency_THz"], data[f"{side}_states_per_THz_atom"] = x, y
        axes[2].set_ylabel("bulk phonon states\n(THz$^{-1}$ atom$^{-1}$)")
        axes[2].set_ylim(bottom=0)
        axes[2].legend(frameon=False, loc="upper left")
    axes[-1].set_xlabel("frequency (THz)")
    axes[-1].set_xlim(left=0)
    for letter, axis in zip("abc", axes, strict=False):
        axis.set_title(f"({letter})", loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{label}: phonon transmission and conductance", fontsize=11)
    figure.data = data
    return figure


def _transmission_panel(axis: Axes, data: dict[str, np.ndarray], left_name: str, right_name: str) -> None:
    f = data["frequency_THz"]
    axis.fill_between(f, data["transmission"], color=GREEN, alpha=0.2, lw=0)
    axis.plot(f, data["transmission"], color=GREEN, label="transmission")
    axis.plot(f, data["modes_left"], color=BLUE, lw=1, label=f"modes of {left_name}")
    axis.plot(f, data["modes_right"], color=ORANGE, lw=1, label=f"modes of {right_name}")
    axis.set_ylabel("sum over modes\nper in-plane cell")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, loc="upper right")


def _spectral_data(spectrum: MeanSpectrum, area: float, temperature: float) -> dict[str, np.ndarray]:
    f, weights = np.array(spectrum.frequencies), np.array(spectrum.frequency_weights)
    transmission = np.array(spectrum.transmission)
    left, right = np.array(spectrum.modes_left), np.array(spectrum.modes_right)
    total = left + right
    diffuse = np.divide(left * right, total, out=np.zeros_like(total), where=total > 0)

    def cumulative(values: np.ndarray) -> np.ndarray:
        return np.cumsum(spectral_conductance(f, values, area, temperature)[0] * weights)

    def per_mode(modes: np.ndarray) -> np.ndarray:
        return np.divide(transmission, modes, out=np.full(len(modes), np.nan), where=modes > 0)

    return {
        "frequency_THz": f,
        "transmission": transmission,
        "modes_left": left,
        "modes_right": right,
        "transmittance_left": per_mode(left),
        "transmittance_right": per_mode(right),
        "cumulative_landauer_MW_m2K": cumulative(transmission),
        "cumulative_diffuse_mismatch_MW_m2K": cumulative(diffuse),
    }


def plot_conductance(doc: InterfaceDoc | dict[str, Any]) -> DataFigure:
    """Conductance over temperature by definition and statistics.

    Parameters
    ----------
    doc : InterfaceDoc or dict

    Returns
    -------
    DataFigure
        ``figure.data`` holds ``temperature_K`` and one array in MW/(m2 K) for every curve, named
        ``method_definition_statistics``.
    """
    entries = [e.model_dump() for e in doc.conductance] if isinstance(doc, InterfaceDoc) else doc["conductance"]
    label = doc.label if isinstance(doc, InterfaceDoc) else doc["label"]
    figure = DataFigure(figsize=(6.4, 4.4))
    axis = figure.subplots()
    curves = sorted({(e["method"], e["definition"], e["statistics"]) for e in entries}, reverse=True)
    colours = {"landauer": GREEN, "nonequilibrium": BLUE}
    for method, definition, statistics in curves:
        mine = [
            e for e in entries if (e["method"], e["definition"], e["statistics"]) == (method, definition, statistics)
        ]
        mine = sorted((e for e in mine if e["value"] is not None), key=lambda e: e["temperature"])
        if not mine:
            continue
        t, g = [e["temperature"] for e in mine], [e["value"] for e in mine]
        axis.errorbar(
            t,
            g,
            yerr=[e["error"] or 0.0 for e in mine],
            color=GREY if method == "diffuse_mismatch" else colours[definition],
            ls={"quantum": "-", "classical": ":"}[statistics],
            marker="o",
            ms=4,
            capsize=2,
            label=f"{method.replace('_', ' ')}, {definition}, {statistics}",
        )
        figure.data[f"{method}_{definition}_{statistics}"] = np.array(g)
        figure.data["temperature_K"] = np.array(t)
    axis.set_xlabel("temperature (K)")
    axis.set_ylabel("$G$ (MW m$^{-2}$ K$^{-1}$)")
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    axis.set_title(label, loc="left", fontsize=11)
    return figure
