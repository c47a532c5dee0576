"""Job makers: unpack, call a science room, return a document."""

from thermal_flows.jobs.crystal import CrystalRelaxMaker
from thermal_flows.jobs.junction import JunctionImportMaker, JunctionMaker
from thermal_flows.jobs.transmission import TransmissionMaker

__all__ = ["CrystalRelaxMaker", "JunctionImportMaker", "JunctionMaker", "TransmissionMaker"]
