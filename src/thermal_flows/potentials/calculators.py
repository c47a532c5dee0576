"""Calculators of the built-in potentials: each refuses elements that it does not describe.

matscipy's many-body calculators take every unknown element for the first one they know, and ASE's EMT has
toy parameters for H, C, N and O; both would return numbers without meaning.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT
from matscipy.calculators.manybody import Manybody

from thermal_flows.potentials.elements import refuse_unknown_elements


@contextmanager
def _without_known_warnings() -> Iterator[None]:
    """Silence numpy about np.power(..., where=...) without out: matscipy discards those entries with np.where."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'where' used without 'out'", category=UserWarning)
        yield


class KnownElements:
    """Mixin of an ASE calculator that refuses atoms of unknown elements.

    Attributes
    ----------
    potential_name : str
        Name for the message.
    known_elements : frozenset of str
        Chemical symbols.
    """

    potential_name: str
    known_elements: frozenset[str]

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = tuple(all_changes)
    ) -> None:
        """Compute properties of atoms whose elements are all known.

        Raises
        ------
        PotentialError
            If an element is unknown.
        """
        target = atoms if atoms is not None else getattr(self, "atoms", None)
        if target is not None:
            refuse_unknown_elements(self.potential_name, self.known_elements, target)
        with _without_known_warnings():
            super().calculate(atoms, list(properties), list(system_changes))  # type: ignore[misc]


class KnownElementsManybody(KnownElements, Manybody):
    """matscipy's many-body calculator (energy, forces, stress, analytic Hessian) for known elements.

    Parameters
    ----------
    name : str
        Name of the potential.
    elements : iterable of str
        Elements that it describes.
    **form
        What matscipy's explicit forms return.
    """

    def __init__(self, name: str, elements: frozenset[str], **form: Any):
        super().__init__(**form)
        self.potential_name = name
        self.known_elements = frozenset(elements)

    def get_hessian(self, atoms: Atoms, format: str = "sparse", divide_by_masses: bool = False) -> Any:
        """Second derivatives of the energy; see :class:`matscipy.calculators.manybody.Manybody`.

        Raises
        ------
        PotentialError
            If an element is unknown.
        """
        refuse_unknown_elements(self.potential_name, self.known_elements, atoms)
        if self.check_state(atoms):
            # matscipy would go on with the atoms of the last energy
            self.reset()
            self.atoms = atoms.copy()
        with _without_known_warnings():
            return super().get_hessian(atoms, format=format, divide_by_masses=divide_by_masses)


class KnownElementsEMT(KnownElements, EMT):
    """ASE's effective medium theory for the seven metals to which it was fitted."""

    def __init__(self, name: str, elements: frozenset[str]):
        super().__init__()
        self.potential_name = name
        self.known_elements = frozenset(elements)
