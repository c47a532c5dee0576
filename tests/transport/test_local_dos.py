"""Local densities of states: two routes, their sum rules and closed forms."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from thermal_flows import units
from thermal_flows.transport import Junction, TransportError
from thermal_flows.transport.leads.blocks import BlockBuilder
from thermal_flows.transport.solvers import sum_rules
from thermal_flows.transport.solvers.local_dos import local_dos, local_dos_spectrum, overlap_factor
from thermal_flows.transport.solvers.sum_rules import spectral_bounds, sum_rule_errors

from .junctions import (
    Recipe,
    chain_junction,
    chain_lead,
    fcc111_junction,
    fcc_junction,
    in_plane_supercell,
    join,
    lengthened,
)
from .tools import fractions, inside, recipes, solve, thz, wave_vectors

COMPLEX = Recipe(11, 2, 3, 2, 3, 2, oblique=True).build()


def impurity(mass: float) -> Junction:
    """An atom of another mass in a chain of atoms of 20 amu and springs of 5 eV/A^2."""
    lead = chain_lead(20.0, 5.0)
    bonds = [(0, 1, (0, 0, 0), np.diag([0, 0, 5.0])), (1, 2, (0, 0, 0), np.diag([0, 0, 5.0]))]
    return join(lead, lead, bonds, [mass], np.zeros((1, 3)))


CHAIN_TOP = float(thz(4 * 5.0 / 20.0))


def band_states(junction: Junction, top: float, atom: int, n: int = 400) -> float:
    """Integral over [0, top] of the density of states along z, with frequencies top sin(theta)."""
    theta = (np.arange(n) + 0.5) * np.pi / (2 * n)
    values = local_dos(junction, (0, 0), top * np.sin(theta), resolve_directions=True)[:, atom, 2]
    return float((values * top * np.cos(theta)).sum() * np.pi / (2 * n))


# --- both routes -----------------------------------------------------------------------------------------------------


@given(recipes(5), wave_vectors, fractions)
def test_routes_agree(recipe: Recipe, q, at):
    junction = recipe.build()
    w2 = inside(junction, q, at)
    assume(len(w2))
    here = solve(junction, q, w2)
    steep = np.abs(solve(junction, q, w2 * (1 + 1e-10)).forward - here.forward)
    w2 = w2[~here.flagged & (steep < 1e-8)]
    assume(len(w2))
    found = {
        (route, incident): local_dos(junction, q, thz(w2), route, incident=incident)
        for route in ("green_function", "scattering_states")
        for incident in ("both", "left", "right")
    }
    # where no mode reaches an atom its density is zero but for round-off of what the others have
    size = found["green_function", "both"].max(axis=1, keepdims=True) + 1e-12
    for incident in ("both", "left", "right"):
        one, two = found["green_function", incident], found["scattering_states", incident]
        assert np.all(np.abs(one - two) < 1e-6 * size)
        assert np.all(one > -1e-9 * size)
    parts = found["green_function", "left"] + found["green_function", "right"]
    assert np.all(np.abs(parts - found["green_function", "both"]) < 1e-6 * size)


@pytest.mark.parametrize("name", ["fcc_nn_mass4", "si_ge_sw_mass"])
def test_reference_values(junction_data, name):
    cases = json.loads((junction_data / "expected.json").read_text())["cases"]
    sample = next(c for c in cases if c["id"] == name)["ldos_sample"]
    junction = Junction.from_npz(junction_data / f"{name}.npz")
    expected = 2 * np.pi * np.array(sample["ldos_per_atom"])  # states per rad/ps there
    for route in ("green_function", "scattering_states"):
        found = local_dos(junction, sample["q_frac"], sample["omega"] / (2 * np.pi), route)
        assert found.shape == (junction.device.n_atoms,)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_broadening_tends_to_the_exact_value():
    q = (0.11, 0.23)
    f = thz(inside(COMPLEX, q, np.linspace(0.1, 0.9, 9)))
    exact = local_dos(COMPLEX, q, f)
    errors = [np.abs(local_dos(COMPLEX, q, f, broadening=b) - exact).max(axis=1) for b in (1e-7, 1e-9)]
    assert np.all(errors[1] < 0.011 * errors[0] + 1e-11)
    assert errors[1].max() < 1e-5 * exact.max()


# --- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["green_function", "scattering_states"])
def test_infinite_chain(route):
    """2 / (pi sqrt(f_max^2 - f^2)) along z; nothing moves along x and y."""
    junction = lengthened(chain_junction(20, 20, 5, 5, 5), 1, 2)
    f = CHAIN_TOP * np.array([0.01, 0.3, 0.7071, 0.99])
    found = local_dos(junction, (0.2, 0.1), f, route, resolve_directions=True)
    assert found.shape == (4, 5, 3)
    expected = 2 / (np.pi * np.sqrt(CHAIN_TOP**2 - f**2))
    np.testing.assert_allclose(found[:, :, 2], np.tile(expected[:, None], 5), rtol=1e-9)
    assert np.all(found[:, :, :2] == 0)


def test_end_of_a_chain():
    """A cut contact: the end atom of a free chain has 4 cos(theta/2)^2 times the density of the infinite one."""
    junction = chain_junction(20, 35, 5, 4, 0)
    f = CHAIN_TOP * np.array([0.05, 0.3, 0.8])
    half_phase = np.arcsin(f / CHAIN_TOP)
    expected = 2 * np.cos(half_phase) ** 2 * 2 / (np.pi * np.sqrt(CHAIN_TOP**2 - f**2))
    found = local_dos(junction, (0, 0), f, resolve_directions=True)[:, 0, 2]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(local_dos(junction, (0, 0), f, incident="right")[:, 0], 0, atol=1e-12)


def test_localised_mode_is_in_the_green_function_only():
    """A light atom in a chain: a mode above the band at f_max / sqrt(1 - e^2), of weight 2 e / (1 + e) on that atom."""
    e = 0.4
    junction = impurity(20 * (1 - e))
    f, weight = CHAIN_TOP / np.sqrt(1 - e**2), 2 * e / (1 + e)
    assert band_states(junction, CHAIN_TOP, 1) == pytest.approx(1 - weight, abs=1e-9)
    for route in ("green_function", "scattering_states"):
        assert np.all(local_dos(junction, (0, 0), [0.999 * f, f, 1.001 * f], route) == 0)
    broadening = 1e-8
    half_width = broadening * CHAIN_TOP**2 / (2 * f)
    shape = [local_dos(junction, (0, 0), f + x * half_width, broadening=broadening)[1] for x in (0, 1, -1, 3)]
    np.testing.assert_allclose(shape, weight / (np.pi * half_width) / np.array([1, 2, 2, 10]), rtol=1e-5)
    heavy = impurity(50.0)  # no localised mode
    assert band_states(heavy, CHAIN_TOP, 1) == pytest.approx(1, abs=1e-9)


def test_fourfold_axis_makes_x_and_y_equal():
    f = thz(inside(fcc_junction(k_perp=0.1), (0, 0), [0.2, 0.5]))
    found = local_dos(fcc_junction(k_perp=0.1), (0, 0), f, resolve_directions=True)
    np.testing.assert_allclose(found[..., 0], found[..., 1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=-1), local_dos(fcc_junction(k_perp=0.1), (0, 0), f), rtol=1e-12)


def test_time_reversal_and_folding():
    junction, q = COMPLEX, np.array([0.23, -0.17])
    f = thz(inside(junction, q, [0.3, 0.6]))
    here = local_dos(junction, q, f)
    np.testing.assert_allclose(local_dos(junction, -q, f), here, rtol=1e-8)
    folded = np.mean([local_dos(junction, np.array([q[0] + m, 2 * q[1]]) / 2, f) for m in (0, 1)], axis=0)
    double = local_dos(in_plane_supercell(junction, 2, 1), q, f)
    n_l, n_r = junction.left.n_atoms, junction.right.n_atoms
    n_i = junction.device.n_atoms - n_l - n_r
    order = np.concatenate(
        [np.tile(np.arange(n_l), 2), np.tile(n_l + np.arange(n_i), 2), np.tile(n_l + n_i + np.arange(n_r), 2)]
    )
    np.testing.assert_allclose(double, folded[:, order], rtol=1e-7)


# --- sum rules -------------------------------------------------------------------------------------------------------


@given(recipes(8), wave_vectors, st.integers(0, 1))
def test_sum_rules_of_random_junctions(recipe: Recipe, q, more):
    assert sum_rule_errors(lengthened(recipe.build(), more, more), q).largest < 1e-10


@pytest.mark.parametrize(
    "junction",
    [
        impurity(2.0),
        impurity(200.0),
        chain_junction(20, 60, 5, 4, 0),
        fcc_junction(contact=20.0),
        fcc_junction(contact=1e-3),
        fcc111_junction(),
        lengthened(fcc_junction(1.0, 200.0), 6, 6),
    ],
    ids=["light", "heavy", "cut", "stiff-contact", "weak-contact", "fcc111", "long"],
)
def test_sum_rules_with_localised_modes(junction):
    for q in ((0.0, 0.0), (0.5, 0.5), (0.12, -0.41)):
        found = sum_rule_errors(junction, q)
        assert found.states.shape == (3 * junction.device.n_atoms,)
        assert found.largest < 1e-10


def test_sum_rules_find_what_is_wrong(monkeypatch):
    """Self-energies that are not the leads': the second moment sees their strength, the first ones whether they are retarded."""
    decimate = sum_rules.decimate

    def altered(factor):
        def wrong(lead, z):
            found = decimate(lead, z)
            return replace(found, lower=factor * found.lower, upper=factor * found.upper)

        return wrong

    for factor, moments in ((1.01, ["second"]), (1 + 0.1j, ["states", "first", "second"])):
        monkeypatch.setattr(sum_rules, "decimate", altered(factor))
        found = sum_rule_errors(COMPLEX, (0.1, 0.2))
        for moment in moments:
            assert np.abs(getattr(found, moment)).max() > 1e-4


def test_sum_rule_bounds_hold_all_modes():
    """A long piece of the junction, cut off at the ends, has its modes within the bounds."""
    junction = fcc_junction(contact=20.0)
    q = np.array([0.1, 0.3])
    low, high = spectral_bounds(BlockBuilder(junction)(q))
    energies = np.linalg.eigvalsh(BlockBuilder(lengthened(junction, 5, 5))(q).device.block)
    assert low < energies[0]
    assert energies[-1] < high
    assert energies[-1] > 1.5 * units.thz_to_w2(max(junction.top_frequencies))  # there is a localised mode


# --- the zone average ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("junction", [COMPLEX, fcc_junction(20, 30, k_perp=0.1)], ids=["complex", "real"])
def test_spectrum_is_the_mean_over_the_whole_mesh(junction):
    spectrum = local_dos_spectrum(junction, (2, 3), 7, n_workers=1)
    mesh = [((i + 0.5) / 2 - 0.5, (k + 0.5) / 3 - 0.5) for i in range(2) for k in range(3)]
    for incident, found in (("both", spectrum.total), ("left", spectrum.from_left), ("right", spectrum.from_right)):
        expected = np.mean([local_dos(junction, q, spectrum.frequencies, incident=incident) for q in mesh], axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)
    assert spectrum.frequencies[-1] < max(junction.top_frequencies) < spectrum.frequencies[-1] * 14 / 13 + 1e-9
    two = local_dos_spectrum(junction, (2, 3), 7, n_workers=2, executor="threads")
    assert two.total.tobytes() == spectrum.total.tobytes()
    other = local_dos_spectrum(junction, (2, 3), 7, "scattering_states", n_workers=1)
    np.testing.assert_allclose(other.total, spectrum.total, rtol=1e-6, atol=1e-9)


def test_every_atom_has_three_states():
    spectrum = local_dos_spectrum(fcc_junction(40.0, 60.0, k_perp=0.2), (6, 6), 400, broadening=1e-3)
    np.testing.assert_allclose(spectrum.states, 3, rtol=0.01)


def test_a_lead_that_ends_before_the_interface():
    """Layers without coupling along z carry nothing: no scattering states, but lines in the Green's function."""
    lead, loose = chain_lead(20.0, 5.0), chain_lead(20.0, 0.0, pinned=3.0)
    junction = join(lead, loose, [(0, 1, (0, 0, 0), np.diag([0, 0, 5.0]))])
    f = [0.4 * CHAIN_TOP, 0.9 * CHAIN_TOP]
    total, left = (local_dos(junction, (0, 0), f, incident=i) for i in ("both", "left"))
    assert np.all(total > 0)
    np.testing.assert_allclose(left, total, rtol=1e-9)
    with pytest.raises(TransportError, match="no scattering states"):
        local_dos(junction, (0, 0), f, "scattering_states")


# --- small print -----------------------------------------------------------------------------------------------------


def test_overlap_factor():
    weights = np.full(100, 0.1)
    box = np.where(np.arange(100) < 50, 3.0, 0.0)
    assert overlap_factor(box, 7 * box, weights) == pytest.approx(1 / 5.0)  # both spread over 5 THz
    assert overlap_factor(box, box[::-1], weights) == 0
    f = (np.arange(4000) + 0.5) * 0.005
    one, two = (np.exp(-((f - c) ** 2) / 2) for c in (9.0, 10.5))
    expected = np.exp(-(1.5**2) / 4) / np.sqrt(4 * np.pi)
    assert overlap_factor(one, two, np.full(4000, 0.005)) == pytest.approx(expected, rel=1e-9)
    for bad in ((-box, box, weights), (box[:3], box, weights), (0 * box, box, weights), (np.nan * box, box, weights)):
        with pytest.raises(TransportError):
            overlap_factor(*bad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"q_frac": (0.1,)}, "q_frac"),
        ({"q_frac": (0.1, np.nan)}, "q_frac"),
        ({"frequency": 0.0}, "positive"),
        ({"frequency": [1.0, -2.0]}, "positive"),
        ({"frequency": []}, "positive"),
        ({"frequency": [[1.0]]}, "positive"),
        ({"route": "magic"}, "green_function, scattering_states"),
        ({"incident": "above"}, "both, left, right"),
        ({"broadening": 0.0}, "between 0 and 1"),
        ({"broadening": 1e-9, "route": "scattering_states"}, "know no broadening"),
    ],
)
def test_requests_that_make_no_sense(arguments, message):
    with pytest.raises(TransportError, match=message):
        local_dos(COMPLEX, **({"q_frac": (0, 0), "frequency": 1.0} | arguments))


def test_sum_rules_need_a_wave_vector():
    with pytest.raises(TransportError, match="q_frac"):
        sum_rule_errors(COMPLEX, (0.1, 0.2, 0.3))
