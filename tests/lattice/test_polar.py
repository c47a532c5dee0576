"""Polar crystals against phonopy's non-analytic term and textbook symmetry; metals by composition."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import phonopy
import pytest
from ase import Atoms
from ase.build import bulk
from phonopy import Phonopy
from pymatgen.core import Lattice, Structure

from conftest import find_reference_data
from thermal_flows.lattice import ForceConstantsError
from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.lattice.phonopy_io import from_phonopy
from thermal_flows.lattice.polar import assess_polarity, is_metal_like, polar_mode_count
from thermal_flows.structures import crystal


@pytest.fixture(scope="session")
def example():
    """Loads one of phonopy's examples: (folder, phonopy object)."""
    root = find_reference_data("phonopy_examples")
    if root is None:
        pytest.skip("no phonopy examples: set THERMAL_FLOWS_DATA to the folder that holds them")

    def load(name: str) -> tuple[Path, Phonopy]:
        folder = root / name
        phonon = phonopy.load(
            folder / "phonopy_disp.yaml",
            force_sets_filename=folder / "FORCE_SETS",
            born_filename=folder / "BORN",
            primitive_matrix="auto",
            log_level=0,
        )
        return folder, phonon

    return load


def cell(of) -> Structure:
    return Structure(of.cell, of.symbols, of.scaled_positions)


def splitting_of_phonopy(phonon: Phonopy) -> float:
    """Largest rise of a frequency at the zone centre, THz, over the directions of the module."""
    nac, rises = phonon.nac_params, []
    phonon.nac_params = None
    phonon.run_qpoints([[0, 0, 0]])
    plain = phonon.qpoints.frequencies[0].copy()
    phonon.nac_params = nac
    for direction in np.array([d for d in np.ndindex(3, 3, 3) if d != (1, 1, 1)]) - 1:
        phonon.run_qpoints([[0, 0, 0]], nac_q_direction=np.array(phonon.primitive.cell) @ direction)
        rises.append((phonon.qpoints.frequencies[0] - plain).max())
    return float(max(rises))


@pytest.mark.parametrize("name", ["NaCl", "MgO", "ZnO"])
@pytest.mark.parametrize("conventional", [False, True], ids=["primitive", "unit cell"])
def test_splitting_is_phonopys(example, name, conventional):
    folder, phonon = example(name)
    expected = splitting_of_phonopy(phonon)
    nac = phonon.nac_params
    pairs = from_phonopy(phonon)
    structure = cell(phonon.unitcell)
    if conventional:
        found = assess_polarity(structure, pairs, born_file=folder / "BORN")
    else:
        # charges of the primitive cell's atoms handed to all of the unit cell's
        of_primitive = {int(phonon.supercell.u2u_map[p]): k for k, p in enumerate(phonon.primitive.p2s_map)}
        owners = [
            of_primitive[int(phonon.supercell.u2u_map[phonon.primitive.s2p_map[s]])] for s in phonon.supercell.u2s_map
        ]
        found = assess_polarity(structure, pairs, born_charges=nac["born"][owners], dielectric=nac["dielectric"])
    assert (found.polar, found.source) == (True, "given")
    # phonopy's Coulomb constant is rounded to 14.4
    assert found.splitting == pytest.approx((expected, expected), rel=1e-4)
    assert found.splitting[1] < found.bound[1]
    assert f"by up to {expected:.2g} THz" in found.warning
    rough = assess_polarity(structure, pairs)
    assert rough.splitting[0] < expected < rough.splitting[1]
    assert "A rough estimate" in rough.warning
    assert json.loads(json.dumps(asdict(rough)))["source"] == "nominal"


def test_the_bound_of_a_diatomic_crystal_is_the_lyddane_sachs_teller_difference(example):
    _, phonon = example("NaCl")
    pairs = from_phonopy(phonon)
    atoms = cell(phonon.unitcell)
    charges = np.array([1.087 if site.specie.symbol == "Na" else -1.087 for site in atoms])[:, None, None] * np.eye(3)
    found = assess_polarity(atoms, pairs, born_charges=charges, dielectric=2.435 * np.eye(3))
    phonon.nac_params = None
    phonon.run_qpoints([[0, 0, 0]])
    transverse = phonon.qpoints.frequencies[0, -1]
    longitudinal = transverse + found.splitting[1]
    assert found.bound[1] == pytest.approx(np.sqrt(longitudinal**2 - transverse**2), rel=1e-6)


@pytest.mark.parametrize(
    ("structure", "count"),
    [
        ("Si", 0),
        ("diamond", 0),
        ("Mg", 0),
        ("GaAs", 1),
        ("MgO", 1),
        # wurtzite: A1 and E1, each once
        ("GaN", 2),
        # perovskite: three of T1u
        (Structure(Lattice.cubic(3.9), ["Sr", "Ti", "O", "O", "O"],
                   [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]), 3),
        # rutile: A2u and three of Eu
        (Structure(Lattice.tetragonal(4.594, 2.959), ["Ti", "Ti", "O", "O", "O", "O"],
                   [[0, 0, 0], [0.5] * 3, [0.305, 0.305, 0], [0.695, 0.695, 0], [0.195, 0.805, 0.5], [0.805, 0.195, 0.5]]), 4),
    ],
    ids=["Si", "diamond", "Mg", "GaAs", "MgO", "GaN", "SrTiO3", "rutile"],
)  # fmt: skip
def test_infrared_active_modes(structure, count):
    structure = crystal(structure) if isinstance(structure, str) else structure
    assert polar_mode_count(structure) == count
    assert polar_mode_count(structure * (2, 1, 1)) == count


def test_who_is_polar():
    assert not assess_polarity(crystal("Si")).polar
    assert assess_polarity(crystal("Si")).warning is None
    gallium_arsenide = assess_polarity(crystal("GaAs"))
    assert gallium_arsenide.polar
    assert gallium_arsenide.splitting is None
    assert gallium_arsenide.nominal_charges == {"Ga": 3.0, "As": -3.0}
    assert "raise frequencies by less than" in gallium_arsenide.warning
    # the measured difference, sqrt(8.76^2 - 8.06^2) = 3.4 THz, lies in the range
    assert gallium_arsenide.bound[0] < 3.43 < gallium_arsenide.bound[1]
    aluminium = assess_polarity(crystal("Al"))
    assert (aluminium.polar, aluminium.metal_like) == (False, True)
    assert "phonons only, electrons are not included" in aluminium.warning


def test_metals_by_composition():
    assert [is_metal_like(formula) for formula in ("Al", "NiAl", "Si", "GaAs", "TiN", "C")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip


@pytest.fixture
def rocksalt() -> tuple[Atoms, PairForceConstants]:
    atoms = bulk("MgO", "rocksalt", a=4.2)
    spring = np.eye(3) * 5.0
    pairs = PairForceConstants(
        np.array(atoms.cell), atoms.positions, atoms.get_masses(), [0, 1, 0, 1], [1, 0, 0, 1],
        np.zeros((4, 3), int), np.array([-spring, -spring, spring, spring]),
    )  # fmt: skip
    return atoms, pairs


def test_what_does_not_fit_is_refused(rocksalt, tmp_path):
    atoms, pairs = rocksalt
    charges, eps = np.array([2.0, -2.0])[:, None, None] * np.eye(3), 3.0 * np.eye(3)
    assert assess_polarity(atoms, pairs, born_charges=charges, dielectric=eps).polar
    cases = [
        ({"born_charges": charges}, "give both or neither"),
        ({"born_charges": charges[:1], "dielectric": eps}, r"have shape \(2, 3, 3\)"),
        ({"born_charges": np.abs(charges), "dielectric": eps}, "add up to 4 e per cell"),
        ({"born_charges": charges, "dielectric": 0.5 * eps / 3}, "no eigenvalue below 1"),
        ({"born_charges": charges * np.nan, "dielectric": eps}, "not finite"),
        ({"born_file": tmp_path / "BORN"}, "there is no BORN file"),
        ({"born_file": tmp_path / "BORN", "dielectric": eps}, "not both"),
    ]
    for options, says in cases:
        with pytest.raises(ForceConstantsError, match=says):
            assess_polarity(atoms, pairs, **options)
    (tmp_path / "BORN").write_text("14.4\n3 0 0 0 3 0 0 0 3\n2 0 0 0 2 0 0 0 2\n")
    with pytest.raises(ForceConstantsError, match="does not fit MgO with 2 atoms a cell"):
        assess_polarity(atoms, pairs, born_file=tmp_path / "BORN")
    with pytest.raises(ForceConstantsError, match="do not fit the structure of 4 atoms"):
        assess_polarity(atoms * (2, 1, 1), pairs)
    with pytest.raises(ForceConstantsError, match="in the same order"):
        assess_polarity(atoms[[1, 0]], pairs)
