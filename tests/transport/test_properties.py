"""What must hold for every junction, on random ones."""

import itertools

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from thermal_flows.transport import Junction, solve_modes
from thermal_flows.transport.leads.blocks import BlockBuilder

from . import oracle
from .junctions import (
    Recipe,
    in_plane_supercell,
    join,
    lengthened,
    reordered,
    with_moved_atom,
    with_shifted_a3,
    with_thick_layers,
)
from .tools import fractions, inside, recipes, solve, thz, wave_vectors

SAME = 1e-8
"""Allowed difference between two ways to write the same junction."""


def assert_same(first, second) -> None:
    """Equal transmissions, up to how fast they vary at all: see :func:`well_conditioned`."""
    np.testing.assert_allclose(second, first, rtol=0, atol=SAME)


def well_conditioned(junction: Junction, q, w2) -> np.ndarray:
    """Those frequencies where the transmission does not follow rounding.

    It does at band edges and on the narrowest resonances, where it moves with a relative change of 1e-12 of the squared
    frequency, and no two ways to round off agree.
    """
    if len(w2) == 0:
        return w2
    scale = max(oracle.band_edges(lead, q)[1] for lead in (junction.left, junction.right))
    moved = [solve(junction, q, w2 + sign * 1e-12 * scale).forward for sign in (-1, 1)]
    return w2[np.abs(moved[1] - moved[0]) < SAME / 10]


def test_hardly_any_frequency_is_ill_conditioned():
    """What :func:`well_conditioned` leaves out is judged by the solver itself: a noisy solver must not hide behind it."""
    rng = np.random.default_rng(1)
    kept = total = 0
    for seed in range(150):
        shape = {name: int(rng.integers(low, high)) for name, low, high in (
            ("n_left", 1, 5), ("n_right", 1, 5), ("n_inner", 0, 4), ("links", 1, 5), ("link_rank", 1, 4)
        )}  # fmt: skip
        recipe = Recipe(seed=seed, oblique=bool(rng.integers(2)), twofold=bool(rng.integers(2)), **shape)
        junction, q = recipe.build(), rng.uniform(-0.5, 0.5, 2)
        w2 = inside(junction, q, rng.uniform(0.001, 0.999, 8))
        total += len(w2)
        kept += len(well_conditioned(junction, q, w2))
    assert total > 1000
    assert kept > 0.99 * total  # 3 of 1176 are left out


@given(recipes(), wave_vectors, fractions)
def test_energy_is_conserved_and_transmission_is_bounded(recipe: Recipe, q, at):
    junction = recipe.build()
    w2 = inside(junction, q, at)
    assume(len(w2))
    solve(junction, q, w2).check()


@given(recipes(), wave_vectors, fractions)
def test_agrees_with_greens_functions(recipe: Recipe, q, at):
    junction = recipe.build()
    w2 = inside(junction, q, at)
    assume(len(w2))
    scale = max(oracle.band_edges(lead, q)[1] for lead in (junction.left, junction.right))
    found = solve(junction, q, w2).forward
    for value, mine in zip(w2, found, strict=True):
        theirs, uncertainty = oracle.extrapolated(junction, q, float(value), scale)
        if uncertainty < 1e-6:  # else a band edge or a narrow resonance: broadened values mean nothing there
            assert abs(mine - theirs) < 1e-8 + uncertainty


@given(recipes(), wave_vectors, fractions)
def test_mode_numbers_are_those_of_the_bands(recipe: Recipe, q, at):
    junction = recipe.build()
    w2 = inside(junction, q, at)
    assume(len(w2))
    scale = max(oracle.band_edges(lead, q)[1] for lead in (junction.left, junction.right))
    solved = solve(junction, q, w2)
    for lead, counts in ((junction.left, solved.modes_left), (junction.right, solved.modes_right)):
        for value, count in zip(w2, counts, strict=True):
            crossings, from_extremum = oracle.count_crossings(lead, q, float(value))
            if from_extremum > 1e-4 * scale:
                assert count == crossings


@given(recipes(), wave_vectors, fractions)
def test_time_reversal_and_periodicity(recipe: Recipe, q, at):
    junction = recipe.build()
    w2 = well_conditioned(junction, q, inside(junction, q, at))
    assume(len(w2))
    first = solve(junction, q, w2).forward
    assert_same(first, solve(junction, np.negative(q), w2).forward)
    assert_same(first, solve(junction, np.add(q, (1, -2)), w2).forward)


@given(recipes(), wave_vectors, fractions, st.integers(2, 3))
def test_thicker_principal_layers_change_nothing(recipe: Recipe, q, at, times):
    junction = recipe.build()
    w2 = well_conditioned(junction, q, inside(junction, q, at))
    thick = with_thick_layers(junction, times)
    w2 = well_conditioned(thick, q, w2)
    assume(len(w2))
    assert_same(solve(junction, q, w2).forward, solve(thick, q, w2).forward)


@given(recipes(), wave_vectors, fractions, st.integers(0, 4), st.integers(0, 4))
def test_a_longer_device_changes_nothing(recipe: Recipe, q, at, n_left, n_right):
    junction = recipe.build()
    w2 = well_conditioned(junction, q, inside(junction, q, at))
    assume(len(w2))
    assert_same(solve(junction, q, w2).forward, solve(lengthened(junction, n_left, n_right), q, w2).forward)


@given(recipes(), wave_vectors, fractions)
def test_reversing_the_junction_changes_nothing(recipe: Recipe, q, at):
    junction = recipe.build()
    w2 = well_conditioned(junction, q, inside(junction, q, at))
    assume(len(w2))
    turned = junction.reversed()
    first, second = solve(junction, q, w2), solve(turned, q, w2)
    assert_same(first.forward, second.forward)
    np.testing.assert_array_equal(first.modes_left, second.modes_right)
    assert turned.reversed().left.cell.tolist() == junction.left.cell.tolist()


@given(recipes(max_atoms=3), wave_vectors, fractions, st.tuples(*[st.integers(-2, 2)] * 4))
def test_choice_of_the_layer_translation_changes_nothing(recipe: Recipe, q, at, shifts):
    junction = recipe.build()
    w2 = well_conditioned(junction, q, inside(junction, q, at))
    assume(len(w2))
    left, right = with_shifted_a3(junction.left, *shifts[:2]), with_shifted_a3(junction.right, *shifts[2:])
    again = Junction(left, right, junction.device)
    assert_same(solve(junction, q, w2).forward, solve(again, q, w2).forward)
    first, second = (solve_modes(j, q, float(thz(w2[0]))) for j in (junction, again))
    for a, b in ((first.left, second.left), (first.right, second.right)):
        # k_z and the velocity along z do not know how the translation was chosen
        np.testing.assert_allclose(b.velocities, a.velocities, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(np.exp(1j * b.phases), np.exp(1j * a.phases), atol=1e-6)


@given(recipes(n_inner=3), wave_vectors, fractions, st.randoms(use_true_random=False))
def test_order_and_cell_of_interior_atoms_change_nothing(recipe: Recipe, q, at, random):
    junction = recipe.build()
    w2 = well_conditioned(junction, q, inside(junction, q, at))
    assume(len(w2))
    n_l, n = junction.left.n_atoms, junction.device.n_atoms
    interior = list(range(n_l, n_l + 3))
    random.shuffle(interior)
    order = np.array([*range(n_l), *interior, *range(n_l + 3, n)])
    device = with_moved_atom(reordered(junction.device, order), n_l + 1, random.randint(-2, 2), random.randint(-2, 2))
    again = Junction(junction.left, junction.right, device)
    assert_same(solve(junction, q, w2).forward, solve(again, q, w2).forward)


@given(recipes(max_atoms=2), wave_vectors, fractions, st.sampled_from([(2, 1), (1, 2), (2, 2)]))
def test_in_plane_supercells_sum_over_folded_wave_vectors(recipe: Recipe, q, at, times):
    junction = recipe.build()
    big = in_plane_supercell(junction, *times)
    folded = [((q[0] + a) / times[0], (q[1] + b) / times[1]) for a in range(times[0]) for b in range(times[1])]
    w2 = inside(big, q, at)
    for k in folded:
        w2 = well_conditioned(junction, k, w2)
    assume(len(w2))
    total = sum(solve(junction, k, w2).forward for k in folded)
    assert_same(total, solve(big, q, w2).forward)


@given(recipes(), wave_vectors, fractions)
def test_real_and_complex_arithmetic_agree(recipe: Recipe, q, at):
    junction = Recipe(**{**recipe.__dict__, "twofold": True}).build()
    w2 = well_conditioned(junction, q, inside(junction, q, at))
    assume(len(w2))
    moved = junction.device.positions.copy()
    moved[0, 0] += 0.1  # enters nothing but the gauge
    device = junction.device.__class__(**{**_fields(junction.device), "positions": moved})
    plain = Junction(junction.left, junction.right, device)
    assert BlockBuilder(junction).real
    assert not BlockBuilder(plain).real
    assert_same(solve(plain, q, w2).forward, solve(junction, q, w2).forward)


def _fields(part) -> dict:
    return {name: getattr(part, name) for name in ("cell", "positions", "masses", "i", "j", "R", "phi")}


@given(recipes(n_inner=0, same_leads=True), wave_vectors, fractions, st.integers(0, 2))
def test_homogeneous_crystal_transmits_its_modes(recipe: Recipe, q, at, n_layers):
    lead = recipe.build().left
    bonds = []
    for i, j, R, phi in zip(lead.i, lead.j, lead.R, lead.phi, strict=True):
        if R[2] == 1:
            bonds.append((i, lead.n_atoms + j, (R[0], R[1], 0), -phi))
    junction = lengthened(join(lead, lead, bonds), n_layers, 0)
    w2 = inside(junction, q, at)
    assume(len(w2))
    solved = solve(junction, q, w2)
    solved.check()
    assert np.all(np.abs(solved.forward - solved.modes_left) < solved.bound * np.maximum(solved.modes_left, 1))
    np.testing.assert_array_equal(solved.modes_left, solved.modes_right)


def _speed_groups(velocities) -> list[slice]:
    """Runs of modes whose speeds agree to 1e-6: their order is a matter of rounding, their sums are not."""
    speeds = np.abs(velocities)
    breaks = np.flatnonzero(np.diff(speeds) > 1e-6 * speeds.max(initial=0)) + 1 if len(speeds) else np.zeros(0, int)
    edges = [0, *breaks, len(speeds)]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]


def _grouped(matrix, leaving, arriving) -> np.ndarray:
    """Sums over groups of equal speed; rows are the modes that arrive in ``leaving``, reversed in time."""

    def groups(modes) -> list[slice]:
        offset = len(modes.left)
        right = _speed_groups(modes.right.velocities)
        return _speed_groups(modes.left.velocities) + [slice(g.start + offset, g.stop + offset) for g in right]

    return np.array([[matrix[row, column].sum() for column in groups(arriving)] for row in groups(leaving)])


@given(recipes(max_atoms=3), wave_vectors, st.floats(0.01, 0.99))
def test_scattering_matrix_is_unitary_and_reciprocal_mode_by_mode(recipe: Recipe, q, at):
    junction = recipe.build()
    w2 = inside(junction, q, [at])
    assume(len(w2))
    frequency = float(thz(w2[0]))
    here, there = solve_modes(junction, q, frequency), solve_modes(junction, np.negative(q), frequency)
    bound = max(1e-9, 1e-14 * (max(junction.top_frequencies) / frequency) ** 2)
    n = len(here.left) + len(here.right)
    S = here.amplitudes
    assert S.shape == (n, n)
    assert np.abs(S.conj().T @ S - np.eye(n)).max(initial=0) < bound
    assert here.conservation_error < bound
    for modes in (here.left, here.right):
        assert np.all(np.diff(np.abs(modes.velocities)) >= 0)
    assert np.all(here.left.velocities > 0)
    assert np.all(here.right.velocities < 0)
    # a mode incident at -q, reversed in time, leaves at q
    forward = _grouped(np.abs(S) ** 2, there, here)
    backward = _grouped(np.abs(there.amplitudes) ** 2, here, there)
    assert np.abs(forward - backward.T).max(initial=0) < 10 * bound
    through = (np.abs(S) ** 2)[len(here.left) :, : len(here.left)]
    np.testing.assert_allclose(through.sum(axis=0), here.left.transmittance, atol=bound)


@given(recipes(max_atoms=3, link_rank=3), st.booleans())
def test_acoustic_limit(recipe: Recipe, longer):
    """Impedance matrices give the transmission at q = 0 for omega -> 0."""
    junction = recipe.build()
    if longer:
        junction = lengthened(junction, 1, 2)
    expected = oracle.acoustic_limit(junction)
    top = min(oracle.band_edges(lead, (0, 0))[1] for lead in (junction.left, junction.right))
    w2 = top * np.array([1.0, 0.25]) * 1e-6
    solved = solve(junction, (0, 0), w2)
    assert solved.modes_left.tolist() == [3, 3]
    assert solved.modes_right.tolist() == [3, 3]
    coarse, fine = solved.forward
    extrapolated = (4 * fine - coarse) / 3  # corrections are even in the frequency
    assert abs(extrapolated - expected) < 1e-7 + abs(fine - coarse) * 1e-2
