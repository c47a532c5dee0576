"""Phonon transmission across junctions of leads and device (science room: no workflow engine needed)."""

from thermal_flows.transport.errors import JunctionError, TransportError, UnstableLeadError
from thermal_flows.transport.junction import Junction
from thermal_flows.transport.modes import LeadModes, ModeScattering, solve_modes
from thermal_flows.transport.spectrum import Checks, IncidentModes, TransmissionSpectrum
from thermal_flows.transport.transmission import diffuse_mismatch, solve_transmission

__all__ = [
    "Checks",
    "IncidentModes",
    "Junction",
    "JunctionError",
    "LeadModes",
    "ModeScattering",
    "TransmissionSpectrum",
    "TransportError",
    "UnstableLeadError",
    "diffuse_mismatch",
    "solve_modes",
    "solve_transmission",
]
