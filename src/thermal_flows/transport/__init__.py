"""Phonon transmission across junctions of leads and device (science room: no workflow engine needed)."""

from thermal_flows.transport.construction import ConstructionSettings, construct_junction
from thermal_flows.transport.errors import JunctionError, TransportError, UnstableLeadError
from thermal_flows.transport.from_phonopy import junction_from_phonopy
from thermal_flows.transport.junction import Junction
from thermal_flows.transport.modes import LeadModes, ModeScattering, solve_modes
from thermal_flows.transport.spectrum import Checks, IncidentModes, TransmissionSpectrum
from thermal_flows.transport.transmission import diffuse_mismatch, solve_transmission

__all__ = [
    "Checks",
    "ConstructionSettings",
    "IncidentModes",
    "Junction",
    "JunctionError",
    "LeadModes",
    "ModeScattering",
    "TransmissionSpectrum",
    "TransportError",
    "UnstableLeadError",
    "construct_junction",
    "diffuse_mismatch",
    "junction_from_phonopy",
    "solve_modes",
    "solve_transmission",
]
