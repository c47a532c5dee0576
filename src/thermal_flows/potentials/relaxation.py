"""Relaxation of crystals and junctions with any ASE calculator; a relaxation that does not converge is an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS

from thermal_flows import units

CELL_MODES = {
    "fixed": None,
    "normal": [0, 0, 1, 0, 0, 0],
    "full": [1, 1, 1, 1, 1, 1],
}
"""What of the cell relaxes: nothing, the strain along z (in-plane vectors kept), or everything."""


class RelaxationError(RuntimeError):
    """A relaxation that did not reach the force asked for."""


@dataclass(frozen=True)
class Relaxation:
    """A relaxed set of atoms.

    Attributes
    ----------
    atoms : ase.Atoms
        Without calculator.
    energy : float
        eV.
    max_force : float
        Largest force left on an atom, eV/Angstrom.
    max_stress : float
        Largest component of the stress that the relaxation was free to remove, GPa; 0 for a fixed cell.
    residual_shear : float
        Largest shear stress with the surface normal (xz, yz), GPa; it is not relaxed unless the cell is fully free.
    steps : int
    """

    atoms: Atoms
    energy: float
    max_force: float
    max_stress: float
    residual_shear: float
    steps: int


def relax(
    atoms: Atoms,
    calculator: Calculator,
    cell: str = "fixed",
    *,
    fmax: float = 1e-5,
    max_steps: int = 2000,
    progress: Callable[[int, int], None] | None = None,
) -> Relaxation:
    """Relax positions and, where asked, the cell.

    Parameters
    ----------
    atoms : ase.Atoms
        Not changed.
    calculator : ase.calculators.calculator.Calculator
    cell : {"fixed", "normal", "full"}
        See :data:`CELL_MODES`.
    fmax : float
        Largest force allowed, eV/Angstrom; for the cell, of the generalised force on it (eV).
    max_steps : int
    progress : callable, optional
        Called with (steps done, max_steps).

    Returns
    -------
    Relaxation

    Raises
    ------
    RelaxationError
        If the force is not reached within ``max_steps``, or forces stop being finite.
    """
    if cell not in CELL_MODES:
        raise ValueError(f"cell must be one of {', '.join(CELL_MODES)}; got {cell!r}")
    if fmax <= 0 or max_steps < 0:
        raise ValueError(f"fmax must be positive and max_steps not negative; got {fmax} and {max_steps}")
    work = atoms.copy()
    work.calc = calculator
    mask = CELL_MODES[cell]
    target: Any = work if mask is None else FrechetCellFilter(work, mask=mask)
    optimizer = LBFGS(target, logfile=os.devnull, maxstep=0.1, memory=50)
    if progress is not None:
        optimizer.attach(lambda: progress(optimizer.nsteps, max_steps))
    converged = optimizer.run(fmax=fmax, steps=max_steps)
    forces = work.get_forces()
    largest = float(np.sqrt((forces**2).sum(axis=1).max()))
    if not converged or not np.isfinite(largest):
        raise RelaxationError(
            f"the relaxation of {atoms.get_chemical_formula()} ({len(atoms)} atoms, cell: {cell}) did not converge: largest force "
            f"{np.sqrt((target.get_forces() ** 2).sum(axis=1).max()):.3g} eV/A after {optimizer.nsteps} steps, {fmax:g} asked "
            "for. Allow more steps, start from a better geometry, or check the potential"
        )
    stress, shear = 0.0, 0.0
    if mask is not None:
        voigt = work.get_stress() * units.GPA_PER_EV_A3
        stress = float(np.abs(voigt[np.array(mask, dtype=bool)]).max())
        shear = float(np.abs(voigt[3:5]).max())
    energy = float(work.get_potential_energy())
    work.calc = None
    return Relaxation(work, energy, largest, stress, shear, int(optimizer.nsteps))
