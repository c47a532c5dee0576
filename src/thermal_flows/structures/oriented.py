"""Crystals re-oriented so that a lattice plane lies in the xy plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import gcd, lcm
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thermal_flows.structures.coincidence import IntMatrix, as_matrix
from thermal_flows.structures.crystals import analyzer
from thermal_flows.structures.errors import StructureError
from thermal_flows.structures.integers import (
    FractionVector,
    IntVector,
    coprime,
    inverse_unimodular,
    miller_indices,
    plane_basis,
    primitive_basis,
)
from thermal_flows.structures.planes import (
    LENGTH_TOLERANCE,
    ROUND_OFF,
    Start,
    Termination,
    canonical_starts,
    order,
    wrap,
)
from thermal_flows.structures.setting import conventional_cell
from thermal_flows.structures.symmetry import upright_operations

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

LENGTH_TIE = 1e-6
"""Relative difference below which two squared lengths count as equal."""

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OrientedCell:
    """Primitive-volume stacking unit of a crystal with a plane (h k l) in the xy plane.

    Attributes
    ----------
    atoms : ase.Atoms
        The unit: a1 along +x, a2 in the xy plane with positive y, a3 with positive z and possibly
        oblique. Periodic. The lowest atom of the starting plane is at z = 0; an atom of that plane is
        at the in-plane origin; the others have 0 <= z < a3_z and lie inside the parallelogram of a1
        and a2. Sorted by z, then x, then y.
    miller : tuple of int
        Coprime (h, k, l) of the conventional standard cell; its normal is +z.
    termination : int
        Plane at which the unit starts.
    terminations : tuple of Termination
        All atomic planes of the unit, upwards from termination 0.
    vectors : tuple of three vectors of Fractions
        a1, a2, a3 as direction indices [u v w] in the conventional standard cell, exact.
    rotation : numpy.ndarray
        Proper rotation (3, 3) from the Cartesian frame of ``conventional`` to that of ``atoms``:
        new = rotation @ old.
    conventional : pymatgen.core.Structure
        The cell to which the Miller indices refer: :func:`thermal_flows.structures.conventional_cell`.
    conventional_in_plane : tuple of tuple of int
        Rows: in terms of a1 and a2, the reduced in-plane cell of the conventional lattice, whose vectors have whole direction
        indices: the a x a square on (001) of a cubic crystal, the 2 x 2 hexagon on (111) of a face-centred one.
    """

    atoms: Atoms
    miller: IntVector
    termination: int
    terminations: tuple[Termination, ...]
    vectors: tuple[FractionVector, FractionVector, FractionVector]
    rotation: Float
    conventional: Structure
    conventional_in_plane: IntMatrix

    @property
    def in_plane(self) -> Float:
        """In-plane basis: rows a1, a2 as (2, 2) in Angstrom."""
        return np.array(self.atoms.cell.array[:2, :2])

    @property
    def height(self) -> float:
        """Height a3_z of the unit in Angstrom: the spacing of the (h k l) lattice planes."""
        return float(self.atoms.cell.array[2, 2])


@dataclass(frozen=True)
class _Lattice:
    """Primitive basis in conventional units (exact) and in Angstrom."""

    rows: tuple[FractionVector, FractionVector, FractionVector]
    conventional: Float

    @property
    def cartesian(self) -> Float:
        return np.array(self.rows, dtype=float) @ self.conventional

    def indices(self, vector: Sequence[int]) -> FractionVector:
        """Direction indices [u v w] in the conventional cell of an integer combination of the basis."""
        u, v, w = (sum((n * row[i] for n, row in zip(vector, self.rows, strict=True)), Fraction(0)) for i in range(3))
        return u, v, w


def _centring(structure: Structure, symprec: float) -> list[FractionVector]:
    """Centring translations of a conventional cell, exact sixths."""
    dataset = analyzer(structure, symprec=symprec).get_symmetry_dataset()
    identity = np.all(dataset.rotations == np.eye(3, dtype=int), axis=(1, 2))
    translations = np.array(dataset.translations)[identity]
    sixths = np.rint(translations * 6)
    if np.abs(translations * 6 - sixths).max() > 0.01:
        raise StructureError(
            f"the standard cell of {structure.composition.reduced_formula} repeats under a translation that is not "
            "a Bravais centring; the structure is too distorted for one space group: relax it or change symprec"
        )
    return [(Fraction(int(x), 6), Fraction(int(y), 6), Fraction(int(z), 6)) for x, y, z in sixths]


def _primitive_sites(conventional: Structure, lattice: _Lattice, symprec: float) -> tuple[Float, NDArray[np.intp]]:
    """Fractional coordinates (n, 3) in the primitive basis and atomic numbers (n,) of the distinct sites."""
    fractional = conventional.frac_coords @ np.linalg.inv(np.array(lattice.rows, dtype=float))
    numbers = np.array(conventional.atomic_numbers)
    kept: list[int] = []
    for i, position in enumerate(fractional):
        if kept:
            apart = position - fractional[kept]
            apart -= np.rint(apart)
            distance = np.linalg.norm(apart @ lattice.cartesian, axis=1)
            if np.any((distance < 2 * symprec) & (numbers[kept] == numbers[i])):
                continue
        kept.append(i)
    volume_ratio = abs(np.linalg.det(conventional.lattice.matrix) / np.linalg.det(lattice.cartesian))
    if round(len(kept) * volume_ratio) != len(conventional):
        raise StructureError(
            f"{conventional.composition.reduced_formula}: {len(conventional)} sites in the standard cell do not fold "
            f"to {len(conventional) / volume_ratio:.3f} in the primitive one; relax the structure or change symprec"
        )
    return fractional[kept], numbers[kept]


def _preference(indices: FractionVector) -> tuple[Fraction, ...]:
    """Sort key among equivalent lattice vectors: few small indices first, then the largest [u v w]."""
    u, v, w = indices
    return (abs(u) + abs(v) + abs(w), -u, -v, -w)


def _reduced_plane(k1: IntVector, k2: IntVector, lattice: _Lattice, normal: Float) -> tuple[IntVector, IntVector]:
    """Gauss-reduced, right-handed basis of the plane lattice spanned by k1 and k2."""
    basis = np.array([k1, k2])
    cartesian = lattice.cartesian
    metric = (basis @ cartesian) @ (basis @ cartesian).T
    reduction = np.eye(2, dtype=int)
    while True:
        g = reduction @ metric @ reduction.T
        if g[1, 1] < g[0, 0] * (1 - LENGTH_TIE):
            reduction = reduction[::-1]
            continue
        step = round(g[0, 1] / g[0, 0])
        if step == 0 or abs(g[0, 1]) <= g[0, 0] * (0.5 + LENGTH_TIE):
            break
        reduction = np.array([reduction[0], reduction[1] - step * reduction[0]])
    basis = reduction @ basis
    metric = (basis @ cartesian) @ (basis @ cartesian).T

    combinations = [np.array(c) for c in product(range(-2, 3), repeat=2) if gcd(*c) == 1]
    shortest = [c for c in combinations if c @ metric @ c <= metric[0, 0] * (1 + LENGTH_TIE)]
    first = min(shortest, key=lambda c: _preference(lattice.indices((c @ basis).tolist())))
    handed = float(np.sign(np.cross(basis[0] @ cartesian, basis[1] @ cartesian) @ normal))
    partners = [c for c in combinations if (first[0] * c[1] - first[1] * c[0]) * handed == 1]
    length = min(float(c @ metric @ c) for c in partners)
    partners = [c for c in partners if c @ metric @ c <= length * (1 + LENGTH_TIE)]
    # 120 rather than 60 degrees
    second = min(partners, key=lambda c: float(first @ metric @ c))
    a1, a2 = (first @ basis).tolist(), (second @ basis).tolist()
    return (a1[0], a1[1], a1[2]), (a2[0], a2[1], a2[2])


def _shortest_step(n3: IntVector, plane: tuple[IntVector, IntVector], lattice: _Lattice) -> IntVector:
    """Vector of n3 plus the plane lattice with the smallest in-plane part."""
    a1, a2 = (np.array(v) for v in plane)
    in_plane = np.array([a1, a2]) @ lattice.cartesian
    start = np.array(n3) @ lattice.cartesian
    coefficients = np.rint(np.linalg.lstsq(in_plane.T, start, rcond=None)[0]).astype(int)
    base = np.array(n3) - coefficients[0] * a1 - coefficients[1] * a2
    candidates = [base + i * a1 + j * a2 for i, j in product(range(-2, 3), repeat=2)]
    projector = np.linalg.pinv(in_plane) @ in_plane

    def squared(vector: NDArray[np.intp]) -> float:
        return float(np.sum((vector @ lattice.cartesian @ projector) ** 2))

    limit = min(map(squared, candidates)) + LENGTH_TIE * float(np.sum(in_plane[0] ** 2))
    nearest = [c.tolist() for c in candidates if squared(c) <= limit]
    best = min(nearest, key=lambda c: _preference(lattice.indices(c)))
    return (best[0], best[1], best[2])


def _terminations(
    starts: list[Start], planes: list[NDArray[np.intp]], cell: Float, symprec: float
) -> tuple[Termination, ...]:
    from ase.data import chemical_symbols

    height = float(cell[2, 2])
    rises = np.array([rise for _, rise in upright_operations(_atoms(starts[0], cell), symprec)])

    first = starts[0]
    level = dict(zip(first.atoms.tolist(), first.fractional[:, 0] * height, strict=True))
    number = dict(zip(first.atoms.tolist(), first.numbers, strict=True))
    below = []
    for i, plane in enumerate(planes):
        gap = level[int(plane[0])] - level[int(planes[i - 1][-1])]
        below.append(float(gap if i else gap + height))
    z = np.array([level[int(plane[0])] for plane in planes])
    # planes one above the other by the rise of an operation
    apart = ((z[None] - z[:, None]) / height)[:, :, None] - rises
    apart -= np.rint(apart)
    equal = np.any(np.abs(apart) * height < LENGTH_TOLERANCE, axis=2)
    return tuple(
        Termination(
            index=i,
            species=tuple(sorted(chemical_symbols[number[int(atom)]] for atom in plane)),
            z=float(z[i]),
            spacing=below[(i + 1) % len(planes)],
            spacing_below=below[i],
            equivalent_to=int(np.argmax(equal[:, i])),
        )
        for i, plane in enumerate(planes)
    )


def _atoms(start: Start, cell: Float) -> Atoms:
    """Atoms of a start in the cell, sorted by z, x, y."""
    from ase import Atoms

    fractional = np.where(np.abs(start.fractional) < 1e-9, 0.0, start.fractional)
    positions = np.column_stack([fractional[:, 1:] @ cell[:2, :2], fractional[:, 0] * cell[2, 2]])
    return sorted_atoms(Atoms(numbers=start.numbers, positions=positions, cell=cell, pbc=True))


def sorted_atoms(atoms: Atoms) -> Atoms:
    """Copy sorted by z, then x, then y (equal within 1e-4 Angstrom)."""
    return atoms[order(atoms.positions[:, [2, 0, 1]])]


def oriented_cell(
    structure: str | Path | Structure,
    miller: Sequence[int],
    *,
    termination: int = 0,
    tolerance: float = 0.05,
    symprec: float = 0.01,
) -> OrientedCell:
    """Primitive-volume cell of a crystal with the plane (h k l) in the xy plane and its normal along +z.

    Parameters
    ----------
    structure : str, pathlib.Path or pymatgen.core.Structure
        Anything that :func:`thermal_flows.structures.crystal` takes.
    miller : sequence of int
        (h, k, l) of the **conventional standard cell** of pymatgen's ``SpacegroupAnalyzer`` (for fcc and
        diamond the cubic cell), whatever the cell of the input; (h, k, i, l) for hexagonal crystals.
        For the sense of polar axes see :func:`thermal_flows.structures.conventional_cell`.
    termination : int
        The atomic plane with which the unit starts; see ``OrientedCell.terminations``.
    tolerance : float
        Atoms whose heights differ by less than this form one plane, Angstrom.
    symprec : float
        Symmetry tolerance in Angstrom.

    Returns
    -------
    OrientedCell

    Raises
    ------
    StructureError
        If the indices are not Miller indices, the termination does not exist, or the crystal is
        refused by :func:`thermal_flows.structures.crystal`.

    Notes
    -----
    With h' the coprime indices in a primitive basis, the integer vectors n with n . h' = 0 are the
    plane lattice and any n with n . h' = 1 reaches the next lattice plane; both come from the
    extended Euclidean algorithm, so that the cell is exact. The plane lattice is then Gauss-reduced:
    a1 is a shortest vector, a2 the shortest one that completes a right-handed basis (the obtuse one
    of two, 120 degrees for a hexagonal net); among equivalent vectors the one with the smallest sum
    of indices |u| + |v| + |w|, then the largest [u v w], is taken. a3 has the smallest in-plane part.
    """
    h = miller_indices(miller)
    conventional = conventional_cell(structure, symprec=symprec)
    lattice = _Lattice(primitive_basis(_centring(conventional, symprec)), conventional.lattice.matrix)
    fractional, numbers = _primitive_sites(conventional, lattice, symprec)

    hx, hy, hz = (sum((a * b for a, b in zip(row, h, strict=True)), Fraction(0)) for row in lattice.rows)
    k1, k2, n3 = plane_basis(coprime((hx, hy, hz)))
    normal = np.linalg.inv(conventional.lattice.matrix) @ np.array(h, dtype=float)
    normal /= np.linalg.norm(normal)
    a1, a2 = _reduced_plane(k1, k2, lattice, normal)
    a3 = _shortest_step(n3, (a1, a2), lattice)

    cartesian = np.array([a1, a2, a3]) @ lattice.cartesian
    x = cartesian[0] / np.linalg.norm(cartesian[0])
    rotation = np.array([x, np.cross(normal, x), normal])
    cell = cartesian @ rotation.T
    cell[np.abs(cell) < ROUND_OFF] = 0.0

    in_unit = wrap(fractional @ np.array(inverse_unimodular([a1, a2, a3]), dtype=float))
    a3_in_plane = cell[2, :2] @ np.linalg.inv(cell[:2, :2])
    planes, starts = canonical_starts(in_unit, a3_in_plane, numbers, float(cell[2, 2]), tolerance)
    terminations = _terminations(starts, planes, cell, symprec)
    if termination not in range(len(starts)):
        listed = "; ".join(f"{t.index}: {' '.join(t.species)}, {t.spacing:.3f} A to the next" for t in terminations)
        raise StructureError(
            f"{conventional.composition.reduced_formula} {h} has no termination {termination!r}; choose from {listed}"
        )
    return OrientedCell(
        atoms=_atoms(starts[termination], cell),
        miller=h,
        termination=int(termination),
        terminations=terminations,
        vectors=(lattice.indices(a1), lattice.indices(a2), lattice.indices(a3)),
        rotation=rotation,
        conventional=conventional,
        conventional_in_plane=_conventional_in_plane(a1, a2, lattice, normal),
    )


def _conventional_in_plane(a1: IntVector, a2: IntVector, lattice: _Lattice, normal: Float) -> IntMatrix:
    """In-plane cell of the conventional lattice in terms of a1 and a2."""
    rows = np.array([a1, a2])
    largest = lcm(*(index.denominator for vector in (a1, a2) for index in lattice.indices(vector)))

    def whole(point: Sequence[int]) -> bool:
        return all(index.denominator == 1 for index in lattice.indices((np.array(point) @ rows).tolist()))

    first = next(m for m in range(1, largest + 1) if whole((m, 0)))
    second = next((x, m) for m in range(1, largest + 1) for x in range(first) if whole((x, m)))
    vectors = [tuple((np.array(point) @ rows).tolist()) for point in ((first, 0), second)]
    reduced = _reduced_plane(vectors[0], vectors[1], lattice, normal)
    found = np.rint(np.linalg.lstsq(rows.T.astype(float), np.array(reduced).T.astype(float), rcond=None)[0].T)
    return as_matrix(found)


def terminations(
    structure: str | Path | Structure, miller: Sequence[int], *, tolerance: float = 0.05, symprec: float = 0.01
) -> tuple[Termination, ...]:
    """All atomic planes at which a crystal may be cut parallel to (h k l); none is left out.

    Parameters
    ----------
    structure : str, pathlib.Path or pymatgen.core.Structure
        Anything that :func:`thermal_flows.structures.crystal` takes.
    miller : sequence of int
        Of the conventional standard cell; see :func:`oriented_cell`.
    tolerance : float
        Atoms whose heights differ by less than this form one plane, Angstrom.
    symprec : float
        Symmetry tolerance in Angstrom.

    Returns
    -------
    tuple of Termination
        Upwards from termination 0, with composition, height, distances to the planes next to it and the plane to which
        symmetry makes it equal.

    Raises
    ------
    StructureError
        As :func:`oriented_cell`.
    """
    return oriented_cell(structure, miller, tolerance=tolerance, symprec=symprec).terminations
