"""Deterministic identities: the same physical system or the same method always has the same id."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer


def canonical_json(content: Any) -> str:
    """JSON with sorted keys and no spaces; numbers as they are, so round them first."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_of(content: Any) -> str:
    """Hexadecimal sha256 of the canonical JSON of ``content``."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def crystal_identity(structure: Structure) -> dict[str, Any]:
    """The primitive standard cell of a crystal, rounded to 1e-4 Angstrom, as JSON content.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Any cell of the crystal.

    Returns
    -------
    dict
        Cell lengths (1e-4 Angstrom), angles (1e-3 degrees) and sorted sites (species, Cartesian-scaled coordinates).
    """
    primitive = SpacegroupAnalyzer(structure, symprec=1e-3).get_primitive_standard_structure()
    lengths = np.array(primitive.lattice.abc)
    sites = []
    for site in primitive:
        fractional = np.mod(site.frac_coords, 1.0)
        steps = np.rint(fractional * lengths / 1e-4).astype(int) % np.rint(lengths / 1e-4).astype(int)
        sites.append([site.species_string, *(int(n) for n in steps)])
    return {
        "abc": [round(float(x), 4) for x in lengths],
        "angles": [round(float(x), 3) for x in primitive.lattice.angles],
        "sites": sorted(sites),
    }


def array_identity(arrays: dict[str, Any], decimals: int = 6) -> str:
    """sha256 of named arrays rounded to ``decimals``, for systems that are given as force constants."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.asarray(arrays[name])
        digest.update(f"{name}{values.shape}".encode())
        digest.update((np.round(values.astype(float), decimals) + 0.0).tobytes())
    return digest.hexdigest()
