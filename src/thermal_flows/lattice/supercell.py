"""Force constants of a periodic unit from a supercell: range, minimum images, symmetry and sum rule."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray

from thermal_flows.lattice.hessian import HessianRows, Progress, hessian_rows
from thermal_flows.lattice.pair_constants import ForceConstantsError, PairForceConstants

RANGE_TOLERANCE = 1e-6
"""Force constants below this, in eV/Angstrom^2, beyond some distance are the end of the range."""

MAX_SUPERCELL_ATOMS = 6000


@dataclass(frozen=True)
class Supercell:
    """A repeated unit, cell-major: all atoms of cell (0,0,0), then of the next cell (last index fastest).

    Attributes
    ----------
    unit : ase.Atoms
    repeats : tuple of int
    atoms : ase.Atoms
        The repeated atoms.
    cells : numpy.ndarray of int, shape (n_cells, 3)
    """

    unit: Atoms
    repeats: tuple[int, int, int]
    atoms: Atoms
    cells: NDArray[np.intp]

    @classmethod
    def build(cls, unit: Atoms, repeats: tuple[int, int, int]) -> Supercell:
        """Repeat ``unit``; positions are not wrapped."""
        cells = np.array(list(itertools.product(*(range(n) for n in repeats))), dtype=np.intp)
        lattice = np.array(unit.cell)
        positions = (unit.get_positions()[None] + (cells @ lattice)[:, None]).reshape(-1, 3)
        atoms = Atoms(
            numbers=np.tile(unit.numbers, len(cells)),
            positions=positions,
            cell=lattice * np.array(repeats)[:, None],
            pbc=True,
        )
        atoms.set_masses(np.tile(unit.get_masses(), len(cells)))
        return cls(unit, repeats, atoms, cells)

    @property
    def inner_radius(self) -> float:
        """Radius of the largest sphere whose periodic images do not overlap, Angstrom."""
        return 0.5 * shortest_translation(np.array(self.atoms.cell))


def plane_spacings(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances between the opposite faces of a cell (rows are vectors), shape (3,), Angstrom."""
    return 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def shortest_translation(cell: NDArray[np.float64]) -> float:
    """Length of the shortest lattice vector of a cell (rows are vectors), Angstrom."""
    reduced, _ = minkowski_reduce(np.array(cell))
    return float(np.linalg.norm(reduced, axis=1).min())


def repeats_for(unit: Atoms, radius: float) -> tuple[int, int, int]:
    """Repeats whose supercell holds a sphere of ``radius`` (Angstrom) without overlap of images, as few as possible."""
    cell = np.array(unit.cell)
    n = np.maximum(1, np.ceil((2 * radius + 1e-6) / plane_spacings(cell))).astype(int)
    # that is enough; less will do where the cell is oblique
    for axis in (2, 1, 0):
        while n[axis] > 1:
            fewer = n - (np.arange(3) == axis)
            if shortest_translation(cell * fewer[:, None]) < 2 * radius + 1e-6:
                break
            n = fewer
    return int(n[0]), int(n[1]), int(n[2])


def pairs_from_supercell(supercell: Supercell, hessian: HessianRows, cutoff: float | None = None) -> PairForceConstants:
    """List the force constants of a supercell by minimum-image pairs.

    Images at equal distance share the constant equally.

    Parameters
    ----------
    supercell : Supercell
    hessian : HessianRows
        Rows for atoms of the first cell.
    cutoff : float, optional
        Pairs beyond this distance (Angstrom) are left out.

    Returns
    -------
    PairForceConstants
        Of the unit, with rows only for the atoms in ``hessian.rows``.
    """
    unit, n = supercell.unit, len(supercell.unit)
    if np.any(hessian.rows >= n):
        raise ForceConstantsError("Hessian rows must belong to the first cell of the supercell")
    lattice = np.array(unit.cell)
    # in a reduced basis the nearest image of a vector, wrapped to -1/2 ... 1/2, is one step away at most
    reduced, to_reduced = minkowski_reduce(np.array(supercell.atoms.cell))
    to_fractional = np.linalg.inv(reduced)
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    positions = unit.get_positions()
    table_i, table_j, table_R, table_phi = [], [], [], []
    column_atom = np.tile(np.arange(n), len(supercell.cells))
    column_cell = np.repeat(supercell.cells, n, axis=0)
    for k, i in enumerate(hessian.rows):
        vectors = positions[column_atom] + column_cell @ lattice - positions[i]
        jumps = images[None] - np.rint(vectors @ to_fractional).astype(np.intp)[:, None]  # (columns, images, 3)
        length = np.linalg.norm(vectors[:, None] + jumps @ reduced, axis=2)
        nearest = length.min(axis=1)
        chosen = length < nearest[:, None] + 1e-4
        if cutoff is not None:
            chosen &= (nearest <= cutoff)[:, None]
        share = chosen / np.maximum(chosen.sum(axis=1), 1)[:, None]
        column, image = np.nonzero(chosen)
        table_i.append(np.full(len(column), i))
        table_j.append(column_atom[column])
        table_R.append(column_cell[column] + jumps[column, image] @ to_reduced * np.array(supercell.repeats))
        table_phi.append(hessian.values[k, column] * share[column, image][:, None, None])
    return PairForceConstants(
        lattice,
        positions,
        unit.get_masses(),
        np.concatenate(table_i),
        np.concatenate(table_j),
        np.concatenate(table_R),
        np.concatenate(table_phi),
    )


def force_range(pairs: PairForceConstants, tolerance: float = RANGE_TOLERANCE) -> float:
    """Largest distance of a pair with a force constant above ``tolerance`` (eV/Angstrom^2), in Angstrom."""
    strong = np.abs(pairs.phi).max(axis=(1, 2)) > tolerance
    return float(np.linalg.norm(pairs.vectors[strong], axis=1).max(initial=0.0))


def truncated(pairs: PairForceConstants, cutoff: float) -> PairForceConstants:
    """The pairs up to ``cutoff`` (Angstrom), both directions of each."""
    keep = np.linalg.norm(pairs.vectors, axis=1) <= cutoff
    return PairForceConstants(
        pairs.cell, pairs.positions, pairs.masses, pairs.i[keep], pairs.j[keep], pairs.R[keep], pairs.phi[keep]
    )


def symmetrised(pairs: PairForceConstants) -> PairForceConstants:
    """Force constants with phi_ij(R) = phi_ji(-R)^T exactly (the mean of both), one entry a pair."""
    once = pairs.merged  # a sum of two does not depend on their order
    return PairForceConstants(
        once.cell,
        once.positions,
        once.masses,
        np.concatenate([once.i, once.j]),
        np.concatenate([once.j, once.i]),
        np.concatenate([once.R, -once.R]),
        0.5 * np.concatenate([once.phi, once.phi.transpose(0, 2, 1)]),
    ).merged


def with_sum_rule(
    pairs: PairForceConstants,
    outside: NDArray[np.float64] | None = None,
    keep: NDArray[np.bool_] | None = None,
) -> tuple[PairForceConstants, float]:
    """Correct force constants so that every row sums to zero.

    Parameters
    ----------
    pairs : PairForceConstants
        Symmetric.
    outside : numpy.ndarray, shape (n, 3, 3), optional
        Sum of each atom's force constants with atoms that are not in the list (the leads of a device).
    keep : numpy.ndarray of bool, shape (n,), optional
        Atoms whose couplings to others must not change (the outer layers of a device).

    Returns
    -------
    pairs : PairForceConstants
        Symmetric still, one entry a pair.
    correction : float
        Largest change of a force constant, eV/Angstrom^2: the sum-rule error before the correction.

    Notes
    -----
    A self term, which is symmetric, takes up the symmetric part of the sum over the other atoms. The antisymmetric part, zero
    for exact force constants, is moved along the couplings, in proportion to their strength, to where it is cancelled: phi_ij
    gains w_ij (p_i - p_j) with antisymmetric matrices p_i that solve a Laplace equation. That leaves all symmetric. Its mean,
    if any, cannot be removed and stays.
    """
    merged = pairs.merged
    own = merged.is_self
    total = np.zeros((pairs.n_atoms, 3, 3)) if outside is None else outside.copy()
    np.add.at(total, merged.i[~own], merged.phi[~own])
    change = _antisymmetric_flow(merged, 0.5 * (total - total.transpose(0, 2, 1)), keep)
    before = np.zeros_like(total)
    before[merged.i[own]] = merged.phi[own]
    after = -0.5 * (total + total.transpose(0, 2, 1))
    correction = max(float(np.abs(change).max(initial=0.0)), float(np.abs(after - before).max()))
    atoms = np.arange(pairs.n_atoms)
    ruled = PairForceConstants(
        pairs.cell,
        pairs.positions,
        pairs.masses,
        np.concatenate([merged.i[~own], atoms]),
        np.concatenate([merged.j[~own], atoms]),
        np.concatenate([merged.R[~own], np.zeros((len(atoms), 3), dtype=np.intp)]),
        np.concatenate([(merged.phi + change)[~own], after]),
    )
    return ruled.merged, correction


def _antisymmetric_flow(
    pairs: PairForceConstants, excess: NDArray[np.float64], keep: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    """Antisymmetric changes of couplings between different atoms whose sum over each row is minus ``excess``.

    Shape (m, 3, 3), zero for couplings that stay.
    """
    n = len(excess)
    kept = np.zeros(n, dtype=bool) if keep is None else keep
    change = np.zeros_like(pairs.phi)
    edges = np.flatnonzero((pairs.i != pairs.j) & ~(kept[pairs.i] | kept[pairs.j]))
    if len(edges) == 0 or not np.any(excess[~kept]):
        return change
    i, j = pairs.i[edges], pairs.j[edges]
    weight = np.linalg.norm(pairs.phi[edges], axis=(1, 2))
    laplacian = np.zeros((n, n))
    np.add.at(laplacian, (i, i), weight)
    np.add.at(laplacian, (i, j), -weight)
    potential = np.zeros((n, 3, 3))
    free = np.flatnonzero(~kept)
    # symmetric; its null vectors, constants on every connected part, carry no flow
    values, vectors = np.linalg.eigh(laplacian[np.ix_(free, free)])
    inverse = np.where(values > 1e-12 * values[-1], 1.0 / np.where(values > 0, values, 1.0), 0.0)
    potential[free] = -((vectors * inverse) @ (vectors.T @ excess[free].reshape(-1, 9))).reshape(-1, 3, 3)
    change[edges] = weight[:, None, None] * (potential[i] - potential[j])
    return change


@dataclass(frozen=True)
class BulkConstants:
    """Force constants of a bulk crystal and how they were obtained.

    Attributes
    ----------
    pairs : PairForceConstants
        Of the unit: truncated at ``cutoff``, symmetric, with the sum rule.
    cutoff : float
        Range of the force constants, Angstrom.
    repeats : tuple of int
        Supercell.
    asymmetry, sum_rule_correction : float
        Largest corrections made, eV/Angstrom^2.
    neglected : float
        Largest force constant beyond the cutoff, eV/Angstrom^2.
    hessian : HessianRows
    """

    pairs: PairForceConstants
    cutoff: float
    repeats: tuple[int, int, int]
    asymmetry: float
    sum_rule_correction: float
    neglected: float
    hessian: HessianRows


def bulk_force_constants(
    unit: Atoms,
    calculator: Calculator,
    *,
    radius: float = 5.0,
    range_tolerance: float = RANGE_TOLERANCE,
    cutoff: float | None = None,
    method: str = "auto",
    step: float | None = None,
    max_atoms: int = MAX_SUPERCELL_ATOMS,
    progress: Progress | None = None,
) -> BulkConstants:
    """Force constants of a crystal from a supercell that is enlarged until it holds their whole range.

    Parameters
    ----------
    unit : ase.Atoms
        Relaxed unit of the crystal.
    calculator : ase.calculators.calculator.Calculator
    radius : float
        First supercell: holds a sphere of this radius (Angstrom) without overlap of images.
    range_tolerance : float
        Force constants below this (eV/Angstrom^2) beyond some distance may be neglected.
    cutoff : float, optional
        Truncate at this distance (Angstrom) whatever lies beyond; the largest neglected constant is recorded. The supercell
        then holds a sphere little larger than that: what lies farther out is folded onto the pairs inside it, as in any
        supercell that is smaller than the range.
    method, step
        As in :func:`thermal_flows.lattice.hessian.hessian_rows`.
    max_atoms : int
        Largest supercell tried.

    Returns
    -------
    BulkConstants

    Raises
    ------
    ForceConstantsError
        If the range does not end within the largest supercell.
    """
    if cutoff is not None:
        radius = 1.05 * cutoff
    while True:
        repeats = repeats_for(unit, radius)
        size = len(unit) * int(np.prod(repeats))
        if size > max_atoms:
            raise ForceConstantsError(
                f"force constants of {unit.get_chemical_formula()} reach beyond the largest supercell allowed ({size} atoms "
                f"would be needed for a range of {radius:.3g} A, max_atoms is {max_atoms}): give a cutoff, a looser "
                f"range_tolerance (now {range_tolerance:g} eV/A^2) or a larger max_atoms"
            )
        supercell = Supercell.build(unit, repeats)
        rows = np.arange(len(unit))
        hessian = hessian_rows(supercell.atoms, calculator, rows, method=method, step=step, progress=progress)
        pairs = pairs_from_supercell(supercell, hessian)
        reach = force_range(pairs, range_tolerance)
        if cutoff is not None or reach < 0.95 * supercell.inner_radius:
            break
        radius = 1.25 * max(radius, supercell.inner_radius)
    limit = (cutoff if cutoff is not None else reach) + 1e-3
    beyond = np.linalg.norm(pairs.vectors, axis=1) > limit
    neglected = float(np.abs(pairs.phi[beyond]).max(initial=0.0))
    cut = truncated(pairs, limit)
    asymmetry = cut.asymmetry()
    symmetric, correction = with_sum_rule(symmetrised(cut))
    return BulkConstants(symmetric, limit, repeats, asymmetry, correction, neglected, hessian)
