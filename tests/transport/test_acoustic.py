"""Acoustic mismatch of isotropic media against closed formulas and conservation laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermal_flows.transport import AcousticMedium, TransportError, WeldedInterface, acoustic_limit, acoustic_mismatch
from thermal_flows.transport.models.acoustic import WAVES
from thermal_flows.transport.models.elastic import hill_moduli

from .junctions import fcc_lead

KB, HBAR = 1.380649e-23, 1.054571817e-34
SILICON, GERMANIUM = AcousticMedium(2330, 8970, 5330), AcousticMedium(5360, 5310, 3250)
GRAZING = np.pi / 2 - 1e-5


def media() -> st.SearchStrategy[AcousticMedium]:
    # the ratio of velocities may be anything above 2/sqrt(3); Poisson's ratio may be negative
    def build(density: float, v_t: float, ratio: float) -> AcousticMedium:
        return AcousticMedium(density, ratio * v_t, v_t)

    return st.builds(build, st.floats(500, 2e4), st.floats(300, 1.3e4), st.floats(1.16, 5))


def isotropic(medium: AcousticMedium) -> np.ndarray:
    mu = medium.density * medium.v_transverse**2 * 1e-9
    lam = medium.density * medium.v_longitudinal**2 * 1e-9 - 2 * mu
    C = np.zeros((6, 6))
    C[:3, :3] = lam
    C[np.arange(6), np.arange(6)] += np.where(np.arange(6) < 3, 2 * mu, mu)
    return C


@given(media(), media(), st.lists(st.floats(0, GRAZING), min_size=1, max_size=30))
def test_energy_is_conserved_for_every_wave_at_every_angle(left, right, angles):
    model = acoustic_mismatch(left, right)
    for side in ("left", "right"):
        for wave in WAVES:
            shares = model.coefficients(angles, wave, side)
            total = shares.reflected.sum(axis=-1) + shares.transmitted.sum(axis=-1)
            np.testing.assert_allclose(total, 1, rtol=0, atol=1e-12)


@given(media(), media())
def test_both_sides_transmit_the_same(left, right):
    one, other = acoustic_mismatch(left, right), acoustic_mismatch(right, left)
    from_left = (one.mode_transmission("left").sum(axis=1) / left.velocities**2).sum()
    # the media exchanged are another calculation, not the transpose of the same one
    from_right = (other.mode_transmission("left").sum(axis=1) / right.velocities**2).sum()
    assert from_left == pytest.approx(from_right, rel=1e-12)
    np.testing.assert_allclose(one.mode_transmission("right"), other.mode_transmission("left"), rtol=1e-12, atol=1e-15)
    assert one.low_temperature_coefficient == pytest.approx(other.low_temperature_coefficient, rel=1e-12)
    assert one.low_temperature_coefficient == pytest.approx(
        np.pi**2 * KB**4 / (30 * HBAR**3) * from_left * 1e-6, rel=1e-8
    )
    assert np.all(one.mode_transmission().sum(axis=1) <= 1 + 1e-12)


@given(media(), media(), st.floats(0, 0.999))
def test_reciprocity_wave_by_wave_at_one_slowness(left, right, share):
    """What P gives to SV at the in-plane slowness p, SV gives to P from the other side."""
    model = acoustic_mismatch(left, right)
    p = share / max(left.v_longitudinal, right.v_longitudinal)  # all waves propagate
    for j, here in enumerate(WAVES):
        for k, there in enumerate(WAVES):
            out = model.coefficients(np.arcsin(p * left.velocities[j]), here, "left").transmitted[k]
            back = model.coefficients(np.arcsin(p * right.velocities[k]), there, "right").transmitted[j]
            assert out == pytest.approx(back, abs=1e-10)


@given(media(), st.lists(st.floats(0, GRAZING), min_size=1, max_size=10))
def test_equal_media_transmit_everything_unchanged(medium, angles):
    model = acoustic_mismatch(medium, medium)
    for k, wave in enumerate(WAVES):
        np.testing.assert_allclose(
            model.coefficients(angles, wave).transmitted, np.eye(3)[[k] * len(angles)], atol=1e-9
        )
    np.testing.assert_allclose(model.mode_transmission(), np.eye(3), atol=1e-11)
    blackbody = np.pi**2 * KB**4 / (30 * HBAR**3) * (medium.velocities**-2).sum() * 1e-6
    assert model.low_temperature_coefficient == pytest.approx(blackbody, rel=1e-8)


@given(media(), media())
def test_normal_incidence(left, right):
    model = acoustic_mismatch(left, right)
    for k, wave in enumerate(WAVES):
        z1, z2 = left.density * left.velocities[k], right.density * right.velocities[k]
        expected = np.zeros(3)
        expected[k] = 4 * z1 * z2 / (z1 + z2) ** 2
        np.testing.assert_allclose(model.coefficients(0.0, wave).transmitted, expected, atol=1e-12)


@given(media(), media(), st.floats(0, GRAZING))
def test_horizontal_shear(left, right, angle):
    sine = np.sin(angle) * right.v_transverse / left.v_transverse
    expected = 0.0
    if sine < 1:
        z1 = left.density * left.v_transverse * np.cos(angle)
        z2 = right.density * right.v_transverse * np.sqrt(1 - sine**2)
        expected = 4 * z1 * z2 / (z1 + z2) ** 2
    shares = acoustic_mismatch(left, right).coefficients(angle, "SH")
    np.testing.assert_allclose(shares.transmitted, [0, 0, expected], atol=1e-9)


@pytest.mark.parametrize("incident", ["P", "SV"])
def test_waves_end_at_their_critical_angles(incident):
    """From germanium into faster silicon; beyond the last critical angle of SV all is reflected."""
    model, here = acoustic_mismatch(GERMANIUM, SILICON), GERMANIUM.velocities[WAVES.index(incident)]
    for k in (0, 1):
        critical = np.arcsin(min(1.0, here / SILICON.velocities[k]))
        if critical < np.pi / 2 - 1e-3:
            below, beyond = model.coefficients([critical - 1e-4, critical + 1e-4], incident).transmitted[:, k]
            assert below > 1e-4
            assert beyond == 0.0
    last = here / SILICON.v_transverse
    if last < 1:
        beyond = model.coefficients(np.linspace(np.arcsin(last) + 1e-6, GRAZING, 20), incident)
        np.testing.assert_allclose(beyond.reflected.sum(axis=1), 1, atol=1e-12)


def test_evanescent_waves_decay_and_do_not_grow():
    """The wrong sign of a decaying wave conserves energy too, but not this: a stiff half-space must act as a rigid wall.

    With an infinitely stiff, heavy right medium u = 0 at the plane, and the reflection of P follows from the left medium alone.
    """
    wall = AcousticMedium(1e9, 2e6, 1e6)
    angles = np.linspace(0.05, 1.5, 12)  # beyond all critical angles
    p = np.sin(angles) / SILICON.v_longitudinal
    xi, eta = (np.sqrt(1 / v**2 - p**2) for v in (SILICON.v_longitudinal, SILICON.v_transverse))
    expected = ((xi * eta - p**2) / (xi * eta + p**2)) ** 2
    shares = acoustic_mismatch(SILICON, wall).coefficients(angles, "P")
    np.testing.assert_allclose(shares.reflected[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(shares.transmitted, 0, atol=1e-12)


def test_free_surface():
    """A right medium of almost no weight: P and SV convert as at a free surface (Rayleigh's function)."""
    nothing = AcousticMedium(1e-9, SILICON.v_longitudinal, SILICON.v_transverse)
    angles = np.linspace(0.01, 1.5, 25)
    p = np.sin(angles) / SILICON.v_longitudinal
    xi, eta = (np.sqrt(1 / v**2 - p**2) for v in (SILICON.v_longitudinal, SILICON.v_transverse))
    a, b = (eta**2 - p**2) ** 2, 4 * p**2 * xi * eta
    shares = acoustic_mismatch(SILICON, nothing).coefficients(angles, "P")
    np.testing.assert_allclose(shares.reflected[:, 0], ((b - a) / (b + a)) ** 2, atol=1e-9)
    assert shares.transmitted.max() < 1e-9


def test_small_shear_velocities_become_fluids():
    angles = np.linspace(0, 1.4, 15)
    errors = []
    for v_t in (10.0, 1.0, 0.1):
        left, right = AcousticMedium(1000, 1500, v_t), AcousticMedium(800, 1200, v_t)
        beyond = np.sqrt(1 - (np.sin(angles) * 1200 / 1500) ** 2)
        z1, z2 = 1000 * 1500 / np.cos(angles), 800 * 1200 / beyond
        found = acoustic_mismatch(left, right).coefficients(angles, "P").transmitted[:, 0]
        errors.append(np.abs(found - 4 * z1 * z2 / (z1 + z2) ** 2).max())
    assert errors[2] < 1e-3
    assert errors[1] < errors[0] / 8
    assert errors[2] < errors[1] / 8


def test_large_contrast_transmits_in_proportion():
    light = [AcousticMedium(rho, 5000, 3000) for rho in (1e-2, 1e-3)]
    values = [acoustic_mismatch(SILICON, medium).low_temperature_coefficient for medium in light]
    assert values[0] / values[1] == pytest.approx(10, rel=1e-2)


@given(media(), media())
def test_anisotropic_waves_agree_for_isotropic_media(left, right):
    interface = WeldedInterface.from_elastic_tensors(isotropic(left), left.density, isotropic(right), right.density)
    model = acoustic_mismatch(left, right)
    p = np.array([0.0, 0.31, 0.83, 1.27]) / left.v_longitudinal
    expected = np.zeros(4)
    for k, wave in enumerate(WAVES):
        sine = p * left.velocities[k]
        at = sine < 1
        expected[at] += model.coefficients(np.arcsin(sine[at]), wave).transmitted.sum(axis=1)
    turned = p[:, None] * [np.cos(0.7), np.sin(0.7)]
    np.testing.assert_allclose(interface.transmission(turned), expected, atol=1e-7)


@pytest.mark.parametrize("right", [GERMANIUM, AcousticMedium(19300, 3390, 1290), AcousticMedium(3512, 17500, 12800)])
def test_anisotropic_limit_of_isotropic_media(right):
    interface = WeldedInterface.from_elastic_tensors(
        isotropic(SILICON), SILICON.density, isotropic(right), right.density
    )
    model = acoustic_mismatch(SILICON, right)
    limit = acoustic_limit(interface, rtol=1e-6)
    assert limit.coefficient == pytest.approx(model.low_temperature_coefficient, rel=1e-6)


def test_debye_conductance():
    model, cutoff = acoustic_mismatch(SILICON, GERMANIUM), 6.0
    cold = model.conductance([0.5, 1.0], cutoff)
    np.testing.assert_allclose(cold, model.low_temperature_coefficient * np.array([0.5, 1.0]) ** 3, rtol=1e-9)
    # classical: kB times the integral of M(f) alpha df = channels (2 pi f)^2
    share = (model.mode_transmission().sum(axis=1) / SILICON.velocities**2).sum() / (4 * np.pi)
    expected = KB * share * (2 * np.pi) ** 2 * (cutoff * 1e12) ** 3 / 3 * 1e-6
    np.testing.assert_allclose(model.conductance([10.0, 300.0], cutoff, "classical"), expected, rtol=1e-10)
    assert model.conductance(3e4, cutoff)[0] == pytest.approx(expected, rel=1e-4)
    assert model.conductance(300, cutoff)[0] < expected


def test_debye_frequency_counts_the_modes():
    volume = 160.2  # A^3 per 8 atoms
    f = SILICON.debye_frequency(8 / volume) * 1e12
    # modes below f per volume: 4 pi/3 f^3 sum 1/c^3
    count = 4 * np.pi / 3 * f**3 * (SILICON.velocities**-3.0).sum() * volume * 1e-30
    assert count == pytest.approx(24, rel=1e-12)


def test_hill_averages():
    medium = AcousticMedium.from_elastic_tensor(isotropic(GERMANIUM), GERMANIUM.density)
    assert medium.v_longitudinal == pytest.approx(GERMANIUM.v_longitudinal, rel=1e-12)
    assert medium.v_transverse == pytest.approx(GERMANIUM.v_transverse, rel=1e-12)
    # cubic, by hand: Voigt (C11 - C12 + 3 C44)/5, Reuss 5 / (4/(C11 - C12) + 3/C44)
    c11, c12, c44 = 165.0, 64.0, 79.0
    C = np.diag([c11 - c12] * 3 + [c44] * 3)
    C[:3, :3] += c12
    bulk, shear = hill_moduli(C)
    voigt, reuss = (c11 - c12 + 3 * c44) / 5, 5 / (4 / (c11 - c12) + 3 / c44)
    assert bulk == pytest.approx((c11 + 2 * c12) / 3, rel=1e-12)
    assert shear == pytest.approx((voigt + reuss) / 2, rel=1e-12)


def test_medium_of_force_constants():
    """fcc with nearest-neighbour springs k: C11 = 2 C12 = 2 C44 = 2 k / a in cubic axes."""
    k, a, mass = 1.3, 4.1, 50.0
    medium = AcousticMedium.from_force_constants(fcc_lead(mass, k, a))
    c44 = k / a * 160.2176634
    C = np.diag([c44] * 6)
    C[:3, :3] += c44
    density = 4 * mass / a**3 * 1660.5390666
    expected = AcousticMedium.from_elastic_tensor(C, density)
    assert medium.density == pytest.approx(expected.density, rel=1e-9)
    np.testing.assert_allclose(medium.velocities, expected.velocities, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 5000, 3000), "density must be positive"),
        ((1000, 5000, 0.0), "v_transverse must be positive"),
        ((1000, np.nan, 1.0), "v_longitudinal must be positive"),
        ((1000, 3000, 2900), "no positive bulk modulus"),
    ],
)
def test_impossible_media(arguments, message):
    with pytest.raises(TransportError, match=message):
        AcousticMedium(*arguments)


def test_bad_input():
    model = acoustic_mismatch(SILICON, GERMANIUM)
    with pytest.raises(TransportError, match="angles of incidence"):
        model.coefficients([0.3, np.pi / 2])
    with pytest.raises(TransportError, match="incident must be one of"):
        model.coefficients(0.3, "L")
    with pytest.raises(TransportError, match="side must be"):
        model.mode_transmission("top")
    with pytest.raises(TransportError, match="cutoff must be positive"):
        model.conductance(300, cutoff=0)
    with pytest.raises(ValueError, match="temperatures must be positive"):
        model.conductance(-1, cutoff=5)
    with pytest.raises(TransportError, match="AcousticMedium"):
        acoustic_mismatch(SILICON, fcc_lead(40.0))
    with pytest.raises(TransportError, match="number_density"):
        SILICON.debye_frequency(0)
    with pytest.raises(TransportError, match="not positive definite"):
        AcousticMedium.from_elastic_tensor(-isotropic(SILICON), 2330)
    with pytest.raises(TransportError, match="shape"):
        AcousticMedium.from_elastic_tensor(np.eye(3), 2330)
    skew = isotropic(SILICON)
    skew[0, 3] = 5.0
    with pytest.raises(TransportError, match="C_ijkl"):
        AcousticMedium.from_elastic_tensor(skew, 2330)
    with pytest.raises(TransportError, match="density"):
        AcousticMedium.from_elastic_tensor(isotropic(SILICON), 0)
