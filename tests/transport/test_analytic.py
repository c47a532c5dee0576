"""Junctions whose transmission is known in closed form, or from elasticity."""

import numpy as np
import pytest

from thermal_flows import units
from thermal_flows.transport import solve_modes, solve_transmission

from . import oracle
from .junctions import (
    chain_junction,
    fcc111_junction,
    fcc_junction,
    lengthened,
    simple_cubic_junction,
    with_thick_layers,
)
from .tools import solve, window


@pytest.mark.parametrize(
    "parameters",
    [
        {"m_l": 20, "m_r": 60, "k_l": 5, "k_r": 5, "contact": 5},
        {"m_l": 60, "m_r": 20, "k_l": 5, "k_r": 5, "contact": 5},
        {"m_l": 20, "m_r": 20, "k_l": 5, "k_r": 5, "contact": 5},
        {"m_l": 28, "m_r": 73, "k_l": 12, "k_r": 7, "contact": 3},
        {"m_l": 28, "m_r": 73, "k_l": 12, "k_r": 7, "contact": 0.007},
        {"m_l": 1, "m_r": 200, "k_l": 50, "k_r": 0.5, "contact": 1},
        {"m_l": 20, "m_r": 30, "k_l": 5, "k_r": 4, "contact": 6, "pinned_l": 2.0, "pinned_r": 1.0},
    ],
)
def test_two_chains(parameters):
    junction = chain_junction(**parameters)
    bottoms = [parameters.get(f"pinned_{side}", 0) / parameters[f"m_{side}"] for side in "lr"]
    tops = [
        bottom + 4 * parameters[f"k_{side}"] / parameters[f"m_{side}"]
        for side, bottom in zip("lr", bottoms, strict=True)
    ]
    low, high = max(bottoms), min(tops)
    w2 = low + (high - low) * np.array([1e-6, 1e-3, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999, 1 - 1e-6])
    solved = solve(junction, (0.1, 0.2), w2)
    solved.check()
    # the elements of the matrices are rounded: an error of 1e-16 of the top of the stiffer lead in every squared frequency
    allowed = np.maximum(1e-10, 1e-16 * max(tops) / w2)
    assert np.all(np.abs(solved.forward - oracle.chain_transmission(w2, **parameters)) < allowed)
    outside = solve(junction, (0.1, 0.2), [1.01 * high])
    assert outside.forward == 0
    assert not outside.flagged.any()


def test_two_chains_through_the_public_functions():
    junction = chain_junction(20, 60, 5, 5, 5)
    top = min(junction.top_frequencies)
    assert top == pytest.approx(np.sqrt(4 * 5 / 60) * units.THZ_PER_SQRT_W2, rel=1e-12)
    spectrum = solve_transmission(junction, (1, 1), 50, n_workers=1)
    expected = oracle.chain_transmission(units.thz_to_w2(spectrum.frequencies), 20, 60, 5, 5, 5)
    np.testing.assert_allclose(spectrum.mean_transmission, expected, atol=1e-10)
    for k in (0, 20, 49):
        modes = solve_modes(junction, (0, 0), spectrum.frequencies[k])
        assert modes.transmission == pytest.approx(expected[k], abs=1e-10)
        w2 = units.thz_to_w2(spectrum.frequencies[k])
        for lead, mass, sign in ((modes.left, 20, 1), (modes.right, 60, -1)):
            phase = 2 * np.arcsin(np.sqrt(mass * w2 / 20))
            # w2 = 4 k/m sin^2(theta/2), v = a d omega / d theta = a sqrt(k/m) cos(theta/2)
            speed = 100 * units.RAD_PS_PER_SQRT_W2 * np.sqrt(5 / mass) * np.cos(phase / 2)
            assert lead.phases[0] == pytest.approx(sign * phase, rel=1e-9)
            assert lead.velocities[0] == pytest.approx(sign * speed, rel=1e-8)


def simple_cubic_transmission(w2, q, m_l, m_r, k_par, k_perp, contact) -> np.ndarray:
    """Sum of three chains: x, y and z displacements do not couple, the in-plane springs act as pinning."""
    total = np.zeros(np.shape(w2))
    for along in range(3):
        across = [k_perp, k_perp]
        if along < 2:
            across[along] = k_par
        pinned = sum(2 * k * (1 - np.cos(2 * np.pi * x)) for k, x in zip(across, q, strict=True))
        k = k_par if along == 2 else k_perp
        total += oracle.chain_transmission(w2, m_l, m_r, k, k, contact * k, pinned, pinned)
    return total


@pytest.mark.parametrize("q", [(0, 0), (0.1, 0), (0.13, 0.27), (0.25, 0.25), (0.5, 0.5), (-0.3, 0.45)])
@pytest.mark.parametrize("contact", [1.0, 1.7, 0.01])
def test_simple_cubic_at_every_wave_vector(q, contact):
    junction = simple_cubic_junction(20, 35, 3.0, 1.0, contact)
    w2 = np.linspace(0.003, 0.6, 41)
    solved = solve(junction, q, w2)
    solved.check()
    expected = simple_cubic_transmission(w2, q, 20, 35, 3.0, 1.0, contact)
    np.testing.assert_allclose(solved.forward, expected, rtol=0, atol=1e-10)


def test_simple_cubic_conductance():
    junction = simple_cubic_junction(20, 35)
    spectrum = solve_transmission(junction, (7, 5), 60, n_workers=1)
    axes = [(np.arange(n) + 0.5) / n - 0.5 for n in (7, 5)]
    w2 = units.thz_to_w2(spectrum.frequencies)
    expected = np.mean(
        [simple_cubic_transmission(w2, (x, y), 20, 35, 3.0, 1.0, 1.0) for x in axes[0] for y in axes[1]], axis=0
    )
    np.testing.assert_allclose(spectrum.mean_transmission, expected, atol=1e-10)


@pytest.mark.parametrize("build", [fcc_junction, fcc111_junction])
def test_fcc_against_greens_functions(build):
    junction = build()
    for q in ((0.06, 0.05), (0.2, -0.35), (0.47, 0.1), (0.5, 0.0)):
        w2 = np.linspace(*window(junction, q), 15)[1:-1]
        found = solve(junction, q, w2)
        found.check()
        scale = max(oracle.band_edges(lead, q)[1] for lead in (junction.left, junction.right))
        for value, mine in zip(w2, found.forward, strict=True):
            theirs, uncertainty = oracle.extrapolated(junction, q, value, scale)
            assert uncertainty < 1e-6
            assert mine == pytest.approx(theirs, abs=1e-8 + uncertainty)


def test_fcc_mass_ratio_four_at_low_frequency():
    """Every branch at Gamma transmits 4 Z1 Z2/(Z1 + Z2)^2 = 8/9 for impedances 1 : 2."""
    junction = fcc_junction(40, 160)
    assert oracle.acoustic_limit(junction) == pytest.approx(8 / 3, rel=1e-12)
    modes = solve_modes(junction, (0, 0), 1e-4 * min(junction.top_frequencies))
    np.testing.assert_allclose(modes.left.transmittance, 8 / 9, atol=1e-6)
    np.testing.assert_allclose(modes.right.transmittance, 8 / 9, atol=1e-6)
    # sound in this crystal: v_T = a/2 sqrt(k/m), v_L = a sqrt(k/2m)
    speeds = 4.0 * units.RAD_PS_PER_SQRT_W2 * 100 * np.sqrt(np.array([0.25, 0.25, 0.5]) * 1.0 / 40)
    np.testing.assert_allclose(modes.left.velocities, speeds, rtol=1e-6)


def test_acoustic_limit_does_not_depend_on_the_contact():
    """Long waves do not see a weak or a thick contact, only the leads."""
    for junction in (fcc_junction(contact=0.05), fcc_junction(contact=3.0), lengthened(fcc_junction(), 3, 2)):
        top = min(oracle.band_edges(lead, (0, 0))[1] for lead in (junction.left, junction.right))
        coarse, fine = solve(junction, (0, 0), top * np.array([1e-6, 2.5e-7])).forward
        assert (4 * fine - coarse) / 3 == pytest.approx(8 / 3, abs=1e-6)


@pytest.mark.parametrize("build", [fcc_junction, fcc111_junction, simple_cubic_junction])
def test_homogeneous_crystals(build):
    junction = build(40.0, 40.0)
    for variant in (junction, lengthened(junction, 2, 1), with_thick_layers(junction, 2)):
        for q in ((0, 0), (0.1, 0.2), (0.5, 0.5), (0.25, -0.25)):
            w2 = np.linspace(0.0013, 0.19, 23)
            solved = solve(variant, q, w2)
            assert np.all(np.abs(solved.forward - solved.modes_left) < solved.bound * np.maximum(solved.modes_left, 1))
            crossings = [oracle.count_crossings(junction.left, q, value)[0] for value in w2]
            np.testing.assert_array_equal(solved.modes_left, crossings)
