"""Low temperatures: a mesh and a grid around zero, where heat is carried."""

import numpy as np
import pytest

from thermal_flows import units
from thermal_flows.transport import TransportError, acoustic_limit, solve_transmission
from thermal_flows.transport.leads.blocks import BlockBuilder
from thermal_flows.transport.spectra.mesh import half_shifted_mesh, in_plane_operations
from thermal_flows.transport.spectra.thermal_grid import HIGHEST, thermal_window

from .junctions import Recipe, fcc111_junction, fcc_junction, in_plane_supercell
from .tools import solve

MESHES = [(20, 20), (8, 8), (5, 5), (3, 4), (7, 12), (2, 5), (1, 1)]


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("levels", [0, 1, 3, 8])
def test_graded_mesh_covers_the_zone_once(mesh, levels):
    """Weights are the areas of cells around the points that do not overlap; the smallest are halved at every level."""
    q, weights = half_shifted_mesh(mesh, levels=levels)
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    assert np.all(np.abs(q) <= 0.5)
    area = weights / np.where(np.any(q, axis=1), 2, 1)  # a point and its opposite share a weight
    assert area.max() <= 1 / np.prod(mesh) * (1 + 1e-12)
    assert area.min() == pytest.approx(4.0**-levels / np.prod(mesh), rel=1e-12)
    everywhere = np.concatenate([q, -q[np.any(q, axis=1)]])
    half = (
        0.5
        * np.sqrt(np.concatenate([area, area[np.any(q, axis=1)]]))[:, None]
        * np.sqrt(np.array([mesh[1] / mesh[0], mesh[0] / mesh[1]]))
    )
    apart = np.abs(everywhere[:, None] - everywhere[None]) - half[:, None] - half[None] + 1e-12
    overlap = np.all(apart < 0, axis=2) & ~np.eye(len(everywhere), dtype=bool)
    assert not overlap.any()


@pytest.mark.parametrize("mesh", MESHES)
def test_graded_mesh_resolves_what_is_near_zero(mesh):
    """The mean of a spike, of which a plain mesh knows nothing."""

    def mean(levels: int) -> float:
        q, weights = half_shifted_mesh(mesh, levels=levels)
        return float(weights @ np.exp(-np.abs(q).sum(axis=1) / 1e-3)) / (4 * 1e-3**2)

    assert mean(10) == pytest.approx(1, abs=3 / min(mesh) ** 2)  # some N / 4 points across the spike, second order
    assert abs(mean(0) - 1) > 0.1


@pytest.mark.parametrize("mesh", MESHES)
def test_graded_mesh_is_reduced_by_symmetry(mesh):
    """The mean of a function with the junction's symmetry does not change with the reduction."""
    operations = in_plane_operations(fcc_junction())
    assert len(operations) == 8

    def symmetric(q: np.ndarray) -> np.ndarray:
        c = np.cos(2 * np.pi * q)
        return c.sum(axis=1) + 3 * c.prod(axis=1) + np.abs(q).max(axis=1)

    for levels in (1, 4):
        full, reduced = half_shifted_mesh(mesh, None, levels), half_shifted_mesh(mesh, operations, levels)
        assert reduced[1] @ symmetric(reduced[0]) == pytest.approx(full[1] @ symmetric(full[0]), abs=1e-14)
        if mesh[0] == mesh[1] and mesh[0] > 2:
            assert len(reduced[0]) < 0.4 * len(full[0])


def test_window_scales_with_the_temperature():
    junction = fcc_junction()
    builder = BlockBuilder(junction)
    hot, cold = thermal_window(builder, 4.0), thermal_window(builder, 1.0)
    assert hot.top == pytest.approx(HIGHEST * units.thermal_frequency(4.0))
    assert cold.top == pytest.approx(hot.top / 4)
    assert cold.levels == hot.levels + 2
    everything = thermal_window(builder, 3000.0)
    assert everything.levels == 0
    assert everything.top == min(junction.top_frequencies)


def test_no_phonon_is_left_out_of_the_window():
    """Outside the finest mesh, and at the lowest frequencies that count, at least one lead has no phonons."""
    junction = fcc_junction()
    window = thermal_window(BlockBuilder(junction), 2.0)
    lowest = units.thermal_frequency(2.0) * 1.25
    edge = 0.5 * 0.5**window.levels
    for angle in np.linspace(0, np.pi, 7):
        direction = np.array([np.cos(angle), np.sin(angle)])
        q = 1.01 * edge * direction / np.abs(direction).max()
        found = solve(junction, q, units.thz_to_w2(np.array([0.5, 0.9]) * lowest))
        assert np.all(np.minimum(found.modes_left, found.modes_right) == 0)


def test_conductance_of_a_general_grid_where_that_is_fine_enough():
    junction = fcc_junction()
    general = solve_transmission(junction, (32, 32), 260).conductance([20.0])[0]
    own = solve_transmission(junction, (24, 24), 100, temperature=20.0)
    assert own.conductance([20.0])[0] == pytest.approx(general, rel=5e-3)
    assert own.q_weights.sum() == pytest.approx(1, abs=1e-14)


def test_conductance_goes_with_the_cube_of_the_temperature():
    """Waves much longer than the lattice: G / T^3 is a constant. A general grid finds next to nothing there."""
    junction = in_plane_supercell(fcc_junction(), 2, 1)
    scaled = [solve_transmission(junction, (8, 8), 40, temperature=t).conductance([t])[0] / t**3 for t in (2.0, 0.5)]
    assert scaled[1] == pytest.approx(scaled[0], rel=0.01)
    assert solve_transmission(junction, (8, 8), 40).conductance([0.5])[0] / 0.5**3 < 1e-3 * scaled[1]


@pytest.mark.parametrize("build", [fcc_junction, fcc111_junction])
def test_conductance_tends_to_the_anisotropic_acoustic_limit(build):
    """Elasticity theory of both crystals, welded: it knows nothing of meshes, grids and frequencies."""
    junction = build()
    expected = acoustic_limit(junction, 1e-3).coefficient
    for t in (2.0, 0.5):
        found = solve_transmission(junction, (10, 10), 40, temperature=t, n_workers=1).conductance([t])[0]
        assert found / t**3 == pytest.approx(expected, rel=0.02)


def test_questions_that_the_window_cannot_answer():
    junction = Recipe(2, 1, 1, 1, 2, 2).build()
    cold = solve_transmission(junction, (3, 3), 10, temperature=3.0)
    assert cold.temperature == 3.0
    cold.conductance([3.0, 3.0], definition="nonequilibrium")
    cold.diffuse_mismatch().conductance(3.0)
    for ask in (
        lambda: cold.conductance([3.0, 300.0]),
        lambda: cold.conductance([3.0], statistics="classical"),
        lambda: cold.diffuse_mismatch().conductance([4.0]),
        lambda: cold.ballistic_conductance([2.9]),
        lambda: cold.cumulative_conductance([300.0]),
    ):
        with pytest.raises(TransportError, match="mesh and grid hold what is excited at 3 K"):
            ask()
    for temperature in (0, -1.0, float("nan")):
        with pytest.raises(TransportError, match="temperature must be positive"):
            solve_transmission(junction, (3, 3), 10, temperature=temperature)
    with pytest.raises(TransportError, match="not both"):
        solve_transmission(junction, (3, 3), frequencies=[1.0], frequency_weights=[2.0], temperature=3.0)
