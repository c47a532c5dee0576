"""Relaxation of crystals and junctions with any ASE calculator; a relaxation that does not converge is an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.filters import Filter, FrechetCellFilter
from ase.optimize import LBFGS
from numpy.typing import NDArray

from thermal_flows import units

CELL_MODES = {
    "fixed": [],
    "normal": [2, 3, 4],
    "full": [0, 1, 2, 3, 4, 5],
}
"""What of the cell relaxes, and the stress components (Voigt) that vanish then.

``fixed``: nothing. ``normal``: the third cell vector, height and in-plane part; a1 and a2 (in the xy plane) are kept, so that no
traction is left on a plane of constant z. ``full``: everything.
"""

MAX_STEP = 0.1
"""Longest step of an atom in a relaxation, Angstrom."""

MEMORY = 50
"""Steps that a relaxation remembers."""

FIRST_STIFFNESS = 70.0
"""Assumed before the first step, eV/Angstrom^2: more than nearly all crystals have, so that the step is short."""


class ScaledLBFGS(LBFGS):
    """ASE's quasi-Newton optimiser with a first guess of the inverse Hessian that follows the last step.

    See J. Nocedal and S. J. Wright, Numerical Optimization, eq. 7.20. ASE keeps 1/70 Angstrom^2/eV throughout, with which a
    metal takes five times as many steps. After a step along which the energy curves downwards, all is forgotten: every step
    goes downhill, also near a saddle point.
    """

    def update(self, pos: NDArray[np.float64], forces: NDArray[np.float64], r0: Any, f0: Any) -> None:
        """Remember the last step."""
        super().update(pos, forces, r0, f0)
        state = self.state
        if not state.s:
            self._guess = state.H0 * FIRST_STIFFNESS
            return
        s, y = state.s[-1], state.y[-1]
        curvature = float(s @ y)
        if curvature > 0:
            state.H0 = self._guess * (curvature / float(y @ y))
        else:
            for memory in (state.s, state.y, state.rho):
                memory.clear()
            state.iteration = 0


class RelaxationError(RuntimeError):
    """A relaxation that did not reach the force asked for."""


class ThirdVectorFilter(Filter):
    """Atoms and their third cell vector as the degrees of freedom of an optimiser; a1 and a2 stay as they are.

    Generalised positions are those of the atoms before the cell changed, r0 with r = r0 + z0 d, and the vector d times the
    square root of the number of atoms, about as stiff as an atom; a3 becomes a3 + a3_z d.

    Parameters
    ----------
    atoms : ase.Atoms
        With a calculator that has stress; a1 and a2 in the xy plane.
    """

    def __init__(self, atoms: Atoms) -> None:
        super().__init__(atoms, indices=range(len(atoms)))
        self._cell = np.array(atoms.cell)
        self._change = np.zeros(3)

    def get_positions(self) -> NDArray[np.float64]:
        """Generalised positions, shape (n + 1, 3)."""
        r = self.atoms.get_positions()
        z0 = r[:, 2] / (1 + self._change[2])
        return np.vstack([r - z0[:, None] * self._change, self._change * np.sqrt(len(r))])

    def set_positions(self, positions: NDArray[np.float64], **kwargs: Any) -> None:
        """Set atoms and third vector."""
        self._change = positions[-1] / np.sqrt(len(positions) - 1)
        cell = self._cell.copy()
        cell[2] += cell[2, 2] * self._change
        self.atoms.set_cell(cell, scale_atoms=False)
        self.atoms.set_positions(positions[:-1] + positions[:-1, 2:] * self._change, **kwargs)

    def get_forces(self, *args: Any, **kwargs: Any) -> NDArray[np.float64]:
        """Minus the gradient of the energy with respect to the generalised positions."""
        forces = self.atoms.get_forces(*args, **kwargs)
        traction = self.atoms.get_stress(voigt=True)[[4, 3, 2]]  # xz, yz, zz
        on_cell = -self.atoms.get_volume() * traction / (1 + self._change[2]) / np.sqrt(len(forces))
        on_atoms = forces.copy()
        on_atoms[:, 2] += forces @ self._change
        return np.vstack([on_atoms, on_cell])

    def __len__(self) -> int:
        return len(self.atoms) + 1


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
        Largest shear stress with the surface normal (xz, yz), GPa; 0 for a fixed cell.
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
        If the force is not reached within ``max_steps``, forces stop being finite, or the cell is to relax and the calculator
        has no stress.
    ValueError
        If an argument is not usable.
    """
    if cell not in CELL_MODES:
        raise ValueError(f"cell must be one of {', '.join(CELL_MODES)}; got {cell!r}")
    if fmax <= 0 or max_steps < 0:
        raise ValueError(f"fmax must be positive and max_steps not negative; got {fmax} and {max_steps}")
    if cell == "normal" and np.abs(np.array(atoms.cell)[:2, 2]).max() > 1e-8:
        raise ValueError(
            f"a1 and a2 must lie in the xy plane to relax the third vector; the cell is {atoms.cell.tolist()}"
        )
    if CELL_MODES[cell] and "stress" not in getattr(calculator, "implemented_properties", ("stress",)):
        raise RelaxationError(
            f"{type(calculator).__name__} has no stress, which relaxing a cell needs: use a calculator that has, or ASE's "
            "ase.calculators.fd.FiniteDifferenceCalculator around it"
        )
    work = atoms.copy()
    work.set_constraint()  # a file may bring fixed atoms along
    work.calc = calculator
    target: Any = {
        "fixed": lambda: work,
        "normal": lambda: ThirdVectorFilter(work),
        "full": lambda: FrechetCellFilter(work),
    }[cell]()
    optimizer = ScaledLBFGS(target, logfile=os.devnull, maxstep=MAX_STEP, memory=MEMORY, alpha=FIRST_STIFFNESS)
    largest, converged = np.inf, False
    for reached in optimizer.irun(fmax=fmax, steps=max_steps):
        converged = bool(reached)
        largest = float(np.sqrt((target.get_forces() ** 2).sum(axis=1).max()))
        if not np.isfinite(largest):  # never hand positions that are not numbers to a calculator
            break
        if progress is not None:
            progress(optimizer.nsteps, max_steps)
    steps = int(optimizer.nsteps)
    if not converged or not np.isfinite(largest):
        raise RelaxationError(
            f"the relaxation of {atoms.get_chemical_formula()} ({len(atoms)} atoms, cell: {cell}) did not converge: largest "
            f"force {largest:.3g} eV/A after {steps} steps, {fmax:g} asked for. Allow more steps, start from a better "
            "geometry, or check the potential"
        )
    forces = work.get_forces()
    largest = float(np.sqrt((forces**2).sum(axis=1).max()))
    stress, shear = 0.0, 0.0
    if CELL_MODES[cell]:
        voigt = work.get_stress() * units.GPA_PER_EV_A3
        stress = float(np.abs(voigt[CELL_MODES[cell]]).max())
        shear = float(np.abs(voigt[3:5]).max())
    energy = float(work.get_potential_energy())
    work.calc = None
    return Relaxation(work, energy, largest, stress, shear, steps)
