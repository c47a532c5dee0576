"""Poles, band edges and folded crossings, judged in many digits or by the same crystal written differently."""

import numpy as np
import pytest

from thermal_flows.transport import Junction
from thermal_flows.transport.leads.blocks import BlockBuilder

from . import oracle, precise
from .junctions import (
    Recipe,
    chain_junction,
    fcc111_junction,
    fcc_junction,
    lengthened,
    simple_cubic_junction,
    with_thick_layers,
)
from .tools import band_extrema, solve, window

TO_THE_POLE = np.array([0.0, *np.logspace(-14, -3, 20)])
"""21 distances, relative to the squared frequency."""

REFERENCE = {
    "fcc001": fcc_junction(k_perp=0.13),
    "fcc111": fcc111_junction(),
    "fcc001-weak": fcc_junction(contact=1e-3),
    "cubic": simple_cubic_junction(20, 35, 3.0, 1.3),
    "random-complex": Recipe(11, 2, 3, 2, 3, 2, oblique=True).build(),
    "random-real": Recipe(12, 3, 2, 1, 3, 3, twofold=True).build(),
}


def isolated_energies(junction: Junction, q) -> np.ndarray:
    """Eigenvalues of the isolated layers and of the isolated device within the common bands."""
    low, high = window(junction, q)
    blocks = [oracle.block(part, q, 0) for part in (junction.left, junction.right, junction.device)]
    energies = np.unique(np.concatenate([np.linalg.eigvalsh(b) for b in blocks]).round(12))
    return energies[(energies > low + 1e-3 * high) & (energies < 0.999 * high)]


@pytest.mark.parametrize("name", REFERENCE)
def test_21_distances_to_every_pole(name):
    """Layers three times as thick and a longer device have their poles elsewhere.

    What a relative change of 1e-12 of the squared frequency moves by more than 1e-8 (band edges, the narrowest resonances) is
    beyond any arithmetic and left out; it must be rare.
    """
    junction = REFERENCE[name]
    other = lengthened(with_thick_layers(junction, 3), 1, 0)
    compared = total = 0
    for q in ((0.0, 0.0), (0.11, 0.23)):
        for k, pole in enumerate(isolated_energies(junction, q)):
            w2 = pole * (1 + (-1) ** k * TO_THE_POLE)
            here, there = solve(junction, q, w2), solve(other, q, w2)
            here.check()
            there.check()
            steep = np.abs(solve(junction, q, w2 * (1 + 1e-12)).forward - here.forward) > 1e-8
            fair = ~steep & ~here.flagged & ~there.flagged
            assert np.abs(here.forward - there.forward)[fair].max(initial=0.0) < 1e-8
            compared, total = compared + fair.sum(), total + len(w2)
    assert total > 150
    assert compared > 0.97 * total


SMALL = {
    "one-atom-complex": Recipe(25, 1, 1, 0, 3, 2, oblique=True).build(),
    "one-atom-real": Recipe(27, 1, 1, 0, 3, 3, twofold=True).build(),
}
IN_MANY_DIGITS = [
    pytest.param(SMALL["one-atom-complex"], (0.1, 0.2), id="one-atom-complex"),
    pytest.param(SMALL["one-atom-real"], (0.2, 0.1), id="one-atom-real"),
    pytest.param(REFERENCE["fcc001"], (0.11, 0.23), id="fcc001", marks=pytest.mark.slow),
    pytest.param(REFERENCE["random-complex"], (0.1, 0.2), id="random-complex", marks=pytest.mark.slow),
    pytest.param(REFERENCE["random-real"], (0.05, 0.15), id="random-real", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("junction", "q"), IN_MANY_DIGITS)
def test_on_poles_in_many_digits(junction, q):
    blocks = BlockBuilder(junction)(np.array(q))
    poles = isolated_energies(junction, q)
    open_poles = poles[solve(junction, q, poles).forward > 1e-6]
    assert len(open_poles)
    for w2 in open_poles[:1]:
        assert solve(junction, q, w2).forward[0] == pytest.approx(precise.transmission(blocks, w2), abs=1e-9)


@pytest.mark.parametrize(("junction", "q"), IN_MANY_DIGITS)
def test_band_edges_inside_other_bands_in_many_digits(junction, q):
    """Where one band ends and others go on, the transmission has a square-root cusp; on the cusp it is the two-sided limit."""
    low, high = window(junction, q)
    blocks = BlockBuilder(junction)(np.array(q))
    edges = [e for lead in (blocks.left, blocks.right) for e in band_extrema(lead) if 1.001 * low < e < 0.9999 * high]
    edges = [e for e in edges if solve(junction, q, e * np.array([1 - 1e-6, 1 + 1e-6])).forward.min() > 1e-3][:1]
    assert edges
    for edge in edges:
        w2 = edge * (1 + np.array([-1e-8, 0, 1e-8]))
        exact = np.array([precise.transmission(blocks, value) for value in w2])
        solved = solve(junction, q, w2)
        solved.check()
        errors = np.abs(solved.forward - exact)
        assert errors[[0, 2]].max() < 1e-8
        assert not solved.flagged[[0, 2]].any()
        assert errors[1] < 2e-7  # rounding moves the edge by 1e-16, the transmission by its root


@pytest.mark.parametrize(
    "parameters", [(20, 60, 5, 5, 5), (28, 73, 12, 7, 3), (20, 20.5, 5, 5, 5), (1, 200, 50, 0.5, 1)]
)
def test_band_edge_of_chains_from_both_sides(parameters):
    junction = chain_junction(*parameters)
    m_l, m_r, k_l, k_r, _ = parameters
    edge = min(4 * k_l / m_l, 4 * k_r / m_r)
    distances = np.logspace(-8, -1, 15)
    inside = edge * (1 - distances)
    np.testing.assert_allclose(
        solve(junction, (0, 0), inside).forward, oracle.chain_transmission(inside, *parameters), rtol=0, atol=1e-8
    )
    outside = solve(junction, (0, 0), edge * (1 + distances))
    assert np.all(outside.forward == 0)
    assert not outside.flagged.any()
    on_it = solve(junction, (0, 0), [np.nextafter(edge, 0), edge, np.nextafter(edge, 1e9)])
    assert on_it.flagged.any()
    assert np.all(on_it.forward < 1e-6)


@pytest.mark.parametrize(
    ("name", "q"), [("cubic", (0.25, 0.25)), ("cubic", (0.1, 0.2)), ("fcc001", (0.0, 0.0)), ("random-real", (0.1, 0.2))]
)
def test_crossings_of_folded_bands(name, q):
    """Layers of two periods: bands of opposite direction cross at the zone boundary, and nothing happens there."""
    junction = REFERENCE[name]
    folded = with_thick_layers(junction, 2)
    low, high = window(junction, q)
    crossings = []
    for lead in (junction.left, junction.right):
        forward = 1j * oracle.block(lead, q, 1)
        bands = np.linalg.eigvalsh(oracle.block(lead, q, 0) + forward + forward.conj().T)
        crossings += [float(e) for e in np.unique(bands.round(14)) if 1.001 * low < e < 0.999 * high]
    assert crossings
    for crossing in crossings:
        w2 = crossing * (1 + np.concatenate([-np.logspace(-14, -4, 11), [0], np.logspace(-14, -4, 11)]))
        here, there = solve(junction, q, w2), solve(folded, q, w2)
        there.check()
        assert not there.flagged.any()
        np.testing.assert_allclose(there.forward, here.forward, rtol=0, atol=1e-8)
