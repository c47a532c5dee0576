"""Force constants to and from phonopy: the same frequencies on either side, at every wave vector."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from thermal_flows.lattice import ForceConstantsError
from thermal_flows.lattice.phonopy_io import density_of_states, from_phonopy, to_phonopy
from thermal_flows.lattice.supercell import symmetrised

from .systems import EMT, SW, TERSOFF, bulk_constants, oriented, phonopy_of, relaxed, thz

Q = np.random.default_rng(0).uniform(-1, 1, (12, 3))
FCC = [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
CUBIC = bulk("Si", cubic=True, a=5.43)


def same_frequencies(found: np.ndarray, expected: np.ndarray, rtol: float = 1e-10) -> None:
    """Compared as squared frequencies: those are what both compute, and roots lose digits near zero."""
    scale = np.abs(expected).max() ** 2
    np.testing.assert_allclose(found * np.abs(found) / scale, expected * np.abs(expected) / scale, rtol=0, atol=rtol)


def phonopy_thz(phonon: Phonopy, q: np.ndarray) -> np.ndarray:
    phonon.run_qpoints(q)
    # phonopy's own factor from eV/(A^2 amu) differs in the ninth digit
    return phonon.qpoints.frequencies * 15.633302 / phonon.unit_conversion_factor


@pytest.mark.parametrize(
    ("atoms", "repeats"),
    [
        (CUBIC, (1, 1, 1)),  # every pair at the surface of the supercell has several equidistant images
        (CUBIC, (2, 1, 1)),
        (relaxed("Si", SW), (2, 2, 2)),
        (relaxed("Si", SW), (3, 2, 4)),
        (oriented("Si", SW, (1, 1, 3)), (2, 3, 2)),
    ],
    ids=["cubic 111", "cubic 211", "primitive 222", "primitive 324", "oblique"],
)
def test_frequencies_are_phonopys(atoms, repeats):
    phonon = phonopy_of(atoms, repeats, SW)
    pairs = from_phonopy(phonon)
    assert pairs.n_atoms == len(atoms)
    # phonopy takes the Hermitian part of its matrices
    same_frequencies(thz(symmetrised(pairs).dynamical_matrices(Q)), phonopy_thz(phonon, Q))


def test_two_elements_and_masses_of_the_users():
    atoms = Atoms(
        "SiGe",
        cell=relaxed("Si", TERSOFF).cell,
        scaled_positions=relaxed("Si", TERSOFF).get_scaled_positions(),
        masses=[30.0, 74.0],
        pbc=True,
    )
    phonon = phonopy_of(atoms, (2, 2, 2), TERSOFF)
    pairs = from_phonopy(phonon)
    np.testing.assert_allclose(pairs.masses, [30.0, 74.0])
    same_frequencies(thz(symmetrised(pairs).dynamical_matrices(Q)), phonopy_thz(phonon, Q))


def test_force_constants_belong_to_the_unit_cell_whatever_the_primitive_cell():
    phonon = phonopy_of(CUBIC, (2, 2, 2), SW, primitive=FCC)
    pairs = from_phonopy(phonon)
    assert (len(phonon.primitive), pairs.n_atoms) == (2, 8)
    # modes of the primitive cell are among those of the unit cell, at the same Cartesian wave vector
    primitive = phonopy_thz(phonon, Q)
    to_unit = pairs.cell @ np.linalg.inv(phonon.primitive.cell)
    unit = thz(pairs.dynamical_matrices(Q @ to_unit.T))
    for few, many in zip(primitive, unit, strict=True):
        assert np.abs(few[:, None] - many[None]).min(axis=1).max() < 1e-6


def test_compact_force_constants():
    full = phonopy_of(CUBIC, (2, 2, 2), SW, primitive=FCC)
    compact = Phonopy(full.unitcell, full.supercell_matrix, primitive_matrix=FCC, log_level=0)
    compact.dataset = full.dataset
    compact.produce_force_constants(calculate_full_force_constants=False)
    assert compact.force_constants.shape[0] < compact.force_constants.shape[1]
    one, two = from_phonopy(full), from_phonopy(compact)
    same_frequencies(thz(two.dynamical_matrices(Q)), thz(one.dynamical_matrices(Q)), rtol=1e-8)


@pytest.mark.parametrize(("symbol", "potential"), [("Si", SW), ("Ge", TERSOFF)])
def test_there_and_back(symbol, potential):
    pairs = bulk_constants(symbol, potential).pairs
    numbers = relaxed(symbol, potential).numbers
    phonon = to_phonopy(pairs, numbers, (4, 4, 4))
    expected = thz(pairs.dynamical_matrices(Q))
    same_frequencies(phonopy_thz(phonon, Q), expected)
    same_frequencies(thz(from_phonopy(phonon).dynamical_matrices(Q)), expected)


def test_positions_outside_the_cell_do_no_harm():
    pairs = bulk_constants("Si", SW).pairs
    moved = type(pairs)(
        pairs.cell,
        pairs.positions + np.array([np.zeros(3), pairs.cell[0] - 2 * pairs.cell[2]]),
        pairs.masses,
        pairs.i,
        pairs.j,
        pairs.R + np.outer(pairs.i, [1, 0, -2]) - np.outer(pairs.j, [1, 0, -2]),
        pairs.phi,
    )
    phonon = to_phonopy(moved, relaxed("Si", SW).numbers, (4, 4, 4))
    same_frequencies(phonopy_thz(phonon, Q), thz(pairs.dynamical_matrices(Q)))


def test_no_force_constants():
    unit = PhonopyAtoms(symbols=["Si"] * 8, cell=CUBIC.cell, positions=CUBIC.positions)
    phonon = Phonopy(unit, np.eye(3), primitive_matrix=np.eye(3), log_level=0)
    with pytest.raises(ForceConstantsError, match=r"produce_force_constants\(\)"):
        from_phonopy(phonon)


@pytest.mark.parametrize(("symbol", "potential"), [("Si", SW), ("Cu", EMT)])
def test_density_of_states(symbol, potential):
    options = {"range_tolerance": 1e-2} if potential == EMT else {}
    pairs = bulk_constants(symbol, potential, **options).pairs
    frequencies, states = density_of_states(pairs, relaxed(symbol, potential).numbers, n_points=201, mesh=16)
    assert np.trapezoid(states, frequencies) == pytest.approx(3.0, rel=2e-3)
    assert np.all(states >= 0)
    top = thz(pairs.dynamical_matrices(np.random.default_rng(2).random((2000, 3)))).max()
    assert frequencies[np.flatnonzero(states > 1e-6)[-1]] == pytest.approx(top, rel=0.02)
    # Debye: states / f^2 is flat at the bottom
    low = (frequencies > 0.12 * top) & (frequencies < 0.2 * top)
    ratio = states[low] / frequencies[low] ** 2
    assert np.ptp(ratio) < 0.5 * ratio.mean()
