"""Long devices, barriers, weak contacts and leads of very different size."""

import mpmath as mp
import numpy as np
import pytest

from thermal_flows.transport.leads import blocks as blocks_module
from thermal_flows.transport.leads.blocks import BlockBuilder, PortResolvent
from thermal_flows.transport.leads.slices import ChainResolvent
from thermal_flows.transport.solvers.matching import scatter

from . import oracle
from .junctions import (
    Recipe,
    chain_junction,
    chain_lead,
    fcc_junction,
    join,
    lengthened,
    simple_cubic_junction,
    with_thick_layers,
)
from .tools import solve, window

LONG = {
    "real": (lengthened(Recipe(12, 4, 3, 2, 3, 3, twofold=True).build(), 6, 9), (0.1, 0.2)),
    "complex": (lengthened(Recipe(11, 2, 3, 3, 3, 2, oblique=True).build(), 12, 11), (0.13, -0.31)),
    "gamma": (lengthened(fcc_junction(k_perp=0.13), 5, 4), (0.0, 0.0)),
}


def both_ways(monkeypatch, junction, q):
    """Blocks with the device in one piece and in slices."""
    found = []
    for limit in (10**9, 0):
        monkeypatch.setattr(blocks_module, "LONG_DEVICE", limit)
        monkeypatch.setattr(blocks_module, "LONG_PER_PORT", 0)
        found.append(BlockBuilder(junction)(np.array(q)))
    assert isinstance(found[0].device, PortResolvent)
    assert isinstance(found[1].device, ChainResolvent)
    return found


@pytest.mark.parametrize("name", LONG)
def test_device_in_slices_is_the_device_in_one_piece(monkeypatch, name):
    junction, q = LONG[name]
    whole, sliced = both_ways(monkeypatch, junction, q)
    low, high = window(junction, q)
    poles = np.linalg.eigvalsh(whole.device.block)
    slice_poles = np.concatenate([np.linalg.eigvalsh(part.block) for part in sliced.device.slices])
    w2 = np.concatenate([np.linspace(low, high, 60)[1:-1], poles, slice_poles])
    w2 = w2[(w2 > low + 1e-3 * high) & (w2 < 0.999 * high)]
    first, second = scatter(whole, w2, high), scatter(sliced, w2, high)
    # an error of round-off in the squared frequency moves narrow resonances of a long device
    steep = np.abs(scatter(sliced, w2 * (1 + 1e-13), high).transmission()[0] - second.transmission()[0]) > 1e-11
    assert steep.mean() < 0.1
    np.testing.assert_allclose(second.transmission()[0][~steep], first.transmission()[0][~steep], rtol=0, atol=1e-10)
    np.testing.assert_allclose(sliced.device.block, whole.device.block, atol=1e-14)


@pytest.mark.parametrize("name", LONG)
def test_displacements_in_slices(monkeypatch, name):
    """The motion of all slices together is that of the device in one piece."""
    junction, q = LONG[name]
    whole, sliced = both_ways(monkeypatch, junction, q)
    low, high = window(junction, q)
    w2 = np.linspace(low, high, 14)[1:-1]
    rng = np.random.default_rng(3)
    p = whole.device.ports.shape[1]
    drive = rng.normal(size=(len(w2), p, 2)) + 1j * rng.normal(size=(len(w2), p, 2))
    norms = []
    for device in (whole.device, sliced.device):
        g, alpha = device.evaluate(w2)
        answer = np.linalg.solve(np.eye(p) + alpha[:, None, None] * g, g @ drive)
        norms.append(device.norms(w2, drive, answer))
    near = np.abs(w2[:, None] - np.linalg.eigvalsh(whole.device.block)).min(axis=1) < 1e-6 * high
    assert near.sum() <= 1
    np.testing.assert_allclose(norms[1][~near], norms[0][~near], rtol=1e-7)


def test_device_of_three_thousand_atoms():
    junction = fcc_junction(k_perp=0.13)
    long = lengthened(junction, 750, 750)
    assert long.device.n_atoms == 3004
    q = (0.11, 0.23)
    w2 = np.linspace(*window(junction, q), 22)[1:-1]
    solved = solve(long, q, w2)
    solved.check()
    np.testing.assert_allclose(solved.forward, solve(junction, q, w2).forward, rtol=0, atol=1e-9)


def barrier(n: int, m: float, k: float, heavy: float):
    """Heavy atoms in a chain: no frequency of the light chain above their band passes."""
    K = np.diag([0, 0, k])
    bonds = [(a, a + 1, (0, 0, 0), K) for a in range(n + 1)]
    positions = np.column_stack([np.zeros((n, 2)), 1.0 + np.arange(n)])
    return join(chain_lead(m, k), chain_lead(m, k), bonds, [heavy] * n, positions)


def barrier_transmission(n: int, w2: float, m: float, k: float, heavy: float) -> float:
    """Transfer matrix in many digits."""
    with mp.workdps(400):
        phase = mp.expj(2 * mp.asin(mp.sqrt(m * mp.mpf(w2) / (4 * k))))
        above, here = phase, mp.mpf(1)
        for mass in [m] + [heavy] * n + [m]:
            above, here = here, ((2 * k - mass * mp.mpf(w2)) * here - k * above) / k
        incident = (above * phase - here) / (phase - 1 / phase)
        return float(1 / abs(incident) ** 2)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 10, 60])
def test_deep_tunnelling_keeps_its_relative_accuracy(n):
    """Down to 1e-275."""
    m, k, heavy = 20.0, 5.0, 2000.0
    w2 = np.array([0.3, 0.5, 0.71, 0.9])
    expected = np.array([barrier_transmission(n, value, m, k, heavy) for value in w2])
    solved = solve(barrier(n, m, k, heavy), (0, 0), w2)
    np.testing.assert_allclose(solved.forward, expected, rtol=1e-11, atol=0)
    np.testing.assert_allclose(solved.backward, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize(
    "build", [lambda c: chain_junction(20, 35, 5, 4, c), lambda c: fcc_junction(contact=c, k_perp=0.1)]
)
def test_weak_contacts_transmit_in_proportion_to_the_square_of_their_springs(build):
    springs = np.array([1e-4, 1e-6, 1e-8, 1e-10])
    q = (0.06, 0.11)
    w2 = np.linspace(*window(build(1.0), q), 12)[2:-2]
    scaled = np.array([solve(build(c), q, w2).forward / c**2 for c in springs])
    carrying = solve(build(1.0), q, w2).forward > 0.01
    assert carrying.sum() >= 5
    np.testing.assert_allclose(
        scaled[1:, carrying], np.broadcast_to(scaled[-1, carrying], scaled[1:, carrying].shape), rtol=1e-2
    )
    np.testing.assert_allclose(scaled[2, carrying], scaled[3, carrying], rtol=1e-6)


def test_leads_of_very_different_size():
    """One atom a layer against sixteen."""
    junction = simple_cubic_junction(20, 35)
    thick = with_thick_layers(junction, 16)
    mixed = type(junction)(junction.left, thick.right, lengthened(junction, 0, 15).device)
    q = (0.11, 0.23)
    assert (3 * mixed.left.n_atoms, 3 * mixed.right.n_atoms) == (3, 48)
    w2 = np.linspace(*window(junction, q), 30)[1:-1]
    solved = solve(mixed, q, w2)
    solved.check()
    np.testing.assert_allclose(solved.forward, solve(junction, q, w2).forward, rtol=0, atol=1e-8)


@pytest.mark.parametrize("small", [3e-8, 4e-9, 3e-11, 1e-13])
def test_ranks_that_are_not_sharp(small):
    """Couplings across the layers weaker by up to thirteen orders: kept or dropped, the transmission does not notice."""
    q = (0.0, 0.0)
    with_small = chain_junction(20, 35, 5, 4, 3, across=5 * small)
    lead = BlockBuilder(with_small).leads(np.array(q))[0]
    assert lead.rank == (3 if small > 1e-12 else 1)
    w2 = np.linspace(0.01, 0.45, 23)
    np.testing.assert_allclose(
        solve(with_small, q, w2).forward, oracle.chain_transmission(w2, 20, 35, 5, 4, 3), rtol=0, atol=1e-9
    )
