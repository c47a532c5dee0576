"""Figures from documents; every function returns a figure that carries its data."""

from thermal_flows.figures.base import DataFigure
from thermal_flows.figures.interface import plot_conductance, plot_interface

__all__ = ["DataFigure", "plot_conductance", "plot_interface"]
