"""A potential by name or importable calculator factory, and its ASE calculator."""

from thermal_flows.potentials.builtin import BUILTIN_POTENTIALS, BuiltinPotential
from thermal_flows.potentials.errors import PotentialError
from thermal_flows.potentials.potential import Potential, resolve_potential

__all__ = ["BUILTIN_POTENTIALS", "BuiltinPotential", "Potential", "PotentialError", "resolve_potential"]
