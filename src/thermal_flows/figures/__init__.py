"""Figures from documents and results; every function returns a figure that carries its data."""

from thermal_flows.figures.base import DataFigure
from thermal_flows.figures.interface import plot_conductance, plot_interface
from thermal_flows.figures.local_dos import plot_local_dos

__all__ = ["DataFigure", "plot_conductance", "plot_interface", "plot_local_dos"]
