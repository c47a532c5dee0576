"""Coherent interfaces: two crystals stacked on one common in-plane cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from thermal_flows.structures.errors import StructureError
from thermal_flows.structures.integers import IntVector
from thermal_flows.structures.matching import basis_from_metric, deformation, match_bases
from thermal_flows.structures.oriented import OrientedCell, oriented_cell, sorted_atoms
from thermal_flows.structures.planes import wrap

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

Float = NDArray[np.float64]
Strained = Literal["film", "substrate", "both"]

IN_PLANE_TOLERANCE = 1e-6
"""Largest difference in Angstrom between in-plane vectors that count as common."""


@dataclass(frozen=True)
class Interface:
    """Substrate|film: two stacking units on a common in-plane cell, ready to be stacked.

    The pair is written substrate|film; the left lead is the substrate (at the bottom), the right lead
    the film.

    Attributes
    ----------
    substrate, film : ase.Atoms
        Stacking units of both sides: identical a1 (along +x) and a2 (in the xy plane), a3 with
        positive z and possibly oblique, periodic. The starting plane is at z = 0.
    strain : dict
        JSON-able report: ``strained`` (which side), ``in_plane_cell`` (rows a1, a2 of the common
        cell, Angstrom), ``film_basis`` (integer change of the film's own basis) and for ``substrate`` and
        ``film`` the ``unstrained_in_plane_cell``, ``rotation_deg``, ``engineering`` and ``green_lagrange``
        strain in the Cartesian frame of the common cell, and the ``principal`` strains.
    substrate_miller, film_miller : tuple of int
        Planes of the conventional standard cells.
    substrate_termination, film_termination : int
        Atomic planes with which the units start.
    shift : tuple of float
        In-plane shift of the film in fractions of a1 and a2, from the continued lattice.
    gap : float or None
        Distance in Angstrom between the outermost planes at both interfaces; None takes the mean of the
        spacings that both crystals have there.
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

    @property
    def area(self) -> float:
        """Area of the common in-plane cell in Angstrom^2."""
        cell = self.substrate.cell.array
        return float(cell[0, 0] * cell[1, 1])

    @property
    def label(self) -> str:
        """The pair with its planes, for example ``Si(001)|Ge(001)``."""
        from pymatgen.core import Composition

        sides = ((self.substrate, self.substrate_miller), (self.film, self.film_miller))
        names = [Composition(atoms.get_chemical_formula()).reduced_formula for atoms, _ in sides]
        return "|".join(f"{name}({_plane(miller)})" for name, (_, miller) in zip(names, sides, strict=True))

    def with_units(self, substrate: Atoms, film: Atoms) -> Interface:
        """Copy with other (relaxed) stacking units on the same in-plane cell.

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
        units = [atoms.copy() for atoms in (substrate, film)]
        for atoms in units:
            # equal to round-off, also when a file has passed between
            cell = atoms.cell.array.copy()
            cell[:2] = self.substrate.cell.array[:2]
            atoms.set_cell(cell, scale_atoms=False)
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
            gaps. All substrate atoms unit by unit, then all film atoms unit by unit. Unit n of the
            substrate sits exactly at its positions plus n a3; film unit 0 starts where substrate unit
            n_substrate would start, shifted in plane, with the distance between the outermost planes
            equal to ``gap``. Positions are not wrapped. Arrays ``side`` (0 substrate, 1 film), ``unit``
            (within the side) and ``site`` (within the unit). ``info["interface_z"]`` is the height in
            Angstrom midway between the outermost planes of the interface, ``info["second_interface_z"]``
            that of the other interface, film below and substrate above, across the cell boundary.

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
        gap = _checked_gap(self.gap if gap is None else gap)
        u, v = _checked_shift(self.shift if shift is None else shift)

        a3_s, a3_f = self.substrate.cell.array[2], self.film.cell.array[2]
        z_s, z_f = self.substrate.positions[:, 2], self.film.positions[:, 2]
        spacing_s = float(a3_s[2] + z_s.min() - z_s.max())
        spacing_f = float(a3_f[2] + z_f.min() - z_f.max())
        distance = 0.5 * (spacing_s + spacing_f) if gap is None else gap

        top = (n_substrate - 1) * a3_s[2] + z_s.max()
        origin = n_substrate * a3_s + u * self.substrate.cell.array[0] + v * self.substrate.cell.array[1]
        origin[2] = top + distance - z_f.min()
        cell = self.substrate.cell.array.copy()
        cell[2] = n_substrate * a3_s + n_film * a3_f
        film_top = origin[2] + (n_film - 1) * a3_f[2] + z_f.max()
        cell[2, 2] = film_top + distance - z_s.min()

        atoms = _repeat(self.substrate, n_substrate, np.zeros(3), side=0)
        atoms += _repeat(self.film, n_film, origin, side=1)
        atoms.set_cell(cell, scale_atoms=False)
        atoms.pbc = True
        atoms.info["interface_z"] = float(top + 0.5 * distance)
        atoms.info["second_interface_z"] = float(film_top + 0.5 * distance)
        return atoms


def _plane(miller: IntVector) -> str:
    return "".join(map(str, miller)) if all(0 <= m <= 9 for m in miller) else " ".join(map(str, miller))


def _repeat(unit: Atoms, number: int, origin: Float, *, side: int) -> Atoms:
    """Stack copies of a unit, each one a3 further, with the arrays side, unit and site."""
    from ase import Atoms

    n = len(unit)
    index = np.repeat(np.arange(number), n)
    atoms = Atoms(
        numbers=np.tile(unit.numbers, number),
        positions=np.tile(unit.positions, (number, 1)) + origin + index[:, None] * unit.cell.array[2],
        masses=np.tile(unit.get_masses(), number),
    )
    atoms.set_array("side", np.full(n * number, side))
    atoms.set_array("unit", index)
    atoms.set_array("site", np.tile(np.arange(n), number))
    return atoms


def _check_unit(name: str, atoms: Atoms) -> None:
    cell = atoms.cell.array
    if cell[2, 2] <= 0:
        raise StructureError(f"a3 of the {name} unit must point upwards (positive z); its cell is {cell.tolist()}")


def _checked_gap(gap: float | None) -> float | None:
    if gap is None:
        return None
    if not np.isfinite(gap) or gap <= 0:
        raise StructureError(f"gap is a positive distance in Angstrom between the outermost planes; got {gap!r}")
    return float(gap)


def _checked_shift(shift: Sequence[float]) -> tuple[float, float]:
    values = np.asarray(shift, dtype=float)
    if values.shape != (2,) or not np.all(np.isfinite(values)):
        raise StructureError(f"shift is two fractions of a1 and a2, for example (0.5, 0.0); got {shift!r}")
    return float(values[0]), float(values[1])


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


def _shared_basis(substrate: Float, film: Float) -> Float:
    """Basis of the mean metric tensor of both sides."""
    return basis_from_metric(0.5 * (substrate @ substrate.T + film @ film.T))


def _shared_strain(substrate: Float, film: Float) -> float:
    """Largest principal strain of either side on the shared basis."""
    common = _shared_basis(substrate, film)
    return max(deformation(substrate, common).largest, deformation(film, common).largest)


def _name(cell: OrientedCell) -> str:
    return f"{cell.conventional.composition.reduced_formula}({_plane(cell.miller)})"


def _format(cell: Float) -> str:
    return "a1 = ({:.4f}, {:.4f}), a2 = ({:.4f}, {:.4f}) A".format(*cell.ravel())


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
    shift: Sequence[float] = (0.0, 0.0),
    gap: float | None = None,
    symprec: float = 0.01,
) -> Interface:
    """Stack two crystals whose planes share one primitive in-plane cell.

    Parameters
    ----------
    substrate, film : str, pathlib.Path or pymatgen.core.Structure
        Anything that :func:`thermal_flows.structures.crystal` takes. Give the crystals at the lattice
        constants of the potential in use: built-in ones have experimental constants.
    substrate_miller, film_miller : sequence of int
        Planes of the **conventional standard cells**; see :func:`thermal_flows.structures.oriented_cell`.
    substrate_termination, film_termination : int
        Atomic plane with which each stacking unit starts.
    strain : {"film", "substrate", "both"}
        Side that is strained. With "both" the common cell has the mean of the two metric tensors.
    max_strain : float
        Largest magnitude allowed for a principal strain of a strained side.
    shift : sequence of float
        In-plane shift of the film in fractions of the common a1 and a2.
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
        If a principal strain exceeds ``max_strain``, an option is unknown, or a crystal or plane cannot
        be built.

    Notes
    -----
    The film may be turned about the normal by any rotation that maps one reduced basis of its plane
    lattice onto that of the substrate; see :func:`thermal_flows.structures.matching.match_bases`. Only
    pairs that match cell by cell are built here.
    """
    if strain not in ("film", "substrate", "both"):
        raise StructureError(f"strain must be 'film', 'substrate' or 'both', not {strain!r}")
    if not np.isfinite(max_strain) or max_strain < 0:
        raise StructureError(f"max_strain must be a number >= 0 such as 0.05; got {max_strain!r}")
    gap, shift = _checked_gap(gap), _checked_shift(shift)
    below = oriented_cell(substrate, substrate_miller, termination=substrate_termination, symprec=symprec)
    above = oriented_cell(film, film_miller, termination=film_termination, symprec=symprec)

    basis, _ = match_bases(below.in_plane, above.in_plane)
    own_s, own_f = below.in_plane, basis @ above.in_plane
    if strain == "film":
        common = own_s
    elif strain == "substrate":
        common = basis_from_metric(own_f @ own_f.T)
    else:
        common = _shared_basis(own_s, own_f)
    sides = {"substrate": deformation(own_s, common), "film": deformation(own_f, common)}

    strained = [side for side in ("substrate", "film") if strain in (side, "both")]
    if any(sides[side].largest > max_strain for side in strained):
        numbers = " and ".join(f"{side} {np.round(sides[side].principal * 100, 2).tolist()} %" for side in strained)
        pair = f"{_name(above)} on {_name(below)}"
        cures = ["raise max_strain", "choose other planes"]
        if strain != "both" and _shared_strain(own_s, own_f) <= max_strain:
            cures.insert(0, "share the strain with strain='both'")
        raise StructureError(
            f"{pair}: the best cell-by-cell match strains the {numbers} (principal strains), more than "
            f"max_strain = {max_strain * 100:g} %. Substrate {_format(own_s)}; film {_format(own_f)}. "
            f"You can {', '.join(cures[:-1])} or {cures[-1]}; matched supercells are not built yet"
        )

    report: dict[str, Any] = {"strained": strain, "in_plane_cell": common.tolist(), "film_basis": basis.tolist()}
    for side, own in (("substrate", own_s), ("film", own_f)):
        report[side] = {"unstrained_in_plane_cell": own.tolist(), **sides[side].as_dict()}
    return Interface(
        substrate=_strained_unit(below, np.eye(2, dtype=int), common),
        film=_strained_unit(above, basis, common),
        strain=report,
        substrate_miller=below.miller,
        film_miller=above.miller,
        substrate_termination=below.termination,
        film_termination=above.termination,
        shift=shift,
        gap=gap,
    )
