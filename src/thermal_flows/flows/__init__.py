"""Flow makers: wiring only."""

from thermal_flows.flows.interface import InterfaceTransmissionMaker
from thermal_flows.flows.resume import unfinished

__all__ = ["InterfaceTransmissionMaker", "unfinished"]
