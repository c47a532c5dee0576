"""Crystals by built-in name, by file or as a pymatgen structure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from thermal_flows.structures.errors import StructureError

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

CODATA = "CODATA 2018, doi:10.1103/RevModPhys.93.025010 (22.5 C, vacuum)"
KING = "H. W. King, Crystal structures of the elements at 25 C, doi:10.1007/BF02868307; CRC Handbook"
MADELUNG = "O. Madelung, Semiconductors: Data Handbook (2004), doi:10.1007/978-3-642-18865-7"
SCHULZ = "H. Schulz and K. H. Thiemann, doi:10.1016/0038-1098(77)90959-0"
VURGAFTMAN = "I. Vurgaftman, J. R. Meyer and L. R. Ram-Mohan, doi:10.1063/1.1368156 (300 K)"
HAZEN = "R. M. Hazen, American Mineralogist 61, 266 (1976)"

VACUUM_GAP = 7.0
"""No planes of atoms of a bulk crystal are this far apart, in Angstrom; vacuum of slab cells is wider."""

_FCC = [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
_BCC = [[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]
_QUARTER = [0.25, 0.25, 0.25]
# primitive vectors in units of a, fractional coordinates of each element
_CUBIC: dict[str, tuple[list[list[float]], list[list[list[float]]]]] = {
    "fcc": (_FCC, [[[0, 0, 0]]]),
    "bcc": (_BCC, [[[0, 0, 0]]]),
    "diamond": (_FCC, [[[0, 0, 0], _QUARTER]]),
    "zincblende": (_FCC, [[[0, 0, 0]], [_QUARTER]]),
    "rocksalt": (_FCC, [[[0, 0, 0]], [[0.5, 0.5, 0.5]]]),
}


@dataclass(frozen=True)
class BuiltinCrystal:
    """A crystal known by name.

    Attributes
    ----------
    prototype : str
        ``fcc``, ``bcc``, ``hcp``, ``diamond``, ``zincblende``, ``rocksalt`` or ``wurtzite``.
    elements : tuple of str
        Chemical symbols, one per Wyckoff position.
    a, c : float
        Experimental lattice constants of the conventional cell in Angstrom at room temperature;
        ``c`` only for hexagonal crystals.
    u : float or None
        Internal parameter of wurtzite.
    source : str
        Where the numbers come from.
    """

    prototype: str
    elements: tuple[str, ...]
    a: float
    source: str
    c: float | None = None
    u: float | None = None


def _fcc(symbol: str, a: float) -> BuiltinCrystal:
    return BuiltinCrystal("fcc", (symbol,), a, KING)


def _bcc(symbol: str, a: float) -> BuiltinCrystal:
    return BuiltinCrystal("bcc", (symbol,), a, KING)


def _hcp(symbol: str, a: float, c: float) -> BuiltinCrystal:
    return BuiltinCrystal("hcp", (symbol,), a, KING, c=c)


def _zincblende(first: str, second: str, a: float, source: str) -> BuiltinCrystal:
    return BuiltinCrystal("zincblende", (first, second), a, source)


BUILTIN_CRYSTALS: Mapping[str, BuiltinCrystal] = MappingProxyType(
    {
        "Si": BuiltinCrystal("diamond", ("Si",), 5.431020511, CODATA),
        "Ge": BuiltinCrystal("diamond", ("Ge",), 5.6579, MADELUNG),
        "diamond": BuiltinCrystal("diamond", ("C",), 3.56683, MADELUNG),
        "C": BuiltinCrystal("diamond", ("C",), 3.56683, MADELUNG),
        "SiC": _zincblende("Si", "C", 4.3596, MADELUNG),
        "Al": _fcc("Al", 4.0496),
        "Cu": _fcc("Cu", 3.6146),
        "Ni": _fcc("Ni", 3.5240),
        "Ag": _fcc("Ag", 4.0857),
        "Au": _fcc("Au", 4.0782),
        "Pt": _fcc("Pt", 3.9236),
        "Pd": _fcc("Pd", 3.8903),
        "Ir": _fcc("Ir", 3.8392),
        "Rh": _fcc("Rh", 3.8032),
        "Pb": _fcc("Pb", 4.9502),
        "Fe": _bcc("Fe", 2.8665),
        "Cr": _bcc("Cr", 2.8848),
        "Mo": _bcc("Mo", 3.1470),
        "W": _bcc("W", 3.1652),
        "Nb": _bcc("Nb", 3.3004),
        "Ta": _bcc("Ta", 3.3030),
        "V": _bcc("V", 3.0240),
        "Mg": _hcp("Mg", 3.2094, 5.2107),
        "Ti": _hcp("Ti", 2.9506, 4.6835),
        "Zr": _hcp("Zr", 3.2316, 5.1475),
        "Co": _hcp("Co", 2.5071, 4.0695),
        "GaAs": _zincblende("Ga", "As", 5.65325, VURGAFTMAN),
        "AlAs": _zincblende("Al", "As", 5.6611, VURGAFTMAN),
        "InAs": _zincblende("In", "As", 6.0583, VURGAFTMAN),
        "GaP": _zincblende("Ga", "P", 5.4505, VURGAFTMAN),
        "InP": _zincblende("In", "P", 5.8697, VURGAFTMAN),
        "GaN": BuiltinCrystal("wurtzite", ("Ga", "N"), 3.190, SCHULZ, c=5.189, u=0.377),
        "AlN": BuiltinCrystal("wurtzite", ("Al", "N"), 3.110, SCHULZ, c=4.980, u=0.3821),
        "MgO": BuiltinCrystal("rocksalt", ("Mg", "O"), 4.211, HAZEN),
    }
)
"""Crystals that :func:`crystal` knows by name, with the source of their lattice constants."""


def _build(entry: BuiltinCrystal) -> Structure:
    import numpy as np
    from pymatgen.core import Lattice, Structure

    if entry.c is None:
        vectors, sites = _CUBIC[entry.prototype]
        lattice = Lattice(np.array(vectors) * entry.a)
    else:
        lattice = Lattice.hexagonal(entry.a, entry.c)
        heights = [0.25] if entry.u is None else [0.0, entry.u]
        sites = [[[1 / 3, 2 / 3, z], [2 / 3, 1 / 3, z + 0.5]] for z in heights]
    symbols = [symbol for symbol, positions in zip(entry.elements, sites, strict=True) for _ in positions]
    return Structure(lattice, symbols, [position for positions in sites for position in positions])


def _read(path: Path) -> Structure:
    from pymatgen.core import Structure

    try:
        return Structure.from_file(path)
    except Exception as error:
        # parsers raise nearly every exception there is; the reason is kept
        raise StructureError(
            f"{path} is not a structure that pymatgen can read ({type(error).__name__}: {error}); "
            "give a CIF, POSCAR or pymatgen JSON file whose name shows its format, for example Si.cif or POSCAR_Si"
        ) from error


def _unknown(spec: str) -> StructureError:
    by_lower_case = {name.lower(): name for name in BUILTIN_CRYSTALS}
    near = [by_lower_case[name] for name in difflib.get_close_matches(spec.lower(), by_lower_case, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return StructureError(
        f"unknown crystal {spec!r}: {hint}Built-in names are {', '.join(BUILTIN_CRYSTALS)}; "
        "anything else must be the path of a file that exists (CIF, POSCAR, ...) or a pymatgen Structure"
    )


def crystal(spec: str | Path | Structure, *, symprec: float = 0.01) -> Structure:
    """Primitive standard cell of a crystal given by name, file or structure.

    Parameters
    ----------
    spec : str, pathlib.Path or pymatgen.core.Structure
        A name of :data:`BUILTIN_CRYSTALS`, the path of a file that pymatgen reads, or a structure.
        A built-in name wins over a file of the same name: write ``./Si`` for the file.
    symprec : float
        Symmetry tolerance in Angstrom of :class:`pymatgen.symmetry.analyzer.SpacegroupAnalyzer`.

    Returns
    -------
    pymatgen.core.Structure
        Primitive standard structure (Setyawan and Curtarolo, doi:10.1016/j.commatsci.2010.05.010),
        without oxidation states and site properties. Built-in crystals have experimental lattice
        constants at room temperature, not those of any potential.

    Raises
    ------
    StructureError
        If the name is unknown, the file does not exist or does not parse, the structure has
        partial occupancies or holds a slab in vacuum, or its symmetry cannot be found.
    """
    from pymatgen.core import Structure

    if isinstance(spec, Structure):
        structure = spec
    elif isinstance(spec, str) and spec in BUILTIN_CRYSTALS:
        structure = _build(BUILTIN_CRYSTALS[spec])
    elif isinstance(spec, str | Path):
        path = Path(spec).expanduser()
        if not path.is_file():
            raise _unknown(str(spec))
        structure = _read(path)
    else:
        raise StructureError(
            f"a crystal is a built-in name, a path or a pymatgen Structure, not {type(spec).__name__}; "
            "turn ASE atoms into one with pymatgen.io.ase.AseAtomsAdaptor.get_structure"
        )
    check_filled(structure)
    return analyzer(structure, symprec=symprec).get_primitive_standard_structure()


def check_filled(structure: Structure) -> None:
    """Refuse a slab, wire or molecule in vacuum: a crystal fills space.

    Parameters
    ----------
    structure : pymatgen.core.Structure

    Raises
    ------
    StructureError
        If an empty gap wider than :data:`VACUUM_GAP` lies between parallel planes of atoms.
    """
    import numpy as np
    from ase.geometry import minkowski_reduce

    cell, _ = minkowski_reduce(structure.lattice.matrix)
    spacings = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    heights = np.sort(np.mod(structure.cart_coords @ np.linalg.inv(cell), 1.0), axis=0)
    gaps = np.diff(heights, axis=0, append=heights[:1] + 1).max(axis=0) * spacings
    if gaps.max() > VACUUM_GAP:
        raise StructureError(
            f"{structure.composition.reduced_formula}: the cell has an empty gap of {gaps.max():.1f} A between two planes of "
            "atoms, so it holds a slab (or a wire, or a molecule) in vacuum and not a bulk crystal. Give the bulk crystal itself "
            "(its unit cell, without vacuum) and the plane by its Miller indices; the slabs are built from that"
        )


def plain(structure: Structure) -> Structure:
    """Copy of an ordered structure with elements only: no oxidation states, no site properties.

    Raises
    ------
    StructureError
        If a site is partially occupied or not an element.
    """
    from pymatgen.core import Element, Species, Structure

    if not structure.is_ordered:
        raise StructureError(
            f"{structure.composition.reduced_formula} has partially occupied sites; "
            "choose one ordering first (pymatgen's OrderDisorderedStructureTransformation)"
        )
    symbols = []
    for site in structure:
        if not isinstance(site.specie, Element | Species):
            raise StructureError(f"site {site.specie} of {structure.composition} is not a chemical element")
        symbols.append(site.specie.symbol)
    return Structure(structure.lattice, symbols, structure.frac_coords)


def analyzer(structure: Structure, *, symprec: float = 0.01) -> SpacegroupAnalyzer:
    """Space-group analyzer of a structure stripped to its elements.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Any ordered periodic structure.
    symprec : float
        Symmetry tolerance in Angstrom.

    Returns
    -------
    pymatgen.symmetry.analyzer.SpacegroupAnalyzer

    Raises
    ------
    StructureError
        If the structure is disordered or spglib finds no space group (atoms too close).
    """
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

    try:
        return SpacegroupAnalyzer(plain(structure), symprec=symprec)
    except SymmetryUndeterminedError as error:
        raise StructureError(
            f"no space group found for {structure.composition.reduced_formula} with symprec={symprec} A "
            f"({error}); look for atoms on top of each other, or change symprec"
        ) from error
