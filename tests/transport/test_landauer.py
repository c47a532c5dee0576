"""From transmission to conductance, in numbers that can be worked out by hand."""

import numpy as np
import pytest

from thermal_flows import units
from thermal_flows.transport import TransmissionSpectrum, diffuse_mismatch, solve_transmission
from thermal_flows.transport.spectra.landauer import nonequilibrium_transmission

from . import oracle
from .junctions import (
    Recipe,
    chain_junction,
    fcc111_junction,
    fcc_junction,
    in_plane_supercell,
    simple_cubic_junction,
)
from .tools import solve

MW = 1e6
KB = 1.380649e-23
H = 6.62607015e-34


def spectrum_of(frequencies, transmission, modes_left, modes_right, area=10.0) -> TransmissionSpectrum:
    """A spectrum with one wave vector, on bins of equal width."""
    frequencies = np.asarray(frequencies, dtype=float)
    rows = [np.asarray(x, dtype=float)[None] for x in (transmission, modes_left, modes_right)]
    return TransmissionSpectrum(
        frequencies, np.full(len(frequencies), 2 * frequencies[0]), np.zeros((1, 2)), np.ones(1), *rows, area, "given"
    )


def test_quantum_of_thermal_conductance():
    """Every perfect channel carries pi^2 kB^2 T / 3 h at low temperature."""
    for temperature in (0.5, 1.0, 2.0):
        # x = h f / kB T up to 40
        n = 100
        step = 40 * KB * temperature / H / 1e12 / n
        junction = chain_junction(20, 20, 5, 5, 5, across=2.0)
        assert n * step < 0.5 * min(junction.top_frequencies)
        spectrum = solve_transmission(junction, (1, 1), frequencies=(np.arange(n) + 0.5) * step, n_workers=1)
        np.testing.assert_allclose(spectrum.mean_transmission, 3, atol=1e-6)
        watt_per_kelvin = spectrum.conductance(temperature)[0] * MW * junction.area * 1e-20
        assert watt_per_kelvin == pytest.approx(3 * np.pi**2 * KB**2 * temperature / (3 * H), rel=1e-6)


def test_low_temperature_mismatch_scales_the_quantum():
    junction = chain_junction(20, 60, 5, 5, 5)
    n, temperature = 400, 0.2
    step = 40 * KB * temperature / H / 1e12 / n
    spectrum = solve_transmission(junction, (1, 1), frequencies=(np.arange(n) + 0.5) * step, n_workers=1)
    watt_per_kelvin = spectrum.conductance(temperature)[0] * MW * junction.area * 1e-20
    z = np.sqrt([5 * 20, 5 * 60])
    share = 4 * z[0] * z[1] / z.sum() ** 2
    assert watt_per_kelvin == pytest.approx(share * np.pi**2 * KB**2 * temperature / (3 * H), rel=1e-4)


def test_classical_conductance_is_an_integral_of_the_transmission():
    junction = simple_cubic_junction(20, 35)
    spectrum = solve_transmission(junction, (4, 4), 50, n_workers=1)
    # kB/A int df Xi, with df in Hz and A in m2
    expected = KB / (9e-20) * spectrum.mean_transmission.sum() * spectrum.frequency_weights[0] * 1e12 / MW
    for temperature in (1.0, 300.0):
        assert spectrum.conductance(temperature, statistics="classical")[0] == pytest.approx(expected, rel=1e-12)


def test_quantum_statistics_become_classical_at_high_temperature():
    junction = fcc_junction()
    spectrum = solve_transmission(junction, (4, 4), 50, n_workers=1)
    temperatures = np.array([300.0, 3000.0, 30000.0])
    quantum = spectrum.conductance(temperatures)
    classical = spectrum.conductance(temperatures, statistics="classical")
    assert np.all(np.diff(quantum) > 0)
    assert np.all(quantum < classical)
    # leading correction -x^2/12
    x2 = (H * spectrum.frequencies * 1e12 / KB) ** 2
    correction = (x2 * spectrum.mean_transmission).sum() / spectrum.mean_transmission.sum() / 12
    np.testing.assert_allclose((1 - quantum / classical)[1:] * temperatures[1:] ** 2, correction, rtol=1e-3)


def test_one_bin_by_hand():
    spectrum = spectrum_of([2.0], [1.5], [2.0], [3.0], area=7.0)
    x = H * 2e12 / (KB * 77.0)
    weight = KB * x**2 * np.exp(x) / (np.exp(x) - 1) ** 2
    expected = weight * 1.5 * 4e12 / 7e-20 / MW
    assert spectrum.conductance(77.0)[0] == pytest.approx(expected, rel=1e-12)
    assert spectrum.cumulative_conductance(77.0)[0, -1] == pytest.approx(expected, rel=1e-12)
    assert spectrum.mean_transmittance("left")[0] == pytest.approx(0.75)
    assert spectrum.mean_transmittance("right")[0] == pytest.approx(0.5)
    corrected = 1.5 / (1 - 0.5 * (1.5 / 2 + 1.5 / 3))
    assert spectrum.conductance(77.0, definition="nonequilibrium")[0] == pytest.approx(expected * corrected / 1.5)


def test_cumulative_conductance_ends_at_the_conductance():
    spectrum = solve_transmission(fcc111_junction(), (4, 4), 30, n_workers=1)
    cumulative = spectrum.cumulative_conductance([50, 300])
    assert cumulative.shape == (2, 30)
    assert np.all(np.diff(cumulative, axis=1) >= 0)
    np.testing.assert_allclose(cumulative[:, -1], spectrum.conductance([50, 300]), rtol=1e-12)


@pytest.mark.parametrize("build", [fcc_junction, fcc111_junction, simple_cubic_junction])
def test_homogeneous_crystal_is_ballistic_and_without_resistance(build):
    junction = build(40.0, 40.0)
    spectrum = solve_transmission(junction, (5, 5), 40, n_workers=1)
    ballistic = spectrum.ballistic_conductance([20, 300])
    np.testing.assert_allclose(spectrum.conductance([20, 300]), ballistic[0], rtol=1e-9)
    np.testing.assert_allclose(ballistic[0], ballistic[1], rtol=1e-12)
    assert np.all(np.isinf(spectrum.conductance([20, 300], definition="nonequilibrium")))
    # the diffuse model of equal leads: half of it, and exactly all of it once corrected
    model = spectrum.diffuse_mismatch()
    np.testing.assert_allclose(model.transmission[0], spectrum.mean_modes[0] / 2, rtol=1e-12)
    np.testing.assert_allclose(model.conductance([20, 300]), ballistic[0] / 2, rtol=1e-12)


def test_ballistic_conductance_of_a_simple_cubic_crystal():
    """Mode numbers from the analytic bands: each polarisation is a chain whose window moves with the wave vector."""
    junction = simple_cubic_junction(30, 30, 3.0, 1.0)
    spectrum = solve_transmission(junction, (6, 6), 100, n_workers=1)
    w2 = units.thz_to_w2(spectrum.frequencies)
    q = (np.arange(6) + 0.5) / 6 - 0.5
    expected = np.zeros(100)
    for x in q:
        for y in q:
            for k, stiffness in ((1.0, (3.0, 1.0)), (1.0, (1.0, 3.0)), (3.0, (1.0, 1.0))):
                low = sum(2 * s * (1 - np.cos(2 * np.pi * a)) for s, a in zip(stiffness, (x, y), strict=True))
                expected += ((30 * w2 > low) & (30 * w2 < low + 4 * k)) / 36
    np.testing.assert_allclose(spectrum.mean_modes[0], expected, atol=1e-12)
    np.testing.assert_allclose(spectrum.mean_transmission, expected, atol=1e-9)


def test_diffuse_mismatch_is_doubled_exactly_by_the_correction():
    """alpha_12 + alpha_21 = 1: at every frequency the two-reservoir value is half of the other."""
    for junction in (fcc_junction(), fcc111_junction(), Recipe(5, 2, 1, 1, 2, 3).build()):
        model = diffuse_mismatch(junction, (5, 5), 40, n_workers=1)
        plain = model.conductance([30, 300])
        corrected = model.conductance([30, 300], definition="nonequilibrium")
        np.testing.assert_allclose(corrected, 2 * plain, rtol=1e-12)
        assert len(model.q_points) == 1
        assert model.q_weights.tolist() == [1.0]


@pytest.mark.parametrize(
    "build", [fcc_junction, fcc111_junction, simple_cubic_junction, Recipe(5, 2, 1, 1, 2, 3).build]
)
def test_diffuse_mismatch_of_leads_and_of_a_spectrum_agree(build):
    junction = build()
    spectrum = solve_transmission(junction, (5, 4), 40, n_workers=1)
    model, again = diffuse_mismatch(junction, (5, 4), 40, n_workers=1), spectrum.diffuse_mismatch()
    np.testing.assert_allclose(model.transmission, again.transmission, atol=1e-12)
    left, right = spectrum.mean_modes
    total = np.where(left + right > 0, left + right, 1)
    np.testing.assert_allclose(model.transmission[0], left * right / total, atol=1e-12)
    np.testing.assert_allclose(model.conductance([100, 300]), again.conductance([100, 300]), rtol=1e-12)


def test_diffuse_mismatch_knows_only_the_leads():
    weak, strong = simple_cubic_junction(20, 35, contact=1e-3), simple_cubic_junction(20, 35)
    models = [diffuse_mismatch(j, (4, 4), 20, n_workers=1).conductance(300) for j in (weak, strong)]
    np.testing.assert_array_equal(*models)


def test_nonequilibrium_conductance_of_a_spectrum():
    junction = simple_cubic_junction(20, 35)
    spectrum = solve_transmission(junction, (4, 4), 30, n_workers=1)
    xi, (left, right) = spectrum.mean_transmission, spectrum.mean_modes
    corrected = np.zeros(30)
    at = xi > 0
    corrected[at] = xi[at] / (1 - 0.5 * (xi[at] / left[at] + xi[at] / right[at]))
    heat = units.mode_heat_capacity(spectrum.frequencies, 300.0)
    expected = (heat * corrected * spectrum.frequency_weights).sum() * 1e12 / (9e-20) / MW
    value = spectrum.conductance(300, definition="nonequilibrium")[0]
    assert value == pytest.approx(expected, rel=1e-12)
    assert value > spectrum.conductance(300)[0]


def test_nonequilibrium_transmission_at_its_limits():
    np.testing.assert_array_equal(nonequilibrium_transmission(np.zeros(2), np.array([0.0, 2]), np.ones(2)), [0, 0])
    assert np.isinf(nonequilibrium_transmission(np.array([2.0]), np.array([2.0]), np.array([2.0]))[0])
    # little transmission needs no correction
    np.testing.assert_allclose(nonequilibrium_transmission(np.array([1e-9]), np.array([2.0]), np.array([3.0])), 1e-9)


def test_conductance_does_not_depend_on_the_cell():
    junction = fcc_junction()
    single = solve_transmission(junction, (4, 4), 20, n_workers=1)
    double = solve_transmission(in_plane_supercell(junction, 2, 2), (2, 2), 20, n_workers=1)
    # the half-shifted mesh of the supercell folds onto another mesh of the cell: compare on that one
    w2 = units.thz_to_w2(single.frequencies)
    folds = [
        ((qx + a) / 2, (qy + b) / 2) for qx in (-0.25, 0.25) for qy in (-0.25, 0.25) for a in (0, 1) for b in (0, 1)
    ]
    per_cell = np.mean([solve(junction, q, w2).forward for q in folds], axis=0)
    np.testing.assert_allclose(double.frequencies, single.frequencies, rtol=1e-9)
    np.testing.assert_allclose(double.mean_transmission / 4, per_cell, atol=1e-6)
    assert double.area == pytest.approx(4 * single.area)


def test_chain_conductance_against_an_analytic_integral():
    junction = chain_junction(20, 60, 5, 5, 5)
    spectrum = solve_transmission(junction, (1, 1), 400, n_workers=1)
    expected = oracle.chain_transmission(units.thz_to_w2(spectrum.frequencies), 20, 60, 5, 5, 5)
    heat = units.mode_heat_capacity(spectrum.frequencies, 200.0)
    watt_per_kelvin = (heat * expected * spectrum.frequency_weights).sum() * 1e12
    assert spectrum.conductance(200)[0] * MW * 1e-20 == pytest.approx(watt_per_kelvin, rel=1e-9)
    # and the integral itself to the accuracy of the grid: a square root at its end
    assert watt_per_kelvin == pytest.approx(9.512430658e-11, rel=1e-4)
