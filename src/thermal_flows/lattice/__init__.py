"""Force constants and phonons of crystals (science room: no workflow engine needed)."""

from thermal_flows.lattice.pair_constants import ForceConstantsError, PairForceConstants

__all__ = ["ForceConstantsError", "PairForceConstants"]
