"""A potential by name, file or importable calculator factory, and its ASE calculator."""

from thermal_flows.potentials.builtin import BUILTIN_POTENTIALS, BuiltinPotential
from thermal_flows.potentials.errors import PotentialError
from thermal_flows.potentials.forcefields import FORCE_FIELDS, ForceField
from thermal_flows.potentials.mace_file import MACEFile
from thermal_flows.potentials.potential import Potential, resolve_potential
from thermal_flows.potentials.protocols import BatchedForces, RowHessian

__all__ = [
    "BUILTIN_POTENTIALS",
    "FORCE_FIELDS",
    "BatchedForces",
    "BuiltinPotential",
    "ForceField",
    "MACEFile",
    "Potential",
    "PotentialError",
    "RowHessian",
    "resolve_potential",
]
