"""From a supercell to force constants of its unit: images, range, symmetry, sum rule."""

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry import minkowski_reduce
from hypothesis import given, settings
from hypothesis import strategies as st

from thermal_flows.lattice import ForceConstantsError
from thermal_flows.lattice.hessian import HessianRows, hessian_rows
from thermal_flows.lattice.supercell import (
    Supercell,
    bulk_force_constants,
    force_range,
    pairs_from_supercell,
    plane_spacings,
    repeats_for,
    shortest_translation,
    symmetrised,
    truncated,
    with_sum_rule,
)

from .systems import EMT, SW, TERSOFF, bulk_constants, calculator, oriented, phonopy_of, random_pairs, relaxed, thz

seeds = st.integers(0, 10_000)
Q = np.random.default_rng(4).uniform(-1, 1, (10, 3))


def sheared(atoms: Atoms, moves: tuple[int, int]) -> Atoms:
    """The same crystal with a3 + m1 a1 + m2 a2 for its third vector."""
    cell = np.array(atoms.cell)
    cell[2] += moves[0] * cell[0] + moves[1] * cell[1]
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=cell, pbc=True)


def brute_force_shortest(cell: np.ndarray) -> float:
    n = np.array(np.meshgrid(*[range(-6, 7)] * 3)).reshape(3, -1).T
    return float(np.linalg.norm(n[np.any(n != 0, axis=1)] @ cell, axis=1).min())


@given(seeds)
def test_shortest_translation(seed):
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(3, 6, 3)) + np.tril(rng.uniform(-3, 3, (3, 3)), -1)
    shortest = shortest_translation(cell)
    assert shortest == pytest.approx(brute_force_shortest(cell), rel=1e-9)
    assert plane_spacings(cell).min() <= shortest + 1e-9


@given(seeds, st.floats(2, 12))
@settings(max_examples=25)
def test_repeats_hold_the_sphere_and_no_axis_is_wasted(seed, radius):
    rng = np.random.default_rng(seed)
    unit = Atoms("Si", cell=np.diag(rng.uniform(3, 6, 3)) + np.tril(rng.uniform(-3, 3, (3, 3)), -1), pbc=True)
    repeats = np.array(repeats_for(unit, radius))
    cell = np.array(unit.cell)
    assert shortest_translation(cell * repeats[:, None]) >= 2 * radius
    for axis in np.flatnonzero(repeats > 1):
        fewer = repeats - (np.arange(3) == axis)
        assert shortest_translation(cell * fewer[:, None]) < 2 * radius + 1e-5


def test_inner_radius_of_the_fcc_cell():
    unit = relaxed("Cu", EMT)
    nearest = shortest_translation(np.array(unit.cell))
    assert Supercell.build(unit, (4, 4, 4)).inner_radius == pytest.approx(2 * nearest)
    assert repeats_for(unit, 2 * nearest - 1e-3) == (4, 4, 4)


@pytest.mark.parametrize("moves", [(0, 0), (1, 0), (3, -5), (-17, 11)])
def test_images_are_found_in_any_cell_of_the_crystal(moves):
    unit = oriented("Si", SW, (1, 1, 1))
    direct = bulk_force_constants(unit, calculator(SW)).pairs
    reference = thz(direct.dynamical_matrices(Q))
    oblique = sheared(unit, moves)
    supercell = Supercell.build(oblique, (4, 4, 4))
    pairs = pairs_from_supercell(supercell, hessian_rows(supercell.atoms, calculator(SW), range(len(unit))))
    assert force_range(pairs) == pytest.approx(force_range(direct), abs=1e-6)
    # q is given in fractions of the reciprocal vectors, which change with a3
    q = Q.copy()
    q[:, 2] += moves[0] * Q[:, 0] + moves[1] * Q[:, 1]
    np.testing.assert_allclose(thz(pairs.dynamical_matrices(q)), reference, atol=1e-9)


def test_atoms_may_lie_anywhere():
    unit = relaxed("Si", SW)
    moved = unit.copy()
    moved.positions[1] += 7 * moved.cell[0] - 9 * moved.cell[2]
    supercell = Supercell.build(moved, (3, 4, 3))
    pairs = pairs_from_supercell(supercell, hessian_rows(supercell.atoms, calculator(SW), [0, 1]))
    np.testing.assert_allclose(
        thz(pairs.dynamical_matrices(Q)), thz(bulk_constants("Si", SW).pairs.dynamical_matrices(Q)), atol=1e-9
    )


@given(seeds)
@settings(max_examples=15)
def test_every_constant_is_kept_and_shared_among_nearest_images_only(seed):
    rng = np.random.default_rng(seed)
    unit = Atoms("Si2", positions=rng.random((2, 3)) * 4, cell=np.diag(rng.uniform(3, 5, 3)), pbc=True)
    unit.cell[2, :2] = rng.uniform(-4, 4, 2)
    supercell = Supercell.build(unit, (2, 1, 2))
    values = rng.normal(size=(2, len(supercell.atoms), 3, 3))
    pairs = pairs_from_supercell(supercell, HessianRows(np.array([0, 1]), values, "given"))
    total = np.zeros((2, 3, 3))
    np.add.at(total, pairs.i, pairs.phi)
    np.testing.assert_allclose(total, values.sum(axis=1), atol=1e-12)
    reduced, _ = minkowski_reduce(np.array(supercell.atoms.cell))
    images = np.array(np.meshgrid(*[range(-3, 4)] * 3)).reshape(3, -1).T @ reduced
    nearest = np.linalg.norm(pairs.vectors[:, None] + images, axis=2).min(axis=1)
    assert np.all(np.linalg.norm(pairs.vectors, axis=1) < nearest + 1e-4)


def test_rows_of_other_cells_are_refused():
    supercell = Supercell.build(relaxed("Si", SW), (2, 2, 2))
    rows = hessian_rows(supercell.atoms, calculator(SW), [2])
    with pytest.raises(ForceConstantsError, match="first cell"):
        pairs_from_supercell(supercell, rows)


@given(seeds)
def test_symmetrised_and_sum_rule_are_exact_and_do_nothing_twice(seed):
    rng = np.random.default_rng(seed)
    pairs = random_pairs(rng)
    skewed = dataclasses.replace(pairs, phi=pairs.phi + rng.normal(scale=0.1, size=pairs.phi.shape))
    once = symmetrised(skewed)
    assert once.asymmetry() == 0.0
    # the Hermitian part of the dynamical matrix
    before, after = skewed.dynamical_matrices(Q), once.dynamical_matrices(Q)
    np.testing.assert_allclose(after, 0.5 * (before + before.conj().transpose(0, 2, 1)), atol=1e-12)
    ruled, _ = with_sum_rule(once)
    scale = np.abs(ruled.phi).sum()
    assert ruled.asymmetry() < 1e-13 * scale
    assert ruled.sum_rule_error() < 1e-13 * scale
    again, correction = with_sum_rule(symmetrised(ruled))
    assert correction < 1e-13 * scale
    np.testing.assert_allclose(again.dynamical_matrices(Q), ruled.dynamical_matrices(Q), atol=1e-13 * scale)


def test_sum_rule_correction_is_what_was_missing():
    pairs = bulk_constants("Si", SW).pairs
    self_term = np.flatnonzero((pairs.i == 0) & (pairs.j == 0) & ~pairs.R.any(axis=1))[0]
    phi = pairs.phi.copy()
    phi[self_term, 1, 1] += 0.01
    mended, correction = with_sum_rule(dataclasses.replace(pairs, phi=phi))
    assert correction == pytest.approx(0.01, rel=1e-9)
    np.testing.assert_allclose(mended.phi, pairs.phi, atol=1e-12)


@pytest.mark.parametrize(("symbol", "potential"), [("Si", SW), ("Si", TERSOFF), ("Ge", TERSOFF)])
def test_three_body_potentials_reach_two_bonds(symbol, potential):
    found = bulk_constants(symbol, potential)
    second_neighbour = shortest_translation(np.array(relaxed(symbol, potential).cell))
    assert found.cutoff == pytest.approx(second_neighbour, abs=2e-3)
    assert found.cutoff > second_neighbour
    assert found.neglected == 0.0
    assert found.asymmetry < 1e-12
    assert found.sum_rule_correction < 1e-11
    assert found.pairs.asymmetry() == 0.0
    assert found.pairs.sum_rule_error() < 1e-13
    assert found.hessian.method == "analytic"


def test_range_does_not_depend_on_the_first_supercell():
    short, default, wide = (bulk_force_constants(relaxed("Si", SW), calculator(SW), radius=r) for r in (2.0, 5.0, 8.0))
    for other in (short, wide):
        assert other.cutoff == pytest.approx(default.cutoff, abs=1e-9)
        np.testing.assert_allclose(
            thz(other.pairs.dynamical_matrices(Q)), thz(default.pairs.dynamical_matrices(Q)), atol=1e-8
        )


def test_effective_medium_range_follows_the_tolerance():
    found = [bulk_constants("Cu", EMT, range_tolerance=t) for t in (0.2, 1e-2, 2e-3)]
    assert found[0].cutoff < found[1].cutoff < found[2].cutoff
    for constants, tolerance in zip(found, (0.2, 1e-2, 2e-3), strict=True):
        assert constants.neglected <= tolerance
        assert constants.pairs.asymmetry() == 0.0
        assert constants.pairs.sum_rule_error() < 1e-12
        assert constants.hessian.step is not None
    tops = [np.sqrt(c.pairs.zone_extrema()[1]) for c in found]
    assert abs(tops[2] - tops[1]) < abs(tops[2] - tops[0])


@pytest.mark.parametrize("cutoff", [2.9, 4.0])
def test_a_cutoff_is_kept_and_what_lies_beyond_is_recorded(cutoff):
    whole = bulk_constants("Cu", EMT, range_tolerance=1e-3).pairs
    found = bulk_constants("Cu", EMT, cutoff=cutoff)
    length = np.linalg.norm(found.pairs.vectors, axis=1)
    assert length.max() <= found.cutoff == pytest.approx(cutoff, abs=2e-3)
    beyond = np.abs(whole.phi[np.linalg.norm(whole.vectors, axis=1) > cutoff]).max()
    assert found.neglected == pytest.approx(beyond, rel=0.1)
    assert found.pairs.sum_rule_error() < 1e-12
    assert found.sum_rule_correction > found.neglected


def test_a_supercell_too_large_is_refused_with_the_cure():
    with pytest.raises(
        ForceConstantsError,
        match=r"Si2 reach beyond the largest supercell allowed \(\d+ atoms would be needed for a range of \d.*max_atoms is 20\): "
        "give a cutoff, a looser range_tolerance",
    ):
        bulk_force_constants(relaxed("Si", SW), calculator(SW), max_atoms=20)


def test_truncation_keeps_both_directions():
    pairs = bulk_constants("Si", SW).pairs
    bonds = truncated(pairs, 3.0)
    assert bonds.asymmetry() == 0.0
    assert len(bonds.i) == 2 * (1 + 4)


def test_frequencies_by_another_route():
    """phonopy's displacements of the same potential."""
    pairs = bulk_constants("Si", SW).pairs
    q = [[0, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]]
    phonon = phonopy_of(relaxed("Si", SW), (4, 4, 4), SW)
    phonon.run_qpoints(q)
    np.testing.assert_allclose(thz(pairs.dynamical_matrices(q)), phonon.qpoints.frequencies, atol=2e-4)


def test_sound_velocity_follows_from_the_elastic_constant():
    """Longitudinal sound along [100] travels with sqrt(C11 / density); C11 from stresses, without any phonon."""
    cubic = bulk("Si", cubic=True, a=relaxed("Si", SW).cell.lengths()[0] * np.sqrt(2))
    stresses = []
    for strain in (-1e-4, 1e-4):
        work = cubic.copy()
        work.set_cell(cubic.cell * [1 + strain, 1, 1], scale_atoms=True)
        work.calc = calculator(SW)
        stresses.append(work.get_stress()[0])
    c11 = (stresses[1] - stresses[0]) / 2e-4 * 160.21766  # GPa
    density = cubic.get_masses().sum() * 1.66053907e-27 / (cubic.get_volume() * 1e-30)
    expected = np.sqrt(c11 * 1e9 / density)
    pairs = bulk_constants("Si", SW).pairs
    k = 0.01  # 1/Angstrom, along x
    q = np.array(pairs.cell) @ [k, 0, 0] / (2 * np.pi)
    velocity = 2 * np.pi * thz(pairs.dynamical_matrices(q))[0, 2] / k * 100
    assert velocity == pytest.approx(expected, rel=1e-4)
