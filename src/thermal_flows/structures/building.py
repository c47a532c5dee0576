"""From two crystals to a coherent interface: which cells are matched, and who is strained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thermal_flows.structures.coincidence import (
    IDENTITY,
    IntMatrix,
    Match,
    Strained,
    as_matrix,
    coincidences,
    common_basis,
    describe,
    determinant,
)
from thermal_flows.structures.errors import StructureError
from thermal_flows.structures.interface import Interface, checked_gap, checked_shift, plane_name
from thermal_flows.structures.matching import deformation, match_bases
from thermal_flows.structures.oriented import OrientedCell, oriented_cell, sorted_atoms
from thermal_flows.structures.planes import ROUND_OFF, wrap
from thermal_flows.structures.symmetry import plane_group

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

Float = NDArray[np.float64]
Supercell = int | Sequence[int] | Sequence[Sequence[int]]

MAX_AREA = 200.0
"""Largest common cell that is looked for unless told otherwise, Angstrom^2."""


@dataclass(frozen=True)
class _Pair:
    """Two oriented crystals whose planes are to be matched."""

    below: OrientedCell
    above: OrientedCell
    strain: Strained
    symprec: float

    @property
    def bases(self) -> tuple[Float, Float]:
        return self.below.in_plane, self.above.in_plane

    @property
    def name(self) -> str:
        return f"{_name(self.above)} on {_name(self.below)}"

    def groups(self) -> tuple[list[NDArray[np.intp]], list[NDArray[np.intp]]]:
        return plane_group(self.below.atoms, self.symprec), plane_group(self.above.atoms, self.symprec)

    def match(self, substrate: IntMatrix, film: IntMatrix) -> Match:
        return describe(substrate, film, self.bases, self.groups(), self.strain)

    def cell_by_cell(self) -> Match:
        """The match of one primitive cell with one."""
        basis, _ = match_bases(*self.bases)
        return self.match(IDENTITY, as_matrix(basis))

    def coincidences(self, max_area: float, max_strain: float) -> list[Match]:
        return coincidences(self.bases, self.groups(), strain=self.strain, max_area=max_area, max_strain=max_strain)


def _pair(
    substrate: str | Path | Structure,
    film: str | Path | Structure,
    millers: tuple[Sequence[int], Sequence[int]],
    terminations: tuple[int, int],
    strain: Strained,
    symprec: float,
) -> _Pair:
    if strain not in ("film", "substrate", "both"):
        raise StructureError(f"strain must be 'film', 'substrate' or 'both', not {strain!r}")
    below = oriented_cell(substrate, millers[0], termination=terminations[0], symprec=symprec)
    above = oriented_cell(film, millers[1], termination=terminations[1], symprec=symprec)
    return _Pair(below, above, strain, symprec)


def _checked_limits(max_area: float, max_strain: float) -> None:
    if not np.isfinite(max_strain) or max_strain < 0:
        raise StructureError(f"max_strain must be a number >= 0 such as 0.05; got {max_strain!r}")
    if not np.isfinite(max_area) or max_area <= 0:
        raise StructureError(f"max_area must be a positive area in Angstrom^2 such as {MAX_AREA:g}; got {max_area!r}")


def find_matches(
    substrate: str | Path | Structure,
    film: str | Path | Structure,
    *,
    substrate_miller: Sequence[int] = (0, 0, 1),
    film_miller: Sequence[int] = (0, 0, 1),
    substrate_termination: int = 0,
    film_termination: int = 0,
    strain: Strained = "film",
    max_area: float = MAX_AREA,
    max_strain: float = 0.05,
    symprec: float = 0.01,
) -> list[Match]:
    """Common in-plane cells of two crystals within limits of area and strain.

    Parameters
    ----------
    substrate, film, substrate_miller, film_miller, substrate_termination, film_termination, strain, symprec
        As in :func:`build_interface`. Terminations matter only for which matches are equal by symmetry.
    max_area : float
        Largest area of the common cell, Angstrom^2.
    max_strain : float
        Largest magnitude of a principal strain.

    Returns
    -------
    list of Match
        By area, then strain, then turn; empty if none fits. Any of them can be given to :func:`build_interface`.
        Multiples of a smaller match are left out (ask for them with ``supercell``). A film turned by an angle that is no
        symmetry of its plane is another match, even at the same strain: (001) of diamond has 0 and 90 degrees.

    Raises
    ------
    StructureError
        If an option is unknown, or a crystal or plane cannot be built.

    Notes
    -----
    Zur and McGill's coincidence lattices (doi:10.1063/1.333084), enumerated by pymatgen's ``ZSLGenerator``; see
    :func:`thermal_flows.structures.coincidence.coincidences`.
    """
    _checked_limits(max_area, max_strain)
    millers, terminations = (substrate_miller, film_miller), (substrate_termination, film_termination)
    return _pair(substrate, film, millers, terminations, strain, symprec).coincidences(max_area, max_strain)


def build_interface(
    substrate: str | Path | Structure,
    film: str | Path | Structure,
    *,
    substrate_miller: Sequence[int] = (0, 0, 1),
    film_miller: Sequence[int] = (0, 0, 1),
    substrate_termination: int = 0,
    film_termination: int = 0,
    strain: Strained = "film",
    max_strain: float = 0.05,
    max_area: float = MAX_AREA,
    match: Match | None = None,
    substrate_supercell: Supercell | None = None,
    film_supercell: Supercell | None = None,
    supercell: Supercell = 1,
    shift: Sequence[float] = (0.0, 0.0),
    gap: float | None = None,
    symprec: float = 0.01,
) -> Interface:
    """Stack two crystals on a common in-plane cell.

    Parameters
    ----------
    substrate, film : str, pathlib.Path or pymatgen.core.Structure
        Anything that :func:`thermal_flows.structures.crystal` takes. Give the crystals at the lattice
        constants of the potential in use: built-in ones have experimental constants.
    substrate_miller, film_miller : sequence of int
        Planes of the **conventional standard cells**; see :func:`thermal_flows.structures.oriented_cell`.
    substrate_termination, film_termination : int
        Atomic plane with which each stacking unit starts; see :func:`thermal_flows.structures.terminations`.
    strain : {"film", "substrate", "both"}
        Side that is strained. With "both" the common cell has the mean of the two metric tensors.
    max_strain : float
        Largest magnitude allowed for a principal strain.
    max_area : float
        Largest common cell looked for, Angstrom^2; the smallest one within ``max_strain`` is taken. One primitive
        cell of either side is allowed whatever its area.
    match : Match, optional
        One of :func:`find_matches` instead. ``max_strain`` still holds.
    substrate_supercell, film_supercell : int, two ints or (2, 2) ints, optional
        The common cell as a multiple of either side's own, both or none. Two ints (n1, n2), or n for (n, n), count
        **conventional** in-plane cells (``OrientedCell.conventional_in_plane``): on (001) of a cubic crystal n1 x n2 squares of
        the lattice constant. On (111) of a face-centred crystal the conventional cell is 2 x 2 of the primitive one: give a
        matrix there. A matrix ((m11, m12), (m21, m22)) has the common vectors for rows, in terms of the **primitive** in-plane
        vectors a1, a2 (``OrientedCell.in_plane``). If both sides are counted, the film is turned as its least strain demands;
        matrices are taken as they are.
    supercell : int, two ints or (2, 2) ints
        Multiple of the common cell, however that was found: 2 doubles both of its vectors.
    shift : sequence of float
        In-plane shift of the film in fractions of a1 and a2 of the substrate's primitive unit.
    gap : float, optional
        Distance in Angstrom of the outermost planes at the interface; by default the mean of the
        spacings that both crystals have there.
    symprec : float
        Symmetry tolerance in Angstrom.

    Returns
    -------
    Interface
        Strain is applied in the plane only: heights are those of the unstrained crystals (no Poisson
        contraction) until relaxed units are given to :meth:`Interface.with_units`.

    Raises
    ------
    StructureError
        If no common cell is within the limits (with the best ones there are), an option is unknown, or a crystal or plane
        cannot be built.

    Notes
    -----
    A match cell by cell is taken wherever it is within ``max_strain``, even if a larger cell would be strained less. The
    film may be turned about the normal by any rotation that maps one reduced basis of its plane lattice onto that of the
    substrate; see :func:`thermal_flows.structures.matching.match_bases`.
    """
    _checked_limits(max_area, max_strain)
    gap, shift = checked_gap(gap), checked_shift(shift)
    millers, terminations = (substrate_miller, film_miller), (substrate_termination, film_termination)
    pair = _pair(substrate, film, millers, terminations, strain, symprec)
    explicit = substrate_supercell is not None or film_supercell is not None
    if match is not None:
        if explicit:
            raise StructureError("give a match or supercells of both sides, not both")
        chosen = pair.match(as_matrix(match.substrate), as_matrix(match.film))
    elif explicit:
        chosen = pair.match(*_explicit(pair, substrate_supercell, film_supercell))
    else:
        chosen = _smallest(pair, max_area, max_strain)
    if chosen.largest_strain > max_strain + ROUND_OFF:
        raise StructureError(_too_strained(pair, chosen, max_strain))
    multiple = _multiple(supercell)
    if multiple != IDENTITY:
        k = np.array(multiple)
        chosen = pair.match(as_matrix(k @ np.array(chosen.substrate)), as_matrix(k @ np.array(chosen.film)))
    return _built(pair, chosen, shift, gap)


def _built(pair: _Pair, match: Match, shift: tuple[float, float], gap: float | None) -> Interface:
    """The interface of a match."""
    own = [np.array(m) @ b for m, b in zip((match.substrate, match.film), pair.bases, strict=True)]
    common = common_basis(own[0], own[1], pair.strain)
    report: dict[str, Any] = {"strained": pair.strain, "in_plane_cell": common.tolist()}
    units, supercells = [], []
    cells = (pair.below, pair.above)
    for side, cell, matrix, vectors in zip(
        ("substrate", "film"), cells, (match.substrate, match.film), own, strict=True
    ):
        strain = deformation(vectors, common)
        report[side] = {"unstrained_in_plane_cell": vectors.tolist(), **strain.as_dict()}
        if determinant(matrix) == 1:
            units.append(_strained_unit(cell, np.array(matrix), common))
            supercells.append(IDENTITY)
        else:
            in_plane = np.linalg.solve(np.array(matrix, dtype=float), common)
            units.append(_strained_unit(cell, np.eye(2, dtype=int), in_plane))
            supercells.append(matrix)
    standard = match.cells == (1, 1) and match.canonical == pair.cell_by_cell().canonical
    return Interface(
        substrate=units[0],
        film=units[1],
        strain=report,
        substrate_miller=pair.below.miller,
        film_miller=pair.above.miller,
        substrate_termination=pair.below.termination,
        film_termination=pair.above.termination,
        shift=shift,
        gap=gap,
        substrate_supercell=supercells[0],
        film_supercell=supercells[1],
        match=match,
        standard_match=standard,
        substrate_planes=pair.below.terminations,
        film_planes=pair.above.terminations,
    )


def _strained_unit(unit: OrientedCell, basis: NDArray[np.intp], in_plane: Float) -> Atoms:
    """Stacking unit with its in-plane basis changed by ``basis`` and strained to ``in_plane``."""
    own = basis @ unit.in_plane
    if np.array_equal(own, in_plane):
        return unit.atoms.copy()
    atoms = unit.atoms.copy()
    to_fractional = np.linalg.inv(own)
    cell = np.zeros((3, 3))
    cell[:2, :2] = in_plane
    cell[2, :2] = atoms.cell.array[2, :2] @ to_fractional @ in_plane
    cell[2, 2] = unit.height
    fractional = wrap(atoms.positions[:, :2] @ to_fractional)
    fractional[np.abs(fractional) < 1e-9] = 0.0
    atoms.positions[:, :2] = fractional @ in_plane
    atoms.set_cell(cell, scale_atoms=False)
    return sorted_atoms(atoms)


# -- which cells


def _integers(given: Any, what: str) -> NDArray[np.intp]:
    try:
        raw = np.asarray(given, dtype=float)
    except (TypeError, ValueError) as error:
        raise StructureError(f"{what} must be whole numbers; got {given!r}") from error
    if not np.all(np.isfinite(raw)) or not np.array_equal(raw, np.rint(raw)):
        raise StructureError(f"{what} must be whole numbers; got {given!r}")
    return np.rint(raw).astype(np.intp)


def _counts_or_matrix(given: Supercell, what: str) -> tuple[NDArray[np.intp], bool]:
    """A (2, 2) matrix, and whether it counts cells."""
    numbers = _integers(given, what)
    counts = numbers.ndim < 2
    if numbers.shape not in ((), (2,), (2, 2)):
        raise StructureError(f"{what} is a whole number n, two of them (n1, n2) or a (2, 2) matrix; got {given!r}")
    matrix = np.diag(np.broadcast_to(numbers, 2)) if counts else numbers
    # copies: the result of broadcasting cannot be written
    matrix = np.array(matrix, dtype=np.intp)
    if (counts and matrix.diagonal().min() < 1) or determinant(as_matrix(matrix)) < 1:
        raise StructureError(
            f"{what} must be positive numbers, or a matrix with positive determinant (a right-handed basis); got {given!r}"
        )
    return matrix, counts


def _multiple(supercell: Supercell) -> IntMatrix:
    return as_matrix(_counts_or_matrix(supercell, "supercell")[0])


def _explicit(
    pair: _Pair, substrate_supercell: Supercell | None, film_supercell: Supercell | None
) -> tuple[IntMatrix, IntMatrix]:
    """Matrices in primitive cells from what the user asked for."""
    if substrate_supercell is None or film_supercell is None:
        raise StructureError(
            "give substrate_supercell and film_supercell together, or neither and let a match be found (find_matches lists them)"
        )
    below, counted_below = _counts_or_matrix(substrate_supercell, "substrate_supercell")
    above, counted_above = _counts_or_matrix(film_supercell, "film_supercell")
    if counted_below:
        below = below @ np.array(pair.below.conventional_in_plane)
    if counted_above:
        above = above @ np.array(pair.above.conventional_in_plane)
    if counted_below and counted_above:
        turn, _ = match_bases(below @ pair.below.in_plane, above @ pair.above.in_plane)
        above = turn @ above
    return as_matrix(below), as_matrix(above)


def _smallest(pair: _Pair, max_area: float, max_strain: float) -> Match:
    """The smallest common cell within the limits."""
    simple = pair.cell_by_cell()
    if simple.largest_strain <= max_strain + ROUND_OFF:
        return simple
    found = pair.coincidences(max_area, max_strain)
    if not found:
        raise StructureError(_none_within(pair, simple, max_area, max_strain))
    return found[0]


# -- what to say if nothing fits


def _principal(pair: _Pair, match: Match) -> str:
    sides = [("substrate", match.substrate_strain), ("film", match.film_strain)]
    strained = [side for side in sides if pair.strain in (side[0], "both")]
    return " and ".join(f"{side} {np.round(np.array(s) * 100, 2).tolist()} %" for side, s in strained)


def _too_strained(pair: _Pair, match: Match, max_strain: float) -> str:
    own = [np.array(m) @ b for m, b in zip((match.substrate, match.film), pair.bases, strict=True)]
    return (
        f"{pair.name}: the cells asked for strain the {_principal(pair, match)} (principal strains), more than max_strain = "
        f"{max_strain * 100:g} %. Substrate {_format(own[0])}; film {_format(own[1])}. You can raise max_strain, or choose other "
        "supercells: find_matches lists those that fit"
    )


def _none_within(pair: _Pair, simple: Match, max_area: float, max_strain: float) -> str:
    """Numbers and cures."""
    cures = ["raise max_strain", "choose other planes"]
    if pair.strain != "both":
        shared = _Pair(pair.below, pair.above, "both", pair.symprec)
        if shared.cell_by_cell().largest_strain <= max_strain or shared.coincidences(max_area, max_strain):
            cures.insert(0, "share the strain with strain='both'")
    wider = [
        m
        for m in pair.coincidences(max_area, min(0.5, max(3 * max_strain, 0.1)))
        if m.largest_strain < simple.largest_strain
    ]
    # each with less strain than all smaller ones
    front: list[Match] = []
    for match in wider:
        if not front or match.largest_strain < front[-1].largest_strain - 1e-6:
            front.append(match)
    # not beyond what is quickly searched
    larger = pair.coincidences(min(4 * max_area, max(max_area, 400.0)), max_strain)
    if larger:
        cures.insert(0, f"raise max_area to {np.ceil(larger[0].area):.0f} A^2, which holds {larger[0]}")
    best = f" The best within max_area = {max_area:g} A^2 are {'; '.join(map(str, front[-3:]))}." if front else ""
    return (
        f"{pair.name}: no common cell within max_area = {max_area:g} A^2 is strained by {max_strain * 100:g} % or less; cell by "
        f"cell the strain of the {_principal(pair, simple)} (principal strains) is more than max_strain = {max_strain * 100:g} "
        f"%: substrate {_format(pair.below.in_plane)}; film {_format(np.array(simple.film) @ pair.above.in_plane)}.{best} "
        f"You can {', '.join(cures[:-1])} or {cures[-1]}"
    )


def _name(cell: OrientedCell) -> str:
    return f"{cell.conventional.composition.reduced_formula}({plane_name(cell.miller)})"


def _format(cell: Float) -> str:
    return "a1 = ({:.4f}, {:.4f}), a2 = ({:.4f}, {:.4f}) A".format(*np.asarray(cell).ravel())
