"""Coherent interfaces: two crystals stacked on one common in-plane cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thermal_flows.structures.coincidence import IDENTITY, IntMatrix, Match, determinant
from thermal_flows.structures.errors import StructureError
from thermal_flows.structures.integers import IntVector, sublattice_points
from thermal_flows.structures.planes import Termination

if TYPE_CHECKING:
    from ase import Atoms

Float = NDArray[np.float64]

IN_PLANE_TOLERANCE = 1e-6
"""Largest difference in Angstrom between in-plane vectors that count as common."""


@dataclass(frozen=True)
class Interface:
    """Substrate|film: two primitive stacking units that share an in-plane cell, ready to be stacked.

    The pair is written substrate|film; the left lead is the substrate (at the bottom), the right lead
    the film.

    Attributes
    ----------
    substrate, film : ase.Atoms
        Primitive stacking units of both sides, strained: a1 and a2 in the xy plane, a3 with positive z and
        possibly oblique, periodic. The starting plane is at z = 0. Bulk properties are those of these units.
    strain : dict
        JSON-able report: ``strained`` (which side), ``in_plane_cell`` (rows a1, a2 of the common
        cell, Angstrom) and for ``substrate`` and ``film`` the ``unstrained_in_plane_cell`` (of the common cell before strain),
        ``rotation_deg``, ``engineering`` and ``green_lagrange`` strain in the Cartesian frame of the common cell, and the
        ``principal`` strains.
    substrate_miller, film_miller : tuple of int
        Planes of the conventional standard cells.
    substrate_termination, film_termination : int
        Atomic planes with which the units start.
    shift : tuple of float
        In-plane shift of the film in fractions of a1 and a2 of the substrate unit, from the continued lattice.
    gap : float or None
        Distance in Angstrom between the outermost planes at both interfaces; None takes the mean of the
        spacings that both crystals have there.
    substrate_supercell, film_supercell : tuple of tuple of int
        Rows: the common a1 (along +x) and a2 in terms of a1 and a2 of the unit. The identity for pairs that match
        cell by cell.
    match : Match or None
        How the cells were matched, in the bases of the oriented cells.
    standard_match : bool
        Whether that is the match cell by cell that is taken unless another one is asked for.
    substrate_planes, film_planes : tuple of Termination
        All atomic planes of the units; see ``OrientedCell.terminations``.
    """

    substrate: Atoms
    film: Atoms
    strain: dict[str, Any]
    substrate_miller: IntVector
    film_miller: IntVector
    substrate_termination: int = 0
    film_termination: int = 0
    shift: tuple[float, float] = (0.0, 0.0)
    gap: float | None = None
    substrate_supercell: IntMatrix = IDENTITY
    film_supercell: IntMatrix = IDENTITY
    match: Match | None = None
    standard_match: bool = True
    substrate_planes: tuple[Termination, ...] = ()
    film_planes: tuple[Termination, ...] = ()

    @property
    def in_plane_cell(self) -> Float:
        """Common in-plane vectors: rows a1 (along +x) and a2 (in the xy plane), (2, 3) in Angstrom."""
        cell = np.array(self.substrate_supercell) @ self.substrate.cell.array[:2]
        cell[np.abs(cell) < 1e-12] = 0.0
        return np.asarray(cell, dtype=np.float64)

    @property
    def area(self) -> float:
        """Area of the common in-plane cell in Angstrom^2."""
        return float(abs(np.linalg.det(self.in_plane_cell[:, :2])))

    @property
    def copies(self) -> tuple[int, int]:
        """In-plane copies of the substrate and of the film unit in the common cell."""
        return determinant(self.substrate_supercell), determinant(self.film_supercell)

    @property
    def atoms_per_unit(self) -> tuple[int, int]:
        """Atoms that one stacking unit of substrate and film adds to a junction."""
        return len(self.substrate) * self.copies[0], len(self.film) * self.copies[1]

    @property
    def contacts(self) -> tuple[str, str]:
        """The planes that meet at the interface, and at the other interface of the periodic junction cell, read upwards.

        Raises
        ------
        StructureError
            If the interface was made without the planes of its units.
        """
        if not (self.substrate_planes and self.film_planes):
            raise StructureError(
                "the planes of the stacking units are not known; make the interface with build_interface"
            )
        substrate, film = self.label.split("|")
        sides = (
            (substrate, self.substrate_planes, self.substrate_termination),
            (film, self.film_planes, self.film_termination),
        )
        # a unit that starts with a plane ends with the one below it
        top = [f"{name} plane {planes[t - 1].index} ({planes[t - 1].composition})" for name, planes, t in sides]
        bottom = [f"{name} plane {planes[t].index} ({planes[t].composition})" for name, planes, t in sides]
        return f"{top[0]} | {bottom[1]}", f"{top[1]} | {bottom[0]}"

    @property
    def label(self) -> str:
        """The pair with its planes, for example ``Si(001)|Ge(001)``."""
        from pymatgen.core import Composition

        sides = ((self.substrate, self.substrate_miller), (self.film, self.film_miller))
        names = [Composition(atoms.get_chemical_formula()).reduced_formula for atoms, _ in sides]
        return "|".join(f"{name}({plane_name(miller)})" for name, (_, miller) in zip(names, sides, strict=True))

    def with_units(self, substrate: Atoms, film: Atoms) -> Interface:
        """Copy with other (relaxed) stacking units on the same in-plane cells.

        Parameters
        ----------
        substrate, film : ase.Atoms
            Units with the atoms of the present ones in the same order; heights and positions may differ.

        Returns
        -------
        Interface
            With copies of the units; the strain report is unchanged, as it concerns the plane only.

        Raises
        ------
        StructureError
            If the atoms or the in-plane cell differ, or a3 does not point upwards.
        """
        for name, new, old in (("substrate", substrate, self.substrate), ("film", film, self.film)):
            if new.get_chemical_symbols() != old.get_chemical_symbols():
                raise StructureError(
                    f"the new {name} unit holds {new.symbols}, the present one {old.symbols}; "
                    "give the same atoms in the same order"
                )
            _check_unit(name, new)
            apart = np.abs(new.cell.array[:2] - old.cell.array[:2]).max()
            if apart > IN_PLANE_TOLERANCE:
                raise StructureError(
                    f"the new {name} unit has another in-plane cell (differs by {apart:.2e} A): "
                    f"{new.cell.array[:2].tolist()} instead of {old.cell.array[:2].tolist()}; relax units with a1 and "
                    "a2 fixed, or strain the crystals before build_interface"
                )
        units = []
        for new, old in ((substrate, self.substrate), (film, self.film)):
            # equal to round-off, also when a file has passed between
            atoms = new.copy()
            cell = atoms.cell.array.copy()
            cell[:2] = old.cell.array[:2]
            atoms.set_cell(cell, scale_atoms=False)
            units.append(atoms)
        return replace(self, substrate=units[0], film=units[1])

    def junction(
        self,
        n_substrate: int,
        n_film: int,
        gap: float | None = None,
        shift: Sequence[float] | None = None,
    ) -> Atoms:
        """Periodic superlattice cell: ``n_substrate`` units at the bottom, ``n_film`` units above.

        Parameters
        ----------
        n_substrate, n_film : int
            Numbers of stacking units, at least one each.
        gap, shift
            Override the values of the interface.

        Returns
        -------
        ase.Atoms
            Cell rows a1, a2, c = n_substrate a3_substrate + n_film a3_film, with c_z corrected by both
            gaps. All substrate atoms unit by unit, then all film atoms unit by unit; the in-plane copies of a unit
            one after the other. Unit n of the substrate sits exactly at its positions plus n a3; film unit 0
            starts where substrate unit n_substrate would start, shifted in plane, with the distance between
            the outermost planes equal to ``gap``. Positions are not wrapped. Arrays ``side`` (0 substrate,
            1 film), ``unit`` (within the side), ``copy`` (in the plane) and ``site`` (within the unit).
            ``info["interface_z"]`` is the height in Angstrom midway between the outermost planes of the
            interface, ``info["second_interface_z"]`` that of the other interface, film below and substrate
            above, across the cell boundary; :attr:`contacts` names the planes that meet at both.

        Raises
        ------
        StructureError
            If a number of units is not a positive integer, or gap or shift are not usable.

        Notes
        -----
        Without ``gap`` the corrections of both interfaces cancel and c is exactly the sum of the
        units. The in-plane shift moves the film as a block, so c has none. With different terminations
        or low symmetry the second interface need not be equivalent to the first.
        """
        for name, number in (("n_substrate", n_substrate), ("n_film", n_film)):
            if not isinstance(number, int | np.integer) or number < 1:
                raise StructureError(f"{name} must be a positive integer, not {number!r}")
        gap = checked_gap(self.gap if gap is None else gap)
        u, v = checked_shift(self.shift if shift is None else shift)

        a3_s, a3_f = self.substrate.cell.array[2], self.film.cell.array[2]
        z_s, z_f = self.substrate.positions[:, 2], self.film.positions[:, 2]
        spacing_s = float(a3_s[2] + z_s.min() - z_s.max())
        spacing_f = float(a3_f[2] + z_f.min() - z_f.max())
        distance = 0.5 * (spacing_s + spacing_f) if gap is None else gap

        top = (n_substrate - 1) * a3_s[2] + z_s.max()
        origin = n_substrate * a3_s + u * self.substrate.cell.array[0] + v * self.substrate.cell.array[1]
        origin[2] = top + distance - z_f.min()
        cell = np.zeros((3, 3))
        cell[:2] = self.in_plane_cell
        cell[2] = n_substrate * a3_s + n_film * a3_f
        film_top = origin[2] + (n_film - 1) * a3_f[2] + z_f.max()
        cell[2, 2] = film_top + distance - z_s.min()

        atoms = _repeat(self.substrate, n_substrate, self.substrate_supercell, np.zeros(3), side=0)
        atoms += _repeat(self.film, n_film, self.film_supercell, origin, side=1)
        atoms.set_cell(cell, scale_atoms=False)
        atoms.pbc = True
        atoms.info["interface_z"] = float(top + 0.5 * distance)
        atoms.info["second_interface_z"] = float(film_top + 0.5 * distance)
        return atoms


def plane_name(miller: IntVector) -> str:
    """Miller indices as they are written, ``001`` or ``1 1 -2``."""
    return "".join(map(str, miller)) if all(0 <= m <= 9 for m in miller) else " ".join(map(str, miller))


def _repeat(unit: Atoms, number: int, supercell: IntMatrix, origin: Float, *, side: int) -> Atoms:
    """Stack copies of a unit, each one a3 further, with the arrays side, unit, copy and site."""
    from ase import Atoms

    in_plane = sublattice_points(supercell)
    n, k = len(unit), len(in_plane)
    level, copy = np.divmod(np.arange(number * k), k)
    jumps = in_plane[copy] @ unit.cell.array[:2] + level[:, None] * unit.cell.array[2]
    atoms = Atoms(
        numbers=np.tile(unit.numbers, number * k),
        positions=(unit.positions[None] + origin + jumps[:, None]).reshape(-1, 3),
        masses=np.tile(unit.get_masses(), number * k),
    )
    atoms.set_array("side", np.full(n * number * k, side))
    atoms.set_array("unit", np.repeat(level, n))
    atoms.set_array("copy", np.repeat(copy, n))
    atoms.set_array("site", np.tile(np.arange(n), number * k))
    return atoms


def _check_unit(name: str, atoms: Atoms) -> None:
    cell = atoms.cell.array
    if cell[2, 2] <= 0:
        raise StructureError(f"a3 of the {name} unit must point upwards (positive z); its cell is {cell.tolist()}")


def checked_gap(gap: float | None) -> float | None:
    """A distance in Angstrom or None, else a :class:`StructureError`."""
    if gap is None:
        return None
    if not np.isfinite(gap) or gap <= 0:
        raise StructureError(f"gap is a positive distance in Angstrom between the outermost planes; got {gap!r}")
    return float(gap)


def checked_shift(shift: Sequence[float]) -> tuple[float, float]:
    """Two fractions, else a :class:`StructureError`."""
    values = np.asarray(shift, dtype=float)
    if values.shape != (2,) or not np.all(np.isfinite(values)):
        raise StructureError(f"shift is two fractions of a1 and a2, for example (0.5, 0.0); got {shift!r}")
    return float(values[0]), float(values[1])
