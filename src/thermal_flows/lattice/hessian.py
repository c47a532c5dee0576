"""Rows of the Hessian of a periodic set of atoms: the calculator's own second derivatives where they cost less, else differences.

Force constants need forces with nearly all digits of float64: a difference quotient divides their noise by a hundredth of an
Angstrom. Single precision, or forces printed with few decimals, leave errors in the sum rule and in symmetry that no
later step can tell from physics. So the noise of a calculator is measured before its forces are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from numpy.typing import NDArray

from thermal_flows.lattice.pair_constants import ForceConstantsError
from thermal_flows.potentials.protocols import BatchedForces, RowHessian

Progress = Callable[[int, int], None]

STEPS = (0.02, 0.01, 0.005, 0.0025)
"""Displacements tried by the step check, Angstrom, largest first."""

SETTLED = 1e-6
"""Change on halving the step, relative to the largest force constant, below which smaller steps are not tried."""

NOISE = 1e-6
"""Largest error that noise of the forces may leave in a force constant, or in its sum rule, relative to the largest one."""

STENCIL = ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0))
"""-dF/du with points at +-h, +-2h: (F(-2h) - 8 F(-h) + 8 F(h) - F(2h)) / 12 h."""

_PROBE_STEP = 1e-6
_PROBE_SHIFT = np.array([7.3, 9.1, 11.7])
_CALLS_OF_STEP_CHECK = 3 * 3 * len(STENCIL)  # at least, for every element


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
    noise : float or None
        Error left in force constants by noise of the forces, as measured beforehand, eV/Angstrom^2; None if second
        derivatives are the calculator's own.
    reason : str
        Why this method was taken.
    """

    rows: NDArray[np.intp]
    values: NDArray[np.float64]
    method: str
    step: float | None = None
    step_error: float | None = None
    noise: float | None = None
    reason: str = ""


def has_analytic_hessian(calculator: Calculator) -> bool:
    """Whether the calculator offers second derivatives of its own: by rows, or as ASE property ``hessian``."""
    return isinstance(calculator, RowHessian) or _has_whole_hessian(calculator)


def _has_whole_hessian(calculator: Calculator) -> bool:
    return "hessian" in getattr(calculator, "implemented_properties", ()) and hasattr(calculator, "get_property")


def hessian_rows(
    atoms: Atoms,
    calculator: Calculator,
    rows: Sequence[int] | NDArray[np.intp],
    *,
    method: str = "auto",
    step: float | None = None,
    tolerance: float = 1e-4,
    noise: float = NOISE,
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
        ``analytic`` takes the calculator's own second derivatives. So does ``auto`` where there are some, unless the calculator
        estimates that its rows cost more than differences (which are forces twelve times for every atom, besides the step check).
    step : float, optional
        Displacement in Angstrom. By default that of :data:`STEPS` whose rows change least when it is reached by halving, tried
        from the largest down and no further than :data:`SETTLED`: large steps are anharmonic, small ones noisy.
    tolerance : float
        Largest change accepted by the step check, relative to the largest force constant.
    noise : float
        Largest error accepted from noise of the forces, relative to the largest force constant.
    progress : callable, optional
        Called with (force calls done, in all).

    Returns
    -------
    HessianRows

    Raises
    ------
    ForceConstantsError
        If the analytic Hessian is asked for and not there, if forces are too noisy (single precision) or depend on where the
        atoms are as a whole, or if no step passes the check.

    Notes
    -----
    Central differences of the forces with four points, error O(step^4). A calculator with
    :class:`~thermal_flows.potentials.protocols.BatchedForces` gets all displacements of an atom in one call.
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
    take, reason = _route(atoms, calculator, rows, method, step)
    if take == "analytic":
        values = _analytic(atoms, calculator, rows, progress)
        _check_sum_rule(calculator, values, noise)
        return HessianRows(rows, values, "analytic", reason=reason)
    if step is not None and step <= 0:
        raise ForceConstantsError(f"step must be positive, in Angstrom; got {step}")
    measured = force_noise(atoms, calculator, int(rows[0]))
    measured.refuse_above(noise, step or STEPS[1], calculator)
    error: float | None = None
    if step is None:
        step, error = _checked_step(atoms, calculator, rows, tolerance)
    values = _finite_differences(atoms, calculator, rows, step, progress)
    _check_sum_rule(calculator, values, noise)
    return HessianRows(rows, values, "finite_differences", step, error, measured.of_force_constants(step), reason)


def _route(
    atoms: Atoms, calculator: Calculator, rows: NDArray[np.intp], method: str, step: float | None
) -> tuple[str, str]:
    """Method to take, and why."""
    if method != "auto":
        return method, "asked for"
    if not has_analytic_hessian(calculator):
        return "finite_differences", f"{type(calculator).__name__} has no second derivatives"
    if not isinstance(calculator, RowHessian):
        return "analytic", "the calculator has second derivatives"
    differences = _difference_calls(atoms, rows, step)
    own = calculator.hessian_cost(atoms, rows)
    compared = f"second derivatives cost about {own:.3g} force calls, differences {differences}"
    return ("analytic" if own <= differences else "finite_differences"), compared


def expected_calls(
    atoms: Atoms, calculator: Calculator, rows: NDArray[np.intp], method: str = "auto", step: float | None = None
) -> float | None:
    """Cost of :func:`hessian_rows` in force calls on the same atoms; None for a whole Hessian, whose cost is unknown."""
    take, _ = _route(atoms, calculator, rows, method, step)
    if take == "finite_differences":
        return float(_difference_calls(atoms, rows, step))
    return calculator.hessian_cost(atoms, rows) if isinstance(calculator, RowHessian) else None


def _difference_calls(atoms: Atoms, rows: NDArray[np.intp], step: float | None) -> int:
    check = 0 if step is not None else _CALLS_OF_STEP_CHECK * len(np.unique(atoms.numbers[rows]))
    return 3 * len(STENCIL) * len(rows) + check


@dataclass(frozen=True)
class ForceNoise:
    """What is not smooth in the forces of a calculator, seen by moving one atom by millionths of an Angstrom.

    Attributes
    ----------
    noise : float
        Largest deviation of a force from a smooth curve, eV/Angstrom.
    stiffness : float
        Largest force constant of the atom that was moved, eV/Angstrom^2.
    single_precision : bool
        Whether forces are float32 numbers.
    """

    noise: float
    stiffness: float
    single_precision: bool

    def of_force_constants(self, step: float) -> float:
        """Error of a force constant from differences with this step, eV/Angstrom^2."""
        return self.noise * sum(abs(weight) for _, weight in STENCIL) / (12 * step)

    def refuse_above(self, limit: float, step: float, calculator: Calculator) -> None:
        """Raise if noise spoils force constants.

        Parameters
        ----------
        limit : float
            Accepted error relative to the stiffness.
        step : float
            Displacement of the differences, Angstrom.
        calculator : ase.calculators.calculator.Calculator

        Raises
        ------
        ForceConstantsError
            With the numbers and the cure.
        """
        error = self.of_force_constants(step)
        if error <= limit * self.stiffness:
            return
        kind = (
            "a potential in float32"
            if self.single_precision
            else "a potential in float32, or forces with few decimals,"
        )
        raise ForceConstantsError(
            f"{type(calculator).__name__} looks like {kind} whose noise breaks the sum rule: forces jump by "
            f"{self.noise:.1e} eV/A when "
            f"an atom moves by {_PROBE_STEP:g} A, which leaves errors of {error:.1e} eV/A^2 in force constants of "
            f"{self.stiffness:.3g} eV/A^2 ({limit * self.stiffness:.1e} allowed). Run it in float64 (MACECalculator takes "
            "default_dtype='float64'; a MACE file given by its path is used in float64), or accept the noise by a larger 'noise' "
            f"(here {error / self.stiffness:.0e}) of hessian_rows"
        )


def force_noise(atoms: Atoms, calculator: Calculator, atom: int) -> ForceNoise:
    """Noise of a calculator's forces.

    The crystal is moved away from the origin, where single precision is finer than elsewhere, and the atom off its site, where
    symmetry could hide rounding; then the atom goes along a line in steps of 1e-6 Angstrom. Over so short a way forces are a
    parabola to round-off of float64, while single precision resolves neither positions nor forces.

    Parameters
    ----------
    atoms : ase.Atoms
    calculator : ase.calculators.calculator.Calculator
    atom : int

    Returns
    -------
    ForceNoise
    """
    direction = np.array([0.6, 0.64, 0.48])
    offsets = np.arange(-3, 4)
    images = []
    for displacement in (0.0, *(STEPS[0] + _PROBE_STEP * offsets)):
        image = _plain(atoms)
        image.positions += _PROBE_SHIFT
        image.positions[atom] += displacement * direction
        images.append(image)
    forces = [_one_force(calculator, image) for image in images]
    single = all(np.array_equal(f, np.asarray(f, dtype=np.float32)) for f in forces[1:])
    values = np.array(forces, dtype=float).reshape(len(images), -1)
    curve = np.polynomial.polynomial.polyfit(offsets, values[1:], 2)
    smooth = np.polynomial.polynomial.polyval(offsets, curve).T
    stiffness = float(np.abs(values[4] - values[0]).max()) / STEPS[0]
    return ForceNoise(float(np.abs(values[1:] - smooth).max()), stiffness, single)


def _check_sum_rule(calculator: Calculator, values: NDArray[np.float64], noise: float) -> None:
    """Moving all atoms together must exert no force."""
    violation, scale = float(np.abs(values.sum(axis=1)).max()), float(np.abs(values).max())
    if violation > noise * scale * np.sqrt(values.shape[1]):
        raise ForceConstantsError(
            f"force constants of {type(calculator).__name__} break the acoustic sum rule by {violation:.1e} eV/A^2, "
            f"{noise * scale * np.sqrt(values.shape[1]):.1e} allowed: forces do not add up to zero when one atom "
            f"moves. Use a potential "
            "whose forces are derivatives of an energy that does not depend on where the crystal is, in float64"
        )


def _analytic(
    atoms: Atoms, calculator: Calculator, rows: NDArray[np.intp], progress: Progress | None
) -> NDArray[np.float64]:
    if isinstance(calculator, RowHessian):
        return calculator.hessian_of(_plain(atoms), rows, progress)
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
    values = np.zeros((len(rows), len(atoms), 3, 3))
    done, total = 0, len(rows) * 3 * len(STENCIL)
    for k, atom in enumerate(rows):
        images, weights = [], []
        for axis in range(3):
            for multiple, weight in STENCIL:
                image = _plain(atoms)
                image.positions[atom, axis] += multiple * step
                images.append(image)
                weights.append(weight)
        slopes = np.zeros((3, len(atoms), 3))
        for index, forces in _forces(calculator, images):
            slopes[index // len(STENCIL)] += weights[index] * forces
            done += 1
            if progress is not None:
                progress(done, total)
        values[k] = -slopes.transpose(1, 0, 2) / (12 * step)
    return values


def _plain(atoms: Atoms) -> Atoms:
    """A copy without constraints, which would hide forces."""
    work = atoms.copy()
    work.set_constraint()
    return work


def _forces(calculator: Calculator, images: Sequence[Atoms]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    if isinstance(calculator, BatchedForces):
        yield from enumerate(calculator.forces_of(images))
        return
    for index, image in enumerate(images):
        yield index, _one_force(calculator, image)


def _one_force(calculator: Calculator, image: Atoms) -> NDArray[np.float64]:
    image.calc = calculator
    return image.get_forces()
