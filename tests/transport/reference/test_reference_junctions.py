"""Published numbers of three reference junctions; skipped where the data are not at hand."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from thermal_flows import units
from thermal_flows.transport import Junction, diffuse_mismatch, solve_modes, solve_transmission

from ..junctions import join

METRES_PER_SECOND = 100.0  # one Angstrom/ps
CRYSTALS = ("fcc_nn_mass4", "si_ge_sw_mass")


@cache
def load(folder: Path, name: str) -> tuple[Junction, dict]:
    cases = json.loads((folder / "expected.json").read_text())["cases"]
    case = next(c for c in cases if c["id"] == name)
    return Junction.from_npz(folder / case["inputs"]), case


def conductance_entries(case: dict) -> list[dict]:
    return case["conductance_MW_m2K"]


def thz(omega) -> np.ndarray:
    return np.asarray(omega) / (2 * np.pi)


@pytest.mark.parametrize("name", ["chain_mass", *CRYSTALS])
def test_force_constants_are_consistent(junction_data, name):
    junction, case = load(junction_data, name)
    assert junction.sum_rule_error() < 1e-8 * junction.left.strongest
    assert max(junction.block_mismatch()) < 1e-10
    if "bulk_omega_max" in case:
        np.testing.assert_allclose(junction.top_frequencies, thz(case["bulk_omega_max"]), rtol=1e-9)
        assert junction.area == pytest.approx(case["area_A2"], rel=1e-9)


def test_analytic_chain(junction_data):
    junction, case = load(junction_data, "chain_mass")
    top = thz(case["omega_max"])
    # the list of frequencies rounds omega_max to ten digits, which matters where the transmission is steep
    assert min(junction.top_frequencies) == pytest.approx(top, rel=1e-9)
    for share, expected in zip(case["omega_over_max"], case["xi_analytic"], strict=True):
        modes = solve_modes(junction, (0, 0), share * min(junction.top_frequencies))
        assert modes.transmission == pytest.approx(expected, abs=1e-10)
        assert modes.conservation_error < 1e-9
        away_from_gamma = solve_modes(junction, (0.123, -0.31), share * min(junction.top_frequencies))
        assert away_from_gamma.transmission == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("temperature", [50, 100, 200, 300, 500])
def test_chain_thermal_conductance(junction_data, temperature):
    junction, case = load(junction_data, "chain_mass")
    expected = case["thermal_conductance_W_per_K"][str(temperature)]
    # omega = top (1 - s^2): the square root at the band edge becomes smooth
    nodes, weights = np.polynomial.legendre.leggauss(80)
    s, ds = 0.5 * (nodes + 1), 0.5 * weights
    top = min(junction.top_frequencies)
    spectrum = solve_transmission(
        junction, (1, 1), frequencies=top * (1 - s**2), frequency_weights=top * 2 * s * ds, n_workers=1
    )
    watt_per_kelvin = spectrum.conductance(temperature)[0] * 1e6 * junction.area * 1e-20
    assert watt_per_kelvin == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("name", CRYSTALS)
def test_sample(junction_data, name, index):
    junction, case = load(junction_data, name)
    sample = case["samples"][index]
    modes = solve_modes(junction, sample["q_frac"], float(thz(sample["omega"])))
    assert modes.transmission == pytest.approx(sample["xi"], abs=1e-8)
    assert modes.right.transmittance.sum() == pytest.approx(sample["xi"], abs=1e-8)
    assert modes.conservation_error < 1e-9
    assert (len(modes.left), len(modes.right)) == (sample["n_in_left"], sample["n_in_right"])
    for found, rows in ((modes.left, sample["modes_from_left"]), (modes.right, sample["modes_from_right"])):
        listed = np.array(sorted(rows, key=lambda row: abs(row[1])))
        np.testing.assert_allclose(found.velocities, listed[:, 1] * METRES_PER_SECOND, rtol=1e-8)
        turns = (found.phases - listed[:, 0]) / (2 * np.pi)
        np.testing.assert_allclose(turns - np.rint(turns), 0, atol=1e-8 / (2 * np.pi))
        assert np.all((-np.pi < found.phases) & (found.phases <= np.pi))
        start = 0
        for stop in range(1, len(listed) + 1):  # degenerate modes (equal velocities and phases) by their sums
            if stop == len(listed) or np.abs(listed[stop, :2] - listed[start, :2]).max() > 1e-6:
                expected = listed[start:stop, 2].sum()
                assert found.transmittance[start:stop].sum() == pytest.approx(expected, abs=1e-8)
                start = stop
        np.testing.assert_allclose(found.transmittance + found.reflectance, 1, atol=1e-9)
    size = len(modes.left) + len(modes.right)
    assert np.abs(modes.amplitudes.conj().T @ modes.amplitudes - np.eye(size)).max() < 1e-9
    # what goes from m to n at q goes from n to m, both reversed, at -q
    back = solve_modes(junction, np.negative(sample["q_frac"]), modes.frequency)
    assert np.abs(np.abs(modes.amplitudes) ** 2 - np.abs(back.amplitudes.T) ** 2).max() < 1e-9


MESHES = [
    ("fcc_nn_mass4", 10, 100),
    ("fcc_nn_mass4", 20, 200),
    ("fcc_nn_mass4", 40, 200),
    ("fcc_nn_mass4", 64, 200),
    ("si_ge_sw_mass", 10, 100),
    ("si_ge_sw_mass", 20, 100),
    ("si_ge_sw_mass", 20, 200),
    ("si_ge_sw_mass", 40, 200),
]


@cache
def solved(folder: Path, name: str, n: int, n_omega: int):
    junction, case = load(folder, name)
    step = case["omega_grid_max"] / n_omega
    omega = (np.arange(n_omega) + 0.5) * step
    return solve_transmission(junction, (n, n), frequencies=thz(omega), n_workers=1)


@pytest.mark.parametrize(("name", "n", "n_omega"), MESHES)
def test_conductance(junction_data, name, n, n_omega):
    _, case = load(junction_data, name)
    entry = next(e for e in conductance_entries(case) if (e["N"], e["n_omega"]) == (n, n_omega))
    spectrum = solved(junction_data, name, n, n_omega)
    assert len(spectrum.q_points) == entry["n_q_irreducible"]
    assert spectrum.q_weights.sum() == pytest.approx(1, abs=1e-14)
    temperatures = [float(t) for t in entry["G_quantum"]]
    np.testing.assert_allclose(spectrum.conductance(temperatures), list(entry["G_quantum"].values()), rtol=2e-6)
    classical = spectrum.conductance(300, statistics="classical")
    np.testing.assert_allclose(classical, entry["G_classical"], rtol=2e-6)
    assert spectrum.checks.conservation_over_bound < 1
    assert spectrum.checks.reciprocity_over_bound < 1
    assert spectrum.checks.excess < 1e-9


@pytest.mark.parametrize(("name", "n", "n_omega"), [("fcc_nn_mass4", 10, 100), ("si_ge_sw_mass", 20, 200)])
def test_spectrum(junction_data, name, n, n_omega):
    _, case = load(junction_data, name)
    entry = next(e for e in conductance_entries(case) if (e["N"], e["n_omega"]) == (n, n_omega))
    spectrum = solved(junction_data, name, n, n_omega)
    np.testing.assert_allclose(spectrum.frequencies, thz(entry["spectrum"]["omega"]), rtol=1e-9)
    np.testing.assert_allclose(spectrum.mean_transmission, entry["spectrum"]["xi_qavg"], rtol=0, atol=2e-7)
    np.testing.assert_allclose(
        spectrum.spectral_conductance(300)[0] @ spectrum.frequency_weights, entry["G_quantum"]["300"], rtol=2e-6
    )


@pytest.mark.parametrize(("name", "n", "n_omega"), [("fcc_nn_mass4", 10, 100), ("si_ge_sw_mass", 20, 200)])
def test_wave_vectors_one_by_one(junction_data, name, n, n_omega):
    """Some points of the mesh have their own spectra, at every tenth of the frequencies."""
    _, case = load(junction_data, name)
    entry = next(e for e in conductance_entries(case) if (e["N"], e["n_omega"]) == (n, n_omega))
    spectrum = solved(junction_data, name, n, n_omega)
    for sample in entry["q_samples"]:
        at = np.flatnonzero(np.abs(spectrum.q_points - sample["q"]).max(axis=1) < 1e-9)
        if len(at) == 0:  # a symmetric partner represents it
            continue
        assert spectrum.q_weights[at[0]] == pytest.approx(sample["weight"], abs=1e-12)
        expected = np.array(sample["xi"])
        found = spectrum.transmission[at[0], :: n_omega // len(expected)]
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize("name", CRYSTALS)
def test_converged_conductance(junction_data, name):
    _, case = load(junction_data, name)
    n, n_omega = (20, 200)
    converged = case["converged"]
    spectrum = solved(junction_data, name, n, n_omega)
    difference = spectrum.conductance(float(converged["T"]))[0] - converged["G"]
    # the uncertainty is that of the largest mesh; this one is half to a third as fine
    assert abs(difference) < 3 * converged["uncertainty"]


@pytest.mark.parametrize("name", CRYSTALS)
def test_every_incident_mode_conserves_energy(junction_data, name):
    junction, _ = load(junction_data, name)
    spectrum = solve_transmission(junction, (6, 6), 40, resolve_modes=True, n_workers=1)
    modes = spectrum.modes
    top = max(junction.top_frequencies)
    bound = np.maximum(1e-9, 1e-14 * (top / spectrum.frequencies[modes.frequency_index]) ** 2)
    assert np.all(np.abs(modes.transmittances + modes.reflectances - 1) < bound)
    total = np.zeros_like(spectrum.transmission)
    left = modes.side == 0
    np.add.at(total, (modes.q_index[left], modes.frequency_index[left]), modes.transmittances[left])
    np.testing.assert_allclose(total, spectrum.transmission, atol=1e-9)
    np.add.at(total, (modes.q_index[~left], modes.frequency_index[~left]), -modes.transmittances[~left])
    np.testing.assert_allclose(total, 0, atol=1e-9)


@pytest.mark.parametrize("name", CRYSTALS)
def test_diffuse_mismatch_counts_the_same_modes(junction_data, name):
    junction, case = load(junction_data, name)
    mesh = case["mismatch_models"]
    n, n_omega = mesh["N"], mesh["n_omega"]
    spectrum = solved(junction_data, name, n, n_omega)
    model = diffuse_mismatch(junction, (n, n), frequencies=spectrum.frequencies, n_workers=1)
    np.testing.assert_allclose(model.transmission, spectrum.diffuse_mismatch().transmission, atol=1e-12)
    # MW/m2K at 300 K, from another implementation
    expected = {"fcc_nn_mass4": 139, "si_ge_sw_mass": 361}[name]
    assert model.conductance(300)[0] == pytest.approx(expected, rel=5e-3)


def test_ballistic_silicon(junction_data):
    """Both sides silicon: 1197 MW/m2K at 300 K, from another implementation, and no resistance."""
    lead = load(junction_data, "si_ge_sw_mass")[0].left
    n = lead.n_atoms
    pairs = zip(lead.i, lead.j, lead.R, lead.phi, strict=True)
    junction = join(lead, lead, [(i, n + j, (R[0], R[1], 0), -phi) for i, j, R, phi in pairs if R[2] == 1])
    assert max(junction.block_mismatch()) < 1e-12
    spectrum = solve_transmission(junction, (10, 10), 100, n_workers=1)
    assert spectrum.conductance(300)[0] == pytest.approx(1197, rel=5e-3)
    assert np.isinf(spectrum.conductance(300, definition="nonequilibrium")[0])


def test_conductance_of_the_chain_is_that_of_one_channel(junction_data):
    junction, _ = load(junction_data, "chain_mass")
    spectrum = solve_transmission(junction, (1, 1), 400, n_workers=1)
    classical = spectrum.conductance(1e4, statistics="classical")[0]
    one_channel = units.BOLTZMANN * spectrum.mean_transmission @ spectrum.frequency_weights * 1e12
    assert classical * 1e6 * junction.area * 1e-20 == pytest.approx(one_channel, rel=1e-12)
