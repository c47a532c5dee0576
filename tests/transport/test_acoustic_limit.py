"""The limit of low frequencies of whole junctions, against the solver itself and against elasticity theory."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermal_flows import units
from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.transport import Junction, TransportError, WeldedInterface, acoustic_limit
from thermal_flows.transport.models.elastic import LongWaves, christoffel_of, voigt_matrix

from . import oracle
from .junctions import (
    Recipe,
    chain_junction,
    chain_lead,
    fcc111_junction,
    fcc_junction,
    fcc_lead,
    in_plane_supercell,
    lengthened,
    simple_cubic_junction,
    thickened,
    with_moved_atom,
    with_shifted_a3,
    with_thick_layers,
)
from .tools import recipes, solve

GPA = 160.2176634


def keating(masses=(28.0, 73.0), stretch=(4.5, 3.0), bend=(1.1, 0.35), a=5.43) -> Junction:
    """Diamond [001] with bond stretching and bending (P. N. Keating, Phys. Rev. 145, 637 (1966)), two kinds of crystal.

    Every term is invariant under rotations, and the elastic constants do not obey Cauchy's relation: tractions depend on the
    difference C12 - C44, which force constants by pairs do not show.
    """
    b, layers = a / np.sqrt(2), 6
    base = np.array([[0, 0, 0], [b / 2, 0, a / 4], [b / 2, b / 2, a / 2], [0, b / 2, 3 * a / 4]])
    positions = np.vstack([base + np.array([0, 0, a * n]) for n in range(layers)])
    kind = np.repeat([0, 1], 2 * layers)
    n = len(positions)
    table = np.zeros((n, n, 3, 3, 3, 3))  # in-plane cells -1, 0, 1

    def add(strength, members):
        for p, cell_p, g in members:
            for q, cell_q, h in members:
                x, y = np.subtract(cell_q, cell_p)
                table[p, q, x + 1, y + 1] += strength * np.outer(g, h)

    for i in range(n):
        bonds = []
        for j in (i - 1, i + 1):
            for cell in ((x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)):
                if 0 <= j < n:
                    r = positions[j] + [cell[0] * b, cell[1] * b, 0] - positions[i]
                    if np.linalg.norm(r) < 0.45 * a:
                        bonds.append((j, cell, r))
        for j, cell, r in bonds:
            if j > i:
                k = 0.5 * (stretch[kind[i]] + stretch[kind[j]])
                e = r / np.linalg.norm(r)
                add(k, [(i, (0, 0), -e), (j, cell, e)])
        for first in range(len(bonds)):
            for second in range(first):
                (j, cell_j, r), (k, cell_k, s) = bonds[first], bonds[second]
                members = [(i, (0, 0), -(r + s)), (j, cell_j, s), (k, cell_k, r)]
                add(bend[kind[i]] * 16 / (3 * a**2), members)

    def part(rows, columns, R3=0):
        found = []
        for p, i in enumerate(rows):
            for q, j in enumerate(columns):
                for x in (-1, 0, 1):
                    for y in (-1, 0, 1):
                        if np.any(table[i, j, x + 1, y + 1]):
                            found.append((p, q, (x, y, R3), table[i, j, x + 1, y + 1]))
        return found

    def crystal(cell, atoms, found):
        i, j, R, phi = (np.array(x) for x in zip(*found, strict=True))
        return PairForceConstants(cell, positions[atoms], np.array(masses)[kind[atoms]], i, j, R, phi)

    cell = np.diag([b, b, a])
    layer = [np.arange(4 * m, 4 * m + 4) for m in range(layers)]
    leads = [
        crystal(
            cell,
            layer[m],
            part(layer[m], layer[m]) + part(layer[m], layer[m + 1], 1) + part(layer[m], layer[m - 1], -1),
        )
        for m in (1, 4)
    ]
    device = np.concatenate(layer[1:5])
    return Junction(leads[0], leads[1], crystal(np.diag([b, b, 99.0]), device, part(device, device)))


def contacts() -> dict[str, Junction]:
    return {
        "fcc": fcc_junction(k_perp=0.2),
        "fcc111": fcc111_junction(),
        "simple cubic": simple_cubic_junction(contact=0.3),
        "keating": keating(),
        "random": Recipe(5, 2, 3, 1, 3, 3).build(),
        "random, oblique": Recipe(7, 2, 1, 2, 4, 3, oblique=True).build(),
        "random, twofold": Recipe(8, 3, 2, 2, 4, 3, twofold=True).build(),
    }


NAMES = list(contacts())


@cache
def contact(name: str) -> Junction:
    return contacts()[name]


def at_slowness(junction: Junction, slowness, omega: float) -> float:
    """The solver's transmission at a wave vector proportional to the frequency, omega in rad/ps."""
    k = np.asarray(slowness) * omega * 1e2  # 1/A
    q = k @ junction.left.cell[:2, :2].T / (2 * np.pi)
    return float(solve(junction, q, (omega / units.RAD_PS_PER_SQRT_W2) ** 2).forward[0])


def slowest_open(interface: WeldedInterface) -> float:
    """Slowness beyond which nothing is transmitted, s/m."""
    return min(half.largest_slowness() for half in interface._half_spaces()) / interface._unit_speed


@pytest.mark.parametrize("name", NAMES)
def test_the_solver_tends_to_the_limit(name):
    junction = contact(name)
    interface = WeldedInterface.from_junction(junction)
    top = slowest_open(interface)
    for angle, share in ((0.3, 0.15), (1.1, 0.35), (2.0, 0.55)):
        s = share * top * np.array([np.cos(angle), np.sin(angle)])
        limit = float(interface.transmission(s))
        values = np.array([at_slowness(junction, s, omega) for omega in (0.08, 0.04, 0.02)])
        errors = np.abs(values - limit)
        assert errors[2] < 1e-4 * max(limit, 1e-3)
        assert np.all((errors[1:] < 0.51 * errors[:-1]) | (errors[1:] < 1e-7))
        # the correction is of second order in the frequency, and of first order too where waves are evanescent
        assert (values @ [1, -6, 8]) / 3 == pytest.approx(limit, abs=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_normal_incidence(name):
    junction = contact(name)
    assert acoustic_limit(junction, 1e-2).normal_incidence == pytest.approx(oracle.acoustic_limit(junction), rel=1e-9)


@settings(max_examples=10)
@given(recipes(4, links=4, link_rank=3), st.floats(0, np.pi), st.floats(0.05, 0.5))
def test_random_junctions(recipe, angle, share):
    junction = recipe.build()
    interface = WeldedInterface.from_junction(junction)
    s = share * slowest_open(interface) * np.array([np.cos(angle), np.sin(angle)])
    limit, scale = float(interface.transmission(s)), 1e-3 * min(junction.top_frequencies)
    values = np.array([at_slowness(junction, s, scale * f) for f in (1.0, 0.5, 0.25)])
    assert (values @ [1, -6, 8]) / 3 == pytest.approx(limit, abs=1e-4)
    assert -1e-9 <= limit <= 3 + 1e-9


def test_low_temperature_integral_of_the_solver():
    """G / T^3 by sums over the solver's own points at one low frequency, q = omega s."""
    junction = contact("fcc")
    limit = acoustic_limit(junction, 1e-3)
    top, n, omega = slowest_open(limit.interface), 14, 0.05
    x = (np.arange(n) + 0.5) / n
    s = top * np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1).reshape(
        -1, 2
    )  # a quarter: x -> -x and y -> -y are symmetries
    total = sum(at_slowness(junction, point, omega) for point in s) * 4 * (top / n) ** 2 / (2 * np.pi) ** 2
    expected = total * 2 * np.pi**3 / 15 * units.BOLTZMANN**4 / units.HBAR**3 * 1e-6
    assert limit.coefficient == pytest.approx(expected, rel=0.02)


def test_keating_elastic_constants():
    """C11 = (alpha + 3 beta)/a, C12 = (alpha - beta)/a, C44 = 4 alpha beta/((alpha + beta) a), with internal relaxation."""
    a, stretch, bend = 5.43, (4.5, 3.0), (1.1, 0.35)
    junction = keating(stretch=stretch, bend=bend, a=a)
    for lead, k, kb in (
        (junction.left, *(x[0] for x in (stretch, bend))),
        (junction.right, *(x[1] for x in (stretch, bend))),
    ):
        # (3 alpha / 8 d^2) (change of r^2)^2 a bond, (3 beta / 8 d^2) (change of r1.r2)^2 an angle, d^2 = 3 a^2 / 16
        alpha, beta = k / 3, kb / 0.75
        waves = LongWaves.from_force_constants(lead)
        C = voigt_matrix(waves.elastic_tensor()) / GPA * a
        assert waves.huang_error < 1e-12
        assert C[2, 2] == pytest.approx(alpha + 3 * beta, rel=1e-9)
        assert C[0, 2] == pytest.approx(alpha - beta, rel=1e-9)
        assert C[3, 3] == pytest.approx(4 * alpha * beta / (alpha + beta), rel=1e-9)
        assert C[5, 5] == pytest.approx(2 * beta, rel=1e-9)  # (C11 - C12)/2: axes turned by 45 degrees


def test_tractions_of_invariant_force_constants_are_those_of_elasticity():
    junction = keating()
    waves = [LongWaves.from_force_constants(lead) for lead in (junction.left, junction.right)]
    found = WeldedInterface.from_junction(junction)
    elastic = WeldedInterface.from_elastic_tensors(
        waves[0].elastic_tensor(), waves[0].density, waves[1].elastic_tensor(), waves[1].density
    )
    assert np.abs(elastic.twist).max() > 5.0  # GPa: it matters
    np.testing.assert_allclose(found.twist, elastic.twist, atol=1e-9)
    without = WeldedInterface(found.density, found.christoffel)
    s = np.array([0.6 * slowest_open(found), 0.0])
    assert abs(float(without.transmission(s)) - float(found.transmission(s))) > 1e-3


def test_christoffel_coefficients_give_back_the_elastic_tensor():
    rng = np.random.default_rng(3)
    C = rng.normal(size=(6, 6))
    C = C @ C.T
    tensor = WeldedInterface.from_elastic_tensors(C, 1.0, C, 1.0).christoffel[0]
    waves = LongWaves(1.0, tensor, np.zeros((3, 1, 3, 3)))
    np.testing.assert_allclose(voigt_matrix(waves.elastic_tensor()), C, atol=1e-12)
    np.testing.assert_allclose(christoffel_of(waves.elastic_tensor()), tensor, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_long_waves_against_the_bands(name):
    lead = contact(name).right
    waves = LongWaves.from_force_constants(lead)
    rng = np.random.default_rng(1)
    for direction in rng.normal(size=(3, 3)):
        k = 1e-3 * direction / np.linalg.norm(direction)  # 1/A
        w2 = np.linalg.eigvalsh(lead.dynamical_matrices(k @ lead.cell.T / (2 * np.pi))[0])[:3]
        expected = np.linalg.eigvalsh(np.einsum("abij,a,b->ij", waves.christoffel, k, k)) / GPA
        expected /= waves.density / 1660.5390666
        np.testing.assert_allclose(w2, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["fcc111", "keating", "random, oblique"])
def test_the_description_does_not_matter(name):
    junction = contact(name)
    s = 0.3 * slowest_open(WeldedInterface.from_junction(junction)) * np.array([[0.8, 0.6], [-0.1, 0.9]])
    value = WeldedInterface.from_junction(junction).transmission(s)
    others = [
        lengthened(junction, 1, 2),
        with_thick_layers(junction, 2),
        in_plane_supercell(junction, 2, 1),
        Junction(with_shifted_a3(junction.left, 1, -1), junction.right, junction.device),
        Junction(junction.left, junction.right, with_moved_atom(junction.device, junction.left.n_atoms, 1, -2)),
    ]
    for other in others:
        np.testing.assert_allclose(WeldedInterface.from_junction(other).transmission(s), value, rtol=1e-8)
    # turned upside down about x
    back = WeldedInterface.from_junction(junction.reversed()).transmission(s * [1, -1])
    np.testing.assert_allclose(back, value, rtol=1e-8)
    np.testing.assert_allclose(WeldedInterface.from_junction(junction).transmission(-s), value, rtol=1e-10)


def test_homogeneous_crystal_transmits_all_waves():
    junction = fcc_junction(40, 40)
    interface = acoustic_limit(junction, 1e-3).interface
    left, _ = interface._half_spaces()
    rng = np.random.default_rng(0)
    s = rng.uniform(-1, 1, (50, 2)) * slowest_open(interface)
    np.testing.assert_allclose(interface.transmission(s), left.n_waves(s * interface._unit_speed) / 2, atol=1e-7)


def test_tolerance_is_kept():
    junction = contact("fcc")
    fine = acoustic_limit(junction, 1e-5)
    for rtol in (1e-2, 1e-3, 1e-4):
        coarse = acoustic_limit(junction, rtol)
        assert coarse.error <= rtol * coarse.coefficient
        assert abs(coarse.coefficient - fine.coefficient) < rtol * fine.coefficient
    np.testing.assert_allclose(fine.conductance([1.0, 2.0]), fine.coefficient * np.array([1.0, 8.0]))


def test_what_has_no_limit():
    with pytest.raises(TransportError, match="not rigid in three dimensions"):
        acoustic_limit(chain_junction(20, 60, 5, 5, 5, across=2.0))
    with pytest.raises(TransportError, match="sum rule is violated"):
        LongWaves.from_force_constants(chain_lead(20, 5, pinned=0.1, across=1.0))
    with pytest.raises(TransportError, match="does not hold the two leads together"):
        acoustic_limit(simple_cubic_junction(contact=0.0))
    with pytest.raises(TransportError, match="rtol"):
        acoustic_limit(contact("fcc"), 0)
    lead = fcc_lead(40.0)
    loose = PairForceConstants(
        lead.cell,
        np.vstack([lead.positions, [[1, 0, 1]]]),
        np.append(lead.masses, 5.0),
        np.append(lead.i, 2),
        np.append(lead.j, 2),
        np.vstack([lead.R, [[0, 0, 0]]]),
        np.concatenate([lead.phi, np.zeros((1, 3, 3))]),
    )
    with pytest.raises(TransportError, match="parts of it are not held"):
        LongWaves.from_force_constants(loose)
    random = LongWaves.from_force_constants(contact("random").left)
    assert random.huang_error > 0.1
    with pytest.raises(TransportError, match="Huang's conditions"):
        random.elastic_tensor()
    with pytest.raises(TransportError, match="two components"):
        WeldedInterface.from_junction(contact("fcc")).transmission([1e-4, 0, 0])
    with pytest.raises(TransportError, match="temperatures must be positive"):
        acoustic_limit(contact("fcc"), 1e-2).conductance(0)
    with pytest.raises(TransportError, match="density"):
        WeldedInterface.from_elastic_tensors(np.eye(6), 0, np.eye(6), 1)


def test_thick_layers_have_the_same_sound():
    lead = contact("random").left
    one, two = LongWaves.from_force_constants(lead), LongWaves.from_force_constants(thickened(lead, 2))
    np.testing.assert_allclose(two.christoffel, one.christoffel, rtol=1e-8, atol=1e-8 * np.abs(one.christoffel).max())
    assert two.density == pytest.approx(one.density, rel=1e-12)
