"""Rows of the Hessian of a periodic set of atoms: analytic where the calculator has one, else finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from numpy.typing import NDArray

from thermal_flows.lattice.pair_constants import ForceConstantsError

Progress = Callable[[int, int], None]

STEPS = (0.02, 0.01, 0.005, 0.0025)
"""Displacements tried by the step check, Angstrom, largest first."""

SETTLED = 1e-6
"""Change on halving the step, relative to the largest force constant, below which smaller steps are not tried."""


@dataclass(frozen=True)
class HessianRows:
    """Second derivatives of the energy with respect to some atoms and all atoms.

    Attributes
    ----------
    rows : numpy.ndarray of int, shape (n_rows,)
        Atoms whose rows are given.
    values : numpy.ndarray, shape (n_rows, n_atoms, 3, 3)
        d2E / du_i du_j, eV/Angstrom^2.
    method : str
        ``"analytic"`` or ``"finite_differences"``.
    step : float or None
        Displacement, Angstrom, of finite differences.
    step_error : float or None
        Largest change of a checked row when the step is halved, eV/Angstrom^2.
    """

    rows: NDArray[np.intp]
    values: NDArray[np.float64]
    method: str
    step: float | None = None
    step_error: float | None = None


def has_analytic_hessian(calculator: Calculator) -> bool:
    """Whether the calculator offers second derivatives of its own (ASE property ``hessian``)."""
    return "hessian" in getattr(calculator, "implemented_properties", ()) and hasattr(calculator, "get_property")


def hessian_rows(
    atoms: Atoms,
    calculator: Calculator,
    rows: Sequence[int] | NDArray[np.intp],
    *,
    method: str = "auto",
    step: float | None = None,
    tolerance: float = 1e-4,
    progress: Progress | None = None,
) -> HessianRows:
    """Rows of the Hessian for some atoms of a periodic supercell.

    Parameters
    ----------
    atoms : ase.Atoms
        Positions at which to differentiate.
    calculator : ase.calculators.calculator.Calculator
    rows : sequence of int
        Atoms to displace.
    method : {"auto", "analytic", "finite_differences"}
        ``auto`` takes the calculator's own Hessian where it has one.
    step : float, optional
        Displacement in Angstrom. By default that of :data:`STEPS` whose rows change least when it is reached by halving, tried
        from the largest down and no further than :data:`SETTLED`: large steps are anharmonic, small ones noisy.
    tolerance : float
        Largest change accepted by the step check, relative to the largest force constant.
    progress : callable, optional
        Called with (force calls done, in all).

    Returns
    -------
    HessianRows

    Raises
    ------
    ForceConstantsError
        If the analytic Hessian is asked for and not there, or if no step passes the check.

    Notes
    -----
    Central differences of the forces with four points, error O(step^4).
    """
    rows = np.asarray(rows, dtype=np.intp)
    if rows.ndim != 1 or len(rows) == 0 or rows.min() < 0 or rows.max() >= len(atoms):
        raise ForceConstantsError(f"rows must be indices of the {len(atoms)} atoms, at least one; got {rows.tolist()}")
    if method not in ("auto", "analytic", "finite_differences"):
        raise ForceConstantsError(f"method must be 'auto', 'analytic' or 'finite_differences', not {method!r}")
    if method == "analytic" and not has_analytic_hessian(calculator):
        raise ForceConstantsError(
            f"{type(calculator).__name__} has no analytic Hessian; use method='finite_differences' (or 'auto')"
        )
    if method != "finite_differences" and has_analytic_hessian(calculator):
        return HessianRows(rows, _analytic(atoms, calculator, rows), "analytic")
    error: float | None = None
    if step is None:
        step, error = _checked_step(atoms, calculator, rows, tolerance)
    elif step <= 0:
        raise ForceConstantsError(f"step must be positive, in Angstrom; got {step}")
    values = _finite_differences(atoms, calculator, rows, step, progress)
    return HessianRows(rows, values, "finite_differences", step, error)


def _analytic(atoms: Atoms, calculator: Calculator, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    try:
        matrix: Any = calculator.get_property("hessian", atoms)
    except PropertyNotImplementedError as error:
        raise ForceConstantsError(f"{type(calculator).__name__} promises a Hessian and has none: {error}") from error
    n = len(atoms)
    picked = (3 * rows[:, None] + np.arange(3)).ravel()
    block = (matrix.tocsr() if hasattr(matrix, "tocsr") else matrix)[picked]
    dense = block.toarray() if hasattr(block, "toarray") else np.asarray(block)
    if dense.shape != (3 * len(rows), 3 * n):
        raise ForceConstantsError(f"the Hessian has {dense.shape[-1]} columns, expected {3 * n}")
    return np.ascontiguousarray(dense.reshape(len(rows), 3, n, 3).transpose(0, 2, 1, 3))


def _checked_step(
    atoms: Atoms, calculator: Calculator, rows: NDArray[np.intp], tolerance: float
) -> tuple[float, float]:
    """The step whose rows change least on halving, and that change, from one atom of every element.

    Of each element the middle one of the rows is taken: in a device that is the one next to the interface.
    """
    numbers = atoms.numbers[rows]
    probes = rows[[int(at[len(at) // 2]) for at in (np.flatnonzero(numbers == z) for z in np.unique(numbers))]]
    tried, best, scale = [], (STEPS[1], np.inf), 0.0
    coarse = _finite_differences(atoms, calculator, probes, STEPS[0], None)
    for step, half in pairwise(STEPS):
        fine = _finite_differences(atoms, calculator, probes, half, None)
        scale, difference = float(np.abs(fine).max()), float(np.abs(fine - coarse).max())
        if difference < best[1]:
            best = (half, difference)
        if difference <= min(SETTLED, tolerance) * scale:
            break
        tried.append(f"{step:g} -> {half:g} A: {difference:.2e}")
        coarse = fine
    if best[1] <= tolerance * scale:
        return best
    raise ForceConstantsError(
        "finite-difference force constants do not settle when the step is halved (largest change in eV/A^2, "
        f"{tolerance * scale:.2e} allowed: {'; '.join(tried)}). Forces may be noisy (use a calculator in float64, with all "
        "digits) or discontinuous; a step can also be given by hand"
    )


def _finite_differences(
    atoms: Atoms, calculator: Calculator, rows: NDArray[np.intp], step: float, progress: Progress | None
) -> NDArray[np.float64]:
    work = atoms.copy()
    work.set_constraint()
    work.calc = calculator
    reference = atoms.get_positions()
    values = np.zeros((len(rows), len(atoms), 3, 3))
    # -dF/du with points at +-h, +-2h: (F(-2h) - 8 F(-h) + 8 F(h) - F(2h)) / 12 h
    stencil = ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0))
    done, total = 0, len(rows) * 3 * len(stencil)
    for k, atom in enumerate(rows):
        for axis in range(3):
            slope = np.zeros((len(atoms), 3))
            for multiple, weight in stencil:
                positions = reference.copy()
                positions[atom, axis] += multiple * step
                work.set_positions(positions)
                slope += weight * work.get_forces()
                done += 1
                if progress is not None:
                    progress(done, total)
            values[k, :, axis, :] = -slope / (12 * step)
    return values
