"""Flow makers: wiring only."""

from thermal_flows.flows.interface import InterfaceTransmissionMaker

__all__ = ["InterfaceTransmissionMaker"]
