"""Interfacial thermal conductance and lattice conductivity as atomate2/jobflow workflows.

Importing the package imports none of its rooms, so that ``thermal_flows.transport`` works in a
notebook without loading jobflow, torch or a database.
"""

from thermal_flows._version import __version__

__all__ = ["__version__"]
