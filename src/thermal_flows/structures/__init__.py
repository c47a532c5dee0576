"""Geometry: crystals, oriented stacking units and coherent interfaces.

Miller indices refer to the conventional standard cell of pymatgen's ``SpacegroupAnalyzer``. Planes lie in
the xy plane with their normal along +z. A pair is written substrate|film.
"""

from thermal_flows.structures.building import build_interface, find_matches
from thermal_flows.structures.coincidence import Match
from thermal_flows.structures.crystals import BUILTIN_CRYSTALS, BuiltinCrystal, crystal
from thermal_flows.structures.errors import StructureError
from thermal_flows.structures.interface import Interface
from thermal_flows.structures.matching import InPlaneStrain
from thermal_flows.structures.oriented import OrientedCell, oriented_cell, terminations
from thermal_flows.structures.planes import Termination
from thermal_flows.structures.setting import conventional_cell
from thermal_flows.structures.symmetry import equivalent_planes

__all__ = [
    "BUILTIN_CRYSTALS",
    "BuiltinCrystal",
    "InPlaneStrain",
    "Interface",
    "Match",
    "OrientedCell",
    "StructureError",
    "Termination",
    "build_interface",
    "conventional_cell",
    "crystal",
    "equivalent_planes",
    "find_matches",
    "oriented_cell",
    "terminations",
]
