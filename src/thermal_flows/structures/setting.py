"""The conventional standard cell to which Miller indices refer, with a definite sense of polar axes."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thermal_flows.structures.crystals import analyzer, crystal

if TYPE_CHECKING:
    from pymatgen.core import Structure

GRID = 2400
"""Fractional coordinates are compared in units of 1/2400: special positions are whole numbers."""

METRIC_TOLERANCE = 1e-5


def proper_rotations(lattice: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Changes of basis that map a lattice onto itself by a proper rotation.

    Parameters
    ----------
    lattice : numpy.ndarray
        (3, 3) rows in Angstrom of a standard cell.

    Returns
    -------
    list of numpy.ndarray
        Integer matrices W of determinant +1 whose rows ``W @ lattice`` have the metric of ``lattice``;
        the identity comes first.
    """
    metric = lattice @ lattice.T
    scale = np.sqrt(np.outer(metric.diagonal(), metric.diagonal()))
    matrices = np.array(list(product((0, 1, -1), repeat=9))).reshape(-1, 3, 3)
    matrices = matrices[np.rint(np.linalg.det(matrices)) == 1]
    images = matrices @ metric @ matrices.transpose(0, 2, 1)
    kept = matrices[np.all(np.abs(images - metric) < METRIC_TOLERANCE * scale, axis=(1, 2))]
    identity = np.all(kept == np.eye(3, dtype=int), axis=(1, 2))
    return [np.eye(3, dtype=int), *kept[~identity]]


def _fingerprint(fractional: NDArray[np.float64], rank: NDArray[np.intp], origins: NDArray[np.intp]) -> list[int]:
    """Smallest sorted list of (element rank, coordinates) over the atoms that may be the origin."""
    lists = []
    for origin in origins:
        grid = np.rint((fractional - fractional[origin]) * GRID).astype(int) % GRID
        rows = np.column_stack([rank, grid])
        lists.append(rows[np.lexsort(rows.T[::-1])].ravel().tolist())
    return min(lists)


def conventional_cell(spec: str | Path | Structure, *, symprec: float = 0.01) -> Structure:
    """Conventional standard cell of a crystal: the frame of its Miller indices.

    Parameters
    ----------
    spec : str, pathlib.Path or pymatgen.core.Structure
        Anything that :func:`thermal_flows.structures.crystal` takes.
    symprec : float
        Symmetry tolerance in Angstrom.

    Returns
    -------
    pymatgen.core.Structure
        The conventional standard structure of pymatgen's ``SpacegroupAnalyzer``, up to the choice below.

    Raises
    ------
    StructureError
        If the crystal is refused by :func:`thermal_flows.structures.crystal`.

    Notes
    -----
    Where the crystal has less symmetry than its lattice the standard does not say which of several
    orientations of the axes is meant: for zincblende, [111] may point from cation to anion or back.
    Of all proper rotations of the lattice the one is taken that gives, with the least electronegative
    element at the origin, the smallest sorted coordinates. Zincblende then has its cation at
    (0, 0, 0) and its anion at (1/4, 1/4, 1/4), wurtzite its anion at +u above the cation: (111) and (0001) are
    the cation faces, as is customary.
    """
    from pymatgen.core import Element, Structure

    structure = analyzer(crystal(spec, symprec=symprec), symprec=symprec).get_conventional_standard_structure()
    elements = sorted(
        {site.specie.symbol for site in structure}, key=lambda symbol: (Element(symbol).X, Element(symbol).Z)
    )
    rank = np.array([elements.index(site.specie.symbol) for site in structure])
    origins = np.flatnonzero(rank == 0)
    inverses = [np.rint(np.linalg.inv(w)).astype(int) for w in proper_rotations(structure.lattice.matrix)]
    turned = [structure.frac_coords @ inverse for inverse in inverses]
    best = min(turned, key=lambda fractional: _fingerprint(fractional, rank, origins))
    return Structure(structure.lattice, structure.species, best, to_unit_cell=True)
