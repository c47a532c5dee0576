"""Documents: what a job returns and the database holds."""

from thermal_flows.schemas.common import SCHEMA_VERSION, ConductanceValue, ConvergenceTest, Provenance
from thermal_flows.schemas.interface import ARRAY_FIELDS, CrystalDoc, InterfaceDoc, JunctionDoc

__all__ = [
    "ARRAY_FIELDS",
    "SCHEMA_VERSION",
    "ConductanceValue",
    "ConvergenceTest",
    "CrystalDoc",
    "InterfaceDoc",
    "JunctionDoc",
    "Provenance",
]
