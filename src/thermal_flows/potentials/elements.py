"""Which elements a potential describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thermal_flows.potentials.errors import PotentialError

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure


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
