"""Pair force constants: what is refused, and what dynamical matrices must obey."""

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermal_flows.lattice import ForceConstantsError, PairForceConstants
from thermal_flows.lattice.supercell import symmetrised, with_sum_rule

from .systems import SW, TERSOFF, bulk_constants, random_pairs, thz

seeds = st.integers(0, 10_000)
wave_vectors = st.lists(st.floats(-2, 2, allow_subnormal=False), min_size=3, max_size=3).map(np.array)


def chain(mass: float, *springs: float) -> PairForceConstants:
    """Atoms along z with springs to the first, second ... neighbour; the same spring for all directions."""
    R, phi = [(0, 0, 0)], [2 * sum(springs) * np.eye(3)]
    for n, k in enumerate(springs, start=1):
        R += [(0, 0, n), (0, 0, -n)]
        phi += [-k * np.eye(3)] * 2
    zeros = np.zeros(len(R), dtype=int)
    return PairForceConstants(np.diag([5.0, 5.0, 2.0]), np.zeros((1, 3)), [mass], zeros, zeros, R, phi)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("masses", [28.0, -1.0], "masses must be positive"),
        ("masses", [28.0, 0.0], "masses must be positive"),
        ("masses", [28.0], "positions has shape"),
        ("masses", [28.0, np.nan], "masses holds a number that is not finite"),
        ("cell", np.eye(2), "cell has shape"),
        ("cell", np.full((3, 3), np.inf), "cell holds a number that is not finite"),
        ("i", [0.5, 1], "i must hold integers"),
        ("R", [[0, 0, 0.3], [0, 0, 0]], "R must hold integers"),
        ("R", [[0, 0], [0, 0]], "R has shape"),
        ("j", [0, 2], "index lies outside 0 .. 1"),
        ("i", [-1, 0], "index lies outside 0 .. 1"),
        ("phi", np.zeros((2, 3, 2)), "phi has shape"),
        ("phi", np.full((2, 3, 3), np.nan), "phi holds a number that is not finite"),
    ],
)
def test_impossible_force_constants_are_refused(field, value, message):
    good = {
        "cell": np.eye(3),
        "positions": np.zeros((2, 3)),
        "masses": [28.0, 72.0],
        "i": [0, 1],
        "j": [1, 0],
        "R": np.zeros((2, 3), dtype=int),
        "phi": np.zeros((2, 3, 3)),
    }
    PairForceConstants(**good)
    with pytest.raises(ForceConstantsError, match=message):
        PairForceConstants(**{**good, field: value})


def test_nothing_is_no_crystal():
    with pytest.raises(ForceConstantsError, match="no atoms or no force constants"):
        PairForceConstants(np.eye(3), np.zeros((1, 3)), [1.0], [], [], np.zeros((0, 3)), np.zeros((0, 3, 3)))


@given(seeds, wave_vectors)
def test_dynamical_matrix_is_the_fourier_sum(seed, q):
    pairs = random_pairs(np.random.default_rng(seed))
    expected = np.zeros((9, 9), dtype=complex)
    for i, j, R, phi in zip(pairs.i, pairs.j, pairs.R, pairs.phi, strict=True):
        weight = np.exp(2j * np.pi * (q @ R)) / np.sqrt(pairs.masses[i] * pairs.masses[j])
        expected[3 * i : 3 * i + 3, 3 * j : 3 * j + 3] += weight * phi
    found = pairs.dynamical_matrices(q)[0]
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max() + 1e-300)
    by_layer = sum(pairs.dynamical_matrices(q, only_R3=n)[0] for n in range(-2, 3) if np.any(pairs.R[:, 2] == n))
    np.testing.assert_allclose(by_layer, expected, atol=1e-12 * np.abs(expected).max() + 1e-300)


@given(seeds, wave_vectors)
def test_dynamical_matrices_are_hermitian_periodic_and_time_reversible(seed, q):
    pairs = random_pairs(np.random.default_rng(seed))
    one, shifted, reversed_ = pairs.dynamical_matrices([q, q + np.array([1, -2, 3]), -q])
    scale = np.abs(one).max()
    np.testing.assert_allclose(one, one.conj().T, atol=1e-13 * scale)
    np.testing.assert_allclose(shifted, one, atol=1e-11 * scale)
    np.testing.assert_allclose(reversed_, one.conj(), atol=1e-13 * scale)


@given(seeds)
def test_origin_and_choice_of_cell_of_every_atom_are_free(seed):
    rng = np.random.default_rng(seed)
    pairs = random_pairs(rng)
    jumps = rng.integers(-2, 3, size=(pairs.n_atoms, 3))
    moved = dataclasses.replace(
        pairs,
        positions=pairs.positions + jumps @ pairs.cell + rng.normal(size=3),
        R=pairs.R + jumps[pairs.i] - jumps[pairs.j],
    )
    np.testing.assert_allclose(moved.vectors, pairs.vectors, atol=1e-10)
    q = rng.random((3, 3))
    before, after = (np.linalg.eigvalsh(p.dynamical_matrices(q)) for p in (pairs, moved))
    np.testing.assert_allclose(after, before, atol=1e-10 * np.abs(before).max())


@given(seeds)
def test_asymmetry_is_the_largest_violation(seed):
    rng = np.random.default_rng(seed)
    pairs = random_pairs(rng)
    assert pairs.asymmetry() < 1e-14
    phi = pairs.phi.copy()
    phi[0, 1, 2] += 0.25
    assert dataclasses.replace(pairs, phi=phi).asymmetry() == pytest.approx(0.25, abs=1e-12)


def test_sum_rule_error_is_the_largest_violation():
    pairs = bulk_constants("Si", SW).pairs
    assert pairs.sum_rule_error() < 1e-12
    phi = pairs.phi.copy()
    phi[7, 0, 0] += 0.125
    assert dataclasses.replace(pairs, phi=phi).sum_rule_error() == pytest.approx(0.125, abs=1e-12)


def test_top_of_a_chain_is_at_the_zone_boundary():
    lowest, highest, q = chain(28.0, 3.0).zone_extrema()
    assert highest == pytest.approx(4 * 3.0 / 28.0, rel=1e-12)
    assert lowest == pytest.approx(0.0, abs=1e-14)
    np.testing.assert_allclose(q, 0.0)


def test_top_between_mesh_points_is_found():
    # w2 m = 2 k1 (1 - cos x) + 2 k2 (1 - cos 2x) has its maximum at cos x = -k1 / (4 k2)
    k1, k2 = 1.0, 0.7
    cosine = -k1 / (4 * k2)
    expected = (2 * k1 * (1 - cosine) + 2 * k2 * (1 - (2 * cosine**2 - 1))) / 10.0
    assert chain(10.0, k1, k2).zone_extrema()[1] == pytest.approx(expected, rel=1e-10)


def test_an_unstable_chain_is_found_with_its_wave_vector():
    lowest, _, q = chain(10.0, 1.0, -0.4).zone_extrema()
    x = 2 * np.pi * q[2]
    assert lowest == pytest.approx((2 * (1 - np.cos(x)) - 0.8 * (1 - np.cos(2 * x))) / 10.0, rel=1e-10)
    assert lowest < -0.01
    assert min(q[2], 1 - q[2]) in (0.125, 0.25)


@pytest.mark.parametrize(("symbol", "potential"), [("Si", SW), ("Ge", TERSOFF)])
def test_zone_extrema_bound_every_frequency(symbol, potential):
    pairs = bulk_constants(symbol, potential).pairs
    lowest, highest, _ = pairs.zone_extrema()
    q = np.random.default_rng(1).random((3000, 3))
    bands = np.linalg.eigvalsh(pairs.dynamical_matrices(q))
    assert bands.max() <= highest * (1 + 1e-12)
    assert bands.max() > 0.99 * highest
    assert lowest > -1e-12 * highest
    acoustic = thz(pairs.dynamical_matrices(np.zeros((1, 3))))[0, :3]
    np.testing.assert_allclose(acoustic, 0.0, atol=1e-5)


# -- merging and supercells


def by_hand(pairs: PairForceConstants) -> dict:
    table: dict = {}
    for i, j, R, phi in zip(pairs.i, pairs.j, pairs.R, pairs.phi, strict=True):
        key = (int(i), int(j), *map(int, R))
        table[key] = table[key] + phi if key in table else phi
    return table


@given(seeds)
def test_merging_sums_duplicates_and_finds_transposes(seed):
    pairs = random_pairs(np.random.default_rng(seed), n_atoms=2, n_pairs=40)
    merged, expected = pairs.merged, by_hand(pairs)
    assert merged.merged is merged
    assert list(pairs.pairs()) == sorted(expected)
    for key, phi in pairs.pairs().items():
        np.testing.assert_allclose(phi, expected[key], atol=1e-14)
    transposed = merged.transposed_phi()
    for k, (i, j, R) in enumerate(zip(merged.i, merged.j, merged.R, strict=True)):
        np.testing.assert_allclose(transposed[k], expected[(j, i, *map(int, -R))].T, atol=1e-14)
    broken = dataclasses.replace(
        merged, phi=merged.phi + np.where(np.arange(len(merged.i)) == 3, 0.5, 0.0)[:, None, None]
    )
    worst = max(
        np.abs(p - by_hand(broken).get((j, i, -a, -b, -c), 0).T).max() for (i, j, a, b, c), p in by_hand(broken).items()
    )
    assert broken.asymmetry() == pytest.approx(worst)
    with pytest.raises(ForceConstantsError, match=r"use \.merged first"):
        pairs.transposed_phi()


def test_a_pair_without_its_transpose_is_an_asymmetry():
    pairs = bulk_constants("Si", SW).pairs.merged
    keep = np.ones(len(pairs.i), dtype=bool)
    keep[np.flatnonzero(~pairs.is_self)[0]] = False
    broken = dataclasses.replace(pairs, i=pairs.i[keep], j=pairs.j[keep], R=pairs.R[keep], phi=pairs.phi[keep])
    assert broken.asymmetry() == pytest.approx(np.abs(pairs.phi[~keep]).max())


@given(seeds)
def test_a_wide_cell_has_the_folded_frequencies_of_the_narrow_one(seed):
    """And its force constants are exactly equal under the translations of the narrow one."""
    rng = np.random.default_rng(seed)
    pairs = random_pairs(rng)
    while True:
        matrix = rng.integers(-3, 4, (2, 2))
        if 1 <= (k := round(np.linalg.det(matrix))) <= 8:
            break
    wide = pairs.in_plane_supercell(matrix)
    assert wide.n_atoms == k * pairs.n_atoms
    np.testing.assert_allclose(wide.cell[:2], matrix @ pairs.cell[:2])
    assert wide.asymmetry() < 1e-12
    assert wide.sum_rule_error() == pytest.approx(pairs.sum_rule_error())
    # vectors between atoms are those of the narrow cell, pair by pair
    np.testing.assert_allclose(wide.vectors.reshape(k, -1, 3) - pairs.vectors, 0, atol=1e-10)
    assert np.array_equal(wide.phi.reshape(k, -1, 3, 3), np.tile(pairs.phi, (k, 1, 1, 1)))
    q = rng.uniform(-0.5, 0.5, 3)
    # wave vectors of the narrow zone that fold onto q: fractions of its own reciprocal vectors
    inverse = np.linalg.inv(matrix)
    candidates = [(inverse @ [a, b]) % 1 for a in range(-8, 9) for b in range(-8, 9)]
    shifts = {tuple(np.round(x, 6) % 1): x for x in candidates}
    assert len(shifts) == k
    folded = [
        np.linalg.eigvalsh(pairs.dynamical_matrices([[*(inverse @ q[:2] + s), q[2]]]))[0] for s in shifts.values()
    ]
    found = np.linalg.eigvalsh(wide.dynamical_matrices([q]))[0]
    np.testing.assert_allclose(found, np.sort(np.concatenate(folded)), atol=1e-10 * max(1.0, np.abs(found).max()))


@pytest.mark.parametrize("matrix", [np.eye(3), ((1, 0), (0, -1)), ((1, 1), (1, 1)), ((1.5, 0), (0, 1))])
def test_supercells_that_cannot_be(matrix):
    with pytest.raises(ForceConstantsError, match="matrix of integers with positive determinant"):
        bulk_constants("Si", SW).pairs.in_plane_supercell(matrix)


def test_a_device_of_a_thousand_atoms_is_quick():
    """A stand-in with the number of pairs of a real one; dictionaries needed minutes."""
    wide = bulk_constants("Si", SW).pairs.in_plane_supercell(((24, 0), (0, 24)))
    assert wide.n_atoms == 1152
    doubled = dataclasses.replace(
        wide,
        i=np.tile(wide.i, 4), j=np.tile(wide.j, 4), R=np.tile(wide.R, (4, 1)), phi=np.tile(wide.phi / 4, (4, 1, 1)),
    )  # fmt: skip
    began = time.process_time()
    ruled, correction = with_sum_rule(symmetrised(doubled))
    assert ruled.asymmetry() < 1e-14
    assert time.process_time() - began < 5.0
    assert correction < 1e-10
