"""What a calculator may offer beyond ASE's interface, so that many forces or second derivatives cost less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from ase import Atoms
from numpy.typing import NDArray


@runtime_checkable
class BatchedForces(Protocol):
    """A calculator that evaluates many sets of atoms in one call."""

    def forces_of(self, images: Sequence[Atoms]) -> NDArray[np.float64]:
        """Forces on several arrangements of the same atoms.

        Parameters
        ----------
        images : sequence of ase.Atoms
            All with the same number of atoms.

        Returns
        -------
        numpy.ndarray, shape (n_images, n_atoms, 3)
            eV/Angstrom.
        """
        ...


@runtime_checkable
class RowHessian(Protocol):
    """A calculator that has second derivatives of the energy by rows, without the whole matrix."""

    def hessian_of(
        self, atoms: Atoms, rows: NDArray[np.intp], progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float64]:
        """Second derivatives with respect to some atoms and all atoms.

        Parameters
        ----------
        atoms : ase.Atoms
        rows : numpy.ndarray of int, shape (n_rows,)
            Atoms whose rows are wanted.
        progress : callable, optional
            Called with (rows done, rows in all).

        Returns
        -------
        numpy.ndarray, shape (n_rows, n_atoms, 3, 3)
            d2E / du_i du_j, eV/Angstrom^2.
        """
        ...

    def hessian_cost(self, atoms: Atoms, rows: NDArray[np.intp]) -> float:
        """Estimated cost of :meth:`hessian_of` in force calls on the same atoms.

        A property of the atoms and the model alone, not of the machine, so that the same input takes the same route; infinite
        where it would need too much memory.
        """
        ...
