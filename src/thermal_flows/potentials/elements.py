"""Which elements a potential describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ase.data import chemical_symbols

from thermal_flows.potentials.errors import PotentialError

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

CHGNET_ELEMENTS = frozenset(chemical_symbols[z] for z in range(1, 95) if z not in range(84, 89))
"""Elements of CHGNet's training set: hydrogen to plutonium without polonium, astatine, radon, francium and radium."""


def element_symbols(atoms: Atoms | Structure) -> set[str]:
    """Chemical symbols that occur in ASE atoms or a pymatgen structure."""
    if hasattr(atoms, "get_chemical_symbols"):
        return set(atoms.get_chemical_symbols())
    return {element.symbol for element in atoms.composition.elements}


def refuse_unknown_elements(name: str, known: frozenset[str], atoms: Atoms | Structure) -> None:
    """Raise if atoms hold an element that the potential does not describe.

    Raises
    ------
    PotentialError
        Naming the unknown elements and the known ones.
    """
    unknown = sorted(element_symbols(atoms) - known)
    if unknown:
        raise PotentialError(
            f"potential {name!r} does not describe {', '.join(unknown)}; it knows {', '.join(sorted(known))}. "
            "Choose another potential or other crystals"
        )
