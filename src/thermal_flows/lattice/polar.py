"""Polar crystals and metals: what short-ranged force constants between neutral atoms leave out, and how much of it.

In a polar crystal a long optical wave sets up an electric field that raises its longitudinal frequency (LO-TO splitting). The
dipole forces behind it do not end within any principal layer, so that they are neglected in junctions; here their size is found.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymatgen.core import Composition, Element, Structure

from thermal_flows import units
from thermal_flows.lattice.pair_constants import ForceConstantsError, PairForceConstants

if TYPE_CHECKING:
    from ase import Atoms

SCREENED_CHARGES = (0.2, 0.75)
"""Born charges over the root of the dielectric constant, in units of nominal oxidation numbers: of simple compounds, from
covalent (GaAs 0.21, SiC 0.27) to ionic (MgO 0.57, NaCl 0.72)."""

SCREENED_ANION = 1.3
"""Largest such charge of an anion, in elementary charges (AlN 1.2, GaN and Al2O3 1.15, MgO 1.1, SiC 1.05, GaAs 0.65)."""

_DIRECTIONS = np.array([d for d in product((-1.0, 0.0, 1.0), repeat=3) if d > (0.0, 0.0, 0.0)])


@dataclass(frozen=True)
class Polarity:
    """Whether a crystal is polar, and the size of the splitting that its force constants lack.

    Attributes
    ----------
    formula : str
    polar : bool
        Unlike atoms, in a symmetry that lets optical modes carry a dipole, in a crystal that is not metal-like.
    metal_like : bool
        All elements are metals; see :func:`is_metal_like`.
    polar_modes : int
        Optical modes at the zone centre that symmetry allows to carry a dipole.
    source : {"given", "nominal"} or None
        Where charges and dielectric constant are from: given, or a range around nominal oxidation numbers. None if unknown or not
        polar.
    splitting : tuple of float or None
        Smallest and largest estimate of the highest rise of a frequency at the zone centre, THz; equal where charges were given.
        None without force constants.
    bound : tuple of float or None
        The same for sqrt(LO^2 - TO^2), THz, which bounds the splitting and needs no force constants.
    nominal_charges : dict of str to float or None
        Oxidation numbers by element, where they were used.
    """

    formula: str
    polar: bool
    metal_like: bool
    polar_modes: int
    source: str | None = None
    splitting: tuple[float, float] | None = None
    bound: tuple[float, float] | None = None
    nominal_charges: dict[str, float] | None = None

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Polarity:
        """From the dictionary of :func:`dataclasses.asdict`, also as JSON brings it back."""
        values: dict[str, Any] = {f.name: plain.get(f.name) for f in fields(cls)}
        for name in ("splitting", "bound"):
            values[name] = None if values[name] is None else tuple(values[name])
        return cls(**values)

    @property
    def warning(self) -> str | None:
        """A sentence or two for the reader of results; None for a crystal that is neither polar nor metal-like."""
        if self.metal_like:
            return metal_statement(self.formula)
        if not self.polar:
            return None
        text = f"{self.formula} is polar: the long-range dipole forces behind its LO-TO splitting are neglected. "
        size, by = (self.splitting, "up to") if self.splitting is not None else (self.bound, "less than")
        if size is None:
            return text + "Their size is not known: give Born charges and a dielectric tensor to find it."
        if self.source == "given" or self.nominal_charges is None:
            return text + f"At the zone centre they raise frequencies by {by} {size[1]:.2g} THz."
        charges = ", ".join(f"{symbol} {charge:+g}" for symbol, charge in self.nominal_charges.items())
        rough = f"{size[0]:.2g} to {size[1]:.2g}" if self.splitting is not None else f"{by} {size[1]:.2g}"
        return text + (
            f"A rough estimate: at the zone centre they raise frequencies by {rough} THz (from the nominal charges {charges}, "
            "scaled as in simple compounds). Give Born charges and a dielectric tensor to know it."
        )


def is_metal_like(composition: Composition | str) -> bool:
    """Whether all elements of a composition are metals.

    A statement about the composition, not the electrons: TiN conducts and is not metal-like, Mg2Sn does not and is.
    """
    elements = Composition(composition).elements
    return bool(elements) and all(isinstance(element, Element) and element.is_metal for element in elements)


def metal_statement(formula: str) -> str:
    """What to say of a metal-like crystal."""
    return (
        f"{formula} holds metals only, so that it is taken for a metal: phonons only, electrons are not included "
        f"(no heat carried by "
        "them, no electron-phonon resistance)."
    )


def assess_polarity(
    structure: Structure | Atoms,
    force_constants: PairForceConstants | None = None,
    *,
    born_charges: ArrayLike | None = None,
    dielectric: ArrayLike | None = None,
    born_file: str | Path | None = None,
    symprec: float = 0.01,
) -> Polarity:
    """Find out whether a crystal is polar and how large the neglected splitting is.

    Parameters
    ----------
    structure : pymatgen.core.Structure or ase.Atoms
        Any cell of the crystal.
    force_constants : PairForceConstants, optional
        Of the same cell with the same order of atoms.
    born_charges : array_like, shape (n, 3, 3), optional
        In elementary charges, in the axes of ``structure``: first index the field, second the displacement.
    dielectric : array_like, shape (3, 3), optional
        High-frequency dielectric tensor.
    born_file : str or pathlib.Path, optional
        phonopy's ``BORN`` file of this cell, in place of the two arrays.
    symprec : float
        Symmetry tolerance, Angstrom.

    Returns
    -------
    Polarity

    Raises
    ------
    ForceConstantsError
        If force constants, charges or the file do not fit the structure, or only one of charges and dielectric tensor is given.

    Notes
    -----
    The term that the field adds to the dynamical matrix at the zone centre, approached along the unit vector q, is
    (4 pi e^2 / V) (q.Z_i)_a (q.Z_j)_b / (q.eps.q) / sqrt(m_i m_j): R. M. Pick, M. H. Cohen and R. M. Martin, Phys. Rev. B 1, 910
    (1970), doi:10.1103/PhysRevB.1.910.
    """
    crystal = _structure(structure)
    if force_constants is not None:
        _check_same_cell(crystal, force_constants)
    formula = crystal.composition.reduced_formula
    if born_file is not None:
        if born_charges is not None or dielectric is not None:
            raise ForceConstantsError("give either born_file or born_charges and dielectric, not both")
        born_charges, dielectric = read_born(crystal, born_file, symprec)
    if (born_charges is None) != (dielectric is None):
        raise ForceConstantsError("Born charges and the dielectric tensor are needed together: give both or neither")
    modes = polar_mode_count(crystal, symprec=symprec)
    if is_metal_like(crystal.composition):
        return Polarity(formula, False, True, modes)
    if born_charges is not None and dielectric is not None:
        charges, tensor = _checked(crystal, born_charges, dielectric)
        return Polarity(
            formula,
            modes > 0 and bool(np.abs(charges).max() > 0),
            False,
            modes,
            "given",
            *_sizes(crystal, force_constants, [(charges, tensor)]),
        )
    if modes == 0 or len({e.X for e in crystal.composition.elements}) == 1:
        return Polarity(formula, False, False, modes)
    nominal = _nominal_charges(crystal)
    if nominal is None:
        return Polarity(formula, True, False, modes)
    isotropic = np.array([nominal[site.specie.symbol] for site in crystal])[:, None, None] * np.eye(3)
    anion = -min(nominal.values())
    extremes = [
        (factor * isotropic, np.eye(3))
        for factor in (SCREENED_CHARGES[0], min(SCREENED_CHARGES[1], SCREENED_ANION / anion))
    ]
    splitting, bound = _sizes(crystal, force_constants, extremes)
    return Polarity(formula, True, False, modes, "nominal", splitting, bound, nominal)


def polar_mode_count(structure: Structure, *, symprec: float = 0.01) -> int:
    """Number of optical modes at the zone centre that symmetry allows to carry a dipole (infrared-active modes).

    Parameters
    ----------
    structure : pymatgen.core.Structure
    symprec : float
        Angstrom.

    Returns
    -------
    int
        Copies of the vector representation among the modes, less the acoustic one: for every operation of the space group the
        character of the modes is the number of atoms that it leaves in place (but for lattice vectors) times the trace of its
        rotation.
    """
    from thermal_flows.structures.crystals import analyzer

    primitive = analyzer(structure, symprec=symprec).find_primitive()
    operations = analyzer(primitive, symprec=symprec).get_symmetry_operations(cartesian=False)
    positions, lattice = primitive.frac_coords, primitive.lattice.matrix
    total = 0.0
    for operation in operations:
        moved = positions @ operation.rotation_matrix.T + operation.translation_vector - positions
        away = np.linalg.norm((moved - np.rint(moved)) @ lattice, axis=1)
        in_place = int(np.count_nonzero(away < 2 * symprec))
        total += np.trace(operation.rotation_matrix) ** 2 * (in_place - 1)
    return round(float(total) / len(operations))


def _structure(structure: Structure | Atoms) -> Structure:
    if isinstance(structure, Structure):
        return structure
    return Structure(
        np.array(structure.cell), structure.get_chemical_symbols(), structure.positions, coords_are_cartesian=True
    )


def _check_same_cell(crystal: Structure, constants: PairForceConstants) -> None:
    if len(crystal) != constants.n_atoms or not np.allclose(crystal.lattice.matrix, constants.cell, atol=1e-3):
        raise ForceConstantsError(
            f"force constants of {constants.n_atoms} atoms in another cell do not fit the structure of "
            f"{len(crystal)} atoms: give the "
            "cell that they were computed for"
        )
    images = crystal.frac_coords - constants.positions @ np.linalg.inv(constants.cell)
    apart = np.linalg.norm((images - np.rint(images)) @ constants.cell, axis=1)
    if apart.max() > 0.05:
        raise ForceConstantsError(
            f"atom {int(apart.argmax())} of the structure lies {apart.max():.2g} A from that of the force "
            f"constants: give the relaxed "
            "structure in the same order"
        )


def _checked(
    crystal: Structure, born_charges: ArrayLike, dielectric: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    charges, tensor = np.asarray(born_charges, dtype=float), np.asarray(dielectric, dtype=float)
    if charges.shape != (len(crystal), 3, 3) or tensor.shape != (3, 3):
        raise ForceConstantsError(
            f"Born charges of {len(crystal)} atoms have shape ({len(crystal)}, 3, 3) and the dielectric tensor (3, 3); got "
            f"{charges.shape} and {tensor.shape}"
        )
    if not (np.isfinite(charges).all() and np.isfinite(tensor).all()):
        raise ForceConstantsError("Born charges or the dielectric tensor hold a number that is not finite")
    if np.linalg.eigvalsh(0.5 * (tensor + tensor.T)).min() < 1 - 1e-6:
        raise ForceConstantsError(f"a dielectric tensor has no eigenvalue below 1; got {tensor.tolist()}")
    drift = np.abs(charges.sum(axis=0)).max()
    if drift > 0.1 * max(1.0, np.abs(charges).max()):
        raise ForceConstantsError(
            f"Born charges add up to {drift:.2g} e per cell instead of 0: is an atom missing or out of order?"
        )
    return charges - charges.mean(axis=0), tensor


def read_born(
    structure: Structure | Atoms, path: str | Path, symprec: float = 0.01
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Born charges and dielectric tensor from phonopy's ``BORN`` file of this very cell.

    Parameters
    ----------
    structure : pymatgen.core.Structure or ase.Atoms
    path : str or pathlib.Path
    symprec : float
        Symmetry tolerance, Angstrom.

    Returns
    -------
    born_charges : numpy.ndarray, shape (n, 3, 3)
        Elementary charges.
    dielectric : numpy.ndarray, shape (3, 3)

    Raises
    ------
    ForceConstantsError
        If there is no such file or it does not fit the structure.
    """
    from phonopy.file_IO import parse_BORN
    from phonopy.structure.atoms import PhonopyAtoms

    crystal, path = _structure(structure), Path(path)
    if not path.is_file():
        raise ForceConstantsError(f"there is no BORN file {str(path)!r}")
    cell = PhonopyAtoms(
        numbers=[site.specie.Z for site in crystal],
        cell=crystal.lattice.matrix,
        scaled_positions=crystal.frac_coords,
    )
    try:
        read = parse_BORN(cell, symprec=symprec, filename=path)
    except (ValueError, IndexError, RuntimeError, TypeError) as error:
        raise ForceConstantsError(
            f"the BORN file {str(path)!r} does not fit {crystal.composition.reduced_formula} with {len(crystal)} atoms a cell "
            f"({type(error).__name__}: {error}): it lists the symmetrically different atoms of this very cell, in "
            f"its order and axes"
        ) from error
    return _checked(crystal, read["born"], read["dielectric"])


def _nominal_charges(crystal: Structure) -> dict[str, float] | None:
    guesses = crystal.composition.oxi_state_guesses()
    return {str(symbol): float(charge) for symbol, charge in guesses[0].items()} if guesses else None


def _field_vectors(
    crystal: Structure, masses: NDArray[np.float64], charges: NDArray[np.float64], tensor: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Vectors s(q), shape (directions, 3n), whose dyads are the field's part of the dynamical matrix, sqrt(eV/(A^2 amu))."""
    q = _DIRECTIONS / np.linalg.norm(_DIRECTIONS, axis=1)[:, None]
    dipoles = np.einsum("da,nab->dnb", q, charges) / np.sqrt(masses)[None, :, None]
    screened = np.einsum("da,ab,db->d", q, tensor, q)
    strength = np.sqrt(4 * np.pi * units.COULOMB_EV_A / (crystal.volume * screened))
    return (strength[:, None, None] * dipoles).reshape(len(q), -1)


def _lattice_periodic(crystal: Structure) -> NDArray[np.float64]:
    """Orthonormal displacements that repeat with the primitive cell, shape (3n, 3p): a larger cell folds other modes in."""
    from thermal_flows.structures.crystals import analyzer

    owner = analyzer(crystal).get_symmetry_dataset().mapping_to_primitive
    member = (owner[:, None] == np.unique(owner)).astype(float)
    return np.kron(member / np.linalg.norm(member, axis=0), np.eye(3))


def _sizes(
    crystal: Structure,
    constants: PairForceConstants | None,
    cases: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[tuple[float, float] | None, tuple[float, float]]:
    """Splitting (where there are force constants) and its bound, each smallest and largest over the cases, THz."""
    masses = (
        constants.masses
        if constants is not None
        else np.array([site.specie.atomic_mass for site in crystal], dtype=float)
    )
    vectors = [_field_vectors(crystal, masses, *case) for case in cases]
    bounds = [float(units.w2_to_thz((v**2).sum(axis=1).max())) for v in vectors]
    if constants is None:
        return None, (min(bounds), max(bounds))
    whole = _lattice_periodic(crystal)
    vectors = [v @ whole for v in vectors]
    short = whole.T @ constants.dynamical_matrices(np.zeros((1, 3)))[0].real @ whole
    plain = units.w2_to_thz(np.linalg.eigvalsh(short))
    rises = [
        float(np.max(units.w2_to_thz(np.linalg.eigvalsh(short + v[:, :, None] * v[:, None, :])) - plain))
        for v in vectors
    ]
    return (min(rises), max(rises)), (min(bounds), max(bounds))
