"""Phonon transmission across junctions of leads and device (science room: no workflow engine needed)."""

from thermal_flows.transport.errors import JunctionError, TransportError, UnstableLeadError
from thermal_flows.transport.junctions.construction import ConstructionSettings, construct_junction
from thermal_flows.transport.junctions.from_phonopy import junction_from_phonopy
from thermal_flows.transport.junctions.junction import Junction
from thermal_flows.transport.models.acoustic import AcousticMedium, AcousticMismatch, acoustic_mismatch
from thermal_flows.transport.models.acoustic_limit import AcousticLimit, WeldedInterface, acoustic_limit
from thermal_flows.transport.models.mode_counting import diffuse_mismatch, maximum_transmission, radiation_limit
from thermal_flows.transport.solvers.local_dos import (
    LocalDensityOfStates,
    local_dos,
    local_dos_spectrum,
    overlap_factor,
)
from thermal_flows.transport.solvers.modes import LeadModes, ModeScattering, solve_modes
from thermal_flows.transport.solvers.sum_rules import SumRuleErrors, sum_rule_errors
from thermal_flows.transport.solvers.transmission import solve_transmission
from thermal_flows.transport.solvers.zone_sum import ZoneModes, ZoneSum, zone_sum_conductance
from thermal_flows.transport.spectra.spectrum import Checks, IncidentModes, TransmissionSpectrum

__all__ = [
    "AcousticLimit",
    "AcousticMedium",
    "AcousticMismatch",
    "Checks",
    "ConstructionSettings",
    "IncidentModes",
    "Junction",
    "JunctionError",
    "LeadModes",
    "LocalDensityOfStates",
    "ModeScattering",
    "SumRuleErrors",
    "TransmissionSpectrum",
    "TransportError",
    "UnstableLeadError",
    "WeldedInterface",
    "ZoneModes",
    "ZoneSum",
    "acoustic_limit",
    "acoustic_mismatch",
    "construct_junction",
    "diffuse_mismatch",
    "junction_from_phonopy",
    "local_dos",
    "local_dos_spectrum",
    "maximum_transmission",
    "overlap_factor",
    "radiation_limit",
    "solve_modes",
    "solve_transmission",
    "sum_rule_errors",
    "zone_sum_conductance",
]
