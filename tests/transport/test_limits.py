"""Limits of the transmission that follow from the leads alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings

from thermal_flows.transport import (
    TransportError,
    diffuse_mismatch,
    maximum_transmission,
    radiation_limit,
    solve_transmission,
)

from . import oracle
from .junctions import Recipe, fcc111_junction, fcc_junction, simple_cubic_junction
from .tools import recipes, thz

MESH = {"q_mesh": (3, 3), "n_frequencies": 25, "n_workers": 1}


@settings(max_examples=10)
@given(recipes(4))
def test_no_junction_transmits_more_than_the_maximum(recipe):
    junction = recipe.build()
    solved, most = solve_transmission(junction, **MESH), maximum_transmission(junction, **MESH)
    np.testing.assert_array_equal(solved.q_points, most.q_points)
    np.testing.assert_array_equal(solved.frequencies, most.frequencies)
    assert np.all(solved.transmission <= most.transmission + 1e-8)
    np.testing.assert_array_equal(most.transmission, np.minimum(most.modes_left, most.modes_right))


@pytest.mark.parametrize(
    "build", [fcc_junction, fcc111_junction, simple_cubic_junction, Recipe(5, 2, 1, 1, 2, 3).build]
)
def test_order_of_the_limits(build):
    junction = build()
    solved, most = solve_transmission(junction, **MESH), maximum_transmission(junction, **MESH)
    averaged = maximum_transmission(junction, conserve_wave_vector=False, **MESH)
    radiation, diffuse = radiation_limit(junction, **MESH), diffuse_mismatch(junction, **MESH)
    temperatures = [20, 300]
    values = [s.conductance(temperatures) for s in (solved, most, averaged, radiation)]
    for lower, upper in itertools.pairwise(values):
        assert np.all(lower <= upper * (1 + 1e-9))
    # M1 M2/(M1 + M2) lies between half the smaller number and the smaller number
    assert np.all(diffuse.transmission <= averaged.transmission + 1e-12)
    assert np.all(diffuse.transmission >= averaged.transmission / 2 - 1e-12)
    assert len(averaged.q_points) == 1
    assert (most.method, radiation.method) == ("maximum_transmission", "radiation_limit")


def test_counts_against_sampled_bands():
    junction = fcc_junction()
    most, radiation = maximum_transmission(junction, **MESH), radiation_limit(junction, **MESH)
    for k, q in enumerate(most.q_points):
        for n in range(2, 25, 7):
            w2 = (most.frequencies[n] / thz(1.0)) ** 2
            counts = [oracle.count_crossings(lead, q, w2)[0] for lead in (junction.left, junction.right)]
            assert most.transmission[k, n] == min(counts)
            assert radiation.transmission[k, n] == counts[1]  # the heavy crystal is the softer one


def test_the_softer_lead_may_be_on_either_side():
    junction = fcc_junction()
    one, other = radiation_limit(junction, **MESH), radiation_limit(junction.reversed(), **MESH)
    np.testing.assert_allclose(one.conductance(300), other.conductance(300), rtol=1e-9)
    soft = one.ballistic_conductance(300)[1]
    np.testing.assert_allclose(one.conductance(300), soft, rtol=1e-12)


def test_homogeneous_crystal_reaches_every_limit():
    junction = fcc_junction(40, 40, k_perp=0.137)
    solved = solve_transmission(junction, **MESH)
    assert solved.checks.flagged == 0  # no point on a band edge, where a mode may be counted or not
    for limit in (maximum_transmission, radiation_limit):
        np.testing.assert_allclose(limit(junction, **MESH).conductance(300), solved.conductance(300), rtol=1e-9)


def test_the_radiation_limit_is_no_bound():
    """Where the stiffer lead has fewer modes than the softer one, channels are counted that do not exist."""
    junction = fcc_junction()
    radiation, most = radiation_limit(junction, **MESH), maximum_transmission(junction, **MESH)
    assert np.all(radiation.transmission >= most.transmission)
    assert np.any(radiation.transmission > most.transmission)


def test_grids_are_those_of_the_solver():
    junction = simple_cubic_junction()
    most = maximum_transmission(junction, (2, 2), frequencies=[1.0, 2.5], frequency_weights=[0.5, 0.7], n_workers=1)
    np.testing.assert_array_equal(most.frequency_weights, [0.5, 0.7])
    with pytest.raises(TransportError, match="frequency_weights"):
        radiation_limit(junction, (2, 2), frequencies=[1.0, 2.5])
    with pytest.raises(TransportError, match="q_mesh"):
        maximum_transmission(junction, (0, 2))
