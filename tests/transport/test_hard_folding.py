"""Leads of in-plane supercells, taken apart into small leads at folded wave vectors."""

import numpy as np
import pytest

from thermal_flows.transport import solve_modes
from thermal_flows.transport.leads import blocks as blocks_module
from thermal_flows.transport.leads.blocks import BlockBuilder
from thermal_flows.transport.leads.folding import Folding
from thermal_flows.transport.solvers.matching import scatter

from .junctions import (
    Recipe,
    chain_lead,
    crystal,
    fcc111_junction,
    fcc_junction,
    in_plane_supercell,
    lengthened,
    simple_cubic_junction,
)
from .tools import solve, thz, window

JUNCTIONS = {
    "fcc001": (fcc_junction(k_perp=0.13), (0.11, 0.23)),
    "fcc111": (fcc111_junction(), (0.11, 0.23)),
    "cubic-gamma": (simple_cubic_junction(20, 35), (0.0, 0.0)),
    "random-complex": (Recipe(11, 2, 2, 1, 3, 2, oblique=True).build(), (0.1, 0.2)),
    "random-real": (Recipe(12, 2, 2, 1, 3, 3, twofold=True, oblique=True).build(), (0.3, -0.2)),
}


@pytest.mark.parametrize("times", [(2, 2), (3, 2)])
@pytest.mark.parametrize("name", JUNCTIONS)
def test_refolded_supercells_equal_the_sum_and_the_direct_route(monkeypatch, name, times):
    junction, q = JUNCTIONS[name]
    big = in_plane_supercell(junction, *times)
    w2 = np.linspace(*window(junction, q), 14)[1:-1]
    taken_apart = BlockBuilder(big)(np.array(q))
    assert len(taken_apart.left.parts) == len(taken_apart.right.parts) == times[0] * times[1]
    monkeypatch.setattr(blocks_module.Folding, "find", lambda lead: None)
    whole = BlockBuilder(big)(np.array(q))
    assert not whole.left.parts
    small, direct, summed = scatter(taken_apart, w2, 1.0), scatter(whole, w2, 1.0), np.zeros(len(w2))
    for a in range(times[0]):
        for b in range(times[1]):
            summed += solve(junction, ((q[0] + a) / times[0], (q[1] + b) / times[1]), w2).forward
    np.testing.assert_allclose(small.transmission()[0], summed, rtol=0, atol=1e-8)
    np.testing.assert_allclose(small.transmission()[0], direct.transmission()[0], rtol=0, atol=1e-8)
    np.testing.assert_array_equal(small.left.n_in, direct.left.n_in)
    np.testing.assert_array_equal(small.right.n_in, direct.right.n_in)
    for lead in (taken_apart.left, taken_apart.right):
        np.testing.assert_allclose(lead.A @ lead.B.conj().T, lead.H01, atol=1e-13)


def test_modes_of_a_supercell_are_those_of_its_parts():
    junction, q = JUNCTIONS["fcc111"]
    w2 = 0.4 * window(junction, q)[1]
    big = solve_modes(in_plane_supercell(junction, 2, 1), q, float(thz(w2)))
    parts = [solve_modes(junction, ((q[0] + a) / 2, q[1]), float(thz(w2))) for a in range(2)]
    for side in ("left", "right"):
        speeds = np.concatenate([getattr(part, side).velocities for part in parts])
        np.testing.assert_allclose(np.sort(getattr(big, side).velocities), np.sort(speeds), rtol=1e-8)
    n = len(big.left) + len(big.right)
    assert np.abs(big.amplitudes.conj().T @ big.amplitudes - np.eye(n)).max() < 1e-9


def test_leads_with_other_cells_on_a_device_that_is_no_supercell():
    """Only the leads repeat: a heavy atom in one of the four cells of the contact mixes the folded wave vectors."""
    junction, q = JUNCTIONS["fcc001"]
    big = lengthened(in_plane_supercell(junction, 2, 2), 1, 1)
    masses = big.device.masses.copy()
    inner = slice(big.left.n_atoms, big.device.n_atoms - big.right.n_atoms)
    masses[inner.start] *= 3
    device = type(big.device)(**{**vars_of(big.device), "masses": masses})
    changed = type(big)(big.left, big.right, device)
    w2 = np.linspace(*window(junction, q), 14)[1:-1]
    blocks = BlockBuilder(changed)(np.array(q))
    assert len(blocks.left.parts) == 4
    solved = solve(changed, q, w2)
    solved.check()
    assert np.abs(solved.forward - solve(big, q, w2).forward).max() > 1e-3


def vars_of(part) -> dict:
    return {name: getattr(part, name) for name in ("cell", "positions", "masses", "i", "j", "R", "phi")}


def test_what_is_not_a_supercell_is_left_alone():
    assert Folding.find(fcc_junction().left) is None
    assert Folding.find(chain_lead(20, 5)) is None
    # two equal atoms half a cell apart, but one is tied to its site: the positions repeat, the forces do not
    bonds = [(a, a, (0, 0, 1), np.diag([1.0, 1, 5])) for a in (0, 1)]
    tied = np.zeros((2, 3, 3))
    tied[1] = np.eye(3)
    positions = np.array([[0.0, 0, 0], [0.5, 0, 0]])
    lead = crystal(np.eye(3), positions, [20.0, 20.0], bonds, tied)
    found = Folding.find(lead)
    q = np.array([0.1, 0.2])
    assert found is not None
    block = lead.dynamical_matrices(np.array([[0.1, 0.2, 0]]), only_R3=0)[0]
    assert not found.splits((block,), found.bases(q))
