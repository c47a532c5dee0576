"""Points where solvers fail silently: poles of isolated blocks, band edges, degenerate and flat bands, very low frequencies."""

import numpy as np
import pytest

from thermal_flows import units
from thermal_flows.transport import Junction, solve_modes, solve_transmission

from . import oracle
from .junctions import (
    Recipe,
    chain_junction,
    crystal,
    fcc111_junction,
    fcc_junction,
    join,
    lengthened,
    simple_cubic_junction,
    spring,
    with_thick_layers,
)
from .tools import solve, window

DISTANCES = np.array([0.0, *((-1) ** k * 10.0**-k for k in range(3, 15))])

JUNCTIONS = {
    "fcc001": fcc_junction(k_perp=0.13),
    "fcc111": fcc111_junction(),
    "fcc001-weak": fcc_junction(contact=1e-3),
    "fcc001-long": lengthened(fcc_junction(), 2, 2),
    "cubic": simple_cubic_junction(20, 35),
    "random-complex": Recipe(11, 2, 3, 2, 3, 2, oblique=True).build(),
    "random-real": Recipe(12, 3, 2, 1, 3, 3, twofold=True).build(),
    "random-one-port": Recipe(13, 3, 2, 1, 1, 1).build(),
    "random-full-rank": Recipe(14, 1, 1, 3, 4, 3).build(),
}


def poles(junction: Junction, q) -> list[float]:
    """Eigenvalues of the isolated layers and of the isolated device within the common bands."""
    low, high = window(junction, q)
    blocks = [oracle.block(part, q, 0) for part in (junction.left, junction.right, junction.device)]
    energies = np.concatenate([np.linalg.eigvalsh(block) for block in blocks])
    return [float(e) for e in np.unique(energies.round(12)) if low + 1e-3 * high < e < 0.999 * high]


ELSEWHERE = ("fcc001-long", "random-one-port", "random-full-rank")
NEAR_POLES = [(name, (0.5, 0.5)) for name in JUNCTIONS]
NEAR_POLES += [(name, q) for name in ELSEWHERE for q in ((0.0, 0.0), (0.11, 0.23))]


@pytest.mark.parametrize(("name", "q"), NEAR_POLES, ids=str)
def test_on_and_near_poles(name, q):
    """Layers three times as thick and a longer device have their poles elsewhere, and the same transmission.

    The other junctions at the other wave vectors: test_hard_poles_and_edges.
    """
    junction = JUNCTIONS[name]
    other = lengthened(with_thick_layers(junction, 3), 1, 0)
    every = 3 if name == "fcc001-long" and q == (0.0, 0.0) else 1  # 22 poles, each a degenerate pair: the slowest route
    for pole in poles(junction, q)[::every]:
        w2 = pole * (1 + DISTANCES)
        here, there = solve(junction, q, w2), solve(other, q, w2)
        here.check()
        there.check()
        steep = np.abs(solve(junction, q, w2 * (1 + 1e-10)).forward - here.forward)
        compared = ~here.flagged & ~there.flagged & (steep < 1e-8)
        assert np.all(np.abs(here.forward - there.forward)[compared] < 1e-8)


@pytest.mark.parametrize("name", ["fcc001", "fcc111", "random-complex", "random-real"])
def test_poles_do_not_stand_out_of_their_neighbourhood(name):
    """Values close to a pole lie on the cubic through four further away, where that is seen to be smooth."""
    junction = JUNCTIONS[name]
    tested = 0
    near = DISTANCES[np.abs(DISTANCES) < 1e-4]
    between, far = 1e-4 * np.array([-1.5, 1.5]), 1e-4 * np.array([-2, -1, 1, 2])
    for q in ((0.13, 0.21), (0.02, 0.05), (0.31, -0.12), (-0.21, 0.03)):
        for pole in poles(junction, q):
            values = solve(junction, q, pole * (1 + far)).forward
            cubic = np.polynomial.Polynomial.fit(far, values, 3)
            if (
                values.max() == 0
                or np.abs(cubic(between) - solve(junction, q, pole * (1 + between)).forward).max() > 1e-9
            ):
                continue
            tested += 1
            np.testing.assert_allclose(solve(junction, q, pole * (1 + near)).forward, cubic(near), rtol=0, atol=1e-8)
    assert tested >= 3


def test_pole_that_meets_a_state_without_ports():
    """Atoms tied to their sites in x and y at the very frequency of the isolated layer's motion along z."""

    def lead(mass: float):
        tied = np.diag([10.0, 10.0, 0.0])
        return crystal(np.eye(3), np.zeros((1, 3)), [mass], [(0, 0, (0, 0, 1), np.diag([0, 0, 5.0]))], [tied])

    junction = join(lead(20.0), lead(27.0), [(0, 1, (0, 0, 0), np.diag([0, 0, 5.0]))])
    w2 = 0.5 * (1 + DISTANCES)
    assert 0.5 in np.linalg.eigvalsh(oracle.block(junction.left, (0, 0), 0)).round(12)
    solved = solve(junction, (0, 0), w2)
    solved.check()
    np.testing.assert_allclose(solved.forward, oracle.chain_transmission(w2, 20, 27, 5, 5, 5), rtol=0, atol=1e-10)


def test_pole_of_every_chain_at_the_band_centre():
    """The isolated atom of a chain vibrates at the centre of its band."""
    junction = chain_junction(20, 35, 5, 4, 3)
    for centre in (2 * 5 / 20, 2 * 4 / 35):
        w2 = centre * (1 + DISTANCES)
        np.testing.assert_allclose(
            solve(junction, (0, 0), w2).forward, oracle.chain_transmission(w2, 20, 35, 5, 4, 3), rtol=0, atol=1e-10
        )


def test_band_edge_of_the_chain():
    """The transmission ends in a square root; on the edge itself the point is flagged, not wrong."""
    parameters = (20.0, 60.0, 5.0, 5.0, 5.0)
    junction = chain_junction(*parameters)
    edge = 4 * 5 / 60
    distances = 10.0 ** -np.arange(2, 9)
    w2 = edge * (1 - distances)
    np.testing.assert_allclose(
        solve(junction, (0, 0), w2).forward, oracle.chain_transmission(w2, *parameters), rtol=1e-6, atol=1e-10
    )
    # closer than rounding resolves, the value is right to the square root of what rounding moves
    close = np.array([1 - 1e-12, 1 - 1e-14, 1 - 1e-15, 1, 1 + 1e-15, 1 + 1e-12])
    solved = solve(junction, (0, 0), edge * close)
    assert np.all(np.isfinite(solved.forward))
    assert np.all(solved.conservation < solved.bound)
    slope = oracle.chain_transmission(edge * (1 - 1e-6), *parameters)[0] / 1e-3
    assert np.all(solved.forward <= slope * np.sqrt(2e-12))
    assert solved.forward[3] < 1e-7
    assert solved.flagged[3]
    assert np.all(solve(junction, (0, 0), edge * (1 + distances)).forward == 0)


def test_exact_edge_frequency_in_the_public_functions():
    junction = chain_junction(20, 60, 5, 5, 5)
    edge = float(units.w2_to_thz(4 * 5 / 60))
    modes = solve_modes(junction, (0, 0), edge)
    assert 0 <= modes.transmission < 1e-3
    spectrum = solve_transmission(
        junction, (1, 1), frequencies=[0.5 * edge, edge], frequency_weights=[1, 1], n_workers=1
    )
    assert spectrum.checks.flagged <= 1
    assert 0 <= spectrum.transmission[0, 1] < 1e-3


def test_zone_boundary_where_folded_bands_cross():
    """A layer of two identical chain atoms: forward and backward modes share their Bloch factor at the band centre."""
    junction = chain_junction(20, 27, 5, 4, 3)
    folded = with_thick_layers(junction, 2)
    w2 = 2 * 5 / 20 * (1 + DISTANCES)
    expected = oracle.chain_transmission(w2, 20, 27, 5, 4, 3)
    solved = solve(folded, (0, 0), w2)
    solved.check()
    np.testing.assert_allclose(solved.forward, expected, rtol=0, atol=1e-9)
    assert not solved.flagged.any()
    modes = solve_modes(folded, (0, 0), float(units.w2_to_thz(0.5)))
    speed = 100 * units.RAD_PS_PER_SQRT_W2 * np.sqrt(5 / 20) * np.cos(np.pi / 4)
    assert modes.left.velocities[0] == pytest.approx(speed, rel=1e-6)


def test_folded_crossing_of_three_polarisations():
    junction = simple_cubic_junction(20, 35)
    folded = with_thick_layers(junction, 2)
    w2 = 10.0 / 35.0 * (1 + DISTANCES)  # at this q all three cross at once
    first, second = (solve(j, (0.25, 0.25), w2) for j in (junction, folded))
    second.check()
    np.testing.assert_allclose(second.forward, first.forward, rtol=0, atol=1e-9)
    assert not second.flagged.any()


@pytest.mark.parametrize("build", [fcc_junction, fcc111_junction, simple_cubic_junction])
def test_degenerate_modes_at_gamma(build):
    """Two transverse branches coincide; only their sums are unique, and those agree with a barely broken symmetry."""
    junction = build()
    for share in (0.05, 0.3, 0.45):
        frequency = share * min(junction.top_frequencies)
        modes = solve_modes(junction, (0, 0), frequency)
        assert modes.conservation_error < 1e-9
        n = len(modes.left) + len(modes.right)
        assert np.abs(modes.amplitudes.conj().T @ modes.amplitudes - np.eye(n)).max() < 1e-9
        assert modes.left.velocities[0] == pytest.approx(modes.left.velocities[1], rel=1e-9)
        aside = solve_modes(junction, (1e-7, 2e-7), frequency)
        assert modes.transmission == pytest.approx(aside.transmission, abs=1e-8)
        pair, pair_aside = modes.left.transmittance[:2].sum(), aside.left.transmittance[:2].sum()
        assert pair == pytest.approx(pair_aside, abs=1e-6)


@pytest.mark.parametrize("omega", [1.0, 1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("name", ["fcc001", "fcc111", "cubic", "random-complex", "random-real", "random-full-rank"])
def test_very_low_frequencies_at_gamma(name, omega):
    """All three acoustic modes are found down to 1e-4 rad/ps, and transmit what elasticity says."""
    junction = JUNCTIONS[name]
    frequency = omega / (2 * np.pi)
    modes = solve_modes(junction, (0, 0), frequency)
    assert (len(modes.left), len(modes.right)) == (3, 3)
    ratio = max(junction.top_frequencies) / frequency
    bound = max(1e-9, 1e-14 * ratio**2)
    assert modes.conservation_error < bound
    if omega <= 1e-2:
        assert modes.transmission == pytest.approx(oracle.acoustic_limit(junction), abs=3 * bound + (100 / ratio) ** 2)
    assert np.all(modes.left.velocities > 0)


def test_zero_modes_and_flat_bands_of_the_chain():
    """Displacements that no spring along z reaches, at zero frequency or anywhere, carry nothing and disturb nothing."""
    free = chain_junction(20, 35, 5, 4, 3)  # x and y are free
    w2 = np.linspace(0.01, 0.4, 17)
    expected = oracle.chain_transmission(w2, 20, 35, 5, 4, 3)
    np.testing.assert_allclose(solve(free, (0.3, 0.1), w2).forward, expected, atol=1e-10)
    for flat in (0.1, 0.25):  # Einstein oscillators inside the band, met exactly
        leads = []
        for mass, k in ((20.0, 5.0), (35.0, 4.0)):
            tied = np.diag([flat * mass, flat * mass, 0.0])
            leads.append(crystal(np.eye(3), np.zeros((1, 3)), [mass], [(0, 0, (0, 0, 1), np.diag([0, 0, k]))], [tied]))
        junction = join(*leads, [(0, 1, (0, 0, 0), np.diag([0, 0, 3.0]))])
        w2 = flat * (1 + DISTANCES)
        solved = solve(junction, (0, 0), w2)
        solved.check()
        np.testing.assert_allclose(solved.forward, oracle.chain_transmission(w2, 20, 35, 5, 4, 3), atol=1e-10)
        assert np.all(solved.modes_left == 1)


def test_flat_band_that_layers_share():
    """A band without dispersion although its layers are coupled: two equal chains, crosswise coupled with equal springs.

    The difference of the two displacements of a layer moves no other layer: one band is flat, the sum is a plain chain.
    """

    def lead(mass: float, k: float):
        K = np.diag([0, 0, k])
        bonds = [(a, b, (0, 0, 1), K) for a in (0, 1) for b in (0, 1)]
        positions = np.array([[0.0, 0, 0], [0.5, 0, 0]])
        return crystal(np.eye(3), positions, [mass, mass], bonds)

    bonds = [(a, 2 + b, (0, 0, 0), np.diag([0, 0, 2.0])) for a in (0, 1) for b in (0, 1)]
    junction = join(lead(20, 1.5), lead(30, 1.0), bonds)
    # w2 of the flat bands: 4 k/m; of the sums: 4 k/m (1 - cos theta), a chain with springs 2 k
    for flat in (4 * 1.5 / 20, 4 * 1.0 / 30):
        w2 = flat * (1 + DISTANCES)
        w2 = w2[w2 < 8 / 30]
        solved = solve(junction, (0.2, 0.1), w2)
        solved.check()
        expected = oracle.chain_transmission(w2, 20, 30, 3.0, 2.0, 4.0)
        np.testing.assert_allclose(solved.forward, expected, atol=1e-9)


def test_weak_contact():
    """Springs of the contact a thousand times weaker: transmission falls with their square, and energy is conserved."""
    strong, weak, weaker = (simple_cubic_junction(20, 35, contact=c) for c in (1.0, 1e-3, 1e-4))
    q, w2 = (0.07, 0.12), np.linspace(0.2, 0.35, 12)
    results = [solve(j, q, w2) for j in (strong, weak, weaker)]
    for result in results:
        result.check()
    open_ = results[0].forward > 0.1
    assert open_.sum() > 5
    np.testing.assert_allclose(results[1].forward[open_] / results[2].forward[open_], 100, rtol=2e-2)


def test_sharp_resonance_in_the_contact():
    """An atom tied to its site between two chains, by springs so weak that its line is 2e-7 of its squared frequency wide."""
    m, k, m0, weak, tied = 20.0, 5.0, 10.0, 1e-3, 2.0
    lead, K = chain_junction(m, m, k, k, k).left, np.diag([0, 0, weak])
    pinning = np.diag([0, 0, tied])[None]
    junction = join(lead, lead, [(0, 1, (0, 0, 0), K), (1, 2, (0, 0, 0), K)], [m0], np.zeros((1, 3)), pinning)

    def answer(w2):
        """Analytic transmission, and the equation of motion of the atom in the middle."""
        theta = 2 * np.arcsin(np.sqrt(m * w2 / (4 * k)))
        end = 1 / (m * w2 - weak - k * (1 - np.exp(1j * theta)))  # Green's function of the last atom of a chain
        middle = m0 * w2 - tied - 2 * weak - 2 * weak**2 * end
        return (2 * weak**2 * end.imag / np.abs(middle)) ** 2, middle

    centre = (tied + 2 * weak) / m0
    for _ in range(5):
        centre -= answer(centre)[1].real / m0
    width = abs(answer(centre)[1].imag) / m0
    assert width < 3e-7 * centre
    w2 = centre + width * np.array([-1000.0, -30, -3, -1, -0.3, 0, 0.3, 1, 3, 30, 1000])
    solved = solve(junction, (0, 0), w2)
    solved.check()
    assert solved.forward[5] == pytest.approx(1, abs=1e-9)
    # on the flank the value moves by the rounding of w2 over the width
    np.testing.assert_allclose(solved.forward, answer(w2)[0], rtol=0, atol=1e-15 / width)


def test_light_interlayer_springs():
    """Leads of layers that hardly talk to each other (van der Waals): narrow bands, poles everywhere near."""
    a = np.diag([2.5, 2.5, 7.0])
    a[2, :2] = 0.3, 0.4
    stiff = [(0, 0, (1, 0, 0), spring([1.0, 0, 0], 20, 5)), (0, 0, (0, 1, 0), spring([0, 1.0, 0], 20, 5))]

    def lead(mass: float):
        return crystal(a, np.zeros((1, 3)), [mass], [*stiff, (0, 0, (0, 0, 1), spring(a[2], 0.01, 0.002))])

    junction = join(lead(12.0), lead(20.0), [(0, 1, (0, 0, 0), spring(a[2], 0.01, 0.002))])
    thick = with_thick_layers(junction, 3)
    q = (0.0, 0.0)
    w2 = np.linspace(*window(junction, q), 15)[1:-1]
    first, second = solve(junction, q, w2), solve(thick, q, w2)
    first.check()
    second.check()
    assert first.forward.max() > 0.5
    np.testing.assert_allclose(second.forward, first.forward, atol=1e-8)


def test_leads_without_coupling_along_z():
    """Nothing is carried along z by layers that are not coupled: no modes, no transmission, no error."""
    chain = chain_junction(20, 35, 5, 4, 3).left
    plane = crystal(np.eye(3), np.zeros((1, 3)), [20.0], [(0, 0, (1, 0, 0), np.eye(3)), (0, 0, (0, 1, 0), np.eye(3))])
    spectrum = solve_transmission(join(plane, chain, [(0, 1, (0, 0, 0), np.eye(3))]), (2, 2), 10, n_workers=1)
    assert np.all(spectrum.transmission == 0)
    assert np.all(spectrum.modes_left == 0)
    assert spectrum.modes_right.max() == 1
