"""Deterministic identities: the same physical system or the same method always has the same id."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray
from pymatgen.core import Structure

from thermal_flows.structures import Interface, equivalent_planes, oriented_cell
from thermal_flows.structures.crystals import analyzer

ROUNDING_SHIFT = 0.0137
"""Added before rounding: lattice constants of five digits and their simple fractions are then never halfway, where round-off
would decide."""


def canonical_json(content: Any) -> str:
    """JSON with sorted keys and no spaces; numbers as they are, so round them first."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_of(content: Any) -> str:
    """Hexadecimal sha256 of the canonical JSON of ``content``."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def crystal_identity(structure: Structure, symprec: float = 0.01) -> dict[str, Any]:
    """The primitive cell of a crystal in one definite setting, rounded to 1e-4 Angstrom, as JSON content.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Any cell of the crystal, in any orientation, with any origin and order of atoms.
    symprec : float
        Symmetry tolerance in Angstrom; the crystal is symmetrised within it.

    Returns
    -------
    dict
        ``metric``: scalar products of the cell vectors, as lengths (1e-4 Angstrom) and angles (1e-3 degrees); ``sites``: sorted
        elements and whole numbers of ``steps`` along the cell vectors, each at most 1e-4 Angstrom.

    Notes
    -----
    Of all right-handed primitive bases with the shortest possible vectors and all atoms of the first element as origin, the
    setting is the one whose numbers come first. Enantiomorphs stay different.
    """
    primitive = analyzer(structure, symprec=symprec).get_primitive_standard_structure()
    lattice = primitive.lattice.matrix
    symbols = [site.specie.symbol for site in primitive]
    count = {symbol: symbols.count(symbol) for symbol in symbols}
    elements = sorted(count, key=lambda symbol: (count[symbol], symbol))
    species = np.array([elements.index(symbol) for symbol in symbols])
    best: tuple[list[int], list[int], list[list[int]]] | None = None
    for basis in _shortest_bases(lattice):
        cell = basis @ lattice
        lengths = [_rounded(x, 1e-4) for x in np.linalg.norm(cell, axis=1)]
        unit = cell / np.linalg.norm(cell, axis=1)[:, None]
        cosines = np.clip([unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1]], -1.0, 1.0)
        metric = [*lengths, *(_rounded(x, 1e-3) for x in np.degrees(np.arccos(cosines)))]
        if best is not None and metric > best[0]:
            continue
        # whole numbers of 24ths, so that special positions do not lie between two of them
        steps = [24 * -(-length // 24) for length in lengths]
        fractional = primitive.frac_coords @ np.linalg.inv(basis)
        for origin in np.flatnonzero(species == 0):
            level = np.rint((fractional - fractional[origin]) * steps + ROUNDING_SHIFT).astype(int) % steps
            sites = sorted([int(s), *map(int, row)] for s, row in zip(species, level, strict=True))
            if best is None or (metric, sites) < (best[0], best[2]):
                best = metric, steps, sites
    if best is None:
        raise ValueError(f"the lattice of {primitive.composition.reduced_formula} has no basis: {lattice.tolist()}")
    metric, steps, sites = best
    return {"elements": elements, "metric": metric, "steps": steps, "sites": sites}


def plane_identity(structure: Structure, miller: Sequence[int], termination: int, symprec: float = 0.01) -> list[int]:
    """One name for all planes of a crystal that give the same stacking unit.

    Parameters
    ----------
    structure : Structure
        Any cell of the crystal.
    miller : sequence of int
        Plane of the conventional standard cell.
    termination : int
        Atomic plane with which the stacking unit starts.
    symprec : float
        Symmetry tolerance in Angstrom.

    Returns
    -------
    list of int
        The first plane of the form whose units build the same stack as those of the given plane, within 1e-4 Angstrom; the given
        one if there is none before it. Planes that the point group makes equal, but whose units are turned or start elsewhere,
        keep names of their own: on another crystal they may make another interface.
    """
    given = oriented_cell(structure, miller, termination=termination, symprec=symprec)
    for plane in equivalent_planes(structure, miller, symprec=symprec):
        if plane == given.miller:
            break
        other = oriented_cell(structure, plane, symprec=symprec)
        if termination >= len(other.terminations):
            continue
        if termination:
            other = oriented_cell(structure, plane, termination=termination, symprec=symprec)
        if _same_stack(other.atoms, given.atoms):
            return list(plane)
    return list(given.miller)


def _same_stack(one: Atoms, two: Atoms, tolerance: float = 1e-4) -> bool:
    """Whether two stacking units build the same crystal above z = 0, each atom within a tolerance in Angstrom."""
    cell = one.cell.array
    apart = two.cell.array - cell
    if len(one) != len(two) or np.abs(apart[:2]).max() > tolerance or abs(apart[2, 2]) > tolerance:
        return False

    def off_lattice(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distances from the nearest in-plane lattice vector (in a reduced basis)."""
        jumps = np.rint(vectors[..., :2] @ np.linalg.inv(cell[:2, :2]))
        return np.asarray(np.linalg.norm(vectors - jumps @ cell[:2], axis=-1))

    if off_lattice(apart[2]) > tolerance:
        return False
    distances = off_lattice(two.positions[None] - one.positions[:, None])
    equal = (distances < tolerance) & (one.numbers[:, None] == two.numbers)
    return bool(equal.any(axis=0).all() and equal.any(axis=1).all())


def interface_identity(interface: Interface, substrate: Structure, film: Structure) -> dict[str, Any]:
    """What identifies an interface of two crystals, as JSON content.

    Parameters
    ----------
    interface : Interface
    substrate, film : Structure
        The crystals as the user gave them.

    Returns
    -------
    dict
        Crystals, planes, terminations, side that is strained, shift and gap; for another match than the one that is taken cell by
        cell also its matrices in canonical form, so that the same match in another basis has the same identity.
    """
    content: dict[str, Any] = {
        "substrate": crystal_identity(substrate),
        "film": crystal_identity(film),
        "substrate_miller": plane_identity(substrate, interface.substrate_miller, interface.substrate_termination),
        "film_miller": plane_identity(film, interface.film_miller, interface.film_termination),
        "substrate_termination": interface.substrate_termination,
        "film_termination": interface.film_termination,
        "strained": interface.strain["strained"],
        "shift": [round(x, 6) for x in interface.shift],
        "gap": None if interface.gap is None else round(interface.gap, 6),
    }
    if interface.match is not None and not interface.standard_match:
        content["match"] = [list(row) for row in interface.match.canonical]
    return content


def _rounded(value: float, step: float) -> int:
    """Whole number of steps; numbers typed with few digits do not lie between two of them."""
    return int(np.rint(value / step + ROUNDING_SHIFT))


def _shortest_bases(lattice: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Integer changes of basis to all right-handed bases made of shortest lattice vectors."""
    reduced, to_reduced = minkowski_reduce(lattice)
    longest = np.linalg.norm(reduced, axis=1)
    integers = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    vectors = integers @ reduced
    length = np.linalg.norm(vectors, axis=1)
    handed = np.sign(np.linalg.det(lattice))
    bases = []
    shells = [np.flatnonzero(np.abs(length - x) < 1e-3) for x in np.sort(longest)]
    for triple in itertools.product(*shells):
        basis = integers[list(triple)]
        if round(np.linalg.det(basis @ to_reduced) * handed) == 1:
            bases.append((basis @ to_reduced).astype(float))
    return bases


def array_identity(arrays: dict[str, Any], decimals: int = 6) -> str:
    """sha256 of named arrays rounded to ``decimals``, for systems that are given as force constants."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.asarray(arrays[name])
        digest.update(f"{name}{values.shape}".encode())
        digest.update((np.round(values.astype(float), decimals) + 0.0).tobytes())
    return digest.hexdigest()
