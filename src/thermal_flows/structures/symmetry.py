"""Which planes, and which cuts of them, a crystal's symmetry makes equal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thermal_flows.structures.crystals import analyzer
from thermal_flows.structures.integers import IntVector, miller_indices
from thermal_flows.structures.setting import conventional_cell

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

HEIGHT_TOLERANCE = 1e-3
"""Translations along the stack, in units of its period, below which an operation leaves every plane where it is."""


def upright_operations(unit: Atoms, symprec: float = 0.01) -> list[tuple[NDArray[np.intp], float]]:
    """Space-group operations of a stacking unit that keep its planes horizontal and its normal upwards.

    Parameters
    ----------
    unit : ase.Atoms
        a1 and a2 span the plane.
    symprec : float
        Symmetry tolerance in Angstrom.

    Returns
    -------
    list of (matrix, rise)
        ``matrix`` (2, 2) acts on integer in-plane vectors from the right (n becomes n matrix; determinant -1 for a mirror or
        glide plane); ``rise`` is the height gained in units of the period, 0 <= rise < 1.

    Raises
    ------
    StructureError
        If spglib finds no space group.
    """
    from pymatgen.core import Structure

    structure = Structure(unit.cell.array, unit.get_chemical_symbols(), unit.get_scaled_positions())
    dataset = analyzer(structure, symprec=symprec).get_symmetry_dataset()
    found: list[tuple[NDArray[np.intp], float]] = []
    for rotation, translation in zip(dataset.rotations, dataset.translations, strict=True):
        if rotation[2].tolist() == [0, 0, 1]:
            rise = float(np.mod(translation[2] + HEIGHT_TOLERANCE, 1.0) - HEIGHT_TOLERANCE)
            found.append((np.array(rotation[:2, :2].T, dtype=np.intp), rise if rise > HEIGHT_TOLERANCE else 0.0))
    return found


def plane_group(unit: Atoms, symprec: float = 0.01) -> list[NDArray[np.intp]]:
    """In-plane parts of the operations that map a crystal and each of its planes onto itself.

    Parameters
    ----------
    unit : ase.Atoms
        a1 and a2 span the plane.
    symprec : float
        Symmetry tolerance in Angstrom.

    Returns
    -------
    list of numpy.ndarray
        Distinct (2, 2) integer matrices that act on in-plane vectors from the right; determinant -1 for mirror planes.
    """
    distinct = {tuple(matrix.ravel().tolist()) for matrix, rise in upright_operations(unit, symprec) if rise == 0.0}
    return [np.array(entries, dtype=np.intp).reshape(2, 2) for entries in sorted(distinct)]


def equivalent_planes(
    structure: str | Path | Structure, miller: Sequence[int], *, symprec: float = 0.01
) -> list[IntVector]:
    """All planes that the point group of a crystal makes equal to (h k l).

    Parameters
    ----------
    structure : str, pathlib.Path or pymatgen.core.Structure
        Anything that :func:`thermal_flows.structures.crystal` takes.
    miller : sequence of int
        Of the conventional standard cell.
    symprec : float
        Symmetry tolerance in Angstrom.

    Returns
    -------
    list of tuple of int
        The form {h k l} in a definite order: few negative indices first, then h next to k, then large indices. (0 0 1), (1 1 0)
        and (1 1 1) come first among their equals in a cubic crystal.

    Raises
    ------
    StructureError
        As :func:`thermal_flows.structures.oriented_cell`.
    """
    h = np.array(miller_indices(miller))
    conventional = conventional_cell(structure, symprec=symprec)
    rotations = np.array(analyzer(conventional, symprec=symprec).get_symmetry_dataset().rotations)
    form = {(int(a), int(b), int(c)) for a, b, c in h @ rotations}

    def key(plane: IntVector) -> tuple[int, ...]:
        return (sum(index < 0 for index in plane), abs(plane[0] - plane[1]), *(-index for index in plane))

    return sorted(form, key=key)
